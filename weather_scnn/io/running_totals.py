"""Totals that run since the start of a day or of a forecast, told by their pattern and made totals of one interval.

ERA5-Land's grow from 01 to 00 UTC and fall back; summed as hourly totals they give 3.5 to 21.5 times the rain. No
attribute says so, but the values do: maps that do not fall from one time to the next but once a day, at the same hour,
everywhere, are running totals. Of plain totals some part of the globe falls at every time, or nothing ever does.
Cycles of three to twelve hours tell themselves likewise, and so do totals since the start of a forecast of many days,
which only grow: the latter are refused, for where they began is not known.
GRIB says it by its steps, and needs no reading.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.naming import lookup, window_name
from weather_scnn.errors import UserError
from weather_scnn.io.accumulations import clipped
from weather_scnn.io.canonical import take
from weather_scnn.io.notes import Notes, logger, note

_HOUR = np.timedelta64(1, "h")
# Two days confirm a pattern; one time more is needed to see the second fall.
_SEEN_HOURS = 49
_SAMPLE_POINTS = 20_000
# A fall that packing makes, beside the greatest value of the two maps.
_ROUNDING = 1e-3
_FEW, _MANY, _MOST = 0.02, 0.6, 0.8
_MAPS_AT_ONCE = 8
# Of the mean of magnitudes from one time to the next: fluxes of either sign do not fall everywhere at once.
_COLLAPSE = 0.6
# Of the steps between the starts of short cycles those that must grow without a fall; weather does that never.
_NEARLY_ALL = 0.9
# How much a total that never begins anew has grown, at the least, and in how many steps.
_GROWTH, _GROWING_STEPS = 2.0, 3


@dataclasses.dataclass(frozen=True)
class RunningTotal:
    """How totals run.

    Attributes:
        hours: since they began, at every time of the field.
        interval: hours between times.
        words: since when, for people.
    """

    hours: np.ndarray
    interval: float
    words: str

    def predecessors(self, times: np.ndarray) -> np.ndarray:
        """Position of the time to take off each: −1 where a total begins, −2 where that time is missing."""
        index = pd.DatetimeIndex(times)
        before = index.get_indexer(index - pd.Timedelta(hours=self.interval))
        begins = np.isclose(self.hours, self.interval)
        matches = (before >= 0) & np.isclose(self.hours[before], self.hours - self.interval)
        return np.where(begins, -1, np.where(matches, before, -2))


def _interval(times: np.ndarray) -> float:
    """Hours of the commonest interval; NaN without two times."""
    if times.size < 2:
        return math.nan
    lengths, counts = np.unique(np.diff(times), return_counts=True)
    return float(lengths[counts.argmax()] / _HOUR)


def declared(array: xr.DataArray) -> RunningTotal | None:
    """By the steps of forecasts, each total running since the start of its own."""
    hours = np.asarray(array["step"].values, np.float64)
    interval = _interval(array["time"].values)
    starts = np.unique((array["time"].values - (hours * 3600).astype("timedelta64[s]")).astype("datetime64[h]"))
    of_day = sorted({f"{int((start - start.astype('datetime64[D]')) / _HOUR):02d}" for start in starts[:48]})
    if not interval > 0:
        return RunningTotal(hours, float(hours[0]), f"{' and '.join(of_day)} UTC")
    return RunningTotal(hours, interval, f"{' and '.join(of_day)} UTC")


@dataclasses.dataclass
class _Step:
    """What happens to a field from one time to the next."""

    falls: bool
    rises: bool


def _step(before: np.ndarray, after: np.ndarray, *, signed: bool) -> _Step:
    """Whether a field falls, and whether it grows, from one map to the next, beyond what packing does."""
    size = max(float(np.nanmax(np.abs(before), initial=0.0)), float(np.nanmax(np.abs(after), initial=0.0)))
    if not size > 0:
        return _Step(False, False)
    if signed:
        earlier, later = float(np.nanmean(np.abs(before))), float(np.nanmean(np.abs(after)))
        return _Step(later < (1 - _FEW * 5) * earlier, later > earlier * (1 + _ROUNDING))
    change = after - before
    active = np.maximum(before, after) > _ROUNDING * size
    count = max(1, int(active.sum()))
    falling = int((active & (change < -_ROUNDING * size)).sum()) / count
    rising = int((active & (change > _ROUNDING * size)).sum()) / count
    return _Step(falling > _FEW, rising > _FEW)


def _collapse(before: np.ndarray, after: np.ndarray, *, signed: bool) -> float:
    """Of a fall to a small part, as of a total which begins anew, the share of the places that fall; 0 of another."""
    earlier, later = float(np.nanmean(np.abs(before))), float(np.nanmean(np.abs(after)))
    if signed:
        return float(later < _COLLAPSE * earlier)
    active = before > _ROUNDING * float(np.nanmax(before))
    return float((after[active] < before[active]).mean()) if active.any() and later < earlier else 0.0


def told_by_pattern(name: str, array: xr.DataArray, where: str) -> RunningTotal | None:
    """Whether a field runs since the start of its day or forecast; None if it does not or cannot be told.

    Maps are read until plain totals show, after three as a rule, else over two days: at the start of the record, and in
    its middle and near its end where nothing falls or rises before.

    Args:
        name: canonical, of an accumulation.
        array: lazy, with times ascending.
        where: what it was read from, for messages.

    Raises:
        UserError: it only grows, over more than a day.
    """
    variable = lookup(name)
    times = array["time"].values
    interval = _interval(times)
    if variable is None or not 0 < interval <= 12 or 24 % interval:
        return None
    a_day = round(24 / interval)
    count = min(times.size, math.ceil(_SEEN_HOURS / interval))
    if count < min(a_day, 4) + 1:
        return None
    for first in dict.fromkeys((0, (times.size - count) // 2, times.size - count)):
        plain, result = _look(array, first, count, interval, signed=not variable.never_negative, named=(name, where))
        if plain or result is not None:
            return result
    return None


def _maps(sample: xr.DataArray, positions: range) -> Iterator[tuple[int, np.ndarray]]:
    """Each map as float64, read some at a time."""
    for begin in range(positions.start, positions.stop, _MAPS_AT_ONCE):
        end = min(begin + _MAPS_AT_ONCE, positions.stop)
        # The first few tell most fields.
        for start, stop in ((begin, min(begin + 3, end)), (min(begin + 3, end), end)):
            if start == stop:
                continue
            part = sample.isel(time=slice(start, stop)).compute(scheduler="synchronous")
            values = np.asarray(part.transpose("time", ...).values, np.float64)
            values = np.where(np.abs(values) < 1e30, values, np.nan)
            yield from zip(range(start, stop), values)


def _in_proportion(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    """Whether two maps are the same but for a factor, as no weather of two hours is."""
    if first is None or second is None:
        return True
    sizes = [float(np.nanmean(np.abs(each))) for each in (first, second)]
    if not min(sizes) > 0:
        return True
    return float(np.nanmax(np.abs(first / sizes[0] - second / sizes[1]), initial=0.0)) < 0.1


def _only_growing(
    times: np.ndarray, interval: float, growth: float, seen: slice, named: tuple[str, str]
) -> RunningTotal:
    """Totals that begin nowhere anew: since 00 UTC, where they are of one day.

    Raises:
        UserError: since when they run is not known.
    """
    day = (times[0] - np.timedelta64(1, "s")).astype("datetime64[D]")
    hours = (times - day) / _HOUR
    if hours.max() <= 24 and (hours[0] > interval or growth > hours.size / 3):
        return RunningTotal(hours, interval, "00 UTC")
    name, where = named
    begin, end = (np.datetime_as_string(time, "h") for time in times[seen][[0, -1]])
    raise UserError(
        f"{name} falls nowhere from {begin} to {end}, so it is a total since the start of a forecast, not over each interval",
        where=where,
        remedy="take differences of consecutive times first, as with `cdo deltat`, or leave it out with --variables",
    )


def _look(
    array: xr.DataArray, first: int, count: int, interval: float, *, signed: bool, named: tuple[str, str]
) -> tuple[bool, RunningTotal | None]:
    """(whether these are plain totals, how they run) from some consecutive maps; neither where nothing moves."""
    times = array["time"].values
    sample = array
    for dim in ("latitude", "longitude"):
        stride = max(1, round(math.sqrt(array.sizes["latitude"] * array.sizes["longitude"] / _SAMPLE_POINTS)))
        sample = sample.isel({dim: slice(None, None, stride)})
    falls: list[int] = []  # hours of the day after which a total begins anew
    rises, steps, before = 0, 0, None
    last_fall, moved, partly = -2, False, False
    increments: list[np.ndarray] = []  # the first and the last
    sizes: list[float] = []
    for position, values in _maps(sample, range(first, first + count)):
        moved = moved or bool(np.nanmax(np.abs(values), initial=0.0) > 0)
        if position > first and times[position] - times[position - 1] != np.timedelta64(round(interval * 3600), "s"):
            before = None
        if before is not None and np.isfinite(values).any() and np.isfinite(before).any():
            step = _step(before, values, signed=signed)
            steps += 1
            if step.rises and not step.falls:
                rises += 1
                increments = [*increments[:1], values - before]
            sizes.append(float(np.nanmean(np.abs(values))))
            if step.falls:
                share = _collapse(before, values, signed=signed)
                if position - last_fall == 1 or share < _MANY:
                    return True, None
                partly = partly or share < _MOST
                last_fall = position
                falls.append(int((times[position - 1] - times[position - 1].astype("datetime64[D]")) / _HOUR))
        before = values
        if moved and not falls and steps > 24 / interval and rises < _NEARLY_ALL * steps:
            return True, None  # a day without an end of a total
    alike = len(increments) < 2 or _in_proportion(*increments)
    if not falls and steps >= _GROWING_STEPS and rises >= _NEARLY_ALL * steps and not alike:
        # After the first interval: the map before it may be that of the start, where all is 0.
        growth = sizes[-1] / sizes[0] if sizes[0] > 0 else math.inf
        if growth > _GROWTH:
            return False, _only_growing(times, interval, growth, slice(first, first + count), named)
    if not falls or rises < max(2 if interval < 6 else 1, (steps - len(falls)) // 4):
        return False, None
    starts = sorted(set(falls))
    cycle = 24 // len(starts)
    if any((start - starts[0]) % cycle for start in starts) or cycle <= interval:
        return True, None
    # Forecasts start once or twice a day as a rule; of shorter cycles more is asked.
    if (len(starts) > 2 or partly) and (alike or rises < _NEARLY_ALL * (steps - len(falls))):
        return True, None
    expected = {int(start) for start in (starts[0] + np.arange(len(starts)) * cycle) % 24}
    if expected != set(starts):
        return True, None
    seen = sum(
        int((time - time.astype("datetime64[D]")) / _HOUR) in starts for time in times[first : first + count - 1]
    )
    if len(falls) < seen - 1:  # at one of them nothing may have been there to fall
        return True, None
    since = (times - times.astype("datetime64[D]")) / _HOUR - starts[0]
    hours = np.mod(since - 1e-6, cycle) + 1e-6
    *before_last, last = (f"{start:02d}" for start in starts)
    return False, RunningTotal(hours, interval, f"{', '.join(before_last)} and {last} UTC".removeprefix(" and "))


def decumulated(name: str, array: xr.DataArray, running: RunningTotal, where: str, notes: Notes) -> xr.DataArray:
    """Totals of one interval from running ones, under the name that has their window; NaN where one is missing.

    Raises:
        UserError: times are further apart than totals run.
    """
    hours = running.interval
    if not (running.hours >= hours - 1e-6).all():
        raise UserError(
            f"{name} is a total since {running.words} at each time, and the times do not fit that",
            where=where,
            remedy=f"give times every {hours:g} h from then on",
        )
    before = running.predecessors(array["time"].values)
    dataset = array.drop_vars("step", errors="ignore").to_dataset(name="field")
    if (before == -1).all():
        result = dataset["field"]
    else:
        earlier = take(dataset, "time", np.maximum(before, 0))["field"].assign_coords(time=array["time"])
        kind = xr.DataArray(before, dims="time", coords={"time": array["time"]})
        result = xr.where(kind == -1, dataset["field"], dataset["field"] - earlier.where(kind >= 0))
        result = result.astype(np.float32).transpose(*dataset["field"].dims)
    total = window_name(name, hours)
    variable = lookup(total) or lookup(name)
    if variable is not None and variable.never_negative:
        result = clipped(result, total)
    result.attrs = {**array.attrs, **(variable.attributes if variable is not None else {})}
    result.encoding = dict(array.encoding)
    logger.warning("%s is a total since %s at each time; totals of %g h are made of it", name, running.words, hours)
    note(notes, "running_totals", total, f"totals since {running.words}, made totals of {hours:g} h")
    return result.rename(total)
