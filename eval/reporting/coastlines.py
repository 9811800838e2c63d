"""Coastlines for maps of the Earth: Natural Earth's 1:110m land, which is in the public domain."""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

_FILE = pathlib.Path(__file__).with_name("coastline_110m.json")
# (latitude, longitude) well inside continents and oceans, so that a coarse mask tells them apart, too.
_LAND = ((22, 10), (60, 100), (-8, 303), (-25, 133), (-85, 0), (35, 105), (42, 260), (65, 250), (8, 22), (55, 45))
_SEA = ((0, 210), (35, 190), (-40, 230), (-20, 350), (38, 320), (-25, 80), (-57, 60), (-57, 200), (-35, 110), (0, 170))
_MARKS = ("idealised", "idealized", "aquaplanet", "held-suarez")


@functools.cache
def coastlines() -> tuple[np.ndarray, ...]:
    """Lines of (longitude, latitude) in degrees, longitude in [-180, 180], none across the date line."""
    lines = json.loads(_FILE.read_text(encoding="utf-8"))["lines"]
    return tuple(np.array(line, np.float64).T / 100.0 for line in lines)


def land_mask(dataset: xr.Dataset) -> xr.DataArray | None:
    """The dataset's fraction of land, (latitude, longitude); None without one or where it is the same everywhere."""
    if "land_sea_mask" not in dataset:
        return None
    mask = dataset["land_sea_mask"]
    mask = (mask.isel(time=0) if "time" in mask.dims else mask).transpose("latitude", "longitude")
    return mask if float(mask.min()) < 0.5 < float(mask.max()) else None


def marked_idealised(attributes: Mapping[str, Any]) -> bool:
    """Whether a dataset says of itself that it is of no real planet."""
    text = " ".join(str(attributes.get(name, "")) for name in ("title", "source", "comment", "description")).lower()
    return any(mark in text for mark in _MARKS)


def is_earth(dataset: xr.Dataset) -> bool:
    """Whether the Earth's coasts belong on maps of a dataset.

    Not where its attributes call it idealised. Else a land-sea mask decides, by nine tenths of twenty places well
    inside continents and oceans; without one the dataset is taken for the Earth's.
    """
    if marked_idealised(dataset.attrs):
        return False
    mask = land_mask(dataset)
    if mask is None:
        return "land_sea_mask" not in dataset

    def land(place: tuple[float, float]) -> bool:
        return float(mask.sel(latitude=place[0], longitude=place[1] % 360, method="nearest")) > 0.5

    agree = sum(map(land, _LAND)) + sum(not land(place) for place in _SEA)
    return agree >= 0.9 * (len(_LAND) + len(_SEA))
