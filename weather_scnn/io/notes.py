"""What was changed or left out on the way to canonical fields, in the words of `check`."""

import dataclasses
import logging

logger = logging.getLogger("weather_scnn.io")


#: Canonical order of dimensions.
ORDER = ("time", "prediction_timedelta", "level", "latitude", "longitude")


@dataclasses.dataclass(frozen=True)
class Adjustment:
    """Something changed or left out, in the words of `check`."""

    kind: str
    variable: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind} ({': '.join(part for part in (self.variable, self.where) if part)})"


Notes = list[Adjustment]


def adjusted(notes: Notes) -> dict[str, str]:
    """The attribute of a dataset that tells them; none where nothing was changed."""
    return {"adjusted": "; ".join(map(str, notes))} if notes else {}


def note(notes: Notes, kind: str, variable: str = "", where: str = "") -> None:
    """Adds an adjustment once; files of one source usually share them."""
    adjustment = Adjustment(kind, variable, where)
    if adjustment not in notes:
        notes.append(adjustment)
