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
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.forecasts import open_forecast

_MEMBER = "number"
# More say no more in a picture.
_MOST_MEMBERS = 50


@dataclasses.dataclass(frozen=True)
class _Neighbours:
    """The four points around each place, and their weights.

    Attributes:
        rows, columns: of the grid, each once.
        below, left, right: of each place, its lower row and its columns, as positions among those.
        up, across: how far it lies between them.
    """

    rows: np.ndarray
    columns: np.ndarray
    below: np.ndarray
    left: np.ndarray
    right: np.ndarray
    up: np.ndarray
    across: np.ndarray

    @classmethod
    def of(cls, globe: Globe, latitude: np.ndarray, longitude: np.ndarray) -> "_Neighbours":
        row = np.interp(latitude, globe.latitude, np.arange(globe.latitude.size))
        below = np.minimum(row.astype(int), globe.latitude.size - 2)
        count = globe.longitude.size
        column = np.mod((longitude - globe.longitude[0]) / (360.0 / count), count)
        left, right = column.astype(int) % count, (column.astype(int) + 1) % count
        rows, columns = np.unique([below, below + 1]), np.unique([left, right])
        beneath = np.searchsorted(rows, below)
        west, east = np.searchsorted(columns, left), np.searchsorted(columns, right)
        return cls(rows, columns, beneath, west, east, row - below, column - np.floor(column))

    @property
    def indexers(self) -> dict[str, np.ndarray]:
        """Rows and columns to be read."""
        return {"latitude": self.rows, "longitude": self.columns}

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """From what was read, (…, row, column), to the places, (…, place)."""
        result = 0.0
        for row, share in ((self.below, 1 - self.up), (self.below + 1, self.up)):
            west, east = values[..., row, self.left], values[..., row, self.right]
            result = result + share * (west * (1 - self.across) + east * self.across)
        return np.asarray(result)


@dataclasses.dataclass(frozen=True)
class ForecastSample:
    """A forecast store beside its truth.

    Attributes:
        forecast: dims (time, prediction_timedelta[, level], latitude, longitude); the first member of an ensemble.
        truth: dims (time[, level], latitude, longitude).
        members: how many the ensemble has; 1 for a single forecast.
        ensemble: the forecast with all its members, along `number` where it has several.
        globe: what maps share.
        paths: of the forecast and of the truth.
    """

    forecast: xr.Dataset
    truth: xr.Dataset
    members: int
    ensemble: xr.Dataset
    globe: Globe
    paths: tuple[str, str]

    @classmethod
    def open(cls, forecast_path: str, truth_path: str, projection: Projection) -> "ForecastSample":
        """Opens both lazily; maps are in this projection.

        Raises:
            UserError: a store cannot be read, the grids differ, or no valid time is in the truth.
        """
        ensemble, truth = open_forecast(forecast_path), open_dataset(truth_path)
        require_same_grid(ensemble, truth, where=forecast_path)
        forecast = ensemble.isel({_MEMBER: 0}, drop=True) if _MEMBER in ensemble.dims else ensemble
        known = truth["time"].values
        valid = forecast["time"].values[:, None] + forecast["prediction_timedelta"].values
        if not np.isin(valid, known).any():
            raise UserError(
                "holds no valid time of the forecast", where=truth_path, remedy="give truth of the forecast's period"
            )
        members = ensemble.sizes.get(_MEMBER, 1)
        return cls(forecast, truth, members, ensemble, Globe.of(truth, projection), (forecast_path, truth_path))

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
        """The forecast in the units shown, (y, x) or (lead, y, x), float64."""
        array = field.of(self.forecast).sel(time=init).isel(prediction_timedelta=positions)
        return field.shown.of(self._values(array, self.paths[0]))

    def observed(self, field: Field, times: np.datetime64 | np.ndarray) -> np.ndarray:
        """The truth in the units shown, (y, x) or (time, y, x), float64."""
        return field.shown.of(self._values(field.of(self.truth).sel(time=times), self.paths[1]))

    def predicted_members(self, field: Field, init: np.datetime64, position: int) -> np.ndarray:
        """Up to fifty members in the units shown, (member, y, x), float64."""
        return field.shown.of(self._member_values(field, init, prediction_timedelta=position))

    def at_places(
        self, field: Field, init: np.datetime64, latitude: np.ndarray, longitude: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Members, (member, lead, place), and truth, (lead, place), in the units shown; bilinear, NaN where unknown."""
        near = _Neighbours.of(self.globe, latitude, longitude)
        members = near(self._member_values(field, init, **near.indexers))
        valid = init + self.leads
        known = np.isin(valid, self.truth["time"].values)
        truth = np.full((valid.size, latitude.size), np.nan)
        happened = field.of(self.truth).sel(time=valid[known]).isel(near.indexers)
        truth[known] = near(self._values(happened, self.paths[1]))
        return field.shown.of(members), field.shown.of(truth)

    def _member_values(self, field: Field, init: np.datetime64, **indexers: int | np.ndarray) -> np.ndarray:
        """Members in the units of the file, (member, …, y, x), float64; one of a single forecast."""
        array = field.of(self.ensemble).sel(time=init).isel(indexers)
        if _MEMBER not in array.dims:
            return self._values(array, self.paths[0])[None]
        return self._values(array.isel({_MEMBER: slice(_MOST_MEMBERS)}).transpose(_MEMBER, ...), self.paths[0])

    @staticmethod
    def _values(array: xr.DataArray, where: str) -> np.ndarray:
        array = array.transpose(..., "latitude", "longitude")
        return read_values(array, str(array.name), "time", where).astype(np.float64)
