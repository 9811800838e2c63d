"""Whether values can be what their name and unit say, and what they look like if not."""

import dataclasses
import functools
import math

import numpy as np
import xarray as xr

from weather_scnn.data.catalogue import Variable, lookup
from weather_scnn.data.reading_again import read_again
from weather_scnn.data.units import GRAVITY
from weather_scnn.errors import UserError

# unit: (what the values may be in instead, scale and offset from that to the unit)
_LOOK_ALIKES: dict[str, list[tuple[str, float, float]]] = {
    "K": [("degrees Celsius", 1.0, 273.15), ("degrees Fahrenheit", 5 / 9, 255.372)],
    "Pa": [("hPa", 100.0, 0.0), ("kPa", 1000.0, 0.0)],
    "kg kg-1": [("g kg-1", 1e-3, 0.0)],
    "m": [("mm", 1e-3, 0.0)],
    "1": [("percent", 0.01, 0.0)],
    "m2 s-2": [("a height in metres", GRAVITY, 0.0), ("a height in decametres", 10 * GRAVITY, 0.0)],
    "J m-2": [("W m-2", 3600.0, 0.0)],
}
# An hour of sunlight anywhere on a global map exceeds this, J m-2; as W m-2 no value would reach it.
_LEAST_SUNLIGHT = 5e3
_SUNLIGHT = ("toa_incident_solar_radiation", "surface_solar_radiation_downwards")
# Between the highest relief in metres and the highest geopotential of relief on the coarsest grids, m2 s-2.
_RELIEF_LIKE_METRES = (1000.0, 8900.0)


@dataclasses.dataclass(frozen=True)
class Extremes:
    """Finite extremes of a field, and its area mean a level where it has levels.

    Attributes:
        low: least value.
        high: greatest value.
        levels: hPa; empty without levels.
        means: area mean of each level.
    """

    low: float
    high: float
    levels: tuple[float, ...] = ()
    means: tuple[float, ...] = ()


def standard_geopotential(level: float) -> float:
    """m2 s-2 of a pressure in hPa in the ICAO standard atmosphere (ISO 2533), to 20 km."""
    if level >= 226.32:
        return GRAVITY * 44330.77 * (1.0 - (level / 1013.25) ** 0.190263)
    return GRAVITY * (11000.0 + 6341.62 * math.log(226.32 / level))


def _suspected(variable: Variable, low: float, high: float) -> str:
    """What an implausible range looks like."""
    bottom, top = variable.plausible
    if variable.name == "geopotential_at_surface" and low < bottom and high <= top:
        return "; it looks like relief with the sea floor"
    for words, scale, offset in _LOOK_ALIKES.get(variable.unit, []):
        if bottom <= low * scale + offset and high * scale + offset <= top:
            return f"; it looks like {words}"
    return ""


def implausible(name: str, found: Extremes) -> str:
    """What is impossible about a field's values, with the suspected cause; empty if nothing is.

    Args:
        name: canonical name; one that the catalogue does not hold is never implausible.
        found: its extremes.
    """
    variable = lookup(name)
    if variable is None or not math.isfinite(found.low):
        return ""
    bottom, top = variable.plausible
    if variable.kind == "accumulated" and variable.never_negative:
        bottom = -0.05 * top  # artefacts of packing
    if found.low < bottom or found.high > top:
        return (
            f"{found.low:.5g} … {found.high:.5g} {variable.unit}, outside {bottom:g} … {top:g}"
            f"{_suspected(variable, found.low, found.high)}"
        )
    if name.startswith(_SUNLIGHT) and 0 < found.high < _LEAST_SUNLIGHT:
        return f"at most {found.high:.5g} {variable.unit}, too little for daylight; it looks like W m-2"
    low, high = _RELIEF_LIKE_METRES
    if name == "geopotential_at_surface" and low < found.high < high:
        return f"at most {found.high:.5g} m2 s-2, too little for mountains; it looks like a height in metres"
    if name == "geopotential":
        for level, mean in zip(found.levels, found.means):
            expected = standard_geopotential(level)
            if 50 <= level <= 925 and math.isfinite(mean) and not 0.6 < mean / expected < 1.5:
                guess = ""
                for words, factor in (("metres", GRAVITY), ("decametres", 10 * GRAVITY)):
                    if 0.6 < factor * mean / expected < 1.5:
                        guess = f"; it looks like a height in {words}"
                return f"mean {mean:.5g} m2 s-2 at {level:g} hPa, where {expected:.3g} is usual{guess}"
    return ""


def extremes_of_one_map(array: xr.DataArray, scale: float = 1.0, offset: float = 0.0) -> Extremes | None:
    """Extremes and mean of the first map of a field, at the level nearest 500 hPa; None if it has no finite value.

    Args:
        array: of any dimensions beside latitude and longitude.
        scale: brings the values to the catalogue's unit.
        offset: added after it.
    """
    levels: tuple[float, ...] = ()
    first = {dim: 0 for dim in array.dims if dim not in ("latitude", "longitude")}
    if "level" in array.dims:
        first["level"] = int(np.abs(array["level"].values - 500).argmin())
        levels = (float(array["level"].values[first["level"]]),)
    # In one step, so that dask reads the chunk of this map alone.
    one = array.isel(first)
    values = np.asarray(one.transpose("latitude", ...).values, np.float64) * scale + offset
    if not np.isfinite(values).any():
        return None
    finite = np.where(np.isfinite(values), values, np.nan)
    weights = np.cos(np.radians(array["latitude"].values))[:, None] * np.isfinite(values)
    mean = float(np.nansum(finite * weights) / max(weights.sum(), 1e-300))
    return Extremes(float(np.nanmin(finite)), float(np.nanmax(finite)), levels, (mean,) if levels else ())


def refuse_implausible(dataset: xr.Dataset, where: str) -> None:
    """Reads one map of every field and refuses values that cannot be; see `implausible`.

    The first time is read, at the level nearest 500 hPa. For jobs that would otherwise spread a wrong unit; `check`
    reads everything.

    Raises:
        UserError: with the variable, its range and the suspected cause.
    """
    for name, array in dataset.data_vars.items():
        if lookup(str(name)) is None:
            continue
        found = read_again(
            functools.partial(extremes_of_one_map, array),
            what=lambda name=name: f"{name} cannot be read",  # type: ignore[misc]
            where=where,
        )
        if found is None:
            continue
        if fault := implausible(str(name), found):
            raise UserError(
                f"{name} is implausible: {fault}",
                where=where,
                remedy="correct the units attribute, or the values",
            )
