"""Reading fields for scoring: whole chunks, once, without dask.

A scheduler costs more than a small chunk: dask takes 1.1–1.5 ms a chunk of 8 KiB where Zarr alone takes 0.2 ms. So blocks of
many chunks are read in one call, and fields that are needed again (truth of many lead times) stay in a bounded cache.
"""

import dataclasses
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import WIND_PAIRS, lookup
from weather_scnn.catalogue.plausibility import Judge
from weather_scnn.errors import UserError
from weather_scnn.io.blocks import stored_chunks
from weather_scnn.io.retry import period, read_again
from weather_scnn.regridding.apply import WeightedRegridder, regrid_array
from weather_scnn.regridding.weights import Weights, make_weights
from weather_scnn.sphere.grid import Grid

CACHE_BYTES = 192 * 2**20
_BYTES_PER_READ = 32 * 2**20
_log = logging.getLogger(__name__)


def as_slice(positions: np.ndarray) -> slice | np.ndarray:
    """Evenly spaced ascending positions as a slice, which stores read faster than a list; others as they are."""
    positions = np.asarray(positions)
    if positions.size == 0:
        return slice(0, 0)
    if positions.size == 1:
        return slice(int(positions[0]), int(positions[0]) + 1)
    step = int(positions[1] - positions[0])
    if step > 0 and np.all(np.diff(positions) == step):
        return slice(int(positions[0]), int(positions[-1]) + 1, step)
    return positions


def read_values(array: xr.DataArray, name: str, dim: str, where: str) -> np.ndarray:
    """Values of a lazy array; reading is tried again, as of clouds, before it is given up.

    Args:
        array: to read.
        name: of the variable, for the message.
        dim: an axis, whose first and last value tell the part.
        where: the store.

    Raises:
        UserError: it cannot be read.
    """

    def what() -> str:
        # An axis without coordinates is numbered.
        return f"{name} cannot be read at {dim} {period(np.atleast_1d(array[dim].values))}"

    return read_again(lambda: array.values, what=what, where=where)


def chunk_length(array: xr.DataArray, dim: str) -> int:
    """Length of the store's chunks along a dimension; 1 where it does not say."""
    if array.chunks is not None:
        return int(array.chunks[array.dims.index(dim)][0])
    chunks = array.encoding.get("preferred_chunks") or stored_chunks(array.variable)
    return max(1, int(np.atleast_1d(chunks.get(dim, 1))[0]))


def regridding(source: xr.Dataset, target: xr.Dataset, *, where: str) -> Weights:
    """Conservative weights from one canonical dataset's grid to another's.

    Raises:
        UserError: one of them does not cover the globe.
    """
    try:
        _, grid = (
            Grid.from_coordinates(each["longitude"].values, each["latitude"].values) for each in (source, target)
        )
    except UserError as error:
        sizes = " and ".join(f"{data.sizes['longitude']}x{data.sizes['latitude']}" for data in (source, target))
        raise UserError(
            f"the grids differ ({sizes}) and one cannot be regridded: {error.what}",
            where=where,
            remedy="give global fields on equiangular or Gaussian grids",
        ) from None
    return make_weights(source["latitude"].values, source["longitude"].values, grid)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Makes fields of a store into fields to score: in other units, on another grid.

    A wind is regridded as a vector, from both of its components (`weather_scnn.regridding.apply.WeightedRegridder`): near a pole
    their directions turn by as much as the longitude does.

    Attributes:
        weights: of the regridding; None where the store is on the scoring grid.
        factors: (scale, offset) by name; absent where the units are right.
        winds: pairs of components that the store has.
    """

    weights: Weights | None = None
    factors: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    winds: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, weights: Weights | None, names: Sequence[str], held: Collection[str], factors: Mapping, *, label: str
    ) -> "Conversion":
        """The conversion of a store's scored variables; says which components it lacks the partner of.

        Args:
            weights: of the regridding, None for none.
            names: to be scored.
            held: names in the store.
            factors: see the class.
            label: of the store in the log.
        """
        winds = []
        for name in names if weights is not None else ():
            known = lookup(name)
            if name not in held or known is None or known.partner is None:
                continue
            if known.partner in held:
                winds.append((name, known.partner) if name in WIND_PAIRS else (known.partner, name))
            else:
                text = "%s of %s is regridded as a scalar, for there is no %s; its direction errs near the poles"
                _log.warning(text, name, label, known.partner)
        return cls(weights, {name: pair for name, pair in factors.items() if pair != (1.0, 0.0)}, tuple(set(winds)))

    def together(self, name: str) -> tuple[str, ...]:
        """What must be read to convert a variable: both components of a wind that is regridded, else itself."""
        return next((pair for pair in self.winds if name in pair), (name,))

    def scalar(self, name: str, values: np.ndarray) -> np.ndarray:
        """A field, or one component of a wind by itself, such as its spread."""
        return self._in_units(name, values if self.weights is None else regrid_array(values, self.weights))

    def __call__(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Converts arrays whose last two axes are latitude and longitude; `together` with each component the other."""
        result = {}
        for name, array in values.items():
            pair = self.together(name)
            if len(pair) == 1:
                result[name] = self.scalar(name, array)
            elif name == pair[0]:
                assert self.weights is not None
                east, north = WeightedRegridder(self.weights).vectors(*(values[part] for part in pair))
                result[pair[0]], result[pair[1]] = self._in_units(pair[0], east), self._in_units(pair[1], north)
        return result

    def _in_units(self, name: str, values: np.ndarray) -> np.ndarray:
        if name not in self.factors:
            return values
        scale, offset = self.factors[name]
        return values * np.float32(scale) + np.float32(offset)


class KeptFields:
    """Fields along the first dimension of arrays, read in whole chunks and kept while they fit.

    Safe to use from several threads.

    Args:
        arrays: by name, alike, of dims (axis[, level], latitude, longitude); more than one are read together.
        conversion: applied to what was read.
        maximum_bytes: size of the cache.
        where: the store, for what is said of a damaged chunk.
        judge: holds what was read against what its field can be; only for fields in the catalogue's units.
    """

    def __init__(
        self,
        arrays: Mapping[str, xr.DataArray],
        conversion: Conversion = Conversion(),
        *,
        maximum_bytes: int = CACHE_BYTES,
        where: str = "",
        judge: Judge | None = None,
    ):
        self._judge = judge
        self._arrays, self._conversion, self._maximum = dict(arrays), conversion, maximum_bytes
        self._where = where
        first = next(iter(self._arrays.values()))
        self._dim, self._length = str(first.dims[0]), int(first.shape[0])
        each = sum(array.nbytes for array in self._arrays.values()) // max(1, self._length)
        chunk = chunk_length(first, self._dim)
        # A chunk that would fill the cache by itself is not kept whole.
        self._chunk = chunk if chunk * each <= maximum_bytes // 4 else 1
        self._per_read = max(1, _BYTES_PER_READ // max(1, each) // self._chunk) * self._chunk
        self._fields: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def fields(self, name: str, positions: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """One array of shape ([level,] latitude, longitude) for each position, in any order, with repeats.

        Raises:
            UserError: a chunk cannot be read.
        """
        wanted = [int(position) for position in positions]
        with self._lock:
            result = {position: self._fields[position] for position in wanted if position in self._fields}
            for position in result:
                self._fields.move_to_end(position)
            for start, stop in self._runs(sorted(set(wanted) - set(result))):
                values = self._conversion({key: self._read(key, start, stop) for key in self._arrays})
                for position in range(start, stop):
                    if position in self._fields:
                        continue
                    held = {key: array[position - start] for key, array in values.items()}
                    result[position] = self._fields[position] = held
                    self._bytes += sum(array.nbytes for array in held.values())
            while self._bytes > self._maximum and len(self._fields) > 1:
                self._bytes -= sum(array.nbytes for array in self._fields.popitem(last=False)[1].values())
            return [result[position][name] for position in wanted]

    def _read(self, key: str, start: int, stop: int) -> np.ndarray:
        part = self._arrays[key].isel({self._dim: slice(start, stop)})
        values = read_values(part, key, self._dim, self._where)
        if self._judge is None:
            return values
        levels = np.atleast_1d(part["level"].values) if "level" in part.dims else None
        return self._judge(key, values, part[self._dim].values, levels)

    def forget_before(self, position: int) -> None:
        """Lets go of fields before a position; they are read again if they are asked for."""
        with self._lock:
            for old in [each for each in self._fields if each < position]:
                self._bytes -= sum(array.nbytes for array in self._fields.pop(old).values())

    def _runs(self, missing: list[int]) -> list[tuple[int, int]]:
        """Runs of whole chunks that hold the missing positions, none longer than one read may be."""
        runs: list[tuple[int, int]] = []
        for chunk in sorted({position // self._chunk for position in missing}):
            start, stop = chunk * self._chunk, min((chunk + 1) * self._chunk, self._length)
            if runs and runs[-1][1] == start and stop - runs[-1][0] <= self._per_read:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((start, stop))
        return runs
