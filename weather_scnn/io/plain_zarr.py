"""Arrays of Zarr stores by TensorStore, where the stored numbers are the values."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import fsspec
import fsspec.config
import numpy as np
import tensorstore
import xarray as xr

_logger = logging.getLogger(__name__)
_SCHEMES = {"file": "file://", "local": "file://", "gs": "gs://", "gcs": "gs://", "s3": "s3://"}
# By itself TensorStore asks a cloud that refuses it for a quarter of an hour.
_PATIENCE = {"gcs_request_retries": {"max_retries": 6}}
_SECONDS = 60


class PlainArray:
    """A stored array, opened when it is first read.

    Args:
        address: of the array, with TensorStore's name of the kind of place.
        zarr_format: 2 or 3.
        context: shared by the arrays of a source, with its cache of decoded chunks.
    """

    def __init__(self, address: str, zarr_format: int, context: "ChunkCache"):
        self._spec = {
            "driver": "zarr" if zarr_format == 2 else "zarr3",
            "kvstore": f"{address}/",
            "recheck_cached_data": False,
        }
        self._context, self._lock = context, threading.Lock()
        self._array: Any = None
        self._unopened = True

    def __getstate__(self) -> dict[str, Any]:
        return {"_spec": self._spec, "_context": self._context}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _array=None, _unopened=True, _lock=threading.Lock())

    def ask(self, key: tuple) -> Callable[[], np.ndarray] | None:
        """Begins to read slices and ascending positions, each axis for itself; None where it cannot be opened so."""
        with self._lock:
            if self._unopened:
                self._unopened = False
                try:
                    context = self._context.context
                    self._array = tensorstore.open(self._spec, context=context, read=True, open=True).result(_SECONDS)
                except (OSError, ValueError, KeyError, RuntimeError) as error:
                    _logger.info("%s is read through xarray (%s)", self._spec["kvstore"], error)
        if self._array is None:
            return None
        return self._array.oindex[key].read().result


class ChunkCache:
    """Memory for decoded chunks, for stores whose chunks hold more than is read at once; 0 keeps none."""

    def __init__(self, total_bytes: int = 0):
        self.total_bytes = int(total_bytes)
        self._context: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"total_bytes": self.total_bytes, "_context": None}

    @property
    def context(self) -> Any:
        """TensorStore's."""
        if self._context is None:
            self._context = tensorstore.Context({**_PATIENCE, "cache_pool": {"total_bytes_limit": self.total_bytes}})
        return self._context


def plain_arrays(
    path: str, dataset: xr.Dataset, zarr_format: int, cache: ChunkCache
) -> Callable[[str], PlainArray | None]:
    """Gives the plain arrays of a store by name; None for packed ones and where TensorStore does not reach.

    Args:
        path: of the store.
        dataset: of it, decoded by xarray.
        zarr_format: of the store.
        cache: for decoded chunks.
    """
    root = address(path)

    def found(name: str) -> PlainArray | None:
        if root is None or not numbers_are_values(dataset[name].variable):
            return None
        return PlainArray(f"{root}/{name}", zarr_format, cache)

    return found


def numbers_are_values(variable: xr.Variable) -> bool:
    """Whether an array is stored in floating point, neither packed nor with another mark than NaN for what is missing."""
    fills = [np.atleast_1d(variable.encoding.get(key, np.nan)) for key in ("_FillValue", "missing_value")]
    packed = {"scale_factor", "add_offset", "_Unsigned"} & variable.encoding.keys()
    plain = all(fill.dtype.kind == "f" and np.isnan(fill).all() for fill in fills)
    return (
        variable.dtype.kind == "f"
        and np.dtype(variable.encoding.get("dtype", variable.dtype)).kind == "f"
        and not packed
        and plain
    )


def address(path: str) -> str | None:
    """TensorStore's address of a store; None if it is to be reached by fsspec."""
    filesystem, root = fsspec.core.url_to_fs(str(path))
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    scheme = _SCHEMES.get(protocol)
    if scheme is None or (scheme != "file://" and _needs_fsspec(protocol)):
        return None
    return f"{scheme}{root.rstrip('/')}"


def _needs_fsspec(protocol: str) -> bool:
    """Whether a cloud is reached in a way that TensorStore, which takes the machine's own credentials, is not told."""
    options = {key: value for key, value in fsspec.config.conf.get(protocol, {}).items() if value != "anon"}
    return bool(options) or "STORAGE_EMULATOR_HOST" in os.environ
