"""Applying regridding weights to scalar fields and to winds, with missing values.

Shapes: y, x source latitudes and longitudes; Y, X target ones.
"""

import dataclasses
import functools
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float

from weather_scnn.regridding.weights import Weights

# Up to so many points, products with whole matrices of a batch are faster than sparse ones map by map.
_DENSE_POINTS = 2**14


@runtime_checkable
@runtime_checkable
class Regridder(Protocol):
    """What carries fields from one grid to another; the last two axes are latitude and longitude."""

    def scalars(
        self, values: Float[np.ndarray, "*b y x"], among: Bool[np.ndarray, "y x"] | None = None
    ) -> Float[np.ndarray, "*b Y X"]:
        """Scalar fields; `among` marks the cells that count, such as those of the sea."""

    def vectors(
        self, eastward: Float[np.ndarray, "*b y x"], northward: Float[np.ndarray, "*b y x"]
    ) -> tuple[Float[np.ndarray, "*b Y X"], Float[np.ndarray, "*b Y X"]]:
        """Components of a wind."""


@dataclasses.dataclass(frozen=True)
class WeightedRegridder:
    """Two small matrix products a map, formed in float64.

    A target point is the weighted mean over the source points that are not NaN, and NaN where these hold less than
    `coverage` of the weight (weatherbench2#171: without a threshold sea spreads into land).

    A wind is averaged as a vector of three dimensions, V = u e_λ + v e_φ, and taken in the target's eastward and
    northward directions: near a pole these turn by as much as the longitude does, so that averages of u and of v mean
    nothing there. Written out, with Δ = λ − λ′ and primes for the target,

        u′ = Σ w [u cos Δ − v sin φ sin Δ]
        v′ = Σ w [sin φ′ (u sin Δ + v sin φ cos Δ) + cos φ′ v cos φ]

    so that every factor belongs to a row or to a column and goes into the matrices.

    Attributes:
        weights: from `make_weights`.
        coverage: least share of valid weight, in (0, 1].
    """

    weights: Weights
    coverage: float = 0.5

    @functools.cached_property
    def _dense(self) -> bool:
        return len(self.weights.source[0]) * len(self.weights.source[1]) <= _DENSE_POINTS

    @functools.cached_property
    def _across(self) -> tuple:
        """Matrices over latitude for u, v sin φ and v cos φ."""
        latitude = np.radians(self.weights.source[0])
        plain = self.weights.latitude
        return tuple(map(self._stored, (plain, plain * np.sin(latitude), plain * np.cos(latitude))))

    @functools.cached_property
    def _around(self) -> tuple:
        """Matrices over longitude: plain, and with cos Δ over sin Δ."""
        turn = np.radians(self.weights.source[1][None, :] - self.weights.target[1][:, None])
        plain = self.weights.longitude
        return self._stored(plain), self._stored(np.concatenate([plain * np.cos(turn), plain * np.sin(turn)]))

    def _stored(self, matrix: np.ndarray):
        # A 0.25° map has 7 neighbours a point of 1.5°: 0.4 ms against 17 ms for the whole product.
        return matrix if self._dense else scipy.sparse.csr_matrix(matrix)

    def _rows(self, matrix, values: np.ndarray) -> np.ndarray:
        return matrix @ values

    def _columns(self, matrix, values: np.ndarray) -> np.ndarray:
        if self._dense:
            return values @ matrix.T
        return (matrix @ np.ascontiguousarray(values.T)).T

    def _plain(self, values: np.ndarray) -> np.ndarray:
        return self._columns(self._around[0], self._rows(self._across[0], values))

    def scalars(
        self, values: Float[np.ndarray, "*b y x"], among: Bool[np.ndarray, "y x"] | None = None
    ) -> Float[np.ndarray, "*b Y X"]:
        """Scalar fields of any floating dtype, which is kept.

        Args:
            values: NaN where missing.
            among: cells that count; the others are taken as missing.
        """
        return self._each(lambda part: (self._scalar(part[0], among),), (values,))[0]

    def vectors(
        self, eastward: Float[np.ndarray, "*b y x"], northward: Float[np.ndarray, "*b y x"]
    ) -> tuple[Float[np.ndarray, "*b Y X"], Float[np.ndarray, "*b Y X"]]:
        """Components of a wind; a point where one is missing counts as missing."""
        if self.weights.method == "nearest":
            return self.scalars(eastward), self.scalars(northward)  # values of the source stay as they are
        u, v = self._each(lambda part: self._vector(*part), (eastward, northward))
        return u, v

    def _each(self, function, fields: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """Applies a function of float64 maps to every map of a batch, or to the whole batch where maps are small."""
        fields = tuple(map(np.asarray, fields))
        batch = fields[0].shape[:-2]
        shape = (*batch, len(self.weights.target[0]), len(self.weights.target[1]))
        kinds = [each.dtype if np.issubdtype(each.dtype, np.floating) else np.dtype(np.float32) for each in fields]
        results = [np.empty(shape, kind) for kind in kinds]
        for index in [()] if self._dense else np.ndindex(batch):
            # A copy in any case: missing values are replaced in it.
            parts = tuple(np.array(each[index], np.float64, order="C") for each in fields)
            for result, found in zip(results, function(parts)):
                result[index] = found
        return results

    def _scalar(self, values: np.ndarray, among: np.ndarray | None) -> np.ndarray:
        if among is not None:
            values[..., ~among] = np.nan
        # Missing values are rare; they show in the result, which is small, so the field itself is not searched.
        with np.errstate(invalid="ignore"):
            result = self._plain(_with_poles(values, None)[0] if self.weights.adds_poles else values)
        if np.isfinite(result).all():
            return result
        valid = np.isfinite(values)
        values[~valid] = 0.0
        shares = valid.astype(np.float64)
        if self.weights.adds_poles:
            values, shares = _with_poles(values, shares)
        return self._divided(self._plain(values), shares)

    def _divided(self, result: np.ndarray, shares: np.ndarray) -> np.ndarray:
        share = self._plain(shares)
        # Rounding must not tip a cell that is covered by exactly the threshold.
        enough = share >= self.coverage - 1e-9
        return np.where(enough, result / np.where(enough, share, 1.0), np.nan)

    def _vector(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore"):
            found = self._turned(*(self._with_polar_winds(u, v, None)[:2] if self.weights.adds_poles else (u, v)))
        if all(np.isfinite(part).all() for part in found):
            return found
        valid = np.isfinite(u) & np.isfinite(v)
        u[~valid] = v[~valid] = 0.0
        shares = valid.astype(np.float64)
        if self.weights.adds_poles:
            u, v, shares = self._with_polar_winds(u, v, shares)
        east, north = (self._divided(part, shares) for part in self._turned(u, v))
        return east, north

    def _turned(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        plain, sine, cosine = self._across
        columns = len(self.weights.target[1])
        latitude = np.radians(self.weights.target[0])[:, None]
        along_u = self._columns(self._around[1], self._rows(plain, u))
        along_v = self._columns(self._around[1], self._rows(sine, v))
        lifted = self._columns(self._around[0], self._rows(cosine, v))
        east = along_u[..., :columns] - along_v[..., columns:]
        north = np.sin(latitude) * (along_u[..., columns:] + along_v[..., :columns]) + np.cos(latitude) * lifted
        return east, north

    def _with_polar_winds(self, u: np.ndarray, v: np.ndarray, shares: np.ndarray | None):
        """A row at each pole that holds the mean vector of the nearest row in the directions of every column."""
        longitude = np.radians(self.weights.source[1])
        winds, ends = [], []
        for row, pole in ((0, -1.0), (-1, 1.0)):
            sine = np.sin(np.radians(self.weights.source[0][1 if row == 0 else -2]))
            x = -u[..., row, :] * np.sin(longitude) - v[..., row, :] * sine * np.cos(longitude)
            y = u[..., row, :] * np.cos(longitude) - v[..., row, :] * sine * np.sin(longitude)
            count = u.shape[-1] if shares is None else np.maximum(shares[..., row, :].sum(-1, keepdims=True), 1)
            x, y = (part.sum(-1, keepdims=True) / count for part in (x, y))
            east = y * np.cos(longitude) - x * np.sin(longitude)
            north = -pole * (x * np.cos(longitude) + y * np.sin(longitude))
            winds.append((east[..., None, :], north[..., None, :]))
            if shares is not None:
                some = shares[..., row, :].any(-1, keepdims=True).astype(np.float64)
                ends.append(np.broadcast_to(some, east.shape)[..., None, :])
        (south_u, south_v), (north_u, north_v) = winds
        u, v = np.concatenate([south_u, u, north_u], -2), np.concatenate([south_v, v, north_v], -2)
        return u, v, None if shares is None else np.concatenate([ends[0], shares, ends[1]], -2)


def _with_poles(values: np.ndarray, shares: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """A row at each pole, the mean of the valid values of the nearest row, and the shares of all rows."""
    rows, ends = [], []
    for row in (0, -1):
        count = values.shape[-1] if shares is None else shares[..., row, :].sum(-1, keepdims=True)
        mean = values[..., row, :].sum(-1, keepdims=True) / np.maximum(count, 1)
        rows.append(np.broadcast_to(mean, values[..., row, :].shape)[..., None, :])
        ends.append(np.broadcast_to(np.asarray(count > 0, np.float64), values[..., row, :].shape)[..., None, :])
    extended = np.concatenate([rows[0], values, rows[1]], axis=-2)
    return extended, extended if shares is None else np.concatenate([ends[0], shares, ends[1]], axis=-2)


def regrid_array(
    values: Float[np.ndarray, "*b y x"], weights: Weights, *, coverage: float = 0.5
) -> Float[np.ndarray, "*b Y X"]:
    """Regrids the last two axes of a scalar field; see `WeightedRegridder`."""
    return WeightedRegridder(weights, coverage).scalars(values)
