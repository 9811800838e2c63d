"""Numbers of pressure levels, hPa: ints where they are whole, so that 500 is nowhere called 500.0."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Level = int | float


def level_number(value: Any) -> Level:
    """The number of a level, from text or any kind of number; 1e-6 hPa is the least difference of two.

    Raises:
        ValueError: it is no number above 0.
    """
    number = round(float(value), 6)
    if not 0 < number < math.inf:
        raise ValueError(f"{value} is no pressure")
    return int(number) if number == int(number) else number


def level_axis(values: Iterable[float] | np.ndarray) -> np.ndarray:
    """Values of a level axis: int64 where all are whole, else float64."""
    levels = np.round(np.asarray([*values], np.float64), 6)
    return levels.astype(np.int64) if np.all(levels == np.round(levels)) else levels
