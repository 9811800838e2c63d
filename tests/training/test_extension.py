"""Runs that grow, and runs that begin from the weights of another."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from tests.training.test_loop import assert_same_bits
from weather_scnn.errors import UserError
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.configuration_reading import differences, extends, with_overrides
from weather_scnn.training.log import read_metrics
from weather_scnn.training.loop import train

SHORT = Stage(3, 1, 5e-3)
# Rollouts of one length, which are one program; of two lengths are the runs of test_loop.
GROWN = Stage(5, 1, 5e-3), Stage(2, 1, 1e-3)


@pytest.mark.parametrize(
    ("now", "grows"),
    [
        ("4x1,2x2", True), ("4x1,3x2", True), ("4x1,2x2,1x4@1e-4", True), ("4x1,9x2,1x4", True),
        ("4x1,1x2", False), ("4x1", False), ("5x1,2x2", False), ("4x1,2x3", False), ("4x1,2x2@0.0001", False),
        ("2x2,4x1", False), ("1x4,4x1,2x2", False),
    ],
)  # fmt: skip
def test_what_is_an_extension(now, grows):
    one, other = (with_overrides(Config(), [f"training.stages={text}"]) for text in ("4x1,2x2", now))
    assert extends(one.training.stages, other.training.stages) is grows
    assert differences(one, other) == ([] if grows else [f"training.stages was 4x1,2x2, is {now}"])


@pytest.fixture(scope="module")
def grown(training, small_statistics, tmp_path_factory):
    """(workdir, state) of a run of three steps that was then lengthened and given another stage."""
    workdir = tmp_path_factory.mktemp("grown")
    train(training(stages=(SHORT,), log_every=1), workdir, statistics=small_statistics, progress=False)
    return workdir, train(training(stages=GROWN, log_every=1), workdir, statistics=small_statistics, progress=False)


def test_an_extended_run_is_the_long_one_to_the_bit(grown, training, small_statistics, tmp_path):
    """With rates of their own; a cosine is another one over another total."""
    whole = train(training(stages=GROWN, log_every=1), tmp_path, statistics=small_statistics, progress=False)
    assert_same_bits(grown[1], whole)
    one, other = (read_metrics(folder / "metrics.csv") for folder in (grown[0], tmp_path))
    names = "step", "loss", "learning_rate", "rollout_steps"
    assert [[row[name] for name in names] for row in one] == [[row[name] for name in names] for row in other]


def test_what_is_trained_cannot_be_changed(grown, training, small_statistics):
    before = (grown[0] / "config.json").read_text()
    for stages in ((Stage(5, 1, 5e-3),), (Stage(6, 1, 5e-3), Stage(2, 1, 1e-3)), (*GROWN[:1], Stage(2, 1, 2e-3))):
        wanted = ",".join(map(str, stages))
        with pytest.raises(UserError, match=re.escape(f"training.stages was 5x1@0.005,2x1@0.001, is {wanted}")):
            train(training(stages=stages), grown[0], statistics=small_statistics, progress=False)
    assert (grown[0] / "config.json").read_text() == before


@pytest.mark.slow
def test_the_new_rate_is_told(whole_run, small_config, small_statistics, tmp_path, capsys):
    """The cosine is that of the new total from here: after 10 of 20 steps it is near half of its height."""
    import shutil

    shutil.copytree(whole_run[0], tmp_path / "run")
    with Checkpoints(whole_run[0]) as checkpoints:
        config = checkpoints.about().config
    longer = dataclasses.replace(
        config, training=dataclasses.replace(config.training, stages=(Stage(6, 1), Stage(14, 2)), log_every=1)
    )
    train(longer, tmp_path / "run", statistics=small_statistics)
    rows = {int(row["step"]): float(row["learning_rate"]) for row in read_metrics(tmp_path / "run" / "metrics.csv")}
    assert rows[11] == pytest.approx(1e-2 * 0.5 * (1 + np.cos(np.pi * 7 / 17)), rel=1e-4)
    assert (
        f"extended from 10 to 20 steps: the learning rate, 0 by then, goes on at {rows[11]:.3g}"
        in capsys.readouterr().err
    )


# From the weights of another run


def started(small_config, whole_run, **changes):
    training = dataclasses.replace(
        small_config.training, start_from=str(whole_run[0]), stages=(Stage(2, 1),), log_every=1
    )
    return dataclasses.replace(small_config, training=training, **changes)


def test_a_run_begins_with_the_weights_of_another(whole_run, small_config, tmp_path):
    """No statistics are given: the weights see the fields in the moments they were trained with."""
    config = started(small_config, whole_run)
    state = train(config, tmp_path / "new", progress=False)
    rows = read_metrics(tmp_path / "new" / "metrics.csv")
    first = float(read_metrics(whole_run[0] / "metrics.csv")[0]["loss"])
    assert float(rows[0]["loss"]) < 0.95 * first and int(state.step) == 2
    assert not (tmp_path / "new" / "statistics.nc").exists()
    with Checkpoints(tmp_path / "new") as checkpoints, Checkpoints(whole_run[0]) as others:
        about, other = checkpoints.about(), others.about()
    assert about.started_from == {
        "workdir": str(whole_run[0]), "step": 10, "weights": "moving average", "started_from": None
    }  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, about.normalisation.to_json(), other.normalisation.to_json())
    # It goes on without the setting, which stays in its record; with another origin it would be another run.
    plain = dataclasses.replace(
        config, training=dataclasses.replace(config.training, start_from="", stages=(Stage(3, 1),))
    )
    train(plain, tmp_path / "new", progress=False)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["training"]["start_from"] == str(whole_run[0])
    elsewhere = dataclasses.replace(plain, training=dataclasses.replace(plain.training, start_from="runs/other"))
    with pytest.raises(UserError, match=r"training\.start_from was .*, is 'runs/other'"):
        train(elsewhere, tmp_path / "new", progress=False)


@pytest.fixture
def beginning(whole_run, small_config, monkeypatch):
    """State before the first step of a run from `whole_run`, and how many parameters are new."""
    import weather_scnn.training.loop as loop

    def states(config, workdir):
        caught = {}

        class Caught(Exception):
            pass

        def assemble(*arguments, **options):
            caught["found"] = original(*arguments, **options)
            raise Caught

        original = loop.assemble
        with monkeypatch.context() as patch, pytest.raises(Caught):
            patch.setattr(loop, "assemble", assemble)
            train(config, workdir, progress=False)
        return caught["found"].state, caught["found"].new_parameters

    return states


def test_averages_are_taken_unless_asked_otherwise_and_what_is_new_starts_fresh(
    beginning, whole_run, small_config, tmp_path
):
    donor = whole_run[1]
    more = started(small_config, whole_run, model=dataclasses.replace(small_config.model, blocks=2))
    state, new = beginning(more, tmp_path / "a")
    kept = dict(jax.tree_util.tree_leaves_with_path(state.parameters))
    for path, leaf in jax.tree_util.tree_leaves_with_path(donor.average):
        np.testing.assert_array_equal(kept.pop(path), leaf)
    assert new == sum(leaf.size for leaf in kept.values()) > 0
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(state.average), jax.tree.leaves(state.parameters))
    raw = started(small_config, whole_run)
    raw = dataclasses.replace(
        raw, training=dataclasses.replace(raw.training, start_with="raw", start_from=f"{whole_run[0]}@5")
    )
    state, new = beginning(raw, tmp_path / "b")
    assert new == 0 and any(
        not np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (state.parameters, donor.parameters)))
    )


def test_weights_of_fewer_degrees_begin_a_network_of_finer_features(
    beginning, whole_run, small_config, tmp_path, untyped
):
    """From Python lists serve as tuples do."""
    finer = dataclasses.replace(small_config.model, feature_grid="24x12", filter_degree=7)
    data = dataclasses.replace(small_config.data, levels=[500, 850])
    state, new = beginning(started(small_config, whole_run, model=finer, data=data), tmp_path / "a")
    assert new == 0
    jax.tree.map(np.testing.assert_array_equal, state.parameters, whole_run[1].average)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["model.max_degree=5"],
            "its filters vary up to degree 7, those of this network up to 5.* the largest degrees",
        ),
        (["model.feature_grid=24x12"], r"up to degree 7, those of this network up to 11.* set model\.filter_degree=7"),
        (["data.step=12h"], r"data\.step was '6h', is '12h'"),
        (["data.surface_variables="], "the state is without 2m_temperature"),
        (["data.levels=500"], "the state is without geopotential at 850 hPa"),
        (["data.clock=false"], r"data\.clock was True, is False"),
        (["model.scalar_channels=8"], r"has decoder\.kernel of \d+×\d+×\d+, and this network of"),
        (["model.kind=planar"], "this network"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(changes, message, whole_run, small_config, tmp_path):
    config = with_overrides(started(small_config, whole_run), changes)
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "runs" / "new", progress=False)
    assert not (tmp_path / "runs").exists()


def test_an_origin_that_is_not_there_is_named(whole_run, small_config, tmp_path):
    for text, message in (
        (f"{whole_run[0]}@7", "no checkpoint 7; choose from 5, 10"),
        (str(tmp_path), "no checkpoints"),
    ):
        config = started(small_config, whole_run)
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, start_from=text))
        with pytest.raises(UserError, match=message):
            train(config, tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()
