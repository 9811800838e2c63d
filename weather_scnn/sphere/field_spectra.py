"""Power spectra of fields in NumPy arrays, which show at a glance where a forecast is blurred or noisy.

Shapes: n fields, y latitude, x longitude, k zonal wavenumber, l degree.
"""

import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from weather_scnn.job_platform import job_device
from weather_scnn.sphere.grid import EARTH_RADIUS, Grid, latitude_weights


def zonal_energy(
    fields: Float[np.ndarray, "*n y x"], latitude: Float[np.ndarray, " y"], radius: float = EARTH_RADIUS
) -> Float[np.ndarray, "*n y k"]:
    """Energy of each zonal wavenumber on each circle of latitude, of the field's unit squared times metres.

    With F = rfft(f)/N and C = 2πR cos(latitude): S₀ = C|F₀|², S_k = 2C|F_k|² (WeatherBench 2), except that the Nyquist
    wavenumber of an even N is not doubled, so that the sum over k is C times the mean of f² (Parseval).
    """
    points = fields.shape[-1]
    transform = np.fft.rfft(np.asarray(fields, np.float64), axis=-1) / points
    factor = np.full(transform.shape[-1], 2.0)
    factor[0] = 1.0
    if points % 2 == 0:
        factor[-1] = 1.0
    # A pole row has no length; cos(90°) is 6e-17 in floating point.
    circumference = 2 * np.pi * radius * np.maximum(np.cos(np.radians(latitude)), 0.0)
    return (transform.real**2 + transform.imag**2) * factor * circumference[:, None]


def mean_zonal_energy(fields: Float[np.ndarray, "*n y x"], latitude: Float[np.ndarray, " y"]) -> np.ndarray:
    """Mean of `zonal_energy` over latitudes, weighted by area; shape (*n, k)."""
    weights = latitude_weights(latitude)
    return np.einsum("...yk,y->...k", zonal_energy(fields, latitude), weights) / weights.sum()


@functools.lru_cache(maxsize=2)
def _compiled(grid: Grid, vectors: bool) -> tuple[Any, Any, Any]:
    """The transform of a grid, and its compiled scalar and wind spectra."""
    import jax
    import jax.numpy as jnp

    from weather_scnn.sphere import HarmonicTransform, kinetic_energy_spectrum, power_spectrum

    transform = HarmonicTransform.create(grid, vectors=vectors)

    @jax.jit
    def scalar(transform: Any, field: Any) -> Any:
        spectrum = transform.analysis(field)
        return power_spectrum(spectrum), spectrum[0, 0, 0]

    @jax.jit
    def wind(transform: Any, u: Any, v: Any) -> Any:
        divergent, rotational = transform.analysis_vector(u, v)
        return jnp.add(*kinetic_energy_spectrum(divergent, rotational))

    return transform, scalar, wind


def degree_power(fields: Float[np.ndarray, "n y x"], grid: Grid) -> Float[np.ndarray, "n l"]:
    """Mean square of a field per degree l: Σ_m |a_lm|² / 4π, which sums over l to the mean of f² over the sphere.

    The mean over the sphere is taken out before the float32 transform and put back at l = 0, so that its rounding does
    not hide the small scales of geopotential.
    """
    fields = np.asarray(fields, np.float64)
    weights = grid.area_weights[:, None] / (grid.latitudes * grid.longitudes)
    mean = (fields * weights).sum(axis=(-2, -1))
    anomalies = np.moveaxis(fields - mean[:, None, None], 0, -1).astype(np.float32)
    with job_device():
        transform, scalar, _ = _compiled(grid, False)
        power, first = (np.asarray(each, np.float64) for each in scalar(transform, anomalies))
    power = power.T / (4 * np.pi)
    # The analysis integrates more exactly than cell areas, so a little of the mean is left in the first coefficient.
    power[:, 0] = (mean + first / np.sqrt(4 * np.pi)) ** 2
    return power


def kinetic_energy(
    u: Float[np.ndarray, "n y x"], v: Float[np.ndarray, "n y x"], grid: Grid
) -> Float[np.ndarray, "n l"]:
    """Kinetic energy of the wind per degree and unit mass, m² s⁻²; the sum over l is the mean of (u² + v²)/2."""
    last = [np.moveaxis(np.asarray(each, np.float32), 0, -1) for each in (u, v)]
    with job_device():
        transform, _, wind = _compiled(grid, True)
        return np.asarray(wind(transform, *last), np.float64).T
