"""netCDF files of every kind, and groups in them."""

import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import NETCDF_ENDINGS, file_and_group
from weather_scnn.io.filters import lacking_filter
from weather_scnn.io.groups import open_group, require_fields
from weather_scnn.io.missing_values import decoded, zero_is_a_value
from weather_scnn.io.plain_zarr import ChunkCache
from weather_scnn.io.stored_fields import stored_fields


def recognised(path: str, start: bytes) -> bool:
    """By the first bytes, else by the ending."""
    return start.startswith((b"CDF", b"\x89HDF")) or path.lower().endswith(NETCDF_ENDINGS)


def opened(path: str, *, decode_timedelta: bool, cache: ChunkCache) -> list[xr.Dataset]:
    """A file as it is, lazily and without dask; see `zarr_stores.opened`.

    Raises:
        UserError: it cannot be read.
    """
    return [stored_fields(require_fields(_open_netcdf(path, decode_timedelta=decode_timedelta), path, "netcdf"))]


def _open_netcdf(path: str, *, decode_timedelta: bool = True) -> xr.Dataset:
    file, group = file_and_group(path)
    try:
        raw = zero_is_a_value(open_group(file, group, chunks=None, cache=False, decode_cf=False))
        try:
            return decoded(raw, netcdf=True, decode_timedelta=decode_timedelta)
        except ValueError as error:
            if "unable to decode time" not in str(error):
                raise
            # Left as numbers, so that the axis is refused or understood where axes are named.
            return decoded(raw, netcdf=True, decode_times=False)
    except ValueError as error:
        raise UserError(f"cannot be read as netCDF ({error})", where=path, remedy="check the file") from error
    except RuntimeError as error:  # of the netCDF library, reading axes
        if (lacking := lacking_filter(error, path)) is not None:
            raise lacking from error
        raise UserError(
            f"cannot be read as netCDF ({error})", where=path, remedy="the file may be damaged: fetch it again"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot be read as netCDF ({error.strerror or error})",
            where=path,
            remedy="the file may be cut short: fetch it again",
        ) from error
