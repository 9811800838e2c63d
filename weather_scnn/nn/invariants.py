"""Numbers of a spectrum that no rotation changes."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.nn.width import Width
from weather_scnn.sphere.spectrum import Spectrum


def rotation_invariants(spectrum: Spectrum, width: Width) -> Float[Array, "b k"]:
    """Means over the sphere of the scalars, then the mean square of every channel's part of every degree.

    The parts of a channel's degrees add up to the mean of |x|² over the sphere (Parseval); E and B of a field of spin > 0
    count together. Read off the coefficients they are exact, whatever the grid.

    Args:
        spectrum: of features.
        width: how its channels divide.

    Returns:
        c + (max_degree + 1) · channels numbers a sample, for c scalars.
    """
    scalars, channels = width.scalars, width.channels
    total: Array | float = 0.0
    for begin, block in zip(spectrum.first_degrees, spectrum.blocks):
        orders = begin + np.arange(block.shape[1])
        weights = np.where(orders == 0, 1.0, 2.0).astype(block.dtype)[:, None, None, None]
        power = jnp.sum(jnp.square(block) * weights, axis=(1, 2))[: spectrum.max_degree + 1 - begin]
        total = total + jnp.pad(power, ((begin, spectrum.max_degree + 1 - begin - len(power)), (0, 0), (0, 0)))
    power = jnp.moveaxis(jnp.asarray(total), 0, 1) / (4 * math.pi)
    both = jnp.concatenate([power[..., :scalars], power[..., scalars:channels] + power[..., channels:]], axis=-1)
    means = spectrum.blocks[0][0, 0, 0, :, :scalars] / math.sqrt(4 * math.pi)
    return jnp.concatenate([means, both.reshape(len(means), -1)], axis=-1)


def first_degree_vectors(spectrum: Spectrum, channels: int) -> Float[Array, "b 3 c"]:
    """The vectors v with v·x the first-degree part of the first scalar channels at x; they turn with the field.

    x points to latitude and longitude 0, z to the north pole: a_10 = √(4π/3) v_z and a_11 = −√(2π/3) (v_x − i v_y).

    Args:
        spectrum: of features.
        channels: how many of its scalars.
    """
    first = spectrum.array[:, 1, :2, :, :channels]
    north = math.sqrt(3 / (4 * math.pi)) * first[:, 0, 0]
    east = -math.sqrt(3 / (2 * math.pi)) * first[:, 1, 0]
    quarter = math.sqrt(3 / (2 * math.pi)) * first[:, 1, 1]
    return jnp.stack([east, quarter, north], axis=1)
