"""Quantiles of every day of the year over a weighted window, and the thresholds of SEEPS.

Exact, not from histograms: all samples of an hour at some points are held, so memory is bounded by taking fewer points
where there are more years.
"""

import numpy as np
from jaxtyping import Float

from pipelines.climatology_windows import window_weights
from weather_scnn.io.climatology import DAYS
from weather_scnn.physics.precipitation import DRY_METRES

#: Amounts in metres below which a total counts as dry (Rasp et al. 2024), by variable.
SEEPS_DRY = {f"total_precipitation_{hours}hr": metres for hours, metres in DRY_METRES.items()}
#: Wet amounts above this quantile are heavy (Rodwell et al. 2010).
SEEPS_HEAVY = 2 / 3

_ABSENT = np.uint32(0xFFFFFFFF)
_VALUES_AT_ONCE = 2**20  # of a window, so that they stay in the cache


def _sortable(values: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of float32 values; NaN becomes the largest."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    keys = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(0x80000000))
    return np.where(np.isnan(values), _ABSENT, keys)


def _values(keys: np.ndarray) -> np.ndarray:
    bits = np.where(keys >> 31 == 1, keys & np.uint32(0x7FFFFFFF), ~keys)
    return bits.astype(np.uint32).view(np.float32)


class _Window:
    """Samples by day, padded so that the window around any day is one run of them."""

    def __init__(self, days: np.ndarray, window: int):
        half = window // 2
        order = np.argsort(days, kind="stable")
        number = np.bincount(days, minlength=DAYS + 1)[1:]
        ends = np.concatenate([[0], np.cumsum(number)])
        padded = np.arange(-half, DAYS + half)
        self.rows = np.concatenate([order[ends[day % DAYS] : ends[day % DAYS + 1]] for day in padded])
        self.bounds = np.concatenate([[0], np.cumsum(number[padded % DAYS])])
        self.number = number[padded % DAYS]
        # Whole numbers: the weight fits beside the value in one key, and sums are exact.
        self.weights = np.rint(window_weights(window) * max(half, 1)).astype(np.uint64)
        self.window = window

    def around(self, day: int) -> tuple[slice, np.ndarray]:
        """Run of the padded samples around a day (1 to 366), and their weights."""
        run = slice(self.bounds[day - 1], self.bounds[day - 1 + self.window])
        return run, np.repeat(self.weights, self.number[day - 1 : day - 1 + self.window])


def smooth_quantiles(
    values: Float[np.ndarray, "n p"],
    days: np.ndarray,
    quantiles: np.ndarray,
    *,
    output_days: np.ndarray,
    window: int,
) -> Float[np.ndarray, "q d p"]:
    """Weighted quantiles for some days, NaN where the window holds no value.

    The weights are those of `window_weights`; a quantile is Akinshin's (2023) weighted type 7 with Kish's effective
    number of samples, as xarray's `DataArray.weighted(w).quantile`.

    Args:
        values: samples of one hour, NaN where missing; shape (sample, point).
        days: of the samples, 1 to 366.
        quantiles: between 0 and 1.
        output_days: values 1 to 366.
        window: odd number of days.
    """
    run_of = _Window(days, window)
    result = np.full((len(quantiles), output_days.size, values.shape[1]), np.nan, np.float32)
    longest = max(1, len(run_of.rows) * window // DAYS)
    at_once = max(16, _VALUES_AT_ONCE // longest)
    for begin in range(0, values.shape[1], at_once):
        points = slice(begin, begin + at_once)
        keys = np.ascontiguousarray(_sortable(values[:, points])[run_of.rows].T)  # (point, sample)
        incomplete = bool((keys == _ABSENT).any())
        for place, day in enumerate(output_days):
            run, weights = run_of.around(int(day))
            part = keys[:, run]
            # The weight in the low byte leaves the order of values; absent ones weigh nothing and go last.
            packed = (part.astype(np.uint64) << np.uint64(8)) | weights
            if incomplete:
                packed[part == _ABSENT] = np.uint64(_ABSENT) << np.uint64(8)
            packed.sort(axis=-1)
            if packed.shape[1]:
                _weighted_quantiles(packed, quantiles, result[:, place, points])
    return result


def _weighted_quantiles(packed: np.ndarray, quantiles: np.ndarray, out: np.ndarray) -> None:
    """Quantiles of sorted keys (point, sample) into `out` (quantile, point)."""
    weights = (packed & np.uint64(0xFF)).astype(np.int32)
    total = weights.cumsum(axis=-1, dtype=np.int32)
    whole = total[:, -1].astype(np.float64)
    effective = whole**2 / np.maximum(np.einsum("ps,ps->p", weights, weights, dtype=np.float64), 1)
    last = packed.shape[1] - 1
    for number, quantile in enumerate(quantiles):
        height = (effective - 1) * quantile + 1
        low, high = (height - 1) / np.maximum(effective, 1) * whole, height / np.maximum(effective, 1) * whole
        # Samples whose share of the weight meets (low, high] count by how much of it lies there.
        points = np.flatnonzero(whole > 0)
        place = np.minimum((total <= low[:, None]).sum(axis=-1), last)[points]
        result, before = np.zeros(len(packed)), low.copy()
        while points.size:
            after = np.minimum(total[points, place], high[points])
            share = after - before[points]
            value = _values((packed[points, place] >> np.uint64(8)).astype(np.uint32))
            # A value that counts for nothing may be an absent one.
            result[points] += np.where(share > 0, share * np.where(share > 0, value, 0.0), 0.0)
            before[points] = after
            going_on = (after < high[points] * (1 - 1e-12)) & (place < last)
            points, place = points[going_on], place[going_on] + 1
        with np.errstate(invalid="ignore", divide="ignore"):
            out[number] = np.where(whole > 0, result / (high - low), np.nan)


def smooth_seeps(
    values: Float[np.ndarray, "n p"], days: np.ndarray, dry: float, *, output_days: np.ndarray, window: int
) -> tuple[Float[np.ndarray, "d p"], Float[np.ndarray, "d p"]]:
    """Dry fraction, and the amount above which rain is heavy, for some days.

    As in WeatherBench 2, the fraction counts all days of the window alike; the quantile weighs them.

    Args:
        values: amounts in m, shape (sample, point).
        days: of the samples, 1 to 366.
        dry: amounts below it are dry.
        output_days: values 1 to 366.
        window: odd number of days.
    """
    heavy = smooth_quantiles(
        np.where(values < dry, np.nan, values),
        days,
        np.array([SEEPS_HEAVY]),
        output_days=output_days,
        window=window,
    )[0]
    counts = np.zeros((2, DAYS, values.shape[1]), np.float32)
    np.add.at(counts[0], days - 1, values < dry)
    np.add.at(counts[1], days - 1, np.isfinite(values))
    half = window // 2
    flat = np.zeros((output_days.size, DAYS), np.float32)
    for row, day in enumerate(output_days):
        np.add.at(flat[row], (day - 1 + np.arange(-half, half + 1)) % DAYS, 1.0)
    number, valid = flat @ counts[0], flat @ counts[1]
    with np.errstate(invalid="ignore"):
        return np.where(valid > 0, number / np.where(valid > 0, valid, 1), np.nan), heavy
