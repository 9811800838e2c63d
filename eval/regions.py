"""Regions over which scores are averaged, after WeatherBench 2 (Rasp et al. 2024).

A box slices the global cell-area weights, so that a cell weighs the same in every region that holds it.
"""

import dataclasses
import difflib
import itertools
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import latitude_weights

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


def region_weights(
    names: Sequence[str],
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    *,
    cosine: bool = False,
) -> Float[np.ndarray, "region y x"]:
    """Cell-area weights of each region: the global weights of mean 1, zero outside the region.

    Args:
        names: see `region_of`.
        latitude: degrees, strictly monotonic, of a global grid.
        longitude: degrees.
        cosine: whether to weigh by cos(latitude), as WeatherBench 1 does, in place of cell areas.

    Raises:
        UserError: an unknown name, or a region that holds no cell centre of the grid.
    """
    latitude, longitude = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    rows = latitude_weights(latitude)
    if cosine:
        # Clipped: cos(90°) is 6e-17 in floating point, and a pole row of WeatherBench 1 weighs nothing.
        rows = np.cos(np.radians(latitude)).clip(min=1e-12)
        rows = rows / rows.mean()
    weights = np.broadcast_to(rows[:, None], (latitude.size, longitude.size))
    result = np.zeros((len(names), latitude.size, longitude.size))
    for index, name in enumerate(names):
        region = region_of(name)
        inside = region.contains(latitude, longitude)
        if not inside.any():
            raise UserError(
                f"the region {name} ({region.description}) holds no point of the {longitude.size}x{latitude.size} grid",
                remedy="leave it out of --regions, or score on a finer grid",
            )
        result[index] = np.where(inside, weights, 0.0)
    return result
