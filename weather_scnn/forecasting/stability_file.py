"""The file of `stability`: what long rollouts were like, beside the truth, in the fields' units."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.catalogue.field_names import field_label
from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.forecasting.stability_truth import DAY, Truth, moments
from weather_scnn.io.marks import refuse_newer
from weather_scnn.io.sources import open_one
from weather_scnn.io.writing import provenance
from weather_scnn.training.long_rollout import REGIONS, SumConstants, field_moments, field_names
from weather_scnn.training.states import StateReader

#: Of the layout below; whoever changes what older versions can read raises it.
FORMAT_VERSION = 1
TRUTH = "truth"
_FORMULA = (
    "area-weighted means; time means and standard deviations over all steps of the days that count; spectra by degree, sum "
    "over m of |a_lm|^2 / 4 pi, winds as kinetic energy, degree 0 about the training's mean, mean over the last fifth of the "
    "way to a lead, one state a day at each hour in turn; histograms of the same states, the first and last bin with all "
    "beyond"
)


@dataclasses.dataclass(frozen=True)
class Runs:
    """Sums of long rollouts, standardised; a series is an initial time and a member.

    Attributes:
        names: of the systems.
        held: of each system total, squares, histogram, means, dry, power, steps and ended_by of its series, and the
            seconds that timed_steps took.
        starts, members: of the series.
        days, map_days: of the rollouts, and of time means.
        leads: days of spectra.
        step: of the forecaster.
    """

    names: list[str]
    held: Sequence[Mapping[str, Any]]
    starts: np.ndarray
    members: np.ndarray
    days: int
    map_days: int
    leads: np.ndarray
    step: np.timedelta64


def stability_dataset(
    runs: Runs,
    truth: Truth,
    constants: SumConstants,
    reader: StateReader,
    windows: np.ndarray,
    spectrum_windows: np.ndarray,
    *,
    about: Mapping[str, Any],
) -> xr.Dataset:
    """All that the file holds, in memory.

    Args:
        runs: the systems.
        truth: beside them, the last system.
        constants: of the sums.
        reader: of the store.
        windows: window of the truth's maps for each series, (n,).
        spectrum_windows: that of spectra for each series and lead, (n, lead).
        about: attributes.
    """
    channels, normalisation, grid = reader.channels, reader.normalisation, reader.grid
    winds = normalisation.wind_std
    offset, scale = field_moments(normalisation)
    reference = np.asarray(constants.reference, np.float64)
    regional = np.einsum("yxf,ry->rf", np.nan_to_num(reference), np.asarray(constants.area, np.float64))
    count, total_steps = runs.starts.size, int(runs.days * DAY / runs.step)

    def fields(values: np.ndarray, about: np.ndarray) -> np.ndarray:
        return (values + about) * scale + offset

    ended = [held["ended_by"] != "" for held in runs.held]
    means = [_daily(runs, held, over) for held, over in zip(runs.held, ended)]
    maps = []
    for held, over in zip(runs.held, ended):
        mean, deviation = moments(held["total"], held["squares"], runs.map_days * int(DAY / runs.step))
        early = over & (held["steps"] < runs.map_days * int(DAY / runs.step))
        mean[early], deviation[early] = np.nan, np.nan
        maps.append((mean, deviation, early))
    mean = np.stack([*(each[0] for each in maps), truth.mean[windows]])
    deviation = np.stack([*(each[1] for each in maps), truth.deviation[windows]]) * scale
    daily = np.stack([*means, _at(truth.means, runs, truth)])
    area = [held["histogram"] / held["histogram"].sum(axis=-1, keepdims=True) for held in runs.held]
    for share, (_, _, early) in zip(area, maps):
        share[early] = np.nan
    power = []
    for held in runs.held:
        reached = held["steps"][:, None] >= runs.leads * int(DAY / runs.step)
        power.append(np.where(reached[..., None, None], held["power"], np.nan))
    power_scale = np.concatenate([normalisation.scalar_std, winds]) ** 2
    spectrum = np.stack([*power, truth.power[spectrum_windows]]) * power_scale
    edges = np.asarray(constants.lowest) + np.arange(constants.bins + 1)[:, None] / np.asarray(constants.per_unit)
    time_mean = fields(mean, reference).astype(np.float32)
    last = ("field", "latitude", "longitude")
    series = ("system", "init")
    region_means = fields(daily, regional)
    truth_means = fields(truth.means, regional)
    variables: dict[str, Any] = {
        "global_mean": ((*series, "day", "field"), region_means[:, :, :, 0]),
        "hemispheric_mean": (("hemisphere", *series, "day", "field"), np.moveaxis(region_means[:, :, :, 1:], 3, 0)),
        "time_mean": ((*series, *last), np.moveaxis(time_mean, -1, 2)),
        "time_std": ((*series, *last), np.moveaxis(deviation.astype(np.float32), -1, 2)),
        "zonal_mean": (
            (*series, *last[:2]),
            np.moveaxis(_zonal(time_mean), -1, 2),
        ),
        "spectrum": ((*series, "spectrum_lead", "spectrum_field", "degree"), np.swapaxes(spectrum, -1, -2)),
        "histogram": ((*series, "field", "bin"), np.stack([*area, truth.histogram[windows]])),
        "bin_edges": (("field", "bin_edge"), (edges * scale + offset).T),
        "finite_steps": (series, np.stack([*(held["steps"] for held in runs.held), np.full(count, total_steps)])),
        "ended_by": (series, np.array([*(held["ended_by"].tolist() for held in runs.held), [""] * count], object)),
        "truth_global_mean": (("time", "field"), truth_means[:, 0]),
        "truth_hemispheric_mean": (("hemisphere", "time", "field"), np.moveaxis(truth_means[:, 1:], 1, 0)),
        "truth_time_mean_spread": (last, np.moveaxis((truth.spread * scale).astype(np.float32), -1, 0)),
        "truth_days": (("init",), truth.counted[windows]),
        "steps_per_second": (("system",), [*(_rate(held) for held in runs.held), np.nan]),
    }
    if constants.dry_fields:
        dry = [np.where(np.isfinite(each[:, :, 0, :1]), held["dry"], np.nan) for each, held in zip(means, runs.held)]
        variables["dry_fraction"] = (
            (*series, "day", "dry_field"), np.stack([*dry, _at(truth.dry, runs, truth)])
        )  # fmt: skip
        variables["truth_dry_fraction"] = (("time", "dry_field"), truth.dry)
    names = field_names(channels)
    units = [_units(name, reader) for name, _ in names]
    labels, spectrum_names = ([field_label(*field) for field in kind] for kind in (names, channels.fields))
    scalars = len(channels.scalars)
    coordinates: dict[str, Any] = {
        "system": [*runs.names, TRUTH],
        "init": ("init", runs.starts.astype("datetime64[ns]"), {"standard_name": "forecast_reference_time"}),
        "realization": ("init", runs.members, {"standard_name": "realization"}),
        "day": ("day", np.arange(1, runs.days + 1), {"long_name": "days since the initial time, to the day's end", "units": "1"}),
        "field": labels,
        "variable": ("field", [name for name, _ in names]),
        "level": ("field", [np.nan if level is None else float(level) for _, level in names], {"units": "hPa"}),
        "field_units": ("field", units),
        "field_std": ("field", scale, {"long_name": "standard deviation in space and time, of the training"}),
        "hemisphere": list(REGIONS[1:]),
        "latitude": ("latitude", grid.latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", grid.longitude, {"units": "degrees_east", "standard_name": "longitude"}),
        "spectrum_lead": runs.leads * DAY.astype("timedelta64[ns]"),
        "spectrum_field": spectrum_names,
        "spectrum_units": ("spectrum_field", [f"({unit})2" for unit in units[:scalars]] + ["m2 s-2"] * winds.size),
        "degree": np.arange(spectrum.shape[-2]),
        "time": ("time", truth.days.ends.astype("datetime64[ns]"), {"long_name": "end of the day"}),
    }  # fmt: skip
    if constants.dry_fields:
        coordinates["dry_field"] = [labels[place] for place in constants.dry_fields]
    attributes = provenance(formula=_FORMULA, grid=grid.name, **about) | {
        "Conventions": "CF-1.10", "format_version": FORMAT_VERSION, "steps_per_day": int(DAY / runs.step),
        "days_of_time_means": runs.map_days, "truth_years": truth.years,
    }  # fmt: skip
    result = xr.Dataset(variables, coordinates, attributes)
    for name, text in _MEANINGS.items():
        if name in result:
            result[name].attrs["long_name"] = text
    return result


_MEANINGS = {
    "global_mean": "mean over the globe and the day that ends then",
    "hemispheric_mean": "the same over the hemispheres, to the equator",
    "time_mean": "mean over the days of time means",
    "time_std": "standard deviation over the steps of the days of time means",
    "zonal_mean": "zonal mean of the time mean",
    "spectrum": "power by degree near a lead",
    "histogram": "share of the area by bin",
    "finite_steps": "steps before the first state that is not finite or not plausible",
    "ended_by": "what was not plausible then",
    "truth_global_mean": "of the store, whole days",
    "truth_time_mean_spread": "standard deviation of the truth's yearly means",
    "truth_days": "days of the store in the truth's time mean",
    "dry_fraction": "share of the area with less than 0.1 mm in 6 h, or 0.25 mm in 24 h",
    "steps_per_second": "steps of single rollouts a second",
}


def _zonal(time_mean: np.ndarray) -> np.ndarray:
    """Means over the points that are there."""
    known = np.isfinite(time_mean)
    with np.errstate(invalid="ignore"):
        return np.where(known, time_mean, 0).sum(axis=3) / np.where(known.any(axis=3), known.sum(axis=3), np.nan)


def _daily(runs: Runs, held: Mapping[str, Any], ended: np.ndarray) -> np.ndarray:
    """Daily means, NaN from the day on that a rollout ends in, (n, day, r, F)."""
    means = held["means"].copy()
    last = np.where(ended, held["steps"] // int(DAY / runs.step), runs.days)
    means[np.arange(runs.days) >= last[:, None]] = np.nan
    return means


def _at(values: np.ndarray, runs: Runs, truth: Truth) -> np.ndarray:
    """Of the truth's days those that rollouts run over, nearest where their hour is another; NaN beyond the store."""
    ends = truth.days.ends
    wanted = runs.starts[:, None] + DAY * np.arange(1, runs.days + 1)
    after = np.clip(np.searchsorted(ends, wanted - DAY // 2), 0, ends.size - 1)
    near = np.abs(ends[after] - wanted) <= DAY // 2
    return np.where(near.reshape(*near.shape, *[1] * (values.ndim - 1)), values[after], np.nan)


def _rate(held: Mapping[str, Any]) -> float:
    return float(held["timed_steps"] / held["seconds"]) if held["seconds"] else np.nan


def _units(name: str, reader: StateReader) -> str:
    variable = lookup(name)
    return variable.unit if variable is not None else str(reader.dataset[name].attrs.get("units", "1"))


def open_stability(path: str) -> xr.Dataset:
    """A file of `stability`, lazily.

    Raises:
        UserError: it is none, or of a newer version.
    """
    with open_one(path) as held:
        if not {"global_mean", "time_mean", "finite_steps"} <= set(held.data_vars):
            raise UserError("is not a file of stability", where=path, remedy="make one with weather-scnn stability")
        refuse_newer(held.attrs, FORMAT_VERSION, "stability", path)
    return xr.open_dataset(path, decode_timedelta=True)
