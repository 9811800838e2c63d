import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.errors import UserError
from weather_scnn.models import Forecaster, ModelConfig
from weather_scnn.nn import Fields, Width
from weather_scnn.sphere import Grid


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(scalar_channels=4, vector_channels=3, blocks=2, filter_parameters=4)
    return Forecaster(config, Grid.equiangular(16, 8), state=Width(3, 2), inputs=2, extras=2, rngs=nnx.Rngs(0))


def fields(seed, shape, width):
    rng = np.random.default_rng(seed)
    return Fields(*(jnp.asarray(rng.normal(size=(*shape, c)), jnp.float32) for c in (width[0], width[1], width[1])))


def test_no_parameter_is_complex_and_shapes_are_right(model):
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    out = model(fields(0, (2, 2, 8, 16), (3, 2)), jnp.zeros((2, 8, 16, 2)))
    assert [part.shape for part in out] == [(2, 8, 16, 3), (2, 8, 16, 2), (2, 8, 16, 2)]


def test_turning_the_planet_about_its_axis_turns_the_forecast(model):
    history, extras = fields(1, (1, 2, 8, 16), (3, 2)), fields(2, (1, 8, 16), (2, 0)).scalar
    out = model(history, extras)
    turned = model(Fields(*(jnp.roll(part, 5, axis=3) for part in history)), jnp.roll(extras, 5, axis=2))
    for one, other in zip(turned, out):
        np.testing.assert_allclose(one, jnp.roll(other, 5, axis=2), atol=2e-6)


def test_a_state_without_scalars_or_without_winds_is_served():
    config = ModelConfig(scalar_channels=2, vector_channels=2, blocks=1, filter_parameters=4)
    for width in (Width(0, 1), Width(2, 0)):
        net = Forecaster(config, Grid.equiangular(16, 8), state=width, inputs=1, extras=1, rngs=nnx.Rngs(0))
        out = net(fields(0, (1, 1, 8, 16), width), jnp.ones((1, 8, 16, 1)), training=True)
        assert out.width == width


def test_a_degree_the_grid_does_not_resolve_is_refused():
    with pytest.raises(UserError, match=r"max_degree is 9 .* resolves 7"):
        Forecaster(
            ModelConfig(max_degree=9), Grid.equiangular(16, 8), state=Width(1, 1), inputs=1, extras=0, rngs=nnx.Rngs(0)
        )
