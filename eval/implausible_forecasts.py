"""Forecasts that cannot be, such as the states of 1e14 K of a rollout that ran away: counted as they are read, and told.

They are scored all the same: a system that fails on some days is to be judged on those days too.
"""

import logging

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from eval.scorecard import format_lead
from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.plausibility import Extremes, implausible

#: Of the group of sums: maps of a forecast, a level and member each, whose values cannot be; dims (system, field, init_time, lead_time).
IMPLAUSIBLE = "implausible_forecast"
_log = logging.getLogger(__name__)


def implausible_maps(
    name: str, values: Float[np.ndarray, "i l n v p"], low: float, high: float
) -> Int[np.ndarray, "i l"] | None:
    """How many maps of each forecast cannot be what their name says; None if none.

    Args:
        name: canonical name.
        values: in the catalogue's units; NaN where there is none.
        low, high: the extremes of all; NaN where one is missing.
    """
    if lookup(name) is None or not values.size or _plausible(name, low, high):
        return None
    with np.errstate(invalid="ignore"):
        maps = values.reshape(*values.shape[:2], -1, values.shape[-1])
        lows = np.where(np.isnan(maps), np.inf, maps).min(axis=-1)
        highs = np.where(np.isnan(maps), -np.inf, maps).max(axis=-1)
    faults = np.array([not _plausible(name, *ends) for ends in zip(lows.ravel(), highs.ravel())]).reshape(lows.shape)
    return faults.sum(axis=-1) if faults.any() else None


def _plausible(name: str, low: float, high: float) -> bool:
    if np.isnan(low) or (np.isinf(low) and low > 0):
        return bool(np.isinf(low))  # of no value at all nothing can be said; of NaN among values, map by map
    return not implausible(name, Extremes(float(low), float(high)))


def tell_implausible(counts: xr.DataArray) -> None:
    """A warning for each system and field of which forecasts cannot be: how many, and from which lead time on."""
    for field in counts.transpose("field", "system", "init_time", "lead_time"):
        for array in field:
            faulty = array.values > 0
            variable = lookup(str(array["field"].values))
            if not faulty.any() or variable is None:
                continue
            first = array["lead_time"].values[faulty.any(axis=0)].min()
            _log.warning(
                "%s: %s is implausible, outside %g … %g %s, from %s ahead on, in %d of %d init times; it is scored as it is",
                array["system"].values,
                variable.name,
                *variable.plausible,
                variable.unit,
                format_lead(first),
                np.count_nonzero(faulty.any(axis=1)),
                faulty.shape[0],
            )
