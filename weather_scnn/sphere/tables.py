"""Legendre tables of spin-weighted harmonics, and the exact weights of analysis, in NumPy float64.

Notation: degree l, order m, spin s, colatitude θ; rows y of a grid, of which the h = ⌈N/2⌉ northern ones (with the
equator row where there is one) are tabulated, since every kind of grid is symmetric about the equator.

    sY_lm(θ, φ) = sλ_lm(θ) exp(imφ),   sλ_lm = (−1)^s √((2l+1)/4π) d^l_{m,−s}(θ)

is orthonormal on the unit sphere, has the Condon–Shortley phase, and follows ð of Goldberg et al. (1967):
₁Y = ðY/√(l(l+1)), ð = −(∂θ + i/sinθ ∂φ − s cotθ). Its mirror image is sλ_lm(π−θ) = (−1)^(l+m) ₋sλ_lm(θ).
"""

import functools

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid, GridKind

# Values are kept as mantissa × 2^(512 e) while they are below float64's range (Fukushima 2012, X-numbers).
_CHUNK_BITS = 512
_CHUNK = 2.0**_CHUNK_BITS


def northern_colatitude(grid: Grid) -> Float[np.ndarray, " h"]:
    """Colatitudes in radians of the rows of the northern half and the equator, from the pole southwards."""
    theta = np.sort(grid.colatitude)[: (grid.latitudes + 1) // 2]
    return np.where(np.abs(theta) < 1e-14, 0.0, theta)


@functools.lru_cache(maxsize=4)
def _log2_factorials(count: int) -> np.ndarray:
    logs = np.log2(np.maximum(np.arange(count + 1), 1).astype(np.longdouble))
    return np.cumsum(logs)


def legendre(
    theta: Float[np.ndarray, " h"],
    max_degree: int,
    orders: np.ndarray,
    spin: int = 0,
    dtype: np.typing.DTypeLike = np.float64,
) -> Float[np.ndarray, "m l h"]:
    """sλ_lm(θ) for degrees 0 … max_degree and the given orders; zero where l < max(|m|, |s|).

    The three-term recursion in l of Wigner's d (Varshalovich et al. 1988, §4.8.7) starts at l = max(|m|, |s|) from
    the closed form, whose logarithm is split into mantissa and exponent, so that nothing underflows on the way to
    degrees where the function is of order one again.

    Args:
        theta: colatitudes in radians.
        max_degree: largest degree.
        orders: integer orders, of either sign.
        spin: s.
        dtype: of the result; the recursion itself is float64.
    """
    theta = np.asarray(theta, np.float64)
    m = np.asarray(orders, np.int64)[:, None]
    n = -spin
    start = np.maximum(np.abs(m), abs(n))
    table = np.zeros((m.shape[0], max_degree + 1, theta.size), dtype)

    half = theta.astype(np.longdouble) / 2
    with np.errstate(divide="ignore"):
        log_cos, log_sin = np.log2(np.cos(half))[None], np.log2(np.sin(half))[None]
    log_factorials = _log2_factorials(2 * int(start.max(initial=0)) + 1)
    plus, minus = np.abs(m + n), np.abs(m - n)
    log_binomial = log_factorials[2 * start] - log_factorials[plus] - log_factorials[minus]
    with np.errstate(invalid="ignore"):
        log_start = log_binomial / 2 + np.where(plus > 0, plus * log_cos, 0) + np.where(minus > 0, minus * log_sin, 0)
    zero = np.isneginf(log_start)
    log_start = np.where(zero, 0, log_start)
    chunk = np.minimum(np.ceil(log_start / _CHUNK_BITS), 0).astype(np.int64)
    sign = np.where((m - n >= 0) & ((m - n) % 2 == 1), -1.0, 1.0)
    first = np.where(zero, 0.0, sign * np.exp2(log_start - chunk * _CHUNK_BITS).astype(np.float64))

    cos_theta = np.cos(theta)[None]
    current, previous = np.zeros_like(first), np.zeros_like(first)
    exponent = np.where(zero, 0, chunk)
    phase = (-1.0) ** (spin % 2)
    scaled = bool((exponent < 0).any())
    for l in range(max_degree + 1):
        begin = start[:, 0] == l
        current[begin] = first[begin]
        active = start[:, 0] <= l
        if not active.any():
            continue
        norm = phase * np.sqrt((2 * l + 1) / (4 * np.pi))
        value = current if not scaled else np.where(exponent == 0, current, 0.0)
        table[active, l] = (norm * value)[active]
        if l == max_degree:
            break
        # √(((l+1)²−m²)((l+1)²−n²)) / ((l+1)(2l+1)) d^{l+1} = (cosθ − mn/(l(l+1))) d^l − √(…l…)/(l(2l+1)) d^{l−1}
        up_square = np.maximum(((l + 1.0) ** 2 - m**2) * ((l + 1.0) ** 2 - n**2), 0)
        up = np.sqrt(np.where(active[:, None], up_square, 1.0)) / ((l + 1) * (2 * l + 1))
        down = np.sqrt(np.maximum((1.0 * l * l - m**2) * (1.0 * l * l - n**2), 0)) / max(l * (2 * l + 1), 1)
        shift = m * n / max(l * (l + 1), 1)
        following = ((cos_theta - shift) * current - down * previous) / up
        following[~active] = 0.0
        previous, current = current, following
        if scaled:
            large = np.abs(current) > 1.0
            large &= exponent < 0
            if large.any():
                current = np.where(large, current / _CHUNK, current)
                previous = np.where(large, previous / _CHUNK, previous)
                exponent = exponent + large
                scaled = bool((exponent < 0).any())
    return table


@functools.lru_cache(maxsize=16)
def interpolant_weights(grid: Grid, odd: bool) -> Float[np.ndarray, "y y"]:
    """W with Σ_yy' f_y W_yy' g_y' = ∫ f g sin θ dθ for the latitude interpolants of f and g, rows in grid order.

    Functions with even m + s continue over the poles as cosine series, those with odd m + s as sine series; on N
    equiangular rows both are determined up to degree N − 1 (N − 2 with pole rows, where sines vanish).

    Args:
        grid: the grid; for Gaussian grids W is the diagonal of the quadrature weights.
        odd: whether m + s is odd.
    """
    if grid.kind is GridKind.GAUSSIAN:
        return np.diag(grid.quadrature_weights)
    count, theta = grid.latitudes, grid.colatitude
    if grid.has_poles:
        segments = count - 1
        if odd:
            k = np.arange(1, segments)
            coefficients = 2.0 / segments * np.sin(np.outer(k, theta))
            coefficients[:, [0, -1]] = 0.0
        else:
            k = np.arange(segments + 1)
            coefficients = 2.0 / segments * np.cos(np.outer(k, theta))
            coefficients[[0, -1]] *= 0.5
            coefficients[:, [0, -1]] *= 0.5
    elif odd:
        k = np.arange(1, count + 1)
        coefficients = 2.0 / count * np.sin(np.outer(k, theta))
        coefficients[-1] *= 0.5
    else:
        k = np.arange(count)
        coefficients = 2.0 / count * np.cos(np.outer(k, theta))
        coefficients[0] *= 0.5

    def moment(difference: np.ndarray) -> np.ndarray:  # ∫ cos(nθ) sinθ dθ
        even = difference % 2 == 0
        return np.where(even, 2.0 / np.where(even, 1.0 - difference.astype(np.float64) ** 2, 1.0), 0.0)

    difference, total = k[:, None] - k[None], k[:, None] + k[None]
    moments = (moment(difference) + (-1 if odd else 1) * moment(total)) / 2
    weights = coefficients.T @ moments @ coefficients
    return (weights + weights.T) / 2


@functools.lru_cache(maxsize=32)
def folded_weights(grid: Grid, odd: bool, symmetry: int) -> Float[np.ndarray, "h h"]:
    """π Rᵀ W R: the weights of analysis for functions of one symmetry about the equator, on the northern rows.

    R continues a northern half to all rows. Multiplied by a row of the table and by (north ± south), both in the
    order of `northern_colatitude`, this gives the coefficient; it includes the 2π of the longitude integral.

    Args:
        grid: the grid.
        odd: whether m + s is odd.
        symmetry: +1 for functions even about the equator, −1 for odd ones.
    """
    count = grid.latitudes
    half = (count + 1) // 2
    order = np.argsort(grid.colatitude)
    weights = interpolant_weights(grid, odd)[np.ix_(order, order)]
    extend = np.zeros((count, half))
    extend[np.arange(half), np.arange(half)] = 1.0
    south = np.arange(count // 2)
    extend[count - 1 - south, south] = symmetry
    if count % 2 and symmetry < 0:
        extend[half - 1] = 0.0
    return np.pi * extend.T @ weights @ extend


def check_degree(grid: Grid, max_degree: int | None, *, beyond: bool = False) -> int:
    """The degree to use on a grid: the largest that is exact, or the given one if it is not larger.

    Args:
        grid: the grid.
        max_degree: that is asked for.
        beyond: allows more degrees than the rows determine, see `smooth_analysis`.

    Raises:
        UserError: the degree is negative or larger than what the rows determine.
    """
    if max_degree is None:
        return grid.maximum_degree
    if not 0 <= max_degree <= (max_degree if beyond else grid.maximum_degree):
        raise UserError(
            f"degree {max_degree} is not between 0 and {grid.maximum_degree}, the largest that "
            f"{grid.latitudes} {grid.kind.value} latitudes determine",
            where=f"grid {grid.name}",
            remedy="lower max_degree or take a finer grid",
        )
    return max_degree


#: Orders in one block of tables. Within a block every order has the degrees of the block's first one, so that a block
#: is one batched product, and blocks together leave out most of the zeros at l < m. On CPU, 32 channels: one block of
#: 64 orders in place of two took 1.0 to 1.5 times as long at 64 rows, one of 128 in place of four 1.1 times at 128 rows.
BLOCK_ORDERS = 32


def blocks(max_order: int) -> list[tuple[int, int]]:
    """First and last order (exclusive) of every block."""
    return [(m, min(m + BLOCK_ORDERS, max_order + 1)) for m in range(0, max_order + 1, BLOCK_ORDERS)]


def block_shape(grid: Grid, max_degree: int, begin: int, end: int, kinds: int) -> tuple[int, int, int, int]:
    """(p i, g, t k, h) of a block, see `scalar_block`."""
    return 2 * ((end - begin + 1) // 2), 2, kinds * ((max_degree + 2 - begin) // 2), (grid.latitudes + 1) // 2


def _block(begin: int, end: int, kinds: list[Float[np.ndarray, "m l h"]]) -> Float[np.ndarray, "q g d h"]:
    """Functions of every kind for orders begin … end − 1 and degrees begin … as (p i, g, t k, h)."""
    _, degrees, half = kinds[0].shape
    pairs = (end - begin + 1) // 2
    padding = [(0, 2 * pairs - (end - begin)), (0, degrees % 2), (0, 0)]
    # (i, p, k, parity of l, h)
    split = [np.pad(kind, padding).reshape(pairs, 2, (degrees + 1) // 2, 2, half) for kind in kinds]
    # The first kind has degrees of parity g, the second of parity 1 − g.
    sides = [values if t == 0 else values[:, :, :, ::-1] for t, values in enumerate(split)]
    table = np.stack(sides, 2).transpose(1, 0, 4, 2, 3, 5)  # (p, i, g, t, k, h)
    return table.reshape(2 * pairs, 2, -1, half)


def scalar_block(grid: Grid, max_degree: int, begin: int, end: int) -> Float[np.ndarray, "q g k h"]:
    """Table of scalars for orders m = begin + 2i + p < end (begin even), as (p i, g, k, h): degrees l = begin + 2k + g.

    The sum over degrees of parity g gives S_g(θ) on the northern rows; north = S₀ + S₁, south = (−1)^m (S₀ − S₁).
    """
    return _block(begin, end, [legendre(northern_colatitude(grid), max_degree, np.arange(begin, end))[:, begin:]])


def spin_block(grid: Grid, spin: int, max_degree: int, begin: int, end: int) -> Float[np.ndarray, "q g d h"]:
    """Table of a spin for orders begin … end − 1 (begin even), as (p i, g, t k, h).

    Of kind t = 0 are the half sums (sλ + ₋sλ)/2, of degree l = begin + 2k + g, of kind t = 1 the half differences
    (sλ − ₋sλ)/2, of degree l = begin + 2k + 1 − g: both have the symmetry (−1)^(m+g) about the equator.
    """
    theta, orders = northern_colatitude(grid), np.arange(begin, end)
    plus, minus = (legendre(theta, max_degree, orders, s)[:, begin:] for s in (spin, -spin))
    return _block(begin, end, [(plus + minus) / 2, (plus - minus) / 2])


def symmetry_weights(grid: Grid, odd_spin: bool) -> Float[np.ndarray, "p g h h"]:
    """`folded_weights` for the parity of m and the symmetry g."""
    return np.stack(
        [
            np.stack([folded_weights(grid, (order == 1) != odd_spin, 1 if order == side else -1) for side in (0, 1)])
            for order in (0, 1)
        ]
    )


def analysis_block(table: Float[np.ndarray, "q g d h"], weights: Float[np.ndarray, "p g h h"]) -> np.ndarray:
    """The analysis table Λ·W of a table, in the same layout.

    Args:
        table: (p i, g, t k, h).
        weights: `symmetry_weights`.
    """
    split = table.reshape(2, -1, *table.shape[1:])
    return (split @ weights[:, None]).reshape(table.shape)


# How much of the power at the largest degree counts as what no degree holds. Of changes of sea-level pressure, 2 m temperature
# and 10 m wind (ERA5 at 1°, 42 hours) seen on 64x32, with 0.1 and degree 47 the error below degree 31 is 0.89 to 0.91 of
# that of the quadrature up to degree 31; 1 is better for the two rougher fields, and leaves more of the smooth one.
_UNRESOLVED = 0.1


def smooth_analysis(grid: Grid, max_degree: int, orders: np.ndarray, spin: int = 0) -> Float[np.ndarray, "m l y"]:
    """Analysis up to degrees that the rows do not determine: coefficients of the smoothest field through the points.

    With λ the harmonics of an order at the rows, S_l = (1 + l(l+1))⁻² and N the power of what lies beyond, of each row as
    the inverse of its area, these are S λᵀ (λ S λᵀ + N)⁻¹: of all fields they minimise ∫ |f − Δf|² and the misfit at the
    points together, the smoothing spline of Wahba (1981, doi:10.1137/0902002). The points of an equiangular grid hold
    more than the degrees that its rows determine, since those are N² of 2 N² numbers.

    Args:
        grid: the grid.
        max_degree: largest degree.
        orders: integer orders ≥ 0.
        spin: s, of either sign.

    Returns:
        For every order the matrix that takes Fourier coefficients along the rows, from north to south, to degrees.
    """
    north = northern_colatitude(grid)
    theta = np.concatenate([north, np.pi - north[: grid.latitudes // 2][::-1]])
    area = grid.area_weights  # the same from either pole
    degrees = np.arange(max_degree + 1)
    smoothness = (1.0 + degrees * (degrees + 1.0)) ** -2
    unresolved = _UNRESOLVED * smoothness[-1] * (2 * max_degree + 1) / (4 * np.pi)
    table = legendre(theta, max_degree, orders, spin)
    weighted = smoothness[:, None] * table
    covariance = table.swapaxes(1, 2) @ weighted + unresolved * np.diag(1.0 / area)
    return np.linalg.solve(covariance, weighted.swapaxes(1, 2)).swapaxes(1, 2)


def smooth_kinds(grid: Grid, max_degree: int, orders: np.ndarray, spin: int) -> list[Float[np.ndarray, "m l y"]]:
    """`smooth_analysis` of scalars, or its half sums and half differences of s and −s, rows from north to south."""
    plus = smooth_analysis(grid, max_degree, orders, spin)
    if spin == 0:
        return [plus]
    minus = smooth_analysis(grid, max_degree, orders, -spin)
    return [(plus + minus) / 2, (plus - minus) / 2]


def smooth_block(grid: Grid, spin: int, max_degree: int, begin: int, end: int) -> Float[np.ndarray, "q g d h"]:
    """The analysis table of `smooth_analysis` for orders begin … end − 1, in the layout of `spin_block`."""
    half = (grid.latitudes + 1) // 2
    kinds = []
    for kind in smooth_kinds(grid, max_degree, np.arange(begin, end), spin):
        kind = kind[:, begin:, :half].copy()
        if grid.latitudes % 2:
            kind[..., -1] /= 2  # of the equator north + south is twice the row
        kinds.append(kind)
    return _block(begin, end, kinds)
