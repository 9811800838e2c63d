"""Spectra and vector calculus of xarray objects, and the accessor `scores` of scored datasets.

Fields are global maps on the dimensions latitude and longitude, on an equiangular or Gaussian grid in either order of
latitudes; other dimensions stay as they are. Arrays may be NumPy's or dask's: dask's are computed block by block, with
whole maps in each block. Numbers are float32 as the transforms' are.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid, latitude_weights

_MAP = ("latitude", "longitude")
_ALIASES = {"lat": "latitude", "lon": "longitude"}


def grid_of(field: xr.DataArray | xr.Dataset) -> Grid:
    """The grid of an xarray object with the coordinates latitude and longitude, or lat and lon.

    Raises:
        UserError: it has none, or they are of no global equiangular or Gaussian grid.
    """
    field = _named(field)
    return Grid.from_coordinates(field["longitude"].values, field["latitude"].values)


def area_mean(field: xr.DataArray) -> xr.DataArray:
    """Mean over the globe by cell areas, (Σ w x)/(Σ w) over values that are not NaN, in float64.

    Weights are those of the scores: sin of the upper less sin of the lower bound of a cell.

    Example:
        >>> import numpy as np, xarray as xr, weather_scnn as ws
        >>> grid = ws.Grid.equiangular(8, 4)
        >>> places = {"latitude": grid.latitude, "longitude": grid.longitude}
        >>> square = xr.DataArray(np.sin(np.radians(grid.latitude))[:, None] ** 2 + np.zeros(8), places)
        >>> round(float(ws.xr.area_mean(square)), 3)
        0.354
    """
    field = _named(field)
    weights = xr.DataArray(latitude_weights(field["latitude"].values), dims="latitude")
    return field.astype(np.float64).weighted(weights).mean(_MAP, keep_attrs=True)


def power_spectrum(field: xr.DataArray) -> xr.DataArray:
    """Mean square of a field for each degree l: Σ_m |a_lm|² / 4π, whose sum over `degree` is the mean of the square.

    Args:
        field: global maps.

    Returns:
        Dimensions (…, degree), in the field's unit squared.

    Raises:
        UserError: the maps are on no global grid.

    Example:
        >>> import numpy as np, xarray as xr, weather_scnn as ws
        >>> grid = ws.Grid.equiangular(8, 4)
        >>> places = {"latitude": grid.latitude, "longitude": grid.longitude}
        >>> sine = xr.DataArray(np.sin(np.radians(grid.latitude))[:, None] + np.zeros(8), places)
        >>> [round(float(power), 6) for power in ws.xr.power_spectrum(sine)]  # the square of sin φ has the mean 1/3
        [0.0, 0.333333, 0.0, 0.0]
    """
    from weather_scnn.sphere.field_spectra import degree_power

    field = _one_field(field)
    grid = grid_of(field)
    spectrum = _by_map(lambda values: degree_power(values, grid), [field], ["degree"], [grid.maximum_degree + 1])
    return _over_degrees(spectrum, f"power spectrum of {_title(field)}", _square(field))


def kinetic_energy_spectrum(eastward: xr.DataArray, northward: xr.DataArray) -> xr.DataArray:
    """Kinetic energy of a wind in m s⁻¹ for each degree and unit mass, m² s⁻²; its sum is the mean of (u² + v²)/2.

    Raises:
        UserError: the maps are on no global grid.
    """
    from weather_scnn.sphere.field_spectra import kinetic_energy

    eastward, northward = _one_field(eastward), _one_field(northward)
    grid = grid_of(eastward)
    spectrum = _by_map(
        lambda u, v: kinetic_energy(u, v, grid), [eastward, northward], ["degree"], [grid.maximum_degree + 1]
    )
    return _over_degrees(spectrum, "kinetic energy", "m**2 s**-2")


def vorticity(eastward: xr.DataArray, northward: xr.DataArray) -> xr.DataArray:
    """k·∇×(u, v) in s⁻¹ of a wind in m s⁻¹, by way of its spectrum: exact, and finite on pole rows.

    Raises:
        UserError: the maps are on no global grid.

    Example:
        >>> import numpy as np, xarray as xr, weather_scnn as ws
        >>> grid = ws.Grid.equiangular(16, 8)
        >>> places = {"latitude": grid.latitude, "longitude": grid.longitude}
        >>> u = xr.DataArray(10 * np.cos(np.radians(grid.latitude))[:, None] + np.zeros(16), places)
        >>> turning = ws.xr.vorticity(u, 0 * u)  # of solid-body rotation, (20 m/s / R) sin φ
        >>> expected = 20 / ws.sphere.EARTH_RADIUS * np.sin(np.radians(grid.latitude))
        >>> bool(np.abs(turning[:, 0] - expected).max() < 1e-11)
        True
    """
    return _derivative("vorticity", eastward, northward, "atmosphere_upward_relative_vorticity")


def divergence(eastward: xr.DataArray, northward: xr.DataArray) -> xr.DataArray:
    """∇·(u, v) in s⁻¹ of a wind in m s⁻¹; see `vorticity`."""
    return _derivative("divergence", eastward, northward, "divergence_of_wind")


def _derivative(name: str, eastward: xr.DataArray, northward: xr.DataArray, standard_name: str) -> xr.DataArray:
    eastward, northward = _one_field(eastward), _one_field(northward)
    compute = _calculus(grid_of(eastward), name)
    found = _by_map(compute, [eastward, northward], list(_MAP), [eastward.sizes[dim] for dim in _MAP])
    return found.rename(name).assign_attrs(units="s**-1", standard_name=standard_name, long_name=name)


@functools.lru_cache(maxsize=4)
def _calculus(grid: Grid, name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A compiled function of `weather_scnn.sphere.calculus` on NumPy maps (n, y, x)."""
    import jax

    from weather_scnn import sphere

    transform = sphere.HarmonicTransform.create(grid)
    compiled = jax.jit(getattr(sphere, name))

    def compute(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        last = [np.moveaxis(np.asarray(part, np.float32), 0, -1) for part in (u, v)]
        return np.moveaxis(np.asarray(compiled(transform, *last)), -1, 0)

    return compute


def _by_map(
    compute: Callable[..., np.ndarray], fields: list[xr.DataArray], dims: list[str], sizes: list[int]
) -> xr.DataArray:
    """`compute` of arrays (n, latitude, longitude) on all leading dimensions, lazily where the fields are lazy."""

    def each(*arrays: np.ndarray) -> np.ndarray:
        leading = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
        maps = [np.broadcast_to(array, leading + array.shape[-2:]).reshape(-1, *array.shape[-2:]) for array in arrays]
        return np.asarray(compute(*maps), np.float32).reshape(*leading, *sizes)

    try:
        xr.align(*fields, join="exact", copy=False)
    except ValueError:
        first, *others = fields
        fields = [first, *(_placed_as(first, other) for other in others)]
    lazy = [field.chunk(dict.fromkeys(_MAP, -1)) if field.chunks is not None else field for field in fields]
    return xr.apply_ufunc(
        each, *lazy, input_core_dims=[list(_MAP)] * len(fields), output_core_dims=[dims],
        exclude_dims=set(_MAP) - set(dims), dask="parallelized", output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": dict(zip(dims, sizes))},
    )  # fmt: skip


def _placed_as(first: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """A field in the order of another, where only the order of their coordinates differs."""
    for name, index in first.indexes.items():
        if name in other.indexes and set(index) != set(other.indexes[name]):
            raise UserError(
                f"{_title(first)} and {_title(other)} lie on different values of {name}",
                remedy="give fields of the same times, levels and grid",
            )
    return other.reindex_like(first)


def _one_field(field: xr.DataArray) -> xr.DataArray:
    if not isinstance(field, xr.DataArray):
        raise UserError(
            f"a {type(field).__name__} was given where a DataArray is wanted", remedy="choose one field of it"
        )
    return _named(field)


def _named(field: Any) -> Any:
    """With the map's dimensions under their full names."""
    field = field.rename({short: name for short, name in _ALIASES.items() if short in field.dims})
    for axis in _MAP:
        if axis not in field.dims or axis not in field.coords:
            raise UserError(
                f"there is no {axis} axis with coordinates among ({', '.join(map(str, field.dims))})",
                remedy="give a global field on latitude and longitude, as open_dataset does",
            )
    return field


def _over_degrees(spectrum: xr.DataArray, name: str, units: str) -> xr.DataArray:
    degrees = xr.DataArray(np.arange(spectrum.sizes["degree"]), dims="degree", attrs={"long_name": "degree l"})
    return spectrum.assign_coords(degree=degrees).assign_attrs(long_name=name, units=units)


def _title(field: xr.DataArray) -> str:
    return str(field.attrs.get("long_name", field.name or "a field"))


def _square(field: xr.DataArray) -> str:
    units = str(field.attrs.get("units", "")).strip()
    return f"({units})**2" if units else ""


@xr.register_dataset_accessor("scores")
class Scores:
    """`dataset.scores` of what `weather_scnn.score` and `eval.scoring.open_scores` give.

    Attributes:
        groups: the other groups of scores.nc, such as `sums`, by name; empty where the dataset has been changed since,
            for an accessor belongs to one dataset.
    """

    def __init__(self, dataset: xr.Dataset):
        self._dataset = dataset
        self.groups: dict[str, xr.Dataset] = {}

    def skill(self, reference: str, metric: str = "rmse") -> xr.Dataset:
        """1 − score/reference of every system: 1 is perfect, 0 no better than the reference.

        Args:
            reference: a system, such as persistence.
            metric: one whose perfect value is 0, such as rmse or mae.

        Raises:
            UserError: the scores have no such system or metric.
        """
        for dim, wanted in (("system", reference), ("metric", metric)):
            if wanted not in self._dataset[dim].values:
                raise UserError(
                    f"there is no {dim} {wanted!r}", remedy="choose from " + ", ".join(self._dataset[dim].values)
                )
        chosen = self._dataset.sel(metric=metric)
        return 1 - chosen / chosen.sel(system=reference, drop=True)


def with_groups(groups: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """The root of a file of scores, whose `scores.groups` are the file's other groups.

    Args:
        groups: by path in the file, "/" the root.
    """
    root = groups["/"]
    root.scores.groups = {name.strip("/"): dataset for name, dataset in groups.items() if name != "/"}
    return root
