"""Random spectra of real fields, for tests of layers; and calls as one program, which XLA compiles in less than one an
operation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from weather_scnn.nn import Width
from weather_scnn.sphere import rotate_spectrum
from weather_scnn.sphere.spectrum import Spectrum

rotated = jax.jit(rotate_spectrum, static_argnums=(1, 2, 3))


def compiled(module):
    """Calls of a module as one program; the moments that it keeps change as ever."""
    run = nnx.jit(lambda module, *given, **options: module(*given, **options), static_argnames="training")
    return functools.partial(run, module)


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

    run = nnx.jit(
        lambda layer, array, **options: layer(Spectrum.of(array), **options).array, static_argnames="training"
    )
    return functools.partial(run, layer)


def energies(array):
    """`Spectrum.energy` of an array."""
    return Spectrum.of(array).energy()


@functools.partial(nnx.jit, static_argnames="width")
def to_grid(harmonics, array, width):
    """Fields of an array of spectra."""
    return harmonics.synthesis(Spectrum.of(array), width)


@nnx.jit
def to_array(harmonics, fields):
    """Array of the spectra of fields."""
    return harmonics.analysis(fields).array


def assert_close(one, other, tolerance):
    """Largest difference in units of the largest value."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    np.testing.assert_allclose(one / np.abs(other).max(), other / np.abs(other).max(), atol=tolerance)
