"""Beam job for the statistics that normalise training: of every field, and of its increments over one step."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from pipelines import running
from pipelines.running import beam, xbeam
from weather_scnn.data.opening import open_dataset
from weather_scnn.data.statistics import STATISTICS
from weather_scnn.data.writing import provenance, refuse_to_overwrite, write_netcdf
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import latitude_weights

# Values a worker reads at once; in float64, with a copy of deviations, some ten times as many bytes.
_VALUES_PER_PIECE = 2**22
_LEAST_PIECES = 4

_FORMULA = (
    "Area-weighted (cell areas of mean 1) over all times and points of the period, NaNs left out. mean = sum(w x)/sum(w)"
    "; std = sqrt(sum(w (x - mean)^2)/sum(w)); count = number of values. Increments are x(t + step) - x(t) for every t "
    "such that both times are in the period. One pass, pieces combined after Chan et al. (1983)."
)


@dataclasses.dataclass(frozen=True)
class Moments:
    """Weighted moments of part of the data, each of shape (level,) or ().

    Attributes:
        count: number of values.
        weight: sum of their weights.
        mean: weighted mean; 0 where nothing was counted.
        squares: weighted sum of squared deviations from the mean.
    """

    count: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray, axes: tuple[int, ...]) -> "Moments":
        """Moments over `axes` of an array with NaNs where data is missing.

        Args:
            values: shape (…, latitude, longitude).
            weights: shape (latitude,).
            axes: those to reduce, counted from the end: longitude (-1) and latitude (-2) always, time where there.
        """
        values = np.asarray(values, np.float64)
        valid = np.isfinite(values)
        complete = bool(valid.all())
        if not complete:
            values = np.where(valid, values, 0.0)
        # Rows first: every value is touched once a sum, and weights only meet row sums.
        outer = tuple(axis + 1 for axis in axes if axis != -1)
        row_count = valid.sum(-1)
        weight = (row_count * weights).sum(outer)
        total = (values.sum(-1) * weights).sum(outer)
        mean = total / np.where(weight > 0, weight, 1.0)
        deviation = values - np.expand_dims(mean, axes)
        if not complete:
            deviation *= valid
        squares = (np.einsum("...x,...x->...", deviation, deviation) * weights).sum(outer)
        return cls(row_count.sum(outer), weight, mean, squares)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the union of two disjoint parts (Chan, Golub and LeVeque 1983, with weights)."""
        weight = self.weight + other.weight
        share = other.weight / np.where(weight > 0, weight, 1.0)
        difference = other.mean - self.mean
        return Moments(
            self.count + other.count,
            weight,
            self.mean + share * difference,
            self.squares + other.squares + self.weight * share * difference**2,
        )

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (of the population), NaN where nothing was counted."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.squares / np.where(self.weight > 0, self.weight, np.nan))


Pair = tuple[Moments, Moments | None]


def _merge(pairs: Iterable[Pair]) -> Pair | None:
    """Combines (moments of values, moments of increments); None for nothing."""
    total: Pair | None = None
    for pair in pairs:
        if pair is None:
            continue
        if total is None:
            total = pair
        else:
            increments = None if total[1] is None or pair[1] is None else total[1].merge(pair[1])
            total = (total[0].merge(pair[0]), increments)
    return total


@functools.lru_cache(maxsize=4)
def _open(job: str, path: str, time: str | None, variables: tuple[str, ...] | None) -> xr.Dataset:
    """The input, opened once a job and process."""
    return open_dataset(path, variables=None if variables is None else list(variables), time=time)


def _partners(times: np.ndarray, step: np.timedelta64) -> np.ndarray:
    """Index of the time one step later for every time, −1 where the data has no such time; shape (time,)."""
    later = times + step
    index = np.searchsorted(times, later)
    found = index < times.size
    found[found] = times[index[found]] == later[found]
    return np.where(found, index, -1)


def _reduce(
    key: xbeam.Key,
    length: int,
    *,
    job: str,
    path: str,
    time: str | None,
    variables: tuple[str, ...] | None,
    step: np.timedelta64,
) -> tuple[str, Pair]:
    """Moments of one variable over a run of times, and of the increments that begin in it."""
    with running.piece(job):
        dataset = _open(job, path, time, variables)
        (name,) = key.vars
        array = dataset[name]
        leading = [dim for dim in array.dims if dim not in ("latitude", "longitude")]
        array = array.transpose(*leading, "latitude", "longitude")
        weights = latitude_weights(dataset["latitude"].values)
        if "time" not in array.dims:
            values = array.values
            return name, (Moments.of(values, weights, (-2, -1)), None)
        begin = key.offsets["time"]
        partner = _partners(dataset["time"].values, step)[begin : begin + length]
        end = max(begin + length, int(partner.max()) + 1)
        # Beam's workers are the threads already; dask's own on top of them read one chunk a time 2.5 times slower.
        part = array.transpose("time", ...).isel(time=slice(begin, end)).compute(scheduler="synchronous")
        values = part.values.astype(np.float64)
        axes = (-values.ndim, -2, -1)
        has_partner = np.flatnonzero(partner >= 0)
        increments = values[partner[has_partner] - begin] - values[has_partner]
        return name, (Moments.of(values[:length], weights, axes), Moments.of(increments, weights, axes))


def _table(results: Iterable[tuple[str, Pair]], template: xr.Dataset) -> xr.Dataset:
    """The dataset of stats.nc: per variable (statistic[, level])."""
    dataset = template.copy()
    for name, (values, increments) in sorted(results):
        missing = np.full(values.mean.shape, np.nan)

        def columns(moments: Moments | None, missing: np.ndarray = missing) -> list[np.ndarray]:
            if moments is None:
                return [missing, missing, missing]
            mean = np.where(moments.weight > 0, moments.mean, np.nan)
            return [mean, moments.std, moments.count.astype(np.float64)]

        mean, std, count = columns(values)
        increment_mean, increment_std, increment_count = columns(increments)
        rows = np.stack([mean, std, increment_mean, increment_std, count, increment_count])
        attributes = dataset.attrs.get(f"_attributes_{name}", {})
        dataset[name] = (("statistic", *(["level"] if rows.ndim == 2 else [])), rows, attributes)
    dataset.attrs = {key: value for key, value in dataset.attrs.items() if not key.startswith("_attributes_")}
    return dataset


def _deliver(results: list, *, job: str, template: xr.Dataset, output: str) -> None:
    with running.piece(job):
        write_netcdf(_table(results, template), output, overwrite=True)


def _check_step(times: np.ndarray, step: str, path: str) -> np.timedelta64:
    """The step, if the data's spacing divides it and at least one pair of times is that far apart."""
    try:
        wanted = pd.Timedelta(step).to_timedelta64()
    except ValueError:
        raise UserError(f"the step {step!r} is not a duration", remedy="write it as 6h or 1d") from None
    if wanted <= np.timedelta64(0, "s"):
        raise UserError(f"the step {step!r} is not positive", remedy="give a duration such as 6h")
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
    if not (_partners(times, wanted) >= 0).any():
        raise UserError(f"no two times of the period are {step} apart", where=path, remedy="choose another step")
    return wanted


def compute_statistics(
    input: str,
    output: str,
    *,
    time: str | None,
    step: str = "6h",
    variables: Sequence[str] | None = None,
    overwrite: bool = False,
    beam_options: Sequence[str] | None = None,
    progress: bool = True,
) -> None:
    """Computes mean and standard deviation of every field, and of its increments over `step`, into a netCDF file.

    Use the training years only: statistics that have seen the test years leak them into training. The data is read
    once; memory is bounded by the pieces that the workers hold.

    Args:
        input: any data that `weather_scnn.data.opening.open_dataset` takes.
        output: netCDF file to write; see `weather_scnn.data.statistics` for its layout.
        time: period "A:B", both ends included; None for everything.
        step: length of the increments, a multiple of the data's spacing. No increment crosses a gap.
        variables: WeatherBench 2 names; None for all.
        overwrite: whether to replace what stands at `output`.
        beam_options: options for Beam; by default threads of this process.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: the output exists, the period holds no data, or the step does not fit the data.
    """
    refuse_to_overwrite(output, overwrite=overwrite)
    job = running.new_job()
    names = None if variables is None else tuple(variables)
    dataset = _open(job, input, time, names)
    where = f"{input}, period {time}" if time else input
    if "time" not in dataset.dims:
        raise UserError("has no time dimension", where=where, remedy="give data over time")
    times = dataset["time"].values
    if times.size == 0:
        raise UserError("the period holds no data", where=where, remedy="choose a period inside the data")
    duration = _check_step(times, step, where)
    elements: list[tuple[xbeam.Key, int]] = []
    template = xr.Dataset(coords={"statistic": list(STATISTICS)})
    if "level" in dataset.dims:
        template["level"] = dataset["level"].variable
    for name, array in dataset.data_vars.items():
        if not {"latitude", "longitude"} <= set(array.dims):
            raise UserError(
                "is not a map over latitude and longitude", where=f"{input}, {name}", remedy="name other --variables"
            )
        template.attrs[f"_attributes_{name}"] = {
            key: array.attrs[key] for key in ("units", "long_name", "standard_name") if key in array.attrs
        }
        if "time" not in array.dims:
            elements.append((xbeam.Key({}, vars={str(name)}), 0))
            continue
        chunk = max((array.chunksizes or {}).get("time", (1,)))
        length = max(1, _VALUES_PER_PIECE // max(1, array.size // times.size))
        length = min(length, -(-times.size // _LEAST_PIECES))
        length = -(-length // chunk) * chunk
        elements += [
            (xbeam.Key({"time": begin}, vars={str(name)}), min(length, times.size - begin))
            for begin in range(0, times.size, length)
        ]
    template.attrs.update(
        provenance(
            source=input,
            formula=_FORMULA,
            period=f"{pd.Timestamp(times[0]).isoformat()}:{pd.Timestamp(times[-1]).isoformat()}",
            step=step,
            grid=f"{dataset.sizes['longitude']}x{dataset.sizes['latitude']}",
            times=int(times.size),
        )
    )
    reduce = functools.partial(_reduce, job=job, path=input, time=time, variables=names, step=duration)

    def build(pipeline: beam.Pipeline) -> object:
        return (
            pipeline
            | "Pieces" >> beam.Create(elements, reshuffle=True)
            | "Moments" >> beam.MapTuple(reduce)
            | "Combine" >> beam.CombinePerKey(_merge)
            | "Collect" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_deliver, job=job, template=template, output=output)
        )

    try:
        running.run(
            build,
            job=job,
            pieces=len(elements) + 1,
            description="statistics",
            beam_options=beam_options,
            progress=progress,
        )
    finally:
        _open.cache_clear()
