"""Forecasts that lie in several files: one an initial time, as most programs write them, or one a lead time or member."""

import logging
from collections.abc import Sequence

import numpy as np
import xarray as xr

from eval.stores import ORDER
from weather_scnn.errors import UserError
from weather_scnn.io.stored import on_axis

#: Coordinate of a forecast that lacks some pairs of initial and lead time: which it holds.
HELD = "held"
_TOLERANCE_DEGREES = 1e-3
_log = logging.getLogger(__name__)


def joined_forecasts(pieces: Sequence[tuple[str, xr.Dataset]], path: str) -> xr.Dataset:
    """One dataset of files whose dims are (time, prediction_timedelta[, number][, level], latitude, longitude), lazily.

    Times and lead times come out in order; of what is there twice the first is kept. Pairs of them that no file has
    are NaN, and the coordinate `held` tells which.

    Args:
        pieces: files and what they hold.
        path: what was asked for, for messages.

    Raises:
        UserError: they are on different grids, or levels and members do not fit together.
    """
    (first_path, first), *others = pieces
    if not others:
        return first
    for where, piece in others:
        for axis in ("latitude", "longitude"):
            ours, theirs = piece[axis].values, first[axis].values
            if ours.shape != theirs.shape or np.abs(ours - theirs).max() > _TOLERANCE_DEGREES:
                raise UserError(
                    f"has other {axis}s than {first_path}", where=where, remedy="give files of one grid at a time"
                )
    parts: dict[str, list[xr.DataArray]] = {}
    for _, piece in pieces:
        for name, array in piece.data_vars.items():
            array = array.assign_coords(latitude=first["latitude"], longitude=first["longitude"])
            parts.setdefault(str(name), []).append(array)
    axes = {
        axis: np.unique(np.concatenate([piece[axis].values for _, piece in pieces]))
        for axis in ("time", "prediction_timedelta")
    }
    held = np.zeros([axis.size for axis in axes.values()], bool)
    for _, piece in pieces:
        held[np.ix_(*(np.searchsorted(values, piece[axis].values) for axis, values in axes.items()))] = True
    fields = {name: _joined(name, arrays, axes, path) for name, arrays in parts.items()}
    dataset = xr.Dataset(fields, attrs=first.attrs)
    if not held.all():
        _log.warning("%s lacks %d of %d pairs of initial and lead time", path, np.count_nonzero(~held), held.size)
        dataset = dataset.assign_coords({HELD: (tuple(axes), held)})
    return dataset


def _joined(name: str, arrays: list[xr.DataArray], axes: dict[str, np.ndarray], path: str) -> xr.DataArray:
    """One array of all that files hold of a field, on these times and lead times."""
    arrays = _along("prediction_timedelta", arrays)
    # A forecast of 00 UTC is often longer than that of 06 UTC.
    leads = np.unique(np.concatenate([array["prediction_timedelta"].values for array in arrays]))
    arrays = [on_axis(array, "prediction_timedelta", leads) for array in arrays]
    for dim in ("time", "level", "number"):
        arrays = _along(dim, arrays)
    if len(arrays) > 1:
        raise UserError(
            f"the files hold {name} on different sets of levels or members",
            where=path,
            remedy="give files that are alike at a time",
        )
    whole = arrays[0]
    for axis, values in axes.items():
        whole = on_axis(whole, axis, values)
    return whole


def _along(dim: str, arrays: list[xr.DataArray]) -> list[xr.DataArray]:
    """The arrays that differ in one axis alone put together along it."""
    groups: dict[tuple, list[xr.DataArray]] = {}
    for array in arrays:
        others = (other for other in map(str, array.dims) if other != dim and other not in ("latitude", "longitude"))
        key = (array.dims, *((other, array[other].values.tobytes()) for other in others if other in array.coords))
        groups.setdefault(key, []).append(array)
    found = []
    for group in groups.values():
        whole = group[0]
        if len(group) > 1 and dim in whole.dims:
            whole = xr.concat(
                group, dim, coords="minimal", compat="override", join="override", combine_attrs="override"
            )
            whole = whole.isel({dim: np.unique(whole[dim].values, return_index=True)[1]})
            whole = whole.transpose(*(each for each in ORDER if each in whole.dims))
        found.append(whole)
    return found
