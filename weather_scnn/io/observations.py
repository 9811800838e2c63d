"""Observations at stations: from CSV, parquet or netCDF files to one table in SI units, without what cannot be.

Files are read a part at a time, and only what lies near the times that are asked for is kept.
"""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from weather_scnn.catalogue.naming import nearest_name
from weather_scnn.catalogue.observation_names import WIND_DIRECTION, Column, column_of
from weather_scnn.catalogue.plausibility import Extremes, implausible
from weather_scnn.catalogue.units import conversion, known_conversion, parse_unit
from weather_scnn.errors import UserError
from weather_scnn.io.addresses import require_there
from weather_scnn.io.station_tables import near_times, station_tables, utc_times, without_codes

_log = logging.getLogger(__name__)
_POSITION = ("latitude", "longitude")
_TRACE = "T"  # of precipitation in METAR reports: less than can be measured
#: Degrees within which a station has not moved: positions are written to two digits, or corrected by as much.
_MOVED = 0.05


@dataclasses.dataclass(frozen=True)
class Observations:
    """A table of observations, sorted by station and time.

    Shapes: s stations, n reports.

    Attributes:
        path: of the file.
        ids: of the stations, (s,).
        station: of each report, its position in `ids`, (n,).
        time: datetime64[ns], UTC, (n,).
        latitude, longitude: of each report, degrees, longitude in [0, 360), (n,).
        elevation: of the stations above sea level, m, NaN where unknown, (s,).
        values: by variable and level in hPa (None at the surface), SI, NaN where there is none, (n,).
        columns: further columns that were asked for, as text of each station, (s,).
        dropped: how many values were left out, by reason.
    """

    path: str
    ids: np.ndarray
    station: np.ndarray
    time: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    elevation: np.ndarray
    values: dict[tuple[str, int | None], np.ndarray]
    columns: dict[str, np.ndarray]
    dropped: dict[str, int]

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Latitude and longitude of each station's first report, and whether it moves: (s,) each."""
        first = np.searchsorted(self.station, np.arange(self.ids.size))
        latitude, longitude = self.latitude[first], self.longitude[first]
        away = np.abs(self.latitude - latitude[self.station]) > _MOVED
        away |= np.abs((self.longitude - longitude[self.station] + 180) % 360 - 180) > _MOVED
        moves = np.zeros(self.ids.size, bool)
        moves[self.station[away]] = True
        return latitude, longitude, moves


class Reports:
    """Which report of each station counts at a time: the nearest that has a value of a variable, of two as near the earlier.

    Args:
        observations: all.
        key: variable and level.
        tolerance: how far from the time a report may be.
    """

    def __init__(self, observations: Observations, key: tuple[str, int | None], tolerance: np.timedelta64):
        self._stations = observations.ids.size
        self._rows = np.flatnonzero(np.isfinite(observations.values[key]))
        time = observations.time[self._rows].astype("datetime64[ms]").astype(np.int64)
        self._slack = int(tolerance.astype("timedelta64[ms]").astype(np.int64))
        # Stations behind each other on one axis, far enough apart that no time is near to another's.
        self._origin = int(time.min()) if time.size else 0
        self._span = (int(np.ptp(time)) if time.size else 0) + 4 * (self._slack + 1)
        self._held = observations.station[self._rows].astype(np.int64) * self._span + time - self._origin

    def at(self, time: np.datetime64) -> np.ndarray:
        """Positions of the reports, −1 where there is none: (s,)."""
        offset = int(time.astype("datetime64[ms]").astype(np.int64)) - self._origin
        found = np.full(self._stations, -1)
        if not self._held.size or not -self._slack <= offset <= self._span:
            return found
        asked = np.arange(self._stations, dtype=np.int64) * self._span + offset
        after, distance = np.searchsorted(self._held, asked), np.full(asked.shape, self._slack + 1)
        for place in (after - 1, after):
            kept = np.clip(place, 0, self._held.size - 1)
            away = np.where((place >= 0) & (place < self._held.size), np.abs(self._held[kept] - asked), self._slack + 1)
            found = np.where(away < distance, self._rows[kept], found)
            distance = np.minimum(away, distance)
        return found


def read_observations(
    path: str, times: np.ndarray, tolerance: np.timedelta64, *, columns: Sequence[str] = ()
) -> Observations:
    """Reads what a file holds near some times.

    A file has columns (or variables of netCDF) of the station, its latitude, longitude and elevation in m, the time in UTC, and
    variables under names of the catalogue, METAR, SYNOP, CF or NOAA's Integrated Surface Database. Units are those of a netCDF
    attribute, of brackets in the header, or of the name. Wind of speed and direction is made into components too. Left out are
    values that cannot be (`weather_scnn.catalogue.plausibility`), and reports without a place; of a station's reports of one
    time the last in the file that has the value counts.

    Args:
        path: `.csv` (`.csv.gz`), `.parquet` or netCDF, local or an address.
        times: that are asked for.
        tolerance: how far from them a report may be.
        columns: further columns, such as `network`.

    Raises:
        UserError: it is no such file, has no time nearby, or a column's values cannot be in its unit.
    """
    require_there(path)
    wanted = np.unique(times.astype("datetime64[ns]"))
    known: dict[str, Column] = {}
    kept, seen, span = [], 0, []
    for table, units in station_tables(path, wanted, tolerance):
        if not known:
            table, known = _described(table, units, path, columns)
        else:
            table = without_codes(table)
        when = utc_times(table[_header(known, "time")], path)
        seen += len(table)
        span += [when.min(), when.max()] if len(when) else []
        near = near_times(when, wanted, tolerance)
        kept.append(
            table.loc[near, list(dict.fromkeys([*(each.header for each in known.values()), *columns]))].assign(
                **{"": when[near]}
            )
        )
    if not seen:
        raise UserError("holds no observation", where=path, remedy="give one with rows")
    whole = pd.concat(kept, ignore_index=True)
    if not len(whole):
        raise _no_common_time(path, np.array(span, "datetime64[ns]"), wanted, tolerance, table, known)
    return _table(whole, known, path, columns)


def _header(known: dict[str, Column], meaning: str) -> str:
    return next(each.header for each in known.values() if each.meaning == meaning)


def _no_common_time(path, span, wanted, tolerance, table, known) -> UserError:
    first, last = (np.datetime_as_string(each, "m") for each in (span.min(), span.max()))
    what = f"has no observation within {tolerance / np.timedelta64(1, 'm'):g} min of a valid time: it holds {first} to {last}, "
    what += f"the forecasts are valid {np.datetime_as_string(wanted.min(), 'm')} to {np.datetime_as_string(wanted.max(), 'm')}"
    when = utc_times(table[_header(known, "time")], path)
    near = np.abs(when[:, None] - wanted[None, : 10**6 // max(1, len(when))]).min() if len(when) < 10**5 else None
    if near is not None and near < np.timedelta64(6, "h"):
        minutes = int(np.ceil(near / np.timedelta64(1, "m")))
        return UserError(
            what, where=path, remedy=f"the nearest is {minutes} min off: add --time-tolerance {minutes}min"
        )
    return UserError(what, where=path, remedy="give observations of the forecasts' period")


def _described(
    table: pd.DataFrame, units: dict[str, str], path: str, columns: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Column]]:
    """The table, and what its columns are; what is not known is told."""
    table = without_codes(table)
    known: dict[str, Column] = {}
    unknown, twice = [], []
    for header in map(str, table.columns):
        column = column_of(header, units.get(header, ""))
        if column is None:
            unknown.append(header)
            continue
        key = f"{column.meaning}@{column.level}"
        (twice.append(header) if key in known else known.setdefault(key, column))
    meanings = {each.meaning for each in known.values()}
    needed = [each for each in ("id", *_POSITION, "time") if each not in meanings]
    if needed == ["id"] and "longitude" in meanings:
        raise UserError("has no column of the station's id", where=path, remedy="add one called id, or station")
    if needed:
        raise UserError(
            f"has no {' and no '.join(needed)}; its columns: {', '.join(map(str, table.columns))}",
            where=path, remedy="name columns id, latitude, longitude, elevation, time and the variables",
        )  # fmt: skip
    for name in columns:
        if name not in table.columns:
            raise UserError(f"has no column {name!r}", where=path, remedy=nearest_name(name, map(str, table.columns)))
    if not any(each.variable is not None for each in known.values()):
        raise UserError(
            f"has no variable that is known: {', '.join(unknown) or 'no further column'}",
            where=path, remedy="name them as 2m_temperature (degC), or as METAR files do: tmpc, sknt, drct, mslp",
        )  # fmt: skip
    if left := [name for name in unknown if name not in columns]:
        _log.warning("columns of %s that are no known variable are not used: %s", path, ", ".join(left[:12]))
    if twice:
        _log.warning("columns of %s that tell again what another tells are not used: %s", path, ", ".join(twice))
    return table, known


def _numbers(column: pd.Series) -> np.ndarray:
    if column.dtype.kind in "OUT":
        column = column.where(column != _TRACE, 0.0)
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _table(table: pd.DataFrame, known: dict[str, Column], path: str, columns: Sequence[str]) -> Observations:
    """The table of what was kept, checked."""
    dropped: dict[str, int] = {}
    latitude, longitude = (_numbers(table[_header(known, name)]) for name in _POSITION)
    placed = (
        (np.abs(latitude) <= 90)
        & (longitude >= -180)
        & (longitude <= 360)
        & table[_header(known, "id")].notna().to_numpy()
    )
    if not placed.all():
        dropped["reports without a place or an id"] = int((~placed).sum())
    if not placed.any():
        raise UserError("has no report with a place", where=path, remedy="give latitude and longitude in degrees")
    table, latitude, longitude = table[placed], latitude[placed], longitude[placed] % 360.0
    station, names = pd.factorize(table[_header(known, "id")].astype(str).str.strip(), sort=True)
    ids = np.array(names.tolist(), str)
    time = table[""].to_numpy("datetime64[ns]")
    order = np.lexsort((time, station))  # stable: of one time the last in the file is the last here
    values: dict[tuple[str, int | None], np.ndarray] = {}
    direction = None
    for column in known.values():
        if column.meaning == WIND_DIRECTION:
            direction = _numbers(table[column.header])
        elif column.variable is not None:
            found, lost = _in_si(column, _numbers(table[column.header]), path)
            values[column.variable.name, column.level] = found
            if lost:
                dropped[f"values of {column.variable.name} that cannot be"] = lost
    if direction is not None and ("10m_wind_speed", None) in values:
        for name, part in zip(
            ("10m_u_component_of_wind", "10m_v_component_of_wind"),
            _components(values["10m_wind_speed", None], direction),
        ):
            values.setdefault((name, None), part)
    station, time = station[order], time[order]
    values = {key: each[order] for key, each in values.items()}
    last = np.ones(time.size, bool)
    last[:-1] = (station[1:] != station[:-1]) | (time[1:] != time[:-1])
    if not last.all():
        dropped["reports of a station and time that come again"] = int((~last).sum())
        _fill_from_earlier(values, np.cumsum(np.concatenate([[0], last[:-1]])))
    first = np.searchsorted(station, np.arange(ids.size))
    heights = np.full(ids.size, np.nan)
    if "elevation@None" in known:
        column = known["elevation@None"]
        scale = conversion(column.unit, "m") if parse_unit(column.unit) not in (None, ((), 1.0, 0.0)) else (1.0, 0.0)
        if scale is None:
            raise UserError(f"has elevations in {column.unit}", where=path, remedy="give them in m or ft")
        each = _numbers(table[column.header])[order] * scale[0]
        each[(each < -500) | (each > 9000)] = np.nan
        table_of = pd.Series(each).groupby(station).median()
        heights[table_of.index] = table_of.to_numpy()
    kept = {name: table[name].astype(str).to_numpy(object)[order][first].astype(str) for name in columns}
    if dropped:
        _log.warning("left out of %s: %s", path, "; ".join(f"{count} {what}" for what, count in dropped.items()))
    return Observations(
        path, ids, station[last].astype(np.int64), time[last], latitude[order][last], longitude[order][last], heights,
        {key: each[last] for key, each in values.items()}, kept, dropped,
    )  # fmt: skip


def _fill_from_earlier(values: dict[tuple[str, int | None], np.ndarray], report: np.ndarray) -> None:
    """Gives reports what an earlier one of the same station and time has and the last has not."""
    for key, each in values.items():
        values[key] = pd.Series(each).groupby(report).ffill().to_numpy()


def _components(speed: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eastward and northward wind of a speed and of the direction that it comes from, degrees from north; calms have none."""
    angle = np.radians(np.where(speed == 0, 0.0, np.where((direction >= 0) & (direction <= 360), direction, np.nan)))
    return -speed * np.sin(angle), -speed * np.cos(angle)


def _in_si(column: Column, values: np.ndarray, path: str) -> tuple[np.ndarray, int]:
    """Values in the catalogue's unit, NaN for those that cannot be, and how many these are.

    Raises:
        UserError: most cannot be, so that the unit is another one; or the unit is of another quantity.
    """
    variable: Any = column.variable
    known = np.isfinite(values)
    faults = []
    for unit in dict.fromkeys([column.unit or variable.unit, variable.unit]):
        factors = known_conversion(unit, variable.unit)
        if factors is None:
            raise UserError(
                f"{column.header} is in {unit!r}, and {variable.name} is in {variable.unit}",
                where=path, remedy=f"write the unit in the header, as {variable.name} ({variable.unit})",
            )  # fmt: skip
        found = values * factors[0] + factors[1]
        bottom, top = variable.plausible
        inside = (found >= bottom) & (found <= top)
        if 2 * (inside & known).sum() >= known.sum():
            return np.where(inside, found, np.nan), int((known & ~inside).sum())
        low, high = (float(each) for each in np.nanpercentile(found[known & ~inside], [10, 90]))
        faults.append(implausible(variable.name, Extremes(low, high)))
    raise UserError(
        f"most values of {column.header} cannot be {variable.name}: {faults[0]}",
        where=path, remedy="write their unit in the header, as 2m_temperature (degC), or as a netCDF attribute",
    )  # fmt: skip
