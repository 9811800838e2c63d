"""Cyclones on one map: minima of pressure with a closed contour, and whether they have a warm core.

After Zarzycki and Ullrich (2017) and TempestExtremes (Ullrich et al. 2021): a minimum of the pressure at mean sea level counts
where the pressure rises by 2 hPa within 5.5° of the great circle on all sides, and where the 300–500 hPa thickness falls by
58.8 m2 s-2 (6 m) within 6.5° of its maximum near the minimum. Minima within 6° of a deeper one are part of it. On a coarse grid
these distances are at least `FEWEST_STEPS` steps of it.
"""

import dataclasses

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from weather_scnn.sphere.grid import EARTH_RADIUS

KM_PER_DEGREE = np.pi * EARTH_RADIUS / 180 / 1000
#: Least distance of a closed contour in steps of the grid: within one there is no ring of points to close it.
FEWEST_STEPS = 2.0


@dataclasses.dataclass(frozen=True)
class Criteria:
    """What counts as a tropical cyclone; distances in degrees of the great circle.

    Attributes:
        rise: Pa, of the pressure around the minimum.
        within: distance in which it rises.
        fall: m2 s-2, of the thickness around the warm core.
        core_within: distance in which it falls.
        core_offset: of the core from the minimum, at most.
        apart: of two minima, at least.
        wind_within: distance in which the strongest wind counts.
        farthest: latitude beyond which none is looked for.
    """

    rise: float = 200.0
    within: float = 5.5
    fall: float = 58.8
    core_within: float = 6.5
    core_offset: float = 1.0
    apart: float = 6.0
    wind_within: float = 2.0
    farthest: float = 50.0


@dataclasses.dataclass(frozen=True)
class Low:
    """A cyclone at one time.

    Attributes:
        latitude, longitude: degrees, longitude in [0, 360).
        pressure: Pa.
        wind: strongest 10 m wind around, m s-1; NaN where there is none.
    """

    latitude: float
    longitude: float
    pressure: float
    wind: float = float("nan")


def great_circle(
    latitude: np.ndarray | float, longitude: np.ndarray | float, other: np.ndarray | float, far: np.ndarray | float
) -> np.ndarray:
    """Degrees of the great circle between places (latitude, longitude) and (other, far), by the haversine formula.

    Example:
        >>> float(great_circle(0.0, 179.0, 0.0, -179.0).round(6))
        2.0
    """
    first, second = np.radians(latitude), np.radians(other)
    turn = np.radians(np.asarray(far) - longitude)
    half = np.sin((second - first) / 2) ** 2 + np.cos(first) * np.cos(second) * np.sin(turn / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))))


class CycloneFinder:
    """Finds cyclones on maps of one grid.

    Args:
        latitude: degrees, ascending.
        longitude: degrees, ascending, evenly spaced around the globe.
        criteria: what counts.
    """

    def __init__(
        self, latitude: Float[np.ndarray, " y"], longitude: Float[np.ndarray, " x"], criteria: Criteria = Criteria()
    ):
        self.latitude, self.longitude, self.criteria = latitude, longitude, criteria
        self.step = float(max(np.diff(latitude).max(), 360.0 / longitude.size))
        self._within = max(criteria.within, FEWEST_STEPS * self.step)
        self._core_within = max(criteria.core_within, FEWEST_STEPS * self.step)
        self._rows = np.abs(latitude) <= criteria.farthest
        self._rows[[0, -1]] = False

    def find(
        self,
        pressure: Float[np.ndarray, "y x"],
        thickness: Float[np.ndarray, "y x"] | None = None,
        wind: Float[np.ndarray, "y x"] | None = None,
    ) -> list[Low]:
        """Cyclones of one time, the deepest first.

        Args:
            pressure: at mean sea level, Pa.
            thickness: geopotential at 300 hPa less that at 500 hPa, m2 s-2; without it lows with a cold core count too.
            wind: speed at 10 m, m s-1.
        """
        lowest = pressure <= scipy.ndimage.minimum_filter(pressure, size=3, mode=("nearest", "wrap"))
        # Points beside each other that are equally low, as on a flat bottom, are one.
        flat, count = scipy.ndimage.label(lowest & self._rows[:, None], np.ones((3, 3)))
        places = scipy.ndimage.minimum_position(pressure, flat, np.arange(1, count + 1))
        rows, columns = np.array(places, np.int64).reshape(-1, 2).T
        order = np.argsort(pressure[rows, columns], kind="stable")
        found: list[Low] = []
        for row, column in zip(rows[order].tolist(), columns[order].tolist()):
            place = self.latitude[row], self.longitude[column]
            near = [
                great_circle(low.latitude, low.longitude, *place) < max(self.criteria.apart, self.step) for low in found
            ]
            if any(near) or not self._closed(pressure, row, column, self.criteria.rise, self._within):
                continue
            if thickness is not None and not self._warm(thickness, row, column):
                continue
            found.append(self._low(pressure, wind, row, column))
        return found

    def _window(self, row: int, column: int, reach: float) -> tuple[slice, np.ndarray, np.ndarray]:
        """Rows and columns around a point, with one more on each side, and the distances of their points from it."""
        rows = np.flatnonzero(np.abs(self.latitude - self.latitude[row]) <= reach + self.step)
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        narrowest = np.cos(np.radians(np.abs(self.latitude[part]).max()))
        half = self.longitude.size // 2
        across = min(half, int(np.ceil((reach + self.step) / max(narrowest, 1e-3) * self.longitude.size / 360.0)) + 1)
        columns = (column + np.arange(-across, across + (across < half))) % self.longitude.size
        distance = great_circle(
            self.latitude[row], self.longitude[column], self.latitude[part][:, None], self.longitude[columns][None, :]
        )
        return part, columns, distance

    def _closed(self, field: np.ndarray, row: int, column: int, rise: float, within: float) -> bool:
        """Whether all that hangs together with the point and lies less than `rise` above it stays within a distance."""
        rows, columns, distance = self._window(row, column, within)
        low, _ = scipy.ndimage.label(field[rows][:, columns] < field[row, column] + rise, np.ones((3, 3)))
        middle = row - rows.start, int(np.flatnonzero(columns == column)[0])
        return bool(distance[low == low[middle]].max() <= within)

    def _warm(self, thickness: np.ndarray, row: int, column: int) -> bool:
        """Whether the thickness has a closed contour around its maximum near the point."""
        offset = max(self.criteria.core_offset, self.step)
        rows, columns, distance = self._window(row, column, offset)
        part = np.where(distance <= 1.0001 * offset, thickness[rows][:, columns], -np.inf)
        place = np.unravel_index(int(part.argmax()), part.shape)
        core = int(place[0]) + rows.start, int(columns[place[1]])
        return self._closed(-thickness, *core, self.criteria.fall, self._core_within)

    def _low(self, pressure: np.ndarray, wind: np.ndarray | None, row: int, column: int) -> Low:
        """The minimum between the points, by a parabola along each axis: a grid's step is far more than tracks are off."""
        west, east = (column - 1) % self.longitude.size, (column + 1) % self.longitude.size
        here = float(pressure[row, column])
        up, gain = _vertex(float(pressure[row - 1, column]), here, float(pressure[row + 1, column]))
        right, more = _vertex(float(pressure[row, west]), here, float(pressure[row, east]))
        latitude = self.latitude[row] + up * (self.latitude[row + 1] - self.latitude[row - 1]) / 2
        longitude = (self.longitude[column] + right * 360.0 / self.longitude.size) % 360.0
        speed = float("nan")
        if wind is not None:
            reach = max(self.criteria.wind_within, 1.5 * self.step)
            rows, columns, distance = self._window(row, column, reach)
            speed = float(np.where(distance <= reach, wind[rows][:, columns], -np.inf).max())
        return Low(float(latitude), float(longitude), here - gain - more, speed)


def _vertex(before: float, here: float, after: float) -> tuple[float, float]:
    """Where the parabola through three values has its minimum, in steps from the middle one, and how far it lies below."""
    curvature = before - 2 * here + after
    if curvature <= 0:
        return 0.0, 0.0
    offset = 0.5 * (before - after) / curvature  # at most half a step, for the middle one is the least
    return offset, 0.5 * curvature * offset**2
