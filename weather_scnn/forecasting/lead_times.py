"""Lead times as commands are told them: 6h,1d:10d:1d."""

import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration

_OPTION = "the lead"


def asked_leads(lead: str | None, leads: str | None, step: np.timedelta64) -> np.ndarray:
    """Lead times that are asked for, ascending, each once.

    Args:
        lead: the longest, of all multiples of the step.
        leads: or single ones and ranges FIRST:LAST[:STEP], both ends inclusive, with commas between.
        step: of the forecaster.

    Raises:
        UserError: both or neither are given, they do not read so, or one is no multiple of the step.
    """
    if lead is not None and leads is not None:
        raise UserError("both --lead and --leads are given", remedy="leave one of them out")
    if leads is None:
        if lead is None:
            raise UserError("no lead time is given", remedy="give --lead 10d, or --leads 6h,1d:10d:1d")
        _whole(parse_duration(lead, _OPTION, likely=("d", "h")), lead, step)
        return step * np.arange(1, int(parse_duration(lead, _OPTION) // step) + 1)
    found: list[np.timedelta64] = []
    for part in filter(None, (each.strip() for each in leads.split(","))):
        ends = [parse_duration(text, _OPTION, likely=("d", "h")) for text in part.split(":")]
        if len(ends) > 3 or (len(ends) > 1 and ends[0] > ends[1]):
            raise UserError(f"the leads {part} are no range", remedy="write FIRST:LAST:STEP, as 1d:10d:1d")
        first, last, stride = ends[0], ends[min(1, len(ends) - 1)], ends[2] if len(ends) == 3 else step
        chosen = first + stride * np.arange(int((last - first) // stride) + 1)
        for each in chosen:
            _whole(each, part, step)
        found += list(chosen)
    if not found:
        raise UserError("no lead time is given", remedy="give --leads 6h,1d:10d:1d")
    return np.unique(np.array(found))


def _whole(lead: np.timedelta64, text: str, step: np.timedelta64) -> None:
    if lead % step:
        hours = f"{step / np.timedelta64(1, 'h'):g}h"
        raise UserError(f"the lead {text} is no multiple of the forecaster's step {hours}", remedy="give another")
