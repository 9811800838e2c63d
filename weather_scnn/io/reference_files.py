"""References to chunks that lie in other files, as kerchunk and VirtualiZarr write them: many netCDF or GRIB files as one store.

JSON files hold `refs` in kerchunk's layout; folders that end in .parquet or .parq hold the same in tables.
"""

import fsspec
import xarray as xr
import zarr

from weather_scnn.errors import UserError
from weather_scnn.io import zarr_stores
from weather_scnn.io.addresses import is_remote, unreachable
from weather_scnn.io.plain_zarr import ChunkCache

_FOLDERS = (".parq", ".parquet")
_BEGINNING = 2**16


def claimed(path: str) -> bool:
    """By the name, as that of a folder of tables."""
    return path.rstrip("/").lower().endswith(_FOLDERS)


def recognised(path: str, start: bytes) -> bool:
    """By the key that holds the references."""
    if not start.lstrip().startswith(b"{"):
        return False
    with open(path, "rb") as file:
        beginning = file.read(_BEGINNING)
    return b'"refs"' in beginning or b'/.zarray"' in beginning


def _in_tables(path: str) -> fsspec.AbstractFileSystem:
    """The file system of references in tables, which pyarrow reads; fsspec itself would have fastparquet read them."""
    from fsspec.implementations.reference import LazyReferenceMapper

    beside, root = fsspec.core.url_to_fs(path)
    references = LazyReferenceMapper(root, fs=beside, engine="pyarrow")
    addresses = (each[0] for each in references.values() if isinstance(each, list) and each[0])
    protocol = fsspec.core.split_protocol(next(addresses, ""))[0] or "file"
    files = fsspec.filesystem("reference", fo={}, remote_protocol=protocol, asynchronous=True, skip_instance_cache=True)
    files.references = references
    return files


def opened(path: str, *, decode_timedelta: bool, cache: ChunkCache) -> list[xr.Dataset]:
    """What the references make up, lazily; the files that they name are read where they lie.

    Raises:
        UserError: they cannot be read, or as `zarr_stores.opened`.
    """
    try:
        files = _in_tables(path) if claimed(path) else fsspec.filesystem("reference", fo=path, asynchronous=True)
    except (ValueError, KeyError, ImportError, OSError, TypeError) as error:
        if is_remote(path):
            raise unreachable(path, error) from error
        needs = "pip install 'weather-scnn[virtual]'" if isinstance(error, ImportError) else "make the references again"
        raise UserError(
            f"its references cannot be read ({type(error).__name__}: {error})", where=path, remedy=needs
        ) from error
    store = zarr.storage.FsspecStore(files, read_only=True)
    return zarr_stores.opened(path, decode_timedelta=decode_timedelta, cache=cache, store=store)
