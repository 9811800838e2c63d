"""Scores of ensembles at one valid time: CRPS, spread, energy score, Brier scores, ranks.

Shapes: n members, v levels, p points of the map, r regions, q quantiles. Points that are not valid are set to 0 in
members and truth beforehand, so that they add nothing.
"""

import numpy as np
from jaxtyping import Bool, Float

from eval.metrics import BRIER_QUANTILES, ENSEMBLE_MOMENTS


def member_pairs(sorted_members: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "..."]:
    """Σ_{i<j} |x_i − x_j| of members in ascending order: Σ (2i − n − 1) x_i for i = 1 … n."""
    count = sorted_members.shape[0]
    factors = 2.0 * np.arange(1, count + 1) - count - 1
    return np.tensordot(factors, sorted_members, axes=1)


def crps(members: Float[np.ndarray, "n ..."], truth: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
    """CRPS of an ensemble, biased and fair: E|X − o| − ½E|X − X′| with n² and n(n − 1) pairs (Ferro 2014).

    The fair one is NaN for a single member.
    """
    members = np.asarray(members, np.float64)
    count = members.shape[0]
    distance = np.abs(members - truth).mean(axis=0)
    pairs = member_pairs(np.sort(members, axis=0))
    fair = distance - pairs / (count * (count - 1)) if count > 1 else np.full(distance.shape, np.nan)
    return distance - pairs / count**2, fair


def energy_scores(
    deviations: Float[np.ndarray, "n v p"], columns: Float[np.ndarray, "p r"], total: Float[np.ndarray, "v r"]
) -> Float[np.ndarray, "v r"]:
    """E‖X − o‖ − ½E‖X − X′‖ with ‖x‖² = Σw x² / Σw over a region, over n(n − 1) pairs (Gneiting and Raftery 2007, eq. 22).

    Distances of members come from the Gram matrix of their deviations from the truth, one product a level and region.

    Args:
        deviations: members minus truth, 0 at points that are not valid.
        columns: weights of the regions.
        total: Σw over the valid points.
    """
    count, levels, _ = deviations.shape
    scores = np.empty((levels, columns.shape[1]))
    for region in range(columns.shape[1]):
        inside = np.flatnonzero(columns[:, region])
        root = np.sqrt(columns[inside, region])
        for level in range(levels):
            weighted = deviations[:, level, inside] * root
            gram = weighted @ weighted.T
            squares = np.diag(gram)
            distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0))
            np.fill_diagonal(distances, 0.0)
            score = np.sqrt(squares).mean() - (distances.sum() / (2 * count * (count - 1)) if count > 1 else np.nan)
            scores[level, region] = score / np.sqrt(total[level, region]) if total[level, region] > 0 else np.nan
    return scores


def ensemble_sums(
    members: Float[np.ndarray, "n v p"],
    truth: Float[np.ndarray, "v p"],
    thresholds: Float[np.ndarray, "q v p"] | None,
    columns: Float[np.ndarray, "p r"],
    valid: Bool[np.ndarray, "v p"] | None = None,
) -> Float[np.ndarray, "moment v r"]:
    """The sums of `ENSEMBLE_MOMENTS`: area-weighted sums, of the energy score the value times Σw.

    Args:
        members: the ensemble.
        truth: what happened.
        thresholds: climatological values at `BRIER_QUANTILES`; None makes the Brier scores NaN.
        columns: weights of the regions.
        valid: points to use; all if None.
    """
    truth = np.asarray(truth, np.float64)
    members = np.asarray(members, np.float64)
    if valid is not None:
        truth, members = np.where(valid, truth, 0.0), np.where(valid, members, 0.0)
    used = np.ones(truth.shape) if valid is None else valid.astype(np.float64)
    total = used @ columns
    deviations = members - truth
    biased, fair = crps(deviations, np.zeros(truth.shape))
    count = members.shape[0]
    variance = deviations.var(axis=0, ddof=1) if count > 1 else np.full(truth.shape, np.nan)
    rows = [values @ columns for values in (biased, fair, variance)]
    rows.append(energy_scores(deviations, columns, total) * total)
    for number in range(len(BRIER_QUANTILES)):
        if thresholds is None:
            rows.append(np.full(total.shape, np.nan))
            continue
        share = (members > thresholds[number]).mean(axis=0)
        rows.append(((share - (truth > thresholds[number])) ** 2 * used) @ columns)
    assert len(rows) == len(ENSEMBLE_MOMENTS)
    return np.stack(rows)


def rank_weights(
    members: Float[np.ndarray, "n v p"],
    truth: Float[np.ndarray, "v p"],
    weights: Float[np.ndarray, " p"],
    valid: Bool[np.ndarray, "v p"] | None = None,
) -> Float[np.ndarray, "v rank"]:
    """Area at which the truth has each rank 0 … n among the members; ties share their area among the ranks they span."""
    count, levels = members.shape[:2]
    below = (members < truth).sum(axis=0)
    ties = (members == truth).sum(axis=0)
    area = np.broadcast_to(weights, truth.shape) / (ties + 1)
    if valid is not None:
        area = np.where(valid, area, 0.0)
    ranks = np.zeros((levels, count + 1))
    for level in range(levels):
        for step in range(int(ties[level].max()) + 1):
            spans = ties[level] >= step
            ranks[level] += np.bincount(below[level][spans] + step, area[level][spans], minlength=count + 1)
    return ranks
