"""Writing derived files so that nothing half-written looks whole and the same command finishes what it began.

A store is begun from a template, filled work item by work item, each recorded once it is on disk, and finished. Until it is
finished its root attribute `status` says "incomplete", which readers of data refuse.
"""

import contextlib
import dataclasses
import datetime
import io
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import fsspec
import numpy as np
import xarray as xr
import zarr
from fsspec.implementations.local import LocalFileSystem

from weather_scnn.errors import UserError
from weather_scnn.io.addresses import located
from weather_scnn.io.atomic import whole_file, write_whole
from weather_scnn.io.marks import (
    COMPLETE,
    CREATED_BY,
    INCOMPLETE,
    MADE_BY,
    REQUEST,
    STATUS,
    Kind,
    refuse_foreign,
    store_attributes,
)
from weather_scnn.io.outputs import refuse_to_overwrite, refuse_unwritable
from weather_scnn.io.replacing import place_beside, put_in_place, recover, settled_path
from weather_scnn.whole_files import UNFINISHED

# Beside the store, not in it: Zarr warns about every foreign name it meets inside a group.
_PROGRESS = ".progress"
_SCRATCH = "scratch"
# In the record of a store, once its axes and static fields are written: what was killed before is begun anew.
_TEMPLATE = "template"


def _exists(path: str) -> bool:
    filesystem, root = located(path)
    return filesystem.exists(root)


def _remove(path: str) -> None:
    filesystem, root = located(path)
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
        CREATED_BY: MADE_BY,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    if formula:
        attributes["formula"] = formula
    for key, value in details.items():
        attributes[key] = value if isinstance(value, int | float | str) else str(value)
    return attributes


def packed(arrays: Mapping[str, np.ndarray | np.number]) -> memoryview:
    """Arrays as the result of a work item; see `Record.load`."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getbuffer()


@dataclasses.dataclass(frozen=True)
class Record:
    """Which work items of an output are done: small files in a folder beside it, so that any number of workers can add.

    Attributes:
        path: of what is being written, local or an fsspec address.
        done: keys of the work items that an earlier, interrupted run has finished.
    """

    path: str
    done: frozenset[str] = frozenset()

    @property
    def output(self) -> str:
        """Where the output will lie, as messages call it."""
        return self.path

    def mark_done(self, key: str, result: bytes | memoryview = b"done") -> None:
        """Records that the work item `key` is finished, with its result where that is small; call it last."""
        filesystem, root = fsspec.core.url_to_fs(self.path + _PROGRESS)
        if isinstance(filesystem, LocalFileSystem):
            os.makedirs(root, exist_ok=True)
        write_whole(f"{self.path}{_PROGRESS}/{key}", result)

    def save(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """As `mark_done`, with arrays as the result."""
        self.mark_done(key, packed(arrays))

    def load(self, key: str, wanted: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Arrays of a work item, or those wanted of it that it has; only these are read."""
        filesystem, root = located(self.path + _PROGRESS)
        with filesystem.open(f"{root}/{key}", "rb") as file, np.load(file) as held:
            return {name: held[name] for name in (held.files if wanted is None else wanted) if name in held.files}

    def read(self, key: str) -> bytes:
        """The result of a finished work item."""
        filesystem, root = located(self.path + _PROGRESS)
        return filesystem.cat_file(f"{root}/{key}")

    def finished(self) -> frozenset[str]:
        """Keys of the work items that are done by now."""
        filesystem, root = located(self.path + _PROGRESS)
        names = filesystem.ls(root, detail=False) if filesystem.exists(root) else []
        keys = (name.rstrip("/").rsplit("/", 1)[-1] for name in names)
        return frozenset(
            key for key in keys if key not in (REQUEST, _TEMPLATE, _SCRATCH) and not key.endswith(UNFINISHED)
        )

    @property
    def scratch(self) -> str:
        """A folder for restart files; it goes with the record."""
        path = f"{self.path}{_PROGRESS}/{_SCRATCH}"
        filesystem, root = fsspec.core.url_to_fs(path)
        filesystem.makedirs(root, exist_ok=True)
        return path

    def begin(self, request: str) -> None:
        """Starts the record of a request.

        Raises:
            UserError: a folder of its name is there that is no record.
        """
        self.refuse_stranger()
        self.clear()
        self.mark_done(REQUEST, request.encode())

    def clear(self) -> None:
        """Removes the record."""
        _remove(self.path + _PROGRESS)

    def refuse_stranger(self) -> None:
        """Raises UserError if what has the record's name is none: each holds the request that it is of."""
        filesystem, root = located(self.path + _PROGRESS)
        if not filesystem.exists(root) or filesystem.exists(f"{root}/{REQUEST}"):
            return
        if filesystem.isdir(root) and not filesystem.ls(root, detail=False):
            return
        # Earlier versions wrote no request into the record of a store, but into the unfinished store.
        if (store_attributes(self.path) or {}).get(STATUS) != INCOMPLETE:
            raise UserError(
                "is in the way: a record of finished work items is kept under this name",
                where=self.path + _PROGRESS,
                remedy="move it away, or choose another output",
            )


def begin_record(path: str, *, request: Mapping[str, Any]) -> Record:
    """The record of an output that appears only when whole, such as a netCDF file; goes on from the same request's."""
    wanted = json.dumps(dict(request), sort_keys=True, default=str)
    record = Record(str(path))
    try:
        same = record.read(REQUEST) == wanted.encode()
    except (FileNotFoundError, NotADirectoryError):
        same = False
    if same:
        return Record(record.path, record.finished())
    record.begin(wanted)
    return record


@dataclasses.dataclass(frozen=True)
class StoreInProgress(Record):
    """A Zarr store being filled, and the record of its work items.

    Attributes:
        replaces: the older store that this one, made beside it, takes the place of when it is finished; empty for none.
    """

    replaces: str = ""

    @property
    def output(self) -> str:
        """Where the store will lie when it is finished."""
        return self.replaces or self.path

    @property
    def has_template(self) -> bool:
        """Whether all is written that work items fill; they tell so too, of earlier versions."""
        return _exists(f"{self.path}{_PROGRESS}/{_TEMPLATE}") or bool(self.finished())

    def finish(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Declares the store whole, with further attributes, puts it in its place and removes the record of its work items."""
        group = zarr.open_group(self.path, mode="r+", use_consolidated=False)
        group.attrs.update({**(attributes or {}), STATUS: COMPLETE})
        with warnings.catch_warnings():
            # Consolidated metadata of format 3 is not yet in its specification; every reader we know of takes it.
            warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)
            zarr.consolidate_metadata(self.path)
        if self.replaces:
            put_in_place(self.path, self.replaces)
            with contextlib.suppress(UserError):  # what is not ours stays
                older = Record(self.replaces)
                older.refuse_stranger()
                older.clear()
        self.clear()


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

    A store that replaces another is made beside it, under a hidden name, and swapped in when it is finished: until then,
    and for good if the run fails, the older one stays. The same request goes on with an unfinished store, be it in its
    place or beside.

    Args:
        path: local path or fsspec address of the Zarr store.
        template: dataset of the final shape; data variables are lazy (dask) and not computed. Variables that are
            not lazy are written at once.
        request: what was asked for, in JSON terms. An unfinished store of the same request is continued.
        overwrite: whether to replace an older store of this program at `path`.
        encoding: Zarr encoding a variable, such as chunks.
        zarr_format: 2 or 3.

    Returns:
        The store, with the work items already on disk if an interrupted run is being continued.

    Raises:
        UserError: the store exists and is complete, belongs to another request, or is not one of ours.
    """
    path = settled_path(path)
    wanted = json.dumps(dict(request), sort_keys=True, default=str)
    recover(path)
    beside = place_beside(path)
    refuse_to_overwrite(path, Kind.STORE, overwrite=overwrite)
    for result in (StoreInProgress(beside, replaces=path), StoreInProgress(path)):
        attributes = store_attributes(result.path) or {}
        unfinished = bool(result.replaces) or attributes.get(STATUS) == INCOMPLETE
        if unfinished and attributes.get(REQUEST) == wanted:
            if result.has_template:
                return dataclasses.replace(result, done=result.finished())
            _remove(result.path)
    held = _exists(path)
    if held and not overwrite:
        raise UserError(
            "holds the unfinished output of a command with other options",
            where=path,
            remedy="repeat that command to finish it, or add --overwrite",
        )
    if _exists(beside):
        refuse_foreign(beside, Kind.STORE)
        _remove(beside)
        Record(beside).clear()
    store = StoreInProgress(beside, replaces=path) if held else StoreInProgress(path)
    refuse_unwritable(store.path)
    store.begin(wanted)
    template = template.assign_attrs({CREATED_BY: MADE_BY, STATUS: INCOMPLETE, REQUEST: wanted})
    template.to_zarr(
        store.path,
        mode="w",
        compute=False,
        encoding=dict(encoding or {}),
        zarr_format=zarr_format,
        consolidated=False,
    )
    store.mark_done(_TEMPLATE)
    return store


def attributes_of_unfinished(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the unfinished store that the same request would go on with; none where there is none."""
    wanted = json.dumps(dict(request), sort_keys=True, default=str)
    path = settled_path(path)
    for place in (place_beside(path), path):
        result = store_attributes(place) or {}
        if result.get(STATUS) == INCOMPLETE and result.get(REQUEST) == wanted:
            return dict(result)
    return {}


def write_netcdf(dataset: xr.Dataset, path: str, *, overwrite: bool = False, group: str | None = None) -> None:
    """Writes a netCDF file that appears under its name only when whole.

    Args:
        dataset: what to write; must fit in memory.
        path: local path or fsspec address.
        overwrite: whether to replace a file of that name that this program has made.
        group: netCDF group to write into; other groups of an existing file are lost.

    Raises:
        UserError: the file exists and may not be replaced, its folder does not exist, or the disk is full.
    """
    write_netcdf_groups({group or "/": dataset}, path, overwrite=overwrite)


def write_netcdf_groups(groups: Mapping[str, xr.Dataset], path: str, *, overwrite: bool = False) -> None:
    """As `write_netcdf`, for a file of several groups; "/" is the root group."""
    refuse_to_overwrite(path, Kind.FILE, overwrite=overwrite)
    refuse_unwritable(path, parent_must_exist=True)
    with whole_file(path) as part:
        for index, (group, dataset) in enumerate(groups.items()):
            dataset.to_netcdf(part, mode="w" if index == 0 else "a", group=None if group == "/" else group)
