"""Where a command may write: nowhere on what it reads, over nothing that this program has not made, where it can.

All of it is said before any work, so this module loads neither xarray nor JAX.
"""

import fnmatch
import os
import pathlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from weather_scnn.errors import UserError, place_fault
from weather_scnn.io.addresses import GRIB_ENDINGS, NETCDF_ENDINGS, is_glob, is_remote, located, require_there
from weather_scnn.io.marks import INCOMPLETE, STATUS, Kind, refuse_foreign, store_attributes, stranger_in_workdir

_FILES_OF_OTHER_KINDS = (".zip", ".tar", ".gz", ".html", ".htm", ".csv", ".txt", ".json", ".png", ".parquet", ".py")
# A probe of a page shows a full disk too, not only one that is read-only.
_PROBE_BYTES = 4096
_LONGEST_NAME = 200  # what is written beside it has a longer one
_OTHER_NAMES = {"gcs": "gs", "s3a": "s3", "abfss": "abfs", "adl": "abfs", "az": "abfs"}


def check_output(
    path: str,
    kind: Kind,
    *,
    sources: Mapping[str, str | Iterable[str] | None] | None = None,
    overwrite: bool = False,
) -> None:
    """Refuses an output that must not or cannot be written, before any work.

    Args:
        path: of the output, local or an fsspec address.
        kind: what is to be written there.
        sources: paths, globs or addresses that the command reads, by the option that names them.
        overwrite: whether an older output of this program may be replaced.

    Raises:
        UserError: its name is that of another format; it is, holds or lies in something that the command reads;
            something stands there; a local source is missing; or the place cannot be written to.
    """
    check_ending(path, kind)
    refuse_sources(path, sources or {})
    refuse_to_overwrite(path, kind, overwrite=overwrite)
    for named in (sources or {}).values():
        for source in _each(named):
            require_there(source)
    refuse_unwritable(path, parent_must_exist=kind in (Kind.FILE, Kind.TABLE))


def check_ending(path: str, kind: Kind) -> None:
    """Raises UserError if a path is by its name no output of a kind."""
    lower = path.rstrip("/").lower()
    if kind is Kind.FILE:
        # A name without an ending will do.
        if lower.endswith((".zarr", *GRIB_ENDINGS, *_FILES_OF_OTHER_KINDS)) or path.endswith("/"):
            raise UserError("is no name for a netCDF file", where=path, remedy="end it in .nc, for that is written")
        return
    if kind is Kind.TABLE:
        if not lower.endswith(".csv"):
            raise UserError("is not the name of a table", where=path, remedy="end it in .csv")
        return
    folder = kind is not Kind.STORE
    if folder and is_remote(path):
        raise UserError(f"a {kind.value} is written here", where=path, remedy="choose a folder, and copy it afterwards")
    others = (*NETCDF_ENDINGS, *GRIB_ENDINGS, *_FILES_OF_OTHER_KINDS, *((".zarr",) if folder else ()))
    if lower.endswith(others):
        written, example = ("a folder", "name a folder") if folder else ("a Zarr store", "end it in .zarr")
        raise UserError(f"is no name for {written}, which is what is written", where=path, remedy=example)


# --- what a command reads ---------------------------------------------------------------------------------------------


def refuse_sources(
    path: str, sources: Mapping[str, str | Iterable[str] | None], *, inside_is_fine: bool = False
) -> None:
    """Refuses an output that is one of the sources, lies in one or holds one, however either is spelled.

    Args:
        path: of the output.
        sources: see `check_output`.
        inside_is_fine: whether the output may lie in a source, as in the workdir of a run.

    Raises:
        UserError: it does.
    """
    for option, named in sources.items():
        for source in _each(named):
            relation = _relation(path, source)
            if relation and not (inside_is_fine and relation.startswith("lies in")):
                raise UserError(f"the output {relation} {option}, {source}", where=path, remedy="choose another output")


def _each(named: str | Iterable[str] | None) -> Iterable[str]:
    return [named] if isinstance(named, str) else named or ()


def _relation(output: str, source: str) -> str:
    """How an output lies to a source: "is", "lies in", "holds", "would be among"; empty where they are apart."""
    if is_glob(source) and not is_remote(source):
        return _relation_to_glob(output, source)
    here, there = _lineage(output), _lineage(source)
    if here[0] & there[0]:
        return "is the"
    if any(there[0] & each for each in here[1:]):
        return "lies in the"
    if any(here[0] & each for each in there[1:]):
        return "holds the"
    return ""


def _relation_to_glob(output: str, pattern: str) -> str:
    """As `_relation`, to the files that a pattern names now, and to those it would name next."""
    target, wanted = (pathlib.Path(os.path.abspath(os.path.expanduser(each))).parts for each in (output, pattern))
    if "**" in wanted:
        matches = fnmatch.fnmatch("/".join(target), "/".join(wanted).replace("**/", "*"))
    else:
        matches = len(target) == len(wanted) and all(map(fnmatch.fnmatch, target, wanted))
    if matches:
        return "would be among the files of"
    # The folder before the first wildcard is enough to know what holds the files.
    fixed = next(place for place, part in enumerate(wanted) if any(mark in part for mark in "*?["))
    folder = str(pathlib.Path(*wanted[:fixed]))
    if any(_lineage(output)[0] & each for each in _lineage(folder)):
        return "holds the files of"
    import glob

    return next(
        (result for file in glob.glob(pattern, recursive=True) if (result := _relation(output, glob.escape(file)))), ""
    )


def _lineage(path: str) -> list[set[Any]]:
    """Marks by which a path and its folders, from it upwards, are the same as others: addresses, inodes."""
    address = str(path).rsplit("::", 1)[-1]  # zip://inside::gs://bucket/archive is about the archive
    if "://" in address:
        protocol, _, rest = address.partition("://")
        if protocol not in ("file", "local"):
            return _remote_lineage(protocol.lower(), rest)
        address = rest
    real = pathlib.Path(os.path.realpath(os.path.expanduser(address)))
    return [{str(each), *_inode(each)} for each in (real, *real.parents)]


def _inode(path: pathlib.Path) -> Iterator[tuple[int, int]]:
    try:
        result = path.stat()
    except OSError:
        return
    yield result.st_dev, result.st_ino


def _remote_lineage(protocol: str, rest: str) -> list[set[Any]]:
    """Of an object store's address; its web address counts as the same."""
    parts = [part for part in os.path.normpath(rest.partition("?")[0]).split("/") if part not in ("", ".")]
    if protocol in ("http", "https") and parts:
        host, inside = parts[0].lower(), parts[1:]
        if host in ("storage.googleapis.com", "storage.cloud.google.com"):
            protocol, parts = "gs", inside
        elif host.endswith(".storage.googleapis.com"):
            protocol, parts = "gs", [host.removesuffix(".storage.googleapis.com"), *inside]
        elif match := re.fullmatch(r"(.+)\.s3[.-](?:[\w-]+\.)?amazonaws\.com", host):
            protocol, parts = "s3", [match[1], *inside]
    protocol = _OTHER_NAMES.get(protocol, protocol)
    return [{(protocol, *parts[:count])} for count in range(len(parts), 0, -1)]


# --- what stands there already ----------------------------------------------------------------------------------------


def refuse_to_overwrite(path: str, kind: Kind, *, overwrite: bool) -> None:
    """Refuses an output that exists, unless it may be replaced and this program has made it.

    An unfinished store passes: whoever begins it tells whether it is the same command's.

    Raises:
        UserError: something stands there that is to be kept.
    """
    filesystem, root = located(path)
    if not filesystem.exists(root):
        return
    if overwrite:
        refuse_foreign(path, kind)
    elif kind is not Kind.STORE or (store_attributes(path) or {}).get(STATUS) != INCOMPLETE:
        raise UserError("already exists", where=str(path), remedy="choose another output or add --overwrite")


# --- the place --------------------------------------------------------------------------------------------------------


def refuse_unwritable(path: str, *, parent_must_exist: bool = False) -> None:
    """Tries whether something can be written beside a local output.

    Raises:
        UserError: it cannot; or the folder it is to lie in is missing and would not be made.
    """
    if is_remote(path):
        return
    target = pathlib.Path(os.path.realpath(os.path.expanduser(path)))
    folder = target.parent
    if parent_must_exist and not folder.exists():
        raise UserError("the folder does not exist", where=str(folder), remedy="create it first")
    while not folder.exists():
        folder = folder.parent
    probe = folder / f".weather-scnn-{secrets.token_hex(6)}"
    try:
        try:
            with open(probe, "xb") as file:
                file.write(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
        if len(os.fsencode(target.name)) > _LONGEST_NAME:
            raise UserError("the name is too long", where=path, remedy="choose a shorter one")
    except OSError as error:
        fault = place_fault(error)
        if fault is None:
            raise
        raise UserError(fault.what, where=str(folder), remedy=fault.remedy) from error


def check_workdir(path: str, sources: Mapping[str, str | None]) -> None:
    """Refuses a workdir for training that is a source, cannot be written, or holds other files that a run would replace.

    Raises:
        UserError: it is so.
    """
    for option, source in sources.items():
        if source and (relation := _relation(path, source)) and not relation.startswith("holds"):
            raise UserError(f"the workdir {relation} {option}, {source}", where=path, remedy="choose another --workdir")
    filesystem, root = located(path)
    if filesystem.exists(root):
        if not filesystem.isdir(root):
            raise UserError("is a file", where=path, remedy="choose another --workdir")
        if (stranger := stranger_in_workdir(path)) is not None:
            raise UserError(
                f"holds {stranger}, which no training of this program has written",
                where=path,
                remedy="choose another --workdir",
            )
    refuse_unwritable(f"{path.rstrip('/')}/config.json")
