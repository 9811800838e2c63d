"""Opening forecasts, ours or others', and making sure that they and the truth speak of the same thing."""

import difflib
import logging
import pathlib
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.data.addresses import NETCDF_ENDINGS, require_there, unreachable
from weather_scnn.data.canonical import levels_in_hpa
from weather_scnn.data.catalogue import identify
from weather_scnn.data.marks import INCOMPLETE, STATUS
from weather_scnn.data.sources import find_source
from weather_scnn.data.stored_fields import open_by_tensorstore
from weather_scnn.data.units import conversion, parse_unit
from weather_scnn.errors import UserError

_log = logging.getLogger(__name__)
_ALIASES = {
    "time": ("init_time", "initial_time", "forecast_reference_time", "init"),
    "prediction_timedelta": ("lead_time", "lead", "leadtime", "step", "forecast_period"),
    "level": ("pressure_level", "isobaricInhPa", "plev", "lev"),
    "latitude": ("lat",),
    "longitude": ("lon",),
    "number": ("realization", "member", "ensemble", "ensemble_member", "sample"),
}
_ORDER = ("time", "prediction_timedelta", "hour", "dayofyear", "number", "level", "latitude", "longitude")
_COORDINATE_TOLERANCE_DEGREES = 1e-3
# Numbers beyond this are not hours.
_LONGEST_LEAD = np.timedelta64(10 * 366, "D")


def open_any(path: str) -> xr.Dataset:
    """A Zarr store or netCDF file as it is, lazily and without dask; durations are left as numbers.

    Raises:
        UserError: nothing there, not readable, or the unfinished output of an interrupted command.
    """
    path = str(path)
    require_there(path)
    netcdf = path.lower().endswith(NETCDF_ENDINGS)
    if pathlib.Path(path).is_file() and not netcdf:
        held = find_source(path).format  # which says so of an archive
        if held == "grib":
            raise UserError("is GRIB, not a store", where=path, remedy="convert it to Zarr or netCDF")
        netcdf = held == "netcdf"
    try:
        with warnings.catch_warnings():
            # Stores of other people's making need not be consolidated.
            warnings.filterwarnings(
                "ignore", message="Failed to open Zarr store with consolidated", category=RuntimeWarning
            )
            dataset = None if netcdf else open_by_tensorstore(path)
            if dataset is None:
                dataset = xr.open_dataset(path, engine=None if netcdf else "zarr", chunks=None, decode_timedelta=False)
    except (OSError, ValueError, KeyError) as error:
        if "://" in path and not isinstance(error, FileNotFoundError):
            raise unreachable(path, error) from error
        raise UserError(
            f"cannot be read as {'netCDF' if netcdf else 'Zarr'} ({str(error).splitlines()[0]})",
            where=path,
            remedy="give a Zarr store, or a netCDF file that ends in .nc",
        ) from error
    if dataset.attrs.get(STATUS) == INCOMPLETE:
        raise UserError("is the unfinished output of a command", where=path, remedy="repeat that command to finish it")
    return dataset


def canonical(dataset: xr.Dataset, path: str) -> xr.Dataset:
    """Canonical names and order of dimensions: latitudes ascending, longitudes ascending in [0, 360).

    Raises:
        UserError: no latitude or longitude.
    """
    for name, aliases in _ALIASES.items():
        found = next((alias for alias in aliases if alias in dataset.dims or alias in dataset.coords), None)
        if name not in dataset.dims and found is not None:
            # A two-dimensional `time` beside `init_time` is the valid time, which follows from the rest.
            dataset = dataset.drop_vars(name, errors="ignore").rename({found: name})
    for name in ("latitude", "longitude"):
        if name not in dataset.dims:
            raise UserError(
                f"has no dimension {name} (its dimensions: {', '.join(map(str, dataset.sizes))})",
                where=path,
                remedy="give fields on a latitude x longitude grid",
            )
        if name not in dataset.coords:
            raise UserError(f"the {name} axis has no coordinate values", where=path, remedy="add them to the store")
    dataset = levels_in_hpa(dataset, path, [])
    surplus = [name for name in dataset.dims if name not in _ORDER[:4] + _ORDER[5:] and dataset.sizes[name] == 1]
    dataset = dataset.squeeze(surplus, drop=True)
    latitude = dataset["latitude"].values
    if np.any(np.diff(latitude) < 0):
        order = slice(None, None, -1) if np.all(np.diff(latitude) < 0) else np.argsort(latitude)
        dataset = dataset.isel(latitude=order)
    longitude = np.mod(dataset["longitude"].values.astype(np.float64), 360.0)
    longitude[360.0 - longitude < _COORDINATE_TOLERANCE_DEGREES] = 0.0
    wrapped, first = np.unique(longitude, return_index=True)
    dataset = dataset.assign_coords(longitude=("longitude", longitude, dataset["longitude"].attrs))
    if not np.array_equal(first, np.arange(dataset.sizes["longitude"])):
        dataset = dataset.isel(longitude=first)
    assert wrapped.size == dataset.sizes["longitude"]
    return _in_order(dataset)


def _in_order(dataset: xr.Dataset) -> xr.Dataset:
    """Dimensions in the canonical order.

    Fields stored in another order go through dask, by the chunks they are stored in: xarray's own lazy transposition
    looks every value up by itself, minutes for what takes a second.
    """
    order = [name for name in _ORDER if name in dataset.dims]
    for name, array in dataset.data_vars.items():
        if array.dims != tuple(dim for dim in order if dim in array.dims) and array.chunks is None:
            stored = array.encoding.get("chunks") or ()
            sizes = stored if len(stored) == array.ndim else (1,) * min(array.ndim, 1) + array.shape[1:]
            dataset[name] = array.chunk(dict(zip(array.dims, sizes)))
    return dataset.transpose(*order, ...)


def catalogue_names(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The dataset with these fields under their catalogue's names.

    A name that means another quantity, such as gh, a height, gives a field without units those of that quantity.
    """
    rename = {}
    for name in names:
        array = dataset[name]
        variable = identify(name, array.attrs, on_levels="level" in array.dims)
        if variable is None:
            continue
        assumed = variable.assumed_units.get(name.lower())
        if assumed is not None and not str(array.attrs.get("units", "")).strip():
            dataset = dataset.assign({name: array.assign_attrs(units=assumed)})
        if variable.name != name and variable.name not in dataset:
            rename[name] = variable.name
    return dataset.rename(rename)


def lead_times(coordinate: xr.DataArray, path: str) -> np.ndarray:
    """Lead times as timedelta64[ns]; plain numbers without units are hours.

    Raises:
        UserError: they are text, have units that are not of time, or are years.
    """
    values = np.atleast_1d(coordinate.values)
    if values.dtype.kind == "m":
        return values.astype("timedelta64[ns]")
    if values.dtype.kind not in "iuf":
        raise UserError(
            f"lead times are text such as {str(values[0])!r}", where=path, remedy="write them as timedelta or in hours"
        )
    units = str(coordinate.attrs.get("units", "hours")).split(" since")[0].strip()
    try:
        scale = pd.Timedelta(1, unit=units.rstrip("s") if units != "s" else "s")  # type: ignore[arg-type]
    except ValueError:
        raise UserError(
            f"lead times have the units {units!r}", where=path, remedy="write them as timedelta or in hours"
        ) from None
    nanoseconds = values.astype(np.float64) * (scale / pd.Timedelta(1, "ns"))
    if np.abs(nanoseconds).max(initial=0.0) > _LONGEST_LEAD / np.timedelta64(1, "ns"):
        raise UserError(
            f"lead times reach {np.abs(values).max():.4g} {units}",
            where=path,
            remedy="write the units that they are in, as timedelta or in hours",
        )
    return np.rint(nanoseconds).astype("timedelta64[ns]")


def open_forecast(path: str, raw: xr.Dataset | None = None, *, time: str | None = None) -> xr.Dataset:
    """A forecast store of dims (time, prediction_timedelta[, number][, level], latitude, longitude), lazily.

    `time` is the init time, `number` the members of an ensemble. The aliases init_time and lead_time, lead times as timedelta or in hours, either order of
    latitudes, longitudes in [-180, 180), any order of dimensions and ERA5's short names are accepted.

    Args:
        path: the store.
        raw: what `open_any` gives of it, where it is open already.
        time: a dimension to take for `time`, such as valid_time.

    Raises:
        UserError: the store is not a forecast.
    """
    raw = open_any(path) if raw is None else raw
    dataset = canonical(raw if time is None else raw.drop_vars("time", errors="ignore").rename({time: "time"}), path)
    for name, meaning in (("time", "init times"), ("prediction_timedelta", "lead times")):
        if name not in dataset.coords:
            raise UserError(
                f"has no {meaning} (`{name}`); its dimensions: {', '.join(map(str, dataset.sizes))}",
                where=path,
                remedy="give a forecast store, as `weather-scnn forecast` writes",
            )
        if name not in dataset.dims:
            dataset = dataset.expand_dims(name)
    leads = lead_times(dataset["prediction_timedelta"], path)
    dataset = dataset.assign_coords(prediction_timedelta=("prediction_timedelta", leads))
    dataset = dataset[[name for name, array in dataset.data_vars.items() if "prediction_timedelta" in array.dims]]
    for field in map(str, list(dataset.data_vars)):
        sizes = dataset[field].sizes
        if further := [f"{dim} ({size})" for dim, size in sizes.items() if dim not in _ORDER]:
            _log.warning("%s of %s is left out, for its further dimensions: %s", field, path, ", ".join(further))
            dataset = dataset.drop_vars([field])
    if not dataset.data_vars:
        raise UserError("has no field with lead times", where=path, remedy="give a forecast store")
    dataset = catalogue_names(dataset, list(map(str, dataset.data_vars)))
    dataset = _in_order(dataset)
    times = dataset["time"].values
    if np.any(times[1:] <= times[:-1]):
        dataset = dataset.isel(time=np.unique(times, return_index=True)[1])
    return dataset


def units_to_truth(name: str, left: xr.DataArray, right: xr.DataArray, *, where: str) -> tuple[float, float]:
    """(scale, offset) that bring a field into the truth's units; (1, 0) where either states none.

    Raises:
        UserError: the units are of another quantity, as mm are not K.
    """
    ours, theirs = str(left.attrs.get("units", "")).strip(), str(right.attrs.get("units", "")).strip()
    if not ours or not theirs or parse_unit(ours) is None or parse_unit(theirs) is None:
        return 1.0, 0.0
    factors = conversion(ours, theirs)
    if factors is None:
        raise UserError(
            f"{name} is in {ours} here and in {theirs} in the truth", where=where, remedy="correct the attribute units"
        )
    return factors


def require_same_grid(left: xr.Dataset, right: xr.Dataset, *, where: str) -> None:
    """Raises UserError if the coordinates of `left` are not those of the truth, `right`."""
    names = [f"{data.sizes['longitude']}x{data.sizes['latitude']}" for data in (left, right)]
    for axis in ("latitude", "longitude"):
        ours, theirs = left[axis].values, right[axis].values
        if ours.shape == theirs.shape and np.abs(ours - theirs).max() < _COORDINATE_TOLERANCE_DEGREES:
            continue
        detail = (
            f"the grids differ: {names[0]} here, {names[1]} in the truth"
            if names[0] != names[1]
            else f"{axis}s differ from the truth's: {ours[0]:g} … {ours[-1]:g} against {theirs[0]:g} … {theirs[-1]:g}"
        )
        raise UserError(detail, where=where, remedy="bring both to one grid with `weather-scnn regrid`")


def common_variables(
    forecast: Iterable[str], truth: Iterable[str], wanted: Sequence[str] | None, *, where: tuple[str, str]
) -> list[str]:
    """Variables to score, in alphabetical order: those wanted, or all that the forecast and the truth share.

    Args:
        forecast: names in the forecast.
        truth: names in the truth.
        wanted: names to score; None for all.
        where: paths of the forecast and of the truth.

    Raises:
        UserError: a wanted name is absent, or none is shared.
    """
    names, known = list(forecast), list(truth)
    for name in wanted or ():
        for path, present in zip(where, (names, known)):
            if name not in present:
                near = difflib.get_close_matches(name, present, 1, 0.5)
                raise UserError(
                    f"has no variable {name!r}" + (f" (nearest: {near[0]})" if near else ""),
                    where=path,
                    remedy="choose from " + ", ".join(present),
                )
    shared = sorted(name for name in names if name in known and (wanted is None or name in wanted))
    if not shared:
        raise UserError(
            f"the forecast ({', '.join(names)}) and the truth ({', '.join(known)}) share no variable",
            where=where[0],
            remedy="name the variables of both alike",
        )
    return shared


def level_numbers(dataset: xr.Dataset) -> list[float]:
    """Levels in hPa."""
    return dataset["level"].values.tolist()


def common_levels(
    forecast: xr.Dataset, truth: xr.Dataset, wanted: Sequence[float] | None, *, where: tuple[str, str]
) -> list[float] | None:
    """Levels in hPa to score, in the truth's order; None where neither dataset has levels.

    Raises:
        UserError: a wanted level is absent, or none is shared.
    """
    if "level" not in forecast.dims or "level" not in truth.dims:
        return None
    ours, theirs = level_numbers(forecast), level_numbers(truth)
    for level in wanted or ():
        for path, present in zip(where, (ours, theirs)):
            if level not in present:
                raise UserError(
                    f"has no level {level:g} hPa",
                    where=path,
                    remedy="choose from " + ", ".join(f"{each:g}" for each in present),
                )
    shared = [level for level in theirs if level in ours and (wanted is None or level in wanted)]
    if not shared:
        raise UserError(
            f"has the levels {ours} hPa and the truth {theirs}", where=where[0], remedy="give levels that both have"
        )
    return shared
