"""Scores of ensembles: CRPS, spread, energy score, Brier scores, and the ranks of the truth.

Shapes: l lead times, n members, v levels, p points of the map, r regions, q quantiles. Points that do not count are set to 0
in members and truth beforehand, so that they add nothing.
"""

import numpy as np
from jaxtyping import Bool, Float

from eval.baselines import PROBABILISTIC
from eval.chunks import Chunk
from eval.conventions import BRIER_QUANTILES
from eval.pairing import Comparison
from eval.scores.base import AreaSums, Means, Score
from eval.scores.errors import ERROR_SUMS

_BRIER = tuple(f"brier_{quantile:g}" for quantile in BRIER_QUANTILES)


def member_pairs(sorted_members: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "..."] | np.floating:
    """Σ_{i<j} |x_i − x_j| of members in ascending order: Σ (2i − n − 1) x_i for i = 1 … n."""
    count = sorted_members.shape[0]
    factors = 2.0 * np.arange(1, count + 1) - count - 1
    return np.tensordot(factors, sorted_members, axes=1)


def crps(members: Float[np.ndarray, "n ..."], truth: Float[np.ndarray, "..."] | float) -> tuple[np.ndarray, np.ndarray]:
    """CRPS of an ensemble, biased and fair: E|X − o| − ½E|X − X′| with n² and n(n − 1) pairs (Ferro 2014).

    The fair one is NaN for a single member.
    """
    members = np.asarray(members, np.float64)
    count = members.shape[0]
    distance = np.abs(members - truth).mean(axis=0)
    pairs = member_pairs(np.sort(members, axis=0))
    fair = distance - pairs / (count * (count - 1)) if count > 1 else np.full(distance.shape, np.nan)
    return np.asarray(distance - pairs / count**2), np.asarray(fair)


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


class EnsembleSums(AreaSums):
    """Sums of what members and truth make together; of a single forecast the CRPS alone, which is its absolute error."""

    name = "ensemble"

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        return ("crps", "crps_fair", "variance", "energy_score", *_BRIER)

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        return ensembles and field not in comparison.vectors

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        members = chunk.forecast(system)
        labels = self.labels(chunk.comparison)
        sums = np.full((len(labels), *chunk.truth.shape[:2], chunk.weights.columns.shape[1]), np.nan)
        if members.shape[1] == 1:
            errors = ERROR_SUMS.labels(chunk.comparison)
            sums[0] = ERROR_SUMS.of(chunk, system)[errors.index("absolute_error")]
            return sums
        for number in range(len(chunk.leads)):
            mask = None if chunk.mask is None else chunk.mask[number]
            thresholds = chunk.thresholds(number)
            sums[:, number] = ensemble_sums(
                members[number], chunk.truth[number], thresholds, chunk.weights.columns, mask
            )
        return sums


def ensemble_sums(
    members: Float[np.ndarray, "n v p"],
    truth: Float[np.ndarray, "v p"],
    thresholds: Float[np.ndarray, "q v p"] | None,
    columns: Float[np.ndarray, "p r"],
    mask: Bool[np.ndarray, "v p"] | None = None,
) -> Float[np.ndarray, "label v r"]:
    """The sums of `EnsembleSums` at one valid time: area-weighted sums, of the energy score the value times Σw.

    Args:
        members: the ensemble.
        truth: what happened.
        thresholds: climatological values at `BRIER_QUANTILES`; None makes the Brier scores NaN.
        columns: weights of the regions.
        mask: points that count; all if None.
    """
    truth = np.asarray(truth, np.float64)
    members = np.asarray(members, np.float64)
    if mask is not None:
        truth, members = np.where(mask, truth, 0.0), np.where(mask, members, 0.0)
    used = np.ones(truth.shape) if mask is None else mask.astype(np.float64)
    total = used @ columns
    deviations = members - truth
    biased, fair = crps(deviations, np.zeros(truth.shape))
    rows = [values @ columns for values in (biased, fair, deviations.var(axis=0, ddof=1))]
    rows.append(energy_scores(deviations, columns, total) * total)
    for number in range(len(BRIER_QUANTILES)):
        if thresholds is None:
            rows.append(np.full(total.shape, np.nan))
            continue
        share = (members > thresholds[number]).mean(axis=0)
        rows.append(((share - (truth > thresholds[number])) ** 2 * used) @ columns)
    return np.stack(rows)


ENSEMBLE_SUMS = EnsembleSums()


class CRPS(Score):
    """Continuous ranked probability score: the mean absolute error of a whole distribution, for one forecast the same
    as the MAE. 0 is perfect.
    """

    name, title = "crps", "CRPS"
    definition = (
        "mean over init times of <E|X - o| - E|X - X'| / 2>, all M^2 pairs of members; MAE of a single forecast"
    )
    figures, needs = 6, ("crps",)


class FairCRPS(Score):
    """The CRPS that an ensemble of the same distribution but of endlessly many members would have, so that large and
    small ensembles compare.
    """

    name, title = "crps_fair", "Fair CRPS"
    definition = "as crps, with the M (M - 1) pairs of different members"
    figures, needs = 6, ("crps_fair",)


class CRPSSkill(Score):
    """The part of the fair CRPS of the probabilistic climatology that the forecast removes: 1 is perfect, 0 no better
    than the weather of the same date in other years.
    """

    name, title = "crps_skill", "CRPS skill"
    definition = "1 - crps_fair / crps_fair of probabilistic-climatology, both means over init times; of a single forecast with its crps"
    units, best, relative, from_zero, lines, figures = "none", 1.0, False, False, (0.0,), 5
    needs = ("crps", "crps_fair", PROBABILISTIC)
    averaged = ("fair_or_single_crps", "reference_crps")

    def statistics(self, means: Means) -> dict[str, np.ndarray]:
        score = np.where(np.isfinite(means["crps_fair"]), means["crps_fair"], means["crps"])
        reference = np.where(means[PROBABILISTIC], score, 0.0).sum(axis=1, keepdims=True)
        return {"fair_or_single_crps": score, "reference_crps": np.broadcast_to(reference, score.shape)}

    def value(self, means: Means) -> np.ndarray:
        score, reference = (means[name] for name in self.averaged)
        return 1.0 - score / np.where(reference > 0, reference, np.nan)


class Spread(Score):
    """How far the members lie from their mean, as a standard deviation. In a reliable ensemble of many members it
    equals the RMSE of the mean.
    """

    name, title = "spread", "Ensemble spread"
    definition = "square root of the mean over init times of <ensemble variance>, over M - 1"
    best, figures, needs = None, 6, ("variance",)

    def value(self, means: Means) -> np.ndarray:
        return np.sqrt(means[self.needs[0]])


class MeanRMSE(Score):
    """The RMSE of the mean over members, which is smoother than any of them and has the smaller error."""

    name, title = "ensemble_mean_rmse", "RMSE of the ensemble mean"
    definition = "rmse of the mean of the members"
    needs = ("squared_error", "variance")

    def value(self, means: Means) -> np.ndarray:
        return np.where(np.isfinite(means["variance"]), np.sqrt(means["squared_error"]), np.nan)


class SpreadSkillRatio(Score):
    """Spread over the RMSE of the ensemble mean, allowing for the number of members: 1 is reliable, below 1 the
    ensemble is too sure of itself. The mean of M members errs by chance as well, so the spread is taken times the root
    of (M + 1) / M.
    """

    name, title = "spread_skill_ratio", "Spread / skill"
    definition = (
        "square root of the mean over init times of <ensemble variance> (M + 1) / M, over ensemble_mean_rmse: "
        "1 for a reliable ensemble of any number M of members (Fortin et al. 2014)"
    )
    units, best, relative, from_zero, lines = "none", 1.0, False, False, (1.0,)
    needs, averaged = ("variance", "squared_error", "members"), ("expected_squared_error", "squared_error")

    def statistics(self, means: Means) -> dict[str, np.ndarray]:
        # Where truth and members are alike, the truth departs from the mean of all by the variance, and the mean of M from it
        # by one M-th of that (Fortin et al. 2014, eq. 15).
        variance, error, members = (means[name] for name in self.needs)
        return dict(zip(self.averaged, (variance * (members + 1) / members, error)))

    def value(self, means: Means) -> np.ndarray:
        spread, error = (np.sqrt(means[name]) for name in self.averaged)
        return spread / np.where(error > 0, error, np.nan)


class EnergyScore(Score):
    """The CRPS of the whole map at once: it rewards members whose pattern, not only whose values, is right."""

    name, title = "energy_score", "Energy score"
    definition = (
        "mean over init times of E||X - o|| - E||X - X'|| / 2, ||x|| = sqrt(<x^2>) over the region, M (M - 1) pairs"
    )
    needs = ("energy_score",)


class BrierScore(Score):
    """Mean square error of the probability of an event, here of exceeding a quantile of the climatology: 0 is perfect,
    1 always wrong.
    """

    units, known_only = "none", True

    def __init__(self, quantile: float):
        self.name = f"brier_{quantile:g}"
        self.title = f"Brier {quantile:g}"
        self.definition = (
            f"mean over init times of <(share of members above the climatological {quantile:g} quantile - 1 if the "
            "truth is above, else 0)^2>"
        )
        self.needs = (self.name,)


class RankSums(AreaSums):
    """How much of the area has each rank of the truth among the members: added up over init times, of shape (l, v, rank)."""

    name = "ranks"

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        return ()

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        members, area = chunk.forecast(system), chunk.weights.regions.max(axis=0).ravel()
        masks = [None] * len(chunk.leads) if chunk.mask is None else list(chunk.mask)
        return np.stack([rank_weights(*each[:2], area, each[2]) for each in zip(members, chunk.truth, masks)])


RANK_SUMS = RankSums()


def rank_weights(
    members: Float[np.ndarray, "n v p"],
    truth: Float[np.ndarray, "v p"],
    weights: Float[np.ndarray, " p"],
    mask: Bool[np.ndarray, "v p"] | None = None,
) -> Float[np.ndarray, "v rank"]:
    """Area at which the truth has each rank 0 … n among the members; ties share their area among the ranks they span."""
    count, levels = members.shape[:2]
    below = (members < truth).sum(axis=0)
    ties = (members == truth).sum(axis=0)
    area = np.broadcast_to(weights, truth.shape) / (ties + 1)
    if mask is not None:
        area = np.where(mask, area, 0.0)
    ranks = np.zeros((levels, count + 1))
    for level in range(levels):
        for step in range(int(ties[level].max()) + 1):
            spans = ties[level] >= step
            ranks[level] += np.bincount(below[level][spans] + step, area[level][spans], minlength=count + 1)
    return ranks
