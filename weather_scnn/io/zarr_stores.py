"""Zarr stores of format 2 and 3, and groups in them."""

from typing import Any

import xarray as xr
import zarr

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import ZARR_MARKS, is_remote, unreachable
from weather_scnn.io.filters import lacking_filter
from weather_scnn.io.groups import explain_zarr, open_store, require_fields
from weather_scnn.io.marks import INCOMPLETE, STATUS
from weather_scnn.io.missing_values import decoded, zero_is_a_value
from weather_scnn.io.plain_zarr import ChunkCache, plain_arrays
from weather_scnn.io.stored_fields import stored_fields

#: What lies in a folder that is such a store.
MARKS = ZARR_MARKS


class UnfinishedStore(UserError):
    """A store whose writing was interrupted."""


def opened(path: str, *, decode_timedelta: bool, cache: ChunkCache, store: Any = None) -> list[xr.Dataset]:
    """A store as it is, lazily and without dask.

    Args:
        path: of the store.
        decode_timedelta: whether what is in units of time becomes durations; else it is left as numbers.
        cache: for decoded chunks.
        store: Zarr's own store, where it is another than that at the path.

    Raises:
        UserError: it cannot be opened, or is unfinished.
    """
    try:
        group = zarr.open_group(str(path) if store is None else store, mode="r")
        # A fill value of 0 is a value, see `zero_is_a_value`.
        dataset = open_store(path if store is None else "", group, chunks=None, decode_cf=False)
        dataset = decoded(zero_is_a_value(dataset), netcdf=False, decode_timedelta=decode_timedelta)
    except Exception as error:
        if (lacking := lacking_filter(error, path)) is not None:
            raise lacking from error
        if "dimension" in str(error).lower() and (explained := explain_zarr(path)) is not None:
            raise explained from error
        if is_remote(path):
            raise unreachable(path, error) from error
        if not isinstance(error, OSError | KeyError | ValueError | TypeError | ImportError):
            raise
        raise UserError(
            f"cannot be opened as Zarr ({type(error).__name__}: {error})", where=path, remedy="check the store"
        ) from error
    if dataset.attrs.get(STATUS) == INCOMPLETE:
        raise UnfinishedStore(
            "is unfinished: the command that writes it was interrupted",
            where=path,
            remedy="repeat that command to finish it, or delete the store",
        )
    dataset = require_fields(dataset, path, "zarr")
    if store is not None:
        return [stored_fields(dataset)]
    return [stored_fields(dataset, plain_arrays(path, dataset, group.metadata.zarr_format, cache))]
