"""Job for the climatology: a smooth mean, spread and quantiles for every hour of the day and day of the year."""

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import dask.array
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from pipelines import running
from pipelines.beam import check_options
from pipelines.climatology_quantiles import SEEPS_DRY, smooth_quantiles, smooth_seeps
from pipelines.climatology_windows import samples, smoothing_matrix, sums_of_days, window_weights
from pipelines.planning import BASE_BYTES, DEFAULT_MEMORY, Estimate, too_little
from weather_scnn.byte_sizes import parse_bytes
from weather_scnn.errors import UserError
from weather_scnn.io.climatology import CALENDARS, DAYS, MONTH_DAY
from weather_scnn.io.coverage import missing_lines
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.writing import StoreInProgress, begin_store, provenance

_LOG = logging.getLogger(__name__)

_BYTES_A_SUM = 18  # see DaySums
# Most bytes of one work item's sums over days and points, or of its samples for quantiles, however
# much memory is allowed.
_BYTES_PER_ITEM = 8 * 2**30
# Bytes of one chunk of the output, which holds several days.
_BYTES_PER_CHUNK = 2 * 2**20
_BYTES_PER_READ = 16 * 2**20
_MOST_MAPS_PER_READ = 64
# Of the means and spreads that are made and written together, with what they are made from: 40 bytes a value.
_BYTES_PER_PRODUCT = 64 * 2**20
_SOME_DAYS = 60

_FORMULA = (
    "Weighted mean and standard deviation (of the population) over all years and over a window of {window} days of the "
    "same hour, with weights 1 - |k|/{half} for a day k days away, wrapped at the ends of the year; NaNs left out "
    "(window and weights after Rasp et al. 2024). Quantiles: of the same samples and weights, type 7 with Kish's "
    "effective number."
)


@dataclasses.dataclass(frozen=True)
class ClimatologyRequest:
    """What is asked for; workers open the source by it."""

    input: str
    time: str | None
    variables: tuple[str, ...] | None
    window: int
    calendar: str
    quantiles: tuple[float, ...]


class ClimatologyItem(NamedTuple):
    """Part of the output of a variable: `kind` is moments, quantiles or seeps; `region` (dim, start, stop)."""

    name: str
    kind: str
    hours: tuple[int, ...]
    region: tuple[tuple[str, int, int], ...]

    @property
    def key(self) -> str:
        return "-".join([self.name, self.kind, *(f"{dim}{start}" for dim, start, _ in self.region)])

    def slice(self, dim: str) -> slice:
        return next(slice(start, stop) for each, start, stop in self.region if each == dim)


@running.OncePerJob
def _opened(job: str, request: ClimatologyRequest) -> FieldReader:
    names = None if request.variables is None else list(request.variables)
    return FieldReader(request.input, variables=names, time=request.time)


def _work(item: ClimatologyItem, *, job: str, request: ClimatologyRequest, record: StoreInProgress) -> None:
    """Computes and writes one work item, then records it."""
    with running.work_item(job, record, item.key) as finish:
        reader = _opened(job, request)
        times = reader.fields["time"].values
        groups = [samples(times, hour, request.calendar) for hour in item.hours]
        dims = [dim for dim, _, _ in item.region if dim in ("level", "latitude", "longitude")]
        inside = tuple(item.slice(dim) for dim in dims if dim != "level")
        levels = item.slice("level") if "level" in dims else None
        shape = tuple(part.stop - part.start for part in (*([levels] if levels else []), *inside))
        part_of_map: Any = (..., *inside)

        def read(positions: np.ndarray) -> np.ndarray:
            return reader.read(item.name, positions, levels)[part_of_map]

        group = zarr.open_group(record.path, mode="r+", use_consolidated=False)
        place = tuple(slice(start, stop) for _, start, stop in item.region)
        output_days = np.arange(1, DAYS + 1)[item.slice("dayofyear")]
        one_map = 4 * math.prod(shape[:1] if levels else ()) * math.prod(reader.fields[item.name].shape[-2:])
        at_once = max(1, min(_MOST_MAPS_PER_READ, _BYTES_PER_READ // max(1, one_map)))
        window = request.window
        if item.kind == "moments":
            result = sums_of_days(read, shape, groups, output_days=output_days, window=window, maps_at_once=at_once)
            first = item.slice("dayofyear").start
            batch = _days_together(group[item.name].chunks[1], math.prod(shape))  # type: ignore[union-attr]
            for hour, sums in enumerate(result, item.slice("hour").start):
                for begin in range(0, output_days.size, batch):
                    days = output_days[begin : begin + batch]
                    region = (hour, slice(first + begin, first + begin + days.size), *place[2:])
                    for name, values in zip((item.name, f"{item.name}_std"), sums.smoothed(days, window)):
                        group[name][region] = values  # type: ignore[index]
            finish()
            return
        ((index, days),) = groups
        order = np.argsort(index, kind="stable")
        index, days = index[order], days[order]
        values = np.empty((index.size, math.prod(shape)), np.float32)
        for begin in range(0, index.size, at_once):
            unique, inverse = np.unique(index[begin : begin + at_once], return_inverse=True)
            values[begin : begin + at_once] = read(unique).reshape(unique.size, -1)[inverse]
        if item.kind == "quantiles":
            quantiles = smooth_quantiles(
                values, days, np.array(request.quantiles), output_days=output_days, window=window
            )
            results = {f"{item.name}_quantile": quantiles}
        else:
            fraction, heavy = smooth_seeps(values, days, SEEPS_DRY[item.name], output_days=output_days, window=window)
            results = {f"{item.name}_seeps_dry_fraction": fraction, f"{item.name}_seeps_threshold": heavy}
        for name, each in results.items():
            group[name][place] = each.reshape(*each.shape[:-1], *shape)[None]  # type: ignore[index]
        finish()


def _days_together(chunk_days: int, points: int) -> int:
    """Days whose means are made together: whole chunks of the output."""
    return chunk_days * max(1, _BYTES_PER_PRODUCT // (40 * chunk_days * points))


@dataclasses.dataclass(frozen=True)
class Split:
    """How a field is worked through.

    Attributes:
        chunks: of the output, in points of each dimension.
        items: of the work, the same.
        memory: bytes that a work item holds.
        again: how often a chunk of the source is decoded.
    """

    chunks: dict[str, int]
    items: dict[str, int]
    memory: float
    again: float


def _split(
    kind: str,
    sizes: dict[str, int],
    stored: dict[str, int],
    days: Sequence[np.ndarray],
    request: ClimatologyRequest,
    room: float,
) -> Split:
    """The split that reads least of the source among those that fit; if none does, the one that needs least memory.

    A work item takes all hours and all levels of a chunk, and all days of the year, where its sums fit, so that each map is
    read once; else fewer hours, fewer levels, some 60 days with those of the window around them, bands of latitude.
    Quantiles hold all samples of an hour.

    Args:
        kind: of the work items.
        sizes: level, latitude, longitude of the field.
        stored: sizes of its chunks.
        days: of every hour's samples.
        request: what is asked for.
        room: bytes.
    """
    hours = len(days)
    chunk_bytes = 4 * math.prod(stored.values())
    result: list[Split] = []
    levels = sorted({-(-sizes.get("level", 1) // count) for count in range(1, sizes.get("level", 1) + 1)})
    rows = sorted({-(-sizes["latitude"] // 2**count) for count in range(sizes["latitude"].bit_length() + 1)})
    moments = kind == "moments"
    options = itertools.product(
        {1, hours} if moments else {1}, (DAYS, _SOME_DAYS) if moments else (DAYS,), levels, rows
    )
    for at_once, output_days, level, row in options:
        points = level * row * sizes["longitude"]
        chunk_days = min(max(_BYTES_PER_CHUNK // (4 * points), 1), _SOME_DAYS)
        if output_days < DAYS:
            output_days = -(-_SOME_DAYS // chunk_days) * chunk_days  # whole chunks, so that no two workers share one
        again = -(-sizes["latitude"] // row) if stored["latitude"] >= sizes["latitude"] else 1.0
        again *= max(1, -(-min(stored.get("level", 1), sizes.get("level", 1)) // level))
        again *= min(-(-hours // at_once), stored["time"])
        if moments:
            held = [min(np.unique(each).size, output_days + request.window) for each in days]
            again *= 1.0 if output_days == DAYS else (output_days + request.window) / output_days
            sums = _BYTES_A_SUM * points * (sum(held) if at_once > 1 else max(held))
            made = 40 * points * _days_together(chunk_days, points)
        else:
            sums = 2 * 4 * points * max(each.size for each in days)  # as values, and as keys
            made = 2 * 4 * points * DAYS * max(1, len(request.quantiles))
        one_map = 4 * level * sizes["latitude"] * sizes["longitude"]
        # As read, and as deviations in float64.
        reading = 4 * max(one_map, min(_BYTES_PER_READ, one_map * _MOST_MAPS_PER_READ)) + 2 * chunk_bytes
        items = {"hour": at_once, "dayofyear": output_days, **sizes, "latitude": row}
        items |= {"level": level} if "level" in sizes else {}
        if sums > _BYTES_PER_ITEM:
            again = math.inf
        result.append(Split({**items, "hour": 1, "dayofyear": chunk_days}, items, sums + made + reading, again))
    fitting = [each for each in result if each.memory <= room and math.isfinite(each.again)]
    if not fitting:
        return min(result, key=lambda each: each.memory)
    return min(fitting, key=lambda each: (each.again, each.memory))


def _coordinates(dataset: xr.Dataset, hours: np.ndarray, request: ClimatologyRequest) -> dict[str, Any]:
    days = np.arange(1, DAYS + 1)
    coords: dict[str, Any] = {
        "hour": ("hour", hours, {"long_name": "hour of the day, UTC"}),
        "dayofyear": ("dayofyear", days, {"long_name": "day of the year"}),
        **{name: dataset[name].variable for name in ("level", "latitude", "longitude") if name in dataset.coords},
    }
    if request.calendar == MONTH_DAY:
        dates = pd.Timestamp("2000-01-01") + pd.to_timedelta(days - 1, "D")
        coords["month"], coords["day"] = ("dayofyear", dates.month.values), ("dayofyear", dates.day.values)
    if request.quantiles:
        coords["quantile"] = ("quantile", np.array(request.quantiles))
    return coords


def _outputs(name: str, request: ClimatologyRequest) -> list[tuple[str, dict[str, str]]]:
    """What is computed of a field: kind of work item, and the variables written with their long names."""
    kinds = [("moments", {name: "", f"{name}_std": "Standard deviation of "})]
    if request.quantiles:
        kinds.append(("quantiles", {f"{name}_quantile": "Quantiles of "}))
    if name in SEEPS_DRY:
        threshold = {f"{name}_seeps_threshold": "Amount above which precipitation is heavy: "}
        kinds.append(("seeps", {f"{name}_seeps_dry_fraction": "Fraction of dry ", **threshold}))
    return kinds


def _plan(
    reader: FieldReader, hours: np.ndarray, request: ClimatologyRequest, max_memory: int
) -> tuple[xr.Dataset, dict[str, dict], dict[str, ClimatologyItem], Estimate]:
    """Template, encoding, work items by key, and what they cost."""
    dataset = reader.fields
    template = xr.Dataset(coords=_coordinates(dataset, hours, request))
    encoding: dict[str, dict] = {}
    items: dict[str, ClimatologyItem] = {}
    total = Estimate(0, 0, 0)
    times = dataset["time"].values
    days = [samples(times, int(hour), request.calendar)[1] for hour in hours]
    for name, array in dataset.data_vars.items():
        name = str(name)
        if "time" not in array.dims:
            continue
        sizes = {str(dim): array.sizes[dim] for dim in ("level", "latitude", "longitude") if dim in array.dims}
        stored = reader.chunks(name)
        for kind, targets in _outputs(name, request):
            split = _split(kind, sizes, stored, days, request, max_memory - BASE_BYTES)
            all_of = {"quantile": len(request.quantiles)} if kind == "quantiles" else {}
            full = {"hour": hours.size, **all_of, "dayofyear": DAYS, **sizes}
            chunks, parts = split.chunks | all_of, split.items | all_of
            chunk = tuple(min(chunks[dim], full[dim]) for dim in full)
            lazy = dask.array.zeros(tuple(full.values()), dtype=np.float32, chunks=-1)
            for target, prefix in targets.items():
                attributes = {key: array.attrs[key] for key in ("units", "long_name") if key in array.attrs}
                if prefix and "long_name" in attributes:
                    attributes["long_name"] = prefix + attributes["long_name"]
                if target.endswith("_fraction"):
                    attributes["units"] = "1"
                template[target] = (tuple(full), lazy, attributes)
                encoding[target] = {"chunks": chunk}
            offsets = {dim: range(0, full[dim], parts[dim]) for dim in full}
            for corner in itertools.product(*offsets.values()):
                region = tuple((dim, start, min(start + parts[dim], full[dim])) for dim, start in zip(offsets, corner))
                item = ClimatologyItem(name, kind, tuple(map(int, hours[slice(*region[0][1:])])), region)
                items[item.key] = item
            written = 4 * math.prod(full.values()) * len(targets)
            memory = BASE_BYTES + split.memory
            if memory > max_memory:
                raise too_little(memory, max_memory, f"{request.input}, {name}")
            total = total + Estimate(float(array.nbytes) * split.again, written, memory, split.again)
    return template, encoding, items, total


def _hours(times: np.ndarray, where: str) -> np.ndarray:
    """Hours of the day that the times have."""
    since_midnight = np.unique(times - times.astype("datetime64[D]"))
    if np.any(since_midnight % np.timedelta64(1, "h") != np.timedelta64(0, "ns")):
        raise UserError("has times that are not on the hour", where=where, remedy="select the times on the hour")
    return (since_midnight // np.timedelta64(1, "h")).astype(np.int64)


def compute_climatology(
    input: str,
    output: str,
    *,
    time: str | None,
    window: int = 61,
    variables: Sequence[str] | None = None,
    calendar: str = MONTH_DAY,
    quantiles: Sequence[float] = (),
    max_memory: str = DEFAULT_MEMORY,
    overwrite: bool = False,
    beam_options: Sequence[str] | None = None,
    no_beam: bool = False,
    progress: bool = True,
) -> None:
    """Computes a climatology by hour of the day and day of the year into a Zarr store.

    Precipitation over 6 and 24 hours also gets the dry fraction and the threshold that SEEPS needs. A run that was
    interrupted is finished by the same command. Memory is bounded, however many years there are.

    Args:
        input: any data that `weather_scnn.io.datasets.open_dataset` takes.
        output: Zarr store to write; see `weather_scnn.io.climatology` for its layout.
        time: period "A:B", both ends included; None for everything.
        window: odd number of days, whose weights fall linearly to 0 at both ends, so 61 uses 59 days.
        variables: WeatherBench 2 names; None for every field over time.
        calendar: "month-day" keys by calendar day, so leap and common years line up, and 29 February falls back on
            the days around it; "day-of-year" gives WeatherBench 2's numbers.
        quantiles: between 0 and 1, written as `<name>_quantile`.
        max_memory: that one worker may take.
        overwrite: whether to replace what stands at `output`.
        beam_options: options for Beam; by default threads of this process.
        no_beam: whether to use threads without Beam, with the same result.
        progress: whether to show what it will cost, and a bar, on standard error.

    Raises:
        UserError: the output exists, the period holds no data, or an option is out of range.
    """
    check_output(output, Kind.STORE, sources={"--input": input}, overwrite=overwrite)
    window_weights(window)
    if calendar not in CALENDARS:
        raise UserError(f"there is no calendar {calendar!r}", remedy=f"choose one of {', '.join(CALENDARS)}")
    if wrong := [each for each in quantiles if not 0 <= each <= 1]:
        raise UserError(f"the quantile {wrong[0]:g} is not between 0 and 1", remedy="write them as 0.05,0.95")
    check_options(beam_options or [], no_beam=no_beam)
    memory = parse_bytes(max_memory)
    names = None if variables is None else tuple(variables)
    request = ClimatologyRequest(str(input), time, names, window, calendar, tuple(sorted(map(float, quantiles))))
    job = running.new_job()
    where = f"{input}, period {time}" if time else str(input)
    try:
        reader = _opened(job, request)
        dataset = reader.fields
        fields = [str(name) for name, array in dataset.data_vars.items() if "time" in array.dims]
        if not fields:
            raise UserError("holds no field over time", where=where, remedy="name other variables")
        if dataset.sizes["time"] == 0:
            raise UserError("the period holds no data", where=where, remedy="choose a period inside the data")
        if fault := missing_lines(dataset["latitude"].values, dataset["longitude"].values):
            raise UserError(f"a part of the grid is missing: {fault}", where=where, remedy="fetch the whole grid")
        reader.judge_first()
        times = dataset["time"].values
        hours = _hours(times, where)
        matrix = smoothing_matrix(np.arange(1, DAYS + 1), window)
        days = (samples(times, int(hour), calendar)[1] for hour in hours)
        empty = sum(int((matrix @ np.bincount(each - 1, minlength=DAYS) == 0).sum()) for each in days)
        if empty:
            _LOG.warning(
                "%d of %d hours and days of the year have no data within the window: NaN", empty, DAYS * hours.size
            )
        template, encoding, items, estimate = _plan(reader, hours, request, memory)
        template.attrs.update(
            provenance(
                source=str(input),
                formula=_FORMULA.format(window=window, half=max(window // 2, 1)),
                period=f"{pd.Timestamp(times[0]).isoformat()}:{pd.Timestamp(times[-1]).isoformat()}",
                window=window,
                calendar=calendar,
                times=int(times.size),
                days_without_data=empty,
            )
        )
        facts = dataclasses.asdict(request) | {"command": "climatology", "fields": fields, "pieces": sorted(items)}
        facts |= {"times": [int(times.size), str(times[0]), str(times[-1])]}
        store = running.run_planned(
            functools.partial(_work, job=job, request=request),
            items,
            estimate,
            lambda: begin_store(output, template, request=facts, overwrite=overwrite, encoding=encoding),
            job=job,
            description="climatology",
            told=f"climatology: {times.size} times",
            max_memory=memory,
            beam_options=beam_options,
            no_beam=no_beam,
            progress=progress,
        )
        store.finish()
    finally:
        _opened.forget()
