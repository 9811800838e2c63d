"""The truth's sums that long rollouts are held against: of the same kind, over the times of a store."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import rich.progress
from jaxtyping import Bool, Float, Int

from weather_scnn.errors import UserError
from weather_scnn.io.restart_file import RestartFile
from weather_scnn.io.writing import Record
from weather_scnn.nn import Fields
from weather_scnn.progress import progress_bar
from weather_scnn.training.long_rollout import BlockSums, SumConstants, joined, state_sums
from weather_scnn.training.states import StateReader

#: The mean Gregorian year.
YEAR, DAY = np.timedelta64(31556952, "s"), np.timedelta64(24, "h")
BINS = 50
# Times of the store that say where histograms begin and end, and what sums are taken about.
_SAMPLED = 64
_DAYS_READ = 4


def sampled(reader: StateReader) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (y, x, F), and least and greatest value (F,), of standardised states at up to 64 times over the store."""
    size = reader.times.size
    total: Any = 0.0
    count: Any = 0
    low, high = np.inf, -np.inf
    for row in np.unique(np.linspace(0, size - 1, min(size, _SAMPLED)).round().astype(int)):
        state = joined(Fields(*reader.read_at(np.array([row]), judged=True)))[0].astype(np.float64)  # type: ignore[arg-type]
        known = np.isfinite(state)
        total, count = total + np.where(known, state, 0.0), count + known
        low = np.minimum(low, np.where(known, state, np.inf).min(axis=(0, 1)))
        high = np.maximum(high, np.where(known, state, -np.inf).max(axis=(0, 1)))
    return total / np.maximum(count, 1), np.asarray(low), np.asarray(high)


def histogram_range(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower end and bins a unit of `BINS` bins, a tenth wider on both sides than the values that were seen."""
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 1.0)
    wide = np.maximum(high - low, 1e-6)
    return low - 0.1 * wide, BINS / (1.2 * wide)


@dataclasses.dataclass(frozen=True)
class Days:
    """Whole days of a store, as a rollout has them: the states of the day that ends at the initial time's hour.

    Attributes:
        ends: of the days, ascending, (n,).
        rows: of their states on the time axis, (n, k).
    """

    ends: np.ndarray
    rows: Int[np.ndarray, "n k"]

    @classmethod
    def of(cls, times: np.ndarray, anchor: np.datetime64, step: np.timedelta64) -> "Days":
        """Those of which no step is missing.

        Raises:
            UserError: there is none.
        """
        per_day = int(DAY / step)
        order = np.argsort(times)
        order = order[(times[order] - anchor) % step == np.timedelta64(0, "ns")]
        day = (((times[order] - anchor) // step).astype(np.int64) - 1) // per_day
        whole, first, counts = np.unique(day, return_index=True, return_counts=True)
        whole, first = whole[counts == per_day], first[counts == per_day]
        if not whole.size:
            raise UserError(
                f"no day of the store has all its times, {step / np.timedelta64(1, 'h'):g} h apart",
                remedy="give a store of whole days at the forecaster's step",
            )
        return cls(anchor + (whole + 1) * DAY, order[first[:, None] + np.arange(per_day)])

    @functools.cached_property
    def years(self) -> Int[np.ndarray, " n"]:
        """See `whole_years`."""
        return whole_years(self.ends)

    def window(self, start: np.datetime64, length: np.timedelta64) -> Bool[np.ndarray, " n"]:
        """See `season`."""
        return season(self.ends, start, length)


def whole_years(ends: np.ndarray) -> Int[np.ndarray, " n"]:
    """Number of the year since the first of some days, which are named by their ends; −1 beyond the last whole one."""
    number = ((ends - ends[0]) // YEAR).astype(np.int64)
    span = ends[-1] - ends[0] + 2 * DAY  # 365 days are a year, too
    return np.where(number < span // YEAR, number, -1)


def season(ends: np.ndarray, start: np.datetime64, length: np.timedelta64) -> Bool[np.ndarray, " n"]:
    """Days, by their ends, of the same season in any year; from about a year on all whole years, or all there are."""
    if length + DAY >= YEAR:
        years = whole_years(ends)
        return years >= 0 if (years >= 0).any() else np.ones(years.size, bool)
    since: Any = ends - DAY // 2 - np.asarray(start)
    return since % YEAR < length


@dataclasses.dataclass(frozen=True)
class Truth:
    """Sums over a store; values are standardised, and less the reference where they are so in `BlockSums`.

    Attributes:
        days: of the store.
        means, dry: of each day, (n, r, F) and (n, p); NaN where states have missing values.
        mean, deviation: over the days of each window, (w, y, x, F).
        counted: days of each window.
        histogram: share of the area, (w, F, bins).
        power: over the days of each window of spectra, (v, l, c + d).
        spread: standard deviation of yearly means, (y, x, F); NaN with fewer than two years.
        years: whole years.
    """

    days: Days
    means: Float[np.ndarray, "n r F"]
    dry: Float[np.ndarray, "n p"]
    mean: Float[np.ndarray, "w y x F"]
    deviation: Float[np.ndarray, "w y x F"]
    counted: Int[np.ndarray, " w"]
    histogram: Float[np.ndarray, "w F bins"]
    power: Float[np.ndarray, "v l channel"]
    spread: Float[np.ndarray, "y x F"]
    years: int


def moments(total: np.ndarray, squares: np.ndarray, count: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation from sums."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean * mean, 0.0))


class TruthSums:
    """Adds up the days of a store, read once.

    Args:
        reader: of the store.
        days: of it.
        constants: of the sums.
        windows: days of each window of maps and histograms, (w, n).
        spectrum_windows: of each window of spectra, (v, n).
        allow_implausible: whether values may be what the catalogue finds impossible.
    """

    def __init__(
        self,
        reader: StateReader,
        days: Days,
        constants: SumConstants,
        windows: Bool[np.ndarray, "w n"],
        spectrum_windows: Bool[np.ndarray, "v n"],
        *,
        allow_implausible: bool,
    ):
        self.reader, self.days, self.constants = reader, days, constants
        self.windows, self.spectrum_windows, self.judged = windows, spectrum_windows, allow_implausible

    def __call__(self, record: Record, *, progress: bool) -> Truth:
        """The truth, from the record where an earlier run has finished it."""
        if "truth" in record.done:
            return self._truth(record.load("truth"))
        restart = RestartFile(record, "truth")
        state = restart.load() or self._begun()
        count, per_day = self.days.rows.shape
        with progress_bar(rich.progress.MofNCompleteColumn(), "days", enabled=progress) as bar:
            task = bar.add_task("truth", total=count, completed=int(state["position"]))
            for first in range(int(state["position"]), count, _DAYS_READ):
                rows = self.days.rows[first : first + _DAYS_READ]
                states = self.reader.read_at(rows.ravel(), judged=self.judged)
                for place in range(len(rows)):
                    part = slice(place * per_day, (place + 1) * per_day)
                    day = Fields(*(jnp.asarray(array[part]) for array in states))
                    sums = state_sums(day, self.constants, jnp.asarray(first + place, jnp.int32), per_day=per_day)
                    self._add(state, first + place, jax.tree.map(np.asarray, sums))
                state["position"] = np.asarray(first + len(rows))
                restart.offer(state)
                bar.update(task, completed=first + len(rows))
        self._close_year(state)
        record.save("truth", state)
        restart.remove()
        return self._truth(state)

    def _begun(self) -> dict[str, Any]:
        count, windows, fields = len(self.days.ends), len(self.windows), self.constants.reference.shape[-1]
        maps = self.constants.reference.shape
        transform = self.constants.transform
        assert transform is not None
        channels = len(self.reader.channels.describe())
        return {
            "position": np.asarray(0),
            "means": np.full((count, len(self.constants.area), fields), np.nan),
            "dry": np.full((count, len(self.constants.dry_fields)), np.nan),
            "total": np.zeros((windows, *maps)),
            "squares": np.zeros((windows, *maps)),
            "counted": np.zeros(windows, np.int64),
            "histogram": np.zeros((windows, fields, self.constants.bins)),
            "power": np.zeros((len(self.spectrum_windows), transform.max_degree + 1, channels)),
            "power_days": np.zeros(len(self.spectrum_windows), np.int64),
            "year": np.asarray(0),
            "year_total": np.zeros(maps),
            "year_days": np.asarray(0),
            "yearly": np.zeros(maps),
            "yearly_squares": np.zeros(maps),
            "years": np.asarray(0),
        }

    def _add(self, state: dict[str, Any], number: int, sums: BlockSums) -> None:
        """Adds one day, unless it has values that are missing where none may be."""
        if not (np.isfinite(sums.low).all() and np.isfinite(sums.high).all()):
            return
        assert sums.histogram is not None and sums.power is not None
        state["means"][number] = sums.means[0, :, 0].astype(np.float64).mean(axis=0)
        state["dry"][number] = sums.dry[0, :, 0].astype(np.float64).mean(axis=0)
        inside = self.windows[:, number]
        for window in np.flatnonzero(inside):
            state["total"][window] += sums.total[0]
            state["squares"][window] += sums.squares[0]
            state["histogram"][window] += sums.histogram[0]
        state["counted"] += inside
        inside = self.spectrum_windows[:, number]
        state["power"][inside] += sums.power[0, 0]
        state["power_days"] += inside
        year = self.days.years[number]
        if year >= 0:
            if year != state["year"]:
                self._close_year(state)
                state["year"] = np.asarray(year)
            state["year_total"] += sums.total[0]
            state["year_days"] += 1

    def _close_year(self, state: dict[str, Any]) -> None:
        if not state["year_days"]:
            return
        mean = state["year_total"] / (state["year_days"] * self.days.rows.shape[1])
        state["yearly"] += mean
        state["yearly_squares"] += mean * mean
        state["years"] += 1
        state["year_total"][:] = 0.0
        state["year_days"] = np.asarray(0)

    def _truth(self, state: dict[str, Any]) -> Truth:
        counted = state["counted"]
        mean, deviation = moments(
            state["total"], state["squares"], (counted * self.days.rows.shape[1])[:, None, None, None]
        )
        years = int(state["years"])
        spread = np.full(mean.shape[1:], np.nan)
        if years > 1:
            spread = moments(state["yearly"], state["yearly_squares"], years)[1] * np.sqrt(years / (years - 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            histogram = state["histogram"] / state["histogram"].sum(axis=-1, keepdims=True)
            power = state["power"] / state["power_days"][:, None, None]
        return Truth(self.days, state["means"], state["dry"], mean, deviation, counted, histogram, power, spread, years)


def cycled(times: np.ndarray, wanted: np.ndarray, where: str) -> np.ndarray:
    """Rows of a store for times that may lie beyond its end: there its last whole years come again and again.

    Args:
        times: of the store, ascending.
        wanted: of any shape.
        where: the store, for the message.

    Raises:
        UserError: it has less than a whole year and would have to come again, or lacks a time.
    """
    flat, last = np.ravel(wanted).astype("datetime64[ns]"), times[-1]
    beyond = flat > last
    if beyond.any():
        follows = last + (times[1] - times[0] if times.size > 1 else DAY)
        years = 0
        while _earlier(follows, years + 1) >= times[0]:
            years += 1
        if not years:
            raise UserError(
                f"ends at {np.datetime_as_string(last, 'm')} and holds no whole year that could come again",
                where=where,
                remedy="give a store of a year at least, or a shorter run",
            )
        flat = flat.copy()
        while (late := flat > last).any():
            flat[late] = [_earlier(each, years) for each in flat[late]]
    rows = np.minimum(np.searchsorted(times, flat), times.size - 1)
    missing = times[rows] != flat
    if missing.any():
        raise UserError(
            f"lacks {np.datetime_as_string(flat[missing][0], 'm')}, at which a prescribed field is needed",
            where=where,
            remedy="give a store without gaps from the initial time on",
        )
    return rows.reshape(np.shape(wanted))


def _earlier(time: np.datetime64, years: int) -> np.datetime64:
    """The same calendar day and hour some years before; 28 February for the 29th."""
    return (pd.Timestamp(time) - pd.DateOffset(years=years)).to_datetime64()
