"""Whole states of a canonical Zarr store by TensorStore: many chunks at once, decoded outside the interpreter's lock.

Training reads few states often, beside a program that has the interpreter. A read through dask costs over a
millisecond a chunk, most of it Python; TensorStore decodes in C++ threads.
"""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import fsspec
import fsspec.config
import numpy as np
import tensorstore
import xarray as xr
import xarray_tensorstore
import zarr

from weather_scnn.errors import UserError
from weather_scnn.io.groups import open_store
from weather_scnn.io.missing_values import RANGES
from weather_scnn.io.sources import open_zarr

_logger = logging.getLogger(__name__)
_SCHEMES = {"file": "file://", "local": "file://", "gs": "gs://", "gcs": "gs://", "s3": "s3://"}
_AXES = ("time", "level", "latitude", "longitude")
# By itself TensorStore asks a cloud that refuses it for a quarter of an hour.
_PATIENCE = {"gcs_request_retries": {"max_retries": 6}}


def open_by_tensorstore(path: str) -> xr.Dataset | None:
    """A Zarr store as xarray's own reader gives it, lazily, its fields read by TensorStore in half the time.

    Returns:
        The dataset; None where TensorStore's numbers would not be the values, as of packed ones, or where it cannot
        open the store: xarray's reader is then to be tried.
    """
    if _scheme_and_root(path) is None:
        return None
    try:
        # Its own axes: TensorStore's reader takes what is as large as a fill value of 0 for missing.
        dataset = open_zarr(str(path), decode_timedelta=False)
        if not all(_as_stored(array.variable) for array in dataset.data_vars.values()):
            return None
        context = tensorstore.Context(_PATIENCE)
        # Told of it, it neither tries nor warns.
        consolidated = zarr.open_group(str(path), mode="r").metadata.consolidated_metadata is not None
        options: dict[str, Any] = {"context": context, "mask_and_scale": False, "consolidated": consolidated}
        fast = xarray_tensorstore.open_zarr(str(path), **options)
        return dataset.copy(data={name: fast.variables[name]._data for name in dataset.data_vars})
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, UserError) as error:
        _logger.info("%s is read through xarray (%s)", path, error)
        return None


def _as_stored(variable: xr.Variable) -> bool:
    """Whether the stored numbers are the values; what xarray decodes, such as times, TensorStore gives as stored."""
    fills = [np.atleast_1d(variable.encoding.get(key, np.nan)) for key in ("_FillValue", "missing_value")]
    packed = {"scale_factor", "add_offset", "_Unsigned"} & variable.encoding.keys()
    return (
        variable.dtype.kind == "f"
        and not packed
        and all(fill.dtype.kind == "f" and np.isnan(fill).all() for fill in fills)
    )


@dataclasses.dataclass(frozen=True)
class StoredFields:
    """Fields of one store over the times of a canonical dataset.

    Attributes:
        arrays: of each variable, with dimensions in the order they are stored in.
        dimensions: those, by canonical name.
        positions: where in the store each entry of the dataset's axes stands.
    """

    arrays: dict[str, Any]
    dimensions: dict[str, tuple[str, ...]]
    positions: dict[str, np.ndarray]

    @classmethod
    def of(cls, path: str, dataset: xr.Dataset, names: Sequence[str], *, cache_bytes: int = 0) -> "StoredFields | None":
        """The arrays behind a canonical dataset, or None where its values are not simply those stored.

        That is the case for other sources than Zarr, for packed or converted values and for other names; they are
        read through the door. The first and the last time are read both ways and must agree to the bit.

        Args:
            path: what the dataset was opened from.
            dataset: the canonical dataset.
            names: variables with a time axis.
            cache_bytes: memory for decoded chunks, for stores whose chunks hold more than one time.
        """
        try:
            if any(dataset[name].encoding.get("remade") or dataset[name].encoding.get("masked") for name in names):
                return None
            found = cls._open(str(path), dataset, names, cache_bytes)
            return found if found is not None and found._agrees_with(dataset) else None
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            _logger.info("%s is read through xarray (%s)", path, error)
            return None

    @classmethod
    def _open(cls, path: str, dataset: xr.Dataset, names: Sequence[str], cache_bytes: int) -> "StoredFields | None":
        found = _scheme_and_root(path)
        if found is None:
            return None
        scheme, root = found
        raw = open_store(path, chunks=None, decode_timedelta=False)
        group = zarr.open_group(path, mode="r")
        context = tensorstore.Context({"cache_pool": {"total_bytes_limit": int(cache_bytes)}})
        arrays, dimensions = {}, {}
        for name in names:
            stored, array = raw[name], group[name]
            if not isinstance(array, zarr.Array) or not _is_plain(stored):
                return None
            driver = "zarr" if array.metadata.zarr_format == 2 else "zarr3"
            spec = {"driver": driver, "kvstore": f"{scheme}{root.rstrip('/')}/{name}/", "recheck_cached_data": False}
            arrays[name] = tensorstore.open(spec, context=context, read=True, open=True).result(timeout=60)
            dimensions[name] = tuple(map(str, stored.dims))
        axes = {axis for dims in dimensions.values() for axis in dims}
        return cls(arrays, dimensions, {axis: _positions(raw, axis, dataset) for axis in axes})

    def _agrees_with(self, dataset: xr.Dataset) -> bool:
        for time in sorted({0, dataset.sizes["time"] - 1}):
            for name, array in self.read([(time, time + 1)])[0].items():
                theirs = dataset[name].isel(time=[time]).transpose("time", ..., "latitude", "longitude").values
                if array.shape != theirs.shape or not np.array_equal(array, theirs, equal_nan=True):
                    return False
        return True

    @property
    def times_per_chunk(self) -> int:
        """Times that share a chunk, of the variable where they are most."""
        return max(
            int(array.chunk_layout.read_chunk.shape[self.dimensions[name].index("time")])
            for name, array in self.arrays.items()
        )

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[dict[str, np.ndarray]]:
        """Values of the times start … stop − 1 of each range; all are asked for before the first is waited for.

        Returns:
            For each range, by variable, (time[, level], latitude, longitude).
        """
        times = self.positions["time"]
        waiting = [{name: self._request(name, times[start:stop]) for name in self.arrays} for start, stop in ranges]
        return [{name: self._arranged(name, one.result()) for name, one in each.items()} for each in waiting]

    def _request(self, name: str, times: np.ndarray) -> Any:
        # Rows and columns are read whole: they fill a chunk, and are put in order afterwards where need be.
        chosen = {"time": times}
        if "level" in self.positions:
            chosen["level"] = self.positions["level"]
        index = tuple(_as_slice(chosen[axis]) if axis in chosen else slice(None) for axis in self.dimensions[name])
        return self.arrays[name].oindex[index].read()

    def _arranged(self, name: str, values: np.ndarray) -> np.ndarray:
        dims = self.dimensions[name]
        values = values.transpose([dims.index(axis) for axis in _AXES if axis in dims])
        values = values[..., _as_slice(self.positions["latitude"]), :]
        return values[..., _as_slice(self.positions["longitude"])]


def _scheme_and_root(path: str) -> tuple[str, str] | None:
    """TensorStore's name of the kind of place and where in it the store is; None if it is to be reached by fsspec."""
    filesystem, root = fsspec.core.url_to_fs(str(path))
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    scheme = _SCHEMES.get(protocol)
    if scheme is None or not filesystem.isdir(root) or (scheme != "file://" and _needs_fsspec(protocol)):
        return None
    return scheme, root


def _needs_fsspec(protocol: str) -> bool:
    """Whether a cloud is reached in a way that TensorStore, which takes the machine's own credentials, is not told."""
    options = {key: value for key, value in fsspec.config.conf.get(protocol, {}).items() if value != "anon"}
    return bool(options) or "STORAGE_EMULATOR_HOST" in os.environ


def _is_plain(stored: xr.DataArray) -> bool:
    """Whether the stored numbers are the values."""
    fill = stored.encoding.get("_FillValue")
    packed = {"scale_factor", "add_offset", "missing_value"} & stored.encoding.keys()
    axes = set(stored.dims) <= set(_AXES) and {"time", "latitude", "longitude"} <= set(stored.dims)
    if set(RANGES) & stored.attrs.keys():
        return False
    return stored.dtype == np.float32 and not packed and (fill is None or bool(np.isnan(fill))) and axes


def _positions(raw: xr.Dataset, axis: str, dataset: xr.Dataset) -> np.ndarray:
    """Where the dataset's coordinate values stand in the store."""
    stored, wanted = raw[axis].values, np.atleast_1d(dataset[axis].values)
    if axis == "time":
        lookup: dict[int, int] = {}
        for index, value in enumerate(stored.astype("datetime64[ns]").astype(np.int64).tolist()):
            lookup.setdefault(value, index)  # of repeated times the first, as the door reads them
        return np.array([lookup[value] for value in wanted.astype("datetime64[ns]").astype(np.int64).tolist()])
    stored = np.mod(stored, 360.0) if axis == "longitude" else stored
    distance = np.abs(stored[None, :].astype(np.float64) - wanted[:, None].astype(np.float64))
    if distance.min(axis=1).max() > 1e-3:
        raise ValueError(f"the axis {axis} is converted")
    return distance.argmin(axis=1)


def _as_slice(positions: np.ndarray) -> slice | np.ndarray:
    """A slice where positions are consecutive, which needs no copy."""
    if positions.size and np.array_equal(positions, np.arange(positions[0], positions[0] + positions.size)):
        return slice(int(positions[0]), int(positions[0]) + positions.size)
    if positions.size and np.array_equal(positions, np.arange(positions[0], positions[0] - positions.size, -1)):
        return slice(int(positions[0]), None if positions[-1] == 0 else int(positions[-1]) - 1, -1)
    return positions
