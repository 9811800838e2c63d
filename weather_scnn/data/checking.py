"""What is in a source and what is wrong with it, in one pass over its chunks.

Attributes are not trusted (arco-era5#136: whole days NaN though the attributes claim validity): every value is read.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import dask
import numpy as np
import pandas as pd
import rich.console
import rich.progress
import rich.table
import xarray as xr

from weather_scnn.data.catalogue import Variable, lookup
from weather_scnn.data.opening import coverage_fault, open_with_notes
from weather_scnn.data.sources import UnfinishedStore, find_source
from weather_scnn.data.units import GRAVITY
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import latitude_weights

_BATCH_BYTES = 64 * 2**20
_LISTED = 5

# What the door does by itself, and what remains for the user to know or do.
_REMEDIES = {
    "descending_latitude": "none needed: flipped on reading",
    "unsorted_latitude": "none needed: sorted on reading",
    "repeated_longitude": "none needed: one column is kept on reading",
    "wrapped_longitude": "none needed: wrapped on reading",
    "unsorted_longitude": "none needed: sorted on reading",
    "levels_in_pa": "none needed: converted on reading",
    "repeated_levels": "check that the repeated levels are equal; the first is read",
    "unsorted_times": "none needed: sorted on reading",
    "repeated_times": "check that the repeated times are equal; the first is read",
    "ensemble_member": "extract another member first if this one is not meant",
    "expver": "fetch the period again once ERA5 is final, if the difference matters",
    "converted_units": "none needed: converted on reading",
    "unknown_units": "correct the units attribute",
    "no_units": "set the units attribute",
    "skipped": "select one entry of that dimension and write the file again, if the field is needed",
    "left_out_steps": "give a glob that matches one lead time",
    "mixed_lead_times": "give a glob that matches one lead time, unless these are accumulations",
    "unshared_times": "fetch the missing times, or give fields one at a time with --variables",
    "second_field": "rename or delete one of the two",
    "repeated_static": "none needed: the first file's map is read",
}


@dataclasses.dataclass
class CheckReport:
    """The result of `check_store`.

    Attributes:
        source: what was checked.
        variables: a dict a field: name, dims, chunks, units, period, step, gaps, nan_count, min, mean (area-weighted),
            max.
        problems: dicts of kind, variable, where, remedy, and fatal: whether it makes the store unusable.
    """

    source: str
    variables: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    problems: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether no problem is fatal."""
        return not any(problem["fatal"] for problem in self.problems)

    def add(self, kind: str, *, variable: str = "", where: str = "", remedy: str, fatal: bool = False) -> None:
        """Adds a problem."""
        self.problems.append(
            {"kind": kind, "variable": variable, "where": where, "remedy": remedy, "fatal": fatal},
        )

    def to_json(self) -> str:
        """One object with `variables` and `problems`; numbers that are not finite are null."""
        return json.dumps({"variables": self.variables, "problems": self.problems}, indent=1, allow_nan=False)

    def _shared(self) -> Iterator[str]:
        """The source, then each layout, chunking and period with the variables that have it."""
        yield self.source
        for title, describe in (
            ("layout", lambda each: ", ".join(f"{dim} {size}" for dim, size in zip(each["dims"], each["shape"]))),
            ("chunks", lambda each: "×".join(map(str, each["chunks"]))),
            (
                "period",
                lambda each: (
                    f"{' … '.join(each['period'])}, step {each['step'] or 'none'}, {each['gaps']} gaps"
                    if each["period"]
                    else "static"
                ),
            ),
        ):
            groups: dict[str, list[str]] = {}
            for each in self.variables:
                groups.setdefault(describe(each), []).append(each["name"])
            for text, names in groups.items():
                of = (
                    ""
                    if len(groups) == 1
                    else f"  ({len(names)} variables: {', '.join(names[:3])}{' …' * (len(names) > 3)})"
                )
                yield f"{title}: {text}{of}"

    def render(self, console: rich.console.Console) -> None:
        """What all variables share, a table of the variables, then the problems, each with its remedy."""
        for line in self._shared():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        table = rich.table.Table()
        table.add_column("variable", overflow="fold")
        for heading in ("units", "levels", "NaN", "min", "mean", "max"):
            table.add_column(heading, justify="left" if heading == "units" else "right", no_wrap=True)
        for each in self.variables:
            sizes = dict(zip(each["dims"], each["shape"]))
            numbers = ["–" if each[key] is None else f"{each[key]:.4g}" for key in ("min", "mean", "max")]
            table.add_row(
                each["name"], each["units"], str(sizes.get("level", "")), str(each["nan_count"] or ""), *numbers
            )
        if self.variables:
            console.print(table)
        if not self.problems:
            console.print("no problems found")
        for problem in self.problems:
            place = " ".join(part for part in (problem["variable"], problem["where"]) if part)
            mark = "unusable" if problem["fatal"] else "note"
            console.print(f"{mark}: {problem['kind']}: {place}; {problem['remedy']}", markup=False, highlight=False)


@dataclasses.dataclass
class _Tally:
    """Running sums over the chunks of one field."""

    nan_per_time: np.ndarray
    weighted: np.ndarray  # a level
    weight: np.ndarray
    low: float = math.inf
    high: float = -math.inf
    negative: int = 0
    count: int = 0

    def add(self, block: xr.DataArray, slices: dict[str, slice], weights: np.ndarray) -> None:
        dims = ("time", "level", "latitude", "longitude")
        extra = [dim for dim in block.dims if dim not in dims]
        values = block.values
        if extra:
            block = block.stack(flat=(*extra, "longitude"), create_index=False).rename(flat="longitude")
            values = block.values
        axes = [dim for dim in dims if dim in block.dims]
        values = block.transpose(*axes).values.reshape([block.sizes.get(dim, 1) for dim in dims])
        valid = np.isfinite(values)
        nan = (~valid).sum(axis=(1, 2, 3))
        self.nan_per_time[slices.get("time", slice(0, 1))] += nan
        self.count += values.size
        if not valid.any():
            return
        filled = np.where(valid, values, 0.0) if nan.any() else values
        rows = weights[slices["latitude"]]
        level = slices.get("level", slice(0, 1))
        self.weighted[level] += np.einsum("tlyx,y->l", filled, rows, dtype=np.float64)
        self.weight[level] += np.einsum("tly,y->l", valid.sum(axis=3), rows, dtype=np.float64)
        finite = values[valid] if nan.any() else values
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        self.negative += int((finite < 0).sum())


def _blocks(array: xr.DataArray) -> Iterator[dict[str, slice]]:
    chunks = array.chunks or tuple((size,) for size in array.shape)
    edges = [np.concatenate([[0], np.cumsum(sizes)]) for sizes in chunks]
    spans = [[slice(int(a), int(b)) for a, b in itertools.pairwise(edge)] for edge in edges]
    for combination in itertools.product(*spans):
        yield dict(zip(map(str, array.dims), combination))


def _batches(array: xr.DataArray) -> Iterator[list[dict[str, slice]]]:
    """Chunks in groups of about 64 MiB, at least one."""
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


def _merged(batch: list[dict[str, slice]]) -> dict[str, slice] | None:
    """The one box that a batch fills, if it is a run of chunks along the first dimension."""
    first, last = batch[0], batch[-1]
    dim, *others = first
    if all(each[other] == first[other] for each in batch for other in others):
        return {**first, dim: slice(first[dim].start, last[dim].stop)}
    return None


def _read(
    name: str, array: xr.DataArray, batch: list[dict[str, slice]], report: CheckReport
) -> list[tuple[dict[str, slice], xr.DataArray]]:
    # One read a batch: scheduling each small chunk by itself costs more than reading it.
    box = _merged(batch)
    boxes = batch if box is None else [box]
    try:
        return list(zip(boxes, dask.compute(*(array.isel(each) for each in boxes))))
    except Exception:
        # One bad chunk fails the batch: find which. Stores raise nearly any type for a damaged chunk.
        results = []
        for slices in batch:
            block = array.isel(slices)
            try:
                results.append((slices, block.compute()))
            except Exception as error:
                reason = " ".join(str(error).split())[:160]
                where = _stamp(block["time"].values[0]) if "time" in block.dims else ""
                report.add(
                    "unreadable_chunk",
                    variable=name,
                    where=f"{where} ({type(error).__name__}: {reason})",
                    remedy="fetch that part of the source again",
                    fatal=True,
                )
        return results


def _stamp(time: Any) -> str:
    return f"{pd.Timestamp(time):%Y-%m-%dT%H:%M}"


def _step_text(step: pd.Timedelta) -> str:
    hours = step / pd.Timedelta(hours=1)
    return f"{hours:g}h" if hours >= 1 else f"{hours * 60:g}min"


def _time_axis(times: pd.DatetimeIndex, report: CheckReport) -> tuple[str, int]:
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
        places = ", ".join(f"{_stamp(times[i])} … {_stamp(times[i + 1])}" for i in wide[:_LISTED])
        more = f" and {len(wide) - _LISTED} more" if len(wide) > _LISTED else ""
        report.add(
            "gap",
            where=f"{missing} missing at a step of {text}: {places}{more}",
            remedy="fetch the missing times; until then no training window touches them",
        )
    return text, len(wide)


def _nan_problems(name: str, tally: _Tally, times: pd.DatetimeIndex | None, report: CheckReport) -> None:
    total = int(tally.nan_per_time.sum())
    if total == 0:
        return
    if total == tally.count:
        report.add("all_nan", variable=name, where="every value", remedy="fetch the variable again", fatal=True)
        return
    if times is None:
        report.add("nan", variable=name, where=f"{total} values", remedy="a masked field is regridded by coverage")
        return
    touched = np.flatnonzero(tally.nan_per_time)
    span = f"{_stamp(times[touched[0]])} … {_stamp(times[touched[-1]])}"
    if len(touched) == len(times) and np.ptp(tally.nan_per_time) == 0:
        report.add(
            "masked",
            variable=name,
            where=f"{tally.nan_per_time[0]} values at every time",
            remedy="none needed if it is a mask such as land; regridding keeps it by coverage",
        )
        return
    report.add(
        "nan",
        variable=name,
        where=f"{total} values in {len(touched)} times, {span}",
        remedy="fetch those times again; until then no training window touches them",
    )


def _standard_geopotential(level: float) -> float:
    """m2 s-2 of a pressure in hPa in the ICAO standard atmosphere (ISO 2533), to 20 km."""
    if level >= 226.32:
        return GRAVITY * 44330.77 * (1.0 - (level / 1013.25) ** 0.190263)
    return GRAVITY * (11000.0 + 6341.62 * math.log(226.32 / level))


def _suspected(variable: Variable, low: float, high: float) -> str:
    """What an implausible range looks like."""
    scales = {
        "K": [("degrees Celsius", 1.0, 273.15)],
        "Pa": [("hPa", 100.0, 0.0)],
        "kg kg-1": [("g kg-1", 1e-3, 0.0)],
        "m": [("mm", 1e-3, 0.0)],
        "1": [("percent", 0.01, 0.0)],
        "m2 s-2": [("a height in metres", GRAVITY, 0.0)],
    }
    bottom, top = variable.plausible
    for words, scale, offset in scales.get(variable.unit, []):
        if bottom <= low * scale + offset and high * scale + offset <= top:
            return f", as if in {words}"
    return ""


def _range_problems(name: str, tally: _Tally, levels: np.ndarray | None, report: CheckReport) -> None:
    variable = lookup(name)
    if variable is None or not math.isfinite(tally.low):
        return
    bottom, top = variable.plausible
    correct = "correct the units attribute, or the values"
    if variable.kind == "accumulated" and tally.negative:
        report.add(
            "negative_accumulation",
            variable=name,
            where=f"{tally.negative} values, the least {tally.low:.3g} {variable.unit}",
            remedy="none needed: artefacts of packing are clipped where totals are made",
        )
        bottom = -0.05 * top
    if tally.low < bottom or tally.high > top:
        report.add(
            "implausible",
            variable=name,
            where=f"{tally.low:.5g} … {tally.high:.5g} {variable.unit}, outside {bottom:g} … {top:g}"
            + _suspected(variable, tally.low, tally.high),
            remedy=correct,
            fatal=True,
        )
    elif name == "geopotential" and levels is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            means = tally.weighted / tally.weight
        for level, mean in zip(levels, means):
            expected = _standard_geopotential(float(level))
            if 50 <= level <= 925 and np.isfinite(mean) and not 0.6 < mean / expected < 1.5:
                guess = ", as if a height in metres" if 0.6 < GRAVITY * mean / expected < 1.5 else ""
                report.add(
                    "implausible",
                    variable=name,
                    where=f"mean {mean:.5g} m2 s-2 at {level:g} hPa, where {expected:.3g} is usual{guess}",
                    remedy=correct,
                    fatal=True,
                )
                break
    elif name in ("2m_temperature", "temperature", "mean_sea_level_pressure") and tally.low == tally.high:
        report.add("constant", variable=name, where=f"{tally.low:g} everywhere", remedy="check the source", fatal=False)


def check_store(path: str, *, progress: bool = True) -> CheckReport:
    """Reads all of a source once, a chunk at a time, and reports what it holds and what is wrong with it.

    Args:
        path: anything `open_dataset` takes.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: nothing is there. What is there but cannot be used is a fatal problem of the report.
    """
    report = CheckReport(str(path))
    find_source(path)
    try:
        dataset, notes = open_with_notes(path)
    except UserError as error:
        kind = "unfinished" if isinstance(error, UnfinishedStore) else "unreadable"
        report.add(kind, where=f"{error.where}: {error.what}".strip(": "), remedy=error.remedy, fatal=True)
        return report
    for note in notes:
        report.add(
            note.kind, variable=note.variable, where=note.where, remedy=_REMEDIES.get(note.kind, "check the source")
        )
    latitude, longitude = dataset["latitude"].values, dataset["longitude"].values
    if fault := coverage_fault(latitude, longitude):
        report.add("not_global", where=fault, remedy="give data of the whole globe", fatal=True)
    weights = latitude_weights(latitude) if latitude.size > 1 else np.ones(latitude.size)
    times = pd.DatetimeIndex(dataset["time"].values) if "time" in dataset.dims else None
    step, gaps = _time_axis(times, report) if times is not None else ("", 0)
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console,
        disable=not progress,
    ) as bar:
        task = bar.add_task("check", total=dataset.nbytes)
        for key, array in dataset.data_vars.items():
            name = str(key)
            timed = times is not None and "time" in array.dims
            levels = array.sizes.get("level", 1)
            tally = _Tally(np.zeros(array.sizes.get("time", 1), np.int64), np.zeros(levels), np.zeros(levels))
            bar.update(task, description=f"check {name}")
            for batch in _batches(array):
                for slices, block in _read(name, array, batch, report):
                    tally.add(block, slices, weights)
                    bar.advance(task, block.nbytes)
            _nan_problems(name, tally, times if timed else None, report)
            _range_problems(name, tally, array["level"].values if "level" in array.dims else None, report)
            finite = math.isfinite(tally.low)
            touched = np.flatnonzero(tally.nan_per_time)
            report.variables.append(
                {
                    "name": name,
                    "units": str(array.attrs.get("units", "")),
                    "dims": list(map(str, array.dims)),
                    "shape": list(array.shape),
                    "chunks": [max(sizes) for sizes in array.chunks or ()],
                    "levels": [float(level) for level in array["level"].values] if "level" in array.dims else [],
                    "period": [_stamp(times[0]), _stamp(times[-1])] if timed and times is not None else [],
                    "step": step if timed else "",
                    "gaps": gaps if timed else 0,
                    "nan_count": int(tally.nan_per_time.sum()),
                    "nan_period": [_stamp(times[touched[i]]) for i in (0, -1)] if timed and len(touched) else [],  # type: ignore[index]
                    "min": tally.low if finite else None,
                    "mean": float(tally.weighted.sum() / tally.weight.sum()) if finite else None,
                    "max": tally.high if finite else None,
                }
            )
    return report
