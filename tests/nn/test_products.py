"""Products of fields commute with rotations to rounding, and what is read off spectra does not change under them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn.spectra import assert_close, random_spectrum, rotated
from weather_scnn.nn import (
    BlockOptions,
    Features,
    Harmonics,
    MatrixHarmonics,
    Pair,
    ProductActivation,
    ResidualBlock,
    Width,
    first_degree_vectors,
    product_grid,
    rotation_invariants,
)
from weather_scnn.sphere import power_spectrum
from weather_scnn.sphere.layouts import DENSE, FOLDED
from weather_scnn.sphere.spectrum import Spectrum

ANGLES = (0.7, 1.1, -2.3)
WIDTH = Width(3, 2, 1)
DEGREE = 5


@pytest.fixture(scope="module")
def harmonics():
    return Harmonics.create(product_grid(DEGREE), DEGREE, tensors=True)


def test_a_block_of_products_commutes_with_rotations_to_rounding(harmonics):
    """With norms, gates and all spins, on the smallest grid; phase collapse is off by percents there."""
    options = BlockOptions(nonlinearity="product", branch_scale=1.0)
    block = ResidualBlock(WIDTH, WIDTH, harmonics, options, rngs=nnx.Rngs(1))
    block.activation.gate[...] = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    run = jax.jit(lambda array: block(Spectrum.of(array), training=False).array)
    given = random_spectrum(0, DEGREE, WIDTH)
    expected = rotated(run(given), *ANGLES)
    assert_close(run(rotated(given, *ANGLES)), expected, 3e-6)
    assert float(jnp.abs(expected - rotated(given, *ANGLES)).max()) > 0.5  # the branch is there


def test_products_of_white_features_keep_their_variance():
    rng = np.random.default_rng(0)
    draw = [jnp.asarray(rng.normal(size=(9, 8, 16, count)), jnp.float32) for count in (32, 16, 16, 8, 8)]
    features = Features(draw[0], Pair(draw[1], draw[2]), Pair(draw[3], draw[4]))
    found = ProductActivation(Width(32, 16, 8), rngs=nnx.Rngs(0))(features)
    scalar = np.asarray(found.scalar)
    assert abs(scalar.mean()) < 0.1
    assert 0.7 < scalar.var() < 1.4
    np.testing.assert_array_equal(found.vector.real, features.vector.real)  # the gate begins as 1


def test_smallest_grid_of_exact_products():
    """At the degrees of 32, 16 and 8 points on a circle."""
    assert [product_grid(degree).name for degree in (10, 5, 2)] == ["32x16", "16x8", "8x4"]


@pytest.mark.parametrize("layout", [FOLDED, DENSE])
def test_invariants_are_powers_and_means(layout):
    given = random_spectrum(3, DEGREE, WIDTH)
    found = rotation_invariants(Spectrum.of(given, layout), WIDTH)
    power = np.asarray(power_spectrum(given), np.float64) / (4 * np.pi)
    both = np.concatenate([power[..., :3], power[..., 3:6] + power[..., 6:]], axis=-1)
    assert_close(found[:, 3:], both.reshape(2, -1), 1e-6)
    assert_close(found[:, :3], np.asarray(given)[:, 0, 0, 0, :3] / np.sqrt(4 * np.pi), 1e-6)
    turned = rotation_invariants(Spectrum.of(rotated(given, *ANGLES), layout), WIDTH)
    assert_close(turned, found, 2e-6)


def test_vectors_of_the_first_degree_give_the_field_at_each_point(harmonics):
    """A field of the first degree is v·x; its values on the grid say what v is."""
    given = random_spectrum(4, DEGREE, Width(3, 0)).at[:, 2:].set(0).at[:, 0].set(0)
    fields = harmonics.synthesis(Spectrum.of(given), Width(3, 0)).scalar
    grid = harmonics.grid
    theta, phi = grid.colatitude[:, None], np.radians(grid.longitude)
    points = np.stack(np.broadcast_arrays(np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), -1)
    vectors = first_degree_vectors(Spectrum.of(given), 2)
    assert_close(np.einsum("bdc,yxd->byxc", vectors, points), fields[..., :2], 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("inner", [False, True])
def test_transforms_by_matrices_are_the_transforms(inner):
    """Both directions, of scalars, vectors and both, beside the transform in two stages."""
    grid = product_grid(DEGREE)
    whole, matrices = Harmonics.create(grid, DEGREE, layout=DENSE), MatrixHarmonics(grid, DEGREE)
    for width in (Width(3, 2), Width(2, 0), Width(0, 2)):
        given = Spectrum.of(random_spectrum(5, DEGREE, width, batch=3), DENSE)
        expected = whole.synthesis(given, width)
        found = matrices.synthesis(given, width, inner=inner)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            if other.shape[-1]:
                assert_close(jnp.moveaxis(one, 2, 0) if inner else one, other, 1e-6)
        back = matrices.analysis(found, inner=inner)
        assert_close(back.array, given.array, 2e-6)
        assert_close(whole.analysis(expected).array, back.array, 2e-6)
