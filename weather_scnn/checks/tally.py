"""Running sums over the chunks of one field."""

import dataclasses
import math

import numpy as np
import xarray as xr

from weather_scnn.catalogue.plausibility import UNWRITTEN, without_unwritten

_AXES = ("time", "level", "latitude", "longitude")


@dataclasses.dataclass
class Tally:
    """What `check` counts of a field, chunk by chunk.

    Attributes:
        nan_per_time: NaNs of each time, over all levels.
        nan_per_level: NaNs of each level, over all times.
        weighted: area-weighted sum of the finite values of each level.
        weight: sum of the weights of the finite values of each level.
        low, high: extremes of the finite values.
        negative, infinite: number of negative and of infinite values.
        count: number of values seen.
    """

    nan_per_time: np.ndarray
    nan_per_level: np.ndarray
    weighted: np.ndarray
    weight: np.ndarray
    low: float = math.inf
    high: float = -math.inf
    negative: int = 0
    infinite: int = 0
    count: int = 0

    @classmethod
    def of(cls, array: xr.DataArray) -> "Tally":
        """An empty tally of the field's size."""
        times, levels = array.sizes.get("time", 1), array.sizes.get("level", 1)
        return cls(np.zeros(times, np.int64), np.zeros(levels, np.int64), np.zeros(levels), np.zeros(levels))

    @property
    def means(self) -> np.ndarray:
        """Area mean of each level; NaN where nothing is finite."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.weighted / self.weight

    def add(self, block: xr.DataArray, slices: dict[str, slice], weights: np.ndarray) -> None:
        """Counts a block that lies at `slices` of the field; `weights` are those of all rows."""
        extra = [dim for dim in block.dims if dim not in _AXES]
        if extra:
            block = block.stack(flat=(*extra, "longitude"), create_index=False).rename(flat="longitude")
        axes = [dim for dim in _AXES if dim in block.dims]
        values = block.transpose(*axes).values.reshape([block.sizes.get(dim, 1) for dim in _AXES])
        time, level = slices.get("time", slice(0, 1)), slices.get("level", slice(0, 1))
        rows = weights[slices["latitude"]]
        self.count += values.size
        low, high = float(values.min()), float(values.max())
        if high >= UNWRITTEN:
            values, high = without_unwritten(values), math.nan
        if math.isfinite(low) and math.isfinite(high):
            # Nothing is missing, as is usual: half the passes over memory.
            self.weighted[level] += np.einsum("tlyx,y->l", values, rows, dtype=np.float64)
            self.weight[level] += values.shape[0] * values.shape[3] * rows.sum()
        else:
            valid = np.isfinite(values)
            missing = np.isnan(values)
            nan = missing.sum(axis=(2, 3))
            self.nan_per_time[time] += nan.sum(axis=1)
            self.nan_per_level[level] += nan.sum(axis=0)
            self.infinite += int((~valid).sum() - nan.sum())
            if not valid.any():
                return
            self.weighted[level] += np.einsum("tlyx,y->l", np.where(valid, values, 0.0), rows, dtype=np.float64)
            self.weight[level] += np.einsum("tly,y->l", valid.sum(axis=3), rows, dtype=np.float64)
            values = values[valid]
            low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low < 0:
            self.negative += int((values < 0).sum())
