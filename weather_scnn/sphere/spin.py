"""Harmonic transforms of complex fields of any spin, in JAX.

A field of spin s is f = Σ_l Σ_{m=−l}^{l} a_lm sY_lm with the harmonics of `weather_scnn.sphere.tables`; orders
m = −M … M lie on one axis, so that a spectrum has shape (…, l, 2M+1, c), complex, and is zero where
l < max(|m|, |s|). A wind is the field u + iv of spin 1, with a_lm = i (E_lm + i B_lm).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from weather_scnn.errors import UserError
from weather_scnn.sphere import tables
from weather_scnn.sphere.grid import Grid

_PRECISION = jax.lax.Precision.HIGHEST
_compiled = functools.partial(jax.jit, inline=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpinTransform:
    """Transforms between complex fields of one spin on a grid and their spectra; make one with `create`.

    Only orders m ≥ 0 of the spins s and −s are tabulated, on the northern rows: sλ_l,−m = (−1)^(m+s) ₋sλ_lm and
    sλ_lm(π−θ) = (−1)^(l+m) ₋sλ_lm(θ) give the rest.

    Attributes:
        grid: the grid.
        spin: s.
        max_degree: largest degree l.
        max_order: largest order m, min(max_degree, grid.maximum_order).
        table: (sλ, ₋sλ), shape (2, m, l, h).
        weights: latitude weights of analysis for even and odd m + s, shape (2, y, y).
    """

    grid: Grid = dataclasses.field(metadata={"static": True})
    spin: int = dataclasses.field(metadata={"static": True})
    max_degree: int = dataclasses.field(metadata={"static": True})
    max_order: int = dataclasses.field(metadata={"static": True})
    table: Any
    weights: Any

    @classmethod
    def create(cls, grid: Grid, spin: int, max_degree: int | None = None, *, dtype: Any = None) -> "SpinTransform":
        """Builds the tables.

        Args:
            grid: the grid.
            spin: s, of either sign.
            max_degree: largest degree; default the largest that the rows determine.
            dtype: of the real tables, default float32; float64 needs `jax_enable_x64`.

        Raises:
            UserError: the degree is too large for the grid or below |s|.
        """
        max_degree = tables.check_degree(grid, max_degree)
        if max_degree < abs(spin):
            raise UserError(
                f"spin {spin} has no degree up to {max_degree}",
                where=f"grid {grid.name}",
                remedy=f"take a finer grid or a max_degree of at least {abs(spin)}",
            )
        dtype = np.dtype(np.float32 if dtype is None else dtype)
        if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise UserError(
                "float64 transforms were asked for while JAX runs in float32",
                remedy="set JAX_ENABLE_X64=1 or leave dtype out",
            )
        max_order = min(max_degree, grid.maximum_order)
        theta, orders = tables.northern_colatitude(grid), np.arange(max_order + 1)
        table = np.stack([tables.legendre(theta, max_degree, orders, s, dtype) for s in (spin, -spin)])
        weights = np.stack([2 * np.pi * tables.interpolant_weights(grid, odd) for odd in (False, True)])
        if grid.latitudes % 2:
            weights[:, grid.latitudes // 2] /= 2  # the equator counts as a northern and as a southern row
        return cls(grid, spin, max_degree, max_order, jnp.asarray(table), jnp.asarray(weights.astype(dtype)))

    @property
    def spectrum_shape(self) -> tuple[int, int]:
        """(degrees, orders), the order m at index m + max_order."""
        return self.max_degree + 1, 2 * self.max_order + 1

    def _signs(self) -> tuple[np.ndarray, np.ndarray]:
        """(−1)^(l+m) as (m, l, 1, 1, 1), and (−1)^(m+s) as (m, 1, 1, 1, 1)."""
        m, l = np.arange(self.max_order + 1)[:, None], np.arange(self.max_degree + 1)
        mirror, conjugate = 1.0 - 2 * ((l + m) % 2), 1.0 - 2 * ((m + self.spin) % 2)
        dtype = self.table.dtype
        return mirror[:, :, None, None, None].astype(dtype), conjugate[:, :, None, None, None].astype(dtype)

    def _phase(self) -> jax.Array:
        orders = np.arange(-self.max_order, self.max_order + 1)
        phase = np.exp(-1j * orders * np.radians(self.grid.first_longitude))
        return jnp.asarray(phase, jnp.result_type(self.table.dtype, jnp.complex64))

    @_compiled
    def analysis(self, field: Complex[Array, "*b y x c"]) -> Complex[Array, "*b l m c"]:
        """Spectrum of a complex field on the grid.

        Raises:
            UserError: the field is not on the grid.
        """
        if field.ndim < 3 or field.shape[-3:-1] != self.grid.shape:
            raise UserError(
                f"a field of shape {tuple(field.shape)} is not (…, {', '.join(map(str, self.grid.shape))}, channel)",
                where=f"grid {self.grid.name}",
                remedy="regrid it or make a transform for its grid",
            )
        top = self.max_order
        values = jnp.reshape(field, (-1, *field.shape[-3:])).astype(jnp.result_type(self.table.dtype, jnp.complex64))
        modes = jnp.fft.fft(values.transpose(1, 0, 3, 2), axis=-1, norm="forward")
        modes = jnp.concatenate([modes[..., modes.shape[-1] - top :], modes[..., : top + 1]], -1) * self._phase()
        modes = modes.transpose(3, 0, 1, 2)
        rows = jnp.stack([modes.real, modes.imag], 2)  # (m, y, r, b, c)
        weighted = jnp.zeros_like(rows)
        for first in (0, 1):
            parity = (first - top + self.spin) % 2
            part = jnp.einsum("yz,mzrbc->myrbc", self.weights[parity], rows[first::2], precision=_PRECISION)
            weighted = weighted.at[first::2].set(part)
        north, south = self._halves(weighted)
        positive, negative = slice(top, None), slice(top, None, -1)
        data = jnp.stack(
            [
                jnp.stack([north[positive], south[negative]], 2),
                jnp.stack([south[positive], north[negative]], 2),
            ]
        )
        found = jnp.einsum("tmlh,tmhqrbc->tmlqrbc", self.table, data, precision=_PRECISION)
        mirror, conjugate = self._signs()
        upper = found[0, :, :, 0] + mirror * found[1, :, :, 0]
        lower = conjugate * (found[1, :, :, 1] + mirror * found[0, :, :, 1])
        both = jnp.concatenate([lower[:0:-1], upper])  # (m, l, r, b, c)
        spectrum = jax.lax.complex(both[:, :, 0], both[:, :, 1]).transpose(2, 1, 0, 3)
        return spectrum.reshape(*field.shape[:-3], *spectrum.shape[1:])

    @_compiled
    def synthesis(self, spectrum: Complex[Array, "*b l m c"]) -> Complex[Array, "*b y x c"]:
        """The complex field of a spectrum of exactly this transform's size.

        Raises:
            UserError: the spectrum has another size.
        """
        if spectrum.ndim < 3 or spectrum.shape[-3:-1] != self.spectrum_shape:
            raise UserError(
                f"a spectrum of shape {tuple(spectrum.shape)} is not (…, {self.spectrum_shape[0]}, "
                f"{self.spectrum_shape[1]}, channel)",
                where=f"grid {self.grid.name}, spin {self.spin}",
                remedy="give what `analysis` returns",
            )
        top = self.max_order
        values = jnp.reshape(spectrum, (-1, *spectrum.shape[-3:])).transpose(2, 1, 0, 3)
        parts = jnp.stack([values.real, values.imag], 2).astype(self.table.dtype)  # (m, l, r, b, c)
        mirror, conjugate = self._signs()
        upper, lower = parts[top:], conjugate * parts[top::-1]
        data = jnp.stack([jnp.stack([upper, mirror * lower], 2), jnp.stack([mirror * upper, lower], 2)])
        found = jnp.einsum("tmlh,tmlqrbc->tmhqrbc", self.table, data, precision=_PRECISION)
        north = jnp.concatenate([found[1, :0:-1, :, 1], found[0, :, :, 0]])
        south = jnp.concatenate([found[0, :0:-1, :, 1], found[1, :, :, 0]])[:, : self.grid.latitudes // 2]
        rows = [north, south[:, ::-1]] if self.grid.north_first else [south, north[:, ::-1]]
        whole = jnp.concatenate(rows, 1)
        modes = jax.lax.complex(whole[:, :, 0], whole[:, :, 1]).transpose(1, 2, 3, 0) * self._phase().conj()
        gap = jnp.zeros((*modes.shape[:-1], self.grid.longitudes - modes.shape[-1]), modes.dtype)
        modes = jnp.concatenate([modes[..., top:], gap, modes[..., :top]], -1)
        field = jnp.fft.ifft(modes, axis=-1, norm="forward").transpose(1, 0, 3, 2)
        return field.reshape(*spectrum.shape[:-3], *field.shape[1:])

    def _halves(self, rows: Float[Array, "m y 2 b c"]) -> tuple[jax.Array, jax.Array]:
        """Northern and southern rows, both from the pole to the equator."""
        half = (self.grid.latitudes + 1) // 2
        first, second = rows[:, :half], rows[:, ::-1][:, :half]
        return (first, second) if self.grid.north_first else (second, first)
