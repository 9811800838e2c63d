"""Transforms as dense products whose operands need no copy: the layout for GPUs and TPUs, see `weather_scnn.sphere.layouts`.

A field lies as (x, y, b, c), longitude first. One product with waves (m r, x), r real and imaginary part, gives rows
(m r, y, b c); one product with a table (m, l, y) for each m and r, batched over both, gives coefficients (m r, l, b c).
Spectra are (l, m, 2, b, c), degree first, since a network's product has one matrix a degree; matrix units read and write
a batch axis between rows and columns, so that exchanging l and (m r) is no copy.

The components of a field of spin s, q + iu, need one product each with waves that carry a power of i. With the
analyses P and M by half sums and half differences (`weather_scnn.sphere.pairs`), q' = i^−s q and u' = i^(1−s) u,

    E = P q' + M u',    B = −i (P u' + M q'),

and back, with X = iB: i^−s q = P E + M X, i^(1−s) u = P X + M E. What is left of folding is the factor i of B.

Longitudes are exact as they are, so that nothing has to be turned.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from weather_scnn.sphere import tables
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.products import product_precision


def dense_tables(grid: Grid, max_degree: int, max_order: int, spin: int) -> list[Float[np.ndarray, "m l y"]]:
    """Synthesis tables on all rows in the grid's order: of scalars, or half sums and half differences of sλ and ₋sλ.

    They are those of the northern rows, with sλ_lm(π−θ) = (−1)^(l+m) ₋sλ_lm(θ) for the southern ones.
    """
    theta, orders = tables.northern_colatitude(grid), np.arange(max_order + 1)
    kinds = [tables.legendre(theta, max_degree, orders, spin)]
    if spin:
        other = tables.legendre(theta, max_degree, orders, -spin)
        kinds = [(kinds[0] + other) / 2, (kinds[0] - other) / 2]
    parity = 1.0 - 2.0 * ((np.arange(max_degree + 1) + orders[:, None]) % 2)[..., None]
    found = []
    for sign, north in zip((1.0, -1.0), kinds):
        if grid.latitudes % 2 and theta.size:
            # At the equator one of the two symmetries is zero, which rounding only nearly says.
            north[..., -1] = np.where(sign * parity[..., 0] > 0, north[..., -1], 0.0)
        south = (sign * parity * north)[..., : grid.latitudes // 2]
        rows = np.concatenate([north, south[..., ::-1]], -1)
        found.append(rows if grid.north_first else rows[..., ::-1])
    return found


def analysis_table(grid: Grid, table: Float[np.ndarray, "m l y"], spin: int) -> Float[np.ndarray, "m l y"]:
    """The analysis table of a synthesis table, with the 2π of the longitude integral."""
    found = np.empty_like(table)
    for odd in (0, 1):
        weights = 2 * np.pi * tables.interpolant_weights(grid, (odd + spin) % 2 == 1)
        found[odd::2] = table[odd::2] @ weights
    return found


@functools.lru_cache(maxsize=64)
def _waves(longitudes: int, first_longitude: float, orders: int, power: int) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of i^power exp(−imφ), (m, x)."""
    # Whole turns are taken off before the cosine, so that high orders lose no digits.
    steps = np.outer(np.arange(orders), np.arange(longitudes)) % longitudes / longitudes
    origin = np.arange(orders)[:, None] * (first_longitude / 360.0) % 1.0
    turns = 2 * np.pi * (power / 4 - steps - origin)
    return np.cos(turns), np.sin(turns)


@dataclasses.dataclass(frozen=True)
class Circle:
    """What products need to know besides their operands; static.

    Attributes:
        grid: the grid.
        precision: of products, see `weather_scnn.sphere.products`.
    """

    grid: Grid
    precision: str = "highest"

    def product(self, one: jax.Array, other: jax.Array) -> jax.Array:
        """`jnp.matmul` in that precision."""
        return jnp.matmul(one, other, precision=product_precision(self.precision, other.dtype))


def _of(grid: Grid, orders: int, power: int) -> tuple[np.ndarray, np.ndarray]:
    return _waves(grid.longitudes, grid.first_longitude, orders, power % 4)


def rows_of(circle: Circle, field: Float[Array, "x y b c"], orders: int, power: int = 0) -> Float[Array, "_mr y _bc"]:
    """i^power (1/x) Σ_x f exp(−imφ_x), real and imaginary part of every order."""
    x, y, _, _ = field.shape
    waves = np.stack(_of(circle.grid, orders, power), 1).reshape(-1, x) / x
    found = circle.product(jnp.asarray(waves, field.dtype), field.reshape(x, -1))
    return found.reshape(2 * orders, y, -1)


def field_of(circle: Circle, rows: Float[Array, "_mr y _bc"], batch: int, power: int = 0) -> Float[Array, "x y b c"]:
    """Re Σ_m (2 − δ_m0) i^power F_m exp(imφ_x) of rows F."""
    orders, y = rows.shape[0] // 2, rows.shape[1]
    real, imaginary = _of(circle.grid, orders, -power)  # the conjugate waves
    factor = np.where(np.arange(orders) == 0, 1.0, 2.0)[:, None]
    waves = np.stack([factor * real, factor * imaginary], 1).reshape(2 * orders, -1)
    found = circle.product(jnp.asarray(waves.T, rows.dtype), rows.reshape(2 * orders, -1))
    return found.reshape(-1, y, batch, rows.shape[-1] // batch if batch else 0)


def _for_both_parts(
    stored: tuple[Float[Array, "_m _l y"], ...], degrees: int, orders: int
) -> list[Float[Array, "_mr _l y"]]:
    """Tables of some degrees and orders, for real and imaginary part of each."""
    found = []
    for table in stored:
        if (orders, degrees) != table.shape[:2]:
            table = table[:orders, :degrees]
        doubled = jax.lax.broadcast_in_dim(table, (orders, 2, *table.shape[1:]), (0, 2, 3))
        found.append(doubled.reshape(-1, *table.shape[1:]))
    return found


def _synthesised(
    circle: Circle, table: Float[Array, "_mr _l y"], values: Float[Array, "_mr _l _bc"]
) -> Float[Array, "_mr y _bc"]:
    precision = product_precision(circle.precision, values.dtype)
    return jax.lax.dot_general(table, values, (((1,), (1,)), ((0,), (0,))), precision=precision)


def _by_degree(values: Float[Array, "_mr _l _bc"], batch: int, channels: int) -> Float[Array, "l m 2 b c"]:
    return values.transpose(1, 0, 2).reshape(values.shape[1], -1, 2, batch, channels)


def _by_order(values: Float[Array, "l m 2 b c"]) -> Float[Array, "_mr l _bc"]:
    degrees, orders, _, b, c = values.shape
    return values.reshape(degrees, 2 * orders, b * c).transpose(1, 0, 2)


def _times_i(values: Float[Array, "l m 2 b c"], power: int) -> Float[Array, "l m 2 b c"]:
    """Coefficients times i or −i, for a power of ±1."""
    signs = np.array([-power, power], values.dtype)[:, None, None]
    return jnp.flip(values, 2) * signs


def analyse_scalar(
    circle: Circle, stored: tuple, field: Float[Array, "x y b c"], degrees: int, orders: int
) -> Float[Array, "l m 2 b c"]:
    """Spectrum of a real scalar field; `stored` holds the analysis table."""
    (table,) = _for_both_parts(stored, degrees, orders)
    return _by_degree(circle.product(table, rows_of(circle, field, orders)), *field.shape[2:])


def synthesise_scalar(circle: Circle, stored: tuple, values: Float[Array, "l m 2 b c"]) -> Float[Array, "x y b c"]:
    """The inverse of `analyse_scalar`; `stored` holds the synthesis table."""
    (table,) = _for_both_parts(stored, *values.shape[:2])
    return field_of(circle, _synthesised(circle, table, _by_order(values)), values.shape[3])


def analyse_components(
    circle: Circle,
    stored: tuple,
    real: Float[Array, "x y b c"],
    imaginary: Float[Array, "x y b c"],
    spin: int,
    degrees: int,
    orders: int,
) -> tuple[Float[Array, "l m 2 b c"], Float[Array, "l m 2 b c"]]:
    """Spectra E and B of the components of a field of spin s > 0."""
    sums, differences = _for_both_parts(stored, degrees, orders)
    q, u = rows_of(circle, real, orders, -spin), rows_of(circle, imaginary, orders, 1 - spin)
    e, turned = (
        _by_degree(circle.product(sums, one) + circle.product(differences, other), *real.shape[2:])
        for one, other in ((q, u), (u, q))
    )
    return e, _times_i(turned, -1)


def synthesise_components(
    circle: Circle, stored: tuple, e: Float[Array, "l m 2 b c"], b: Float[Array, "l m 2 b c"], spin: int
) -> tuple[Float[Array, "x y b c"], Float[Array, "x y b c"]]:
    """The inverse of `analyse_components`."""
    sums, differences = _for_both_parts(stored, *e.shape[:2])
    own, turned = _by_order(e), _by_order(_times_i(b, 1))
    q, u = (
        _synthesised(circle, sums, one) + _synthesised(circle, differences, other)
        for one, other in ((own, turned), (turned, own))
    )
    return field_of(circle, q, e.shape[3], spin), field_of(circle, u, e.shape[3], spin - 1)


def analyse_complex(
    circle: Circle, stored: tuple, field: Float[Array, "x y b c"], degrees: int, orders: int
) -> list[Inexact[Array, "l m b c"]]:
    """Complex coefficients of a real field by each table: of scalars, or by half sums and by half differences."""
    rows = rows_of(circle, field, orders)
    found = []
    for table in _for_both_parts(stored, degrees, orders):
        values = _by_degree(circle.product(table, rows), *field.shape[2:])
        found.append(jax.lax.complex(values[:, :, 0], values[:, :, 1]))
    return found


def synthesise_complex(
    circle: Circle, stored: tuple, kinds: list[Inexact[Array, "l m b c"]]
) -> Float[Array, "x y b c"]:
    """The real field whose coefficients are the sums of those of every table."""
    doubled = _for_both_parts(stored, *kinds[0].shape[:2])
    parts = [_by_order(jnp.stack([values.real, values.imag], 2)) for values in kinds]
    rows = sum(_synthesised(circle, table, values) for table, values in zip(doubled, parts))
    return field_of(circle, jnp.asarray(rows), kinds[0].shape[2])


def inner_fields(inner: bool, *fields: Float[Array, "_ _ _ c"]) -> list[Float[Array, "x y b c"]]:
    """Fields (b, y, x, c), or `inner` ones, in the order of axes that the products take."""
    return [field if inner else field.transpose(2, 1, 0, 3) for field in fields]


def outer_fields(inner: bool, *fields: Float[Array, "x y b c"]) -> list[Float[Array, "_ _ _ c"]]:
    """The inverse of `inner_fields`."""
    return [field if inner else field.transpose(2, 1, 0, 3) for field in fields]
