"""Times the spherical harmonic transforms beside their peers, all in one run.

    python benchmarks/transforms.py --rows 32 64 128 --output benchmarks/transforms.md

One round trip is analysis and synthesis of 32 channels, float32, to degree rows − 1 on 2·rows × rows equiangular
points, once for scalars (spin 0) and once for winds (spin 1). Peers:

- the Wigner-Δ contraction of published spherical CNNs, here at equal degree: both dimensions by DFT products, then one
  einsum over zero-padded (l, m, m′) arrays, a_lm = k_lm Σ_m′ Δ^l_m′m Δ^l_m′,−s I_m′m (complex fields, all orders);
- ducc0 with its float32 maps, one call a channel;
- torch-harmonics, where it is installed; its transforms are quadratures, exact for half the degrees only.

Times are the least of several repetitions that alternate between the systems, so that other load on the machine
hits all alike. GFLOP counts are those of the Legendre products alone, so the fraction of the matrix-product peak
includes Fourier transforms and copies as lost time.
"""

import argparse
import functools
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from wigner_delta import wigner_contraction

from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.tables import blocks

CHANNELS = 32


def compiled(function: Callable, *arguments: Any) -> tuple[Callable, float, float]:
    """The compiled function, compile seconds, and MiB of temporaries and tables it works with."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return lambda: jax.block_until_ready(program(*arguments)), seconds, size / 2**20


def our_systems(grid: Grid, scalar: jax.Array, u: jax.Array, v: jax.Array) -> dict[str, tuple]:
    """Round trips, forward and with gradients, by name: (call, compile seconds, MiB, largest relative error)."""
    transform = HarmonicTransform.create(grid)
    scalar = transform.synthesis(transform.analysis(scalar))
    u, v = transform.synthesis_vector(*transform.analysis_vector(u, v))

    def round_trip(t: HarmonicTransform, x: jax.Array) -> jax.Array:
        return t.synthesis(t.analysis(x))

    def round_trip_vector(t: HarmonicTransform, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return t.synthesis_vector(*t.analysis_vector(x, y))

    def loss(t: HarmonicTransform, x: jax.Array) -> jax.Array:
        return jnp.sum(round_trip(t, x) ** 2)

    def loss_vector(t: HarmonicTransform, x: jax.Array, y: jax.Array) -> jax.Array:
        a, b = round_trip_vector(t, x, y)
        return jnp.sum(a**2 + b**2)

    systems = {
        "ours, spin 0": (*compiled(round_trip, transform, scalar), relative(round_trip(transform, scalar), scalar)),
        "ours, spin 1": (
            *compiled(round_trip_vector, transform, u, v),
            relative(round_trip_vector(transform, u, v)[0], u),
        ),
        "ours, spin 0, with gradient": (*compiled(jax.value_and_grad(loss, 1), transform, scalar), None),
        "ours, spin 1, with gradient": (*compiled(jax.value_and_grad(loss_vector, (1, 2)), transform, u, v), None),
    }
    return systems


def wigner_systems(grid: Grid, scalar: jax.Array, u: jax.Array, v: jax.Array) -> dict[str, tuple]:
    """The same by the contraction; its fields are made within the degree, so that the error tells its correctness."""
    systems = {}
    for spin, field in ((0, scalar + 0j), (1, u + 1j * v)):
        tables, analysis, synthesis = wigner_contraction(grid, spin)

        def round_trip(t: dict, x: jax.Array, analysis: Any = analysis, synthesis: Any = synthesis) -> jax.Array:
            return synthesis(t, analysis(t, x))

        field = round_trip(tables, field)
        call, seconds, size = compiled(round_trip, tables, field)
        systems[f"Wigner-Δ, spin {spin}"] = (call, seconds, size, relative(round_trip(tables, field), field))
    return systems


def ducc_systems(grid: Grid, scalar: np.ndarray, u: np.ndarray, v: np.ndarray, threads: int) -> dict[str, tuple]:
    """The same by ducc0; maps in its own layout, channels first and northernmost row first."""
    try:
        import ducc0
    except ImportError:
        return {}
    lmax, mmax = grid.maximum_degree, min(grid.maximum_degree, grid.maximum_order)
    maps = {
        0: np.ascontiguousarray(scalar[::-1].transpose(2, 0, 1)[:, None]),
        1: np.ascontiguousarray(np.stack([-v[::-1], u[::-1]]).transpose(3, 0, 1, 2)),
    }

    def round_trip(fields: np.ndarray, spin: int) -> np.ndarray:
        result = np.empty_like(fields)
        for i, field in enumerate(fields):
            alm = ducc0.sht.analysis_2d(map=field, spin=spin, lmax=lmax, mmax=mmax, geometry="F1", nthreads=threads)
            ducc0.sht.synthesis_2d(
                alm=alm, spin=spin, lmax=lmax, mmax=mmax, geometry="F1", map=result[i], nthreads=threads
            )
        return result

    systems = {}
    for spin, fields in maps.items():
        fields = round_trip(fields, spin)
        call = functools.partial(round_trip, fields, spin)
        systems[f"ducc0, spin {spin}"] = (call, None, None, relative(call(), fields))
    return systems


def torch_systems(grid: Grid, scalar: np.ndarray, u: np.ndarray, v: np.ndarray, threads: int) -> dict[str, tuple]:
    """The same by torch-harmonics, where it is installed, on its Legendre–Gauss grid, where it is exact."""
    try:
        import torch
        import torch_harmonics
    except ImportError:
        return {}
    torch.set_num_threads(threads)
    sizes = dict(lmax=grid.latitudes, mmax=min(grid.latitudes, grid.maximum_order + 1), grid="legendre-gauss")
    systems = {}
    fields = {0: torch.from_numpy(scalar.transpose(2, 0, 1).copy())}
    fields[1] = torch.from_numpy(np.stack([u, v]).transpose(3, 0, 1, 2).copy())
    kinds = {
        0: (torch_harmonics.RealSHT, torch_harmonics.InverseRealSHT),
        1: (torch_harmonics.RealVectorSHT, torch_harmonics.InverseRealVectorSHT),
    }
    for spin, (forward_kind, backward_kind) in kinds.items():
        forward = forward_kind(*grid.shape, **sizes).float()
        backward = backward_kind(*grid.shape, **sizes).float()

        def round_trip(field: Any, forward: Any = forward, backward: Any = backward) -> Any:
            with torch.no_grad():
                return backward(forward(field))

        field = round_trip(fields[spin])
        call = functools.partial(round_trip, field)
        systems[f"torch-harmonics, spin {spin}"] = (call, None, None, relative(call().numpy(), field.numpy()))
    return systems


def relative(found: Any, expected: Any) -> float:
    """Largest error over largest value."""
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max() / np.abs(np.asarray(expected)).max())


def legendre_gflop(grid: Grid, spin: int) -> float:
    """10⁹ operations of the Legendre products of one round trip."""
    half, degrees = (grid.latitudes + 1) // 2, grid.maximum_degree + 1
    entries = sum((end - begin) * (degrees - begin) for begin, end in blocks(min(degrees - 1, grid.maximum_order)))
    return 2 * 2 * entries * half * 2 * CHANNELS * (1 if spin == 0 else 4) / 1e9


def matrix_peak() -> Callable:
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(1024, 1024)), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    product(matrix)
    return lambda: jax.block_until_ready(product(matrix))


def measure(systems: dict[str, tuple], repetitions: int) -> dict[str, float]:
    """Least milliseconds of each."""
    best = dict.fromkeys(systems, np.inf)
    for name in systems:
        systems[name][0]()
    for _ in range(repetitions):
        for name, (call, *_) in systems.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], (time.perf_counter() - start) * 1e3)
    return best


def report(rows: list[int], largest_wigner: int, repetitions: int, threads: int) -> str:
    lines = [
        f"{platform.machine()}, {os.cpu_count()} CPUs, JAX {jax.__version__} on {jax.default_backend()}, "
        f"NumPy {np.__version__}, Python {platform.python_version()}; {CHANNELS} channels, float32, batch 1.",
        "",
        "| rows | system | ms | × ours | compile s | MiB | error | of matmul peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in rows:
        grid = Grid.equiangular(2 * count, count)
        rng = np.random.default_rng(0)
        scalar, u, v = rng.normal(size=(3, *grid.shape, CHANNELS)).astype(np.float32)
        on_device = [jnp.asarray(x) for x in (scalar, u, v)]
        systems: dict[str, tuple] = {"peak": (matrix_peak(), None, None, None)}
        systems |= our_systems(grid, *on_device)
        if count <= largest_wigner:
            systems |= wigner_systems(grid, *on_device)
        systems |= ducc_systems(grid, scalar, u, v, threads) | torch_systems(grid, scalar, u, v, threads)
        best = measure(systems, repetitions)
        peak = 2 * 1024**3 / best.pop("peak") / 1e6
        for name, milliseconds in best.items():
            _, seconds, size, error = systems[name]
            spin = 1 if "spin 1" in name else 0
            fraction = ""
            if name == f"ours, spin {spin}":
                fraction = f"{legendre_gflop(grid, spin) / milliseconds * 1e3 / peak:.0%} of {peak:.0f} GFLOP/s"
            cells = [
                str(count),
                name,
                f"{milliseconds:.2f}",
                f"{milliseconds / best[f'ours, spin {spin}']:.2f}",
                "" if seconds is None else f"{seconds:.1f}",
                "" if size is None else f"{size:.0f}",
                "" if error is None else f"{error:.0e}",
                fraction,
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--largest-wigner", type=int, default=128, help="above, the contraction takes minutes")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    text = report(arguments.rows, arguments.largest_wigner, arguments.repetitions, arguments.threads)
    print(text)
    if arguments.output:
        arguments.output.write_text(f"# Spherical harmonic transforms\n\n{text}")


if __name__ == "__main__":
    main()
