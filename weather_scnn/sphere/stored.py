"""Building the tables of a transform: from the cache or anew, whole or split over devices."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import MofNCompleteColumn

from weather_scnn.errors import UserError
from weather_scnn.progress import progress_bar
from weather_scnn.sphere import dense, table_cache, tables
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.layouts import DENSE, check_layout, chosen_layout

#: Above this many bytes of synthesis tables, analysis uses them too (Λ·W) instead of tables of its own.
LARGEST_SEPARATE_BYTES = 512 * 2**20

_shapes_only: contextvars.ContextVar[bool] = contextvars.ContextVar("shapes_only", default=False)

# With fewer rows all tables are there within seconds.
_ROWS_WITH_PROGRESS = 361


def check_dtype(dtype: Any) -> np.dtype:
    """The dtype of tables, default float32.

    Raises:
        UserError: float64 while JAX has no 64-bit types.
    """
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise UserError(
            "float64 transforms were asked for while JAX runs in float32",
            remedy="set JAX_ENABLE_X64=1 or leave dtype out",
        )
    return dtype


def check_mesh(mesh: jax.sharding.Mesh | None, mesh_axis: str | None) -> jax.sharding.Mesh | None:
    """The mesh with axes whose layouts the compiler chooses.

    Raises:
        UserError: the axis is none of the mesh.
    """
    if mesh is None:
        return None
    if mesh_axis not in mesh.axis_names:
        raise UserError(
            f"the mesh axis {mesh_axis!r} is none of {mesh.axis_names}", remedy="name one of them as mesh_axis"
        )
    return jax.sharding.Mesh(mesh.devices, mesh.axis_names)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Within it, tables are zeros of the right shape: under `jax.eval_shape` they take neither time nor memory."""
    token = _shapes_only.set(True)
    try:
        yield
    finally:
        _shapes_only.reset(token)


def build(
    grid: Grid,
    max_degree: int,
    max_order: int,
    spin: int,
    layout: str,
    *,
    dtype: np.dtype,
    one_table: bool,
    mesh: jax.sharding.Mesh | None,
    mesh_axis: str | None,
) -> tuple[tuple, tuple | None, jax.Array | None]:
    """Synthesis tables, analysis tables and weights of one spin; one of the last two is None, of the dense layout the last.

    Args:
        grid: the grid.
        max_degree: largest degree.
        max_order: largest order.
        spin: s ≥ 0.
        layout: folded or dense.
        dtype: of the tables.
        one_table: whether synthesis tables serve analysis too, with weights.
        mesh: splits the orders of every block over the devices of one axis.
        mesh_axis: that axis.
    """
    if layout == DENSE:
        return _build_dense(grid, max_degree, max_order, spin, dtype=dtype)
    weights = tables.symmetry_weights(grid, spin % 2 == 1)

    def place(table: np.ndarray) -> jax.Array:
        if mesh is None or mesh_axis is None:
            return jnp.asarray(table)
        missing = -table.shape[0] % mesh.shape[mesh_axis]
        table = np.pad(table, [(0, missing)] + [(0, 0)] * (table.ndim - 1))
        return jax.device_put(table, jax.NamedSharding(mesh, jax.P(mesh_axis)))

    def block(begin: int, end: int) -> np.ndarray:
        if spin == 0:
            return tables.scalar_block(grid, max_degree, begin, end)
        return tables.spin_block(grid, spin, max_degree, begin, end)

    def analysis_block(begin: int, end: int) -> np.ndarray:
        if max_degree > grid.maximum_degree:
            return tables.smooth_block(grid, spin, max_degree, begin, end)
        return tables.analysis_block(block(begin, end), weights)

    def get(direction: str, begin: int, end: int, make: Callable[[], np.ndarray]) -> jax.Array:
        if _shapes_only.get():
            q, g, d, h = tables.block_shape(grid, max_degree, begin, end, 2 if spin else 1)
            return jnp.zeros((q, g, h, d) if direction == "synthesis" else (q, g, d, h), dtype)
        kind = f"spin {spin} {direction}"
        return place(table_cache.cached(grid, kind, dtype, (max_degree, begin, end), make))

    blocks = tables.blocks(max_order)
    synthesis, analysis = [], []
    shown = grid.latitudes >= _ROWS_WITH_PROGRESS and max_degree >= _ROWS_WITH_PROGRESS // 2
    with progress_bar(MofNCompleteColumn(), enabled=shown) as bar:
        for begin, end in bar.track(blocks, description=f"Tables of spin {spin} for {grid.name}"):
            synthesis.append(get("synthesis", begin, end, lambda: block(begin, end).swapaxes(2, 3)))  # noqa: B023
            if not one_table:
                analysis.append(get("analysis", begin, end, lambda: analysis_block(begin, end)))  # noqa: B023
    if one_table:
        return tuple(synthesis), None, jnp.asarray(weights.astype(dtype))
    return tuple(synthesis), tuple(analysis), None


def layout_of(
    layout: str | None,
    grid: Grid,
    max_degree: int,
    max_order: int,
    kinds: int,
    *,
    dtype: np.dtype,
    one_table: bool | None,
    mesh: jax.sharding.Mesh | None,
) -> str:
    """The layout asked for, or the one that suits the backend.

    Raises:
        UserError: the layout cannot be had with a mesh or with one table for both directions.
    """
    split = mesh is not None
    if layout is None:
        size = kinds * (max_order + 1) * (max_degree + 1) * grid.latitudes * np.dtype(dtype).itemsize
        layout = chosen_layout(grid, size, split=split or bool(one_table))
    check_layout(layout, split=split, one_table=one_table)
    return layout


def _build_dense(
    grid: Grid, max_degree: int, max_order: int, spin: int, *, dtype: np.dtype
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...], None]:
    """Synthesis and analysis tables of one spin in the dense layout, (m, l, y) each, and no weights."""
    kinds, sizes = 2 if spin else 1, (max_degree, max_order)
    if _shapes_only.get():
        zeros = (jnp.zeros((max_order + 1, max_degree + 1, grid.latitudes), dtype),) * kinds
        return zeros, zeros, None

    made: list[np.ndarray] = []

    def synthesis(number: int) -> np.ndarray:
        if not made:
            made.extend(dense.dense_tables(grid, max_degree, max_order, spin))
        return made[number]

    @functools.cache
    def smooth() -> list[np.ndarray]:
        return tables.smooth_kinds(grid, max_degree, np.arange(max_order + 1), spin)

    def table(direction: str, number: int) -> jax.Array:
        def make() -> np.ndarray:
            if direction == "analysis" and max_degree > grid.maximum_degree:
                found = smooth()[number]
                return found if grid.north_first else found[..., ::-1]
            found = synthesis(number)
            return found if direction == "synthesis" else dense.analysis_table(grid, found, spin)

        first = "north" if grid.north_first else "south"
        kind = f"spin {spin} dense {direction} {number} {first} first"
        return jnp.asarray(table_cache.cached(grid, kind, dtype, sizes, make))

    found = [tuple(table(direction, number) for number in range(kinds)) for direction in ("synthesis", "analysis")]
    return found[0], found[1], None
