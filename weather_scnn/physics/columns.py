"""Columns of air over the pressure levels there are: the layers that levels stand for, integrals over them.

A field on pressure levels says nothing of the air between, above and below them. Here each level stands for the layer
from half way to the level above it (the highest for all up to the top, at 0 Pa) to half way to the level below it (the
lowest for all down to the ground), cut at the surface pressure, so that the thicknesses add up to it. Between levels that
is the trapezoidal rule. Over the sea in one analysis of ERA5, held against its 37 levels, integrals from the 13 levels of
WeatherBench 2 are 0.8 % too large for specific humidity and 0.3 % too small for temperature; from 250, 500, 700 and 850 hPa
10 % too small and 0.5 % too large. Of a change of an integral the error is that share of the change.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: Latent heat of vaporisation at 0 °C, J kg⁻¹, and heat capacity of dry air, J kg⁻¹ K⁻¹, as in the IFS.
LATENT_HEAT, HEAT_CAPACITY = 2.5008e6, 1004.709


def layer_thickness(surface_pressure: Float[Array, "*b"], levels: Sequence[float]) -> Float[Array, "*b k"]:
    """Thickness in Pa of the layer that each level stands for; 0 for one below the ground.

    Args:
        surface_pressure: Pa.
        levels: hPa, in any order.
    """
    pressure = 100.0 * np.asarray(levels, np.float64)
    order = np.argsort(pressure)
    middle = (pressure[order][1:] + pressure[order][:-1]) / 2
    top, bottom = np.empty(pressure.size, np.float32), np.empty(pressure.size, np.float32)
    top[order], bottom[order] = [0.0, *middle], [*middle, np.inf]
    return jnp.maximum(jnp.minimum(surface_pressure[..., None], bottom) - top, 0.0)


def column_integral(
    values: Float[Array, "*b k"], surface_pressure: Float[Array, "*b"], levels: Sequence[float]
) -> Float[Array, "*b"]:
    """Σ x Δp over the layers, in the unit of the values times Pa; over the acceleration of gravity a content per m².

    Args:
        values: on the levels.
        surface_pressure: Pa.
        levels: hPa, in any order.
    """
    return jnp.sum(values * layer_thickness(surface_pressure, levels), axis=-1)
