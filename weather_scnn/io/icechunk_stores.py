"""Icechunk repositories: Zarr with versions. The newest snapshot of the branch `main` is read."""

import os
from typing import Any

import fsspec.config
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io import zarr_stores
from weather_scnn.io.addresses import is_remote
from weather_scnn.io.plain_zarr import ChunkCache

#: What lies in a folder that is such a repository.
MARKS = ("snapshots",)
_BRANCH = "main"


def claimed(path: str) -> bool:
    """By the name, as dynamical.org calls its repositories: their addresses are those of no folder that can be listed."""
    return path.rstrip("/").lower().endswith(".icechunk")


def _storage(path: str) -> Any:
    """Where a repository lies, with the options that fsspec has for such addresses, see `addresses`."""
    import icechunk

    protocol, _, rest = path.partition("://")
    bucket, _, prefix = rest.rstrip("/").partition("/")
    if protocol in ("gs", "gcs"):
        anonymous = fsspec.config.conf.get("gs", {}).get("token") == "anon"
        return icechunk.gcs_storage(bucket=bucket, prefix=prefix, anonymous=anonymous or None, from_env=not anonymous)
    if protocol in ("s3", "s3a"):
        options = fsspec.config.conf.get("s3", {})
        anonymous, client = bool(options.get("anon")), options.get("client_kwargs", {})
        region = options.get("region") or client.get("region_name") or os.environ.get("AWS_REGION")
        endpoint = options.get("endpoint_url") or client.get("endpoint_url")
        return icechunk.s3_storage(
            bucket=bucket, prefix=prefix, region=region, endpoint_url=endpoint,
            allow_http=str(endpoint).startswith("http://"), anonymous=anonymous or None, from_env=not anonymous,
        )  # fmt: skip
    return icechunk.local_filesystem_storage(rest if protocol == "file" else path)


def _repository(path: str) -> Any:
    """The repository, which may read the chunks in other files that it names: without credentials those of clouds, and
    those of this machine where it is of this machine itself."""
    import icechunk

    icechunk.set_logs_filter("error")  # it warns of writing at the same time, and nothing is written here
    storage = _storage(path)
    configuration = icechunk.Repository.fetch_config(storage)
    containers = (configuration and configuration.virtual_chunk_containers) or {}
    public = {
        "s3": icechunk.s3_anonymous_credentials,
        "gs": lambda: icechunk.gcs_credentials(anonymous=True),
        "gcs": lambda: icechunk.gcs_credentials(anonymous=True),
    }
    allowed = {
        prefix: public.get(protocol, lambda: None)()
        for prefix in containers
        if (protocol := prefix.partition("://")[0]) != "file" or not is_remote(path)
    }
    return icechunk.Repository.open(
        storage, authorize_virtual_chunk_access=icechunk.containers_credentials(allowed) if allowed else None
    )


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
        store = _repository(path).readonly_session(_BRANCH).store
    except (icechunk.IcechunkError, ValueError, OSError) as error:
        raise UserError(
            f"cannot be opened as Icechunk ({str(error).splitlines()[0][:160]})",
            where=path,
            remedy=f"check that it has a branch {_BRANCH}, and your credentials",
        ) from error
    return zarr_stores.opened(path, decode_timedelta=decode_timedelta, cache=cache, store=store)
