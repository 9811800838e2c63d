"""Datasets in memory as sources: each has an address of its own while it is used, and goes wherever a path goes."""

import contextlib
import itertools
from collections.abc import Iterator

import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import IN_MEMORY, is_in_memory
from weather_scnn.io.marks import REQUEST, STATUS
from weather_scnn.io.plain_zarr import ChunkCache
from weather_scnn.io.stored_fields import stored_fields

_numbers = itertools.count(1)
_held: dict[str, xr.Dataset] = {}


@contextlib.contextmanager
def address_of(source: str | xr.Dataset) -> Iterator[str]:
    """The address under which a dataset is found until the block ends; a path is its own address.

    The dataset may hold NumPy or dask arrays; nothing of it is copied or computed here. Addresses count for this
    process only, so that jobs on them run in its threads.

    Raises:
        UserError: it is neither a dataset nor a path.
    """
    if isinstance(source, xr.DataArray):
        raise UserError("a DataArray was given where a Dataset is wanted", remedy="use array.to_dataset(name=…)")
    if not isinstance(source, xr.Dataset):
        yield str(source)
        return
    address = f"{IN_MEMORY}{next(_numbers)}"
    _held[address] = source
    try:
        yield address
    finally:
        del _held[address]


def held(address: str) -> xr.Dataset | None:
    """The dataset that has this address; None for a path.

    Raises:
        UserError: its block has ended.
    """
    if not is_in_memory(address):
        return None
    if address not in _held:
        raise UserError("is no longer there", where=address, remedy="give the dataset again")
    return _held[address]


def claimed(path: str) -> bool:
    """Whether a path is such an address."""
    return held(path) is not None


def opened(path: str, *, decode_timedelta: bool, cache: ChunkCache) -> list[xr.Dataset]:
    """The dataset that has this address."""
    dataset = held(path)
    assert dataset is not None
    return [stored_fields(dataset)]


def taken_from_store(path: str) -> xr.Dataset:
    """A store that a job has written, in memory, without what belongs to a store.

    That is the state of its writing, and encodings, which would bind whoever writes the dataset again.
    """
    with xr.open_zarr(path, chunks=None, decode_timedelta=True) as opened:
        return without_store(opened.load())


def without_store(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset that was read from a store or file, as if it had been made in memory."""
    result = dataset.drop_encoding()
    result.attrs = {key: value for key, value in result.attrs.items() if key not in (STATUS, REQUEST)}
    return result
