"""The transform of published spherical CNNs: a contraction with Wigner's Δ, what ours is compared with.

Both dimensions are transformed by products with DFT matrices; then a_lm = k_lm Σ_m′ Δ^l_m′m Δ^l_m′,−s I_m′m is one
einsum over zero-padded (l, m, m′) arrays (complex fields, all orders, any spin). I_m′m comes from the sphere extended
to a torus and a quadrature that needs 2L rows and columns for L degrees (`published`), or, with the better quadrature
of this package given away, from L rows (`on_our_rows`).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weather_scnn.sphere import Grid
from weather_scnn.sphere.tables import interpolant_weights, legendre

HIGHEST = jax.lax.Precision.HIGHEST


class Contraction(NamedTuple):
    """Transforms of complex fields (y, x, c) of one spin and spectra (l, m, c), m = −(L−1) … L−1.

    Attributes:
        tables: the first argument of both functions, so that they are no constants of a compiled program.
        analysis: of tables and fields.
        synthesis: of tables and spectra.
        shape: rows and columns of the fields.
    """

    tables: dict[str, jax.Array]
    analysis: Callable[[dict[str, jax.Array], jax.Array], jax.Array]
    synthesis: Callable[[dict[str, jax.Array], jax.Array], jax.Array]
    shape: tuple[int, int]


@functools.lru_cache(maxsize=1)
def wigner_deltas(degrees: int) -> np.ndarray:
    """Δ^l_m′m = d^l_m′m(π/2), zero-padded, shape (l, m′, m) with m′, m = −(L−1) … L−1."""
    orders = np.arange(-(degrees - 1), degrees)
    norm = np.sqrt((2 * np.arange(degrees) + 1) / (4 * np.pi))
    table = np.zeros((degrees, orders.size, orders.size), np.float32)
    for i, m in enumerate(orders):  # sλ = (−1)^s √((2l+1)/4π) d^l_m′,−s
        values = legendre(np.array([np.pi / 2]), degrees - 1, orders, int(-m))[..., 0]
        table[:, :, i] = ((-1.0) ** (m % 2) * values / norm).T
    return table


def _constants(degrees: int, spin: int) -> dict[str, np.ndarray]:
    """Δ, Δ at −s and k of the contraction."""
    m, l = np.arange(-(degrees - 1), degrees), np.arange(degrees)[:, None]
    delta = wigner_deltas(degrees)
    factor = (-1.0) ** spin * np.sqrt((2 * l + 1) / (4 * np.pi)) * (1j) ** ((m + spin) % 4)
    return {"delta": delta, "delta_spin": delta[:, :, degrees - 1 - spin], "factor": factor}


def _in_single_precision(tables: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v.astype(np.float32 if v.dtype.kind == "f" else np.complex64)) for k, v in tables.items()}


def _to_degrees(t: dict[str, jax.Array], integrals: jax.Array) -> jax.Array:
    found = jnp.einsum("lpm,lp,mpc->lmc", t["delta"], t["delta_spin"], integrals, precision=HIGHEST)
    return t["factor"].conj()[..., None] * found


def _to_waves(t: dict[str, jax.Array], spectrum: jax.Array) -> jax.Array:
    scaled = t["factor"][..., None] * spectrum
    return jnp.einsum("lpm,lp,lmc->mpc", t["delta"], t["delta_spin"], scaled, precision=HIGHEST)


def published(degrees: int, spin: int) -> Contraction:
    """On 2L rows from pole to pole and 2L columns."""
    count = 2 * degrees
    m = np.arange(-(degrees - 1), degrees)
    theta = np.pi / (count - 1) * np.arange(2 * count - 2)  # of the torus
    phi = 2 * np.pi / count * np.arange(count)
    # ∫ exp(ikθ) sinθ dθ over [0, π], which the weights have as their Fourier coefficients.
    k = np.arange(-2 * (degrees - 1), 2 * (degrees - 1) + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        moments = np.where(np.abs(k) == 1, np.sign(k) * 1j * np.pi / 2, (1 + (-1.0) ** k) / (1.0 - k**2))
    weights = (np.exp(1j * np.outer(theta, k)) @ moments.conj()).real
    tables = _constants(degrees, spin) | {
        "weights": weights / theta.size,
        "rows": np.exp(-1j * np.outer(m, theta)),
        "longitude": np.exp(-1j * np.outer(m, phi)),
    }

    def analysis(t: dict[str, jax.Array], field: jax.Array) -> jax.Array:
        mirrored = (-1) ** spin * jnp.roll(field[1:-1][::-1], count // 2, axis=1)
        torus = jnp.concatenate([field, mirrored]) * t["weights"][:, None, None]
        half = jnp.einsum("py,yxc->pxc", t["rows"], torus, precision=HIGHEST)
        integrals = jnp.einsum("mx,pxc->mpc", t["longitude"], half, precision=HIGHEST) * (2 * np.pi / count)
        return _to_degrees(t, integrals)

    def synthesis(t: dict[str, jax.Array], spectrum: jax.Array) -> jax.Array:
        modes = _to_waves(t, spectrum)
        half = jnp.einsum("py,mpc->ymc", t["rows"][:, :count].conj(), modes, precision=HIGHEST)
        return jnp.einsum("mx,ymc->yxc", t["longitude"].conj(), half, precision=HIGHEST)

    return Contraction(_in_single_precision(tables), analysis, synthesis, (count, count))


def on_our_rows(grid: Grid, spin: int) -> Contraction:
    """On an equiangular grid of L rows, with exact integrals of its latitude interpolants."""
    degrees = grid.latitudes
    m = np.arange(-(degrees - 1), degrees)
    theta, phi = grid.colatitude, np.radians(grid.longitude)
    # ∫ (latitude interpolant of row y) exp(−im′θ) sinθ dθ, exact, for even and odd m + s.
    rows = []
    for odd in (False, True):
        waves = -1j * np.sin(np.outer(m, theta)) if odd else np.cos(np.outer(m, theta))
        rows.append(waves @ interpolant_weights(grid, odd))
    usable = np.abs(m) <= grid.maximum_order
    tables = _constants(degrees, spin) | {
        "rows": np.stack([rows[(order + spin) % 2] for order in m]),
        "waves": np.exp(-1j * np.outer(m, theta)),
        "longitude": np.exp(-1j * np.outer(m, phi)) * usable[:, None],
    }

    def analysis(t: dict[str, jax.Array], field: jax.Array) -> jax.Array:
        modes = jnp.einsum("mx,yxc->myc", t["longitude"], field, precision=HIGHEST) * (2 * np.pi / grid.longitudes)
        integrals = jnp.einsum("mpy,myc->mpc", t["rows"].conj(), modes, precision=HIGHEST)
        return _to_degrees(t, integrals)

    def synthesis(t: dict[str, jax.Array], spectrum: jax.Array) -> jax.Array:
        modes = _to_waves(t, spectrum)
        rows = jnp.einsum("py,mpc->ymc", t["waves"], modes, precision=HIGHEST)
        return jnp.einsum("mx,ymc->yxc", t["longitude"].conj(), rows, precision=HIGHEST)

    return Contraction(_in_single_precision(tables), analysis, synthesis, grid.shape)
