"""A trained forecaster for use from Python, on xarray objects."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast import forecast as run_forecast
from weather_scnn.forecasting.forecast import open_states
from weather_scnn.forecasting.forecast_store import to_dataset
from weather_scnn.forecasting.initial_states import whole_histories
from weather_scnn.forecasting.propagation import propagate, read_states
from weather_scnn.forecasting.trained_run import TrainedRun, load_runs
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.in_memory import address_of, taken_from_store
from weather_scnn.nn import map_fields
from weather_scnn.sphere import Grid
from weather_scnn.training.chance import Chance
from weather_scnn.training.forcings import phases
from weather_scnn.training.loss import make_scales


@dataclasses.dataclass(frozen=True)
class Forecaster:
    """A trained forecaster, or several that make an ensemble.

    Attributes:
        runs: the forecasters, each with its configuration, channels and normalisation.
    """

    runs: tuple[TrainedRun, ...]

    @classmethod
    def load(cls, workdir: str, checkpoints: str | None = None) -> "Forecaster":
        """See `weather_scnn.load_forecaster`."""
        return cls(tuple(load_runs(workdir, checkpoints)))

    @property
    def grid(self) -> Grid:
        """Of its states."""
        return self.runs[0].grid

    @property
    def variables(self) -> tuple[str, ...]:
        """Of its states."""
        return tuple(self.runs[0].channels.variables)

    @property
    def levels(self) -> tuple[float, ...]:
        """Of its states, hPa."""
        return tuple(self.runs[0].channels.levels)

    @property
    def timestep(self) -> np.timedelta64:
        """From one state to the next."""
        return parse_duration(self.runs[0].config.data.step)

    def forecast(
        self,
        dataset: str | pathlib.Path | xr.Dataset,
        *,
        init: str | np.datetime64,
        lead: str | None = None,
        leads: str | None = None,
        variables: Sequence[str] | None = None,
        derived: Sequence[str] = (),
        levels: Sequence[float] | None = None,
        region: str | None = None,
        members: int | None = None,
        perturbation: str | None = None,
        amplitude: float | str = "auto",
        seed: int = 0,
        batch_size: int = 8,
        allow_implausible: bool = False,
    ) -> xr.Dataset:
        """Forecasts from every initial time, with the numbers of `weather-scnn forecast`.

        Args:
            dataset: with the initial states, on the forecaster's grid; a path, or in memory or dask-backed.
            init: initial times "A:B[:STEP]", inclusive, or one time.
            lead: longest lead, such as 5d.
            leads, variables, derived, levels, region: what to keep, see `weather_scnn.forecasting.forecast.forecast`.
            members: size of an ensemble, with the dimension `realization`; default a single forecast.
            perturbation, amplitude, seed, batch_size, allow_implausible: see `weather_scnn.forecasting.forecast.forecast`.

        Returns:
            Dimensions (time[, realization], prediction_timedelta[, level], latitude, longitude), in memory; for more
            than fits, use the command, which streams to a store.

        Raises:
            UserError: the dataset does not fit the forecaster, a state is missing, or a forecast leaves the plausible.
        """
        source = str(dataset) if isinstance(dataset, pathlib.Path) else dataset
        if not isinstance(init, str):
            init = np.datetime_as_string(np.datetime64(init), "m")
        with address_of(source) as address, tempfile.TemporaryDirectory(prefix="weather-scnn-") as folder:
            output = str(pathlib.Path(folder) / "forecast.zarr")
            try:
                run_forecast(
                    self.runs, address, output, init=init, lead=lead, leads=leads, variables=variables, derived=derived,
                    levels=levels, region=region, members=members, perturbation=perturbation, amplitude=amplitude, seed=seed, batch_size=batch_size, allow_implausible=allow_implausible,
                    progress=False,
                )  # fmt: skip
            except UserError as error:
                if error.where != output:
                    raise
                # Of forecasts that stopped; their store is not one that a caller could look at.
                raise UserError(
                    error.what, remedy="take fewer leads or a smaller amplitude, or allow_implausible=True to go on"
                ) from None
            return taken_from_store(output)

    def step(self, state: str | pathlib.Path | xr.Dataset) -> xr.Dataset:
        """The state one step after the last time of `state`, by the first of the forecasters and its member 0.

        Args:
            state: the latest states, as many as the forecaster takes, on its grid; earlier times do not count.

        Returns:
            One time of the forecaster's variables, as the next step needs it: what is never negative may be a little
            below zero here. Joined to `state` along time, it can be stepped again; static fields
            are needed only where the checkpoint does not hold them.

        Raises:
            UserError: the state does not fit the forecaster.
        """
        run = self.runs[0]
        data = run.config.data
        with address_of(str(state) if isinstance(state, pathlib.Path) else state) as address:
            reader = open_states([run], address)
            statics = reader.statics() if run.statics is None else run.statics
            last = reader.times[-1:]
            rows = whole_histories(reader, last, data.input_interval, data.input_steps)
            forcings = jnp.asarray(phases(last[:, None] + self.timestep * np.arange(2)))
            scales = make_scales(run.channels, run.normalisation, statics, run.grid)
            chance = Chance.begin(run.parts, 0, last, np.zeros(1, int))
            _, _, states = propagate(run.parts, read_states(reader, rows), scales, forcings, chance, leads=1)
            found = to_dataset(map_fields(np.asarray, states), reader, members=1, ensemble=False).squeeze(
                "prediction_timedelta"
            )
            coordinates = {axis: reader.dataset[axis].variable for axis in ("latitude", "longitude")}
            if "level" in found.dims:
                coordinates["level"] = reader.dataset["level"].variable
            for name, array in found.data_vars.items():
                array.attrs = dict(reader.dataset[name].attrs)
        return found.assign_coords(coordinates).assign_coords(time=("time", last + self.timestep))
