"""Scores of ensembles of winds as vectors: unchanged when the frame that components are counted in is turned."""

import numpy as np
from jaxtyping import Float

from eval.chunks import Chunk
from eval.pairing import Comparison
from eval.scores.base import AreaSums, Score
from eval.scores.errors import ERROR_SUMS


def vector_energy_scores(
    deviations: Float[np.ndarray, "2 n *p"],
) -> tuple[Float[np.ndarray, "*p"], Float[np.ndarray, "*p"]]:
    """E|V − v| − ½E|V − V′| at every point, |·| the length of a wind, with n² and with n(n − 1) pairs.

    The energy score of two dimensions (Gneiting and Raftery 2007, eq. 22); the fair one is NaN for a single member.

    Args:
        deviations: eastward and northward component of members minus truth.
    """
    east, north = deviations
    count = east.shape[0]
    distance = np.sqrt(east**2 + north**2).mean(axis=0)
    pairs = np.zeros(distance.shape)
    for number in range(1, count):
        u, v = east[:number] - east[number], north[:number] - north[number]
        np.multiply(u, u, out=u)
        np.multiply(v, v, out=v)
        pairs += np.sqrt(np.add(u, v, out=u), out=u).sum(axis=0)
    fair = distance - pairs / (count * (count - 1)) if count > 1 else np.full(distance.shape, np.nan)
    return distance - pairs / count**2, fair


class WindEnsembleSums(AreaSums):
    """Sums of what members and truth of a wind make together; of a single forecast the length of the error alone."""

    name = "wind_ensemble"

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        return ("vector_energy_score", "vector_energy_score_fair", "variance")

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        return ensembles and field in comparison.vectors

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        parts, columns = chunk.components, chunk.weights.columns
        members, truth = [part.forecast(system) for part in parts], [part.truth for part in parts]
        sums = np.full((3, *truth[0].shape[:2], columns.shape[1]), np.nan)
        if members[0].shape[1] == 1:
            labels = ERROR_SUMS.labels(chunk.comparison)
            sums[0] = ERROR_SUMS.of(chunk, system)[labels.index("absolute_error")]
            return sums
        for number in range(len(chunk.leads)):
            deviations = np.stack([m[number].astype(np.float64) - o[number] for m, o in zip(members, truth)])
            if chunk.mask is not None:
                deviations = np.where(chunk.mask[number], deviations, 0.0)
            variance = deviations.var(axis=1, ddof=1).sum(axis=0)
            sums[:, number] = [each @ columns for each in (*vector_energy_scores(deviations), variance)]
        return sums


WIND_ENSEMBLE_SUMS = WindEnsembleSums()


class VectorEnergyScore(Score):
    """The CRPS of the wind as a vector, point by point: it sees how far members lie from the true wind in speed and
    direction together, and does not depend on the frame that components are counted in. 0 is perfect. The energy score
    without `vector` is that of a whole map.
    """

    name, title = "vector_energy_score", "Vector energy score"
    definition = (
        "mean over init times of <E|V - v| - E|V - V'| / 2>, |V| the length of the wind at a point, all M^2 pairs of "
        "members; MAE of a single forecast"
    )
    figures, needs = 2, ("vector_energy_score",)


class FairVectorEnergyScore(Score):
    """The vector energy score that an ensemble of endlessly many members of the same distribution would have."""

    name, title = "vector_energy_score_fair", "Fair vector energy score"
    definition = "as vector_energy_score, with the M (M - 1) pairs of different members"
    figures, needs = 2, ("vector_energy_score_fair",)
