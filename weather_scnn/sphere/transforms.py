"""Spherical harmonic transforms of real scalar and vector fields, in JAX.

A scalar field is f = Σ_l [a_l0 Y_l0 + 2 Re Σ_{m>0} a_lm Y_lm] with orthonormal Y_lm (Condon–Shortley phase). Its
spectrum has shape (…, l, m, 2, c): real and imaginary part on the axis of length 2, zeros where l < m.

A wind (u eastward, v northward) is the sum of a divergent and a rotational part, each described by the spectrum of
a real field: for (u, v) = grad χ + k × grad ψ on the unit sphere, E_lm = √(l(l+1)) χ_lm and B_lm = √(l(l+1)) ψ_lm.
As a spin-1 field u + iv = i Σ_lm (E_lm + i B_lm) ₁Y_lm. The norm is kept: Σ|E|² + |B|² (m > 0 twice) = ∫ u² + v².

Transforms are a longitude Fourier transform and one matrix product per order m with a Legendre table, on the
northern half of the rows (see `weather_scnn.sphere.tables`). In shapes: h northern rows, r real and imaginary part,
p parity of l, g symmetry about the equator, q the two halves of a mixed wind spectrum.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.sphere import table_cache, tables
from weather_scnn.sphere.fourier import fourier, inverse_fourier, wind_turn
from weather_scnn.sphere.grid import Grid

_PRECISION = jax.lax.Precision.HIGHEST

# Compiled as a whole when called outside of `jit`, a part of the caller's program inside.
_compiled = functools.partial(jax.jit, inline=True)
_compiled_for_degree = functools.partial(jax.jit, static_argnames=("max_degree",), inline=True)

# Above this many bytes of synthesis tables, analysis uses them too (Λ·W) instead of tables of its own.
_LARGEST_SEPARATE_BYTES = 512 * 2**20


def _times_i(values: jax.Array, axis: int, power: int = 1) -> jax.Array:
    """i^power times complex numbers whose two parts lie along an axis, for power 1 or −1."""
    shape = [1] * values.ndim
    shape[axis] = 2
    sign = jnp.asarray([-power, power], values.dtype).reshape(shape)
    return jnp.flip(values, axis) * sign


def _along(flags: Any, axis: int, ndim: int) -> jax.Array:
    """A vector as an array that varies along one of ndim axes."""
    shape = [1] * ndim
    shape[axis] = -1
    return jnp.asarray(flags).reshape(shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HarmonicTransform:
    """Transforms between a grid and spectra; pass it through `jit` as an argument, so that tables are no constants.

    Make one with `HarmonicTransform.create`.

    Attributes:
        grid: the grid.
        max_degree: largest degree l.
        max_order: largest order m, min(max_degree, grid.maximum_order).
        mesh: the device mesh over whose axis `mesh_axis` orders are split; None if they are not.
        mesh_axis: name of that axis.
        scalar_synthesis: one table a block of orders, see `tables.scalar_block`.
        scalar_analysis: the same for analysis; None where the synthesis tables serve both directions.
        scalar_weights: `tables.symmetry_weights`; None where analysis has tables of its own.
        vector_synthesis: see `tables.vector_block`; None without vectors.
        vector_analysis: as for scalars.
        vector_weights: as for scalars.
    """

    grid: Grid = dataclasses.field(metadata={"static": True})
    max_degree: int = dataclasses.field(metadata={"static": True})
    max_order: int = dataclasses.field(metadata={"static": True})
    mesh: Any = dataclasses.field(metadata={"static": True})
    mesh_axis: str | None = dataclasses.field(metadata={"static": True})
    scalar_synthesis: Any
    scalar_analysis: Any
    scalar_weights: Any
    vector_synthesis: Any
    vector_analysis: Any
    vector_weights: Any

    @classmethod
    def create(
        cls,
        grid: Grid,
        max_degree: int | None = None,
        *,
        vectors: bool = True,
        dtype: Any = None,
        one_table: bool | None = None,
        mesh: jax.sharding.Mesh | None = None,
        mesh_axis: str | None = None,
    ) -> "HarmonicTransform":
        """Builds the tables, or reads them from the cache (`weather_scnn.sphere.table_cache`).

        Args:
            grid: the grid.
            max_degree: largest degree; default the largest that the rows determine. A lower one takes less memory.
            vectors: whether wind transforms are wanted; they take twice the memory of the scalar ones.
            dtype: of tables and results, default float32; float64 needs `jax_enable_x64`.
            one_table: whether synthesis tables serve both directions, which halves the memory for one more product
                with a matrix of (latitudes/2)² in analysis; default where tables exceed 512 MiB.
            mesh: splits the orders, and so the tables, over the devices of one mesh axis.
            mesh_axis: that axis.

        Raises:
            UserError: the degree is too large for the grid, float64 without x64, or a mesh without its axis.
        """
        max_degree = tables.check_degree(grid, max_degree)
        max_order = min(max_degree, grid.maximum_order)
        dtype = np.dtype(np.float32 if dtype is None else dtype)
        if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise UserError(
                "float64 transforms were asked for while JAX runs in float32",
                remedy="set JAX_ENABLE_X64=1 or leave dtype out",
            )
        if mesh is not None and mesh_axis not in mesh.axis_names:
            raise UserError(
                f"the mesh axis {mesh_axis!r} is none of {mesh.axis_names}", remedy="name one of them as mesh_axis"
            )
        if mesh is not None:
            mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)  # axes whose layouts the compiler chooses
        if one_table is None:
            one_table = cls.table_bytes(grid, max_degree, vectors=vectors, dtype=dtype) > _LARGEST_SEPARATE_BYTES

        def place(table: np.ndarray) -> jax.Array:
            if mesh is None or mesh_axis is None:
                return jnp.asarray(table)
            missing = -table.shape[0] % mesh.shape[mesh_axis]
            table = np.pad(table, [(0, missing)] + [(0, 0)] * (table.ndim - 1))
            return jax.device_put(table, jax.NamedSharding(mesh, jax.P(mesh_axis)))

        def build(kind: str, make: Any) -> tuple[Any, Any, Any]:
            weights = tables.symmetry_weights(grid, kind == "vector")
            spread = np.expand_dims(weights, 1 if kind == "vector" else 2)
            synthesis, analysis = [], []
            for begin, end in tables.blocks(max_order):
                sizes = (max_degree, begin, end)

                def table(sizes: tuple[int, int, int] = sizes) -> np.ndarray:
                    return make(grid, *sizes)

                def weighted(sizes: tuple[int, int, int] = sizes) -> np.ndarray:
                    return tables.analysis_block(make(grid, *sizes), spread)

                synthesis.append(place(table_cache.cached(grid, kind, dtype, sizes, table)))
                if not one_table:
                    analysis.append(place(table_cache.cached(grid, f"{kind} analysis", dtype, sizes, weighted)))
            if one_table:
                return tuple(synthesis), None, jnp.asarray(weights.astype(dtype))
            return tuple(synthesis), tuple(analysis), None

        scalar = build("scalar", tables.scalar_block)
        vector = build("vector", tables.vector_block) if vectors else (None, None, None)
        return cls(grid, max_degree, max_order, mesh, mesh_axis, *scalar, *vector)

    @staticmethod
    def table_bytes(grid: Grid, max_degree: int | None = None, *, vectors: bool = True, dtype: Any = None) -> int:
        """Bytes of the synthesis tables, before any are built."""
        max_degree = tables.check_degree(grid, max_degree)
        max_order = min(max_degree, grid.maximum_order)
        half = (grid.latitudes + 1) // 2
        count = 0
        for begin, end in tables.blocks(max_order):
            degrees = max_degree + 1 - begin
            count += (end - begin) * half * (degrees + degrees % 2 + (2 * degrees if vectors else 0))
        return count * np.dtype(np.float32 if dtype is None else dtype).itemsize

    @property
    def dtype(self) -> np.dtype:
        """Of tables and results."""
        return np.dtype(self.scalar_synthesis[0].dtype)

    @property
    def spectrum_shape(self) -> tuple[int, int, int]:
        """(degrees, orders, 2)."""
        return self.max_degree + 1, self.max_order + 1, 2

    @_compiled_for_degree
    def analysis(self, field: Float[Array, "*b y x c"], max_degree: int | None = None) -> Float[Array, "*b l m 2 c"]:
        """Spectrum of a real scalar field.

        Args:
            field: on the grid.
            max_degree: computes degrees up to this one only (spectral pooling); default all.

        Raises:
            UserError: the field is not on the grid, or the degree is larger than that of the transform.
        """
        degrees, orders = self._sizes(max_degree)
        folded = self._weighted(self._folded(field, orders), self.scalar_weights)  # (m, p, h, r, b, c)
        parts = []
        for table, begin, part in self._blocks(self.scalar_analysis or self.scalar_synthesis, folded):
            table = table[:, :, : (degrees - begin + 1) // 2]
            parts.append((begin // 2, self._product("mpkh,mphrbc->mpkrbc", table, part)))
        found = _stacked(parts, 2)
        # (m, p, k, r, b, c) as (b, k, p, m, r, c)
        spectrum = found.transpose(4, 2, 1, 0, 3, 5)
        spectrum = spectrum.reshape(spectrum.shape[0], -1, *spectrum.shape[3:])[:, :degrees]
        return spectrum.reshape(*field.shape[:-3], *spectrum.shape[1:])

    @_compiled
    def synthesis(self, spectrum: Float[Array, "*b l m 2 c"]) -> Float[Array, "*b y x c"]:
        """The field of a spectrum, which may have fewer degrees and orders (upsampling) or more (left out)."""
        batch, values = self._spectrum_in(spectrum)  # (b, l, m, r, c)
        values = jnp.pad(values, [(0, 0), (0, values.shape[1] % 2)] + [(0, 0)] * 3)
        values = values.reshape(values.shape[0], -1, 2, *values.shape[2:])
        values = values.transpose(3, 2, 1, 4, 0, 5)  # (m, p, k, r, b, c)
        parts = []
        for table, begin, part in self._blocks(self.scalar_synthesis, values):
            part = part[:, :, begin // 2 :]
            parts.append(self._product("mpkh,mpkrbc->mphrbc", table[:, :, : part.shape[2]], part))
        return self._unfolded(jnp.concatenate(parts), batch)

    @_compiled_for_degree
    def analysis_vector(
        self, u: Float[Array, "*b y x c"], v: Float[Array, "*b y x c"], max_degree: int | None = None
    ) -> tuple[Float[Array, "*b l m 2 c"], Float[Array, "*b l m 2 c"]]:
        """Divergent and rotational spectra (E, B) of a wind; both are zero at l = 0.

        Args:
            u: eastward wind.
            v: northward wind.
            max_degree: computes degrees up to this one only; default all.

        Raises:
            UserError: made without vectors, a field is not on the grid, or the degree is too large.
        """
        self._need_vectors()
        degrees, orders = self._sizes(max_degree)
        both = jnp.stack([u, v], -2)
        folded = self._folded(both.reshape(*both.shape[:-2], -1), orders, wind_turn(u.shape[-1]))
        folded = folded.reshape(*folded.shape[:-1], 2, -1)  # (m, g, h, r, b, q, c)
        # The table's functions of one symmetry go with u of that symmetry and v/i of the other.
        mixed = jnp.where(_along([True, False], 1, 7), folded, jnp.flip(folded, 5))
        mixed = self._weighted(mixed, self.vector_weights)
        parts = []
        for table, begin, part in self._blocks(self.vector_analysis or self.vector_synthesis, mixed):
            product = self._product("mlgh,mghrbqc->mlrbqc", table[:, : degrees - begin], part)
            parts.append((begin, product))
        found = _stacked(parts, 1)
        found = jnp.where(_along(np.arange(degrees) % 2 == 0, 1, 6), found, jnp.flip(found, 4))
        divergent, rotational = (jnp.squeeze(part, 4) for part in jnp.split(found, 2, 4))
        batch = jnp.shape(u)[:-3]
        return self._spectrum_out(_times_i(divergent, 2, -1), batch), self._spectrum_out(rotational, batch)

    @_compiled
    def synthesis_vector(
        self, divergent: Float[Array, "*b l m 2 c"], rotational: Float[Array, "*b l m 2 c"]
    ) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
        """The wind (u, v) of its spectra (E, B), which may have fewer degrees and orders, or more (left out)."""
        self._need_vectors()
        batch, e = self._spectrum_in(divergent)
        _, b = self._spectrum_in(rotational)
        both = jnp.stack([_times_i(e, 3), b], -2).transpose(2, 1, 3, 0, 4, 5)  # (m, l, r, b, q, c)
        even = _along(np.arange(both.shape[1]) % 2 == 0, 1, 6)
        mixed = jnp.where(even, both, jnp.flip(both, 4))
        parts = []
        for table, begin, part in self._blocks(self.vector_synthesis, mixed):
            part = part[:, begin:]
            parts.append(self._product("mlgh,mlrbqc->mghrbqc", table[:, : part.shape[1]], part))
        found = jnp.concatenate(parts)
        found = jnp.where(_along([True, False], 1, 7), found, jnp.flip(found, 5))
        wind = self._unfolded(found.reshape(*found.shape[:-2], -1), batch, wind_turn(found.shape[-1]))
        u, v = jnp.split(wind, 2, -1)
        return u, v

    # Products with tables

    def _blocks(self, all_tables: Any, values: jax.Array) -> list[tuple[jax.Array, int, jax.Array]]:
        """Table, first order and values of every block, for values whose first axis is the order."""
        used = [(begin, min(end, values.shape[0])) for begin, end in tables.blocks(values.shape[0] - 1)]
        parts = jax.lax.split(values, [end - begin for begin, end in used])
        found = []
        for table, (begin, end), part in zip(all_tables, used, parts):
            found.append((table if self.mesh is not None else table[: end - begin], begin, part))
        return found

    def _product(self, equation: str, table: jax.Array, values: jax.Array) -> jax.Array:
        def product(left: jax.Array, right: jax.Array) -> jax.Array:
            return jnp.einsum(equation, left, right, precision=_PRECISION)

        if self.mesh is None:
            return product(table, values)
        orders = values.shape[0]
        values = jnp.pad(values, [(0, table.shape[0] - orders)] + [(0, 0)] * (values.ndim - 1))
        split = jax.P(self.mesh_axis)
        # The other axes of the mesh stay the compiler's, so that a batch split over them stays split.
        mapped = jax.shard_map(
            product, mesh=self.mesh, in_specs=(split, split), out_specs=split, axis_names={self.mesh_axis}
        )
        return mapped(table, values)[:orders]

    def _weighted(self, folded: jax.Array, weights: jax.Array | None) -> jax.Array:
        """Values (m, g, h, …) times the interpolation weights of (parity of m, g), if analysis has no tables."""
        if weights is None:
            return folded
        orders = folded.shape[0]
        folded = jnp.pad(folded, [(0, orders % 2)] + [(0, 0)] * (folded.ndim - 1))
        pairs = folded.reshape(-1, 2, *folded.shape[1:])
        result = jnp.einsum("sghk,nsgk...->nsgh...", weights, pairs, precision=_PRECISION)
        return result.reshape(folded.shape)[:orders]

    # Shapes

    def _need_vectors(self) -> None:
        if self.vector_synthesis is None:
            raise UserError("this transform has no vector tables", remedy="create it with vectors=True")

    def _sizes(self, max_degree: int | None) -> tuple[int, int]:
        if max_degree is None:
            return self.max_degree + 1, self.max_order + 1
        if not 0 <= max_degree <= self.max_degree:
            raise UserError(
                f"degree {max_degree} is not between 0 and {self.max_degree}, the largest of this transform",
                where=f"grid {self.grid.name}",
                remedy="lower max_degree or create the transform with a larger one",
            )
        return max_degree + 1, min(max_degree, self.max_order) + 1

    def _spectrum_in(self, spectrum: jax.Array) -> tuple[tuple[int, ...], jax.Array]:
        """Leading shape, and the spectrum as (b, l, m, 2, c) of at most this transform's size."""
        if spectrum.ndim < 4 or spectrum.shape[-2] != 2:
            raise UserError(
                f"a spectrum of shape {spectrum.shape} is not (…, l, m, 2, channel)",
                remedy="give what `analysis` returns",
            )
        degrees = min(spectrum.shape[-4], self.max_degree + 1)
        orders = min(spectrum.shape[-3], self.max_order + 1, degrees)
        values = spectrum[..., :degrees, :orders, :, :].astype(self.dtype)
        return spectrum.shape[:-4], jnp.reshape(values, (-1, *values.shape[-4:]))

    def _spectrum_out(self, values: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """(m, l, 2, b, c) as (…, l, m, 2, c)."""
        values = values.transpose(3, 1, 0, 2, 4)
        return values.reshape(*batch, *values.shape[1:])

    # Latitudes

    def _signs(self, orders: int) -> jax.Array:
        """(−1)^(m + i) for i = 0, 1 as (m, i, 1, 1, 1, 1)."""
        signs = 1 - 2 * ((np.arange(orders)[:, None] + np.arange(2)) % 2)
        return jnp.asarray(signs, self.dtype)[:, :, None, None, None, None]

    def _folded(self, field: jax.Array, orders: int, turn: np.ndarray | None = None) -> jax.Array:
        """Fourier coefficients north ± (−1)^m south of a field (…, y, x, c), as (m, sign, h, 2, b, c)."""
        if field.ndim < 3 or field.shape[-3:-1] != self.grid.shape:
            raise UserError(
                f"a field of shape {tuple(field.shape)} is not (…, {', '.join(map(str, self.grid.shape))}, channel)",
                where=f"grid {self.grid.name}",
                remedy="regrid it or make a transform for its grid",
            )
        field = jnp.reshape(field, (-1, *field.shape[-3:])).astype(self.dtype)
        rows = fourier(field, orders, self.grid.first_longitude, turn)  # (m, y, 2, b, c)
        others, odd = divmod(self.grid.latitudes, 2)
        north, equator, south = jax.lax.split(rows, [others, odd, others], 1)
        north, south = (north, jnp.flip(south, 1)) if self.grid.north_first else (jnp.flip(south, 1), north)
        if odd:
            north, south = (jnp.concatenate([part, equator], 1) for part in (north, south))
        south = south * self._signs(orders)[:, 0]
        return jnp.stack([north + south, north - south], 1)

    def _unfolded(self, folded: jax.Array, batch: tuple[int, ...], turn: np.ndarray | None = None) -> jax.Array:
        """The field of its parts (m, p, h, 2, b, c): north = S₀ + S₁, south = (−1)^m (S₀ − S₁)."""
        orders, others = folded.shape[0], self.grid.latitudes // 2
        signs = self._signs(orders)
        north = folded[:, 0] + folded[:, 1]
        south = (signs[:, 0] * folded[:, 0] + signs[:, 1] * folded[:, 1])[:, :others]
        parts = [north, south[:, ::-1]] if self.grid.north_first else [south, north[:, ::-1]]
        field = inverse_fourier(jnp.concatenate(parts, 1), self.grid.longitudes, self.grid.first_longitude, turn)
        return field.reshape(*batch, *field.shape[1:])


def _stacked(parts: list[tuple[int, jax.Array]], axis: int) -> jax.Array:
    """Blocks of orders, each of which begins further along the axis, one after the other with zeros before them."""
    if len(parts) == 1:
        return parts[0][1]
    first = parts[0][1]
    found = jnp.zeros((sum(part.shape[0] for _, part in parts), *first.shape[1:]), first.dtype)
    order = 0
    for begin, part in parts:
        start = [order, *(begin if i == axis else 0 for i in range(1, part.ndim))]
        found = jax.lax.dynamic_update_slice(found, part, start)
        order += part.shape[0]
    return found


def power_spectrum(spectrum: Float[Array, "*b l m 2 c"]) -> Float[Array, "*b l c"]:
    """Power per degree, Σ_m |a_lm|² with m > 0 twice; its sum over l is ∫ f² over the unit sphere (Parseval)."""
    doubled = jnp.where(jnp.arange(spectrum.shape[-3]) > 0, 2.0, 1.0).astype(spectrum.dtype)
    return jnp.einsum("...lmrc,m->...lc", spectrum**2, doubled, precision=_PRECISION)
