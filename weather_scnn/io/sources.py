"""Finding the files of a source and opening them lazily, as they are."""

import dataclasses
import glob
import importlib
import os
import pathlib
from types import ModuleType

import rich.progress
import xarray as xr

from weather_scnn.errors import NothingThere, UserError
from weather_scnn.io.addresses import (
    GRIB_ENDINGS,
    NETCDF_ENDINGS,
    fetched,
    file_and_group,
    is_glob,
    is_remote,
    list_remote,
    require_there,
)
from weather_scnn.io.plain_zarr import ChunkCache
from weather_scnn.progress import progress_bar

#: Formats, and the module of each, asked in this order whether a path is of it: by `claimed(path)` from the path
#: alone, by `recognised(path, start)` from the first bytes of a file, or by `MARKS`, names in a folder. `opened(path,
#: decode_timedelta=…, cache=…)` gives its datasets. A new format is such a module, and a line here.
FORMATS = {
    "memory": "weather_scnn.io.in_memory",
    "references": "weather_scnn.io.reference_files",
    "grib": "weather_scnn.io.grib",
    "netcdf": "weather_scnn.io.netcdf_files",
    "zarr": "weather_scnn.io.zarr_stores",
    "icechunk": "weather_scnn.io.icechunk_stores",
}
# Opening a netCDF file takes some 5 ms; a bar shows where there are enough to be waited for.
_FILES_WORTH_A_BAR = 300


@dataclasses.dataclass(frozen=True)
class Source:
    """Files or stores of one format, in the order of their names."""

    format: str
    paths: tuple[str, ...]


def adapter(name: str) -> ModuleType:
    """The module that reads a format."""
    return importlib.import_module(FORMATS[name])


def _folder_marks() -> dict[str, tuple[str, ...]]:
    return {name: adapter(name).MARKS for name in FORMATS if hasattr(adapter(name), "MARKS")}


def _folder_format(path: pathlib.Path) -> str | None:
    result = (name for name, marks in _folder_marks().items() if any((path / mark).exists() for mark in marks))
    return next(result, None) if path.is_dir() else None


def _claimed(path: str) -> str | None:
    return next((name for name in FORMATS if getattr(adapter(name), "claimed", lambda path: False)(path)), None)


def _file_format(path: str) -> str | None:
    """By the first bytes, else by the ending.

    Raises:
        UserError: a file that stands for another: an archive, a web page, an empty download.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise NothingThere(f"cannot be read ({error.strerror})", where=path, remedy="check its permissions") from error
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
    for name in FORMATS:
        if getattr(adapter(name), "recognised", lambda path, start: False)(path, start):
            return name
    return None


def _format_of(path: str) -> str | None:
    if (name := _claimed(path)) is not None:
        return name
    if os.path.isdir(path):
        return _folder_format(pathlib.Path(path))
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
    if folder.is_dir() and _folder_format(folder) is None:
        endings = NETCDF_ENDINGS + GRIB_ENDINGS
        names = sorted(
            str(each) for each in folder.rglob("*") if each.is_file() and each.name.lower().endswith(endings)
        )
        if not names:
            stores = [str(each) for each in sorted(folder.iterdir()) if _folder_format(each)]
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
    if (claimed := _claimed(path)) is not None:
        return Source(claimed, (path.rstrip("/"),))
    if is_remote(path):
        file, group = file_and_group(path)
        kind, addresses = list_remote(file, NETCDF_ENDINGS + GRIB_ENDINGS, _folder_marks())
        if kind != "files":
            return Source(kind, tuple(addresses))
        names = [f"{name}/{group}" if group else name for name in fetched(addresses)]
    else:
        names = _local_names(path)
    formats: dict[str, list[str]] = {}
    for name in names:
        result = _format_of(name)
        if result is not None:
            formats.setdefault(result, []).append(name)
        elif len(names) == 1:
            raise UserError("is neither Zarr nor netCDF nor GRIB", where=name, remedy="convert it to one of them")
    if not formats:
        raise UserError("nothing there is Zarr, netCDF or GRIB", where=path, remedy="check the path")
    if len(formats) > 1:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in sorted(formats.items()))
        raise UserError(f"holds files of several formats ({counts})", where=path, remedy="give a glob that matches one")
    ((only, names),) = formats.items()
    return Source(only, tuple(names))


def open_one(path: str) -> xr.Dataset:
    """A store or file as it is, lazily; durations are left as numbers.

    Raises:
        UserError: nothing there, several files, not readable, or the unfinished output of an interrupted command.
    """
    raw = open_raw(find_source(str(path)), decode_timedelta=False)
    if len(raw) > 1:
        raise UserError(f"is {len(raw)} files or messages", where=str(path), remedy="give one store or file")
    return raw[0][1]


def open_raw(
    source: Source, *, decode_timedelta: bool = True, cache: ChunkCache | None = None
) -> list[tuple[str, xr.Dataset]]:
    """Lazy datasets of every file, with the file's path; a GRIB file may give several.

    Their fields are `stored.StoredArray`s, or dask arrays of a dataset in memory.

    Args:
        source: what to open.
        decode_timedelta: whether what is in units of time becomes durations, except in GRIB, where it always does.
        cache: memory for decoded chunks, where TensorStore reads them; none by default.

    Raises:
        UserError: a file cannot be read, or a store is unfinished.
    """
    opened = adapter(source.format).opened
    many = len(source.paths) >= _FILES_WORTH_A_BAR
    cache = ChunkCache() if cache is None else cache
    with progress_bar(rich.progress.MofNCompleteColumn(), enabled=many) as bar:
        return [
            (path, dataset)
            for path in bar.track(source.paths, description="open")
            for dataset in opened(path, decode_timedelta=decode_timedelta, cache=cache)
        ]
