"""Scores of events: of values beyond a threshold, and of where they are within a neighbourhood.

p is the share of an ensemble's members with the event, of a single forecast 0 or 1; o is 1 where the truth has it, else 0;
⟨x⟩ is the area-weighted mean. All scores are of means over init times, from which contingency tables follow. They are made
where `--events` asks for them; the name of each ends in the event, such as `ets_0.95` or `brier_below_273.15`.
"""

import functools
import re
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from eval.chunks import Chunk
from eval.events import TAG, Event, event_of, radius_of
from eval.neighbourhoods import Neighbourhood, neighbourhood_of
from eval.pairing import Comparison
from eval.scores.base import AreaSums, Means, Score, Units
from eval.scores.ensembles import crps

#: Upper bounds of the classes of probability: never, up to a tenth, … up to always.
PROBABILITY_BOUNDS = np.arange(11) / 10
_CLASSES = range(PROBABILITY_BOUNDS.size)
_PARTS = ("event", "probability", "forecast_event", "hit", "brier", "twcrps", "quantile_score")
_BY_CLASS = ("class_weight", "class_events", "class_probability")


def event_labels(event: Event) -> list[str]:
    """Names of what `event_terms` gives, in its order."""
    return [f"{part}_{event.tag}" for part in _PARTS] + [
        f"{part}_{n}_{event.tag}" for part in _BY_CLASS for n in _CLASSES
    ]


def probability_classes(probability: Float[np.ndarray, "..."]) -> np.ndarray:
    """The class of `PROBABILITY_BOUNDS` of each: 0 for never, n for more than (n − 1)/10 and up to n/10."""
    return np.ceil(np.clip(probability, 0, 1) * 10 - 1e-9).astype(np.int64)


def event_terms(
    members: Float[np.ndarray, "n ..."], truth: Float[np.ndarray, "..."], threshold: np.ndarray | float, event: Event
) -> Iterator[np.ndarray]:
    """What is averaged over points for an event's scores, an array (*p) for each of `event_labels`.

    Args:
        members: of the ensemble, one of a single forecast.
        truth: what happened.
        threshold: of the event, for each point; where it is NaN all that follows is.
        event: which side of the threshold is meant.
    """
    known = np.where(np.isfinite(threshold), 1.0, np.nan)
    beyond, chain = (np.greater, np.maximum) if event.above else (np.less, np.minimum)
    happened = beyond(truth, threshold) * known
    probability = beyond(members, threshold).mean(axis=0) * known
    forecast = (probability >= 0.5) * known
    yield happened
    yield probability
    yield forecast
    yield forecast * happened
    yield (probability - happened) ** 2
    yield crps(chain(members, threshold), chain(truth, threshold))[0]
    if event.quantile is None:
        yield np.full(truth.shape, np.nan)
    else:
        error = truth - np.quantile(members, event.quantile, axis=0)
        yield np.maximum(event.quantile * error, (event.quantile - 1) * error) * known
    classes = probability_classes(np.nan_to_num(probability))
    for values in (known * np.ones(truth.shape), happened, probability):
        for number in _CLASSES:
            yield np.where(classes == number, values, 0.0 * values)


class EventSums(AreaSums):
    """Sums of what events of members and truth make together, and of neighbourhoods."""

    name = "events"

    def labels(self, comparison: Comparison) -> tuple[str, ...]:
        request = comparison.request
        events = [event_of(text) for text in request.events]
        found = [label for event in events for label in event_labels(event)]
        for text in request.neighbourhoods:
            found += [
                f"{part}_{radius_of(text):g}km_{event.tag}" for event in events for part in ("fss_error", "fss_size")
            ]
        return tuple(dict.fromkeys(found))

    def applies(self, comparison: Comparison, field: str, *, ensembles: bool) -> bool:
        return bool(comparison.request.events) and field not in comparison.vectors

    def of(self, chunk: Chunk, system: str) -> np.ndarray:
        labels, request, columns = self.labels(chunk.comparison), chunk.comparison.request, chunk.weights.columns
        events = [event_of(text) for text in request.events]
        areas = [_neighbourhood(chunk, radius_of(text)) for text in request.neighbourhoods]
        sums = np.full((len(labels), *chunk.truth.shape[:2], columns.shape[1]), np.nan)
        members = np.broadcast_to(chunk.forecast(system), (len(chunk.leads), *chunk.forecast(system).shape[1:]))
        for lead in range(len(chunk.leads)):
            mask = None if chunk.mask is None else chunk.mask[lead]
            known = chunk.quantiles(lead, _quantiles(events))
            quantiles = {} if known is None else dict(zip(_quantiles(events), known))
            for event in events:
                threshold = _threshold(event, chunk, quantiles)
                if threshold is None:
                    continue
                at = event_terms(
                    members[lead].astype(np.float64), chunk.truth[lead].astype(np.float64), threshold, event
                )
                terms = zip(event_labels(event), at)
                used = 1.0 if mask is None else mask
                held = {}
                for label, values in terms:
                    values = values if mask is None else np.where(mask, values, 0.0)
                    sums[labels.index(label), lead] = values @ columns
                    if label.startswith(("event_", "probability_")):
                        held[label] = values * used
                happened, probability = held[f"event_{event.tag}"], held[f"probability_{event.tag}"]
                for area in areas:
                    ours, theirs = area.shares(probability, mask), area.shares(happened, mask)
                    for part, values in (("fss_error", (ours - theirs) ** 2), ("fss_size", ours**2 + theirs**2)):
                        values = values if mask is None else np.where(mask, values, 0.0)
                        sums[labels.index(f"{part}_{area.radius:g}km_{event.tag}"), lead] = values @ columns
        return sums


def _neighbourhood(chunk: Chunk, radius: float) -> Neighbourhood:
    grid = tuple(chunk.comparison.latitude.tolist()), tuple(chunk.comparison.longitude.tolist())
    return neighbourhood_of(*grid, radius)


def _quantiles(events: list[Event]) -> tuple[float, ...]:
    return tuple(event.quantile for event in events if event.quantile is not None)


def _threshold(event: Event, chunk: Chunk, quantiles: dict[float, np.ndarray]) -> np.ndarray | None:
    """Of a field's event, (v, p); None where the field has not got it."""
    if event.quantile is not None:
        return quantiles.get(event.quantile)
    if not event.of_field(chunk.name):
        return None
    levels = chunk.comparison.levels if chunk.truth.shape[1] > 1 or event.level is not None else None
    rows = np.ones(chunk.truth.shape[1]) if event.level is None or levels is None else np.array(levels) == event.level
    return np.where(rows.astype(bool)[:, None], event.threshold, np.nan) * np.ones((1, chunk.truth.shape[-1]))


EVENT_SUMS = EventSums()


class EventScore(Score):
    """Of an event. A subclass gives `family` and `parts`, labels without the tag."""

    family: str
    parts: tuple[str, ...]
    units: Units = "none"
    known_only, figures = True, 3

    def __init__(self, tag: str):
        self.tag, self.name = tag, f"{self.family}_{tag}"
        self.title = f"{type(self).title}, {tag.replace('_', ' ')}"
        self.needs = tuple(f"{part}_{tag}" for part in self.parts)

    def take(self, means: Means) -> list[np.ndarray]:
        """The means of the parts."""
        return [means[name] for name in self.needs]


class EventBrier(EventScore):
    """Mean square error of the probability of an event: 0 is perfect, 1 always wrong."""

    family, title, parts = "brier", "Brier score", ("brier",)
    definition = "mean over init times of <(p - o)^2>"


class FrequencyBias(EventScore):
    """How often the forecast has the event over how often it happens, of an ensemble in the mean of its members: 1 is right,
    less means that extremes are too rare, as in forecasts that are too smooth.
    """

    family, title, parts = "frequency_bias", "Frequency bias", ("probability", "event")
    definition = "<p> / <o>, each a mean over init times"
    best, relative, from_zero, lines = 1.0, False, True, (1.0,)

    def value(self, means: Means) -> np.ndarray:
        probability, event = self.take(means)
        return probability / np.where(event > 0, event, np.nan)


class EquitableThreatScore(EventScore):
    """Hits among all places that had or were given the event, less those by chance: 1 is perfect, 0 no better than chance.
    An ensemble forecasts it where at least half of its members do.
    """

    family, title, parts = "ets", "Equitable threat score", ("hit", "forecast_event", "event")
    definition = "(hits - chance) / (hits + misses + false alarms - chance), chance = <forecast> <o>; of an ensemble, forecast is p >= 1/2"
    best, relative, from_zero, lines = 1.0, False, False, (0.0,)

    def value(self, means: Means) -> np.ndarray:
        hit, forecast, event = self.take(means)
        chance = forecast * event
        union = forecast + event - hit - chance
        return (hit - chance) / np.where(union > 0, union, np.nan)


class RelativeOperatingArea(EventScore):
    """Area under the curve of hit rate against false alarm rate: 1 tells events from other weather without fail, 0.5 is
    chance. It forgives what a calibration could mend.
    """

    family, title, figures = "roc_area", "ROC area", 0  # the page has the curves
    parts = tuple(f"{part}_{n}" for part in _BY_CLASS[:2] for n in _CLASSES)
    definition = "trapezoidal area under hit rate against false alarm rate, at probabilities above 0, 0.1, ... 0.9"
    best, relative, from_zero, lines = 1.0, False, False, (0.5,)

    def value(self, means: Means) -> np.ndarray:
        hit_rate, false_alarm_rate = self.curve(means)
        return np.asarray((np.diff(false_alarm_rate, axis=0) * (hit_rate[1:] + hit_rate[:-1]) / 2).sum(axis=0))

    def curve(self, means: Means) -> tuple[np.ndarray, np.ndarray]:
        """Hit rate and false alarm rate, from warning never to warning always, along a first axis of 12."""
        weight, events = np.split(np.stack(self.take(means)), 2)
        rates = []
        for part in (events, weight - events):
            above = np.cumsum(part[::-1], axis=0)
            rates.append(np.concatenate([0 * above[:1], above]) / np.where(above[-1:] > 0, above[-1:], np.nan))
        return rates[0], rates[1]


class Reliability(EventScore):
    """How far probabilities are from how often the event then happens, as a mean square (a part of the Brier score): 0 is
    reliable.
    """

    family, title, figures = "reliability", "Reliability", 0  # the page has the curves
    parts = tuple(f"{part}_{n}" for part in _BY_CLASS for n in _CLASSES)
    definition = "sum over 11 classes of probability of <class> (mean p - mean o in it)^2 (Murphy 1973); 0 is best"

    def value(self, means: Means) -> np.ndarray:
        weight, events, probability = np.split(np.stack(self.take(means)), 3)
        terms = (probability - events) ** 2 / np.where(weight > 0, weight, np.nan)
        return np.where(np.isfinite(weight).all(axis=0), np.nansum(terms, axis=0), np.nan)

    def curve(self, means: Means) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean probability, frequency of the event and share of the forecasts in each class, along a first axis of 11."""
        weight, events, probability = np.split(np.stack(self.take(means)), 3)
        some = np.where(weight > 0, weight, np.nan)
        return probability / some, events / some, weight


class ThresholdWeightedCRPS(EventScore):
    """CRPS that counts only the part of the distribution beyond the threshold: of the weather there alone."""

    family, title, parts, figures = "twcrps", "Threshold-weighted CRPS", ("twcrps",), 0
    units: Units = "field"
    definition = (
        "crps of values cut off at the threshold, max(x, t) or min(x, t) (Gneiting and Ranjan 2011; Allen et al. 2023)"
    )


class QuantileScore(EventScore):
    """Mean cost of an ensemble's quantile, or of a single forecast taken for it, by which errors to the rarer side cost more.
    0 is perfect.
    """

    family, title, parts, figures = "quantile_score", "Quantile score", ("quantile_score",), 0
    units: Units = "field"
    definition = "mean over init times of <max(q e, (q - 1) e)>, e = o - the q quantile of the members"


class FractionsSkillScore(EventScore):
    """Whether about as much of each neighbourhood has the event as in the truth: 1 is perfect, 0 no overlap at all. Half of
    1 + the event's frequency is held to be useful.
    """

    family, title = "fss", "Fractions skill score"
    parts = ("fss_error", "fss_size")
    definition = (
        "1 - <(P_f - P_o)^2> / <P_f^2 + P_o^2>, P the share of the area within the radius (Roberts and Lean 2008)"
    )
    best, relative, from_zero, lines = 1.0, False, True, (0.5,)

    def __init__(self, tag: str):
        super().__init__(tag)
        radius, event = tag.split("_", 1)
        self.title = f"{FractionsSkillScore.title} within {radius.removesuffix('km')} km, {event.replace('_', ' ')}"

    def value(self, means: Means) -> np.ndarray:
        error, size = self.take(means)
        return 1.0 - error / np.where(size > 0, size, np.nan)


FAMILIES: tuple[type[EventScore], ...] = (
    EventBrier, FrequencyBias, EquitableThreatScore, RelativeOperatingArea, Reliability, ThresholdWeightedCRPS, QuantileScore,
    FractionsSkillScore,
)  # fmt: skip
_NAMED = re.compile(rf"(?P<family>{'|'.join(family.family for family in FAMILIES)})_(?P<tag>(?:[\d.]+km_)?{TAG})")
_LABELLED = re.compile(rf"(?P<part>event|fss_error)_(?P<tag>(?:[\d.]+km_)?{TAG})")


@functools.lru_cache(maxsize=1024)
def _made(family: str, tag: str) -> EventScore:
    return next(each for each in FAMILIES if each.family == family)(tag)


def event_scores(names: Iterable[str]) -> list[EventScore]:
    """The scores of events that names of metrics or of sums tell of, each once."""
    found: dict[str, EventScore] = {}
    for name in names:
        if match := _NAMED.fullmatch(name):
            families = [match["family"]]
        elif match := _LABELLED.fullmatch(name):
            near = match["part"] == "fss_error"
            families = [each.family for each in FAMILIES if (each is FractionsSkillScore) == near]
        else:
            continue
        for family in families:
            score = _made(family, match["tag"])
            found.setdefault(score.name, score)
    return list(found.values())
