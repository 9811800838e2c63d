"""Scores of every point of the map, from sums over init times.

Shapes: s systems, l lead times, v levels, p points, c components: 1, or the 2 of a wind vector.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

MAP_MOMENTS = (
    "count",
    "error",
    "squared_error",
    "absolute_error",
    "anomaly_product",
    "forecast_anomaly_squared",
    "truth_anomaly_squared",
    "truth_anomaly",
    "seeps_count",
    "seeps",
)
#: Of a wind vector: what has a sign is summed by component.
WIND_MAP_MOMENTS = (
    "count",
    "eastward_error",
    "northward_error",
    "squared_error",
    "absolute_error",
    "anomaly_product",
    "forecast_anomaly_squared",
    "truth_anomaly_squared",
    "eastward_truth_anomaly",
    "northward_truth_anomaly",
)
MAP_DEFINITIONS = {
    "bias": "mean over init times of f - o",
    "rmse": "root of the mean over init times of (f - o)^2",
    "mse": "mean over init times of (f - o)^2",
    "mae": "mean over init times of |f - o|",
    "acc": "sum f'o' / sqrt(sum f'^2 sum o'^2) over init times, no mean removed",
    "activity": "sqrt(sum f'^2 / sum o'^2) over init times",
    "explained_variance": "1 - variance over init times of f - o / variance over init times of o'",
    "seeps": "mean over init times of the stable equitable error in probability space (Rodwell et al. 2010)",
}
MAP_METRICS = tuple(MAP_DEFINITIONS)
#: What the scores of a map leave open of the sums that they are made from, and is kept beside them.
LEFT_OPEN = (
    "count",
    "eastward_error",
    "northward_error",
    "truth_anomaly_squared",
    "truth_anomaly",
    "eastward_truth_anomaly",
    "northward_truth_anomaly",
    "seeps_count",
)
#: Moment of what is kept: `forecast_anomaly_squared` at points where the truth has no anomaly, so that there is no activity.
ALONE = "forecast_anomaly_squared_alone"
# A variance below this part of the mean square it is the difference of is rounding.
_ROUNDING = 1e-12
_NO_ANOMALY = 1e-7


def _signed(kind: str, moments: Sequence[str]) -> list[str]:
    """The moments of this kind that have a sign, one for each component."""
    return [name for name in moments if name in (kind, f"eastward_{kind}", f"northward_{kind}")]


def add_to_map_sums(
    sums: Float[np.ndarray, "s moment v p"],
    fields: Sequence[Float[np.ndarray, "c v p"] | None],
    truth: Float[np.ndarray, "c v p"],
    anomaly: Float[np.ndarray, "c v p"] | None,
) -> None:
    """Adds one valid time; points where any of the fields is missing are left out of all systems.

    A system that has nothing at a level is left out there itself.

    Args:
        sums: of one lead time, `MAP_MOMENTS` along the second axis, or `WIND_MAP_MOMENTS` of two components.
        fields: one for each system, None where a system has it not.
        truth: what happened.
        anomaly: truth minus climatology; None leaves the moments of anomalies 0.
    """
    moments = MAP_MOMENTS if len(truth) == 1 else WIND_MAP_MOMENTS
    errors = [None if field is None else field - truth for field in fields]
    valid = np.isfinite(truth).all(axis=0)
    if anomaly is not None:
        valid &= np.isfinite(anomaly).all(axis=0)
    finite = [None if error is None else np.isfinite(error).all(axis=0) for error in errors]
    for here in finite:
        if here is not None:
            valid &= here | ~here.any(axis=-1, keepdims=True)
    for target, error, here in zip(sums, errors, finite):
        if error is None or here is None:
            continue
        used = valid & here.any(axis=-1, keepdims=True)
        error = np.where(used, error, 0.0)
        size = np.abs(error[0]) if len(error) == 1 else np.hypot(*error)
        added = {"count": used, "squared_error": (error**2).sum(axis=0), "absolute_error": size}
        added |= dict(zip(_signed("error", moments), error))
        if anomaly is not None:
            observed = np.where(used, anomaly, 0.0).astype(np.float64)
            predicted = error + observed
            # Less than the rounding of a float32 anomaly is none: the climatology as a forecast has exactly none.
            predicted[np.abs(predicted) <= _NO_ANOMALY * np.abs(observed)] = 0.0
            added["anomaly_product"] = (predicted * observed).sum(axis=0)
            added["forecast_anomaly_squared"] = (predicted**2).sum(axis=0)
            added["truth_anomaly_squared"] = (observed**2).sum(axis=0)
            added |= dict(zip(_signed("truth_anomaly", moments), observed))
        for name, values in added.items():
            target[moments.index(name)] += values


def map_scores(sums: xr.DataArray) -> xr.DataArray:
    """Maps of dims (system, metric, lead_time[, level], latitude, longitude) from sums with moments for `metric`.

    Args:
        sums: with `moment`, or with `wind_moment` of a wind vector, which has neither bias nor SEEPS: they are NaN.
    """
    axis = "moment" if "moment" in sums.dims else "wind_moment"
    moments = [str(name) for name in sums[axis].values]
    part = {name: sums.sel({axis: name}, drop=True) for name in moments}
    count = part["count"].where(part["count"] > 0)
    product = part["forecast_anomaly_squared"] * part["truth_anomaly_squared"]
    square = part["truth_anomaly_squared"]
    known = square.where(square > 0)
    mse = part["squared_error"] / count
    mean_error, mean_anomaly = (
        [part[name] / count for name in _signed(kind, moments)] for kind in ("error", "truth_anomaly")
    )
    error_variance = (mse - sum(each**2 for each in mean_error)).clip(min=0.0)
    variance = square / count - sum(each**2 for each in mean_anomaly)
    none = xr.full_like(mse, np.nan)
    metrics = {
        "bias": mean_error[0] if axis == "moment" else none,
        "rmse": mse**0.5,
        "mse": mse,
        "mae": part["absolute_error"] / count,
        "acc": (part["anomaly_product"] / product.where(product > 0) ** 0.5).where(
            ~((part["forecast_anomaly_squared"] == 0) & (square > 0)), 0.0
        ),
        "activity": (part["forecast_anomaly_squared"] / known) ** 0.5,
        "explained_variance": 1.0 - error_variance / variance.where(variance > _ROUNDING * square / count),
        "seeps": part["seeps"] / part["seeps_count"].where(part["seeps_count"] > 0) if axis == "moment" else none,
    }
    maps = xr.concat([metrics[name] for name in MAP_METRICS], dim="metric").assign_coords(metric=list(MAP_METRICS))
    order = ["system", "metric", "lead_time", *(["level"] if "level" in sums.dims else []), "latitude", "longitude"]
    return maps.transpose(*order).astype(np.float32).assign_attrs(sums.attrs)


def left_open(sums: xr.DataArray) -> xr.DataArray:
    """What is to be kept of sums beside their `map_scores`, so that `restored_sums` has them all."""
    axis = "moment" if "moment" in sums.dims else "wind_moment"
    alone = sums.sel({axis: ["forecast_anomaly_squared"]}).where(sums.sel({axis: "truth_anomaly_squared"}) == 0, 0.0)
    kept = sums.sel({axis: [name for name in sums[axis].values if name in LEFT_OPEN]})
    return xr.concat([kept, alone.assign_coords({axis: [ALONE]})], axis).transpose(*sums.dims).assign_attrs(sums.attrs)


def restored_sums(kept: xr.DataArray, scores: xr.DataArray) -> xr.DataArray:
    """The sums over init times again, from what `left_open` kept and the scores of the map; whole ones as they are."""
    axis = "moment" if "moment" in kept.dims else "wind_moment"
    if ALONE not in kept[axis].values:
        return kept
    part = {str(name): kept.sel({axis: name}, drop=True) for name in kept[axis].values}
    score = {name: scores.sel(metric=name, drop=True).astype(np.float64) for name in MAP_METRICS}
    forecast = part[ALONE] + (score["activity"] ** 2 * part["truth_anomaly_squared"]).fillna(0.0)
    part["squared_error"], part["absolute_error"] = (score[name] * part["count"] for name in ("mse", "mae"))
    part["forecast_anomaly_squared"] = forecast
    part["anomaly_product"] = score["acc"] * (forecast * part["truth_anomaly_squared"]) ** 0.5
    if axis == "moment":
        part["error"], part["seeps"] = score["bias"] * part["count"], score["seeps"] * part["seeps_count"]
    moments = MAP_MOMENTS if axis == "moment" else WIND_MAP_MOMENTS
    whole = xr.concat([part[name].fillna(0.0) for name in moments], axis).assign_coords({axis: list(moments)})
    return whole.transpose(*kept.dims).assign_attrs(kept.attrs)
