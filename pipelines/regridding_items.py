"""The work items of a regridding job as workers do them: open, read, regrid, write.

A work item is a field, or the two components of a wind, over some times with full maps, aligned with the store's chunks,
so writing it twice is harmless.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
import zarr

from pipelines import running
from weather_scnn.catalogue.naming import WIND_PAIRS, lookup
from weather_scnn.errors import UserError
from weather_scnn.io.coverage import coverage_fault, other_axis
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.vertical_axis import model_level_axis
from weather_scnn.io.writing import StoreInProgress
from weather_scnn.regridding.apply import Regridder, WeightedRegridder
from weather_scnn.regridding.vertical import LevelPlan
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere.grid import Grid

#: Fields that only the cells of the sea have.
SEA_FIELDS = ("sea_surface_temperature", "sea_ice_cover")

_MASK = "land_sea_mask"
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RegriddingRequest:
    """What is asked for; workers open the source by it."""

    input: str
    grid: Grid
    method: str = "conservative"
    variables: tuple[str, ...] | None = None
    levels: tuple[float, ...] | None = None
    time: str | None = None
    interpolate_levels: bool = False
    coverage: float = 0.5
    winds: str = "vector"
    step: str | None = None
    member: int | None = None


class RegriddingItem(NamedTuple):
    """Times `start` to `stop` of a field, or of the two components of a wind."""

    names: tuple[str, ...]
    start: int
    stop: int
    times_in_block: int
    levels_in_block: int

    @property
    def key(self) -> str:
        return f"{self.names[0]}-{self.start:08d}"


@dataclasses.dataclass(frozen=True)
class Opened:
    """A source as a worker holds it.

    Attributes:
        reader: its fields.
        regridder: to the target.
        levels: which levels are read and made; None where no field has any.
        sea: cells of the sea, where the source has a land-sea mask and a field of the sea is asked for.
    """

    reader: FieldReader
    regridder: Regridder
    levels: LevelPlan | None
    sea: np.ndarray | None

    def read(self, name: str, times: slice | None, levels: slice) -> np.ndarray:
        """Part of a field."""
        return self.reader.read(name, times, None if self.levels is None else self.levels.read[levels])

    def regridded(self, names: tuple[str, ...], fields: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Fields on the target grid; two are the components of a wind."""
        if len(names) == 2:
            return list(self.regridder.vectors(*fields))
        return [self.regridder.scalars(fields[0], self.sea if names[0] in SEA_FIELDS else None)]


@running.OncePerJob
def open_once(job: str, request: RegriddingRequest) -> Opened:
    """The source and what it needs to be regridded."""
    raw = open_raw(find_source(request.input))
    open_reader: Callable[..., FieldReader] = FieldReader
    if any(model_level_axis(dataset) for _, dataset in raw):
        from pipelines.model_levels import on_pressure_levels

        open_reader = on_pressure_levels
    reader = open_reader(
        request.input,
        raw=raw,
        variables=request.variables,
        levels=None if request.interpolate_levels and open_reader is FieldReader else request.levels,
        time=request.time,
        step=request.step,
        member=request.member,
        beside=(_MASK,) if request.method != "spectral" else (),
    )
    dataset = reader.fields
    latitude, longitude = dataset["latitude"].values, dataset["longitude"].values
    if fault := coverage_fault(latitude, longitude):
        raise UserError(f"does not cover the globe: {fault}", where=request.input, remedy="give global fields")
    plan = None
    if "level" in dataset.dims:
        plan = LevelPlan.make(dataset["level"].values, request.levels, where=request.input)
    regridder: Regridder
    if request.method == "spectral":
        from weather_scnn.regridding.spectral import SpectralRegridder

        regridder = SpectralRegridder(Grid.from_coordinates(longitude, latitude), request.grid)
    else:
        weights = make_weights(latitude, longitude, request.grid, request.method)
        regridder = WeightedRegridder(weights, request.coverage)
    sea = None
    if request.method != "spectral" and set(SEA_FIELDS) & set(dataset.data_vars):
        sea = _sea(reader)
    return Opened(reader, regridder, plan, sea)


def _sea(source: FieldReader) -> np.ndarray | None:
    """Cells less than half of which are land, by the source's own mask; None where it has none.

    A mask that is there counts for every worker, or stops the job: fields of the sea must not depend on who read it.
    """
    if (reader := source.beside(_MASK)) is None:
        return None
    where = source.path
    if other_axis(reader.fields, source.fields):
        sizes = [f"{each.sizes['longitude']}x{each.sizes['latitude']}" for each in (reader.fields, source.fields)]
        raise UserError(
            f"its {_MASK} lies on {sizes[0]} points and its fields on {sizes[1]}",
            where=where,
            remedy=f"give a source whose mask is on the grid of the fields, or without {_MASK}",
        )
    mask = reader.read(_MASK)
    if not np.isfinite(mask).any():
        raise UserError(f"{_MASK} holds no values", where=where, remedy="fetch it again, or give a source without it")
    return mask < 0.5


def groups(dataset: xr.Dataset, winds: str) -> list[tuple[str, ...]]:
    """Fields over time as they are regridded: one by one, or the two components of a wind."""
    names = [str(name) for name, array in dataset.data_vars.items() if "time" in array.dims]
    result: list[tuple[str, ...]] = []
    for name in names:
        variable = lookup(name)
        partner = variable.partner if variable is not None and winds == "vector" else None
        if partner is None:
            result.append((name,))
        elif partner not in names:
            _LOG.warning(
                "%s is regridded as a scalar, for %s is not there; its direction errs near the poles", name, partner
            )
            result.append((name,))
        elif (partner, name) not in result:
            east = name if name in WIND_PAIRS else partner
            pair = (east, partner if east == name else name)
            if pair not in result:
                result.append(pair)
    return result


def work(item: RegriddingItem, *, job: str, request: RegriddingRequest, record: StoreInProgress) -> None:
    """Reads, regrids and writes one work item, block by block, then records it."""
    with running.work_item(job, record, item.key) as finish:
        opened = open_once(job, request)
        with_levels = "level" in opened.reader.fields[item.names[0]].dims
        plan = opened.levels if with_levels else None
        count = len(plan.read) if plan is not None else 1
        shape = (item.stop - item.start, *([count] if plan is not None else []), *request.grid.shape)
        results = [np.empty(shape, np.float32) for _ in item.names]
        for start in range(item.start, item.stop, item.times_in_block):
            times = slice(start, min(start + item.times_in_block, item.stop))
            place = slice(times.start - item.start, times.stop - item.start)
            for first in range(0, count, item.levels_in_block):
                levels = slice(first, first + item.levels_in_block)
                fields = [opened.read(name, times, levels) for name in item.names]
                for result, values in zip(results, opened.regridded(item.names, fields)):
                    result[(place, levels) if plan is not None else place] = values
        for name, result in zip(item.names, results):
            _write(job, record.path, name, item, result if plan is None else plan.apply(result))
        finish()


@functools.lru_cache(maxsize=4)
def _open_for_writing(job: str, path: str) -> zarr.Group:
    """The output of a job: a later job of a long-lived worker may have replaced it."""
    return zarr.open_group(path, mode="r+", use_consolidated=False)


def _write(job: str, path: str, name: str, item: RegriddingItem, values: np.ndarray) -> None:
    _open_for_writing(job, path)[name][item.start : item.stop] = values  # type: ignore[index]


def close() -> None:
    """Forgets what was opened, so that a later job sees the files as they are then."""
    open_once.forget()
    _open_for_writing.cache_clear()
