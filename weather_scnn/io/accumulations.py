"""Totals over longer windows than a source has: of six hours from hourly ones, of a day from either.

A total at a time ends there. It is made from totals whose windows touch without a gap, found by timestamp, never by
index; a time for which one is missing has no total. Negative amounts of water are artefacts of packing
(weatherbench2#215): they are set to zero and counted.
"""

import collections
import threading
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.naming import lookup, window_name
from weather_scnn.errors import UserError
from weather_scnn.io.canonical import take

_here = threading.local()  # a worker's thread tells of its own work item


def take_clipped_counts() -> dict[str, int]:
    """Negative values set to zero by this thread since its last call, by variable."""
    counts = dict(getattr(_here, "clipped", {}))
    _here.clipped = collections.Counter()
    return counts


def _clip(values: np.ndarray, name: str) -> np.ndarray:
    negative = int((values < 0).sum())
    if negative:
        before: Any = getattr(_here, "clipped", collections.Counter())
        _here.clipped = before + collections.Counter({name: negative})
        return np.where(values < 0, np.zeros((), values.dtype), values)
    return values


def clipped(array: xr.DataArray, name: str) -> xr.DataArray:
    """The array, lazily, with negative values set to zero and counted for `take_clipped_counts`."""
    attributes = array.attrs
    array = xr.apply_ufunc(
        _clip, array, kwargs={"name": name}, dask="parallelized", output_dtypes=[array.dtype], keep_attrs=True
    )
    array.attrs = attributes
    return array


def summable(name: str, held: list[str]) -> str | None:
    """Which of the variables held has totals that add up to `name`: the longest window that divides its own."""
    wanted = lookup(name)
    if wanted is None or wanted.window_hours is None:
        return None
    best: tuple[int, str] | None = None
    for each in held:
        variable = lookup(each)
        if variable is None or variable.window_hours is None:
            continue
        fits = wanted.window_hours % variable.window_hours == 0 and variable.window_hours < wanted.window_hours
        if fits and window_name(variable.name, wanted.window_hours) == wanted.name:
            best = max(best or (0, ""), (variable.window_hours, each))
    return best[1] if best else None


def total(array: xr.DataArray, *, name: str, hours: int, window_hours: int) -> xr.DataArray:
    """Sums of consecutive totals, at every time for which all of them are there.

    Args:
        array: lazy field with a time axis, each value the total of the `window_hours` before its time.
        name: of the result; decides whether negative values are artefacts.
        hours: window of the result, a multiple of `window_hours`.
        window_hours: window of `array`.

    Raises:
        UserError: the windows do not divide, or no time has all parts.
    """
    if hours % window_hours:
        raise UserError(
            f"{name}: {hours} h are no multiple of the {window_hours} h of the totals there",
            remedy="ask for a window that is",
        )
    variable = lookup(name)
    if variable is not None and variable.never_negative:
        array = clipped(array, name)
    index = pd.DatetimeIndex(array["time"].values)
    offsets = [pd.Timedelta(hours=window_hours * part) for part in range(hours // window_hours)]
    positions = np.stack([index.get_indexer(index - offset) for offset in offsets])
    complete = np.flatnonzero((positions >= 0).all(axis=0))
    if not len(complete):
        raise UserError(
            f"no time has the {len(offsets)} totals of {window_hours} h before it that make {name}",
            remedy=f"give a source with a total every {window_hours} h",
        )
    kept = index[complete]
    dataset = array.to_dataset(name="part")
    result: xr.DataArray | None = None
    for row in positions[:, complete]:
        part = take(dataset, "time", row)["part"].assign_coords(time=kept)
        result = part if result is None else result + part
    assert result is not None
    return result.rename(name)
