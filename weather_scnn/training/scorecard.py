"""What a validation tells: RMSE a lead and channel, beside that of persistence."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# What forecasters look at first; the rest stands in validation.csv.
_HEADLINES = (
    "geopotential at 500 hPa",
    "temperature at 850 hPa",
    "2m_temperature",
    "wind at 850 hPa",
    "10m_wind",
    "mean_sea_level_pressure",
    "surface_pressure",
)


class Scorecard(NamedTuple):
    """RMSE of forecasts, and of persistence from the same initial times.

    Attributes:
        loss: as the training's, on rollouts of the same length.
        names: of the channels; a wind is scored as a vector.
        days: lead times.
        rmse, persistence: in the fields' units, (leads, c + d); the root is taken last.
    """

    loss: float
    names: tuple[str, ...]
    days: tuple[float, ...]
    rmse: Float[np.ndarray, "lead channel"]
    persistence: Float[np.ndarray, "lead channel"]


def headline_order(names: tuple[str, ...]) -> list[int]:
    """Positions of the channels, those that forecasters look at first in front."""
    rank = {name: index for index, name in enumerate(_HEADLINES)}
    return sorted(range(len(names)), key=lambda index: (rank.get(names[index], len(rank)), index))
