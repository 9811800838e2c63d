"""Times of one source dataset: decoding, forecast steps, and the period that a store declares filled."""

import re

import cftime
import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.notes import Notes, logger, note

_LONGEST_LEAD_HOURS = 24.0
# What nanoseconds in 64 bits hold.
_YEARS = (1678, 2261)
# Times this near to a minute are meant to be on it.
_OFF = np.timedelta64(500, "ms")
# The climate data operators' absolute times: 20200131.25 is 06 UTC of that day.
_DATES_AS_NUMBERS = re.compile(r"\s*days? as %Y%m%d(?P<fraction>\.%f)?\s*$")
_TEXT = re.compile(r"\d{4}-?\d\d-?\d\d(?:[T _]?\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?Z?)?")


_AS_ISO = "write times as in 2020-01-31T06:00, or as CF times: numbers with a unit such as 'hours since 1940-01-01'"


def decoded_times(dataset: xr.Dataset, where: str, notes: Notes) -> pd.DatetimeIndex:
    """The time coordinate as timestamps; numbers need a unit in `units` or in the root's `time_units`.

    Times that are off a minute by less than they were stored to are rounded, with a note: `days since` with six decimals
    is exact to 0.04 s, float32 to minutes.

    Raises:
        UserError: they do not read as times, or lie beyond what nanoseconds of 64 bits hold.
    """
    time = dataset["time"]
    values = np.atleast_1d(time.values)
    if values.dtype.kind in "USO" and all(isinstance(each, str | bytes) for each in values):
        values = _from_text(values, where)
    if values.dtype.kind in "iuf" and (dates := _DATES_AS_NUMBERS.match(str(time.attrs.get("units", "")))):
        values = _from_dates(values.astype(np.float64), dates["fraction"] is not None, where)
    if values.dtype.kind == "M":
        index = pd.DatetimeIndex(values)
        if not index.hasnans:
            _require_years(index.min().year, index.max().year, where)
    elif values.dtype.kind in "iuf":
        text = str(time.attrs.get("units") or dataset.attrs.get("time_units") or "")
        text = re.sub(r"\s*\(.*\)\s*$", "", text)
        calendar = str(time.attrs.get("calendar", "proleptic_gregorian"))
        try:
            decoded = xr.decode_cf(
                xr.Dataset({"time": ("time", values, {"units": text, "calendar": calendar})}),
                decode_times=xr.coders.CFDatetimeCoder(time_unit="us"),
            )
            if decoded["time"].dtype.kind == "O":
                return _rounded(_of_another_calendar(decoded["time"].values, where), time, where, notes)
            if decoded["time"].dtype.kind != "M":
                raise ValueError("left undecoded")
            index = pd.DatetimeIndex(decoded["time"].values)
            _require_years(index.min().year, index.max().year, where)
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(
                f"the times are numbers ({values[0]} …) whose unit reads {text!r}",
                where=where,
                remedy="set the time's attribute units, as in 'hours since 1940-01-01'",
            ) from error
    elif values.dtype == object and isinstance(values[0], cftime.datetime):
        index = _of_another_calendar(values, where)
    else:
        raise UserError(f"the times have type {values.dtype}", where=where, remedy="store them as CF times")
    if index.hasnans:
        raise UserError("a time is missing (NaT)", where=where, remedy="repair the time axis of the file")
    return _rounded(index, time, where, notes)


def _from_text(values: np.ndarray, where: str) -> np.ndarray:
    """Times from text that begins with the year, as ISO 8601 has it."""
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in values]
    texts = [text.strip("\0 ") for text in texts]
    if not all(_TEXT.fullmatch(text) for text in texts):
        odd = next(text for text in texts if not _TEXT.fullmatch(text))
        raise UserError(f"the times are text, and {odd!r} does not read as a date", where=where, remedy=_AS_ISO)
    digits = [re.sub(r"\D", "", text.partition(".")[0])[:14].ljust(14, "0") for text in texts]
    try:
        return pd.to_datetime(digits, format="%Y%m%d%H%M%S").values
    except ValueError as error:
        raise UserError(f"the times are text, and one is no date ({error})", where=where, remedy=_AS_ISO) from error


def _from_dates(values: np.ndarray, with_fraction: bool, where: str) -> np.ndarray:
    """Times from numbers whose digits are the date."""
    if not np.isfinite(values).all():
        raise UserError("a time is missing (NaN)", where=where, remedy="repair the time axis of the file")
    days = np.floor(values)
    try:
        dates = pd.to_datetime([f"{day:08.0f}" for day in days], format="%Y%m%d").values
    except ValueError as error:
        raise UserError(f"the times are dates as numbers, and one is no date ({error})", where=where, remedy=_AS_ISO) \
            from error  # fmt: skip
    seconds = (values - days) * 86400.0 if with_fraction else np.zeros(values.size)
    # Of eight digits before the point float64 keeps a fraction to a third of a millisecond.
    return dates + np.round(seconds * 1e3).astype("timedelta64[ms]")


def _of_another_calendar(values: np.ndarray, where: str) -> pd.DatetimeIndex:
    """Dates of other calendars, and of years beyond 1678 … 2262 in ours, under the same name in ours where it has them."""
    calendar = values[0].calendar
    convert = "convert it first, for example with xarray's convert_calendar"
    if calendar == "360_day":
        raise UserError("the calendar has 360 days, with dates that do not exist", where=where, remedy=convert)
    _require_years(min(value.year for value in values), max(value.year for value in values), where)
    try:
        return xr.CFTimeIndex(values).to_datetimeindex(unsafe=True, time_unit="us").as_unit("ns")
    except ValueError as error:
        raise UserError(
            f"the calendar {calendar} has dates that ours has not ({str(error)[:80]})", where=where, remedy=convert
        ) from error


def _require_years(first: int, last: int, where: str) -> None:
    if first < _YEARS[0] or last > _YEARS[1]:
        raise UserError(
            f"the times are of the year{'' if first == last else 's'} {first:04d}{'' if first == last else f' … {last:04d}'}",
            where=where,
            remedy=f"shift them into {_YEARS[0]} … {_YEARS[1]} first, for example with `cdo setyear,2001` for a "
            "climatology or `cdo shifttime,2000years`",
        )


def _rounded(index: pd.DatetimeIndex, time: xr.DataArray, where: str, notes: Notes) -> pd.DatetimeIndex:
    """Times on the minute where all are within half a second of one, or within what their type can tell of an hour."""
    values = index.as_unit("ns").values
    away = np.abs(values - index.round("min").values)
    error = _resolution(time)
    told = np.diff(np.unique(values))
    if error > _OFF and index.has_duplicates and told.size and told.min() <= 2 * error:
        raise _too_coarse(error, where)
    if not away.any():
        return index.as_unit("ns")
    if away.max() <= _OFF:
        note(
            notes, "rounded_times", "", f"times up to {away.max() / np.timedelta64(1, 's'):.3g} s off are on the minute"
        )
        return index.round("min").as_unit("ns")
    if error > _OFF:
        for spacing in ("6h", "3h", "1h", "30min", "15min", "10min", "5min", "1min"):
            nearest = index.round(spacing).values
            # Any time is near some multiple of a spacing that is no wider than the error.
            if pd.Timedelta(spacing) >= 4 * error and np.abs(values - nearest).max() <= error:
                note(
                    notes, "rounded_times", "", f"times stored to {error / np.timedelta64(1, 's'):.3g} s, to {spacing}"
                )
                return pd.DatetimeIndex(nearest).as_unit("ns")
        raise _too_coarse(error, where)
    return index.as_unit("ns")


def _too_coarse(error: np.timedelta64, where: str) -> UserError:
    return UserError(
        f"the times are stored as float32, which tells them to {error / np.timedelta64(1, 'm'):.3g} minutes only",
        where=where,
        remedy="write the times again, in float64 or as integers",
    )


def _resolution(time: xr.DataArray) -> np.timedelta64:
    """Half the distance between the numbers that float32 times can be; 0 for other types."""
    attributes = {**time.encoding, **time.attrs}
    stored = np.dtype(attributes.get("dtype") or time.dtype)
    match = re.match(
        r"\s*(day|hour|hr|h\b|min|sec|s\b)\w*\s+since\s+(.*)", str(attributes.get("units", "")), re.IGNORECASE
    )
    if stored != np.float32 or match is None:
        return np.timedelta64(0, "ns")
    seconds = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}[match[1][0].lower()]
    if time.dtype.kind == "M":
        try:
            origin = pd.Timestamp(match[2].strip())
            elapsed = float(np.abs((time.values - origin.to_datetime64()) / np.timedelta64(1, "s")).max()) / seconds
        except (ValueError, TypeError):
            elapsed = 739000.0 * 86400.0 / seconds  # since the year 1, which is no timestamp
    else:
        elapsed = float(np.abs(time.values).max()) if time.dtype.kind == "f" else 739000.0 * 86400.0 / seconds
    return np.timedelta64(round(float(np.spacing(np.float32(elapsed))) * seconds * 0.55e9), "ns")


def split_steps(dataset: xr.Dataset, where: str, notes: Notes) -> list[xr.Dataset]:
    """One dataset a forecast step, each on its valid time; `step` (hours) then runs along time."""
    steps: list[float] = [0.0]
    lead = dataset.variables.get("prediction_timedelta")
    if lead is not None and lead.size == 1 and "step" not in dataset.variables:
        # One lead time, picked from a forecast store: the time beside it is the initial one.
        dataset = dataset.rename({"prediction_timedelta": "step"})
    if "step" in dataset.variables:
        raw = np.atleast_1d(dataset["step"].values)
        if raw.dtype.kind == "m":
            steps = [float(each / np.timedelta64(1, "h")) for each in raw]
        else:
            steps = [float(each) for each in raw]
        if max(steps) > _LONGEST_LEAD_HOURS:
            raise UserError(
                f"holds forecasts up to {max(steps):g} h ahead, not one state a time",
                where=where,
                remedy="extract one step a valid time, at most 24 h",
            )
    parts = []
    for position, step in enumerate(steps):
        part = dataset.isel(step=position) if "step" in dataset.dims else dataset
        part = part.drop_vars(["step", "valid_time"], errors="ignore")
        if "time" in part.variables:
            times = decoded_times(part, where, notes) + pd.Timedelta(hours=step)
            if "time" not in part.dims:
                part = part.drop_vars("time").expand_dims("time")
            if (
                part["time"].ndim != 1
                or not np.array_equal(part["time"].values, times.values)
                or (part["time"].dtype != times.dtype)
            ):
                part = part.assign_coords(time=times.values)
            if "step" in dataset.variables:
                part = part.assign_coords(step=("time", np.full(len(times), step)))
        parts.append(part)
    return parts


def trimmed_to_declared(dataset: xr.Dataset, where: str, notes: Notes) -> xr.Dataset:
    """Without the times outside the period that the store declares filled, as ARCO-ERA5 does.

    Its axis runs from 1900 to 2050 while `valid_time_start` and `valid_time_stop` (final ERA5) or
    `valid_time_stop_era5t` (preliminary) bound what is there; everything else is NaN. What lies inside is not trusted
    either: `check` reads it (arco-era5#136).
    """
    stops = [str(dataset.attrs[key]) for key in ("valid_time_stop", "valid_time_stop_era5t") if key in dataset.attrs]
    if "time" not in dataset.dims or not stops:
        return dataset
    start = str(dataset.attrs.get("valid_time_start", ""))
    index = dataset["time"].to_index()
    try:
        low = pd.Timestamp(start) if start else index[0]
        last = max(pd.Timestamp(stop) for stop in stops)
        # A date stands for its whole day.
        high = last + pd.Timedelta(days=1) - pd.Timedelta(1, "ns") if last == last.normalize() else last
        final = pd.Timestamp(dataset.attrs.get("valid_time_stop", stops[-1]))
    except ValueError:
        logger.warning("%s: the declared period %s … %s does not read as dates", where, start, stops)
        return dataset
    inside = np.flatnonzero((index >= low) & (index <= high))
    if len(inside) == 0:
        raise UserError(
            f"declares {low:%Y-%m-%d} … {high:%Y-%m-%d} filled but has no time within",
            where=where,
            remedy="check the store's attributes valid_time_start and valid_time_stop",
        )
    if len(inside) < len(index):
        note(notes, "unfilled_times", "", f"{len(index) - len(inside)} outside {low:%Y-%m-%d} … {high:%Y-%m-%d}")
        if index.is_monotonic_increasing:
            dataset = dataset.isel(time=slice(int(inside[0]), int(inside[-1]) + 1))
        else:
            dataset = dataset.isel(time=inside)
    if last > final:
        note(notes, "preliminary", "", f"ERA5T after {final:%Y-%m-%d}")
    return dataset
