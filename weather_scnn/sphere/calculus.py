"""Vector calculus on the sphere by way of spectra, in SI units with the Earth's radius.

Fields are (…, y, x, c) on the grid of a `HarmonicTransform`. Everything is exact up to rounding for fields within the
transform's degree, and finite on pole rows, since no division by cos(latitude) takes place.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.sphere.grid import EARTH_RADIUS
from weather_scnn.sphere.transforms import HarmonicTransform, power_spectrum


def _scaled(spectrum: jax.Array, power: float, factor: float) -> jax.Array:
    """factor · (l(l+1))^power · spectrum, with zero at l = 0."""
    degree = np.arange(spectrum.shape[-4], dtype=np.float64)
    eigenvalue = degree * (degree + 1)
    scale = factor * np.where(eigenvalue > 0, np.where(eigenvalue > 0, eigenvalue, 1.0) ** power, 0.0)
    return spectrum * jnp.asarray(scale, spectrum.dtype)[:, None, None, None]


def gradient(
    transform: HarmonicTransform, field: Float[Array, "*b y x c"], radius: float = EARTH_RADIUS
) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
    """Eastward and northward derivative, in the field's unit per metre."""
    divergent = _scaled(transform.analysis(field), 0.5, 1 / radius)
    return transform.synthesis_vector(divergent, jnp.zeros_like(divergent))


def divergence(
    transform: HarmonicTransform,
    u: Float[Array, "*b y x c"],
    v: Float[Array, "*b y x c"],
    radius: float = EARTH_RADIUS,
) -> Float[Array, "*b y x c"]:
    """∇·(u, v) in s⁻¹ for a wind in m s⁻¹."""
    divergent, _ = transform.analysis_vector(u, v)
    return transform.synthesis(_scaled(divergent, 0.5, -1 / radius))


def vorticity(
    transform: HarmonicTransform,
    u: Float[Array, "*b y x c"],
    v: Float[Array, "*b y x c"],
    radius: float = EARTH_RADIUS,
) -> Float[Array, "*b y x c"]:
    """k·∇×(u, v) in s⁻¹ for a wind in m s⁻¹; positive for cyclones of the northern hemisphere."""
    _, rotational = transform.analysis_vector(u, v)
    return transform.synthesis(_scaled(rotational, 0.5, -1 / radius))


def laplacian(
    transform: HarmonicTransform, field: Float[Array, "*b y x c"], radius: float = EARTH_RADIUS
) -> Float[Array, "*b y x c"]:
    """∇² of a field, in its unit per square metre; the eigenvalue of degree l is −l(l+1)/radius²."""
    return transform.synthesis(_scaled(transform.analysis(field), 1.0, -1 / radius**2))


def inverse_laplacian(
    transform: HarmonicTransform, field: Float[Array, "*b y x c"], radius: float = EARTH_RADIUS
) -> Float[Array, "*b y x c"]:
    """The field of global mean zero whose Laplacian is this one less its global mean."""
    return transform.synthesis(_scaled(transform.analysis(field), -1.0, -(radius**2)))


def wind_from_vorticity_divergence(
    transform: HarmonicTransform,
    vorticity: Float[Array, "*b y x c"],
    divergence: Float[Array, "*b y x c"],
    radius: float = EARTH_RADIUS,
) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
    """The wind (u, v) in m s⁻¹ with this vorticity and divergence in s⁻¹ (less their global means, which are zero)."""
    rotational = _scaled(transform.analysis(vorticity), -0.5, -radius)
    divergent = _scaled(transform.analysis(divergence), -0.5, -radius)
    return transform.synthesis_vector(divergent, rotational)


def kinetic_energy_spectrum(
    divergent: Float[Array, "*b l m 2 c"], rotational: Float[Array, "*b l m 2 c"]
) -> tuple[Float[Array, "*b l c"], Float[Array, "*b l c"]]:
    """Kinetic energy per degree and unit mass, of the divergent and the rotational wind, in m² s⁻².

    The sum of both over l is the global mean of (u² + v²)/2.
    """
    factor = 1 / (8 * np.pi)
    return factor * power_spectrum(divergent), factor * power_spectrum(rotational)
