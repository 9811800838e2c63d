"""Whether the settings of a configuration have the types their dataclasses say; Python itself does not look."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal


def ill_typed(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Keys, values and wanted types of the settings that are of another type."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), hints[field.name]
        if not _fits(value, kind):
            yield f"{prefix}{field.name}", value, _told(kind)
        elif dataclasses.is_dataclass(value):
            yield from ill_typed(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple):
            for entry in value:
                if dataclasses.is_dataclass(entry):
                    yield from ill_typed(entry, f"{prefix}{field.name}: ")


def _fits(value: Any, kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return value in typing.get_args(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, typing.get_args(kind)[0]) for entry in value)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, each) for each in typing.get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _told(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
