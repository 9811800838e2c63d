"""Grids of latitude and longitude: the single source of truth for coordinates, areas and quadrature.

Everything here is NumPy float64, so that jobs which only move data need no JAX.
"""

import dataclasses
import enum
import functools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num

from weather_scnn.errors import UserError

#: Metres, as in IFS and WeatherBench.
EARTH_RADIUS = 6_371_220.0
# Coordinates in files are often float32 (0.25° steps are exact, 5.625° too, Gaussian latitudes are not).
_COORDINATE_TOLERANCE_DEGREES = 2e-4


class GridKind(enum.Enum):
    """How the latitudes of a grid are laid out."""

    EQUIANGULAR = "equiangular"
    EQUIANGULAR_WITH_POLES = "equiangular_with_poles"
    GAUSSIAN = "gaussian"


@functools.lru_cache(maxsize=64)
def _gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes in degrees, ascending, and weights of Gauss–Legendre quadrature, by Newton in extended precision.

    Eigenvalue methods leave relative errors of 1e-12 in the weights at 64 rows and 3e-9 at 721, which then limit
    the transforms; these are right to rounding in float64.
    """
    index = np.arange(1, count + 1).astype(np.longdouble)
    pi = 4 * np.arctan(np.longdouble(1))
    # Tricomi's asymptotic form, right to 1e-3 or better, so that three or four steps are enough.
    start = (1 - (count - 1) / (8 * np.longdouble(count) ** 3)) * np.cos(pi * (index - 0.25) / (count + 0.5))
    nodes = start
    for _ in range(8):
        below, value = np.ones_like(nodes), nodes
        for degree in range(2, count + 1):
            below, value = value, ((2 * degree - 1) * nodes * value - (degree - 1) * below) / degree
        slope = count * (nodes * value - below) / (nodes * nodes - 1)
        step = value / slope
        nodes = nodes - step
        if np.abs(step).max() < 1e-17:
            break
    weights = 2 / ((1 - nodes * nodes) * slope * slope)
    latitudes = np.degrees(np.arcsin(nodes))  # before rounding, which would cost digits near the poles
    return latitudes[::-1].astype(np.float64), weights[::-1].astype(np.float64)


@functools.lru_cache(maxsize=64)
def _latitudes(kind: GridKind, count: int) -> np.ndarray:
    if kind is GridKind.EQUIANGULAR:
        spacing = 180.0 / count
        values = -90.0 + spacing * (np.arange(count) + 0.5)
    elif kind is GridKind.EQUIANGULAR_WITH_POLES:
        values = np.linspace(-90.0, 90.0, count)
    else:
        values = _gauss_legendre(count)[0]
    values = (values - values[::-1]) / 2  # exact equator symmetry
    values.flags.writeable = False
    return values


def cell_bounds(latitude: Float[np.ndarray, " y"]) -> Float[np.ndarray, " y+1"]:
    """Bounds of latitude cells in degrees: ±90 at the ends, midpoints between (Rasp et al. 2024).

    Args:
        latitude: degrees, strictly monotonic in either order.
    """
    latitude = np.asarray(latitude, np.float64)
    ends = (-90.0, 90.0) if latitude[0] < latitude[-1] else (90.0, -90.0)
    return np.concatenate([ends[:1], (latitude[:-1] + latitude[1:]) / 2, ends[1:]])


def latitude_weights(latitude: Num[np.ndarray, " y"] | Sequence[float]) -> Float[np.ndarray, " y"]:
    """Cell-area weights w = sin(upper) − sin(lower), divided by their mean (WeatherBench 2, Rasp et al. 2024).

    Pole rows get a small positive weight; cos(latitude) would give them zero.

    Args:
        latitude: degrees, strictly monotonic in either order.

    Raises:
        UserError: latitudes outside [-90, 90] or not monotonic, which would give negative weights.
    """
    latitude = np.asarray(latitude, np.float64)
    steps = np.diff(latitude)
    if latitude.ndim != 1 or latitude.size < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise UserError("latitudes are not strictly monotonic", remedy="sort them and drop repeated ones")
    if np.abs(latitude).max() > 90 + 1e-9:
        raise UserError(
            f"latitudes reach {latitude[np.abs(latitude).argmax()]:g}, outside [-90, 90]",
            remedy="give latitudes in degrees",
        )
    weights = np.abs(np.diff(np.sin(np.radians(cell_bounds(latitude)))))
    return weights / weights.mean()


@dataclasses.dataclass(frozen=True)
class Grid:
    """A latitude × longitude grid; latitudes ascend from south to north unless `north_first`.

    Fields on it have shape (…, latitude, longitude), written y, x in signatures.

    Attributes:
        kind: layout of the latitudes.
        longitudes: number of longitudes, equally spaced from `first_longitude`.
        latitudes: number of latitudes.
        first_longitude: degrees in [0, 360).
        north_first: whether row 0 is the northernmost. Data inside this package is south first; other orders
            are served for people who use the transforms alone.
    """

    kind: GridKind
    longitudes: int
    latitudes: int
    first_longitude: float = 0.0
    north_first: bool = False

    def __post_init__(self) -> None:
        if self.latitudes < 2 or self.longitudes < 2:
            raise UserError(
                f"a grid of {self.longitudes}x{self.latitudes} has too few points",
                remedy="give at least 2 longitudes and 2 latitudes, as in 64x32",
            )

    @classmethod
    def equiangular(cls, longitudes: int, latitudes: int, *, poles: bool = False) -> "Grid":
        """Equally spaced latitudes: offset by half a cell from the poles, or with a row on each pole."""
        kind = GridKind.EQUIANGULAR_WITH_POLES if poles else GridKind.EQUIANGULAR
        return cls(kind, longitudes, latitudes)

    @classmethod
    def gaussian(cls, longitudes: int, latitudes: int) -> "Grid":
        """Latitudes whose sines are the Gauss–Legendre nodes."""
        return cls(GridKind.GAUSSIAN, longitudes, latitudes)

    @classmethod
    def from_name(cls, name: str, *, poles: bool = False, gaussian: bool = False) -> "Grid":
        """A grid named LONxLAT, or as WeatherBench 2 names its stores.

        The kind may stand in the name, as in 64x32_equiangular_conservative or
        240x121_equiangular_with_poles_conservative; what follows the kind says how the data were made, not where.

        Args:
            name: the name.
            poles: rows on the poles, where the name does not tell the kind.
            gaussian: Gaussian latitudes, where the name does not tell.

        Raises:
            UserError: the name does not read as LONxLAT, or contradicts the other arguments.
        """
        match = re.fullmatch(
            r"\s*(\d+)\s*[x×X]\s*(\d+)(?:_(equiangular(?:_with_poles)?|gaussian)(?:_[a-z_]*)?)?\s*", name
        )
        if match is None:
            raise UserError(
                f"the grid {name!r} does not read as LONxLAT",
                remedy="write longitudes x latitudes, as in 64x32",
            )
        longitudes, latitudes = int(match[1]), int(match[2])
        if match[3] is not None:
            kind = GridKind(match[3])
            if (poles and kind is not GridKind.EQUIANGULAR_WITH_POLES) or (gaussian and kind is not GridKind.GAUSSIAN):
                raise UserError(
                    f"the grid {name!r} is {kind.value}, but another kind was asked for",
                    remedy="leave out the kind in one of both places",
                )
            return cls(kind, longitudes, latitudes)
        if gaussian:
            return cls.gaussian(longitudes, latitudes)
        return cls.equiangular(longitudes, latitudes, poles=poles)

    @classmethod
    def from_coordinates(cls, longitude: np.ndarray, latitude: np.ndarray) -> "Grid":
        """The grid that has these coordinates in degrees.

        Raises:
            UserError: longitudes are not equally spaced around the globe, or latitudes are of none of the kinds.
        """
        longitude, latitude = np.asarray(longitude, np.float64), np.asarray(latitude, np.float64)
        count = longitude.size
        if count < 2 or latitude.size < 2:
            raise UserError("the grid has a single row or column", remedy="give a global field")
        expected = longitude[0] + 360.0 / count * np.arange(count)
        if np.abs(longitude - expected).max() > _COORDINATE_TOLERANCE_DEGREES * max(1.0, 360.0 / count):
            raise UserError(
                f"longitudes {longitude[0]:g} … {longitude[-1]:g} ({count}) are not equally spaced around the globe",
                remedy="regrid with `weather-scnn regrid`, or give a global field",
            )
        north_first = bool(latitude[0] > latitude[-1])
        ascending = latitude[::-1] if north_first else latitude
        for kind in GridKind:
            if np.abs(ascending - _latitudes(kind, latitude.size)).max() < _COORDINATE_TOLERANCE_DEGREES:
                return cls(kind, count, latitude.size, float(longitude[0] % 360.0), north_first)
        raise UserError(
            f"latitudes {latitude[0]:g} … {latitude[-1]:g} ({latitude.size}) are neither equiangular "
            "(with or without poles) nor Gaussian",
            remedy="regrid with `weather-scnn regrid`",
        )

    @property
    def name(self) -> str:
        """LONxLAT, for example 64x32."""
        return f"{self.longitudes}x{self.latitudes}"

    @property
    def weatherbench_name(self) -> str:
        """LONxLAT and the kind as in the names of WeatherBench 2's stores, for example 64x32_equiangular."""
        return f"{self.name}_{self.kind.value}"

    @property
    def shape(self) -> tuple[int, int]:
        """(latitudes, longitudes)."""
        return self.latitudes, self.longitudes

    @property
    def has_poles(self) -> bool:
        """Whether the first and last rows lie on the poles."""
        return self.kind is GridKind.EQUIANGULAR_WITH_POLES

    @property
    def latitude(self) -> Float[np.ndarray, " y"]:
        """Degrees north of every row, in row order."""
        values = _latitudes(self.kind, self.latitudes)
        return values[::-1] if self.north_first else values

    @property
    def longitude(self) -> Float[np.ndarray, " x"]:
        """Degrees east of every column."""
        return self.first_longitude + 360.0 / self.longitudes * np.arange(self.longitudes)

    @property
    def colatitude(self) -> Float[np.ndarray, " y"]:
        """θ in radians, 0 at the north pole, in row order."""
        return np.radians(90.0 - self.latitude)

    @property
    def area_weights(self) -> Float[np.ndarray, " y"]:
        """Cell-area weights of mean 1; see `latitude_weights`."""
        return latitude_weights(self.latitude)

    @property
    def maximum_degree(self) -> int:
        """Largest degree l that analysis recovers exactly from the rows: N − 1, or N − 2 with pole rows."""
        return self.latitudes - (2 if self.has_poles else 1)

    @property
    def maximum_order(self) -> int:
        """Largest order m below the Nyquist order of the longitudes."""
        return (self.longitudes - 1) // 2

    @property
    def quadrature_weights(self) -> Float[np.ndarray, " y"]:
        """Weights w with Σ_y w_y f(θ_y) = ∫ f sin θ dθ, of sum 2, in row order.

        Gaussian: exact for polynomials in cos θ of degree ≤ 2N − 1. Equiangular: Clenshaw–Curtis with pole rows and
        Fejér's first rule without (Waldvogel 2006), exact for degree ≤ N − 1. Analysis does not need them: its
        tables integrate the latitude interpolant exactly.
        """
        count = self.latitudes
        if self.kind is GridKind.GAUSSIAN:
            return _gauss_legendre(count)[1]
        theta = np.radians(90.0 - _latitudes(self.kind, count))
        # ∫ cos(kθ) sin θ dθ over [0, π] is 2/(1 − k²) for even k and 0 for odd k.
        if self.has_poles:
            segments = count - 1
            k = np.arange(0, segments + 1, 2)
            moments = 2.0 / (1.0 - k**2.0)
            factor = np.where((k == 0) | (k == segments), 0.5, 1.0)
            weights = 2.0 / segments * (np.cos(np.outer(theta, k)) @ (factor * moments))
            weights[[0, -1]] *= 0.5
        else:
            k = np.arange(0, count, 2)
            moments = 2.0 / (1.0 - k**2.0)
            factor = np.where(k == 0, 0.5, 1.0)
            weights = 2.0 / count * (np.cos(np.outer(theta, k)) @ (factor * moments))
        return weights
