"""Regions of the globe, after WeatherBench 2 (Rasp et al. 2024)."""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError

# Coordinates in files are often float32; a cell centre on the edge of a box belongs to it.
_EDGE_TOLERANCE_DEGREES = 1e-4


@dataclasses.dataclass(frozen=True)
class Region:
    """Latitude bands and one longitude range, edges included.

    Attributes:
        name: as written on the command line and in `scores.nc`.
        description: for people.
        bands: (south, north) in degrees; the region is their union.
        longitudes: (west, east) in degrees, eastwards from west to east and possibly across 0°; None for all.
    """

    name: str
    description: str
    bands: tuple[tuple[float, float], ...] = ((-90.0, 90.0),)
    longitudes: tuple[float, float] | None = None

    def contains(self, latitude: Float[np.ndarray, " y"], longitude: Float[np.ndarray, " x"]) -> np.ndarray:
        """Which cell centres lie in the region: bool, shape (latitude, longitude)."""
        return self.holds(latitude[:, None], longitude[None, :])

    def holds(self, latitude: Float[np.ndarray, "..."], longitude: Float[np.ndarray, "..."]) -> np.ndarray:
        """Which of some places lie in the region: bool, of the shape that both have together."""
        rows = np.zeros(latitude.shape, bool)
        for south, north in self.bands:
            rows |= (latitude >= south - _EDGE_TOLERANCE_DEGREES) & (latitude <= north + _EDGE_TOLERANCE_DEGREES)
        if self.longitudes is None:
            columns = np.ones(longitude.shape, bool)
        else:
            west, east = self.longitudes
            eastward = np.mod(longitude - west + _EDGE_TOLERANCE_DEGREES, 360.0)
            columns = eastward <= np.mod(east - west, 360.0) + 2 * _EDGE_TOLERANCE_DEGREES
        return rows & columns


_NORTH, _SOUTH = (20.0, 90.0), (-90.0, -20.0)

REGIONS: dict[str, Region] = {
    region.name: region
    for region in (
        Region("global", "the globe"),
        Region("tropics", "20° S to 20° N", ((-20.0, 20.0),)),
        Region("extratropics", "poleward of 20° in both hemispheres", (_SOUTH, _NORTH)),
        Region("northern-hemisphere", "north of 20° N", (_NORTH,)),
        Region("southern-hemisphere", "south of 20° S", (_SOUTH,)),
        Region("europe", "35–75° N, 12.5° W – 42.5° E", ((35.0, 75.0),), (-12.5, 42.5)),
        Region("north-america", "25–60° N, 120–75° W", ((25.0, 60.0),), (-120.0, -75.0)),
        Region("north-atlantic", "25–65° N, 70–10° W", ((25.0, 65.0),), (-70.0, -10.0)),
        Region("north-pacific", "25–60° N, 145° E – 130° W", ((25.0, 60.0),), (145.0, -130.0)),
        Region("east-asia", "25–60° N, 102.5–150° E", ((25.0, 60.0),), (102.5, 150.0)),
        Region("australia-new-zealand", "45–12.5° S, 120–175° E", ((-45.0, -12.5),), (120.0, 175.0)),
        Region("arctic", "north of 60° N", ((60.0, 90.0),)),
        Region("antarctic", "south of 60° S", ((-90.0, -60.0),)),
    )
}


_BAND = re.compile(r"(?P<south>\d+(?:\.\d+)?)(?P<a>[ns]?)-(?P<north>\d+(?:\.\d+)?)(?P<b>[ns]?)")
_BANDS = "bands:"


def with_bands(names: Sequence[str]) -> tuple[str, ...]:
    """Names of regions in which `bands:30` stands for the zonal bands of 30° from pole to pole: 90s-60s … 60n-90n.

    Raises:
        UserError: the width does not divide the 180° between the poles.
    """
    found: list[str] = []
    for name in names:
        if not name.startswith(_BANDS):
            found.append(name)
            continue
        text = name.removeprefix(_BANDS)
        width = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
        if not 1 <= width <= 90 or (180 / width) % 1 > 1e-9:
            raise UserError(f"{name!r} is no number of degrees that divides 180", remedy="write bands:30, or bands:10")
        edges = [-90 + width * number for number in range(round(180 / width) + 1)]
        found += [f"{_latitude(south)}-{_latitude(north)}" for south, north in itertools.pairwise(edges)]
    return tuple(dict.fromkeys(found))


def _latitude(degrees: float) -> str:
    return f"{abs(degrees):g}{'s' if degrees < 0 else 'n' if degrees > 0 else ''}"


def region_of(name: str) -> Region:
    """The region of this name: a key of `REGIONS`, or a zonal band such as 30s-0, 10s-10n, 30n-60n.

    Raises:
        UserError: there is none.
    """
    if name in REGIONS:
        return REGIONS[name]
    match = _BAND.fullmatch(name.lower())
    if match is not None:
        south, north = (
            float(match[end]) * (-1 if match[side] == "s" else 1) for end, side in (("south", "a"), ("north", "b"))
        )
        if -90 <= south < north <= 90:
            return Region(name, f"from {_latitude(south).upper()} to {_latitude(north).upper()}", ((south, north),))
        raise UserError(f"the band {name!r} does not go from south to north", remedy="write it as 30s-0 or 30n-60n")
    near = difflib.get_close_matches(name, REGIONS, 1)
    raise UserError(
        f"the region {name!r} is not known" + (f" (nearest: {near[0]})" if near else ""),
        remedy="choose from " + ", ".join(REGIONS) + ", a zonal band such as 30n-60n, or bands:30 for all of them",
    )


def box_of(text: str) -> Region:
    """The box of a name of `REGIONS`, of a zonal band, or of edges in degrees, W,S,E,N, eastwards from west to east.

    Raises:
        UserError: it is none, or two boxes.
    """
    parts = text.split(",")
    if len(parts) == 1:
        region = region_of(text.strip())
        if len(region.bands) > 1:
            raise UserError(
                f"the region {text} is {len(region.bands)} boxes, {region.description}",
                remedy="choose one of a single box, or give its edges as W,S,E,N",
            )
        return region
    try:
        west, south, east, north = map(float, parts)
    except ValueError:
        raise UserError(
            f"the region {text!r} is neither a name nor four edges", remedy="write W,S,E,N in degrees, as -10,35,40,70"
        ) from None
    if not (-90 <= south <= north <= 90 and -180 <= west <= 360 and -180 <= east <= 360):
        raise UserError(
            f"the edges {text} do not lie from south to north on the globe",
            remedy="write W,S,E,N in degrees, as -10,35,40,70",
        )
    longitudes = None if east - west >= 360 else (west, east)
    return Region(text, f"{west:g} to {east:g}° E, {south:g} to {north:g}° N", ((south, north),), longitudes)
