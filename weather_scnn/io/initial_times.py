"""Initial times as commands are told them, FIRST:LAST[:STEP]."""

import re

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.periods import parse_period

# Of FIRST:LAST the last time alone has minutes, which may as well be a step without its unit.
_MINUTES_OR_STEP = re.compile(r"\s*\d{4}-\d\d-\d\d([T ]\d\d)?\s*:\s*\d{4}-\d\d-\d\d[T ]\d\d:(?P<number>\d\d)\s*")


def split_init(text: str) -> tuple[str, np.timedelta64 | None]:
    """Splits FIRST:LAST[:STEP] into the period and the step.

    Raises:
        UserError: it reads neither as a period nor as a period and a duration.
    """
    unclear = _MINUTES_OR_STEP.fullmatch(text)
    if unclear and int(unclear["number"]):
        raise UserError(
            f"{unclear['number']} at the end of {text} may be minutes or a step without a unit",
            remedy=f"write the step as {int(unclear['number'])}h, or minutes in both times, as in T00:00",
        )
    head, _, tail = text.rpartition(":")
    try:
        parse_period(text)
    except UserError:
        if not _is_period(head):
            raise
        return head, parse_duration(tail, "the step of initial times", likely=("h",))
    return text, None


def _is_period(text: str) -> bool:
    """Whether it reads as FIRST:LAST, of which one may be left out."""
    try:
        parse_period(text)
    except UserError:
        return False
    return True


def initial_times(times: np.ndarray, text: str, *, where: str = "") -> np.ndarray:
    """Times that lie in FIRST:LAST, both inclusive, and on multiples of STEP counted from FIRST.

    A date without an hour begins at 00 UTC; where FIRST is left out, the step counts from the earliest time.

    Args:
        times: timestamps in any order.
        text: FIRST:LAST[:STEP].
        where: the store, for the message.

    Raises:
        UserError: there is none.
    """
    period, step = split_init(text)
    bounds = parse_period(period)
    chosen = xr.DataArray(times, dims="time", coords={"time": times}).sortby("time").sel(time=bounds).values
    if step is not None and chosen.size:
        first = chosen[0] if bounds.start is None else pd.Timestamp(bounds.start).to_datetime64()
        chosen = chosen[(chosen - first) % step == np.timedelta64(0, "ns")]
    if not chosen.size:
        low, high = (np.datetime_as_string(each, "h") for each in (times.min(), times.max()))
        raise UserError(
            f"no initial time in {text}; there are {low} to {high}",
            where=where,
            remedy="give --init FIRST:LAST[:STEP] within that period",
        )
    return chosen
