"""Weighted moments of parts of the data that combine to those of the whole (parallel Welford)."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PartialStatistics:
    """Weighted moments of part of the data, each of shape (level,) or ().

    Attributes:
        count: number of values.
        weight: sum of their weights.
        mean: weighted mean; 0 where nothing was counted.
        squares: weighted sum of squared deviations from the mean.
    """

    count: np.ndarray | np.number
    weight: np.ndarray | np.number
    mean: np.ndarray | np.number
    squares: np.ndarray | np.number

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray, axes: tuple[int, ...]) -> "PartialStatistics":
        """Statistics over `axes` of an array with NaNs where data is missing.

        Args:
            values: shape (…, latitude, longitude).
            weights: shape (latitude,).
            axes: those to reduce, counted from the end: longitude (-1) and latitude (-2) always, time where there.
        """
        values = np.asarray(values, np.float64)
        valid = np.isfinite(values)
        complete = bool(valid.all())
        if not complete:
            values = np.where(valid, values, 0.0)
        # Rows first: every value is touched once a sum, and weights only meet row sums.
        outer = tuple(axis + 1 for axis in axes if axis != -1)
        row_count = valid.sum(-1)
        weight = (row_count * weights).sum(outer)
        total = (values.sum(-1) * weights).sum(outer)
        mean = total / np.where(weight > 0, weight, 1.0)
        deviation = values - np.expand_dims(mean, axes)
        if not complete:
            deviation *= valid
        squares = (np.einsum("...x,...x->...", deviation, deviation) * weights).sum(outer)
        return cls(row_count.sum(outer), weight, mean, squares)

    def merge(self, other: "PartialStatistics") -> "PartialStatistics":
        """Statistics of the union of two disjoint parts (Chan, Golub and LeVeque 1983, with weights)."""
        weight = self.weight + other.weight
        share = other.weight / np.where(weight > 0, weight, 1.0)
        difference = other.mean - self.mean
        return PartialStatistics(
            self.count + other.count,
            weight,
            self.mean + share * difference,
            self.squares + other.squares + self.weight * share * difference**2,
        )

    @property
    def std(self) -> np.ndarray | np.number:
        """Standard deviation (of the population), NaN where nothing was counted."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.squares / np.where(self.weight > 0, self.weight, np.nan))
