"""Training of ensembles: stages, what a run begins with, interruptions, devices."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.test_loop import assert_same_bits
from tests.training.test_sharding import finish, losses, start
from weather_scnn.errors import UserError
from weather_scnn.forecasting.propagation import propagate, read_states
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.models import NoiseConfig
from weather_scnn.training import loop
from weather_scnn.training.chance import Chance
from weather_scnn.training.configuration import Config, LossConfig, MeshConfig, Stage
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.forcings import phases
from weather_scnn.training.log import read_metrics
from weather_scnn.training.loss import make_scales
from weather_scnn.training.step import of_noise

NOISE = NoiseConfig(vector=3, fields=1, length_scales=(1000.0, 4000.0), correlation_hours=(12.0, 48.0))


def trained_as_ensemble(config: Config, *stages: Stage, **training) -> Config:
    settings = {"stages": stages or (Stage(4, 1),), "members": 2, "log_every": 1, "checkpoint_every": 2} | training
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, noise=NOISE),
        loss=LossConfig(kind="crps"),
        training=dataclasses.replace(config.training, **settings),
    )


def test_stages_have_members_and_alphas_of_their_own():
    text = "4x1,2x2x4:0.5,3x2@0.0001:1"
    noisy = ["model.noise.vector=4", "loss.kind=crps", "training.members=2"]
    config = with_overrides(Config(), [f"training.stages={text}", *noisy]).training
    assert config.stages == (Stage(4, 1), Stage(2, 2, None, 4, 0.5), Stage(3, 2, 1e-4, None, 1.0))
    assert ",".join(map(str, config.stages)) == text
    assert [config.members_of(stage) for stage in config.stages] == [2, 4, 2]
    assert Config.from_json(with_overrides(Config(), [f"training.stages={text}", *noisy]).to_json()).training == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["loss.kind=crps", "model.noise.vector=4"], "training.members is 1; set training.members=2"),
        (["loss.kind=crps", "training.members=2"], "nothing makes their members differ; set model.noise.vector"),
        (["model.noise.fields=1"], "loss.kind=grid does not score them"),
        (["training.members=2"], "2 training.members without loss.kind=crps"),
        (["training.trained=noise"], "there is no model.noise"),
        (["loss.alpha=1.5"], "loss.alpha is 1.5"),
        (["training.stages=4x1x1"], "a stage with 1 members"),
        (["training.stages=4x1x2x3"], "stages such as"),
        (["model.kind=planar", "model.noise.vector=4"], "model.noise is for spheres"),
        (["model.noise.length_scales=100"], "1 length_scales and 8 correlation_hours"),
        (
            ["loss.kind=crps", "model.noise.vector=4", "training.members=3", "training.mesh.ensemble=2"],
            "3 members do not divide",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        with_overrides(Config(), settings)


@pytest.fixture(scope="module")
def fine_tuned(whole_run, small_config, tmp_path_factory):
    """(workdir, state, experiment) of an ensemble trained from the deterministic run, its noise alone."""
    workdir, caught, original = tmp_path_factory.mktemp("fine-tuned"), {}, loop.assemble

    def assemble(*arguments, **options):
        caught["experiment"] = original(*arguments, **options)
        # Copies: the first step takes over the arrays.
        caught["state"] = jax.tree.map(np.array, caught["experiment"].state)
        return caught["experiment"]

    config = trained_as_ensemble(
        small_config, Stage(2, 1), Stage(2, 1, None, 4, 1.0), start_from=str(whole_run[0]), trained="noise"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "assemble", assemble)
        after = loop.train(config, workdir, progress=False)
    return workdir, after, caught["state"], caught["experiment"]


def test_before_the_first_step_forecasts_are_those_of_the_run_it_begins_with(fine_tuned, whole_run, small_store):
    _, _, before, experiment = fine_tuned
    old = load_run(whole_run[0])
    reader, starts = experiment.loader.reader, np.array(["2001-01-04T00", "2001-01-05T06"], "datetime64[ns]")
    rows = np.searchsorted(reader.times, starts)[:, None]
    forcings = jnp.asarray(phases(starts[:, None] + np.arange(4) * np.timedelta64(6, "h")))
    scales = make_scales(old.channels, old.normalisation, experiment.statics, old.grid)
    found = []
    for parts in (old.parts, experiment.averaged(before)):
        chance = Chance.begin(parts, 0, starts, np.array([0, 1]))
        found.append(propagate(parts, read_states(reader, rows), scales, forcings, chance, leads=3)[2])
    assert experiment.new_parameters > 0 and chance is not None
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_noise_alone_is_trained_where_that_is_asked_for(fine_tuned):
    workdir, after, before, _ = fine_tuned
    left, noise = [], []
    for (path, new), old in zip(
        jax.tree_util.tree_leaves_with_path(after.parameters), jax.tree.leaves(before.parameters)
    ):
        changed = not np.array_equal(new, old)
        (noise if "noise" in jax.tree_util.keystr(path) else left).append(changed)
    assert noise and all(noise) and left and not any(left)
    assert all(np.isfinite(losses(workdir))) and len(losses(workdir)) == 4


def test_only_noise_is_kept_of_a_tree():
    tree = {"noise_encoder": jnp.ones(2), "encoder": jnp.ones(2), "block": {"noise": jnp.ones(1), "bias": jnp.ones(1)}}
    kept = of_noise(tree)
    assert kept["noise_encoder"].sum() == 2 and kept["block"]["noise"].sum() == 1
    assert kept["encoder"].sum() == kept["block"]["bias"].sum() == 0


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(small_config, small_statistics, tmp_path):
    config = trained_as_ensemble(small_config, Stage(4, 2), random_lengths=(1, 2, 2))
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    state = loop.train(config, whole, statistics=small_statistics, progress=False)
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints" / "4")
    assert_same_bits(state, loop.train(config, resumed, statistics=small_statistics, progress=False))
    # Lengths are drawn by the step, and told.
    assert {row["rollout_steps"] for row in read_metrics(whole / "metrics.csv")} == {"1", "2"}


def assert_learns_as_one(config, devices, statistics, folder):
    """Eight devices, laid out so, have the losses of one; gives the workdir of the one."""
    alone, mesh = folder / "alone", folder / "mesh"
    divided = dataclasses.replace(config, training=dataclasses.replace(config.training, mesh=devices))
    running = start(divided, mesh, statistics, 8)
    loop.train(config, alone, statistics=statistics, progress=False)
    finish(running)
    np.testing.assert_allclose(losses(mesh), losses(alone), rtol=1e-5)
    return alone


@pytest.mark.slow
def test_four_by_two_devices_learn_as_one(small_config, small_statistics, tmp_path):
    """Windows over four, members over two; in rollouts of two, with two parts a batch.

    The rate is small: Adam takes parameters that start from zero by the sign of their gradient, rounding errors or not.
    """
    config = trained_as_ensemble(small_config, Stage(3, 2, 1e-3), batch_size=8, members=4, accumulation=2)
    alone = assert_learns_as_one(config, MeshConfig(1, 2), small_statistics, tmp_path)
    assert len(losses(alone)) == 3


@pytest.mark.slow
def test_members_and_orders_over_devices_learn_as_one(small_config, small_statistics, tmp_path):
    config = trained_as_ensemble(small_config, Stage(3, 1, 1e-3), batch_size=4)
    assert_learns_as_one(config, MeshConfig(2, 2), small_statistics, tmp_path)
