"""SEEPS, the stable equitable error in probability space, for precipitation (Rodwell et al. 2010; WeatherBench 2)."""

import numpy as np
from jaxtyping import Bool, Float

from eval.chunks import Chunk
from eval.pairing import Comparison
from eval.scores.base import MapStyle, PointwiseScore
from weather_scnn.catalogue.naming import lookup
from weather_scnn.physics.precipitation import DRY_METRES

# Where it is nearly always dry or wet the score is unstable, and the point is left out (WeatherBench 2).
_LEAST_DRY, _MOST_DRY = 0.1, 0.85


def dry_threshold(hours: int | None) -> float:
    """Metres below which a total over so many hours counts as dry: 0.25 mm for 24 h, 0.1 mm for shorter windows."""
    return DRY_METRES[24] if hours is not None and hours >= 24 else DRY_METRES[6]


def usable_points(dry_fraction: Float[np.ndarray, "..."] | float) -> Bool[np.ndarray, "..."]:
    """Points at which SEEPS is defined: 0.1 < p₁ < 0.85; NaN is not."""
    return np.asarray((dry_fraction > _LEAST_DRY) & (dry_fraction < _MOST_DRY))


def seeps(
    forecast: Float[np.ndarray, "..."] | float,
    truth: Float[np.ndarray, "..."] | float,
    dry_fraction: Float[np.ndarray, "..."] | float,
    heavy_threshold: Float[np.ndarray, "..."] | float,
    dry: float,
) -> Float[np.ndarray, "..."]:
    """½ S[forecast category][truth category], categories dry, light and heavy; 0 is perfect, the mean by chance is 1.

    Args:
        forecast: metres.
        truth: metres.
        dry_fraction: p₁, climatological probability of dry.
        heavy_threshold: metres; the ⅔ quantile of the amounts that are not dry.
        dry: metres, see `dry_threshold`.

    Returns:
        Scores, NaN at points that are not usable.
    """

    def category(amount: np.ndarray) -> np.ndarray:
        return (amount >= dry).astype(np.int64) + ((amount >= dry) & (amount >= heavy_threshold))

    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.asarray(dry_fraction, np.float64)
        zero = np.zeros(p.shape)
        matrix = [
            [zero, 1 / (1 - p), 4 / (1 - p)],
            [1 / p, zero, 3 / (1 - p)],
            [1 / p + 3 / (2 + p), 3 / (2 + p), zero],
        ]
    predicted, observed = category(np.asarray(forecast)), category(np.asarray(truth))
    shape = np.broadcast_shapes(predicted.shape, observed.shape, p.shape)
    score = np.zeros(shape)
    for row in range(3):
        for column in range(3):
            if row != column:
                score = np.where((predicted == row) & (observed == column), matrix[row][column], score)
    return np.where(usable_points(p), 0.5 * score, np.nan)


class SEEPS(PointwiseScore):
    """Stable equitable error in probability space: how often a forecast of dry, light or heavy rain falls into the
    wrong class, by the local climate. 0 is perfect, 1 no better than chance.
    """

    name, title = "seeps", "SEEPS"
    definition = "mean over init times of the stable equitable error in probability space (Rodwell et al. 2010)"
    units, figures, at_places = "none", 4, definition
    map = MapStyle(rank=6)

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        return comparison.climatology is not None and f"{field}_seeps_dry_fraction" in comparison.climatology

    def values(self, chunk: Chunk, system: str) -> np.ndarray:
        known = lookup(chunk.name)
        dry = dry_threshold(known.window_hours if known is not None else None)
        parameters = chunk.fields.seeps_parameters(chunk.valid_times)
        assert parameters is not None
        fraction, thresholds = parameters
        means = np.broadcast_to(chunk.mean(system), chunk.truth.shape)
        return np.stack([seeps(f, o, fraction, heavy, dry) for f, o, heavy in zip(means, chunk.truth, thresholds)])
