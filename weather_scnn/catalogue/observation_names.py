"""What columns of station files are: names and units of METAR, SYNOP and station services, beside those of the catalogue.

Sources: the ASOS/METAR service of the Iowa Environmental Mesonet (tmpf, sknt, …), Meteostat (temp, wspd, …), ecCodes keys of
BUFR SYNOP (airTemperature, …), CF standard names, and NOAA's Integrated Surface Database (TMP, SLP, …; see `io.observations`).
"""

import dataclasses
import re

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.variables import Variable

#: What a column may be beside a variable: of the station, or of the wind as it is observed.
WIND_DIRECTION = "wind_from_direction"

_STATION: dict[str, str] = {
    "id": "id station station_id stationid stid wmo wmo_id usaf icao platform platform_id site station_wmo wigos_id",
    "latitude": "latitude lat",
    "longitude": "longitude lon lng long",
    "elevation": "elevation elev elevation_m altitude height station_elevation height_of_station heightofstation hgt",
    "time": "time valid valid_time datetime date date_time obs_time obstime timestamp observation_time validtime",
}
# variable: (unit where none is written, names)
_OBSERVED: dict[str, tuple[tuple[str, str], ...]] = {
    "2m_temperature": (("degF", "tmpf"), ("degC", "tmpc temp"), ("", "air_temperature airtemperature temperature")),
    "2m_dewpoint_temperature": (
        ("degF", "dwpf"), ("degC", "dwpc dwpt"),
        ("", "dew_point_temperature dewpoint_temperature dewpointtemperature dewpoint dew_point"),
    ),
    "2m_relative_humidity": (("%", "relh rhum"), ("", "relative_humidity relativehumidity")),
    "10m_wind_speed": (("kt", "sknt"), ("km h-1", "wspd"), ("", "wind_speed windspeed")),
    WIND_DIRECTION: (("degree", "drct wdir wind_direction winddirection wind_from_direction"),),
    "10m_u_component_of_wind": (("", "eastward_wind"),),
    "10m_v_component_of_wind": (("", "northward_wind"),),
    "instantaneous_10m_wind_gust": (("kt", "gust"), ("km h-1", "wpgt"), ("", "wind_speed_of_gust")),
    "mean_sea_level_pressure": (
        ("hPa", "mslp pres"), ("", "air_pressure_at_mean_sea_level air_pressure_at_sea_level pressurereducedtomeansealevel"),
    ),
    "surface_pressure": (("", "surface_air_pressure station_pressure nonCoordinatePressure"),),
    "total_precipitation": (("inch", "p01i"), ("mm", "p01m prcp")),
}  # fmt: skip
_UNIT = re.compile(r"(?P<name>.*?)\s*[\[(](?P<unit>[^\])]*)[\])]\s*")
_LEVEL = re.compile(r"(?P<base>[a-z][a-z_]*?)_?(?P<level>\d{2,4})(?:_?hpa)?")


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a station file.

    Attributes:
        header: as the file writes it.
        meaning: id, latitude, longitude, elevation, time, `WIND_DIRECTION`, or a variable of the catalogue.
        unit: that its header says, or that goes with its name; empty where neither tells.
        level: hPa, of a variable on a level of pressure.
        variable: None of what is no field.
    """

    header: str
    meaning: str
    unit: str = ""
    level: int | None = None
    variable: Variable | None = None


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _tables() -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    station = {name: meaning for meaning, names in _STATION.items() for name in names.split()}
    observed = {
        name.lower(): (variable, unit)
        for variable, rows in _OBSERVED.items()
        for unit, names in rows
        for name in names.split()
    }
    return station, observed


_STATION_NAMES, _OBSERVED_NAMES = _tables()


def column_of(header: str, unit: str = "") -> Column | None:
    """What a column is; None for one that is neither known nor of use.

    Args:
        header: its name, with its unit in brackets if it says one: `air_temperature (degC)`, `mslp [hPa]`.
        unit: that the file says elsewhere, as netCDF does.

    Example:
        >>> column_of("tmpf").meaning, column_of("tmpf").unit
        ('2m_temperature', 'degF')
        >>> column_of("z500 (m)").level
        500
    """
    match = _UNIT.fullmatch(header)
    name, written = (match["name"], match["unit"].strip()) if match else (header, "")
    key, unit = _key(name), unit.strip() or written
    if key in _STATION_NAMES:
        return Column(header, _STATION_NAMES[key], unit)
    if key in _OBSERVED_NAMES:
        meaning, usual = _OBSERVED_NAMES[key]
        return Column(header, meaning, unit or usual, variable=lookup(meaning))
    variable = lookup(key)
    if variable is not None and not variable.on_levels:
        return Column(header, variable.name, unit or variable.assumed_units.get(key, ""), variable=variable)
    on_level = _LEVEL.fullmatch(key)
    variable = lookup(on_level["base"]) if on_level is not None else None
    if on_level is not None and variable is not None and variable.on_levels:
        assumed = variable.assumed_units.get(on_level["base"], "")
        return Column(header, variable.name, unit or assumed, int(on_level["level"]), variable)
    return None
