"""What the numbers of a vertical axis are: pressures, or heights, depths, numbers of model levels and the like.

An axis called `level` is not always a pressure (Unidata/siphon#34, Unidata/MetPy#3315, ESMValGroup/ESMValCore#840). Its
standard name decides, then its units, long name, name and direction, and where nothing is said what values can be.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from weather_scnn.catalogue.units import known_conversion, parse_unit
from weather_scnn.errors import UserError

Kind = Literal["pressure", "model", "sigma", "height", "depth", "isentropic", "vorticity", "unknown"]

_STANDARD: dict[str, Kind] = {
    "air_pressure": "pressure",
    "pressure": "pressure",
    "atmosphere_hybrid_sigma_pressure_coordinate": "model",
    "atmosphere_hybrid_height_coordinate": "model",
    "atmosphere_sleve_coordinate": "model",
    "model_level_number": "model",
    "atmosphere_sigma_coordinate": "sigma",
    "height": "height",
    "altitude": "height",
    "height_above_mean_sea_level": "height",
    "height_above_reference_ellipsoid": "height",
    "height_above_geopotential_datum": "height",
    "geopotential_height": "height",
    "depth": "depth",
    "depth_below_geoid": "depth",
    "depth_below_surface": "depth",
    "air_potential_temperature": "isentropic",
    "ertel_potential_vorticity": "vorticity",
}
_NAMES: dict[str, Kind] = {
    **dict.fromkeys(
        ("pressure_level", "pressure_levels", "plev", "plevs", "pressure", "isobaric", "isobaricinhpa", "isobaricinpa"),
        "pressure",
    ),
    **dict.fromkeys(
        ("hybrid", "hybrid_level", "hybridlevel", "hybridlayer", "model_level", "model_levels", "modellevel", "mlev",
         "model_level_number", "ml", "nhym", "generalvertical", "generalverticallayer", "eta", "eta_level"), "model"),
    **dict.fromkeys(("sigma", "sigma_level", "sigmalevel", "sigmalayer"), "sigma"),
    **dict.fromkeys(
        ("height", "heights", "altitude", "heightaboveground", "height_above_ground", "heightabovesea",
         "height_above_sea"), "height"),
    **dict.fromkeys(("depth", "depths", "deptht", "depthbelowland", "depthbelowlandlayer", "depthbelowsea"), "depth"),
    **dict.fromkeys(("theta", "isentrope", "isentropic", "isentropic_level", "potential_temperature"), "isentropic"),
    **dict.fromkeys(("potentialvorticity", "potential_vorticity"), "vorticity"),
    "isobariclayer": "unknown",  # a layer between two pressures, of which cfgrib tells the upper alone
}  # fmt: skip
#: Names of vertical axes that say nothing about what they are.
UNCLEAR_NAMES = ("level", "levels", "lev")
_WORDS: tuple[tuple[str, Kind], ...] = (
    (r"model[ _]?level|hybrid|\beta\b|layer number|level number", "model"),
    (r"\bsigma\b", "sigma"),
    (r"pressure|isobar|millibar|\bhpa\b|\bmbar?\b", "pressure"),
    (r"potential temperature|isentrop|\btheta\b", "isentropic"),
    (r"\bdepth\b", "depth"),
    (r"height|altitude|elevation", "height"),
)
# Units of axes that are none.
_NO_UNITS = ("", "level", "levels", "lev", "number", "index", "count", "unknown")
_UNITS: dict[str, Kind] = {"sigma_level": "sigma", "layer": "model", "model_level": "model", "model level": "model"}
#: GRIB's name of each kind that is not pressure, by which a field on a single such level is told from one on pressures.
GRIB_LEVEL_TYPES: dict[Kind, str] = {
    "model": "hybrid", "sigma": "sigma", "height": "heightAboveGround", "depth": "depthBelowLand",
    "isentropic": "theta", "vorticity": "potentialVorticity", "unknown": "unknown",
}  # fmt: skip
_CALLED: dict[Kind, str] = {
    "sigma": "sigma levels", "height": "heights", "depth": "depths", "isentropic": "isentropes",
    "vorticity": "potential vorticities",
}  # fmt: skip
_TEXT = re.compile(r"(?P<prefix>[a-z_ ]*?)[ _]*(?P<number>\d+(?:\.\d+)?)[ _]*(?P<units>[a-z]*)", re.IGNORECASE)
_PRESSURE_PREFIXES = ("", "p", "pl", "plev", "pressure", "pressure_level", "isobaric")
_HIGHEST_HPA = 1200.0
# More than all published sets of model levels that are numbered from the top.
_MOST_MODEL_LEVELS = 150


def as_pressure(units: str) -> float | None:
    """hPa of a unit of pressure; None if it is none."""
    for text in (units.strip(), units.strip().lower()):
        factors = known_conversion(text, "hPa") if text else None
        if factors is not None:
            return factors[0]
    return None


def _by_units(attributes: Mapping[str, Any]) -> Kind | None:
    units = str(attributes.get("units", "")).strip()
    if not units:
        return None
    if as_pressure(units) is not None:
        return "pressure"
    if units.lower() in _UNITS:
        return _UNITS[units.lower()]
    read = parse_unit(units)
    if read is None and re.fullmatch(
        r"\W*(hpa|mb|mbar|millibar)s?\b[^a-z]*((hpa|mb|mbar|millibar)s?\W*)?", units.lower()
    ):
        return "pressure"  # said twice, as in hPa (millibars)
    if read is None and units.lower() not in _NO_UNITS:
        return "unknown"  # such as ln(Pa), or flight levels
    dimensions = dict(read[0]) if read is not None else {}
    if dimensions == {"m": 1}:
        down = str(attributes.get("positive", "")).lower() == "down"
        down = down or "depth" in str(attributes.get("long_name", "")).lower()
        return "depth" if down else "height"
    if dimensions == {"K": 1}:
        return "isentropic"
    return "vorticity" if dimensions.get("K") == 1 else "unknown" if dimensions else None


def _by_values(values: np.ndarray) -> Kind:
    """What values can be of which nothing is said: published pressure levels, or numbers and shares of something."""
    values = np.unique(values)
    whole = bool(np.all(values == np.round(values)))
    if values.min() <= 0:
        return "unknown"
    if values.max() <= 1 and not whole:
        return "sigma"
    if whole and values.size > 2 and values[0] == 1 and np.all(np.diff(values) == 1):
        return "model"
    # Pressure levels are published at round numbers.
    if whole and values.max() <= _MOST_MODEL_LEVELS and np.any((values > 10) & (values % 5 != 0)):
        return "model"
    # As pascals they would all lie above 400 hPa; metres are likelier.
    return "unknown" if _HIGHEST_HPA < values.max() < 4e4 else "pressure"


def _numbers(variable: xr.Variable) -> tuple[np.ndarray | None, str]:
    """Values as float64, read from text such as 500hPa where they are text, and their units; None if they are not."""
    units = str(variable.attrs.get("units", "")).strip()
    values = np.atleast_1d(variable.values).ravel()
    if values.dtype.kind in "iuf":
        return values.astype(np.float64), units
    if values.dtype.kind not in "USO":
        return None, units
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in values]
    matches = [_TEXT.fullmatch(text.strip()) for text in texts]
    if any(match is None or match["prefix"].strip(" _").lower() not in _PRESSURE_PREFIXES for match in matches):
        return None, units
    result = {match["units"] for match in matches if match is not None}
    named = any(match["prefix"] for match in matches if match is not None)
    if len(result) > 1 or (result != {""} and as_pressure(next(iter(result))) is None):
        return None, units
    numbers = np.array([float(match["number"]) for match in matches if match is not None])
    return numbers, next(iter(result)) or units or ("hPa" if named else "")


def says_pressure(name: str, attributes: Mapping[str, Any]) -> bool:
    """Whether an axis is named as the levels of a file are, or declared a pressure, beyond having its unit."""
    standard = _STANDARD.get(str(attributes.get("standard_name", "")).lower())
    return standard == "pressure" or name.lower() in UNCLEAR_NAMES or _NAMES.get(name.lower()) == "pressure"


def kind_of_axis(name: str, variable: xr.Variable | None) -> Kind | None:
    """What a coordinate is as a vertical axis; None where it is none.

    Args:
        name: of the coordinate or dimension.
        variable: its values and attributes; None for a dimension without.
    """
    lower = name.lower()
    named = _NAMES.get(lower)
    if variable is None:
        return named
    attributes = variable.attrs
    standard = _STANDARD.get(str(attributes.get("standard_name", "")).lower())
    vertical = named or standard or lower in UNCLEAR_NAMES or str(attributes.get("axis", "")).upper() == "Z"
    if not vertical or variable.ndim > 1 or (variable.values.size == 0):
        return None
    if standard is not None and standard != "pressure":
        return standard
    if named in ("model", "sigma", "unknown"):
        return named
    long_name = str(attributes.get("long_name", "")).lower()
    words = next((kind for pattern, kind in _WORDS if re.search(pattern, long_name)), None)
    if "formula_terms" in attributes or words in ("model", "sigma"):
        return words if words is not None and words != "pressure" else "model"
    numbers, units = _numbers(variable)
    if numbers is None:
        return "unknown"
    if not np.all(np.isfinite(numbers)):
        return "unknown"
    by_units = _by_units({**attributes, "units": units})
    if by_units is not None:
        return "depth" if by_units == "height" and named == "depth" else by_units
    said = standard or words or named
    if said is not None:
        return said
    by_values = _by_values(numbers)
    rising = str(attributes.get("positive", "")).lower() == "up"
    return "height" if rising and by_values in ("pressure", "unknown") and numbers.max() < 300 else by_values


def not_pressures(kind: Kind, name: str, variable: xr.Variable | None, where: str) -> UserError:
    """The error for fields on an axis of another kind, with the remedy."""
    if kind in ("model", "sigma"):
        return on_model_levels(where, name)
    values: Any = [] if variable is None else np.atleast_1d(variable.values)
    units = "" if variable is None else str(variable.attrs.get("units", "")).strip()
    ends = [each.decode(errors="replace") if isinstance(each, bytes) else each for each in (values[0], values[-1])] \
        if len(values) else []  # fmt: skip
    shown = " … ".join(repr(str(each)) if isinstance(each, str) else f"{each:g}" for each in ends)
    listed = f"{shown} {units}".strip()
    if kind == "unknown":
        return UserError(
            f"the levels {listed} of {name} are not pressures in hPa or Pa, and nothing says what they are",
            where=where,
            remedy=f"set the units attribute of {name}, such as hPa, or interpolate to pressure levels first",
        )
    return UserError(
        f"the levels {listed} of {name} are {_CALLED[kind]}, not pressures",
        where=where,
        remedy="interpolate to pressure levels first, or correct the units and standard_name of the axis",
    )


def on_model_levels(where: str, name: str = "") -> UserError:
    """The error for a source on hybrid or sigma levels."""
    axis = f" (the axis {name})" if name else ""
    return UserError(
        f"is on model levels{axis}",
        where=where,
        remedy="say which pressure levels to make: weather-scnn regrid with --levels 500,850",
    )


def pressures(name: str, variable: xr.Variable, where: str) -> tuple[np.ndarray, bool]:
    """Values of a pressure axis in hPa, and whether they were converted from another unit.

    Raises:
        UserError: they are not pressures.
    """
    kind = kind_of_axis(name, variable)
    numbers, units = _numbers(variable)
    if kind != "pressure" or numbers is None:
        raise not_pressures(kind or "unknown", name, variable, where)
    factor = as_pressure(units)
    if factor is None:
        factor = 0.01 if numbers.max() > _HIGHEST_HPA else 1.0
    # The lower two are published in hPa alone: as pascals they would be 8.5 and 9.25 hPa.
    if factor == 0.01 and numbers.max() <= _HIGHEST_HPA and np.isin(numbers, (850.0, 925.0)).any():
        raise UserError(
            f"the levels {numbers.min():g} … {numbers.max():g} of {name} are in {units} by its units attribute, and look "
            "like hPa",
            where=where,
            remedy=f"set the units attribute of {name} to hPa",
        )
    levels = numbers if factor == 1.0 else numbers * factor
    if levels.min() <= 0 or levels.max() > _HIGHEST_HPA:
        raise UserError(
            f"levels {levels.min():g} … {levels.max():g} are not pressures in hPa or Pa",
            where=where,
            remedy="interpolate to pressure levels first",
        )
    return np.round(levels, 6), factor != 1.0


def model_level_axis(dataset: xr.Dataset) -> tuple[str, str] | None:
    """Name and kind ("hybrid" or "sigma") of the axis of model levels; None if there is none of more than one level."""
    for dim in map(str, dataset.dims):
        kind = kind_of_axis(dim, dataset[dim].variable if dim in dataset.variables else None)
        if kind in ("model", "sigma") and dataset.sizes[dim] > 1:
            return dim, "hybrid" if kind == "model" else "sigma"
    return None
