"""From fields on a grid to stations: in space, and from the model's ground to the station's.

Shapes: y latitudes, x longitudes, p points of the map (y · x), s stations.
"""

import numpy as np
import scipy.sparse
from jaxtyping import Float

BILINEAR, NEAREST = "bilinear", "nearest"
METHODS = (BILINEAR, NEAREST)
#: K m-1: of the ICAO standard atmosphere (ISO 2533), and in use for 2 m temperature at many services.
LAPSE_RATE = 0.0065
#: What is brought from the height of the model's ground to that of the station.
CORRECTED = (
    "2m_temperature",
    "maximum_2m_temperature_since_previous_post_processing",
    "minimum_2m_temperature_since_previous_post_processing",
)
# A step of the grid that is longer than this many usual ones is a gap, as around the edge of a region.
_GAP = 1.5


def _rows(latitude: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each place the row below, the share of the row above, and whether it is on the grid."""
    if latitude.size == 1:
        return np.zeros(wanted.size, np.int64), np.zeros(wanted.size), np.isclose(wanted, latitude[0])
    below = np.clip(np.searchsorted(latitude, wanted, side="right") - 1, 0, latitude.size - 2)
    share = (wanted - latitude[below]) / (latitude[below + 1] - latitude[below])
    step = np.diff(latitude).max()
    # Beyond the last row of a global grid without poles the row itself is the nearest there is.
    inside = (wanted >= (latitude[0] if latitude[0] > -90 + step else -90)) & (
        wanted <= (latitude[-1] if latitude[-1] < 90 - step else 90)
    )
    return below, np.clip(share, 0.0, 1.0), inside


def _columns(longitude: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same around a circle of ascending longitudes in [0, 360)."""
    if longitude.size == 1:
        return np.zeros(wanted.size, np.int64), np.zeros(wanted.size), np.isclose(wanted, longitude[0])
    steps = np.diff(np.concatenate([longitude, longitude[:1] + 360.0]))
    west = (np.searchsorted(longitude, wanted, side="right") - 1) % longitude.size
    offset = np.mod(wanted - longitude[west], 360.0)
    inside = (steps[west] <= _GAP * np.median(steps)) | np.isclose(offset, 0)
    return west, offset / steps[west], inside


def point_weights(
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    at_latitude: Float[np.ndarray, " s"],
    at_longitude: Float[np.ndarray, " s"],
    method: str = BILINEAR,
) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Weights (s, p) of a map's points, and which stations are on the grid, (s,).

    Args:
        latitude: degrees, ascending; beyond the last row of a global grid that row counts.
        longitude: degrees, ascending in [0, 360), around the globe or over a part of it.
        at_latitude: of the stations, degrees.
        at_longitude: of the stations, degrees, any turn.
        method: `bilinear`, linear in latitude and longitude; or `nearest`, the nearest row and column.

    Example:
        >>> lat, lon = np.array([-45.0, 45.0]), np.array([0.0, 90.0, 180.0, 270.0])
        >>> weights, inside = point_weights(lat, lon, np.array([0.0]), np.array([-45.0]))
        >>> weights @ np.arange(8.0), inside  # between columns 3 and 0, rows 0 and 1
        (array([3.5]), array([ True]))
    """
    row, north, row_inside = _rows(latitude, at_latitude)
    column, east, column_inside = _columns(longitude, np.mod(at_longitude, 360.0))
    if method == NEAREST:
        north, east = np.round(north), np.round(east)
    above, right = np.minimum(row + 1, latitude.size - 1), (column + 1) % longitude.size
    places = np.stack(
        [
            row * longitude.size + column,
            row * longitude.size + right,
            above * longitude.size + column,
            above * longitude.size + right,
        ]
    )
    shares = np.stack([(1 - north) * (1 - east), (1 - north) * east, north * (1 - east), north * east])
    stations = np.broadcast_to(np.arange(at_latitude.size), places.shape)
    used = shares > 0  # a missing value next to one that counts fully does no harm
    weights = scipy.sparse.csr_array(
        (shares[used].astype(np.float32), (stations[used], places[used])),
        shape=(at_latitude.size, latitude.size * longitude.size),
    )
    return weights, row_inside & column_inside


def at_points(weights: scipy.sparse.csr_array, maps: Float[np.ndarray, "*b p"]) -> Float[np.ndarray, "*b s"]:
    """Maps at the stations; NaN where a point that counts is."""
    flat = np.ascontiguousarray(maps.reshape(-1, maps.shape[-1]).T, np.float32)
    return np.ascontiguousarray((weights @ flat).T).reshape(*maps.shape[:-1], weights.shape[0])
