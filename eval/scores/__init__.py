"""The scores there are: each is a class with its formula, what it says and how it is drawn.

`SCORES` is in the order of files; the page draws first those of most fields. A new one is a class, see docs/architecture.md.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from eval.conventions import BRIER_QUANTILES
from eval.pairing import Comparison
from eval.scores import degrees, ensembles, errors, winds
from eval.scores.base import AreaSums, PointwiseScore, Score
from eval.scores.degrees import DEGREE_SUMS
from eval.scores.ensembles import ENSEMBLE_SUMS
from eval.scores.errors import ERROR_SUMS
from eval.scores.events import EVENT_SUMS, event_scores
from eval.scores.precipitation import SEEPS
from eval.scores.winds import WIND_ENSEMBLE_SUMS

SCORES: list[Score] = [
    errors.RMSE(),
    errors.MSE(),
    errors.MAE(),
    errors.Bias(),
    errors.AnomalyCorrelation(),
    errors.Activity(),
    errors.ExplainedVariance(),
    SEEPS(),
    ensembles.CRPS(),
    ensembles.FairCRPS(),
    ensembles.CRPSSkill(),
    ensembles.Spread(),
    ensembles.MeanRMSE(),
    ensembles.SpreadSkillRatio(),
    ensembles.EnergyScore(),
    winds.VectorEnergyScore(),
    winds.FairVectorEnergyScore(),
    *(ensembles.BrierScore(quantile) for quantile in BRIER_QUANTILES),
    degrees.MemberPowerRatio(),
    degrees.DegreeSpread(),
    degrees.DegreeError(),
    degrees.DegreeSpreadSkill(),
]
_SHARED: list[AreaSums] = [ERROR_SUMS, ENSEMBLE_SUMS, WIND_ENSEMBLE_SUMS, DEGREE_SUMS, EVENT_SUMS]


def register(score: Score) -> Score:
    """Adds a score of your own, for this process: it is in files, maps, comparisons and pages from then on.

    Raises:
        ValueError: there is one of this name.
    """
    if any(score.name == other.name for other in SCORES):
        raise ValueError(f"there is a score {score.name!r} already")
    SCORES.append(score)
    return score


def all_sums() -> list[AreaSums]:
    """All area sums that scores are made of."""
    return [*_SHARED, *(score.sums for score in SCORES if score.sums is not None)]


def sums_of(comparison: Comparison, field: str, *, ensembles: bool) -> list[AreaSums]:
    """The area sums of a field."""
    return [sums for sums in all_sums() if sums.applies(comparison, field, ensembles=ensembles)]


def all_scores(names: Iterable[str]) -> list[Score]:
    """`SCORES`, and those of events that these names of metrics or sums tell of."""
    static = {score.name for score in SCORES}
    return [*SCORES, *(score for score in event_scores(names) if score.name not in static)]


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Names of scores in the order of files."""
    return tuple(score.name for score in all_scores(sorted(names)) if score.name in names)


def scores_from(known: Collection[str], *, averages: bool = False) -> list[Score]:
    """The scores that follow from these means, or from these averages of statistics."""
    return [
        score
        for score in all_scores(known)
        if all(name in known for name in ((score.averaged or score.needs) if averages else score.needs))
    ]


def pointwise_scores() -> list[PointwiseScore]:
    """Scores of points that have maps."""
    return [score for score in SCORES if isinstance(score, PointwiseScore) and score.at_places]


def score_named(metric: str, attributes: Mapping[str, Any]) -> Score:
    """The score of a metric in a file; of one that is not known here, what the file says about it.

    Args:
        metric: as in the file, such as `rmse` or `brier_0.9`.
        attributes: of the file, with `definition_{metric}` where it has one.
    """
    known = next((score for score in all_scores([metric]) if score.name == metric), None)
    if known is not None:
        return known
    text = str(attributes.get(f"definition_{metric}", "Not described in the file."))
    title, explanation = metric.replace("_", " "), text + ("" if text.endswith(".") else ".")
    first = {"title": title[0].upper() + title[1:], "__doc__": explanation[0].upper() + explanation[1:]}
    return type("UnknownScore", (Score,), {"name": metric, "definition": text, "from_zero": False, **first})()
