"""Weights of the regions over which scores are averaged, after WeatherBench 2 (Rasp et al. 2024).

A box slices the global cell-area weights, so that a cell weighs the same in every region that holds it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import latitude_weights
from weather_scnn.sphere.regions import REGIONS, Region, region_of, with_bands

__all__ = ["REGIONS", "Region", "region_of", "region_weights", "with_bands"]


def region_weights(
    names: Sequence[str],
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    *,
    cosine: bool = False,
) -> Float[np.ndarray, "region y x"]:
    """Cell-area weights of each region: the global weights of mean 1, zero outside the region.

    Args:
        names: see `region_of`.
        latitude: degrees, strictly monotonic, of a global grid.
        longitude: degrees.
        cosine: whether to weigh by cos(latitude), as WeatherBench 1 does, in place of cell areas.

    Raises:
        UserError: an unknown name, or a region that holds no cell centre of the grid.
    """
    latitude, longitude = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    rows = latitude_weights(latitude)
    if cosine:
        # Clipped: cos(90°) is 6e-17 in floating point, and a pole row of WeatherBench 1 weighs nothing.
        rows = np.cos(np.radians(latitude)).clip(min=1e-12)
        rows = rows / rows.mean()
    weights = np.broadcast_to(rows[:, None], (latitude.size, longitude.size))
    result = np.zeros((len(names), latitude.size, longitude.size))
    for index, name in enumerate(names):
        region = region_of(name)
        inside = region.contains(latitude, longitude)
        if not inside.any():
            raise UserError(
                f"the region {name} ({region.description}) holds no point of the {longitude.size}x{latitude.size} grid",
                remedy="leave it out of --regions, or score on a finer grid",
            )
        result[index] = np.where(inside, weights, 0.0)
    return result
