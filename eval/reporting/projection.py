"""Projections of the maps: Equal Earth for the globe, Lambert's azimuthal one for a part of it.

Both keep areas, as the scores' weights do.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from eval.regions import Region

_COEFFICIENTS = (1.340264, -0.081106, 0.000893, 0.003796)
_POLE = np.pi / 3
Extent = tuple[float, float, float, float]


@runtime_checkable
class Projection(Protocol):
    """From places in degrees to the plane and back.

    Attributes:
        extent: left, right, bottom and top of what is shown.
        label: what part of the globe it is, for people; empty of all.
    """

    @property
    def label(self) -> str:
        """What part of the globe it is, for people; empty of all."""

    @property
    def extent(self) -> Extent:
        """Left, right, bottom and top of what is shown."""

    def place(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and y of points in degrees, longitude in [-180, 180]; NaN where a point has no place worth drawing."""

    def unproject(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Longitude and latitude of points of the plane, and which of them show nothing."""

    def outline(self) -> tuple[np.ndarray, np.ndarray]:
        """The closed line around the globe or the part of it that is meant."""


def _height(theta: np.ndarray) -> np.ndarray:
    """y of the parametric latitude θ, where sin θ = (√3/2) sin φ."""
    a1, a2, a3, a4 = _COEFFICIENTS
    return np.asarray(theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2)))


def _stretch(theta: np.ndarray) -> np.ndarray:
    """x / longitude (radians) on the parallel of parametric latitude θ."""
    a1, a2, a3, a4 = _COEFFICIENTS
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    return np.asarray(2 * np.sqrt(3) * np.cos(theta) / (3 * slope))


def _parametric(latitude: np.ndarray | float) -> np.ndarray:
    return np.asarray(np.arcsin(np.sqrt(3) / 2 * np.sin(np.radians(latitude))))


@dataclasses.dataclass(frozen=True)
class EqualEarth:
    """Šavrič, Patterson and Jenny (2018, eqs 1–2) with Greenwich in the middle, whole or a band of latitudes.

    Attributes:
        south, north: edges of the band in degrees.
        label: what part of the globe it is, for people; empty of all.
    """

    south: float = -90.0
    north: float = 90.0
    label: str = ""

    @property
    def extent(self) -> Extent:
        """See `Projection`."""
        bottom, top = (float(_height(_parametric(edge))) for edge in (self.south, self.north))
        widest = 0.0 if self.south <= 0 <= self.north else min(self.south, self.north, key=abs)
        right = float(np.pi * _stretch(_parametric(widest)))
        return -right, right, bottom, top

    def place(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Projection`."""
        theta = _parametric(latitude)
        return np.radians(longitude) * _stretch(theta), _height(theta)

    def unproject(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Projection`."""
        table = np.linspace(-_POLE, _POLE, 4001)
        theta = np.interp(y, _height(table), table)
        latitude = np.degrees(np.arcsin(2 / np.sqrt(3) * np.sin(theta)))
        longitude = np.degrees(x / _stretch(theta))
        return longitude, latitude, np.abs(longitude) > 180

    def outline(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Projection`."""
        theta = np.linspace(_parametric(self.south), _parametric(self.north), 121)
        edge, height = np.pi * _stretch(theta), _height(theta)
        return np.concatenate([edge, -edge[::-1], edge[:1]]), np.concatenate([height, height[::-1], height[:1]])


@dataclasses.dataclass(frozen=True)
class AzimuthalEqualArea:
    """Lambert's azimuthal equal-area projection (Snyder 1987, eqs 24-2 to 24-4 and 20-14, 20-15) of a part of the globe.

    Attributes:
        longitude, latitude: the middle, in degrees; a pole for a cap around it.
        box: (west, east, south, north) of the part in degrees, east greater than west; it is outlined, and what lies
            around it in the same rectangle is shown too.
        label: what part of the globe it is, for people.
    """

    longitude: float
    latitude: float
    box: tuple[float, float, float, float]
    label: str = ""

    @property
    def extent(self) -> Extent:
        """See `Projection`."""
        x, y = self.outline()
        return float(x.min()), float(x.max()), float(y.min()), float(y.max())

    def place(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Projection`."""
        east, north, middle = (np.radians(part) for part in (longitude - self.longitude, latitude, self.latitude))
        cosine = np.sin(middle) * np.sin(north) + np.cos(middle) * np.cos(north) * np.cos(east)
        # The other side of the globe, where the scale runs away.
        factor = np.sqrt(2 / np.where(cosine > -0.7, 1 + cosine, np.nan))
        x = factor * np.cos(north) * np.sin(east)
        return x, factor * (np.cos(middle) * np.sin(north) - np.sin(middle) * np.cos(north) * np.cos(east))

    def unproject(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `Projection`."""
        distance = np.hypot(x, y)
        angle = 2 * np.arcsin(np.minimum(distance / 2, 1.0))
        middle, safe = np.radians(self.latitude), np.where(distance > 0, distance, 1.0)
        sine = np.cos(angle) * np.sin(middle) + y * np.sin(angle) * np.cos(middle) / safe
        latitude = np.degrees(np.arcsin(np.clip(sine, -1, 1)))
        east = np.arctan2(x * np.sin(angle), safe * np.cos(middle) * np.cos(angle) - y * np.sin(middle) * np.sin(angle))
        return self.longitude + np.degrees(east), latitude, distance > 2

    def outline(self) -> tuple[np.ndarray, np.ndarray]:
        """See `Projection`."""
        west, east, south, north = self.box
        if east - west >= 360:
            edge = south if north >= 90 else north
            along = np.linspace(west, west + 360.0, 181)
            return self.place(along, np.full(181, edge))
        along, up = np.linspace(west, east, 61), np.linspace(south, north, 61)
        longitude = np.concatenate([along, np.full(61, east), along[::-1], np.full(61, west)])
        latitude = np.concatenate([np.full(61, south), up, np.full(61, north), up[::-1]])
        return self.place(longitude, latitude)


def projection_of(region: Region | None) -> Projection:
    """How a region is shown: a box or a cap around a pole by itself, a band of latitudes cut from the globe."""
    if region is None or len(region.bands) != 1:
        return EqualEarth()
    south, north = region.bands[0]
    label = f"{region.name.replace('-', ' ').title()} ({region.description})"
    if region.longitudes is not None:
        west, east = region.longitudes
        east = west + np.mod(east - west, 360.0)
        return AzimuthalEqualArea((west + east) / 2, (south + north) / 2, (west, east, south, north), label)
    if (south <= -90) != (north >= 90):
        return AzimuthalEqualArea(0.0, 90.0 if north >= 90 else -90.0, (-180.0, 180.0, south, north), label)
    return EqualEarth(south, north, label)


def picture_height(projection: Projection, width: int) -> int:
    """Pixels of a picture's height, for one this wide."""
    left, right, bottom, top = projection.extent
    return round(width * (top - bottom) / (right - left))


@dataclasses.dataclass(frozen=True)
class Raster:
    """Bilinear interpolation from a latitude–longitude grid to the pixels of a map.

    Attributes:
        outside: pixels that show nothing, (height, width), south first.
    """

    outside: np.ndarray
    _lower: np.ndarray
    _up: np.ndarray
    _left: np.ndarray
    _right: np.ndarray
    _across: np.ndarray

    @classmethod
    def create(cls, projection: Projection, latitude: np.ndarray, longitude: np.ndarray, pixels: int) -> "Raster":
        """For cell centres in degrees, ascending, longitudes equally spaced around the globe; `pixels` wide."""
        height = picture_height(projection, pixels)
        edge_left, edge_right, bottom, top = projection.extent
        x = edge_left + (edge_right - edge_left) * (np.arange(pixels) + 0.5) / pixels
        y = bottom + (top - bottom) * (np.arange(height) + 0.5) / height
        east, north, outside = projection.unproject(x[None, :], y[:, None])
        row = np.interp(north, latitude, np.arange(latitude.size))
        lower = np.minimum(row.astype(int), latitude.size - 2)
        column = np.mod((east - longitude[0]) / (360.0 / longitude.size), longitude.size)
        left = column.astype(int) % longitude.size
        across = column - np.floor(column)
        return cls(outside, lower, row - lower, left, (left + 1) % longitude.size, across)

    def __call__(self, field: Float[np.ndarray, "y x"]) -> np.ndarray:
        """The image, south first, NaN where nothing is shown."""
        image = 0.0
        for rows, share in ((self._lower, 1 - self._up), (self._lower + 1, self._up)):
            image = image + share * (
                (1 - self._across) * field[rows, self._left] + self._across * field[rows, self._right]
            )
        return np.where(self.outside, np.nan, image)
