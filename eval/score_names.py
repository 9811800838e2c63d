"""What the scores are called and what they say, in a sentence each."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Units = Literal["field", "squared", "none"]


@dataclasses.dataclass(frozen=True)
class ScoreName:
    """How a score is shown.

    Attributes:
        title: of its section and in lists.
        explanation: a sentence or two for people who do not know it.
        units: the field's, their square, or none.
        from_zero: whether axes start at 0.
        lines: values worth a line, such as the limit of a useful forecast.
    """

    title: str
    explanation: str
    units: Units = "field"
    from_zero: bool = False
    lines: tuple[float, ...] = ()


SCORE_NAMES: dict[str, ScoreName] = {
    "rmse": ScoreName(
        "RMSE",
        "Root-mean-square error: the typical size of the error, in the field's own units, large errors counting most. "
        "0 is perfect. Every cell weighs by its area, and the root is taken last, after the mean over all forecasts. An ensemble's is "
        "that of its mean.",
        from_zero=True,
    ),
    "mse": ScoreName(
        "MSE",
        "Mean square error: the square of the RMSE, the sums that scores of several periods can be added from.",
        units="squared",
        from_zero=True,
    ),
    "mae": ScoreName(
        "MAE",
        "Mean absolute error: the mean size of the error; less moved by a few large errors than the RMSE.",
        from_zero=True,
    ),
    "bias": ScoreName(
        "Bias",
        "Mean of forecast minus truth: above 0 the forecast is too high on average. 0 is best, though errors of "
        "opposite sign cancel.",
        lines=(0.0,),
    ),
    "acc": ScoreName(
        "Anomaly correlation",
        "Anomaly correlation (ACC): how well the pattern of departures from the climatology is forecast. 1 is perfect, "
        "0 no better than the climatology; 0.6 is the usual limit of a useful forecast.",
        units="none",
        lines=(0.6,),
    ),
    "activity": ScoreName(
        "Activity",
        "How much the forecast departs from the climatology, as a ratio to the truth: 1 is right, below 1 the forecast "
        "is too smooth.",
        units="none",
        lines=(1.0,),
    ),
    "explained_variance": ScoreName(
        "Explained variance",
        "The part of the truth's variance that the forecast explains: 1 is perfect, 0 no better than a constant.",
        units="none",
    ),
    "seeps": ScoreName(
        "SEEPS",
        "Stable equitable error in probability space: how often a forecast of dry, light or heavy rain falls into the "
        "wrong class, by the local climate. 0 is perfect, 1 no better than chance.",
        units="none",
        from_zero=True,
    ),
    "crps": ScoreName(
        "CRPS",
        "Continuous ranked probability score: the mean absolute error of a whole distribution, for one forecast the "
        "same as the MAE. 0 is perfect.",
        from_zero=True,
    ),
    "crps_fair": ScoreName(
        "Fair CRPS",
        "The CRPS that an ensemble of the same distribution but of endlessly many members would have, so that large "
        "and small ensembles compare.",
        from_zero=True,
    ),
    "ensemble_mean_rmse": ScoreName(
        "RMSE of the ensemble mean",
        "The RMSE of the mean over members, which is smoother than any of them and has the smaller error.",
        from_zero=True,
    ),
    "spread": ScoreName(
        "Ensemble spread",
        "How far the members lie from their mean, as a standard deviation. In a reliable ensemble of many members it "
        "equals the RMSE of the mean.",
        from_zero=True,
    ),
    "spread_skill_ratio": ScoreName(
        "Spread / skill",
        "Spread over the RMSE of the ensemble mean, allowing for the number of members: 1 is reliable, below 1 the "
        "ensemble is too sure of itself. The mean of M members errs by chance as well, so the spread is taken times the root "
        "of (M + 1) / M.",
        units="none",
        lines=(1.0,),
    ),
    "energy_score": ScoreName(
        "Energy score",
        "The CRPS of the whole map at once: it rewards members whose pattern, not only whose values, is right.",
        from_zero=True,
    ),
    "brier": ScoreName(
        "Brier score",
        "Mean square error of the probability of an event, here of exceeding a quantile of the climatology: 0 is "
        "perfect, 1 always wrong.",
        units="none",
        from_zero=True,
    ),
}
SKILL_EXPLANATION = (
    "The part of the reference's RMSE that the forecast removes: 1 − RMSE / RMSE of the reference. 100 % is perfect, "
    "0 % no better than the reference, and below 0 worse."
)
SYSTEM_EXPLANATIONS = {
    "persistence": "The state at the start of the forecast, unchanged: the simplest forecast there is.",
    "climatology": "The usual weather of the date and hour, the same whatever the weather was at the start.",
    "weekly-climatology": "The usual weather of the week of the year, as WeatherBench's first version has it.",
    "probabilistic-climatology": "The weather of the same date in many years, as an ensemble of equal members.",
}


def score_name(metric: str, attributes: Mapping[str, Any]) -> ScoreName:
    """How to show a metric; of one that is not known here, what its file says about it.

    Args:
        metric: as in the file, such as `rmse` or `brier_0.9`.
        attributes: of the file, with `definition_{metric}` where it has one.
    """
    if metric in SCORE_NAMES:
        return SCORE_NAMES[metric]
    family = next((name for name in SCORE_NAMES if metric.startswith(name + "_")), None)
    title = metric.replace("_", " ")
    title = title[0].upper() + title[1:]
    if family is not None:
        return dataclasses.replace(SCORE_NAMES[family], title=title)
    definition = str(attributes.get(f"definition_{metric}", "Not described in the file."))
    return ScoreName(title, definition[0].upper() + definition[1:] + ("" if definition.endswith(".") else "."))
