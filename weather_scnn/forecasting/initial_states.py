"""The states that forecasts start from, judged before any work, and their perturbations."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.forecasting.perturbations import BredPerturbations, IncrementPerturbations, lower_bounds, perturb
from weather_scnn.forecasting.propagation import read_states
from weather_scnn.forecasting.trained_run import TrainedRun
from weather_scnn.nn import Fields, map_fields
from weather_scnn.training.loss import Scales
from weather_scnn.training.states import StateReader

Perturbations = IncrementPerturbations | BredPerturbations
# States that are judged together.
_JUDGED = 8


@dataclasses.dataclass(frozen=True)
class Perturber:
    """Makes perturbations of any amplitude, for the states of any store.

    Attributes:
        runs: the checkpoints.
        scales: constants of the channels, by checkpoint.
        bred: whether random fields are bred.
        random: random fields of amplitude 1.
        step: of the forecaster.
    """

    runs: Sequence[TrainedRun]
    scales: Sequence[Scales]
    bred: bool
    random: IncrementPerturbations
    step: np.timedelta64

    def __call__(self, states: StateReader, amplitude: float) -> list[Perturbations]:
        """By checkpoint."""
        random = dataclasses.replace(self.random, amplitude=amplitude)
        if not self.bred:
            return [random] * len(self.runs)
        inputs = self.runs[0].config.data.input_steps
        return [
            BredPerturbations(states, run.parts, scales, self.step, inputs, random)
            for run, scales in zip(self.runs, self.scales)
        ]

    def states_before(self, states: StateReader) -> int:
        """How many states before an initial time the perturbations need."""
        first = self(states, 1.0)[0]
        return first.cycles + first.inputs - 1 if isinstance(first, BredPerturbations) else 0


@dataclasses.dataclass(frozen=True)
class InitialStates:
    """Histories that forecasts start from.

    Attributes:
        reader: of their store.
        starts: initial times.
        rows: of the time axis that each initial time needs, oldest first, (init, t).
        perturbations: by checkpoint; None where nothing is perturbed. The first member of each checkpoint is not.
    """

    reader: StateReader
    starts: np.ndarray
    rows: np.ndarray
    perturbations: Sequence[Perturbations] | None = None

    def judge(self, *, allow_implausible: bool) -> None:
        """Reads every state that will be needed.

        Raises:
            UserError: one is missing, or is not plausible.
        """
        needed = [self.rows.ravel()]
        if self.perturbations is not None and isinstance(self.perturbations[0], BredPerturbations):
            needed.append(self.perturbations[0].times_and_rows(self.starts)[1].ravel())
        rows = np.unique(np.concatenate(needed))
        for first in range(0, rows.size, _JUDGED):
            read_states(self.reader, rows[first : first + _JUDGED, None], allow_implausible=allow_implausible)

    def histories(self, run: int, inits: np.ndarray, members: np.ndarray) -> Fields:
        """Standardised histories for positions of initial times and numbers of members, each (b,): (b, t, y, x, c).

        Args:
            run: position of the checkpoint that the members come from.
            inits: positions.
            members: numbers.
        """
        known, inverse = np.unique(inits, return_inverse=True)
        states = read_states(self.reader, self.rows[known], allow_implausible=True)  # they have been judged
        history = map_fields(lambda array: jnp.asarray(array[inverse.ravel()]), states)
        if self.perturbations is None:
            return history
        drawn = self.perturbations[run].draw(self.starts[inits], members)
        changed = perturb(history, drawn, lower_bounds(self.reader))
        kept = jnp.asarray(members < len(self.perturbations))
        return map_fields(
            lambda old, new: jnp.where(kept.reshape(-1, *[1] * (old.ndim - 1)), old, new), history, changed
        )


def history_rows(reader: StateReader, starts: np.ndarray, step: np.timedelta64, inputs: int) -> np.ndarray:
    """Rows of the time axis that each initial time needs, oldest first, (init, t); −1 where one is missing."""
    times, wanted = reader.times, starts[:, None] - step * np.arange(inputs)[::-1]
    rows = np.minimum(np.searchsorted(times, wanted), times.size - 1)
    return np.where(times[rows] == wanted, rows, -1)


def whole_histories(reader: StateReader, starts: np.ndarray, step: np.timedelta64, inputs: int) -> np.ndarray:
    """As `history_rows`.

    Raises:
        UserError: one is missing.
    """
    rows = history_rows(reader, starts, step, inputs)
    if (rows < 0).any():
        raise UserError(
            f"the forecast from {starts[(rows < 0).any(axis=1)][0].astype('datetime64[h]')} needs "
            f"{inputs} states {step / np.timedelta64(1, 'h'):g} h apart, and one is missing",
            where=reader.path,
            remedy="begin later or choose other initial times",
        )
    return rows
