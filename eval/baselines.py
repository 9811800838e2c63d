"""Forecasts that need no model, made from the truth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from eval.field_reading import KeptFields
from weather_scnn.errors import UserError
from weather_scnn.io.periods import parse_period

PERSISTENCE, CLIMATOLOGY = "persistence", "climatology"
WEEKLY, PROBABILISTIC = "weekly-climatology", "probabilistic-climatology"
BASELINES = (PERSISTENCE, CLIMATOLOGY, WEEKLY, PROBABILISTIC)
#: The same at a valid time, whatever the initial time.
BY_VALID_TIME = (CLIMATOLOGY, WEEKLY, PROBABILISTIC)
EXPLANATIONS = {
    PERSISTENCE: "The state at the start of the forecast, unchanged: the simplest forecast there is.",
    CLIMATOLOGY: "The usual weather of the date and hour, the same whatever the weather was at the start.",
    WEEKLY: "The usual weather of the week of the year, as WeatherBench's first version has it.",
    PROBABILISTIC: "The weather of the same date in many years, as an ensemble of equal members.",
}
_FEWEST_MEMBERS = 2
_TIMES_PER_READ = 64


def known_baselines(names: Sequence[str], *, climatology: bool) -> tuple[str, ...]:
    """The baselines asked for, each once; names may be written with underscores.

    Args:
        names: as the user wrote them.
        climatology: whether a climatology is given, or follows from the truth.

    Raises:
        UserError: an unknown baseline, or climatology where none is given.
    """
    wanted = tuple(dict.fromkeys(name.replace("_", "-") for name in names))
    for name in wanted:
        if name not in BASELINES:
            raise UserError(f"the baseline {name!r} is not known", remedy="choose from " + ", ".join(BASELINES))
    if CLIMATOLOGY in wanted and not climatology:
        raise UserError(
            "the baseline `climatology` needs a climatology",
            remedy="make one with `weather-scnn climatology` and give it as --climatology",
        )
    return wanted


def baseline_times(times: np.ndarray, scored: np.ndarray, period: str | None, *, where: str) -> np.ndarray:
    """Positions of the truth's times that baselines are made from.

    Args:
        times: of the truth.
        scored: init and valid times.
        period: "A:B"; None for all calendar years in which nothing is scored.
        where: path of the truth.

    Raises:
        UserError: there is none.
    """
    if period is not None:
        index = xr.DataArray(np.arange(times.size), dims="time", coords={"time": times})
        positions = index.sel(time=parse_period(period)).values
    else:
        positions = np.flatnonzero(~np.isin(times.astype("datetime64[Y]"), scored.astype("datetime64[Y]")))
    if not positions.size:
        raise UserError(
            "the truth holds no times to make the baselines from"
            + (f" in {period}" if period else ": all its years are scored"),
            where=where,
            remedy="give --baseline-years A:B of years the truth holds, or leave those baselines out",
        )
    return positions


def iso_weeks(times: np.ndarray) -> np.ndarray:
    """Week of the year, 1 to 53 (ISO 8601), as WeatherBench's weekly climatology counts them."""
    return pd.DatetimeIndex(times).isocalendar().week.to_numpy(np.int64)


def mean_by_key(reader: KeptFields, name: str, positions: np.ndarray, keys: np.ndarray) -> dict[int, np.ndarray]:
    """Means of a variable's fields at `positions`, one for each key; points that are NaN are left out, in float64."""
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, np.ndarray] = {}
    for begin in range(0, positions.size, _TIMES_PER_READ):
        part = slice(begin, begin + _TIMES_PER_READ)
        for key, field in zip(keys[part].tolist(), reader.fields(name, positions[part])):
            valid = np.isfinite(field)
            if key not in sums:
                sums[key], counts[key] = np.zeros(field.shape), np.zeros(field.shape)
            sums[key] += np.where(valid, field, 0.0)
            counts[key] += valid
    with np.errstate(invalid="ignore", divide="ignore"):
        return {key: total / np.where(counts[key] > 0, counts[key], np.nan) for key, total in sums.items()}


def weekly_means(
    reader: KeptFields, name: str, times: np.ndarray, positions: np.ndarray, *, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """The weekly climatology: weeks present, and their means of shape (week[, level], latitude, longitude).

    Raises:
        UserError: a week of 1 to 52 has no time.
    """
    means = mean_by_key(reader, name, positions, iso_weeks(times[positions]))
    absent = sorted(set(range(1, 53)) - set(means))
    if absent:
        raise UserError(
            f"week {absent[0]} has no times to make the weekly climatology from",
            where=where,
            remedy="give --baseline-years of whole years",
        )
    weeks = np.array(sorted(means))
    return weeks, np.stack([means[week] for week in weeks.tolist()])


def week_positions(weeks: np.ndarray, valid_times: np.ndarray) -> np.ndarray:
    """Position in `weeks` for each valid time; the last week stands in for a week 53 that is absent."""
    return np.minimum(np.searchsorted(weeks, iso_weeks(valid_times)), weeks.size - 1)


def same_dates(times: np.ndarray, positions: np.ndarray, valid_times: np.ndarray, *, where: str) -> np.ndarray:
    """Times of other years with each valid time's month, day and hour: the members of the probabilistic climatology.

    Args:
        times: of the truth, ascending.
        positions: those that may be used.
        valid_times: ascending.
        where: path of the truth.

    Returns:
        Positions in `times`, shape (valid time, year): only years that have all the dates; 28 February stands in for
        29 February.

    Raises:
        UserError: fewer than 2 years have them.
    """
    usable = {int(times[position].astype("datetime64[ns]").astype(np.int64)): int(position) for position in positions}
    columns = []
    for year in np.unique(times[positions].astype("datetime64[Y]").astype(np.int64) + 1970):
        column = []
        for valid in pd.DatetimeIndex(valid_times):
            day = (
                28
                if (valid.month, valid.day) == (2, 29) and not pd.Timestamp(year=year, month=1, day=1).is_leap_year
                else valid.day
            )
            position = None if valid.year == year else usable.get(valid.replace(year=int(year), day=day).value)
            if position is None:
                break
            column.append(position)
        else:
            columns.append(column)
    if len(columns) < _FEWEST_MEMBERS:
        raise UserError(
            f"{len(columns)} years of the truth hold the dates of all valid times; a probabilistic climatology needs "
            f"{_FEWEST_MEMBERS}",
            where=where,
            remedy="give truth of more years, or --baseline-years that are not scored",
        )
    return np.array(columns).T
