"""Stores of others as scoring opens them: lazily, without dask, on canonical axes and under the catalogue's names."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from weather_scnn.catalogue.level_numbers import level_axis
from weather_scnn.catalogue.naming import identify
from weather_scnn.errors import UserError
from weather_scnn.io.canonical import levels_in_hpa
from weather_scnn.io.level_names import gathered_levels
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.stored import on_axis

ALIASES = {
    "time": ("init_time", "initial_time", "forecast_reference_time", "init"),
    "prediction_timedelta": ("lead_time", "lead", "leadtime", "step", "forecast_period"),
    "level": ("pressure_level", "isobaricInhPa", "plev", "lev"),
    "latitude": ("lat",),
    "longitude": ("lon",),
    "number": ("realization", "member", "ensemble", "ensemble_member", "sample"),
}
ORDER = ("time", "prediction_timedelta", "hour", "dayofyear", "number", "level", "latitude", "longitude")
_COORDINATE_TOLERANCE_DEGREES = 1e-3


def open_any(path: str) -> xr.Dataset:
    """A Zarr store or netCDF file as it is, lazily and without dask; durations are left as numbers.

    Raises:
        UserError: nothing there, several files, not readable, or the unfinished output of an interrupted command.
    """
    pieces = open_pieces(path)
    if len(pieces) > 1:
        raise UserError(f"is {len(pieces)} files or messages", where=str(path), remedy="give one store or file")
    return pieces[0][1]


def open_pieces(path: str) -> list[tuple[str, xr.Dataset]]:
    """What lies at a path, as `open_any`; a folder, a glob or a GRIB file may hold several datasets.

    Raises:
        UserError: as `open_any`.
    """
    return open_raw(find_source(str(path)), decode_timedelta=False)


def canonical(dataset: xr.Dataset, path: str) -> xr.Dataset:
    """Canonical names and order of dimensions: latitudes ascending, longitudes ascending in [0, 360).

    Raises:
        UserError: no latitude or longitude.
    """
    for name, aliases in ALIASES.items():
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
    surplus = [name for name in dataset.dims if name not in ORDER[:4] + ORDER[5:] and dataset.sizes[name] == 1]
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
    return in_order(dataset)


def in_order(dataset: xr.Dataset) -> xr.Dataset:
    """Dimensions in the canonical order."""
    return dataset.transpose(*[name for name in ORDER if name in dataset.dims], ...)


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


def with_levels_of_names(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with fields named for a level, such as z500 and t_850, stacked along `level`.

    Levels that a field has not got are NaN, where fields are on different ones.
    """
    pieces = gathered_levels(dataset, [])
    if len(pieces) == 1 and pieces[0] is dataset:
        return dataset
    fields = {str(name): array for piece in pieces for name, array in piece.data_vars.items()}
    on_levels = [array["level"].values for array in fields.values() if "level" in array.dims]
    every = level_axis(np.unique(np.concatenate(on_levels)))
    fields = {
        name: on_axis(array, "level", every) if "level" in array.dims else array for name, array in fields.items()
    }
    return in_order(xr.Dataset(fields, attrs=dataset.attrs))
