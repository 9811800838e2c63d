"""From the spectral state of the nature run to WeatherBench 2 variables on a grid and on pressure levels."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import associated_legendre, primitive_equations, spherical_harmonic

from pipelines.nature_model import REFERENCE_PRESSURE, REFERENCE_TEMPERATURE, NatureModel
from weather_scnn.sphere.grid import Grid

# Below the lowest layer temperature rises by the standard atmosphere's lapse rate, K m⁻¹.
_LAPSE_RATE = 0.0065
_LAND_HEIGHT = 150.0  # metres

#: Units and long names of what is written: (units, long name, standard name).
ATTRIBUTES: Mapping[str, tuple[str, str, str]] = {
    "geopotential": ("m**2 s**-2", "Geopotential", "geopotential"),
    "temperature": ("K", "Temperature", "air_temperature"),
    "u_component_of_wind": ("m s**-1", "U component of wind", "eastward_wind"),
    "v_component_of_wind": ("m s**-1", "V component of wind", "northward_wind"),
    "vertical_velocity": ("Pa s**-1", "Vertical velocity", "lagrangian_tendency_of_air_pressure"),
    "surface_pressure": ("Pa", "Surface pressure", "surface_air_pressure"),
    "2m_temperature": ("K", "Temperature of the lowest sigma layer, in place of that at 2 m", "air_temperature"),
    "toa_incident_solar_radiation": (
        "J m**-2",
        "TOA incident solar radiation, accumulated over the hour before",
        "toa_incoming_shortwave_flux_integral_wrt_time",
    ),
    "geopotential_at_surface": ("m**2 s**-2", "Geopotential at the surface", "surface_geopotential"),
    "land_sea_mask": ("(0 - 1)", "Land-sea mask", "land_binary_mask"),
}
LEVEL_FIELDS = ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind", "vertical_velocity")
SURFACE_FIELDS = ("surface_pressure", "2m_temperature")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Evaluates the harmonics of the state on an output grid, exactly, and interpolates to pressure.

    Everything nonlinear (ω, interpolation) is computed at the output points, so nothing is interpolated sideways.

    Attributes:
        model: the model whose states are diagnosed.
        grid: output grid without pole rows.
        levels: hPa, ascending.
    """

    model: NatureModel
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

    def static_fields(self) -> dict[str, np.ndarray]:
        """`geopotential_at_surface` in m² s⁻² and `land_sea_mask` (land where the terrain is above 150 m)."""
        model = self.model
        height = np.asarray(self.synthesise(jnp.asarray(model.orography)))
        geopotential = height * float(model.specs.g) * model.geopotential_unit
        metres = height * float(model.specs.radius) * 6.37122e6
        return {
            "geopotential_at_surface": geopotential.astype(np.float32),
            "land_sea_mask": (metres > _LAND_HEIGHT).astype(np.float32),
        }

    def on_layers(self, state: primitive_equations.State) -> dict[str, jax.Array]:
        """SI fields on sigma layers at the output points.

        ω at a layer's centre comes from continuity in sigma coordinates,
        ω = p_s (σ v·∇ln p_s − ∫₀^σ (∇·v + v·∇ln p_s) dσ′), by the midpoint rule with half of the layer itself.

        Returns:
            `temperature`, `u_component_of_wind`, `v_component_of_wind`, `vertical_velocity`, `geopotential` of shape
            (layer, latitude, longitude); `surface_pressure` of shape (latitude, longitude).
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
        temperature = REFERENCE_TEMPERATURE + self.synthesise(state.temperature_variation)
        geopotential = primitive_equations.get_geopotential_on_sigma(
            temperature,
            nodal_orography=self.synthesise(jnp.asarray(model.orography)),
            sigma=vertical,
            gravity_acceleration=model.specs.g,
            ideal_gas_constant=model.specs.R,
        )
        return {
            "temperature": temperature,
            "u_component_of_wind": east * model.metres_per_second,
            "v_component_of_wind": north * model.metres_per_second,
            "vertical_velocity": omega,
            "geopotential": geopotential * model.geopotential_unit,
            "surface_pressure": pressure,
        }

    def on_levels(self, layers: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Interpolates SI fields on sigma layers to the pressure levels.

        T, u, v and ω are linear in ln p between layer centres; Φ is the hydrostatic integral of that T, so the two
        stay consistent. Above the top centre everything is constant and Φ isothermal. Below the lowest centre, and so
        below ground, u, v and ω are constant, T follows 6.5 K/km and Φ that T, as in analyses over mountains.
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

        result = {
            name: linear(layers[name]) for name in ("u_component_of_wind", "v_component_of_wind", "vertical_velocity")
        }
        temperature = linear(layers["temperature"])
        layer_below = jnp.take_along_axis(layers["temperature"], lower, axis=0)
        base = jnp.take_along_axis(layers["geopotential"], lower, axis=0)
        geopotential = base + gas * (at[lower] - inside) * (temperature + layer_below) / 2
        geopotential += gas * temperature * jnp.maximum(nodes[0] - height, 0.0)
        warming = (gas / gravity) * _LAPSE_RATE * jnp.maximum(height - nodes[-1], 0.0)
        warmed = temperature * jnp.exp(warming)
        result["geopotential"] = geopotential - gravity / _LAPSE_RATE * (warmed - temperature)
        result["temperature"] = warmed
        return result

    def fields(self, state: primitive_equations.State) -> dict[str, jax.Array]:
        """Everything written that depends on the state: (level, latitude, longitude) or (latitude, longitude)."""
        layers = self.on_layers(state)
        result = self.on_levels(layers)
        result["surface_pressure"] = layers["surface_pressure"]
        result["2m_temperature"] = layers["temperature"][-1]
        return result


def attributes(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """CF attributes of the named variables."""
    return {name: dict(zip(("units", "long_name", "standard_name"), ATTRIBUTES[name], strict=True)) for name in names}
