"""The transform of published spherical CNNs: a contraction with Wigner's Δ, what ours is compared with.

Both dimensions are transformed by products with DFT matrices; then a_lm = k_lm Σ_m′ Δ^l_m′m Δ^l_m′,−s I_m′m is one
einsum over zero-padded (l, m, m′) arrays (complex fields, all orders, any spin). It is at equal degree with ours, that
is exact to all N − 1 degrees of N rows; the published one keeps half of them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from weather_scnn.sphere import Grid
from weather_scnn.sphere.tables import interpolant_weights, legendre

HIGHEST = jax.lax.Precision.HIGHEST


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


def wigner_contraction(grid: Grid, spin: int) -> tuple[dict[str, jax.Array], Callable, Callable]:
    """Tables, analysis and synthesis of complex fields (y, x, c) by the contraction with Wigner's Δ."""
    degrees = grid.latitudes
    m = np.arange(-(degrees - 1), degrees)
    l = np.arange(degrees)[:, None]
    delta = wigner_deltas(degrees)
    factor = (-1.0) ** spin * np.sqrt((2 * l + 1) / (4 * np.pi)) * (1j) ** ((m + spin) % 4)
    theta, phi = grid.colatitude, np.radians(grid.longitude)
    # ∫ (latitude interpolant of row y) exp(−im′θ) sinθ dθ, exact, for even and odd m + s.
    rows = []
    for odd in (False, True):
        waves = -1j * np.sin(np.outer(m, theta)) if odd else np.cos(np.outer(m, theta))
        rows.append(waves @ interpolant_weights(grid, odd))
    usable = np.abs(m) <= grid.maximum_order
    tables = {
        "delta": delta,
        "delta_spin": delta[:, :, degrees - 1 - spin],
        "factor": factor,
        "rows": np.stack([rows[(order + spin) % 2] for order in m]),
        "waves": np.exp(-1j * np.outer(m, theta)),
        "longitude": np.exp(-1j * np.outer(m, phi)) * usable[:, None],
    }
    tables = {k: jnp.asarray(v.astype(np.float32 if v.dtype.kind == "f" else np.complex64)) for k, v in tables.items()}

    def analysis(t: dict[str, jax.Array], field: jax.Array) -> jax.Array:
        modes = jnp.einsum("mx,yxc->myc", t["longitude"], field, precision=HIGHEST) * (2 * np.pi / grid.longitudes)
        integrals = jnp.einsum("mpy,myc->mpc", t["rows"].conj(), modes, precision=HIGHEST)
        found = jnp.einsum("lpm,lp,mpc->lmc", t["delta"], t["delta_spin"], integrals, precision=HIGHEST)
        return t["factor"].conj()[..., None] * found

    def synthesis(t: dict[str, jax.Array], spectrum: jax.Array) -> jax.Array:
        scaled = t["factor"][..., None] * spectrum
        modes = jnp.einsum("lpm,lp,lmc->mpc", t["delta"], t["delta_spin"], scaled, precision=HIGHEST)
        rows = jnp.einsum("py,mpc->ymc", t["waves"], modes, precision=HIGHEST)
        return jnp.einsum("mx,ymc->yxc", t["longitude"].conj(), rows, precision=HIGHEST)

    return tables, analysis, synthesis
