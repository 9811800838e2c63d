"""Sources on hybrid or sigma levels, brought to pressure levels while they are read.

Pressures of the layers' centres come from the coefficients of the file, or from the tables of the ECMWF's 137 and the
UFS's 127 levels in the dinosaur package, and from the surface pressure of the same time.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from dinosaur import vertical_interpolation
from dinosaur.hybrid_coordinates import HybridCoordinates

from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.derived_opening import plan
from weather_scnn.io.field_reader import FieldReader, with_derived
from weather_scnn.io.opening import CanonicalSource, listed
from weather_scnn.io.retry import read_again
from weather_scnn.io.vertical_axis import model_level_axis
from weather_scnn.job_platform import job_device

# Names of coefficients of the centres (a in Pa or times a reference pressure, b), and of the boundaries.
_CENTRES = (("hyam", "hybm"), ("ap", "b"), ("a", "b"))
_BOUNDARIES = (("hyai", "hybi"),)
_TABLES: dict[int, Callable[[], HybridCoordinates]] = {137: HybridCoordinates.ECMWF137, 127: HybridCoordinates.UFS127}
_SURFACE = ("surface_pressure", "sp", "ps", "PS")
_COLUMN_BYTES = 64 * 2**20  # of whole columns, brought to pressure levels at once
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
    with job_device():
        result = np.asarray(_interpolated(column[order], pressure[order].astype(np.float32), targets))
    return result.T.reshape(*shape, len(levels))


@dataclasses.dataclass(frozen=True)
class _OnPressureLevels:
    """A field on model levels that is brought to pressure levels when it is read, whole columns at a time.

    Attributes:
        name: of the field.
        base: reader of it on model levels, and of the surface pressure.
        coefficients: a in Pa and b of every level's centre.
    """

    name: str
    base: FieldReader
    coefficients: tuple[np.ndarray, np.ndarray]

    def chunks(self, array: xr.DataArray) -> dict[str, int]:
        """Those of the source, and all pressure levels: a column is read whole, whichever of them are wanted."""
        return self.base.chunks(self.name) | {"level": array.sizes["level"]}

    def read(self, times: pd.Index | None, levels: np.ndarray | None) -> np.ndarray:
        """See `field_reader.MadeField`; the result is judged, for the source's own levels are numbers, not pressures."""
        assert times is not None and levels is not None
        array = self.base.fields[self.name]
        positions = array["time"].to_index().get_indexer(times)
        one = 4 * len(self.coefficients[0]) * math.prod(array.sizes[axis] for axis in ("latitude", "longitude"))
        at_once = max(1, _COLUMN_BYTES // one)
        parts = [self._made(positions[i : i + at_once], levels) for i in range(0, len(positions), at_once)]
        values = np.concatenate(parts) if len(parts) != 1 else parts[0]
        return self.base.judge(self.name, values, times.values, levels)

    def _made(self, positions: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        values, surface = (self.base.read(each, positions, judged=False) for each in (self.name, "surface_pressure"))
        made = _to_pressure(np.moveaxis(values, -3, -1), surface, *self.coefficients, wanted.tolist())
        return np.ascontiguousarray(np.moveaxis(made, -1, -3))


def _as_opened(dataset: xr.Dataset) -> xr.Dataset:
    """A file whose model levels stand where pressures would: their numbers are left in order."""
    axis = model_level_axis(dataset)
    if axis is not None:
        dataset = dataset.rename({axis[0]: "level"})
        dataset = dataset.assign_coords(level=("level", np.arange(1, dataset.sizes["level"] + 1), {"units": "hPa"}))
    for name in _LOG_SURFACE:
        if name in dataset.data_vars:
            logarithm = in_blocks(dataset[[name]])[name]
            if "level" in logarithm.dims:
                logarithm = logarithm.isel(level=0, drop=True)
            pressure = xr.apply_ufunc(np.exp, logarithm, dask="allowed").assign_attrs(units="Pa")
            dataset = dataset.drop_vars(name).assign(surface_pressure=pressure)
    # What GRIB says of the kind of level no longer holds.
    for array in dataset.data_vars.values():
        array.attrs.pop("GRIB_typeOfLevel", None)
    return dataset


def on_pressure_levels(
    path: str,
    *,
    raw: list[tuple[str, xr.Dataset]],
    variables: Sequence[str] | str | None = None,
    levels: Sequence[float] | None = None,
    time: str | None = None,
    step: str | None = None,
    member: int | None = None,
    beside: Sequence[str] = (),
) -> FieldReader:
    """A source on model levels as a reader of canonical fields on pressure levels.

    Derived fields are made on the pressure levels, from their inputs there.

    Args:
        path: of the source.
        raw: its lazy files, some with a model-level axis.
        variables, time, step, member, beside: as for `FieldReader`.
        levels: hPa; needed where a field has levels.

    Raises:
        UserError: no levels are asked for, or surface pressure or coefficients are missing.
    """
    coefficients = None
    for where, dataset in raw:
        axis = model_level_axis(dataset)
        if axis is not None and dataset.sizes[axis[0]] > 1 and coefficients is None:
            coefficients = read_again(
                functools.partial(_coefficients, dataset, *axis, where),
                what=lambda: "the coefficients of its model levels cannot be read",
                where=where,
            )
    pieces = [(where, _as_opened(dataset)) for where, dataset in raw]
    names = listed(variables)
    source = CanonicalSource(path, member=member, raw=pieces)
    made = plan(source, names, None if levels is None else sorted(levels), time)
    inputs = None if made.inputs is None else [*dict.fromkeys([*made.inputs, "surface_pressure"])]
    has_surface = any(name in dataset.data_vars for _, dataset in pieces for name in _SURFACE)
    on_levels = made.inputs is None or any((v := lookup(name)) is None or v.on_levels for name in made.inputs)
    if not has_surface and on_levels:
        raise UserError(
            "is on model levels without the pressure at the surface", where=path, remedy="add surface_pressure or lnsp"
        )
    opened = source.fields(inputs if has_surface else made.inputs, time=made.time).dataset
    base = FieldReader.of(opened, path)
    if any("level" in array.dims for array in opened.data_vars.values()):
        if made.levels is None:
            raise UserError(
                "is on model levels", where=path, remedy="say which pressure levels to make: --levels 500,850"
            )
        assert coefficients is not None
        on_levels_there = [str(name) for name, array in opened.data_vars.items() if "level" in array.dims]
        opened = _lazily(in_blocks(opened), coefficients, made.levels)
        base = FieldReader.of(
            opened, path, {name: _OnPressureLevels(name, base, coefficients) for name in on_levels_there}
        )
    kept = {
        known.name if (known := lookup(name)) is not None else name for name in (*(names or ()), *(made.inputs or ()))
    }
    if names is not None and "surface_pressure" not in kept:
        base = FieldReader.of(opened.drop_vars("surface_pressure", errors="ignore"), path, base.made)
    reader = with_derived(base, made, step)
    reader.source = source
    return reader


def _lazily(dataset: xr.Dataset, coefficients: tuple[np.ndarray, np.ndarray], levels: Sequence[float]) -> xr.Dataset:
    """The dataset with its fields on pressure levels, for a look at single maps."""
    a, b = coefficients
    if dataset.sizes["level"] != len(a):
        raise UserError(
            f"has fields on {dataset.sizes['level']} levels and {len(a)} model levels",
            remedy="give the files on model levels alone",
        )
    fields: dict[str, xr.DataArray] = {}
    for key, array in dataset.data_vars.items():
        if "level" in array.dims:
            made = xr.apply_ufunc(
                _to_pressure,
                array.chunk(level=-1),
                dataset["surface_pressure"],
                input_core_dims=[["level"], []],
                output_core_dims=[["pressure"]],
                kwargs={"a": a, "b": b, "levels": list(levels)},
                dask="parallelized",
                output_dtypes=[np.float32],
                dask_gufunc_kwargs={"output_sizes": {"pressure": len(levels)}},
            )
            array = made.rename(pressure="level").assign_attrs(array.attrs)
        order = [dim for dim in ("time", "level", "latitude", "longitude") if dim in array.dims]
        fields[str(key)] = array.transpose(*order)
    result = xr.Dataset(fields, attrs=dataset.attrs)
    whole = all(level == round(level) for level in levels)
    values = np.asarray(levels, np.int64 if whole else np.float64)
    return result.assign_coords(level=("level", values, {"units": "hPa", "positive": "down"}))
