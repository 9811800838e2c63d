"""Configuration of an experiment: frozen dataclasses, one Python file an experiment, typed overrides."""

import dataclasses
import difflib
import importlib.util
import json
import pathlib
import types
import typing
from collections.abc import Sequence
from typing import Any

from weather_scnn.data.channels import DataConfig
from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training: so many optimiser steps on rollouts of so many forecast steps."""

    steps: int
    rollout_steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rollout_steps < 1:
            raise UserError(
                f"a stage of {self.steps} steps with rollouts of {self.rollout_steps}", remedy="give at least 1 of each"
            )


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and cosine decay to zero.

    Attributes:
        learning_rate: highest learning rate.
        warmup_steps: steps of linear increase from zero.
        weight_decay: of matrices; biases and norms are left alone.
        clip_norm: largest global norm of the gradient.
        average_decay: of the moving average of the parameters, which forecasts use.
    """

    learning_rate: float = 2e-3
    warmup_steps: int = 50
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    average_decay: float = 0.99


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, how large, how often.

    Attributes:
        batch_size: windows a step, over all devices.
        seed: of the initial parameters and the shuffling.
        stages: curriculum of rollouts, one after the other.
        pressure_weights: weight levels in proportion to pressure, as air mass does.
        log_every: steps between lines of metrics.csv.
        checkpoint_every: steps between checkpoints; one more is written at the end.
        keep_checkpoints: how many are kept.
    """

    batch_size: int = 16
    seed: int = 0
    stages: tuple[Stage, ...] = (Stage(1000),)
    pressure_weights: bool = True
    log_every: int = 10
    checkpoint_every: int = 200
    keep_checkpoints: int = 2

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, Stage]:
        """First step of the stage that `step` belongs to, and the stage."""
        first = 0
        for stage in self.stages:
            if step < first + stage.steps:
                return first, stage
            first += stage.steps
        return first - self.stages[-1].steps, self.stages[-1]


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole experiment."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: TrainingConfig = TrainingConfig()

    def to_json(self) -> dict[str, Any]:
        """Nested plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """Inverse of `to_json`."""
        return typing.cast(Config, _build(cls, values))


# These may change when a run is resumed: they do not touch what is computed.
HARMLESS = (
    "data.path",
    "data.statistics",
    "data.cache_gigabytes",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
)


def _build(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{key: _build(hints[key], entry) for key, entry in value.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is tuple:
        return tuple(_build(typing.get_args(kind)[0], entry) for entry in value)
    return value


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = f"{prefix}{field.name}"
        flat.update(flatten(value, f"{key}.") if dataclasses.is_dataclass(value) else {key: value})
    return flat


def load_config(path: str | pathlib.Path) -> Config:
    """Runs `get_config()` of a configuration file.

    Raises:
        UserError: the file is missing, fails, or returns something else.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        known = sorted(str(entry) for entry in path.parent.glob("*.py") if entry.stem != "__init__")
        hint = f"there are {', '.join(known)}" if known else "give a Python file with get_config()"
        raise UserError("the configuration file does not exist", where=str(path), remedy=hint)
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
    return config


def _parse(kind: Any, text: str, key: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
        if typing.get_origin(kind) is tuple:
            return tuple(
                _parse(typing.get_args(kind)[0], part.strip(), key) for part in text.split(",") if part.strip()
            )
        if kind is Stage:
            steps, _, rollout = text.partition("x")
            return Stage(int(steps), int(rollout or 1))
    except (ValueError, KeyError):
        pass
    expected = "stages such as 800x1,200x2" if "Stage" in str(kind) else getattr(kind, "__name__", str(kind))
    raise UserError(f"{text!r} is no value for {key}", remedy=f"give {expected}")


def with_overrides(config: Config, assignments: Sequence[str]) -> Config:
    """A configuration with some values replaced.

    Args:
        config: where to start from.
        assignments: each `a.b=value`; lists are separated by commas, stages are written STEPSxROLLOUT.

    Raises:
        UserError: an unknown key (the nearest is named) or a value of the wrong type.
    """
    known = list(flatten(config))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"{assignment!r} is not of the form a.b=value", remedy="write --set data.path=S.zarr")
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise UserError(f"there is no setting {key}", remedy=f"did you mean {nearest[0]}?")
        section, _, name = key.partition(".")
        part = getattr(config, section)
        kind = typing.get_type_hints(type(part))[name]
        part = dataclasses.replace(part, **{name: _parse(kind, text, key)})
        config = dataclasses.replace(config, **{section: part})
    return config


def differences(saved: Config, wanted: Config) -> list[str]:
    """Settings that differ in a way that matters, as 'key was X, is Y'."""
    old, new = flatten(saved), flatten(wanted)
    return [f"{key} was {old[key]!r}, is {new[key]!r}" for key in new if old[key] != new[key] and key not in HARMLESS]
