"""Finding the files of a source and opening them lazily, as they are."""

import dataclasses
import difflib
import glob
import logging
import os
import pathlib
import warnings
from typing import Literal

import fsspec
import xarray as xr
import zarr

from weather_scnn.data.writing import INCOMPLETE, STATUS
from weather_scnn.errors import UserError

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
_NETCDF_ENDINGS = (".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf5")
_GRIB_ENDINGS = (".grib", ".grib1", ".grib2", ".grb", ".grb1", ".grb2", ".gb2", ".gb")
_GLOB_MARKS = "*?["

Format = Literal["zarr", "netcdf", "grib"]


class UnfinishedStore(UserError):
    """A store whose writing was interrupted."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Files or stores of one format, in the order of their names."""

    format: Format
    paths: tuple[str, ...]


def _is_remote(path: str) -> bool:
    return "://" in path or "::" in path


def _is_zarr(path: pathlib.Path) -> bool:
    return path.is_dir() and any((path / mark).exists() for mark in _ZARR_MARKS)


def _file_format(path: str) -> Format | None:
    """By the first bytes, else by the ending."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=path, remedy="check its permissions") from error
    if start.startswith(b"GRIB"):
        return "grib"
    if start.startswith((b"CDF", b"\x89HDF")):
        return "netcdf"
    if path.lower().endswith(_GRIB_ENDINGS):
        return "grib"
    return "netcdf" if path.lower().endswith(_NETCDF_ENDINGS) else None


def _format_of(path: str) -> Format | None:
    if os.path.isdir(path):
        return "zarr" if _is_zarr(pathlib.Path(path)) else None
    return _file_format(path)


def _missing(path: str) -> UserError:
    target = pathlib.Path(path)
    siblings = os.listdir(target.parent) if target.parent.is_dir() else []
    close = difflib.get_close_matches(target.name, siblings, n=1)
    remedy = f"did you mean {target.parent / close[0]}?" if close else "check the path"
    return UserError("there is no such file or folder", where=path, remedy=remedy)


def find_source(path: str) -> Source:
    """What lies at a path: a Zarr store, a file, a folder of files, a glob, or an fsspec address of one of them.

    Raises:
        UserError: nothing is there, or nothing that can be read.
    """
    path = str(path)
    is_glob = any(mark in path for mark in _GLOB_MARKS)
    if _is_remote(path):
        if not is_glob and not path.lower().endswith(_NETCDF_ENDINGS + _GRIB_ENDINGS):
            return Source("zarr", (path.rstrip("/"),))
        try:
            # HDF5 and GRIB need seekable local files; each is fetched once.
            names = sorted(fsspec.open_local(f"simplecache::{path}", simplecache={"same_names": True}))
        except (OSError, ValueError) as error:
            raise UserError(f"cannot be fetched ({error})", where=path, remedy="check the address") from error
    elif is_glob and not os.path.exists(path):
        names = sorted(glob.glob(path, recursive=True))
        if not names:
            raise UserError("no file matches", where=path, remedy="check the pattern, and quote it for the shell")
    elif not os.path.exists(path):
        raise _missing(path)
    elif _is_zarr(pathlib.Path(path)):
        return Source("zarr", (path.rstrip("/"),))
    elif os.path.isdir(path):
        endings = _NETCDF_ENDINGS + _GRIB_ENDINGS
        names = sorted(str(each) for each in pathlib.Path(path).rglob("*") if each.name.lower().endswith(endings))
        if not names:
            stores = [str(each) for each in sorted(pathlib.Path(path).iterdir()) if _is_zarr(each)]
            remedy = f"name the store inside it, such as {stores[0]}" if stores else "name a store or a folder of files"
            raise UserError("is neither a Zarr store nor a folder of netCDF or GRIB files", where=path, remedy=remedy)
    else:
        names = [path]
    formats: dict[Format, list[str]] = {}
    for name in names:
        kind = _format_of(name)
        if kind is not None:
            formats.setdefault(kind, []).append(name)
        elif len(names) == 1:
            raise UserError("is neither Zarr nor netCDF nor GRIB", where=name, remedy="convert it to one of them")
    if not formats:
        raise UserError("nothing there is Zarr, netCDF or GRIB", where=path, remedy="check the path")
    if len(formats) > 1:
        found = ", ".join(f"{len(names)} {kind}" for kind, names in sorted(formats.items()))
        raise UserError(f"holds files of several formats ({found})", where=path, remedy="give a glob that matches one")
    ((found_format, names),) = formats.items()
    return Source(found_format, tuple(names))


def _open_zarr(path: str) -> xr.Dataset:
    try:
        with warnings.catch_warnings():
            # Foreign files inside a store and missing consolidated metadata harm no reading.
            warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)
            warnings.filterwarnings("ignore", message=".*consolidated.*", category=RuntimeWarning)
            dataset = xr.open_zarr(path, chunks={}, decode_timedelta=True)
    except (OSError, KeyError, ValueError, TypeError, ImportError) as error:
        raise UserError(
            f"cannot be opened as Zarr ({type(error).__name__}: {error})",
            where=path,
            remedy="check the address, and your credentials if it is remote",
        ) from error
    if dataset.attrs.get(STATUS) == INCOMPLETE:
        raise UnfinishedStore(
            "is unfinished: the command that writes it was interrupted",
            where=path,
            remedy="repeat that command to finish it, or delete the store",
        )
    return dataset


def _open_netcdf(path: str) -> xr.Dataset:
    try:
        return xr.open_dataset(path, chunks=None, cache=False, decode_timedelta=True)
    except ValueError as error:
        if "unable to decode time" in str(error):
            # Left as numbers, so that the axis is refused or understood where axes are named.
            return xr.open_dataset(path, chunks=None, cache=False, decode_times=False)
        raise UserError(f"cannot be read as netCDF ({error})", where=path, remedy="check the file") from error
    except OSError as error:
        raise UserError(
            f"cannot be read as netCDF ({error.strerror or error})",
            where=path,
            remedy="the file may be cut short: fetch it again",
        ) from error


def _open_grib(path: str) -> list[xr.Dataset]:
    try:
        import cfgrib
        from gribapi.errors import GribInternalError
    except (ImportError, RuntimeError) as error:
        raise UserError(
            "reading GRIB needs cfgrib and eccodes", where=path, remedy="pip install 'weather-scnn[grib]'"
        ) from error
    # An empty indexpath keeps cfgrib from writing an index beside the source.
    options = {"indexpath": "", "squeeze": False, "errors": "raise"}
    try:
        return [
            xr.open_dataset(
                path, engine="cfgrib", chunks=None, cache=False, decode_timedelta=True, backend_kwargs=dict(options)
            )
        ]
    except cfgrib.DatasetBuildError:
        pass  # several hypercubes in one file
    except (OSError, EOFError, ValueError, KeyError, GribInternalError) as error:
        raise _bad_grib(path, error) from error
    logger = logging.getLogger("cfgrib")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        from cfgrib.xarray_store import open_variable_datasets

        return open_variable_datasets(path, backend_kwargs=options, chunks=None, cache=False, decode_timedelta=True)
    except (OSError, EOFError, ValueError, KeyError, GribInternalError) as error:
        raise _bad_grib(path, error) from error
    finally:
        logger.setLevel(level)


def _bad_grib(path: str, error: Exception) -> UserError:
    return UserError(
        f"cannot be read as GRIB ({type(error).__name__}: {error})",
        where=path,
        remedy="the file may be cut short: fetch it again",
    )


def open_raw(source: Source) -> list[tuple[str, xr.Dataset]]:
    """Lazy datasets of every file, with the file's path; a GRIB file may give several.

    Raises:
        UserError: a file cannot be read, or a store is unfinished.
    """
    pieces: list[tuple[str, xr.Dataset]] = []
    for path in source.paths:
        if source.format == "zarr":
            pieces.append((path, _open_zarr(path)))
        elif source.format == "netcdf":
            pieces.append((path, _open_netcdf(path)))
        else:
            pieces.extend((path, dataset) for dataset in _open_grib(path))
    return pieces
