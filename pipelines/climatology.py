"""Beam job for the climatology: a smooth mean and spread for every hour of the day and day of the year."""

import functools
import itertools
import logging
import math
from collections.abc import Sequence

import dask.array
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from pipelines import running
from pipelines.running import beam, xbeam
from weather_scnn.data.climatology import CALENDARS, DAY_OF_YEAR, DAYS, MONTH_DAY, day_numbers
from weather_scnn.data.opening import open_dataset
from weather_scnn.data.writing import StoreInProgress, begin_store, provenance
from weather_scnn.errors import UserError

_LOG = logging.getLogger(__name__)

# Bytes of one worker's sums: three float64 arrays over days and points.
_BYTES_PER_PIECE = 192 * 2**20
# Bytes of one chunk of the output, which holds several days.
_BYTES_PER_CHUNK = 2 * 2**20
_MAPS_PER_READ = 32
# Below any weight of one sample, above the rounding of a difference of sums.
_LEAST_WEIGHT = 1e-6
# Rows of the banded smoothing matrix multiplied at once; a few days more than the window's half wastes least.
_DAYS_PER_PRODUCT = 30

_FORMULA = (
    "Weighted mean and standard deviation (of the population) over all years and over a window of {window} days of the "
    "same hour, with weights 1 - |k|/{half} for a day k days away, wrapped at the ends of the year; NaNs left out "
    "(window and weights after Rasp et al. 2024)."
)


def window_weights(window: int) -> np.ndarray:
    """Weights of the days −window//2 … window//2, falling linearly from 1 to 0 at both ends; shape (window,).

    Raises:
        UserError: the window is even, below 1 or longer than a year.
    """
    if window % 2 == 0 or not 1 <= window <= DAYS:
        raise UserError(f"a window of {window} days is not an odd number from 1 to 365", remedy="choose one such as 61")
    half = window // 2
    return 1.0 - np.abs(np.arange(-half, half + 1)) / max(half, 1)


def smoothing_matrix(days: np.ndarray, window: int) -> np.ndarray:
    """Weight of every day's sums in the climatology of `days`, wrapped at year ends.

    Args:
        days: values 1 to 366.
        window: odd number of days.

    Returns:
        Shape (day, 366).
    """
    half = window // 2
    matrix = np.zeros((days.size, DAYS))
    for row, day in enumerate(days):
        np.add.at(matrix[row], (day - 1 + np.arange(-half, half + 1)) % DAYS, window_weights(window))
    return matrix


@functools.lru_cache(maxsize=4)
def _open(job: str, path: str, time: str | None, variables: tuple[str, ...] | None) -> xr.Dataset:
    """The input, opened once a job and process."""
    return open_dataset(path, variables=None if variables is None else list(variables), time=time)


def _samples(times: np.ndarray, hour: int, calendar: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the times at this hour, and the day (1 to 366) each counts for.

    By plain day of the year, the last day of a common year counts for day 366 too, as in WeatherBench 2.
    """
    index = np.flatnonzero((times - times.astype("datetime64[D]")) == np.timedelta64(hour, "h"))
    days = day_numbers(times[index], calendar)
    if calendar == DAY_OF_YEAR:
        common = day_numbers(times[index], MONTH_DAY) != days
        last = index[common & (days == DAYS - 1)]
        index, days = np.concatenate([index, last]), np.concatenate([days, np.full(last.size, DAYS)])
    return index, days


def _piece_name(key: xbeam.Key, hour: int) -> str:
    (name,) = key.vars
    return "-".join([name, f"h{hour}", *(f"{dim}{offset}" for dim, offset in sorted(key.offsets.items()))])


def _smooth(
    array: xr.DataArray, times: np.ndarray, hour: int, output_days: np.ndarray, window: int, calendar: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation for one hour and some days, each (day, …) float32.

    Sums are kept about the first map found, so squares of large means never meet (Chan et al. 1983).
    """
    matrix = smoothing_matrix(output_days, window)
    used = np.flatnonzero(matrix.any(axis=0))
    slot = np.full(DAYS + 1, -1)
    slot[used + 1] = np.arange(used.size)
    index, days = _samples(times, hour, calendar)
    wanted = slot[days] >= 0
    index, slots = index[wanted], slot[days[wanted]]
    order = np.argsort(index, kind="stable")
    index, slots = index[order], slots[order]
    shape = array.shape[1:]
    total, squares = (np.zeros((used.size, *shape)) for _ in range(2))
    samples = np.bincount(slots, minlength=used.size).astype(np.float64)
    missing: np.ndarray | None = None  # most fields have no NaN, and then need no third array
    shift: np.ndarray | None = None
    for begin in range(0, index.size, _MAPS_PER_READ):
        part = index[begin : begin + _MAPS_PER_READ]
        unique, inverse = np.unique(part, return_inverse=True)
        # Beam's workers are the threads already; dask's own on top of them read one chunk a time 2.5 times slower.
        maps = array.isel(time=unique).compute(scheduler="synchronous").values.astype(np.float64)
        if shift is None:
            shift = np.where(np.isfinite(maps[0]), maps[0], 0.0)
        for position, place in zip(inverse, slots[begin : begin + _MAPS_PER_READ]):
            deviation = maps[position] - shift
            absent = ~np.isfinite(deviation)
            if absent.any():
                missing = np.zeros_like(total) if missing is None else missing
                missing[place] += absent
                deviation[absent] = 0.0
            total[place] += deviation
            squares[place] += deviation**2
    means, stds = (np.empty((output_days.size, *shape), np.float32) for _ in range(2))
    for begin in range(0, output_days.size, _DAYS_PER_PRODUCT):
        rows = slice(begin, begin + _DAYS_PER_PRODUCT)
        band = matrix[rows][:, used]
        near = np.flatnonzero(band.any(axis=0))
        band = band[:, near]
        weight = np.broadcast_to((band @ samples[near]).reshape(-1, *(1 for _ in shape)), (len(band), *shape)).copy()
        if missing is not None:
            weight -= np.tensordot(band, missing[near], 1)
        mean, square = (np.tensordot(band, sums[near], 1) for sums in (total, squares))
        weight[weight < _LEAST_WEIGHT] = np.nan
        mean /= weight
        stds[rows] = np.sqrt(np.maximum(square / weight - mean**2, 0.0))
        means[rows] = mean if shift is None else mean + shift
    return means, stds


def _write_piece(
    key: xbeam.Key,
    hour: int,
    sizes: dict[str, int],
    *,
    job: str,
    path: str,
    time: str | None,
    variables: tuple[str, ...] | None,
    window: int,
    calendar: str,
    store: StoreInProgress,
) -> None:
    """Computes and writes the climatology of one variable, hour, run of days and part of the map."""
    with running.piece(job):
        dataset = _open(job, path, time, variables)
        (name,) = key.vars
        array = dataset[name].transpose("time", *(["level"] if "level" in dataset[name].dims else []), ...)
        space = [dim for dim in map(str, array.dims) if dim != "time"]
        region = {dim: slice(key.offsets[dim], key.offsets[dim] + sizes[dim]) for dim in ("hour", "dayofyear", *space)}
        array = array.isel({dim: region[dim] for dim in space})
        output_days = np.arange(1, DAYS + 1)[region["dayofyear"]]
        results = _smooth(array, dataset["time"].values, hour, output_days, window, calendar)
        group = zarr.open_group(store.path, mode="r+", use_consolidated=False)
        for target, values in zip((name, f"{name}_std"), results):
            group[target][tuple(region.values())] = values[None]  # type: ignore[index]
        store.mark_done(_piece_name(key, hour))


def _split(sizes: dict[str, int], window: int) -> tuple[dict[str, int], dict[str, int]]:
    """Chunks of the output and pieces of the work, in points of each dimension, for maps of these sizes.

    A piece takes all days of the year where its sums fit, so that each map is read once; else some 60 days (each map
    is then read about twice), then also single levels, then bands of latitude.
    """
    pieces = {"hour": 1, "dayofyear": DAYS, **sizes}
    some_days = 60
    held_days = min(DAYS, some_days + window)

    def points() -> int:
        return math.prod(pieces[dim] for dim in sizes)

    def sums(days: int) -> int:
        return 3 * 8 * days * points()

    if sums(held_days) > _BYTES_PER_PIECE and "level" in sizes:
        pieces["level"] = 1
    if sums(held_days) > _BYTES_PER_PIECE:
        pieces["latitude"] = max(1, pieces["latitude"] * _BYTES_PER_PIECE // sums(held_days))
    chunk_days = min(max(_BYTES_PER_CHUNK // (4 * points()), 1), some_days)
    if sums(DAYS) > _BYTES_PER_PIECE:
        # Whole chunks, so that no two workers write into one.
        pieces["dayofyear"] = -(-some_days // chunk_days) * chunk_days
    return {**pieces, "dayofyear": chunk_days}, pieces


def compute_climatology(
    input: str,
    output: str,
    *,
    time: str | None,
    window: int = 61,
    variables: Sequence[str] | None = None,
    calendar: str = MONTH_DAY,
    overwrite: bool = False,
    beam_options: Sequence[str] | None = None,
    progress: bool = True,
) -> None:
    """Computes a climatology by hour of the day and day of the year into a Zarr store.

    A run that was interrupted is finished by the same command. Each worker holds at most about 300 MB.

    Args:
        input: any data that `weather_scnn.data.opening.open_dataset` takes.
        output: Zarr store to write; see `weather_scnn.data.climatology` for its layout.
        time: period "A:B", both ends included; None for everything.
        window: odd number of days, whose weights fall linearly to 0 at both ends, so 61 uses 59 days.
        variables: WeatherBench 2 names; None for every field over time.
        calendar: "month-day" keys by calendar day, so leap and common years line up, and 29 February falls back on
            the days around it; "day-of-year" gives WeatherBench 2's numbers.
        overwrite: whether to replace what stands at `output`.
        beam_options: options for Beam; by default threads of this process.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: the output exists, the period holds no data, or an option is out of range.
    """
    window_weights(window)
    if calendar not in CALENDARS:
        raise UserError(f"there is no calendar {calendar!r}", remedy=f"choose one of {', '.join(CALENDARS)}")
    job = running.new_job()
    names = None if variables is None else tuple(variables)
    dataset = _open(job, input, time, names)
    where = f"{input}, period {time}" if time else input
    if "time" not in dataset.dims:
        raise UserError("holds no field over time", where=where, remedy="name other variables")
    if dataset.sizes["time"] == 0:
        raise UserError("the period holds no data", where=where, remedy="choose a period inside the data")
    times = dataset["time"].values
    whole_hours = np.unique(times - times.astype("datetime64[D]"))
    if np.any(whole_hours % np.timedelta64(1, "h") != np.timedelta64(0, "ns")):
        raise UserError("has times that are not on the hour", where=where, remedy="select the times on the hour")
    hours = (whole_hours // np.timedelta64(1, "h")).astype(np.int64)
    fields = [str(name) for name, array in dataset.data_vars.items() if "time" in array.dims]
    if not fields:
        raise UserError("holds no field over time", where=where, remedy="name other variables")

    all_days = np.arange(1, DAYS + 1)
    matrix = smoothing_matrix(all_days, window)
    empty = 0
    for hour in hours:
        present = np.bincount(_samples(times, int(hour), calendar)[1] - 1, minlength=DAYS)
        empty += int(((matrix @ present) == 0).sum())
    if empty:
        _LOG.warning("%d of %d hours and days of the year have no data within the window: NaN", empty, 366 * hours.size)

    dates = pd.Timestamp("2000-01-01") + pd.to_timedelta(all_days - 1, "D")
    coords = {
        "hour": ("hour", hours, {"long_name": "hour of the day, UTC"}),
        "dayofyear": ("dayofyear", all_days, {"long_name": "day of the year"}),
        **{name: dataset[name].variable for name in ("level", "latitude", "longitude") if name in dataset.coords},
    }
    if calendar == MONTH_DAY:
        coords["month"], coords["day"] = ("dayofyear", dates.month.values), ("dayofyear", dates.day.values)
    template = xr.Dataset(coords=coords)
    encoding: dict[str, dict] = {}
    elements: list[tuple[xbeam.Key, int, dict[str, int]]] = []
    for name in fields:
        array = dataset[name].transpose("time", *(["level"] if "level" in dataset[name].dims else []), ...)
        sizes = {str(dim): size for dim, size in array.sizes.items() if dim != "time"}
        chunks, pieces = _split(sizes, window)
        full = {"hour": hours.size, "dayofyear": DAYS, **sizes}
        offsets = {dim: list(range(0, full[dim], pieces[dim])) for dim in full}
        lazy = dask.array.zeros(
            tuple(full.values()), chunks=tuple(min(chunks[dim], full[dim]) for dim in full), dtype=np.float32
        )
        for target, prefix in ((name, ""), (f"{name}_std", "Standard deviation of ")):
            attributes = {key: array.attrs[key] for key in ("units", "long_name") if key in array.attrs}
            if prefix and "long_name" in attributes:
                attributes["long_name"] = prefix + attributes["long_name"]
            template[target] = (tuple(full), lazy, attributes)
            encoding[target] = {"chunks": tuple(min(chunks[dim], full[dim]) for dim in full)}
        for corner in itertools.product(*offsets.values()):
            key = xbeam.Key(dict(zip(offsets, corner)), vars={name})
            ends = {dim: min(pieces[dim], full[dim] - key.offsets[dim]) for dim in full}
            elements.append((key, int(hours[key.offsets["hour"]]), ends))
    template.attrs.update(
        provenance(
            source=input,
            formula=_FORMULA.format(window=window, half=max(window // 2, 1)),
            period=f"{pd.Timestamp(times[0]).isoformat()}:{pd.Timestamp(times[-1]).isoformat()}",
            window=window,
            calendar=calendar,
            times=int(times.size),
            days_without_data=empty,
        )
    )
    request = {
        "command": "climatology",
        "input": input,
        "time": time,
        "window": window,
        "variables": fields,
        "calendar": calendar,
    }
    store = begin_store(output, template, request=request, overwrite=overwrite, encoding=encoding)
    elements = [element for element in elements if _piece_name(element[0], element[1]) not in store.done]
    write = functools.partial(
        _write_piece,
        job=job,
        path=input,
        time=time,
        variables=names,
        window=window,
        calendar=calendar,
        store=store,
    )

    def build(pipeline: beam.Pipeline) -> object:
        return pipeline | "Pieces" >> beam.Create(elements, reshuffle=True) | "Smooth" >> beam.MapTuple(write)

    try:
        if elements:
            running.run(
                build,
                job=job,
                pieces=len(elements),
                description="climatology",
                beam_options=beam_options,
                progress=progress,
            )
    finally:
        _open.cache_clear()
    store.finish()
