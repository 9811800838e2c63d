"""Finished work items of a scoring job beside its output, so that a job that dies goes on where it was."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping

import fsspec
import numpy as np

_OF_A_REQUEST = re.compile(r"[0-9a-f]{16}")


class FinishedItems:
    """A folder of `.npz` files, local or at an address of fsspec.

    Args:
        path: the folder.
    """

    def __init__(self, path: str):
        self.path = path
        self._filesystem, self._root = fsspec.core.url_to_fs(path)

    @classmethod
    def beside(cls, output: str, request: Mapping) -> "FinishedItems":
        """The folder of one request; the same command finds what it has done, another one does not."""
        text = json.dumps(request, sort_keys=True, default=str)
        finished = cls(f"{output}.parts/{hashlib.sha256(text.encode()).hexdigest()[:16]}")
        finished._filesystem.makedirs(finished._root, exist_ok=True)
        return finished

    @property
    def done(self) -> frozenset[str]:
        """Names of the items on disk."""
        return self.finished()

    def finished(self) -> frozenset[str]:
        """Names of the items on disk now."""
        names = self._filesystem.ls(self._root, detail=False)
        return frozenset(name.rsplit("/", 1)[-1].removesuffix(".npz") for name in names if name.endswith(".npz"))

    def holds(self, name: str) -> bool:
        """Whether an item is on disk, whole."""
        return self._filesystem.exists(f"{self._root}/{name}.npz")

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes an item; it has its name only when whole."""
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        target = f"{self._root}/{name}.npz"
        with self._filesystem.open(f"{target}.part", "wb") as file:
            file.write(content.getbuffer())
        self._filesystem.mv(f"{target}.part", target)

    def load(self, name: str, wanted: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Arrays of an item, or those wanted of it that it has; only these are read."""
        with self._filesystem.open(f"{self._root}/{name}.npz", "rb") as file, np.load(file) as held:
            return {key: held[key] for key in (held.files if wanted is None else wanted) if key in held.files}

    def remove(self) -> None:
        """Removes what was made by `beside`, with the items of other requests for this output; what is not ours stays."""
        folder = self._root.rsplit("/", 1)[0]
        for entry in self._filesystem.ls(folder, detail=False):
            if _OF_A_REQUEST.fullmatch(entry.rstrip("/").rsplit("/", 1)[-1]):
                self._filesystem.rm(entry, recursive=True)
        if self._filesystem.exists(folder) and not self._filesystem.ls(folder, detail=False):
            self._filesystem.rmdir(folder)
