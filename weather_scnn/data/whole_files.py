"""Small files that are there whole or not at all."""

import os

from etils import epath


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, replacing an older one at once.

    Args:
        path: local, or on an object store, where a written object appears at once by itself and renaming means a copy.
        content: of the file.
    """
    target = epath.Path(path)
    data = content.encode() if isinstance(content, str) else content
    if "://" in str(path):
        target.write_bytes(data)
        return
    part = target.parent / f"{target.name}.part"
    part.write_bytes(data)
    part.replace(target)
