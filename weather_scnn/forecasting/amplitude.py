"""The amplitude of perturbations at which an ensemble spreads by a day as much as its mean errs.

In an ensemble whose members and truth are alike, the error of the mean is √((M + 1)/M) of the spread (Fortin et al.
2014). The forecasts that tell are few, and from the run's validation period: fitted to the days it is then judged on, an
ensemble would look more reliable than it is.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.batches import batches
from weather_scnn.forecasting.initial_states import InitialStates, Perturber, history_rows
from weather_scnn.forecasting.propagation import (
    gap_channels,
    propagate,
    states_as_they_are,
    usable_states,
)
from weather_scnn.forecasting.trained_run import TrainedRun
from weather_scnn.io.periods import parse_period
from weather_scnn.nn import map_fields
from weather_scnn.training.chance import Chance
from weather_scnn.training.forcings import phases
from weather_scnn.training.loss import channel_weights
from weather_scnn.training.states import StateReader

AUTO = "auto"
_LEAD = np.timedelta64(24, "h")
_INITS, _MEMBERS = 8, 8
_RANGE, _FIRST = (0.01, 4.0), 0.2
_CLOSE, _TRIALS = 0.02, 7


@dataclasses.dataclass(frozen=True)
class Fitted:
    """An amplitude that was fitted.

    Attributes:
        amplitude: in standard deviations of the increments over one step.
        about: the fit in words.
    """

    amplitude: float
    about: str


@dataclasses.dataclass(frozen=True)
class Fit:
    """What fitting needs to know of the forecast.

    Attributes:
        perturber: makes perturbations of an amplitude.
        reader: of the forecast's own initial states.
        starts: the forecast's initial times.
        lead: the forecast's longest.
        input_step: between the input times.
        members: of the ensemble.
        batch_size: forecasts run side by side.
        allow_implausible: whether states may be what the catalogue finds impossible.
    """

    perturber: Perturber
    reader: StateReader
    starts: np.ndarray
    lead: np.timedelta64
    input_step: np.timedelta64
    members: int
    batch_size: int
    allow_implausible: bool

    def __call__(self) -> Fitted:
        """Fits the amplitude; where nothing can be verified it is 0.2, about the error of an analysis."""
        reader, rows, where = self._verified()
        if not len(rows):
            return Fitted(_FIRST, f"not fitted, since {where}")
        members = min(self.members, max(_MEMBERS, 2 * len(self.runs)))

        def excess(amplitude: float) -> float:
            return self._excess(reader, rows, members, amplitude)

        amplitude, left = _root(excess)
        amplitude = float(f"{amplitude:.3g}")
        lead = self._steps * self.step / np.timedelta64(1, "h")
        about = (
            f"spread {np.exp(left):.2f} of what the error of the mean asks for at {lead:g} h, in {len(rows)} forecasts of "
            f"{members} members {where}"
        )
        return Fitted(amplitude, about)

    @property
    def runs(self) -> Sequence[TrainedRun]:
        """The checkpoints."""
        return self.perturber.runs

    @property
    def step(self) -> np.timedelta64:
        """Of the forecaster."""
        return self.perturber.step

    @property
    def _steps(self) -> int:
        """Steps of the forecasts that tell; a forecaster that cannot go on from its own states takes one."""
        return 1 if self.runs[0].config.data.direct else max(1, round(_LEAD / self.step))

    def _verified(self) -> tuple[StateReader, np.ndarray, str]:
        """A store, rows of its time axis (init, input times and the time that verifies), and which or why none."""
        data = self.runs[0].config.data
        if data.validation:
            try:
                training = self.reader
                if data.path != self.reader.path:
                    training = StateReader.open(
                        data.path,
                        self.reader.channels,
                        self.reader.normalisation,
                        self.reader.grid,
                        time=data.validation,
                    )
                rows = self._chosen(training, _within(training.times, data.validation))
                if len(rows):
                    return training, rows, f"from the validation period {data.validation} of {training.path}"
            except UserError:
                pass  # the training store need not be where the forecast is made
            rows = self._chosen(self.reader, _within(self.reader.times, data.validation))
            if len(rows):
                return self.reader, rows, f"from the validation period {data.validation}, in {self.reader.path}"
        why = (
            "the run has no validation period" if not data.validation else "the run's validation period is not at hand"
        )
        times = self.reader.times
        own = (times >= self.starts.min()) & (times <= self.starts.max() + self.lead)
        rows = self._chosen(self.reader, ~own)
        if len(rows):
            return self.reader, rows, f"from times of {self.reader.path} outside of this forecast's, since {why}"
        rows = self._chosen(self.reader, np.ones(times.size, bool))
        if len(rows):
            return self.reader, rows, f"from the very period that is forecast, since {why} and there is no other"
        return self.reader, rows, f"{why} and {self.reader.path} has no whole states a day apart"

    def _chosen(self, reader: StateReader, allowed: np.ndarray) -> np.ndarray:
        """Up to eight evenly spaced initial times with all their states: rows of these, (init, t)."""
        times, inputs = reader.times, self.runs[0].config.data.input_steps
        rows = history_rows(reader, times, self.input_step, inputs)
        verifying = history_rows(reader, times + self._steps * self.step, self.step, 1)
        # Breeding runs over the states before.
        before = self.perturber.states_before(reader)
        earlier = history_rows(reader, times - self.step, self.step, before)
        rows = np.concatenate([earlier, rows, verifying], axis=1)
        rows = rows[(rows >= 0).all(axis=1)]
        rows = rows[allowed[rows].all(axis=1)] if len(rows) else rows
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 2 * _INITS)).round().astype(int))]
        good = [usable_states(reader, row[None], allow_implausible=self.allow_implausible)[1][0] for row in rows]
        rows = rows[np.array(good, bool)]
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _INITS)).round().astype(int))]
        return rows[:, before:]

    def _excess(self, reader: StateReader, rows: np.ndarray, members: int, amplitude: float) -> float:
        """Mean over channels of log(spread × √((M + 1)/M) / error of the mean); infinite where forecasts are not finite."""
        starts = reader.times[rows[:, -2]]
        initial = InitialStates(reader, starts, rows[:, :-1], self.perturber(reader, amplitude))
        parts = sorted(batches(len(starts), members, len(self.runs), self.batch_size), key=lambda batch: batch.inits[0])
        spread: np.ndarray | float = 0.0
        error: np.ndarray | float = 0.0
        for first in sorted({int(batch.inits[0]) for batch in parts}):
            group = [batch for batch in parts if batch.inits[0] == first]
            truth = states_as_they_are(reader, rows[group[0].inits, -1])
            total = [np.zeros_like(array) for array in truth]
            squares = [np.zeros_like(array) for array in truth]
            for batch in group:
                inits, numbers = batch.filled
                times = starts[inits][:, None] + self.step * np.arange(self._steps + 1)
                history = initial.histories(batch.run, inits, numbers)
                forcing = jnp.asarray(phases(times))
                run = self.runs[batch.run].parts
                chance = Chance.begin(run, self.perturber.random.seed, starts[inits], numbers)
                scales = self.perturber.scales[batch.run]
                _, _, states = propagate(run, history, scales, forcing, chance, leads=self._steps)
                for index, array in enumerate(map_fields(lambda array: np.asarray(array[-1]), states)):
                    shape = (len(batch.inits), len(batch.members), *array.shape[1:])
                    wrong = array[batch.places].reshape(shape) - truth[index][:, None]
                    total[index] += wrong.sum(axis=1)
                    squares[index] += np.square(wrong).sum(axis=1)
            spread = spread + self._mean([(q - s**2 / members) / (members - 1) for q, s in zip(squares, total)])
            error = error + self._mean([np.square(s / members) for s in total])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = 0.5 * np.log(np.asarray(spread) / np.asarray(error) * (members + 1) / members)
        ratio = ratio[channel_weights(reader.channels, self.runs[0].config.loss) > 0]
        return float(np.mean(ratio)) if np.isfinite(ratio).all() else np.inf

    def _mean(self, squares: list[np.ndarray]) -> np.ndarray:
        """Sums over initial times of area means, by channel; a wind's components together, missing values as none."""
        scalar, eastward, northward = squares
        joined = np.concatenate([scalar, eastward + northward], axis=-1).astype(np.float64)
        joined = np.where(np.isnan(joined) & gap_channels(self.reader), 0.0, joined)
        return np.einsum("nyxc,y->c", joined, np.asarray(self.perturber.scales[0].area, np.float64))


def _within(times: np.ndarray, period: str) -> np.ndarray:
    """Which times lie in the period A:B."""
    axis = xr.DataArray(np.arange(times.size), dims="time", coords={"time": times})
    inside = np.zeros(times.size, bool)
    inside[axis.sel(time=parse_period(period)).values] = True
    return inside


def _root(excess: Callable[[float], float]) -> tuple[float, float]:
    """Where a function that grows with the amplitude is zero, and what is left there.

    In logarithms it is near a line of slope 1; a bracket keeps the secant in bounds.
    """
    low, high = np.log(_RANGE)
    at, tried = np.log(_FIRST), []
    for _ in range(_TRIALS):
        tried.append((at, excess(float(np.exp(at)))))
        left = tried[-1][1]
        if abs(left) < _CLOSE or (left < 0 and at >= np.log(_RANGE[1])) or (left > 0 and at <= np.log(_RANGE[0])):
            break
        low, high = (at, high) if left < 0 else (low, at)
        slope = 1.0
        if len(tried) > 1 and np.isfinite(tried[-2][1]):
            slope = max((left - tried[-2][1]) / (at - tried[-2][0]), 0.1)
        at = np.clip(at - left / slope, low, high) if np.isfinite(left) else 0.5 * (low + high)
        if any(abs(at - before) < 1e-6 for before, _ in tried):
            at = 0.5 * (low + high)
    at, left = min(tried, key=lambda each: abs(each[1]))
    return float(np.exp(at)), left
