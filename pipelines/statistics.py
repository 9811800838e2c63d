"""Job for the statistics that normalise training: of every field, and of its increments over one step."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from pipelines import running
from pipelines.beam import check_options
from pipelines.partial_statistics import PartialStatistics
from pipelines.planning import BASE_BYTES, DEFAULT_MEMORY, Estimate, too_little
from weather_scnn.byte_sizes import parse_bytes
from weather_scnn.errors import UserError
from weather_scnn.io.coverage import missing_lines
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.statistics import STATISTICS
from weather_scnn.io.writing import Record, begin_record, packed, provenance, write_netcdf
from weather_scnn.sphere.grid import latitude_weights

# Of the source, a work item that is recorded when done, and what of it is read at once.
_ITEM_BYTES = 64 * 2**20
_BLOCK_BYTES = 8 * 2**20
_LEAST_ITEMS = 8
# Maps are taken in float64 some levels at a time, with copies for deviations and increments.
_VALUES_AT_ONCE = 2**20
_COPIES = 4
# A work item reads on for one step beyond its end; so many steps make that an eighth of the reading.
_STEPS_PER_PIECE = 8

_FORMULA = (
    "Area-weighted (cell areas of mean 1) over all times and points of the period, NaNs left out. mean = sum(w x)/sum(w)"
    "; std = sqrt(sum(w (x - mean)^2)/sum(w)); count = number of values. Increments are x(t + step) - x(t) for every t "
    "such that both times are in the period. One pass, pieces combined after Chan et al. (1983)."
)


@dataclasses.dataclass(frozen=True)
class StatisticsRequest:
    """What is asked for; workers open the source by it."""

    input: str
    time: str | None
    variables: tuple[str, ...] | None
    step: str


class StatisticsItem(NamedTuple):
    """Times `start` to `stop` and some levels of a field, and the increments that begin in these times."""

    name: str
    start: int
    stop: int
    first_level: int
    last_level: int
    times_in_block: int

    @property
    def key(self) -> str:
        return f"{self.name}-{self.first_level:04d}-{self.start:08d}"


@running.OncePerJob
def _opened(job: str, request: StatisticsRequest) -> FieldReader:
    names = None if request.variables is None else list(request.variables)
    return FieldReader(request.input, variables=names, time=request.time)


def partners(times: np.ndarray, step: np.timedelta64) -> np.ndarray:
    """Index of the time one step later for every time, −1 where the data has no such time; shape (time,)."""
    later = times + step
    index = np.searchsorted(times, later)
    result = index < times.size
    result[result] = times[index[result]] == later[result]
    return np.where(result, index, -1)


def _moments(
    fields: np.ndarray, weights: np.ndarray, later: np.ndarray | None = None, earlier: np.ndarray | None = None
) -> PartialStatistics:
    """Statistics over time and map of float32 fields (time[, level], latitude, longitude), some levels at a time.

    With `later` and `earlier` of fields[later] − fields[earlier], formed in float64.
    """
    axes = (-fields.ndim, -2, -1)

    def of(part: np.ndarray) -> PartialStatistics:
        values = part if later is None else part[later].astype(np.float64) - part[earlier]
        return PartialStatistics.of(values, weights, axes)

    if fields.ndim == 3:
        return of(fields)
    values_a_level = (len(fields) if later is None else later.size) * math.prod(fields.shape[-2:])
    at_once = max(1, _VALUES_AT_ONCE // max(1, values_a_level))
    parts = [of(fields[:, i : i + at_once]) for i in range(0, fields.shape[1], at_once)]
    return PartialStatistics(*(np.concatenate(part) for part in zip(*(dataclasses.astuple(each) for each in parts))))


def _work(item: StatisticsItem, *, job: str, request: StatisticsRequest, record: Record) -> None:
    """Statistics of a work item, kept in the record: the driver combines them in one order, whatever ran where."""
    with running.work_item(job, record, item.key) as finish:
        reader = _opened(job, request)
        dataset = reader.fields
        array = dataset[item.name]
        weights = latitude_weights(dataset["latitude"].values)
        levels = slice(item.first_level, item.last_level) if "level" in array.dims else None
        if "time" not in array.dims:
            values = reader.read(item.name, None, levels)
            finish(_packed(PartialStatistics.of(values, weights, (-2, -1)), None))
            return
        partner = partners(dataset["time"].values, parse_duration(request.step))
        earlier = np.full(partner.size, -1)
        starts = np.arange(item.start, item.stop)
        starts = starts[partner[starts] >= 0]
        earlier[partner[starts]] = starts
        end = max(item.stop, int(partner[starts].max()) + 1 if starts.size else 0)
        states: PartialStatistics | None = None
        increments: PartialStatistics | None = None
        window, first = None, item.start  # times from `first` on that increments still need
        for begin in range(item.start, end, item.times_in_block):
            stop = min(begin + item.times_in_block, end)
            block = reader.read(item.name, slice(begin, stop), levels)
            if begin < item.stop:
                result = _moments(block[: item.stop - begin], weights)
                states = result if states is None else states.merge(result)
            window = block if window is None else np.concatenate([window, block])
            later = np.arange(begin, stop)[earlier[begin:stop] >= 0]
            if later.size:
                result = _moments(window, weights, later - first, earlier[later] - first)
                increments = result if increments is None else increments.merge(result)
            pending = starts[partner[starts] >= stop]
            keep = int(pending.min()) if pending.size else stop
            window, first = (window[keep - first :], keep) if keep < stop else (None, stop)
        if increments is None:
            nothing = np.full((1, *block.shape[1:]), np.nan, np.float32)
            increments = _moments(nothing, weights)
        assert states is not None
        finish(_packed(states, increments))


def _packed(states: PartialStatistics, increments: PartialStatistics | None) -> memoryview:
    kinds = {"states": states, **({} if increments is None else {"increments": increments})}
    return packed(
        {f"{kind}_{key}": value for kind, each in kinds.items() for key, value in dataclasses.asdict(each).items()}
    )


def _unpacked(arrays: Mapping[str, np.ndarray]) -> tuple[PartialStatistics | None, ...]:
    fields = [field.name for field in dataclasses.fields(PartialStatistics)]
    return tuple(
        PartialStatistics(*(arrays[f"{kind}_{name}"] for name in fields)) if f"{kind}_mean" in arrays else None
        for kind in ("states", "increments")
    )


def _plan(
    reader: FieldReader, request: StatisticsRequest, max_memory: int
) -> tuple[dict[str, StatisticsItem], Estimate]:
    """Work items by key, and what they cost."""
    dataset = reader.fields
    items: dict[str, StatisticsItem] = {}
    total = Estimate(0, 0, 0)
    for name, array in dataset.data_vars.items():
        name = str(name)
        chunks = reader.chunks(name)
        points = array.sizes["latitude"] * array.sizes["longitude"]
        levels = array.sizes.get("level", 1)
        if "time" not in array.dims:
            item = StatisticsItem(name, 0, 0, 0, levels, 1)
            items[item.key] = item
            continue
        times = array.sizes["time"]
        partner = partners(dataset["time"].values, parse_duration(request.step))
        lag = int((partner - np.arange(times))[partner >= 0].max())
        chunk, chunk_levels = min(chunks["time"], times), chunks.get("level", 1)
        working = _COPIES * 8 * max(_VALUES_AT_ONCE, points)
        # A block may lie in two chunks, which are decoded side by side.
        decoded = 2 * 4 * chunk * chunk_levels * chunks["latitude"] * chunks["longitude"]
        room = max_memory - BASE_BYTES - working - decoded

        def held(block: int, count: int, points: int = points, lag: int = lag) -> int:
            # The window is copied when a block is added to it.
            return 4 * points * count * (2 * (lag + block) + block)

        count = levels
        while count > 1 and held(min(chunk, 8), count) > room:
            count = -(-count // 2)
        if chunk_levels <= count < levels:
            count -= count % chunk_levels
        if held(1, count) > room:
            needed = max_memory - room + held(1, count)
            what = f"increments over {request.step} need"
            raise too_little(needed, max_memory, f"{request.input}, {name}", what=what)
        block = chunk * max(1, _BLOCK_BYTES // (4 * points * count * chunk))
        while block > 1 and held(block, count) > room:
            block = -(-block // 2)
        length = max(1, math.ceil(_ITEM_BYTES / (4 * points * count)), _STEPS_PER_PIECE * lag)
        length = min(length, math.ceil(times / _LEAST_ITEMS))
        block = min(block, math.ceil(length / chunk) * chunk)
        length = math.ceil(length / block) * block
        for start in range(0, times, length):
            for first in range(0, levels, count):
                item = StatisticsItem(name, start, min(start + length, times), first, min(first + count, levels), block)
                items[item.key] = item
        again = (
            (1 + lag / length) * (math.ceil(levels / count) if count < chunk_levels else 1) * max(1.0, chunk / block)
        )
        memory = BASE_BYTES + working + decoded + held(block, count)
        total = total + Estimate(4.0 * points * levels * times * again, 0, memory, again)
    return items, total


def _table(record: Record, items: dict[str, StatisticsItem], reader: FieldReader) -> xr.Dataset:
    """The dataset of stats.nc: per variable (statistic[, level])."""
    dataset = xr.Dataset(coords={"statistic": list(STATISTICS)})
    source = reader.fields
    if "level" in source.dims:
        dataset["level"] = source["level"].variable
    for name, array in sorted(source.data_vars.items()):
        shape = (array.sizes["level"],) if "level" in array.dims else ()
        rows = np.full((len(STATISTICS), *shape), np.nan)
        bands: dict[tuple[int, int], list[StatisticsItem]] = {}
        for item in sorted(each for each in items.values() if each.name == name):
            bands.setdefault((item.first_level, item.last_level), []).append(item)
        for (first, last), parts in bands.items():
            result = [_unpacked(record.load(item.key)) for item in parts]
            states, increments = (functools.reduce(_merged, kind) for kind in zip(*result))
            place: Any = slice(first, last) if shape else ...
            for prefix, moments in (("", states), ("increment_", increments)):
                for statistic, values in _columns(moments).items():
                    rows[STATISTICS.index(prefix + statistic), place] = values
        attributes = {key: array.attrs[key] for key in ("units", "long_name", "standard_name") if key in array.attrs}
        dataset[name] = (("statistic", *(["level"] if shape else [])), rows, attributes)
    return dataset


def _merged(first: PartialStatistics | None, second: PartialStatistics | None) -> PartialStatistics | None:
    return None if first is None or second is None else first.merge(second)


def _columns(moments: PartialStatistics | None) -> dict[str, np.ndarray]:
    if moments is None:
        return {}
    return {
        "mean": np.where(moments.weight > 0, moments.mean, np.nan),
        "std": np.asarray(moments.std),
        "count": np.asarray(moments.count, np.float64),
    }


def _check_step(times: np.ndarray, step: str, path: str) -> None:
    """Refuses a step that the data's spacing does not divide, or that no two times are apart."""
    wanted = parse_duration(step, "the step", likely=("h",))
    if times.size < 2:
        raise UserError(
            "the period holds a single time, so it has no increments", where=path, remedy="give a longer period"
        )
    spacing = np.diff(times).min()
    if wanted % spacing != np.timedelta64(0, "ns"):
        raise UserError(
            f"the step {step} is not a multiple of the data's spacing of {pd.Timedelta(spacing)}",
            where=path,
            remedy="choose a multiple of the spacing",
        )
    if not (partners(times, wanted) >= 0).any():
        raise UserError(f"no two times of the period are {step} apart", where=path, remedy="choose another step")


def compute_statistics(
    input: str,
    output: str,
    *,
    time: str | None,
    step: str = "6h",
    variables: Sequence[str] | None = None,
    max_memory: str = DEFAULT_MEMORY,
    overwrite: bool = False,
    beam_options: Sequence[str] | None = None,
    no_beam: bool = False,
    progress: bool = True,
) -> None:
    """Computes mean and standard deviation of every field, and of its increments over `step`, into a netCDF file.

    Use the training years only: statistics that have seen the test years leak them into training. The data is read
    once; memory is bounded by the work items that the workers hold. An interrupted run is finished by the same command.

    Args:
        input: any data that `weather_scnn.io.datasets.open_dataset` takes.
        output: netCDF file to write, local or an fsspec address; see `weather_scnn.io.statistics` for its layout.
        time: period "A:B", both ends included; None for everything.
        step: length of the increments, a multiple of the data's spacing. No increment crosses a gap.
        variables: WeatherBench 2 names; None for all.
        max_memory: that one worker may take.
        overwrite: whether to replace what stands at `output`.
        beam_options: options for Beam; by default threads of this process.
        no_beam: whether to use threads without Beam, with the same result.
        progress: whether to show what it will cost, and a bar, on standard error.

    Raises:
        UserError: the output exists, the period holds no data, or the step does not fit the data or the memory.
    """
    check_output(output, Kind.FILE, sources={"--input": input}, overwrite=overwrite)
    parse_duration(step, "the step", likely=("h",))
    check_options(beam_options or [], no_beam=no_beam)
    memory = parse_bytes(max_memory)
    request = StatisticsRequest(str(input), time, None if variables is None else tuple(variables), step)
    job = running.new_job()
    where = f"{input}, period {time}" if time else str(input)
    try:
        reader = _opened(job, request)
        dataset = reader.fields
        if "time" not in dataset.dims:
            raise UserError("has no time dimension", where=where, remedy="give data over time")
        times = dataset["time"].values
        if times.size == 0:
            raise UserError("the period holds no data", where=where, remedy="choose a period inside the data")
        _check_step(times, step, where)
        for name, array in dataset.data_vars.items():
            if not {"latitude", "longitude"} <= set(array.dims):
                raise UserError(
                    "is not a map over latitude and longitude",
                    where=f"{input}, {name}",
                    remedy="name other --variables",
                )
        if fault := missing_lines(dataset["latitude"].values, dataset["longitude"].values):
            raise UserError(f"a part of the grid is missing: {fault}", where=where, remedy="fetch the whole grid")
        reader.judge_first()
        items, estimate = _plan(reader, request, memory)
        facts = dataclasses.asdict(request) | {
            "command": "stats",
            "fields": sorted(map(str, dataset.data_vars)),
            "times": [int(times.size), str(times[0]), str(times[-1])],
            "pieces": sorted(items),
        }
        record = running.run_planned(
            functools.partial(_work, job=job, request=request),
            items,
            estimate,
            lambda: begin_record(output, request=facts),
            job=job,
            description="statistics",
            told=f"stats: {times.size} times",
            max_memory=memory,
            beam_options=beam_options,
            no_beam=no_beam,
            progress=progress,
        )
        table = _table(record, items, reader)
        table.attrs.update(
            provenance(
                source=str(input),
                formula=_FORMULA,
                period=f"{pd.Timestamp(times[0]).isoformat()}:{pd.Timestamp(times[-1]).isoformat()}",
                step=step,
                grid=f"{dataset.sizes['longitude']}x{dataset.sizes['latitude']}",
                times=int(times.size),
            )
        )
        write_netcdf(table, output, overwrite=overwrite)
        record.clear()
    finally:
        _opened.forget()
