"""Levels that a source keeps in names, such as z500, t_850 or a folder geopotential_500, or in attributes alone."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.catalogue.level_numbers import level_number
from weather_scnn.catalogue.naming import Variable, identify, lookup
from weather_scnn.io.notes import ORDER, Notes, note
from weather_scnn.io.vertical_axis import kind_of_axis, pressures

_NAME = re.compile(r"(?P<base>[A-Za-z][A-Za-z_]*?)_?(?P<level>\d{1,4})(?:_?hpa)?", re.IGNORECASE)
_HIGHEST_HPA = 1100
_ATTRIBUTES = ("level", "pressure_level", "pressure", "plev", "isobaricinhpa", "isobaricinpa")


def _split(name: str) -> tuple[Variable, int] | None:
    match = _NAME.fullmatch(name)
    if match is None or not 0 < int(match["level"]) <= _HIGHEST_HPA:
        return None
    variable = lookup(match["base"])
    return (variable, int(match["level"])) if variable is not None and variable.on_levels else None


def gathered_levels(dataset: xr.Dataset, notes: Notes) -> list[xr.Dataset]:
    """Fields named for a level (earth2studio's z500, anemoi's t_850) stacked along a level axis.

    u100 and v100 mean the wind at 100 m in ERA5 and at 100 hPa in earth2studio: they count as levels where another
    field such as z100 does. A name that ends in the height of a surface field, as 2t_2 does, loses it.
    """
    split: dict[str, tuple[Variable, int]] = {}
    doubtful: dict[str, tuple[Variable, int]] = {}
    rename: dict[str, str] = {}
    for name in map(str, dataset.data_vars):
        if "level" in dataset[name].dims:
            continue
        result = _split(name)
        if result is not None:
            (doubtful if lookup(name) is not None else split)[name] = result
        elif lookup(name) is None and (match := re.fullmatch(r"(.+)_(2|10|100)", name)):
            known = lookup(match[1])
            # anemoi-datasets#87: 2t_2 is 2t at its height of 2 m.
            if known is not None and known.name.startswith(f"{match[2]}m_") and match[1] not in dataset:
                rename[name] = match[1]
    levels = {level for _, level in split.values()}
    split.update({name: result for name, result in doubtful.items() if result[1] in levels})
    if rename:
        dataset = dataset.rename(rename)
    if not split:
        return [dataset]
    groups: dict[str, list[tuple[int, str]]] = {}
    for name, (variable, level) in split.items():
        groups.setdefault(variable.name, []).append((level, name))
    stacked: dict[tuple[int, ...], dict[str, xr.DataArray]] = {}
    for name, members in groups.items():
        if name in dataset.data_vars:
            continue
        members.sort()
        note(notes, "levels_in_names", name, f"{members[0][1]} … {members[-1][1]}")
        chosen = [dataset[each].assign_coords(level=level) for level, each in members]
        array = xr.concat(
            chosen, "level", coords="minimal", compat="override", join="override", combine_attrs="override"
        )
        array.attrs = chosen[0].attrs
        if stored := chosen[0].encoding.get("preferred_chunks"):
            array.encoding["preferred_chunks"] = {"level": 1, **stored}
        array["level"].attrs = {"units": "hPa", "long_name": "pressure level", "positive": "down"}
        order = [*(dim for dim in array.dims if dim not in ORDER), *(dim for dim in ORDER if dim in array.dims)]
        stacked.setdefault(tuple(level for level, _ in members), {})[name] = array.transpose(*order)
        dataset = dataset.drop_vars([each for _, each in members])
    pieces = [xr.Dataset(fields, attrs=dataset.attrs) for fields in stacked.values()]
    return [dataset, *pieces] if dataset.data_vars else pieces


def level_of_attributes(dataset: xr.Dataset, notes: Notes) -> xr.Dataset:
    """Gives fields without a level the one that their attributes, or those of the file, name in hPa.

    A download of one level often keeps nothing else of it (contrailcirrus/pycontrails#276).
    """
    for name in list(dataset.data_vars):
        array = dataset[name]
        known = identify(str(name), array.attrs, on_levels=True)
        if known is None or not known.on_levels or "level" in array.dims:
            continue
        result = _told(array.attrs) or _told(dataset.attrs)
        if result is not None:
            key, level = result
            note(notes, "level_in_attributes", known.name, f"{level:g} hPa from the attribute {key}")
            dataset = _with_level(dataset, str(name), level)
    return dataset


def _told(attributes: Mapping[Any, Any]) -> tuple[str, float] | None:
    """(attribute, hPa) of a pressure level that attributes name; None without one."""
    kind = str(attributes.get("GRIB_typeOfLevel", "")).lower()
    if kind and not kind.startswith("isobaric"):
        return None
    for key, value in attributes.items():
        lower, values = str(key).lower(), np.asarray(value)
        if lower not in (_ATTRIBUTES if not kind else (*_ATTRIBUTES, "grib_level")) or values.size != 1:
            continue
        pascals = "inpa" in (kind if lower == "grib_level" else lower)
        axis = xr.Variable(("level",), values.reshape(1), {"units": "Pa"} if pascals else {})
        name = "level" if lower == "level" else "pressure"
        if values.dtype.kind not in "iufUS" or kind_of_axis(name, axis) != "pressure":
            continue
        level = float(pressures(name, axis, "")[0][0])
        # A bare level of 1 may count anything.
        if level >= 10 or lower != "level":
            return str(key), level
    return None


def _with_level(dataset: xr.Dataset, name: str, level: float) -> xr.Dataset:
    """A dataset with a field on one level of its own."""
    array = dataset[name].assign_coords(level=level_number(level)).expand_dims("level")
    order = [dim for dim in ORDER if dim in array.dims]
    return dataset.drop_vars([name]).assign({name: array.transpose(*order)})


def level_of_path(dataset: xr.Dataset, where: str, notes: Notes) -> xr.Dataset:
    """Gives fields without a level the one in the name of their file or folder, as WeatherBench 1 stores them.

    A `z` without a level is otherwise a surface field; one under geopotential_500 is not.
    """
    path = pathlib.PurePath(where)
    for part in (path.stem, path.parent.name):
        match = re.match(r"(?P<base>[a-z][a-z_]*?)_(?P<level>\d{2,4})(?:_?hpa)?(?![\d-])", part, re.IGNORECASE)
        named = lookup(match["base"]) if match is not None else None
        if match is None or named is None or not named.on_levels or not int(match["level"]) <= _HIGHEST_HPA:
            continue
        for name in list(dataset.data_vars):
            variable = lookup(str(name))
            if variable is not None and variable.name == named.name and "level" not in dataset[name].dims:
                level = int(match["level"])
                note(notes, "level_in_path", named.name, f"{level} hPa from {part}")
                dataset = _with_level(dataset, str(name), level)
        return dataset
    return dataset
