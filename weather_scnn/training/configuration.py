"""The settings of an experiment, as frozen dataclasses that refuse what cannot be meant."""

import dataclasses
import json
import typing
from typing import Any, Literal

from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig
from weather_scnn.setting_limits import at_least, known_choices
from weather_scnn.training.channels import DataConfig

#: What `training.augment` may name.
AUGMENTATIONS = ("rotation", "mirror")
#: See `trackers`.
TRACKERS = ("mlflow", "wandb")


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training: so many optimiser steps on rollouts of so many forecast steps.

    Attributes:
        steps: optimiser steps.
        rollout_steps: forecast steps of each rollout.
        learning_rate: constant rate of this stage; None gives it its part of the cosine, which spans the stages
            without a rate of their own.
        members: of the ensemble in training; None takes `training.members`.
        alpha: of the score of ensembles; None takes `loss.alpha`.
    """

    steps: int
    rollout_steps: int = 1
    learning_rate: float | None = None
    members: int | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(
                f"a stage with learning rate {self.learning_rate:g}",
                remedy="give a positive rate, or none to follow the cosine",
            )
        if self.members is not None and self.members < 2:
            raise UserError(f"a stage with {self.members} members", remedy="give 2 or more, or none")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise UserError(f"a stage with an alpha of {self.alpha:g}", remedy="give one from 0 to 1")
        if self.steps < 1 or self.rollout_steps < 1:
            raise UserError(
                f"a stage of {self.steps} steps with rollouts of {self.rollout_steps}", remedy="give at least 1 of each"
            )

    def __str__(self) -> str:
        members = "" if self.members is None else f"x{self.members}"
        rate = "" if self.learning_rate is None else f"@{self.learning_rate:g}"
        alpha = "" if self.alpha is None else f":{self.alpha:g}"
        return f"{self.steps}x{self.rollout_steps}{members}{rate}{alpha}"

    @classmethod
    def parse(cls, text: str) -> "Stage":
        """Reads STEPS[xROLLOUT[xMEMBERS]][@RATE][:ALPHA].

        Raises:
            ValueError: the text reads otherwise.
        """
        text, _, alpha = text.partition(":")
        text, _, rate = text.partition("@")
        steps, *rest = map(int, text.split("x"))
        if len(rest) > 2:
            raise ValueError(text)
        rollout, members = rest[0] if rest else 1, rest[1] if rest[1:] else None
        return cls(steps, rollout, float(rate) if rate else None, members, float(alpha) if alpha else None)


@dataclasses.dataclass(frozen=True)
class LongRun:
    """Rollouts while training, from so many initial times of the validation period, over so many forecast steps."""

    starts: int
    steps: int

    def __post_init__(self) -> None:
        if self.starts < 1 or self.steps < 1:
            raise UserError(
                f"a long run of {self.steps} steps from {self.starts} initial times", remedy="give at least 1 of each"
            )

    def __str__(self) -> str:
        return f"{self.starts}x{self.steps}"

    @classmethod
    def parse(cls, text: str) -> "LongRun":
        """Reads STARTSxSTEPS.

        Raises:
            ValueError: the text reads otherwise.
        """
        starts, steps = map(int, text.split("x"))
        return cls(starts, steps)


@dataclasses.dataclass(frozen=True)
class VariableWeight:
    """Loss weight of one variable, relative to 1 for the others; of a wind, either component names it."""

    name: str
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise UserError(
                f"the loss weight of {self.name} is {self.weight:g}",
                remedy="give a positive weight, or leave the variable out of the state",
            )

    @classmethod
    def parse(cls, text: str) -> "VariableWeight":
        """Reads NAME:WEIGHT.

        Raises:
            ValueError: the weight is no number.
        """
        name, _, weight = text.partition(":")
        return cls(name.strip(), float(weight))


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Errors of standardised increments, so each channel is weighted by its increments' inverse variance or deviation.

    Attributes:
        kind: `grid` takes area means on the grid; `spectral` sums over degrees of the harmonics, which is the same
            but for `degree_exponent`; `adjusted` also charges lost amplitude at each degree, against blurred
            forecasts; `crps` scores an ensemble of `training.members`, see docs/ensembles.md.
        degree_exponent: a degree l weighs in proportion to (l + 1)^exponent; needs a kind per degree.
        pressure_weights: weight levels in proportion to pressure, as air mass does.
        variable_weights: relative weights, written geopotential:2,2m_temperature:0.5; others have 1.
        targets: fields that count, written geopotential@500/850,2m_temperature, either component for a wind; the others
            are inputs and outputs without a say in the loss. Empty takes all.
        step_weights: relative weights of the steps of a rollout; the last holds for all further steps; empty is 1.
        last_step_only: only the last step of a rollout counts.
        alpha: share of the fair score in the almost fair one, of `crps`; 1 is fair, 0 the plain score.
        spectral_weight: of the energy score of coefficients, degree by degree, beside that of values, of `crps`.
        whitening: exponent γ of 1/amplitude of the increments, by which degrees weigh in it, or of 1/power of the squared
            errors of other kinds per degree; 0 weighs all alike.
        winds: of `crps`: `vector` scores the length of a wind's error; `components` scores u and v by themselves, which
            depends on the axes.
    """

    kind: Literal["grid", "spectral", "adjusted", "crps"] = "grid"
    degree_exponent: float = 0.0
    pressure_weights: bool = True
    variable_weights: tuple[VariableWeight, ...] = ()
    targets: tuple[str, ...] = ()
    step_weights: tuple[float, ...] = ()
    last_step_only: bool = False
    alpha: float = 0.95
    spectral_weight: float = 0.1
    whitening: float = 0.0
    winds: Literal["vector", "components"] = "vector"

    def __post_init__(self) -> None:
        known_choices("loss", self)
        at_least("loss", self, {"alpha": 0, "spectral_weight": 0, "whitening": 0})
        if isinstance(self.alpha, int | float) and self.alpha > 1:
            raise UserError(f"loss.alpha is {self.alpha}", remedy="give one from 0 to 1")
        for name in ("degree_exponent", "whitening"):
            if getattr(self, name) and self.kind == "grid":
                raise UserError(f"loss.{name} weights degrees, but loss.kind is grid", remedy="set loss.kind=spectral")
        if any(not weight > 0 for weight in self.step_weights):
            raise UserError(f"loss.step_weights are {self.step_weights}", remedy="give positive weights")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out: the axis `model` has so many, the axis `data`, which divides the batch, the rest.

    Attributes:
        model: devices that share one sample: each holds a part of the orders m of spectra and transform tables, of the
            channels on the grid, and of the parameters.
        ensemble: devices that share the members of an ensemble.
    """

    model: int = 1
    ensemble: int = 1

    def __post_init__(self) -> None:
        at_least("training.mesh", self, {"model": 1, "ensemble": 1})


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

    def __post_init__(self) -> None:
        at_least("optimiser", self, {"warmup_steps": 0, "weight_decay": 0, "average_decay": 0})
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise UserError(f"optimiser.{name} is {value}", remedy="set it to more than 0")
        if isinstance(self.average_decay, int | float) and not self.average_decay < 1:
            raise UserError(f"optimiser.average_decay is {self.average_decay}", remedy="set it to less than 1")


_LEAST = {
    "batch_size": 1, "seed": 0, "members": 1, "accumulation": 1, "backprop_steps": 0, "input_noise": 0, "input_errors": 0, "log_every": 1, "checkpoint_every": 1,
    "keep_checkpoints": 1, "validate_every": 0, "validation_windows": 1, "explosion_factor": 0,
    "long_run_every": 1, "long_run_share": 0,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, how large, how often.

    Attributes:
        batch_size: windows a step, over all devices.
        seed: of the initial parameters and the shuffling.
        stages: curriculum of rollouts, one after the other, written 800x1,200x2@1e-4; with members and alpha of
            ensembles 800x1x2,200x4x4@1e-4:0.9.
        members: forecasts of each window that `loss.kind=crps` scores together; 1 for no ensemble.
        random_lengths: lengths of rollouts one of which is drawn for each step, up to that of its stage; those named
            more often are drawn more often, as in 1,1,1,2,4. Empty takes the stage's.
        start_from: workdir of another run, or WORKDIR@STEP, whose weights and moments a new run begins with; a run that
            goes on needs it no more.
        start_with: of that run, the moving average of the weights or the raw ones of its last step.
        trained: all parameters; or those of the noise alone, which make an ensemble of a forecaster that stays as it is.
        accumulation: parts the batch is divided into, worked on one after the other, when it does not fit into memory;
            the gradient is that of the whole batch, but batch statistics are those of each part.
        backprop_steps: truncated backpropagation: the gradient runs through so many last steps of a rollout only, the
            earlier ones merely carry the forecast there and count nothing in the loss; 0 takes all steps. Once called
            push_forward, which still works.
        augment: what is done to windows at random: rotation turns them about the axis by any angle, mirror takes the image
            at the equator every other time; terrain, land, sun and clock go with them. Spherical networks commute with
            rotations, and learn next to nothing from them.
        input_noise: standard deviation of Gaussian noise on the input states, in standard deviations of each channel.
        input_errors: standard deviation of random errors of all scales on the input states, in standard deviations of the
            increments. Rollouts of months learn from them to bring back the largest scales, which vary with the season and hardly
            else, so that the data do not tell how; and the smallest.
        remat: what the backward pass computes again in place of keeping it: `none`; `step`, the inside of each
            forecast step; `nested`, also all but every √k-th state, for one more forward pass; `auto` takes none for
            one step, nested for more than 16, else step.
        mesh: how devices are laid out.
        log_every: steps between lines of metrics.csv.
        checkpoint_every: steps between checkpoints; one more is written at the end.
        keep_checkpoints: how many are kept.
        validate_every: steps between validation rollouts; 0 makes one with every checkpoint.
        validation_windows: initial times of a validation, spread evenly over `data.validation`.
        validation_days: leads at which its RMSE is told.
        long_run: rollouts of so many steps from so many times of `data.validation`, written 4x1460: the checkpoint whose time
            means are nearest to the truth's is kept as best_long_run, see docs/stability.md. Empty for none.
        long_run_every: checkpoints from one long run to the next; the last checkpoint always has one.
        long_run_share: of the work of training so far that long runs may take, all but the last, counted in steps of the
            forecaster, of which one with its gradient is three; one that would take more is left out.
        on_divergence: what a loss that is not finite or spikes does: stop the run, or skip that step and count it.
        explosion_factor: a loss above this many times the recent one counts as a spike; 0 for none.
        trackers: that are told the same as TensorBoard: mlflow, wandb; each needs the extra of its name.
    """

    batch_size: int = 16
    seed: int = 0
    stages: tuple[Stage, ...] = (Stage(1000),)
    members: int = 1
    random_lengths: tuple[int, ...] = ()
    start_from: str = ""
    start_with: Literal["average", "raw"] = "average"
    trained: Literal["all", "noise"] = "all"
    accumulation: int = 1
    backprop_steps: int = 0
    augment: tuple[str, ...] = ()
    input_noise: float = 0.0
    input_errors: float = 0.0
    remat: Literal["auto", "none", "step", "nested"] = "auto"
    mesh: MeshConfig = MeshConfig()
    log_every: int = 10
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    validate_every: int = 0
    validation_windows: int = 32
    validation_days: tuple[float, ...] = (1.0, 3.0, 5.0)
    long_run: tuple[LongRun, ...] = ()
    long_run_every: int = 1
    long_run_share: float = 0.25
    on_divergence: Literal["stop", "skip"] = "stop"
    explosion_factor: float = 20.0
    trackers: tuple[str, ...] = ()
    push_forward: dataclasses.InitVar[int | None] = None  # what backprop_steps was called until version 0.2

    def __post_init__(self, push_forward: int | None) -> None:
        if push_forward:
            object.__setattr__(self, "backprop_steps", push_forward)
        known_choices("training", self)
        at_least("training", self, _LEAST)
        for name, choices in (("augment", AUGMENTATIONS), ("trackers", TRACKERS)):
            for kind in getattr(self, name):
                if kind not in choices:
                    raise UserError(f"training.{name} names {kind!r}", remedy=f"give {' or '.join(choices)}, or both")
        if self.batch_size % self.accumulation:
            raise UserError(
                f"a batch of {self.batch_size} does not divide into {self.accumulation} parts",
                remedy="set training.accumulation to a divisor of training.batch_size",
            )
        if any(length < 1 for length in self.random_lengths):
            raise UserError(f"training.random_lengths are {self.random_lengths}", remedy="give lengths of 1 or more")
        if len(self.long_run) > 1:
            raise UserError("training.long_run names several long runs", remedy="give one, such as 4x1460")
        if not self.stages:
            raise UserError("training.stages is empty", remedy="give stages such as 800x1,200x2")

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def members_of(self, stage: Stage) -> int:
        """Members of the ensemble in a stage."""
        return stage.members or self.members

    @property
    def lengths(self) -> dict[int, tuple[int, ...]]:
        """Lengths of rollouts that are drawn from in the stages of each length."""
        wholes = {stage.rollout_steps for stage in self.stages}
        return {whole: tuple(min(one, whole) for one in self.random_lengths) or (whole,) for whole in wholes}

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
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        self._check_ensemble()
        if "rotation" in self.training.augment and self.data.masked_variables:
            raise UserError(
                "training.augment turns fields, and those of data.masked_variables have gaps that do not turn",
                remedy="leave rotation or the masked variables out",
            )
        if self.training.long_run and not self.data.validation:
            raise UserError(
                "training.long_run starts from times of data.validation, which is empty", remedy="give that period"
            )
        rollouts = any(stage.rollout_steps > 1 for stage in self.training.stages)
        if self.data.direct and (self.training.long_run or rollouts):
            raise UserError(
                f"rollouts of several steps of {self.data.step} from input times {self.data.input_step} apart",
                remedy="set training.stages to rollouts of one step, or leave data.input_step out",
            )

    def _check_ensemble(self) -> None:
        """Members, their score and their noise belong together."""
        training, scored = self.training, self.loss.kind == "crps"
        counts = [training.members_of(stage) for stage in training.stages]
        if scored and min(counts) < 2:
            raise UserError(
                "loss.kind=crps scores ensembles, and training.members is 1", remedy="set training.members=2 or more"
            )
        if scored and not self.model.noise.present:
            what = "loss.kind=crps scores ensembles, and nothing makes their members differ"
            raise UserError(what, remedy="set model.noise.vector=16")
        if self.model.noise.present and not scored:
            what = f"model.noise makes ensembles, and loss.kind={self.loss.kind} does not score them"
            raise UserError(what, remedy="set loss.kind=crps")
        if not scored and max(counts) > 1:
            raise UserError(f"{max(counts)} training.members without loss.kind=crps", remedy="set loss.kind=crps")
        if not scored and training.trained == "noise":
            raise UserError("training.trained=noise, and there is no model.noise", remedy="set it to all")
        uneven = [count for count in counts if count % training.mesh.ensemble]
        if uneven:
            raise UserError(
                f"{uneven[0]} members do not divide over training.mesh.ensemble={training.mesh.ensemble} devices",
                remedy="give a multiple of members, or fewer devices",
            )

    def to_json(self) -> dict[str, Any]:
        """Nested plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """Inverse of `to_json`."""
        return typing.cast(Config, _build(cls, values))


def _build(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{key: _build(hints[key], entry) for key, entry in value.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is tuple:
        return tuple(_build(typing.get_args(kind)[0], entry) for entry in value)
    return tuple(value) if isinstance(value, list) else value  # what an older name was given
