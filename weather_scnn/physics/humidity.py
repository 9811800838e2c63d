"""Humidity in the terms of ECMWF's IFS: saturation over water, ice or, between, a mixture of both.

Saturation vapour pressure is a₁ exp(a₃ (T − T₀)/(T − a₄)), with the constants of Buck (1981) over water and of Alduchov
and Eskridge (1996) over ice (IFS Documentation, Part IV: Physical Processes, "Saturation specific humidity"). The part
of water is ((T − 250.16)/23)² between 250.16 K and 273.16 K, and so is ERA5's relative humidity made.
"""

import numpy as np
from jaxtyping import Float

_TRIPLE_POINT_K = 273.16
_ALL_ICE_K = 250.16
_WATER = (611.21, 17.502, 32.19)
_ICE = (611.21, 22.587, -0.7)
#: Ratio of the gas constants of dry air and water vapour, 287.0597/461.5250.
EPSILON = 0.621981


def _teten(temperature: np.ndarray, constants: tuple[float, float, float]) -> np.ndarray:
    a1, a3, a4 = constants
    return a1 * np.exp(a3 * (temperature - _TRIPLE_POINT_K) / (temperature - a4))


def saturation_pressure_over_water(temperature: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Pa, for a temperature in K."""
    return _teten(temperature, _WATER)


def saturation_pressure(temperature: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Pa over the mixture of water and ice that the IFS assumes at a temperature in K."""
    water = (np.clip(temperature, _ALL_ICE_K, _TRIPLE_POINT_K) - _ALL_ICE_K) / (_TRIPLE_POINT_K - _ALL_ICE_K)
    share = water * water
    return share * _teten(temperature, _WATER) + (1.0 - share) * _teten(temperature, _ICE)


def vapour_pressure(
    specific_humidity: Float[np.ndarray, "..."], pressure: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Pa, for kg kg⁻¹ and Pa: p q / (ε + (1 − ε) q)."""
    return pressure * specific_humidity / (EPSILON + (1.0 - EPSILON) * specific_humidity)


def specific_humidity_of(
    vapour: Float[np.ndarray, "..."], pressure: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """kg kg⁻¹ of a vapour pressure at a pressure, both Pa: ε e / (p − (1 − ε) e)."""
    return EPSILON * vapour / (pressure - (1.0 - EPSILON) * vapour)


def relative_humidity(
    temperature: Float[np.ndarray, "..."], specific_humidity: Float[np.ndarray, "..."], pressure: np.ndarray
) -> Float[np.ndarray, "..."]:
    """Fraction, of the mixed-phase saturation, as ERA5 has it on pressure levels; K, kg kg⁻¹ and Pa."""
    return vapour_pressure(specific_humidity, pressure) / saturation_pressure(temperature)


def specific_humidity(
    temperature: Float[np.ndarray, "..."], relative: Float[np.ndarray, "..."], pressure: np.ndarray
) -> Float[np.ndarray, "..."]:
    """The inverse of `relative_humidity`, kg kg⁻¹."""
    return specific_humidity_of(relative * saturation_pressure(temperature), pressure)


def relative_humidity_at_2m(
    temperature: Float[np.ndarray, "..."], dewpoint: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Fraction, over water at all temperatures, as the dew point is defined; both K."""
    return saturation_pressure_over_water(dewpoint) / saturation_pressure_over_water(temperature)


def specific_humidity_at_2m(
    dewpoint: Float[np.ndarray, "..."], surface_pressure: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """kg kg⁻¹, for K and Pa."""
    return specific_humidity_of(saturation_pressure_over_water(dewpoint), surface_pressure)
