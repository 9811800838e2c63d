"""From sums to scores (definitions of WeatherBench 2, Rasp et al. 2024).

What is stored are area-weighted sums for every init time, lead time, level and region. Scores follow from them, so
the scores of a year are those of its months put together (`combine_sums`), and intervals can be resampled: sums →
statistics of each init time → their means over init times → metrics. The formulas are those of `eval.scores`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from eval.baselines import BASELINES
from eval.conventions import MEMBERS, WEATHERBENCH1, WEATHERBENCH2, WIND_VECTORS
from eval.scores import DEGREE_SUMS, ERROR_SUMS, all_scores, all_sums, scores_from
from weather_scnn.errors import UserError


def fields_of(sums: xr.Dataset) -> list[str]:
    """Names of the scored fields of a dataset of sums, which also holds counts."""
    return [str(name) for name, array in sums.data_vars.items() if "moment" in array.dims]


def convention_of(sums: xr.Dataset) -> str:
    """The convention that the sums were made for."""
    return str(sums.attrs.get("convention", WEATHERBENCH2))


def metrics_in(sums: xr.Dataset) -> tuple[str, ...]:
    """Metrics that follow from these sums, in the order of the file."""
    known, empty = {"members", *(str(name) for name in sums["system"].values if name in BASELINES)}, set()
    for each in all_sums():
        arrays = [array for array in sums.data_vars.values() if each.axis in array.dims]
        labels = {str(label) for label in sums[each.axis].values} if arrays else set()
        known |= labels
        rare = {need for score in all_scores(labels) if score.known_only for need in score.needs if need in labels}
        empty |= {need for need in rare if not any(array.sel({each.axis: need}).notnull().any() for array in arrays)}
    return tuple(score.name for score in scores_from(known) if not (score.known_only and empty & set(score.needs)))


def _ordered(array: xr.DataArray) -> np.ndarray:
    """Shape (init_time, system, lead_time[, level], region), or degree."""
    along = "degree" if "degree" in array.dims else "region"
    dims = ["init_time", "system", "lead_time", *(["level"] if "level" in array.dims else []), along]
    return array.transpose(*dims).values


def field_statistics(sums: xr.Dataset, field: str) -> dict[str, np.ndarray]:
    """What is averaged over init times to make a field's scores.

    Returns:
        Arrays of shape (init_time, system, lead_time[, level], region), NaN where an init time does not count. In the
        convention of WeatherBench 2 these are the `statistics` of scores; in that of WeatherBench 1 the sums themselves.
    """
    means: dict[str, np.ndarray] = {}
    weight: np.ndarray | float = 1.0  # of what is no sum over a region
    for each in all_sums():
        if each.variable(field) not in sums:
            continue
        array = sums[each.variable(field)]
        parts = {str(name): _ordered(array.sel({each.axis: name})) for name in array[each.axis].values}
        if convention_of(sums) == WEATHERBENCH1 and each is ERROR_SUMS:
            return parts
        own = weight if each.weight is None else np.where(parts[each.weight] > 0, parts[each.weight], np.nan)
        weight = own if each is ERROR_SUMS else weight
        with np.errstate(invalid="ignore"):
            means |= {name: values / own for name, values in parts.items()}
    further = (1,) * (next(iter(means.values())).ndim - 2)
    # Of sums that do not tell the number of members it is not known.
    members = (
        sums[MEMBERS].transpose("init_time", "system").values if MEMBERS in sums.coords else np.full((1, 1), np.nan)
    )
    means["members"] = members.reshape(*members.shape, *further)
    systems = sums["system"].values
    means |= {name: (systems == name).reshape(1, -1, *further) for name in BASELINES if name in systems}
    statistics: dict[str, np.ndarray] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for score in scores_from(means):
            found = score.statistics(means)
            if score.scalars_only and field in WIND_VECTORS:
                found = {name: np.full_like(values, np.nan) for name, values in found.items()}
            statistics |= found
    return statistics


def mean_over_init_times(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means over the first axis of those init times that count, each weighing the same; NaN where there is none."""
    means = {}
    for name, values in statistics.items():
        counts = np.isfinite(values)
        total = np.where(counts, values, 0.0).sum(axis=0)
        count = counts.sum(axis=0)
        means[name] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def metrics_from_means(means: Mapping[str, np.ndarray], convention: str = WEATHERBENCH2) -> dict[str, np.ndarray]:
    """Metrics from means of `field_statistics` over init times, or over a resample of them; any shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if convention != WEATHERBENCH1:
            return {score.name: score.value(means) for score in scores_from(means, averages=True)}
        # Sums over space and init times together, per weight of them (`score.py` of WeatherBench 1).
        weight = np.where(means["weight"] > 0, means["weight"], np.nan)
        count = np.where(means["count"] > 0, means["count"], np.nan) if "count" in means else weight
        pooled = {name: sums / (count if name.endswith("unweighted") else weight) for name, sums in means.items()}
        return {score.name: score.pooled(pooled) for score in scores_from(pooled)}


def labelled(
    metrics: Mapping[str, np.ndarray], sums: xr.Dataset, field: str, names: Sequence[str], leading: Sequence[str] = ()
) -> xr.DataArray:
    """Metrics as one array of dims (*leading, system, metric, lead_time[, level], region), NaN where one is absent.

    Args:
        metrics: arrays of shape (*leading, system, lead_time[, level], region or degree).
        sums: for the coordinates.
        field: whose metrics these are.
        names: metrics of the file, in order.
        leading: names of further dimensions in front.
    """
    first = next(iter(metrics.values()))
    missing = np.full(first.shape, np.nan)
    stacked = np.stack([metrics.get(name, missing) for name in names], axis=len(leading) + 1)
    array = sums[field] if field in sums else sums[DEGREE_SUMS.variable(field)]
    rest = [dim for dim in ("lead_time", "level", "region", "degree") if dim in array.dims]
    coordinates = {name: sums[name] for name in ("system", *rest)}
    dims = [*leading, "system", "metric", *rest]
    return xr.DataArray(stacked, dims=dims, coords={**coordinates, "metric": list(names)}, attrs=array.attrs)


def scores_from_sums(sums: xr.Dataset) -> xr.Dataset:
    """Scores of dims (system, metric, lead_time[, level], region) from sums over init times.

    An init time counts at a lead time where at least one point was valid, and each that counts weighs the same; in
    the convention of WeatherBench 1 each point does.

    Args:
        sums: fields of dims (system, moment, init_time, lead_time[, level], region).
    """
    names, convention = metrics_in(sums), convention_of(sums)
    result = {}
    for field in fields_of(sums):
        means = mean_over_init_times(field_statistics(sums, field))
        result[field] = labelled(metrics_from_means(means, convention), sums, field, names)
    scored = xr.Dataset(result)
    scored["metric"].attrs.update(definitions(names))
    return scored


def definitions(names: Sequence[str]) -> dict[str, str]:
    """The definitions of these metrics."""
    return {score.name: score.definition for score in all_scores(names) if score.name in names}


def scores_by_init_time(sums: xr.Dataset) -> xr.Dataset:
    """As `scores_from_sums`, of every init time by itself: dims (init_time, system, metric, lead_time[, level], region)."""
    names, convention = metrics_in(sums), convention_of(sums)
    result = {}
    for field in fields_of(sums):
        metrics = metrics_from_means(field_statistics(sums, field), convention)
        result[field] = labelled(metrics, sums, field, names, leading=["init_time"])
    return xr.Dataset(result).assign_coords(init_time=sums["init_time"])


def count_init_times(sums: xr.Dataset) -> xr.Dataset:
    """`sums` with `init_count` (lead_time): how many init times have truth at each lead time."""
    counted = []
    for field in fields_of(sums):
        weight = sums[field].sel(moment="weight", drop=True) > 0
        counted.append(weight.any([name for name in weight.dims if name not in ("init_time", "lead_time")]))
    present = xr.concat(counted, dim="field_").any("field_")
    count = present.sum("init_time").astype(np.int64)
    return sums.assign(init_count=count.assign_attrs(long_name="init times with truth at this lead time"))


def combine_sums(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Sums of several scoring runs, such as the months of a year, as one.

    Args:
        parts: datasets of sums over different init times, equal in everything else.

    Raises:
        UserError: the parts differ in fields, systems, moments, lead times, levels, regions or convention, or share
            init times.
    """
    if not parts:
        raise UserError("no scores were given", remedy="give at least one scores.nc")
    first = parts[0]
    for number, part in enumerate(parts[1:], start=2):
        if set(fields_of(part)) != set(fields_of(first)):
            raise UserError(
                f"part {number} holds other variables than the first: "
                + ", ".join(sorted(set(fields_of(part)) ^ set(fields_of(first)))),
                remedy="score every part with the same --variables",
            )
        for name in ("system", "moment", "lead_time", "level", "region", "field"):
            same = (name in part.coords) == (name in first.coords) and (
                name not in first.coords or np.array_equal(part[name].values, first[name].values)
            )
            if not same:
                raise UserError(
                    f"part {number} differs from the first in `{name}`",
                    remedy="score every part with the same systems, lead times, levels and regions",
                )
        if convention_of(part) != convention_of(first):
            raise UserError(f"part {number} has another convention than the first", remedy="use one --convention")
    joined = xr.concat(
        [part.drop_vars("init_count", errors="ignore") for part in parts],
        dim="init_time",
        data_vars="minimal",
        join="override",
        combine_attrs="override",
    ).sortby("init_time")
    times = joined["init_time"].values
    repeated = times[1:][times[1:] == times[:-1]]
    if repeated.size:
        raise UserError(
            f"the init time {np.datetime_as_string(repeated[0], 'h')} is in more than one part",
            remedy="give parts with different init times",
        )
    return count_init_times(joined) if fields_of(joined) else joined


def combine_scores(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Scores over the init times of all parts; each part is the group `sums` of a `scores.nc`."""
    return scores_from_sums(combine_sums(parts))
