"""Files that are there whole or not at all, on this machine or at an address."""

import contextlib
import functools
import os
import pathlib

from fsspec.implementations.local import LocalFileSystem

from weather_scnn import whole_files
from weather_scnn.io.addresses import is_remote, located


def whole_file(path: str | os.PathLike) -> contextlib.AbstractContextManager[pathlib.Path]:
    """As `weather_scnn.whole_files.whole_file`, also at an fsspec address, to which the file is uploaded at the end."""
    address = str(path)
    return whole_files.whole_file(path, functools.partial(_upload, address) if is_remote(address) else None)


def _upload(address: str, part: pathlib.Path) -> None:
    filesystem, root = located(address)
    filesystem.put_file(str(part), root)  # an object appears when its upload is complete
    filesystem.invalidate_cache()


def write_whole(path: str | os.PathLike, content: str | bytes | memoryview) -> None:
    """Writes a file, replacing an older one at once.

    Args:
        path: local, or on an object store, where a written object appears at once by itself and renaming means a copy.
        content: of the file.
    """
    data = content.encode() if isinstance(content, str) else content
    if is_remote(str(path)):
        filesystem, root = located(str(path))
        if not isinstance(filesystem, LocalFileSystem):
            filesystem.pipe_file(root, bytes(data))
            return
        path = root
    with whole_file(path) as part:
        part.write_bytes(data)
