"""One source dataset as files have it → the canonical axes: names, order, units of coordinates.

Names decide, never positions (makani's converter: some WeatherBench 2 stores are (…, longitude, latitude)). Everything
here moves indices only; no field is read.
"""

import functools
from collections.abc import Hashable, Iterable, Sequence
from typing import cast

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.level_numbers import level_axis
from weather_scnn.catalogue.naming import identify
from weather_scnn.errors import UserError
from weather_scnn.io.axis_names import KIND_MARK, REGULAR_FIRST, name_axes
from weather_scnn.io.blocks import stored_chunks
from weather_scnn.io.members import lacking_member, tell_first_member
from weather_scnn.io.notes import ORDER, Notes, note
from weather_scnn.io.time_axis import split_steps, trimmed_to_declared
from weather_scnn.io.versions import PRELIMINARY, along_time, final_first, merged_versions
from weather_scnn.io.vertical_axis import (
    GRIB_LEVEL_TYPES,
    Kind,
    not_pressures,
    pressures,
)

# Maps of the coordinates themselves, as in WeatherBench's file of constants.
_COORDINATE_MAPS = {"lat2d", "lon2d", "latitude2d", "longitude2d", "xlat", "xlong"}


def _one_member(dataset: xr.Dataset, where: str, notes: Notes, member: int | None) -> xr.Dataset:
    if "number" not in dataset.dims:
        return dataset
    numbers = dataset["number"].values if "number" in dataset.variables else np.arange(dataset.sizes["number"])
    chosen = 0
    if member is not None and len(numbers) > 1:
        result = np.flatnonzero(numbers == member)
        if len(result) == 0:
            raise lacking_member(member, numbers.tolist(), where)
        chosen = int(result[0])
    elif len(numbers) > 1:
        tell_first_member(numbers, where, notes)
    return dataset.isel(number=chosen)


def levels_in_hpa(dataset: xr.Dataset, where: str, notes: Notes) -> xr.Dataset:
    """Levels ascending, each once, in hPa: as integers where all are. A single one that is no axis is made one.

    Raises:
        UserError: they are not pressures.
    """
    if "level" not in dataset.variables:
        return dataset.drop_dims("level") if "level" in dataset.dims else dataset
    levels, converted = pressures("level", dataset["level"].variable, where)
    if converted:
        note(notes, "levels_in_pa", "level", f"{levels.min():g} … {levels.max():g} hPa")
    if "level" not in dataset.dims:
        dataset = _on_one_level(dataset)
    order = np.unique(levels, return_index=True)[1]
    if len(order) < len(levels):
        note(notes, "repeated_levels", "level", "the first of each kept")
    attributes = {"units": "hPa", "long_name": "pressure level", "positive": "down"}
    return take(dataset, "level", order).assign_coords(level=("level", level_axis(levels[order]), attributes))


def _on_one_level(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset whose scalar level is an axis of its fields, but for those that are known to have no level."""
    surface = [
        name
        for name, array in dataset.data_vars.items()
        if (known := identify(str(name), array.attrs, on_levels=True)) is not None and not known.on_levels
    ]
    if len(surface) == len(dataset.data_vars):
        return dataset.drop_vars("level").assign_coords(level=("level", np.atleast_1d(dataset["level"].values)))
    without = dataset[surface].drop_vars("level")
    return dataset.drop_vars(surface).expand_dims("level").merge(without)


def take(dataset: xr.Dataset, dim: str, order: np.ndarray) -> xr.Dataset:
    """`isel` that leaves an ordered axis alone and takes regular orders as slices, which keeps chunks whole."""
    count = dataset.sizes[dim]
    if len(order) == count and np.array_equal(order, np.arange(count)):
        return dataset
    if len(order) == count and np.array_equal(order, np.arange(count)[::-1]):
        return dataset.isel({dim: slice(None, None, -1)})
    if len(order) > 1 and (stride := int(order[1]) - int(order[0])) > 0 and np.all(np.diff(order) == stride):
        return dataset.isel({dim: slice(int(order[0]), int(order[-1]) + 1, stride)})
    return dataset.isel({dim: order})


def at_levels(dataset: xr.Dataset, levels: Iterable[float]) -> xr.Dataset:
    """Those of these levels, hPa, that a dataset with an axis of levels has."""
    held = np.asarray(dataset["level"].values)
    return take(dataset, "level", np.flatnonzero(np.isclose(held[:, None], np.asarray([*levels])).any(axis=1)))


def shared_times(datasets: Iterable[xr.Dataset | xr.DataArray]) -> pd.Index | None:
    """Times that all have, of those that are over time; None where none is."""
    indexes = [each["time"].to_index() for each in datasets if "time" in each.dims]
    if not indexes:
        return None
    return functools.reduce(lambda one, other: one if one.equals(other) else one.intersection(other), indexes)


def at_times(dataset: xr.Dataset, times: pd.Index) -> xr.Dataset:
    """These times of a dataset that has them all; one without an axis of times as it is."""
    if "time" not in dataset.dims or dataset.sizes["time"] == len(times):
        return dataset
    return take(dataset, "time", dataset["time"].to_index().get_indexer(times))


def _ordered_map(dataset: xr.Dataset, where: str, notes: Notes) -> xr.Dataset:
    """Latitude ascending; longitude ascending in [0, 360) without a repeated meridian."""
    latitude = dataset["latitude"].values.astype(np.float64)
    longitude = dataset["longitude"].values.astype(np.float64)
    if str(dataset["latitude"].attrs.get("units", "")).lower().startswith("rad"):
        latitude, longitude = np.degrees(latitude), np.degrees(longitude)
    for axis, values in (("latitude", latitude), ("longitude", longitude)):
        if not np.all(np.isfinite(values)):
            raise UserError(f"a {axis} is NaN", where=where, remedy="repair the coordinates of the file")
    if np.abs(latitude).max() > 90 + 1e-4:
        raise UserError(
            f"latitudes reach {latitude[np.abs(latitude).argmax()]:g}",
            where=where,
            remedy="give latitudes in degrees within [-90, 90]",
        )
    latitude = np.clip(latitude, -90.0, 90.0)
    order = np.argsort(latitude, kind="stable")
    if np.any(np.diff(latitude[order]) < 1e-6):
        repeated = latitude[order][np.argmin(np.diff(latitude[order]))]
        raise UserError(f"latitude {repeated:g} occurs twice", where=where, remedy="drop one of the rows")
    if np.array_equal(order, np.arange(len(order))[::-1]):
        note(notes, "descending_latitude", "latitude", "flipped")
    elif not np.array_equal(order, np.arange(len(order))):
        note(notes, "unsorted_latitude", "latitude", "sorted")
    dataset = take(dataset, "latitude", order)
    wrapped = np.mod(longitude, 360.0)
    wrapped[wrapped > 360.0 - 1e-4] = 0.0
    columns = np.argsort(wrapped, kind="stable")
    repeats = np.concatenate([[False], np.diff(wrapped[columns]) < 1e-4])
    if repeats.any():
        note(notes, "repeated_longitude", "longitude", f"{wrapped[columns][repeats][0]:g}° given twice, one kept")
        columns = columns[~repeats]
    if longitude.min() < 0 or longitude.max() > 360:
        note(notes, "wrapped_longitude", "longitude", f"{longitude.min():g} … {longitude.max():g} to [0, 360)")
    elif np.any(np.diff(longitude) < 0):
        note(notes, "unsorted_longitude", "longitude", "sorted")
    dataset = take(dataset, "longitude", columns)
    north = {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude"}
    east = {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude"}
    return dataset.assign_coords(
        latitude=("latitude", latitude[order], north), longitude=("longitude", wrapped[columns], east)
    )


def _no_fields(dataset: xr.Dataset, where: str) -> UserError:
    points = {dataset.sizes[axis] for axis in ("latitude", "longitude")}
    for array in dataset.data_vars.values():
        for dim, size in array.sizes.items():
            if points == {size} and size > 1 and dim not in ("latitude", "longitude"):
                return UserError(
                    f"latitude and longitude are as long as {dim}, {size} points: an unstructured grid",
                    where=where,
                    remedy=REGULAR_FIRST,
                )
    return UserError("holds no field on latitude and longitude", where=where, remedy="check what the file holds")


def _on_other_axes(dataset: xr.Dataset, fields: Iterable[Hashable], where: str) -> dict[str, UserError]:
    """Why fields cannot be read that lie on several levels of a vertical axis that is no pressure."""
    errors = {}
    for name in fields:
        for dim in map(str, dataset[name].dims):
            if KIND_MARK in dim and dataset.sizes[dim] > 1:
                kind, _, axis = dim.partition(KIND_MARK)
                values = dataset[dim].variable if dim in dataset.variables else None
                errors[str(name)] = not_pressures(cast(Kind, kind), axis, values, where)
    return errors


def _marked_by_kind_of_level(part: xr.Dataset) -> xr.Dataset:
    """GRIB's name of the kind of level for fields on a single one that is no pressure, where GRIB did not tell."""
    axes = [
        name for name in map(str, [*part.sizes, *part.coords]) if KIND_MARK in name and part.sizes.get(name, 1) == 1
    ]
    for array in part.data_vars.values():
        for axis in axes:
            kind = cast(Kind, axis.partition(KIND_MARK)[0])
            # A single height is that of a field near the ground, whose name says so.
            if kind != "height" and (axis in array.dims or axis in array.coords):
                array.attrs.setdefault("GRIB_typeOfLevel", GRIB_LEVEL_TYPES[kind])
    return part


def canonical_axes(
    raw: xr.Dataset,
    where: str,
    notes: Notes,
    *,
    wanted: Iterable[str] = (),
    member: int | None = None,
    left_out: dict[str, UserError] | None = None,
    further: Sequence[str] = (),
) -> list[xr.Dataset]:
    """Datasets of lazy fields on canonical axes; several where one file holds several forecast steps.

    Args:
        raw: a lazily opened file.
        where: its path, for messages.
        notes: what was changed is added here.
        wanted: names of fields that may not be left out for an odd dimension.
        member: number of the ensemble member to read; default the first, with a note.
        left_out: fields on a vertical axis that is no pressure are added here, with what is to be said of them.
        further: axes that fields may have beside those of states; then times stay as they are.

    Raises:
        UserError: axes that cannot be understood.
    """
    dataset = name_axes(final_first(raw, notes), where)
    fields = [
        name
        for name, array in dataset.data_vars.items()
        if {"latitude", "longitude"} <= set(array.dims)
        and array.dtype.kind in "fiub"
        and str(name).lower() not in _COORDINATE_MAPS
    ]
    if not fields:
        raise _no_fields(dataset, where)
    others = _on_other_axes(dataset, fields, where)
    for other, error in others.items():
        note(notes, "other_vertical_axis", other, error.what)
    if left_out is not None:
        left_out.update(others)
    fields = [name for name in fields if name not in others]
    if not fields:
        return []
    dataset = dataset[fields]
    chunks = {name: stored_chunks(dataset[name].variable) for name in fields}
    for field in fields:
        if "GRIB_paramId" in dataset[field].attrs and dataset[field].chunks is None:
            chunks[field] = {str(dim): 1 for dim in dataset[field].dims if dim in ("time", "step", "level", "number")}
        axes = [str(dim) for dim in dataset[field].dims if dim in ORDER]
        if axes != [dim for dim in ORDER if dim in axes]:
            note(notes, "axis_order", "", f"({', '.join(axes)}), transposed")
    order = (*ORDER[:2], *(axis for axis in further if axis not in ORDER), *ORDER[2:])
    parts = [dataset]
    if not further:
        parts = split_steps(_one_member(dataset, where, notes, member), where, notes)
    canonical = []
    for part in parts:
        part = part if further else trimmed_to_declared(part, where, notes)
        part = _ordered_map(levels_in_hpa(part, where, notes), where, notes)
        part = along_time(merged_versions(part, notes))
        part = _marked_by_kind_of_level(part)
        single = [dim for dim in part.dims if dim not in order and part.sizes[dim] == 1]
        part = part.squeeze(single, drop=True)
        for name, array in list(part.data_vars.items()):
            odd = [str(dim) for dim in array.dims if dim not in order]
            if odd:
                if str(name) in wanted:
                    raise UserError(
                        f"{name} has a dimension {odd[0]} of {part.sizes[odd[0]]}",
                        where=where,
                        remedy="select one of them first",
                    )
                note(notes, "skipped", str(name), f"dimension {odd[0]} is not understood")
                part = part.drop_vars([name])
        number = part.coords.get("number")
        keep = [*order, "step", PRELIMINARY]
        part = part.drop_vars([name for name in part.coords if name not in keep])
        if number is not None and number.ndim == 0:
            part.attrs["number"] = int(number)
        dims = [dim for dim in order if dim in part.dims]
        part = part.transpose(*dims)
        for name, array in part.data_vars.items():
            array.encoding["preferred_chunks"] = {
                dim: min(chunks[str(name)].get(str(dim), size), size)
                for dim, size in array.sizes.items()
                if chunks[str(name)]
            }
        canonical.append(part)
    return canonical
