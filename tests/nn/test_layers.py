"""Equivariance, realness, variance and gradients of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.nn import (
    Fields,
    Harmonics,
    PhaseCollapse,
    ResidualBlock,
    SpectralBatchNorm,
    SpectralConvolution,
    Width,
)
from weather_scnn.nn.convolution import degree_interpolation
from weather_scnn.nn.features import spectral_energy
from weather_scnn.sphere import Grid, HarmonicTransform, rotate_spectrum

ANGLES = (0.7, 1.1, -2.3)
WIDTH = Width(3, 2)


@pytest.fixture
def spectrum():
    """Spectra of random real fields, (2, l, m, 2, C), with no spin-1 part at l = 0."""
    rng = np.random.default_rng(3)
    degrees = 8
    values = rng.normal(size=(2, degrees, degrees, 2, WIDTH.spectra))
    values *= np.tril(np.ones((degrees, degrees)))[..., None, None]
    values[:, :, 0, 1] = 0.0
    values[:, 0, :, :, WIDTH.scalars :] = 0.0
    return jnp.asarray(values, jnp.float32)


def close(one, other, tolerance):
    scale = float(jnp.abs(other).max())
    np.testing.assert_allclose(np.asarray(one) / scale, np.asarray(other) / scale, atol=tolerance)


@pytest.mark.parametrize("parameters", [None, 3])
def test_convolution_commutes_with_rotation(spectrum, parameters):
    layer = SpectralConvolution(WIDTH, Width(4, 3), 7, parameters=parameters, rngs=nnx.Rngs(0))
    close(layer(rotate_spectrum(spectrum, *ANGLES)), rotate_spectrum(layer(spectrum), *ANGLES), 3e-6)


def test_batch_norm_commutes_with_rotation_and_standardises(spectrum):
    layer = SpectralBatchNorm(WIDTH)
    layer.scale[...] = jnp.arange(1.0, 6.0)
    layer.bias[...] = jnp.array([0.5, -0.2, 0.1])
    for training in (True, False):
        turned = layer(rotate_spectrum(spectrum, *ANGLES), training=training)
        close(turned, rotate_spectrum(layer(spectrum, training=training), *ANGLES), 3e-6)
    plain = SpectralBatchNorm(WIDTH)(spectrum, training=True)
    # Mean square over sphere and batch is 1 for scalars; for a wind (u² + v²)/2 is.
    energy = np.asarray(spectral_energy(plain)).mean(axis=0) / (4 * np.pi)
    np.testing.assert_allclose(energy[:3], 1.0, rtol=1e-3)
    np.testing.assert_allclose((energy[3:5] + energy[5:]) / 2, 1.0, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(plain[:, 0, 0, 0, :3]).mean(axis=0), 0.0, atol=1e-6)


def test_running_statistics_keep_their_shape_and_approach_the_moments(spectrum):
    layer = SpectralBatchNorm(WIDTH, momentum=0.5)
    shapes = [layer.mean[...].shape, layer.variance[...].shape]
    for _ in range(40):
        trained = layer(spectrum, training=True)
    assert [layer.mean[...].shape, layer.variance[...].shape] == shapes == [(3,), (5,)]
    close(layer(spectrum, training=False), trained, 1e-5)


@pytest.mark.parametrize(("latitudes", "bound"), [(32, 3e-2), (64, 8e-3)])
def test_a_block_is_equivariant_and_more_so_on_a_finer_grid(latitudes, bound):
    """|x| is not band-limited; what it aliases falls as the grid is refined at equal degree."""
    degree = 7
    harmonics = Harmonics(HarmonicTransform.create(Grid.equiangular(2 * latitudes, latitudes), degree))
    block = ResidualBlock(WIDTH, harmonics, filter_parameters=None, gate=True, rngs=nnx.Rngs(1))
    block.second_norm.scale[...] = jnp.ones(5)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, degree + 1, degree + 1, 2, WIDTH.spectra))
    values *= np.tril(np.ones((degree + 1, degree + 1)))[..., None, None]
    values[:, :, 0, 1] = 0.0
    values[:, 0, :, :, 3:] = 0.0
    given = jnp.asarray(values, jnp.float32)
    branch = block(given, training=True) - given
    turned = rotate_spectrum(given, *ANGLES)
    error = (block(turned, training=True) - turned) - rotate_spectrum(branch, *ANGLES)
    assert float(jnp.abs(error).max() / jnp.abs(branch).max()) < bound


def test_a_new_block_changes_nothing():
    harmonics = Harmonics(HarmonicTransform.create(Grid.equiangular(16, 8)))
    block = ResidualBlock(WIDTH, harmonics, filter_parameters=4, rngs=nnx.Rngs(0))
    size = harmonics.max_degree + 1
    given = jnp.ones((1, size, size, 2, WIDTH.spectra))
    np.testing.assert_array_equal(block(given, training=True), given)


def test_mirror_symmetry_forbids_what_a_mirror_would_not_do(spectrum):
    layer = SpectralConvolution(WIDTH, Width(2, 2), 7, mirror_symmetric=True, rngs=nnx.Rngs(0))
    odd = spectrum.at[..., :5].set(0.0)
    assert float(jnp.abs(layer(odd)[..., :4]).max()) == 0.0 and float(jnp.abs(layer(odd)[..., 4:]).max()) > 0
    even = spectrum.at[..., 5:].set(0.0)
    assert float(jnp.abs(layer(even)[..., 4:]).max()) == 0.0


def test_phase_collapse_is_the_published_formula_and_leaves_the_wind():
    layer = PhaseCollapse(Width(2, 1), rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    scalar, u, v = (rng.normal(size=(1, 3, 4, c)).astype("float32") for c in (2, 1, 1))
    out = layer(Fields(*map(jnp.asarray, (scalar, u, v))))
    kernel, bias = np.asarray(layer.collapse.kernel[...]), np.asarray(layer.collapse.bias[...])
    expected = scalar @ kernel[:2] + np.abs(scalar) @ kernel[2:4] + np.hypot(u, v) @ kernel[4:] + bias
    np.testing.assert_allclose(out.scalar, expected, atol=1e-5)
    np.testing.assert_array_equal(out.eastward, u)


def test_gradients_are_finite_where_the_wind_vanishes():
    layer = PhaseCollapse(Width(1, 1), gate=True, rngs=nnx.Rngs(0))
    zeros = Fields(*(jnp.zeros((1, 2, 2, 1)) for _ in range(3)))
    gradient = jax.grad(lambda fields: sum(part.sum() for part in layer(fields)))(zeros)
    assert all(np.isfinite(part).all() for part in gradient)


def test_convolution_keeps_the_variance():
    layer = SpectralConvolution(Width(40, 20), Width(40, 20), 15, parameters=5, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    white = rng.normal(size=(4, 16, 16, 2, 80)) * np.tril(np.ones((16, 16)))[..., None, None]
    before = float(spectral_energy(jnp.asarray(white)).mean())
    after = float(spectral_energy(layer(jnp.asarray(white, jnp.float32))).mean())
    assert 0.8 < after / before < 1.25


def test_interpolation_rows_sum_to_one_and_knots_are_kept():
    table = degree_interpolation(20, 5)
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    np.testing.assert_allclose(table[[0, 5, 10, 15, 20]], np.eye(5), atol=1e-15)
