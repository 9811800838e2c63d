"""Random spectra of real fields, for tests of layers."""

import jax.numpy as jnp
import numpy as np

from weather_scnn.nn import Width
from weather_scnn.sphere.spectrum import Spectrum


def random_spectrum(seed: int, degree: int, width: Width, *, batch: int = 2, dtype=jnp.float32):
    """White spectra (b, l, m, 2, C) of real fields, of unit variance a coefficient, zero below each spin."""
    values = np.random.default_rng(seed).normal(size=(batch, degree + 1, degree + 1, 2, width.spectra))
    values[:, :, 1:] /= np.sqrt(2)
    values *= np.tril(np.ones((degree + 1, degree + 1)))[..., None, None]
    values[:, :, 0, 1] = 0.0
    values *= (np.arange(degree + 1)[:, None] >= width.lowest_degrees)[:, None, None]
    return jnp.asarray(values, dtype)


def on_arrays(layer):
    """A layer between spectra as a function of arrays (b, l, m, 2, C)."""

    def applied(array, **options):
        return layer(Spectrum.of(array), **options).array

    return applied


def energies(array):
    """`Spectrum.energy` of an array."""
    return Spectrum.of(array).energy()


def to_grid(harmonics, array, width):
    """Fields of an array of spectra."""
    return harmonics.synthesis(Spectrum.of(array), width)


def to_array(harmonics, fields):
    """Array of the spectra of fields."""
    return harmonics.analysis(fields).array


def assert_close(one, other, tolerance):
    """Largest difference in units of the largest value."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    np.testing.assert_allclose(one / np.abs(other).max(), other / np.abs(other).max(), atol=tolerance)
