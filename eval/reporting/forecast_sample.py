"""A bounded sample of a forecast store and the truth at its valid times, for maps, histograms and the animation."""

import dataclasses

import numpy as np
import xarray as xr

from eval.field_reading import read_values
from eval.forecasts import require_same_grid
from eval.reporting.projection import Projection
from eval.reporting.world_map import Globe
from eval.scorecard import Field
from weather_scnn.errors import UserError
from weather_scnn.io.forecasts import open_forecast
from weather_scnn.io.opening import open_dataset

_MEMBERS = ("realization", "number", "member", "ensemble")


@dataclasses.dataclass(frozen=True)
class ForecastSample:
    """A forecast store beside its truth.

    Attributes:
        forecast: dims (time, prediction_timedelta[, level], latitude, longitude); the first member of an ensemble.
        truth: dims (time[, level], latitude, longitude).
        members: how many the ensemble has; 1 for a single forecast.
        globe: what maps share.
        paths: of the forecast and of the truth.
    """

    forecast: xr.Dataset
    truth: xr.Dataset
    members: int
    globe: Globe
    paths: tuple[str, str]

    @classmethod
    def open(cls, forecast_path: str, truth_path: str, projection: Projection) -> "ForecastSample":
        """Opens both lazily; maps are in this projection.

        Raises:
            UserError: a store cannot be read, the grids differ, or no valid time is in the truth.
        """
        forecast, truth = open_forecast(forecast_path), open_dataset(truth_path)
        require_same_grid(forecast, truth, where=forecast_path)
        members = 1
        for name in _MEMBERS:
            if name in forecast.dims:
                members = forecast.sizes[name]
                forecast = forecast.isel({name: 0}, drop=True)
        known = truth["time"].values
        valid = forecast["time"].values[:, None] + forecast["prediction_timedelta"].values
        if not np.isin(valid, known).any():
            raise UserError(
                "holds no valid time of the forecast", where=truth_path, remedy="give truth of the forecast's period"
            )
        return cls(forecast, truth, members, Globe.of(truth, projection), (forecast_path, truth_path))

    @property
    def leads(self) -> np.ndarray:
        """Lead times, timedelta64[ns]."""
        return self.forecast["prediction_timedelta"].values

    def has(self, field: Field) -> bool:
        """Whether both hold the field."""
        datasets = (self.forecast, self.truth)
        return all(
            field.variable in data and (field.level is None or field.level in data["level"].values) for data in datasets
        )

    def inits(self, position: int) -> np.ndarray:
        """Init times whose forecast at this lead time can be held against the truth."""
        times = self.forecast["time"].values
        return times[np.isin(times + self.leads[position], self.truth["time"].values)]

    def longest(self) -> np.datetime64:
        """Of the init times with truth at the most lead times, the one in the middle."""
        times = self.forecast["time"].values
        count = np.isin(times[:, None] + self.leads, self.truth["time"].values).sum(axis=1)
        best = times[count == count.max()]
        return best[best.size // 2]

    def predicted(self, field: Field, init: np.datetime64, positions: int | np.ndarray) -> np.ndarray:
        """The forecast, (y, x) or (lead, y, x), float64."""
        array = field.of(self.forecast).sel(time=init).isel(prediction_timedelta=positions)
        return self._values(array, self.paths[0])

    def observed(self, field: Field, times: np.datetime64 | np.ndarray) -> np.ndarray:
        """The truth, (y, x) or (time, y, x), float64."""
        return self._values(field.of(self.truth).sel(time=times), self.paths[1])

    @staticmethod
    def _values(array: xr.DataArray, where: str) -> np.ndarray:
        array = array.transpose(..., "latitude", "longitude")
        return read_values(array, str(array.name), "time", where).astype(np.float64)
