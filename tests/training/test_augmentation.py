"""Turned and mirrored windows: exact in the spectrum, and what a forecaster makes of them is turned and mirrored too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn.spectra import compiled
from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig
from weather_scnn.models.making import make_forecaster
from weather_scnn.nn import Fields, Width
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.rotation import rotate_spectrum
from weather_scnn.training.augmentation import Window, augmented, mirrored, rotated, turned
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.configuration import Config, TrainingConfig
from weather_scnn.training.forcings import Forcings, phases

GRID = Grid.equiangular(16, 8)
ANGLE = 0.7
FORCINGS = Forcings.on(GRID, Channels.from_config(DataConfig(surface_variables=("2m_temperature",))))


@jax.jit
def of_degree_5(field):
    transform = HarmonicTransform.create(GRID, 5)
    return transform.synthesis(transform.analysis(field))


def smooth(rng, *shape: int) -> jnp.ndarray:
    """Fields of degree 5."""
    return of_degree_5(jnp.asarray(rng.standard_normal((*shape[:-1], *GRID.shape, shape[-1])), jnp.float32))


@pytest.fixture
def window():
    rng = np.random.default_rng(0)
    states = Fields(*(smooth(rng, 2, 1, count) for count in (2, 1, 1)))
    times = np.datetime64("2021-03-01T05") + np.arange(4).reshape(2, 2) * np.timedelta64(17, "h")
    return Window(states, jnp.asarray(phases(times)), smooth(rng, 2))


def test_turning_is_the_rotation_of_the_spectrum():
    transform, rng = HarmonicTransform.create(GRID, 5), np.random.default_rng(1)
    field = smooth(rng, 3)
    expected = transform.synthesis(rotate_spectrum(transform.analysis(field), ANGLE, 0.0, 0.0))
    np.testing.assert_allclose(turned(field, ANGLE), expected, atol=3e-6)


def test_turning_by_columns_moves_them_and_turning_back_undoes():
    field = jnp.asarray(np.random.default_rng(2).standard_normal((*GRID.shape, 2)), jnp.float32)
    np.testing.assert_allclose(turned(field, 2 * np.pi * 3 / 16), np.roll(field, 3, axis=-2), atol=3e-6)
    field = smooth(np.random.default_rng(2), 2)
    np.testing.assert_allclose(turned(turned(field, ANGLE), -ANGLE), field, atol=3e-6)


def network(forcings=5, **settings):
    config = ModelConfig(**{"scalar_channels": 4, "vector_channels": 2, "blocks": 1, "max_degree": 5, **settings})
    model = make_forecaster(config, GRID, state=Width(2, 1), inputs=1, extras=2 + 2 * forcings, rngs=nnx.Rngs(0))
    # A branch that starts as nothing would hide what it does.
    nnx.update(
        model, jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf) + np.float32(0.1)), nnx.state(model, nnx.Param))
    )
    return compiled(model)


def forecast(model, window: Window, make=FORCINGS) -> Fields:
    forcings = jnp.moveaxis(make(window.forcings), 1, -2).reshape(2, *GRID.shape, -1)
    statics = jnp.broadcast_to(window.statics, (2, *window.statics.shape))
    return model(window.states, jnp.concatenate([statics, forcings], axis=-1))


@pytest.mark.parametrize(("angle", "error"), [(2 * np.pi * 3 / 16, 2e-5), (ANGLE, 0.03)])
def test_a_spherical_network_commutes_with_rotations(window, angle, error):
    """To rounding by whole columns; by other angles to what the non-linearity aliases on this coarse grid."""
    model = network()
    one = forecast(model, jax.jit(rotated, static_argnums=2)(window, angle, 0))
    turn = jax.jit(turned)
    other = Fields(*(turn(field, angle) for field in forecast(model, window)))
    for mine, its in zip(one, other):
        np.testing.assert_allclose(mine, its, atol=error * float(jnp.abs(its).max()))


def test_a_network_without_handedness_commutes_with_the_mirror(window):
    """The phase of the year changes its sign there, which is no symmetry of a network; the sun alone only moves."""
    model, sun = network(1, mirror_symmetric=True), dataclasses.replace(FORCINGS, clock=False)
    one = forecast(model, mirrored(window, 0), sun)
    image = Window(forecast(model, window, sun), window.forcings[:, 0], window.statics)
    other = mirrored(image, 0).states
    for mine, its in zip(one, other):
        np.testing.assert_allclose(mine, its, atol=2e-5 * float(jnp.abs(its).max()))


def test_the_mirror_turns_the_season_and_keeps_coordinates(window):
    image = mirrored(window, 1)
    np.testing.assert_array_equal(image.statics[..., 1], window.statics[..., 1])
    np.testing.assert_array_equal(image.statics[..., 0], window.statics[::-1, :, 0])
    before, after = FORCINGS(window.forcings), FORCINGS(image.forcings)
    np.testing.assert_allclose(after[..., 0], before[:, :, ::-1, :, 0], atol=1e-6)
    np.testing.assert_array_equal(after[..., 1:3], -before[:, :, ::-1, :, 1:3])
    np.testing.assert_array_equal(after[..., 3:], before[:, :, ::-1, :, 3:])
    np.testing.assert_array_equal(image.states.northward, -window.states.northward[:, :, ::-1])


def test_what_is_drawn_depends_on_seed_and_step_alone(window):
    data, both = DataConfig(coordinates=("sin_latitude",)), ("rotation", "mirror")
    images = [augmented(window, both, data, seed, jnp.int32(step)) for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3))]
    same = [np.array_equal(images[0].states.scalar, image.states.scalar) for image in images]
    assert same == [True, True, False, False]
    drawn = jax.jit(lambda step: augmented(window, ("mirror",), data, 0, step).states.northward)
    northward = [drawn(jnp.int32(step)) for step in range(40)]
    flipped = sum(np.array_equal(field, -window.states.northward[:, :, ::-1]) for field in northward)
    assert 8 < flipped < 32 and all(
        np.array_equal(field, window.states.northward) or np.array_equal(field, -window.states.northward[:, :, ::-1])
        for field in northward
    )


def test_refusals():
    with pytest.raises(UserError, match="'shear'"):
        TrainingConfig(augment=("shear",))
    data = DataConfig(surface_variables=("sea_surface_temperature",), masked_variables=("sea_surface_temperature",))
    with pytest.raises(UserError, match="gaps that do not turn"):
        Config(data=data, training=dataclasses.replace(TrainingConfig(), augment=("rotation",)))
