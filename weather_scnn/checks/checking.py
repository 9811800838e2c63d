"""What is in a source and what is wrong with it, in one pass over its chunks.

Attributes are not trusted (arco-era5#136: whole days NaN though the attributes claim validity): every value is read.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dask
import numpy as np
import pandas as pd
import rich.progress
import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.plausibility import Extremes, implausible
from weather_scnn.checks.layout import chunk_problems, missing_chunks, stamp, step_of, time_axis, window_problems
from weather_scnn.checks.report import REMEDIES, CheckReport
from weather_scnn.checks.tally import Tally
from weather_scnn.errors import NothingThere, UserError
from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.coverage import coverage_fault, missing_lines, missing_poles
from weather_scnn.io.filters import lacking_filter
from weather_scnn.io.joining import ABSENT
from weather_scnn.io.notes import Adjustment
from weather_scnn.io.opening import CanonicalSource, listed, refuse_forecasts
from weather_scnn.io.sources import find_source
from weather_scnn.io.zarr_stores import UnfinishedStore
from weather_scnn.progress import progress_bar
from weather_scnn.sphere.grid import latitude_weights

_BATCH_BYTES = 64 * 2**20
_LISTED = 5

__all__ = ["CheckReport", "check_store"]


def _blocks(array: xr.DataArray) -> Iterator[dict[str, slice]]:
    chunks = array.chunks or tuple((size,) for size in array.shape)
    edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in chunks]
    spans = [[slice(int(a), int(b)) for a, b in itertools.pairwise(edge)] for edge in edges]
    for combination in itertools.product(*spans):
        yield dict(zip(map(str, array.dims), combination))


def _batches(array: xr.DataArray) -> Iterator[list[dict[str, slice]]]:
    """Blocks in groups of about 64 MiB, at least one."""
    batch: list[dict[str, slice]] = []
    size = 0
    for slices in _blocks(array):
        nbytes = array.dtype.itemsize * math.prod(each.stop - each.start for each in slices.values())
        if batch and size + nbytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(slices)
        size += nbytes
    yield batch


def _read(
    name: str, array: xr.DataArray, batch: list[dict[str, slice]], report: CheckReport
) -> list[tuple[dict[str, slice], xr.DataArray]]:
    try:
        return list(zip(batch, dask.compute(*(array.isel(each) for each in batch))))
    except Exception:
        # One bad chunk fails the batch: find which. Stores raise nearly any type for a damaged chunk.
        results = []
        for slices in batch:
            results += _read_times(name, array, slices, report)
        return results


def _read_times(
    name: str, array: xr.DataArray, slices: dict[str, slice], report: CheckReport
) -> list[tuple[dict[str, slice], xr.DataArray]]:
    """A block in two halves along time until what cannot be read is one time, which is reported."""
    block = array.isel(slices)
    try:
        return [(slices, block.compute())]
    except Exception as error:
        span = slices.get("time", slice(0, 1))
        if span.stop - span.start > 1:
            middle = (span.start + span.stop) // 2
            halves = ({**slices, "time": slice(span.start, middle)}, {**slices, "time": slice(middle, span.stop)})
            return [part for half in halves for part in _read_times(name, array, half, report)]
        if (lacking := lacking_filter(error, report.source)) is not None:
            if not any(each["kind"] == "lacking_filter" and each["variable"] == name for each in report.problems):
                report.add("lacking_filter", variable=name, where=lacking.what, remedy=lacking.remedy, fatal=True)
            return []
        reason = " ".join(str(error).split())[:160]
        where = stamp(block["time"].values[0]) if "time" in block.dims else ""
        report.add(
            "unreadable_chunk",
            variable=name,
            where=f"{where} ({type(error).__name__}: {reason})",
            remedy="fetch that part of the source again",
            fatal=True,
        )
        return []


def _runs(touched: np.ndarray, times: pd.DatetimeIndex) -> str:
    """Runs of consecutive times, the first few."""
    breaks = np.flatnonzero(np.diff(touched) > 1) + 1
    runs = np.split(touched, breaks)
    parts = [
        stamp(times[run[0]]) if len(run) == 1 else f"{stamp(times[run[0]])} … {stamp(times[run[-1]])}"
        for run in runs[:_LISTED]
    ]
    return ", ".join(parts) + (f" and {len(runs) - _LISTED} more" if len(runs) > _LISTED else "")


def _value_problems(name: str, array: xr.DataArray, tally: Tally, report: CheckReport) -> None:
    """NaNs and where they are, infinities, negative totals, magnitudes that cannot be."""
    variable = lookup(name)
    if tally.infinite:
        report.add(
            "infinite",
            variable=name,
            where=f"{tally.infinite} values",
            remedy="fetch it in float32: what exceeds 65504 is infinite in float16",
            fatal=True,
        )
    if int(tally.nan_per_time.sum()):
        _nan_problems(name, array, tally, report)
    if variable is None or not math.isfinite(tally.low):
        return
    if variable.kind == "accumulated" and variable.never_negative and tally.negative:
        report.add(
            "negative_accumulation",
            variable=name,
            where=f"{tally.negative} values, the least {tally.low:.3g} {variable.unit}",
            remedy="none needed: artefacts of packing are clipped where totals are made",
        )
    levels = tuple(map(float, array["level"].values)) if "level" in array.dims else ()
    result = Extremes(tally.low, tally.high, levels, tuple(tally.means) if levels else ())
    if fault := implausible(name, result):
        report.add(
            "implausible", variable=name, where=fault, remedy="correct the units attribute, or the values", fatal=True
        )
    elif tally.low == tally.high and tally.count > 1 and variable.kind != "static":
        always = " and always" if array.sizes.get("time", 1) > 1 else ""
        report.add("constant", variable=name, where=f"{tally.low:g} everywhere{always}", remedy="check the source")


def _nan_problems(name: str, array: xr.DataArray, tally: Tally, report: CheckReport) -> None:
    total = int(tally.nan_per_time.sum())
    if total == tally.count:
        report.add("all_nan", variable=name, where="every value", remedy="fetch the variable again", fatal=True)
        return
    if "time" not in array.dims:
        report.add("nan", variable=name, where=f"{total} values", remedy="a masked field is regridded by coverage")
        return
    times = pd.DatetimeIndex(array["time"].values)
    touched = np.flatnonzero(tally.nan_per_time)
    if len(touched) == len(times) and np.ptp(tally.nan_per_time) == 0:
        report.add(
            "masked",
            variable=name,
            where=f"{tally.nan_per_time[0]} values at every time",
            remedy="none needed if it is a mask such as land; regridding keeps it by coverage",
        )
        return
    again = "fetch those times again; until then no training window touches them"
    whole = np.flatnonzero(tally.nan_per_time == array.size // len(times))
    if len(whole):
        report.add("nan_times", variable=name, where=f"{len(whole)} times whole: {_runs(whole, times)}", remedy=again)
    if len(whole) < len(touched):
        part = np.setdiff1d(touched, whole)
        where = f"{int(tally.nan_per_time[part].sum())} values in {len(part)} times: {_runs(part, times)}"
        if "level" in array.dims:
            # Whole times count at every level.
            more = tally.nan_per_level > len(whole) * array.sizes["latitude"] * array.sizes["longitude"]
            levels = array["level"].values[more]
            where += f", at {', '.join(f'{level:g}' for level in levels[:_LISTED])}{' …' * (len(levels) > _LISTED)} hPa"
        report.add("nan", variable=name, where=where, remedy=again)


def check_store(
    path: str,
    *,
    variables: Sequence[str] | str | None = None,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    member: int | None = None,
    progress: bool = True,
) -> CheckReport:
    """Reads all of a source once, a block at a time, and reports what it holds and what is wrong with it.

    Args:
        path: anything `open_dataset` takes.
        variables: only these; default all.
        levels: only these, hPa; default all.
        time: only this period A:B; default all.
        member: number of the ensemble member.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: nothing is there, or the selection is empty. What is there but cannot be used is a fatal problem of
            the report.
    """
    report = CheckReport(str(path))
    try:
        source = find_source(path)
        names = listed(variables)
        opened = CanonicalSource(str(path), names, member=member)
        selection: dict[str, Any] = {"levels": levels, "time": time}
        dataset, notes = _selected(opened, names, selection)
        refuse_forecasts(dataset, str(path))
        datasets = [dataset]
        if any(each.kind == "unshared_times" for each in notes):
            datasets, notes = _by_times(opened, dataset, notes, selection)
    except UserError as error:
        selected = variables is not None or levels is not None or time is not None or member is not None
        if isinstance(error, NothingThere) or (selected and _opens(path)):
            raise
        kind = "unfinished" if isinstance(error, UnfinishedStore) else "unreadable"
        report.add(kind, where=f"{error.where}: {error.what}".strip(": "), remedy=error.remedy, fatal=True)
        return report
    for adjustment in notes:
        remedy = REMEDIES.get(adjustment.kind, "check the source")
        report.add(adjustment.kind, variable=adjustment.variable, where=adjustment.where, remedy=remedy)
    latitude, longitude = dataset["latitude"].values, dataset["longitude"].values
    if fault := coverage_fault(latitude, longitude):
        report.add("not_global", where=fault, remedy="give data of the whole globe", fatal=True)
        lines = missing_lines(latitude, longitude)
        if lines and not lines.startswith(fault):
            report.add("missing_lines", where=lines, remedy="fetch the whole grid", fatal=True)
    elif poles := missing_poles(latitude):
        report.add(
            "missing_poles", where=poles, remedy="none needed if the grid was made so: its cells reach to the pole"
        )
    weights = latitude_weights(latitude) if latitude.size > 1 else np.ones(latitude.size)
    missing_chunks(source, report)
    columns = (rich.progress.DownloadColumn(), rich.progress.TransferSpeedColumn())
    with progress_bar(*columns, enabled=progress) as bar:
        task = bar.add_task("check", total=sum(each.nbytes for each in datasets))
        for each in datasets:
            step, gaps = ("", 0)
            if "time" in each.dims:
                step, gaps = time_axis(pd.DatetimeIndex(each["time"].values), report)
            window_problems(each, step, report)
            chunk_problems(each, report)
            for key, array in each.data_vars.items():
                if absent := array.encoding.get(ABSENT):
                    encoding = array.encoding
                    array = array.isel(level=~np.isin(array["level"].values, absent))
                    array.encoding = encoding
                name, tally = str(key), Tally.of(array)
                bar.update(task, description=f"check {name}")
                for batch in _batches(array):
                    for slices, block in _read(name, array, batch, report):
                        tally.add(block, slices, weights)
                        bar.advance(task, block.nbytes)
                _value_problems(name, array, tally, report)
                report.variables.append(_row(name, array, tally, step, gaps))
    return report


def _opens(path: str) -> bool:
    """Whether a source can be opened as a whole, so that an error is one of the selection."""
    try:
        CanonicalSource(path).fields()
    except UserError:
        return False
    return True


def _selected(
    source: CanonicalSource, names: Sequence[str] | None, selection: dict[str, Any]
) -> tuple[xr.Dataset, list[Adjustment]]:
    """Fields of a source in dask blocks, and what was changed on the way."""
    result = source.fields(names, **selection)
    return in_blocks(result.dataset), result.adjustments


def _by_times(
    source: CanonicalSource, dataset: xr.Dataset, notes: list[Adjustment], selection: dict[str, Any]
) -> tuple[list[xr.Dataset], list[Adjustment]]:
    """Fields that share their times together, where hourly ones lie beside six-hourly ones for example."""
    groups: dict[bytes, list[xr.Dataset]] = {}
    for name in map(str, dataset.data_vars):
        single, result = _selected(source, [name], selection)
        notes = notes + [each for each in result if each not in notes]
        groups.setdefault(single["time"].values.tobytes() if "time" in single.dims else b"", []).append(single)
    datasets = [xr.merge(each, combine_attrs="override", compat="override", join="outer") for each in groups.values()]
    for each, parts in zip(datasets, groups.values()):
        for part in parts:
            for key, array in part.data_vars.items():
                each[key].encoding = array.encoding
    steps = {step_of(each): list(map(str, each.data_vars)) for each in datasets if each.sizes.get("time", 0) > 1}
    if len(steps) > 1:
        notes = [each for each in notes if each.kind != "unshared_times"]
        every = "; ".join(
            f"every {step}: {', '.join(names[:3])}{' …' * (len(names) > 3)}" for step, names in steps.items()
        )
        notes.append(Adjustment("own_steps", "", every))
    return datasets, notes


def _row(name: str, array: xr.DataArray, tally: Tally, step: str, gaps: int) -> dict[str, Any]:
    """What the table and the JSON tell of a field."""
    timed = "time" in array.dims
    times = array["time"].values if timed else np.array([])
    touched = np.flatnonzero(tally.nan_per_time)
    finite = math.isfinite(tally.low)
    chunks = array.encoding.get("preferred_chunks") or {}
    return {
        "name": name,
        "units": str(array.attrs.get("units", "")),
        "dims": list(map(str, array.dims)),
        "shape": list(array.shape),
        "chunks": [chunks.get(str(dim), size) for dim, size in array.sizes.items()],
        "levels": [float(level) for level in array["level"].values] if "level" in array.dims else [],
        "period": [stamp(times[0]), stamp(times[-1])] if timed else [],
        "step": step if timed else "",
        "gaps": gaps if timed else 0,
        "nan_count": int(tally.nan_per_time.sum()),
        "nan_period": [stamp(times[touched[i]]) for i in (0, -1)] if timed and len(touched) else [],
        "infinite_count": tally.infinite,
        "min": tally.low if finite else None,
        "mean": float(tally.weighted.sum() / tally.weight.sum()) if finite else None,
        "max": tally.high if finite else None,
    }
