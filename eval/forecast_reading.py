"""Forecast stores as scoring reads them: by init time and lead time, whichever of the times the store is kept by."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import xarray as xr

from eval.field_reading import Conversion, as_slice, chunk_length, read_values
from eval.forecasts import units_to_truth
from eval.request import ScoringRequest
from weather_scnn.catalogue.naming import find
from weather_scnn.catalogue.plausibility import extremes_of_one_map, implausible
from weather_scnn.errors import UserError
from weather_scnn.io.fields import declared_unit
from weather_scnn.io.forecasts import HELD, kept_by_valid_time, open_forecast
from weather_scnn.io.initial_times import initial_times
from weather_scnn.io.sources import find_source, open_raw

_log = logging.getLogger(__name__)


def open_stores(request: ScoringRequest) -> "list[ForecastStore]":
    """The forecasts of a request.

    Raises:
        UserError: one of them is none, or a system is said to be kept by valid time that is no forecast.
    """
    unknown = set(request.by_valid_time) - {system for system, _ in request.forecasts}
    if unknown:
        raise UserError(
            f"--by-valid-time names {sorted(unknown)[0]!r}, which is no forecast",
            remedy="choose from " + ", ".join(system for system, _ in request.forecasts),
        )
    return [
        ForecastStore.open(system, path, by_valid_time=system in request.by_valid_time)
        for system, path in request.forecasts
    ]


def span(times: np.ndarray) -> str:
    """First and last of some times, for messages."""
    return f"{np.datetime_as_string(times.min(), 'h')} to {np.datetime_as_string(times.max(), 'h')}"


def common_init_times(stores: "Sequence[ForecastStore]", init: str | None) -> np.ndarray:
    """Init times that all forecasts have, of those that are asked for.

    Args:
        stores: the forecasts.
        init: FIRST:LAST[:STEP]; all if None.

    Raises:
        UserError: there is none.
    """
    inits = stores[0].init_times
    if init is not None:
        inits = initial_times(inits, init, where=stores[0].path)
    for store in stores[1:]:
        inits = np.intersect1d(inits, store.init_times)
    if not inits.size:
        raise UserError(
            "the forecasts share no init time: "
            + "; ".join(f"{store.system} {span(store.init_times)}" for store in stores),
            remedy="give forecasts of one period",
        )
    return inits


@dataclasses.dataclass(frozen=True)
class ForecastStore:
    """One forecast system.

    Attributes:
        system: its name in the scores.
        path: the store.
        dataset: dims (time, prediction_timedelta[, number][, level], latitude, longitude), lazy, without dask.
        by_valid_time: whether `time` is the valid time, as in some WeatherBench 2 stores, and not the init time.
        conversion: brings fields to the scored units and grid.
        level_positions: of the scored levels in the store; None where it has no levels.
    """

    system: str
    path: str
    dataset: xr.Dataset
    by_valid_time: bool
    conversion: Conversion = Conversion()
    level_positions: np.ndarray | None = None

    @classmethod
    def open(cls, system: str, path: str, *, by_valid_time: bool = False) -> "ForecastStore":
        """Opens a store lazily; one whose dimension is called `valid_time` says itself what its times are.

        Raises:
            UserError: it is not a forecast store.
        """
        raw = open_raw(find_source(path), decode_timedelta=False)
        return cls(system, path, open_forecast(path, raw), by_valid_time or kept_by_valid_time(raw))

    @property
    def times(self) -> np.ndarray:
        """The store's times, ascending, datetime64[ns]."""
        return self.dataset["time"].values.astype("datetime64[ns]")

    @property
    def leads(self) -> np.ndarray:
        """Lead times, timedelta64[ns]."""
        return self.dataset["prediction_timedelta"].values.astype("timedelta64[ns]")

    @property
    def members(self) -> int:
        """Size of the ensemble; 1 for a single forecast."""
        return int(self.dataset.sizes.get("number", 1))

    @property
    def init_times(self) -> np.ndarray:
        """Init times from which the store has a forecast of at least one lead time, ascending."""
        if not self.by_valid_time:
            return self.times
        return np.unique(self.times[:, None] - self.leads[None, :])

    def has(self, inits: np.ndarray, leads: np.ndarray) -> np.ndarray:
        """Whether the store has the forecast from an init time at a lead time; bool, shape (init, lead)."""
        times = (
            inits[:, None] + leads[None, :]
            if self.by_valid_time
            else np.broadcast_to(inits[:, None], (inits.size, leads.size))
        )
        known = np.isin(times, self.times) & np.isin(leads, self.leads)[None, :]
        if HELD not in self.dataset.coords:
            return known
        row = np.searchsorted(self.times, times).clip(max=self.times.size - 1)
        column = np.searchsorted(self.leads, leads).clip(max=self.leads.size - 1)
        return known & self.dataset[HELD].values[row, column[None, :]]

    def in_catalogue_units(self, names: Sequence[str]) -> "ForecastStore":
        """The store on its own grid, with these variables in the catalogue's units.

        Raises:
            UserError: a unit is of another quantity, or values of no unit cannot be.
        """
        factors = {}
        for name in names:
            array, wanted = self.dataset[name], find(name)
            factors[name] = units_to_truth(name, array, xr.DataArray(0.0, attrs=wanted.attributes), where=self.path)
            if (
                not declared_unit(array)
                and (found := extremes_of_one_map(array))
                and (fault := implausible(name, found))
            ):
                raise UserError(
                    f"{name} is implausible: {fault}", where=self.path, remedy="write its unit as the attribute units"
                )
        return dataclasses.replace(self, conversion=Conversion(None, factors), level_positions=None)

    def at_levels(self, levels: Sequence[float]) -> "ForecastStore":
        """The store of which these levels, hPa, are read."""
        held = self.dataset["level"].values.tolist()
        return dataclasses.replace(self, level_positions=np.array([held.index(level) for level in levels]))

    def chunks(self, name: str) -> tuple[int, int]:
        """Init times and lead times of one chunk of a variable."""
        array = self.dataset[name]
        return (
            1 if self.by_valid_time else chunk_length(array, "time"),
            chunk_length(array, "prediction_timedelta"),
        )

    def read(self, names: Sequence[str], inits: np.ndarray, leads: np.ndarray) -> dict[str, np.ndarray]:
        """Fields in scored units on the scored grid: by name, shape (init, lead, member, level, point).

        Forecasts that the store has not, by `has`, are NaN. There is one member where the store has none, and one
        level where the variable has none.

        Raises:
            UserError: a chunk cannot be read.
        """
        needed = dict.fromkeys(part for name in names for part in self.conversion.together(name))
        stored = self.conversion({part: self._stored(part, inits, leads) for part in needed})
        present = np.isin(leads, self.leads)
        result = {}
        for name in names:
            values = stored[name].reshape(*stored[name].shape[:4], -1)
            if not present.all():
                whole = np.full((values.shape[0], leads.size, *values.shape[2:]), np.nan, values.dtype)
                whole[:, present] = values
                values = whole
            result[name] = values
        return result

    def empty_levels(self, name: str, inits: np.ndarray, leads: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Scored levels at which the store holds nothing but NaN, in its first and its last forecast; bool, (level,).

        Stores of one level axis hold these where variables have levels of their own, such as Z500 and T850.

        Args:
            name: the variable.
            inits: init times.
            leads: lead times.
            present: which of their pairs are scored and in the store, shape (init, lead).
        """
        array, positions = self.dataset[name], self.level_positions
        if "level" not in array.dims or positions is None or positions.size < 2:
            return np.zeros(1 if positions is None or "level" not in array.dims else positions.size, bool)
        empty = np.ones(positions.size, bool)
        for init in (0, -1):
            lead = np.flatnonzero(present[init])[:1]
            if lead.size:
                values = self.read((name,), inits[[init]], leads[lead])[name]
                empty &= ~np.isfinite(values).any(axis=(0, 1, 2, 4))
        if empty.all():
            return np.zeros_like(empty)
        if empty.any():
            levels = ", ".join(f"{level:g}" for level in array["level"].values[positions[empty]])
            _log.warning("%s holds no %s at %s hPa: not scored there", self.system, name, levels)
        return empty

    def _stored(self, name: str, inits: np.ndarray, leads: np.ndarray) -> np.ndarray:
        """Fields as they are stored, at the lead times there are: (init, lead, member, level, latitude, longitude)."""
        array = self.dataset[name]
        if "level" in array.dims and self.level_positions is not None:
            array = array.isel(level=as_slice(self.level_positions))
        if not self.by_valid_time:
            array = array.isel(time=as_slice(np.searchsorted(self.times, inits)))
        present = np.isin(leads, self.leads)
        positions = np.array([int(np.flatnonzero(self.leads == lead)[0]) for lead in leads[present]], np.int64)
        if self.by_valid_time:
            parts = [
                self._values(
                    array.isel(
                        time=np.clip(np.searchsorted(self.times, inits + lead), 0, self.times.size - 1),
                        prediction_timedelta=position,
                    )
                )
                for lead, position in zip(leads[present], positions)
            ]
            values = np.stack(parts, axis=1)
            values[~self.has(inits, leads[present])] = np.nan
        else:
            values = self._values(array.isel(prediction_timedelta=as_slice(positions)))
        if "number" not in array.dims:
            values = values[:, :, None]
        return values if "level" in array.dims else values[:, :, :, None]

    def _values(self, array: xr.DataArray) -> np.ndarray:
        return read_values(array, str(array.name), "time", self.path)
