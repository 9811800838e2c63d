"""Any source of weather data → one canonical lazy dataset, or an error that says what to do.

Canonical: dimensions (time[, level], latitude, longitude), latitude ascending, longitude ascending in [0, 360), times
ascending without repeats, level in hPa, float32, SI units, WeatherBench 2 long names. A gap in time stays a gap.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.naming import catalogue_order, identify, lookup
from weather_scnn.errors import UserError
from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.canonical import at_levels, canonical_axes, take
from weather_scnn.io.derived import may_be_made
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
from weather_scnn.io.joining import ABSENT, assembled, joined, unique_times
from weather_scnn.io.level_names import gathered_levels, level_of_attributes, level_of_path
from weather_scnn.io.marks import REQUEST, STATUS
from weather_scnn.io.members import pieces_of_one_member, require_member
from weather_scnn.io.notes import Notes, adjusted, logger, note
from weather_scnn.io.periods import parse_period
from weather_scnn.io.running_totals import RunningTotal, declared, decumulated, told_by_pattern
from weather_scnn.io.selection import canonical_name, require_levels, restricted, tell_left_out, wanted_names
from weather_scnn.io.sources import find_source, open_raw

_AXES = ("", "latitude", "longitude", "level")


def listed(names: Sequence[str] | str | None) -> list[str] | None:
    """Names, also from one text with commas or spaces between; None for all."""
    if isinstance(names, str):
        return [name for name in re.split(r"[,\s]+", names) if name]
    return None if names is None else list(names)


@dataclasses.dataclass(frozen=True)
class Canonical:
    """Fields of a source on the canonical axes.

    Attributes:
        dataset: whose `stored.StoredArray`s say where each value lies and how it is scaled; what had to be computed, and
            what lies in dask already, are dask arrays.
        adjustments: what was changed or left out on the way.
    """

    dataset: xr.Dataset
    adjustments: Notes


class CanonicalSource:
    """A source whose axes are brought in order, once; fields are then taken from it.

    Args:
        path: see `open_dataset`.
        variables: names that will be asked for, or from whose inputs they will be made; None for any.
        member: see `open_dataset`.
        raw: the lazy files, where they are open already.
        beside: canonical names of further fields that will be asked for where they are there.

    Raises:
        UserError: nothing is there, or axes that cannot be understood.
    """

    def __init__(
        self,
        path: str,
        variables: Sequence[str] | None = None,
        *,
        member: int | None = None,
        raw: list[tuple[str, xr.Dataset]] | None = None,
        beside: Sequence[str] = (),
    ):
        self.path = str(path)
        raw = open_raw(find_source(self.path)) if raw is None else raw
        if member is not None:
            require_member(raw, self.path, member)
        self._notes: Notes = []
        raw = with_times(raw, self._notes)
        self._attributes = raw[0][1].attrs
        self._left_out: dict[str, UserError] = {}
        pieces = [
            (where, piece)
            for where, dataset in restricted(raw, None if any(map(may_be_made, variables or ())) else variables, beside)
            for whole in canonical_axes(
                dataset, where, self._notes, wanted=tuple(variables or ()), member=member, left_out=self._left_out
            )
            for piece in gathered_levels(
                level_of_path(level_of_attributes(whole, self._notes), where, self._notes), self._notes
            )
        ]
        self._pieces = pieces_of_one_member(pieces, self.path, self._notes, member)

    @property
    def names(self) -> set[str]:
        """Canonical names of the fields there, with the window of totals that declare one."""
        present: set[str] = set()
        for _, piece in self._pieces:
            for name, array in piece.data_vars.items():
                variable = identify(str(name), array.attrs, on_levels="level" in array.dims)
                present.add(windowed(variable, array).name if variable is not None else str(name))
        return present

    def fields(
        self,
        variables: Sequence[str] | None = None,
        *,
        levels: Iterable[float] | None = None,
        time: str | None = None,
    ) -> Canonical:
        """Fields, still lazy; see `open_dataset`.

        Raises:
            UserError: no such variable, level or time, or units that cannot be understood.
        """
        path, period = self.path, parse_period(time) if time else None
        chosen_levels = None if levels is None else [float(level) for level in levels]
        present = self.names
        tell_left_out(self._left_out, present, variables)
        wanted = None if variables is None else wanted_names(variables, present, path)
        asked = {*(variables or ()), *(wanted or ())}
        notes = [
            each
            for each in self._notes
            if wanted is None or each.variable in _AXES or {each.variable, canonical_name(each.variable)} & asked
        ]
        parts: dict[str, list[tuple[str, xr.DataArray]]] = {}
        held: dict[str, set[float]] = {}
        for where, piece in self._pieces:
            piece = _narrowed(piece, _day_earlier(period))
            for name, array in named_fields(piece, where, notes, wanted).items():
                held.setdefault(name, set()).update(map(float, array["level"].values) if "level" in array.dims else ())
                chosen = array if chosen_levels is None else _levels_of(array, chosen_levels)
                if chosen is not None:
                    parts.setdefault(name, []).append((where, chosen))
        if chosen_levels is not None:
            require_levels(held, chosen_levels, path)
        fields: dict[str, xr.DataArray] = {}
        for name, each in parts.items():
            array = _whole_field(name, one_variant(name, each, notes), notes)
            if array.name != name:
                wanted = wanted and [str(array.name) if asked == name else asked for asked in wanted]
            fields[str(array.name)] = array
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
        return self._assembled(fields, notes)

    def _assembled(self, fields: dict[str, xr.DataArray], notes: Notes) -> Canonical:
        dataset = assembled(fields, self.path, notes)
        for key, array in dataset.data_vars.items():
            kept = fields[str(key)].encoding
            array.encoding = {name: kept[name] for name in ("preferred_chunks", ABSENT) if kept.get(name)}
        attributes = {
            key: value
            for key, value in self._attributes.items()
            if not str(key).startswith("GRIB_") and key not in (STATUS, REQUEST, "time_units", "history", "adjusted")
        }
        dataset.attrs = attributes | adjusted(notes)
        if "time" in dataset.coords:
            dataset["time"].attrs = {"standard_name": "time", "long_name": "time"}
            dataset["time"].encoding = {}
        return Canonical(dataset, notes)


def _whole_field(name: str, parts: list[tuple[str, xr.DataArray]], notes: Notes) -> xr.DataArray:
    """A field of all its files; totals that run since the start of something as totals of one interval."""
    require_units_throughout(name, parts)
    unsaid = next((array.encoding[UNSAID] for _, array in parts if UNSAID in array.encoding), None)
    kinds = {str(array.encoding.get(TOTAL, "")) for _, array in parts}
    array = unique_times(name, joined(name, parts, notes), notes).rename(name)
    array.encoding = {"preferred_chunks": dict(parts[0][1].encoding.get("preferred_chunks") or {})}
    where = parts[0][0]
    if unsaid is not None:
        refuse_false_ground(array, unsaid, where)
    if (running := _running(name, array, kinds, where)) is not None:
        encoding = array.encoding
        array = decumulated(name, in_blocks(array.to_dataset())[name], running, where, notes)
        array.encoding = encoding
    return array


def _narrowed(dataset: xr.Dataset, period: slice | None) -> xr.Dataset:
    """The times of a period, where they are in order and some lie in it."""
    if period is None or "time" not in dataset.dims or not dataset["time"].to_index().is_monotonic_increasing:
        return dataset
    chosen = dataset["time"].to_index().slice_indexer(period.start, period.stop)
    return dataset.isel(time=chosen) if chosen.stop > chosen.start else dataset


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


def _levels_of(array: xr.DataArray, levels: Sequence[float]) -> xr.DataArray | None:
    """Those of `levels` that a file holds; None if it holds none of them. Fields without levels stay."""
    if "level" not in array.dims:
        return array
    chosen = at_levels(array.to_dataset(name="field"), levels)["field"].rename(array.name)
    return chosen if chosen.sizes["level"] else None


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


def with_times(raw: list[tuple[str, xr.Dataset]], notes: Notes) -> list[tuple[str, xr.Dataset]]:
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
