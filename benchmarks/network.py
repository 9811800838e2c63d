"""Times one training step of residual blocks beside complex spin-weighted blocks over Wigner-Δ transforms.

    python benchmarks/network.py --json network.json

A step is the forward and the backward pass of a stack of residual blocks, from fields on the grid to the mean square
of fields on the grid. Both stacks have spins (0, 1), the same degree, the same rows and the same number of real
parameters (within 1 %); the peer's channels are chosen for that. The peer, from its formulas (Esteves et al. 2020,
2023): spectra a_lm of complex fields of spin 0 and 1 with all orders m = −l … l; convolution b_lm^s′ = Σ_s a_lm^s W_l^ss′
with complex W interpolated along l; spectral batch norm; phase collapse with complex W; and the transforms of
`wigner_delta.py`, as published, whose quadrature needs twice the rows for the same degree, and on our rows with our
quadrature given away. Its skip is added to the spectrum, as ours.

Times are the least of several repetitions that alternate between the two. Memory is that of the compiled program:
arguments (parameters and tables), results and temporaries.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from wigner_delta import on_our_rows, published

from weather_scnn.nn import BlockOptions, Features, Harmonics, Pair, ResidualBlock, Table, Width, run_blocks
from weather_scnn.nn.convolution import degree_interpolation
from weather_scnn.sphere import Grid
from weather_scnn.training.checkpoints import parameter_count

HERE = pathlib.Path(__file__).parent
SPINS = (0, 1)
OURS, PUBLISHED, OWN_ROWS = "ours", "complex blocks over Wigner-Δ as published", "the same on our rows"


def our_step(
    grid: Grid, channels: int, blocks: int, filters: int, batch: int, remat: str
) -> tuple[Callable, tuple, int]:
    """Loss and gradients of our blocks, their arguments, and the number of real parameters."""
    width = Width(channels, channels)
    harmonics = Harmonics.create(grid, min(grid.maximum_degree, grid.maximum_order))
    rngs = nnx.Rngs(0)
    options = BlockOptions(filter_parameters=filters, branch_scale=0.3)
    stack = nnx.List([ResidualBlock(width, width, harmonics, options, rngs=rngs) for _ in range(blocks)])
    graph, parameters, moments, tables = nnx.split((harmonics, stack), nnx.Param, nnx.BatchStat, Table)
    rng = np.random.default_rng(0)
    scalar, u, v = (jnp.asarray(rng.normal(size=(batch, *grid.shape, channels)), jnp.float32) for _ in range(3))
    empty = scalar[..., :0]

    def loss(parameters, moments, tables, scalar, u, v):
        moments = jax.tree.map(lambda array: array, moments)
        harmonics, stack = nnx.merge(graph, parameters, moments, tables)
        spectrum = harmonics.analysis(Features(scalar, Pair(u, v), Pair(empty, empty)))
        spectrum = run_blocks(stack, spectrum, training=True, remat=remat)
        out = harmonics.synthesis(spectrum, width)
        return jnp.mean(out.scalar**2) + jnp.mean(out.vector.real**2 + out.vector.imaginary**2)

    return jax.value_and_grad(loss), (parameters, moments, tables, scalar, u, v), parameter_count(parameters)


def peer_step(
    grid: Grid, channels: int, blocks: int, filters: int, batch: int, *, as_published: bool
) -> tuple[Callable, tuple, int]:
    """The same of complex blocks over Wigner-Δ transforms, on twice the rows if as published."""
    degrees = grid.latitudes
    make = functools.partial(*(published, degrees) if as_published else (on_our_rows, grid))
    tables, analyses, syntheses, shapes = zip(*map(make, SPINS))
    interpolation = jnp.asarray(degree_interpolation(degrees - 1, filters), jnp.float32)
    rng = np.random.default_rng(0)

    def complex_normal(*shape: int, scale: float = 1.0) -> jax.Array:
        values = rng.normal(size=(2, *shape)) * scale / np.sqrt(2)
        return jnp.asarray(values[0] + 1j * values[1], jnp.complex64)

    def make_block() -> dict[str, jax.Array]:
        count = len(SPINS)
        kernels = {
            name: complex_normal(filters, count, count, channels, channels, scale=1 / np.sqrt(count * channels))
            for name in ("first", "second")
        }
        scales = {f"{name} scale": jnp.full((count, channels), 0.3 + 0.7 * (name == "first")) for name in kernels}
        biases = {f"{name} bias": jnp.zeros(channels, jnp.complex64) for name in kernels}
        collapse = {
            "linear": complex_normal(channels, channels, scale=0.7 / np.sqrt(channels)),
            "collapsed": complex_normal(count * channels, channels, scale=0.7 / np.sqrt(count * channels)),
            "bias": jnp.zeros(channels, jnp.complex64),
        }
        return kernels | scales | biases | collapse

    parameters = [make_block() for _ in range(blocks)]
    field = complex_normal(len(SPINS), *shapes[0], batch * channels)

    def analysis(tables: Any, fields: jax.Array) -> jax.Array:
        """(s, y, x, b·c) to (s, l, m, b, c)."""
        found = jnp.stack([analysis(table, field) for analysis, table, field in zip(analyses, tables, fields)])
        return found.reshape(*found.shape[:3], batch, channels)

    def synthesis(tables: Any, spectra: jax.Array) -> jax.Array:
        flat = spectra.reshape(*spectra.shape[:3], batch * channels)
        return jnp.stack([synthesis(table, part) for synthesis, table, part in zip(syntheses, tables, flat)])

    def convolution(kernel: jax.Array, spectra: jax.Array) -> jax.Array:
        weights = jnp.einsum("lp,piocd->liocd", interpolation, kernel)
        return jnp.einsum("ilmbc,liocd->olmbd", spectra, weights)

    def norm(scale: jax.Array, bias: jax.Array, spectra: jax.Array) -> jax.Array:
        mean = spectra[0, 0, degrees - 1].mean(axis=0)
        variance = jnp.sum(jnp.square(jnp.abs(spectra)), axis=(1, 2)).mean(axis=1) / (4 * jnp.pi)
        variance = variance.at[0].add(-jnp.square(jnp.abs(mean)) / (4 * jnp.pi))
        spectra = spectra.at[0, 0, degrees - 1].add(-mean)
        spectra = spectra * (scale / jnp.sqrt(variance + 1e-5))[:, None, None, None]
        return spectra.at[0, 0, degrees - 1].add(bias)

    def collapse(block: dict[str, jax.Array], fields: jax.Array) -> jax.Array:
        split = fields.reshape(*fields.shape[:3], batch, channels)
        sizes = jnp.sqrt(jnp.square(split.real) + jnp.square(split.imag) + 1e-12)
        sizes = jnp.moveaxis(sizes, 0, -2).reshape(*split.shape[1:-1], -1)
        new = split[0] @ block["linear"] + sizes.astype(jnp.complex64) @ block["collapsed"] + block["bias"]
        return fields.at[0].set(new.reshape(fields.shape[1:]))

    def loss(parameters, tables, field):
        spectra = analysis(tables, field)
        for block in parameters:
            branch = norm(block["first scale"], block["first bias"], convolution(block["first"], spectra))
            branch = analysis(tables, collapse(block, synthesis(tables, branch)))
            branch = convolution(block["second"], branch)
            spectra = spectra + norm(block["second scale"], block["second bias"], branch)
        return jnp.mean(jnp.square(jnp.abs(synthesis(tables, spectra))))

    count = sum(leaf.size * (2 if jnp.iscomplexobj(leaf) else 1) for leaf in jax.tree.leaves(parameters))
    return jax.value_and_grad(loss), (parameters, tables, field), count


def matched_channels(parameters: int, grid: Grid, blocks: int, filters: int) -> int:
    """Channels with which the peer has nearest to so many real parameters."""
    spins = len(SPINS)

    def count(channels: int) -> int:
        kernels = 2 * 2 * filters * (spins * channels) ** 2
        norms = 2 * spins * channels + 2 * 2 * channels
        return blocks * (kernels + norms + 2 * ((1 + spins) * channels**2 + channels))

    return min(range(1, 1024), key=lambda channels: abs(count(channels) - parameters))


def compiled(function: Callable, arguments: tuple) -> dict[str, Any]:
    """The compiled step as a call, with compile seconds and MiB."""
    begin = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - begin
    memory = program.memory_analysis()
    size = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    loss = float(program(*arguments)[0])
    if not np.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}")
    return {
        "call": lambda: jax.block_until_ready(program(*arguments)),
        "compile": seconds,
        "mebibytes": size / 2**20,
        "temporary": memory.temp_size_in_bytes / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the rows")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--remat", default="pointwise", help="of our blocks: none, pointwise, grid or block")
    parser.add_argument("--quick", action="store_true", help="32 rows, 2 blocks, 16 channels, batch 2")
    arguments = parser.parse_args()
    rows, blocks, channels, batch, filters = (32, 2, 16, 2, 6) if arguments.quick else (64, 8, 64, 4, 8)
    grid = Grid.equiangular(2 * rows, rows)
    ours, our_arguments, count = our_step(grid, channels, blocks, filters, batch, arguments.remat)
    peer_channels = matched_channels(count, grid, blocks, filters)
    systems = {OURS: compiled(ours, our_arguments)}
    counts = {OURS: (channels, count)}
    for name in (PUBLISHED, OWN_ROWS):
        peer, peer_arguments, peer_count = peer_step(
            grid, peer_channels, blocks, filters, batch, as_published=name == PUBLISHED
        )
        systems[name], counts[name] = compiled(peer, peer_arguments), (peer_channels, peer_count)
    best = dict.fromkeys(systems, np.inf)
    for _ in range(arguments.repetitions):
        for name, system in systems.items():
            begin = time.perf_counter()
            system["call"]()
            best[name] = min(best[name], time.perf_counter() - begin)
    lines = [
        "# One training step of the residual blocks",
        "",
        f"{rows} rows, {2 * rows} longitudes, degree {rows - 1}, {blocks} blocks, {filters} filter values, spins (0, 1), "
        f"batch {batch}, float32; remat {arguments.remat}. {platform.machine()}, {os.cpu_count()} CPUs, JAX {jax.__version__} on "
        f"{jax.default_backend()}, Python {platform.python_version()}. Command: `python benchmarks/network.py"
        f"{' --quick' if arguments.quick else ''}`.",
        "",
        "| system | channels a spin | real parameters | s a step | MiB | of which temporary | compile s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, system in systems.items():
        lines.append(
            f"| {name} | {counts[name][0]} | {counts[name][1]:,} | {best[name]:.3f} | {system['mebibytes']:.0f} | "
            f"{system['temporary']:.0f} | {system['compile']:.1f} |"
        )
    found = []
    case = f"training step, {rows} rows, {blocks} blocks, {channels} channels, batch {batch}"
    for name in (PUBLISHED, OWN_ROWS):
        faster = best[name] / best[OURS]
        smaller = systems[name]["mebibytes"] / systems[OURS]["mebibytes"]
        lines += ["", f"Ours is {faster:.1f} times as fast as {name} in {1 / smaller:.2f} of the memory."]
        for prefix, unit, ours_value, value, ratio in (
            ("", "s", best[OURS], best[name], faster),
            ("memory of a ", "MiB", systems[OURS]["mebibytes"], systems[name]["mebibytes"], smaller),
        ):
            row = {"case": prefix + case, "ours": ours_value, "peer": value, "ratio": ratio, "unit": unit}
            found.append(row | {"peer_name": name})
    page = "\n".join(lines) + "\n"
    print(page)
    if not arguments.quick:
        (HERE / "network.md").write_text(page)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
