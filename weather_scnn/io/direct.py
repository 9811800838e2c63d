"""Reading parts of a Zarr store without a task graph.

The door's dataset is for computing with. To take one part of it, dask walks the graph of the whole record: 136 ms for
four small maps of a store of 43 800 chunks, against 1 ms here, so that a job in n parts would cost n². What the door
does to a Zarr store moves indices and scales values, axis by axis. So it is shown index arrays in place of the
fields, and what it makes of them is repeated on the stored arrays.
"""

import dataclasses
import functools
import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr

from weather_scnn.catalogue.naming import identify, lookup
from weather_scnn.catalogue.plausibility import Judge
from weather_scnn.errors import UserError
from weather_scnn.io.canonical import name_axes
from weather_scnn.io.missing_values import declared_range, within, without_range
from weather_scnn.io.notes import said_before
from weather_scnn.io.opening import open_with_notes, refuse_forecasts
from weather_scnn.io.retry import read_again
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.stored_fields import open_by_tensorstore

_AXES = ("time", "level", "latitude", "longitude")
_SHOWN = 1024.0  # large enough that the rounding of an added offset leaves the scale


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How a canonical field lies in the store.

    Attributes:
        array: the stored array: where it needs no decoding TensorStore's or else Zarr's, otherwise xarray's lazy variable.
        axes: canonical name of every stored axis.
        indices: position on the stored axis of every entry of the canonical one.
        scale: factor of the units.
        offset: added after it.
        chunks: size of the stored chunks along every canonical axis.
        limits: beyond which stored values are missing.
    """

    array: Any
    axes: tuple[str, ...]
    indices: dict[str, np.ndarray]
    scale: float
    offset: float
    chunks: dict[str, int]
    limits: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class MapReader:
    """A canonical dataset, and a way to read parts of its fields that costs the same however long the record is.

    Attributes:
        dataset: as `open_dataset` gives it.
        recipes: of the fields that can be read directly; the others go through dask.
        path: of the source, for messages.
    """

    dataset: xr.Dataset
    recipes: dict[str, _Recipe]
    path: str

    @functools.cached_property
    def judge(self) -> Judge:
        """What holds every map read against what its field can be."""
        return Judge.of(self.dataset, self.path)

    def judge_first(self) -> None:
        """Reads the first time of every field, so that a job refuses what cannot be before it writes anything.

        Raises:
            UserError: values that cannot be, or that cannot be read.
        """
        for name in map(str, self.dataset.data_vars):
            if "time" in self.dataset[name].dims:
                read_again(
                    functools.partial(self.read, name, slice(0, 1)),
                    what=functools.partial(str.format, "{} cannot be read at its first time", name),
                    where=self.path,
                )

    def chunks(self, name: str) -> dict[str, int]:
        """Size of the stored chunks along every axis of a field: what is decoded at once."""
        if name in self.recipes:
            return self.recipes[name].chunks
        array = self.dataset[name]
        sizes = dict(zip(map(str, array.dims), (max(sizes) for sizes in array.chunks or ())))
        return {str(dim): sizes.get(str(dim), array.sizes[dim]) for dim in array.dims}

    def read(self, name: str, times: slice | np.ndarray | None = None, levels: Any = None) -> np.ndarray:
        """Part of a field as float32, dimensions in canonical order, judged (see `plausibility.Judge`).

        Args:
            name: canonical name.
            times: positions on the time axis; default all.
            levels: positions on the level axis; default all.

        Raises:
            UserError: values that cannot be.
        """
        array = self.dataset[name]
        stamps = array["time"].values[slice(None) if times is None else times] if "time" in array.dims else None
        held = None
        if "level" in array.dims:
            held = np.atleast_1d(array["level"].values[slice(None) if levels is None else levels])
        return self.judge(name, self._read(name, times, levels), stamps, held)

    def _read(self, name: str, times: Any, levels: Any) -> np.ndarray:
        wanted = {"time": slice(None) if times is None else times, "level": slice(None) if levels is None else levels}
        array = self.dataset[name]
        wanted = {axis: positions for axis, positions in wanted.items() if axis in array.dims}
        if name not in self.recipes:
            # Callers are threads already; dask's own on top of them read one chunk a time 2.5 times slower.
            part = array.transpose(*(axis for axis in _AXES if axis in array.dims)).isel(wanted)
            return np.asarray(part.compute(scheduler="synchronous").values, np.float32)
        recipe = self.recipes[name]
        key, after = [], []
        for axis in recipe.axes:
            index = recipe.indices[axis]
            stored, order = _compact(index[wanted[axis]] if axis in wanted else index)
            key.append(stored)
            after.append(order)
        values = _fetch(recipe.array, tuple(key))[tuple(after[:1])] if after else np.asarray(recipe.array[...])
        for position, order in enumerate(after[1:], 1):
            if not (isinstance(order, slice) and order == slice(None)):
                values = values[(slice(None),) * position + (order,)]
        axes = [axis for axis in recipe.axes if axis in _AXES]
        values = values.squeeze(tuple(place for place, axis in enumerate(recipe.axes) if axis not in _AXES))
        present = [axis for axis in _AXES if axis in axes]
        values = values.transpose([axes.index(axis) for axis in present])
        # Axes that the door drops, such as a single member, are of length one, and so is a level that it adds.
        sizes = dict(zip(present, values.shape))
        values = values.reshape([sizes.get(axis, 1) for axis in _AXES if axis in array.dims])
        values = values if values.dtype == np.float32 else values.astype(np.float32)
        if recipe.limits is not None:
            values = within(values, recipe.limits)
        if recipe.scale != 1.0:
            values = values * np.float32(recipe.scale)
        return values + np.float32(recipe.offset) if recipe.offset else values


def _compact(index: np.ndarray) -> tuple[Any, Any]:
    """Positions as what is read from the store, and what is then done in memory: a run is read as a slice."""
    index = np.atleast_1d(index)
    if index.size == 0:
        return slice(0, 0), slice(None)
    if index.size == 1 or np.all(np.diff(index) == 1):
        return slice(int(index[0]), int(index[-1]) + 1), slice(None)
    if np.all(np.diff(index) == -1):
        return slice(int(index[-1]), int(index[0]) + 1), slice(None, None, -1)
    low, high = int(index.min()), int(index.max()) + 1
    if high - low <= 2 * index.size:
        return slice(low, high), index - low
    order = np.argsort(index)
    return index[order], np.argsort(order)


def _fetch(array: Any, key: tuple) -> np.ndarray:
    if isinstance(array, xr.Variable):
        return array[key].values
    if all(isinstance(part, slice) for part in key):
        return np.asarray(array[key])
    return np.asarray(array.oindex[key])


def _needs_no_decoding(variable: xr.Variable) -> bool:
    encoding = variable.encoding
    if any(key in encoding for key in ("scale_factor", "add_offset", "missing_value", "_Unsigned")):
        return False
    fill = encoding.get("_FillValue")
    return variable.dtype.kind == "f" and (fill is None or bool(np.isnan(fill)))


def _shown(raw: xr.Dataset, fields: Sequence[str], value: Any) -> xr.Dataset:
    """The dataset with fields replaced by constants, or by positions along an axis."""
    arrays = {}
    for number, name in enumerate(fields):
        variable = raw[name].variable
        if value == "number":
            data = np.full(variable.shape, number, np.float32)
        elif isinstance(value, float):
            data = np.full(variable.shape, value, np.float32)
        else:
            along = [-1 if dim == value else 1 for dim in variable.dims]
            positions = np.arange(variable.sizes.get(value, 1), dtype=np.float32)
            data = np.broadcast_to(positions.reshape(along) if value in variable.dims else positions, variable.shape)
        # One chunk: the door then adds none of its own, and the graph stays a few tasks.
        lazy = dask.array.from_array(np.ascontiguousarray(data), chunks=-1)
        arrays[name] = (variable.dims, lazy, without_range(variable.attrs))
    return raw.assign(arrays)


def _recipes(path: str, raw: xr.Dataset, variables: Any, levels: Any, time: str | None) -> dict[str, _Recipe]:
    """Recipes of the fields that the door only moves and scales."""
    if variables is not None:
        asked_for = set(re.split(r"[,\s]+", variables)) if isinstance(variables, str) else set(variables)
        names = asked_for | {known.name for name in asked_for if (known := lookup(name)) is not None}
        named = {str(name): identify(str(name), raw[name].attrs, on_levels=True) for name in raw.data_vars}
        surface = {str(name): identify(str(name), raw[name].attrs, on_levels=False) for name in raw.data_vars}
        found = [
            name for name in named
            if name in names or {each.name for each in (named[name], surface[name]) if each is not None} & names
        ]  # fmt: skip
        raw = raw[found]
    renamed = name_axes(raw, path)
    fields = [str(name) for name in renamed.data_vars if name in raw.data_vars and raw[name].dtype.kind in "fiu"]
    fields = [name for name in fields if {"latitude", "longitude"} <= set(renamed[name].dims)]
    roles: dict[str, str] = {}
    for name in fields:
        roles.update(zip(map(str, raw[name].dims), map(str, renamed[name].dims[-raw[name].ndim :])))
    if any(role not in _AXES and raw.sizes[dim] > 1 for dim, role in roles.items()):
        return {}
    dims = {role: dim for dim, role in roles.items() if role in _AXES}

    def thin(kept: str, ends: int = 1) -> xr.Dataset:
        """One axis whole, of the others an end: ARCO-ERA5 has 273 fields over 1.3 million times."""
        part = raw.isel({dim: slice(0, ends) for axis, dim in dims.items() if axis != kept})
        if kept != "time":
            # The first time may lie outside the period that the attributes declare filled.
            part.attrs = {key: value for key, value in part.attrs.items() if not str(key).startswith("valid_time_")}
        return part

    def door(part: xr.Dataset, value: Any, **options: Any) -> xr.Dataset:
        shown = [(path, _shown(part, fields, value))]
        return open_with_notes(path, raw=shown, variables=variables, judge=False, **options)[0].compute()

    none, some, number = (door(thin("", 2), value) for value in (0.0, _SHOWN, "number"))
    asked = {"time": {"time": time}, "level": {"levels": levels}}
    shown = {role: door(thin(role), dim, **asked.get(role, {})) for role, dim in dims.items()}
    fast = open_by_tensorstore(path)
    plain: Any = zarr.open_group(path, mode="r") if fast is None else fast.variables
    recipes = {}
    for name in map(str, none.data_vars):
        offset = _only(none[name].values)
        scale = (_only(some[name].values) - offset) / _SHOWN
        scale = 1.0 if abs(scale - 1.0) < 1e-6 else scale
        stored = fields[round((_only(number[name].values) - offset) / scale)]
        axes = tuple(roles[str(dim)] for dim in raw[stored].dims)
        indices, sizes = {}, {}
        for dim, axis in zip(raw[stored].dims, axes):
            if axis not in _AXES:  # of length one
                indices[axis], sizes[axis] = np.zeros(1, np.int64), 1
                continue
            positions = (shown[axis][name].astype(np.float64) - offset) / scale
            line = positions.isel({other: 0 for other in positions.dims if other != axis})
            if np.abs(positions - line).max() > 0.2:
                raise ValueError(f"{name} is not separable")
            indices[axis] = np.atleast_1d(np.rint(line.values).astype(np.int64))
            chunk = raw[stored].encoding.get("chunks") or raw[stored].shape
            sizes[axis] = int(chunk[raw[stored].get_axis_num(dim)])
        variable = raw[stored].variable
        array = plain[stored] if _needs_no_decoding(variable) else variable
        recipes[name] = _Recipe(array, axes, indices, float(np.float32(scale)), offset, sizes, declared_range(variable))
    return recipes


def _only(values: np.ndarray) -> float:
    """The value of a constant array."""
    if values.size == 0 or np.ptp(values) > 0:
        raise ValueError("not constant")
    return float(values.flat[0])


def open_maps(
    path: str,
    *,
    variables: Sequence[str] | str | None = None,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    member: int | None = None,
    raw: list[tuple[str, xr.Dataset]] | None = None,
) -> MapReader:
    """Opens a source as `open_dataset` does, for reading it in parts; `raw` are its files where they are open already.

    Raises:
        UserError: as `open_dataset`.
    """
    levels = None if levels is None else list(levels)
    source = find_source(path)
    raw = open_raw(source) if raw is None else raw
    dataset, _ = open_with_notes(path, variables=variables, levels=levels, time=time, member=member, raw=raw)
    refuse_forecasts(dataset, path)
    if source.format != "zarr" or len(source.paths) > 1:
        return MapReader(dataset, {}, path)
    try:
        with said_before():
            recipes = _recipes(source.paths[0], raw[0][1], variables, levels, time)
    except (UserError, ValueError, KeyError, IndexError, TypeError) as error:
        logging.getLogger(__name__).debug("%s is read through dask: %s", path, error)
        recipes = {}
    # A field that was made of stored ones is none of them.
    recipes = {
        name: recipe
        for name, recipe in recipes.items()
        if name in dataset.data_vars and not dataset[name].encoding.get("remade")
    }
    return MapReader(dataset, recipes, path)
