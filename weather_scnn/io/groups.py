"""Stores that keep their fields in groups, and stores of points in a row: what they are, and what can be given."""

from typing import Any

import xarray as xr
import zarr
from xarray.backends import ZarrStore

from weather_scnn.errors import UserError

_LISTED = 12
_ANEMOI = {"data", "dates", "latitudes", "longitudes"}


def open_group(path: str, group: str | None, **options: Any) -> xr.Dataset:
    """A netCDF file, or a group of it with those coordinates of the file that its fields need.

    Raises:
        UserError: there is no such group.
    """
    if group is None:
        return xr.open_dataset(path, **options)
    try:
        dataset = xr.open_dataset(path, group=group, **options)
    except (OSError, KeyError) as error:
        held = _netcdf_groups(path)
        if group in held:
            raise
        raise UserError(
            f"has no group {group} with fields", where=path, remedy=_choose(path, held) or "leave the group out"
        ) from error
    root = xr.open_dataset(path, **options)
    shared = {name: root[name] for name in dataset.dims if name in root.variables and name not in dataset.variables}
    return dataset.assign_coords({name: array.variable for name, array in shared.items()})


def open_store(path: str, group: zarr.Group | None = None, **options: Any) -> xr.Dataset:
    """A Zarr store by its consolidated metadata, where it has any.

    xarray warns where there are none, and a warning cannot be hushed in one thread alone (Python 3.11).

    Args:
        path: local or an fsspec address; empty where the store lies in no groups.
        group: the store, where it is open.
        options: of `xarray.open_dataset`.
    """
    group = zarr.open_group(str(path), mode="r") if group is None else group
    # Format 2 marks what is missing by the fill value alone.
    store = ZarrStore(group, mode="r", use_zarr_fill_value_as_mask=group.metadata.zarr_format == 2)
    dataset = xr.open_dataset(store, **options)
    lacking = {str(dim) for dim in dataset.dims} - set(map(str, dataset.variables))
    return _with_coordinates_above(dataset, str(path), lacking, options) if lacking and path else dataset


def _with_coordinates_above(dataset: xr.Dataset, path: str, lacking: set[str], options: dict[str, Any]) -> xr.Dataset:
    """A group of a store with those coordinates of the groups it lies in that its fields need."""
    above = path.rstrip("/").rpartition("/")[0]
    try:
        group = zarr.open_group(above, mode="r")
        store = ZarrStore(group, mode="r", use_zarr_fill_value_as_mask=group.metadata.zarr_format == 2)
        # Of fields there nothing is opened: they may not be alike, as coordinates are.
        others = [name for name in map(str, group.array_keys()) if name not in lacking]
        outer = xr.open_dataset(store, **{**options, "drop_variables": others})
    except (OSError, ValueError, KeyError, TypeError, ImportError):  # it lies in no group
        return dataset
    result = {name: outer[name].variable for name in lacking & set(map(str, outer.variables))}
    result = {name: each for name, each in result.items() if each.shape == (dataset.sizes[name],)}
    dataset = dataset.assign_coords(result)
    lacking = lacking - result.keys()
    return _with_coordinates_above(dataset, above, lacking, options) if lacking and above else dataset


def _netcdf_groups(path: str) -> list[str]:
    """Groups that hold arrays of two or more dimensions."""
    try:
        tree = xr.open_datatree(path, decode_cf=False, chunks=None)
    except (OSError, ValueError, TypeError):
        return []
    with tree:
        result = [
            node.path.strip("/") for node in tree.subtree if any(each.ndim > 1 for each in node.variables.values())
        ]
    return [each for each in result if each]


def _zarr_groups(group: zarr.Group, depth: int = 4) -> list[str]:
    result = []
    for name, child in sorted(group.groups()):
        if any(array.ndim > 1 for _, array in child.arrays()):
            result.append(name)
        if depth:
            result += [f"{name}/{each}" for each in _zarr_groups(child, depth - 1)]
    return result


def _choose(path: str, groups: list[str]) -> str:
    return f"give {path}/{groups[0]}" if groups else ""


def require_fields(dataset: xr.Dataset, path: str, store: str) -> xr.Dataset:
    """The dataset, if it may hold fields.

    Args:
        dataset: as opened.
        path: of the store or file.
        store: zarr or netcdf.

    Raises:
        UserError: all its fields are in groups, or it is an anemoi data set.
    """
    if set(map(str, dataset.variables)) >= _ANEMOI:
        raise _anemoi(path, dataset.attrs)
    if any(variable.ndim > 1 for variable in dataset.variables.values()):
        return dataset
    groups = _netcdf_groups(path) if store == "netcdf" else _zarr_groups(zarr.open_group(path, mode="r"))
    if not groups:
        return dataset
    raise UserError(
        f"its fields are in the groups {', '.join(groups[:_LISTED])}{' …' if len(groups) > _LISTED else ''}",
        where=path,
        remedy=_choose(path, groups),
    )


def explain_zarr(path: str) -> UserError | None:
    """What a Zarr store is that xarray cannot open, as it tells no names of dimensions; None if nothing is known."""
    try:
        group = zarr.open_group(path, mode="r")
        arrays = {str(name) for name in group.array_keys()}
        attributes = dict(group.attrs)
    except Exception:  # whatever keeps it from being opened has been told
        return None
    if arrays >= _ANEMOI:
        return _anemoi(path, attributes)
    if arrays:
        return UserError(
            f"its arrays ({', '.join(sorted(arrays)[:_LISTED])}) have no names of dimensions",
            where=path,
            remedy="write them as xarray does, with _ARRAY_DIMENSIONS (format 2) or dimension_names (format 3)",
        )
    return None


def _anemoi(path: str, attributes: dict) -> UserError:
    names = attributes.get("variables") or []
    held = f" of {', '.join(map(str, names[:6]))}{' …' if len(names) > 6 else ''}" if names else ""
    return UserError(
        f"is an anemoi data set{held}: one array of points in a row, not fields on latitude x longitude",
        where=path,
        remedy="give what it was made from, or write each variable as an array (time, latitude, longitude) first",
    )
