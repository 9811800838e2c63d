"""Whether a climatology has what the scored times need, found before the work and not in the middle of it."""

import logging

import numpy as np
import xarray as xr

from eval.field_reading import read_values
from weather_scnn.errors import UserError
from weather_scnn.io.climatology import DAY_OF_YEAR, OF_A_MEAN, day_numbers

#: What a climatology may hold of a variable beside its mean.
_log = logging.getLogger(__name__)
# Times looked at of one field, and of each other one: gaps come by days, alike in all fields.
_LOOKS, _LOOKS_OF_OTHERS = 6, 1


def with_scored_days(
    climatology: xr.Dataset, names: list[str], valid: np.ndarray, path: str, *, baseline: bool
) -> xr.Dataset | None:
    """The climatology without fields that have no values on the scored days, which then have no ACC; None of none.

    Args:
        climatology: dims (hour, dayofyear, …).
        names: scored variables.
        valid: scored valid times, ascending.
        path: of the climatology.
        baseline: whether it is scored itself.

    Raises:
        UserError: it lacks hours or days, or is scored itself and has no values.
    """
    _require_days_and_hours(climatology, valid, path)
    held = [name for name in names if name in climatology.data_vars]
    empty = _fields_without_values(climatology, held, valid, path)
    if not empty:
        return climatology
    days = f"{np.datetime_as_string(valid[0], 'h')} to {np.datetime_as_string(valid[-1], 'h')}"
    if baseline:
        raise UserError(
            f"holds no value of {', '.join(empty)} on the scored days, {days}",
            where=path,
            remedy="make it of whole years, or leave out the baseline `climatology`",
        )
    _log.warning("no ACC for %s: %s holds no values on the scored days, %s", ", ".join(empty), path, days)
    if len(empty) == len(held):
        return None
    return climatology.drop_vars([f"{name}{part}" for name in empty for part in ("", *OF_A_MEAN)], errors="ignore")


def _require_days_and_hours(climatology: xr.Dataset, valid: np.ndarray, path: str) -> None:
    """Refuses a climatology whose axes lack an hour or a day that is scored.

    Args:
        climatology: dims (hour, dayofyear, …).
        valid: scored valid times.
        path: for the message.

    Raises:
        UserError: with the first of them.
    """
    for axis, needed in zip(("hour", "dayofyear"), _keys(climatology, valid)):
        held = climatology[axis].values
        lacking = ~np.isin(needed, held)
        if lacking.any():
            first = int(lacking.argmax())
            shown = f" (it has {', '.join(f'{each:g}' for each in held)})" if axis == "hour" else ""
            raise UserError(
                f"has no {axis} {needed[first]:g}{shown}, needed for {np.datetime_as_string(valid[first], 'h')} and "
                f"{np.count_nonzero(lacking) - 1} more of {valid.size} valid times",
                where=path,
                remedy="make a climatology of whole years with these hours, or leave --climatology out: then there is no ACC",
            )


def _fields_without_values(climatology: xr.Dataset, names: list[str], valid: np.ndarray, path: str) -> list[str]:
    """Fields of which the climatology has no value at any scored time.

    Raises:
        UserError: a field has values at some of the times and at others none, so that scores would be of some times alone.
    """
    empty = []
    for number, name in enumerate(sorted(names, key=lambda name: climatology[name].size)):
        looks = min(valid.size, _LOOKS_OF_OTHERS if number else _LOOKS)
        chosen = valid[np.linspace(0, valid.size - 1, looks + (looks == 1)).round().astype(int)[-looks:]]
        array = climatology[name]
        if _filled(array, climatology, chosen, path).all():
            continue
        filled = _filled(array, climatology, valid, path)
        if not filled.any():
            empty.append(name)
            continue
        gaps = valid[~filled]
        raise UserError(
            f"holds no {name} at {gaps.size} of {valid.size} scored times, the first {np.datetime_as_string(gaps[0], 'h')}",
            where=path,
            remedy="score other init times with --init, make it of whole years, or leave --climatology out: then there is no ACC",
        )
    return empty


def _keys(climatology: xr.Dataset, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hours and numbers of days of times."""
    hours = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
    return hours, day_numbers(times, str(climatology.attrs.get("calendar", DAY_OF_YEAR)))


def _filled(array: xr.DataArray, climatology: xr.Dataset, times: np.ndarray, path: str) -> np.ndarray:
    """Whether a field has a value at each time, by its maps then."""
    looked: dict[tuple[float, int], bool] = {}
    first = {dim: 0 for dim in array.dims if dim not in ("hour", "dayofyear", "level", "latitude", "longitude")}
    positions = {
        axis: {each: n for n, each in enumerate(climatology[axis].values.tolist())} for axis in ("hour", "dayofyear")
    }
    found = []
    for hour, day in zip(*(each.tolist() for each in _keys(climatology, times))):
        if (hour, day) not in looked:
            place = {"hour": positions["hour"][hour], "dayofyear": positions["dayofyear"][day]}
            looked[hour, day] = bool(
                np.isfinite(read_values(array.isel(place | first), str(array.name), "dayofyear", path)).any()
            )
        found.append(looked[hour, day])
    return np.array(found, bool)
