"""Noise in the network: its law is isotropic, has the spectrum and memory that were set, and depends on its keys alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.spectra import random_spectrum, rotated
from weather_scnn.nn import NoiseModulation, NoiseSource, Width, noise_keys
from weather_scnn.nn.noise import degree_variances
from weather_scnn.sphere import EARTH_RADIUS, Grid, HarmonicTransform, power_spectrum
from weather_scnn.sphere.spectrum import Spectrum

LENGTHS, TIMES = (5e5, 2e6, 6.4e6), (6.0, 24.0, 96.0)
HOURS = 6.0


def source(**changes) -> NoiseSource:
    options = {"vector": 4, "fields": 1, "lengths": LENGTHS, "times": TIMES, "step": HOURS, "max_degree": 7}
    return NoiseSource(**(options | changes))


def keys(count: int, seed: int = 0) -> jax.Array:
    return noise_keys(jax.random.key(seed), jnp.arange(count), jnp.arange(1))


def test_pointwise_variance_is_one_at_every_place_for_scalars_and_winds(monkeypatch):
    """Exactly: the variance is the sum over coefficients of the square of what each one's deviation does to a place."""
    grid, noise = Grid.equiangular(16, 12), source()
    monkeypatch.setattr(jax.random, "normal", lambda key, shape: jnp.ones(shape))
    deviations = noise.stationary(keys(1))[0]  # (l, m, 2, C)
    transform = HarmonicTransform.create(grid, 7)
    each = jnp.eye(8 * 8 * 2).reshape(-1, 8, 8, 2, 1) * deviations
    scalars, divergent, rotational = (each[..., part : part + 3] for part in (0, 3, 6))
    found = jnp.square(transform.synthesis(scalars)).sum(axis=0)
    np.testing.assert_allclose(found, 1.0, rtol=1e-4)
    nothing = jnp.zeros_like(divergent)
    parts = [transform.synthesis_vector(divergent, nothing), transform.synthesis_vector(nothing, rotational)]
    for component in (0, 1):
        variance = sum(jnp.square(part[component]).sum(axis=0) for part in parts)
        np.testing.assert_allclose(variance, 1.0, rtol=1e-4)


def test_the_spectrum_is_the_one_that_was_set():
    fields = jax.jit(source().stationary)(keys(2000))
    power = np.asarray(power_spectrum(fields)).mean(axis=0)  # (l, C)
    degrees = np.arange(8)
    for channel in range(9):
        length, spin = LENGTHS[channel % 3], int(channel >= 3)
        law = np.exp(-0.5 * (length / EARTH_RADIUS) ** 2 * degrees * (degrees + 1)) * (degrees >= spin)
        law *= (2 * degrees + 1) * 4 * np.pi / np.sum((2 * degrees + 1) * law)
        np.testing.assert_allclose(power[:, channel], law, rtol=0.15, atol=1e-6)
        assert power[:, channel].sum() == pytest.approx(4 * np.pi, rel=0.05)


def test_random_fields_forget_as_fast_as_was_set_and_keep_their_variance():
    noise, count = source(), 400
    states = [jax.jit(noise.stationary)(keys(count))]
    step = jax.jit(lambda number, fields: noise.step(keys(count), number, fields)[1])
    for number in range(4):
        states.append(step(number, states[-1]))
    first, last = (np.asarray(state, np.float64) for state in (states[0], states[-1]))
    product, power = ((first * other).sum(axis=(0, 1, 2, 3)) for other in (last, first))
    np.testing.assert_allclose(product / power, np.exp(-4 * HOURS / np.array(TIMES * 3)), atol=0.05)
    np.testing.assert_allclose((last**2).sum(axis=(0, 1, 2, 3)) / power, 1.0, rtol=0.1)


def test_noise_depends_on_sample_and_member_alone():
    noise, key = source(), jax.random.key(3)
    many = noise_keys(key, jnp.array([5, 9]), jnp.arange(4))
    few = noise_keys(key, jnp.array([9]), jnp.array([1, 2]))
    step = jax.jit(lambda each: noise.step(each, 2, noise.stationary(each))[0])
    one, other = step(many), step(few)
    np.testing.assert_array_equal(one.vector[5:7], other.vector)
    np.testing.assert_array_equal(one.fields[5:7], other.fields)
    vectors = np.asarray(one.vector)
    assert len(np.unique(vectors)) == vectors.size  # all differ


def test_a_turned_planet_has_the_turned_modulation_and_only_spin_0_is_shifted():
    width = Width(2, 2, 1)
    layer = NoiseModulation(width, 3)
    spectrum, vector = random_spectrum(0, 5, width), jax.random.normal(jax.random.key(1), (2, 3))
    same = layer(Spectrum.of(spectrum), vector).array
    np.testing.assert_array_equal(same, spectrum)  # starts as nothing
    layer.kernel[...] = jax.random.normal(jax.random.key(2), layer.kernel.shape)
    angles = 0.4, 1.1, -0.7
    found = layer(Spectrum.of(rotated(spectrum, *angles)), vector).array
    np.testing.assert_allclose(
        found, rotated(layer(Spectrum.of(spectrum), vector).array, *angles), rtol=1e-4, atol=1e-4
    )
    shift = layer(Spectrum.of(jnp.zeros_like(spectrum)), vector).array
    assert np.abs(shift[:, 0, 0, 0, :2]).min() > 0
    assert np.abs(np.asarray(shift).copy()[:, 1:]).max() == 0 and np.abs(shift[..., 2:]).max() == 0


def test_degree_variances_count_degree_zero_and_begin_at_the_spin():
    found = degree_variances(1e6, 1, 5)
    assert found[0] == 0 and np.all(np.diff(found[1:]) < 0)
    assert np.sum((2 * np.arange(6) + 1) * degree_variances(1e6, 0, 5)) == pytest.approx(4 * np.pi)
