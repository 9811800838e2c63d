"""Joining what several files hold of one field, and fields to one dataset. A gap in time stays a gap."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.level_numbers import level_axis
from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.io.canonical import shared_times, take
from weather_scnn.io.coverage import other_axis
from weather_scnn.io.notes import Notes, logger, note
from weather_scnn.io.stored_fields import on_axis
from weather_scnn.io.versions import PRELIMINARY

#: Key of a field's encoding: levels of the axis that it has not got, where fields are on levels of their own.
ABSENT = "absent_levels"


def joined(name: str, parts: list[tuple[str, xr.DataArray]], notes: Notes) -> xr.DataArray:
    """One array of a field that lies in several files: along time, and along level where files split levels."""
    arrays = [array for _, array in parts]
    if len(arrays) == 1:
        return arrays[0]
    first = arrays[0]
    for where, array in parts[1:]:
        if axis := other_axis(array, first):
            raise UserError(
                f"{name} has another {axis} axis than in {parts[0][0]}",
                where=where,
                remedy="open files of one grid at a time",
            )
    if "time" not in first.dims:
        note(notes, "repeated_static", name, f"{len(arrays)} files; the first kept")
        return first
    by_levels: dict[tuple[float, ...], list[xr.DataArray]] = {}
    for array in arrays:
        key = tuple(map(float, array["level"].values)) if "level" in array.dims else ()
        same = all(array[axis].equals(first[axis]) for axis in ("latitude", "longitude"))
        if not same:  # by rounding, as was made sure above
            array = array.assign_coords(latitude=first["latitude"], longitude=first["longitude"])
        by_levels.setdefault(key, []).append(array)
    stacks = []
    for group in by_levels.values():
        group.sort(key=lambda array: array["time"].values[0])
        for facts in ("step", PRELIMINARY):
            if any(facts in array.coords for array in group):
                group = [_with_zeros(array, facts) for array in group]
        whole = group[0]
        if len(group) > 1:
            whole = xr.concat(
                group, "time", coords="minimal", compat="override", join="exact", combine_attrs="override"
            )
        stacks.append(whole)
    if len(stacks) == 1:
        return stacks[0]
    held = [level for key in by_levels for level in key]
    if len(held) != len(set(held)):
        raise UserError(
            f"files hold {name} on different, overlapping sets of levels",
            where=parts[0][0],
            remedy="ask for the levels they share with --levels",
        )
    stacks = [unique_times(name, array, notes) for array in stacks]
    times = _common_times(stacks, name, notes)
    stacks = [array.sel(time=times).drop_vars(["step", PRELIMINARY], errors="ignore") for array in stacks]
    return xr.concat(
        stacks, "level", coords="minimal", compat="override", join="exact", combine_attrs="override"
    ).sortby("level")


def _with_zeros(array: xr.DataArray, coordinate: str) -> xr.DataArray:
    zeros = ("time", np.zeros(array.sizes["time"]))
    return array if coordinate in array.coords else array.assign_coords({coordinate: zeros})


def unique_times(name: str, array: xr.DataArray, notes: Notes) -> xr.DataArray:
    """Times ascending without repeats: of two values for one time the final one, the shorter forecast, the first."""
    if "time" not in array.dims:
        return array
    index = array["time"].to_index()
    if "step" in array.coords:
        array = _one_kind_of_step(name, array, notes)
        index = array["time"].to_index()
    keys = [array[facts].values for facts in ("step", PRELIMINARY) if facts in array.coords]
    order = np.lexsort((*keys, index.values))
    if not index.is_monotonic_increasing:
        note(notes, "unsorted_times", "", "sorted")
    repeats = np.concatenate([[False], np.diff(index.values[order]) == np.timedelta64(0)])
    if repeats.any():
        stamp = pd.Timestamp(index.values[order][repeats][0])
        if PRELIMINARY in array.coords and array[PRELIMINARY].values[order][repeats].all():
            note(notes, "expver", "", f"ERA5 at {int(repeats.sum())} times that are given as ERA5T too")
        else:
            note(notes, "repeated_times", "", f"{int(repeats.sum())} dropped, the first {stamp:%Y-%m-%dT%H:%M}")
        order = order[~repeats]
    dataset = take(array.to_dataset(name="field"), "time", order)
    return dataset["field"].drop_vars(PRELIMINARY, errors="ignore").rename(name)


def _one_kind_of_step(name: str, array: xr.DataArray, notes: Notes) -> xr.DataArray:
    """Analyses alone where a field has analyses and forecasts; accumulations without the empty ones of step 0."""
    step = array["step"].values
    if not (step == 0).any() or (step == 0).all():
        if len(np.unique(step)) > 1:
            note(notes, "mixed_lead_times", name, f"{', '.join(f'{each:g}' for each in np.unique(step))} h ahead")
        return array
    variable = lookup(name)
    accumulated = variable is not None and variable.kind == "accumulated"
    kept = step != 0 if accumulated else step == 0
    what = "empty accumulations of step 0" if accumulated else "forecasts among analyses"
    logger.warning("%s: %d %s are left out", name, int((~kept).sum()), what)
    note(notes, "left_out_steps", name, f"{int((~kept).sum())} {what}")
    return array.isel(time=np.flatnonzero(kept))


def _common_times(arrays: Sequence[xr.DataArray], what: str, notes: Notes) -> pd.Index:
    """Times that all share; none are invented for those that lack some."""
    common = shared_times(arrays)
    assert common is not None
    dropped = max(array.sizes["time"] for array in arrays) - len(common)
    if len(common) == 0:
        raise UserError("the fields share no time", where=what, remedy="ask for fields of one period with --variables")
    if dropped:
        logger.warning("%s: %d times are not there for every field and are left out", what, dropped)
        note(notes, "unshared_times", "", f"{dropped} times that some fields lack, left out")
    return common


def on_one_level_axis(fields: dict[str, xr.DataArray], notes: Notes) -> dict[str, xr.DataArray]:
    """Fields on levels of their own, such as Z500 and T850, on the levels of all; what is absent is NaN."""
    levels = {name: tuple(map(float, array["level"].values)) for name, array in fields.items() if "level" in array.dims}
    if len(set(levels.values())) < 2:
        return fields
    every = level_axis(np.array(sorted(set().union(*levels.values()))))
    told: dict[tuple[float, ...], list[str]] = {}
    for name, own in levels.items():
        told.setdefault(own, []).append(name)
        absent = [level for level in every.tolist() if not np.isclose(own, level).any()]
        encoding = fields[name].encoding | ({ABSENT: absent} if absent else {})
        fields[name] = on_axis(fields[name], "level", every)
        fields[name].encoding = encoding
    words = "; ".join(
        f"{', '.join(names[:3])}{' …' * (len(names) > 3)} at {', '.join(f'{level:g}' for level in own)} hPa"
        for own, names in told.items()
    )
    note(notes, "own_levels", "", f"{words}; absent elsewhere")
    return fields


def assembled(fields: dict[str, xr.DataArray], where: str, notes: Notes) -> xr.Dataset:
    """One dataset of fields that share grid, levels and times.

    Raises:
        UserError: they do not.
    """
    if not fields:
        reasons = [f"{each.variable}: {each.where}" for each in notes if each.kind == "skipped"]
        raise UserError(
            f"holds no field that can be read{' (' if reasons else ''}{'; '.join(reasons[:3])}{')' if reasons else ''}",
            where=where,
            remedy="select one entry of such dimensions and write the file again"
            if reasons
            else "see what `weather-scnn check` tells",
        )
    timed = [array for array in fields.values() if "time" in array.dims]
    if timed:
        common = _common_times(timed, where, notes)
        for name, array in fields.items():
            if "time" in array.dims and array.sizes["time"] != len(common):
                fields[name] = array.sel(time=common)
    fields = on_one_level_axis(fields, notes)
    first = next(iter(fields.values()))
    arrays: dict[Hashable, xr.DataArray] = {}
    for name, array in fields.items():
        if other_axis(array, first):
            raise UserError(
                f"{name} is on another grid than {first.name or next(iter(fields))}",
                where=where,
                remedy="open fields of one grid at a time with --variables",
            )
        array = array.drop_vars(["step"], errors="ignore")
        arrays[name] = array.assign_coords(latitude=first["latitude"], longitude=first["longitude"])
    return xr.Dataset(arrays)
