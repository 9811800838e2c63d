"""Initial times as commands are told them, FIRST:LAST[:STEP]."""

import re

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.data.opening import parse_period
from weather_scnn.data.windows import parse_step
from weather_scnn.errors import UserError

_DURATION = re.compile(r"\d+(\.\d+)?\s*(min|[hHdD]|days?|hours?)")


def split_init(text: str) -> tuple[str, np.timedelta64 | None]:
    """Splits FIRST:LAST[:STEP] into the period and the step."""
    head, colon, tail = text.rpartition(":")
    if colon and _DURATION.fullmatch(tail.strip()):
        return head, parse_step(tail.strip())
    return text, None


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
