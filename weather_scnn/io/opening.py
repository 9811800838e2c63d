"""The door: any source of weather data → one canonical lazy dataset, or an error that says what to do.

Canonical: dimensions (time[, level], latitude, longitude), latitude ascending, longitude ascending in [0, 360), times
ascending without repeats, level in hPa, float32, SI units, WeatherBench 2 long names. A gap in time stays a gap.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.naming import catalogue_order, find, identify, lookup, nearest_name
from weather_scnn.errors import UserError
from weather_scnn.io.canonical import canonical_axes, name_axes, take
from weather_scnn.io.fields import (
    TOTAL,
    UNSAID,
    named_fields,
    one_variant,
    refuse_false_ground,
    require_units_throughout,
    windowed,
)
from weather_scnn.io.grib import RUNNING
from weather_scnn.io.joining import assembled, joined, unique_times
from weather_scnn.io.level_names import gathered_levels, level_of_attributes, level_of_path
from weather_scnn.io.marks import REQUEST, STATUS
from weather_scnn.io.notes import Adjustment, Notes, logger, note, said_before
from weather_scnn.io.running_totals import RunningTotal, declared, decumulated, told_by_pattern
from weather_scnn.io.sources import find_source, open_raw

_DATE = r"\d{4}(?:-\d{2}(?:-\d{2}(?:[T ]\d{2}(?::\d{2}(?::\d{2})?)?)?)?)?"


def parse_period(period: str) -> slice:
    """Reads `A:B`, both inclusive: dates as xarray takes them, so 2019:2020 holds all of 2020.

    A single date stands for all of it; an end left out is open.

    Raises:
        UserError: it does not read as dates, or ends before it begins.
    """
    match = re.fullmatch(rf"\s*({_DATE})?\s*(:)?\s*({_DATE})?\s*", period)
    if match is None or not (match[1] or match[3]) or (match[3] and not match[2]):
        raise UserError(
            f"the period {period!r} does not read as A:B", remedy="write dates, as in 2019-01-01:2020-12-31"
        )
    begin, end = match[1], match[3] if match[2] else match[1]
    try:
        bounds = [pd.Timestamp(each) for each in (begin, end) if each]
    except ValueError as error:
        raise UserError(f"the period {period!r} holds no such date", remedy="write dates as YYYY-MM-DD") from error
    if len(bounds) == 2 and bounds[0] > bounds[1] and not str(begin).startswith(str(end)):
        raise UserError(f"the period {period!r} ends before it begins", remedy="write the earlier date first")
    return slice(begin, end)


def missing_lines(latitude: np.ndarray, longitude: np.ndarray) -> str:
    """Which rows or columns are missing inside a grid with ascending coordinates in degrees; empty if none is.

    Their neighbours' cells would be averaged as if they were larger. Spacings may change smoothly, as on Gaussian
    grids; one that is half as wide again as the next is a gap.
    """
    for axis, values in (("latitude", latitude), ("longitude", longitude)):
        gaps = np.diff(np.asarray(values, np.float64))
        bands = np.diff(np.sin(np.radians(values)))
        if gaps.size < 2 or (axis == "latitude" and np.ptp(bands) < 1e-3 * bands.max()):
            continue  # rows of equal area are further apart towards the poles
        nearest = np.minimum(np.append(gaps[1:], gaps[-2]), np.append(gaps[1], gaps[:-1]))
        # At the ends the only neighbour may be a pole row, which stands half a cell away.
        nearest[0], nearest[-1] = np.median(gaps[:5]), np.median(gaps[-5:])
        wide = np.flatnonzero((gaps > 1.5 * nearest) & (gaps > 1.25 * np.median(gaps)))
        if wide.size:
            at = int(wide[0])
            more = f", and {wide.size - 1} more" if wide.size > 1 else ""
            return (
                f"no {axis}s between {values[at]:g}° and {values[at + 1]:g}°, {gaps[at] / nearest[at]:.2g} cells{more}"
            )
    return ""


def coverage_fault(latitude: np.ndarray, longitude: np.ndarray) -> str:
    """What keeps ascending coordinates in degrees from covering the globe; empty if they do."""
    if latitude.size < 2 or longitude.size < 2:
        return f"the grid is {longitude.size}x{latitude.size} points"
    spacing = np.diff(latitude).max()
    for end, reach in (("south", latitude[0] + 90), ("north", 90 - latitude[-1])):
        if reach > spacing + 1e-3:
            return f"latitudes stop {reach:g}° from the {end} pole"
    gaps = np.diff(np.append(longitude, longitude[0] + 360))
    if gaps.max() > 1.5 * np.median(gaps):
        at = int(gaps.argmax())
        return f"no longitudes between {longitude[at]:g}° and {longitude[(at + 1) % longitude.size]:g}°"
    return missing_lines(latitude, longitude)


def missing_poles(latitude: np.ndarray) -> str:
    """Which poles are a whole spacing beyond the outermost of ascending rows: one may be missing; empty if none is."""
    if latitude.size < 3:
        return ""
    gaps = np.diff(latitude)
    ends = [("south", latitude[0] + 90, gaps[1]), ("north", 90 - latitude[-1], gaps[-2])]
    away = [f"{90 - reach:g}° {end}" for end, reach, gap in ends if reach > 0.95 * gap]
    return f"the outermost row is at {' and at '.join(away)}, a whole spacing from the pole" if away else ""


def refuse_forecasts(dataset: xr.Dataset, where: str) -> None:
    """Refuses a store of forecasts where states are asked for, one a time.

    Raises:
        UserError: it has an axis of lead times.
    """
    if "prediction_timedelta" not in dataset.dims:
        return
    leads = np.asarray(dataset["prediction_timedelta"].values)
    hours = leads / np.timedelta64(1, "h") if leads.dtype.kind == "m" else leads
    raise UserError(
        f"holds forecasts up to {np.max(hours):g} h ahead, not one state a time",
        where=where,
        remedy="give analyses, or extract one lead a valid time; forecasts are scored with `weather-scnn score`, which "
        "regrids them",
    )


def longitudes_from(dataset: xr.Dataset, west: float = -180.0) -> xr.Dataset:
    """A canonical dataset with longitudes ascending in [west, west + 360), for programs that want −180 … 180."""
    longitude = (dataset["longitude"].values - west) % 360.0 + west
    order = np.argsort(longitude, kind="stable")
    attributes = dataset["longitude"].attrs
    moved = take(dataset, "longitude", order)
    return moved.assign_coords(longitude=("longitude", longitude[order], attributes))


def _levels_of(array: xr.DataArray, levels: Sequence[float]) -> xr.DataArray | None:
    """Those of `levels` that a file holds; None if it holds none of them. Fields without levels stay."""
    if "level" not in array.dims:
        return array
    present = array["level"].values
    order = np.flatnonzero(np.isclose(present[:, None], np.asarray(levels)[None, :]).any(axis=1))
    return take(array.to_dataset(name="field"), "level", order)["field"].rename(array.name) if len(order) else None


def _require_levels(present: dict[str, set[float]], levels: Sequence[float], where: str) -> None:
    if not any(present.values()):
        raise UserError("no variable there has levels", where=where, remedy="leave --levels out")
    for name, held in present.items():
        missing = [level for level in levels if held and not np.isclose(sorted(held), level).any()]
        if missing:
            raise UserError(
                f"{name} has no level {', '.join(f'{level:g}' for level in missing)} hPa",
                where=where,
                remedy=f"choose from {', '.join(f'{level:g}' for level in sorted(held))}",
            )


def open_with_notes(
    path: str,
    *,
    variables: Sequence[str] | str | None = None,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    member: int | None = None,
    raw: list[tuple[str, xr.Dataset]] | None = None,
    judge: bool = True,
) -> tuple[xr.Dataset, list[Adjustment]]:
    """As `open_dataset`, with what was changed on the way.

    Args:
        path, variables, levels, time, member: see `open_dataset`.
        raw: the lazy files, where they are open already.
        judge: whether values may be read where only they tell what a field is.
    """
    path = str(path)
    period = parse_period(time) if time else None
    if isinstance(variables, str):
        variables = [name for name in re.split(r"[,\s]+", variables) if name]
    chosen_levels = None if levels is None else [float(level) for level in levels]
    raw = open_raw(find_source(path)) if raw is None else raw
    if member is not None:
        _require_member(raw, path, member)
    notes: Notes = []
    raw = with_times(raw, path, notes)
    left_out: dict[str, UserError] = {}
    pieces = _one_member(
        _pieces(_restricted(raw, variables), notes, tuple(variables or ()), member, _day_earlier(period), left_out),
        path,
        notes,
        member,
    )
    present = _present(pieces)
    _tell_left_out(left_out, present, variables)
    wanted = None if variables is None else _wanted(variables, present, path)
    parts: dict[str, list[tuple[str, xr.DataArray]]] = {}
    held: dict[str, set[float]] = {}
    for where, piece in pieces:
        for name, array in named_fields(piece, where, notes, wanted).items():
            held.setdefault(name, set()).update(map(float, array["level"].values) if "level" in array.dims else ())
            chosen = array if chosen_levels is None else _levels_of(array, chosen_levels)
            if chosen is not None:
                parts.setdefault(name, []).append((where, chosen))
    if chosen_levels is not None:
        _require_levels(held, chosen_levels, path)
    fields = {}
    for name, each in parts.items():
        each = one_variant(name, each, notes)
        require_units_throughout(name, each)
        unsaid = next((array.encoding[UNSAID] for _, array in each if UNSAID in array.encoding), None)
        fields[name] = unique_times(name, joined(name, each, notes), notes)
        fields[name].encoding = {"preferred_chunks": dict(each[0][1].encoding.get("preferred_chunks", {}))}
        masked, remade = any(array.encoding.get("masked") for _, array in each), False
        if unsaid is not None and judge:
            refuse_false_ground(fields[name], unsaid, each[0][0])
        kinds = {str(array.encoding.get(TOTAL, "")) for _, array in each}
        if judge and (running := _running(name, fields[name], kinds, each[0][0])) is not None:
            made = decumulated(name, fields.pop(name), running, each[0][0], notes)
            fields[str(made.name)], remade = made, True
            wanted = wanted and [str(made.name) if asked == name else asked for asked in wanted]
            name = str(made.name)
        fields[name].encoding |= {"masked": masked, "remade": remade}
    if wanted is not None and (lost := [name for name in wanted if name not in fields]):
        raise UserError(
            f"{', '.join(lost)} cannot be read from there",
            where=path,
            remedy="see `weather-scnn check --input` for what is left out and why",
        )
    # A Zarr store without consolidated metadata lists its arrays in any order.
    fields = {name: fields[name] for name in wanted or sorted(fields, key=catalogue_order)}
    if period is not None:
        fields = {name: _within(array, period, path) for name, array in fields.items()}
        if not any("time" in array.dims for array in fields.values()):
            raise UserError("holds no times", where=path, remedy="leave --time out")
    for name, array in fields.items():
        variable = lookup(name)
        if variable is not None and variable.kind == "static" and "time" in array.dims:
            fields[name] = array.isel(time=0, drop=True).drop_vars("step", errors="ignore")
    encodings = {name: {key: value for key, value in array.encoding.items() if value} for name, array in fields.items()}
    dataset = assembled(fields, path, notes)
    for key, array in dataset.data_vars.items():
        array.encoding = encodings[str(key)]
    attributes = {
        key: value
        for key, value in raw[0][1].attrs.items()
        if not str(key).startswith("GRIB_") and key not in (STATUS, REQUEST, "time_units", "history", "adjusted")
    }
    if notes:
        attributes["adjusted"] = "; ".join(map(str, notes))
    dataset.attrs = attributes
    if "time" in dataset.coords:
        dataset["time"].attrs = {"standard_name": "time", "long_name": "time"}
        dataset["time"].encoding = {}
    return dataset, notes


def _running(name: str, array: xr.DataArray, kinds: set[str], where: str) -> RunningTotal | None:
    """How totals run since the start of a day or a forecast, where they do; see `running_totals`."""
    variable = lookup(name)
    if variable is None or variable.window_hours is None or "time" not in array.dims:
        return None
    if RUNNING in kinds:
        return declared(array)
    if "said" in kinds or re.search(r"_\d+hr$", name):
        return None
    return told_by_pattern(name, array, where)


def _day_earlier(period: slice | None) -> slice | None:
    """The period from a day before its beginning, where running totals have what is to be taken off."""
    if period is None or period.start is None:
        return period
    return slice(f"{pd.Timestamp(period.start) - pd.Timedelta(days=1):%Y-%m-%dT%H:%M}", period.stop)


def _restricted(raw: list[tuple[str, xr.Dataset]], variables: Sequence[str] | None) -> list[tuple[str, xr.Dataset]]:
    """The files without the fields that nobody asked for, where their names tell all that was asked for.

    Blocks over 273 fields and 1.3 million times, as in ARCO-ERA5, take minutes and gigabytes.
    """
    if variables is None:
        return raw
    names = {asked: {asked, *([known.name] if (known := lookup(asked)) else [])} for asked in variables}
    held: set[str] = set()
    kept = []
    for where, dataset in raw:
        matching = []
        for field in map(str, dataset.data_vars):
            known_as = {field}
            for on_levels in (True, False):
                variable = identify(field, dataset[field].attrs, on_levels=on_levels)
                known_as |= {variable.name} if variable is not None else set()
            if any(known_as & each for each in names.values()):
                matching.append(field)
                held |= known_as
        # Axes and their bounds that a file keeps among its fields stay; files without any of the fields go.
        axes = [str(name) for name, array in dataset.data_vars.items() if array.ndim < 2]
        if matching:
            kept.append((where, dataset[[*matching, *axes]]))
    return kept if all(each & held for each in names.values()) else raw


def _pieces(
    raw: list[tuple[str, xr.Dataset]],
    notes: Notes,
    wanted: tuple[str, ...],
    member: int | None,
    period: slice | None = None,
    left_out: dict[str, UserError] | None = None,
) -> list[tuple[str, xr.Dataset]]:
    options: dict[str, Any] = {"wanted": wanted, "member": member, "period": period, "left_out": left_out}
    return [
        (where, piece)
        for where, dataset in raw
        for whole in canonical_axes(dataset, where, notes, **options)
        for piece in gathered_levels(level_of_path(level_of_attributes(whole, notes), where, notes), notes)
    ]


def _tell_left_out(left_out: dict[str, UserError], present: set[str], variables: Sequence[str] | None) -> None:
    """Says which fields are on a vertical axis that is no pressure, and nowhere on pressure levels.

    Raises:
        UserError: there are no others, or one of them is asked for.
    """
    lacking = {name: error for name, error in left_out.items() if _canonical_name(name) not in present}
    wanted = None if variables is None else {_canonical_name(name) for name in variables}
    for name, error in lacking.items():
        if not present or (wanted is not None and {name, _canonical_name(name)} & wanted):
            raise error
        if wanted is None:
            logger.warning("%s is left out: %s", name, error)


def _canonical_name(name: str) -> str:
    known = lookup(name)
    return name if known is None else known.name


def _present(pieces: list[tuple[str, xr.Dataset]]) -> set[str]:
    """Canonical names of what pieces hold, with the window of totals that declare one."""
    present: set[str] = set()
    for _, piece in pieces:
        for name, array in piece.data_vars.items():
            variable = identify(str(name), array.attrs, on_levels="level" in array.dims)
            present.add(windowed(variable, array).name if variable is not None else str(name))
    return present


def with_times(raw: list[tuple[str, xr.Dataset]], path: str, notes: Notes) -> list[tuple[str, xr.Dataset]]:
    """The files without those that hold no time, which an interrupted writer or a request without data leaves behind.

    Raises:
        UserError: all of them, or a grid without points.
    """
    kept, empty = [], []
    for where, dataset in raw:
        none = [str(dim) for dim, size in dataset.sizes.items() if size == 0]
        grid = [dim for dim in none if dim.lower() not in ("time", "valid_time", "step", "forecast_reference_time")]
        fields = [array for array in dataset.data_vars.values() if array.size]
        if none and any(array.ndim > 1 for array in fields):
            dataset = dataset.drop_vars([name for name, array in dataset.data_vars.items() if not array.size])
            none = []
        if none:
            if grid:
                raise UserError(f"has nothing along {grid[0]}", where=where, remedy="fetch or write it again")
            empty.append(where)
        else:
            kept.append((where, dataset))
    for where in empty:
        if not kept:
            raise UserError("holds no times", where=where, remedy="fetch or write it again")
        logger.warning("%s holds no times and is left out", where)
        note(notes, "empty_file", "", f"{where} holds no times")
    return kept


def _first_time(dataset: xr.Dataset) -> xr.Dataset:
    """One time of a file, which is enough to tell names and does not have to lie in the period declared filled."""
    axes = [dim for dim in dataset.dims if str(dim).lower() in ("time", "valid_time")]
    first = dataset.isel(dict.fromkeys(axes, slice(0, 1)))
    first.attrs = {key: value for key, value in dataset.attrs.items() if not str(key).startswith("valid_time_")}
    return first


def held_names(raw: list[tuple[str, xr.Dataset]], path: str, *, member: int | None = None) -> set[str]:
    """Canonical names of the fields in files that are open; see `open_raw`."""
    with said_before():
        first = [(where, _first_time(dataset)) for where, dataset in with_times(raw, path, [])]
        return _present(_one_member(_pieces(first, [], (), member), path, [], member))


def _require_member(raw: list[tuple[str, xr.Dataset]], path: str, member: int) -> None:
    """Refuses a member that no file holds; fields that all members share may stand beside those of one."""
    held: set[int] = set()
    for where, dataset in raw:
        named = name_axes(dataset, where)
        if "number" in named.variables:
            held |= {int(number) for number in np.atleast_1d(named["number"].values).ravel()}
        elif "number" in named.dims:
            held |= set(range(named.sizes["number"]))
    if member not in held:
        some = f"choose from {', '.join(map(str, sorted(held)[:12]))}{' …' if len(held) > 12 else ''}"
        raise UserError(
            f"has no ensemble member {member}"
            if held
            else f"has no ensemble members, and member {member} is asked for",
            where=path,
            remedy=some if held else "leave --member out",
        )


def _one_member(
    pieces: list[tuple[str, xr.Dataset]], path: str, notes: Notes, member: int | None
) -> list[tuple[str, xr.Dataset]]:
    """Pieces of one ensemble member, where files or messages hold one each."""
    numbers = sorted({piece.attrs["number"] for _, piece in pieces if "number" in piece.attrs})
    if not numbers or (len(numbers) == 1 and member is None):
        return pieces
    kept = numbers[0] if member is None else member
    if kept not in numbers:
        if numbers == [0]:
            return pieces  # a deterministic field among members, or a number that means nothing
        raise UserError(
            f"has no ensemble member {kept}",
            where=path,
            remedy=f"choose from {', '.join(map(str, numbers[:12]))}{' …' if len(numbers) > 12 else ''}",
        )
    if member is None:
        logger.warning("%s holds %d ensemble members; number %s alone is read", path, len(numbers), kept)
        note(notes, "ensemble_member", "", f"number {kept} of {len(numbers)} members")
    return [(where, piece) for where, piece in pieces if piece.attrs.get("number", kept) == kept]


def _wanted(variables: Sequence[str], present: set[str], where: str) -> list[str]:
    """Canonical names of what is asked for; every one that is not there is named in the error."""
    wanted: list[str] = []
    missing: list[tuple[str, str]] = []
    for asked in variables:
        known = lookup(asked)
        name = asked if asked in present else known.name if known is not None else asked
        if name == "geopotential" and name not in present and "geopotential_at_surface" in present and asked == "z":
            name = "geopotential_at_surface"
        if name not in present:
            missing.append((asked, name))
        elif name not in wanted:
            wanted.append(name)
    if len(missing) == 1:
        ((asked, name),) = missing
        if lookup(asked) is None and "did you mean" not in nearest_name(asked, present):
            find(asked)
        raise UserError(
            f"holds no variable {asked}" if asked == name else f"holds no variable {asked} ({name})",
            where=where,
            remedy=nearest_name(name, present),
        )
    if missing:
        raise UserError(
            f"holds none of the variables {', '.join(name for _, name in missing)}",
            where=where,
            remedy=f"it holds {', '.join(sorted(present, key=catalogue_order)[:20])}",
        )
    return wanted


def _within(array: xr.DataArray, period: slice, where: str) -> xr.DataArray:
    if "time" not in array.dims:
        return array
    chosen = array.sel(time=period)
    if chosen.sizes["time"] == 0:
        times = array["time"].to_index()
        raise UserError(
            f"{array.name} has no times in {period.start or ''}:{period.stop or ''}",
            where=where,
            remedy=f"choose within {times[0]:%Y-%m-%dT%H:%M}:{times[-1]:%Y-%m-%dT%H:%M}",
        )
    return chosen


def open_dataset(
    path: str,
    *,
    variables: Sequence[str] | str | None = None,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    member: int | None = None,
) -> xr.Dataset:
    """Opens a source lazily as a canonical dataset.

    Args:
        path: Zarr store (format 2 or 3), netCDF or GRIB file, folder or glob of files; local or an fsspec address such
            as gs://weatherbench2/….zarr; see `addresses` for its options. Fields of several files are joined along time
            and level.
        variables: names of any kind the catalogue knows, or the file's own; default all. Geopotential heights become
            geopotential, and the other units SI, by the `units` attribute.
        levels: pressure levels in hPa; default all.
        time: period `A:B`, see `parse_period`; default all.
        member: number of the ensemble member; default the first, with a warning.

    Returns:
        Fields in dask blocks (see `blocks`), whose encoding has the stored chunks as `preferred_chunks`. The attribute `adjusted` says what was reordered, converted or left out.

    Raises:
        UserError: nothing there, unfinished, no such variable, level or time, or axes that cannot be understood.
    """
    return open_with_notes(path, variables=variables, levels=levels, time=time, member=member)[0]
