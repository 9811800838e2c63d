"""Finding the files of a source and opening them lazily, as they are."""

import dataclasses
import glob
import os
import pathlib
from typing import Any, Literal

import numpy as np
import rich.progress
import xarray as xr

from weather_scnn.errors import NothingThere, UserError
from weather_scnn.io import in_memory
from weather_scnn.io.addresses import (
    GRIB_ENDINGS,
    NETCDF_ENDINGS,
    ZARR_MARKS,
    fetched,
    file_and_group,
    is_glob,
    is_remote,
    list_remote,
    require_there,
    unreachable,
)
from weather_scnn.io.filters import lacking_filter
from weather_scnn.io.groups import explain_zarr, open_group, open_store, require_fields
from weather_scnn.io.marks import INCOMPLETE, STATUS
from weather_scnn.io.missing_values import decoded
from weather_scnn.progress import progress_bar

# Opening a netCDF file takes some 5 ms; a bar shows where there are enough to be waited for.
_FILES_WORTH_A_BAR = 300

Format = Literal["zarr", "netcdf", "grib", "memory"]


class UnfinishedStore(UserError):
    """A store whose writing was interrupted."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Files or stores of one format, in the order of their names."""

    format: Format
    paths: tuple[str, ...]


def _is_zarr(path: pathlib.Path) -> bool:
    return path.is_dir() and any((path / mark).exists() for mark in ZARR_MARKS)


def _file_format(path: str) -> Format | None:
    """By the first bytes, else by the ending.

    Raises:
        UserError: a file that stands for another: an archive, a web page, an empty download.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise NothingThere(f"cannot be read ({error.strerror})", where=path, remedy="check its permissions") from error
    if start.startswith(b"GRIB"):
        return "grib"
    if start.startswith((b"CDF", b"\x89HDF")):
        return "netcdf"
    ending = path.lower().endswith(NETCDF_ENDINGS + GRIB_ENDINGS)
    if start.startswith(b"PK"):
        # What the CDS delivers where a request mixes instantaneous and accumulated fields, whatever its ending.
        raise UserError("is a zip archive", where=path, remedy="unzip it and give the folder of the files in it")
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        raise UserError("is compressed", where=path, remedy="uncompress it first, as with gunzip")
    if ending and not start:
        raise UserError("is empty", where=path, remedy="the download failed: fetch it again")
    if ending and start.lstrip()[:1] in (b"<", b"{"):
        raise UserError("holds text, not data", where=path, remedy="the download failed: read it for the reason")
    if path.lower().endswith(GRIB_ENDINGS):
        return "grib"
    return "netcdf" if path.lower().endswith(NETCDF_ENDINGS) else None


def _format_of(path: str) -> Format | None:
    if os.path.isdir(path):
        return "zarr" if _is_zarr(pathlib.Path(path)) else None
    return _file_format(file_and_group(path)[0])


def _local_names(path: str) -> list[str]:
    """Files or stores that a local path, folder or glob names."""
    if is_glob(path):
        names = sorted(glob.glob(path, recursive=True))
        if not names:
            raise NothingThere("no file matches", where=path, remedy="check the pattern, and quote it for the shell")
        return names
    require_there(path)
    folder = pathlib.Path(path)
    if folder.is_dir() and not _is_zarr(folder):
        endings = NETCDF_ENDINGS + GRIB_ENDINGS
        names = sorted(
            str(each) for each in folder.rglob("*") if each.is_file() and each.name.lower().endswith(endings)
        )
        if not names:
            stores = [str(each) for each in sorted(folder.iterdir()) if _is_zarr(each)]
            remedy = f"name the store inside it, such as {stores[0]}" if stores else "name a store or a folder of files"
            raise UserError("is neither a Zarr store nor a folder of netCDF or GRIB files", where=path, remedy=remedy)
        return names
    return [path.rstrip("/")]


def find_source(path: str) -> Source:
    """What lies at a path: a Zarr store, a file, a folder of files, a glob, or an fsspec address of one of them.

    Raises:
        UserError: nothing is there, or nothing that can be read.
    """
    path = str(path)
    if in_memory.held(path) is not None:
        return Source("memory", (path,))
    if is_remote(path):
        file, group = file_and_group(path)
        kind, addresses = list_remote(file, NETCDF_ENDINGS + GRIB_ENDINGS)
        if kind == "zarr":
            return Source("zarr", tuple(addresses))
        names = [f"{name}/{group}" if group else name for name in fetched(addresses)]
    else:
        names = _local_names(path)
    formats: dict[Format, list[str]] = {}
    for name in names:
        found = _format_of(name)
        if found is not None:
            formats.setdefault(found, []).append(name)
        elif len(names) == 1:
            raise UserError("is neither Zarr nor netCDF nor GRIB", where=name, remedy="convert it to one of them")
    if not formats:
        raise UserError("nothing there is Zarr, netCDF or GRIB", where=path, remedy="check the path")
    if len(formats) > 1:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in sorted(formats.items()))
        raise UserError(f"holds files of several formats ({counts})", where=path, remedy="give a glob that matches one")
    ((only, names),) = formats.items()
    return Source(only, tuple(names))


def open_zarr(path: str, *, decode_timedelta: bool = True) -> xr.Dataset:
    """A Zarr store as it is, lazily and without dask; a fill value of 0 is a value, see `_zero_is_a_value`.

    Args:
        path: of the store.
        decode_timedelta: whether what is in units of time becomes durations; else it is left as numbers.

    Raises:
        UserError: it cannot be opened, or is unfinished.
    """
    try:
        # Without dask: blocks of many chunks are made where the axes are known.
        dataset = open_store(path, chunks=None, decode_cf=False)
        dataset = decoded(_zero_is_a_value(dataset), netcdf=False, decode_timedelta=decode_timedelta)
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
    return require_fields(dataset, path, "zarr")


def _zero_is_a_value(dataset: xr.Dataset) -> xr.Dataset:
    """Format 2 of Zarr gives arrays a fill value of 0 by default, which xarray would turn into NaN or NaT.

    No rain is not no data, and hour 0 is a time. In packed integers 0 may well mark what is missing. A store that is
    copied to netCDF or to format 3 takes the fill value along.
    """
    for variable in dataset.variables.values():
        fill: Any = variable.attrs.get("_FillValue")
        packed = variable.dtype.kind in "iu" and {"scale_factor", "add_offset"} & set(variable.attrs)
        if variable.dtype.kind in "fiu" and not packed and np.ndim(fill) == 0 and fill is not None and fill == 0:
            del variable.attrs["_FillValue"]
    return dataset


def _open_netcdf(path: str, *, decode_timedelta: bool = True) -> xr.Dataset:
    file, group = file_and_group(path)
    try:
        raw = _zero_is_a_value(open_group(file, group, chunks=None, cache=False, decode_cf=False))
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


def open_raw(source: Source, *, decode_timedelta: bool = True) -> list[tuple[str, xr.Dataset]]:
    """Lazy datasets of every file, with the file's path; a GRIB file may give several.

    Args:
        source: what to open.
        decode_timedelta: whether what is in units of time becomes durations, except in GRIB, where it always does.

    Raises:
        UserError: a file cannot be read, or a store is unfinished.
    """
    pieces: list[tuple[str, xr.Dataset]] = []
    many = len(source.paths) >= _FILES_WORTH_A_BAR
    with progress_bar(rich.progress.MofNCompleteColumn(), enabled=many) as bar:
        for path in bar.track(source.paths, description="open"):
            if source.format == "zarr":
                pieces.append((path, open_zarr(path, decode_timedelta=decode_timedelta)))
            elif (dataset := in_memory.held(path)) is not None:
                pieces.append((path, dataset))
            elif source.format == "netcdf":
                pieces.append(
                    (path, require_fields(_open_netcdf(path, decode_timedelta=decode_timedelta), path, "netcdf"))
                )
            else:
                from weather_scnn.io.grib import open_grib

                pieces.extend((path, dataset) for dataset in open_grib(path))
    return pieces
