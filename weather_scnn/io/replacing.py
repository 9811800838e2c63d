"""A finished folder takes the place of an older one: it is made beside it, and swapped in when it is whole.

On a file system the swap is two renames, after which the older folder goes. An object store has no renames: there the
older store first says that it is unfinished, which readers refuse, and goes piece by piece. Either is finished by the
command that began it, if a kill comes between.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from fsspec.implementations.local import LocalFileSystem

from weather_scnn.io.addresses import located
from weather_scnn.io.marks import INCOMPLETE, STATUS

_NEW, _OLD = "weather-scnn-new", "weather-scnn-old"
_ROOT_METADATA = {"zarr.json", ".zgroup", ".zattrs"}


def settled_path(path: str) -> str:
    """The place a path means: a link's target, which is then replaced and not the link; without a slash at its end."""
    path = str(path).rstrip("/")
    filesystem, root = located(path)
    return os.path.realpath(root) if isinstance(filesystem, LocalFileSystem) else path


def place_beside(path: str) -> str:
    """Where a folder is made that is to replace the one at `path`."""
    return _sibling(path, _NEW)


def _sibling(path: str, ending: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{ending}"


def recover(path: str) -> None:
    """Puts an older folder back, or removes it, where a kill came in the middle of a swap."""
    filesystem, _ = located(path)
    older = _sibling(path, _OLD)
    if not isinstance(filesystem, LocalFileSystem) or not os.path.isdir(older):
        return
    if os.path.exists(path):
        shutil.rmtree(older)
    else:
        os.rename(older, path)


def put_in_place(made: str, path: str) -> None:
    """Replaces the folder at `path`, if one is there, by the one made beside it."""
    if not isinstance(located(path)[0], LocalFileSystem):
        _put_in_place_remotely(made, path)
        return
    recover(path)
    older = _sibling(path, _OLD)
    replaces = os.path.exists(path)
    if replaces:
        os.rename(path, older)
    os.rename(made, path)
    if replaces:
        shutil.rmtree(older)


@contextlib.contextmanager
def folder_in_place(path: str) -> Iterator[pathlib.Path]:
    """An empty folder on this machine to write into, which takes the place of `path` at the end, or goes on an error."""
    target = settled_path(path)
    recover(target)
    folder = pathlib.Path(place_beside(target))
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
        put_in_place(str(folder), target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place_remotely(made: str, path: str) -> None:
    filesystem, target = located(path)
    source = located(made)[1].rstrip("/")
    target = target.rstrip("/")
    names = {name: _names(filesystem, name) for name in (source, target)}
    if names[target]:
        import zarr

        zarr.open_group(path, mode="r+", use_consolidated=False).attrs[STATUS] = INCOMPLETE
        for name in sorted(names[target] - _ROOT_METADATA):  # consolidated metadata of format 2, .zmetadata, first
            filesystem.rm(f"{target}/{name}", recursive=True)
    for name in sorted(names[source], key=lambda each: each in _ROOT_METADATA):  # what makes it whole comes last
        filesystem.copy(f"{source}/{name}", f"{target}/{name}", recursive=name not in _ROOT_METADATA)
    for name in (names[target] & _ROOT_METADATA) - names[source]:
        filesystem.rm(f"{target}/{name}")
    filesystem.rm(source, recursive=True)
    filesystem.invalidate_cache()


def _names(filesystem, root: str) -> set[str]:
    if not filesystem.exists(root):
        return set()
    return {entry.rstrip("/").rsplit("/", 1)[-1] for entry in filesystem.ls(root, detail=False)} - {""}
