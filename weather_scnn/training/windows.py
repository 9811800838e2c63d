"""Windows of consecutive states, built from timestamps: an index says nothing about a gap."""

from typing import Any

import numpy as np

from weather_scnn.errors import UserError


def window_indices(
    times: np.ndarray,
    *,
    step: np.timedelta64,
    length: int,
    usable: np.ndarray | None = None,
    inputs: int = 1,
    input_step: np.timedelta64 | None = None,
) -> np.ndarray:
    """Indices of `length` states, `step` apart, for every start from which all of them exist and are usable.

    Args:
        times: timestamps in any order, each once.
        step: distance between the states of a window.
        length: states a window.
        usable: whether each time may be used, for example has no NaN; all by default.
        inputs: how many of the states are inputs.
        input_step: distance between the inputs, if it is another.

    Returns:
        Integer array (windows, length), starts in increasing time.
    """
    stamps = np.asarray(times).astype("datetime64[ns]").astype(np.int64)
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    stride = int(step.astype("timedelta64[ns]").astype(np.int64))
    good = np.ones(stamps.size, bool) if usable is None else np.asarray(usable, bool)
    rows = np.empty((stamps.size, length), np.int64)
    whole = np.ones(stamps.size, bool)
    between = stride if input_step is None else int(input_step.astype("timedelta64[ns]").astype(np.int64))
    offsets = [between * min(place, inputs - 1) + stride * max(place - inputs + 1, 0) for place in range(length)]
    for offset, distance in enumerate(offsets):
        wanted = ordered + distance
        place = np.minimum(np.searchsorted(ordered, wanted), stamps.size - 1)
        rows[:, offset] = order[place]
        whole &= (ordered[place] == wanted) & good[order[place]]
    return rows[whole]


class NoWindows(UserError):
    """A period without the states that a window needs."""


def some_windows(times: np.ndarray, *, step: np.timedelta64, length: int, **options: Any) -> np.ndarray:
    """`window_indices`, of which there must be one.

    Raises:
        NoWindows: there is none.
    """
    result = window_indices(times, step=step, length=length, **options)
    if not len(result):
        hours = step / np.timedelta64(1, "h")
        raise NoWindows(
            f"no {length} consecutive states {hours:g} h apart without a gap or NaN among {times.size} times",
            remedy="give a longer period, another data.step or fewer rollout steps",
        )
    return result
