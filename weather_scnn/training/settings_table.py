"""A page of all settings, made from the dataclasses of a configuration and what their docstrings say of each."""

import dataclasses
import inspect
import re
import types
import typing
from typing import Any, Literal

from weather_scnn.models import Resolution
from weather_scnn.training.configuration import Config, LongRun, Stage, VariableWeight

_HEAD = """# Settings

Every setting of a configuration, for `--set SECTION.NAME=VALUE`; lists are separated by commas. This page is written by

```bash
weather-scnn settings
```
"""
# How values that are no plain ones are written.
_WRITTEN = {
    Stage: "STEPSxROLLOUTxMEMBERS@RATE:ALPHA",
    LongRun: "STARTSxSTEPS",
    VariableWeight: "NAME:WEIGHT",
    Resolution: "COARSENING:BLOCKS:SCALARS+VECTORS:P",
}


def settings_page() -> str:
    """The page, in Markdown: a table a section, with each setting's default, its kind of value and what it does."""
    parts = [_HEAD]
    for field in dataclasses.fields(Config):
        kind = typing.get_type_hints(Config)[field.name]
        rows = list(_rows(kind, f"{field.name}."))
        parts.append(
            f"\n## {field.name}\n\n| setting | default | value | what it does |\n|---|---|---|---|\n" + "".join(rows)
        )
    return "".join(parts)


def _rows(kind: Any, prefix: str) -> typing.Iterator[str]:
    said, hints = attributes(kind), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _rows(hints[field.name], f"{prefix}{field.name}.")
            continue
        text = said[field.name].replace("|", "\\|")
        if re.match(r"[a-z]+[ ,;:.]", text):  # names such as float32 and hPa stay
            text = text[0].upper() + text[1:]
        yield f"| `{prefix}{field.name}` | {_default(field.default)} | {_kind(hints[field.name])} | {text} |\n"


def attributes(kind: Any) -> dict[str, str]:
    """What the section `Attributes` of a docstring says of each name; `a, b: text` says it of both."""
    _, _, section = inspect.cleandoc(kind.__doc__).partition("Attributes:\n")
    said: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        begins = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if begins:
            names = begins[1].split(", ")
            said |= dict.fromkeys(names, begins[2])
        elif line.strip():
            said |= {name: f"{said[name]} {line.strip()}" for name in names}
    return said


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    elif isinstance(value, bool):
        value = str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value != "" else "–"


def _kind(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin is tuple:
        several = {int: "whole numbers", float: "numbers", str: "names"}
        return f"list of {several.get(inner[0]) or _kind(inner[0])}"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(each) for each in inner)
    names = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}
    return names.get(kind) or f"`{_WRITTEN[kind]}`"
