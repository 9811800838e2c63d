"""Means over the area of fields on a grid."""

import jax.numpy as jnp

from weather_scnn.nn.features import Table
from weather_scnn.sphere import Grid


def area_table(grid: Grid) -> Table:
    """Weights of the points of each row in the mean over the sphere, (y,); times the points of a row their sum is 1."""
    return Table(jnp.asarray(grid.quadrature_weights / (2.0 * grid.longitudes), jnp.float32))
