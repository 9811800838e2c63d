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

_DIMENSIONLESS = {"", "1", "-", "~", "(0 - 1)", "0 - 1", "0-1", "(0-1)", "0..1", "dimensionless", "fraction"}
_DIMENSIONLESS |= {"none", "numeric", "unitless", "proportion", "fractional", "non-dim", "nondim", "non-dimensional"}
_CELSIUS = {"c", "°c", "℃", "celsius", "degc", "degreec", "degreesc", "degcelsius", "degreecelsius", "degreescelsius"}
_FAHRENHEIT = {"f", "°f", "℉", "fahrenheit", "degf", "degreef", "degreesf"}
_FAHRENHEIT |= {"degfahrenheit", "degreefahrenheit", "degreesfahrenheit"}
# What is said beside the unit: of what it is, or what kind of metre.
_REMARKS = re.compile(
    r"\s*\(?\b(of water equivalent|water equivalent|of water|water|w\.?\s?e\.?(?:q\.?)?|h2o|liquid water equivalent|lwe)\)?\s*$",
    re.IGNORECASE,
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻−·", "0123456789--.")

_METRE, _SECOND, _KELVIN = {"m": 1}, {"s": 1}, {"K": 1}
_PASCAL = {"kg": 1, "m": -1, "s": -2}
_JOULE, _WATT = {"kg": 1, "m": 2, "s": -2}, {"kg": 1, "m": 2, "s": -3}


def _table() -> dict[str, tuple[float, dict[str, int]]]:
    """Spelling: (scale to SI, exponents of the base units)."""
    rows: list[tuple[str, float, dict[str, int]]] = [
        ("m meter meters metre metres", 1.0, _METRE),
        ("gpm geopotential_meter geopotential_meters geopotential_metre geopotential_metres", 1.0, _METRE),
        ("dagpm gpdam gpdm", 10.0, _METRE),
        ("in inch inches", 0.0254, _METRE),
        ("ft foot feet gpft", 0.3048, _METRE),
        ("yd yard yards", 0.9144, _METRE),
        ("mi mile miles statute_mile", 1609.344, _METRE),
        ("nmi nautical_mile nautical_miles", 1852.0, _METRE),
        ("micron microns", 1e-6, _METRE),
        ("s sec secs second seconds", 1.0, _SECOND),
        ("min mins minute minutes", 60.0, _SECOND),
        ("h hr hrs hour hours", 3600.0, _SECOND),
        ("d day days", 86400.0, _SECOND),
        ("Hz hertz", 1.0, {"s": -1}),
        ("K k kelvin kelvins degK deg_K degree_K degrees_K degree_kelvin degrees_kelvin", 1.0, _KELVIN),
        ("degR rankine", 5 / 9, _KELVIN),
        ("g gram grams gramme grammes", 1e-3, {"kg": 1}),
        ("t tonne tonnes", 1e3, {"kg": 1}),
        ("lb lbs pound pounds", 0.45359237, {"kg": 1}),
        ("kt kts kn knot knots", 1852.0 / 3600.0, {"m": 1, "s": -1}),
        ("mph", 1609.344 / 3600.0, {"m": 1, "s": -1}),
        ("kph kmh kmph", 1 / 3.6, {"m": 1, "s": -1}),
        ("mps", 1.0, {"m": 1, "s": -1}),
        ("fps", 0.3048, {"m": 1, "s": -1}),
        ("Pa pascal pascals", 1.0, _PASCAL),
        ("mb millibar millibars", 100.0, _PASCAL),
        ("ub microbar microbars", 0.1, _PASCAL),
        ("bar bars", 1e5, _PASCAL),
        ("atm atmosphere atmospheres", 101325.0, _PASCAL),
        ("torr mmHg mm_Hg", 101325.0 / 760.0, _PASCAL),
        ("inHg in_Hg", 3386.389, _PASCAL),  # at 0 °C
        ("psi", 6894.757293168, _PASCAL),
        ("N newton newtons", 1.0, {"kg": 1, "m": 1, "s": -2}),
        ("dyn dyne dynes", 1e-5, {"kg": 1, "m": 1, "s": -2}),
        ("J joule joules", 1.0, _JOULE),
        ("cal calorie calories", 4.184, _JOULE),
        ("erg ergs", 1e-7, _JOULE),
        ("W watt watts", 1.0, _WATT),
        ("Wh", 3600.0, _JOULE),
        ("ly langley langleys", 41840.0, {"kg": 1, "s": -2}),
        ("PVU pvu", 1e-6, {"K": 1, "m": 2, "kg": -1, "s": -1}),
        ("DU dobson dobsons dobson_unit dobson_units", 2.1415e-5, {"kg": 1, "m": -2}),  # of ozone
        ("l L litre litres liter liters", 1e-3, {"m": 3}),
        ("% percent pct percentage per_cent", 0.01, {}),
        ("‰ permille per_mille", 1e-3, {}),
        ("okta oktas octa octas eighths", 0.125, {}),
        ("tenths", 0.1, {}),
        ("ppm ppmm", 1e-6, {}),
        ("ppb ppbm", 1e-9, {}),
        ("rad radian radians", 1.0, {}),
        ("deg degree degrees °", math.pi / 180, {}),
    ]
    return {name: (scale, exponents) for names, scale, exponents in rows for name in names.split()}


_TOKENS = _table()
# By their letters, `kt` being knots and `min` minutes: what the table holds is not taken apart.
_PREFIXES = {
    "da": 10.0, "deca": 10.0, "h": 1e2, "hecto": 1e2, "k": 1e3, "kilo": 1e3, "M": 1e6, "mega": 1e6, "G": 1e9, "giga": 1e9,
    "d": 1e-1, "deci": 1e-1, "c": 1e-2, "centi": 1e-2, "m": 1e-3, "milli": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6,
    "micro": 1e-6, "n": 1e-9, "nano": 1e-9,
}  # fmt: skip
_PREFIXED = {
    "m", "metre", "meter", "metres", "meters", "gpm", "s", "K", "g", "gram", "grams", "Pa", "pascal", "pascals", "bar", "bars",
    "N", "J", "joule", "joules", "W", "watt", "watts", "Wh", "cal", "Hz", "l", "L", "litre", "litres",
}  # fmt: skip
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PART = re.compile(
    rf"(?P<separator>[\s/*.x×]*?)(?:(?P<ten>10)\^(?P<power>-?\d+)|(?P<number>{_NUMBER})"
    r"|(?P<name>[A-Za-zµμ_%‰°]+)(?:\^?\(?(?P<exponent>[-+]?\d+)\)?)?)"
)


def _known(name: str) -> tuple[float, dict[str, int]] | None:
    """Scale and exponents of one word; words in capitals are read as the small ones where those alone are known."""
    for spelling in (name, name.lower()):
        if spelling in _TOKENS:
            return _TOKENS[spelling]
        for prefix in sorted(_PREFIXES, key=len, reverse=True):
            rest = spelling.removeprefix(prefix)
            if rest != spelling and rest in _PREFIXED:
                scale, exponents = _TOKENS[rest]
                return _PREFIXES[prefix] * scale, exponents
    small = {token.lower(): token for token in _TOKENS if len(token) > 1 and token != token.lower()}
    if name.lower() in small:
        return _TOKENS[small[name.lower()]]
    for prefix in ("h", "k"):
        if name.lower() == f"{prefix}pa":
            return _PREFIXES[prefix], _PASCAL
    return None


@functools.lru_cache(maxsize=512)
def parse_unit(text: str) -> tuple[Dimensions, float, float] | None:
    """Dimensions, scale and offset with SI value = value · scale + offset; None if the text does not read as a unit.

    Read are CF, UDUNITS and GRIB spellings, factors such as 1e-3 or 10^-5, SI prefixes, and the units that weather
    services use beside SI. A temperature in degrees has an offset where it stands alone.
    """
    text = text.strip().translate(_SUPERSCRIPTS)
    if text.lower() in _DIMENSIONLESS or re.fullmatch(r"\(?code table [\d.-]+\)?", text.lower()):
        return (), 1.0, 0.0
    word = re.sub(r"[\s_.]", "", text.lower())
    if word in _CELSIUS:
        return (("K", 1),), 1.0, 273.15
    if word in _FAHRENHEIT:
        return (("K", 1),), 5 / 9, 273.15 - 32 * 5 / 9
    text = _REMARKS.sub("", text).strip("[] ").replace("**", "^")
    text = re.sub(r"\b(deg|degrees?|geopotential|nautical|dobson)\.?\s+(?=[A-Za-z])|\b(in|mm)\s+(?=Hg)", _joined, text)
    text = re.sub(r"\bper\s+(?!cent|mille)", "/", text)
    text = re.sub(r"^\(([^()]*)\)$", r"\1", text)
    # Whatever stands in brackets under a stroke is divided by.
    text = re.sub(r"/\s*\(([^()]*)\)", lambda match: "/" + re.sub(r"[\s*.]+", "/", match[1].strip()), text)
    if not text:
        return None
    scale, exponents, sign, at = 1.0, Counter[str](), 1, 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None or match.end() == at:
            return None
        at = match.end()
        separator = match["separator"]
        if separator.count("/") > 1:
            return None
        # Division holds for what follows at once, or to the end where only spaces follow: `J/kg K` is a heat capacity.
        sign = -1 if "/" in separator else 1 if re.search(r"[*.x×]", separator) else sign
        if match["ten"]:
            scale *= 10.0 ** (sign * int(match["power"]))
            continue
        if match["number"]:
            scale *= float(match["number"]) ** sign
            continue
        known = _known(match["name"])
        if known is None:
            return None
        power = sign * int(match["exponent"] or 1)
        scale *= known[0] ** power
        for base, exponent in known[1].items():
            exponents[base] += exponent * power
    if not (math.isfinite(scale) and scale > 0):
        return None
    return tuple(sorted((base, n) for base, n in exponents.items() if n)), scale, 0.0


def _joined(match: re.Match[str]) -> str:
    return f"{match[1] or match[2]}_"


_WINDOW = re.compile(
    r"(?P<amount>.*?[^\s/])\s*(?:(?:/|per)\s*\(?(?P<count>\d+)?\s*-?(?P<under>h|hr|hrs|hours?|d|days?)\)?"
    r"|\s(?P<over>h|hr|hours?|d|days?)(?:\*\*|\^)?-1)",
    re.IGNORECASE,
)


def amount_in_window(units: str) -> tuple[str, float, bool] | None:
    """Unit of the amount, hours it falls in, and whether these are counted: `mm/6h` is an amount, `mm/h` may be a rate.

    None for a unit that does not say an amount of water or energy in some hours or days.
    """
    match = _WINDOW.fullmatch(units.strip().translate(_SUPERSCRIPTS))
    if match is None:
        return None
    day = (match["under"] or match["over"]).lower().startswith("d")
    return match["amount"], float(match["count"] or 1) * (24 if day else 1), match["count"] is not None


def conversion(source: str, target: str) -> tuple[float, float] | None:
    """(scale, offset) with target value = source value · scale + offset; None if the quantities differ.

    Beside conversions of one dimension: metres (a geopotential height) to m2 s-2 by standard gravity, kg m-2 of water
    to metres and back, kg m-3 of water to a share of the volume, and W m-2 to the J m-2 of an hour, which is ERA5's
    accumulation window.

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
        ("m", "kg m-2"): _WATER_DENSITY,
        ("kg m-3", "m3 m-3"): 1 / _WATER_DENSITY,
        ("W m-2", "J m-2"): _HOUR_SECONDS,
    }
    for (before, after), factor in special.items():
        before_read, after_read = parse_unit(before), parse_unit(after)
        assert before_read is not None and after_read is not None
        if dimensions == before_read[0] and wanted[0] == after_read[0]:
            return scale * factor / wanted[1], 0.0
    return None


def known_conversion(source: str, target: str) -> tuple[float, float] | None:
    """As `conversion`, None also where one of them does not read as a unit.

    >>> known_conversion("hPa", "Pa"), known_conversion("furlongs", "m"), known_conversion("K", "Pa")
    ((100.0, 0.0), None, None)
    """
    try:
        return conversion(source, target)
    except ValueError:
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
