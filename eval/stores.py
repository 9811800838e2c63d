"""Stores of others as scoring opens them: lazily, without dask, on canonical axes and under the catalogue's names."""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import identify
from weather_scnn.errors import UserError
from weather_scnn.io.blocks import stored_chunks
from weather_scnn.io.canonical import levels_in_hpa
from weather_scnn.io.level_names import gathered_levels
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.stored_fields import open_by_tensorstore
from weather_scnn.io.writing import INCOMPLETE, STATUS

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
_BLOCK_BYTES = 16 * 2**20


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
    source = find_source(str(path))
    fast = open_by_tensorstore(source.paths[0]) if source.format == "zarr" and len(source.paths) == 1 else None
    if fast is not None and fast.attrs.get(STATUS) != INCOMPLETE:
        return [(source.paths[0], fast)]
    return open_raw(source, decode_timedelta=False)


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
    """Dimensions in the canonical order.

    Fields stored in another order go through dask, by the chunks they are stored in: xarray's own lazy transposition
    looks every value up by itself, minutes for what takes a second.
    """
    order = [name for name in ORDER if name in dataset.dims]
    for name, array in dataset.data_vars.items():
        if array.dims != tuple(dim for dim in order if dim in array.dims):
            dataset[name] = in_stored_blocks(array)
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


def with_levels_of_names(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with fields named for a level, such as z500 and t_850, stacked along `level`.

    Levels that a field has not got are NaN, where fields are on different ones.
    """
    pieces = gathered_levels(dataset, [])
    if len(pieces) == 1 and pieces[0] is dataset:
        return dataset
    # Stacking lazily takes dask; the other fields stay as they are stored.
    kept = {name for piece in pieces for name, array in piece.data_vars.items() if "level" not in array.dims}
    dataset = dataset.assign({name: in_stored_blocks(array) for name, array in dataset.items() if name not in kept})
    return in_order(xr.merge(gathered_levels(dataset, []), join="outer", compat="override", combine_attrs="override"))


def in_stored_blocks(array: xr.DataArray) -> xr.DataArray:
    """An array that dask reads by the chunks it is stored in; by whole maps, some MiB of them, where it has none."""
    if array.chunks is not None:
        return array
    sizes = stored_chunks(array.variable)
    if not sizes:
        size = array.nbytes
        for dim in array.dims[:-2]:
            one_message = "GRIB_paramId" in array.attrs
            sizes[str(dim)] = 1 if one_message or size > _BLOCK_BYTES else array.sizes[dim]
            size //= array.sizes[dim] if sizes[str(dim)] == 1 else 1
    return array.chunk({dim: sizes.get(str(dim), -1) for dim in array.dims})
