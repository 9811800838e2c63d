"""The window over days of the year, and smooth means and spreads from sums of every day."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.io.climatology import DAY_OF_YEAR, DAYS, MONTH_DAY, day_numbers

# Below any weight of one sample, above the rounding of a difference of sums.
_LEAST_WEIGHT = 1e-6


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


class DaySums:
    """Sums of the maps of some days, about the first map found, so that squares of large means never meet.

    Chan et al. 1983; two float64 arrays (day, *shape), and one of counts, uint16, where values are missing.

    Args:
        days: values 1 to 366 that will be added.
        shape: of a map.
    """

    def __init__(self, days: np.ndarray, shape: tuple[int, ...]):
        self.days, self.shape = np.unique(days), shape
        self._slot = np.full(DAYS + 1, -1)
        self._slot[self.days] = np.arange(self.days.size)
        self._total, self._squares = (np.zeros((self.days.size, *shape)) for _ in range(2))
        self._counts = np.zeros(self.days.size)
        self._missing: np.ndarray | None = None  # most fields have no NaN
        self._shift: np.ndarray | None = None

    def add(self, days: np.ndarray, values: np.ndarray) -> None:
        """Adds maps (n, *shape), NaN where missing, of these days."""
        if self._shift is None:
            self._shift = np.where(np.isfinite(values[0]), values[0], 0.0).astype(np.float64)
        places = self._slot[days]
        np.add.at(self._counts, places, 1.0)
        # Days of one year in one step; an array that names a place twice would count it once.
        runs = [slice(0, len(places))] if np.unique(places).size == len(places) else [
            slice(number, number + 1) for number in range(len(places))
        ]  # fmt: skip
        for run in runs:
            deviation, place = np.asarray(values[run] - self._shift), places[run]
            absent = np.asarray(~np.isfinite(deviation))
            if absent.any():
                self._missing = np.zeros(self._total.shape, np.uint16) if self._missing is None else self._missing
                self._missing[place] += absent
                deviation[absent] = 0.0
            self._total[place] += deviation
            deviation *= deviation
            self._squares[place] += deviation

    def smoothed(self, output_days: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation for some days (1 to 366), each (day, *shape) float32; NaN without data."""
        band = smoothing_matrix(output_days, window)[:, self.days - 1]
        weight = np.empty((output_days.size, *self.shape))
        weight[...] = (band @ self._counts).reshape(-1, *(1 for _ in self.shape))
        if self._missing is not None:
            for share, missing in zip(band.T, self._missing):  # one by one, for a product would copy them as float64
                for row in np.flatnonzero(share):
                    weight[row] -= share[row] * missing
        weight[weight < _LEAST_WEIGHT] = np.nan
        mean, square = (_product(band, sums) for sums in (self._total, self._squares))
        mean /= weight
        square /= weight
        square -= mean**2
        stds = np.sqrt(np.maximum(square, 0.0, out=square), out=square).astype(np.float32)
        return (mean if self._shift is None else mean + self._shift).astype(np.float32), stds


def _product(band: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """band (d, n) times sums (n, …), by runs of columns that are not zero, so that no sums are copied."""
    result = np.zeros((len(band), *sums.shape[1:]))
    used = np.flatnonzero(band.any(axis=0))
    for run in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1) if used.size else []:
        columns = slice(int(run[0]), int(run[-1]) + 1)
        result += np.tensordot(band[:, columns], sums[columns], 1)
    return result


def sums_of_days(
    read: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, ...],
    groups: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    output_days: np.ndarray,
    window: int,
    maps_at_once: int,
) -> list[DaySums]:
    """Sums of every group's days that count for some days of the year; each map is read once, in the order of time.

    Args:
        read: gives maps (time, *shape) of ascending positions on the time axis.
        shape: of a map.
        groups: positions and days of the samples of an hour, from `samples`.
        output_days: values 1 to 366.
        window: odd number of days.
        maps_at_once: maps read together.
    """
    counts = np.asarray(smoothing_matrix(output_days, window).any(axis=0))
    kept = [(index[counts[days - 1]], days[counts[days - 1]]) for index, days in groups]
    sums = [DaySums(days, shape) for _, days in kept]
    index = np.concatenate([index for index, _ in kept])
    days = np.concatenate([days for _, days in kept])
    group = np.repeat(np.arange(len(kept)), [index.size for index, _ in kept])
    order = np.argsort(index, kind="stable")
    for begin in range(0, order.size, maps_at_once):
        part = order[begin : begin + maps_at_once]
        unique, inverse = np.unique(index[part], return_inverse=True)
        maps = read(unique)
        for number in np.unique(group[part]):
            mine = np.asarray(group[part] == number)
            sums[number].add(days[part][mine], maps if mine.all() and unique.size == part.size else maps[inverse[mine]])
    return sums
