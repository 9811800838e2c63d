"""Harmonic transforms of complex fields of any spin, in JAX.

A field of spin s is f = Σ_l Σ_{m=−l}^{l} a_lm sY_lm with the harmonics of `weather_scnn.sphere.tables`; orders
m = −M … M lie on one axis, so that a spectrum has shape (…, l, 2M+1, c), complex, and is zero where
l < max(|m|, |s|). A wind is the field u + iv of spin 1, with a_lm = i (E_lm + i B_lm); fields of spin s with real
spectra E and B have a_lm = i^s (E_lm + i B_lm) in general, and `analysis_pair` and `synthesis_pair` transform those.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from weather_scnn.errors import UserError
from weather_scnn.sphere import dense, stored, tables
from weather_scnn.sphere.fourier import unstacked
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.latitudes import (
    Layout,
    analyse,
    by_degree,
    by_order,
    check_field,
    degree_count,
    divided,
    joined,
    synthesise,
    turned,
)
from weather_scnn.sphere.layouts import DENSE
from weather_scnn.sphere.pairs import analyse_pair, synthesise_pair
from weather_scnn.sphere.products import check_precision
from weather_scnn.sphere.spectrum import Coefficients, Spectrum

_compiled = functools.partial(jax.jit, inline=True)
_compiled_for_degree = functools.partial(jax.jit, static_argnames=("max_degree",), inline=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpinTransform:
    """Transforms between fields of one spin on a grid and their spectra; make one with `create`.

    The tables are those of `HarmonicTransform` for a wind, with s in place of 1: a complex field is two real ones,
    orders m ≥ 0 of the spins s and −s on the northern rows give the rest.

    Attributes:
        grid: the grid.
        spin: s.
        max_degree: largest degree l.
        max_order: largest order m, min(max_degree, grid.maximum_order).
        mesh: the device mesh over whose axis `mesh_axis` orders are split; None if they are not.
        mesh_axis: name of that axis.
        layout: as that of `HarmonicTransform`; what follows is of the folded one.
        precision: of products, see `weather_scnn.sphere.products`.
        synthesis_tables: of |s|, one a block of orders, see `tables.spin_block`.
        analysis_tables: the same for analysis; None where the synthesis tables serve both directions.
        weights: `tables.symmetry_weights`; None where analysis has tables of its own.
    """

    grid: Grid = dataclasses.field(metadata={"static": True})
    spin: int = dataclasses.field(metadata={"static": True})
    max_degree: int = dataclasses.field(metadata={"static": True})
    max_order: int = dataclasses.field(metadata={"static": True})
    mesh: Any = dataclasses.field(metadata={"static": True})
    mesh_axis: str | None = dataclasses.field(metadata={"static": True})
    layout: str = dataclasses.field(metadata={"static": True})
    precision: str = dataclasses.field(metadata={"static": True})
    synthesis_tables: Any
    analysis_tables: Any
    weights: Any

    @classmethod
    def create(
        cls,
        grid: Grid,
        spin: int,
        max_degree: int | None = None,
        *,
        dtype: Any = None,
        one_table: bool | None = None,
        mesh: jax.sharding.Mesh | None = None,
        mesh_axis: str | None = None,
        layout: str | None = None,
        precision: str = "highest",
    ) -> "SpinTransform":
        """Builds the tables, or reads them from the cache.

        Args:
            grid: the grid.
            spin: s, of either sign.
            max_degree: largest degree; default the largest that the rows determine.
            dtype: of the real tables, default float32; float64 needs `jax_enable_x64`.
            one_table: whether synthesis tables serve both directions; default where they exceed 512 MiB.
            mesh: splits the orders, and so the tables, over the devices of one mesh axis.
            mesh_axis: that axis.
            layout: folded or dense; default what suits the backend (`layouts.chosen_layout`).
            precision: of products, highest, high or default (`weather_scnn.sphere.products`).

        Raises:
            UserError: the degree is too large for the grid or below |s|, the mesh has no such axis, or the layout is
                dense with a mesh or one table.
        """
        max_degree = tables.check_degree(grid, max_degree)
        if max_degree < abs(spin):
            raise UserError(
                f"spin {spin} has no degree up to {max_degree}",
                where=f"grid {grid.name}",
                remedy=f"take a finer grid or a max_degree of at least {abs(spin)}",
            )
        dtype = stored.check_dtype(dtype)
        mesh = stored.check_mesh(mesh, mesh_axis)
        max_order = min(max_degree, grid.maximum_order)
        kinds = 2 if spin else 1
        layout = stored.layout_of(
            layout, grid, max_degree, max_order, kinds, dtype=dtype, one_table=one_table, mesh=mesh
        )
        if one_table is None:
            one_table = cls.table_bytes(grid, spin, max_degree, dtype=dtype) > stored.LARGEST_SEPARATE_BYTES
        built = stored.build(
            grid, max_degree, max_order, abs(spin), layout,
            dtype=dtype, one_table=one_table, mesh=mesh, mesh_axis=mesh_axis,
        )  # fmt: skip
        return cls(grid, spin, max_degree, max_order, mesh, mesh_axis, layout, check_precision(precision), *built)

    @staticmethod
    def table_bytes(grid: Grid, spin: int, max_degree: int | None = None, *, dtype: Any = None) -> int:
        """Bytes of the synthesis tables, before any are built."""
        max_degree = tables.check_degree(grid, max_degree)
        blocks = tables.blocks(min(max_degree, grid.maximum_order))
        kinds = 1 if spin == 0 else 2
        count = sum(np.prod(tables.block_shape(grid, max_degree, *block, kinds)) for block in blocks)
        return int(count) * np.dtype(np.float32 if dtype is None else dtype).itemsize

    @property
    def dtype(self) -> np.dtype:
        """Of the tables, and of the parts of results."""
        return np.dtype(self.synthesis_tables[0].dtype)

    @property
    def spectrum_shape(self) -> tuple[int, int]:
        """(degrees, orders), the order m at index m + max_order."""
        return self.max_degree + 1, 2 * self.max_order + 1

    @_compiled_for_degree
    def analysis(self, field: Complex[Array, "*b y x c"], max_degree: int | None = None) -> Complex[Array, "*b l m c"]:
        """Spectrum of a complex field on the grid.

        Args:
            field: complex.
            max_degree: computes degrees up to this one, and their orders, only; default all.

        Raises:
            UserError: the field is not on the grid, or the degree is larger than that of the transform.
        """
        degrees = self._degrees(max_degree)
        check_field(field, self.grid)
        orders = min(degrees, self.max_order + 1)
        if self.layout == DENSE:
            upper, lower = self._dense_sides(field.reshape(-1, *field.shape[-3:]), degrees, orders)
            spectrum = self._ordered(upper, lower * self._parities(orders))
            return spectrum.reshape(*field.shape[:-3], *spectrum.shape[1:])
        parts = self._analyse(jnp.real(field), jnp.imag(field), degrees)
        begin, positive, negative = 0, [], []
        for part in parts:
            q, u = jnp.split(jax.lax.complex(*turned(part, begin, self.grid)), 2, -2)
            kinds = [q + 1j * u, q - 1j * u]  # of F_m, and of the conjugate of F_−m
            (upper, *more_upper), (lower, *more_lower) = (unstacked(x, 3) for x in kinds)
            if self.spin:
                upper = upper + self._sign * jnp.flip(more_upper[0], 2)
                lower = lower - self._sign * jnp.flip(more_lower[0], 2)
            lower = jnp.conj(lower)
            positive.append(by_degree(upper))
            negative.append(by_degree(lower))
            begin += 2 * q.shape[1]
        upper, lower = (jnp.moveaxis(joined(x, degrees, orders), 2, 0) for x in (positive, negative))
        spectrum = self._ordered(upper, lower * self._parities(orders))
        return spectrum.reshape(*field.shape[:-3], *spectrum.shape[1:])

    @_compiled
    def synthesis(self, spectrum: Complex[Array, "*b l m c"]) -> Complex[Array, "*b y x c"]:
        """The complex field of a spectrum, which may have fewer degrees and orders, or more (left out).

        Raises:
            UserError: the number of orders is not odd, so that none is in the middle.
        """
        if spectrum.ndim < 3 or spectrum.shape[-2] % 2 == 0:
            raise UserError(
                f"a spectrum of shape {tuple(spectrum.shape)} is not (…, l, 2M+1, channel)",
                where=f"grid {self.grid.name}, spin {self.spin}",
                remedy="give what `analysis` returns",
            )
        batch, top = spectrum.shape[:-3], spectrum.shape[-2] // 2
        degrees = min(spectrum.shape[-3], self.max_degree + 1)
        orders = min(top, self.max_order, degrees - 1) + 1
        values = spectrum[..., :degrees, top - orders + 1 : top + orders, :]
        values = values.reshape(-1, *values.shape[-3:]).astype(jnp.result_type(self.dtype, jnp.complex64))
        upper, lower = self._sides(values)
        lower = jnp.conj(lower) * self._parities(orders)
        if self.layout == DENSE:
            field = self._dense_field(upper, lower)
            return field.reshape(*batch, *field.shape[1:])
        layout, parts, begin = self._layout, [], 0
        for blocks in zip(*(divided(jnp.moveaxis(side, 0, 2)) for side in (upper, lower)), strict=True):
            a, c = map(by_order, blocks)  # (p, i, g, k, b, c)
            same = jnp.concatenate([(a + c) / 2, (a - c) / 2j], -2)
            kinds = [same]
            if self.spin:
                kinds.append(self._sign * jnp.flip(jnp.concatenate([(a - c) / 2, (a + c) / 2j], -2), 2))
            both = jnp.stack(kinds, 3)
            parts.append(turned((both.real, both.imag), begin, self.grid, back=True))
            begin += blocks[0].shape[1]
        q, u = jnp.split(synthesise(layout, self.synthesis_tables, parts), 2)
        field = jax.lax.complex(q, u)
        return field.reshape(*batch, *field.shape[1:])

    @_compiled_for_degree
    def analysis_pair(
        self, real: Float[Array, "*b y x c"], imaginary: Float[Array, "*b y x c"], max_degree: int | None = None
    ) -> tuple[Float[Array, "*b l m 2 c"], Float[Array, "*b l m 2 c"]]:
        """Spectra E and B of the fields real + i·imaginary, in the layout of `HarmonicTransform`.

        Args:
            real: component with respect to east, for a wind the eastward one.
            imaginary: component with respect to north.
            max_degree: computes degrees up to this one only; default all.

        Raises:
            UserError: the spin is not positive, a field is not on the grid, or the degree is too large.
        """
        degrees = self._degrees(max_degree)
        for field in (real, imaginary):
            check_field(field, self.grid)
        first, second = (jnp.reshape(field, (-1, *field.shape[-3:])) for field in (real, imaginary))
        top = min(degrees - 1, self.max_order)
        e, b = (Spectrum.of_parts([parts], degrees - 1, top).array for parts in self.pair_parts(first, second, degrees))
        return e.reshape(*real.shape[:-3], *e.shape[1:]), b.reshape(*real.shape[:-3], *b.shape[1:])

    @_compiled
    def synthesis_pair(
        self, e: Float[Array, "*b l m 2 c"], b: Float[Array, "*b l m 2 c"]
    ) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
        """The two components of the fields of spectra E and B, which may have fewer degrees and orders, or more.

        Raises:
            UserError: the spin is not positive.
        """
        parts = []
        for spectrum in (e, b):
            values = spectrum[..., : self.max_degree + 1, : self.max_order + 1, :, :].astype(self.dtype)
            values = values.reshape(-1, *values.shape[-4:])
            parts.append(Spectrum.of(values, self.layout).parts([values.shape[-1]])[0])
        real, imaginary = self.pair_fields(*parts)
        batch = e.shape[:-4]
        return real.reshape(*batch, *real.shape[1:]), imaginary.reshape(*batch, *imaginary.shape[1:])

    def pair_parts(
        self,
        real: Float[Array, "_b _y _x c"],
        imaginary: Float[Array, "_b _y _x c"],
        degrees: int | None = None,
        *,
        inner: bool = False,
    ) -> tuple[Coefficients, Coefficients]:
        """Coefficients E and B, as `HarmonicTransform.vector_parts` gives those of a wind."""
        self._need_positive()
        degrees = self.max_degree + 1 if degrees is None else degrees
        real, imaginary = real.astype(self.dtype), imaginary.astype(self.dtype)
        if self.layout == DENSE:
            real, imaginary = dense.inner_fields(inner, real, imaginary)
            orders = min(degrees, self.max_order + 1)
            return dense.analyse_components(
                self._circle, self.analysis_tables, real, imaginary, self.spin, degrees, orders
            )
        used = self.synthesis_tables if self.analysis_tables is None else self.analysis_tables
        return analyse_pair(self._layout, used, self.weights, real, imaginary, self.spin, degrees)

    def pair_fields(
        self, e: Coefficients, b: Coefficients, *, inner: bool = False
    ) -> tuple[Float[Array, "_b _y _x c"], Float[Array, "_b _y _x c"]]:
        """The inverse of `pair_parts`."""
        self._need_positive()
        if self.layout == DENSE:
            real, imaginary = dense.synthesise_components(self._circle, self.synthesis_tables, e, b, self.spin)
            real, imaginary = dense.outer_fields(inner, real, imaginary)
            return real, imaginary
        return synthesise_pair(self._layout, self.synthesis_tables, e, b, self.spin)

    def _dense_sides(self, field: jax.Array, degrees: int, orders: int) -> tuple[jax.Array, jax.Array]:
        """Coefficients (b, l, m, c) of orders m ≥ 0, and the conjugates of those of −m but for the sign (−1)^(m+s)."""
        kinds = []
        for part in (jnp.real(field), jnp.imag(field)):
            (inner,) = dense.inner_fields(False, part.astype(self.dtype))
            found = dense.analyse_complex(self._circle, self.analysis_tables, inner, degrees, orders)
            kinds.append([jnp.moveaxis(values, 2, 0) for values in found])
        (q, *more_q), (u, *more_u) = kinds
        upper, lower = q + 1j * u, q - 1j * u
        if self.spin:
            upper = upper + self._sign * (more_q[0] + 1j * more_u[0])
            lower = lower - self._sign * (more_q[0] - 1j * more_u[0])
        return upper, jnp.conj(lower)

    def _dense_field(self, upper: Complex[Array, "b l m c"], lower: Complex[Array, "b l m c"]) -> jax.Array:
        """The inverse of `_dense_sides`."""
        upper, lower = (jnp.moveaxis(side, 0, 2) for side in (upper, lower))
        same, other = (upper + lower) / 2, (upper - lower) / 2
        of_real, of_imaginary = [same, self._sign * other], [-1j * other, -1j * self._sign * same]
        found = [
            dense.synthesise_complex(self._circle, self.synthesis_tables, kinds[: len(self.synthesis_tables)])
            for kinds in (of_real, of_imaginary)
        ]
        real, imaginary = dense.outer_fields(False, *found)
        return jax.lax.complex(real, imaginary)

    @property
    def _layout(self) -> Layout:
        kinds = 2 if self.spin else 1
        return Layout(self.grid, self.max_degree, self.max_order, kinds, self.mesh, self.mesh_axis, self.precision)

    @property
    def _circle(self) -> dense.Circle:
        return dense.Circle(self.grid, self.precision)

    @property
    def _sign(self) -> float:
        """Half differences of the table are of |s| and −|s|."""
        return float(np.sign(self.spin))

    def _parities(self, orders: int) -> jax.Array:
        """(−1)^(m+s) as (m, 1)."""
        return jnp.asarray(1 - 2 * ((np.arange(orders) + self.spin) % 2), self.dtype)[:, None]

    def _analyse(self, real: jax.Array, imaginary: jax.Array, degrees: int) -> list:
        both = jnp.stack([real, imaginary]).astype(self.dtype)
        used = self.synthesis_tables if self.analysis_tables is None else self.analysis_tables
        return analyse(self._layout, used, self.weights, both.reshape(-1, *both.shape[-3:]), degrees)

    def _degrees(self, max_degree: int | None) -> int:
        return degree_count(max_degree, self.max_degree, f"grid {self.grid.name}, spin {self.spin}")

    def _need_positive(self) -> None:
        if self.spin <= 0:
            raise UserError(
                f"spin {self.spin} has no spectra E and B here",
                remedy="use a positive spin, or HarmonicTransform for scalars",
            )

    @staticmethod
    def _ordered(upper: jax.Array, lower: jax.Array) -> jax.Array:
        """Orders −M … M on the last axis but one from m ≥ 0 and from −m."""
        return jnp.concatenate([lower[..., :0:-1, :], upper], -2)

    @staticmethod
    def _sides(spectrum: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The inverse of `_ordered`; both have m = 0."""
        top = spectrum.shape[-2] // 2
        return spectrum[..., top:, :], spectrum[..., top::-1, :] if top else spectrum
