"""Reading that is tried again before it is given up: clouds fail for a moment, damaged chunks for good."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.io.filters import lacking_filter

_PAUSES_SECONDS = (0.2, 1.0)


def read_again(
    read: Callable[[], Any], *, what: Callable[[], str], where: str, pauses: Sequence[float] = _PAUSES_SECONDS
) -> Any:
    """Reads, again after an error as often as there are pauses; then names what cannot be read.

    Args:
        read: does the reading.
        what: says which part could not be read, with its variable and times; asked after a failure alone.
        where: the source.
        pauses: before each further try, in seconds.

    Raises:
        UserError: it cannot be read.
    """
    for pause in (*pauses, None):
        try:
            return read()
        except Exception as error:  # stores raise nearly any type for a damaged or unreachable chunk
            if isinstance(error, UserError):
                raise
            if (lacking := lacking_filter(error, where)) is not None:
                raise lacking from error
            if pause is None:
                raise UserError(
                    f"{what()} ({type(error).__name__}: {reason(error)[:160]})",
                    where=where,
                    remedy="fetch that part again, then repeat the command: what is finished is kept",
                ) from error
            time.sleep(pause)
    raise AssertionError


def reason(error: BaseException) -> str:
    """The line of an error's text that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else type(error).__name__)


def period(values: np.ndarray) -> str:
    """First and last of some times, or of other values of an axis, for messages."""
    times = values.dtype.kind == "M"
    return ":".join(np.datetime_as_string(each, "h") if times else f"{each}" for each in (values[0], values[-1]))
