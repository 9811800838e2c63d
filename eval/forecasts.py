"""Opening forecasts, ours or others', and making sure that they and the truth speak of the same thing."""

import difflib
import logging
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from eval.forecast_files import joined_forecasts
from eval.stores import ALIASES, ORDER, canonical, catalogue_names, in_order, open_pieces, with_levels_of_names
from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.units import conversion, parse_unit
from weather_scnn.errors import UserError
from weather_scnn.io.time_axis import decoded_times

_log = logging.getLogger(__name__)
_COORDINATE_TOLERANCE_DEGREES = 1e-3
# Numbers beyond this are not hours.
_LONGEST_LEAD = np.timedelta64(10 * 366, "D")


def lead_times(coordinate: xr.DataArray, path: str) -> np.ndarray:
    """Lead times as timedelta64[ns]; plain numbers without units are hours.

    Raises:
        UserError: they are text, have units that are not of time, or are years.
    """
    values = np.atleast_1d(coordinate.values)
    if values.dtype.kind == "m":
        return values.astype("timedelta64[ns]")
    if values.dtype.kind not in "iuf":
        raise UserError(
            f"lead times are text such as {str(values[0])!r}", where=path, remedy="write them as timedelta or in hours"
        )
    units = str(coordinate.attrs.get("units", "hours")).split(" since")[0].strip()
    try:
        scale = pd.Timedelta(1, unit=units.rstrip("s") if units != "s" else "s")  # type: ignore[arg-type]
    except ValueError:
        raise UserError(
            f"lead times have the units {units!r}", where=path, remedy="write them as timedelta or in hours"
        ) from None
    nanoseconds = values.astype(np.float64) * (scale / pd.Timedelta(1, "ns"))
    if np.abs(nanoseconds).max(initial=0.0) > _LONGEST_LEAD / np.timedelta64(1, "ns"):
        raise UserError(
            f"lead times reach {np.abs(values).max():.4g} {units}",
            where=path,
            remedy="write the units that they are in, as timedelta or in hours",
        )
    return np.rint(nanoseconds).astype("timedelta64[ns]")


def open_forecast(
    path: str, pieces: Sequence[tuple[str, xr.Dataset]] | None = None, *, time: str | None = None
) -> xr.Dataset:
    """A forecast of dims (time, prediction_timedelta[, number][, level], latitude, longitude), lazily.

    `time` is the init time, `number` the members of an ensemble. The aliases init_time and lead_time, lead times as timedelta or in hours, any
    order of times, lead times, latitudes and dimensions, longitudes in [-180, 180), ERA5's short names and names with
    levels such as z500 are accepted, in one store or in a folder or glob of files of an initial time each.

    Args:
        path: the store, a folder or a glob.
        pieces: what `eval.stores.open_pieces` gives of it, where it is open already.
        time: a dimension to take for `time`, such as valid_time.

    Raises:
        UserError: it is not a forecast.
    """
    pieces = open_pieces(path) if pieces is None else pieces
    dataset = joined_forecasts([(where, _forecast_of_file(raw, where, time)) for where, raw in pieces], path)
    for axis in ("time", "prediction_timedelta"):
        values = dataset[axis].values
        if np.any(values[1:] <= values[:-1]):
            dataset = dataset.isel({axis: np.unique(values, return_index=True)[1]})
    return dataset


def _forecast_of_file(raw: xr.Dataset, where: str, time: str | None) -> xr.Dataset:
    """One file of a forecast, under canonical names; see `open_forecast`."""
    number = _member_of(raw)
    raw = _with_lead_times(raw)
    dataset = canonical(raw if time is None else raw.drop_vars("time", errors="ignore").rename({time: "time"}), where)
    for name, meaning in (("time", "init times"), ("prediction_timedelta", "lead times")):
        if name not in dataset.coords:
            raise UserError(
                f"has no {meaning} (`{name}`); its dimensions: {', '.join(map(str, dataset.sizes))}",
                where=where,
                remedy="give a forecast store, as `weather-scnn forecast` writes",
            )
        if name not in dataset.dims:
            dataset = dataset.expand_dims(name)
    leads = lead_times(dataset["prediction_timedelta"], where)
    times = decoded_times(dataset, where, []).values
    dataset = dataset.assign_coords(prediction_timedelta=("prediction_timedelta", leads), time=("time", times))
    dataset = dataset[[name for name, array in dataset.data_vars.items() if "prediction_timedelta" in array.dims]]
    dataset = with_levels_of_names(dataset)
    for field in map(str, list(dataset.data_vars)):
        sizes = dataset[field].sizes
        if further := [f"{dim} ({size})" for dim, size in sizes.items() if dim not in ORDER]:
            _log.warning("%s of %s is left out, for its further dimensions: %s", field, where, ", ".join(further))
            dataset = dataset.drop_vars([field])
    if not dataset.data_vars:
        raise UserError("has no field with lead times", where=where, remedy="give a forecast store")
    dataset = catalogue_names(dataset, list(map(str, dataset.data_vars)))
    if number is not None and "number" not in dataset.dims:
        dataset = dataset.drop_vars("number", errors="ignore").expand_dims(number=[number])
    return in_order(dataset.drop_vars([name for name in dataset.coords if name not in dataset.dims]))


def _member_of(raw: xr.Dataset) -> int | None:
    """The number of the one member that a file holds, where it says so."""
    for name in ("number", *ALIASES["number"]):
        if name in raw.variables and raw[name].size == 1 and raw[name].dtype.kind in "iu":
            return int(raw[name].values.item())
    return None


def _with_lead_times(raw: xr.Dataset) -> xr.Dataset:
    """Valid times beside one initial time, as in CF files, as lead times."""
    known = {"prediction_timedelta", *ALIASES["prediction_timedelta"]} & {*raw.variables, *raw.dims}
    start = next((name for name in ALIASES["time"] if name in raw.variables and raw[name].size == 1), None)
    if known or start is None or "time" not in raw.coords or raw["time"].ndim > 1:
        return raw
    first, valid = np.atleast_1d(raw[start].values)[0], np.atleast_1d(raw["time"].values)
    if not (first.dtype.kind == valid.dtype.kind == "M") or valid.min() < first:
        return raw
    raw = raw.squeeze(start, drop=True) if start in raw.dims else raw.drop_vars(start)
    if "time" in raw.dims:
        raw = raw.rename({"time": "prediction_timedelta"})
        return raw.assign_coords(prediction_timedelta=("prediction_timedelta", valid - first), time=first)
    return raw.assign_coords(prediction_timedelta=valid[0] - first, time=first)


def units_to_truth(name: str, left: xr.DataArray, right: xr.DataArray, *, where: str) -> tuple[float, float]:
    """(scale, offset) that bring a field into the truth's units; (1, 0) where either states none.

    Raises:
        UserError: the units are of another quantity, as mm are not K.
    """
    ours, theirs = str(left.attrs.get("units", "")).strip(), str(right.attrs.get("units", "")).strip()
    if not ours or not theirs or parse_unit(ours) is None or parse_unit(theirs) is None:
        return 1.0, 0.0
    factors = conversion(ours, theirs)
    if factors is None:
        raise UserError(
            f"{name} is in {ours} here and in {theirs} in the truth", where=where, remedy="correct the attribute units"
        )
    return factors


def require_same_grid(left: xr.Dataset, right: xr.Dataset, *, where: str) -> None:
    """Raises UserError if the coordinates of `left` are not those of the truth, `right`."""
    names = [f"{data.sizes['longitude']}x{data.sizes['latitude']}" for data in (left, right)]
    for axis in ("latitude", "longitude"):
        ours, theirs = left[axis].values, right[axis].values
        if ours.shape == theirs.shape and np.abs(ours - theirs).max() < _COORDINATE_TOLERANCE_DEGREES:
            continue
        detail = (
            f"the grids differ: {names[0]} here, {names[1]} in the truth"
            if names[0] != names[1]
            else f"{axis}s differ from the truth's: {ours[0]:g} … {ours[-1]:g} against {theirs[0]:g} … {theirs[-1]:g}"
        )
        raise UserError(detail, where=where, remedy="bring both to one grid with `weather-scnn regrid`")


def common_variables(
    forecast: Iterable[str], truth: Iterable[str], wanted: Sequence[str] | None, *, where: tuple[str, str]
) -> list[str]:
    """Variables to score, in alphabetical order: those wanted, or all that the forecast and the truth share.

    Args:
        forecast: names in the forecast.
        truth: names in the truth.
        wanted: names to score, by any name that the catalogue knows; None for all.
        where: paths of the forecast and of the truth.

    Raises:
        UserError: a wanted name is absent, or none is shared.
    """
    names, known = list(forecast), list(truth)
    wanted = None if wanted is None else [_own_name(name, {*names, *known}) for name in wanted]
    for name in wanted or ():
        for path, present in zip(where, (names, known)):
            if name not in present:
                near = difflib.get_close_matches(name, present, 1, 0.5)
                raise UserError(
                    f"has no variable {name!r}" + (f" (nearest: {near[0]})" if near else ""),
                    where=path,
                    remedy="choose from " + ", ".join(present),
                )
    shared = sorted(name for name in names if name in known and (wanted is None or name in wanted))
    if not shared:
        raise UserError(
            f"the forecast ({', '.join(names)}) and the truth ({', '.join(known)}) share no variable",
            where=where[0],
            remedy="name the variables of both alike",
        )
    return shared


def _own_name(asked: str, present: Iterable[str]) -> str:
    """The catalogue's name of what is asked for by ERA5's, CDS's, GFS's or CMIP's, unless there is one of this name."""
    known = lookup(asked)
    return asked if asked in present or known is None else known.name


def level_numbers(dataset: xr.Dataset) -> list[float]:
    """Levels in hPa."""
    return dataset["level"].values.tolist()


def common_levels(
    forecast: xr.Dataset, truth: xr.Dataset, wanted: Sequence[float] | None, *, where: tuple[str, str]
) -> list[float] | None:
    """Levels in hPa to score, in the truth's order; None where neither dataset has levels.

    Raises:
        UserError: a wanted level is absent, or none is shared.
    """
    if "level" not in forecast.dims or "level" not in truth.dims:
        return None
    ours, theirs = level_numbers(forecast), level_numbers(truth)
    for level in wanted or ():
        for path, present in zip(where, (ours, theirs)):
            if level not in present:
                raise UserError(
                    f"has no level {level:g} hPa",
                    where=path,
                    remedy="choose from " + ", ".join(f"{each:g}" for each in present),
                )
    shared = [level for level in theirs if level in ours and (wanted is None or level in wanted)]
    if not shared:
        raise UserError(
            f"has the levels {ours} hPa and the truth {theirs}", where=where[0], remedy="give levels that both have"
        )
    return shared
