"""The parts of `benchmarks/device.py`, each run in a process of its own; every function yields rows as it measures them.

A row is {"part", "case", "value", "unit"} and what the part adds: `peer`, `peer_name`, `bound`, `note`.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.training import Step
from weather_scnn.forecasting.propagation import propagate
from weather_scnn.nn import Fields
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.products import product_precision
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.hlo_text import Program
from weather_scnn.training.rollout import Parts

Row = dict[str, Any]

# Kinds of kernels by what stands in their names, the first that fits.
_KINDS = (
    ("products", ("gemm", "dot", "cublas", "cutlass", "convolution", "nvjet", "sm80_", "sm90_", "matmul")),
    ("joins", ("concatenate",)),
    ("reversals", ("reverse",)),
    ("copies", ("copy", "memcpy", "slice", "pad", "gather", "scatter", "dynamic")),
    ("transposes", ("transpose",)),
    ("reductions", ("reduce",)),
    ("Fourier transforms", ("fft",)),
)


def seconds_of(call: Callable[[], Any], least: float = 0.15, rounds: int = 3) -> float:
    """The least seconds a call over some rounds; short calls are repeated within a round, and waited for at its end."""
    jax.block_until_ready(call())
    since = time.perf_counter()
    jax.block_until_ready(call())
    count = max(1, int(least / max(time.perf_counter() - since, 1e-6)))
    best = float("inf")
    for _ in range(rounds):
        since = time.perf_counter()
        for _ in range(count):
            result = call()
        jax.block_until_ready(result)
        best = min(best, (time.perf_counter() - since) / count)
    return best


def _out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def peaks(small: bool) -> Iterator[Row]:
    """TFLOP/s of one large product in each precision, and GB/s of a copy."""
    side, length = (1024, 2**24) if small else (8192, 2**29)
    for name in ("highest", "high", "default", "bfloat16"):
        kind = jnp.bfloat16 if name == "bfloat16" else jnp.float32
        precision = None if name == "bfloat16" else product_precision(name, jnp.float32)
        matrix = jnp.ones((side, side), kind)
        product = jax.jit(functools.partial(jnp.matmul, precision=precision))
        try:
            seconds = seconds_of(functools.partial(product, matrix, matrix))
        except Exception as error:  # what a backend raises for an algorithm that it lacks is no documented class
            yield _row("peaks", f"product of {side} x {side}, {name}", None, "TFLOP/s", note=_first_line(error))
            continue
        yield _row("peaks", f"product of {side} x {side}, {name}", 2 * side**3 / seconds / 1e12, "TFLOP/s")
    array = jnp.ones(length, jnp.float32)
    seconds = seconds_of(functools.partial(jax.jit(lambda x: x + 1), array))
    yield _row("peaks", f"copy of {4 * length / 1e9:.1f} GB", 2 * 4 * length / seconds / 1e9, "GB/s")


def round_trips(small: bool, rows: int) -> Iterator[Row]:
    """Milliseconds of analysis and synthesis of maps on 2·rows × rows points, beside two copies of field and spectrum."""
    grid = Grid.equiangular(2 * rows, rows)
    for maps in (8, 32) if small else (8, 512, 2048):
        channels = min(maps, 128)
        shape = (maps // channels, *grid.shape, channels)
        scalar, u, v = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
        for precision in ("highest", "default"):
            transform = HarmonicTransform.create(grid, precision=precision)
            for kind, call in _round_trips(transform, scalar, u, v).items():
                case = f"{rows} rows, {maps} maps, {kind}, {precision}"
                try:
                    milliseconds = 1e3 * seconds_of(call)
                except Exception as error:
                    if not _out_of_memory(error):
                        raise
                    yield _row("round trips", case, None, "ms", note="out of memory")
                    continue
                size = 4 * scalar.size * (2 if kind == "wind" else 1)
                note = f"error {_error(transform, scalar):.0e}" if kind == "scalar" else ""
                # Field in, spectrum (half of its size) out and in, field out.
                yield _row("round trips", case, milliseconds, "ms", note=note, gigabytes=3 * size / 1e9)


def _round_trips(transform: HarmonicTransform, scalar: Any, u: Any, v: Any) -> dict[str, Callable[[], Any]]:
    def one(t: HarmonicTransform, x: jax.Array) -> jax.Array:
        return t.synthesis(t.analysis(x))

    def two(t: HarmonicTransform, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return t.synthesis_vector(*t.analysis_vector(x, y))

    slope = jax.jit(jax.value_and_grad(lambda t, x: jnp.sum(one(t, x) ** 2), 1))
    return {
        "scalar": functools.partial(jax.jit(one), transform, scalar),
        "wind": functools.partial(jax.jit(two), transform, u, v),
        "gradient": functools.partial(slope, transform, scalar),
    }


def _error(transform: HarmonicTransform, field: Any) -> float:
    """Of a round trip of a field within the degree, beside its largest value."""
    once = transform.synthesis(transform.analysis(field[:1, ..., :8]))
    again = transform.synthesis(transform.analysis(once))
    return float(jnp.abs(again - once).max() / jnp.abs(once).max())


def torch_round_trips(small: bool, rows: int) -> Iterator[Row]:
    """The same by torch-harmonics, on a GPU where torch sees one; nothing where it is not installed."""
    try:
        import torch
        import torch_harmonics
    except ImportError:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = {"lmax": rows, "mmax": rows, "grid": "legendre-gauss"}
    forward, backward, forward_wind, backward_wind = (
        getattr(torch_harmonics, name)(rows, 2 * rows, **sizes).float().to(device)
        for name in ("RealSHT", "InverseRealSHT", "RealVectorSHT", "InverseRealVectorSHT")
    )

    def gradient(field: Any) -> Any:
        field = field.detach().requires_grad_()
        (backward(forward(field)) ** 2).sum().backward()
        return field.grad

    for maps in (8, 32) if small else (8, 512, 2048):
        for precision in ("highest", "default"):
            torch.set_float32_matmul_precision("high" if precision == "default" else "highest")
            for kind in ("scalar", "wind", "gradient"):
                case = f"{rows} rows, {maps} maps, {kind}, {precision}"
                shape = (maps, 2, rows, 2 * rows) if kind == "wind" else (maps, rows, 2 * rows)
                call = {
                    "scalar": lambda x: backward(forward(x)),
                    "wind": lambda x: backward_wind(forward_wind(x)),
                    "gradient": gradient,
                }[kind]
                try:
                    with torch.set_grad_enabled(kind == "gradient"):
                        milliseconds = 1e3 * _torch_seconds(call, torch.randn(shape, device=device), torch, device)
                except torch.cuda.OutOfMemoryError:
                    yield _row("torch-harmonics", case, None, "ms", note="out of memory")
                    continue
                yield _row("torch-harmonics", case, milliseconds, "ms")


def _torch_seconds(call: Callable[[Any], Any], field: Any, torch: Any, device: str) -> float:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    call(field)
    wait()
    since = time.perf_counter()
    call(field)
    wait()
    count = max(1, int(0.15 / max(time.perf_counter() - since, 1e-6)))
    best = float("inf")
    for _ in range(3):
        since = time.perf_counter()
        for _ in range(count):
            call(field)
        wait()
        best = min(best, (time.perf_counter() - since) / count)
    return best


def _experiment(name: str, activations: str, batch: int, small: bool) -> Config:
    """A configuration of configs/ with one stage of one step; a small one of the same kind where small."""
    config: Config = importlib.import_module(f"configs.{'demo' if small else name}").get_config()
    training = dataclasses.replace(config.training, batch_size=2 if small else batch, stages=(Stage(1, 1),))
    model = dataclasses.replace(config.model, activations=activations)
    return dataclasses.replace(config, model=model, training=training)


def training(small: bool, name: str, activations: str, batch: int) -> Iterator[Row]:
    """Milliseconds of a training step with what its operations take at the card's rate, and seconds of compilation."""
    since = time.perf_counter()
    step = Step(_experiment(name, activations, batch, small))
    ready = time.perf_counter() - since
    case = f"{'demo' if small else name}, batch {2 if small else batch}, {activations}"
    seconds = min(step.run(2 if small else 10) for _ in range(3))
    memory = step.program.memory_analysis()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    yield _row(
        "training step", case, 1e3 * seconds, "ms",
        flops=step.operations, bytes=float(Program(step.program.as_text()).bytes_accessed()), note=f"{size / 2**30:.2f} GiB",
    )  # fmt: skip
    yield _row("training step", f"{case}, until the first step", ready, "s", note="tables, tracing and compilation")
    yield from _kernels(lambda: step.run(3), case)


def forecast(small: bool, name: str, members: int) -> Iterator[Row]:
    """Forecast steps a second of so many states, without writing them."""
    config = _experiment(name, "float32", members, small)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch_size=members))
    step = Step(config)
    parts = Parts(step.graph, step.state.parameters, step.state.statistics, step.tables)
    count = config.data.input_steps
    history = Fields(*(each[:, :count] for each in step.window))
    leads = 4 if small else 40
    forcings = jnp.zeros((members, leads + 1, step.forcings.shape[-1]), jnp.float32)
    seconds = seconds_of(lambda: propagate(parts, history, step.scales, forcings, leads=leads), least=0.0, rounds=2)
    case = f"{'demo' if small else name}, {members} state{'s' * (members > 1)}"
    yield _row("forecast", case, leads / seconds, "steps/s", note=f"10 days of 6 h in {40 * seconds / leads:.2f} s")


def _kernels(call: Callable[[], Any], case: str) -> Iterator[Row]:
    """Share of the device's kernel time by kind, from a profile; nothing on a CPU, whose traces hold no kernels."""
    if jax.default_backend() == "cpu":
        return
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        spent = kernel_seconds(folder)
    total = sum(spent.values())
    for kind, seconds in sorted(spent.items(), key=lambda each: -each[1]):
        yield _row("kernel time", f"{case}, {kind}", 100 * seconds / total, "%")


def kernel_seconds(folder: str) -> dict[str, float]:
    """Seconds by kind of kernel in a profile's events of devices."""
    spent: dict[str, float] = defaultdict(float)
    for path in sorted(pathlib.Path(folder).rglob("*.xplane.pb")):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            if not plane.name.startswith("/device:"):
                continue
            for line in plane.lines:
                if not line.name.startswith(("Stream", "XLA Ops")):
                    continue
                for event in line.events:
                    spent[kernel_kind(event.name)] += event.duration_ns / 1e9
    return dict(spent)


def kernel_kind(name: str) -> str:
    """The kind of work that a kernel's name tells of."""
    lower = name.lower()
    return next((kind for kind, words in _KINDS if any(word in lower for word in words)), "elementwise and others")


def _row(part: str, case: str, value: float | None, unit: str, **more: Any) -> Row:
    return {"part": part, "case": case, "value": value, "unit": unit, **more}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def run(part: str, small: bool, arguments: dict[str, Any]) -> None:
    """Prints the rows of a part, each as soon as it is known."""
    work = {
        "peaks": peaks,
        "round_trips": round_trips,
        "torch": torch_round_trips,
        "training": training,
        "forecast": forecast,
    }[part]
    for row in work(small, **arguments):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2] == "small", json.loads(sys.argv[3]))
