"""Sources on hybrid or sigma levels, brought to pressure levels while they are read.

Pressures of the layers' centres come from the coefficients of the file, or from the tables of the ECMWF's 137 and the
UFS's 127 levels in the dinosaur package, and from the surface pressure of the same time.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dinosaur import vertical_interpolation
from dinosaur.hybrid_coordinates import HybridCoordinates

from pipelines.vertical import model_level_axis
from weather_scnn.data.direct import MapReader
from weather_scnn.data.opening import open_with_notes
from weather_scnn.errors import UserError

# Names of coefficients of the centres (a in Pa or times a reference pressure, b), and of the boundaries.
_CENTRES = (("hyam", "hybm"), ("ap", "b"), ("a", "b"))
_BOUNDARIES = (("hyai", "hybi"),)
_TABLES: dict[int, Callable[[], HybridCoordinates]] = {137: HybridCoordinates.ECMWF137, 127: HybridCoordinates.UFS127}
_SURFACE = ("surface_pressure", "sp", "ps", "PS")
_LOG_SURFACE = ("lnsp", "ln_sp", "logarithm_of_surface_pressure", "log_surface_pressure")


def _coefficients(dataset: xr.Dataset, dim: str, kind: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """a in Pa and b of every level's centre: its pressure is a + b times that at the surface."""
    values = dataset[dim].values if dim in dataset.variables else np.arange(1, dataset.sizes[dim] + 1)
    if kind == "sigma":
        if np.any((values <= 0) | (values > 1)):
            raise UserError(f"the sigma levels {dim} are not in (0, 1]", where=where, remedy="correct the coordinate")
        return np.zeros(values.size), np.asarray(values, np.float64)
    reference = float(dataset["P0"].values) if "P0" in dataset.variables else 1e5
    for first, second in (*_CENTRES, *_BOUNDARIES):
        if first in dataset.variables and second in dataset.variables:
            a, b = (np.asarray(dataset[name].values, np.float64).ravel() for name in (first, second))
            # CAM's coefficients are fractions of a reference pressure; others are pascals.
            a = (
                a * reference
                if np.abs(a).max() <= 2 and "pa" not in str(dataset[first].attrs.get("units", "")).lower()
                else a
            )
            if a.size == values.size + 1:
                a, b = (a[1:] + a[:-1]) / 2, (b[1:] + b[:-1]) / 2
            if a.size == values.size:
                return a, b
    table = _TABLES.get(int(np.max(values))) or _TABLES.get(values.size)
    numbers = np.rint(np.asarray(values, np.float64)).astype(int)
    if table is None or np.abs(numbers - values).max() > 0 or numbers.min() < 1:
        raise UserError(
            f"has {values.size} levels {dim} without their coefficients a and b",
            where=where,
            remedy="add them as variables hyam and hybm, or ap and b, on that axis",
        )
    coordinates = table()
    return coordinates.a_centers[numbers - 1] * 100.0, coordinates.b_centers[numbers - 1]


@functools.partial(jax.jit, static_argnames="targets")
def _interpolated(values: jax.Array, pressure: jax.Array, targets: tuple[float, ...]) -> jax.Array:
    """Linear in ln p between centres, constant beyond the highest and the lowest: (k, n) → (len(targets), n)."""
    wanted = jnp.log(jnp.asarray(targets))
    return jax.vmap(
        lambda xp, fp: jax.vmap(vertical_interpolation.interp, (0, None, None))(wanted, xp, fp), (-1, -1), -1
    )(jnp.log(pressure), values)


def _to_pressure(
    values: np.ndarray, surface: np.ndarray, a: np.ndarray, b: np.ndarray, levels: Sequence[float]
) -> np.ndarray:
    """Field (…, y, x, k) and surface pressure (…, y, x) in Pa → (…, y, x, len(levels)), levels in hPa."""
    shape = surface.shape
    column = np.asarray(values, np.float32).reshape(-1, values.shape[-1]).T
    pressure = a[:, None] + b[:, None] * np.asarray(surface, np.float64).reshape(1, -1)
    order = slice(None) if pressure[0, 0] < pressure[-1, 0] else slice(None, None, -1)
    targets = tuple(100.0 * level for level in levels)
    found = _interpolated(column[order], pressure[order].astype(np.float32), targets)
    return np.asarray(found).T.reshape(*shape, len(levels))


def on_pressure_levels(
    path: str,
    raw: list[tuple[str, xr.Dataset]],
    variables: Sequence[str] | None,
    levels: Sequence[float] | None,
    time: str | None,
) -> MapReader:
    """A source on model levels as a lazy canonical dataset on pressure levels.

    Args:
        path: of the source.
        raw: its lazy files, some with a model-level axis.
        variables: as for `open_dataset`.
        levels: hPa; needed.
        time: as for `open_dataset`.

    Raises:
        UserError: no levels are asked for, or surface pressure or coefficients are missing.
    """
    axes = [model_level_axis(dataset) for _, dataset in raw]
    if levels is None:
        raise UserError("is on model levels", where=path, remedy="say which pressure levels to make: --levels 500,850")
    levels = sorted(levels)
    pieces = []
    coefficients = None
    for (where, dataset), axis in zip(raw, axes):
        if axis is not None:
            dim, kind = axis
            if dataset.sizes[dim] > 1:
                coefficients = coefficients or _coefficients(dataset, dim, kind, where)
            dataset = dataset.rename({dim: "level"})
            # The door takes the numbers for pressures and leaves them in order; they are replaced below.
            dataset = dataset.assign_coords(level=("level", np.arange(1, dataset.sizes["level"] + 1), {"units": "hPa"}))
        for name in _LOG_SURFACE:
            if name in dataset.data_vars:
                logarithm = dataset[name].chunk("auto")
                if "level" in logarithm.dims:
                    logarithm = logarithm.isel(level=0, drop=True)
                pressure = xr.apply_ufunc(np.exp, logarithm, dask="allowed").assign_attrs(units="Pa")
                dataset = dataset.drop_vars(name).assign(surface_pressure=pressure)
        # What GRIB says of the kind of level no longer holds.
        for array in dataset.data_vars.values():
            array.attrs.pop("GRIB_typeOfLevel", None)
        pieces.append((where, dataset))
    wanted = None if variables is None else [*dict.fromkeys([*variables, "surface_pressure"])]
    if not any(name in dataset.data_vars for _, dataset in pieces for name in _SURFACE):
        raise UserError(
            "is on model levels without the pressure at the surface", where=path, remedy="add surface_pressure or lnsp"
        )
    dataset, _ = open_with_notes(path, variables=wanted, time=time, raw=pieces)
    assert coefficients is not None
    fields: dict[str, xr.DataArray] = {}
    for key, array in dataset.data_vars.items():
        name = str(key)
        if "level" in array.dims:
            made = xr.apply_ufunc(
                _to_pressure,
                array.chunk(level=-1),
                dataset["surface_pressure"],
                input_core_dims=[["level"], []],
                output_core_dims=[["pressure"]],
                kwargs={"a": coefficients[0], "b": coefficients[1], "levels": levels},
                dask="parallelized",
                output_dtypes=[np.float32],
                dask_gufunc_kwargs={"output_sizes": {"pressure": len(levels)}},
            )
            array = made.rename(pressure="level").assign_attrs(array.attrs)
        fields[name] = array.transpose(
            *(dim for dim in ("time", "level", "latitude", "longitude") if dim in array.dims)
        )
    if variables is not None and "surface_pressure" not in variables and "sp" not in variables:
        fields.pop("surface_pressure")
    result = xr.Dataset(fields, attrs=dataset.attrs)
    whole = all(level == round(level) for level in levels)
    result = result.assign_coords(
        level=("level", np.asarray(levels, np.int64 if whole else np.float64), {"units": "hPa", "positive": "down"})
    )
    return MapReader(result, {}, path)
