"""Units as people read them, beside SI in the files: gpdam, °C, hPa, mm."""

import dataclasses
import functools

import numpy as np

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.units import known_conversion, parse_unit

_WRITTEN = {"degC": "°C", "g kg-1": "g kg⁻¹"}


@dataclasses.dataclass(frozen=True)
class Shown:
    """How values of a field are shown: value · scale + offset.

    Attributes:
        scale, offset: to the units shown.
        units: of values; as given where the catalogue knows none that are better.
        difference_units: of errors and spreads, which have no offset: K where values are in °C.
    """

    scale: float
    offset: float
    units: str
    difference_units: str

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values in the units shown."""
        return values * self.scale + self.offset


@functools.lru_cache(maxsize=512)
def shown(name: str, units: str) -> Shown:
    """How a field is shown.

    Args:
        name: of the variable.
        units: of its values; with another quantity's they are left as they are.

    >>> shown("geopotential", "m2 s-2").units
    'gpdam'
    >>> shown("2m_temperature", "K").of(np.array([283.15])).round(2).tolist()
    [10.0]
    """
    variable = lookup(name)
    if variable is None or variable.display_unit == variable.unit:
        return Shown(1.0, 0.0, units, units)
    read = parse_unit(units)
    if read is not None and read[2]:  # degrees with a zero of their own are shown as they are
        return Shown(1.0, 0.0, units, "K" if read == parse_unit("degC") else units)
    # The other way round, since a height becomes a geopotential and not the reverse.
    to_files = known_conversion(variable.display_unit, units)
    if to_files is None:
        return Shown(1.0, 0.0, units, units)
    scale, offset = to_files
    text = _WRITTEN.get(variable.display_unit, variable.display_unit)
    return Shown(1 / scale, -offset / scale, text, "K" if variable.display_unit == "degC" else text)
