"""Scores of every point of the map, from sums over init times.

Shapes: s systems, l lead times, v levels, p points.
"""

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
# A variance below this part of the mean square it is the difference of is rounding.
_ROUNDING = 1e-12
_NO_ANOMALY = 1e-7


def add_to_map_sums(
    sums: Float[np.ndarray, "s moment v p"],
    fields: list[np.ndarray | None],
    truth: Float[np.ndarray, "v p"],
    anomaly: Float[np.ndarray, "v p"] | None,
) -> None:
    """Adds one valid time; points where any of the fields is missing are left out of all systems.

    A system that has nothing at a level is left out there itself.

    Args:
        sums: of one lead time, `MAP_MOMENTS` along the second axis.
        fields: one of shape (level, point) for each system, None where a system has it not.
        truth: what happened.
        anomaly: truth minus climatology; None leaves the moments of anomalies 0.
    """
    errors = [None if field is None else field - truth for field in fields]
    valid = np.isfinite(truth)
    if anomaly is not None:
        valid &= np.isfinite(anomaly)
    for error in errors:
        if error is not None:
            here = np.isfinite(error)
            valid &= here | ~here.any(axis=-1, keepdims=True)
    for target, error in zip(sums, errors):
        if error is None:
            continue
        used = valid & np.isfinite(error).any(axis=-1, keepdims=True)
        error = np.where(used, error, 0.0)
        target[0] += used
        target[1] += error
        target[2] += error**2
        target[3] += np.abs(error)
        if anomaly is not None:
            observed = np.where(used, anomaly, 0.0)
            predicted = error + observed
            # Less than the rounding of a float32 anomaly is none: the climatology as a forecast has exactly none.
            predicted[np.abs(predicted) <= _NO_ANOMALY * np.abs(observed)] = 0.0
            target[4] += predicted * observed
            target[5] += predicted**2
            target[6] += observed**2
            target[7] += observed


def map_scores(sums: xr.DataArray) -> xr.DataArray:
    """Maps of dims (system, metric, lead_time[, level], latitude, longitude) from sums with `moment` for `metric`."""
    part = {str(name): sums.sel(moment=name, drop=True) for name in sums["moment"].values}
    count = part["count"].where(part["count"] > 0)
    product = part["forecast_anomaly_squared"] * part["truth_anomaly_squared"]
    square = part["truth_anomaly_squared"]
    known = square.where(square > 0)
    mse = part["squared_error"] / count
    error_variance = (mse - (part["error"] / count) ** 2).clip(min=0.0)
    variance = square / count - (part["truth_anomaly"] / count) ** 2
    metrics = {
        "bias": part["error"] / count,
        "rmse": mse**0.5,
        "mse": mse,
        "mae": part["absolute_error"] / count,
        "acc": (part["anomaly_product"] / product.where(product > 0) ** 0.5).where(
            ~((part["forecast_anomaly_squared"] == 0) & (square > 0)), 0.0
        ),
        "activity": (part["forecast_anomaly_squared"] / known) ** 0.5,
        "explained_variance": 1.0 - error_variance / variance.where(variance > _ROUNDING * square / count),
        "seeps": part["seeps"] / part["seeps_count"].where(part["seeps_count"] > 0),
    }
    maps = xr.concat([metrics[name] for name in MAP_METRICS], dim="metric").assign_coords(metric=list(MAP_METRICS))
    order = ["system", "metric", "lead_time", *(["level"] if "level" in sums.dims else []), "latitude", "longitude"]
    return maps.transpose(*order).astype(np.float32).assign_attrs(sums.attrs)
