"""NOAA's GFS analyses at 0.25°, by byte ranges: the first step of each forecast, whose `.idx` lists its messages.

The environment variable WEATHER_SCNN_NOAA_GFS names another copy, as any fsspec address or folder, such as
gs://global-forecast-system; `--storage-option` serves for its options.
"""

import functools
import os
from collections.abc import Sequence

import fsspec
import numpy as np
import pandas as pd

from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.variables import Variable
from weather_scnn.errors import NothingThere, UserError

ADDRESS = "WEATHER_SCNN_NOAA_GFS"
_DEFAULT = "https://noaa-gfs-bdp-pds.s3.amazonaws.com"
_CYCLES = 9  # that are looked through for the newest
# What wgrib2 calls fields without levels of pressure; those on levels go by the catalogue's short names.
_NEAR_GROUND = {
    "TMP:2 m above ground": "2m_temperature",
    "DPT:2 m above ground": "2m_dewpoint_temperature",
    "RH:2 m above ground": "2m_relative_humidity",
    "SPFH:2 m above ground": "2m_specific_humidity",
    "UGRD:10 m above ground": "10m_u_component_of_wind",
    "VGRD:10 m above ground": "10m_v_component_of_wind",
    "UGRD:100 m above ground": "100m_u_component_of_wind",
    "VGRD:100 m above ground": "100m_v_component_of_wind",
    "PRMSL:mean sea level": "mean_sea_level_pressure",
    "PRES:surface": "surface_pressure",
    "TMP:surface": "skin_temperature",
    "CAPE:surface": "convective_available_potential_energy",
    "HPBL:surface": "boundary_layer_height",
    "ICEC:surface": "sea_ice_cover",
    "HGT:surface": "geopotential_at_surface",
    "LAND:surface": "land_sea_mask",
    "PWAT:entire atmosphere (considered as a single layer)": "total_column_water_vapour",
}


def latest() -> np.datetime64:
    """The newest time whose analysis is there.

    Raises:
        UserError: there is none of the last two days.
    """
    newest = pd.Timestamp.now("UTC").tz_localize(None).floor("6h")
    for back in range(_CYCLES):
        time = newest - back * pd.Timedelta(hours=6)
        try:
            _ranges(_address(), f"{time:%Y%m%d%H}")
        except NothingThere:
            continue
        return time.to_datetime64().astype("datetime64[ns]")
    raise NothingThere(
        "has no analysis of the last two days",
        where=_address(),
        remedy=f"try later, or name another copy in {ADDRESS}",
    )


def fetch(time: np.datetime64, variable: Variable, levels: Sequence[Level]) -> dict[Level, bytes]:
    """GRIB messages by level, 0 for a field without levels; those that the analysis has.

    Raises:
        UserError: there is no analysis of that time.
    """
    hour = f"{pd.Timestamp(time):%Y%m%d%H}"
    ranges = _ranges(_address(), hour)
    files, path = _located(_address(), hour)
    found = {}
    for level in levels or (0,):
        if (place := ranges.get((variable.name, level))) is not None:
            found[level] = files.cat_file(path, start=place[0], end=place[1])
            if place[1] is not None and len(found[level]) != place[1] - place[0]:
                raise OSError(f"{len(found[level])} bytes came of {place[1] - place[0]}")
    return found


def _address() -> str:
    return (os.environ.get(ADDRESS) or _DEFAULT).rstrip("/")


def _located(address: str, hour: str) -> tuple[fsspec.AbstractFileSystem, str]:
    day, clock = hour[:8], hour[8:]
    path = f"{address}/gfs.{day}/{clock}/atmos/gfs.t{clock}z.pgrb2.0p25.f000"
    try:
        return fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"cannot be reached ({error})",
            where=address,
            remedy=f"pip install 'weather-scnn[live]', or name another copy in {ADDRESS}",
        ) from error


@functools.lru_cache(maxsize=16)
def _ranges(address: str, hour: str) -> dict[tuple[str, Level], tuple[int, int | None]]:
    """First byte and the one after the last of each message of an analysis, by variable and level; None is the file's end."""
    files, path = _located(address, hour)
    try:
        text = files.cat_file(f"{path}.idx").decode()
    except FileNotFoundError as error:
        raise NothingThere(
            f"there is no analysis of {pd.to_datetime(hour, format='%Y%m%d%H'):%Y-%m-%dT%H}",
            where=address,
            remedy=f"give a time that is there, or name a copy that keeps it in {ADDRESS}",
        ) from error
    if not text.endswith("\n"):
        raise OSError("the list of messages came incomplete")
    lines = [line.split(":") for line in text.splitlines() if line.count(":") >= 6]
    # Fields of one message, such as the components of a wind, share an offset.
    offsets = sorted({int(parts[1]) for parts in lines})
    ends: dict[int, int | None] = dict(zip(offsets, [*offsets[1:], None]))
    found: dict[tuple[str, Level], tuple[int, int | None]] = {}
    for _, offset, _, name, layer, step, *_ in lines:
        field = _field(name, layer) if step == "anl" or step.startswith("0 hour") else None
        if field is not None:
            found.setdefault(field, (int(offset), ends[int(offset)]))
    return found


def _field(name: str, layer: str) -> tuple[str, Level] | None:
    """Canonical name and level, 0 without one, of what wgrib2 calls so."""
    if (near := _NEAR_GROUND.get(f"{name}:{layer}")) is not None:
        return near, 0
    variable = lookup(name)
    if variable is None or not variable.on_levels or not layer.endswith(" mb") or "-" in layer:
        return None
    return variable.name, level_number(layer.removesuffix(" mb"))
