"""The layer that sees what spectra cannot hold: small scales pass, rotations commute, old runs stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn.spectra import compiled
from weather_scnn.models import ModelConfig
from weather_scnn.models.making import make_forecaster
from weather_scnn.nn import Fields, Width, map_fields
from weather_scnn.sphere import Grid, HarmonicTransform

GRID = Grid.equiangular(16, 8)
CONFIG = ModelConfig(scalar_channels=4, vector_channels=2, blocks=1, max_degree=4, pointwise=6)


def network(config: ModelConfig = CONFIG):
    return make_forecaster(config, GRID, state=Width(2, 1), inputs=2, extras=3, rngs=nnx.Rngs(0))


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    states = (jnp.asarray(rng.standard_normal((3, 2, *GRID.shape, count)), jnp.float32) for count in (2, 1, 1))
    return Fields(*states), jnp.asarray(rng.standard_normal((3, *GRID.shape, 3)), jnp.float32)


def awake(model):
    rng = np.random.default_rng(1)
    kernel = model.pointwise.second.kernel
    kernel[...] = jnp.asarray(rng.standard_normal(kernel.shape), jnp.float32)
    return model


def beyond(field: jnp.ndarray) -> float:
    """Share of a field, root mean square, that degrees up to 4 do not hold."""
    transform = HarmonicTransform.create(GRID, 4, vectors=False)
    rest = np.asarray(field - jax.jit(lambda field: transform.synthesis(transform.analysis(field)))(field))
    return float(np.sqrt((rest**2).mean() / (np.asarray(field) ** 2).mean()))


def test_it_starts_as_nothing_and_then_passes_what_the_spectrum_cannot(given):
    model = network()
    assert beyond(compiled(model)(*given).scalar) < 1e-4
    assert beyond(compiled(awake(model))(*given).scalar) > 0.3


def test_it_commutes_with_rotations_by_columns(given):
    model = compiled(awake(network()))

    def turned(field):
        return jnp.roll(field, 3, axis=-2)

    one = model(map_fields(turned, given[0]), turned(given[1]))
    for mine, its in zip(one, map_fields(turned, model(*given))):
        np.testing.assert_allclose(mine, its, atol=2e-5 * float(jnp.abs(its).max()))


def test_winds_are_multiplied_by_factors_so_their_frame_does_not_matter(given):
    """A wind turned by a right angle at every point, u + iv → i(u + iv), gives an increment turned as much."""
    model = awake(network())
    head, width = compiled(model.pointwise), model.pointwise.inputs
    rng = np.random.default_rng(2)
    scalar, east, north = (
        jnp.asarray(rng.standard_normal((*GRID.shape, count)), jnp.float32)
        for count in (width.scalars, width.vectors, width.vectors)
    )
    one, other = head(Fields(scalar, east, north)), head(Fields(scalar, -north, east))
    np.testing.assert_allclose(other.eastward, -one.northward, atol=1e-5)
    np.testing.assert_allclose(other.northward, one.eastward, atol=1e-5)


def test_without_it_the_network_is_that_of_before():
    plain = network(dataclasses.replace(CONFIG, pointwise=0))
    assert plain.pointwise is None
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(plain))}
    assert not any("pointwise" in name for name in names)
