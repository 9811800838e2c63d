"""What the nature run integrates: an atmosphere gives states, fields of them, and what is known ahead; one is here."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from dinosaur import primitive_equations

from pipelines.nature_model import NatureModel, warmest_latitude
from pipelines.nature_output import LEVEL_FIELDS, Diagnosis
from weather_scnn.catalogue.naming import lookup
from weather_scnn.physics.solar import toa_incident_solar_radiation
from weather_scnn.sphere.grid import Grid

_LAND_HEIGHT = 150.0  # metres


@runtime_checkable
class Atmosphere(Protocol):
    """A model with its output grid, as the nature run drives it.

    States are pytrees of arrays. `boundary` gives what drives the model, arrays with a leading axis of times;
    `fields` and `advance` get those of one time, and are traced.

    Attributes:
        name: as the command line has it.
        title, source: of the store.
        levels: hPa, ascending.
        grid: of the output.
        level_fields, surface_fields: names of what `fields` gives, (level, latitude, longitude) and (latitude, longitude).
        known_fields: names of what `known` gives, (time, latitude, longitude).
        long_names: of fields that are not quite what their name says.
        settling_days: spin-up after which statistics no longer drift.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    level_fields: ClassVar[tuple[str, ...]]
    surface_fields: ClassVar[tuple[str, ...]]
    known_fields: ClassVar[tuple[str, ...]]
    long_names: ClassVar[Mapping[str, str]]
    settling_days: ClassVar[float]

    @property
    def grid(self) -> Grid: ...

    @property
    def levels(self) -> tuple[int, ...]: ...

    def static_fields(self) -> dict[str, np.ndarray]: ...

    def boundary(self, times: np.ndarray) -> Any: ...

    def known(self, times: np.ndarray) -> dict[str, np.ndarray]: ...

    def initial_state(self, seed: int, first: np.datetime64) -> Any: ...

    def fields(self, state: Any, boundary: Any) -> dict[str, jax.Array]: ...

    def advance(self, state: Any, boundary: Any) -> Any: ...

    def pack(self, state: Any) -> dict[str, Any]: ...

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any: ...

    def balance(self, state: Any) -> str: ...


@dataclasses.dataclass(frozen=True)
class HeldSuarez:
    """The idealised dry planet of `pipelines.nature_model`.

    Attributes:
        grid: of the output, without pole rows.
        levels: hPa, ascending.
    """

    grid: Grid
    levels: tuple[int, ...] = (250, 500, 700, 850)

    name = "held-suarez"
    title = "Idealised nature run"
    source = "dry primitive equations at T21 with 10 sigma layers (dinosaur), seasonal Held-Suarez forcing"
    level_fields = LEVEL_FIELDS
    surface_fields = ("surface_pressure", "2m_temperature")
    known_fields = ("toa_incident_solar_radiation",)
    long_names: ClassVar[Mapping[str, str]] = {
        "2m_temperature": "Temperature of the lowest sigma layer, in place of that at 2 m"
    }
    # Eddy kinetic energy at 500 hPa settles within 25 days, the zonal mean temperature within 40.
    settling_days = 40.0
    _state_fields = ("vorticity", "divergence", "temperature_variation", "log_surface_pressure")

    @functools.cached_property
    def model(self) -> NatureModel:
        """The dynamical core."""
        return NatureModel()

    @functools.cached_property
    def diagnosis(self) -> Diagnosis:
        """From states to fields."""
        return Diagnosis(self.model, self.grid, self.levels)

    def static_fields(self) -> dict[str, np.ndarray]:
        """`geopotential_at_surface` in m² s⁻² and `land_sea_mask` (land where the terrain is above 150 m)."""
        surface = self.diagnosis.surface_geopotential()
        gravity = float(self.model.specs.g) * self.model.metres_per_second * self.model.per_second
        return {
            "geopotential_at_surface": surface,
            "land_sea_mask": (surface > _LAND_HEIGHT * gravity).astype(np.float32),
        }

    def boundary(self, times: np.ndarray) -> np.ndarray:
        """sin φ₀ of each time."""
        return warmest_latitude(times)

    def known(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """The sun, as the forecasters are given it; this planet does not feel it."""
        solar = toa_incident_solar_radiation(times, self.grid.latitude, self.grid.longitude)
        return {"toa_incident_solar_radiation": solar.astype(np.float32)}

    def initial_state(self, seed: int, first: np.datetime64) -> primitive_equations.State:
        """See `NatureModel.initial_state`."""
        return self.model.initial_state(seed, float(warmest_latitude(np.array([first]))[0]))

    def fields(self, state: primitive_equations.State, boundary: jax.Array) -> dict[str, jax.Array]:
        """Everything written that depends on the state: (level, latitude, longitude) or (latitude, longitude)."""
        layers = self.diagnosis.on_layers(state)
        return self.diagnosis.on_levels(layers) | {
            "surface_pressure": layers["surface_pressure"],
            "2m_temperature": layers["temperature"][-1],
        }

    def advance(self, state: primitive_equations.State, boundary: jax.Array) -> primitive_equations.State:
        """Six hours."""
        return self.model.advance(state, boundary)

    def pack(self, state: primitive_equations.State) -> dict[str, Any]:
        """Named arrays of a state."""
        return {name: np.asarray(getattr(state, name)) for name in self._state_fields}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> primitive_equations.State:
        """Inverse of `pack`."""
        return primitive_equations.State(**{name: jnp.asarray(arrays[name]) for name in self._state_fields})

    def balance(self, state: primitive_equations.State) -> str:
        """Global budgets to tell at the end: this planet has none."""
        return ""


def attributes(names: Sequence[str], long_names: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """CF attributes of the named variables, from the catalogue; some with another long name."""
    found = {}
    for name in names:
        variable = lookup(name)
        assert variable is not None, name
        found[name] = dict(variable.attributes)
        if name in long_names:
            found[name]["long_name"] = long_names[name]
    return found
