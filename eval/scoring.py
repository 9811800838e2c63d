"""The scoring job: one forecast against the truth, beside persistence and climatology.

It goes through one init time at a time and keeps only the sums, so memory does not grow with the data.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import rich.console
import rich.progress
import xarray as xr

from eval.baselines import (
    CLIMATOLOGY,
    PERSISTENCE,
    FieldsByTime,
    climatology_fields,
    require_known,
    truth_fields,
)
from eval.forecasts import (
    canonical,
    common_levels,
    common_variables,
    open_any,
    open_forecast,
    require_same_grid,
    require_same_units,
)
from eval.metrics import (
    ANOMALY_MOMENTS,
    BASE_MOMENTS,
    CONVENTIONS,
    DEFINITIONS,
    MISSING_FORECAST,
    MISSING_TRUTH,
    WIND_VECTORS,
    combine_scores,
    count_init_times,
    moment_sums,
    scores_from_sums,
    wind_vector_sums,
)
from eval.regions import region_weights
from eval.scorecard import summary_table
from weather_scnn.data.opening import open_dataset, parse_period
from weather_scnn.data.writing import provenance, refuse_to_overwrite, write_netcdf_groups
from weather_scnn.errors import UserError

__all__ = ["MODEL", "combine_scores", "open_scores", "score", "summary_table"]

MODEL = "model"
SUMS_GROUP = "sums"
# Fields of one variable held in float64 at a time; larger forecasts are scored some lead times at a time.
_BLOCK_BYTES = 32 * 2**20

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is scored against what, after both were brought to the same variables, levels and grid."""

    forecast: xr.Dataset
    truth: FieldsByTime
    climatology: FieldsByTime | None
    with_climatology: frozenset[str]
    names: list[str]
    systems: list[str]
    leads: np.ndarray
    weights: np.ndarray
    allow_missing: bool
    path: str

    @property
    def vectors(self) -> dict[str, tuple[str, str]]:
        """Wind vectors whose two components are both scored."""
        return {name: pair for name, pair in WIND_VECTORS.items() if set(pair) <= set(self.names)}

    def lead_blocks(self, leads: np.ndarray) -> list[np.ndarray]:
        """Positions of lead times in blocks small enough for memory."""
        largest = max(int(np.prod(self.forecast[name].shape[2:])) for name in self.names)
        size = max(1, _BLOCK_BYTES // (8 * largest))
        return [leads[start : start + size] for start in range(0, leads.size, size)]

    def score_init(self, position: int, present: np.ndarray, sums: dict[str, np.ndarray], counts: dict) -> None:
        """Fills sums[name][:, :, position] and the counts of missing values for one init time.

        Args:
            position: of the init time.
            present: positions of the lead times whose valid time is in the truth.
            sums: arrays of shape (system, moment, init_time, lead_time[, level], region).
            counts: arrays of shape (field, init_time, lead_time) by kind.
        """
        init = self.forecast["time"].values[position]
        anomalies = self.climatology is not None
        for block in self.lead_blocks(present):
            valid_times = init + self.leads[block]
            errors: dict[str, tuple[dict[str, np.ndarray], np.ndarray]] = {}
            for index, name in enumerate(self.names):
                # Float64 before any difference: float32 geopotential has steps of 1/32 m²/s².
                truth = self.truth.at(name, valid_times).astype(np.float64)
                fields = {
                    MODEL: self.forecast[name].isel(time=position, prediction_timedelta=block).values.astype(np.float64)
                }
                normal = None
                if self.climatology is not None and name in self.with_climatology:
                    normal = self.climatology.at(name, valid_times).astype(np.float64)
                if PERSISTENCE in self.systems:
                    fields[PERSISTENCE] = self.truth.at(name, np.array([init])).astype(np.float64)
                if CLIMATOLOGY in self.systems and normal is not None:
                    fields[CLIMATOLOGY] = normal
                valid = np.isfinite(truth)
                for reference in [normal, *(field for system, field in fields.items() if system != MODEL)]:
                    if reference is not None:
                        valid = valid & np.isfinite(reference)
                spatial = tuple(range(1, truth.ndim))
                counts[MISSING_TRUTH][index, position, block] = np.count_nonzero(~valid, axis=spatial)
                absent = valid & ~np.isfinite(fields[MODEL])
                missing = np.count_nonzero(absent, axis=spatial)
                if missing.any() and not self.allow_missing:
                    lead = int(self.leads[block][missing > 0][0] // np.timedelta64(1, "h"))
                    raise UserError(
                        f"{missing[missing > 0][0]} values of {name} are missing or infinite in the forecast from "
                        f"{np.datetime_as_string(init, 'h')} at {lead} h",
                        where=self.path,
                        remedy="find out why, or add --allow-missing to score the other points",
                    )
                counts[MISSING_FORECAST][index, position, block] = missing
                valid = valid & ~absent
                for number, system in enumerate(self.systems):
                    target = sums[name][number, :, position]
                    if system in fields:
                        target[:, block] = moment_sums(
                            fields[system], truth, normal, self.weights, valid, anomalies=anomalies
                        )
                    else:
                        target[:, block] = np.nan
                if any(name in pair for pair in self.vectors.values()):
                    errors[name] = ({system: field - truth for system, field in fields.items()}, valid)
            for name, (u, v) in self.vectors.items():
                both = errors[u][1] & errors[v][1]
                sums[name][:, 2:, position] = np.nan
                for number, system in enumerate(self.systems):
                    target = sums[name][number, :2, position]
                    if system in errors[u][0] and system in errors[v][0]:
                        target[:, block] = wind_vector_sums(
                            errors[u][0][system], errors[v][0][system], self.weights, both
                        )
                    else:
                        target[:, block] = np.nan


def _span(times: np.ndarray) -> str:
    return f"{np.datetime_as_string(times.min(), 'h')} to {np.datetime_as_string(times.max(), 'h')}"


def _open_climatology(path: str, forecast: xr.Dataset, levels: list[int] | None, names: list[str]) -> xr.Dataset:
    climatology = canonical(open_any(path), path)
    absent = [name for name in names if name not in climatology.data_vars]
    if len(absent) == len(names):
        raise UserError(
            f"has none of the scored variables ({', '.join(names)})",
            where=path,
            remedy="make it from the truth with `weather-scnn climatology`",
        )
    if absent:
        _log.warning("no ACC for %s: not in the climatology %s", ", ".join(absent), path)
    require_same_grid(climatology, forecast, where=path)
    if levels is not None and "level" in climatology.dims:
        lacking = sorted(set(levels) - {int(level) for level in climatology["level"].values})
        if lacking:
            raise UserError(
                f"lacks the levels {', '.join(map(str, lacking))} hPa",
                where=path,
                remedy="leave them out with --levels, or make the climatology with them",
            )
        climatology = climatology.sel(level=levels)
    return climatology


def _select_pairs(
    forecast: xr.Dataset, truth: xr.Dataset, init: str | None, *, persistence: bool, where: tuple[str, str]
) -> tuple[xr.Dataset, np.ndarray]:
    """The init times that can be scored, and which (init, lead) have truth: bool, shape (time, lead)."""
    if init is not None:
        everything = forecast["time"].values
        forecast = forecast.sel(time=parse_period(init))
        if not forecast.sizes["time"]:
            raise UserError(
                f"no forecast starts within {init}; they start {_span(everything)}",
                where=where[0],
                remedy="choose another --init",
            )
    inits, leads = forecast["time"].values, forecast["prediction_timedelta"].values
    valid = inits[:, None] + leads[None, :]
    known = truth["time"].values
    present = np.isin(valid, known)
    if not present.any():
        raise UserError(
            f"no valid time of the forecast is in the truth: forecasts are valid {_span(valid)}, "
            f"the truth covers {_span(known)}",
            where=f"{where[0]} against {where[1]}",
            remedy="give truth of the forecast's period",
        )
    keep = present.any(axis=1)
    if persistence:
        keep &= np.isin(inits, known)
        if not keep.any():
            raise UserError(
                f"persistence needs truth at init time: forecasts start {_span(inits)}, "
                f"the truth covers {_span(known)}",
                where=where[1],
                remedy="give truth that holds the init times, or leave out the baseline `persistence`",
            )
    if not keep.all():
        reason = "no truth at any lead time" + (", or none at init time" if persistence else "")
        _log.warning("%d of %d init times are left out: %s", np.count_nonzero(~keep), keep.size, reason)
    empty = ~present[keep].any(axis=0)
    if empty.any():
        hours = leads[empty].astype("timedelta64[h]").astype(int)
        _log.warning("no truth at the lead times %s h: their scores are NaN", ", ".join(map(str, hours)))
    return forecast.isel(time=np.flatnonzero(keep)), present[keep]


def score(
    forecast: str,
    truth: str,
    output: str,
    *,
    climatology: str | None = None,
    baselines: Sequence[str] = (),
    regions: Sequence[str] = ("global",),
    variables: Sequence[str] | None = None,
    levels: Sequence[int] | None = None,
    init: str | None = None,
    allow_missing: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Scores a forecast store against the truth and writes scores and their sums.

    All systems are scored on the same init times, lead times and points: where truth, climatology (if given) and
    every baseline have a value. A value missing from the forecast is an error unless `allow_missing`.

    Args:
        forecast: store of dims (time, prediction_timedelta[, level], latitude, longitude); see
            `eval.forecasts.open_forecast` for other layouts that are accepted.
        truth: dataset that holds the valid times, on the forecast's grid.
        output: the netCDF file to write: scores of dims (system, metric, lead_time[, level], region) in the root, the
            sums they come from in the group `sums`.
        climatology: store of the climatology by hour and calendar day; without it there is no ACC and no activity.
        baselines: of `persistence` and `climatology`.
        regions: keys of `eval.regions.REGIONS`.
        variables: names to score; all that forecast and truth share if None.
        levels: hPa; all shared if None.
        init: period "A:B" of init times, inclusive; all if None.
        allow_missing: whether to score the other points where the forecast has NaNs.
        overwrite: whether to replace `output`.
        progress: whether to show a bar on standard error.

    Returns:
        The scores, as in the root of the file.

    Raises:
        UserError: nothing can be paired, or grids, units, variables or levels do not fit.
    """
    refuse_to_overwrite(output, overwrite=overwrite)
    baselines = tuple(dict.fromkeys(baselines))
    require_known(baselines, climatology=climatology)
    where = (str(forecast), str(truth))
    predicted, observed = open_forecast(forecast), open_dataset(truth)
    dynamic = [str(name) for name, array in observed.data_vars.items() if "time" in array.dims]
    names = common_variables(map(str, predicted.data_vars), dynamic, variables, where=where)
    shared_levels = common_levels(predicted[names], observed[names], levels, where=where)
    if levels and shared_levels is None:
        raise UserError("has no levels", where=where[0], remedy="leave out --levels")
    require_same_grid(predicted, observed, where=where[0])
    for name in names:
        require_same_units(name, predicted[name], observed[name], where=where[0])
    if shared_levels is not None:
        predicted, observed = predicted.sel(level=shared_levels), observed.sel(level=shared_levels)
    normal = _open_climatology(climatology, predicted, shared_levels, names) if climatology is not None else None
    if normal is None:
        _log.warning("no climatology given: ACC and activity are left out")
    else:
        for name in names:
            if name in normal.data_vars:
                require_same_units(name, normal[name], observed[name], where=str(climatology))
    predicted, present = _select_pairs(predicted, observed, init, persistence=PERSISTENCE in baselines, where=where)
    job = _Job(
        forecast=predicted[names],
        truth=truth_fields(observed),
        climatology=None if normal is None else climatology_fields(normal),
        with_climatology=frozenset() if normal is None else frozenset(map(str, normal.data_vars)),
        names=names,
        systems=[MODEL, *baselines],
        leads=predicted["prediction_timedelta"].values,
        weights=region_weights(regions, observed["latitude"].values, observed["longitude"].values),
        allow_missing=allow_missing,
        path=where[0],
    )
    sums = _run(job, present, observed, list(regions), progress=progress)
    scores = scores_from_sums(sums)
    inits = predicted["time"].values
    scores.attrs.update(
        provenance(
            source=where[0],
            formula=CONVENTIONS,
            truth=where[1],
            climatology=str(climatology) if climatology is not None else "none",
            baselines=", ".join(baselines) or "none",
            init_times=int(inits.size),
            first_init_time=np.datetime_as_string(inits.min(), "h"),
            last_init_time=np.datetime_as_string(inits.max(), "h"),
            grid=f"{observed.sizes['longitude']}x{observed.sizes['latitude']}",
            regions=", ".join(regions),
            missing_in_truth=int(sums[MISSING_TRUTH].sum()),
            missing_in_forecast=int(sums[MISSING_FORECAST].sum()),
            missing_values="masked where the truth, the climatology or a baseline has none"
            + (", or the forecast" if allow_missing else "; an error in the forecast"),
            **{f"definition_{name}": DEFINITIONS[name] for name in scores["metric"].values},
        )
    )
    sums.attrs.update(scores.attrs)
    write_netcdf_groups({"/": scores, SUMS_GROUP: sums}, output, overwrite=overwrite)
    return scores


def _run(job: _Job, present: np.ndarray, truth: xr.Dataset, regions: list[str], *, progress: bool) -> xr.Dataset:
    """Sums over all init times, as the group `sums` of the file."""
    moments = BASE_MOMENTS + (ANOMALY_MOMENTS if job.climatology is not None else ())
    inits = job.forecast["time"].values
    shape = (len(job.systems), len(moments), inits.size, job.leads.size)
    vectors = job.vectors
    shapes = {name: tuple(job.forecast[name].shape[2:-2]) for name in job.names}
    shapes |= {name: shapes[u] for name, (u, _) in vectors.items()}
    sums = {name: np.zeros((*shape, *levels, len(regions))) for name, levels in shapes.items()}
    counts = {kind: np.zeros((len(job.names), *shape[2:]), np.int64) for kind in (MISSING_TRUTH, MISSING_FORECAST)}
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.MofNCompleteColumn())
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(*columns, console=console, disable=not progress) as bar:
        for position in bar.track(range(inits.size), description="scoring init times"):
            job.score_init(position, np.flatnonzero(present[position]), sums, counts)
    dims = ("system", "moment", "init_time", "lead_time")
    variables = {}
    for name, array in sums.items():
        source = truth[name] if name in truth else truth[vectors[name][0]]
        attributes = {key: source.attrs[key] for key in ("units", "long_name") if key in source.attrs}
        if name in vectors:
            attributes["long_name"] = f"wind vector of {' and '.join(vectors[name])}"
        extra = ("level",) if shapes[name] else ()
        variables[name] = xr.DataArray(array, dims=(*dims, *extra, "region"), attrs=attributes)
    for kind, count in counts.items():
        variables[kind] = xr.DataArray(count, dims=("field", "init_time", "lead_time"))
    dataset = xr.Dataset(
        variables,
        coords={
            "system": job.systems,
            "moment": list(moments),
            "init_time": inits,
            "lead_time": job.leads,
            "region": regions,
            "field": job.names,
        },
    )
    if any(shapes.values()):
        dataset = dataset.assign_coords(level=("level", truth["level"].values, {"units": "hPa"}))
    return count_init_times(dataset)


def open_scores(path: str, *, group: str = "/") -> xr.Dataset:
    """The scores of a `scores.nc`, or with group "sums" the sums they come from, in memory.

    Raises:
        UserError: the file does not exist or is not one of scores.
    """
    with open_any(path) as root:
        if not {"system", "metric", "lead_time"} <= set(root.dims):
            raise UserError("is not a file of scores", where=path, remedy="make one with `weather-scnn score`")
    try:
        with xr.open_dataset(path, group=None if group == "/" else group, decode_timedelta=True) as dataset:
            return dataset.load()
    except OSError as error:
        raise UserError(f"has no group {group!r}", where=path, remedy="make it with `weather-scnn score`") from error
