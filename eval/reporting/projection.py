"""The Equal Earth projection (Šavrič, Patterson and Jenny 2018, eqs 1–2): keeps areas, as the scores' weights do."""

import dataclasses

import numpy as np
from jaxtyping import Float

_COEFFICIENTS = (1.340264, -0.081106, 0.000893, 0.003796)
_POLE = np.pi / 3


def _height(theta: np.ndarray) -> np.ndarray:
    """y of the parametric latitude θ, where sin θ = (√3/2) sin φ."""
    a1, a2, a3, a4 = _COEFFICIENTS
    return theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))


def _stretch(theta: np.ndarray) -> np.ndarray:
    """x / longitude (radians) on the parallel of parametric latitude θ."""
    a1, a2, a3, a4 = _COEFFICIENTS
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    return 2 * np.sqrt(3) * np.cos(theta) / (3 * slope)


TOP = float(_height(np.array(_POLE)))
RIGHT = float(np.pi * _stretch(np.array(0.0)))


def place(longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of points in degrees, longitude in [-180, 180]."""
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(np.radians(latitude)))
    return np.radians(longitude) * _stretch(theta), _height(theta)


def rim(points: int = 121) -> tuple[np.ndarray, np.ndarray]:
    """The closed outline of the globe."""
    theta = np.linspace(-_POLE, _POLE, points)
    edge, height = np.pi * _stretch(theta), _height(theta)
    return np.concatenate([edge, -edge[::-1], edge[:1]]), np.concatenate([height, height[::-1], height[:1]])


@dataclasses.dataclass(frozen=True)
class Raster:
    """Bilinear interpolation from a latitude–longitude grid to the pixels of an image with Greenwich in the middle.

    Attributes:
        outside: pixels that lie off the globe, (height, width), south first.
    """

    outside: np.ndarray
    _lower: np.ndarray
    _up: np.ndarray
    _left: np.ndarray
    _right: np.ndarray
    _across: np.ndarray

    @classmethod
    def create(cls, latitude: np.ndarray, longitude: np.ndarray, pixels: int) -> "Raster":
        """For cell centres in degrees, ascending, longitudes equally spaced around the globe; `pixels` wide."""
        height = round(pixels * TOP / RIGHT)
        y = TOP * (2 * (np.arange(height) + 0.5) / height - 1)
        x = RIGHT * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
        table = np.linspace(-_POLE, _POLE, 4001)
        theta = np.interp(y, _height(table), table)
        north = np.degrees(np.arcsin(2 / np.sqrt(3) * np.sin(theta)))
        east = np.degrees(x[None, :] / _stretch(theta)[:, None])
        row = np.interp(north, latitude, np.arange(latitude.size))
        lower = np.minimum(row.astype(int), latitude.size - 2)
        column = np.mod((east - longitude[0]) / (360.0 / longitude.size), longitude.size)
        left = column.astype(int) % longitude.size
        across = column - np.floor(column)
        return cls(
            np.abs(east) > 180, lower[:, None], (row - lower)[:, None], left, (left + 1) % longitude.size, across
        )

    def __call__(self, field: Float[np.ndarray, "y x"]) -> np.ndarray:
        """The image, south first, NaN outside the globe."""
        image = 0.0
        for rows, share in ((self._lower, 1 - self._up), (self._lower + 1, self._up)):
            image = image + share * (
                (1 - self._across) * field[rows, self._left] + self._across * field[rows, self._right]
            )
        return np.where(self.outside, np.nan, image)


def project(
    field: Float[np.ndarray, "y x"],
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    *,
    pixels: int,
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """One field as an image; see `Raster`. Also its extent (left, right, bottom, top)."""
    return Raster.create(latitude, longitude, pixels)(field), (-RIGHT, RIGHT, -TOP, TOP)
