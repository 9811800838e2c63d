"""Forecasts that need no model, made from the truth, and the fields that scoring reads again and again."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import xarray as xr

from weather_scnn.data.climatology import climatology_at
from weather_scnn.errors import UserError

PERSISTENCE, CLIMATOLOGY = "persistence", "climatology"
BASELINES = (PERSISTENCE, CLIMATOLOGY)
_CACHE_BYTES = 512 * 2**20


class FieldsByTime:
    """Fields at given times, read once and kept while they fit in a bounded cache.

    Forecasts started six hours apart are valid at nearly the same times, so most of the truth is needed again.

    Args:
        read: (name, times) → array of shape (time[, level], latitude, longitude).
        maximum_bytes: size of the cache.
    """

    def __init__(self, read: Callable[[str, np.ndarray], np.ndarray], maximum_bytes: int = _CACHE_BYTES):
        self._read, self._maximum = read, maximum_bytes
        self._fields: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def at(self, name: str, times: np.ndarray) -> np.ndarray:
        """Shape (time[, level], latitude, longitude), in the order of `times` (datetime64[ns])."""
        keys = [(name, int(time)) for time in times.astype("datetime64[ns]").astype(np.int64)]
        absent = [index for index, key in enumerate(keys) if key not in self._fields]
        fresh = {}
        if absent:
            for index, field in zip(absent, self._read(name, times[absent])):
                fresh[keys[index]] = field
        result = np.stack([fresh[key] if key in fresh else self._fields[key] for key in keys])
        for key in keys:
            if key in fresh:
                self._fields[key] = fresh[key]
                self._bytes += fresh[key].nbytes
            else:
                self._fields.move_to_end(key)
        while self._bytes > self._maximum and self._fields:
            self._bytes -= self._fields.popitem(last=False)[1].nbytes
        return result


def truth_fields(truth: xr.Dataset) -> FieldsByTime:
    """The truth at given times; at init time it is the persistence forecast for every lead time."""
    return FieldsByTime(lambda name, times: truth[name].sel(time=times).values)


def climatology_fields(climatology: xr.Dataset) -> FieldsByTime:
    """The climatology at given valid times: the reference of anomalies, and a forecast itself."""
    return FieldsByTime(lambda name, times: climatology_at(climatology[[name]], times)[name].values)


def require_known(baselines: tuple[str, ...], *, climatology: str | None) -> None:
    """Raises UserError for an unknown baseline, or for climatology where none is given."""
    for name in baselines:
        if name not in BASELINES:
            raise UserError(f"the baseline {name!r} is not known", remedy="choose from " + ", ".join(BASELINES))
    if CLIMATOLOGY in baselines and climatology is None:
        raise UserError(
            "the baseline `climatology` needs a climatology",
            remedy="make one with `weather-scnn climatology` and give it as --climatology",
        )
