"""What an atom sees: the other atoms of its molecule, as functions on a sphere around it.

For each element Z and power p, f(x) = Σ_j [Z_j = Z] Z_i Z_j / r_ij^p exp(−(x·r_ij/|r_ij| − 1)²/s²), with s such that a
neighbour's mark falls to 5 % at the angle θ_c (Esteves, Slotine and Makadia 2023). Sampled on a grid it holds degrees that
the grid folds onto others. Its spectrum has a closed form: by the theorem of Funk and Hecke a zonal function g(x·r) has the
coefficients k_l Y*_lm(r) with k_l = 2π ∫ g(t) P_l(t) dt, so that it can be cut at any degree without error.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from examples.qm9.batches import Batch
from examples.qm9.molecules import LARGEST_MOLECULE
from examples.qm9.targets import ELEMENTS
from weather_scnn.sphere import Grid
from weather_scnn.sphere.products import EXACT


def kernel_width(angle: float) -> float:
    """s² = −(cos θ_c − 1)² / ln 0.05 for an angle θ_c in degrees."""
    return -((math.cos(math.radians(angle)) - 1.0) ** 2) / math.log(0.05)


@functools.lru_cache
def kernel_spectrum(max_degree: int, angle: float) -> Float[np.ndarray, " l"]:
    """k_l = 2π ∫ exp(−(t − 1)²/s²) P_l(t) dt, by Gauss–Legendre quadrature (256 nodes, exact to rounding)."""
    nodes, weights = np.polynomial.legendre.leggauss(256)
    values = weights * np.exp(-((nodes - 1.0) ** 2) / kernel_width(angle))
    return 2 * np.pi * values @ np.polynomial.legendre.legvander(nodes, max_degree)


def harmonics(directions: Float[Array, "*b 3"], max_degree: int) -> Float[Array, "*b l m 2"]:
    """Y*_lm of unit vectors for m ≥ 0, orthonormal with the Condon–Shortley phase: real and imaginary part.

    Y_lm = Q_lm(z) (x + iy)^m with polynomials Q by the usual recursion in l, so that values and derivatives are finite at
    the poles too.
    """
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    zero = jnp.zeros_like(z)
    rows: list[list[Array]] = [[] for _ in range(max_degree + 1)]
    real, imaginary, diagonal = jnp.ones_like(z), zero, math.sqrt(1.0 / (4.0 * math.pi))
    for m in range(max_degree + 1):
        if m:
            real, imaginary = real * x - imaginary * y, real * y + imaginary * x
            diagonal *= -math.sqrt((2 * m + 1) / (2 * m))
        before, value = zero, jnp.full_like(z, diagonal)
        for l in range(m, max_degree + 1):
            if l > m:
                scale = math.sqrt((4 * l * l - 1) / (l * l - m * m))
                back = math.sqrt(((l - 1) ** 2 - m * m) / (4 * (l - 1) ** 2 - 1))
                before, value = value, scale * (z * value - back * before)
            rows[l].append(jnp.stack([value * real, -value * imaginary], axis=-1))
    filled = [jnp.stack(row + [jnp.stack([zero, zero], -1)] * (max_degree + 1 - len(row)), -2) for row in rows]
    return jnp.stack(filled, axis=-3)


def neighbours(batch: Batch, powers: tuple[float, ...]) -> tuple[Float[Array, "a j 3"], Float[Array, "a j c"]]:
    """Directions to all other atoms of a molecule, and what each adds to every channel, (element, power) in this order."""
    slots = jnp.arange(LARGEST_MOLECULE)
    other = jnp.minimum(batch.first[:, None] + slots, len(batch.numbers) - 1)
    there = (slots < batch.size[:, None]) & (other != jnp.arange(len(batch.numbers))[:, None])
    positions, numbers = jnp.asarray(batch.positions), jnp.asarray(batch.numbers)
    difference = jnp.where(there[..., None], positions[other] - positions[:, None], jnp.array([0.0, 0.0, 1.0]))
    distance = jnp.sqrt(jnp.square(difference).sum(-1))
    kinds = (numbers[other][..., None] == jnp.array(ELEMENTS)) & there[..., None]
    charges = (numbers[:, None] * numbers[other]).astype(jnp.float32)
    strength = charges[..., None] * distance[..., None] ** -jnp.array(powers)
    weights = kinds.astype(jnp.float32)[..., :, None] * strength[..., None, :]
    return difference / distance[..., None], weights.reshape(*weights.shape[:2], -1)


def sphere_spectra(
    batch: Batch, max_degree: int, *, powers: tuple[float, ...] = (2.0, 6.0), angle: float = 60.0
) -> Float[Array, "a l m 2 c"]:
    """Spectra of the functions around every atom, exact up to their degree; zero for atoms that fill up.

    Args:
        batch: molecules.
        max_degree: where they are cut.
        powers: of the distance.
        angle: θ_c in degrees.
    """
    directions, weights = neighbours(batch, powers)
    values = (
        harmonics(directions, max_degree) * jnp.asarray(kernel_spectrum(max_degree, angle), jnp.float32)[:, None, None]
    )
    count, slots = values.shape[:2]
    found = jnp.einsum("ajk,ajc->akc", values.reshape(count, slots, -1), weights, precision=EXACT)
    return found.reshape(count, *values.shape[2:], -1)


def sphere_fields(
    batch: Batch, grid: Grid, *, powers: tuple[float, ...] = (2.0, 6.0), angle: float = 60.0
) -> Float[Array, "a y x c"]:
    """The same functions at the points of a grid, as the paper has them (there 32x32)."""
    directions, weights = neighbours(batch, powers)
    theta, phi = grid.colatitude[:, None], np.radians(grid.longitude)
    points = np.stack(np.broadcast_arrays(np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), -1)
    cosines = jnp.einsum("ajd,yxd->ajyx", directions, jnp.asarray(points, jnp.float32), precision=EXACT)
    marks = jnp.exp(-jnp.square(cosines - 1.0) / kernel_width(angle))
    return jnp.einsum("ajyx,ajc->ayxc", marks, weights, precision=EXACT)
