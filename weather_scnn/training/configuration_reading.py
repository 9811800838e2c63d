"""Configurations of experiments: read from files, changed by `--set`, held against what a run was begun with."""

import dataclasses
import difflib
import importlib.util
import pathlib
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.errors import UserError
from weather_scnn.models import Resolution
from weather_scnn.training.configuration import Config, LongRun, Stage, VariableWeight
from weather_scnn.training.setting_types import ill_typed

# These may change when a run is resumed: they do not touch what is computed.
HARMLESS = (
    "training.mesh.model",
    "training.mesh.ensemble",
    "training.remat",
    "data.path",
    "data.statistics",
    "data.cache_gigabytes",
    "training.log_every",
    "training.trackers",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.validate_every",
    "training.validation_windows",
    "training.validation_days",
    "training.long_run",
    "training.long_run_every",
    "training.long_run_share",
    "data.validation",
    "data.prefetch",
    "data.readers",
)

_ALIASES = {"training.push_forward": "training.backprop_steps", "model.hold_mean": "model.correctors.means"}

# What is said of values that are written in ways of their own.
_EXPECTED = {
    Stage: "stages such as 800x1,200x2, or 200x2@1e-4 with a learning rate, 200x2x4:0.9 with members and alpha",
    LongRun: "initial times and steps such as 4x1460",
    Resolution: "levels such as 1:1:32+16:8,2:4:64+32:6",
    VariableWeight: "weights such as geopotential:2,2m_temperature:0.5",
    Level: "pressures in hPa such as 500,850",
}


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = f"{prefix}{field.name}"
        flat.update(flatten(value, f"{key}.") if dataclasses.is_dataclass(value) else {key: value})
    return flat


def _file_of(path: pathlib.Path) -> pathlib.Path:
    """The file itself, or the installed experiment of that name."""
    if path.is_file():
        return path
    spec = importlib.util.find_spec("configs")  # found, not imported: experiments stand on this module
    folder = pathlib.Path(str(spec.origin)).parent if spec is not None else path.parent
    named = folder / path.parent / f"{path.name}.py"
    if path.suffix == "" and not path.is_absolute() and ".." not in path.parts and named.is_file():
        return named
    near = sorted(str(entry) for entry in path.parent.glob("*.py") if entry.stem != "__init__" and path.suffix == ".py")
    names = (each.relative_to(folder).with_suffix("").as_posix() for each in folder.rglob("[!_]*.py"))
    raise UserError(
        "the configuration file does not exist" if path.suffix else "is neither a file nor the name of an experiment",
        where=str(path),
        remedy=f"there are {', '.join(near)}"
        if near
        else f"give a Python file with get_config(), or one of {', '.join(sorted(names))}",
    )


def load_config(path: str | pathlib.Path) -> Config:
    """Runs `get_config()` of a configuration file.

    Args:
        path: the file; or the name of an experiment that comes with the package, such as demo or tpu/v5e_8.

    Raises:
        UserError: the file is missing, fails, or returns something else.
    """
    path = _file_of(pathlib.Path(path))
    spec = importlib.util.spec_from_file_location(f"configuration_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError("is not a Python file", where=str(path), remedy="give a Python file with get_config()")
    module = types.ModuleType(spec.name)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except AttributeError as error:
        raise UserError(str(error), where=str(path), remedy="define get_config() in it") from error
    except (SyntaxError, ImportError, TypeError, NameError) as error:
        raise UserError(f"cannot be run: {error}", where=str(path), remedy="mend the file") from error
    if not isinstance(config, Config):
        raise UserError("get_config() does not return a Config", where=str(path), remedy="return a Config from it")
    for key, value, kind in ill_typed(config):
        raise UserError(f"{key} is {value!r}, which is no {kind}", where=str(path), remedy="mend the file")
    return config


def _parse(kind: Any, text: str, key: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(_parse(inner[0], part.strip(), key) for part in text.split(",") if part.strip())
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if origin is Literal and text in inner:
            return text
        if kind in (int, float, str):
            return kind(text)
        if kind == Level:
            return level_number(text)
        if hasattr(kind, "parse"):
            return kind.parse(text)
    except (ValueError, KeyError):
        pass
    expected = " or ".join(inner) if origin is Literal else _EXPECTED.get(kind) or getattr(kind, "__name__", str(kind))
    raise UserError(f"{text!r} is no value for {key}", remedy=f"give {expected}")


def with_overrides(config: Config, assignments: Sequence[str]) -> Config:
    """A configuration with some values replaced.

    Args:
        config: where to start from.
        assignments: each `a.b=value`; lists are separated by commas, stages are written STEPSxROLLOUT.

    Raises:
        UserError: an unknown key (the nearest is named) or a value of the wrong type.
    """
    known, values = list(flatten(config)), {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"{assignment!r} is not of the form a.b=value", remedy="write --set data.path=S.zarr")
        key = _ALIASES.get(key, key)
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise UserError(f"there is no setting {key}", remedy=f"did you mean {nearest[0]}?")
        values[key] = text
    return typing.cast(Config, _replaced(config, "", values))


def _replaced(config: Any, prefix: str, values: dict[str, str]) -> Any:
    """All new values of a part at once, so that settings which only fit together may come in any order."""
    hints, changed = typing.get_type_hints(type(config)), {}
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        if key in values:
            changed[field.name] = _parse(hints[field.name], values[key], key)
        elif dataclasses.is_dataclass(value) and any(name.startswith(f"{key}.") for name in values):
            changed[field.name] = _replaced(value, f"{key}.", values)
    return dataclasses.replace(config, **changed)


def extends(saved: tuple[Stage, ...], wanted: tuple[Stage, ...]) -> bool:
    """Whether stages were appended or the last one lengthened, which leaves all that is trained as it is."""
    if not len(saved) <= len(wanted):
        return False
    same, (last, again) = len(saved) - 1, (saved[-1], wanted[len(saved) - 1])
    return (
        wanted[:same] == saved[:same]
        and again.steps >= last.steps
        and again == dataclasses.replace(last, steps=again.steps)
    )


def _told(value: Any) -> str:
    """A setting as one writes it."""
    if isinstance(value, tuple) and value and all(isinstance(entry, Stage | LongRun) for entry in value):
        return ",".join(map(str, value))
    return repr(value)


def differences(saved: Config, wanted: Config) -> list[str]:
    """Settings that differ in a way that matters, as 'key was X, is Y'."""
    old, new = flatten(saved), flatten(wanted)
    changed = {key for key in new if old[key] != new[key]} - set(HARMLESS)
    if extends(saved.training.stages, wanted.training.stages):
        changed.discard("training.stages")
    if not wanted.training.start_from:  # a run that goes on needs none
        changed -= {"training.start_from", "training.start_with"}
    return [f"{key} was {_told(old[key])}, is {_told(new[key])}" for key in new if key in changed]
