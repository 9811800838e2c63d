"""Scores of every point of the map, from sums over init times.

Shapes: s systems, l lead times, v levels, p points.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from eval.chunks import Chunk, VariableGroup
from eval.scores import SCORES, pointwise_scores
from eval.scores.base import Score

_UNSIGNED = ("squared_error", "absolute_error", "anomaly_product", "forecast_anomaly_squared", "truth_anomaly_squared")
MAP_MOMENTS = ("count", "error", *_UNSIGNED, "truth_anomaly")
#: Of a wind vector: what has a sign is summed by component.
WIND_MAP_MOMENTS = (
    "count", "eastward_error", "northward_error", *_UNSIGNED, "eastward_truth_anomaly", "northward_truth_anomaly",
)  # fmt: skip
#: What the scores of a map leave open of the sums that they are made from, and is kept beside them.
LEFT_OPEN = (
    "count", "eastward_error", "northward_error", "truth_anomaly_squared", "truth_anomaly", "eastward_truth_anomaly",
    "northward_truth_anomaly",
)  # fmt: skip
#: Moment of what is kept: `forecast_anomaly_squared` at points where the truth has no anomaly, so that there is no activity.
ALONE = "forecast_anomaly_squared_alone"
_NO_ANOMALY = 1e-7


def _signed(kind: str, moments: Sequence[str]) -> list[str]:
    """The moments of this kind that have a sign, one for each component."""
    return [name for name in moments if name in (kind, f"eastward_{kind}", f"northward_{kind}")]


class MapSums:
    """Sums over initial times at every point.

    Args:
        group: the variables.
        arrays: of the work item; `maps/<field>` of shape (s, moment, map lead, v, p) is added to them.
    """

    def __init__(self, group: VariableGroup, arrays: dict[str, np.ndarray]):
        comparison = group.comparison
        self._comparison, self._arrays = comparison, arrays
        points = comparison.latitude.size * comparison.longitude.size
        for name in [*group.names, *([group.wind] if group.wind else [])] if comparison.map_leads.size else []:
            count = len(moments_of(wind=name == group.wind)[1])
            shape = (len(comparison.systems), count, comparison.map_leads.size, comparison.level_count(group.names[0]))
            arrays[f"maps/{name}"] = np.zeros((*shape, points))

    def add(self, chunk: Chunk) -> None:
        """Adds the initial time of a chunk, where its lead times are those of maps."""
        comparison = self._comparison
        wanted = np.intersect1d(chunk.leads, comparison.map_leads)
        if not wanted.size:
            return
        chunk = chunk.at(wanted)
        moments = moments_of(wind=chunk.wind)[1]
        target = self._arrays[f"maps/{chunk.name}"]
        for number, system in enumerate(comparison.systems):
            leads = wanted[chunk.group.leads_of(system, chunk.name)[wanted]]
            if not leads.size:
                continue
            at = np.searchsorted(comparison.map_leads, leads)
            for name, values in _at_points(chunk.at(leads), system).items():
                target[number, moments.index(name), at] += values


def moments_of(*, wind: bool) -> tuple[str, tuple[str, ...]]:
    """The axis of sums of maps in files, and its labels."""
    if wind:
        return "wind_moment", WIND_MAP_MOMENTS
    return "moment", (
        *MAP_MOMENTS,
        *(label for score in pointwise_scores() for label in (f"{score.name}_count", score.name)),
    )


def _at_points(chunk: Chunk, system: str) -> dict[str, np.ndarray]:
    """What one initial time adds at every point, each (l, v, p)."""
    parts, moments = chunk.components, moments_of(wind=chunk.wind)[1]
    shape = parts[0].truth.shape
    used = np.broadcast_to(~chunk.empty_levels(system)[:, None], shape)
    used = used if chunk.mask is None else used & chunk.mask
    errors = [np.where(used, part.mean(system).astype(np.float64) - part.truth, 0.0) for part in parts]
    size = np.abs(errors[0]) if len(errors) == 1 else np.hypot(*errors)
    added = {"count": used, "squared_error": np.sum(np.square(errors), axis=0), "absolute_error": size}
    added |= dict(zip(_signed("error", moments), errors))
    anomalies = [part.anomaly for part in parts if part.anomaly is not None]
    if len(anomalies) == len(parts):
        observed = [np.where(used, anomaly, 0.0).astype(np.float64) for anomaly in anomalies]
        predicted = [error + each for error, each in zip(errors, observed)]
        # Less than the rounding of a float32 anomaly is none: the climatology as a forecast has exactly none.
        predicted = [np.where(np.abs(f) <= _NO_ANOMALY * np.abs(o), 0.0, f) for f, o in zip(predicted, observed)]
        added["anomaly_product"] = np.sum(np.multiply(predicted, observed), axis=0)
        added["forecast_anomaly_squared"] = np.sum(np.square(predicted), axis=0)
        added["truth_anomaly_squared"] = np.sum(np.square(observed), axis=0)
        added |= dict(zip(_signed("truth_anomaly", moments), observed))
    for score in pointwise_scores() if not chunk.wind else []:
        if score.applies(chunk.comparison, chunk.name, ensembles=True):
            counted, values = score.counted(chunk, system)
            added |= {f"{score.name}_count": counted, score.name: values}
    return added


def map_metrics() -> list[Score]:
    """The scores that maps have."""
    return [score for score in SCORES if score.at_places]


def map_scores(sums: xr.DataArray) -> xr.DataArray:
    """Maps of dims (system, metric, lead_time[, level], latitude, longitude) from sums with moments for `metric`.

    Args:
        sums: with `moment`, or with `wind_moment` of a wind vector, which has neither bias nor SEEPS: they are NaN.
    """
    axis = "moment" if "moment" in sums.dims else "wind_moment"
    labels = [str(name) for name in sums[axis].values]
    order = ["system", "lead_time", *(["level"] if "level" in sums.dims else []), "latitude", "longitude"]
    part = dict(zip(labels, sums.transpose(axis, *order).values))
    with np.errstate(divide="ignore", invalid="ignore"):
        counts = {name: part.get(f"{name}_count", part["count"]) for name in labels}
        means = {name: part[name] / np.where(counts[name] > 0, counts[name], np.nan) for name in labels}
        for kind in ("error", "truth_anomaly"):
            if axis == "wind_moment":  # what has a sign is the length of the vector, as in sums over regions
                means[kind] = np.hypot(*(means[name] for name in _signed(kind, labels)))
        missing, found = np.full(part["count"].shape, np.nan), []
        for score in map_metrics():
            known = all(name in means for name in score.place_needs or score.needs) and not (
                score.scalars_only and axis == "wind_moment"
            )
            found.append(score.at_place(means) if known else missing)
    coordinates = {name: sums[name] for name in order if name in sums.coords}
    maps = xr.DataArray(
        np.stack(found, axis=1).astype(np.float32), dims=[order[0], "metric", *order[1:]],
        coords=coordinates | {"metric": [score.name for score in map_metrics()]}, attrs=sums.attrs,
    )  # fmt: skip
    return maps


def left_open(sums: xr.DataArray) -> xr.DataArray:
    """What is to be kept of sums beside their `map_scores`, so that `restored_sums` has them all."""
    axis = "moment" if "moment" in sums.dims else "wind_moment"
    alone = sums.sel({axis: ["forecast_anomaly_squared"]}).where(sums.sel({axis: "truth_anomaly_squared"}) == 0, 0.0)
    kept = sums.sel({axis: [name for name in sums[axis].values if name in LEFT_OPEN or str(name).endswith("_count")]})
    return xr.concat([kept, alone.assign_coords({axis: [ALONE]})], axis).transpose(*sums.dims).assign_attrs(sums.attrs)


def restored_sums(kept: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """The sums over init times again, from what `left_open` kept and the scores of the map; whole ones as they are."""
    axis = "moment" if "moment" in kept.dims else "wind_moment"
    if ALONE not in kept[axis].values:
        return kept
    part = {str(name): kept.sel({axis: name}, drop=True) for name in kept[axis].values}
    score = {str(name): scores.sel(metric=name, drop=True).astype(np.float64) for name in scores["metric"].values}
    forecast = part[ALONE] + (score["activity"] ** 2 * part["truth_anomaly_squared"]).fillna(0.0)
    part["squared_error"], part["absolute_error"] = (score[name] * part["count"] for name in ("mse", "mae"))
    part["forecast_anomaly_squared"] = forecast
    part["anomaly_product"] = score["acc"] * (forecast * part["truth_anomaly_squared"]) ** 0.5
    if axis == "moment":
        part["error"] = score["bias"] * part["count"]
        part |= {name: score[name] * part[f"{name}_count"] for name in score if f"{name}_count" in part}
    labels = [name for name in moments_of(wind=axis != "moment")[1] if name in part]
    whole = xr.concat([part[name].fillna(0.0) for name in labels], axis).assign_coords({axis: labels})
    return whole.transpose(*kept.dims).assign_attrs(kept.attrs)
