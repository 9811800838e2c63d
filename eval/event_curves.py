"""Curves behind the scores of events: hit rates against false alarm rates, and reliability diagrams."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from eval.scores.events import PROBABILITY_BOUNDS, RelativeOperatingArea, Reliability, event_scores

CURVES = ("hit_rate", "false_alarm_rate", "mean_probability", "observed_frequency", "share")
GROUP = "event_curves"
_TEXT = (
    "hit_rate and false_alarm_rate where warned at probabilities above probability_bound, the last entry is warned always and "
    "the one of bound 1 never; mean_probability, observed_frequency and share of the forecasts up to the bound, above the one before"
)


def event_curves(means: Mapping[str, np.ndarray], like: xr.DataArray) -> xr.DataArray | None:
    """Curves of every event of a field, dims (system, event, curve, lead_time[, level], region, probability_bound).

    Args:
        means: averages over init times, see `eval.metrics.field_statistics`.
        like: scores of the field, for coordinates.
    """
    scores = {score.name: score for score in event_scores(means) if all(need in means for need in score.needs)}
    areas = [score for score in scores.values() if isinstance(score, RelativeOperatingArea)]
    if not areas:
        return None
    found = []
    for area in areas:
        reliability = scores[f"{Reliability.family}_{area.tag}"]
        assert isinstance(reliability, Reliability)
        with np.errstate(divide="ignore", invalid="ignore"):
            rates, diagram = area.curve(means), reliability.curve(means)
        # Warned above bounds 1, 0.9, … 0 and always; in the order of the classes.
        padded = [rate[::-1] for rate in rates]
        padded = [np.concatenate([rate[1:], rate[:1]]) for rate in padded]
        padded += [np.concatenate([part, np.full_like(part[:1], np.nan)]) for part in diagram]
        found.append(np.stack(padded))
    values = np.moveaxis(np.stack(found), [0, 1, 2, 3], [1, 2, -1, 0])
    rest = [dim for dim in like.dims if dim not in ("system", "metric")]
    coordinates = {dim: like[dim] for dim in ("system", *rest)}
    bounds = np.append(PROBABILITY_BOUNDS, np.nan)
    dims = ["system", "event", "curve", *rest, "probability_bound"]
    further = {"event": [area.tag for area in areas], "curve": list(CURVES), "probability_bound": bounds}
    return xr.DataArray(values, {**coordinates, **further}, dims, attrs={"long_name": _TEXT})
