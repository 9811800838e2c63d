"""Writing derived files so that nothing half-written looks whole and the same command finishes what it began.

A store is begun from a template, filled in pieces, each recorded once it is on disk, and finished. Until it is
finished its root attribute `status` says "incomplete", which the door for data refuses to read.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any

import fsspec
import xarray as xr
import zarr
from fsspec.implementations.local import LocalFileSystem

from weather_scnn.errors import UserError
from weather_scnn.version import __version__

STATUS, REQUEST = "status", "request"
INCOMPLETE, COMPLETE = "incomplete", "complete"
# Beside the store, not in it: Zarr warns about every foreign name it meets inside a group.
_PROGRESS, _SCRATCH = ".progress", ".scratch"
_UNFINISHED = ".part"


def _located(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system and the path in it. Listings are fetched anew: Zarr writes through an instance of its own."""
    filesystem, root = fsspec.core.url_to_fs(str(path))
    filesystem.invalidate_cache()
    return filesystem, root


def _remove(path: str) -> None:
    filesystem, root = _located(path)
    if filesystem.exists(root):
        filesystem.rm(root, recursive=True)
        filesystem.invalidate_cache()


def provenance(*, source: str, formula: str = "", **details: Any) -> dict[str, Any]:
    """Attributes that say where a derived file came from.

    Args:
        source: path or address of what it was made from.
        formula: the definition of what was computed.
        details: further facts such as period, step and count; values that are not numbers are written as text.
    """
    attributes: dict[str, Any] = {
        "source": source,
        "created_by": f"weather-scnn {__version__}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if formula:
        attributes["formula"] = formula
    for key, value in details.items():
        attributes[key] = value if isinstance(value, int | float | str) else str(value)
    return attributes


@dataclasses.dataclass(frozen=True)
class Record:
    """Which pieces of an output are done: a file a piece in a folder beside it, so that any number of workers can add.

    Attributes:
        path: of the output, local or an fsspec address.
        done: keys of the pieces that an earlier, interrupted run has finished.
    """

    path: str
    done: frozenset[str] = frozenset()

    def mark_done(self, key: str, result: bytes = b"done") -> None:
        """Records that the piece `key` is finished, with its result where that is small; call it last."""
        filesystem, root = fsspec.core.url_to_fs(self.path + _PROGRESS)
        if isinstance(filesystem, LocalFileSystem):
            # Renamed into place: a file cut short by a kill must not count.
            os.makedirs(root, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=root, prefix=_UNFINISHED)
            with os.fdopen(handle, "wb") as file:
                file.write(result)
            os.replace(temporary, os.path.join(root, key))
        else:
            filesystem.pipe_file(f"{root}/{key}", result)

    def read(self, key: str) -> bytes:
        """The result of a finished piece."""
        filesystem, root = _located(self.path + _PROGRESS)
        return filesystem.cat_file(f"{root}/{key}")

    def finished(self) -> frozenset[str]:
        """Keys of the pieces that are done by now."""
        filesystem, root = _located(self.path + _PROGRESS)
        names = filesystem.ls(root, detail=False) if filesystem.exists(root) else []
        keys = (name.rstrip("/").rsplit("/", 1)[-1] for name in names)
        return frozenset(key for key in keys if key != REQUEST and not key.startswith(_UNFINISHED))

    def clear(self) -> None:
        """Removes the record and the scratch folder."""
        _remove(self.path + _PROGRESS)
        _remove(self.path + _SCRATCH)


def begin_record(path: str, *, request: Mapping[str, Any]) -> Record:
    """The record of an output that appears only when whole, such as a netCDF file; goes on from the same request's."""
    wanted = json.dumps(dict(request), sort_keys=True, default=str).encode()
    record = Record(str(path))
    try:
        same = record.read(REQUEST) == wanted
    except FileNotFoundError:
        same = False
    if same:
        return Record(record.path, record.finished())
    record.clear()
    record.mark_done(REQUEST, wanted)
    return record


@dataclasses.dataclass(frozen=True)
class StoreInProgress(Record):
    """A Zarr store being filled, and the record of its pieces."""

    @property
    def scratch(self) -> str:
        """A folder beside the store for restart files; removed when the store is finished."""
        filesystem, root = fsspec.core.url_to_fs(self.path + _SCRATCH)
        filesystem.makedirs(root, exist_ok=True)
        return self.path + _SCRATCH

    def finish(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Declares the store whole, with further attributes, and removes the record of its pieces."""
        group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
        group.attrs.update({**(attributes or {}), STATUS: COMPLETE})
        with warnings.catch_warnings():
            # Consolidated metadata of format 3 is not yet in its specification; every reader we know of takes it.
            warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)
            zarr.consolidate_metadata(self.path)
        self.clear()


def refuse_to_overwrite(path: str, *, overwrite: bool) -> None:
    """Raises UserError if something stands at `path` and `overwrite` is false; call it before long work begins."""
    filesystem, root = _located(path)
    if not overwrite and filesystem.exists(root):
        raise UserError("already exists", where=str(path), remedy="choose another output or add --overwrite")


def begin_store(
    path: str,
    template: xr.Dataset,
    *,
    request: Mapping[str, Any],
    overwrite: bool = False,
    encoding: Mapping[str, Mapping[str, Any]] | None = None,
    zarr_format: int = 3,
) -> StoreInProgress:
    """Writes the metadata and coordinates of a store whose data variables are filled afterwards.

    Args:
        path: local path or fsspec address of the Zarr store.
        template: dataset of the final shape; data variables are lazy (dask) and not computed. Variables that are
            not lazy are written at once.
        request: what was asked for, in JSON terms. An unfinished store of the same request is continued.
        overwrite: whether to replace whatever stands at `path`.
        encoding: Zarr encoding a variable, such as chunks.
        zarr_format: 2 or 3.

    Returns:
        The store, with the pieces already on disk if an interrupted run is being continued.

    Raises:
        UserError: the store exists and is complete, belongs to another request, or is not one of ours.
    """
    path = str(path).rstrip("/")
    wanted = json.dumps(dict(request), sort_keys=True, default=str)
    filesystem, root = _located(path)
    if filesystem.exists(root) and not overwrite:
        try:
            attributes = dict(zarr.open_group(path, mode="r", use_consolidated=False).attrs)
        except (OSError, ValueError, KeyError):
            attributes = {}
        if attributes.get(STATUS) != INCOMPLETE:
            raise UserError("already exists", where=path, remedy="choose another output or add --overwrite")
        if attributes.get(REQUEST) != wanted:
            raise UserError(
                "holds the unfinished output of a command with other options",
                where=path,
                remedy="repeat that command to finish it, or add --overwrite",
            )
        return StoreInProgress(path, StoreInProgress(path).finished())
    for leftover in (path + _PROGRESS, path + _SCRATCH, path):
        _remove(leftover)
    template = template.assign_attrs({STATUS: INCOMPLETE, REQUEST: wanted})
    template.to_zarr(
        path,
        mode="w",
        compute=False,
        encoding=dict(encoding or {}),
        zarr_format=zarr_format,
        consolidated=False,
    )
    return StoreInProgress(path)


def write_netcdf(dataset: xr.Dataset, path: str, *, overwrite: bool = False, group: str | None = None) -> None:
    """Writes a netCDF file that appears under its name only when whole.

    Args:
        dataset: what to write; must fit in memory.
        path: local path or fsspec address.
        overwrite: whether to replace a file of that name.
        group: netCDF group to write into; other groups of an existing file are lost.

    Raises:
        UserError: the file exists and `overwrite` is false, or its folder does not exist.
    """
    write_netcdf_groups({group or "/": dataset}, path, overwrite=overwrite)


def write_netcdf_groups(groups: Mapping[str, xr.Dataset], path: str, *, overwrite: bool = False) -> None:
    """As `write_netcdf`, for a file of several groups; "/" is the root group."""
    refuse_to_overwrite(path, overwrite=overwrite)
    filesystem, root = fsspec.core.url_to_fs(str(path))
    local = isinstance(filesystem, LocalFileSystem)
    target = pathlib.Path(root)
    if local and not target.parent.is_dir():
        raise UserError("the folder does not exist", where=str(target.parent), remedy="create it first")
    handle, temporary = tempfile.mkstemp(
        dir=target.parent if local else None, prefix=f".{target.name}.", suffix=_UNFINISHED
    )
    os.close(handle)
    try:
        for index, (group, dataset) in enumerate(groups.items()):
            dataset.to_netcdf(temporary, mode="w" if index == 0 else "a", group=None if group == "/" else group)
        if local:
            os.replace(temporary, target)
        else:
            filesystem.put_file(temporary, root)  # an object appears when its upload is complete
            filesystem.invalidate_cache()
    finally:
        pathlib.Path(temporary).unlink(missing_ok=True)
