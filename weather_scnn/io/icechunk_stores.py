"""Icechunk repositories: Zarr with versions. The newest snapshot of the branch `main` is read."""

from typing import Any

import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io import zarr_stores
from weather_scnn.io.plain_zarr import ChunkCache

#: What lies in a folder that is such a repository.
MARKS = ("snapshots",)
_BRANCH = "main"


def _storage(path: str) -> Any:
    import icechunk

    protocol, _, rest = path.partition("://")
    bucket, _, prefix = rest.partition("/")
    if protocol in ("gs", "gcs"):
        return icechunk.gcs_storage(bucket=bucket, prefix=prefix, from_env=True)
    if protocol in ("s3", "s3a"):
        return icechunk.s3_storage(bucket=bucket, prefix=prefix, from_env=True)
    return icechunk.local_filesystem_storage(rest if protocol == "file" else path)


def opened(path: str, *, decode_timedelta: bool, cache: ChunkCache) -> list[xr.Dataset]:
    """The repository's newest state, lazily.

    Raises:
        UserError: the package is missing, it cannot be opened, or as `zarr_stores.opened`.
    """
    try:
        import icechunk
    except ImportError as error:
        raise UserError(
            "reading Icechunk needs the package icechunk", where=path, remedy="pip install 'weather-scnn[virtual]'"
        ) from error
    try:
        store = icechunk.Repository.open(_storage(path)).readonly_session(_BRANCH).store
    except (icechunk.IcechunkError, ValueError, OSError) as error:
        raise UserError(
            f"cannot be opened as Icechunk ({str(error).splitlines()[0][:160]})",
            where=path,
            remedy=f"check that it has a branch {_BRANCH}, and your credentials",
        ) from error
    return zarr_stores.opened(path, decode_timedelta=decode_timedelta, cache=cache, store=store)
