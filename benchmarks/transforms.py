"""Times the spherical harmonic transforms beside their peers, all in one run.

    python benchmarks/transforms.py --json transforms.json

writes the ratios to the JSON file and a table to benchmarks/transforms.md; `--quick` takes 32 and 64 rows only and
writes no table.

A round trip is analysis and synthesis, float32, to degree rows − 1, of 32 scalar channels (spin 0) and of 32 winds
(spin 1) on 2·rows × rows equiangular points. Peers, all to the same degree:

- the Wigner-Δ contraction of published spherical CNNs on its own grid, as published: the sphere extended to a torus,
  DFT by matrix products, and one einsum over zero-padded (l, m′, m) arrays,
  a_lm = k_lm Σ_m′ Δ^l_m′m Δ^l_m′,−s I_m′m, for complex fields; its quadrature needs 2L rows and columns for L degrees;
- the same contraction on the rows of this package, whose quadrature is exact for twice the degree: what is left when
  the better quadrature is given away;
- ducc0 with its float32 maps, one call a channel;
- torch-harmonics on Legendre–Gauss rows, where its quadratures are exact.

"With gradient" is the value and gradient of a sum of squares over the round trip.

Times are the least of several rounds that alternate between the systems, so that other load on the machine hits all
alike; in a round, short calls are repeated for 40 ms. The fraction of the matrix-product peak counts the operations of Legendre and Fourier products.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from wigner_delta import on_our_rows, published

from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.fourier import by_product
from weather_scnn.sphere.tables import block_shape, blocks

CHANNELS = 32
PUBLISHED, OWN_ROWS = "Wigner-Δ as published", "Wigner-Δ on our rows"
DUCC, TORCH = "ducc0", "torch-harmonics"


class System(NamedTuple):
    """What is timed: a call without arguments, and what is known of it."""

    call: Callable[[], Any]
    compile_seconds: float | None = None
    mebibytes: float | None = None
    error: float | None = None


Key = tuple[str, int, bool]  # system, spin, with gradient


def compiled(function: Callable, *arguments: Any) -> tuple[Callable, float, float]:
    """The compiled function, compile seconds, and MiB of temporaries, arguments and results."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return lambda: jax.block_until_ready(program(*arguments)), seconds, size / 2**20


def our_systems(grid: Grid) -> dict[Key, System]:
    transform = HarmonicTransform.create(grid)
    rng = np.random.default_rng(0)
    scalar, u, v = jnp.asarray(rng.normal(size=(3, *grid.shape, CHANNELS)), jnp.float32)

    def round_trip(t: HarmonicTransform, x: jax.Array) -> jax.Array:
        return t.synthesis(t.analysis(x))

    def round_trip_vector(t: HarmonicTransform, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return t.synthesis_vector(*t.analysis_vector(x, y))

    def loss(t: HarmonicTransform, x: jax.Array) -> jax.Array:
        return jnp.sum(round_trip(t, x) ** 2)

    def loss_vector(t: HarmonicTransform, x: jax.Array, y: jax.Array) -> jax.Array:
        a, b = round_trip_vector(t, x, y)
        return jnp.sum(a**2 + b**2)

    scalar, (u, v) = round_trip(transform, scalar), round_trip_vector(transform, u, v)
    errors = relative(round_trip(transform, scalar), scalar), relative(round_trip_vector(transform, u, v)[0], u)
    return {
        ("ours", 0, False): System(*compiled(round_trip, transform, scalar), errors[0]),
        ("ours", 1, False): System(*compiled(round_trip_vector, transform, u, v), errors[1]),
        ("ours", 0, True): System(*compiled(jax.value_and_grad(loss, 1), transform, scalar)),
        ("ours", 1, True): System(*compiled(jax.value_and_grad(loss_vector, (1, 2)), transform, u, v)),
    }


def wigner_systems(grid: Grid, gradients: bool) -> dict[Key, System]:
    """Fields are made within the degree, so that the error tells the contraction's correctness."""
    systems: dict[Key, System] = {}
    for name, make in (
        (PUBLISHED, functools.partial(published, grid.latitudes)),
        (OWN_ROWS, functools.partial(on_our_rows, grid)),
    ):
        for spin in (0, 1):
            tables, analysis, synthesis, shape = make(spin)

            def round_trip(
                t: dict, field: jax.Array, analysis: Any = analysis, synthesis: Any = synthesis
            ) -> jax.Array:
                return synthesis(t, analysis(t, field))

            rng = np.random.default_rng(spin)
            field = jnp.asarray(rng.normal(size=(*shape, CHANNELS)) + 1j * rng.normal(size=(*shape, CHANNELS)))
            field = round_trip(tables, field.astype(jnp.complex64))
            call, seconds, size = compiled(round_trip, tables, field)
            systems[name, spin, False] = System(call, seconds, size, relative(call(), field))
            if gradients and name == PUBLISHED:

                def loss(t: dict, real: jax.Array, imaginary: jax.Array, round_trip: Any = round_trip) -> jax.Array:
                    return jnp.sum(jnp.abs(round_trip(t, jax.lax.complex(real, imaginary))) ** 2)

                slope = jax.value_and_grad(loss, (1, 2))
                systems[name, spin, True] = System(*compiled(slope, tables, field.real, field.imag))
    return systems


def ducc_systems(grid: Grid, threads: int) -> dict[Key, System]:
    """Maps in its own layout, channels first and northernmost row first."""
    try:
        import ducc0
    except ImportError:
        return {}
    lmax, mmax = grid.maximum_degree, min(grid.maximum_degree, grid.maximum_order)
    rng = np.random.default_rng(0)

    def round_trip(fields: np.ndarray, spin: int) -> np.ndarray:
        result = np.empty_like(fields)
        for i, field in enumerate(fields):
            alm = ducc0.sht.analysis_2d(map=field, spin=spin, lmax=lmax, mmax=mmax, geometry="F1", nthreads=threads)
            ducc0.sht.synthesis_2d(
                alm=alm, spin=spin, lmax=lmax, mmax=mmax, geometry="F1", map=result[i], nthreads=threads
            )
        return result

    systems: dict[Key, System] = {}
    for spin in (0, 1):
        fields = round_trip(rng.normal(size=(CHANNELS, 1 + spin, *grid.shape)).astype(np.float32), spin)
        call = functools.partial(round_trip, fields, spin)
        systems[DUCC, spin, False] = System(call, error=relative(call(), fields))
    return systems


def torch_systems(grid: Grid, threads: int) -> dict[Key, System]:
    try:
        import torch
        import torch_harmonics
    except ImportError:
        return {}
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(
        lmax=grid.latitudes, mmax=min(grid.latitudes, grid.maximum_order + 1), grid="legendre-gauss"
    )
    kinds = (
        (torch_harmonics.RealSHT, torch_harmonics.InverseRealSHT, ()),
        (torch_harmonics.RealVectorSHT, torch_harmonics.InverseRealVectorSHT, (2,)),
    )
    systems: dict[Key, System] = {}
    for spin, (forward_kind, backward_kind, components) in enumerate(kinds):
        forward = forward_kind(*grid.shape, **sizes).float()
        backward = backward_kind(*grid.shape, **sizes).float()

        def round_trip(field: Any, forward: Any = forward, backward: Any = backward) -> Any:
            with torch.no_grad():
                return backward(forward(field))

        def slope(field: Any, forward: Any = forward, backward: Any = backward) -> Any:
            field = field.detach().requires_grad_()
            (backward(forward(field)) ** 2).sum().backward()
            return field.grad

        field = round_trip(torch.randn(CHANNELS, *components, *grid.shape))
        call = functools.partial(round_trip, field)
        systems[TORCH, spin, False] = System(call, error=relative(call().numpy(), field.numpy()))
        systems[TORCH, spin, True] = System(functools.partial(slope, field))
    return systems


def relative(found: Any, expected: Any) -> float:
    """Largest error over largest value."""
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max() / np.abs(np.asarray(expected)).max())


def gflop(grid: Grid, spin: int) -> float:
    """10⁹ operations of the products of one round trip."""
    total, columns, degree = 0.0, 2 * CHANNELS * (1 + spin), grid.maximum_degree
    orders = min(degree, grid.maximum_order)
    for begin, end in blocks(orders):
        total += np.prod(block_shape(grid, degree, begin, end, 1 + spin)) * columns
    if by_product(grid.longitudes):
        total += 2 * (orders + 1) / 2 * grid.longitudes / 4 * grid.latitudes * columns
    return 2 * 2 * total / 1e9


def matrix_peak() -> System:
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(2048, 2048)), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    product(matrix)
    return System(lambda: jax.block_until_ready(product(matrix)))


def measure(systems: dict[Key, System], repetitions: int) -> dict[Key, float]:
    """Least milliseconds of each, in rounds; a call of seconds is not repeated.

    Within a round a system is called again until 40 ms are over: a single call of less than a millisecond told how
    cold the one before had left caches and threads.
    """
    best = dict.fromkeys(systems, np.inf)
    for i in range(repetitions + 1):
        for key, system in systems.items():
            if best[key] > 2000 and i > 1 and best[key] < np.inf:
                continue
            begin = start = time.perf_counter()
            while start - begin < 0.04:
                system.call()
                end = time.perf_counter()
                best[key], start = min(best[key], (end - start) * 1e3), end
    return best


def run(count: int, largest: dict[str, int], repetitions: int, threads: int) -> tuple[list[dict], list[str]]:
    """JSON rows and lines of the table for one number of rows."""
    grid = Grid.equiangular(2 * count, count)
    peak_key: Key = ("peak", 0, False)
    systems: dict[Key, System] = {peak_key: matrix_peak()} | our_systems(grid)
    if count <= largest["wigner"]:
        systems |= wigner_systems(grid, count <= largest["wigner_gradient"])
    systems |= ducc_systems(grid, threads) | torch_systems(grid, threads)
    best = measure(systems, repetitions)
    peak = 2 * 2048**3 / best.pop(peak_key) / 1e6

    def together(name: str, gradient: bool) -> float | None:
        parts = [best.get((name, spin, gradient)) for spin in (0, 1)]
        return None if None in parts else sum(parts)  # type: ignore[arg-type]

    rows, lines = [], []
    for gradient in (False, True):
        case = f"round trip{' with gradient' if gradient else ''}, spins 0 and 1, {count} rows"
        ours = together("ours", gradient)
        assert ours is not None
        for name in ("ours", PUBLISHED, OWN_ROWS, TORCH, DUCC):
            value = together(name, gradient)
            if value is None:
                continue
            if name != "ours":
                ratio = round(value / ours, 2)
                rows.append(
                    {"case": case, "ours": ours, "peer": value, "peer_name": name, "ratio": ratio, "unit": "ms"}
                )
            parts = [systems[name, spin, gradient] for spin in (0, 1)]
            fraction = ""
            if name == "ours" and not gradient:
                reached = sum(gflop(grid, spin) for spin in (0, 1)) / ours * 1e3
                fraction = f"{reached / peak:.0%} of {peak:.0f}"
                rows.append(
                    {
                        "case": f"products of the round trip, {count} rows",
                        "ours": reached,
                        "peer": peak,
                        "peer_name": "largest matrix product of the machine",
                        "ratio": round(reached / peak, 2),
                        "unit": "GFLOP/s",
                    }
                )
            cells = [
                str(count),
                "with gradient" if gradient else "forward",
                name,
                *(f"{best[name, spin, gradient]:.2f}" for spin in (0, 1)),
                f"{value / ours:.1f}",
                *(
                    "" if parts[0][i] is None else form.format(combine(part[i] for part in parts))
                    for i, form, combine in ((1, "{:.1f}", sum), (2, "{:.0f}", max), (3, "{:.0e}", max))
                ),
                fraction,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return rows, lines


def versions() -> str:
    found = [f"JAX {jax.__version__} on {jax.default_backend()}", f"NumPy {np.__version__}"]
    for name in ("ducc0", "torch", "torch_harmonics"):
        try:
            found.append(f"{name} {__import__(name).__version__}")
        except ImportError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def processor() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


NOTES = """
Milliseconds of spin 0 and of spin 1, their sum over ours, compile seconds (sum), MiB of arguments, temporaries and
results (larger), and the largest relative error of a round trip. All systems go to degree rows − 1; "as published"
has twice the rows and columns, which its quadrature needs for that. ducc0 has no gradient.

What is left below the matrix-product peak: every field is copied once on its way to each Fourier product and once more
between a Legendre product and the spectrum, and these copies, not the products, take most of the time up to 64 rows.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--quick", action="store_true", help="32 and 64 rows, under a minute, no table")
    parser.add_argument("--largest-wigner", type=int, default=256, help="above, the contraction takes minutes")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=pathlib.Path, help="where the rows go")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    rows, lines = [], []
    largest = {"wigner": arguments.largest_wigner, "wigner_gradient": 32 if arguments.quick else 128}
    for count in [32, 64] if arguments.quick else arguments.rows:
        more_rows, more_lines = run(count, largest, 4 if arguments.quick else arguments.repetitions, arguments.threads)
        rows.extend(more_rows)
        lines.extend(more_lines)
    text = "\n".join(
        [
            f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions()}.",
            f"{CHANNELS} channels, float32, batch 1, {arguments.threads} threads; load average when done "
            f"{os.getloadavg()[0]:.1f}.",
            "",
            "| rows | | system | spin 0 | spin 1 | × ours | compile s | MiB | error | of matmul peak, GFLOP/s |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *lines,
        ]
    )
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not arguments.quick:
        arguments.output.write_text(f"# Spherical harmonic transforms\n\n{text}\n{NOTES}")


if __name__ == "__main__":
    main()
