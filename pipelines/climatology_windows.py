"""The window over days of the year, and smooth means and spreads from sums of every day."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from weather_scnn.data.climatology import DAY_OF_YEAR, DAYS, MONTH_DAY, day_numbers
from weather_scnn.errors import UserError

# Below any weight of one sample, above the rounding of a difference of sums.
_LEAST_WEIGHT = 1e-6
# Rows of the banded smoothing matrix multiplied at once; a few days more than the window's half wastes least.
_DAYS_PER_PRODUCT = 30


def window_weights(window: int) -> Float[np.ndarray, " window"]:
    """Weights of the days −window//2 … window//2, falling linearly from 1 to 0 at both ends.

    Raises:
        UserError: the window is even, below 1 or longer than a year.
    """
    if window % 2 == 0 or not 1 <= window <= DAYS:
        raise UserError(f"a window of {window} days is not an odd number from 1 to 365", remedy="choose one such as 61")
    half = window // 2
    return 1.0 - np.abs(np.arange(-half, half + 1)) / max(half, 1)


def smoothing_matrix(days: np.ndarray, window: int) -> Float[np.ndarray, "days 366"]:
    """Weight of every day's sums in the climatology of `days` (1 to 366), wrapped at year ends.

    Args:
        days: values 1 to 366.
        window: odd number of days.
    """
    half = window // 2
    matrix = np.zeros((days.size, DAYS))
    for row, day in enumerate(days):
        np.add.at(matrix[row], (day - 1 + np.arange(-half, half + 1)) % DAYS, window_weights(window))
    return matrix


def samples(times: np.ndarray, hour: int, calendar: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the times at this hour, and the day (1 to 366) each counts for.

    By plain day of the year, the last day of a common year counts for day 366 too, as in WeatherBench 2.
    """
    index = np.flatnonzero((times - times.astype("datetime64[D]")) == np.timedelta64(hour, "h"))
    days = day_numbers(times[index], calendar)
    if calendar == DAY_OF_YEAR:
        common = day_numbers(times[index], MONTH_DAY) != days
        last = index[common & (days == DAYS - 1)]
        index, days = np.concatenate([index, last]), np.concatenate([days, np.full(last.size, DAYS)])
    return index, days


def smooth_moments(
    read: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, ...],
    index: np.ndarray,
    days: np.ndarray,
    *,
    output_days: np.ndarray,
    window: int,
    maps_at_once: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation for some days, each (day, *shape) float32.

    Sums are kept about the first map found, so squares of large means never meet (Chan et al. 1983).

    Args:
        read: gives maps (time, *shape) of ascending positions on the time axis.
        shape: of a map.
        index: positions of the samples, from `samples`.
        days: their days.
        output_days: values 1 to 366.
        window: odd number of days.
        maps_at_once: maps read together.
    """
    matrix = smoothing_matrix(output_days, window)
    used = np.flatnonzero(matrix.any(axis=0))
    slot = np.full(DAYS + 1, -1)
    slot[used + 1] = np.arange(used.size)
    wanted = slot[days] >= 0
    index, slots = index[wanted], slot[days[wanted]]
    order = np.argsort(index, kind="stable")
    index, slots = index[order], slots[order]
    total, squares = (np.zeros((used.size, *shape)) for _ in range(2))
    counts = np.bincount(slots, minlength=used.size).astype(np.float64)
    missing: np.ndarray | None = None  # most fields have no NaN, and then need no third array
    shift: np.ndarray | None = None
    for begin in range(0, index.size, maps_at_once):
        unique, inverse = np.unique(index[begin : begin + maps_at_once], return_inverse=True)
        maps = read(unique)
        if shift is None:
            shift = np.where(np.isfinite(maps[0]), maps[0], 0.0).astype(np.float64)
        for position, place in zip(inverse, slots[begin : begin + maps_at_once]):
            deviation = maps[position] - shift
            absent = ~np.isfinite(deviation)
            if absent.any():
                missing = np.zeros_like(total) if missing is None else missing
                missing[place] += absent
                deviation[absent] = 0.0
            total[place] += deviation
            deviation *= deviation
            squares[place] += deviation
    means, stds = (np.empty((output_days.size, *shape), np.float32) for _ in range(2))
    for begin in range(0, output_days.size, _DAYS_PER_PRODUCT):
        rows = slice(begin, begin + _DAYS_PER_PRODUCT)
        band = matrix[rows][:, used]
        near = np.flatnonzero(band.any(axis=0))
        band = band[:, near]
        weight = np.broadcast_to((band @ counts[near]).reshape(-1, *(1 for _ in shape)), (len(band), *shape)).copy()
        if missing is not None:
            weight -= np.tensordot(band, missing[near], 1)
        mean, square = (np.tensordot(band, sums[near], 1) for sums in (total, squares))
        weight[weight < _LEAST_WEIGHT] = np.nan
        mean /= weight
        stds[rows] = np.sqrt(np.maximum(square / weight - mean**2, 0.0))
        means[rows] = mean if shift is None else mean + shift
    return means, stds
