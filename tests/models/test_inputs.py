"""What reaches the network: coordinates, forcings of one time or two; and what a checkpoint gives back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.errors import UserError
from weather_scnn.io.statistics import read_statistics
from weather_scnn.models import CorrectorConfig, ModelConfig, Resolution
from weather_scnn.nn import Fields
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import Checkpoints, Cursor
from weather_scnn.training.forcings import PHASES
from weather_scnn.training.loss import make_scales
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import advance, build, take_apart
from weather_scnn.training.states import StateReader, expected_grid


@pytest.fixture(scope="module")
def keisler_like(small_config):
    """A planar network with Keisler's coordinates and forcings of one time."""
    data = dataclasses.replace(
        small_config.data, coordinates=("sin_latitude", "sin_longitude", "cos_longitude"), forcing_times=1
    )
    return dataclasses.replace(small_config, data=data, model=ModelConfig(kind="planar", scalar_channels=4, blocks=1))


def opened(config, statistics):
    channels, grid = Channels.from_config(config.data), expected_grid(config.data)
    normalisation = Normalisation.from_statistics(read_statistics(statistics), channels)
    return channels, grid, normalisation, StateReader.open(config.data.path, channels, normalisation, grid)


def test_coordinates_are_what_they_are_called(keisler_like, small_statistics):
    channels, grid, _, reader = opened(keisler_like, small_statistics)
    statics = reader.statics()
    latitude, longitude = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)
    assert statics.shape[-1] == channels.static_count == 4
    np.testing.assert_allclose(statics[..., 1], np.broadcast_to(np.sin(latitude), grid.shape), atol=1e-6)
    np.testing.assert_allclose(statics[..., 2], np.broadcast_to(np.sin(longitude), grid.shape), atol=1e-6)
    np.testing.assert_allclose(statics[..., 3], np.broadcast_to(np.cos(longitude), grid.shape), atol=1e-6)


def test_forcings_of_one_time_are_those_at_the_start_of_the_step(keisler_like, small_statistics):
    channels, grid, normalisation, reader = opened(keisler_like, small_statistics)
    scales = make_scales(channels, normalisation, reader.statics(), grid)
    forcings = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, PHASES)), jnp.float32)
    c, d = len(channels.scalars), len(channels.winds)
    history = Fields(*(jnp.ones((1, 1, *grid.shape, size)) for size in (c, d, d)))
    for times, matters in ((1, False), (2, True)):
        data = dataclasses.replace(keisler_like.data, forcing_times=times)
        model = build(keisler_like.model, data, Channels.from_config(data), grid, 0)
        run = nnx.jit(lambda model, given: advance(model, history, scales, given, training=False)[1].scalar)
        one, other = (run(model, given) for given in (forcings, forcings.at[:, 1].set(0.0)))
        assert np.array_equal(one, other) is not matters
        start = run(model, forcings.at[:, 0].set(0.0))
        assert not np.array_equal(start, one)


def test_extras_that_the_network_was_not_made_for_are_refused(keisler_like, small_statistics):
    """Neither those of one time nor of two: nothing is cut off to fit."""
    channels, grid, normalisation, reader = opened(keisler_like, small_statistics)
    scales = make_scales(channels, normalisation, reader.statics(), grid)
    model = build(keisler_like.model, keisler_like.data, channels, grid, 0)
    c, d = len(channels.scalars), len(channels.winds)
    history = Fields(*(jnp.ones((1, 1, *grid.shape, size)) for size in (c, d, d)))
    for forcings, statics in ((1, 4), (4, 4), (5, 5), (5, 3)):
        made = dataclasses.replace(scales.forcings, solar=forcings != 4, clock=forcings > 1)
        given = scales._replace(statics=jnp.zeros((*grid.shape, statics)), forcings=made)
        with pytest.raises(
            UserError, match=f"takes 9 static fields and forcings, and is given {statics} and {forcings}"
        ):
            advance(model, history, given, jnp.zeros((1, 2, PHASES)), training=False)


@pytest.mark.slow
def test_a_checkpoint_of_a_pyramid_gives_the_same_network_back(small_config, small_statistics, tmp_path):
    model = ModelConfig(
        levels=(Resolution(1, 0, 4, 2), Resolution(2, 1, 6, 3, 1, 3)),
        correctors=CorrectorConfig(means=("2m_temperature",)),
    )
    config = dataclasses.replace(small_config, model=model)
    channels, grid, normalisation, reader = opened(config, small_statistics)
    parts = [take_apart(build(model, config.data, channels, grid, seed)) for seed in (1, 2)]
    optimiser = make_optimiser(config.optimiser, config.training.stages)
    saved, template = (initial_state(part, optimiser) for part in parts)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        cursor = Cursor(0, 1, 0, "")
        checkpoints.save(saved, config, normalisation, grid=grid, cursor=cursor, statics=reader.statics())
        checkpoints.wait()
        restored = checkpoints.restore(template)
        assert checkpoints.about().config == config
    jax.tree.map(np.testing.assert_array_equal, restored.parameters, saved.parameters)
    assert any(
        not np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (parts[0].parameters, parts[1].parameters)))
    )
    merged = nnx.merge(parts[1].graph, restored.parameters, restored.statistics, parts[1].tables)
    original = nnx.merge(*parts[0])
    given = Fields(
        *(jnp.ones((1, 1, *grid.shape, size)) for size in (len(channels.scalars), *[len(channels.winds)] * 2))
    )
    extras = jnp.ones((1, *grid.shape, channels.extra_count))
    for one, other in zip(merged(given, extras), original(given, extras)):
        np.testing.assert_array_equal(one, other)
