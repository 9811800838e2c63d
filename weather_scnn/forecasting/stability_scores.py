"""Numbers that say how well a long rollout keeps to the climate."""

import numpy as np
import xarray as xr
from jaxtyping import Float

from weather_scnn.forecasting.stability_file import TRUTH
from weather_scnn.forecasting.stability_truth import DAY, YEAR, season, whole_years
from weather_scnn.sphere.grid import latitude_weights

_YEAR_DAYS = float(YEAR / DAY)
# Share of the largest power below which a degree holds nothing but rounding, and of the variance of daily means below which
# there is no seasonal cycle to compare.
NOTHING, _NO_SEASON = 1e-9, 0.1


def stability_scores(stability: xr.Dataset) -> xr.Dataset:
    """Scores of every system and initial time in a file of `stability`, against the truth in it.

    Args:
        stability: as `stability` writes it, see docs/stability.md.

    Returns:
        Without the truth as a system:

        - `drift` (system, init, field): mean over the globe of the last year less the truth's, in yearly standard
          deviations of the truth's daily mean; of rollouts under a year the last fifth, against the truth's same season.
        - `time_mean_error` (system, init, field): RMSE of the time mean over the field's standard deviation, that of space
          and time which the training has; `truth_time_mean_error` (field) is that of one year of the truth.
        - `small_scale_power` (system, init, spectrum_lead, spectrum_field): power of the smallest fifth of the degrees in
          which the truth has any, over the truth's.
        - `seasonal_amplitude_ratio`, `seasonal_phase_days` (system, init, region, field): of the annual harmonic of daily
          means over the globe and its halves, against the truth's; positive is late. NaN under a year, and where the
          harmonic is less than a tenth of the truth's variance; `truth_seasonal_share` (region, field) is that share.
        - `finite_steps`, `steps` (system, init) and `steps_per_second` (system).

        Drift and error of a rollout that ended are infinite.
    """
    truth = stability.sel(system=TRUTH)
    runs = stability.sel(system=[name for name in stability["system"].values if name != TRUTH])
    steps = xr.full_like(runs["finite_steps"], int(stability.sizes["day"] * stability.attrs["steps_per_day"]))
    ended = runs["finite_steps"] < steps
    return xr.Dataset(
        {
            "drift": _drift(stability, runs).where(~ended, np.inf),
            "time_mean_error": _time_mean_error(runs["time_mean"] - truth["time_mean"], stability).where(
                ~ended, np.inf
            ),
            "truth_time_mean_error": _time_mean_error(stability["truth_time_mean_spread"], stability),
            "small_scale_power": small_scale_power(runs["spectrum"], truth["spectrum"]),
            **_seasons(stability, runs),
            "finite_steps": runs["finite_steps"],
            "ended_by": runs["ended_by"],
            "steps": steps,
            "steps_per_second": runs["steps_per_second"],
        },
        attrs=dict(stability.attrs),
    )


def _drift(stability: xr.Dataset, runs: xr.Dataset) -> xr.DataArray:
    times, held = stability["time"].values, stability["truth_global_mean"].values
    days = stability.sizes["day"]
    last = round(_YEAR_DAYS) if days + 1 >= _YEAR_DAYS else max(1, days // 5)
    last = min(last, days)
    mean = runs["global_mean"].isel(day=slice(days - last, None)).mean("day", skipna=False)
    expected = np.stack(
        [
            _mean_of(held[season(times, start + (days - last) * DAY, last * DAY)])
            for start in stability["init"].values.astype("datetime64[ns]")
        ]
    )
    return (mean - xr.DataArray(expected, dims=("init", "field"))) / yearly_deviation(times, held)


def _mean_of(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values).all(axis=-1)
    return values[known].mean(axis=0) if known.any() else np.full(values.shape[-1], np.nan)


def yearly_deviation(times: np.ndarray, values: np.ndarray) -> Float[np.ndarray, " field"]:
    """Standard deviation of daily means within a year, its square averaged over the whole years; over all without one."""
    number = whole_years(times)
    parts = [values[number == year] for year in range(number.max() + 1)] or [values]
    variances = [np.nanvar(part, axis=0) for part in parts]
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(np.mean(variances, axis=0))
    return np.where(deviation > 0, deviation, np.nan)


def _time_mean_error(difference: xr.DataArray, stability: xr.Dataset) -> xr.DataArray:
    weights = xr.DataArray(latitude_weights(stability["latitude"].values), dims="latitude")
    squares = (difference.astype(np.float64) ** 2).weighted(weights).mean(("latitude", "longitude"))
    return squares**0.5 / stability["field_std"]


def small_scale_power(spectrum: xr.DataArray, truth: xr.DataArray, max_degree: int | None = None) -> xr.DataArray:
    """Power of the smallest fifth of the degrees in which the truth has any, over the truth's.

    Args:
        spectrum, truth: power by degree from 0, along `degree`, and by `spectrum_field`.
        max_degree: the largest that counts, where the truth has traces beyond what its model computes.
    """
    power = truth.sel(degree=slice(1, max_degree))
    there = power > NOTHING * power.max("degree")
    top = power["degree"].where(there).max([dim for dim in power.dims if dim != "spectrum_field"])
    small = (truth["degree"] > 0.8 * top) & (truth["degree"] <= top)
    return spectrum.where(small).sum("degree", skipna=True, min_count=1) / truth.where(small).sum("degree", min_count=1)


def _seasons(stability: xr.Dataset, runs: xr.Dataset) -> dict[str, xr.DataArray]:
    """Ratio of amplitudes and difference of phases of annual harmonics."""

    def together(mean: xr.DataArray, halves: xr.DataArray) -> xr.DataArray:
        whole = mean.expand_dims(region=["global"])
        return xr.concat([whole, halves.rename(hemisphere="region")], "region", coords="minimal", compat="override")

    times = stability["time"].values
    held = together(stability["truth_global_mean"], stability["truth_hemispheric_mean"])
    rolled = together(runs["global_mean"], runs["hemispheric_mean"]).transpose(
        "system", "init", "region", "day", "field"
    )
    shape = {dim: rolled.sizes[dim] for dim in ("system", "init", "region", "field")}
    ratio, phase = np.full(tuple(shape.values()), np.nan), np.full(tuple(shape.values()), np.nan)
    share = np.full((shape["region"], shape["field"]), np.nan)
    days = rolled.sizes["day"]
    if days + 1 >= _YEAR_DAYS and (times[-1] - times[0]) / DAY + 2 >= _YEAR_DAYS:
        truth, share = _harmonic(times, held.transpose("region", "time", "field").values)
        for index, start in enumerate(stability["init"].values):
            valid = start + DAY * np.arange(1, days + 1)
            for system in range(shape["system"]):
                found, _ = _harmonic(valid, rolled.values[system, index])
                clear = share > _NO_SEASON
                ratio[system, index] = np.where(clear, np.abs(found) / np.abs(truth), np.nan)
                turn = np.angle(found / np.where(truth == 0, 1, truth)) / (2 * np.pi)
                phase[system, index] = np.where(clear, -turn * _YEAR_DAYS, np.nan)
    dims = tuple(shape)
    coordinates = {"region": rolled["region"].values}
    return {
        "truth_seasonal_share": xr.DataArray(share, coordinates, ("region", "field")),
        "seasonal_amplitude_ratio": xr.DataArray(ratio, coordinates, dims),
        "seasonal_phase_days": xr.DataArray(phase, coordinates, dims, attrs={"units": "days"}),
    }


def _harmonic(times: np.ndarray, values: Float[np.ndarray, "r t f"]) -> tuple[np.ndarray, np.ndarray]:
    """Annual harmonic Σ f e^{iωt} of daily means, fitted beside mean and trend, and its share of the variance, (r, f).

    The phase is that of a cosine whose largest value is later the more it turns backwards.
    """
    angle = 2 * np.pi * ((times - np.datetime64("2000-01-01")) / DAY).astype(np.float64) / _YEAR_DAYS
    trend = np.linspace(-1.0, 1.0, times.size)
    columns = np.stack([np.ones(times.size), trend, np.cos(angle), np.sin(angle)], axis=-1)
    regions, _, fields = values.shape
    found, share = np.full((regions, fields), np.nan, complex), np.full((regions, fields), np.nan)
    for region in range(regions):
        known = np.isfinite(values[region]).all(axis=-1)
        if known.mean() < 0.9:
            continue
        weights, *_ = np.linalg.lstsq(columns[known], values[region][known], rcond=None)
        found[region] = weights[2] - 1j * weights[3]
        variance = values[region][known].var(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            share[region] = 0.5 * np.abs(found[region]) ** 2 / variance
    return found, share


def stability_lines(scores: xr.Dataset) -> list[str]:
    """A few lines a system for a terminal."""
    lines = []
    for name in map(str, scores["system"].values):
        one = scores.sel(system=name)
        ended = (one["finite_steps"] < one["steps"]).values
        text = f"{name}: {int((~ended).sum())} of {ended.size} went to the end ({int(one['steps'].max())} steps)"
        rate = float(one["steps_per_second"])
        lines.append(text + (f", {rate:.3g} steps/s" if np.isfinite(rate) else ""))
        if ended.any():
            first = int(one["finite_steps"].argmin("init"))
            begun = np.datetime_as_string(one["init"].values[first], "m")
            day = int(one["finite_steps"][first]) / int(scores.attrs["steps_per_day"])
            lines.append(
                f"  the first of the others, from {begun}, after {day:g} days: {one['ended_by'].values[first]}"
            )
        if ended.all():
            continue
        kept = one.isel(init=~ended)
        drift, error = (abs(kept[key]).mean("init") for key in ("drift", "time_mean_error"))
        lines.append(f"  drift of global means, in yearly standard deviations of the daily mean: {_spread_of(drift)}")
        lines.append(f"  error of time means, in the field's standard deviation: {_spread_of(error)}")
        power = kept["small_scale_power"].isel(spectrum_lead=-1).mean("init")
        lead = float(power["spectrum_lead"] / DAY)
        lines.append(f"  power of the smallest fifth of degrees at {lead:g} days, over the truth's: {_range_of(power)}")
        amplitude, phase = kept["seasonal_amplitude_ratio"].mean("init"), kept["seasonal_phase_days"].mean("init")
        if np.isfinite(amplitude).any():
            lines.append(
                f"  seasonal cycle: amplitude over the truth's {_range_of(amplitude)}, days late {_range_of(phase)}"
            )
    return lines


def _spread_of(values: xr.DataArray) -> str:
    """The median over the fields, and the worst."""
    known = values.where(np.isfinite(values), drop=True)
    if not known.size:
        return "not known"
    worst = known.isel(field=int(known.argmax("field")))
    return f"median {float(known.median()):.2g}, worst {float(worst):.2g} ({worst['field'].item()})"


def _range_of(values: xr.DataArray) -> str:
    if not np.isfinite(values).any():
        return "not known"
    low, middle, high = (float(value) for value in np.nanquantile(values.values, [0, 0.5, 1]))
    return f"median {middle:.2f} ({low:.2f} to {high:.2f})"
