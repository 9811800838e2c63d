"""Which fields make the state, in which order: scalars and winds, a channel for every level."""

import dataclasses

from weather_scnn.data.catalogue import WIND_PAIRS
from weather_scnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read, and from when.

    Attributes:
        path: training store, as written by `weather-scnn regrid` or `simulate`.
        statistics: file written by `weather-scnn stats`; empty lets `train` compute it from the training period.
        grid: LONxLAT of the store.
        poles: whether the grid has rows on the poles.
        level_variables: fields on pressure levels.
        levels: hPa.
        surface_variables: fields without levels.
        static_variables: fields without time.
        masked_variables: those of the state that are missing over part of the globe, such as sea_surface_temperature
            over land: NaNs are filled with the mean in the input, left out of the loss, and NaN in forecasts.
        solar: give the incident solar radiation at the top of the atmosphere as a forcing.
        clock: give the phases of the year and of the local day as forcings.
        step: time step of the forecaster.
        input_steps: number of input times, `step` apart.
        train: period A:B of the training; empty takes all.
        validation: period A:B watched while training; empty watches nothing.
        cache_gigabytes: a period that fits into this much memory is read once; otherwise as much holds decoded chunks.
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
    levels: tuple[int, ...] = ()
    surface_variables: tuple[str, ...] = ()
    static_variables: tuple[str, ...] = ()
    masked_variables: tuple[str, ...] = ()
    solar: bool = True
    clock: bool = True
    step: str = "6h"
    input_steps: int = 1
    train: str = ""
    validation: str = ""
    cache_gigabytes: float = 2.0
    shuffle_windows: int = 0
    prefetch: int = 4
    readers: int = 2


@dataclasses.dataclass(frozen=True)
class Channels:
    """The state's channels.

    Attributes:
        scalars: (variable, level) of each spin-0 channel; level None for a field without levels.
        winds: (eastward variable, northward variable, level) of each spin-1 channel.
        statics: fields without time.
        solar, clock: forcings asked for.
        masked: variables that may be missing over part of the globe.
    """

    scalars: tuple[tuple[str, int | None], ...]
    winds: tuple[tuple[str, str, int | None], ...]
    statics: tuple[str, ...]
    solar: bool
    clock: bool
    masked: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: DataConfig) -> "Channels":
        """Pairs the winds and lays out the channels.

        Raises:
            UserError: no field at all, or one component of a wind without the other.
        """
        scalars: list[tuple[str, int | None]] = []
        winds: list[tuple[str, str, int | None]] = []
        northward = set(WIND_PAIRS.values())
        if config.level_variables and not config.levels:
            raise UserError("data.level_variables are given but data.levels is empty", remedy="set data.levels")
        groups: list[tuple[tuple[str, ...], tuple[int | None, ...]]] = [
            (config.level_variables, config.levels),
            (config.surface_variables, (None,)),
        ]
        for variables, levels in groups:
            for name in variables:
                if name in WIND_PAIRS:
                    partner = WIND_PAIRS[name]
                    if partner not in variables:
                        raise UserError(f"{name} is given without {partner}", remedy=f"add {partner}")
                    winds.extend((name, partner, level) for level in levels)
                elif name in northward:
                    partner = next(u for u, v in WIND_PAIRS.items() if v == name)
                    if partner not in variables:
                        raise UserError(f"{name} is given without {partner}", remedy=f"add {partner}")
                else:
                    scalars.extend((name, level) for level in levels)
        if not scalars and not winds:
            raise UserError("the configuration names no state variable", remedy="set data.surface_variables")
        for name in config.masked_variables:
            if name not in (*config.level_variables, *config.surface_variables):
                raise UserError(
                    f"data.masked_variables names {name}, which is not in the state",
                    remedy="add it to data.surface_variables or data.level_variables, or leave it out",
                )
        return cls(
            tuple(scalars), tuple(winds), config.static_variables, config.solar, config.clock, config.masked_variables
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the state's variables, each once."""
        names = [name for name, _ in self.scalars]
        for eastward, northward, _ in self.winds:
            names += [eastward, northward]
        return tuple(dict.fromkeys(names))

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels in use, in hPa."""
        found = [level for _, level in self.scalars] + [level for _, _, level in self.winds]
        return tuple(dict.fromkeys(level for level in found if level is not None))

    @property
    def forcing_count(self) -> int:
        """Channels of the forcings of one time."""
        return int(self.solar) + 4 * int(self.clock)

    @property
    def extra_count(self) -> int:
        """Static channels with the sine of latitude, and the forcings at the start and the end of a step."""
        return len(self.statics) + 1 + 2 * self.forcing_count

    def describe(self) -> list[str]:
        """One name a channel, scalars before winds, for messages and logs."""
        names = [name if level is None else f"{name} at {level} hPa" for name, level in self.scalars]
        for eastward, _, level in self.winds:
            wind = eastward.replace("u_component_of_", "")
            names.append(wind if level is None else f"{wind} at {level} hPa")
        return names
