"""Shares of the area within a great-circle distance of every point of a grid of latitudes and longitudes."""

import functools

import numpy as np
from jaxtyping import Bool, Float

from weather_scnn.sphere.grid import EARTH_RADIUS, latitude_weights

_KM = 1000.0


class Neighbourhood:
    """The area-weighted mean over all cells whose centres lie within a radius.

    All points of a row have the same neighbours but for a turn, so the mean is a sum over rows of circular convolutions.

    Args:
        latitude: degrees, of a global grid.
        longitude: degrees, evenly spaced around the globe.
        radius: km along the great circle. One that reaches no other cell leaves every cell by itself.
    """

    def __init__(self, latitude: Float[np.ndarray, " y"], longitude: Float[np.ndarray, " x"], radius: float):
        self.radius, self.shape = radius, (latitude.size, longitude.size)
        phi, reach = np.radians(latitude), radius * _KM / EARTH_RADIUS
        turn = np.radians(longitude - longitude[0])
        weights = latitude_weights(latitude)
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []  # rows near each, and what each counts by wavenumber
        for row in range(latitude.size):
            near = np.flatnonzero(np.abs(phi - phi[row]) <= reach + 1e-9)
            cosine = np.sin(phi[row]) * np.sin(phi[near])[:, None] + np.cos(phi[row]) * np.cos(phi[near])[
                :, None
            ] * np.cos(turn)
            inside = (np.arccos(np.clip(cosine, -1, 1)) <= reach + 1e-9) * weights[near, None]
            inside[near == row, 0] = weights[row]
            self._rows.append((near, np.fft.rfft(inside, axis=-1)))

    def sums(self, values: Float[np.ndarray, "v p"]) -> Float[np.ndarray, "v p"]:
        """Σw x over every point's neighbours."""
        waves = np.fft.rfft(values.reshape(-1, *self.shape), axis=-1)
        found = np.stack([np.einsum("vjm,jm->vm", waves[:, near], of) for near, of in self._rows], axis=1)
        return np.fft.irfft(found, self.shape[1], axis=-1).reshape(values.shape)

    @functools.cached_property
    def _whole(self) -> np.ndarray:
        return self.sums(np.ones((1, self.shape[0] * self.shape[1])))

    def shares(
        self, values: Float[np.ndarray, "v p"], mask: Bool[np.ndarray, "v p"] | None = None
    ) -> Float[np.ndarray, "v p"]:
        """Mean over every point's neighbours, of those that count; 0 where none does.

        Args:
            values: 0 at points that do not count.
            mask: points that count; all if None.
        """
        area = self._whole if mask is None else self.sums(mask.astype(np.float64))
        return self.sums(values) / np.maximum(area, 1e-9 * self._whole.min())


@functools.lru_cache(maxsize=16)
def neighbourhood_of(latitude: tuple[float, ...], longitude: tuple[float, ...], radius: float) -> Neighbourhood:
    """A neighbourhood, made once.

    Example:
        >>> area = neighbourhood_of((-60.0, 0.0, 60.0), (0.0, 90.0, 180.0, 270.0), 7000.0)
        >>> import numpy as np
        >>> area.shares(np.ones((1, 12))).round(6).tolist()[0][:2]
        [1.0, 1.0]
    """
    return Neighbourhood(np.array(latitude), np.array(longitude), radius)
