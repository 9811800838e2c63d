"""What stands for a missing value in netCDF files and in what was made from them.

xarray masks what `_FillValue` and `missing_value` declare. The NetCDF Users' Guide (appendix A, attribute conventions) has
two rules more: what was never written holds the default fill value of its type where no other is declared, and
what lies outside `valid_min`, `valid_max` or `valid_range` is missing.
"""

import warnings
from typing import Any

import numpy as np
import xarray as xr

# How times were decoded is looked at where axes are named. Once for the process: filters of a block are not safe in threads.
for _message in (
    "Unable to decode time axis",
    "Can't decode floating point datetimes",
    "Ambiguous reference date",
    "variable .* has multiple fill values",  # all of them are missing values
):
    warnings.filterwarnings("ignore", message=f".*{_message}", category=xr.SerializationWarning)

# Of bytes every value may be data, by the same guide.
_DEFAULTS: dict[str, Any] = {
    "f4": np.float32(9.969209968386869e36),
    "f8": np.float64(9.969209968386869e36),
    "i2": np.int16(-32767),
    "u2": np.uint16(65535),
    "i4": np.int32(-2147483647),
    "u4": np.uint32(4294967295),
    "i8": np.int64(-9223372036854775806),
    "u8": np.uint64(18446744073709551614),
}
#: Attributes that say what is valid.
RANGES = ("valid_min", "valid_max", "valid_range")
_PACKED = ("scale_factor", "add_offset")


def decoded(raw: xr.Dataset, *, netcdf: bool, **options: Any) -> xr.Dataset:
    """`xarray.decode_cf` with the rules above: ranges stay as attributes `valid_min` and `valid_max` of decoded values.

    Args:
        raw: opened with `decode_cf=False`.
        netcdf: whether defaults hold, as they do in netCDF files; Zarr stores declare theirs.
        options: of `decode_cf`.
    """
    for name, variable in raw.variables.items():
        if name in raw.dims or variable.ndim < 2 or variable.dtype.kind not in "fiu":
            continue
        if " since " in str(variable.attrs.get("units", "")):
            continue
        attributes = variable.attrs
        for key in ("_FillValue", "missing_value"):
            # 1e20 of 64 bits is no number of 32, and would mark nothing.
            if variable.dtype.kind == "f" and np.asarray(attributes.get(key)).dtype.kind == "f":
                with np.errstate(over="ignore"):
                    attributes[key] = np.asarray(attributes[key]).astype(variable.dtype)[()]
        if netcdf and not {"_FillValue", "missing_value", "_Unsigned"} & attributes.keys():
            default = _DEFAULTS.get(variable.dtype.str[1:])
            if default is not None:
                attributes["_FillValue"] = default
        result = _valid_range(variable)
        for key in RANGES:
            attributes.pop(key, None)
        if result is not None:
            attributes["valid_min"], attributes["valid_max"] = result
    # In microseconds years before 1678 are read without a warning, for the time axis to refuse.
    return xr.decode_cf(raw, **{"decode_times": xr.coders.CFDatetimeCoder(time_unit="us"), **options})


def zero_is_a_value(dataset: xr.Dataset) -> xr.Dataset:
    """Format 2 of Zarr gives arrays a fill value of 0 by default, which xarray would turn into NaN or NaT.

    No rain is not no data, and hour 0 is a time. In packed integers 0 may well mark what is missing. A store that is
    copied to netCDF or to format 3 takes the fill value along.
    """
    for variable in dataset.variables.values():
        fill: Any = variable.attrs.get("_FillValue")
        packed = variable.dtype.kind in "iu" and {"scale_factor", "add_offset"} & set(variable.attrs)
        if variable.dtype.kind in "fiu" and not packed and np.ndim(fill) == 0 and fill is not None and fill == 0:
            del variable.attrs["_FillValue"]
    return dataset


def _valid_range(variable: xr.Variable) -> tuple[float, float] | None:
    """In units of decoded values; None without one, or with one that does not read as such."""
    attributes = variable.attrs
    ends: list[Any] = [attributes.get("valid_min"), attributes.get("valid_max")]
    if "valid_range" in attributes and np.size(attributes["valid_range"]) == 2:
        ends = list(attributes["valid_range"])
    arrays = [None if end is None else np.asarray(end).reshape(-1) for end in ends]
    if any(each is not None and (each.size != 1 or each.dtype.kind not in "fiu") for each in arrays):
        return None
    if "_Unsigned" in attributes or all(each is None for each in arrays):
        return None
    scale, offset = 1.0, 0.0
    # Packed data has its range packed too, unless that is of a wider type (NetCDF Users' Guide).
    if set(_PACKED) & attributes.keys() and all(each is None or each.dtype.kind in "iu" for each in arrays):
        scale, offset = (float(attributes.get(key, default)) for key, default in zip(_PACKED, (1.0, 0.0)))
    low, high = (
        infinite if each is None else float(each[0]) * scale + offset
        for each, infinite in zip(arrays, (-np.inf, np.inf))
    )
    if scale < 0:
        low, high = (-np.inf if arrays[1] is None else high), (np.inf if arrays[0] is None else low)
    if not low < high:
        return None
    # A limit itself is valid, however it was rounded.
    largest = max((abs(end) for end in (low, high) if np.isfinite(end)), default=0.0)
    return low - 1e-6 * largest, high + 1e-6 * largest


def declared_range(array: xr.DataArray | xr.Variable) -> tuple[float, float] | None:
    """Least and greatest valid value of a field that `decoded` has seen; None without limits."""
    if not {"valid_min", "valid_max"} <= array.attrs.keys():
        return None
    return float(array.attrs["valid_min"]), float(array.attrs["valid_max"])


def within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """The values with NaN outside the limits."""
    low, high = limits
    if values.size and (np.fmin.reduce(values, axis=None) < low or np.fmax.reduce(values, axis=None) > high):
        return np.where((values >= low) & (values <= high), values, np.asarray(np.nan, values.dtype))
    return values


def without_range(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes without those that speak of stored values, which are others once they are masked and converted."""
    gone = (*RANGES, "actual_range", "unpacked_valid_range", "missing_value", "_FillValue")
    return {key: value for key, value in attributes.items() if key not in gone}
