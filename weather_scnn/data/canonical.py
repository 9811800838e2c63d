"""One source dataset as files have it → the canonical axes: names, order, units of coordinates.

Names decide, never positions (makani's converter: some WeatherBench 2 stores are (…, longitude, latitude)). Everything
here moves indices only; no field is read.
"""

from collections.abc import Iterable

import numpy as np
import xarray as xr

from weather_scnn.data.blocks import in_blocks, stored_chunks
from weather_scnn.data.notes import ORDER, Notes, logger, note
from weather_scnn.data.time_axis import split_steps, trimmed_to_declared
from weather_scnn.errors import UserError

_ROLES = {
    "latitude": {"latitude", "lat", "nav_lat", "ylat", "g0_lat_1"},
    "longitude": {"longitude", "lon", "long", "nav_lon", "xlon", "g0_lon_2"},
    "level": {
        "level",
        "pressure_level",
        "plev",
        "isobaricinhpa",
        "isobaricinpa",
        "isobaric",
        "lev",
        "pressure",
        "levels",
    },
    "valid_time": {"valid_time"},
    "time": {"time", "time_index", "date", "datetime", "forecast_reference_time", "init_time"},
    "step": {"step", "forecast_period"},
    "prediction_timedelta": {"prediction_timedelta", "lead_time"},
    "number": {"number", "member", "realization", "ensemble"},
}
_BY_LOWER = {name: role for role, names in _ROLES.items() for name in names}
_STANDARD = {"latitude": "latitude", "longitude": "longitude", "air_pressure": "level", "realization": "number"}
_UNITS = {
    "degrees_north": "latitude",
    "degree_north": "latitude",
    "degrees_east": "longitude",
    "degree_east": "longitude",
}

# Maps of the coordinates themselves, as in WeatherBench's file of constants.
_COORDINATE_MAPS = {"lat2d", "lon2d", "latitude2d", "longitude2d", "xlat", "xlong"}


def _role(name: str, variable: xr.Variable) -> str | None:
    role = _BY_LOWER.get(name.lower()) or _STANDARD.get(str(variable.attrs.get("standard_name", "")).lower())
    role = role or _UNITS.get(str(variable.attrs.get("units", "")).lower())
    if role == "level" and name.lower() == "lev" and variable.ndim == 0:
        return None  # cdo's generic level of surface fields
    return role


def name_axes(dataset: xr.Dataset, where: str) -> xr.Dataset:
    """Renames coordinates and dimensions to the canonical names, and drops other coordinates.

    Raises:
        UserError: latitudes and longitudes are two-dimensional, or two axes claim one name.
    """
    rename: dict[str, str] = {}
    for name, variable in dataset.variables.items():
        name = str(name)
        if name not in dataset.coords and name not in dataset.dims:
            if name.lower() not in _BY_LOWER or variable.ndim == 0:
                continue
        role = _role(name, variable)
        if role in ("latitude", "longitude") and variable.ndim == 2:
            if {"latitude", "longitude"} <= {_BY_LOWER.get(str(dim).lower()) for dim in variable.dims}:
                continue  # a map of coordinates that the axes have as well
            raise UserError(
                f"{name} is two-dimensional: the grid is curvilinear",
                where=where,
                remedy="bring the file to a latitude x longitude grid first, for example with `cdo remapcon`",
            )
        if role in ("latitude", "longitude") and variable.ndim == 1 and variable.dims[0] != name:
            along = str(variable.dims[0])
            others = {str(dim) for each, other in dataset.variables.items() for dim in other.dims if each != name
                      and _role(str(each), other) in ("latitude", "longitude")}  # fmt: skip
            if along in others:
                raise UserError(
                    f"{name} runs along {along} with the other coordinate: a reduced Gaussian or unstructured grid",
                    where=where,
                    remedy="bring the file to a latitude x longitude grid first, for example with "
                    "`cdo setgridtype,regular` or by asking the archive for a regular grid",
                )
        if (role is not None and variable.ndim <= 1) or role == "valid_time":
            rename[name] = str(role)
    for dim in dataset.dims:
        role = _BY_LOWER.get(str(dim).lower())
        if role is not None and dim not in dataset.variables:
            rename.setdefault(str(dim), role)
    for role in set(rename.values()):
        claimants = [name for name, each in rename.items() if each == role]
        if len(claimants) > 1:
            axes = [name for name in claimants if name in dataset.dims]
            if len(axes) > 1:
                raise UserError(
                    f"{' and '.join(axes)} are both a {role} axis", where=where, remedy="keep one of them in the file"
                )
            for name in claimants:
                if name not in (axes or claimants[:1]):
                    del rename[name]
    dataset = dataset.drop_vars([name for name in dataset.coords if name not in rename])
    dataset = dataset.rename({name: role for name, role in rename.items() if name != role})
    if "valid_time" in dataset.dims:
        # A CDS file of today: valid_time is the axis, and time, if there, something else.
        dataset = dataset.drop_vars("time", errors="ignore").rename({"valid_time": "time"})
    elif "valid_time" in dataset.variables and "time" not in dataset.variables:
        dataset = dataset.rename({"valid_time": "time"})
    for axis in ("latitude", "longitude"):
        if axis in dataset.dims and axis not in dataset.variables:
            raise UserError(f"the {axis} axis has no coordinate values", where=where, remedy="add them to the file")
        if axis not in dataset.dims and axis in dataset.variables and dataset[axis].ndim == 0:
            dataset = dataset.expand_dims(axis)
        if axis not in dataset.dims and "sh" in {each.attrs.get("GRIB_gridType") for each in dataset.values()}:
            raise UserError(
                "holds spherical-harmonic coefficients, not values on a grid",
                where=where,
                remedy="ask the archive for a regular grid, or transform with `cdo sp2gpl` first",
            )
        if axis not in dataset.dims:
            raise UserError(
                f"there is no {axis} axis among ({', '.join(map(str, dataset.dims))})",
                where=where,
                remedy="give data on a latitude x longitude grid, with axes named latitude and longitude",
            )
    coordinates = [name for name in ("latitude", "longitude", "level", "time", "step", "number") if name in dataset]
    return dataset.set_coords(coordinates)


def _one_member(dataset: xr.Dataset, where: str, notes: Notes, member: int | None) -> xr.Dataset:
    if "number" not in dataset.dims:
        return dataset
    numbers = dataset["number"].values if "number" in dataset.variables else np.arange(dataset.sizes["number"])
    chosen = 0
    if member is not None and len(numbers) > 1:
        found = np.flatnonzero(numbers == member)
        if len(found) == 0:
            raise UserError(
                f"has no ensemble member {member}",
                where=where,
                remedy=f"choose from {', '.join(map(str, numbers[:12]))}{' …' if len(numbers) > 12 else ''}",
            )
        chosen = int(found[0])
    elif len(numbers) > 1:
        logger.warning("%s holds %d ensemble members; number %s alone is read", where, len(numbers), numbers[0])
        note(notes, "ensemble_member", "", f"number {numbers[0]} of {len(numbers)} members")
    return dataset.isel(number=chosen)


def _note_preliminary(raw: xr.Dataset, notes: Notes) -> None:
    """A CDS file of today names the version of each time in a coordinate: 0001 is ERA5, 0005 is ERA5T."""
    for name, variable in raw.variables.items():
        if str(name).lower() == "expver" and str(name) not in raw.dims and variable.size:
            versions = {str(value).strip().lstrip("0") for value in np.atleast_1d(variable.values).ravel()}
            if "5" in versions:
                note(notes, "preliminary", "", "some times are ERA5T" if "1" in versions else "all times are ERA5T")


def levels_in_hpa(dataset: xr.Dataset, where: str, notes: Notes) -> xr.Dataset:
    """Levels ascending, each once, in hPa: as integers where all are; fields of levels without values are dropped.

    Raises:
        UserError: they are not pressures.
    """
    if "level" not in dataset.variables:
        return dataset.drop_dims("level") if "level" in dataset.dims else dataset
    if "level" not in dataset.dims:
        dataset = dataset.expand_dims("level")
    levels = dataset["level"].values.astype(np.float64)
    units = str(dataset["level"].attrs.get("units", "")).lower()
    if units == "pa" or (units not in ("hpa", "millibars", "mb", "mbar") and levels.max() > 1200):
        note(notes, "levels_in_pa", "level", "divided by 100")
        levels = levels / 100.0
    if levels.min() <= 0 or levels.max() > 1200:
        raise UserError(
            f"levels {levels.min():g} … {levels.max():g} are not pressures in hPa or Pa",
            where=where,
            remedy="interpolate to pressure levels first",
        )
    levels = np.round(levels, 6)
    order = np.unique(levels, return_index=True)[1]
    if len(order) < len(levels):
        note(notes, "repeated_levels", "level", "the first of each kept")
    ordered = levels[order]
    dataset = take(dataset, "level", order)
    whole = np.all(ordered == np.round(ordered))
    attributes = {"units": "hPa", "long_name": "pressure level", "positive": "down"}
    return dataset.assign_coords(level=("level", ordered.astype(np.int64) if whole else ordered, attributes))


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


def _merge_expver(dataset: xr.Dataset, notes: Notes) -> xr.Dataset:
    """Final ERA5 (expver 1) where it is there, preliminary ERA5T (expver 5) elsewhere."""
    dims = [dim for dim in dataset.dims if str(dim).lower() == "expver"]
    for dim in dims:
        if dataset.sizes[dim] > 1:
            note(notes, "expver", "", "ERA5 where given, else ERA5T")
        merged = dataset.isel({dim: 0})
        for position in range(1, dataset.sizes[dim]):
            other = dataset.isel({dim: position})
            merged = merged.assign(
                {
                    name: array.where(array.notnull(), other[name])
                    for name, array in merged.data_vars.items()
                    if dim in dataset[name].dims
                }
            )
        for name in merged.data_vars:
            merged[name].attrs.update(dataset[name].attrs)
        dataset = merged
    return dataset


def _narrowed(dataset: xr.Dataset, period: slice | None) -> xr.Dataset:
    """The times of a period, where they are in order and some lie in it; the rest is for the reader to select."""
    if period is None or "time" not in dataset.dims or not dataset["time"].to_index().is_monotonic_increasing:
        return dataset
    chosen = dataset["time"].to_index().slice_indexer(period.start, period.stop)
    return dataset.isel(time=chosen) if chosen.stop > chosen.start else dataset


def canonical_axes(
    raw: xr.Dataset,
    where: str,
    notes: Notes,
    *,
    wanted: Iterable[str] = (),
    member: int | None = None,
    period: slice | None = None,
) -> list[xr.Dataset]:
    """Datasets of lazy fields on canonical axes; several where one file holds several forecast steps.

    Args:
        raw: a lazily opened file.
        where: its path, for messages.
        notes: what was changed is added here.
        wanted: names of fields that may not be left out for an odd dimension.
        member: number of the ensemble member to read; default the first, with a note.
        period: of the times that will be kept, so that blocks are made of those alone.

    Raises:
        UserError: axes that cannot be understood.
    """
    _note_preliminary(raw, notes)
    dataset = name_axes(raw, where)
    fields = [
        name
        for name, array in dataset.data_vars.items()
        if {"latitude", "longitude"} <= set(array.dims)
        and array.dtype.kind in "fiub"
        and str(name).lower() not in _COORDINATE_MAPS
    ]
    if not fields:
        raise UserError("holds no field on latitude and longitude", where=where, remedy="check what the file holds")
    dataset = dataset[fields]
    chunks = {name: stored_chunks(dataset[name].variable) for name in fields}
    for name in fields:
        if "GRIB_paramId" in dataset[name].attrs and dataset[name].chunks is None:
            chunks[name] = {str(dim): 1 for dim in dataset[name].dims if dim in ("time", "step", "level", "number")}
    for name in fields:
        axes = [str(dim) for dim in dataset[name].dims if dim in ORDER]
        if axes != [dim for dim in ORDER if dim in axes]:
            note(notes, "axis_order", "", f"({', '.join(axes)}), transposed")
    dataset = _one_member(dataset, where, notes, member)
    canonical = []
    for part in split_steps(dataset, where, notes):
        part = _narrowed(trimmed_to_declared(part, where, notes), period)
        part = _ordered_map(levels_in_hpa(part, where, notes), where, notes)
        part = part.assign({name: in_blocks(array.variable, chunks[name]) for name, array in part.data_vars.items()})
        part = _merge_expver(part, notes)
        single = [dim for dim in part.dims if dim not in ORDER and part.sizes[dim] == 1]
        part = part.squeeze(single, drop=True)
        for name, array in list(part.data_vars.items()):
            odd = [str(dim) for dim in array.dims if dim not in ORDER]
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
        keep = [*ORDER, "step"]
        part = part.drop_vars([name for name in part.coords if name not in keep])
        if number is not None and number.ndim == 0:
            part.attrs["number"] = int(number)
        dims = [dim for dim in ORDER if dim in part.dims]
        part = part.transpose(*dims)
        for name, array in part.data_vars.items():
            array.encoding["preferred_chunks"] = {
                dim: min(chunks[name].get(str(dim), size), size) for dim, size in array.sizes.items() if chunks[name]
            }
        canonical.append(part)
    return canonical
