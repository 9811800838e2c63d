"""What the choices of this example cost and buy: python -m examples.qm9.measure [--data FILE.npz]."""

import dataclasses
import functools
import resource
import time
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np
import rich.console
import typer

from examples.qm9 import training
from examples.qm9.batches import fill, packed
from examples.qm9.molecules import Molecules, prepare, read_npz
from examples.qm9.network import PRESETS, SAMPLED
from examples.qm9.running import turned_at_random
from examples.qm9.spheres import sphere_fields, sphere_spectra
from examples.qm9.training import Learner, Run
from weather_scnn.sphere import HarmonicTransform, power_spectrum

console = rich.console.Console(highlight=False)
_DEGREE = 10


def _seconds(function: Callable[[], Any], times: int) -> float:
    """Of a call, after the first, which compiles."""
    jax.block_until_ready(function())
    begin = time.perf_counter()
    for _ in range(times):
        jax.block_until_ready(function())
    return (time.perf_counter() - begin) / times


def inputs(molecules: Molecules) -> None:
    """Both ways to the spectra of what atoms see: their cost, and how much of them turning changes."""
    learner = Learner(Run("U0", steps=1), molecules)
    chosen = packed(molecules.counts, np.arange(len(molecules)), learner.shape)[0]
    transform = HarmonicTransform.create(SAMPLED, _DEGREE, vectors=False)
    ways = {
        "closed form": jax.jit(lambda batch: sphere_spectra(batch, _DEGREE)),
        "sampled on 32x32": jax.jit(lambda batch: transform.analysis(sphere_fields(batch, SAMPLED))),
    }
    batches = [
        fill(each, np.zeros(len(each)), chosen, learner.shape) for each in (molecules, turned_at_random(molecules))
    ]
    for name, way in ways.items():
        powers = [np.sqrt(np.asarray(power_spectrum(way(batch)), np.float64)) for batch in batches]
        change = np.abs(powers[1] - powers[0]).max(axis=(0, 2)) / powers[0].max(axis=(0, 2))
        milliseconds = 1e3 * _seconds(functools.partial(way, batches[0]), 5)
        console.print(
            f"inputs, {name}: {milliseconds:.1f} ms for {len(chosen)} molecules to degree {_DEGREE}; turning changes "
            f"degree 5 by {change[5]:.0e}, degree {_DEGREE} by {change[_DEGREE]:.0e}"
        )


def exactness(molecules: Molecules) -> None:
    """How far untrained networks' predictions change when molecules are turned, of their spread."""
    laptop = PRESETS["laptop"]
    turned = turned_at_random(molecules)
    for nonlinearity in ("product", "phase_collapse"):
        for sampled in (False, True):
            config = dataclasses.replace(laptop, nonlinearity=nonlinearity, sampled=sampled)
            training.PRESETS["laptop"] = config
            learner = Learner(Run("U0", steps=1), molecules)
            one, other = (learner.predictions(each) - learner.scale.composition(each.composition)
                          for each in (molecules, turned))  # fmt: skip
            change = np.abs(other - one).max() / np.ptp(one)
            way = "sampled" if sampled else "closed form"
            console.print(f"network, {nonlinearity}, inputs {way}: turning changes predictions by up to {change:.0e}")
    training.PRESETS["laptop"] = laptop


def speed(molecules: Molecules, preset: str, batch: int, steps: int) -> None:
    """Training steps a second, and the memory of this process at its peak."""
    learner = Learner(Run("U0", preset=preset, steps=1, batch=batch), molecules)
    targets = learner.scale.normalised(molecules.composition, molecules.target("U0"))
    chosen = packed(molecules.counts, np.arange(len(molecules)), learner.shape)[0]
    filled = fill(molecules, targets, chosen, learner.shape)

    def step() -> Any:
        learner.state, loss = learner.update(learner.state, filled, 1e-4, settled=False)
        return loss

    rate = 1.0 / _seconds(step, steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(
        f"training, {preset}, batch {batch}: {rate:.2f} steps/s, {learner.parameters:,} parameters, "
        f"{peak:.1f} GiB at most"
    )


def main(data: Annotated[str, typer.Option(help="An npz of molecules.")] = "") -> None:
    """All measurements, on 200 molecules."""
    molecules = read_npz(data or prepare())
    molecules = molecules.take(np.unique(np.linspace(0, len(molecules) - 1, 200).astype(int)))
    inputs(molecules)
    exactness(molecules)
    speed(molecules, "laptop", 16, 20)
    speed(molecules, "paper_small", 2, 5)


if __name__ == "__main__":
    typer.run(main)
