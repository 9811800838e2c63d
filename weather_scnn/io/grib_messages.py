"""Fields of GRIB messages, read one message at a time, with every value where the grid's description puts it.

cfgrib (0.9.15) takes the values of any regular grid to run eastward along rows, and sorts their longitudes
(ecmwf/cfgrib#236). Here they are laid out by the latitude and longitude that ecCodes gives for every point.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from cfgrib.dataset import OnDiskArray, Variable
from cfgrib.xarray_plugin import ECCODES_LOCK
from xarray.backends import BackendArray
from xarray.core import indexing

REGULAR = ("regular_ll", "regular_gg")


@dataclasses.dataclass(frozen=True)
class MessageGrid:
    """How the values of a message become a map.

    Attributes:
        latitude: of the map's rows, degrees.
        longitude: of its columns, degrees.
        by_columns: whether consecutive points run along meridians.
        alternating: whether every other line of points runs backwards.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    by_columns: bool
    alternating: bool

    @classmethod
    def of(
        cls, latitude: np.ndarray, longitude: np.ndarray, shape: tuple[int, int], alternating: bool
    ) -> "MessageGrid":
        """The grid of points in the order of a message.

        Args:
            latitude, longitude: of every point, as ecCodes gives them, which leaves alternating lines out of account.
            shape: number of rows and of columns.
            alternating: whether every other line of points runs backwards.

        Raises:
            ValueError: the points are no product of rows and columns.
        """
        for by_columns in (False, True):
            lines = shape[::-1] if by_columns else shape
            across, along = (longitude, latitude) if by_columns else (latitude, longitude)
            if across.size != shape[0] * shape[1]:
                break
            across, along = across.reshape(lines), along.reshape(lines)
            if (across == across[:, :1]).all() and (along == along[:1]).all():
                rows, columns = (along[0], across[:, 0]) if by_columns else (across[:, 0], along[0])
                return cls(rows.copy(), columns.copy(), by_columns, alternating)
        raise ValueError(f"the {latitude.size} points of a regular grid are not {shape[0]} rows of {shape[1]}")

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """Values of a message as (latitude, longitude)."""
        rows, columns = self.latitude.size, self.longitude.size
        lines = values.reshape((columns, rows) if self.by_columns else (rows, columns))
        if self.alternating:
            lines = lines.copy()
            lines[1::2] = lines[1::2, ::-1]
        return lines.T if self.by_columns else lines


class Messages(BackendArray):
    """The values of a hypercube of messages, NaN where there is none.

    Attributes:
        array: cfgrib's account of which message stands where.
        grid: of all messages; None leaves the points in a row.
    """

    def __init__(self, array: OnDiskArray, grid: MessageGrid | None):
        self.array, self.grid = array, grid
        leading = tuple(array.shape[:-1])
        self.shape = leading + ((grid.latitude.size, grid.longitude.size) if grid is not None else array.shape[-1:])
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        headers = len(self.array.shape) - 1
        wanted = [
            [each] if isinstance(each, int | np.integer) else list(range(size)[each])
            for each, size in zip(key[:headers], self.shape)
        ]
        sizes = [len(each) for each in wanted]
        points = key[headers:]
        result: np.ndarray | None = None
        for place in itertools.product(*(range(size) for size in sizes)):
            at = tuple(each[position] for each, position in zip(wanted, place))
            messages = self.array.field_id_index.get(at)
            if messages is None:
                continue
            with ECCODES_LOCK:  # ecCodes' switch for several fields in a message is one for the whole process
                values = self.array.index.get_field(messages[0])["values"]
            # Missing points have the largest float32 in the float64 of ecCodes.
            values = np.asarray(values, self.dtype)
            values = (values if self.grid is None else self.grid.arranged(values))[points]
            if result is None:
                result = np.full((*sizes, *np.shape(values)), np.nan, self.dtype)
            result[place] = values
        if result is None:
            result = np.full((*sizes, *np.empty(self.shape[headers:], bool)[points].shape), np.nan, self.dtype)
        result[result == self.array.missing_value] = np.nan
        dropped = tuple(0 if isinstance(each, int | np.integer) else slice(None) for each in key[:headers])
        return result[dropped]


def message_grid(
    variables: Mapping[str, Variable], attributes: Mapping[str, Any], alternating: bool
) -> MessageGrid | None:
    """The grid of a hypercube opened with its points in a row; None where it is no regular one.

    Args:
        variables: of the hypercube, `latitude` and `longitude` along its points among them.
        attributes: of one of its fields.
        alternating: whether every other line of points runs backwards.

    Raises:
        ValueError: the description of a regular grid contradicts itself.
    """
    if attributes.get("GRIB_gridType") not in REGULAR:
        return None
    if "latitude" not in variables:
        raise ValueError("the description of the grid is inconsistent")
    rows, columns = (
        int(next(attributes[f"GRIB_{name}"] for name in names if f"GRIB_{name}" in attributes))
        for names in (("Ny", "Nj"), ("Nx", "Ni"))
    )
    return MessageGrid.of(variables["latitude"].data, variables["longitude"].data, (rows, columns), alternating)


def as_dataset(
    variables: Mapping[str, Variable], attributes: Mapping[str, Any], grid: MessageGrid | None
) -> xr.Dataset:
    """A lazy dataset of what cfgrib found, decoded."""
    decoded = {}
    for name, variable in variables.items():
        if grid is not None and name in ("latitude", "longitude"):
            values = getattr(grid, name)
            decoded[name] = xr.Variable((name,), values, variable.attributes)
        elif isinstance(variable.data, OnDiskArray):
            dims = variable.dimensions
            dims = (*dims[:-1], "latitude", "longitude") if grid is not None else dims
            lazy = indexing.LazilyIndexedArray(Messages(variable.data, grid))
            decoded[name] = xr.Variable(dims, lazy, variable.attributes)
        else:
            decoded[name] = xr.Variable(variable.dimensions, variable.data, variable.attributes)
    return xr.decode_cf(xr.Dataset(decoded, attrs=dict(attributes)), decode_timedelta=True)
