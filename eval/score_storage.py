"""How scores lie on disk: to as many digits as they tell something, in chunks that compress.

Random digits do not compress, and of what a file of scores holds they are nine tenths: sums over a map in float64 have
digits far below the rounding of the float32 fields they are of. Large arrays are rounded to a number of binary digits
(Kouznetsov 2021, doi:10.5194/gmd-14-377-2021) and keep their type; small ones are kept as they are.
"""

import dataclasses
import math
import zlib
from typing import Any

import numpy as np
import xarray as xr

#: Values from which an array is rounded.
LARGE = 2**15
_COMPRESSED = {"zlib": True, "complevel": 4, "shuffle": True}
_WORTH_COMPRESSING = 1024
# All else is divided by the first, and the last is compared with a level of significance; none takes much room.
_EXACT = ("weight", "count", "seeps_count", "p_value")
_CUT = ("init_time", "lead_time", "level", "latitude", "region")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a group's large arrays are stored.

    Attributes:
        digits: binary digits kept behind the leading one.
        drawn: whether to round up or down by chance, in proportion: what is rounded again with every addition does not drift.
        single: dimensions of which a chunk holds one entry. Those of which it holds all are where values come again, such as the
            sums over the truth, which systems share: 32 KiB back, the compression finds them.
        chunk_values: values of a chunk, at most.
        bytes_per_value: on disk, as measured on fields without structure.
    """

    digits: int
    drawn: bool = False
    single: tuple[str, ...] = ()
    chunk_values: int = 2**18
    bytes_per_value: float = 2.0


_MOMENTS = (
    "moment", "ensemble_moment", "seeps_moment", "wind_ensemble_moment", "by_degree_moment", "events_moment",
)  # fmt: skip
#: Relative errors of at most 4e-6 of sums, 1e-3 of maps and 5e-4 of intervals and differences.
LAYOUTS: dict[str, Layout] = {
    "sums": Layout(17, single=_MOMENTS, chunk_values=2**17, bytes_per_value=1.45),
    "maps": Layout(10, drawn=True, single=("system", "metric", "lead_time"), bytes_per_value=1.1),
    "map_sums": Layout(10, drawn=True, single=("moment", "wind_moment", "lead_time", "level"), bytes_per_value=0.3),
    "intervals": Layout(10, bytes_per_value=1.6),
    "differences": Layout(10, single=("metric",), chunk_values=2**14, bytes_per_value=0.85),
}
LAYOUTS |= {f"degree_{group}": LAYOUTS[group] for group in ("sums", "intervals", "differences")}


def rounded(values: np.ndarray, digits: int, seed: int | None = None) -> np.ndarray:
    """Floating-point numbers with this many binary digits behind the leading one; NaN and infinity stay.

    Args:
        values: float32 or float64.
        digits: to keep.
        seed: of rounding by chance, alike along the first axis; None rounds to the nearest.
    """
    kind: Any = np.uint64 if values.dtype == np.float64 else np.uint32
    dropped = (52 if kind is np.uint64 else 23) - digits
    if dropped <= 0:
        return values
    bits: Any = np.ascontiguousarray(values).view(kind)
    unit = kind(1) << kind(dropped)
    if seed is None:
        added = (unit >> kind(1)) - kind(1) + ((bits >> kind(dropped)) & kind(1))
    else:
        # The same along the first axis, so that equal entries of it stay equal.
        added = np.random.default_rng(seed).integers(0, int(unit), bits.shape[1:], kind)
    with np.errstate(over="ignore"):
        found = ((bits + added) & ~(unit - kind(1))).view(values.dtype)
    return np.where(np.isfinite(values), found, values)


def stored(dataset: xr.Dataset, group: str | None) -> tuple[xr.Dataset, dict[str, dict[str, Any]]]:
    """A group as it is to be written, and its encoding."""
    layout = LAYOUTS.get(group or "")
    arrays, encoding = {}, {}
    for name, array in dataset.data_vars.items():
        if array.size > _WORTH_COMPRESSING:
            encoding[str(name)] = _COMPRESSED | {"chunksizes": _chunks(array, layout or Layout(0))}
        if layout is None or array.size < LARGE or array.dtype.kind != "f":
            continue
        seed = zlib.crc32(f"{group}/{name}".encode()) if layout.drawn else None
        values = rounded(array.values, layout.digits, seed)
        for dim in map(str, array.dims):
            if dim.endswith(("moment", "statistic")):
                exact = np.isin(array[dim].values, _EXACT)
                shape = [-1 if other == dim else 1 for other in array.dims]
                values = np.where(exact.reshape(shape), array.values, values)
        arrays[name] = array.copy(data=values).assign_attrs(binary_digits=layout.digits)
    return dataset.assign(arrays), encoding


def _chunks(array: xr.DataArray, layout: Layout) -> tuple[int, ...]:
    """Sizes of chunks: one entry of the layout's single dimensions, as much as is allowed of the others."""
    sizes = {str(dim): 1 if dim in layout.single else size for dim, size in array.sizes.items()}
    for dim in _CUT:
        excess = math.prod(sizes.values()) / layout.chunk_values
        if dim in sizes and excess > 1:
            sizes[dim] = max(1, math.floor(sizes[dim] / excess))
    return tuple(sizes.values())
