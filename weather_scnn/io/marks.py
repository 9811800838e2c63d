"""Marks by which this program knows what it has made; only that does it replace.

Stores and netCDF files say so in their root attributes, a report in its page, a workdir in its configuration, a folder
of forecasts in a file beside them, a table by its columns.
"""

import enum
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import ZARR_MARKS, is_remote, located
from weather_scnn.version import __version__

#: Root attributes of what is written.
CREATED_BY, STATUS, REQUEST = "created_by", "status", "request"
INCOMPLETE, COMPLETE = "incomplete", "complete"
#: In a folder of forecasts: what a store says in its root attributes.
ABOUT_FORECASTS = "forecast.json"
_PROGRAM = "weather-scnn"
#: Value of `created_by`.
MADE_BY = f"{_PROGRAM} {__version__}"
#: Of the page of a report.
GENERATOR = f'<meta name="generator" content="{MADE_BY}">'

# Litter of file systems, desktops and Zarr's writes that were killed.
_LITTER = re.compile(r".*\.partial|\.nfs.*|\.DS_Store|\._.*|Thumbs\.db|desktop\.ini")
_ZARR_METADATA = {*ZARR_MARKS, ".zarray", ".zattrs"}
_ZARR_CHUNKS = re.compile(r"c|\d+(\.\d+)*")
_REPORT_PARTS = {"index.html", "figures", "tables"}
_REPORT_FILES = (".png", ".svg", ".webp", ".gif", ".csv", ".html")
_FORECAST_FILES = re.compile(rf"{ABOUT_FORECASTS}|\d{{8}}T\d{{4}}\.(nc|grib2)")
#: How the tables of this program begin: of scores by initial time, of tracks.
_TABLES = (b"init_time,lead_hours,variable,level,", b"system,init_time,track_id,truth_track_id,")
_RUN_FILES = ("config.json", "metrics.csv", "validation.csv", "curves.png", "validation.png", "missing_values.json")
_RUN_SECTIONS = {"data", "model", "training"}


class Kind(enum.Enum):
    """What a command writes."""

    STORE = "Zarr store"
    FILE = "netCDF file"
    REPORT = "report"
    FORECASTS = "folder of forecasts"
    TABLE = "table of scores"


def refuse_newer(attributes: Mapping[Any, Any], readable: int, what: str, where: str) -> None:
    """Refuses a file of this program's in a version of its format that only a newer package reads.

    Args:
        attributes: of its root.
        readable: the newest version that is read.
        what: the format is of.
        where: the file.

    Raises:
        UserError: it is newer.
    """
    version = int(attributes.get("format_version", 1))
    if version > readable:
        raise UserError(
            f"is in version {version} of the format of {what}, and this package reads up to {readable}",
            where=where,
            remedy="read it with the newer package that wrote it",
        )


def refuse_foreign(path: str, kind: Kind) -> None:
    """Refuses to replace what stands at a path unless this program has made it, all of it.

    An empty folder is nothing, nor is a store without attributes or arrays, which a kill at the very beginning leaves.

    Raises:
        UserError: it is something else, or others' files lie in it.
    """
    filesystem, root = located(path)
    folder = filesystem.isdir(root)
    if folder and set(_names(filesystem, root)) <= _ZARR_METADATA and not store_attributes(path):
        return
    marked = {Kind.FILE: _marked_file, Kind.TABLE: _marked_table}.get(kind)
    if not (marked(path) if marked is not None and not folder else folder and _marked_folder(path, kind)):
        raise UserError(
            f"is not a {kind.value} that this program has made, so it is not overwritten",
            where=str(path),
            remedy="choose another output, or move it away",
        )
    strangers = () if marked is not None else _strangers(filesystem, root, kind)
    for name in strangers:
        raise UserError(
            f"holds {name}, which is no part of a {kind.value}, so it is not overwritten",
            where=str(path),
            remedy="move that away, or choose another output",
        )


def store_attributes(path: str) -> dict[str, Any] | None:
    """Root attributes of a Zarr store, of either format, or of a folder of forecasts; None where there is none."""
    filesystem, root = located(path)
    for name in ("zarr.json", ".zattrs", ABOUT_FORECASTS):
        try:
            result = json.loads(filesystem.cat_file(f"{root.rstrip('/')}/{name}"))
        except (OSError, ValueError):
            continue
        attributes = result.get("attributes") if name == "zarr.json" else result
        return attributes if isinstance(attributes, dict) else {}
    return None


def holds_forecasts(path: str) -> bool:
    """Whether a local path is a folder of forecasts that this program has written, a file an initial time."""
    return not is_remote(path) and os.path.isfile(os.path.join(path, ABOUT_FORECASTS))


def _made_here(value: Any) -> bool:
    return str(value).startswith(f"{_PROGRAM} ")


def _marked_folder(path: str, kind: Kind) -> bool:
    if kind is not Kind.REPORT:
        attributes = store_attributes(path) or {}
        known = attributes.get(STATUS) in (INCOMPLETE, COMPLETE) and REQUEST in attributes
        return known and _made_here(attributes.get(CREATED_BY, ""))
    try:
        with open(f"{located(path)[1]}/index.html", "rb") as file:
            return f'<meta name="generator" content="{_PROGRAM} '.encode() in file.read(2048)
    except OSError:
        return False


def _marked_file(path: str) -> bool:
    import netCDF4

    filesystem, root = located(path)
    try:
        held = {"memory": filesystem.cat_file(root)} if is_remote(path) else {}
        with netCDF4.Dataset(root, **held) as dataset:
            return _made_here(getattr(dataset, CREATED_BY, ""))
    except (OSError, ValueError):
        return False


def _marked_table(path: str) -> bool:
    filesystem, root = located(path)
    with filesystem.open(root, "rb") as file:
        return file.readline().startswith(_TABLES)


def _names(filesystem: Any, root: str) -> list[str]:
    names = (entry.rstrip("/").rsplit("/", 1)[-1] for entry in filesystem.ls(root, detail=False))
    return sorted(name for name in names if name and not _LITTER.fullmatch(name))


def _strangers(filesystem: Any, root: str, kind: Kind) -> Iterator[str]:
    """Names in a folder that are no part of what this program writes there."""
    for name in _names(filesystem, root):
        place = f"{root.rstrip('/')}/{name}"
        if kind is Kind.FORECASTS:
            if not _FORECAST_FILES.fullmatch(name):
                yield name
        elif kind is Kind.REPORT:
            inside = filesystem.find(place) if name in _REPORT_PARTS else [place]
            for entry in inside:
                if name not in _REPORT_PARTS or not entry.lower().endswith(_REPORT_FILES):
                    yield entry.removeprefix(root).lstrip("/")
        elif name not in _ZARR_METADATA:
            inside = _names(filesystem, place) if filesystem.isdir(place) else []
            if not {"zarr.json", ".zarray"} & set(inside):
                yield name
            for part in inside:
                if part not in _ZARR_METADATA and not _ZARR_CHUNKS.fullmatch(part):
                    yield f"{name}/{part}"


def stranger_in_workdir(path: str) -> str | None:
    """A file in a folder that a training would replace though none has written it; None where there is none."""
    filesystem, root = located(path)
    names = _names(filesystem, root)
    if marks := sorted(set(names) & set(ZARR_MARKS)):
        return marks[0]
    return None if _is_run(filesystem, root, names) else next((name for name in _RUN_FILES if name in names), None)


def _is_run(filesystem: Any, root: str, names: list[str]) -> bool:
    """Whether a folder is the workdir of a run: by its configuration, or where that was lost by its checkpoints."""
    if "config.json" in names:
        try:
            held = json.loads(filesystem.cat_file(f"{root.rstrip('/')}/config.json"))
        except (OSError, ValueError):
            return False
        return isinstance(held, dict) and set(held) >= _RUN_SECTIONS
    place = f"{root.rstrip('/')}/checkpoints"
    steps = [name for name in _names(filesystem, place) if name.isdigit()] if "checkpoints" in names else []
    return any(filesystem.exists(f"{place}/{step}/about") for step in steps)
