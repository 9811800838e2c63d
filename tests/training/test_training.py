"""Rollouts, the loss, and a run that is interrupted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.io.statistics import read_statistics
from weather_scnn.nn import Fields
from weather_scnn.training.channels import Channels
from weather_scnn.training.loader import WindowLoader
from weather_scnn.training.loss import make_scales, step_errors, weighted_loss
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.rollout import advance, build, rollout_errors, take_apart
from weather_scnn.training.states import StateReader


@pytest.fixture(scope="module")
def experiment(small_config, small_statistics, small_grid):
    channels = Channels.from_config(small_config.data)
    normalisation = Normalisation.from_statistics(read_statistics(small_statistics), channels)
    reader = StateReader.open(small_config.data.path, channels, normalisation, small_grid)
    scales = make_scales(channels, normalisation, reader.statics(), small_grid)
    return channels, normalisation, reader, scales


def make_loader(reader, cache_bytes=1e9, seed=0):
    return WindowLoader(reader, step=np.timedelta64(6, "h"), input_steps=1, seed=seed, cache_bytes=cache_bytes)


def test_a_rollout_is_single_steps_and_its_loss_is_the_formula(experiment, small_config, small_grid):
    channels, normalisation, reader, scales = experiment
    model = build(small_config.model, small_config.data, channels, small_grid, 0)
    model.decoder.kernel[...] = model.decoder.kernel[...] * 50
    parts = take_apart(model)
    batch = make_loader(reader).batch(make_loader(reader).windows(3), np.array([0, 5]))
    window, forcings = Fields(*map(jnp.asarray, batch[:3])), jnp.asarray(batch.forcings)
    errors, _ = jax.jit(lambda p: rollout_errors(p, window, forcings, scales, inputs=1, training=False))(parts)
    history = Fields(*(array[:, :1] for array in window))
    area = small_grid.area_weights[:, None]
    advanced = jax.jit(lambda *given: advance(nnx.merge(*parts), given[0], scales, given[1], training=False))
    for step in range(3):
        history, state = advanced(history, forcings[:, step : step + 2])
        target = Fields(*(array[:, step + 1] for array in window))
        np.testing.assert_allclose(errors[step], step_errors(state, target, scales), rtol=1e-4)
        for index in range(len(channels.scalars)):
            difference = np.asarray(state.scalar - target.scalar)[..., index] / normalisation.scalar_ratio[index]
            assert errors[step, index] == pytest.approx(np.mean(area * difference**2), rel=1e-4)
        wind = [(np.asarray(a - b)[..., 0] / normalisation.wind_ratio[0]) ** 2 for a, b in zip(state[1:], target[1:])]
        assert errors[step, len(channels.scalars)] == pytest.approx(np.mean(area * (wind[0] + wind[1]) / 2), rel=1e-4)
    level = np.array([500 / 675, 850 / 675, 1.0, 500 / 675, 850 / 675])
    count = np.array([1, 1, 1, 2, 2])
    weight = level * count / (level * count).sum()
    expected = np.mean(np.asarray(errors) @ weight)
    assert float(weighted_loss(errors, scales, 2)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_memory_of_a_rollout_grows_by_states_not_by_networks(experiment, small_config, small_grid):
    channels, _, reader, scales = experiment
    parts = take_apart(build(small_config.model, small_config.data, channels, small_grid, 0))
    loader = make_loader(reader)

    def temporary(steps):
        batch = loader.batch(loader.windows(steps), np.arange(4))
        window, forcings = Fields(*map(jnp.asarray, batch[:3])), jnp.asarray(batch.forcings)

        def loss(parameters):
            given = parts._replace(parameters=parameters)
            return rollout_errors(given, window, forcings, scales, inputs=1, training=True)[0].sum()

        return jax.jit(jax.grad(loss)).lower(parts.parameters).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < 2 * temporary(2)
