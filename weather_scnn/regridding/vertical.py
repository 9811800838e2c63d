"""Levels: pressure levels that the source lacks, and what tells a source on model levels."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class LevelPlan:
    """Which levels of the source are read, and how those of the output are made: linear in the logarithm of pressure.

    Attributes:
        read: positions on the source's level axis, ascending.
        levels: of the output, hPa.
        lower: position in `read` of the level above in the air (of lower pressure), shape (level,).
        upper: the same of the level below; `lower` where the level itself is there.
        weight: of `upper`, shape (level,); 0 where the level itself is there.
    """

    read: np.ndarray
    levels: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    @classmethod
    def make(cls, source: Sequence[float] | np.ndarray, wanted: Sequence[float] | None, *, where: str) -> "LevelPlan":
        """Plan for the levels wanted, all of the source's by default.

        Args:
            source: hPa, ascending.
            wanted: hPa.
            where: what has these levels, for the error.

        Raises:
            UserError: a level lies above the highest or below the lowest of the source: nothing is extrapolated.
        """
        source = np.asarray(source, np.float64)
        levels = source if wanted is None else np.sort(np.asarray(wanted, np.float64))
        outside = levels[(levels < source[0] - 1e-6) | (levels > source[-1] + 1e-6)]
        if outside.size:
            raise UserError(
                f"{outside[0]:g} hPa is outside its levels of {source[0]:g} to {source[-1]:g} hPa",
                where=where,
                remedy="ask for levels between them",
            )
        at = np.clip(np.searchsorted(source, levels + 1e-6, side="right") - 1, 0, source.size - 1)
        exact = np.abs(source[at] - levels) < 1e-6
        below = np.where(exact, at, np.minimum(at + 1, source.size - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.log(levels / source[at]) / np.log(source[below] / source[at])
        read = np.unique(np.concatenate([at, below]))
        return cls(read, levels, np.searchsorted(read, at), np.searchsorted(read, below), np.where(exact, 0.0, share))

    @property
    def interpolates(self) -> bool:
        """Whether any level is not one of the source's."""
        return bool(self.weight.any())

    def apply(self, values: Float[np.ndarray, "t l y x"]) -> Float[np.ndarray, "t k y x"]:
        """The levels of the output from those read (axis 1)."""
        if not self.interpolates:
            return values if np.array_equal(self.lower, np.arange(values.shape[1])) else values[:, self.lower]
        result = np.empty((values.shape[0], self.levels.size, *values.shape[2:]), values.dtype)
        for place, (low, high, weight) in enumerate(zip(self.lower, self.upper, self.weight)):
            if weight == 0.0:
                result[:, place] = values[:, low]
            else:
                result[:, place] = (1 - weight) * values[:, low].astype(np.float64) + weight * values[:, high]
        return result
