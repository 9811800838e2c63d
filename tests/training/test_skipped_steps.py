"""Steps that are left out: the schedule, the stages and the log count them alike."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import weather_scnn.training.loop as loop
import weather_scnn.training.placement as placement
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Stage
from weather_scnn.training.log import read_metrics
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.states import expected_grid

SKIPPED, LAST_BEFORE_STOP = {1, 2, 5, 6}, 5
STAGES = Stage(4, 1), Stage(3, 1, 4e-3), Stage(3, 1)


@pytest.fixture(scope="module")
def run(training, small_statistics, tmp_path_factory):
    """(configuration, workdir) of a run with broken targets that was interrupted between two of them."""
    workdir, step, original = tmp_path_factory.mktemp("skipping"), {"now": 0, "stop": True}, placement.place

    def place(batch, mesh, length=None):
        if step["now"] == LAST_BEFORE_STOP and step["stop"]:
            raise KeyboardInterrupt
        step["now"] += 1
        if step["now"] in SKIPPED:
            batch = batch._replace(scalar=np.full_like(batch.scalar, np.nan))
        return original(batch, mesh, length)

    config = training(on_divergence="skip", stages=STAGES, log_every=1, checkpoint_every=1, keep_checkpoints=20)
    config = dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, weight_decay=0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement, "place", place)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config, workdir, statistics=small_statistics, progress=False)
        # Its last batch lay on the device, and no step had been taken on it.
        step.update(now=LAST_BEFORE_STOP - 1, stop=False)
        loop.train(config, workdir, statistics=small_statistics, progress=False)
    return config, workdir


@pytest.mark.slow
def test_the_rate_in_the_log_is_the_rate_used(run):
    """Read off the parameters: a step of Adam is rate × corrected mean / root of the corrected mean square."""
    config, workdir = run
    parts = take_apart(
        build(config.model, config.data, Channels.from_config(config.data), expected_grid(config.data), 0)
    )
    template = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
    rows = read_metrics(workdir / "metrics.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    before, used = template, {}
    with Checkpoints(workdir) as checkpoints:
        for step in range(1, 11):
            after = checkpoints.restore(template, step)
            moved = np.concatenate([
                np.ravel(np.asarray(new, np.float64) - np.asarray(old, np.float64))
                for new, old in zip(jax.tree.leaves(after.parameters), jax.tree.leaves(before.parameters))
            ])  # fmt: skip
            if step in SKIPPED:
                assert not moved.any()
            else:
                adam = next(state for state in jax.tree.leaves(after.optimiser, is_leaf=_is_adam) if _is_adam(state))
                mean, square = (
                    np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
                    for tree in (adam.mu, adam.nu)
                )
                count = int(adam.count)
                direction = -(mean / (1 - 0.9**count)) / (np.sqrt(square / (1 - 0.999**count)) + 1e-8)
                clear = np.abs(direction) > 0.3
                used[step] = np.median(moved[clear] / direction[clear])
            before = after
    assert set(used) == {3, 4, 7, 8, 9, 10}
    for row in rows:
        step = int(row["step"])
        if step in used:
            assert float(row["learning_rate"]) == pytest.approx(used[step], rel=1e-3), step
    # The stage with a rate of its own is steps 5 to 7, whatever was skipped.
    assert used[7] == pytest.approx(4e-3, rel=1e-3)
    assert int(before.watch.skipped) == len(SKIPPED) and rows[-1]["skipped_steps"] == str(len(SKIPPED))


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)
