"""The layout of spectra between transforms and layers."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.spectra import random_spectrum
from weather_scnn.nn import Width
from weather_scnn.sphere.spectrum import Spectrum
from weather_scnn.sphere.tables import BLOCK_ORDERS

WIDTH = Width(2, 1)


@pytest.mark.parametrize("degree", [0, 3, 8, BLOCK_ORDERS + 4, BLOCK_ORDERS + 7])
def test_an_array_comes_back(degree):
    array = random_spectrum(0, degree, WIDTH)
    spectrum = Spectrum.of(array)
    assert spectrum.first_degrees == [0, BLOCK_ORDERS][: len(spectrum.blocks)]
    assert all(size % 2 == 0 for block in spectrum.blocks for size in block.shape[:2])
    np.testing.assert_array_equal(spectrum.array, array)
    parts = spectrum.parts([2, 1, 1])
    again = Spectrum.of_parts(parts, spectrum.max_degree, spectrum.max_order)
    np.testing.assert_array_equal(again.array, array)


def test_blocks_leave_out_what_lies_below_their_first_order():
    degree = 4 * BLOCK_ORDERS - 1
    spectrum = Spectrum.of(jnp.zeros((1, degree + 1, degree + 1, 2, 1)))
    assert sum(block.size for block in spectrum.blocks) == 2 * (degree + 1) ** 2 * 5 // 8


@pytest.mark.parametrize(("degree", "other"), [(7, 4), (4, 7), (40, 20), (20, 40), (41, 36), (36, 41), (5, 5)])
def test_pooling_drops_and_upsampling_pads(degree, other):
    array = random_spectrum(1, degree, WIDTH)
    least = min(degree, other) + 1
    expected = np.zeros((2, other + 1, other + 1, 2, WIDTH.spectra), np.float32)
    expected[:, :least, :least] = array[:, :least, :least]
    found = Spectrum.of(array).resampled(other)
    np.testing.assert_array_equal(found.array, expected)
    assert (found.max_degree, found.max_order) == (other, other)
    # What lies beyond the largest degree is zero, so a product with a matrix of its own keeps it so.
    np.testing.assert_allclose(float(found.energy().sum()), float(Spectrum.of(jnp.asarray(expected)).energy().sum()))


def test_energy_counts_orders_above_zero_twice():
    array = np.asarray(random_spectrum(2, BLOCK_ORDERS + 4, WIDTH), np.float64)
    expected = np.square(array[:, :, 0]).sum(axis=(1, 2)) + 2 * np.square(array[:, :, 1:]).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(Spectrum.of(jnp.asarray(array, jnp.float32)).energy(), expected, rtol=1e-5)


def test_an_offset_moves_the_mean_alone():
    array = random_spectrum(3, 5, WIDTH)
    factors, offsets = jnp.array([1.0, 2, 3, 4]), jnp.array([10.0, 20, 0, 0])
    expected = np.array(array * factors)
    expected[:, 0, 0, 0] += offsets
    np.testing.assert_allclose(Spectrum.of(array).scaled(factors, offsets).array, expected, rtol=1e-6)
