"""Spherical harmonic transforms of real scalar and vector fields, in JAX.

A scalar field is f = Σ_l [a_l0 Y_l0 + 2 Re Σ_{m>0} a_lm Y_lm] with orthonormal Y_lm (Condon–Shortley phase). Its
spectrum has shape (…, l, m, 2, c): real and imaginary part on the axis of length 2, zeros where l < m.

A wind (u eastward, v northward) is the sum of a divergent and a rotational part, each described by the spectrum of
a real field: for (u, v) = grad χ + k × grad ψ on the unit sphere, E_lm = √(l(l+1)) χ_lm and B_lm = √(l(l+1)) ψ_lm.
As a spin-1 field u + iv = i Σ_lm (E_lm + i B_lm) ₁Y_lm. The norm is kept: Σ|E|² + |B|² (m > 0 twice) = ∫ u² + v².

Transforms are a longitude Fourier transform and one matrix product per order m with a Legendre table: on the northern
half of the rows (see `weather_scnn.sphere.latitudes`), or on GPUs and TPUs on all rows (see
`weather_scnn.sphere.layouts`). Everything is linear and made of products, sums and
copies, so forward and reverse derivatives of any order exist and cost what the transforms cost.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.sphere import dense, stored, tables
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.latitudes import Layout, analyse, check_field, degree_count, synthesise, turned
from weather_scnn.sphere.layouts import DENSE
from weather_scnn.sphere.pairs import analyse_pair, synthesise_pair
from weather_scnn.sphere.products import EXACT, check_precision
from weather_scnn.sphere.spectrum import Coefficients, Spectrum

# Compiled as a whole when called outside of `jit`, a part of the caller's program inside.
_compiled = functools.partial(jax.jit, inline=True)
_compiled_for_degree = functools.partial(jax.jit, static_argnames=("max_degree",), inline=True)


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
        layout: of tables, rows and spectra, see `weather_scnn.sphere.layouts`; what follows is of the folded one, and in the
            dense one `dense.dense_tables` and `dense.analysis_table`.
        precision: of products, see `weather_scnn.sphere.products`.
        scalar_synthesis: one table a block of orders, (p i, g, h, k): `tables.scalar_block` with h before k.
        scalar_analysis: the same for analysis, (p i, g, k, h); None where the synthesis tables serve both directions.
        scalar_weights: `tables.symmetry_weights`; None where analysis has tables of its own.
        vector_synthesis: of `tables.spin_block` for spin 1, (p i, g, h, t k); None without vectors.
        vector_analysis: as for scalars.
        vector_weights: as for scalars.
    """

    grid: Grid = dataclasses.field(metadata={"static": True})
    max_degree: int = dataclasses.field(metadata={"static": True})
    max_order: int = dataclasses.field(metadata={"static": True})
    mesh: Any = dataclasses.field(metadata={"static": True})
    mesh_axis: str | None = dataclasses.field(metadata={"static": True})
    layout: str = dataclasses.field(metadata={"static": True})
    precision: str = dataclasses.field(metadata={"static": True})
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
        layout: str | None = None,
        precision: str = "highest",
        beyond: bool = False,
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
            layout: folded or dense; default what suits the backend (`layouts.chosen_layout`). Results are the same.
            precision: of products, highest, high or default (`weather_scnn.sphere.products`); on CPUs all are float32.
            beyond: allows degrees that the rows do not determine: analysis then gives the smoothest field through the
                points (`tables.smooth_analysis`), which synthesis undoes but for what no degree holds. It has tables of its
                own, whatever `one_table` says.

        Raises:
            UserError: the degree is too large for the grid, float64 without x64, a mesh without its axis, or the dense
                layout with a mesh or one table.
        """
        max_degree = tables.check_degree(grid, max_degree, beyond=beyond)
        max_order = min(max_degree, grid.maximum_order)
        if max_degree > grid.maximum_degree:
            one_table = False  # of analysis by quadrature only
        dtype = stored.check_dtype(dtype)
        mesh = stored.check_mesh(mesh, mesh_axis)
        layout = stored.layout_of(
            layout, grid, max_degree, max_order, 3 if vectors else 1, dtype=dtype, one_table=one_table, mesh=mesh
        )
        if one_table is None:
            one_table = cls.table_bytes(grid, max_degree, vectors=vectors, dtype=dtype) > stored.LARGEST_SEPARATE_BYTES

        scalar, vector = (
            stored.build(
                grid, max_degree, max_order, spin, layout,
                dtype=dtype, one_table=one_table, mesh=mesh, mesh_axis=mesh_axis,
            ) if wanted else (None, None, None)
            for spin, wanted in ((0, True), (1, vectors))
        )  # fmt: skip
        return cls(grid, max_degree, max_order, mesh, mesh_axis, layout, check_precision(precision), *scalar, *vector)

    @staticmethod
    def table_bytes(grid: Grid, max_degree: int | None = None, *, vectors: bool = True, dtype: Any = None) -> int:
        """Bytes of the synthesis tables, before any are built."""
        max_degree = tables.check_degree(grid, max_degree)
        max_order = min(max_degree, grid.maximum_order)
        kinds = 3 if vectors else 1
        count = kinds * sum(
            np.prod(tables.block_shape(grid, max_degree, *block, 1)) for block in tables.blocks(max_order)
        )
        return int(count) * np.dtype(np.float32 if dtype is None else dtype).itemsize

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
        degrees = self._degrees(max_degree)
        check_field(field, self.grid)
        values = jnp.reshape(field, (-1, *field.shape[-3:]))
        return self._array([self.scalar_parts(values, degrees)], degrees, field.shape[:-3])

    @_compiled
    def synthesis(self, spectrum: Float[Array, "*b l m 2 c"]) -> Float[Array, "*b y x c"]:
        """The field of a spectrum, which may have fewer degrees and orders (upsampling) or more (left out)."""
        field = self.scalar_field(self._parts(spectrum))
        return field.reshape(*spectrum.shape[:-4], *field.shape[1:])

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
        degrees = self._degrees(max_degree)
        check_field(u, self.grid)
        check_field(v, self.grid)
        east, north = (jnp.reshape(field, (-1, *field.shape[-3:])) for field in (u, v))
        e, b = (self._array([parts], degrees, u.shape[:-3]) for parts in self.vector_parts(east, north, degrees))
        return e, b

    @_compiled
    def synthesis_vector(
        self, divergent: Float[Array, "*b l m 2 c"], rotational: Float[Array, "*b l m 2 c"]
    ) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
        """The wind (u, v) of its spectra (E, B), which may have fewer degrees and orders, or more (left out)."""
        u, v = self.vector_fields(self._parts(divergent), self._parts(rotational))
        batch = divergent.shape[:-4]
        return u.reshape(*batch, *u.shape[1:]), v.reshape(*batch, *v.shape[1:])

    # Between fields with one batch axis and coefficients by order, block by block, or dense: what several kinds of fields
    # that share one `Spectrum` are made of. `inner` gives and takes fields with the axes in the order of the products.

    def scalar_parts(
        self, field: Float[Array, "_b _y _x c"], degrees: int | None = None, *, inner: bool = False
    ) -> Coefficients:
        """Coefficients of a real scalar field."""
        degrees = self.max_degree + 1 if degrees is None else degrees
        field = field.astype(self.dtype)
        if self.layout == DENSE:
            (field,) = dense.inner_fields(inner, field)
            orders = min(degrees, self.max_order + 1)
            return dense.analyse_scalar(self._circle, self.scalar_analysis, field, degrees, orders)
        layout, found, begin = self._layout(1), [], 0
        used = self.scalar_synthesis if self.scalar_analysis is None else self.scalar_analysis
        for part in analyse(layout, used, self.scalar_weights, field, degrees):
            real, imaginary = (jnp.squeeze(x, 3) for x in part)
            found.append(turned((real, imaginary), begin, self.grid))
            begin += 2 * real.shape[1]
        return found

    def scalar_field(self, parts: Coefficients, *, inner: bool = False) -> Float[Array, "_b _y _x c"]:
        """The inverse of `scalar_parts`."""
        if self.layout == DENSE:
            found = dense.synthesise_scalar(self._circle, self.scalar_synthesis, parts)
            return dense.outer_fields(inner, found)[0]
        begin, turned_back = 0, []
        for part in parts:
            real, imaginary = turned(part, begin, self.grid, back=True)
            turned_back.append((real[:, :, :, None], imaginary[:, :, :, None]))
            begin += 2 * real.shape[1]
        return synthesise(self._layout(1), self.scalar_synthesis, turned_back)

    def vector_parts(
        self,
        u: Float[Array, "_b _y _x c"],
        v: Float[Array, "_b _y _x c"],
        degrees: int | None = None,
        *,
        inner: bool = False,
    ) -> tuple[Coefficients, Coefficients]:
        """Coefficients E and B of a wind."""
        self._need_vectors()
        degrees = self.max_degree + 1 if degrees is None else degrees
        u, v = u.astype(self.dtype), v.astype(self.dtype)
        if self.layout == DENSE:
            u, v = dense.inner_fields(inner, u, v)
            orders = min(degrees, self.max_order + 1)
            return dense.analyse_components(self._circle, self.vector_analysis, u, v, 1, degrees, orders)
        used = self.vector_synthesis if self.vector_analysis is None else self.vector_analysis
        return analyse_pair(self._layout(2), used, self.vector_weights, u, v, 1, degrees)

    def vector_fields(
        self, e: Coefficients, b: Coefficients, *, inner: bool = False
    ) -> tuple[Float[Array, "_b _y _x c"], Float[Array, "_b _y _x c"]]:
        """The inverse of `vector_parts`."""
        self._need_vectors()
        if self.layout == DENSE:
            u, v = dense.synthesise_components(self._circle, self.vector_synthesis, e, b, 1)
            u, v = dense.outer_fields(inner, u, v)
            return u, v
        return synthesise_pair(self._layout(2), self.vector_synthesis, e, b, 1)

    def _layout(self, kinds: int) -> Layout:
        return Layout(self.grid, self.max_degree, self.max_order, kinds, self.mesh, self.mesh_axis, self.precision)

    @property
    def _circle(self) -> dense.Circle:
        return dense.Circle(self.grid, self.precision)

    def _need_vectors(self) -> None:
        if self.vector_synthesis is None:
            raise UserError("this transform has no vector tables", remedy="create it with vectors=True")

    def _degrees(self, max_degree: int | None) -> int:
        return degree_count(max_degree, self.max_degree, f"grid {self.grid.name}")

    def _array(self, parts: list[Coefficients], degrees: int, batch: tuple[int, ...]) -> Float[Array, "*b l m 2 c"]:
        found = Spectrum.of_parts(parts, degrees - 1, min(degrees - 1, self.max_order)).array
        return found.reshape(*batch, *found.shape[1:])

    def _parts(self, spectrum: Float[Array, "*b l m 2 c"]) -> Coefficients:
        """Coefficients by order, of at most this transform's size."""
        if spectrum.ndim < 4 or spectrum.shape[-2] != 2:
            raise UserError(
                f"a spectrum of shape {spectrum.shape} is not (…, l, m, 2, channel)",
                remedy="give what `analysis` returns",
            )
        values = spectrum[..., : self.max_degree + 1, : self.max_order + 1, :, :].astype(self.dtype)
        return Spectrum.of(jnp.reshape(values, (-1, *values.shape[-4:])), self.layout).parts([values.shape[-1]])[0]


def power_spectrum(spectrum: Float[Array | np.ndarray, "*b l m 2 c"]) -> Float[Array, "*b l c"]:
    """Power per degree, Σ_m |a_lm|² with m > 0 twice; its sum over l is ∫ f² over the unit sphere (Parseval)."""
    doubled = jnp.where(jnp.arange(spectrum.shape[-3]) > 0, 2.0, 1.0).astype(spectrum.dtype)
    return jnp.einsum("...lmrc,m->...lc", spectrum**2, doubled, precision=EXACT)
