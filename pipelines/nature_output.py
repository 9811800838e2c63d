"""From the spectral state of the nature run to WeatherBench 2 variables on a grid and on pressure levels."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import associated_legendre, coordinate_systems, primitive_equations, spherical_harmonic

from pipelines.nature_model import REFERENCE_PRESSURE
from weather_scnn.sphere.grid import Grid

# Below the lowest layer temperature rises by the standard atmosphere's lapse rate, K m⁻¹.
LAPSE_RATE = 0.0065
# What every store of a nature run says about its levels.
BELOW_GROUND = "extrapolated: temperature by 6.5 K km-1, geopotential in balance with it, all else constant"

LEVEL_FIELDS = ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind", "vertical_velocity")


@runtime_checkable
class Model(Protocol):
    """What a diagnosis needs of the model whose states it is given: coordinates, constants and units."""

    @property
    def coordinates(self) -> coordinate_systems.CoordinateSystem: ...

    @property
    def specs(self) -> Any: ...

    @property
    def metres_per_second(self) -> float: ...

    @property
    def per_second(self) -> float: ...

    @property
    def geopotential_unit(self) -> float: ...

    @property
    def reference_temperature(self) -> float: ...

    @property
    def orography(self) -> np.ndarray: ...

    def humidity(self, state: primitive_equations.State) -> jax.Array | None: ...


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Evaluates the harmonics of the state on an output grid, exactly, and interpolates to pressure.

    Everything nonlinear (ω, interpolation) is computed at the output points, so nothing is interpolated sideways.

    Attributes:
        model: the model whose states are diagnosed.
        grid: output grid without pole rows.
        levels: hPa, ascending.
    """

    model: Model
    grid: Grid
    levels: tuple[int, ...]

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Legendre table (order, latitude, degree) and Fourier table (longitude, order), dinosaur's layout of m."""
        spectral = self.model.coordinates.horizontal
        sine = np.sin(np.radians(self.grid.latitude))
        legendre = associated_legendre.evaluate(spectral.longitude_wavenumbers, spectral.total_wavenumbers, sine)
        order = np.arange(1, spectral.longitude_wavenumbers)
        angle = np.radians(self.grid.longitude)[:, None] * order
        fourier = np.empty((angle.shape[0], 2 * order.size + 1))
        fourier[:, 0] = 1 / np.sqrt(2 * np.pi)
        fourier[:, 1::2] = np.cos(angle) / np.sqrt(np.pi)
        fourier[:, 2::2] = np.sin(angle) / np.sqrt(np.pi)
        return np.repeat(legendre, 2, axis=0)[1:].astype(np.float32), fourier.astype(np.float32)

    def synthesise(self, modal: jax.Array) -> jax.Array:
        """Values on the output grid, (…, order, degree) → (…, latitude, longitude)."""
        legendre, fourier = self._tables
        precision = jax.lax.Precision.HIGHEST
        waves = jnp.einsum("mjl,...ml->...mj", legendre, modal, precision=precision)
        return jnp.einsum("im,...mj->...ji", fourier, waves, precision=precision)

    def surface_geopotential(self) -> np.ndarray:
        """Of the model's terrain, m² s⁻², (latitude, longitude)."""
        height = np.asarray(self.synthesise(jnp.asarray(self.model.orography)))
        return (height * float(self.model.specs.g) * self.model.geopotential_unit).astype(np.float32)

    def on_layers(self, state: primitive_equations.State) -> dict[str, jax.Array]:
        """SI fields on sigma layers at the output points.

        ω at a layer's centre comes from continuity in sigma coordinates,
        ω = p_s (σ v·∇ln p_s − ∫₀^σ (∇·v + v·∇ln p_s) dσ′), by the midpoint rule with half of the layer itself.

        Returns:
            `temperature`, `virtual_temperature`, `u_component_of_wind`, `v_component_of_wind`, `vertical_velocity`,
            `geopotential` of shape (layer, latitude, longitude), and `specific_humidity` where the model has it, with
            the negative values of its waves set to zero; `surface_pressure` of shape (latitude, longitude).
        """
        model, spectral = self.model, self.model.coordinates.horizontal
        vertical = model.coordinates.vertical
        sigma = np.asarray(vertical.centers)[:, None, None]
        thickness = np.asarray(vertical.layer_thickness)[:, None, None]
        cosine = np.cos(np.radians(self.grid.latitude)).astype(np.float32)[:, None]
        wind = spherical_harmonic.get_cos_lat_vector(state.vorticity, state.divergence, spectral, clip=False)
        slope = spectral.cos_lat_grad(state.log_surface_pressure, clip=False)
        east, north = (self.synthesise(part) / cosine for part in wind)
        slope_east, slope_north = (self.synthesise(part) / cosine for part in slope)
        along_slope = east * slope_east + north * slope_north
        convergence = self.synthesise(state.divergence) + along_slope
        through_layer = convergence * thickness
        above = jnp.cumsum(through_layer, axis=0) - 0.5 * through_layer
        log_pressure = self.synthesise(state.log_surface_pressure)[0]
        pressure = REFERENCE_PRESSURE * jnp.exp(log_pressure)
        omega = pressure * model.per_second * (sigma * along_slope - above)
        temperature = model.reference_temperature + self.synthesise(state.temperature_variation)
        virtual, moist = temperature, model.humidity(state)
        found: dict[str, jax.Array] = {}
        if moist is not None:
            found["specific_humidity"] = jnp.maximum(self.synthesise(moist), 0.0)
            lightness = float(model.specs.R_vapor / model.specs.R) - 1.0
            virtual = temperature * (1.0 + lightness * found["specific_humidity"])
        geopotential = primitive_equations.get_geopotential_on_sigma(
            virtual,
            nodal_orography=self.synthesise(jnp.asarray(model.orography)),
            sigma=vertical,
            gravity_acceleration=model.specs.g,
            ideal_gas_constant=model.specs.R,
        )
        return found | {
            "temperature": temperature,
            "virtual_temperature": virtual,
            "u_component_of_wind": east * model.metres_per_second,
            "v_component_of_wind": north * model.metres_per_second,
            "vertical_velocity": omega,
            "geopotential": geopotential * model.geopotential_unit,
            "surface_pressure": pressure,
        }

    def on_levels(self, layers: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Interpolates SI fields on sigma layers to the pressure levels.

        T, u, v, ω and q are linear in ln p between layer centres; Φ is the hydrostatic integral of such a virtual
        temperature, so the two stay consistent. Above the top centre everything is constant and Φ isothermal. Below the
        lowest centre, and so below ground, u, v, ω and q are constant, T follows 6.5 K/km and Φ that T, as in analyses
        over mountains.
        """
        model = self.model
        gas = float(model.specs.R) * model.geopotential_unit
        gravity = float(model.specs.g) * model.metres_per_second * model.per_second
        nodes = np.log(np.asarray(model.coordinates.vertical.centers, np.float64)).astype(np.float32)
        target = np.log(np.asarray(self.levels, np.float64) * 100.0).astype(np.float32)
        height = target[:, None, None] - jnp.log(layers["surface_pressure"])
        at = jnp.asarray(nodes)
        lower = jnp.clip(jnp.searchsorted(at, height), 1, nodes.size - 1)
        inside = jnp.clip(height, nodes[0], nodes[-1])
        fraction = (inside - at[lower - 1]) / (at[lower] - at[lower - 1])

        def linear(values: jax.Array) -> jax.Array:
            below = jnp.take_along_axis(values, lower, axis=0)
            above = jnp.take_along_axis(values, lower - 1, axis=0)
            return above + fraction * (below - above)

        plain = ("u_component_of_wind", "v_component_of_wind", "vertical_velocity", "specific_humidity")
        result = {name: linear(layers[name]) for name in plain if name in layers}
        virtual, temperature = linear(layers["virtual_temperature"]), linear(layers["temperature"])
        layer_below = jnp.take_along_axis(layers["virtual_temperature"], lower, axis=0)
        base = jnp.take_along_axis(layers["geopotential"], lower, axis=0)
        geopotential = base + gas * (at[lower] - inside) * (virtual + layer_below) / 2
        geopotential += gas * virtual * jnp.maximum(nodes[0] - height, 0.0)
        warming = jnp.exp((gas / gravity) * LAPSE_RATE * jnp.maximum(height - nodes[-1], 0.0))
        result["geopotential"] = geopotential - gravity / LAPSE_RATE * (warming - 1.0) * virtual
        result["temperature"] = temperature * warming
        return result

    def sea_level_pressure(self, layers: Mapping[str, jax.Array], surface: jax.Array) -> jax.Array:
        """Pa, (latitude, longitude): surface pressure brought down by 6.5 K/km (Trenberth, Berry and Buja 1993).

        The ground's temperature is the lowest layer's along that lapse rate. As there, sea level is not warmer than
        290.5 K under cold ground, and very cold ground is taken to be half as much below 255 K.

        Args:
            layers: as `on_layers` gives them.
            surface: geopotential at the surface, m² s⁻².
        """
        model = self.model
        gas = float(model.specs.R) * model.geopotential_unit
        gravity = float(model.specs.g) * model.metres_per_second * model.per_second
        lowest = float(np.asarray(model.coordinates.vertical.centers)[-1])
        ground = layers["temperature"][-1] * lowest ** (-gas * LAPSE_RATE / gravity)
        level = ground + LAPSE_RATE * surface / gravity
        limit, cold = 290.5, 255.0
        warm = level > limit
        start = jnp.where(
            warm & (ground > limit), (ground + limit) / 2, jnp.where(ground < cold, (ground + cold) / 2, ground)
        )
        rise = jnp.where(warm, jnp.maximum(limit - ground, 0.0), LAPSE_RATE * surface / gravity)
        # p_s exp(Φ_s/(R T) (1 − x/2 + x²/3)), x the relative warming over the way down.
        share = rise / start
        return layers["surface_pressure"] * jnp.exp(surface / (gas * start) * (1 - share / 2 + share**2 / 3))
