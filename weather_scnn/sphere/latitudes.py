"""From real fields to coefficients per order and degree and back: what all transforms of this package share.

A field (b, y, x, c) is folded about the equator, transformed along longitude (`weather_scnn.sphere.fourier`) and
multiplied by one table per order and symmetry, block by block of orders (`weather_scnn.sphere.tables`). Coefficients
are pairs of real arrays, real and imaginary part, of shape (p, i, g, t, k, b, c): order m = begin + 2i + p, symmetry g
about the equator (0 for (−1)^m), and kinds of functions t: one for scalars; for spins the half sum and the half
difference of sλ and ₋sλ. Functions of the first kind have degree l = begin + 2k + g, of the second
l = begin + 2k + 1 − g. Products are (t k) × h matrices of a table times h × (b c) matrices of rows, so channels stay
last and nothing is copied between the products with waves and those with tables.

With a mesh, each device works on a part of the latitudes until the Fourier transform is done and on a part of the
orders in the products; one all-to-all exchange lies between, and no device ever holds all orders of all latitudes.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from weather_scnn.errors import UserError
from weather_scnn.sphere import tables
from weather_scnn.sphere.fourier import fourier, inverse_fourier, phase_origin
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.products import product_precision

#: Real and imaginary part.
Coefficients = tuple[Float[Array, "_p _i _g ..."], Float[Array, "_p _i _g ..."]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a set of tables is for; all of it static.

    Attributes:
        grid: the grid.
        max_degree: largest degree of the tables.
        max_order: largest order of the tables.
        kinds: 1 for scalars, 2 for spins.
        mesh: the device mesh over whose axis `mesh_axis` orders are split, or None.
        mesh_axis: name of that axis.
        precision: of products, see `weather_scnn.sphere.products`.
    """

    grid: Grid
    max_degree: int
    max_order: int
    kinds: int
    mesh: Any = None
    mesh_axis: str | None = None
    precision: str = "highest"

    @property
    def half(self) -> int:
        """Northern rows, with the equator."""
        return (self.grid.latitudes + 1) // 2

    def blocks(self, orders: int) -> list[tuple[int, int]]:
        """First order and pairs of orders of the blocks that hold these orders."""
        found = []
        for begin, end in tables.blocks(self.max_order):
            if begin < orders:
                # Devices hold whole parts of a block, so with a mesh blocks are not cut.
                last = end if self.mesh is not None else min(end, orders)
                found.append((begin, (last - begin + 1) // 2))
        return found

    def table(self, stored: jax.Array, pairs: int, degrees: int, synthesis: bool) -> jax.Array:
        """The part (p i, g, t k, h), or (p i, g, h, t k) of a synthesis table, for these pairs and degrees."""
        axis = 3 if synthesis else 2
        stored_degrees = stored.shape[axis] // self.kinds
        if degrees < stored_degrees:
            shape = (*stored.shape[:axis], self.kinds, stored_degrees, *stored.shape[axis + 1 :])
            stored = jax.lax.slice_in_dim(stored.reshape(shape), 0, degrees, axis=axis + 1)
            stored = stored.reshape(*stored.shape[:axis], -1, *stored.shape[axis + 2 :])
        if self.mesh is None and 2 * pairs < stored.shape[0]:
            stored = stored.reshape(2, -1, *stored.shape[1:])[:, :pairs].reshape(2 * pairs, *stored.shape[1:])
        return stored


def _product(layout: Layout, table: jax.Array, values: jax.Array) -> jax.Array:
    """(m, g, i, j) × (m, g, j, n); with one batch axis, or the gradient comes out in another order and is copied."""
    batch = table.shape[:2]
    table, values = (x.reshape(-1, *x.shape[2:]) for x in (table, values))
    found = jnp.matmul(table, values, precision=product_precision(layout.precision, values.dtype))
    return found.reshape(*batch, *found.shape[1:])


def analyse(
    layout: Layout, stored: tuple, weights: jax.Array | None, field: Float[Array, "b y x c"], degrees: int
) -> list[Coefficients]:
    """Coefficients of every block with orders below `degrees`, of degrees below `degrees`.

    Args:
        layout: of the tables.
        stored: the analysis tables, or those of synthesis if `weights` are given.
        weights: `tables.symmetry_weights` where synthesis tables serve both directions.
        field: real.
        degrees: how many.
    """
    orders = min(degrees, layout.max_order + 1)
    blocks = layout.blocks(orders)
    even, odd = _folded(field, layout.grid)
    count = [(degrees - begin + 1) // 2 for begin, _ in blocks]
    used = tuple(
        layout.table(table, pairs, k, weights is not None) for table, (_, pairs), k in zip(stored, blocks, count)
    )

    def products(even: jax.Array, odd: jax.Array, used: tuple, weights: jax.Array | None) -> list[Any]:
        found = []
        for table, (_, pairs), part in zip(used, blocks, fourier(even, odd, blocks, layout.precision)):
            for rows in part:
                rows = rows.reshape(2 * pairs, *rows.shape[2:4], -1)  # (p i, g, h, b c)
                rows = _orders_split(layout, rows, table.shape[0])
                if weights is not None:
                    rows = _weighted(layout, weights, rows, pairs)
                found.append(_product(layout, jnp.swapaxes(table, 2, 3) if weights is not None else table, rows))
        return found

    if layout.mesh is None:
        found = products(even, odd, used, weights)
    else:
        missing = -layout.half % layout.mesh.shape[layout.mesh_axis]
        even, odd = (jnp.pad(x, [(0, 0), (0, missing), (0, 0), (0, 0)]) for x in (even, odd))
        latitudes, exchanged, split = _specs(layout, field.shape[0])
        mapped = _mapped(layout, products, (latitudes, latitudes, split, jax.P()), exchanged)
        found = mapped(even, odd, used, weights)
    b, c = field.shape[0], field.shape[-1]
    shaped = []
    for i, ((_, pairs), k) in enumerate(zip(blocks, count)):
        real, imaginary = (x[: 2 * pairs].reshape(2, pairs, 2, layout.kinds, k, b, c) for x in found[2 * i : 2 * i + 2])
        shaped.append((real, imaginary))
    return shaped


def synthesise(layout: Layout, stored: tuple, parts: list[Coefficients]) -> Float[Array, "b y x c"]:
    """The real field of coefficients of the first blocks, as `analyse` returns them."""
    b, c = parts[0][0].shape[-2:]
    if layout.mesh is not None:  # devices hold whole parts of a block, so blocks are whole
        whole = [pairs for _, pairs in layout.blocks(layout.max_order + 1)]
        parts = [tuple(_padded(x, pairs - x.shape[1], 1) for x in part) for part, pairs in zip(parts, whole)]  # type: ignore[misc]
    blocks = [(begin, pairs) for (begin, _), pairs in zip(tables.blocks(layout.max_order), _pairs(parts))]
    used = tuple(
        layout.table(table, pairs, part[0].shape[4], True) for table, (_, pairs), part in zip(stored, blocks, parts)
    )
    values = []
    for table, (_, pairs), part in zip(used, blocks, parts):
        for x in part:
            x = x.reshape(2 * pairs, 2, -1, b * c)
            values.append(_padded(x, table.shape[0] - x.shape[0], 0))

    def rows(values: list[jax.Array], used: tuple) -> tuple[jax.Array, jax.Array]:
        found = []
        for i, (table, (_, pairs)) in enumerate(zip(used, blocks)):
            both = []
            for x in values[2 * i : 2 * i + 2]:
                x = _latitudes_split(layout, _product(layout, table, x))[: 2 * pairs]
                both.append(x.reshape(2, pairs, *x.shape[1:3], -1, c))  # b is the device's own part
            found.append((both[0], both[1]))
        return inverse_fourier(found, blocks, layout.grid.longitudes, layout.precision)

    if layout.mesh is None:
        even, odd = rows(values, used)
    else:
        latitudes, orders, split = _specs(layout, b)
        even, odd = _mapped(layout, rows, (orders, split), (latitudes, latitudes))(values, used)
        even, odd = even[:, : layout.half], odd[:, : layout.half]
    return _unfolded(even, odd, layout.grid)


def _padded(values: jax.Array, missing: int, axis: int) -> jax.Array:
    """With zeros after the last element of an axis."""
    if not missing:
        return values
    return jnp.pad(values, [(0, missing if i == axis else 0) for i in range(values.ndim)])


def _pairs(parts: list[Coefficients]) -> list[int]:
    return [part[0].shape[1] for part in parts]


# Latitudes and orders over devices


def _specs(layout: Layout, batch: int) -> tuple[jax.P, jax.P, jax.P]:
    """Of rows (b, h, x, c), of coefficients (m, g, k, b c) and of tables (m, …); all other axes divide the batch.

    Left to the compiler, a batch that is divided was gathered, and every device worked on all of it.
    """
    others = tuple(axis for axis in layout.mesh.axis_names if axis != layout.mesh_axis)
    divides = batch % math.prod(layout.mesh.shape[axis] for axis in others) == 0
    samples = others if others and divides else None
    axis = layout.mesh_axis
    return jax.P(samples, axis), jax.P(axis, None, None, samples), jax.P(axis)


def _mapped(layout: Layout, function: Any, in_specs: Any, out_specs: Any) -> Any:
    return jax.shard_map(function, mesh=layout.mesh, in_specs=in_specs, out_specs=out_specs)


def _orders_split(layout: Layout, rows: Float[Array, "m g h n"], local_orders: int) -> Float[Array, "m g h n"]:
    """From all orders of some latitudes to some orders of all latitudes."""
    if layout.mesh is None:
        return rows
    total = local_orders * layout.mesh.shape[layout.mesh_axis]
    rows = jnp.pad(rows, [(0, total - rows.shape[0]), (0, 0), (0, 0), (0, 0)])
    return jax.lax.all_to_all(rows, layout.mesh_axis, 0, 2, tiled=True)[:, :, : layout.half]


def _latitudes_split(layout: Layout, rows: Float[Array, "m g h n"]) -> Float[Array, "m g h n"]:
    """From some orders of all latitudes to all orders of some latitudes."""
    if layout.mesh is None:
        return rows
    missing = -layout.half % layout.mesh.shape[layout.mesh_axis]
    rows = jnp.pad(rows, [(0, 0), (0, 0), (0, missing), (0, 0)])
    return jax.lax.all_to_all(rows, layout.mesh_axis, 2, 0, tiled=True)


def _weighted(
    layout: Layout, weights: Float[Array, "p g h k"], rows: Float[Array, "m g h n"], pairs: int
) -> Float[Array, "m g h n"]:
    """Rows times the interpolation weights of (parity of m, g)."""
    order = jnp.arange(rows.shape[0])
    if layout.mesh is not None:
        order = order + jax.lax.axis_index(layout.mesh_axis) * rows.shape[0]
    odd = order >= pairs
    return _product(layout, jnp.where(odd[:, None, None, None], weights[1], weights[0]), rows)


# Fields and halves of them


def _folded(field: Float[Array, "b y x c"], grid: Grid) -> tuple[jax.Array, jax.Array]:
    """North ± south on the northern rows, from the pole to the equator, which is its own mirror image."""
    others, odd = divmod(grid.latitudes, 2)
    first, equator, last = jax.lax.split(field, [others, odd, others], 1)
    north, south = (first, last[:, ::-1]) if grid.north_first else (last[:, ::-1], first)
    if odd:
        north, south = (jnp.concatenate([part, equator], 1) for part in (north, south))
    return north + south, north - south


def _unfolded(even: Float[Array, "b h x c"], odd: Float[Array, "b h x c"], grid: Grid) -> Float[Array, "b y x c"]:
    north, south = even + odd, (even - odd)[:, : grid.latitudes // 2]
    return jnp.concatenate([north, south[:, ::-1]] if grid.north_first else [south, north[:, ::-1]], 1)


def check_field(field: jax.Array, grid: Grid) -> None:
    """Raises a UserError if a field is not (…, y, x, c) of the grid."""
    if field.ndim < 3 or field.shape[-3:-1] != grid.shape:
        raise UserError(
            f"a field of shape {tuple(field.shape)} is not (…, {', '.join(map(str, grid.shape))}, channel)",
            where=f"grid {grid.name}",
            remedy="regrid it or make a transform for its grid",
        )


def degree_count(max_degree: int | None, largest: int, where: str) -> int:
    """Degrees up to the one asked for, or all; raises a UserError if a transform has not so many."""
    if max_degree is not None and not 0 <= max_degree <= largest:
        raise UserError(
            f"degree {max_degree} is not between 0 and {largest}, the largest of this transform",
            where=where,
            remedy="lower max_degree or create the transform with a larger one",
        )
    return (largest if max_degree is None else max_degree) + 1


# Between coefficients in blocks and spectra


@functools.lru_cache(maxsize=256)
def _phases(begin: int, pairs: int, origin: float) -> tuple[np.ndarray, np.ndarray]:
    angle = origin * (begin + 2 * np.arange(pairs)[None] + np.arange(2)[:, None])
    return np.cos(angle), np.sin(angle)


def turned(part: Coefficients, begin: int, grid: Grid, *, back: bool = False) -> Coefficients:
    """exp(−imα) times coefficients, for the longitudes of the grid; `back` undoes it."""
    origin = phase_origin(grid)
    if origin == 0.0:
        return part
    real, imaginary = part
    shape = real.shape[:2] + (1,) * (real.ndim - 2)
    cos, sin = (jnp.asarray(x.reshape(shape), real.dtype) for x in _phases(begin, real.shape[1], origin))
    if back:
        sin = -sin
    return cos * real + sin * imaginary, cos * imaginary - sin * real


def by_degree(values: Inexact[Array, "p i g k *r"]) -> Inexact[Array, "l m *r"]:
    """Functions of the first kind of a block by degree l = begin + 2k + g and order m = begin + 2i + p."""
    values = values.transpose(3, 2, 1, 0, *range(4, values.ndim))
    return values.reshape(2 * values.shape[0], 2 * values.shape[2], *values.shape[4:])


def by_order(values: Inexact[Array, "l m *r"]) -> Inexact[Array, "p i g k *r"]:
    """The inverse of `by_degree`."""
    degrees, orders = values.shape[:2]
    values = values.reshape(degrees // 2, 2, orders // 2, 2, *values.shape[2:])
    return values.transpose(3, 2, 1, 0, *range(4, values.ndim))


def joined(blocks: Sequence[Inexact[Array, "_k _n *r"]], degrees: int, orders: int) -> Inexact[Array, "l m *r"]:
    """Blocks of orders as one array, zero at degrees below each block.

    Args:
        blocks: from `by_degree`; the first order of each is the first degree it holds.
        degrees: of the result.
        orders: of the result.
    """
    if len(blocks) == 1:
        return blocks[0][:degrees, :orders]
    shape = (degrees, sum(x.shape[1] for x in blocks), *blocks[0].shape[2:])
    found, begin = jnp.zeros(shape, blocks[0].dtype), 0
    for x in blocks:
        found = jax.lax.dynamic_update_slice(found, x[: degrees - begin], [begin, begin] + [0] * (x.ndim - 2))
        begin += x.shape[1]
    return found[:, :orders]


def divided(spectrum: Inexact[Array, "l m *r"]) -> list[Inexact[Array, "_k _n *r"]]:
    """Blocks of orders of a spectrum, without the degrees below each, padded to even numbers of degrees and orders."""
    degrees, orders = spectrum.shape[:2]
    found = []
    for begin, end in tables.blocks(min(degrees, orders) - 1):
        values = spectrum[begin:, begin:end]
        missing = [(0, values.shape[0] % 2), (0, values.shape[1] % 2)]
        found.append(jnp.pad(values, missing + [(0, 0)] * (values.ndim - 2)))
    return found
