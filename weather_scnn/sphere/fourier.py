"""Fourier series along longitude, real input, in the layout that the Legendre products want.

Fields have their channels last, FFTs want longitudes last, and products with tables want orders first. A product with
the DFT matrix needs fewer of the copies between, but on CPU (2 cores, 32 to 128 rows) it took 2 to 2.5 times as long
in analysis, and was faster only in synthesis up to 128 longitudes, by 15 to 30 %, whose gradient is an analysis. So
FFTs serve all.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _factors(orders: int, first_longitude: float, turn: np.ndarray | None, dtype: np.dtype) -> jax.Array | None:
    """Complex factors (1, m) or (c, m) of Fourier coefficients: the phase of the first longitude, and the turn."""
    if turn is None and not first_longitude:
        return None
    factors = np.exp(-1j * np.arange(orders) * np.radians(first_longitude))[None]
    if turn is not None:
        factors = np.asarray(turn)[:, None] * factors
    return jnp.asarray(factors, np.result_type(dtype, np.complex64))


def wind_turn(channels: int) -> np.ndarray:
    """The turn that makes v/i of v, for channels of u followed by as many of v."""
    return np.repeat([1, -1j], channels)


def fourier(
    field: Float[Array, "b y x c"], orders: int, first_longitude: float, turn: np.ndarray | None = None
) -> Float[Array, "m y 2 b c"]:
    """turn · (1/x) Σ_x f exp(−imφ_x) as real and imaginary part, for m = 0 … orders − 1.

    Args:
        field: real.
        orders: how many.
        first_longitude: degrees.
        turn: complex factor of every channel; default 1.
    """
    modes = jnp.fft.rfft(field.transpose(1, 0, 3, 2), axis=-1, norm="forward")[..., :orders]
    factors = _factors(orders, first_longitude, turn, field.dtype)
    if factors is not None:
        modes = modes * factors
    modes = modes.transpose(3, 0, 1, 2)
    return jnp.stack([modes.real, modes.imag], 2)


def inverse_fourier(
    rows: Float[Array, "m y 2 b c"], longitudes: int, first_longitude: float, turn: np.ndarray | None = None
) -> Float[Array, "b y x c"]:
    """The real field Re Σ_m (2 − δ_m0) F_m exp(imφ_x) / turn, for turns of absolute value 1."""
    # Without the barrier the parts are joined inside the strided copy, which takes 1.4 times as long.
    modes = jax.lax.optimization_barrier(jax.lax.complex(rows[:, :, 0], rows[:, :, 1]))
    modes = modes.transpose(1, 2, 3, 0)
    factors = _factors(rows.shape[0], first_longitude, turn, rows.dtype)
    if factors is not None:
        modes = modes * factors.conj()
    return jnp.fft.irfft(modes, n=longitudes, axis=-1, norm="forward").transpose(1, 0, 3, 2)
