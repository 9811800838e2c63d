"""The training step: devices, bytes sent, memory of rollouts, the host's share of a step.

    python benchmarks/training.py [--quick] [--json rows.json]

The network and the grid are those of configs/demo.py. Bytes sent, memory and operations are read off the compiled
program. Times are the least of several repetitions that alternate between what is compared. Virtual devices share this
machine's cores: their steps per second show what the division costs, not what real devices would gain.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from configs import demo
from weather_scnn.data.channels import Channels
from weather_scnn.data.loader import Batch, WindowLoader
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.data.reading import StateReader, expected_grid
from weather_scnn.training.configuration import Config, MeshConfig, Stage, TrainingConfig
from weather_scnn.training.loss import make_scales
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.placement import place
from weather_scnn.training.plan import compiled_plan
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.sharding import device_mesh, put, put_constants
from weather_scnn.training.step import make_train_step

HERE = pathlib.Path(__file__).resolve().parent


def experiment(*stages: Stage, batch: int = 8, model: int = 1, remat: str = "auto", blocks: int = 3) -> Config:
    config = demo.get_config()
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, blocks=blocks),
        training=TrainingConfig(batch_size=batch, stages=stages, mesh=MeshConfig(model), remat=remat),
    )


def moments(channels: Channels) -> Normalisation:
    c, d, s = len(channels.scalars), len(channels.winds), len(channels.statics)
    return Normalisation(np.zeros(c), np.ones(c), np.full(c, 0.3), np.ones(d), np.full(d, 0.3), np.zeros(s), np.ones(s))


def random_batch(config: Config, rollout: int) -> Batch:
    channels, grid = Channels.from_config(config.data), expected_grid(config.data)
    rng, size, times = np.random.default_rng(0), config.training.batch_size, config.data.input_steps + rollout
    shapes = [(size, times, *grid.shape, n) for n in (len(channels.scalars), *[len(channels.winds)] * 2)]
    shapes.append((size, rollout + 1, *grid.shape, channels.forcing_count))
    return Batch(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes))


class Runner:
    """A compiled step on a mesh, with its state."""

    def __init__(self, config: Config, devices: int = 1):
        channels, grid = Channels.from_config(config.data), expected_grid(config.data)
        self.config, self.rollout = config, config.training.stages[0].rollout_steps
        self.mesh = device_mesh(config.training, jax.devices()[:devices])
        parts = take_apart(build(config.model, config.data, channels, grid, 0))
        statics = np.zeros((*grid.shape, channels.static_count), np.float32)
        scales = make_scales(channels, moments(channels), statics, grid, loss=config.loss)
        self.state = put(initial_state(parts, make_optimiser(config.optimiser, config.training.stages)), self.mesh)
        self.tables, self.scales = put_constants((parts.tables, scales), self.mesh)
        self.step = make_train_step(parts.graph, config, vectors=len(channels.winds), mesh=self.mesh)
        self.batch = random_batch(config, self.rollout)
        self.placed = place(self.batch, self.mesh)
        self.run(1)

    def run(self, steps: int) -> float:
        """Seconds a step of a batch that is on the device."""
        since = time.perf_counter()
        for _ in range(steps):
            self.state, report = self.step(self.state, self.tables, *self.placed, self.scales)
        jax.block_until_ready((self.state, report))
        return (time.perf_counter() - since) / steps

    def run_from(self, loader: WindowLoader, steps: int) -> tuple[float, float]:
        """Seconds a step of batches from a loader, and of them those spent waiting for it."""
        waited = loader.waited
        batches = loader.stream(self.rollout, batch_size=self.config.training.batch_size, first=0, last=steps, ahead=4)
        since = time.perf_counter()
        for batch in batches:
            self.state, report = self.step(self.state, self.tables, *place(batch, self.mesh), self.scales)
        jax.block_until_ready((self.state, report))
        return (time.perf_counter() - since) / steps, (loader.waited - waited) / steps


def in_process(devices: int, model: int, steps: int) -> dict[str, Any]:
    """Steps per second and the plan on so many virtual devices, from a process of their own."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, __file__, "--worker", json.dumps([devices, model, steps])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def worker(devices: int, model: int, steps: int) -> None:
    config = experiment(Stage(100, 1), model=model)
    runner = Runner(config, devices)
    seconds = min(runner.run(steps) for _ in range(3))
    rollouts = (1, 2) if devices > 1 else ()
    staged = experiment(*(Stage(1, rollout) for rollout in rollouts or (1,)), model=model)
    plan = compiled_plan(staged, jax.devices()[:devices], "")
    print(json.dumps({"seconds": seconds, "ideal": plan.ideal_bytes, "plan": dataclasses.asdict(plan)}))


def scaling(quick: bool, rows: list[dict[str, Any]]) -> list[str]:
    steps = 2 if quick else 5
    lines = [
        "## Virtual devices",
        "",
        "| devices (data × model) | steps/s | sent a step, MiB | ideal, MiB | sent with 2 rollout steps | state, MiB | "
        "activations, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    one = None
    for devices, model in ((1, 1), (8, 1)) if quick else ((1, 1), (2, 1), (4, 1), (8, 1), (4, 2), (8, 2)):
        found = in_process(devices, model, steps)
        one = one or found["seconds"]
        stages = found["plan"]["stages"]
        sent = [sum(stage["communicated"].values()) for stage in stages]
        name = f"{devices // model} × {model}"
        rows.append(row(f"steps/s on {name} virtual devices", 1 / found["seconds"], 1 / one, "one device", "steps/s"))
        if devices > 1 and model == 1:
            for stage, size in zip(stages, sent):
                case = f"bytes sent on {name} devices, {stage['rollout_steps']} rollout steps"
                rows.append(row(case, size, found["ideal"], "2 · parameters", "bytes", smaller=True))
        shown = [f"{size / 2**20:.2f}" for size in sent] + [""] * (2 - len(sent))
        ideal = found["ideal"] / 2**20
        lines.append(
            f"| {name} | {1 / found['seconds']:.2f} | {shown[0]} | {ideal:.2f} | {shown[1]} | "
            f"{stages[0]['state_bytes'] / 2**20:.1f} | {stages[0]['temporary_bytes'] / 2**20:.1f} |"
        )
    return lines


def memory(quick: bool, rows: list[dict[str, Any]]) -> list[str]:
    """Activations of rollouts of 1, 4 and 12 steps, by what is kept."""
    lengths, kinds = ((1, 4), ("none", "step")) if quick else ((1, 4, 12), ("none", "step", "nested"))
    lines = [
        "",
        "## Memory of rollouts",
        "",
        "Activations in MiB at batch 4, two blocks; in brackets the operations beside those of `none`.",
        "",
        "| kept | " + " | ".join(f"{length} steps" for length in lengths) + " |",
        "|---|" + "---|" * len(lengths),
    ]
    found: dict[str, list[Any]] = {}
    for kind in kinds:
        config = experiment(*(Stage(1, length) for length in lengths), batch=4, remat=kind, blocks=2)
        found[kind] = list(compiled_plan(config, jax.devices()[:1], "").stages)
        cells = [
            f"{stage.temporary_bytes / 2**20:.0f} ({stage.flops / plain.flops:.2f})"
            for stage, plain in zip(found[kind], found["none"])
        ]
        lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    first = found["none"][0].temporary_bytes
    for kind in kinds[1:]:
        for stage, plain in zip(found[kind][1:], found["none"][1:]):
            length, mebibytes = stage.rollout_steps, stage.temporary_bytes / 2**20
            rows.append(
                row(f"memory of {length} steps, {kind}", mebibytes, plain.temporary_bytes / 2**20, "all kept", "MiB",
                    smaller=True)
            )  # fmt: skip
            rows.append(
                row(f"memory of {length} steps, {kind}", mebibytes, first * length**0.5 / 2**20, "√k · one step", "MiB",
                    smaller=True)
            )  # fmt: skip
    return lines


def host(quick: bool, rows: list[dict[str, Any]]) -> list[str]:
    """What the loop adds to a step, and what not computing again saves of one."""
    from benchmarks.loader import write_store  # the store of that benchmark

    steps, repetitions = (6, 2) if quick else (15, 4)
    plain, again = Runner(experiment(Stage(100, 1))), Runner(experiment(Stage(100, 1), remat="step"))
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "waves.zarr")
        write_store(path, plain.config, 60)
        channels = Channels.from_config(plain.config.data)
        reader = StateReader.open(path, channels, moments(channels), expected_grid(plain.config.data))
        loader = WindowLoader(reader, step=np.timedelta64(6, "h"), input_steps=1, seed=0, cache_bytes=2**30)
        best = dict.fromkeys(("device", "loop", "waited", "again"), np.inf)
        for _ in range(repetitions):
            best["device"] = min(best["device"], plain.run(steps))
            loop, waited = plain.run_from(loader, steps)
            best["loop"], best["waited"] = min(best["loop"], loop), min(best["waited"], waited)
            best["again"] = min(best["again"], again.run(steps))
    share, waiting = max(best["loop"] / best["device"] - 1, 0.0), best["waited"] / best["loop"]
    rows.append(row("step with loader and host", best["loop"], best["device"], "step alone", "s", smaller=True))
    rows.append(
        row("one-step rollout, nothing computed again", best["device"], best["again"], "remat", "s", smaller=True)
    )
    return [
        "",
        "## The host",
        "",
        f"A step takes {best['device'] * 1e3:.1f} ms, with the loader and the host's work {best['loop'] * 1e3:.1f} ms: "
        f"{share:.1%} more, of which {waiting:.1%} waiting for the loader. With the inside of the step computed again "
        f"it takes {best['again'] * 1e3:.1f} ms; one-step rollouts leave that out.",
    ]


def row(case: str, ours: float, peer: float, name: str, unit: str, *, smaller: bool = False) -> dict[str, float | str]:
    ratio = peer / ours if smaller else ours / peer
    return {"case": case, "ours": ours, "peer": peer, "peer_name": name, "ratio": ratio, "unit": unit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument("--quick", action="store_true", help="fewer devices, lengths and repetitions")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*json.loads(arguments.worker))
        return
    rows: list[dict[str, Any]] = []
    lines = [
        "# Training",
        "",
        f"{platform.machine()}, {os.cpu_count()} CPUs, JAX {jax.__version__} on {jax.default_backend()}, Python "
        f"{platform.python_version()}. Command: `python benchmarks/training.py{' --quick' if arguments.quick else ''}`.",
        "",
    ]
    for part in (host, scaling, memory):
        lines += part(arguments.quick, rows)
    page = "\n".join(lines) + "\n"
    print(page)
    if not arguments.quick:
        (HERE / "training.md").write_text(page)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()
