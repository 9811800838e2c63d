"""A run from data to result: what the commands do."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from examples.qm9.baselines import baselines
from examples.qm9.molecules import Molecules, Split, prepare, read_npz, split
from examples.qm9.page import write_page
from examples.qm9.targets import TARGETS
from examples.qm9.training import Learner, Run, RunFolder, train
from weather_scnn.io.atomic import write_whole

_RESULT = "result.json"


def _split(run: Run) -> Split:
    data = read_npz(run.data or prepare())
    return split(data, run.split, training=run.molecules, test=run.test)


def complete(run: Run, workdir: pathlib.Path) -> tuple[dict[str, Any], pathlib.Path]:
    """Trains a run to its end from where it stands; its result, which RUN/result.json holds too, and its page."""
    folder = RunFolder(workdir, run)
    parts = _split(run)
    trained = train(folder, parts)
    earlier = folder.path / _RESULT
    if trained.steps_per_second == 0.0 and earlier.exists():  # it had ended already
        return json.loads(earlier.read_text()), folder.path / "index.html"
    learner, test = trained.learner, parts.test
    found, truth = learner.predictions(test), test.target(run.target)
    others = baselines(parts, run.target)
    result = {
        "target": run.target,
        "unit": TARGETS[run.target].unit,
        "mae": float(np.abs(found - truth).mean()),
        "composition_mae": others.composition_mae,
        "coulomb_mae": others.coulomb_mae,
        "steps_per_second": trained.steps_per_second,
        "preset": run.preset,
        "parameters": learner.parameters,
        "molecules": len(parts.training),
        "coulomb_molecules": others.coulomb_molecules,
        "test_molecules": len(test),
        "batch": run.batch,
        "steps": int(learner.state.step),
        "training_seconds": trained.seconds,
        "cores": len(os.sched_getaffinity(0)),
    }
    page = write_page(
        folder.path, result, test, found, truth, learner.scale.composition(test.composition), folder.metrics()
    )
    write_whole(earlier, json.dumps(result, indent=2) + "\n")
    return result, page


def evaluated(workdir: pathlib.Path) -> dict[str, Any]:
    """The error of a run's newest checkpoint on its test molecules, how much turning them changes, the baselines' errors.

    Those of the baselines are known where the run has ended.
    """
    folder = RunFolder(workdir)
    run, parts = folder.run, _split(folder.run)
    learner = Learner(run, parts.training)
    learner.state, seconds = folder.restore(learner.state)
    folder.close()
    path = folder.path / _RESULT
    known = json.loads(path.read_text()) if path.exists() else {}
    found = learner.predictions(parts.test)
    turned = learner.predictions(turned_at_random(parts.test))
    return {
        "target": run.target,
        "unit": TARGETS[run.target].unit,
        "mae": float(np.abs(found - parts.test.target(run.target)).mean()),
        "composition_mae": known.get("composition_mae"),
        "coulomb_mae": known.get("coulomb_mae"),
        "steps_per_second": known.get("steps_per_second"),
        "largest_change_when_turned": float(np.abs(turned - found).max()),
        "steps": int(learner.state.step),
        "training_seconds": seconds,
    }


def turned_at_random(molecules: Molecules) -> Molecules:
    """Every molecule turned in a way of its own."""
    turns = Rotation.random(len(molecules), random_state=0).as_matrix()
    of_atoms = np.repeat(turns, molecules.counts, axis=0)
    places = np.einsum("aij,aj->ai", of_atoms, molecules.positions.astype(np.float64))
    return dataclasses.replace(molecules, positions=places.astype(np.float32))
