"""Reading `units` attributes and converting to the catalogue's SI units."""

import functools
import math
import re
from collections import Counter

# Standard gravity, m s-2: the definition of the geopotential metre (WMO).
GRAVITY = 9.80665
_WATER_DENSITY = 1000.0
_HOUR_SECONDS = 3600.0

Dimensions = tuple[tuple[str, int], ...]

_DIMENSIONLESS = {"", "1", "-", "~", "(0 - 1)", "0 - 1", "0-1", "(0-1)", "dimensionless", "fraction", "proportion"}
_DIMENSIONLESS |= {"none", "numeric", "unitless", "radians", "radian", "rad"}
_CELSIUS = {"c", "degc", "deg_c", "deg c", "celsius", "°c", "degree_celsius", "degrees_celsius", "degrees celsius"}

# token: (scale to SI, exponents of the base units)
_TOKENS: dict[str, tuple[float, dict[str, int]]] = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres", "gpm", "METERS"), (1.0, {"m": 1})),
    "km": (1e3, {"m": 1}),
    "cm": (1e-2, {"m": 1}),
    "mm": (1e-3, {"m": 1}),
    "dam": (10.0, {"m": 1}),
    "gpdm": (10.0, {"m": 1}),
    **dict.fromkeys(("s", "sec", "second", "seconds"), (1.0, {"s": 1})),
    **dict.fromkeys(("h", "hr", "hour", "hours"), (3600.0, {"s": 1})),
    **dict.fromkeys(("d", "day", "days"), (86400.0, {"s": 1})),
    **dict.fromkeys(("K", "kelvin", "Kelvin", "degK", "deg_K"), (1.0, {"K": 1})),
    "kg": (1.0, {"kg": 1}),
    "g": (1e-3, {"kg": 1}),
    **dict.fromkeys(("Pa", "pa", "pascal", "pascals"), (1.0, {"kg": 1, "m": -1, "s": -2})),
    **dict.fromkeys(
        ("hPa", "hpa", "mb", "mbar", "millibar", "millibars", "hectopascal"), (100.0, {"kg": 1, "m": -1, "s": -2})
    ),
    "kPa": (1e3, {"kg": 1, "m": -1, "s": -2}),
    **dict.fromkeys(("N", "newton", "newtons"), (1.0, {"kg": 1, "m": 1, "s": -2})),
    **dict.fromkeys(("J", "joule", "joules"), (1.0, {"kg": 1, "m": 2, "s": -2})),
    "kJ": (1e3, {"kg": 1, "m": 2, "s": -2}),
    **dict.fromkeys(("W", "watt", "watts"), (1.0, {"kg": 1, "m": 2, "s": -3})),
    "%": (0.01, {}),
    "percent": (0.01, {}),
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


@functools.lru_cache(maxsize=256)
def parse_unit(text: str) -> tuple[Dimensions, float, float] | None:
    """Dimensions, scale and offset with SI value = value · scale + offset; None if the text does not read as a unit."""
    text = text.strip().translate(_SUPERSCRIPTS).removesuffix(" of water equivalent")
    if text.lower() in _DIMENSIONLESS or re.fullmatch(r"\(?code table [\d.-]+\)?", text.lower()):
        return (), 1.0, 0.0
    if text.lower() in _CELSIUS:
        return (("K", 1),), 1.0, 273.15
    text = text.replace("**", "").replace("^", "")
    scale, exponents, sign = 1.0, Counter[str](), 1
    for separator, token in re.findall(r"([/*.·\s]*)([^/*.·\s]+)", text):
        sign = -1 if "/" in separator else sign if "*" not in separator else 1
        match = re.fullmatch(r"([A-Za-z_%]+)\(?(-?\d+)?\)?", token)
        if match is None:
            if token == "1":
                continue
            return None
        known = _TOKENS.get(match[1])
        if known is None:
            return None
        power = sign * int(match[2] or 1)
        scale *= known[0] ** power
        for base, exponent in known[1].items():
            exponents[base] += exponent * power
    return tuple(sorted((base, n) for base, n in exponents.items() if n)), scale, 0.0


def conversion(source: str, target: str) -> tuple[float, float] | None:
    """(scale, offset) with target value = source value · scale + offset; None if the quantities differ.

    Beside conversions of one dimension: metres (a geopotential height) to m2 s-2 by standard gravity, kg m-2 of water
    to metres, and W m-2 to the J m-2 of an hour, which is ERA5's accumulation window.

    Raises:
        ValueError: `source` does not read as a unit.
    """
    read, wanted = parse_unit(source), parse_unit(target)
    if read is None or wanted is None:
        raise ValueError(source if read is None else target)
    dimensions, scale, offset = read
    if dimensions == wanted[0]:
        return scale / wanted[1], offset / wanted[1]
    special: dict[tuple[str, str], float] = {
        ("m", "m2 s-2"): GRAVITY,
        ("kg m-2", "m"): 1 / _WATER_DENSITY,
        ("W m-2", "J m-2"): _HOUR_SECONDS,
    }
    for (before, after), factor in special.items():
        before_read, after_read = parse_unit(before), parse_unit(after)
        assert before_read is not None and after_read is not None
        if dimensions == before_read[0] and wanted[0] == after_read[0]:
            return scale * factor / wanted[1], 0.0
    return None


def squared_units(units: str, *, times_metres: bool = False) -> str:
    """Units of a field's square, as `m s-1` gives `m2 s-2`; what does not read as a unit is put in brackets: `(BU)2`.

    Args:
        units: of the field.
        times_metres: whether the square is multiplied by a length, as of a circle of latitude.
    """
    parsed = parse_unit(units)
    if parsed == ((), 1.0, 0.0):
        return "m" if times_metres else "1"
    powers = Counter[str]()
    for name, power in re.findall(r"([A-Za-z_%]+)[*^]*(-?\d+)?", units):
        powers[name] += 2 * int(power or 1)
    # The square is read again, so that a spelling that is not foreseen here gives brackets, not wrong units.
    again = parse_unit(_unit_text(powers))
    wanted = parsed and tuple((base, 2 * power) for base, power in parsed[0])
    if parsed is None or again is None or again[0] != wanted or not math.isclose(again[1], parsed[1] ** 2):
        return f"({units})2 m" if times_metres else f"({units})2"
    powers["m"] += times_metres
    return _unit_text(powers)


def _unit_text(powers: Counter[str]) -> str:
    return " ".join(name if power == 1 else f"{name}{power}" for name, power in powers.items() if power)
