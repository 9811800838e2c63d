"""The model behind the nature run: dinosaur's dry primitive equations, seasonal Held–Suarez forcing, fixed mountains.

T21, ten equidistant sigma layers, steps of 30 minutes. All quantities of the model are in units of the planet's
radius, 1/(2Ω), kelvin and a mass that makes 1000 hPa equal to 1, so that ln(surface pressure) is near 0 and keeps
its digits in float32.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import (
    coordinate_systems,
    primitive_equations,
    scales,
    sigma_coordinates,
    spherical_harmonic,
    time_integration,
    units,
)
from jax.typing import ArrayLike

from weather_scnn.physics.solar import solar_position

LAYERS = 10
STEP_SECONDS = 1800
OUTPUT_SECONDS = 6 * 3600
REFERENCE_PRESSURE = 1e5  # Pa
REFERENCE_TEMPERATURE = 288.0  # K, isothermal: the semi-implicit scheme is then stable (Simmons et al. 1978)

# Held and Suarez (1994), their section 2.
_MINIMUM_TEMPERATURE, _MAXIMUM_TEMPERATURE = 200.0, 315.0
_POLE_CONTRAST, _STABILITY = 60.0, 10.0
_FRICTION_DAYS, _COOLING_DAYS, _SURFACE_COOLING_DAYS = 1.0, 40.0, 4.0
_BOUNDARY_LAYER = 0.7
# The latitude of the warmest equilibrium swings this part as far as the sun: the surface's heat capacity, which
# the forcing lacks, keeps the real thermal equator within about 10° of the equator in the zonal mean.
_SEASONAL_SWING = 0.4

_DIFFUSION_HOURS = 2.0  # e-folding time of the smallest scale under ∇⁶

# (latitude, longitude, height in metres, half widths in degrees of latitude and of longitude) of Gaussian bumps:
# ranges first, then the low continents they stand on.
_TERRAIN = (
    (44.0, 250.0, 1900.0, 13.0, 9.0),
    (33.0, 88.0, 3000.0, 8.0, 15.0),
    (-20.0, 291.0, 1700.0, 16.0, 7.0),
    (3.0, 36.0, 900.0, 12.0, 8.0),
    (72.0, 318.0, 1500.0, 7.0, 13.0),
    (47.0, 262.0, 400.0, 14.0, 22.0),
    (52.0, 75.0, 400.0, 14.0, 42.0),
    (8.0, 20.0, 450.0, 17.0, 14.0),
    (-12.0, 302.0, 400.0, 15.0, 12.0),
    (-25.0, 134.0, 400.0, 8.0, 12.0),
)
_SOUTH_POLE_HEIGHT, _SOUTH_POLE_WIDTH = 2200.0, 11.0


def terrain_height(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Height of the fixed, smooth terrain in metres; arguments in degrees broadcast against each other."""
    height = _SOUTH_POLE_HEIGHT * np.exp(-(((latitude + 90.0) / _SOUTH_POLE_WIDTH) ** 2) / 2)
    for centre_latitude, centre_longitude, top, width_latitude, width_longitude in _TERRAIN:
        east = (longitude - centre_longitude + 180.0) % 360.0 - 180.0
        north = latitude - centre_latitude
        height = height + top * np.exp(-((north / width_latitude) ** 2 + (east / width_longitude) ** 2) / 2)
    return height


def warmest_latitude(times: np.ndarray) -> np.ndarray:
    """Sine of the latitude φ₀(t) = 0.4 δ(t) where the equilibrium is warmest, δ the sun's declination (Spencer 1971).

    Args:
        times: datetime64, shape (time,).
    """
    return np.sin(_SEASONAL_SWING * solar_position(times)[0]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class NatureModel:
    """Constants and coordinates of the model, and one jitted step of it.

    Shapes follow dinosaur: nodal fields (layer, longitude, latitude) on its Gaussian grid, modal fields
    (layer, order, degree).
    """

    @functools.cached_property
    def specs(self) -> units.SimUnits:
        """Constants in model units."""
        second = 1 / (2 * scales.OMEGA)
        mass = (REFERENCE_PRESSURE * scales.units.pascal * scales.RADIUS * second**2).to("kg")
        return units.SimUnits.from_si(scale=scales.Scale(scales.RADIUS, second, mass, 1 * scales.units.degK))

    @functools.cached_property
    def coordinates(self) -> coordinate_systems.CoordinateSystem:
        """T21 with a 64x32 Gaussian grid for products, and the sigma layers."""
        return coordinate_systems.CoordinateSystem(
            spherical_harmonic.Grid.T21(radius=self.specs.radius),
            sigma_coordinates.SigmaCoordinates.equidistant(LAYERS),
        )

    @property
    def metres_per_second(self) -> float:
        """One model unit of velocity in m/s."""
        return float(self.specs.dimensionalize(1.0, scales.units.meter / scales.units.second).m)

    @property
    def per_second(self) -> float:
        """One model unit of frequency in 1/s."""
        return float(self.specs.dimensionalize(1.0, 1 / scales.units.second).m)

    @property
    def geopotential_unit(self) -> float:
        """One model unit of geopotential in m² s⁻²."""
        return self.metres_per_second**2

    @property
    def reference_temperature(self) -> float:
        """K; what `temperature_variation` of a state is counted from."""
        return REFERENCE_TEMPERATURE

    def humidity(self, state: primitive_equations.State) -> None:
        """Specific humidity of a state: this air is dry."""

    @functools.cached_property
    def time_step(self) -> float:
        """Model units."""
        return float(self.specs.nondimensionalize(STEP_SECONDS * scales.units.second))

    @functools.cached_property
    def orography(self) -> np.ndarray:
        """Modal height in model units, damped towards the truncation so that it does not ripple over the sea."""
        grid = self.coordinates.horizontal
        longitude, sine = grid.nodal_mesh
        metres = terrain_height(np.degrees(np.arcsin(sine)), np.degrees(longitude))
        with jax.ensure_compile_time_eval():
            modal = np.array(grid.to_modal(np.asarray(metres, np.float32)))
        degree = grid.modal_axes[1]
        modal *= np.exp(-((degree / 16.0) ** 4)) * (degree < grid.total_wavenumbers - 1)
        metre = float(self.specs.nondimensionalize(1.0 * scales.units.meter))
        return (modal * metre).astype(np.float32)

    def equilibrium_temperature(self, surface_pressure: ArrayLike, sine_warmest: ArrayLike) -> jax.Array:
        """Held and Suarez (1994), made seasonal by moving its maximum from the equator to φ₀.

        T_eq = max(200 K, [315 K − 60 K (sin φ − sin φ₀)² − 10 K ln(p/p₀) cos² φ] (p/p₀)^κ)

        Args:
            surface_pressure: p_s/p₀, shape (1, longitude, latitude).
            sine_warmest: sin φ₀.

        Returns:
            K, shape (layer, longitude, latitude).
        """
        _, sine = self.coordinates.horizontal.nodal_mesh
        sigma = np.asarray(self.coordinates.vertical.centers)[:, None, None]
        pressure = sigma * surface_pressure
        profile = (
            _MAXIMUM_TEMPERATURE
            - _POLE_CONTRAST * (sine - sine_warmest) ** 2
            - _STABILITY * jnp.log(pressure) * (1.0 - sine**2)
        )
        return jnp.maximum(_MINIMUM_TEMPERATURE, profile * pressure**self.specs.kappa)

    @functools.cached_property
    def _damping(self) -> tuple[np.ndarray, np.ndarray]:
        """Parts of the wind and of the temperature excess lost in a step, (layer, 1, 1) and (layer, lon, lat)."""
        _, sine = self.coordinates.horizontal.nodal_mesh
        sigma = np.asarray(self.coordinates.vertical.centers, np.float64)[:, None, None]
        boundary = np.maximum(0.0, (sigma - _BOUNDARY_LAYER) / (1.0 - _BOUNDARY_LAYER))
        cooling = 1 / _COOLING_DAYS + (1 / _SURFACE_COOLING_DAYS - 1 / _COOLING_DAYS) * boundary * (1 - sine**2) ** 2
        days = STEP_SECONDS / 86400.0
        return (
            -np.expm1(-boundary / _FRICTION_DAYS * days).astype(np.float32),
            -np.expm1(-cooling * days).astype(np.float32),
        )

    def _force(self, state: primitive_equations.State, sine_warmest: jax.Array) -> primitive_equations.State:
        """Relaxes temperature and damps the low-level wind over one step, exactly and so for any step stably.

        Friction depends on sigma alone, so it acts on the spectra. The mass of the atmosphere, which the equation for
        ln(surface pressure) does not conserve exactly, is put back to that of the resting start.
        """
        grid = self.coordinates.horizontal
        friction, cooling = self._damping
        pressure = jnp.exp(grid.to_nodal(state.log_surface_pressure))
        target = self.equilibrium_temperature(pressure, sine_warmest) - REFERENCE_TEMPERATURE
        excess = grid.to_nodal(state.temperature_variation) - target
        relaxed = grid.clip_wavenumbers(grid.to_modal(cooling * excess))
        loss = jnp.log(self._mean(pressure) / self._resting_mass)
        return state.replace(
            vorticity=state.vorticity * (1 - friction),
            divergence=state.divergence * (1 - friction),
            temperature_variation=state.temperature_variation - relaxed,
            log_surface_pressure=spherical_harmonic.add_constant(state.log_surface_pressure, -loss),
        )

    def _mean(self, nodal: jax.Array) -> jax.Array:
        """Area mean of one nodal field, shape (1, longitude, latitude)."""
        weights = self.coordinates.horizontal.quadrature_weights
        return jnp.sum(nodal * weights) / (np.sum(weights) * nodal.shape[-2] / weights.shape[-2])

    @functools.cached_property
    def _resting_log_pressure(self) -> np.ndarray:
        """Nodal ln(p_s/p₀) of an isothermal atmosphere at rest over the terrain, shape (1, longitude, latitude)."""
        with jax.ensure_compile_time_eval():
            height = np.asarray(self.coordinates.horizontal.to_nodal(self.orography))
        return -(self.specs.g * height / (self.specs.R * REFERENCE_TEMPERATURE))[None]

    @functools.cached_property
    def _resting_mass(self) -> float:
        with jax.ensure_compile_time_eval():
            return float(self._mean(jnp.exp(self._resting_log_pressure)))

    def initial_state(self, seed: int, sine_warmest: float) -> primitive_equations.State:
        """Rest, at the equilibrium temperature, with random vorticity of about 1e-5 s⁻¹ at degrees 2 to 15."""
        grid = self.coordinates.horizontal
        modal_shape = self.coordinates.modal_shape
        log_pressure = grid.clip_wavenumbers(grid.to_modal(self._resting_log_pressure))
        nodal = self.equilibrium_temperature(np.exp(self._resting_log_pressure), jnp.float32(sine_warmest))
        degree = grid.modal_axes[1]
        noise = np.random.default_rng(seed).standard_normal(modal_shape[1:])
        noise *= grid.mask * ((degree >= 2) & (degree <= 15)) * (1e-5 / self.per_second / 4.0)
        zeros = np.zeros(modal_shape, np.float32)
        return primitive_equations.State(
            vorticity=jnp.asarray(np.broadcast_to(noise, modal_shape), jnp.float32),
            divergence=jnp.asarray(zeros),
            temperature_variation=grid.clip_wavenumbers(grid.to_modal(nodal - REFERENCE_TEMPERATURE)),
            log_surface_pressure=jnp.asarray(log_pressure),
        )

    def advance(self, state: primitive_equations.State, sine_warmest: jax.Array) -> primitive_equations.State:
        """Six hours of integration under a fixed φ₀ (it moves by less than 0.05° in six hours); traceable."""
        grid = self.coordinates.horizontal
        equation = primitive_equations.PrimitiveEquationsSigma(
            np.full(LAYERS, REFERENCE_TEMPERATURE), self.orography, self.coordinates, self.specs
        )
        dynamics = time_integration.imex_rk_sil3(equation, self.time_step)
        diffusion = time_integration.horizontal_diffusion_step_filter(
            grid, self.time_step, self.time_step * _DIFFUSION_HOURS * 3600 / STEP_SECONDS, order=3
        )

        def step(carry: primitive_equations.State, _: None) -> tuple[primitive_equations.State, None]:
            following = diffusion(carry, dynamics(carry))
            return self._force(following, sine_warmest), None

        return jax.lax.scan(step, state, None, length=OUTPUT_SECONDS // STEP_SECONDS)[0]
