"""Rollouts, the loss, and a run that is interrupted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.data.channels import Channels
from weather_scnn.data.loader import WindowLoader
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.data.reading import StateReader
from weather_scnn.data.statistics import read_statistics
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Stage
from weather_scnn.training.log import read_metrics
from weather_scnn.training.loop import train
from weather_scnn.training.loss import make_scales, step_errors, weighted_loss
from weather_scnn.training.rollout import advance, build, rollout_errors, take_apart


@pytest.fixture(scope="module")
def experiment(small_config, small_statistics, small_grid):
    channels = Channels.from_config(small_config.data)
    normalisation = Normalisation.from_statistics(read_statistics(small_statistics), channels)
    reader = StateReader.open(small_config.data.path, channels, normalisation, small_grid)
    scales = make_scales(channels, normalisation, reader.statics(), small_grid)
    return channels, normalisation, reader, scales


def make_loader(reader, cache_bytes=1e9, seed=0):
    return WindowLoader(reader, step=np.timedelta64(6, "h"), input_steps=1, seed=seed, cache_bytes=cache_bytes)


def test_no_window_crosses_the_missing_time(experiment):
    _, _, reader, _ = experiment
    windows = make_loader(reader).windows(2)
    assert len(windows) == 47 - 2 - 2
    assert np.all(np.diff(reader.times[windows], axis=1) == np.timedelta64(6, "h"))


def test_batches_are_the_same_from_memory_and_from_the_store(experiment):
    _, _, reader, _ = experiment
    cached, direct = make_loader(reader), make_loader(reader, cache_bytes=0)
    for one, other in zip(
        cached.stream(2, batch_size=4, first=9, last=12), direct.stream(2, batch_size=4, first=9, last=12)
    ):
        for left, right in zip(one, other):
            np.testing.assert_array_equal(left, right)


def test_an_epoch_shows_every_window_once(experiment):
    _, _, reader, _ = experiment
    loader = make_loader(reader)
    seen = np.concatenate([loader.indices(43, position, 4) for position in range(0, 86, 4)])[:86]
    assert sorted(seen[:43]) == sorted(seen[43:]) == list(range(43)) and list(seen[:43]) != list(seen[43:])


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
    for step in range(3):
        history, state = advance(nnx.merge(*parts), history, scales, forcings[:, step : step + 2], training=False)
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


@pytest.fixture(scope="module")
def uninterrupted(small_config, small_statistics, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(small_config, workdir, statistics=small_statistics, progress=False)


def test_training_lowers_the_loss_and_tells_so(uninterrupted):
    workdir, _ = uninterrupted
    rows = read_metrics(workdir / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [2, 4, 5, 6, 8, 10]
    assert float(rows[3]["loss"]) < float(rows[0]["loss"])
    assert [row["rollout_steps"] for row in rows] == ["1", "1", "1", "1", "2", "2"]
    assert {"step", "loss", "grad_norm", "learning_rate", "rollout_steps"} <= rows[0].keys()
    assert (workdir / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("steps", [3, 6, 8])
def test_an_interrupted_run_ends_with_the_same_bits(
    uninterrupted, small_config, small_statistics, tmp_path, steps, monkeypatch
):
    """Stopped after so many steps (before, at and after a change of stage), then run again."""
    import weather_scnn.training.loop as loop

    calls = {"left": steps}
    original = loop.place

    def interrupted(*arguments):
        if calls["left"] == 0:
            raise KeyboardInterrupt
        calls["left"] -= 1
        return original(*arguments)

    config = dataclasses.replace(small_config, training=dataclasses.replace(small_config.training, checkpoint_every=2))
    monkeypatch.setattr(loop, "place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, statistics=small_statistics, progress=False)
    calls["left"] = -1
    state = train(config, tmp_path, statistics=small_statistics, progress=False)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(uninterrupted[1])):
        np.testing.assert_array_equal(one, other)
    whole = [(row["step"], row["loss"]) for row in read_metrics(uninterrupted[0] / "metrics.csv")]
    mine = [(row["step"], row["loss"]) for row in read_metrics(tmp_path / "metrics.csv")]
    assert set(whole) - {("5", whole[2][1])} <= set(mine) and len(mine) == len(set(mine))


def test_a_run_is_not_continued_with_another_configuration(uninterrupted, small_config, small_statistics):
    other = dataclasses.replace(small_config, model=dataclasses.replace(small_config.model, blocks=2))
    with pytest.raises(UserError, match=r"model\.blocks was 1, is 2"):
        train(other, uninterrupted[0], statistics=small_statistics, progress=False)


def test_a_loss_that_explodes_names_the_step_and_the_checkpoint(small_config, small_statistics, tmp_path):
    wild = dataclasses.replace(
        small_config,
        optimiser=dataclasses.replace(small_config.optimiser, learning_rate=1e30, clip_norm=1e30),
        training=dataclasses.replace(small_config.training, stages=(Stage(40, 1),)),
    )
    with pytest.raises(UserError, match=r"not finite at step \d+"):
        train(wild, tmp_path, statistics=small_statistics, progress=False)


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with pytest.raises(UserError, match="no checkpoints"):
        Checkpoints(tmp_path)


def test_another_grid_is_named(small_config, small_statistics, tmp_path):
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, grid="32x16"))
    with pytest.raises(UserError, match=r"16x8 .* 32x16"):
        train(config, tmp_path, statistics=small_statistics, progress=False)
