"""States in the network's terms: standardised arrays of scalars and winds."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.errors import UserError
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.joining import ABSENT
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.normalisation import Normalisation


class StateArrays(NamedTuple):
    """Standardised states as NumPy float32, (t, y, x, channels)."""

    scalar: Float[np.ndarray, "t y x c"]
    eastward: Float[np.ndarray, "t y x d"]
    northward: Float[np.ndarray, "t y x d"]

    def take(self, indices: np.ndarray) -> "StateArrays":
        """States at these positions of the time axis; an index array of more dimensions gives as many."""
        return StateArrays(*(array[indices] for array in self))

    def finite(self) -> np.ndarray:
        """Whether each time has no NaN or infinity, (t,)."""
        return np.all(self.finite_share()[0], axis=-1)

    def finite_share(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether all, and whether any, values of each time and channel are finite, each (t, c + d)."""
        flags = [np.isfinite(array) for array in self]
        winds = flags[1] & flags[2]
        whole, some = (
            np.concatenate([kind(flags[0], axis=(1, 2)), kind(winds, axis=(1, 2))], axis=-1)
            for kind in (np.all, np.any)
        )
        return whole, some


def open_states(
    path: str, channels: Channels, grid: Grid, *, time: str | None = None, cache_bytes: int = 0
) -> FieldReader:
    """A reader of the fields of a store, held against what a network needs of them; only coordinates are read.

    Args:
        path: any source.
        channels, grid: what the network is made for.
        time: period A:B; all by default.
        cache_bytes: see `FieldReader`.

    Raises:
        UserError: variables, levels or times are missing, a field has levels or time where it should not or lacks them
            where it should have them, or the grid is another.
    """
    wanted = [*channels.variables, *channels.statics]
    options: dict[str, Any] = {"variables": wanted, "time": time or None, "cache_bytes": cache_bytes}
    try:
        reader = FieldReader(path, levels=list(channels.levels) or None, **options)
    except UserError:
        # A field without levels where some are expected has a remedy of its own.
        _check_fields(FieldReader(path, **options).fields, channels, path)
        raise
    dataset = reader.fields
    found = Grid.from_coordinates(dataset["longitude"].values, dataset["latitude"].values)
    if found.shape != grid.shape or found.kind != grid.kind or found.first_longitude != grid.first_longitude:
        raise UserError(
            f"the store's grid is {found.name} ({found.kind.value}) but {grid.name} ({grid.kind.value}) is expected",
            where=path,
            remedy=f"regrid the store with --grid {grid.name}, or train on it with --set data.grid={found.name}",
        )
    if "time" not in dataset.dims:
        raise UserError("has no time axis", where=path, remedy="give a store of states over time")
    _check_fields(dataset, channels, path)
    return reader


def _check_fields(dataset: xr.Dataset, channels: Channels, path: str) -> None:
    """Refuses fields that have levels or time where they should not, or lack them where they should have them."""
    state = [*channels.scalars, *((name, level) for u, v, level in channels.winds for name in (u, v))]
    for name, level in [*state, *((name, None) for name in channels.statics)]:
        dims = dataset[name].dims
        if level is not None and "level" not in dims:
            raise UserError(f"{name} has no levels there", where=path, remedy="name it in data.surface_variables")
        if level is None and "level" in dims:
            raise UserError(
                f"{name} is on {dataset.sizes['level']} levels there",
                where=path,
                remedy=f"name it in data.level_variables with its levels, as in {name}@{dataset['level'].values[0]:g}",
            )
        if level in (absent := dataset[name].encoding.get(ABSENT, ())):
            held = [each for each in dataset["level"].values if each not in absent]
            raise UserError(
                f"{name} has no level {level:g} hPa",
                where=path,
                remedy=f"choose from {', '.join(f'{each:g}' for each in held)}",
            )
        if (name, level) in state and "time" not in dims:
            raise UserError(f"{name} does not change with time", where=path, remedy="name it in data.static_variables")


@dataclasses.dataclass(frozen=True)
class StateReader:
    """Reads the states of one store.

    Attributes:
        reader: of its fields.
        channels: layout of the state.
        normalisation: moments of the channels.
        grid: the store's grid.
    """

    reader: FieldReader
    channels: Channels
    normalisation: Normalisation
    grid: Grid

    @classmethod
    def open(
        cls,
        path: str,
        channels: Channels,
        normalisation: Normalisation,
        grid: Grid,
        *,
        time: str | None = None,
        chunk_cache_bytes: float = 0,
    ) -> "StateReader":
        """Opens a store and holds it against what the network was made for.

        Args:
            path: any source; Zarr is read fastest.
            channels, normalisation, grid: what the network was made for.
            time: period A:B; all by default.
            chunk_cache_bytes: memory for decoded chunks of stores whose chunks hold several times.

        Raises:
            UserError: variables, levels or times are missing, or the grid is another.
        """
        reader = open_states(path, channels, grid, time=time, cache_bytes=int(chunk_cache_bytes))
        return cls(reader, channels, normalisation, grid)

    @property
    def path(self) -> str:
        """Of the store, for messages."""
        return self.reader.path

    @property
    def dataset(self) -> xr.Dataset:
        """Its canonical fields, lazy."""
        return self.reader.fields

    @property
    def times(self) -> np.ndarray:
        """Timestamps, datetime64[ns]."""
        return self.dataset["time"].values.astype("datetime64[ns]")

    @property
    def bytes_per_time(self) -> int:
        """Memory of one standardised state."""
        y, x = self.grid.shape
        return 4 * y * x * (len(self.channels.scalars) + 2 * len(self.channels.winds))

    @property
    def times_per_chunk(self) -> int:
        """Times that are decoded together."""
        return max(self.reader.chunks(name)["time"] for name in self.channels.variables)

    def read(self, start: int, stop: int) -> StateArrays:
        """Standardised states start … stop − 1 of the time axis."""
        return self.read_at(np.arange(start, stop))

    def read_at(self, positions: np.ndarray, *, judged: bool = False) -> StateArrays:
        """Standardised states at these positions of the time axis, of any shape, each (*shape, y, x, channels).

        Each time is read once however often it occurs, neighbours together, and all are asked for at once.

        Args:
            positions: on the time axis.
            judged: whether these times have been read before, and so held against what their fields can be.

        Raises:
            UserError: they cannot be read, or hold values that cannot be; see `plausibility.Judge`.
        """
        needed = np.unique(positions)
        runs = np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1)
        ranges = [(int(run[0]), int(run[-1]) + 1) for run in runs if run.size]
        # All are asked for before the first is waited for.
        waiting = [
            {name: self.reader.ask(name, slice(*each), judged=not judged) for name in self.channels.variables}
            for each in ranges
        ]
        flat = np.ravel(positions)
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], [needed, needed + 1])
        kinds = self._kinds()
        y, x = self.grid.shape
        result = [np.empty((flat.size, y, x, kind.mean.size), np.float32) for kind in kinds]
        # One time after the other: a plane stays in the cache until the channels have become its last axis.
        planes = [np.empty((kind.mean.size, y, x), np.float32) for kind in kinds]
        at = 0
        for pending, (start, stop) in zip(waiting, ranges):
            block = {name: one() for name, one in pending.items()}
            for time in range(stop - start):
                places = order[bounds[0, at] : bounds[1, at]]
                for kind, plane, target in zip(kinds, planes, result):
                    kind.standardise(block, time, plane)
                    for place in places.tolist():
                        target[place] = np.moveaxis(plane, 0, -1)
                at += 1
        return StateArrays(*(array.reshape(*np.shape(positions), *array.shape[1:]) for array in result))

    def _kinds(self) -> list["_Standardised"]:
        """Scalars and the two components of winds, as they lie in the store."""
        levels = {level: index for index, level in enumerate(self._levels())}
        moments, none = self.normalisation, np.zeros_like(self.normalisation.wind_std)
        scalars = [(name, None if level is None else levels[level]) for name, level in self.channels.scalars]
        winds = [(u, v, None if level is None else levels[level]) for u, v, level in self.channels.winds]
        return [
            _Standardised.of(scalars, moments.scalar_mean, moments.scalar_std),
            _Standardised.of([(u, level) for u, _, level in winds], none, moments.wind_std),
            _Standardised.of([(v, level) for _, v, level in winds], none, moments.wind_std),
        ]

    def _levels(self) -> list[Level]:
        return [level_number(level) for level in self.dataset["level"].values] if "level" in self.dataset.coords else []

    def statics(self) -> Float[np.ndarray, "y x s"]:
        """Standardised static fields and the coordinates asked for."""
        y, x = self.grid.shape
        out = np.empty((y, x, self.channels.static_count), np.float32)
        moments = self.normalisation
        for index, name in enumerate(self.channels.statics):
            values = self.reader.read(name, 0, judged=False).reshape(y, x)
            if not np.isfinite(values).all():
                raise UserError(f"the static field {name} has NaNs", remedy="fill them, or leave the field out")
            out[..., index] = (values - moments.static_mean[index]) / moments.static_std[index]
        latitude, longitude = np.radians(self.grid.latitude)[:, None], np.radians(self.grid.longitude)
        known = {
            "sin_latitude": np.sin(latitude),
            "sin_longitude": np.sin(longitude),
            "cos_longitude": np.cos(longitude),
        }
        for index, name in enumerate(self.channels.coordinates, start=len(self.channels.statics)):
            out[..., index] = known[name]
        return out


@dataclasses.dataclass(frozen=True)
class _Standardised:
    """Channels of one kind of field, (value − mean) / std.

    Attributes:
        sources: (variable, its levels, channels) of channels that lie together; levels None for a field without.
        mean, low, factor: the mean, what float32 loses of it, and 1 / std, each (c, 1, 1). At 50 hPa a geopotential
            has a mean of 2e5 and digits of 0.02.
    """

    sources: tuple[tuple[str, slice | list[int] | None, slice], ...]
    mean: Float[np.ndarray, "c 1 1"]
    low: Float[np.ndarray, "c 1 1"]
    factor: Float[np.ndarray, "c 1 1"]

    @classmethod
    def of(cls, channels: Sequence[tuple[str, int | None]], mean: np.ndarray, std: np.ndarray) -> "_Standardised":
        sources = []
        for name, group in itertools.groupby(enumerate(channels), key=lambda each: each[1][0]):
            places, levels = zip(*((index, level) for index, (_, level) in group))
            at = slice(places[0], places[-1] + 1)
            stored: slice | list[int] | None = None if levels[0] is None else list(levels)
            if isinstance(stored, list) and stored == list(range(stored[0], stored[0] + len(stored))):
                stored = slice(stored[0], stored[0] + len(stored))  # needs no copy
            sources.append((name, stored, at))
        high = mean.astype(np.float32)
        low, factor = (mean - high).astype(np.float32), (1.0 / std).astype(np.float32)
        return cls(tuple(sources), *(each[:, None, None] for each in (high, low, factor)))

    def standardise(self, block: Mapping[str, np.ndarray], time: int, out: Float[np.ndarray, "c y x"]) -> None:
        """Fills `out` from the fields of a block at one time."""
        for name, levels, at in self.sources:
            values = block[name][time]
            np.subtract(values if levels is None else values[levels], self.mean[at], out=out[at])
        out -= self.low
        out *= self.factor


def expected_grid(config: DataConfig) -> Grid:
    """The grid a configuration names."""
    return Grid.from_name(config.grid, poles=config.poles)
