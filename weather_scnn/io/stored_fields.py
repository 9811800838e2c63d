"""Fields of xarray whose values are the lazy arrays of `stored`, and what is done with such fields as with any others."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.io.missing_values import within
from weather_scnn.io.plain_zarr import PlainArray
from weather_scnn.io.stored import JoinedParts, StoredArray, StoredPart


def on_axis(array: xr.DataArray, dim: str, values: np.ndarray) -> xr.DataArray:
    """A field on other values of an axis, ascending or not; NaN at those that it has not got."""
    index = array[dim].to_index()
    if not index.is_unique:  # of what is there twice the first counts
        first = np.flatnonzero(~index.duplicated())
        array, index = array.isel({dim: first}), index[first]
    positions = index.get_indexer(pd.Index(values))
    if not isinstance(array.data, StoredArray):
        return array.reindex({dim: values})
    axis, found = array.get_axis_num(dim), array.data
    there = (positions >= 0).all()
    data = found.at(axis, positions) if there else JoinedParts((found,), axis, np.minimum(positions, 0), positions)
    others = {name: each for name, each in array.coords.items() if dim not in each.dims}
    result = xr.DataArray(data, {**others, dim: (dim, values, array[dim].attrs)}, array.dims, array.name, array.attrs)
    result.encoding = array.encoding
    return result


def scaled(array: xr.DataArray, scale: float, offset: float) -> xr.DataArray:
    """A field times a factor plus an offset, in float32 or wider."""
    if isinstance(array.data, StoredArray):
        return array.copy(data=array.data.scaled(scale, offset))
    return array * np.float32(scale) + np.float32(offset) if offset else array * np.float32(scale)


def limited(array: xr.DataArray, limits: tuple[float, float]) -> xr.DataArray:
    """A float32 field with NaN outside of what is valid."""
    if isinstance(array.data, StoredArray):
        return array.copy(data=array.data.limited(limits))
    options: dict[str, Any] = {"dask": "parallelized", "output_dtypes": [np.float32], "keep_attrs": True}
    return xr.apply_ufunc(within, array, kwargs={"limits": limits}, **options)


def stored_fields(dataset: xr.Dataset, plain: Callable[[str], PlainArray | None] = lambda name: None) -> xr.Dataset:
    """A lazily opened dataset with the arrays of this module for its fields; those of dask stay.

    Args:
        dataset: as xarray opens it, without dask.
        plain: gives a field's array by TensorStore, where its numbers are the values.
    """
    result = {
        name: (variable.dims, StoredPart.of(variable, plain(str(name))), variable.attrs, variable.encoding)
        for name, variable in ((name, array.variable) for name, array in dataset.data_vars.items())
        if variable.ndim >= 2 and variable.dtype.kind in "fiub" and variable.chunks is None
        if not isinstance(variable._data, StoredArray)
    }
    return dataset.assign(result) if result else dataset


def as_stored_variable(data: StoredArray, dims: Sequence[str], attrs: Any, encoding: Any) -> xr.Variable:
    """A lazy variable as xarray's own backends give it: loading it loads it."""
    return xr.Variable(dims, xr.core.indexing.LazilyIndexedArray(_Backend(data)), attrs, encoding)


class _Backend(xr.backends.BackendArray):
    """What xarray's lazy indexing asks for values."""

    def __init__(self, array: StoredArray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        support = xr.core.indexing.IndexingSupport.OUTER
        return xr.core.indexing.explicit_indexing_adapter(key, self.shape, support, self._values)

    def _values(self, key: tuple) -> np.ndarray:
        result, axis = self.array, 0
        for each in key:
            if isinstance(each, int | np.integer):
                result = result[(slice(None),) * axis + (int(each),)]
            else:
                result, axis = result.at(axis, each), axis + 1
        return np.asarray(result)
