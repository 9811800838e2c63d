"""The training step: devices, bytes sent, memory of rollouts, the host's share of a step.

    python benchmarks/training.py [--quick] [--json rows.json]

The network and the grid are those of configs/demo.py. Bytes sent, memory and operations are read off the compiled
program. Virtual devices share this machine's cores and each brings samples of its own: their samples per second show what
the division costs, not what real devices would gain. The host's share compares steps of `weather-scnn train`, with loader,
logs and all, with the compiled step alone on a batch that is on the device; both take turns, and the fastest ten steps of
each count.
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

# A file of this folder has the name of the package `pipelines`.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from configs import demo
from pipelines.statistics import compute_statistics
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import parameter_count
from weather_scnn.training.configuration import Config, MeshConfig, Stage, TrainingConfig
from weather_scnn.training.forcings import PHASES
from weather_scnn.training.hlo_cost import communication, floating_point_operations
from weather_scnn.training.hlo_text import Program
from weather_scnn.training.loader import Batch
from weather_scnn.training.log import read_metrics
from weather_scnn.training.loop import train
from weather_scnn.training.loss import make_scales
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.placement import place
from weather_scnn.training.plan import compiled_plan
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.sharding import device_mesh, put, put_constants
from weather_scnn.training.states import expected_grid
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
    shapes.append((size, rollout + 1, PHASES))
    return Batch(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes))


class Step:
    """A training step, compiled once, with its state and a batch on the devices."""

    def __init__(self, config: Config, devices: int = 1):
        channels, grid = Channels.from_config(config.data), expected_grid(config.data)
        mesh = device_mesh(config.training, jax.devices()[:devices])
        parts = take_apart(build(config.model, config.data, channels, grid, 0))
        self.graph = parts.graph
        statics = np.zeros((*grid.shape, channels.static_count), np.float32)
        scales = make_scales(channels, moments(channels), statics, grid, loss=config.loss)
        self.state = put(initial_state(parts, make_optimiser(config.optimiser, config.training.stages)), mesh)
        self.tables, self.scales = put_constants((parts.tables, scales), mesh)
        self.window, self.forcings = place(random_batch(config, config.training.stages[0].rollout_steps), mesh)
        step = make_train_step(parts.graph, config, vectors=len(channels.winds), mesh=mesh)
        given = self.state, self.tables, self.window, self.forcings, self.scales
        traced = step.trace(*given)
        self.operations = floating_point_operations(traced.jaxpr)
        self.program = traced.lower().compile()
        self.parameters = parameter_count(self.state.parameters)
        self.run(1)

    def run(self, steps: int) -> float:
        """Seconds a step."""
        since = time.perf_counter()
        for _ in range(steps):
            self.state, report = self.program(self.state, self.tables, self.window, self.forcings, self.scales)
        jax.block_until_ready((self.state, report))
        return (time.perf_counter() - since) / steps


def in_process(devices: int, model: int, steps: int) -> dict[str, Any]:
    """What `worker` finds on so many virtual devices, in a process of their own."""
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
    data = devices // model
    step = Step(experiment(Stage(100, 1), batch=2 * data, model=model), devices)
    memory = step.program.memory_analysis()
    found = {
        "seconds": min(step.run(steps) for _ in range(3)),
        "ideal": 8 * step.parameters,
        "sent": communication(Program(step.program.as_text())),
        "state": memory.argument_size_in_bytes,
        "activations": memory.temp_size_in_bytes,
    }
    if data == 8:
        longer = compiled_plan(experiment(Stage(1, 3), batch=2 * data), jax.devices()[:devices], "")
        found["sent_longer"] = sum(longer.stages[0].communicated.values())
    print(json.dumps(found))


def scaling(quick: bool, rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Virtual devices",
        "",
        "Two samples a device along `data`. `ideal` is what data parallelism has to send, 2 · parameters · 4 bytes.",
        "",
        "| devices (data × model) | steps/s | samples/s | sent a device and step, MiB | ideal, MiB | sent with 3 rollout "
        "steps, MiB | state a device, MiB | activations a device, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    one = 0.0
    for devices, model in ((1, 1), (4, 1)) if quick else ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2)):
        found, data = in_process(devices, model, 2 if quick else 4), devices // model
        speed, name = 2 * data / found["seconds"], f"{data} × {model}"
        one = one or speed
        sent, ideal = sum(found["sent"].values()), found["ideal"]
        rows.append(row(f"samples/s on {name} virtual devices", speed, one, "one device", "samples/s"))
        if devices > 1:
            rows.append(row(f"bytes sent on {name} devices", sent, ideal, "2 · parameters", "bytes", smaller=True))
        if "sent_longer" in found:
            case = f"bytes sent on {name} devices, 3 rollout steps"
            rows.append(row(case, found["sent_longer"], ideal, "2 · parameters", "bytes", smaller=True))
        longer = f"{found['sent_longer'] / 2**20:.2f}" if "sent_longer" in found else ""
        lines.append(
            f"| {name} | {1 / found['seconds']:.2f} | {speed:.1f} | {sent / 2**20:.2f} | "
            f"{ideal / 2**20 if data > 1 else 0:.2f} | {longer} | {found['state'] / 2**20:.1f} | "
            f"{found['activations'] / 2**20:.1f} |"
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
        # One step is the same whatever is kept, but for what is computed again.
        wanted = lengths if kind == "none" else lengths[1:]
        config = experiment(*(Stage(1, length) for length in wanted), batch=4, remat=kind, blocks=2)
        found[kind] = list(compiled_plan(config, jax.devices()[:1], "").stages)
        cells = [
            f"{stage.temporary_bytes / 2**20:.0f} ({stage.flops / plain.flops:.2f})"
            for stage, plain in zip(found[kind], found["none"][-len(wanted) :])
        ]
        cells = [""] * (len(lengths) - len(wanted)) + cells
        lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    first = found["none"][0].temporary_bytes
    for kind in kinds[1:]:
        for stage, plain in zip(found[kind], found["none"][1:]):
            length, mebibytes = stage.rollout_steps, stage.temporary_bytes / 2**20
            for peer, name in ((plain.temporary_bytes, "all kept"), (first * length**0.5, "√k · one step")):
                case = f"memory of {length} steps, {kind}"
                rows.append(row(case, mebibytes, peer / 2**20, name, "MiB", smaller=True))
    return lines


def host(quick: bool, rows: list[dict[str, Any]]) -> list[str]:
    """What `weather-scnn train` adds to the compiled step."""
    from benchmarks.loader import write_store  # the store of that benchmark

    block, blocks, repetitions = (5, 2, 1) if quick else (10, 4, 3)
    alone = Step(experiment(Stage(100, 1)))
    config = experiment(Stage((blocks + 1) * block, 1))
    best, share = {"step": np.inf, "loop": np.inf}, 1.0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        # Runs of one configuration compile once.
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        path, statistics = str(folder / "waves.zarr"), str(folder / "statistics.nc")
        write_store(path, config, 60)
        compute_statistics(path, statistics, time=None, step="6h", progress=False)
        settings = dataclasses.replace(config.training, log_every=block, checkpoint_every=10**6)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=path), training=settings)
        for repetition in range(repetitions):
            workdir = folder / f"run{repetition}"
            train(config, workdir, statistics=statistics, progress=False)
            told = read_metrics(workdir / "metrics.csv")[1:]  # the first block begins after the compilation
            best["loop"] = min(best["loop"], *(1 / float(each["steps_per_second"]) for each in told))
            share = min(share, *(float(each["loader_share"]) for each in told))
            best["step"] = min(best["step"], *(alone.run(block) for _ in range(blocks)))
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.reset_cache()
    overhead = max(best["loop"] / best["step"] - 1, 0.0)
    rows.append(row("a step of `train`", best["loop"] * 1e3, best["step"] * 1e3, "step alone", "ms", smaller=True))
    rows.append(row("host's overhead", 100 * overhead, 2.0, "the most it may be", "%", smaller=True))
    return [
        "## The host",
        "",
        f"A step takes {best['step'] * 1e3:.1f} ms alone and {best['loop'] * 1e3:.1f} ms in `weather-scnn train`: "
        f"{overhead:.1%} more. Waiting for the loader takes {share:.2%} of it.",
        "",
    ]


def row(case: str, ours: float, peer: float, name: str, unit: str, *, smaller: bool = False) -> dict[str, float | str]:
    ratio = peer / max(ours, 1e-9) if smaller else ours / peer
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
    main()
