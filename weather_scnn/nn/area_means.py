"""Means over the area of fields on a grid."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from weather_scnn.nn.features import Table
from weather_scnn.sphere import Grid
from weather_scnn.sphere.products import EXACT


def area_table(grid: Grid) -> Table:
    """Weights of the points of each row in the mean over the sphere, (y,); times the points of a row their sum is 1."""
    return Table(jnp.asarray(grid.quadrature_weights / (2.0 * grid.longitudes), jnp.float32))


def without_means(values: Float[Array, "b y x c"], channels: Sequence[int], area: Table) -> Float[Array, "b y x c"]:
    """The fields, some channels of which have lost their means over the sphere.

    Args:
        values: fields.
        channels: which.
        area: from `area_table`.
    """
    chosen = jnp.array(channels)
    mean = jnp.einsum("byxc,y->bc", values[..., chosen], area.get_value(), precision=EXACT)
    return values.at[..., chosen].add(-mean[:, None, None])
