"""Reading climatologies: fields by hour of the day and day of the year.

The layout is WeatherBench 2's: (hour, dayofyear[, level], latitude, longitude), and `<name>_std` beside each name.
With the attribute `calendar` = "month-day", `dayofyear` counts the calendar day's place in a leap year, so 1 March is
61 in every year. Otherwise it is the plain day of the year, as in WeatherBench 2's own stores.
"""

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.groups import open_store
from weather_scnn.io.marks import INCOMPLETE, STATUS

MONTH_DAY, DAY_OF_YEAR = "month-day", "day-of-year"
CALENDARS = (MONTH_DAY, DAY_OF_YEAR)
DAYS = 366


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
    """Opens a climatology store lazily and checks its layout.

    Raises:
        UserError: no such store, unfinished, or without `hour` and `dayofyear`.
    """
    try:
        dataset = open_store(path, chunks={}, decode_timedelta=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"cannot be read as a Zarr store ({type(error).__name__})",
            where=str(path),
            remedy="make it with `weather-scnn climatology`",
        ) from None
    if dataset.attrs.get(STATUS) == INCOMPLETE:
        raise UserError("is unfinished", where=str(path), remedy="repeat the command that wrote it")
    if not {"hour", "dayofyear"} <= set(dataset.dims):
        raise UserError(
            f"is no climatology: it has dimensions {', '.join(map(str, dataset.dims))}",
            where=str(path),
            remedy="make one with `weather-scnn climatology`",
        )
    return dataset


def climatology_at(clim: xr.Dataset, valid_times: np.ndarray) -> xr.Dataset:
    """The climatology for each time, lazily.

    Args:
        clim: as `open_climatology` gives it.
        valid_times: datetime64, shape (time,).

    Returns:
        The same variables with dimensions (time[, level], latitude, longitude).

    Raises:
        UserError: a time's hour of the day, or its day, is not in the climatology.
    """
    times = np.atleast_1d(np.asarray(valid_times)).astype("datetime64[ns]")
    since_midnight = times - times.astype("datetime64[D]")
    hours = since_midnight / np.timedelta64(1, "h")
    days = day_numbers(times, clim.attrs.get("calendar", DAY_OF_YEAR))
    positions = {}
    for name, wanted in (("hour", hours), ("dayofyear", days)):
        present = np.asarray(clim[name].values, np.float64)
        match = present[None, :] == wanted[:, None]
        absent = ~match.any(axis=1)
        if absent.any():
            listed = f" (it has {', '.join(f'{value:g}' for value in present)})" if name == "hour" else ""
            raise UserError(
                f"the climatology has no {name} {wanted[absent][0]:g}{listed}, needed for {times[absent][0]}",
                remedy="make a climatology of data that has these times",
            )
        positions[name] = xr.DataArray(match.argmax(axis=1), dims="time")
    chosen = clim.isel(positions).drop_vars(("hour", "dayofyear", "month", "day"), errors="ignore")
    return chosen.assign_coords(time=("time", times)).transpose("time", ...)
