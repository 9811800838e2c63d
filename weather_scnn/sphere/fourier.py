"""Fourier series along longitude, real input, in the layout that the Legendre products want.

Rows come as `even` = north + south and `odd` = north − south, each (b, h, x, c). Coefficients leave in blocks of
orders, as real and imaginary part (p, i, g, h, b, c) of order m = begin + 2i + p: even orders before odd ones, and g
the symmetry of the rows about the equator, 0 for (−1)^m. Then neither direction has to copy them again before the
product with a table, which takes (p, i, g) as its batch and (b, c) as its columns.

Up to 256 longitudes, if divisible by four, the transform is a product with a cosine and with a sine matrix over a
quarter of the circle: cos and sin of even and of odd orders have the four symmetries about 0 and 90°, so that sums and
differences of four points leave products of a quarter of the size. On CPU (AVX-512, 32 channels) round trips of
transforms, with and without gradient, take 0.6 to 0.7 of their time with FFTs at 64 and 128 longitudes and 0.65 to 0.8
at 256, as operands keep channels last throughout; FFTs want longitudes last, so that fields are copied element by
element before and after. The work of products grows with the square of the longitudes, so above FFTs are used.
Matrix units of accelerators should favour products further, but none was at hand: one rule serves all backends.

The points lie symmetrically about 0 and 90° only when shifted by half their spacing; `phase_origin` says by how much
coefficients have to be turned because of it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.products import product_precision

#: Largest number of longitudes for which products replace FFTs.
LARGEST_PRODUCT = 256


def by_product(longitudes: int) -> bool:
    """Whether the transform is a product with cosine and sine matrices, not an FFT."""
    return longitudes % 4 == 0 and longitudes <= LARGEST_PRODUCT


def unstacked(values: jax.Array, axis: int) -> list[jax.Array]:
    """The slices along an axis. The gradient of indexing is a sum of padded arrays; that of this is one copy."""
    return [jnp.squeeze(part, axis) for part in jax.lax.split(values, [1] * values.shape[axis], axis)]


def phase_origin(grid: Grid) -> float:
    """Radians α, with exp(−imα) times the coefficients of `fourier` those of the grid's longitudes."""
    shift = np.pi / grid.longitudes if by_product(grid.longitudes) else 0.0
    return float(np.radians(grid.first_longitude) - shift)


@functools.lru_cache(maxsize=64)
def _waves(longitudes: int, begin: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """cos mφ and −sin mφ on the first quarter of the shifted longitudes, shape (p, i, x/4), m = begin + 2i + p."""
    order = begin + 2 * np.arange(pairs)[None] + np.arange(2)[:, None]
    angle = (2 * np.arange(longitudes // 4) + 1) * np.pi / longitudes
    turns = order[..., None] * angle
    return np.cos(turns), -np.sin(turns)


def _quarters(field: Float[Array, "b h x c"]) -> tuple[list[jax.Array], list[jax.Array]]:
    """Sums for cosines of even and odd orders, and for sines of even and odd orders, each (x/4, h, b, c)."""
    quarter = field.shape[2] // 4
    first, second, third, fourth = jax.lax.split(field.transpose(2, 1, 0, 3), [quarter] * 4, 0)
    second, fourth = second[::-1], fourth[::-1]
    # At φ, −φ, π − φ and π + φ: cosines of even orders are equal, and so on.
    same, other = first + fourth, second + third
    opposite, across = first - fourth, third - second
    return [same + other, same - other], [opposite + across, opposite - across]


def fourier(
    even: Float[Array, "b h x c"], odd: Float[Array, "b h x c"], blocks: list[tuple[int, int]], precision: str
) -> list[tuple[Float[Array, "p _i g h b c"], Float[Array, "p _i g h b c"]]]:
    """(1/x) Σ_x f exp(−imφ_x) of every block: real and imaginary part.

    Args:
        even: north + south.
        odd: north − south.
        blocks: first order and number of pairs of orders of each; orders from the Nyquist order on come out as
            whatever their waves alias to and must meet zeros in the tables.
        precision: of products, see `weather_scnn.sphere.products`.
    """
    longitudes = even.shape[2]
    if not by_product(longitudes):
        return _fourier_by_fft(even, odd, blocks)
    parts = [_quarters(even), _quarters(odd)]
    # Odd orders have the odd rows first: g = 0 is the symmetry (−1)^m.
    data = [
        jnp.stack([jnp.stack([parts[s][r][p] for s in ((0, 1), (1, 0))[p]], 1) for p in (0, 1)]) for r in (0, 1)
    ]  # each (p, x/4, g, h, b, c)
    found = []
    for begin, pairs in blocks:
        waves = _waves(longitudes, begin, pairs)
        products = [
            jnp.matmul(
                jnp.asarray(waves[r] / longitudes, even.dtype),
                data[r].reshape(2, longitudes // 4, -1),
                precision=product_precision(precision, even.dtype),
            ).reshape(2, pairs, *data[r].shape[2:])
            for r in (0, 1)
        ]
        found.append((products[0], products[1]))
    return found


def inverse_fourier(
    parts: list[tuple[Float[Array, "p _i g h b c"], Float[Array, "p _i g h b c"]]],
    blocks: list[tuple[int, int]],
    longitudes: int,
    precision: str,
) -> tuple[Float[Array, "b _h x c"], Float[Array, "b _h x c"]]:
    """Re Σ_m (2 − δ_m0) F_m exp(imφ_x) of rows, as their parts even and odd about the equator.

    Args:
        parts: real and imaginary part of F of every block.
        blocks: as in `fourier`.
        longitudes: how many.
        precision: of products.
    """
    if not by_product(longitudes):
        return _inverse_fourier_by_fft(parts, blocks, longitudes)
    shape = parts[0][0].shape[2:]
    cosines: list[jax.Array] = []
    sines: list[jax.Array] = []
    for r, into in ((0, cosines), (1, sines)):
        coefficients = [part[r].reshape(2, part[r].shape[1], -1) for part in parts]
        joined = coefficients[0] if len(parts) == 1 else jnp.concatenate(coefficients, 1)
        matrices = []
        for begin, pairs in blocks:
            order = begin + 2 * np.arange(pairs)[None] + np.arange(2)[:, None]
            factor = np.where(order == 0, 1.0, 2.0) * (order <= (longitudes - 1) // 2)
            matrices.append(_waves(longitudes, begin, pairs)[r] * factor[..., None])
        matrix = jnp.asarray(np.concatenate(matrices, 1).swapaxes(1, 2), joined.dtype)
        product = jnp.matmul(matrix, joined, precision=product_precision(precision, joined.dtype))
        product = product.reshape(2, longitudes // 4, *shape)
        into.extend(unstacked(product, 0))  # even and odd orders, each (x/4, g, h, b, c)
    (even_cosines, odd_cosines), (even_sines, odd_sines) = ([unstacked(x, 1) for x in y] for y in (cosines, sines))
    result = []
    for side in (0, 1):
        same, opposite = even_cosines[side], even_sines[side]
        other, across = odd_cosines[1 - side], odd_sines[1 - side]
        quarters = [
            same + other + (opposite + across),
            (same - other - (opposite - across))[::-1],
            same - other + (opposite - across),
            (same + other - (opposite + across))[::-1],
        ]
        result.append(jnp.concatenate(quarters).transpose(2, 1, 0, 3))
    return result[0], result[1]


def _fourier_by_fft(
    even: jax.Array, odd: jax.Array, blocks: list[tuple[int, int]]
) -> list[tuple[jax.Array, jax.Array]]:
    rows = jnp.stack([even.transpose(1, 0, 3, 2), odd.transpose(1, 0, 3, 2)])  # (s, h, b, c, x)
    modes = jnp.fft.rfft(rows, axis=-1, norm="forward")
    total = sum(2 * pairs for _, pairs in blocks)
    modes = _resized(modes, total)
    found = []
    for (_, pairs), part in zip(blocks, jax.lax.split(modes, [2 * pairs for _, pairs in blocks], modes.ndim - 1)):
        part = part.reshape(*part.shape[:-1], pairs, 2).transpose(5, 4, 0, 1, 2, 3)  # (p, i, s, h, b, c)
        found.append((_swapped_odd_orders(part.real), _swapped_odd_orders(part.imag)))
    return found


def _inverse_fourier_by_fft(
    parts: list[tuple[jax.Array, jax.Array]], blocks: list[tuple[int, int]], longitudes: int
) -> tuple[jax.Array, jax.Array]:
    joined = []
    for (_, pairs), (real, imaginary) in zip(blocks, parts):
        modes = jax.lax.complex(_swapped_odd_orders(real), _swapped_odd_orders(imaginary))
        modes = modes.transpose(2, 3, 4, 5, 1, 0)  # (s, h, b, c, i, p)
        joined.append(modes.reshape(*modes.shape[:4], 2 * pairs))
    modes = _resized(jnp.concatenate(joined, -1), (longitudes + 1) // 2)
    rows = jnp.fft.irfft(modes, n=longitudes, axis=-1, norm="forward").transpose(0, 2, 1, 4, 3)
    even, odd = unstacked(rows, 0)
    return even, odd


def _resized(modes: jax.Array, orders: int) -> jax.Array:
    """The first orders of the last axis, with zeros after the last if there are more."""
    missing = orders - modes.shape[-1]
    if missing > 0:
        return jnp.pad(modes, [(0, 0)] * (modes.ndim - 1) + [(0, missing)])
    return modes[..., :orders]


def _swapped_odd_orders(values: Float[Array, "p i s h b c"]) -> Float[Array, "p i s h b c"]:
    """Exchanges the two symmetries of odd orders."""
    even, odd = unstacked(values, 0)
    return jnp.stack([even, jnp.flip(odd, 1)])
