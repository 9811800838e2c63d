"""Reading fields in parts: what regridding, statistics, climatologies, training, forecasts and scores read with.

A part costs the same however long the record is; see `stored`. Reading is tried again before it is given up, what
cannot be read is named, and what was read is held against what its field can be. Any number of threads may read.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.plausibility import Judge, extremes_of_one_map, implausible
from weather_scnn.errors import UserError
from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.derived import Recipe
from weather_scnn.io.derived_opening import FieldPlan, of_shared_times, plan
from weather_scnn.io.opening import CanonicalSource, listed, refuse_forecasts
from weather_scnn.io.plain_zarr import ChunkCache
from weather_scnn.io.retry import period, read_again
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.stored import Pending, StoredArray
from weather_scnn.io.stored_fields import as_stored_variable

_INPUT_BYTES = 64 * 2**20
_MAP = ("latitude", "longitude")


@runtime_checkable
class MadeField(Protocol):
    """A field that is made when it is read."""

    def read(self, times: pd.Index | None, levels: np.ndarray | None) -> np.ndarray:
        """At times and levels (hPa), float32, axes in canonical order."""

    def chunks(self, array: xr.DataArray) -> dict[str, int]:
        """What is decoded at once, along the axes of the field."""


class FieldReader:
    """The fields of a source, to be read in parts.

    Args:
        source: Zarr store, netCDF or GRIB file, folder, glob or fsspec address, or what else `sources` knows.
        variables: names, derived fields among them (see `derived`); default all.
        levels: hPa; default all.
        time: period A:B; default all.
        step: only times at whole multiples of this since midnight, such as 6h; totals are still made from all times.
        member: number of the ensemble member; default the first, with a warning.
        cache_bytes: memory for decoded chunks, for stores whose chunks hold more than is read at once.
        raw: the lazy files, where they are open already.
        beside: canonical names of further fields that `beside` may be asked for.

    Raises:
        UserError: as `open_dataset` and `derive`; it holds forecasts; or the fields share no time.

    Example:
        >>> import numpy as np, xarray as xr
        >>> from weather_scnn.io.in_memory import address_of
        >>> axes = {"lat": [60.0, -60.0], "lon": [0.0, 180.0], "time": np.array(["2020-01-01", "2020-01-02"], "M8[ns]")}
        >>> t2m = xr.DataArray(np.full((2, 2, 2), 15.0), axes, ("lat", "lon", "time"), attrs={"units": "degC"})
        >>> with address_of(t2m.to_dataset(name="t2m")) as address:
        ...     FieldReader(address).read("2m_temperature", time=slice(1, 2)).shape
        (1, 2, 2)
    """

    fields: xr.Dataset
    path: str
    made: dict[str, MadeField]
    source: CanonicalSource | None

    def __init__(
        self,
        source: str,
        *,
        variables: Sequence[str] | str | None = None,
        levels: Iterable[float] | None = None,
        time: str | None = None,
        step: str | None = None,
        member: int | None = None,
        cache_bytes: int = 0,
        raw: list[tuple[str, xr.Dataset]] | None = None,
        beside: Sequence[str] = (),
    ):
        path, names = str(source), listed(variables)
        raw = open_raw(find_source(path), cache=ChunkCache(cache_bytes)) if raw is None else raw
        canonical = CanonicalSource(path, names, member=member, raw=raw, beside=beside)
        made = plan(canonical, names, None if levels is None else list(levels), time)
        plans = [made]
        if made.names is not None and len(kinds := made.kinds()) > 1:
            # Hourly totals may lie beside six-hourly fields: each kind is opened on its own times.
            plans = [plan(canonical, each, made.kept_levels or made.levels, time) for each in kinds]
        readers = [_planned(canonical, each, step) for each in plans]
        fields = readers[0].fields
        if len(readers) > 1:
            assert made.names is not None
            shared = of_shared_times([reader.fields for reader in readers], path)
            order = [name for name in made.names if name in shared]
            fields = shared[order + [name for name in map(str, shared.data_vars) if name not in order]]
        self.fields, self.path, self.source = fields, path, canonical
        self.made = {name: each for reader in readers for name, each in reader.made.items()}

    @classmethod
    def of(cls, fields: xr.Dataset, path: str, made: Mapping[str, MadeField] | None = None) -> "FieldReader":
        """A reader of canonical fields that are there already.

        Args:
            fields: with the arrays of `stored`, or of dask.
            path: of the source, for messages.
            made: those that are made when they are read.
        """
        reader = cls.__new__(cls)
        reader.fields, reader.path, reader.source, reader.made = fields, path, None, dict(made or {})
        return reader

    def beside(self, name: str) -> "FieldReader | None":
        """A reader of a field that was named so; None where the source has none of the name."""
        if self.source is None or name not in self.source.names:
            return None
        return FieldReader.of(self.source.fields([name]).dataset, self.path)

    @functools.cached_property
    def dataset(self) -> xr.Dataset:
        """As `open_dataset` gives it: canonical, lazy, in dask blocks."""
        return in_blocks(self.fields)

    @functools.cached_property
    def lazy(self) -> xr.Dataset:
        """The same without dask: a selection of a field costs what it reads."""
        result = {
            name: as_stored_variable(array.data, tuple(map(str, array.dims)), array.attrs, array.encoding)
            for name, array in self.fields.data_vars.items()
            if isinstance(array.data, StoredArray)
        }
        return self.fields.assign(result)

    @functools.cached_property
    def judge(self) -> Judge:
        """What holds every map read against what its field can be."""
        return Judge.of(self.fields, self.path)

    def judge_first(self, *, one_map: bool = False) -> None:
        """Reads the first time of every field, so that a job refuses what cannot be before it writes anything.

        Args:
            one_map: whether one map a field will do, at the level nearest 500 hPa, and of static fields too.

        Raises:
            UserError: values that cannot be, or that cannot be read.
        """
        for name, array in self.fields.data_vars.items():
            if not one_map:
                if "time" in array.dims:
                    self.read(str(name), time=slice(0, 1))
            elif lookup(str(name)) is not None:
                result = read_again(
                    functools.partial(extremes_of_one_map, array),
                    what=functools.partial(str.format, "{} cannot be read at its first time", name),
                    where=self.path,
                )
                if result is not None and (fault := implausible(str(name), result)):
                    remedy = "correct the units attribute, or the values"
                    raise UserError(f"{name} is implausible: {fault}", where=self.path, remedy=remedy)

    def chunks(self, name: str) -> dict[str, int]:
        """Size of the stored chunks along every axis of a field: what is decoded at once."""
        array = self.fields[name]
        if name in self.made:
            return self.made[name].chunks(array)
        if stored := array.encoding.get("preferred_chunks"):
            return {str(dim): int(stored.get(dim, size)) for dim, size in array.sizes.items()}
        blocks = self.dataset[name].chunks or tuple((size,) for size in array.shape)
        return {str(dim): max(sizes, default=1) for dim, sizes in zip(array.dims, blocks)}

    def read(
        self, name: str, time: Any = None, level: Any = None, lead: Any = None, member: Any = None, judged: bool = True
    ) -> np.ndarray:
        """Part of a field.

        Args:
            name: canonical name.
            time, level, lead, member: positions on the axes, a slice or whole numbers; default all.
            judged: whether values are held against what the field can be, see `plausibility.Judge`.

        Returns:
            Float32 in the catalogue's unit, axes in canonical order: (time[, lead][, member][, level], latitude,
            longitude); those that the field has.

        Raises:
            UserError: it cannot be read, or values that cannot be.
        """
        return self.ask(name, time, level, lead, member, judged)()

    def ask(
        self, name: str, time: Any = None, level: Any = None, lead: Any = None, member: Any = None, judged: bool = True
    ) -> Pending:
        """As `read`, in two steps: many parts are asked for before the first is waited for."""
        array = self.fields[name]
        asked = {"time": time, "level": level, "prediction_timedelta": lead, "number": member}
        wanted = {axis: key for axis, key in asked.items() if key is not None and axis in array.dims}
        again = functools.partial(self._ask, name, wanted)
        early: list[Pending] = []
        # Fields that are made, or lie in dask, are read when they are waited for.
        if isinstance(array.data, StoredArray) and name not in self.made:
            with contextlib.suppress(Exception):  # of any kind: it is asked for again, and then told
                early.append(again())

        def what() -> str:
            if "time" not in wanted:
                return f"{name} cannot be read"
            return f"{name} cannot be read in {period(np.atleast_1d(array['time'].values[time]))}"

        def finished() -> np.ndarray:
            values = read_again(lambda: (early.pop() if early else again())(), what=what, where=self.path)
            if not judged or name in self.made:
                return values
            times = array["time"].values[slice(None) if time is None else time] if "time" in array.dims else None
            held = None
            if "level" in array.dims:
                held = np.atleast_1d(array["level"].values[slice(None) if level is None else level])
            return self.judge(name, values, times, held)

        return finished

    def _ask(self, name: str, wanted: Mapping[str, Any]) -> Pending:
        array = self.fields[name]
        if name in self.made:
            times = array["time"].to_index()[wanted.get("time", slice(None))] if "time" in array.dims else None
            levels = None
            if "level" in array.dims:
                levels = np.atleast_1d(array["level"].values[wanted.get("level", slice(None))])
            return functools.partial(self.made[name].read, times, levels)
        data = array.data
        if isinstance(data, StoredArray):  # not by xarray, which takes longer than TensorStore for a small chunk
            for axis, key in wanted.items():
                data = data.at(array.dims.index(axis), key if isinstance(key, slice) else np.atleast_1d(key))
            return data.ask()
        part = array.isel(wanted)

        def computed() -> np.ndarray:
            # Callers are threads already; dask's own on top of them read one chunk at a time 2.5 times slower.
            return np.asarray(part.compute(scheduler="synchronous").values)

        return computed


@dataclasses.dataclass(frozen=True)
class _FromOthers:
    """A field that is made of others, or that is one of a reader of more times or levels.

    Attributes:
        base: reader of the inputs.
        name: of the field.
        recipe: how it is made; None where the base has it.
    """

    base: FieldReader
    name: str
    recipe: Recipe | None

    def chunks(self, array: xr.DataArray) -> dict[str, int]:
        """Size of the chunks of the first input, along the axes of the result."""
        base = self.base.fields
        inputs = (self.name,) if self.recipe is None else self.recipe.inputs
        stored = self.base.chunks(inputs[0]) if inputs else {}
        thinned = max(1, base.sizes.get("time", 1) // max(1, array.sizes.get("time", 1)))
        sizes = {str(dim): min(stored.get(str(dim), 1), size) for dim, size in array.sizes.items()}
        if "time" in sizes:
            sizes["time"] = max(1, sizes["time"] // thinned)
        return {**sizes, "latitude": array.sizes["latitude"], "longitude": array.sizes["longitude"]}

    def read(self, times: pd.Index | None, levels: np.ndarray | None) -> np.ndarray:
        """See `MadeField`; inputs are read some 64 MiB at a time, however many hours a total spans."""
        if self.recipe is None:
            return self.base.read(self.name, self._positions(times), self._levels(levels))
        assert times is not None
        base = self.base.fields
        index = base["time"].to_index()
        interval = float(np.diff(index.values).min() / np.timedelta64(1, "h")) if len(index) > 1 else 1.0
        maps = max(1, len(self.recipe.inputs)) * (1 if levels is None else len(levels))
        each = 4 * maps * base.sizes["latitude"] * base.sizes["longitude"] * (1 + self.recipe.hours_before / interval)
        count = max(1, int(_INPUT_BYTES // each))
        parts = [self._some(self.recipe, times[i : i + count], levels) for i in range(0, len(times), count)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _positions(self, wanted: pd.Index | None) -> np.ndarray | None:
        return None if wanted is None else self.base.fields["time"].to_index().get_indexer(wanted)

    def _levels(self, level: np.ndarray | None) -> np.ndarray | None:
        if level is None:
            return None
        held = self.base.fields["level"].values
        return np.array([int(np.abs(held - each).argmin()) for each in level])

    def _some(self, recipe: Recipe, wanted: pd.Index, level: np.ndarray | None) -> np.ndarray:
        """Some times, from inputs in memory."""
        base = self.base.fields
        index = base["time"].to_index()
        needed = np.zeros(len(index), bool)
        for time in wanted:
            begin = index.searchsorted(time - pd.Timedelta(hours=recipe.hours_before))
            needed[begin : index.searchsorted(time, side="right")] = True
        times = index[needed]
        coordinates: dict[str, Any] = {axis: base[axis].values for axis in _MAP}
        coordinates["time"] = times
        levels = np.asarray(recipe.levels) if recipe.levels else level
        waiting: dict[str, tuple[list[str], Callable[[], np.ndarray]]] = {}
        for each in recipe.inputs:
            dims = [dim for dim in ("time", "level", *_MAP) if dim in base[each].dims]
            on_levels = "level" in dims
            if on_levels and levels is not None:
                coordinates["level"] = levels
            positions = self._positions(times) if "time" in dims else None
            waiting[each] = dims, self.base.ask(each, positions, self._levels(levels) if on_levels else None)
        inputs = {name: xr.Variable(dims, pending()) for name, (dims, pending) in waiting.items()}
        made = recipe.make(xr.Dataset(inputs, coordinates)).sel(time=wanted)
        dims = [dim for dim in ("time", "level", *_MAP) if dim in made.dims]
        return np.asarray(made.transpose(*dims).values, np.float32)


def _planned(canonical: CanonicalSource, made: FieldPlan, step: str | None) -> FieldReader:
    opened = canonical.fields(made.inputs, levels=made.levels, time=made.time).dataset
    refuse_forecasts(opened, canonical.path)
    return with_derived(FieldReader.of(opened, canonical.path), made, step)


def with_derived(base: FieldReader, made: FieldPlan, step: str | None) -> FieldReader:
    """A reader of the fields that a plan asks for, of one that has been opened by it; see `derived_opening.plan`."""
    if not made.derived and step is None:
        return base
    made = made.of_what_is_there(base.fields)
    fields = made.result(base.fields, step, base.path)
    recipes = {name: made.derived.get(name) for name in map(str, fields.data_vars)}
    others = {
        name: _FromOthers(base, name, each) for name, each in recipes.items() if each is not None or name in base.made
    }
    return FieldReader.of(fields, base.path, others)
