"""Windows of consecutive states, built from timestamps: an index says nothing about a gap."""

import numpy as np
import pandas as pd

from weather_scnn.errors import UserError


def parse_step(text: str) -> np.timedelta64:
    """A positive duration such as 6h or 10d.

    Raises:
        UserError: the text is not a duration, or not positive.
    """
    try:
        value = pd.Timedelta(text)
    except ValueError as error:
        raise UserError(f"{text!r} is not a duration", remedy="write it as 6h or 10d") from error
    if pd.isna(value) or value <= pd.Timedelta(0):
        raise UserError(f"the duration {text!r} is not positive", remedy="write it as 6h or 10d")
    return value.to_timedelta64().astype("timedelta64[ns]")


def window_indices(
    times: np.ndarray, *, step: np.timedelta64, length: int, usable: np.ndarray | None = None
) -> np.ndarray:
    """Indices of `length` states, `step` apart, for every start from which all of them exist and are usable.

    Args:
        times: timestamps in any order, each once.
        step: distance between the states of a window.
        length: states a window.
        usable: whether each time may be used, for example has no NaN; all by default.

    Returns:
        Integer array (windows, length), starts in increasing time.
    """
    times = np.asarray(times).astype("datetime64[ns]")
    position = {time: index for index, time in enumerate(times.tolist())}
    stride = int(step.astype("timedelta64[ns]").astype(np.int64))
    good = np.ones(times.size, bool) if usable is None else np.asarray(usable, bool)
    rows = []
    for start in np.sort(times.astype(np.int64)).tolist():
        row = [position.get(start + stride * offset, -1) for offset in range(length)]
        if min(row) >= 0 and good[row].all():
            rows.append(row)
    return np.array(rows, np.int64).reshape(-1, length)
