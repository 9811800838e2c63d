"""Station files read a part at a time as plain tables: CSV, parquet, and netCDF's discrete geometries."""

import re
from collections.abc import Iterator

import fsspec
import numpy as np
import pandas as pd

from weather_scnn.catalogue.observation_names import column_of
from weather_scnn.errors import UserError
from weather_scnn.io.sources import open_one

_ROWS = 500_000  # read at once
_MISSING = ["M", "m", "null", "NULL", "-", "--", "/", "//", "///", "////", "-9999", "-9999.0", "-999.9", "9999.9"]
# NOAA's Integrated Surface Database: column and what it holds in tenths, followed by a quality code.
_DATABASE = {
    "TMP": ("2m_temperature", "degC"), "DEW": ("2m_dewpoint_temperature", "degC"), "SLP": ("mean_sea_level_pressure", "hPa"),
}  # fmt: skip
_GOOD = frozenset("01459ACIMPRU")


def station_tables(
    path: str, wanted: np.ndarray, tolerance: np.timedelta64
) -> Iterator[tuple[pd.DataFrame, dict[str, str]]]:
    """Parts of a file as tables, and the units that it says of its columns."""
    name = path.lower()
    if name.endswith((".parquet", ".pq")):
        yield from ((table, {}) for table in _parquet(path))
    elif re.search(r"\.(csv|txt|tsv)(\.(gz|bz2|xz|zst))?$", name):
        with fsspec.open(path, "rt", compression="infer", encoding="utf-8-sig", newline="") as file:
            try:
                yield from (
                    (table, {})
                    for table in pd.read_csv(
                        file, chunksize=_ROWS, sep="\t" if ".tsv" in name else ",", comment="#", na_values=_MISSING,
                        skipinitialspace=True, dtype=_TextIds(), low_memory=False,
                    )
                )  # fmt: skip
            except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
                raise UserError(f"cannot be read as a table: {error}", where=path, remedy="mend the file") from error
    else:
        yield from _netcdf(path, wanted, tolerance)


class _TextIds(dict):
    """Types of columns by which ids such as 03772 keep their zero; of others the reader finds the type."""

    def __init__(self) -> None:
        super().__init__()
        for names in ("id station station_id stationid stid wmo wmo_id usaf icao platform platform_id site wigos_id",):
            self.update(
                {spelling: str for name in names.split() for spelling in (name, name.upper(), name.capitalize())}
            )


def _parquet(path: str) -> Iterator[pd.DataFrame]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "parquet needs pyarrow", where=path, remedy="pip install 'weather-scnn[stations]', or give a CSV"
        ) from None
    with fsspec.open(path, "rb") as file:
        try:
            for batch in pyarrow.parquet.ParquetFile(file).iter_batches(_ROWS):
                yield batch.to_pandas()
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"cannot be read as parquet: {error}", where=path, remedy="mend the file") from error


def _netcdf(path: str, wanted: np.ndarray, tolerance: np.timedelta64) -> Iterator[tuple[pd.DataFrame, dict[str, str]]]:
    """Variables along one axis of reports, or along stations and times, as the discrete geometries of CF have them."""
    with open_one(path) as dataset:
        dims = {
            str(dim) for name, array in dataset.variables.items() for dim in array.dims if array.dtype.kind in "fiu"
        }
        times = [
            name
            for name, array in dataset.variables.items()
            if (c := column_of(str(name))) and c.meaning == "time" and array.ndim
        ]
        if not times or not 1 <= len(dims) <= 2:
            raise UserError(
                f"has the dimensions {', '.join(map(str, dataset.sizes))}: these are no observations at stations",
                where=path, remedy="give variables along one axis of reports, or along station and time",
            )  # fmt: skip
        units = {str(name): str(array.attrs.get("units", "")) for name, array in dataset.variables.items()}
        when = dataset.variables[times[0]]
        axis = str(when.dims[-1])
        if when.ndim == 1:
            near = near_times(utc_times(pd.Series(when.values), path), wanted, tolerance)
            chosen = np.flatnonzero(near) if near.any() else np.arange(min(when.size, 1))
            dataset = dataset.isel({axis: chosen})
        others = int(np.prod([size for dim, size in dataset.sizes.items() if dim != axis])) or 1
        step = max(1, _ROWS // others)
        for begin in range(0, dataset.sizes[axis], step):
            part = dataset.isel({axis: slice(begin, begin + step)}).load()
            table = part.to_dataframe().reset_index()
            for name in table.columns:
                if table[name].dtype == object:
                    table[name] = [each.decode().strip() if isinstance(each, bytes) else each for each in table[name]]
            yield table.loc[:, ~table.columns.duplicated()], units


def without_codes(table: pd.DataFrame) -> pd.DataFrame:
    """A table of the Integrated Surface Database with its coded columns as numbers: `+0123,1` is 12.3, of good quality."""
    for name, (variable, unit) in _DATABASE.items():
        if name in table and table[name].dtype.kind in "OUT" and table[name].astype(str).str.contains(",").any():
            parts = table[name].astype(str).str.split(",", expand=True)
            number = pd.to_numeric(parts[0], errors="coerce")
            good = (number.abs() < (9999 if name != "SLP" else 99999)) & parts[1].isin(list(_GOOD))
            table = table.drop(columns=name).assign(**{f"{variable} ({unit})": (number / 10).where(good)})
    if "WND" in table and table["WND"].astype(str).str.count(",").max() == 4:
        parts = table["WND"].astype(str).str.split(",", expand=True)
        direction, speed = (pd.to_numeric(parts[number], errors="coerce") for number in (0, 3))
        speed = (speed / 10).where((speed < 9999) & parts[4].isin(list(_GOOD)))
        direction = direction.where((direction < 999) & parts[1].isin(list(_GOOD)))
        table = table.drop(columns="WND").assign(**{"wind_speed (m s-1)": speed, "wind_direction": direction})
    return table


def utc_times(column: pd.Series, path: str) -> np.ndarray:
    """Times in UTC as datetime64[ns]; those with an offset are moved."""
    try:
        if column.dtype.kind == "M":
            parsed = pd.to_datetime(column, utc=True)
        else:
            parsed = pd.to_datetime(column.astype(str), utc=True, format="ISO8601")
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"has times that cannot be read: {str(error).splitlines()[0]}",
            where=path, remedy="write them in UTC as 2022-04-01T00:00 or 2022-04-01 00:00",
        ) from error  # fmt: skip
    return parsed.dt.tz_localize(None).to_numpy("datetime64[ns]")


def near_times(when: np.ndarray, wanted: np.ndarray, tolerance: np.timedelta64) -> np.ndarray:
    place = np.searchsorted(wanted, when)
    near = np.zeros(when.size, bool)
    for each in (place - 1, place):
        near |= np.abs(when - wanted[np.clip(each, 0, wanted.size - 1)]) <= tolerance
    return near & ~np.isnat(when)
