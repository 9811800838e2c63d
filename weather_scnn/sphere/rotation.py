"""Rotation of spectra by Euler angles, for tests of equivariance and augmentation."""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.errors import UserError


@functools.lru_cache(maxsize=512)
def _eigenvectors(degree: int) -> np.ndarray:
    """Eigenvectors of J_x, which is real, symmetric and tridiagonal; columns have eigenvalues −l … l."""
    m = np.arange(-degree, degree)
    ladder = np.sqrt(degree * (degree + 1.0) - m * (m + 1.0)) / 2
    return np.linalg.eigh(np.diag(ladder, 1) + np.diag(ladder, -1))[1]


def wigner_d(degree: int, beta: float) -> Float[np.ndarray, "m n"]:
    """d^l_mn(β) for m, n = −l … l.

    J_y is J_x turned by a quarter about z, so exp(−iβJ_y) comes from the eigenvectors of J_x, whose eigenvalues are
    known integers (Feng et al. 2015); stable for all degrees.
    """
    vectors = _eigenvectors(degree)
    orders = np.arange(-degree, degree + 1)
    turned = (vectors * np.exp(-1j * beta * orders)) @ vectors.T
    quarter = np.array([1, -1j, -1, 1j])[(orders[:, None] - orders[None]) % 4]
    return (quarter * turned).real


def rotate_spectrum(
    spectrum: Float[Array, "*b l m 2 c"], alpha: float, beta: float, gamma: float
) -> Float[Array, "*b l m 2 c"]:
    """The spectrum of f(R⁻¹x), for R the rotation by γ about z, then β about y, then α about z.

    a′_lm = Σ_n exp(−imα) d^l_mn(β) exp(−inγ) a_ln (Varshalovich et al. 1988, §4.1). z points to the north pole, x to
    longitude 0. The spectra E and B of a wind turn in the same way.

    Args:
        spectrum: of a real field, with all orders up to its degree.
        alpha: radians.
        beta: radians.
        gamma: radians.

    Raises:
        UserError: the spectrum has fewer orders than degrees, so that the rotated one would not fit.
    """
    degrees, orders = spectrum.shape[-4:-2]
    if orders < degrees:
        raise UserError(
            f"a spectrum with {orders} orders and {degrees} degrees cannot be rotated",
            remedy="use a grid with at least twice as many longitudes as degrees, or a lower max_degree",
        )
    # With a_l,−n = (−1)^n conj(a_ln), real and imaginary part turn by one real matrix each.
    real, imaginary = np.zeros((degrees, orders, orders)), np.zeros((degrees, orders, orders))
    for l in range(degrees):
        matrix = wigner_d(l, beta)[l:]
        positive = matrix[:, l:]
        negative = matrix[:, l::-1] * (-1.0) ** np.arange(l + 1)
        negative[:, 0] = 0.0
        real[l, : l + 1, : l + 1] = positive + negative
        imaginary[l, : l + 1, : l + 1] = positive - negative
    matrices = jnp.asarray(np.stack([real, imaginary], -1), spectrum.dtype)
    turned = jnp.einsum("lmnr,...lnrc->...lmrc", matrices, _turn_about_z(spectrum, gamma), precision="highest")
    return _turn_about_z(turned, alpha)


def _turn_about_z(spectrum: Float[Array, "*b l m 2 c"], angle: float) -> Float[Array, "*b l m 2 c"]:
    """exp(−i m angle) a_lm."""
    phase = np.arange(spectrum.shape[-3]) * math.fmod(angle, 2 * math.pi)
    cos = jnp.asarray(np.cos(phase), spectrum.dtype)[:, None]
    sin = jnp.asarray(np.sin(phase), spectrum.dtype)[:, None]
    real, imaginary = spectrum[..., 0, :], spectrum[..., 1, :]
    return jnp.stack([cos * real + sin * imaginary, cos * imaginary - sin * real], -2)
