"""Spherical harmonic transforms of real scalar and vector fields, in JAX.

A scalar field is f = Σ_l [a_l0 Y_l0 + 2 Re Σ_{m>0} a_lm Y_lm] with orthonormal Y_lm (Condon–Shortley phase). Its
spectrum has shape (…, l, m, 2, c): real and imaginary part on the axis of length 2, zeros where l < m.

A wind (u eastward, v northward) is the sum of a divergent and a rotational part, each described by the spectrum of
a real field: for (u, v) = grad χ + k × grad ψ on the unit sphere, E_lm = √(l(l+1)) χ_lm and B_lm = √(l(l+1)) ψ_lm.
As a spin-1 field u + iv = i Σ_lm (E_lm + i B_lm) ₁Y_lm. The norm is kept: Σ|E|² + |B|² (m > 0 twice) = ∫ u² + v².

Transforms are a longitude Fourier transform and one matrix product per order m with a Legendre table, on the
northern half of the rows (see `weather_scnn.sphere.tables`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.sphere import tables
from weather_scnn.sphere.grid import Grid

# Below this many longitudes a product with the DFT matrix beats the FFT, whose output needs more copies.
_LARGEST_DFT = 192

_PRECISION = jax.lax.Precision.HIGHEST


def _product(equation: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(equation, left, right, precision=_PRECISION)


def _times_i(spectrum: jax.Array, axis: int) -> jax.Array:
    """i times complex numbers whose parts lie along an axis."""
    real, imaginary = jnp.split(spectrum, 2, axis)
    return jnp.concatenate([-imaginary, real], axis)


def _divided_by_i(spectrum: jax.Array, axis: int) -> jax.Array:
    real, imaginary = jnp.split(spectrum, 2, axis)
    return jnp.concatenate([imaginary, -real], axis)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HarmonicTransform:
    """Transforms between a grid and spectra; pass it through `jit` as an argument, so that tables are no constants.

    Make one with `HarmonicTransform.create`.

    Attributes:
        grid: the grid.
        max_degree: largest degree l.
        max_order: largest order m, min(max_degree, grid.maximum_order).
        dft: exp(−imφ) as real and imaginary part, shape (x, m, 2); None where the FFT is used.
        scalar_synthesis: see `tables.scalar_tables`.
        scalar_analysis: see `tables.scalar_tables`.
        vector_synthesis: see `tables.vector_tables`; None without vectors.
        vector_analysis: see `tables.vector_tables`; None without vectors.
    """

    grid: Grid = dataclasses.field(metadata={"static": True})
    max_degree: int = dataclasses.field(metadata={"static": True})
    max_order: int = dataclasses.field(metadata={"static": True})
    dft: Any
    scalar_synthesis: Any
    scalar_analysis: Any
    vector_synthesis: Any
    vector_analysis: Any

    @classmethod
    def create(
        cls, grid: Grid, max_degree: int | None = None, *, vectors: bool = True, dtype: Any = None
    ) -> "HarmonicTransform":
        """Builds the tables.

        Args:
            grid: the grid.
            max_degree: largest degree; default the largest that the rows determine.
            vectors: whether wind transforms are wanted; they take twice the memory of the scalar ones.
            dtype: of tables and results, default float32; float64 needs `jax_enable_x64`.

        Raises:
            UserError: the degree is too large for the grid, or float64 without x64.
        """
        max_degree = tables.check_degree(grid, max_degree)
        max_order = min(max_degree, grid.maximum_order)
        dtype = np.dtype(np.float32 if dtype is None else dtype)
        if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise UserError(
                "float64 transforms were asked for while JAX runs in float32",
                remedy="set JAX_ENABLE_X64=1 or leave dtype out",
            )

        def convert(table: np.ndarray) -> jax.Array:
            return jnp.asarray(np.asarray(table, dtype))

        dft = None
        if grid.longitudes <= _LARGEST_DFT:
            angle = np.outer(np.radians(grid.longitude), np.arange(max_order + 1))
            dft = convert(np.stack([np.cos(angle), -np.sin(angle)], -1))
        scalar = [convert(table) for table in tables.scalar_tables(grid, max_degree, max_order)]
        vector: list[Any] = [None, None]
        if vectors:
            vector = [convert(table) for table in tables.vector_tables(grid, max_degree, max_order)]
        return cls(grid, max_degree, max_order, dft, *scalar, *vector)

    @property
    def dtype(self) -> np.dtype:
        """Of tables and results."""
        return np.dtype(self.scalar_synthesis.dtype)

    @property
    def spectrum_shape(self) -> tuple[int, int, int]:
        """(degrees, orders, 2)."""
        return self.max_degree + 1, self.max_order + 1, 2

    def analysis(self, field: Float[Array, "*b y x c"], max_degree: int | None = None) -> Float[Array, "*b l m 2 c"]:
        """Spectrum of a real scalar field.

        Args:
            field: on the grid.
            max_degree: computes degrees up to this one only (spectral pooling); default all.

        Raises:
            UserError: the field is not on the grid, or the degree is larger than that of the transform.
        """
        degrees, orders = self._sizes(max_degree)
        north, south = self._halves(self._fourier(field, orders))
        folded = jnp.stack([north + south, north - south], 1)  # (m, parity, h, 2, b, c)
        table = self.scalar_analysis[:orders, :, : (degrees + 1) // 2]
        spectrum = _product("mpkh,mphrbc->mkprbc", table, folded)
        spectrum = spectrum.reshape(orders, -1, *spectrum.shape[3:])[:, :degrees]
        return self._spectrum_out(spectrum, field.shape[:-3])

    def synthesis(self, spectrum: Float[Array, "*b l m 2 c"]) -> Float[Array, "*b y x c"]:
        """The field of a spectrum, which may have fewer degrees and orders (upsampling) or more (left out)."""
        batch, values = self._spectrum_in(spectrum)  # (m, l, 2, b, c)
        orders, degrees = values.shape[:2]
        if degrees % 2:
            values = jnp.pad(values, [(0, 0), (0, 1)] + [(0, 0)] * 3)
        values = values.reshape(orders, -1, 2, *values.shape[2:])
        table = self.scalar_synthesis[:orders, :, : values.shape[1]]
        folded = _product("mpkh,mkprbc->mphrbc", table, values)
        rows = self._whole(folded[:, 0] + folded[:, 1], folded[:, 0] - folded[:, 1])
        return self._inverse_fourier(rows, batch)

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
        both = jnp.concatenate([u, v], -1)
        north, south = self._halves(self._fourier(both, orders))  # (m, h, 2, b, 2c)
        symmetric, antisymmetric = north + south, north - south
        u_symmetric, v_symmetric = jnp.split(symmetric, 2, -1)
        u_antisymmetric, v_antisymmetric = jnp.split(antisymmetric, 2, -1)
        first = jnp.concatenate([u_symmetric, _divided_by_i(v_symmetric, 2)], -1)
        second = jnp.concatenate([_divided_by_i(v_antisymmetric, 2), u_antisymmetric], -1)
        mixed = _product("mlgh,mghrbc->mlrbc", self.vector_analysis[:orders, :degrees], jnp.stack([first, second], 1))
        z_first, z_second = jnp.split(mixed, 2, -1)
        even = (jnp.arange(degrees) % 2 == 0)[:, None, None, None]
        divergent = _divided_by_i(jnp.where(even, z_first, z_second), 2)
        rotational = jnp.where(even, z_second, z_first)
        batch = jnp.shape(u)[:-3]
        return self._spectrum_out(divergent, batch), self._spectrum_out(rotational, batch)

    def synthesis_vector(
        self, divergent: Float[Array, "*b l m 2 c"], rotational: Float[Array, "*b l m 2 c"]
    ) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
        """The wind (u, v) of its spectra (E, B), which may have fewer degrees and orders, or more (left out)."""
        self._need_vectors()
        batch, e = self._spectrum_in(divergent)
        _, b = self._spectrum_in(rotational)
        orders, degrees = e.shape[:2]
        even = (jnp.arange(degrees) % 2 == 0)[:, None, None, None]
        e = _times_i(e, 2)
        mixed = jnp.concatenate([jnp.where(even, e, b), jnp.where(even, b, e)], -1)
        folded = _product("mlgh,mlrbc->mghrbc", self.vector_synthesis[:orders, :degrees], mixed)
        u_symmetric, v_symmetric = jnp.split(folded[:, 0], 2, -1)
        v_antisymmetric, u_antisymmetric = jnp.split(folded[:, 1], 2, -1)
        symmetric = jnp.concatenate([u_symmetric, _times_i(v_symmetric, 2)], -1)
        antisymmetric = jnp.concatenate([u_antisymmetric, _times_i(v_antisymmetric, 2)], -1)
        rows = self._whole(symmetric + antisymmetric, symmetric - antisymmetric)
        u, v = jnp.split(self._inverse_fourier(rows, batch), 2, -1)
        return u, v

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
        """Leading shape, and the spectrum as (m, l, 2, b, c) of at most this transform's size."""
        if spectrum.ndim < 4 or spectrum.shape[-2] != 2:
            raise UserError(
                f"a spectrum of shape {spectrum.shape} is not (…, l, m, 2, channel)",
                remedy="give what `analysis` returns",
            )
        spectrum = spectrum[..., : self.max_degree + 1, : self.max_order + 1, :, :].astype(self.dtype)
        values = spectrum.reshape(-1, *spectrum.shape[-4:])
        return spectrum.shape[:-4], values.transpose(2, 1, 3, 0, 4)

    def _spectrum_out(self, values: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """(m, l, 2, b, c) as (…, l, m, 2, c)."""
        values = values.transpose(3, 1, 0, 2, 4)
        return values.reshape(*batch, *values.shape[1:])

    # Longitudes

    def _fourier(self, field: jax.Array, orders: int) -> jax.Array:
        """Fourier coefficients (m, y, 2, b, c) of a field (…, y, x, c)."""
        if field.ndim < 3 or field.shape[-3:-1] != self.grid.shape:
            raise UserError(
                f"a field of shape {tuple(field.shape)} is not (…, {', '.join(map(str, self.grid.shape))}, channel)",
                where=f"grid {self.grid.name}",
                remedy="regrid it or make a transform for its grid",
            )
        field = field.reshape(-1, *field.shape[-3:]).astype(self.dtype)
        count = self.grid.longitudes
        if self.dft is not None:
            return _product("xmr,byxc->myrbc", self.dft[:, :orders] / count, field)
        modes = jnp.fft.rfft(field.transpose(1, 0, 3, 2), axis=-1, norm="forward")[..., :orders]
        if self.grid.first_longitude:
            modes = modes * self._phase(orders, -1)
        modes = modes.transpose(3, 0, 1, 2)
        return jnp.stack([modes.real, modes.imag], 2)

    def _inverse_fourier(self, rows: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """The field (…, y, x, c) of Fourier coefficients (m, y, 2, b, c)."""
        count, orders = self.grid.longitudes, rows.shape[0]
        if self.dft is not None:
            doubled = jnp.where(jnp.arange(orders)[:, None] > 0, 2.0, 1.0).astype(self.dtype)
            field = _product("xmr,myrbc->byxc", self.dft[:, :orders] * doubled, rows)
        else:
            modes = jax.lax.complex(rows[:, :, 0], rows[:, :, 1]).transpose(1, 2, 3, 0)
            if self.grid.first_longitude:
                modes = modes * self._phase(orders, 1)
            # The FFT library must not see an imaginary part at m = 0; it belongs to no real field.
            field = jnp.fft.irfft(modes, n=count, axis=-1, norm="forward").transpose(1, 0, 3, 2)
        return field.reshape(*batch, *field.shape[1:])

    def _phase(self, orders: int, sign: int) -> jax.Array:
        angle = sign * np.arange(orders) * np.radians(self.grid.first_longitude)
        return jnp.asarray(np.exp(1j * angle), np.result_type(self.dtype, np.complex64))

    # Latitudes

    def _sign(self, orders: int) -> jax.Array:
        return jnp.asarray(1 - 2 * (np.arange(orders) % 2), self.dtype)[:, None, None, None, None]

    def _halves(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Northern rows, and (−1)^m times the southern ones, both from the pole to the equator."""
        half = (self.grid.latitudes + 1) // 2
        first, second = rows[:, :half], rows[:, ::-1][:, :half]
        north, south = (first, second) if self.grid.north_first else (second, first)
        return north, south * self._sign(rows.shape[0])

    def _whole(self, north: jax.Array, south: jax.Array) -> jax.Array:
        """The inverse of `_halves`."""
        south = south * self._sign(south.shape[0])
        others = self.grid.latitudes // 2
        if self.grid.north_first:
            return jnp.concatenate([north, south[:, :others][:, ::-1]], 1)
        return jnp.concatenate([south[:, :others], north[:, ::-1]], 1)


def power_spectrum(spectrum: Float[Array, "*b l m 2 c"]) -> Float[Array, "*b l c"]:
    """Power per degree, Σ_m |a_lm|² with m > 0 twice; its sum over l is ∫ f² over the unit sphere (Parseval)."""
    doubled = jnp.where(jnp.arange(spectrum.shape[-3]) > 0, 2.0, 1.0).astype(spectrum.dtype)
    return jnp.einsum("...lmrc,m->...lc", spectrum**2, doubled, precision=_PRECISION)
