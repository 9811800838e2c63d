"""Regridding by spherical harmonics: analysis on the source, truncation, synthesis on the target."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from weather_scnn.errors import UserError
from weather_scnn.job_platform import job_device
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.transforms import HarmonicTransform

# Maps transformed together: one shape, so that the program is compiled once.
_MAPS = 8


@functools.lru_cache(maxsize=4)
def _transform(grid: Grid, degree: int) -> HarmonicTransform:
    return HarmonicTransform.create(grid, degree)


@dataclasses.dataclass(frozen=True)
class SpectralRegridder:
    """Keeps the degrees that both grids carry, triangularly truncated, and nothing above: no aliasing, no smoothing.

    Sharp features ring (a negative humidity beside a front). Winds go through their divergent and rotational spectra.

    Attributes:
        source: equiangular or Gaussian.
        target: the same.
    """

    source: Grid
    target: Grid

    @property
    def degree(self) -> int:
        """Largest degree kept."""
        return min(min(grid.maximum_degree, grid.maximum_order) for grid in (self.source, self.target))

    def scalars(
        self, values: Float[np.ndarray, "*b y x"], among: Bool[np.ndarray, "y x"] | None = None
    ) -> Float[np.ndarray, "*b Y X"]:
        """Scalar fields without missing values."""
        return self._each((values,))[0]

    def vectors(
        self, eastward: Float[np.ndarray, "*b y x"], northward: Float[np.ndarray, "*b y x"]
    ) -> tuple[Float[np.ndarray, "*b Y X"], Float[np.ndarray, "*b Y X"]]:
        """Components of a wind without missing values."""
        u, v = self._each((eastward, northward))
        return u, v

    def _each(self, fields: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        with job_device():
            return self._transformed(fields)

    def _transformed(self, fields: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        source, target = _transform(self.source, self.degree), _transform(self.target, self.degree)
        batch = fields[0].shape[:-2]
        maps = [np.asarray(each, np.float32).reshape(-1, *self.source.shape) for each in fields]
        results = [np.empty((len(maps[0]), *self.target.shape), np.float32) for _ in maps]
        for begin in range(0, len(maps[0]), _MAPS):
            parts = []
            for each in maps:
                part = each[begin : begin + _MAPS]
                if not np.isfinite(part).all():
                    raise UserError(
                        "a field has missing values, and harmonics are of whole fields",
                        remedy="leave such fields out with --variables, or choose --method conservative",
                    )
                # Deviations from a mean: in float32 the mean of geopotential would cost the eddies two digits.
                mean = part.mean((-2, -1), keepdims=True, dtype=np.float64) if len(maps) == 1 else 0.0
                padded = np.zeros((_MAPS, *self.source.shape), np.float32)
                padded[: len(part)] = part - mean
                parts.append((jnp.asarray(padded.transpose(1, 2, 0)), mean))
            if len(parts) == 1:
                found = [target.synthesis(source.analysis(parts[0][0]))]
            else:
                found = list(target.synthesis_vector(*source.analysis_vector(parts[0][0], parts[1][0])))
            for result, field, (_, mean) in zip(results, found, parts):
                count = len(result[begin : begin + _MAPS])
                result[begin : begin + count] = np.asarray(field).transpose(2, 0, 1)[:count] + mean
        return [result.reshape(*batch, *self.target.shape) for result in results]
