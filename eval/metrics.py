"""Scores, and the sums they are made from (definitions of WeatherBench 2, Rasp et al. 2024).

What is stored are area-weighted sums for every init time, lead time, level and region. Scores follow from them, so
the scores of a year are those of its months put together (`combine_sums`), and intervals can be resampled: sums →
statistics of each init time → their means over init times → metrics.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError

WEATHERBENCH2, WEATHERBENCH1 = "weatherbench2", "weatherbench1"
CONVENTIONS = {
    WEATHERBENCH2: "WeatherBench 2: <x> = sum(w x) / sum(w) over latitude and longitude; w = sin(upper) - sin(lower) of "
    "the cell bounds in latitude, divided by its mean; box regions slice after the weights are made",
    WEATHERBENCH1: "WeatherBench (Rasp et al. 2020): w = cos(latitude) divided by its mean; sums pooled over init times, "
    "latitude and longitude; anomalies from the time mean of the truth of the years scored, less their unweighted mean",
}

BASE_MOMENTS = ("weight", "squared_error", "absolute_error", "error")
ANOMALY_MOMENTS = (
    "forecast_anomaly",
    "truth_anomaly",
    "forecast_anomaly_squared",
    "truth_anomaly_squared",
    "anomaly_product",
)
# WeatherBench 1 takes the unweighted mean from the anomalies.
POOLED_MOMENTS = ("count", "forecast_anomaly_unweighted", "truth_anomaly_unweighted")
SEEPS_MOMENTS = ("seeps_weight", "seeps")
BRIER_QUANTILES = (0.1, 0.33, 0.67, 0.9)
ENSEMBLE_MOMENTS = ("crps", "crps_fair", "variance", "energy_score", *(f"brier_{q:g}" for q in BRIER_QUANTILES))

BASE_METRICS = ("rmse", "mse", "mae", "bias")
ANOMALY_METRICS = ("acc", "activity", "explained_variance")
ENSEMBLE_METRICS = ("crps", "crps_fair", "spread", "ensemble_mean_rmse", "spread_skill_ratio", "energy_score")
BRIER_METRICS = tuple(f"brier_{q:g}" for q in BRIER_QUANTILES)

# The error of the wind as a vector needs both components at the same point.
WIND_VECTORS = {
    "wind_vector": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_vector": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
}

#: Coordinate of sums: how many members the ensemble of a system has, of dims (system, init_time); 1 for single forecasts.
MEMBERS = "members"
MISSING_TRUTH, MISSING_FORECAST = "missing_truth", "missing_forecast"

DEFINITIONS = {
    "rmse": "square root, taken last, of the mean over init times of <(f - o)^2>",
    "mse": "mean over init times of <(f - o)^2>; for a wind vector of <du^2 + dv^2>",
    "mae": "mean over init times of <|f - o|>; for a wind vector of <sqrt(du^2 + dv^2)>",
    "bias": "mean over init times of <f - o>: forecast minus truth; for winds see the components",
    "acc": "mean over init times of <f'o'> / sqrt(<f'^2><o'^2>), anomalies from the climatology at valid time, "
    "no mean removed; for a wind vector <u'u' + v'v'> over both components; 0 where the forecast is the climatology itself",
    "activity": "square root of the ratio of the mean variances over the region of f' and of o', each about its "
    "regional mean; the variance of a wind vector is the sum of those of its components",
    "explained_variance": "1 - mean variance over the region of f - o / mean variance over the region of o'",
    "seeps": "mean over init times of the stable equitable error in probability space (Rodwell et al. 2010)",
    "crps": "mean over init times of <E|X - o| - E|X - X'| / 2>, all M^2 pairs of members; MAE of a single forecast",
    "crps_fair": "as crps, with the M (M - 1) pairs of different members",
    "spread": "square root of the mean over init times of <ensemble variance>, over M - 1",
    "ensemble_mean_rmse": "rmse of the mean of the members",
    "spread_skill_ratio": "square root of the mean over init times of <ensemble variance> (M + 1) / M, over ensemble_mean_rmse: "
    "1 for a reliable ensemble of any number M of members (Fortin et al. 2014)",
    "energy_score": "mean over init times of E||X - o|| - E||X - X'|| / 2, ||x|| = sqrt(<x^2>) over the region, M (M - 1) "
    "pairs",
    **{
        f"brier_{q:g}": f"mean over init times of <(share of members above the climatological {q:g} quantile - 1 if the "
        "truth is above, else 0)^2>"
        for q in BRIER_QUANTILES
    },
}


def fields_of(sums: xr.Dataset) -> list[str]:
    """Names of the scored fields of a dataset of sums, which also holds counts."""
    return [str(name) for name, array in sums.data_vars.items() if "moment" in array.dims]


def ensemble_sums_name(field: str) -> str:
    """The variable of sums that holds a field's `ENSEMBLE_MOMENTS`."""
    return f"{field}_ensemble"


def seeps_sums_name(field: str) -> str:
    """The variable of sums that holds a field's `SEEPS_MOMENTS`."""
    return f"{field}_seeps"


def convention_of(sums: xr.Dataset) -> str:
    """The convention that the sums were made for."""
    return str(sums.attrs.get("convention", WEATHERBENCH2))


def metrics_in(sums: xr.Dataset) -> tuple[str, ...]:
    """Metrics that follow from these sums, in the order of the file."""
    anomalies = ANOMALY_MOMENTS[0] in sums["moment"].values
    ensembles = [name for name, array in sums.data_vars.items() if "ensemble_moment" in array.dims]
    seeps = any("seeps_moment" in array.dims for array in sums.data_vars.values())
    found = BASE_METRICS + (ANOMALY_METRICS if anomalies else ()) + (("seeps",) if seeps else ())
    if ensembles:
        found += ENSEMBLE_METRICS
        if any(sums[name].sel(ensemble_moment=list(BRIER_METRICS)).notnull().any() for name in ensembles):
            found += BRIER_METRICS
    return found


def _ordered(array: xr.DataArray) -> np.ndarray:
    """Shape (init_time, system, lead_time[, level], region)."""
    dims = ["init_time", "system", "lead_time", *(["level"] if "level" in array.dims else []), "region"]
    return array.transpose(*dims).values


def field_statistics(sums: xr.Dataset, field: str) -> dict[str, np.ndarray]:
    """What is averaged over init times to make a field's scores.

    Returns:
        Arrays of shape (init_time, system, lead_time[, level], region), NaN where an init time does not count. In the
        convention of WeatherBench 2 these are area means and ACC; in that of WeatherBench 1 the sums themselves.
    """
    array = sums[field]
    moments = {str(name): _ordered(array.sel(moment=name)) for name in sums["moment"].values}
    if convention_of(sums) == WEATHERBENCH1:
        return moments
    weight = np.where(moments["weight"] > 0, moments["weight"], np.nan)
    means = {name: values / weight for name, values in moments.items() if name != "weight"}
    statistics = {name: means[name] for name in BASE_MOMENTS[1:]}
    if ANOMALY_MOMENTS[0] in moments:
        product, f, o = (means[name] for name in ("anomaly_product", "forecast_anomaly", "truth_anomaly"))
        f_square, o_square = means["forecast_anomaly_squared"], means["truth_anomaly_squared"]
        with np.errstate(divide="ignore", invalid="ignore"):
            acc = np.where(f_square * o_square > 0, product / np.sqrt(f_square * o_square), np.nan)
        # A forecast of no anomaly has no pattern to correlate: 0 by convention, as WeatherBench lists climatology.
        acc = np.where((f_square == 0) & (o_square > 0), 0.0, acc)
        statistics["acc"] = acc
        statistics["forecast_variance"] = np.maximum(f_square - f**2, 0.0)
        statistics["truth_variance"] = np.maximum(o_square - o**2, 0.0)
        statistics["error_variance"] = np.maximum(means["squared_error"] - means["error"] ** 2, 0.0)
    if field in WIND_VECTORS:
        # The sums hold the length of the mean error, which has no sign: the bias is that of each component.
        statistics["error"] = np.full_like(statistics["error"], np.nan)
    if seeps_sums_name(field) in sums:
        parts = {name: _ordered(sums[seeps_sums_name(field)].sel(seeps_moment=name)) for name in SEEPS_MOMENTS}
        with np.errstate(divide="ignore", invalid="ignore"):
            statistics["seeps"] = np.where(parts["seeps_weight"] > 0, parts["seeps"] / parts["seeps_weight"], np.nan)
    if ensemble_sums_name(field) in sums:
        array = sums[ensemble_sums_name(field)]
        for name in ENSEMBLE_MOMENTS:
            statistics[name] = _ordered(array.sel(ensemble_moment=name)) / weight
        statistics["expected_squared_error"] = statistics["variance"] * _for_members(sums, statistics["variance"].ndim)
    return statistics


def _for_members(sums: xr.Dataset, dimensions: int) -> np.ndarray:
    """What the variance of M members is multiplied by to expect the squared error of their mean: (M + 1) / M.

    Where truth and members are alike, the truth departs from the mean of all by the variance, and the mean of M from it
    by one M-th of that (Fortin et al. 2014, eq. 15). Of sums that do not tell M it is NaN.
    """
    if MEMBERS not in sums.coords:
        return np.full((1,) * dimensions, np.nan)
    members = sums[MEMBERS].transpose("init_time", "system").values
    return ((members + 1) / members).reshape(*members.shape, *(1,) * (dimensions - 2))


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
        if convention == WEATHERBENCH1:
            return _pooled_metrics(means)
        mse = means["squared_error"]
        metrics = {"rmse": np.sqrt(mse), "mse": mse, "mae": means["absolute_error"], "bias": means["error"]}
        if "acc" in means:
            truth_variance = np.where(means["truth_variance"] > 0, means["truth_variance"], np.nan)
            metrics["acc"] = means["acc"]
            metrics["activity"] = np.sqrt(means["forecast_variance"] / truth_variance)
            metrics["explained_variance"] = 1.0 - means["error_variance"] / truth_variance
        if "seeps" in means:
            metrics["seeps"] = means["seeps"]
        if "crps" in means:
            metrics |= {name: means[name] for name in ("crps", "crps_fair", "energy_score", *BRIER_METRICS)}
            spread = np.sqrt(means["variance"])
            rmse = np.where(np.isfinite(spread), metrics["rmse"], np.nan)
            metrics |= {"spread": spread, "ensemble_mean_rmse": rmse}
            metrics["spread_skill_ratio"] = np.sqrt(means["expected_squared_error"]) / np.where(rmse > 0, rmse, np.nan)
        return metrics


def _pooled_metrics(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of WeatherBench 1 (`score.py` of its repository): sums over space and time together."""
    weight = np.where(sums["weight"] > 0, sums["weight"], np.nan)
    mse, bias = sums["squared_error"] / weight, sums["error"] / weight
    metrics = {"rmse": np.sqrt(mse), "mse": mse, "mae": sums["absolute_error"] / weight, "bias": bias}
    if "forecast_anomaly" in sums:
        f, o = sums["forecast_anomaly"] / weight, sums["truth_anomaly"] / weight
        count = np.where(sums["count"] > 0, sums["count"], np.nan)
        f_mean, o_mean = (sums[f"{which}_anomaly_unweighted"] / count for which in ("forecast", "truth"))
        product = sums["anomaly_product"] / weight - o_mean * f - f_mean * o + f_mean * o_mean
        f_square = sums["forecast_anomaly_squared"] / weight - 2 * f_mean * f + f_mean**2
        o_square = sums["truth_anomaly_squared"] / weight - 2 * o_mean * o + o_mean**2
        scale = f_square * o_square
        metrics["acc"] = np.where(scale > 0, product / np.sqrt(scale), np.where(o_square > 0, 0.0, np.nan))
        metrics["acc"] = np.where(np.isfinite(product), metrics["acc"], np.nan)
        metrics["activity"] = np.sqrt(np.maximum(f_square, 0.0) / o_square)
        metrics["explained_variance"] = 1.0 - (mse - bias**2) / o_square
    return metrics


def labelled(
    metrics: Mapping[str, np.ndarray], sums: xr.Dataset, field: str, names: Sequence[str], leading: Sequence[str] = ()
) -> xr.DataArray:
    """Metrics as one array of dims (*leading, system, metric, lead_time[, level], region), NaN where one is absent.

    Args:
        metrics: arrays of shape (*leading, system, lead_time[, level], region).
        sums: for the coordinates.
        field: whose metrics these are.
        names: metrics of the file, in order.
        leading: names of further dimensions in front.
    """
    first = next(iter(metrics.values()))
    missing = np.full(first.shape, np.nan)
    stacked = np.stack([metrics.get(name, missing) for name in names], axis=len(leading) + 1)
    level = ["level"] if "level" in sums[field].dims else []
    dims = [*leading, "system", "metric", "lead_time", *level, "region"]
    coordinates = {name: sums[name] for name in ("system", "lead_time", *level, "region")}
    return xr.DataArray(stacked, dims=dims, coords={**coordinates, "metric": list(names)}, attrs=sums[field].attrs)


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
    scored["metric"].attrs.update({name: DEFINITIONS[name] for name in names})
    return scored


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
    return count_init_times(joined)


def combine_scores(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Scores over the init times of all parts; each part is the group `sums` of a `scores.nc`."""
    return scores_from_sums(combine_sums(parts))
