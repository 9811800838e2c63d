"""Fourier series along longitude, real input, in the layout that the Legendre products want."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

# Up to this many longitudes a product with the DFT matrix beats the FFT and the copies around it.
LARGEST_PRODUCT = 0


def _phase(orders: int, first_longitude: float, dtype: np.dtype) -> jax.Array:
    angle = -np.arange(orders) * np.radians(first_longitude)
    return jnp.asarray(np.exp(1j * angle), np.result_type(dtype, np.complex64))


def _matrix(longitudes: int, orders: int, first_longitude: float, dtype: np.dtype) -> Float[Array, "x m 2"]:
    longitude = np.radians(first_longitude) + 2 * np.pi / longitudes * np.arange(longitudes)
    angle = np.outer(longitude, np.arange(orders))
    return jnp.asarray(np.stack([np.cos(angle), -np.sin(angle)], -1), dtype)


def fourier(field: Float[Array, "b y x c"], orders: int, first_longitude: float) -> Float[Array, "m y 2 b c"]:
    """(1/x) Σ_x f exp(−imφ_x) as real and imaginary part, for m = 0 … orders − 1."""
    longitudes = field.shape[2]
    if longitudes <= LARGEST_PRODUCT:
        matrix = _matrix(longitudes, orders, first_longitude, field.dtype) / longitudes
        return jnp.einsum("xmr,byxc->myrbc", matrix, field, precision=jax.lax.Precision.HIGHEST)
    modes = jnp.fft.rfft(field.transpose(1, 0, 3, 2), axis=-1, norm="forward")[..., :orders]
    if first_longitude:
        modes = modes * _phase(orders, first_longitude, field.dtype)
    return _parts(modes.transpose(3, 0, 1, 2))


def _parts(modes: Complex[Array, "m y b c"]) -> Float[Array, "m y 2 b c"]:
    return jnp.stack([modes.real, modes.imag], 2)


def inverse_fourier(
    rows: Float[Array, "m y 2 b c"], longitudes: int, first_longitude: float
) -> Float[Array, "b y x c"]:
    """The real field Re Σ_m (2 − δ_m0) F_m exp(imφ_x)."""
    orders = rows.shape[0]
    if longitudes <= LARGEST_PRODUCT:
        matrix = _matrix(longitudes, orders, first_longitude, rows.dtype)
        matrix = matrix * jnp.asarray(np.where(np.arange(orders) > 0, 2.0, 1.0), rows.dtype)[:, None]
        return jnp.einsum("xmr,myrbc->byxc", matrix, rows, precision=jax.lax.Precision.HIGHEST)
    modes = jax.lax.complex(rows[:, :, 0], rows[:, :, 1]).transpose(1, 2, 3, 0)
    if first_longitude:
        modes = modes * _phase(orders, first_longitude, rows.dtype).conj()
    return jnp.fft.irfft(modes, n=longitudes, axis=-1, norm="forward").transpose(1, 0, 3, 2)
