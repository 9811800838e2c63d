"""Stores of forecasts, ours or others', on canonical axes: by init time and lead time, in one file or in many."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.axis_names import AXIS_NAMES
from weather_scnn.io.canonical import at_levels, canonical_axes, take
from weather_scnn.io.coverage import other_axis
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.fields import named_fields
from weather_scnn.io.joining import on_one_level_axis
from weather_scnn.io.level_names import gathered_levels
from weather_scnn.io.members import lacking_member, tell_first_member
from weather_scnn.io.notes import Adjustment, Notes, adjusted, logger
from weather_scnn.io.periods import parse_period
from weather_scnn.io.selection import require_levels, wanted_names
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.stored_fields import on_axis
from weather_scnn.io.time_axis import decoded_times

#: Axes of a forecast beside those of states, in their order.
AXES = ("time", "prediction_timedelta", "number", "level", "latitude", "longitude")
#: Coordinate of a forecast that lacks some pairs of initial and lead time: which it holds.
HELD = "held"
_LEAD, _MEMBER = "prediction_timedelta", "number"
_LEADS = (_LEAD, *AXIS_NAMES[_LEAD], *AXIS_NAMES["step"])
_INITIAL = ("init_time", "initial_time", "forecast_reference_time", "init")
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


def kept_by_valid_time(raw: Sequence[tuple[str, xr.Dataset]]) -> bool:
    """Whether lazy files say that their times are valid times, as some WeatherBench 2 stores do."""
    return any("valid_time" in each.dims and not {"time", "init_time"} & set(each.dims) for _, each in raw)


def open_forecast(path: str, raw: Sequence[tuple[str, xr.Dataset]] | None = None) -> xr.Dataset:
    """A forecast of dims (time, prediction_timedelta[, number][, level], latitude, longitude), lazily and without dask.

    `time` is the init time, or the valid time of a store that is kept by it; `number` the members of an ensemble. The
    aliases init_time and lead_time, lead times as timedelta or in hours, any order of times, lead times, latitudes and
    dimensions, longitudes in [-180, 180), other units, ERA5's short names and names with levels such as z500 are
    accepted, in one store or in a folder or glob of files of an initial time each.

    Args:
        path: the store, a folder or a glob.
        raw: its lazy files, where they are open already, opened without decoding of durations.

    Raises:
        UserError: it is not a forecast.
    """
    raw = open_raw(find_source(str(path)), decode_timedelta=False) if raw is None else list(raw)
    valid, notes = kept_by_valid_time(raw), list[Adjustment]()
    pieces = [(where, _of_file(part, where, notes, valid)) for where, each in raw for part in by_time_axis(each)]
    dataset = _joined([(where, piece) for where, piece in pieces if piece is not None], str(path))
    for axis in ("time", _LEAD):
        values = dataset[axis].values
        if np.any(values[1:] <= values[:-1]):
            dataset = take(dataset, axis, np.unique(values, return_index=True)[1])
    return FieldReader.of(dataset.assign_attrs(adjusted(notes)), str(path)).lazy


def chosen_forecasts(
    path: str,
    variables: Sequence[str] | None,
    *,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    member: int | None = None,
) -> xr.Dataset:
    """A part of a forecast, as `open_dataset` chooses; of several members the first or the one asked for.

    Raises:
        UserError: no such variable, level, initial time or member.
    """
    dataset = open_forecast(path)
    if variables is not None:
        dataset = dataset[wanted_names(variables, set(map(str, dataset.data_vars)), path)]
    if levels is not None:
        wanted, held = np.asarray([*levels], float), np.asarray(dataset["level"].values if "level" in dataset else [])
        present = {str(name): {*held.tolist()} for name, array in dataset.data_vars.items() if "level" in array.dims}
        require_levels(present, wanted.tolist(), path)
        dataset = at_levels(dataset, wanted)
    if time is not None:
        dataset = dataset.sel(time=parse_period(time))
        if not dataset.sizes["time"]:
            raise UserError(f"has no initial time in {time}", where=path, remedy="give another period")
    numbers = dataset[_MEMBER].values if _MEMBER in dataset.dims else np.zeros(0, int)
    if member is not None and member not in numbers:
        raise lacking_member(member, numbers.tolist(), path)
    if not numbers.size:
        return dataset
    chosen = numbers[0] if member is None else member
    if member is None and numbers.size > 1:
        tell_first_member(numbers, path, [])
    return dataset.isel({_MEMBER: int(np.flatnonzero(numbers == chosen)[0])}, drop=True)


def by_time_axis(raw: xr.Dataset) -> list[xr.Dataset]:
    """A file's fields by their time axes, each then called `time`: CF files have one for each length of totals."""
    axes = [
        str(dim)
        for dim in raw.dims
        if dim in raw.coords and raw[dim].dtype.kind == "M" and raw[dim].attrs.get("standard_name") == "time"
    ]
    if len(axes) < 2:
        return [raw]
    parts = []
    for axis in axes:
        others = set(axes) - {axis}
        part = raw.drop_vars([name for name, each in raw.variables.items() if others & set(each.dims)])
        if any(axis in array.dims for array in part.data_vars.values()):
            parts.append(part if axis == "time" else part.rename({axis: "time"}))
    return parts


def _of_file(raw: xr.Dataset, where: str, notes: Notes, valid: bool) -> xr.Dataset | None:
    """One file of a forecast, or one hypercube of it; None where there is nothing with lead times."""
    number = _member_of(raw)
    raw = _with_lead_times(raw)
    if valid:
        raw = raw.drop_vars("time", errors="ignore").rename(valid_time="time")
    raw = _renamed(_renamed(_renamed(raw, _LEAD, _LEADS), "time", (*_INITIAL, "time")), _MEMBER, AXIS_NAMES[_MEMBER])
    told: Notes = []
    left_out: dict[str, UserError] = {}
    parts = canonical_axes(raw, where, told, left_out=left_out, further=(_LEAD, _MEMBER))
    if not parts:
        raise next(iter(left_out.values()))
    for each in told:
        if each.kind in ("skipped", "other_vertical_axis"):
            logger.warning("%s of %s is left out, for its further dimensions: %s", each.variable, where, each.where)
    fields: dict[str, xr.DataArray] = {}
    for piece in (piece for part in parts for piece in gathered_levels(_timed(part, where), told)):
        leads = [name for name, array in piece.data_vars.items() if _LEAD in array.dims]
        fields.update(named_fields(piece[leads], where, told, None, lenient=True))
    if not fields:
        return None
    notes += [each for each in told if each not in notes]
    dataset = xr.Dataset(on_one_level_axis(fields, notes))
    if number is not None and _MEMBER not in dataset.dims:
        dataset = dataset.drop_vars(_MEMBER, errors="ignore").expand_dims({_MEMBER: [number]})
    dataset = dataset.drop_vars([name for name in dataset.coords if name not in dataset.dims])
    return dataset.transpose(*[axis for axis in AXES if axis in dataset.dims])


def _timed(dataset: xr.Dataset, where: str) -> xr.Dataset:
    """With initial and lead times as axes, decoded."""
    for name, meaning in (("time", "init times"), (_LEAD, "lead times")):
        if name not in dataset.coords:
            raise UserError(
                f"has no {meaning} (`{name}`); its dimensions: {', '.join(map(str, dataset.sizes))}",
                where=where,
                remedy="give a forecast store, as `weather-scnn forecast` writes",
            )
        if name not in dataset.dims:
            dataset = dataset.expand_dims(name)
    times = decoded_times(dataset, where, []).values
    leads = lead_times(dataset[_LEAD], where)
    return dataset.assign_coords({_LEAD: (_LEAD, leads), "time": ("time", times)})


def _renamed(raw: xr.Dataset, axis: str, names: Sequence[str]) -> xr.Dataset:
    """With the first of these names that is there as the name of an axis, unless that is one already."""
    result = next((name for name in names if name in raw.dims or name in raw.coords), None)
    if axis in raw.dims or result in (None, axis):
        return raw
    # A two-dimensional `time` beside `init_time` is the valid time, which follows from the rest.
    return raw.drop_vars(axis, errors="ignore").rename({result: axis})


def _member_of(raw: xr.Dataset) -> int | None:
    """The number of the one member that a file holds, where it says so."""
    for name in AXIS_NAMES[_MEMBER]:
        if name in raw.variables and raw[name].size == 1 and raw[name].dtype.kind in "iu":
            return int(raw[name].values.item())
    return None


def _with_lead_times(raw: xr.Dataset) -> xr.Dataset:
    """Valid times beside one initial time, as in CF files, as lead times."""
    start = next((name for name in _INITIAL if name in raw.variables and raw[name].size == 1), None)
    beside = [name for name in _LEADS if name in raw.variables and raw[name].dims == ("time",)]
    if start is not None:
        raw = raw.drop_vars(beside)  # periods beside valid times
    known = set(_LEADS) & {*raw.variables, *raw.dims}
    if known or start is None or "time" not in raw.coords or raw["time"].ndim > 1:
        return raw
    first, valid = np.atleast_1d(raw[start].values)[0], np.atleast_1d(raw["time"].values)
    if not (first.dtype.kind == valid.dtype.kind == "M") or valid.min() < first:
        return raw
    raw = raw.squeeze(start, drop=True) if start in raw.dims else raw.drop_vars(start)
    if "time" in raw.dims:
        raw = raw.rename(time=_LEAD)
        return raw.assign_coords({_LEAD: (_LEAD, valid - first), "time": first})
    return raw.assign_coords({_LEAD: valid[0] - first, "time": first})


def _joined(pieces: Sequence[tuple[str, xr.Dataset]], path: str) -> xr.Dataset:
    """One dataset of several files, lazily.

    Times and lead times come out in order; of what is there twice the first is kept. Pairs of them that no file has
    are NaN, and the coordinate `held` tells which.

    Raises:
        UserError: there is none, they are on different grids, or levels and members do not fit together.
    """
    if not pieces:
        raise UserError("has no field with lead times", where=path, remedy="give a forecast store")
    (first_path, first), *others = pieces
    if not others:
        return first
    for where, piece in others:
        if axis := other_axis(piece, first):
            raise UserError(
                f"has other {axis}s than {first_path}", where=where, remedy="give files of one grid at a time"
            )
    parts: dict[str, list[xr.DataArray]] = {}
    for _, piece in pieces:
        for name, array in piece.data_vars.items():
            array = array.assign_coords(latitude=first["latitude"], longitude=first["longitude"])
            parts.setdefault(str(name), []).append(array)
    axes = {axis: np.unique(np.concatenate([piece[axis].values for _, piece in pieces])) for axis in ("time", _LEAD)}
    held = np.zeros([axis.size for axis in axes.values()], bool)
    for _, piece in pieces:
        held[np.ix_(*(np.searchsorted(values, piece[axis].values) for axis, values in axes.items()))] = True
    dataset = xr.Dataset({name: _whole(name, arrays, axes, path) for name, arrays in parts.items()}, attrs=first.attrs)
    if not held.all():
        logger.warning("%s lacks %d of %d pairs of initial and lead time", path, np.count_nonzero(~held), held.size)
        dataset = dataset.assign_coords({HELD: (tuple(axes), held)})
    return dataset


def _whole(name: str, arrays: list[xr.DataArray], axes: dict[str, np.ndarray], path: str) -> xr.DataArray:
    """One array of all that files hold of a field, on these times and lead times."""
    arrays = _along(_LEAD, arrays)
    # A forecast of 00 UTC is often longer than that of 06 UTC.
    leads = np.unique(np.concatenate([array[_LEAD].values for array in arrays]))
    arrays = [on_axis(array, _LEAD, leads) for array in arrays]
    for dim in ("time", "level", _MEMBER):
        arrays = _along(dim, arrays)
    if len(arrays) > 1:
        raise UserError(
            f"the files hold {name} on different sets of levels or members",
            where=path,
            remedy="give files that are alike at a time",
        )
    whole = arrays[0]
    for axis, values in axes.items():
        whole = on_axis(whole, axis, values)
    return whole


def _along(dim: str, arrays: list[xr.DataArray]) -> list[xr.DataArray]:
    """The arrays that differ in one axis alone put together along it."""
    groups: dict[tuple, list[xr.DataArray]] = {}
    for array in arrays:
        others = (other for other in map(str, array.dims) if other != dim and other not in ("latitude", "longitude"))
        key = (array.dims, *((other, array[other].values.tobytes()) for other in others if other in array.coords))
        groups.setdefault(key, []).append(array)
    result = []
    for group in groups.values():
        whole = group[0]
        if len(group) > 1 and dim in whole.dims:
            whole = xr.concat(
                group, dim, coords="minimal", compat="override", join="override", combine_attrs="override"
            )
            whole.encoding = group[0].encoding
            whole = on_axis(whole, dim, np.unique(whole[dim].values))
        result.append(whole)
    return result
