"""Scores of single forecasts, of an ensemble those of its mean: from sums of errors and anomalies.

e = f − o, f′ = f − c and o′ = o − c with the climatology c at valid time; ⟨x⟩ is the area-weighted mean over a region.
"""

import numpy as np

from eval.area_sums import TruthSums, error_sums, length_sums
from eval.baselines import CLIMATOLOGY
from eval.chunks import Chunk
from eval.pairing import Comparison
from eval.scores.base import AreaSums, MapStyle, Means, Score

ERRORS = ("weight", "squared_error", "absolute_error", "error")
ANOMALIES = (
    "forecast_anomaly",
    "truth_anomaly",
    "forecast_anomaly_squared",
    "truth_anomaly_squared",
    "anomaly_product",
)
# WeatherBench 1 takes the unweighted mean from the anomalies.
POOLED = ("count", "forecast_anomaly_unweighted", "truth_anomaly_unweighted")
# A squared anomaly below this part of the terms it is the difference of is rounding.
_ROUNDING = 1e-13
# The same of a variance at a place.
_PLACE_ROUNDING = 1e-12
# Of a wind, whose sums are those of its components but of |Δ|. What has a sign is the length of the vector of both sums:
# ⟨|x|²⟩ − |⟨x⟩|² is then the variance of a vector, as of a scalar.
_ADDED = ("squared_error", "forecast_anomaly_squared", "truth_anomaly_squared", "anomaly_product")
_LENGTHS = ("error", "forecast_anomaly", "truth_anomaly")


class ErrorSums(AreaSums):
    """Sums of e, e², |e|, of anomalies and their products; the weight is that of the points that count."""

    name = ""
    weight = "weight"

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        """Those of errors, of anomalies where there is a climatology, and the unweighted ones of WeatherBench 1."""
        anomalies = comparison.anomalies
        return ERRORS + (ANOMALIES if anomalies else ()) + (POOLED if anomalies and comparison.pooled else ())

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        """The sums; a chunk makes them once."""
        return chunk.once(
            (self, system), lambda: self._wind(chunk, system) if chunk.wind else self._scalar(chunk, system)
        )

    def _scalar(self, chunk: Chunk, system: str) -> np.ndarray:
        comparison, weights, observed = chunk.comparison, chunk.weights, chunk.truth_sums
        weight, inside = chunk.weight_sums
        if system == CLIMATOLOGY and not comparison.pooled:
            # As a forecast it has e = −o′ and f′ = 0: all follows from the truth's sums.
            nothing = np.zeros(observed.anomaly.shape)
            sums = [weight, observed.squared, observed.absolute, -observed.anomaly]
            sums += [nothing, observed.anomaly, nothing, observed.squared, nothing]
            return np.stack([np.broadcast_to(each, nothing.shape) for each in sums])
        raw = error_sums(chunk.mean(system), chunk.truth, chunk.anomaly, weights, chunk.scratch, chunk.mask)
        count = weights.columns.shape[1]
        error, squared, absolute, product = raw[..., :count]
        sums = [weight, squared, absolute, error]
        labels = self.labels(comparison)
        if chunk.anomaly is None:
            sums += [np.full(error.shape, np.nan)] * (len(labels) - len(sums))
        else:
            sums += _anomalies(error, squared, product, observed)
            if comparison.pooled:
                sums += [inside, raw[0, ..., count : 2 * count] + observed.unweighted, observed.unweighted]
        return np.stack([np.broadcast_to(each, error.shape) for each in sums])

    def _wind(self, chunk: Chunk, system: str) -> np.ndarray:
        east, north = (self.of(part, system) for part in chunk.components)
        sums = np.full(east.shape, np.nan)
        for number, name in enumerate(self.labels(chunk.comparison)):
            if name == "weight":
                sums[number] = east[number]
            elif name == "absolute_error":
                means, truth = zip(*((part.mean(system), part.truth) for part in chunk.components))
                sums[number] = length_sums(means, truth, chunk.weights, chunk.scratch, chunk.mask)
            elif name in _ADDED:
                sums[number] = east[number] + north[number]
            elif name in _LENGTHS and not chunk.comparison.pooled:  # lengths of vectors cannot be pooled
                sums[number] = np.hypot(east[number], north[number])
        return sums


def _anomalies(error: np.ndarray, squared: np.ndarray, product: np.ndarray, observed: TruthSums) -> list[np.ndarray]:
    """The sums of anomalies, for f′ = e + o′."""
    with np.errstate(invalid="ignore"):
        forecast = squared + 2 * product + observed.squared
        forecast = np.where(forecast <= _ROUNDING * (squared + observed.squared), 0.0, forecast)
    return [error + observed.anomaly, observed.anomaly, forecast, observed.squared, product + observed.squared]


ERROR_SUMS = ErrorSums()


class RMSE(Score):
    """Root-mean-square error: the typical size of the error, in the field's own units, large errors counting most. 0 is
    perfect. Every cell weighs by its area, and the root is taken last, after the mean over all forecasts. An ensemble's
    is that of its mean.
    """

    name, title = "rmse", "RMSE"
    definition = "square root, taken last, of the mean over init times of <(f - o)^2>"
    figures, needs = 12, ("squared_error",)
    at_places = "root of the mean over init times of (f - o)^2"
    map: MapStyle | None = MapStyle(rank=1)

    def value(self, means: Means) -> np.ndarray:
        return np.sqrt(means[self.needs[0]])


class MSE(Score):
    """Mean square error: the square of the RMSE, the sums that scores of several periods can be added from."""

    name, title = "mse", "MSE"
    definition = "mean over init times of <(f - o)^2>; for a wind vector of <du^2 + dv^2>"
    units, needs = "squared", ("squared_error",)
    at_places = "mean over init times of (f - o)^2"


class MAE(Score):
    """Mean absolute error: the mean size of the error; less moved by a few large errors than the RMSE."""

    name, title = "mae", "MAE"
    definition = "mean over init times of <|f - o|>; for a wind vector of <sqrt(du^2 + dv^2)>"
    needs = ("absolute_error",)
    at_places = "mean over init times of |f - o|"
    map = MapStyle(rank=3)


class Bias(Score):
    """Mean of forecast minus truth: above 0 the forecast is too high on average. 0 is best, though errors of opposite
    sign cancel.
    """

    name, title = "bias", "Bias"
    definition = "mean over init times of <f - o>: forecast minus truth; for winds see the components"
    relative, from_zero, lines, figures = False, False, (0.0,), 6
    needs, scalars_only = ("error",), True
    at_places = "mean over init times of f - o"
    map = MapStyle("RdBu_r", "both", (None, None), rank=0)


class AnomalyCorrelation(Score):
    """Anomaly correlation (ACC): how well the pattern of departures from the climatology is forecast. 1 is perfect, 0
    no better than the climatology; 0.6 is the usual limit of a useful forecast.
    """

    name, title = "acc", "Anomaly correlation"
    definition = (
        "mean over init times of <f'o'> / sqrt(<f'^2><o'^2>), anomalies from the climatology at valid time, "
        "no mean removed; for a wind vector <u'u' + v'v'> over both components; 0 where the forecast is the climatology "
        "itself"
    )
    units, best, relative, from_zero, lines, figures = "none", 1.0, False, False, (0.6,), 12
    needs, averaged = ("anomaly_product", "forecast_anomaly_squared", "truth_anomaly_squared"), ("acc",)
    at_places = "sum f'o' / sqrt(sum f'^2 sum o'^2) over init times, no mean removed"
    map = MapStyle("PRGn", "neither", (-1.0, 1.0), rank=2)

    def statistics(self, means: Means) -> dict[str, np.ndarray]:
        product, f_square, o_square = (means[name] for name in self.needs)
        return {"acc": _correlation(product, f_square, o_square)}

    def pooled(self, means: Means) -> np.ndarray:
        """About the unweighted means of anomalies (`score.py` of WeatherBench 1)."""
        f, o = means["forecast_anomaly"], means["truth_anomaly"]
        f_mean, o_mean = means["forecast_anomaly_unweighted"], means["truth_anomaly_unweighted"]
        product = means["anomaly_product"] - o_mean * f - f_mean * o + f_mean * o_mean
        f_square, o_square = _pooled_squares(means)
        acc = np.where(f_square * o_square > 0, product / np.sqrt(f_square * o_square), np.nan)
        acc = np.where((f_square * o_square <= 0) & (o_square > 0), 0.0, acc)
        return np.where(np.isfinite(product), acc, np.nan)


def _correlation(product: np.ndarray, f_square: np.ndarray, o_square: np.ndarray) -> np.ndarray:
    """A forecast of no anomaly has no pattern to correlate: 0 by convention, as WeatherBench lists climatology."""
    acc = np.where(f_square * o_square > 0, product / np.sqrt(f_square * o_square), np.nan)
    return np.where((f_square == 0) & (o_square > 0), 0.0, acc)


def _pooled_squares(means: Means) -> list[np.ndarray]:
    """Mean square anomalies of forecast and truth about their unweighted means."""
    squares = []
    for name in ("forecast_anomaly", "truth_anomaly"):
        mean = means[f"{name}_unweighted"]
        squares.append(means[f"{name}_squared"] - 2 * mean * means[name] + mean**2)
    return squares


def _variance(means: Means, squared: str, mean: str) -> np.ndarray:
    return np.maximum(means[squared] - means[mean] ** 2, 0.0)


class Activity(Score):
    """How much the forecast departs from the climatology, as a ratio to the truth: 1 is right, below 1 the forecast is
    too smooth.
    """

    name, title = "activity", "Activity"
    definition = (
        "square root of the ratio of the mean variances over the region of f' and of o', each about its "
        "regional mean; the variance of a wind vector is the sum of those of its components"
    )
    units, best, relative, from_zero, lines, figures = "none", 1.0, False, False, (1.0,), 6
    needs, averaged = ANOMALIES[:4], ("forecast_variance", "truth_variance")
    at_places = "sqrt(sum f'^2 / sum o'^2) over init times"
    place_needs = ("forecast_anomaly_squared", "truth_anomaly_squared")
    map = MapStyle("PuOr", "max", (0.0, 2.0), rank=4)

    def statistics(self, means: Means) -> dict[str, np.ndarray]:
        return {
            "forecast_variance": _variance(means, "forecast_anomaly_squared", "forecast_anomaly"),
            "truth_variance": _variance(means, "truth_anomaly_squared", "truth_anomaly"),
        }

    def value(self, means: Means) -> np.ndarray:
        return np.sqrt(means["forecast_variance"] / _positive(means["truth_variance"]))

    def pooled(self, means: Means) -> np.ndarray:
        f_square, o_square = _pooled_squares(means)
        return np.sqrt(np.maximum(f_square, 0.0) / o_square)

    def at_place(self, means: Means) -> np.ndarray:
        return np.sqrt(means["forecast_anomaly_squared"] / _positive(means["truth_anomaly_squared"]))


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


class ExplainedVariance(Score):
    """The part of the truth's variance that the forecast explains: 1 is perfect, 0 no better than a constant."""

    name, title = "explained_variance", "Explained variance"
    definition = "1 - mean variance over the region of f - o / mean variance over the region of o'"
    units, best, relative, from_zero = "none", 1.0, False, False
    needs = ("squared_error", "error", "truth_anomaly_squared", "truth_anomaly")
    averaged = ("error_variance", "truth_variance")
    at_places = "1 - variance over init times of f - o / variance over init times of o'"
    map = MapStyle("PRGn", "min", (-1.0, 1.0), rank=5)

    def statistics(self, means: Means) -> dict[str, np.ndarray]:
        return {
            "error_variance": _variance(means, "squared_error", "error"),
            "truth_variance": _variance(means, "truth_anomaly_squared", "truth_anomaly"),
        }

    def value(self, means: Means) -> np.ndarray:
        return 1.0 - means["error_variance"] / _positive(means["truth_variance"])

    def pooled(self, means: Means) -> np.ndarray:
        return 1.0 - (means["squared_error"] - means["error"] ** 2) / _pooled_squares(means)[1]

    def at_place(self, means: Means) -> np.ndarray:
        found = self.statistics(means)
        known = found["truth_variance"] > _PLACE_ROUNDING * means["truth_anomaly_squared"]
        return self.value(found | {"truth_variance": np.where(known, found["truth_variance"], np.nan)})
