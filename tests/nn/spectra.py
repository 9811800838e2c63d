"""Random spectra of real fields, for tests of layers."""

import jax.numpy as jnp
import numpy as np

from weather_scnn.nn import Width


def random_spectrum(seed: int, degree: int, width: Width, *, batch: int = 2, dtype=jnp.float32):
    """White spectra (b, l, m, 2, C) of real fields, of unit variance a coefficient, zero below each spin."""
    values = np.random.default_rng(seed).normal(size=(batch, degree + 1, degree + 1, 2, width.spectra))
    values[:, :, 1:] /= np.sqrt(2)
    values *= np.tril(np.ones((degree + 1, degree + 1)))[..., None, None]
    values[:, :, 0, 1] = 0.0
    values *= (np.arange(degree + 1)[:, None] >= width.lowest_degrees)[:, None, None]
    return jnp.asarray(values, dtype)


def assert_close(one, other, tolerance):
    """Largest difference in units of the largest value."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    np.testing.assert_allclose(one / np.abs(other).max(), other / np.abs(other).max(), atol=tolerance)
