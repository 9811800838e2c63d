"""The network: what changes nothing about a molecule changes nothing about its properties; runs, resumed and told."""

import csv
import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from examples.qm9 import training
from examples.qm9.__main__ import app
from examples.qm9.batches import fill
from examples.qm9.molecules import split
from examples.qm9.network import PRESETS, Level, Network, NetworkConfig
from examples.qm9.training import Run, RunFolder, train
from tests.examples.made_molecules import made_molecules, write_npz
from tests.guides import ROOT
from weather_scnn.errors import UserError

TINY = NetworkConfig((Level(3, 4, 0), Level(2, 4, 2)), embedding=4, hidden=8)
ONE_BLOCK = NetworkConfig((Level(2, 3, 2),), embedding=4, hidden=8)
SCALES = np.full(10, 30.0)
# Each compiles for some seconds.
KINDS = ("dipole", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("sum", "intensive", "spread")))


@pytest.fixture(scope="module")
def data():
    return made_molecules(5, seed=2)


@pytest.fixture(scope="module")
def networks():
    """Of every kind, with parameters far from their initial values, as functions of a batch."""

    def made(kind):
        config = TINY if kind in ("intensive", "spread") else ONE_BLOCK  # two blocks compile for long
        graph, parameters, statistics, rest = nnx.split(
            Network(config, kind, SCALES, rngs=nnx.Rngs(0)), nnx.Param, nnx.BatchStat, ...
        )
        leaves, tree = jax.tree.flatten(parameters)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        leaves = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys)]
        parameters = jax.tree.unflatten(tree, leaves)

        def applied(training, batch):
            inner = nnx.merge(graph, parameters, jax.tree.map(lambda array: array, statistics), rest)
            return inner(batch, training=training), nnx.state(inner, nnx.BatchStat)

        return jax.jit(applied, static_argnums=0)

    return functools.cache(made)


@pytest.mark.parametrize("kind", KINDS)
def test_moving_turning_and_mirroring_a_molecule_change_nothing(networks, data, kind):
    batch = fill(data, np.zeros(5), np.arange(5), (5, 40))
    expected = np.asarray(networks(kind)(False, batch)[0], np.float64)
    assert np.ptp(expected) > 0.05 * np.abs(expected).max()
    for seed in range(3):
        matrix = Rotation.random(random_state=seed).as_matrix() * (-1 if seed == 2 else 1)
        moved = batch._replace(positions=(batch.positions @ matrix.T + seed).astype(np.float32))
        found = np.asarray(networks(kind)(False, moved)[0], np.float64)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_atoms_and_what_fills_a_batch_change_nothing(networks, data, kind):
    expected, moments = networks(kind)(True, fill(data, np.zeros(5), np.arange(5), (5, 40)))
    order = np.concatenate([(begin + np.arange(count))[::-1] for begin, count in zip(data.first_atoms, data.counts)])
    turned = dataclasses.replace(data, numbers=data.numbers[order], positions=data.positions[order])
    found, others = networks(kind)(True, fill(turned, np.zeros(5), np.arange(5)[::-1], (8, 64)))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found[:5][::-1] / scale, expected / scale, atol=2e-5)
    for one, other in zip(jax.tree.leaves(moments), jax.tree.leaves(others)):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


def test_presets_have_the_paper_s_levels():
    assert [level.max_degree for level in PRESETS["paper_small"].levels] == [10, 10, 5, 5, 2, 2]
    assert [level.scalars for level in PRESETS["paper_large"].levels] == [64, 64, 128, 128, 256, 256]


@pytest.fixture
def tiny(monkeypatch):
    """The presets, small."""
    monkeypatch.setattr(training, "PRESETS", {"laptop": ONE_BLOCK, "paper_small": ONE_BLOCK})


@pytest.fixture(scope="module")
def many():
    return made_molecules(40, seed=3)


@pytest.mark.slow
def test_an_interrupted_run_is_the_uninterrupted_to_the_last_bit(tiny, many, tmp_path):
    parts = split(many, "cormorant", training=24, test=8)
    run = Run("U0", molecules=24, test=8, steps=9, batch=4)

    def ended(name, *stops):
        for stop in (*stops, run.steps):
            folder = RunFolder(tmp_path / name, run)
            if stop < run.steps:
                # Asked to stop after so many steps.
                class Requests(training.StopRequests):
                    def due(self, step, stop=stop):
                        if step == stop:
                            self._received = 15
                        return super().due(step)

                with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match=f"stopped .* step {stop}"):
                    patch.setattr(training, "StopRequests", Requests)
                    train(folder, parts, progress=False)
            else:
                return train(folder, parts, validations=3, progress=False).learner, folder.metrics()

    (one, _), (other, curve) = ended("twice", 4), ended("once")
    for mine, theirs in zip(jax.tree.leaves(one.state), jax.tree.leaves(other.state), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [row["step"] for row in curve] == [3, 6, 9]  # from the third on, moments of norms stay
    assert one.mae(parts.test) == other.mae(parts.test)


@pytest.mark.slow
def test_runs_of_minutes_learn_until_the_clock_says_so(tiny, many, tmp_path):
    ticks = iter(np.arange(0.0, 1e4, 4.0).tolist())
    run = Run("mu", molecules=24, test=8, minutes=8.0, batch=8, average=0.9, learning_rate=1e-2)
    parts = split(many, "cormorant", training=24, test=8)
    folder = RunFolder(tmp_path / "run", run)
    found = train(folder, parts, progress=False, validations=30, clock=lambda: next(ticks))
    # Each step takes four seconds; the first, which compiles, does not count.
    assert found.seconds == 480.0 and int(found.learner.state.step) == 121
    assert found.steps_per_second == pytest.approx(0.25)
    curve = folder.metrics()
    assert curve[-1]["training_mae"] < 0.5 * curve[0]["training_mae"]
    assert np.isfinite(found.learner.mae(parts.test))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"target": "U1"}, "--target: no 'U1'"),
        ({"preset": "huge"}, "--preset: no 'huge'"),
        ({"minutes": 1.0}, "either steps or minutes"),
        ({"steps": 0}, "--steps: 0"),
        ({"batch": -1}, "--batch: -1"),
    ],
)
def test_runs_that_cannot_be(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        Run(**({"target": "U0", "steps": 5} | changes))


def test_a_folder_belongs_to_one_run(tmp_path):
    RunFolder(tmp_path / "run", Run("U0", steps=5)).close()
    with pytest.raises(UserError, match="this run is another: target U0 became gap, steps 5 became 6"):
        RunFolder(tmp_path / "run", Run("gap", steps=6))
    with pytest.raises(UserError, match="no run is here"):
        RunFolder(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other files"):
        RunFolder(tmp_path / "full", Run("U0", steps=5))


# What makes the commands of the page small.
_SMALLER = {"--molecules 10000 --test 1000": "--molecules 24 --test 8", "--minutes 15": "--steps 1"}


@pytest.mark.slow
def test_every_command_of_the_page_runs(tiny, many, tmp_path, monkeypatch):
    """With a file of made molecules in the cache for the package's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QM9_CACHE", str(tmp_path))
    monkeypatch.setattr("examples.qm9.__main__.keep_compiled_programs", lambda: None)
    write_npz(tmp_path / "qm9.npz", many)

    def found():
        return json.loads((tmp_path / "U0.json").read_text())

    ran = []
    for line in (ROOT / "examples/qm9/README.md").read_text().splitlines():
        if not line.startswith("python -m examples.qm9 "):
            continue
        for long, short in _SMALLER.items():
            line = line.replace(long, short)
        words = line.split()[3:]
        if "paper" in line:  # for a GPU: here only that the options are right
            with monkeypatch.context() as patch:
                patch.setattr("examples.qm9.running.complete", lambda run, folder: (found(), folder / "index.html"))
                result = CliRunner().invoke(app, words)
        else:
            result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
        ran.append(words[0])
    assert set(ran) == {"prepare", "train", "evaluate"}
    assert (ROOT / "examples/qm9/README.md").read_text().count("python -m examples.qm9.measure\n") == 1
    expected = {"target", "unit", "mae", "composition_mae", "coulomb_mae", "steps_per_second"}
    assert expected <= found().keys() and found()["target"] == "U0" and found()["unit"] == "meV"
    page = (tmp_path / "runs/qm9-U0/index.html").read_text()
    assert page.count("<svg") == 3 and "QM9: U0" in page
    with (tmp_path / "runs/qm9-U0/metrics.csv").open(newline="") as file:
        assert float(list(csv.DictReader(file))[-1]["validation_mae"]) > 0


@pytest.mark.slow
def test_measurements_tell_what_turns_exactly(tiny, many, tmp_path, capsys, monkeypatch):
    import examples.qm9.measure as measure

    monkeypatch.setattr(measure, "PRESETS", training.PRESETS)
    measure.main(write_npz(tmp_path / "made.npz", many.take(np.arange(40))))
    told = " ".join(capsys.readouterr().out.split())
    changes = [float(text.split()[0]) for text in told.split("turning changes predictions by up to ")[1:]]
    assert len(changes) == 4 and changes[0] < 1e-5 < changes[2]
    assert told.count("steps/s") == 2
