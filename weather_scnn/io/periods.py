"""Periods as people write them, A:B."""

import re

import pandas as pd

from weather_scnn.errors import UserError

_DATE = r"\d{4}(?:-\d{2}(?:-\d{2}(?:[T ]\d{2}(?::\d{2}(?::\d{2})?)?)?)?)?"


def parse_period(period: str) -> slice:
    """Reads `A:B`, both inclusive: dates as xarray takes them, so 2019:2020 holds all of 2020.

    A single date stands for all of it; an end left out is open.

    Raises:
        UserError: it does not read as dates, or ends before it begins.
    """
    match = re.fullmatch(rf"\s*({_DATE})?\s*(:)?\s*({_DATE})?\s*", period)
    if match is None or not (match[1] or match[3]) or (match[3] and not match[2]):
        raise UserError(
            f"the period {period!r} does not read as A:B", remedy="write dates, as in 2019-01-01:2020-12-31"
        )
    begin, end = match[1], match[3] if match[2] else match[1]
    try:
        bounds = [pd.Timestamp(each) for each in (begin, end) if each]
    except ValueError as error:
        raise UserError(f"the period {period!r} holds no such date", remedy="write dates as YYYY-MM-DD") from error
    if len(bounds) == 2 and bounds[0] > bounds[1] and not str(begin).startswith(str(end)):
        raise UserError(f"the period {period!r} ends before it begins", remedy="write the earlier date first")
    return slice(begin, end)
