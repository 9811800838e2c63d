"""Times of one source dataset: decoding, forecast steps, and the period that a store declares filled."""

import re

import cftime
import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.data.notes import Notes, logger, note
from weather_scnn.errors import UserError

_LONGEST_LEAD_HOURS = 24.0
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


def decoded_times(dataset: xr.Dataset, where: str) -> pd.DatetimeIndex:
    """The time coordinate as timestamps; numbers need a unit in `units` or in the root's `time_units`."""
    time = dataset["time"]
    values = np.atleast_1d(time.values)
    if values.dtype.kind == "M":
        index = pd.DatetimeIndex(values)
    elif values.dtype.kind in "iuf":
        text = str(time.attrs.get("units") or dataset.attrs.get("time_units") or "")
        text = re.sub(r"\s*\(.*\)\s*$", "", text)
        calendar = str(time.attrs.get("calendar", "proleptic_gregorian"))
        try:
            decoded = xr.decode_cf(xr.Dataset({"time": ("time", values, {"units": text, "calendar": calendar})}))
            if decoded["time"].dtype.kind != "M":
                raise ValueError("left undecoded")
            index = pd.DatetimeIndex(decoded["time"].values)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the times are numbers ({values[0]} …) whose unit reads {text!r}",
                where=where,
                remedy="set the time's attribute units, as in 'hours since 1940-01-01'",
            ) from error
    elif values.dtype == object and isinstance(values[0], cftime.datetime):
        calendar = values[0].calendar
        if calendar == "360_day":
            raise UserError(
                "the calendar has 360 days, with dates that do not exist",
                where=where,
                remedy="convert it first, for example with xarray's convert_calendar",
            )
        index = xr.CFTimeIndex(values).to_datetimeindex(unsafe=True, time_unit="ns")
    else:
        raise UserError(f"the times have type {values.dtype}", where=where, remedy="store them as CF times")
    if index.hasnans:
        raise UserError("a time is missing (NaT)", where=where, remedy="repair the time axis of the file")
    return index.as_unit("ns")


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
            times = decoded_times(part, where) + pd.Timedelta(hours=step)
            if "time" not in part.dims:
                part = part.drop_vars("time").expand_dims("time")
            if step or part["time"].dtype != times.dtype or part["time"].ndim != 1:
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
