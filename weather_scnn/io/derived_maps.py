"""Parts of derived fields without a task graph of the whole record; see `direct` for why."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.io.derived_opening import Plan, of_shared_times, plan
from weather_scnn.io.direct import MapReader, open_maps
from weather_scnn.io.sources import find_source, open_raw

_INPUT_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class DerivedMaps(MapReader):
    """A reader of fields of which some are made when they are read.

    Attributes:
        base: reader of the inputs.
        plan: which fields are made, and how.
    """

    base: MapReader
    plan: Plan

    def chunks(self, name: str) -> dict[str, int]:
        """Size of the chunks of the first input, along the axes of the result."""
        array = self.dataset[name]
        inputs = self.plan.derived[name].inputs if name in self.plan.derived else (name,)
        stored = self.base.chunks(inputs[0]) if inputs else {}
        thinned = max(1, self.base.dataset.sizes.get("time", 1) // max(1, array.sizes.get("time", 1)))
        sizes = {str(dim): min(stored.get(str(dim), 1), size) for dim, size in array.sizes.items()}
        if "time" in sizes:
            sizes["time"] = max(1, sizes["time"] // thinned)
        return {**sizes, "latitude": array.sizes["latitude"], "longitude": array.sizes["longitude"]}

    def read(self, name: str, times: slice | np.ndarray | None = None, levels: Any = None) -> np.ndarray:
        """See `MapReader.read`; inputs are read some 64 MiB at a time, however many hours a total spans."""
        array = self.dataset[name]
        wanted = array["time"].to_index()[slice(None) if times is None else times] if "time" in array.dims else None
        level = None
        if "level" in array.dims:
            level = np.atleast_1d(array["level"].values[slice(None) if levels is None else levels])
        if name not in self.plan.derived:
            return self.base.read(name, self._positions(wanted), self._levels(level))
        hours = self.plan.derived[name].hours_before
        assert wanted is not None
        interval = self._interval_hours()
        maps = max(1, len(self.plan.derived[name].inputs)) * (len(level) if level is not None else 1)
        each = 4 * maps * array.sizes["latitude"] * array.sizes["longitude"] * (1 + hours / interval)
        count = max(1, int(_INPUT_BYTES // each))
        parts = [self._made(name, wanted[i : i + count], level) for i in range(0, len(wanted), count)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _interval_hours(self) -> float:
        index = self.base.dataset["time"].to_index()
        return float(np.diff(index.values).min() / np.timedelta64(1, "h")) if len(index) > 1 else 1.0

    def _positions(self, wanted: pd.Index | None) -> Any:
        if wanted is None:
            return None
        positions = self.base.dataset["time"].to_index().get_indexer(wanted)
        if len(positions) and np.array_equal(positions, np.arange(positions[0], positions[0] + len(positions))):
            return slice(int(positions[0]), int(positions[-1]) + 1)
        return positions

    def _levels(self, level: np.ndarray | None) -> Any:
        if level is None:
            return None
        held = self.base.dataset["level"].values
        return np.array([int(np.abs(held - each).argmin()) for each in level])

    def _made(self, name: str, wanted: pd.Index, level: np.ndarray | None) -> np.ndarray:
        """Some times of a derived field, from inputs in memory."""
        recipe = self.plan.derived[name]
        base = self.base.dataset
        index = base["time"].to_index()
        needed = np.zeros(len(index), bool)
        for time in wanted:
            begin = index.searchsorted(time - pd.Timedelta(hours=recipe.hours_before))
            needed[begin : index.searchsorted(time, side="right")] = True
        times = index[needed]
        inputs: dict[str, xr.Variable] = {}
        coordinates: dict[str, Any] = {axis: base[axis].values for axis in ("latitude", "longitude")}
        coordinates["time"] = times
        levels = np.asarray(recipe.levels) if recipe.levels else level
        for each in recipe.inputs:
            held = base[each]
            if "level" in held.dims and levels is not None:
                coordinates["level"] = levels
            values = self.base.read(
                each,
                self._positions(times) if "time" in held.dims else None,
                self._levels(levels) if "level" in held.dims else None,
            )
            dims = [dim for dim in ("time", "level", "latitude", "longitude") if dim in held.dims]
            inputs[each] = xr.Variable(dims, values)
        dataset = xr.Dataset(inputs, coordinates)
        made = recipe.make(dataset).sel(time=wanted)
        dims = [dim for dim in ("time", "level", "latitude", "longitude") if dim in made.dims]
        return np.asarray(made.transpose(*dims).values, np.float32)


@dataclasses.dataclass(frozen=True)
class JoinedMaps(MapReader):
    """Several readers of one source with times of their own, as one of the times that they share.

    Attributes:
        parts: reader of every field.
    """

    parts: dict[str, MapReader]

    @classmethod
    def of(cls, path: str, readers: Sequence[MapReader], names: Sequence[str]) -> "JoinedMaps":
        """Joins readers.

        Args:
            path: of the source.
            readers: at least one.
            names: of their fields, in the order wanted.

        Raises:
            UserError: they share no time.
        """
        dataset = of_shared_times([reader.dataset for reader in readers], path)
        held = {str(name): reader for reader in readers for name in reader.dataset.data_vars}
        order = [name for name in names if name in held] + [name for name in held if name not in names]
        return cls(dataset[order], {}, path, held)

    def chunks(self, name: str) -> dict[str, int]:
        """See `MapReader.chunks`."""
        sizes = self.parts[name].chunks(name)
        return {dim: min(size, self.dataset[name].sizes[dim]) for dim, size in sizes.items()}

    def read(self, name: str, times: slice | np.ndarray | None = None, levels: Any = None) -> np.ndarray:
        """See `MapReader.read`."""
        if "time" not in self.dataset[name].dims:
            return self.parts[name].read(name, None, levels)
        wanted = self.dataset["time"].to_index()[slice(None) if times is None else times]
        positions = self.parts[name].dataset["time"].to_index().get_indexer(wanted)
        if len(positions) and np.array_equal(positions, np.arange(positions[0], positions[0] + len(positions))):
            return self.parts[name].read(name, slice(int(positions[0]), int(positions[-1]) + 1), levels)
        return self.parts[name].read(name, positions, levels)


def open_derived_maps(
    path: str,
    *,
    variables: Sequence[str] | str | None = None,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    step: str | None = None,
    member: int | None = None,
) -> MapReader:
    """As `open_maps`, where `variables` may name derived fields and `step` thins the times; see `open_derived`.

    Raises:
        UserError: as `open_derived`.
    """
    raw = open_raw(find_source(str(path)))
    levels = None if levels is None else list(levels)
    made = plan(raw, path, variables, levels, time, member)
    if made.names is not None and len(parts := made.parts()) > 1:
        # Hourly totals may lie beside six-hourly fields: each part is opened on its own times.
        opened = [
            _open_planned(path, plan(raw, path, names, levels, time, member), step, member, raw) for names in parts
        ]
        return JoinedMaps.of(str(path), opened, made.names)
    return _open_planned(path, made, step, member, raw)


def _open_planned(
    path: str, made: Plan, step: str | None, member: int | None, raw: list[tuple[str, xr.Dataset]]
) -> MapReader:
    base = open_maps(path, variables=made.inputs, levels=made.levels, time=made.time, member=member, raw=raw)
    if not made.derived and step is None:
        return base
    made = made.of_what_is_there(base.dataset)
    return DerivedMaps(made.result(base.dataset, step, str(path)), {}, str(path), base, made)
