"""Where a long computation stands: arrays kept beside its unfinished output, so that a kill costs no more than what came since."""

import time
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from weather_scnn.io.addresses import located
from weather_scnn.io.atomic import write_whole
from weather_scnn.io.writing import Record, packed

_SECONDS_BETWEEN_SAVES = 60.0


class RestartFile:
    """A file of arrays in the record of an output; it goes with the record.

    Args:
        record: of the output.
        name: of the computation.
    """

    def __init__(self, record: Record, name: str):
        self._path = f"{record.scratch}/{name}.npz"
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None where nothing was, or what is there is damaged, so that the work begins anew."""
        filesystem, root = located(self._path)
        if not filesystem.exists(root):
            return None
        try:
            with filesystem.open(root, "rb") as file, np.load(file) as held:
                return dict(held)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile):
            return None

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replaces the file; a kill leaves the old one or the new."""
        write_whole(self._path, packed(arrays))
        self._saved = time.monotonic()

    def offer(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Saves, if a minute has passed."""
        if time.monotonic() - self._saved >= _SECONDS_BETWEEN_SAVES:
            self.save(arrays)

    def remove(self) -> None:
        """When it is no longer needed."""
        filesystem, root = located(self._path)
        if filesystem.exists(root):
            filesystem.rm(root)
