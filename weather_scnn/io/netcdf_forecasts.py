"""Forecasts from one initial time as netCDF after the CF conventions, version 1.10.

`time` is the valid time, beside the forecast's reference time and period. Totals have a time axis with bounds for each
length of their windows, for an axis has one set of bounds.
"""

import os
from collections.abc import Iterable
from typing import Any

import dask
import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import Variable, lookup

CONVENTIONS = "CF-1.10"
_FILL = np.float32(9.969209968386869e36)
_HOUR = np.timedelta64(1, "h")
_LEAD = "prediction_timedelta"
# Metres above the ground, by how names begin.
_HEIGHTS = {"2m_": 2.0, "10m_": 10.0, "100m_": 100.0}


def netcdf_name(name: str) -> str:
    """What a variable is called in a CF file, where names begin with a letter: t2m for 2m_temperature."""
    variable = lookup(name)
    if name[:1].isalpha() or variable is None:
        return name
    return next((short for short in variable.short_names if short[0].isalpha()), f"field_{name}")


def write_cf(forecast: xr.Dataset, path: str | os.PathLike) -> None:
    """Writes forecasts from one initial time, a chunk at a time.

    Args:
        forecast: lazy, in dask chunks, ([realization,] prediction_timedelta[, level], latitude, longitude) with the scalar
            coordinate `time`, the initial time.
        path: local.
    """
    dataset = as_cf(forecast)
    with dask.config.set(scheduler="synchronous"):  # one chunk in memory
        dataset.to_netcdf(path, engine="netcdf4")


def as_cf(forecast: xr.Dataset) -> xr.Dataset:
    """The forecasts with axes, names and attributes of CF-1.10; arguments as for `write_cf`."""
    start = np.datetime64(forecast["time"].values.item(), "ns")
    windows = {name: _window(str(name)) for name in forecast.data_vars}
    fields: dict[str, xr.DataArray] = {}
    coordinates: dict[str, Any] = {}
    encoding = {"units": f"hours since {str(start.astype('datetime64[s]')).replace('T', ' ')}", "calendar": "standard",
                "dtype": "float64"}  # fmt: skip
    for hours in sorted({*windows.values()}):
        leads = forecast[_LEAD].values.astype("timedelta64[ns]")
        leads = leads[leads >= hours * _HOUR] if hours else leads
        if leads.size:
            coordinates |= _times(start, leads, hours, encoding)
    for name, array in forecast.data_vars.items():
        variable, hours = lookup(str(name)), windows[name]
        axis = _axis(hours)
        if axis not in coordinates:
            continue
        if hours:
            array = array.isel({_LEAD: array[_LEAD].values >= hours * _HOUR})
        array = array.reset_coords(drop=True).drop_vars(_LEAD).rename({_LEAD: axis})
        beside = [_period(hours)]
        for begin, height in _HEIGHTS.items():
            if str(name).startswith(begin):
                label = f"height_{height:g}m"
                about = {"standard_name": "height", "units": "m", "positive": "up",
                         "long_name": "height above the ground"}  # fmt: skip
                coordinates[label] = ((), height, about)
                beside.append(label)
        array.attrs = _attributes(variable, dict(array.attrs), axis, bool(hours))
        array.encoding = {"zlib": True, "complevel": 1, "shuffle": True, "_FillValue": _FILL, "dtype": "float32",
                          "chunksizes": _map_chunks(array)}  # fmt: skip
        coordinates["forecast_reference_time"] = _reference(start, encoding)
        array.encoding["coordinates"] = " ".join([*beside, "forecast_reference_time", *_about_members(forecast)])
        fields[netcdf_name(str(name))] = array
    coordinates |= _space(forecast)
    result = xr.Dataset(fields).assign_coords(coordinates)
    for name in {*result.coords, *result.variables} - {*fields}:
        result[name].encoding.setdefault("_FillValue", None)
    result.attrs = _global(forecast, start)
    return result


def _window(name: str) -> int:
    """Hours of a total; 0 for a field of one time."""
    variable = lookup(name)
    return int(variable.window_hours or 0) if variable is not None else 0


def _axis(hours: int) -> str:
    return f"time_{hours}hr" if hours else "time"


def _period(hours: int) -> str:
    return f"forecast_period_{hours}hr" if hours else "forecast_period"


def _times(start: np.datetime64, leads: np.ndarray, hours: int, encoding: dict[str, Any]) -> dict[str, Any]:
    """A time axis, its bounds where it is of totals, and the forecast periods along it."""
    axis = _axis(hours)
    about = {"standard_name": "time", "long_name": "valid time", "axis": "T"}
    period = {"standard_name": "forecast_period", "long_name": "time since the forecast's start", "units": "hours"}
    found: dict[str, Any] = {_period(hours): (axis, leads / _HOUR, period)}
    times = start + leads
    if hours:
        about |= {"bounds": f"{axis}_bounds", "long_name": f"end of {hours} hours"}
        bounds = xr.Variable((axis, "bounds"), np.stack([times - hours * _HOUR, times], axis=-1))
        bounds.encoding = {**encoding, "_FillValue": None}
        found[f"{axis}_bounds"] = bounds
    found[axis] = xr.Variable(axis, times, about, {**encoding, "_FillValue": None})
    return found


def _reference(start: np.datetime64, encoding: dict[str, Any]) -> xr.Variable:
    about = {"standard_name": "forecast_reference_time", "long_name": "start of the forecast"}
    return xr.Variable((), start, about, {**encoding, "_FillValue": None})


def _attributes(variable: Variable | None, held: dict[str, Any], axis: str, total: bool) -> dict[str, Any]:
    """Names and units of the catalogue, and how values lie in time."""
    catalogued = variable.attributes if variable is not None else held
    kept: dict[str, Any] = {
        key: catalogued[key] for key in ("standard_name", "long_name", "units") if key in catalogued
    }
    if "formula" in held:
        kept["comment"] = f"made from the forecast: {held['formula']}"
    return kept | {"cell_methods": f"{axis}: {'sum' if total else 'point'}"}


def _space(forecast: xr.Dataset) -> dict[str, Any]:
    """Members, levels, latitudes and longitudes."""
    found: dict[str, Any] = {
        "latitude": ("latitude", forecast["latitude"].values, _degrees("latitude", "north", "Y")),
        "longitude": ("longitude", forecast["longitude"].values, _degrees("longitude", "east", "X")),
    }
    if "level" in forecast.dims:
        about = {
            "standard_name": "air_pressure",
            "long_name": "pressure",
            "units": "hPa",
            "positive": "down",
            "axis": "Z",
        }
        found["level"] = ("level", forecast["level"].values.astype(np.float64), about)
    if "realization" in forecast.dims:
        about = {"standard_name": "realization", "long_name": "member of the ensemble", "units": "1"}
        found["realization"] = ("realization", forecast["realization"].values.astype(np.int32), about)
        said = {
            "checkpoint": "which of the forecaster's checkpoints",
            "perturbed": "whether the initial state is perturbed",
        }
        for name in _about_members(forecast):
            about = {"long_name": said.get(name, name), "units": "1"}
            found[name] = ("realization", forecast[name].values.astype(np.int32), about)
    return found


def _degrees(name: str, towards: str, axis: str) -> dict[str, str]:
    return {"standard_name": name, "long_name": name, "units": f"degrees_{towards}", "axis": axis}


def _about_members(forecast: xr.Dataset) -> Iterable[str]:
    return [
        str(name) for name, each in forecast.coords.items() if each.dims == ("realization",) and name != "realization"
    ]


def _map_chunks(array: xr.DataArray) -> tuple[int, ...]:
    """A map a chunk: what readers ask for."""
    return tuple(size if dim in ("latitude", "longitude") else 1 for dim, size in array.sizes.items())


def _global(forecast: xr.Dataset, start: np.datetime64) -> dict[str, Any]:
    held = forecast.attrs
    made, when = str(held.get("created_by", "weather-scnn")), str(held.get("created", ""))
    rest = {key: value for key, value in held.items() if key not in ("status", "request", "created")}
    return {
        "Conventions": CONVENTIONS,
        "title": f"Forecast from {np.datetime_as_string(start, 'm')} UTC",
        "history": f"{when} written by {made}",
        "comment": "a machine-learned forecast",
        **rest,
    }
