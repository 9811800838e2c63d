"""Fields made from other fields, lazily and block by block: winds' speed, vorticity and divergence, humidity, the sun's
radiation, totals over a step, thickness.

They are asked for by name beside those that a source holds: `weather-scnn regrid --variables
2m_temperature,10m_wind_speed,vorticity,total_precipitation_24hr,thickness_1000_500`. A field that the source holds
itself is taken from there. Everything is computed on the source's grid.
"""

import dataclasses
import functools
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.units import GRAVITY
from weather_scnn.errors import UserError
from weather_scnn.io.accumulations import summable, total
from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.canonical import at_times, shared_times
from weather_scnn.job_platform import job_device
from weather_scnn.physics import humidity
from weather_scnn.physics.solar import toa_incident_solar_radiation
from weather_scnn.sphere.grid import Grid

_SOLAR = "toa_incident_solar_radiation"
_MAPS_AT_ONCE = 16
_BLOCK_BYTES = 8 * 2**20
_tables = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a derived field is made.

    Attributes:
        inputs: canonical names of the fields it is made from.
        make: from a dataset that holds them to the field, lazily.
        formula: what is computed, for the attribute `formula`.
        levels: levels in hPa that it needs whatever is selected; empty for those selected.
        hours_before: how much earlier than its own times it needs its inputs.
        attributes: of the field, where the catalogue has none.
    """

    inputs: tuple[str, ...]
    make: Callable[[xr.Dataset], xr.DataArray]
    formula: str
    levels: tuple[float, ...] = ()
    hours_before: int = 0
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def described(self, name: str) -> dict[str, Any]:
        """Attributes of the field."""
        variable = lookup(name)
        return {**(variable.attributes if variable is not None else {}), **self.attributes, "formula": self.formula}


def _elementwise(function: Callable[..., np.ndarray], *arrays: xr.DataArray) -> xr.DataArray:
    """A NumPy function of arrays, block by block, in their own precision."""

    def apply(*values: np.ndarray) -> np.ndarray:
        return function(*values).astype(np.float32)

    return xr.apply_ufunc(apply, *arrays, dask="parallelized", output_dtypes=[np.float32])


def _speed(u: str, v: str) -> Recipe:
    return Recipe((u, v), lambda dataset: _elementwise(np.hypot, dataset[u], dataset[v]), "sqrt(u² + v²)")


def _pressure(dataset: xr.Dataset) -> xr.DataArray:
    """Pa of every level."""
    return xr.DataArray(dataset["level"].values.astype(np.float32) * 100, dims="level")


@functools.lru_cache(maxsize=2)
def _transform(grid: Grid) -> Any:
    from weather_scnn.sphere import HarmonicTransform

    return HarmonicTransform.create(grid)


@functools.lru_cache(maxsize=4)
def _compiled(which: str) -> Any:
    import jax

    from weather_scnn.sphere import divergence, vorticity

    return jax.jit({"vorticity": vorticity, "divergence": divergence}[which])


def _spectral(u: np.ndarray, v: np.ndarray, *, grid: Grid, which: str) -> np.ndarray:
    """Vorticity or divergence of maps (…, y, x), some at a time so that memory stays bounded; NaN makes a map NaN."""
    with job_device():
        return _transformed(u, v, grid, which)


def _transformed(u: np.ndarray, v: np.ndarray, grid: Grid, which: str) -> np.ndarray:
    with _tables:  # threads would build them twice
        transform = _transform(grid)
    shape = u.shape
    u, v = u.reshape(-1, *grid.shape), v.reshape(-1, *grid.shape)
    group = max(1, min(_MAPS_AT_ONCE, _BLOCK_BYTES // (4 * grid.shape[0] * grid.shape[1]), len(u)))
    out = np.empty_like(u, dtype=np.float32)
    for start in range(0, len(u), group):
        parts = [np.zeros((group, *grid.shape), np.float32) for _ in range(2)]
        count = min(group, len(u) - start)
        for part, values in zip(parts, (u, v)):
            part[:count] = values[start : start + count]
        # Maps are the batch; the last, shorter group is padded so that one shape is compiled.
        out[start : start + count] = _compiled(which)(transform, *(part[..., None] for part in parts))[:count, ..., 0]
    return out.reshape(shape)


def _curl(which: str) -> Recipe:
    names = ("u_component_of_wind", "v_component_of_wind")

    def make(dataset: xr.Dataset) -> xr.DataArray:
        grid = Grid.from_coordinates(dataset["longitude"].values, dataset["latitude"].values)
        core = ["latitude", "longitude"]
        whole = [dataset[name].chunk({axis: -1 for axis in core}) if dataset[name].chunks else dataset[name]
                 for name in names]  # fmt: skip
        return xr.apply_ufunc(
            functools.partial(_spectral, grid=grid, which=which),
            *whole,
            input_core_dims=[core, core],
            output_core_dims=[core],
            dask="parallelized",
            output_dtypes=[np.float32],
        )

    return Recipe(names, make, f"{which} by spin-weighted spherical harmonics")


def _radiation(hours: int) -> Recipe:
    def make(dataset: xr.Dataset) -> xr.DataArray:
        if "time" not in dataset.dims:
            raise UserError(f"{_SOLAR} needs times", remedy="ask for a field with a time axis as well")
        latitude, longitude = dataset["latitude"].values, dataset["longitude"].values
        times = dataset["time"].values.astype("datetime64[ns]")

        def block(part: np.ndarray) -> np.ndarray:
            values = toa_incident_solar_radiation(part, latitude, longitude, accumulation_hours=hours)
            return values.astype(np.float32)

        size = max(1, _BLOCK_BYTES // (8 * latitude.size * longitude.size))
        lazy = dask.array.from_array(times, chunks=size)
        chunks = (lazy.chunks[0], (latitude.size,), (longitude.size,))
        values = lazy.map_blocks(
            block, dtype=np.float32, new_axis=[1, 2], chunks=chunks, meta=np.empty((0, 0, 0), "f4")
        )
        coordinates = {"time": times, "latitude": latitude, "longitude": longitude}
        return xr.DataArray(values, coordinates, ("time", "latitude", "longitude"))

    return Recipe((), make, f"integral over the {hours} h before of S₀ (a/r)² max(0, cos zenith); see solar.py")


def _thickness(one: float, other: float) -> Recipe:
    lower, upper = max(one, other), min(one, other)

    def make(dataset: xr.Dataset) -> xr.DataArray:
        field = dataset["geopotential"]
        layers = [field.sel(level=level, drop=True) for level in (upper, lower)]
        return (layers[0] - layers[1]) * np.float32(1 / GRAVITY)

    attributes = {
        "long_name": f"thickness of {lower:g} to {upper:g} hPa",
        "standard_name": "atmosphere_layer_thickness_expressed_as_geopotential_height_difference",
        "units": "m",
    }
    return Recipe(
        ("geopotential",), make, f"(Φ at {upper:g} hPa − Φ at {lower:g} hPa) / g", (lower, upper), attributes=attributes
    )


def _totals(name: str, source: str) -> Recipe:
    wanted, given = lookup(name), lookup(source)
    assert wanted is not None and given is not None and wanted.window_hours and given.window_hours
    hours, window = wanted.window_hours, given.window_hours

    def make(dataset: xr.Dataset) -> xr.DataArray:
        return total(dataset[source], name=name, hours=hours, window_hours=window)

    return Recipe((source,), make, f"sum of {hours // window} totals of {window} h", hours_before=hours - window)


def _with_pressure(function: Callable[..., np.ndarray], first: str, second: str, formula: str) -> Recipe:
    return Recipe(
        (first, second),
        lambda dataset: _elementwise(function, dataset[first], dataset[second], _pressure(dataset)),
        formula,
    )


_FIXED: dict[str, Recipe] = {
    "wind_speed": _speed("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_speed": _speed("10m_u_component_of_wind", "10m_v_component_of_wind"),
    "100m_wind_speed": _speed("100m_u_component_of_wind", "100m_v_component_of_wind"),
    "vorticity": _curl("vorticity"),
    "divergence": _curl("divergence"),
    "relative_humidity": _with_pressure(
        humidity.relative_humidity, "temperature", "specific_humidity", "e(q, p) / saturation of the mixed phase (IFS)"
    ),
    "specific_humidity": _with_pressure(
        humidity.specific_humidity, "temperature", "relative_humidity", "from relative humidity, mixed phase (IFS)"
    ),
    "2m_relative_humidity": Recipe(
        ("2m_temperature", "2m_dewpoint_temperature"),
        lambda dataset: _elementwise(
            humidity.relative_humidity_at_2m, dataset["2m_temperature"], dataset["2m_dewpoint_temperature"]
        ),
        "saturation over water at the dew point / at the temperature",
    ),
    "2m_specific_humidity": Recipe(
        ("2m_dewpoint_temperature", "surface_pressure"),
        lambda dataset: _elementwise(
            humidity.specific_humidity_at_2m, dataset["2m_dewpoint_temperature"], dataset["surface_pressure"]
        ),
        "ε e / (p − (1 − ε) e), e the saturation over water at the dew point",
    ),
}


#: Names that can be made, beside totals and thickness.
MADE = {*_FIXED, _SOLAR}


def may_be_made(name: str) -> bool:
    """Whether a field of this name may have to be made from others, or is one that the catalogue does not hold."""
    variable = lookup(name)
    return variable is None or variable.name in MADE or variable.window_hours is not None


def canonical_name(name: str) -> str:
    """The name under which a derived field is stored."""
    match = re.fullmatch(r"thickness_(\d+)_(\d+)", name.strip().lower())
    if match is not None:
        lower, upper = sorted((int(match[1]), int(match[2])), reverse=True)
        return f"thickness_{lower}_{upper}"
    variable = lookup(name)
    return variable.name if variable is not None else name


def recipe(name: str, held: Iterable[str]) -> Recipe | None:
    """How to make `name` (canonical) from fields that are held; None if it is not a field that can be made.

    Raises:
        UserError: it can be made, but not from those.
    """
    held = sorted(held)
    if match := re.fullmatch(r"thickness_(\d+)_(\d+)", name):
        if match[1] == match[2]:
            raise UserError(f"{name} is empty", remedy="give two levels, as in thickness_1000_500")
        found: Recipe | None = _thickness(float(match[1]), float(match[2]))
    elif name == _SOLAR or re.fullmatch(rf"{_SOLAR}_\d+hr", name):
        variable = lookup(name)
        found = _radiation(int(variable.window_hours or 1)) if variable is not None else None
    elif (source := summable(name, held)) is not None:
        found = _totals(name, source)
    else:
        found = _FIXED.get(name)
    variable = lookup(name)
    if found is None:
        if variable is not None and variable.kind == "accumulated" and (variable.window_hours or 1) > 1:
            raise UserError(
                f"{name} needs totals over a shorter window, such as {re.sub(r'_[0-9]+hr$', '', name)}",
                remedy="give a source that holds them",
            )
        return None
    missing = [each for each in found.inputs if each not in held]
    if missing:
        raise UserError(
            f"{name} needs {' and '.join(found.inputs)}, but {', '.join(missing)} is not there",
            remedy="give a source that holds it, or leave the field out",
        )
    return found


def derive(dataset: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The fields named, from a canonical dataset: its own, and those that can be made from them.

    Args:
        dataset: as `open_dataset` gives it; lazy fields stay lazy.
        names: canonical or short names, such as 10m_wind_speed, vo, total_precipitation_6hr or thickness_1000_500.

    Returns:
        The fields in the order asked for. Where a total lacks a part, its time is left out of all fields.

    Raises:
        UserError: a field is neither there nor can be made, for want of inputs or of a global grid.
    """
    fields: dict[str, xr.DataArray] = {}
    lazy = in_blocks(dataset)
    for asked in names:
        name = asked if asked in dataset.data_vars else canonical_name(asked)
        if name in dataset.data_vars:
            fields[name] = dataset[name]
            continue
        found = recipe(name, map(str, dataset.data_vars))
        if found is None:
            raise UserError(
                f"holds no variable {asked}, and it is not one that can be derived",
                remedy=f"derived are {', '.join([*_FIXED, _SOLAR, 'totals such as total_precipitation_6hr'])}"
                " and thickness_1000_500",
            )
        array = found.make(lazy)
        array.attrs = found.described(name)
        fields[name] = array.astype(np.float32, keep_attrs=True).rename(name)
    common = shared_times(fields.values())
    if common is not None:
        fields = {name: at_times(array.to_dataset(name=name), common)[name] for name, array in fields.items()}
    dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
    result = xr.Dataset({name: array.transpose(*[dim for dim in dims if dim in array.dims], ...)
                         for name, array in fields.items()}, attrs=dataset.attrs)  # fmt: skip
    for axis in ("latitude", "longitude", "time", "level"):
        if axis in result.coords and axis in dataset.coords:
            result[axis].attrs = dataset[axis].attrs
    return result
