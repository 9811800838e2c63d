"""Scores, and the sums they are made from (definitions of WeatherBench 2, Rasp et al. 2024).

What is stored are area-weighted sums for every init time, lead time, level and region. Scores follow from them, so
the scores of a year are those of its months put together (`combine_sums`), and intervals can be resampled.
Shapes: y latitude, x longitude, r region, … any further dimensions.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from weather_scnn.errors import UserError

BASE_MOMENTS = ("weight", "squared_error", "absolute_error", "error")
ANOMALY_MOMENTS = (
    "forecast_anomaly",
    "truth_anomaly",
    "forecast_anomaly_squared",
    "truth_anomaly_squared",
    "anomaly_product",
)
BASE_METRICS = ("rmse", "mse", "mae", "bias")
ANOMALY_METRICS = ("acc", "activity")

# The error of the wind as a vector needs both components at the same point.
WIND_VECTORS = {
    "wind_vector": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_vector": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
}

MISSING_TRUTH, MISSING_FORECAST = "missing_truth", "missing_forecast"

DEFINITIONS = {
    "rmse": "square root, taken last, of the mean over init times of <(f - o)^2>",
    "mse": "mean over init times of <(f - o)^2>; for a wind vector of <du^2 + dv^2>",
    "mae": "mean over init times of <|f - o|>",
    "bias": "mean over init times of <f - o>: forecast minus truth",
    "acc": "mean over init times of <f'o'> / sqrt(<f'^2><o'^2>), anomalies from the climatology at valid time, "
    "no mean removed; 0 where the forecast is the climatology itself",
    "activity": "square root of the ratio of the mean variances over the region of f' and of o', each about its "
    "regional mean",
}
CONVENTIONS = (
    "WeatherBench 2: <x> = sum(w x) / sum(w) over latitude and longitude; w = sin(upper) - sin(lower) of the cell "
    "bounds in latitude, divided by its mean; box regions slice after the weights are made"
)


def weighted_sums(values: Float[np.ndarray, "... y x"], weights: Float[np.ndarray, "r y x"]) -> np.ndarray:
    """Σ w·values over latitude and longitude in float64; shape (…, r)."""
    points = values.shape[-2] * values.shape[-1]
    flat = np.asarray(values, np.float64).reshape(-1, points)
    return (flat @ weights.reshape(-1, points).T).reshape(*values.shape[:-2], weights.shape[0])


def moment_sums(
    forecast: Float[np.ndarray, "... y x"],
    truth: Float[np.ndarray, "... y x"],
    climatology: Float[np.ndarray, "... y x"] | None,
    weights: Float[np.ndarray, "r y x"],
    valid: Bool[np.ndarray, "... y x"],
    *,
    anomalies: bool,
) -> Float[np.ndarray, "moment ... r"]:
    """Area-weighted sums over the valid points.

    Args:
        forecast: may broadcast against `truth`, as persistence does along lead time.
        truth: what happened.
        climatology: at valid time; None if it has not this variable, which makes the anomaly sums NaN.
        weights: cell-area weights of each region, see `eval.regions.region_weights`.
        valid: points to use; the values elsewhere may be NaN.
        anomalies: whether `ANOMALY_MOMENTS` follow `BASE_MOMENTS` in the result.
    """
    # Masked before the arithmetic, so that no NaN enters a product with a zero weight.
    reference = np.where(valid, truth, 0.0)
    predicted = np.where(valid, forecast, 0.0).astype(np.float64, copy=False)
    error = predicted - reference
    parts = [valid, error * error, np.abs(error), error]
    if anomalies and climatology is not None:
        normal = np.where(valid, climatology, 0.0).astype(np.float64, copy=False)
        predicted, reference = predicted - normal, reference - normal
        parts += [predicted, reference, predicted * predicted, reference * reference, predicted * reference]
    sums = [weighted_sums(part, weights) for part in parts]
    if anomalies and climatology is None:
        sums += [np.full_like(sums[0], np.nan)] * len(ANOMALY_MOMENTS)
    return np.stack(sums)


def wind_vector_sums(
    error_u: Float[np.ndarray, "... y x"],
    error_v: Float[np.ndarray, "... y x"],
    weights: Float[np.ndarray, "r y x"],
    valid: Bool[np.ndarray, "... y x"],
) -> Float[np.ndarray, "moment ... r"]:
    """The sums of weight and of Δu² + Δv², shape (2, …, r); both components must be valid at a point."""
    squared = np.where(valid, error_u, 0.0).astype(np.float64) ** 2 + np.where(valid, error_v, 0.0) ** 2
    return np.stack([weighted_sums(valid, weights), weighted_sums(squared, weights)])


def fields_of(sums: xr.Dataset) -> list[str]:
    """Names of the scored fields of a dataset of sums, which also holds counts."""
    return [str(name) for name, array in sums.data_vars.items() if "moment" in array.dims]


def _anomaly_scores(means: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """ACC and activity from area-weighted means for every init time."""
    forecast_square, truth_square = means["forecast_anomaly_squared"], means["truth_anomaly_squared"]
    scale = (forecast_square * truth_square) ** 0.5
    acc = means["anomaly_product"] / scale.where(scale > 0)
    # A forecast of no anomaly has no pattern to correlate: 0 by convention, as WeatherBench lists climatology.
    acc = acc.where(~((forecast_square == 0) & (truth_square > 0)), 0.0)
    variances = [
        (means[f"{which}_anomaly_squared"] - means[f"{which}_anomaly"] ** 2).clip(min=0.0).mean("init_time")
        for which in ("forecast", "truth")
    ]
    return {
        "acc": acc.mean("init_time"),
        "activity": (variances[0] / variances[1].where(variances[1] > 0)) ** 0.5,
    }


def scores_from_sums(sums: xr.Dataset) -> xr.Dataset:
    """Scores of dims (system, metric, lead_time[, level], region) from sums over init times.

    An init time counts at a lead time where at least one point was valid, and each that counts weighs the same.

    Args:
        sums: fields of dims (system, moment, init_time, lead_time[, level], region).
    """
    names = [str(name) for name in sums["moment"].values]
    anomalies = ANOMALY_MOMENTS[0] in names
    metrics = BASE_METRICS + (ANOMALY_METRICS if anomalies else ())
    result = {}
    for field in fields_of(sums):
        array = sums[field]
        weight = array.sel(moment="weight", drop=True)
        means = {name: array.sel(moment=name, drop=True) / weight.where(weight > 0) for name in names[1:]}
        mse = means["squared_error"].mean("init_time")
        scores: dict[str, xr.DataArray] = {
            "rmse": mse**0.5,
            "mse": mse,
            "mae": means["absolute_error"].mean("init_time"),
            "bias": means["error"].mean("init_time"),
        }
        if anomalies:
            scores |= _anomaly_scores(means)
        stacked = xr.concat([scores[metric] for metric in metrics], dim="metric")
        order = [name for name in ("system", "metric", "lead_time", "level", "region") if name in stacked.dims]
        result[field] = stacked.assign_coords(metric=list(metrics)).transpose(*order).assign_attrs(array.attrs)
    scored = xr.Dataset(result)
    scored["metric"].attrs.update({name: DEFINITIONS[name] for name in metrics})
    return scored


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
        UserError: the parts differ in fields, systems, moments, lead times, levels or regions, or share init times.
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
    joined = xr.concat(
        [part.drop_vars("init_count", errors="ignore") for part in parts],
        dim="init_time",
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
    return count_init_times(joined)


def combine_scores(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Scores over the init times of all parts; each part is the group `sums` of a `scores.nc`."""
    return scores_from_sums(combine_sums(parts))
