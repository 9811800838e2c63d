"""Lazy arrays that remember where in a file or store their values lie, and how they are to be scaled.

What a source undergoes until its axes, names and units are canonical moves indices and scales values. Arrays of this
module take that down instead of doing it: xarray selects, transposes, expands and concatenates them by NumPy's
protocol for arrays of others, nothing is read, and what comes out says for every axis which stored positions it
consists of. A part of it then costs the same however long the record is: 1 ms for four small maps of a store of 43 800
chunks, where dask would walk the graph of the whole record for 136 ms.

Chunks of plain Zarr are read by TensorStore, many at once and outside the interpreter's lock; all else by xarray.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.io.missing_values import within
from weather_scnn.io.plain_zarr import PlainArray

#: Positions along a stored axis, one for each entry of the canonical one.
Positions = range | np.ndarray
Pending = Callable[[], np.ndarray]


def selected(positions: Positions, key: Any) -> Positions:
    """Positions at a slice or at whole numbers."""
    if isinstance(key, slice) or isinstance(positions, np.ndarray):
        return positions[key]
    key = np.asarray(key)
    return positions.start + positions.step * np.where(key < 0, key + len(positions), key)


def compact(positions: Positions) -> tuple[Any, Any]:
    """What is asked of a store, in ascending order, and what is then done in memory: a run is asked for as a slice."""
    index = positions
    if isinstance(index, np.ndarray) and index.size and (index.size == 1 or np.ptp(np.diff(index)) == 0):
        step = int(index[1] - index[0]) if index.size > 1 else 1
        if step:
            index = range(int(index[0]), int(index[0]) + step * index.size, step)
    if isinstance(index, range):
        if not index:
            return slice(0, 0), slice(None)
        if index.step > 0:
            return slice(index.start, index[-1] + 1, index.step), slice(None)
        return slice(index[-1], index.start + 1, -index.step), slice(None, None, -1)
    if not index.size:
        return slice(0, 0), slice(None)
    low, high = int(index.min()), int(index.max()) + 1
    if high - low <= 2 * index.size:
        return slice(low, high), index - low
    unique, inverse = np.unique(index, return_inverse=True)
    return unique, inverse


class StoredArray(np.lib.mixins.NDArrayOperatorsMixin, abc.ABC):
    """A lazy array; see `StoredPart` and `JoinedParts`.

    Attributes:
        shape, dtype: of the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @abc.abstractmethod
    def ask(self) -> Pending:
        """Asks the store for the values; what is given back waits for them."""

    @abc.abstractmethod
    def at(self, axis: int, key: Any) -> "StoredArray":
        """Entries of an axis at a slice or at an array of positions."""

    @abc.abstractmethod
    def without(self, axis: int) -> "StoredArray":
        """Without an axis of length one."""

    @abc.abstractmethod
    def with_axis(self, axis: int) -> "StoredArray":
        """With another axis of length one."""

    @abc.abstractmethod
    def transpose(self, *axes: Any) -> "StoredArray":
        """With its axes in another order."""

    @abc.abstractmethod
    def changed(self, change: Callable[["StoredPart"], "StoredPart"]) -> "StoredArray":
        """With a change of how its parts' values are made."""

    @abc.abstractmethod
    def parts(self) -> "list[StoredPart]":
        """All that it is read from."""

    def scaled(self, scale: float, offset: float) -> "StoredArray":
        """Times a factor plus an offset, in float32 or wider."""
        return self.changed(
            lambda part: dataclasses.replace(part, scale=scale * part.scale, offset=scale * part.offset + offset)
        )

    def limited(self, limits: tuple[float, float]) -> "StoredArray":
        """With NaN for stored values outside of what is valid."""
        return self.changed(lambda part: dataclasses.replace(part, limits=limits))

    def astype(self, dtype: Any, **_: Any) -> "StoredArray":
        return self.changed(lambda part: dataclasses.replace(part, dtype=np.dtype(dtype)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self.ask()())  # one value would be a scalar
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        keys = _orthogonal(key if isinstance(key, tuple) else (key,), self.ndim)
        if keys is None:
            return np.asarray(self)[key]  # single points, which are no part of a map
        result, axis = self, 0
        for each in keys:
            if each is None:
                result, axis = result.with_axis(axis), axis + 1
            elif isinstance(each, int | np.integer):
                each = int(each) + (result.shape[axis] if each < 0 else 0)
                result = result.at(axis, slice(each, each + 1)).without(axis)
            else:
                if not (isinstance(each, slice) and each == slice(None)):
                    result = result.at(axis, each)
                axis += 1
        return result

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*(np.asarray(x) if isinstance(x, StoredArray) else x for x in inputs), **options)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        if function in (np.concatenate, np.stack):
            arrays, axis = args[0], kwargs.get("axis", args[1] if len(args) > 1 else 0)
            if all(isinstance(each, StoredArray) for each in arrays):
                axis = axis % (arrays[0].ndim + (function is np.stack))
                return joined(arrays if function is np.concatenate else [each.with_axis(axis) for each in arrays], axis)
        if function is np.broadcast_to and isinstance(args[0], StoredArray):
            array, shape = args[0], args[1]
            for _ in range(len(shape) - array.ndim):
                array = array.with_axis(0)
            for axis, size in enumerate(shape):
                if array.shape[axis] != size:
                    array = array.at(axis, np.zeros(size, np.int64))
            return array
        if function is np.result_type:
            return np.result_type(*(each.dtype if isinstance(each, StoredArray) else each for each in args))
        plain = [_read(each) for each in args]
        return function(*plain, **{key: _read(each) for key, each in kwargs.items()})


def _read(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_read(each) for each in value)
    return np.asarray(value) if isinstance(value, StoredArray) else value


def _orthogonal(key: tuple, ndim: int) -> list[Any] | None:
    """One key an axis, each for itself; None where arrays pick single points together."""
    if Ellipsis in [each for each in key if not isinstance(each, np.ndarray)]:
        place = next(i for i, each in enumerate(key) if each is Ellipsis)
        given = sum(each is not None for each in key) - 1
        key = (*key[:place], *[slice(None)] * (ndim - given), *key[place + 1 :])
    key = (*key, *[slice(None)] * (ndim - sum(each is not None for each in key)))
    arrays = [np.asarray(each) for each in key if isinstance(each, np.ndarray | list)]
    if sum(each.ndim > 0 for each in arrays) > 1:
        # As `numpy.ix_` makes them: each along an axis of its own.
        shapes = np.array([(1,) * (max(a.ndim for a in arrays) - each.ndim) + each.shape for each in arrays])
        if (
            shapes.shape[1] < len(arrays)
            or ((shapes > 1).sum(axis=0) > 1).any()
            or ((shapes > 1).sum(axis=1) > 1).any()
        ):
            return None
    keys: list[Any] = []
    for each in key:
        if isinstance(each, np.ndarray | list):
            each = np.asarray(each)
            each = np.flatnonzero(each) if each.dtype == bool else each.astype(np.int64)  # dask picks by bytes
            each = int(each) if each.ndim == 0 else each.ravel()
        keys.append(each)
    return keys


@dataclasses.dataclass(frozen=True, eq=False)
class StoredPart(StoredArray):
    """Values of one stored array.

    Attributes:
        variable: as xarray has it lazily, decoded.
        positions: along every stored axis.
        axes: which stored axis each axis is; None for one of length one that the store has not.
        dtype: of the values.
        scale, offset: after that they are scaled so.
        limits: beyond which stored values are missing.
        plain: the same array by TensorStore, where its numbers are the values.
    """

    variable: xr.Variable
    positions: tuple[Positions, ...]
    axes: tuple[int | None, ...]
    dtype: np.dtype
    scale: float = 1.0
    offset: float = 0.0
    limits: tuple[float, float] | None = None
    plain: PlainArray | None = None

    @classmethod
    def of(cls, variable: xr.Variable, plain: PlainArray | None = None) -> "StoredPart":
        """All of a lazy variable."""
        positions = tuple(range(size) for size in variable.shape)
        return cls(variable, positions, tuple(range(variable.ndim)), variable.dtype, plain=plain)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(1 if axis is None else len(self.positions[axis]) for axis in self.axes)

    def at(self, axis: int, key: Any) -> StoredArray:
        stored = self.axes[axis]
        if stored is None:
            count = len(range(1)[key]) if isinstance(key, slice) else len(key)
            return (
                self if count == 1 else JoinedParts((self,), axis, np.zeros(count, np.int64), np.zeros(count, np.int64))
            )
        positions = list(self.positions)
        positions[stored] = selected(positions[stored], key)
        return dataclasses.replace(self, positions=tuple(positions))

    def without(self, axis: int) -> "StoredPart":
        return dataclasses.replace(self, axes=self.axes[:axis] + self.axes[axis + 1 :])

    def with_axis(self, axis: int) -> "StoredPart":
        return dataclasses.replace(self, axes=(*self.axes[:axis], None, *self.axes[axis:]))

    def transpose(self, *axes: Any) -> "StoredPart":
        return dataclasses.replace(self, axes=tuple(self.axes[axis] for axis in _order(axes, self.ndim)))

    def changed(self, change: Callable[["StoredPart"], "StoredPart"]) -> StoredArray:
        return change(self)

    def parts(self) -> "list[StoredPart]":
        return [self]

    def ask(self) -> Pending:
        keys, after = zip(*map(compact, self.positions)) if self.positions else ((), ())
        pending = None
        if self.plain is not None:
            pending = self.plain.ask(keys)
        return functools.partial(self._finished, keys, after, pending)

    def _finished(self, keys: tuple, after: tuple, pending: Pending | None) -> np.ndarray:
        if pending is not None:
            values = pending()
        else:
            part = self.variable[keys]
            # Callers are threads already; dask's own on top of them read one chunk at a time 2.5 times slower.
            values = np.asarray((part.compute(scheduler="synchronous") if part.chunks else part).values)
        for axis, order in enumerate(after):
            if not (isinstance(order, slice) and order == slice(None)):
                values = values[(slice(None),) * axis + (order,)]
        kept = [axis for axis in self.axes if axis is not None]
        dropped = tuple(axis for axis in range(values.ndim) if axis not in kept)
        rank = {axis: place for place, axis in enumerate(sorted(kept))}
        values = values.squeeze(dropped).transpose([rank[axis] for axis in kept]).reshape(self.shape)
        values = values if values.dtype == self.dtype else values.astype(self.dtype)
        if self.limits is not None:
            values = within(values, self.limits)
        if self.scale != 1.0:
            values = values * np.float32(self.scale)
        # Arithmetic makes a scalar of an array without axes.
        return np.asarray(values + np.float32(self.offset) if self.offset else values)


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedParts(StoredArray):
    """Arrays put together along an axis.

    Attributes:
        sources: alike but for that axis.
        axis: which.
        which: number of the source that each entry comes from, −1 for none: NaN.
        where: its position there.
    """

    sources: tuple[StoredArray, ...]
    axis: int
    which: np.ndarray
    where: np.ndarray

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        return np.result_type(*(source.dtype for source in self.sources))

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        shape = self.sources[0].shape
        return (*shape[: self.axis], self.which.size, *shape[self.axis + 1 :])

    def _of_sources(self, sources: Sequence[StoredArray], axis: int) -> "JoinedParts":
        return dataclasses.replace(self, sources=tuple(sources), axis=axis)

    def at(self, axis: int, key: Any) -> StoredArray:
        if axis != self.axis:
            return self._of_sources([source.at(axis, key) for source in self.sources], self.axis)
        which, where = self.which[key], self.where[key]
        used = np.unique(which)
        if used.size == 1 and used[0] >= 0:
            return self.sources[used[0]].at(axis, where)
        return dataclasses.replace(self, which=which, where=where)

    def without(self, axis: int) -> StoredArray:
        if axis == self.axis:
            # Its one entry is absent, or was picked before.
            source = self.sources[max(self.which[0], 0)].at(axis, np.array([max(self.where[0], 0)])).without(axis)
            if self.which[0] >= 0:
                return source
            nothing = np.full(source.shape[0] if source.ndim else 0, -1)
            return JoinedParts((source,), 0, nothing, nothing)
        return self._of_sources([each.without(axis) for each in self.sources], self.axis - (axis < self.axis))

    def with_axis(self, axis: int) -> "JoinedParts":
        return self._of_sources([each.with_axis(axis) for each in self.sources], self.axis + (axis <= self.axis))

    def transpose(self, *axes: Any) -> "JoinedParts":
        order = _order(axes, self.ndim)
        return self._of_sources([each.transpose(order) for each in self.sources], order.index(self.axis))

    def changed(self, change: Callable[[StoredPart], StoredPart]) -> "JoinedParts":
        return self._of_sources([each.changed(change) for each in self.sources], self.axis)

    def parts(self) -> list[StoredPart]:
        return [part for source in self.sources for part in source.parts()]

    def ask(self) -> Pending:
        waiting, before = [], (slice(None),) * self.axis
        for number in np.unique(self.which[self.which >= 0]).tolist():
            places = np.flatnonzero(self.which == number)
            once, again = np.unique(self.where[places], return_inverse=True)
            waiting.append((_as_run(places), _as_run(again), self.sources[number].at(self.axis, once).ask()))

        def finished() -> np.ndarray:
            out = np.empty(self.shape, self.dtype)
            for places, again, pending in waiting:
                out[(*before, places)] = pending()[(*before, again)]
            if (self.which < 0).any():
                out[(*before, _as_run(np.flatnonzero(self.which < 0)))] = np.nan
            return out

        return finished


def _as_run(positions: np.ndarray) -> slice | np.ndarray:
    """Consecutive positions as a slice, which needs no copy."""
    run = positions.size > 0 and positions[-1] - positions[0] + 1 == positions.size and np.all(np.diff(positions) == 1)
    return slice(int(positions[0]), int(positions[-1]) + 1) if run else positions


def _order(axes: tuple, ndim: int) -> tuple[int, ...]:
    if len(axes) == 1 and not isinstance(axes[0], int | np.integer):
        axes = axes[0]
    return tuple(int(axis) for axis in axes) if axes else tuple(range(ndim))[::-1]


def joined(arrays: Sequence[StoredArray], axis: int) -> StoredArray:
    """Arrays one after the other along an axis."""
    if len(arrays) == 1:
        return arrays[0]
    sizes = [array.shape[axis] for array in arrays]
    which = np.repeat(np.arange(len(arrays)), sizes)
    return JoinedParts(tuple(arrays), axis, which, np.concatenate([np.arange(size) for size in sizes]))
