"""Problems of axes and chunks: gaps in time, windows of totals, chunks that make reading slow or were never written."""

import warnings

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from weather_scnn.catalogue.naming import lookup, window_name
from weather_scnn.checks.report import CheckReport
from weather_scnn.io.addresses import is_remote
from weather_scnn.io.blocks import chunk_bytes
from weather_scnn.io.sources import Source

_LISTED = 5
_LARGE_CHUNK_BYTES = 256 * 2**20
_SMALL_CHUNK_BYTES = 64 * 2**10
_MANY_CHUNKS = 200_000
# Listing every chunk of a store that is larger, or remote, takes longer than the question is worth.
_MOST_LISTED_CHUNKS = 500_000


def stamp(time: object) -> str:
    """A time to the minute."""
    return f"{pd.Timestamp(time):%Y-%m-%dT%H:%M}"  # type: ignore[arg-type]


def _step_text(step: pd.Timedelta) -> str:
    hours = step / pd.Timedelta(hours=1)
    return f"{hours:g}h" if hours >= 1 else f"{hours * 60:g}min"


def step_of(dataset: xr.Dataset) -> str:
    """The commonest interval of a dataset's times."""
    lengths, counts = np.unique(np.diff(dataset["time"].values), return_counts=True)
    return _step_text(pd.Timedelta(lengths[counts.argmax()]))


def time_axis(times: pd.DatetimeIndex, report: CheckReport) -> tuple[str, int]:
    """(step, number of gaps); the step is the commonest interval."""
    if len(times) < 2:
        return "", 0
    intervals = np.diff(times.values)
    lengths, counts = np.unique(intervals, return_counts=True)
    step = lengths[counts.argmax()]
    wide = np.flatnonzero(intervals > step)
    text = _step_text(pd.Timedelta(step))
    if np.any(intervals % step != 0):
        found = ", ".join(_step_text(pd.Timedelta(each)) for each in lengths[:_LISTED])
        report.add(
            "irregular_times",
            where=f"intervals of {found}",
            remedy="fetch times at one interval; a training window is never built across another",
        )
    elif len(wide):
        missing = int((intervals[wide] // step - 1).sum())
        places = ", ".join(f"{stamp(times[i])} … {stamp(times[i + 1])}" for i in wide[:_LISTED])
        more = f" and {len(wide) - _LISTED} more" if len(wide) > _LISTED else ""
        report.add(
            "gap",
            where=f"{missing} missing at a step of {text}: {places}{more}",
            remedy="fetch the missing times; until then no training window touches them",
        )
    return text, len(wide)


def window_problems(dataset: xr.Dataset, step: str, report: CheckReport) -> None:
    """Totals over less time than a step leave the rest out (OpenCastKit#23: six-hourly downloads of hourly totals)."""
    if not step or any(problem["kind"] == "irregular_times" for problem in report.problems):
        return
    hours = pd.Timedelta(step) / pd.Timedelta(hours=1)
    for name, array in dataset.data_vars.items():
        variable = lookup(str(name))
        if variable is None or variable.window_hours is None or "time" not in array.dims:
            continue
        if variable.kind == "accumulated" and variable.window_hours < hours:
            report.add(
                "accumulation_window",
                variable=str(name),
                where=f"totals over {variable.window_hours} h every {hours:g} h: "
                f"{hours - variable.window_hours:g} h of each step are in none",
                remedy=f"fetch every {variable.window_hours} h and ask regrid for {window_name(str(name), hours)}",
            )


def chunk_problems(dataset: xr.Dataset, report: CheckReport) -> None:
    """Chunks that make one map costly to read, or make too many files; and variables that differ in chunks."""
    lengths: dict[int, list[str]] = {}
    for key, array in dataset.data_vars.items():
        name, chunks = str(key), array.encoding.get("preferred_chunks") or {}
        if not chunks:
            continue
        size = chunk_bytes(array, chunks)
        count = int(np.prod([-(-length // chunks.get(str(dim), length)) for dim, length in array.sizes.items()]))
        if "time" in array.dims:
            lengths.setdefault(chunks.get("time", 1), []).append(name)
            touched = chunks.get("time", 1) * array.nbytes // array.sizes["time"]
            if touched > _LARGE_CHUNK_BYTES and chunks.get("time", 1) > 1:
                report.add(
                    "large_chunks",
                    variable=name,
                    where=f"one time cannot be read without {touched / 2**20:.0f} MiB: chunks hold "
                    f"{chunks['time']} times",
                    remedy="rewrite it with few times a chunk; `weather-scnn regrid` does",
                )
        if count > _MANY_CHUNKS and size < _SMALL_CHUNK_BYTES:
            report.add(
                "small_chunks",
                variable=name,
                where=f"{count} chunks of {size / 1024:.0f} KiB",
                remedy="rewrite it with more times a chunk, or with shards, if the number of files is a burden",
            )
    if len(lengths) > 1:
        # xarray-beam's own reader stops there (weatherbench2#135).
        listed = ", ".join(
            f"{length} ({', '.join(names[:2])}{' …' * (len(names) > 2)})" for length, names in sorted(lengths.items())
        )
        report.add(
            "uneven_chunks", where=f"times a chunk differ: {listed}", remedy="none needed: read in blocks of their own"
        )


def missing_chunks(source: Source, report: CheckReport) -> None:
    """Chunks of local stores that were never written and read as a fill value that looks like data."""
    if source.format != "zarr":
        return
    for path in source.paths:
        if is_remote(path):
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=zarr.errors.ZarrUserWarning)
            group = zarr.open_group(path, mode="r")
            for name, array in group.arrays():
                fill = array.fill_value
                if array.ndim < 2 or array.nchunks > _MOST_LISTED_CHUNKS or fill is None:
                    continue
                if np.asarray(fill).dtype.kind == "f" and np.isnan(fill):
                    continue  # counted as NaN
                lacking = array.nchunks - array.nchunks_initialized
                if 0 < lacking:
                    variable = lookup(name)
                    report.add(
                        "missing_chunks",
                        variable=variable.name if variable is not None else name,
                        where=f"{lacking} of {array.nchunks} chunks were never written and read as {fill:g}",
                        remedy="none needed if the writer leaves out chunks of that value; else write them again",
                    )
