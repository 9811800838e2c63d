"""The moving average: of the parameters and of the batch statistics that belong to them."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np

from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.optimiser import moved_average
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.step import own_moments, running_momentum


def test_batch_statistics_are_averaged_with_the_parameters(whole_run):
    """a ← d a + (1 − d) x, d = min(decay, (1 + n) / (10 + n)) after n steps."""
    _, state = whole_run
    moved, raw = (jax.tree.leaves(tree) for tree in (state.average_statistics, state.statistics))
    assert all(one.shape == other.shape and np.isfinite(one).all() for one, other in zip(moved, raw))
    assert any(not np.allclose(one, other, rtol=1e-3) for one, other in zip(moved, raw))
    found = moved_average(({"a": jnp.zeros(2)},), ({"a": jnp.ones(2)},), jnp.int32(8), 0.99)
    np.testing.assert_allclose(found[0]["a"], 0.5)


def test_what_is_averaged_are_the_moments_of_each_step(small_config, small_grid):
    """Of a rollout of three steps, of which each keeps 0.98 of the running moments."""
    channels = Channels.from_config(small_config.data)
    parts = take_apart(build(small_config.model, small_config.data, channels, small_grid, 0))
    assert running_momentum(parts) == 0.98
    own, before = jnp.array([3.0, 1e-3]), jnp.array([2.0, 5.0])
    after = before
    for _ in range(3):
        after = 0.98 * after + 0.02 * own
    np.testing.assert_allclose(own_moments(after, before, 0.98**3), own, rtol=1e-4, atol=1e-4)


def test_forecasts_use_both_averages(whole_run):
    workdir, state = whole_run
    parts = load_run(workdir).parts
    for ours, theirs in ((parts.parameters, state.average), (parts.statistics, state.average_statistics)):
        jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(ours), jax.tree.leaves(theirs))


def test_a_checkpoint_without_averaged_statistics_still_loads(whole_run, tmp_path, caplog, small_config):
    """As older versions wrote them: the raw statistics stand in, with one line about it."""
    from weather_scnn.training import checkpoints as module

    workdir, state = whole_run
    with Checkpoints(workdir) as kept:
        about, folder = kept.about(), kept.folder
        content = json.loads((folder / "10" / "about" / "metadata").read_text())
    original = module._named

    def without(tree):
        return {name: leaf for name, leaf in original(tree).items() if not name.startswith(".average_statistics")}

    module._named = without
    try:
        with Checkpoints(tmp_path, keep=2) as old:
            from weather_scnn.training.states import expected_grid

            grid = expected_grid(about.config.data)
            old.save(state, about.config, about.normalisation, grid=grid, cursor=about.cursor, statics=about.statics)
            old.wait()
    finally:
        module._named = original
    assert content["cursor"]["step"] == 10
    with caplog.at_level(logging.WARNING):
        parts = load_run(tmp_path).parts
    assert caplog.text.count("holds no averaged batch statistics") == 1
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(parts.statistics), jax.tree.leaves(state.statistics))
