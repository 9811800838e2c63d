"""A moist, Earth-like atmosphere: SPEEDY physics on dinosaur's dynamical core, from the package `jcm` (extra `earth`).

T31, eight sigma layers, steps of 40 minutes as in SPEEDY itself (Molteni 2003). Orography, land, the climatological
cycle of sea temperature, sea ice, snow, soil moisture and land temperature come with jcm, on its Gaussian 96x48 grid.
The sun has seasons but no diurnal cycle: SPEEDY's radiation is driven by daily means by latitude.
"""

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from pipelines.nature_model import OUTPUT_SECONDS
from pipelines.nature_output import LEVEL_FIELDS, Diagnosis
from weather_scnn.errors import UserError
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere.grid import Grid

STEP_SECONDS = 2400
_STEPS = OUTPUT_SECONDS // STEP_SECONDS
_LAYERS, _DEGREE = 8, 31
_PRESSURE = 1e5  # Pa; what jcm's surface pressure is a share of
# Fields of the boundary that change with the day, by their names in jcm.
_DAILY = ("stl_am", "sice_am", "snowc_am", "soilw_am", "sea_surface_temperature")
_FREEZING = 271.35  # K, of sea water: the climatology goes on below it under ice and over land
_BUDGET = ("precipitation", "evaporation", "absorbed sunlight", "outgoing longwave", "steps")


class SpeedyState(NamedTuple):
    """What six hours lead from and to.

    Attributes:
        dynamics: spectral state of the dynamical core.
        physics: what SPEEDY keeps between steps, and diagnoses at the last one.
        rain: fallen in the six hours before, m, (longitude, latitude) of the Gaussian grid.
        budget: sums over all steps since the start: precipitation and evaporation, kg m⁻² s⁻¹, sunlight absorbed and
            longwave sent out, W m⁻², global means each; and the number of steps.
    """

    dynamics: Any
    physics: Any
    rain: jax.Array
    budget: jax.Array


class Drivers(NamedTuple):
    """Of one output time: the day and second of the clock, and the boundary of that day, (longitude, latitude)."""

    days: Any
    seconds: Any
    daily: Mapping[str, Any]


def _jcm() -> Any:
    try:
        import jcm.model
    except ImportError as error:
        raise UserError(
            f"the model speedy needs the package jcm ({error})",
            remedy="install the extra: pip install 'weather-scnn[earth]'",
        ) from error
    return jcm


class _Core:
    """jcm's model with its boundary, and the names under which `Diagnosis` asks for its constants."""

    def __init__(self) -> None:
        _jcm()
        from importlib import resources

        from jcm.forcing import ForcingData
        from jcm.model import Model
        from jcm.physics.speedy.speedy_coords import get_speedy_coords
        from jcm.physics.speedy.speedy_terms import speedy_physics
        from jcm.terrain import TerrainData

        folder = resources.files("jcm") / "data" / "bc" / "t30" / "clim"
        self.coordinates = get_speedy_coords(_LAYERS, _DEGREE)
        with warnings.catch_warnings(), jax.ensure_compile_time_eval():
            warnings.simplefilter("ignore", FutureWarning)  # of xarray, to jcm
            self.terrain = TerrainData.from_file(str(folder / "terrain.nc"), self.coordinates)
            forcing = ForcingData.from_file(str(folder / "forcing.nc"), self.coordinates, align_mode="wrap_year")
            # Checkpoints of its terms serve gradients; nobody takes any here.
            self.model = Model(
                coords=self.coordinates,
                terrain=self.terrain,
                physics=speedy_physics(checkpoint_terms=False),
                time_step=STEP_SECONDS / 60,
            )
            self.daily = {name: np.asarray(getattr(forcing, name).values, np.float32) for name in _DAILY}
            # Without the series, which `Drivers` bring day by day.
            self.forcing = forcing.copy(**{name: jnp.zeros_like(values[0]) for name, values in self.daily.items()})
            self.orography = np.asarray(self.model.dycore.primitive.orography)
        self.dycore, self.specs = self.model.dycore, self.model.dycore.physics_specs
        self.near_surface_wind = float(self._surface_parameters().fwind0)
        horizontal = self.coordinates.horizontal
        weights = np.broadcast_to(np.asarray(horizontal.quadrature_weights), horizontal.nodal_shape)
        self.area = weights / np.sum(weights)

    def _surface_parameters(self) -> Any:
        from jcm.physics.speedy.params import SurfaceFluxParameters

        return SurfaceFluxParameters.default()

    @property
    def metres_per_second(self) -> float:
        return 1.0  # jcm's units are SI

    @property
    def per_second(self) -> float:
        return 1.0

    @property
    def geopotential_unit(self) -> float:
        return 1.0

    @property
    def reference_temperature(self) -> float:
        return float(np.asarray(self.dycore.primitive.reference_temperature)[0])

    def humidity(self, state: Any) -> jax.Array:
        """Spectral specific humidity, kg/kg."""
        return state.tracers["specific_humidity"]


@functools.cache
def _core() -> _Core:
    return _Core()


@dataclasses.dataclass(frozen=True)
class Speedy:
    """The moist atmosphere, on an output grid.

    Dynamical fields are evaluated from their spherical harmonics at the output points; rain, near-surface temperature
    and the boundary are conservative means of the Gaussian grid, so that rain keeps its amount and stays positive.

    Attributes:
        grid: of the output, without pole rows.
        levels: hPa, ascending.
    """

    grid: Grid
    levels: tuple[int, ...] = (100, 200, 250, 300, 500, 700, 850, 925)

    name = "speedy"
    title = "Earth-like nature run"
    source = (
        "moist primitive equations at T31 with 8 sigma layers (dinosaur) and SPEEDY physics (jcm); climatological sea "
        "temperature, sea ice, snow, soil moisture and land temperature; daily-mean sun"
    )
    level_fields = (*LEVEL_FIELDS, "specific_humidity")
    surface_fields = (
        "surface_pressure",
        "mean_sea_level_pressure",
        "2m_temperature",
        "10m_u_component_of_wind",
        "10m_v_component_of_wind",
        "total_precipitation_6hr",
        "toa_incident_solar_radiation",
    )
    known_fields = ("sea_surface_temperature", "sea_ice_cover")
    long_names: ClassVar[Mapping[str, str]] = {
        "2m_temperature": "Near-surface air temperature of SPEEDY, in place of that at 2 m",
        "10m_u_component_of_wind": "Eastward near-surface wind of SPEEDY, 0.95 of the lowest layer's",
        "10m_v_component_of_wind": "Northward near-surface wind of SPEEDY, 0.95 of the lowest layer's",
        "toa_incident_solar_radiation": "TOA incident solar radiation of an hour at the daily mean, SPEEDY's own",
        "sea_surface_temperature": "Climatological sea surface temperature, continued over land, at least at freezing",
        "sea_ice_cover": "Climatological sea ice, share of the sea's part of a cell",
    }
    # From rest; the boundary is prescribed, so nothing slower than the air has to settle.
    settling_days = 60.0

    @property
    def core(self) -> _Core:
        """jcm's model, made once a process."""
        return _core()

    @functools.cached_property
    def diagnosis(self) -> Diagnosis:
        """From spectral states to fields."""
        return Diagnosis(self.core, self.grid, self.levels)

    @functools.cached_property
    def _means(self) -> tuple[np.ndarray, np.ndarray]:
        """Conservative weights from the Gaussian grid, (latitude, source) and (longitude, source)."""
        horizontal = self.core.coordinates.horizontal
        latitude, longitude = (np.degrees(np.asarray(axis)) for axis in (horizontal.latitudes, horizontal.longitudes))
        weights = make_weights(latitude, longitude, self.grid)
        return tuple(np.asarray(part, np.float32) for part in (weights.latitude, weights.longitude))  # type: ignore

    def _mean(self, nodal: Any, package: Any = jnp) -> Any:
        """(…, longitude, latitude) of the Gaussian grid → (…, latitude, longitude) of the output."""
        across, around = self._means
        return package.einsum("yj,xi,...ij->...yx", across, around, nodal)

    @functools.cached_property
    def _surface(self) -> np.ndarray:
        return self.diagnosis.surface_geopotential()

    def static_fields(self) -> dict[str, np.ndarray]:
        """`geopotential_at_surface` in m² s⁻² and `land_sea_mask`, the share of land."""
        mask = self._mean(np.asarray(self.core.terrain.fmask), np)
        return {"geopotential_at_surface": self._surface, "land_sea_mask": np.clip(mask, 0.0, 1.0).astype(np.float32)}

    def _daily(self, times: np.ndarray) -> np.ndarray:
        """Positions in the daily climatology, which has no 29 February: the day before stands for it."""
        index = pd.DatetimeIndex(times)
        common = [
            pd.Timestamp(2001, month, min(day, 28 if month == 2 else day)).day_of_year - 1
            for month, day in zip(index.month, index.day)
        ]
        return np.asarray(common)

    def boundary(self, times: np.ndarray) -> Drivers:
        """Clock and boundary of each time."""
        seconds = times.astype("datetime64[s]").astype(np.int64)
        chosen = self._daily(times)
        return Drivers(
            (seconds // 86400).astype(np.int32),
            (seconds % 86400).astype(np.int32),
            {name: values[chosen] for name, values in self.core.daily.items()},
        )

    def known(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Sea temperature and ice."""
        chosen, daily = self._daily(times), self.core.daily
        return {
            "sea_surface_temperature": self._mean(np.maximum(daily["sea_surface_temperature"][chosen], _FREEZING), np),
            "sea_ice_cover": self._mean(daily["sice_am"][chosen], np),
        }

    def _start(self, seed: int | jax.Array) -> SpeedyState:
        core = self.core
        dynamics = core.dycore.with_sim_time(core.model.initial_state(random_seed=seed), jnp.float32(0.0))
        nodal = core.coordinates.horizontal.nodal_shape
        return SpeedyState(
            dynamics, core.model.initial_physics_carry(), jnp.zeros(nodal), jnp.zeros(len(_BUDGET), jnp.float32)
        )

    def initial_state(self, seed: int, first: np.datetime64) -> SpeedyState:
        """An isothermal, dry atmosphere at rest, with a small perturbation of the pressure."""
        return self._start(seed)

    def _diagnosed(self, physics: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        """Rain of a step, kg m⁻² s⁻¹, and the global budget of it, see `SpeedyState`."""
        rain = (physics["_convection"].precnv + physics["_condensation"].precls) / 1000.0
        area = jnp.asarray(self.core.area, jnp.float32)
        parts = [
            rain,
            physics["_surface_flux"].evap / 1000.0,
            physics["_shortwave_rad"].ftop,
            physics["_longwave_rad"].ftop,
        ]
        return rain, jnp.stack([*(jnp.sum(part * area) for part in parts), jnp.float32(1.0)])

    def advance(self, state: SpeedyState, boundary: Drivers) -> SpeedyState:
        """Six hours."""
        import jax_datetime
        from jcm.date import DateData
        from jcm.physics_interface import compute_physics_step_gridpoint

        core = self.core
        forcing = core.forcing.copy(**boundary.daily)
        start = jax_datetime.Datetime(jax_datetime.Timedelta(days=boundary.days, seconds=boundary.seconds))

        def step(carry: tuple, number: jax.Array) -> tuple[tuple, None]:
            dynamics, physics, rain, budget = carry
            clock = start + jax_datetime.Timedelta(seconds=number * STEP_SECONDS)
            tendency, physics = compute_physics_step_gridpoint(
                core.dycore.to_physics_state(dynamics),
                forcing.select(DateData(clock, number, STEP_SECONDS)),
                core.terrain,
                physics,
                physics=core.model.physics,
                time_step=STEP_SECONDS,
            )
            rate, sums = self._diagnosed(physics)
            fallen = rain + rate * (STEP_SECONDS / 1000.0)
            return (core.dycore.step(dynamics, tendency), physics, fallen, budget + sums), None

        first = (state.dynamics, state.physics, jnp.zeros_like(state.rain), state.budget)
        last, _ = jax.lax.scan(step, first, jnp.arange(_STEPS, dtype=jnp.int32))
        return SpeedyState(*last)

    def fields(self, state: SpeedyState, boundary: Drivers) -> dict[str, jax.Array]:
        """Everything written that depends on the state: (level, latitude, longitude) or (latitude, longitude)."""
        layers = self.diagnosis.on_layers(state.dynamics)
        wind = self.core.near_surface_wind
        return self.diagnosis.on_levels(layers) | {
            "surface_pressure": layers["surface_pressure"],
            "mean_sea_level_pressure": self.diagnosis.sea_level_pressure(layers, jnp.asarray(self._surface)),
            "2m_temperature": self._mean(state.physics["_surface_flux"].t0),
            "10m_u_component_of_wind": wind * layers["u_component_of_wind"][-1],
            "10m_v_component_of_wind": wind * layers["v_component_of_wind"][-1],
            "total_precipitation_6hr": self._mean(state.rain),
            "toa_incident_solar_radiation": 3600.0 * self._mean(state.physics["_shortwave_rad"].fsol),
        }

    def pack(self, state: SpeedyState) -> dict[str, Any]:
        """Arrays of a state, in the order of its tree."""
        return {f"leaf_{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(state))}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> SpeedyState:
        """Inverse of `pack`.

        Raises:
            KeyError: arrays of another state.
        """
        like, structure = jax.tree.flatten(jax.eval_shape(self._start, 0))
        return jax.tree.unflatten(structure, [jnp.asarray(arrays[f"leaf_{number}"]) for number in range(len(like))])

    def balance(self, state: SpeedyState) -> str:
        """Global means since the start, with the spin-up."""
        *sums, steps = np.asarray(state.budget, np.float64)
        rain, evaporation, sun, longwave = np.asarray(sums) / max(steps, 1.0)
        return (
            f"global means over {steps * STEP_SECONDS / 86400:.0f} days with the spin-up: precipitation "
            f"{rain * 86400:.2f} and evaporation {evaporation * 86400:.2f} mm a day; at the top of the atmosphere "
            f"{sun:.1f} W m-2 of sunlight absorbed, {longwave:.1f} W m-2 sent out"
        )
