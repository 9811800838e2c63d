"""Final and preliminary versions of one time: ERA5 (expver 1) goes before ERA5T (expver 5), wherever a source says so.

It may be a dimension, a coordinate along time or of a whole file, an attribute, or a key of GRIB messages. Here it
becomes a coordinate along time that tells which values are not final, until times are joined.
"""

import numpy as np
import xarray as xr

from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.notes import Notes, note

#: Coordinate along time: 0 where values are final, 1 where they are preliminary.
PRELIMINARY = "preliminary"
_FINAL = "1"


def _text(values: np.ndarray) -> np.ndarray:
    """Versions as text without the zeros before them: 0001, b'0001', 1 and 1.0 are all 1."""
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in values.ravel()]
    plain = [text.strip().removesuffix(".0").lstrip("0") for text in texts]
    return np.array(plain, dtype=object).reshape(values.shape)


def _not_final(values: np.ndarray) -> np.ndarray:
    # A version that is not told, as in padding, is taken to be final.
    return np.asarray(~np.isin(_text(values).astype(str), [_FINAL, "", "nan", "None"]), np.int8)


def final_first(raw: xr.Dataset, notes: Notes) -> xr.Dataset:
    """A dataset with the coordinate `preliminary`, or with the final version first along a dimension of versions."""
    names = [str(name) for name in raw.variables if str(name).lower() == "expver"]
    if names and names[0] in raw.dims:
        order = np.argsort(_not_final(raw[names[0]].values), kind="stable")
        return raw.isel({names[0]: order}) if np.any(np.diff(order) < 0) else raw
    if names:
        variable = raw[names[0]].variable
        dims, values = variable.dims, np.asarray(variable.values)
        raw = raw.drop_vars(names[0])
    else:
        told = {str(each.attrs["expver"]) for each in (raw, *raw.data_vars.values()) if "expver" in each.attrs}
        if len(told) != 1:
            return raw
        dims, values = (), np.array(told.pop(), dtype=object)
    if len(dims) > 1 or values.size == 0:
        return raw
    versions = set(_text(values).ravel().tolist())
    if "5" in versions:
        note(notes, "preliminary", "", "some times are ERA5T" if "1" in versions else "all times are ERA5T")
    return raw.assign_coords({PRELIMINARY: (dims, _not_final(values))})


def along_time(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset whose `preliminary`, if there, runs along time."""
    if PRELIMINARY not in dataset.coords:
        return dataset
    flags = dataset[PRELIMINARY]
    if "time" not in dataset.dims or flags.dims not in ((), ("time",)):
        return dataset.drop_vars(PRELIMINARY)
    return dataset.assign_coords({PRELIMINARY: ("time", np.broadcast_to(flags.values, dataset.sizes["time"]).copy())})


def merged_versions(dataset: xr.Dataset, notes: Notes) -> xr.Dataset:
    """The final version along a dimension of versions where it is there, the preliminary one elsewhere."""
    for dim in [dim for dim in dataset.dims if str(dim).lower() == "expver"]:
        if dataset.sizes[dim] > 1:
            note(notes, "expver", "", "ERA5 where given, else ERA5T")
            dataset = in_blocks(dataset)  # which version counts is told by the values
        merged = dataset.isel({dim: 0})
        for position in range(1, dataset.sizes[dim]):
            other = dataset.isel({dim: position})
            merged = merged.assign(
                {
                    name: array.where(array.notnull(), other[name])
                    for name, array in merged.data_vars.items()
                    if dim in dataset[name].dims
                }
            )
        for name in merged.data_vars:
            merged[name].attrs.update(dataset[name].attrs)
        dataset = merged
    return dataset
