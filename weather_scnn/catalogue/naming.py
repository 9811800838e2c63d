"""Finding a variable by any name that sources give it; the table is in `variables`."""

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from weather_scnn.catalogue.variables import VARIABLES, WIND_PAIRS, Variable
from weather_scnn.errors import UserError

__all__ = [
    "VARIABLES",
    "WIND_PAIRS",
    "Variable",
    "catalogue_order",
    "find",
    "identify",
    "lookup",
    "nearest_name",
    "window_name",
]

_WINDOW = re.compile(r"(?P<base>.+)_(?P<hours>\d+)hr?")
_LONGEST_WINDOW_HOURS = 24 * 31
_ISOBARIC = ("isobaricInhPa", "isobaricInPa")


@functools.cache
def _by_name() -> dict[str, Variable]:
    table: dict[str, Variable] = {}
    for variable in VARIABLES:
        for name in (variable.name, *variable.short_names):
            if table.setdefault(name, variable) is not variable:
                raise AssertionError(f"{name} names both {table[name].name} and {variable.name}")
    return table


@functools.cache
def _by_param_id() -> dict[int, Variable]:
    return {param_id: variable for variable in VARIABLES for param_id in variable.param_ids}


@functools.cache
def _positions() -> dict[str, int]:
    return {variable.name: position for position, variable in enumerate(VARIABLES)}


def catalogue_order(name: str) -> tuple[float, str]:
    """Sorting key: the order of VARIABLES, totals of other windows after their own, then other names by alphabet."""
    match = _WINDOW.fullmatch(name)
    position = _positions().get(name)
    if position is None and match is not None and match["base"] in _positions():
        return _positions()[match["base"]] + 0.5, name
    return (len(VARIABLES) if position is None else position), name


def nearest_name(name: str, names: Iterable[str]) -> str:
    """A remedy that names the nearest of `names`, or lists what there is."""
    names = sorted(set(names))
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"choose from {', '.join(names[:20])}{' …' if len(names) > 20 else ''}" if names else "there are none"


def window_name(name: str, hours: float) -> str:
    """Name of a total over another window, as WeatherBench 2 writes it: total_precipitation_6hr."""
    match = _WINDOW.fullmatch(name)
    base = match["base"] if match is not None else name
    variable = _by_name().get(base)
    return base if variable is not None and variable.window_hours == hours else f"{base}_{hours:g}hr"


@functools.lru_cache(maxsize=512)
def _total(key: str) -> Variable | None:
    """The variable of a total over another window than the table's, such as snowfall_6hr."""
    match = _WINDOW.fullmatch(key)
    base = _by_name().get(match["base"]) if match is not None else None
    if match is None or base is None or base.window_hours is None:
        return None
    hours = int(match["hours"])
    if not 0 < hours <= _LONGEST_WINDOW_HOURS or base.name != match["base"]:
        return None
    ratio = hours / base.window_hours
    return dataclasses.replace(
        base,
        name=f"{base.name}_{hours}hr",
        long_name=f"{base.long_name} over {hours} hours",
        plausible=(base.plausible[0] * ratio, base.plausible[1] * ratio),
        short_names=(),
        param_ids=(),
        window_hours=hours,
    )


def lookup(name: str) -> Variable | None:
    """As `find`, but None for a name that the table does not hold."""
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _by_name().get(key) or _total(key)


def find(name: str) -> Variable:
    """The variable of a WeatherBench 2, CDS, ERA5 or CMIP name, in any case, with spaces or underscores.

    Raises:
        UserError: no such variable; the nearest name is given.
    """
    variable = lookup(name)
    if variable is None:
        names = [*_by_name()] if len(name) < 8 else [each.name for each in VARIABLES]
        raise UserError(f"no variable is called {name!r}", remedy=nearest_name(name, names))
    return variable


def identify(name: str, attributes: Mapping[str, Any], *, on_levels: bool) -> Variable | None:
    """The variable that a field in a file is, by its name, else by its GRIB paramId or short name.

    Args:
        name: what the file calls it.
        attributes: the field's attributes; GRIB_typeOfLevel tells a field of another kind of level, such as the
            temperature on hybrid levels, from the variable on pressure levels, and gives None for it.
        on_levels: whether the field has a pressure-level axis; z without one is the surface geopotential
            (earth2studio#476).
    """
    variable = lookup(name)
    if variable is None and (param_id := attributes.get("GRIB_paramId")) is not None:
        variable = _by_param_id().get(int(param_id))
    for key in ("GRIB_shortName", "short_name"):
        if variable is None and isinstance(attributes.get(key), str):
            variable = lookup(attributes[key])
    if variable is None or not variable.on_levels:
        return variable
    level_type = str(attributes.get("GRIB_typeOfLevel", ""))
    # Spelled out it is what it says: WeatherBench 2 calls the height of the ground geopotential_at_surface.
    spelled_out = name.strip().lower() == variable.name
    if (
        variable.name == "geopotential"
        and not spelled_out
        and not on_levels
        and level_type in ("", "surface", *_ISOBARIC)
    ):
        return _by_name()["geopotential_at_surface"]
    if not on_levels and level_type and level_type not in _ISOBARIC:
        return None
    return variable
