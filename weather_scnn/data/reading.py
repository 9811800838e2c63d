"""States in the network's terms: standardised arrays of scalars and winds, and the forcings that are known ahead."""

import dataclasses
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from weather_scnn.data.channels import Channels, DataConfig
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.data.opening import open_dataset
from weather_scnn.data.solar import clock_features, toa_incident_solar_radiation
from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid

# One hour at the solar constant, J m⁻²: brings the forcing to order one.
_SOLAR_SCALE = 1361.0 * 3600.0


class StateArrays(NamedTuple):
    """Standardised states as NumPy float32, (t, y, x, channels)."""

    scalar: Float[np.ndarray, "t y x c"]
    eastward: Float[np.ndarray, "t y x d"]
    northward: Float[np.ndarray, "t y x d"]

    def take(self, indices: np.ndarray) -> "StateArrays":
        """States at these positions of the time axis; an index array of more dimensions gives as many."""
        return StateArrays(*(array[indices] for array in self))

    def finite(self) -> np.ndarray:
        """Whether each time has no NaN or infinity, (t,)."""
        flags = [np.isfinite(array).all(axis=(1, 2, 3)) for array in self]
        return np.logical_and.reduce(flags)


@dataclasses.dataclass(frozen=True)
class StateReader:
    """Reads the states of one store.

    Attributes:
        dataset: the canonical dataset, lazy.
        channels: layout of the state.
        normalisation: moments of the channels.
        grid: the store's grid.
    """

    dataset: xr.Dataset
    channels: Channels
    normalisation: Normalisation
    grid: Grid

    @classmethod
    def open(
        cls, path: str, channels: Channels, normalisation: Normalisation, grid: Grid, *, time: str | None = None
    ) -> "StateReader":
        """Opens a store and holds it against what the network was made for.

        Raises:
            UserError: variables, levels or times are missing, or the grid is another.
        """
        wanted = [*channels.variables, *channels.statics]
        dataset = open_dataset(path, variables=wanted, levels=list(channels.levels) or None, time=time or None)
        found = Grid.from_coordinates(dataset["longitude"].values, dataset["latitude"].values)
        if found.shape != grid.shape or found.kind != grid.kind or found.first_longitude != grid.first_longitude:
            raise UserError(
                f"the store's grid is {found.name} ({found.kind.value}) but {grid.name} ({grid.kind.value}) is expected",
                where=path,
                remedy=f"regrid the store with --grid {grid.name}, or train on it with --set data.grid={found.name}",
            )
        if "time" not in dataset.dims:
            raise UserError("has no time axis", where=path, remedy="give a store of states over time")
        return cls(dataset, channels, normalisation, grid)

    @property
    def times(self) -> np.ndarray:
        """Timestamps, datetime64[ns]."""
        return self.dataset["time"].values.astype("datetime64[ns]")

    @property
    def bytes_per_time(self) -> int:
        """Memory of one standardised state."""
        y, x = self.grid.shape
        return 4 * y * x * (len(self.channels.scalars) + 2 * len(self.channels.winds))

    def read(self, start: int, stop: int) -> StateArrays:
        """Standardised states start … stop − 1 of the time axis."""
        block = self.dataset[list(self.channels.variables)].isel(time=slice(start, stop)).load()
        y, x = self.grid.shape

        def gather(names: list[tuple[str, int | None]], mean: np.ndarray, std: np.ndarray) -> np.ndarray:
            out = np.empty((stop - start, y, x, len(names)), np.float32)
            for index, (name, level) in enumerate(names):
                array = block[name] if level is None else block[name].sel(level=level)
                out[..., index] = (array.transpose("time", "latitude", "longitude").values - mean[index]) / std[index]
            return out

        moments = self.normalisation
        none = np.zeros_like(moments.wind_std)
        return StateArrays(
            gather(list(self.channels.scalars), moments.scalar_mean, moments.scalar_std),
            gather([(u, level) for u, _, level in self.channels.winds], none, moments.wind_std),
            gather([(v, level) for _, v, level in self.channels.winds], none, moments.wind_std),
        )

    def statics(self) -> Float[np.ndarray, "y x s"]:
        """Standardised static fields and the sine of latitude."""
        y, x = self.grid.shape
        out = np.empty((y, x, len(self.channels.statics) + 1), np.float32)
        moments = self.normalisation
        for index, name in enumerate(self.channels.statics):
            array = self.dataset[name]
            if "time" in array.dims:
                array = array.isel(time=0)
            values = array.transpose("latitude", "longitude").values
            if not np.isfinite(values).all():
                raise UserError(f"the static field {name} has NaNs", remedy="fill them, or leave the field out")
            out[..., index] = (values - moments.static_mean[index]) / moments.static_std[index]
        out[..., -1] = np.sin(np.radians(self.grid.latitude))[:, None]
        return out

    def forcings(self, times: np.ndarray) -> Float[np.ndarray, "t y x f"]:
        """Forcings at these times; see `forcings`."""
        return forcings(times, self.channels, self.grid)


def forcings(times: np.ndarray, channels: Channels, grid: Grid) -> Float[np.ndarray, "t y x f"]:
    """Solar radiation of the hour before, and sines and cosines of the phases of the year and of the local day."""
    parts = []
    if channels.solar:
        radiation = toa_incident_solar_radiation(times, grid.latitude, grid.longitude)
        parts.append(radiation[..., None] / _SOLAR_SCALE)
    if channels.clock:
        phases = clock_features(times, grid.longitude)  # (t, x, 4)
        parts.append(np.broadcast_to(phases[:, None], (len(times), *grid.shape, 4)))
    if not parts:
        return np.zeros((len(times), *grid.shape, 0), np.float32)
    return np.concatenate(parts, axis=-1).astype(np.float32)


def expected_grid(config: DataConfig) -> Grid:
    """The grid a configuration names."""
    return Grid.from_name(config.grid, poles=config.poles)
