"""What each forecast step is held to: global budgets and signs, in physical units, between the network and the next step.

A network conserves nothing, and what it gains at each step adds up over thousands. Correctors change the state that a
step ends with by as little as brings it right, before it is scored and fed on; so the network is trained through them, as in
ACE2 (Watt-Meyer et al. 2025). Means over the globe are by `Grid.area_weights`, those that scores and `stability` take. Each
budget is closed against the state that the step began with, by means of differences, whose rounding is that of the
change and not of the whole, so that thousands of steps lose nothing. In this order, so that none undoes another:

1. `means`: a uniform shift brings the global mean of a field back.
2. `positive`: what is below zero is cut off; `rescale` then scales the field so that its global mean stays.
3. `dry_air`: with the water w of a column per unit area, the global mean of p_s − g w stays, by a uniform shift of p_s. Where
   w is that of layers that the ground cuts, it depends on p_s, and the shift comes from two steps of Newton's method. A
   state without humidity keeps the mean of p_s.
4. `moisture`: precipitation is scaled so that the global means obey Δw = E − P. Where they ask for less than none,
   there is none, and the budget stays open by the rest.
5. `energy`: the global mean of Σ (c_p T + L q + (u² + v²)/2) Δp/g + Φ_s p_s/g, the enthalpy, latent and kinetic energy of a column
   with the potential energy of its ground, which is that of a hydrostatic column up to the top (Trenberth 1997), changes
   by nothing or by the fluxes, through a uniform shift of T on all levels. Geopotential on levels is left as it is; the
   ground is flat where `geopotential_at_surface` is no static field.

The water w is `total_column_water_vapour` where the state has it, else the integral of specific humidity over the levels there
are; that, T and the winds each stand for the layers of `weather_scnn.physics.columns`, which says how far off that is.

Corrections depend on means over the globe alone, so they commute with the mirror at the equator and turns about the axis; with
turns that tilt it as far as the grid's weights are exact.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from weather_scnn.catalogue.naming import lookup, window_name
from weather_scnn.catalogue.units import GRAVITY
from weather_scnn.errors import UserError
from weather_scnn.models import CorrectorConfig
from weather_scnn.nn import Fields
from weather_scnn.physics.columns import HEAT_CAPACITY, LATENT_HEAT, column_integral
from weather_scnn.sphere.products import EXACT
from weather_scnn.training.channels import Channels
from weather_scnn.training.normalisation import Normalisation

_WATER_DENSITY = 1000.0
# What warms the column, of the totals that count downwards: what comes in at the top, less what goes on into the ground.
_FLUXES = {
    "top_net_solar_radiation": 1, "top_net_thermal_radiation": 1, "surface_net_solar_radiation": -1,
    "surface_net_thermal_radiation": -1, "surface_sensible_heat_flux": -1, "surface_latent_heat_flux": -1,
}  # fmt: skip
# kg m⁻² of evaporated water in a unit of the total, which counts downwards.
_EVAPORATION = {"evaporation": -_WATER_DENSITY, "surface_latent_heat_flux": -1.0 / LATENT_HEAT}


class Moments(NamedTuple):
    """From standardised to physical values, on the device.

    Attributes:
        mean, std: of the scalars, (c,).
        wind: factor of the winds, (d,).
        zero: the least standardised value of each scalar that is not negative, (c,).
        static_mean, static_std: of the static fields, (s,).
    """

    mean: Float[Array, " c"]
    std: Float[Array, " c"]
    wind: Float[Array, " d"]
    zero: Float[Array, " c"]
    static_mean: Float[Array, " s"]
    static_std: Float[Array, " s"]

    @classmethod
    def of(cls, moments: Normalisation) -> "Moments":
        """On the device, in float32."""
        zero = np.nextafter((-moments.scalar_mean / moments.scalar_std).astype(np.float32), np.float32(np.inf))
        single = (
            moments.scalar_mean,
            moments.scalar_std,
            moments.wind_std,
            zero,
            moments.static_mean,
            moments.static_std,
        )
        return cls(*(jnp.asarray(values, jnp.float32) for values in single))


@dataclasses.dataclass(frozen=True)
class Column:
    """A field on levels: its channels, and their levels in hPa."""

    channels: tuple[int, ...]
    levels: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Correctors:
    """Which channels are corrected by which.

    Attributes:
        held: scalars whose global mean stays.
        climate: whether that mean is the training period's, 0 where standardised, and not the one of the state before.
        clipped, rescaled: scalars that are not negative; of the latter the global mean stays.
        dry_air: whether its mass is held.
        pressure: the surface pressure.
        vapour, total: specific humidity on levels, and the column's water vapour, which goes before it.
        rain: precipitation over the step, where it closes the budget of water.
        evaporation: its channel and the kg m⁻² in a unit of it.
        temperature, wind: on levels; a temperature has its energy budget closed.
        ground: place of the surface geopotential among the static fields.
        fluxes: channels and signs of what warms the column.
    """

    held: tuple[int, ...] = ()
    climate: bool = False
    clipped: tuple[int, ...] = ()
    rescaled: tuple[int, ...] = ()
    dry_air: bool = False
    pressure: int | None = None
    vapour: Column | None = None
    total: int | None = None
    rain: int | None = None
    evaporation: tuple[int, float] = (0, 0.0)
    temperature: Column | None = None
    wind: Column | None = None
    ground: int | None = None
    fluxes: tuple[tuple[int, int], ...] = ()

    def __call__(
        self,
        before: Fields,
        after: Fields,
        moments: Moments,
        area: Float[Array, " y"],
        statics: Float[Array, "y x s"],
    ) -> Fields:
        """The corrected state.

        Args:
            before: standardised state that the step began with, without gaps, (b, y, x, c).
            after: the one it ends with.
            moments: of the channels.
            area: weights of the rows, of mean 1.
            statics: standardised static fields.
        """
        mean = functools.partial(_mean, area=area)
        values = functools.partial(_values, moments=moments)
        scalar, old = after.scalar, before.scalar
        count = scalar.shape[-1]
        if self.held:
            off = mean(scalar) if self.climate else mean(scalar - old)
            scalar = scalar - off[:, None, None] * _one_at(self.held, count)
        if self.clipped or self.rescaled:
            scalar = self._not_negative(scalar, moments, area)
        if self.dry_air and self.pressure is not None:
            index, old_water = self.pressure, self._water(old, moments)
            for _ in range(2):
                pressure, water = values(scalar, index), functools.partial(self._water, scalar, moments)
                weight, slope = jax.jvp(water, (pressure,), (jnp.ones_like(pressure),))
                gained = moments.std[index] * mean(scalar[..., index] - old[..., index]) - mean(weight - old_water)
                shift = gained / (1.0 - mean(slope)) / moments.std[index]
                scalar = scalar - shift[:, None, None, None] * _one_at((index,), count)
        if self.rain is not None:
            gained = mean(self._water(scalar, moments) - self._water(old, moments)) / GRAVITY
            channel, each = self.evaporation
            wanted = each * mean(values(scalar, channel)) - gained
            rain, zero = _WATER_DENSITY * mean(values(scalar, self.rain)), moments.zero[self.rain]
            factor = jnp.where(rain > 0, jnp.maximum(wanted, 0.0) / jnp.where(rain > 0, rain, 1.0), 1.0)
            scaled = zero + (scalar - zero) * factor[:, None, None, None]
            scalar = jnp.where(_one_at((self.rain,), count), scaled, scalar)
        if self.temperature is not None:
            energy = functools.partial(self._energy, moments=moments, statics=statics)
            gained = mean(energy(after._replace(scalar=scalar)) - energy(before))
            for channel, sign in self.fluxes:
                gained = gained - sign * GRAVITY * mean(values(scalar, channel))
            # The thicknesses of a column's layers add up to its surface pressure.
            shift = gained / (HEAT_CAPACITY * mean(values(scalar, self.pressure)))
            scalar = scalar - shift[:, None, None, None] * _one_at(self.temperature.channels, count) / moments.std
        return after._replace(scalar=scalar)

    def _not_negative(
        self, scalar: Float[Array, "b y x c"], moments: Moments, area: Float[Array, " y"]
    ) -> Float[Array, "b y x c"]:
        count = scalar.shape[-1]
        given = scalar - moments.zero
        above = jnp.maximum(given, 0.0)
        # A field all below zero has nothing to take from, and becomes zero.
        added, whole = _mean(above - given, area), _mean(above, area)
        factor = jnp.where(whole > 0, jnp.maximum(1.0 - added / jnp.where(whole > 0, whole, 1.0), 0.0), 1.0)
        factor = jnp.where(_one_at(self.rescaled, count), factor, 1.0)
        # Fields without a negative value stay as they are, to the bit.
        chosen = _one_at(self.clipped + self.rescaled, count) & (added > 0)[:, None, None]
        return jnp.where(chosen, moments.zero + above * factor[:, None, None], scalar)

    def _water(
        self, scalar: Float[Array, "b y x c"], moments: Moments, pressure: Float[Array, "b y x"] | None = None
    ) -> Float[Array, "b y x"]:
        """Weight of the column's water vapour, Pa, under the state's surface pressure or another."""
        if self.total is not None:
            return GRAVITY * _values(scalar, self.total, moments)
        pressure = _values(scalar, self.pressure, moments) if pressure is None else pressure
        if self.vapour is None:
            return jnp.zeros_like(pressure)
        return column_integral(_values(scalar, self.vapour.channels, moments), pressure, self.vapour.levels)

    def _energy(self, state: Fields, moments: Moments, statics: Float[Array, "y x s"]) -> Float[Array, "b y x"]:
        """Energy of a column times the acceleration of gravity, J m⁻² m s⁻²."""
        assert self.temperature is not None
        pressure = _values(state.scalar, self.pressure, moments)
        temperature = _values(state.scalar, self.temperature.channels, moments)
        energy = HEAT_CAPACITY * column_integral(temperature, pressure, self.temperature.levels)
        energy = energy + LATENT_HEAT * self._water(state.scalar, moments)
        if self.wind is not None:
            channels = np.array(self.wind.channels)
            squares = state.eastward[..., channels] ** 2 + state.northward[..., channels] ** 2
            energy = energy + column_integral(0.5 * moments.wind[channels] ** 2 * squares, pressure, self.wind.levels)
        if self.ground is not None:
            height = statics[..., self.ground] * moments.static_std[self.ground] + moments.static_mean[self.ground]
            energy = energy + height * pressure
        return energy


def _one_at(channels: tuple[int, ...], count: int) -> Bool[np.ndarray, " c"]:
    """Which of so many channels are named."""
    return np.isin(np.arange(count), channels)


def _mean(values: Float[Array, "b y x *k"], area: Float[Array, " y"]) -> Float[Array, " b *k"]:
    """Mean over the globe."""
    return jnp.einsum("byx...,y->b...", values, area / (values.shape[1] * values.shape[2]), precision=EXACT)


def _values(
    scalar: Float[Array, "b y x c"], channels: int | tuple[int, ...] | None, moments: Moments
) -> Float[Array, "b y x *k"]:
    """In the fields' units, of one channel, or of several along the last axis."""
    chosen = np.array(channels, int)
    return scalar[..., chosen] * moments.std[chosen] + moments.mean[chosen]


@dataclasses.dataclass(frozen=True)
class _State:
    """Where the fields of a state are, for a step of so many hours."""

    channels: Channels
    hours: float

    def over(self, total: str) -> str:
        """Name of a total over one step."""
        return window_name(total, self.hours)

    def need(self, corrector: str, *names: str) -> int:
        """The channel of the first of the fields that is there.

        Raises:
            UserError: none is.
        """
        for index, (name, _) in enumerate(self.channels.scalars):
            if name in names:
                return index
        kind = "level" if names[0] in ("temperature", "specific_humidity") else "surface"
        raise UserError(
            f"model.correctors.{corrector} needs {' or '.join(names)}, which the state does not hold",
            remedy=f"add it to data.{kind}_variables, or leave the corrector out",
        )

    def find(self, name: str) -> int | None:
        """The channel of a field without levels, if it is there."""
        return next((index for index, each in enumerate(self.channels.scalars) if each == (name, None)), None)

    def column(self, name: str) -> Column | None:
        """A field on levels, if it is there."""
        fields = [(each, level) for each, level in self.channels.scalars]
        if name == "u_component_of_wind":
            fields = [(each, level) for each, _, level in self.channels.winds]
        found = [(index, level) for index, (each, level) in enumerate(fields) if each == name and level is not None]
        return Column(*zip(*found)) if found else None


def settle(config: CorrectorConfig, channels: Channels, step_hours: float) -> Correctors | None:
    """Finds the channels that a configuration's correctors need; None where there are no correctors.

    Raises:
        UserError: one is not in the state, or may be missing over part of the globe.
    """
    if not config.present:
        return None
    names, state = [name for name, _ in channels.scalars], _State(channels, step_hours)
    budgets = {"surface_pressure", "temperature", "specific_humidity", "total_column_water_vapour", *config.means}
    if gaps := budgets.intersection(channels.masked):
        raise UserError(
            f"model.correctors works with {gaps.pop()}, which data.masked_variables says has gaps",
            remedy="leave it out of one of both",
        )
    for name in config.means:
        if name not in names:
            raise UserError(
                f"model.correctors.means names {name}, which is no scalar of the state",
                remedy=f"choose of {', '.join(dict.fromkeys(names))}",
            )
    found = Correctors(
        held=tuple(index for index, name in enumerate(names) if name in config.means),
        climate=config.means_of == "climate",
        vapour=state.column("specific_humidity"),
        total=state.find("total_column_water_vapour"),
        pressure=state.find("surface_pressure"),
        dry_air=config.dry_air,
    )
    if config.positive != "none":
        known = [(index, lookup(name)) for index, name in enumerate(names)]
        positive = tuple(index for index, variable in known if variable is not None and variable.never_negative)
        if not positive:
            raise UserError(
                "model.correctors.positive, and no field of the state is never negative", remedy="leave it out"
            )
        # Those with gaps have no mean over the globe to keep.
        keep = [config.positive == "rescale" and names[index] not in channels.masked for index in positive]
        keep = [one or index in found.held for one, index in zip(keep, positive)]
        clipped, rescaled = (tuple(i for i, one in zip(positive, keep) if one == which) for which in (False, True))
        found = dataclasses.replace(found, clipped=clipped, rescaled=rescaled)
    if config.dry_air:
        state.need("dry_air", "surface_pressure")
    if config.moisture:
        if found.total is None:
            state.need("moisture", "surface_pressure")
            if found.vapour is None:
                state.need("moisture", "specific_humidity", "total_column_water_vapour")
        rain = state.need("moisture", state.over("total_precipitation"))
        if rain in found.held:
            raise UserError(
                f"model.correctors.means holds {names[rain]}, and model.correctors.moisture scales it",
                remedy="leave out one of both",
            )
        channel = state.need("moisture", *map(state.over, _EVAPORATION))
        each = next(each for name, each in _EVAPORATION.items() if state.over(name) == names[channel])
        found = dataclasses.replace(found, rain=rain, evaporation=(channel, each))
    if config.energy != "none":
        state.need("energy", "surface_pressure")
        state.need("energy", "temperature")
        statics = channels.statics
        ground = statics.index("geopotential_at_surface") if "geopotential_at_surface" in statics else None
        fluxes = _FLUXES if config.energy == "fluxes" else {}
        signed = tuple((state.need("energy=fluxes", state.over(name)), sign) for name, sign in fluxes.items())
        wind = state.column("u_component_of_wind")
        found = dataclasses.replace(
            found, temperature=state.column("temperature"), wind=wind, ground=ground, fluxes=signed
        )
    return found
