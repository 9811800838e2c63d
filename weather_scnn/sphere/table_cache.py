"""Tables on disk, so that a second process need not compute them again.

A table's file is named by a digest of everything that determines its content: the latitudes, the sizes, the kind of
table and the source text of the recursion. It has its name only when whole, so that two processes may write at once,
and it carries a digest of its data, which is checked when it is read; a damaged file is made anew.
"""

import contextlib
import functools
import hashlib
import inspect
import pathlib
from collections.abc import Callable

import numpy as np

from weather_scnn.cache_folder import cache_folder
from weather_scnn.errors import UserError
from weather_scnn.sphere import grid as grid_module
from weather_scnn.sphere import tables
from weather_scnn.sphere.grid import Grid
from weather_scnn.whole_files import whole_file

#: Environment variable with the directory of the cache; `off` turns it off.
VARIABLE = "WEATHER_SCNN_TABLES"

# Tables up to this degree are computed in less than half a second.
_SMALLEST_DEGREE = 100


def directory() -> pathlib.Path | None:
    """Where tables are kept: $WEATHER_SCNN_TABLES, else the user's cache directory; None if turned off."""
    return cache_folder(VARIABLE, "tables")


@functools.cache
def _source() -> bytes:
    return (inspect.getsource(tables) + inspect.getsource(grid_module)).encode()


def key(grid: Grid, kind: str, dtype: np.dtype, sizes: tuple[int, ...]) -> str:
    """Digest of what determines a table's content; neither longitudes nor the order of rows do."""
    digest = hashlib.sha256(_source())
    digest.update(repr((grid.kind.value, grid.latitudes, kind, np.dtype(dtype).str, sizes)).encode())
    digest.update(tables.northern_colatitude(grid).tobytes())
    return digest.hexdigest()[:32]


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(array.reshape(-1).view(np.uint8).data, digest_size=32).digest()


def _read(path: pathlib.Path) -> np.ndarray | None:
    try:
        with open(path, "rb") as file:
            expected = file.read(32)
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if _digest(array) == expected else None


def _write(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, open(part, "wb") as file:
        file.write(_digest(array))
        np.save(file, array, allow_pickle=False)


def cached(
    grid: Grid, kind: str, dtype: np.dtype, sizes: tuple[int, ...], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """The table that `make` computes, cast to a dtype, from the cache if it is there.

    A cache that cannot be written, on a full or read-only disk, is no reason to stop.

    Args:
        grid: the grid of the table.
        kind: what the table is, one word or two.
        dtype: of the result.
        sizes: what else determines its content, the largest degree first.
        make: computes it.
    """
    where = directory()
    if where is None or sizes[0] < _SMALLEST_DEGREE:
        return np.ascontiguousarray(make(), dtype)
    path = where / f"{key(grid, kind, dtype, sizes)}.table"
    found = _read(path)
    if found is not None:
        return found
    array = np.ascontiguousarray(make(), dtype)
    with contextlib.suppress(OSError, UserError):
        _write(path, array)
    return array
