"""Which fields make the state, in which order: scalars and winds, a channel for every level."""

import dataclasses

import numpy as np

from weather_scnn.catalogue.field_names import field_in_words, split_levels, wind_name
from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.catalogue.variables import PARTNERS, WIND_PAIRS
from weather_scnn.errors import UserError
from weather_scnn.io.addresses import expanded
from weather_scnn.io.durations import parse_duration
from weather_scnn.setting_limits import at_least

#: Static inputs that need no data.
COORDINATES = ("sin_latitude", "sin_longitude", "cos_longitude")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read, and from when.

    Attributes:
        path: training store, as written by `weather-scnn regrid` or `simulate`.
        statistics: file written by `weather-scnn stats`; empty lets `train` compute it from the training period.
        grid: LONxLAT of the store.
        poles: whether the grid has rows on the poles.
        level_variables: fields on pressure levels; geopotential@500/850 has these levels in place of `levels`.
        levels: those of `level_variables`, in hPa.
        surface_variables: fields without levels.
        static_variables: fields without time.
        masked_variables: those of the state that are missing over part of the globe, such as sea_surface_temperature
            over land: NaNs are filled with the mean in the input, left out of the loss, and NaN in forecasts.
        solar: give the incident solar radiation at the top of the atmosphere as a forcing.
        clock: give the phases of the year and of the local day as forcings.
        coordinates: static inputs made of the coordinates: sin_latitude, sin_longitude, cos_longitude.
        forcing_times: 2 gives forcings at the start and the end of a step, 1 at the start alone.
        step: time step of the forecaster; a long one makes a direct forecast of that lead.
        input_steps: number of input times.
        input_step: distance between them; empty takes `step`. Another one allows rollouts of one step only.
        train: period A:B of the training; empty takes all.
        validation: period A:B watched while training; empty watches nothing.
        cache_gigabytes: a period that fits into this much memory is read once; otherwise as much holds decoded chunks. The
            windows of the validation share it.
        shuffle_windows: 0 shuffles all windows of an epoch; otherwise they are shuffled within buffers of about this
            many, filled from runs of consecutive times in shuffled order, for stores whose chunks hold many times.
        prefetch: batches prepared in advance.
        readers: threads that prepare batches.
    """

    path: str = ""
    statistics: str = ""
    grid: str = "64x32"
    poles: bool = False
    level_variables: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    surface_variables: tuple[str, ...] = ()
    static_variables: tuple[str, ...] = ()
    masked_variables: tuple[str, ...] = ()
    solar: bool = True
    clock: bool = True
    coordinates: tuple[str, ...] = ("sin_latitude",)
    forcing_times: int = 2
    step: str = "6h"
    input_steps: int = 1
    input_step: str = ""
    train: str = ""
    validation: str = ""
    cache_gigabytes: float = 2.0
    shuffle_windows: int = 0
    prefetch: int = 4
    readers: int = 2

    def __post_init__(self) -> None:
        for name in ("path", "statistics"):
            object.__setattr__(self, name, expanded(getattr(self, name)))
        parse_duration(self.step, "data.step", likely=("h",))
        if self.input_step:
            parse_duration(self.input_step, "data.input_step", likely=("h",))
        if self.forcing_times not in (1, 2):
            raise UserError(f"data.forcing_times is {self.forcing_times}", remedy="set it to 1 or 2")
        limits = {"input_steps": 1, "readers": 1, "prefetch": 1, "cache_gigabytes": 0, "shuffle_windows": 0}
        at_least("data", self, limits)

    @property
    def input_interval(self) -> np.timedelta64:
        """Distance between the input times."""
        return parse_duration(self.input_step or self.step)

    @property
    def direct(self) -> bool:
        """Whether a forecast cannot be the next input: the network takes states at another distance than its step."""
        return self.input_steps > 1 and bool(self.input_interval != parse_duration(self.step))


@dataclasses.dataclass(frozen=True)
class Channels:
    """The state's channels.

    Attributes:
        scalars: (variable, level) of each spin-0 channel; level None for a field without levels.
        winds: (eastward variable, northward variable, level) of each spin-1 channel.
        statics: fields without time.
        solar, clock: forcings asked for.
        masked: variables that may be missing over part of the globe.
        coordinates: static inputs made of the coordinates.
        forcing_times: times of a step whose forcings are given.
    """

    scalars: tuple[tuple[str, Level | None], ...]
    winds: tuple[tuple[str, str, Level | None], ...]
    statics: tuple[str, ...]
    solar: bool
    clock: bool
    masked: tuple[str, ...] = ()
    coordinates: tuple[str, ...] = ("sin_latitude",)
    forcing_times: int = 2

    @classmethod
    def from_config(cls, config: DataConfig) -> "Channels":
        """Pairs the winds and lays out the channels.

        Raises:
            UserError: no field at all, or one component of a wind without the other.
        """
        scalars: list[tuple[str, Level | None]] = []
        winds: list[tuple[str, str, Level | None]] = []
        on_levels = dict(map(split_levels, config.level_variables))
        if any(levels is None for levels in on_levels.values()) and not config.levels:
            raise UserError("data.level_variables are given but data.levels is empty", remedy="set data.levels")
        common = tuple(map(level_number, config.levels))
        groups: list[dict[str, tuple[Level | None, ...]]] = [
            {name: common if levels is None else levels for name, levels in on_levels.items()},
            dict.fromkeys(config.surface_variables, (None,)),
        ]
        for variables in groups:
            for name, levels in variables.items():
                partner = PARTNERS.get(name)
                if partner is None:
                    scalars.extend((name, level) for level in levels)
                elif partner not in variables:
                    raise UserError(f"{name} is given without {partner}", remedy=f"add {partner}")
                elif name in WIND_PAIRS:
                    if variables[partner] != levels:
                        told = f"{name} and {partner} are given on different levels"
                        raise UserError(told, remedy="give them the same")
                    winds.extend((name, partner, level) for level in levels)
        if not scalars and not winds:
            raise UserError("the configuration names no state variable", remedy="set data.surface_variables")
        for name in config.masked_variables:
            if name not in (*on_levels, *config.surface_variables):
                raise UserError(
                    f"data.masked_variables names {name}, which is not in the state",
                    remedy="add it to data.surface_variables or data.level_variables, or leave it out",
                )
        for name in config.coordinates:
            if name not in COORDINATES:
                raise UserError(f"data.coordinates names {name}", remedy=f"choose of {', '.join(COORDINATES)}")
        return cls(
            tuple(scalars),
            tuple(winds),
            config.static_variables,
            config.solar,
            config.clock,
            config.masked_variables,
            config.coordinates,
            config.forcing_times,
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the state's variables, each once."""
        names = [name for name, _ in self.scalars]
        for eastward, northward, _ in self.winds:
            names += [eastward, northward]
        return tuple(dict.fromkeys(names))

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels in use, in hPa."""
        found = [level for _, level in self.scalars] + [level for _, _, level in self.winds]
        return tuple(dict.fromkeys(level for level in found if level is not None))

    @property
    def forcing_count(self) -> int:
        """Channels of the forcings of one time."""
        return int(self.solar) + 4 * int(self.clock)

    @property
    def extra_count(self) -> int:
        """Static channels with the coordinates, and the forcings at the times of a step that are given."""
        return self.static_count + self.forcing_times * self.forcing_count

    @property
    def static_count(self) -> int:
        """Static fields and coordinates."""
        return len(self.statics) + len(self.coordinates)

    @property
    def fields(self) -> list[tuple[str, Level | None]]:
        """Name and level of each channel, scalars before winds."""
        return [*self.scalars, *((wind_name(eastward), level) for eastward, _, level in self.winds)]

    def describe(self) -> list[str]:
        """One name a channel, scalars before winds, for messages and logs."""
        return [field_in_words(*field) for field in self.fields]
