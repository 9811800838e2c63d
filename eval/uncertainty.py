"""How sure scores are: intervals and paired differences by a block bootstrap over init times.

Forecasts started days apart meet the same weather, so single init times are no independent draws. Runs of consecutive
init times are drawn, with wrap-around (circular block bootstrap, Politis and Romano 1992), the same for all systems.
"""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from eval.conventions import WEATHERBENCH2
from eval.metrics import mean_over_init_times, metrics_from_means

SAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
FEWEST_INIT_TIMES = 4
STATISTICS = ("difference", "lower", "upper", "p_value")
_BYTES = 64 * 2**20


def block_length(init_times: int) -> int:
    """Init times in a block: n^⅓ rounded up, the order that is best for a variance (Hall, Horowitz and Jing 1995)."""
    return max(1, math.ceil(round(init_times ** (1 / 3), 9)))


def draw_counts(init_times: int, *, samples: int = SAMPLES, block: int | None = None, seed: int = SEED) -> np.ndarray:
    """How often each init time is in each resample: shape (samples, init_times), rows of sum init_times."""
    length = block_length(init_times) if block is None else block
    rng = np.random.default_rng(seed)
    blocks = -(-init_times // length)
    starts = rng.integers(0, init_times, (samples, blocks, 1))
    drawn = ((starts + np.arange(length)) % init_times).reshape(samples, -1)[:, :init_times]
    counts = np.zeros((samples, init_times))
    np.add.at(counts, (np.arange(samples)[:, None], drawn), 1.0)
    return counts


def resampled_means(
    statistics: Mapping[str, Float[np.ndarray, "i k"]], counts: Float[np.ndarray, "s i"]
) -> dict[str, Float[np.ndarray, "k s"]]:
    """Means of each resample over the init times that count, NaN where it holds none of them."""
    means = {}
    for name, values in statistics.items():
        valid = np.isfinite(values)
        total = np.where(valid, values, 0.0).T @ counts.T
        number = counts.sum(axis=1) if valid.all() else valid.T.astype(np.float64) @ counts.T
        with np.errstate(divide="ignore", invalid="ignore"):
            means[name] = total / np.where(number > 0, number, np.nan)
    return means


def _quantiles(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Quantiles over the last axis, in front; NaNs left out."""
    missing = np.isnan(values)
    result = np.quantile(values, bounds, axis=-1)
    some = missing.any(axis=-1) & ~missing.all(axis=-1)
    if some.any():
        result[:, some] = np.nanquantile(values[some], bounds, axis=-1)
    return result


def intervals_and_differences(
    statistics: Mapping[str, Float[np.ndarray, "i system *k"]],
    *,
    convention: str = WEATHERBENCH2,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    block: int | None = None,
    seed: int = SEED,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Percentile intervals of every metric, and paired differences of every two systems.

    Args:
        statistics: of each init time, see `eval.metrics.field_statistics`.
        convention: of the metrics.
        confidence: of the intervals.
        samples: resamples drawn.
        block: init times in a block; `block_length` if None.
        seed: of the draws.

    Returns:
        Intervals of shape (bound, system, *k) by metric, and differences of shape (`STATISTICS`, system,
        reference_system, *k): system minus reference. The two-sided p-value is the share of resamples whose difference
        departs from the observed one by at least its size. All NaN for fewer than 4 init times.
    """
    first = next(iter(statistics.values()))
    inits, systems, *rest = first.shape
    columns = math.prod(rest)
    flat = {name: values.reshape(inits, systems, columns) for name, values in statistics.items()}
    observed = metrics_from_means(mean_over_init_times(flat), convention)
    intervals = {name: np.full((2, systems, columns), np.nan) for name in observed}
    differences = {name: np.full((len(STATISTICS), systems, systems, columns), np.nan) for name in observed}
    for name, values in observed.items():
        differences[name][0] = values[:, None] - values[None, :]
    if inits >= FEWEST_INIT_TIMES:
        counts = draw_counts(inits, samples=samples, block=block, seed=seed)
        bounds = ((1 - confidence) / 2, (1 + confidence) / 2)
        size = max(1, _BYTES // (8 * samples * systems * len(flat)))
        for begin in range(0, columns, size):
            part = slice(begin, begin + size)
            width = min(begin + size, columns) - begin
            means = resampled_means(
                {name: values[:, :, part].reshape(inits, -1) for name, values in flat.items()}, counts
            )
            drawn = metrics_from_means(means, convention)
            for name, values in drawn.items():
                _fill(values.reshape(systems, width, -1), part, intervals[name], differences[name], bounds)
    shaped = {name: values.reshape(2, systems, *rest) for name, values in intervals.items()}
    paired = {name: values.reshape(len(STATISTICS), systems, systems, *rest) for name, values in differences.items()}
    return shaped, paired


def _fill(
    drawn: Float[np.ndarray, "system k s"],
    part: slice,
    intervals: np.ndarray,
    differences: np.ndarray,
    bounds: tuple[float, float],
) -> None:
    """Fills the columns `part` of one metric's results; a pair is computed once and mirrored."""
    samples = drawn.shape[-1]
    intervals[:, :, part] = _quantiles(drawn, bounds)
    for a in range(drawn.shape[0]):
        for b in range(a):
            change = drawn[a] - drawn[b]
            low, high = _quantiles(change, bounds)
            observed = differences[0, a, b, part]
            with np.errstate(invalid="ignore"):
                beyond = (np.abs(change - observed[:, None]) >= np.abs(observed)[:, None]).sum(axis=-1)
            p = np.where(np.isfinite(observed) & np.isfinite(low), (1 + beyond) / (1 + samples), np.nan)
            differences[1:, a, b, part] = low, high, p
            differences[1:, b, a, part] = -high, -low, p
