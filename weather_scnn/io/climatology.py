"""Reading climatologies: fields by hour of the day and day of the year.

The layout is WeatherBench 2's: (hour, dayofyear[, level], latitude, longitude), and `<name>_std` beside each name.
With the attribute `calendar` = "month-day", `dayofyear` counts the calendar day's place in a leap year, so 1 March is
61 in every year. Otherwise it is the plain day of the year, as in WeatherBench 2's own stores.
"""

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.canonical import canonical_axes
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.fields import catalogue_names
from weather_scnn.io.joining import on_one_level_axis
from weather_scnn.io.level_names import gathered_levels
from weather_scnn.io.sources import open_one

MONTH_DAY, DAY_OF_YEAR = "month-day", "day-of-year"
CALENDARS = (MONTH_DAY, DAY_OF_YEAR)
DAYS = 366
#: Endings of what goes with a mean.
OF_A_MEAN = ("_std", "_quantile", "_seeps_threshold", "_seeps_dry_fraction")


def day_numbers(times: np.ndarray, calendar: str) -> np.ndarray:
    """The value of `dayofyear`, 1 to 366, that each time belongs to.

    Args:
        times: datetime64.
        calendar: "month-day" (29 February is 60, 1 March 61 in every year) or "day-of-year".
    """
    days = np.asarray(times).astype("datetime64[D]")
    year = days.astype("datetime64[Y]")
    number = (days - year.astype("datetime64[D]")).astype(np.int64) + 1
    if calendar == MONTH_DAY:
        leap = ((year + 1).astype("datetime64[D]") - year.astype("datetime64[D]")).astype(np.int64) == DAYS
        number = number + (~leap & (number >= 60))
    return number


def open_climatology(path: str) -> xr.Dataset:
    """A climatology of any layout on canonical axes, lazily and without dask.

    Its means, and what goes with them such as `_std`, are under the catalogue's names, in the units of the store.

    Raises:
        UserError: nothing there, unfinished, or it is none by `hour` and `dayofyear`.
    """
    dataset, further = open_one(path), ("hour", "quantile", "dayofyear")
    if not {"hour", "dayofyear"} <= set(dataset.dims):
        raise UserError(
            "is no climatology by hour and day of the year",
            where=str(path),
            remedy="make one with `weather-scnn climatology`",
        )
    along = {name: each.variable for name, each in dataset.coords.items() if each.dims in [(axis,) for axis in further]}
    (result,) = canonical_axes(dataset, str(path), [], further=further)
    named = _in_catalogue_names(result.assign_coords(along))
    return FieldReader.of(named.assign_attrs(dataset.attrs), str(path)).lazy


def _in_catalogue_names(climatology: xr.Dataset) -> xr.Dataset:
    """A climatology with its means, and what goes with them such as `_std`, under the catalogue's names.

    Fields named for a level, such as z500 and z500_std, are stacked, a kind at a time.
    """
    kinds, stacked = [], False
    for ending in ("", *OF_A_MEAN):
        named = [str(name) for name in climatology.data_vars]
        named = [name for name in named if name.endswith(ending) and (ending or not name.endswith(OF_A_MEAN))]
        part = climatology[named].rename({name: name.removesuffix(ending) for name in named})
        fields = {str(name): array for piece in gathered_levels(part, []) for name, array in piece.data_vars.items()}
        stacked |= set(fields) != set(map(str, part.data_vars))
        whole = xr.Dataset(on_one_level_axis(fields, []))
        kinds.append(whole.rename({name: f"{name}{ending}" for name in whole.data_vars}))
    if stacked:
        climatology = xr.merge(kinds, join="outer", compat="override", combine_attrs="override")
    means = [str(name) for name in climatology.data_vars if not str(name).endswith(OF_A_MEAN)]
    renamed = catalogue_names(climatology, means)
    new = {old: name for old, name in zip(map(str, climatology.data_vars), map(str, renamed.data_vars)) if old in means}
    rename = {
        f"{old}{ending}": f"{name}{ending}"
        for old, name in new.items()
        for ending in OF_A_MEAN
        if old != name and f"{old}{ending}" in renamed
    }
    return renamed.rename(rename)
