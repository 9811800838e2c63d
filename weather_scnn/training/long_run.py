"""Long runs while training: rollouts whose time means are held against the truth's, and the checkpoint that drifts least.

A short validation does not see drift; the checkpoint with the smallest error after five days may leave the climate within
months. Which long runs are made is a matter of steps, not of seconds: so on any machine, interrupted or not, the same
checkpoint is chosen.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from weather_scnn.catalogue.field_names import field_in_words
from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration
from weather_scnn.nn import Fields
from weather_scnn.training.audit import usable_channels
from weather_scnn.training.chance import Chance
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import Config, TrainingConfig
from weather_scnn.training.duration import units
from weather_scnn.training.forcings import phases
from weather_scnn.training.log import read_table
from weather_scnn.training.long_rollout import SumConstants, field_names, joined, rollout_sums
from weather_scnn.training.loss import Scales
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.rollout import Parts
from weather_scnn.training.sharding import DATA
from weather_scnn.training.states import StateReader, expected_grid

#: In the column `variable` of validation.csv.
ROW = "time mean of long runs, in standard deviations"
# Steps of one compiled program, whose sums are float32; and states read together.
_BLOCK, _READ = 40, 32


class LongRunResult(NamedTuple):
    """What a long run found.

    Attributes:
        error: RMSE of the time mean over the field's standard deviation, mean over fields; infinite where a state was not
            finite.
        worst: the field of the largest, or the first that was not finite.
        worst_error: of that field.
        steps: that all rollouts took with finite states.
    """

    error: float
    worst: str
    worst_error: float
    steps: int


def due_marks(training: TrainingConfig) -> set[int]:
    """Optimiser steps after which long runs are made.

    One may be made if it and those before it are within the share of the work of training until then, in steps of the
    forecaster; the end always has one.
    """
    if not training.long_run:
        return set()
    each = training.long_run[0].starts * training.long_run[0].steps
    found: set[int] = set()
    every = training.checkpoint_every * training.long_run_every
    for mark in range(every, training.total_steps, every):
        work = training.batch_size * units(training, 0, mark)
        if (len(found) + 1) * each <= training.long_run_share * work:
            found.add(mark)
    return found | {training.total_steps}


class LongRuns:
    """Rollouts of `training.long_run` from evenly spaced times of `data.validation`.

    Args:
        config: the experiment.
        channels, normalisation: of the state.
        mesh: devices; the rollouts are divided over its axis `data` where their number allows.
        folder: of the run, for which long runs there are already.
        resumed: step that the run goes on from.

    Raises:
        UserError: the period is shorter than the rollouts.
    """

    def __init__(
        self,
        config: Config,
        channels: Channels,
        normalisation: Normalisation,
        mesh: Mesh,
        folder: os.PathLike,
        resumed: int = 0,
    ):
        self.config, self.channels, self.mesh = config, channels, mesh
        (self.size,) = config.training.long_run
        self.marks = due_marks(config.training)
        self.step = parse_duration(config.data.step)
        grid = expected_grid(config.data)
        self.reader = StateReader.open(config.data.path, channels, normalisation, grid, time=config.data.validation)
        rows = self._history_rows()
        self.starts = self.reader.times[rows[:, -1]]
        states = self.reader.read_at(rows)
        self.truth, self.gaps = self._truth()
        constants = SumConstants.of(channels, grid, self.truth)
        divided = self.size.starts % mesh.shape[DATA] == 0 and jax.process_count() == 1
        self._place = NamedSharding(mesh, PartitionSpec(DATA if divided else None))
        self.constants = jax.device_put(constants, NamedSharding(mesh, PartitionSpec()))
        self.history = jax.device_put(Fields(*states), self._place)  # type: ignore[arg-type]
        steps = (
            int(row["step"]) for row in read_table(epath.Path(folder) / "validation.csv") if row["variable"] == ROW
        )
        self.made = {step for step in steps if step <= resumed}

    def due(self, mark: int) -> bool:
        """Whether one is to be made after this step, and has not been."""
        return mark in self.marks and mark not in self.made

    def _history_rows(self) -> np.ndarray:
        """Rows of the input states of evenly spaced starts, oldest first, (start, t)."""
        times, inputs, (starts, steps) = (
            self.reader.times,
            self.config.data.input_steps,
            (self.size.starts, self.size.steps),
        )
        wanted = times[:, None] - self.step * np.arange(inputs)[::-1]
        rows = np.minimum(np.searchsorted(times, wanted), times.size - 1)
        whole = np.flatnonzero((times[rows] == wanted).all(axis=1) & (times + steps * self.step <= times[-1]))
        found: list[int] = []
        for place in np.linspace(0, whole.size - 1, starts).round().astype(int) if whole.size >= starts else ():
            for each in whole[place:]:
                if int(each) in found:
                    continue
                if usable_channels(self.reader.read_at(rows[each]), self.reader).all():
                    found.append(int(each))
                    break
        if len(found) < starts:
            days = steps * self.step / np.timedelta64(24, "h")
            raise UserError(
                f"data.validation {self.config.data.validation} has not {starts} times that {days:g} days follow, for "
                f"training.long_run={self.size}",
                remedy="give a longer data.validation, or shorter long runs",
            )
        return rows[found]

    def _truth(self) -> tuple[Float[np.ndarray, "y x F"], np.ndarray]:
        """Mean over the valid times of all rollouts, and where it has none."""
        times = self.reader.times
        valid = (self.starts[:, None] + self.step * np.arange(1, self.size.steps + 1)).ravel()
        stamps, counts = np.unique(valid, return_counts=True)
        rows = np.minimum(np.searchsorted(times, stamps), times.size - 1)
        there = times[rows] == stamps
        rows, counts = rows[there], counts[there]
        total: Any = 0.0
        weight = 0
        for first in range(0, rows.size, _READ):
            states = self.reader.read_at(rows[first : first + _READ])
            good = usable_channels(states, self.reader).all(axis=1) * counts[first : first + _READ]
            values = joined(Fields(*states))  # type: ignore[arg-type]
            total = total + np.einsum("tyxf,t->yxf", values[good > 0], good[good > 0], dtype=np.float64)
            weight += int(good.sum())
        if not weight:
            raise UserError(
                f"no state of data.validation {self.config.data.validation} is whole at the valid times of long runs",
                remedy="give another period",
            )
        mean = total / weight
        return mean, ~np.isfinite(mean)

    def __call__(self, mark: int, parts: Parts, scales: Scales) -> LongRunResult:
        """Rolls a forecaster out, and tells how far its time means are from the truth's.

        Args:
            mark: optimiser steps it has been trained for.
            parts: the averaged forecaster.
            scales: constants of the rollout.
        """
        self.made.add(mark)
        names = [field_in_words(*field) for field in field_names(self.channels)]
        members = np.zeros(self.starts.size, np.int64)
        chance = Chance.begin(parts, self.config.training.seed, self.starts, members)
        history, total = self.history, np.zeros((self.starts.size, *self.truth.shape))
        for first in range(0, self.size.steps, _BLOCK):
            times = self.starts[:, None] + self.step * (first + np.arange(_BLOCK + 1))
            forcings = jax.device_put(phases(times), self._place)
            counted = jnp.asarray(first + np.arange(_BLOCK) < self.size.steps)
            history, chance, sums = rollout_sums(
                parts, history, scales, forcings, self.constants, jnp.asarray(0, jnp.int32), counted, chance, per_day=1
            )
            left = self.size.steps - first
            wrong = np.argwhere(~np.isfinite(np.asarray(sums.low) + np.asarray(sums.high))[:left])
            if wrong.size:
                step, _, _, field = wrong[0]
                return LongRunResult(np.inf, names[field], np.inf, first + int(step))
            total += np.asarray(sums.total)
        # Of the sums less the truth's mean, what is left is the difference.
        bias = np.where(self.gaps, 0.0, total.mean(axis=0) / self.size.steps)
        area = np.asarray(self.constants.area[0], np.float64)[:, None, None] * ~self.gaps
        errors = np.sqrt(np.sum(area * bias**2, axis=(0, 1)) / np.maximum(area.sum(axis=(0, 1)), 1e-12))
        worst = int(errors.argmax())
        return LongRunResult(float(errors.mean()), names[worst], float(errors[worst]), self.size.steps)
