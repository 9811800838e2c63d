"""Weights that carry fields from one latitude × longitude grid to another.

Both coordinates are rectilinear, so every method is two small matrices, one a coordinate, built once in NumPy float64
(weatherbench2 PR#279: tables built in float32 under jit gave NaN for an identity regrid).
Shapes: y, x source latitudes and longitudes; Y, X target ones.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid, cell_bounds

METHODS = ("conservative", "bilinear", "nearest")

# Coordinates stored as float32 differ from the exact ones by up to 1.5e-5°; cells that agree so well are the same cells.
_SNAP_DEGREES = 2e-5


@dataclasses.dataclass(frozen=True)
class Weights:
    """Two matrices that regrid a field; rows sum to 1.

    Attributes:
        method: one of METHODS.
        latitude: shape (Y, y), or (Y, y + 2) where `adds_poles`.
        longitude: shape (X, x).
        source: degrees of the source's rows (those added included) and columns, shapes (y,) and (x,).
        target: degrees of the target's, shapes (Y,) and (X,).
        adds_poles: whether a row at each pole, the mean of the nearest row, is put around the source first; bilinear
            interpolation beyond the last row of a grid without poles needs it.
    """

    method: str
    latitude: Float[np.ndarray, "Y y"]
    longitude: Float[np.ndarray, "X x"]
    source: tuple[np.ndarray, np.ndarray]
    target: tuple[np.ndarray, np.ndarray]
    adds_poles: bool = False


def _snap(values: np.ndarray, onto: np.ndarray) -> np.ndarray:
    nearest = onto[np.abs(values[:, None] - onto[None, :]).argmin(axis=1)]
    return np.where(np.abs(values - nearest) < _SNAP_DEGREES, nearest, values)


def _normalised(overlaps: np.ndarray) -> np.ndarray:
    """Rows divided by their sum; overlaps that are rounding (1e-12 of the row) are dropped, so identity is exact."""
    total = overlaps.sum(axis=1, keepdims=True)
    overlaps = np.where(overlaps > 1e-12 * total, overlaps, 0.0)
    return overlaps / overlaps.sum(axis=1, keepdims=True)


def conservative_latitude(source: Float[np.ndarray, " y"], target: Float[np.ndarray, " Y"]) -> Float[np.ndarray, "Y y"]:
    """Overlaps of cells in sin(latitude), that is in area, over the target cell's; degrees ascending."""
    target_bounds = cell_bounds(target)
    source_bounds = np.sin(np.radians(_snap(cell_bounds(source), target_bounds)))
    target_bounds = np.sin(np.radians(target_bounds))
    upper = np.minimum(target_bounds[1:, None], source_bounds[None, 1:])
    lower = np.maximum(target_bounds[:-1, None], source_bounds[None, :-1])
    return _normalised(np.maximum(upper - lower, 0.0))


def _longitude_bounds(longitude: np.ndarray) -> np.ndarray:
    """Midpoints of a periodic ascending coordinate, shape (x + 1,); the last is the first + 360."""
    before = np.concatenate([longitude[-1:] - 360.0, longitude])
    after = np.concatenate([longitude, longitude[:1] + 360.0])
    return (before + after) / 2


def conservative_longitude(
    source: Float[np.ndarray, " x"], target: Float[np.ndarray, " X"]
) -> Float[np.ndarray, "X x"]:
    """Overlaps of periodic cells in longitude over the target cell's; degrees ascending in [0, 360)."""
    target_bounds, source_bounds = _longitude_bounds(target), _longitude_bounds(source)
    overlaps = np.zeros((target.size, source.size))
    for turn in (-360.0, 0.0, 360.0):
        moved = _snap(source_bounds + turn, target_bounds)
        upper = np.minimum(target_bounds[1:, None], moved[None, 1:])
        lower = np.maximum(target_bounds[:-1, None], moved[None, :-1])
        overlaps += np.maximum(upper - lower, 0.0)
    return _normalised(overlaps)


def _linear(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Piecewise linear interpolation on ascending points that enclose the target's."""
    right = np.clip(np.searchsorted(source, target, side="right"), 1, source.size - 1)
    left = right - 1
    share = np.clip((target - source[left]) / (source[right] - source[left]), 0.0, 1.0)
    matrix = np.zeros((target.size, source.size))
    rows = np.arange(target.size)
    matrix[rows, left] += 1.0 - share
    matrix[rows, right] += share
    return matrix


def _periodic(source: np.ndarray, target: np.ndarray, weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    """Applies `weigh` to longitudes extended by a point each way, and folds the extra columns back."""
    extended = np.concatenate([source[-1:] - 360.0, source, source[:1] + 360.0])
    # A target east of the last source point lies before the first copy; none lies west of the extension.
    matrix = weigh(extended, target)
    folded = matrix[:, 1:-1].copy()
    folded[:, -1] += matrix[:, 0]
    folded[:, 0] += matrix[:, -1]
    return folded


def _nearest(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    matrix = np.zeros((target.size, source.size))
    matrix[np.arange(target.size), np.abs(target[:, None] - source[None, :]).argmin(axis=1)] = 1.0
    return matrix


def make_weights(
    latitude: Float[np.ndarray, " y"], longitude: Float[np.ndarray, " x"], grid: Grid, method: str = "conservative"
) -> Weights:
    """Weights from a global source to `grid`.

    Args:
        latitude: degrees, ascending, any spacing: equiangular with or without poles, Gaussian.
        longitude: degrees, ascending in [0, 360), around the globe.
        grid: target.
        method: "conservative", first order: the mean over the target cell; conserves the area mean and smooths no
            more than the cells do (Jones 1999, eq. 3, which on rectilinear grids is separable). "bilinear": linear in
            latitude and in periodic longitude; beyond the last row towards a pole that the source lacks, towards the
            mean of that row. "nearest": nearest latitude and nearest longitude.

    Raises:
        UserError: an unknown method, or coordinates out of order.
    """
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}", remedy=f"choose from {', '.join(METHODS)}")
    latitude, longitude = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    if np.any(np.diff(latitude) <= 0) or np.any(np.diff(longitude) <= 0):
        raise UserError("coordinates do not ascend", remedy="open the source with weather_scnn.io.opening")
    order = np.argsort(grid.latitude)
    rows, columns = grid.latitude[order], grid.longitude
    adds_poles = False
    if method == "conservative":
        across, around = conservative_latitude(latitude, rows), conservative_longitude(longitude, columns)
        latitude, longitude = _snap(latitude, rows), _snap(longitude, columns)
    else:
        latitude, longitude = _snap(latitude, rows), _snap(longitude, columns)
        if method == "bilinear":
            # Rows poleward of the source's last would otherwise be held constant, wrong by the whole slope there.
            adds_poles = bool(rows[0] < latitude[0] or rows[-1] > latitude[-1])
            if adds_poles:
                pad = 1e-9  # a source row on one pole stays a row of its own
                latitude = np.concatenate([[min(-90.0, latitude[0] - pad)], latitude, [max(90.0, latitude[-1] + pad)]])
            across, around = _linear(latitude, rows), _periodic(longitude, columns, _linear)
        else:
            across, around = _nearest(latitude, rows), _periodic(longitude, columns, _nearest)
    across = across[np.argsort(order)]
    return Weights(method, across, around, (latitude, longitude), (grid.latitude, columns), adds_poles)
