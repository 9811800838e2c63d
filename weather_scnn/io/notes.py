"""What the door changed or left out on the way, in the words of `check`."""

import contextlib
import contextvars
import dataclasses
import logging
from collections.abc import Iterator

logger = logging.getLogger("weather_scnn.io")
_said_before = contextvars.ContextVar("said_before", default=False)
logger.addFilter(lambda record: not _said_before.get())


@contextlib.contextmanager
def said_before() -> Iterator[None]:
    """Within it the door says nothing of a source again; other threads are not hushed, nor is the logger changed."""
    token = _said_before.set(True)
    try:
        yield
    finally:
        _said_before.reset(token)


#: Canonical order of dimensions.
ORDER = ("time", "prediction_timedelta", "level", "latitude", "longitude")


@dataclasses.dataclass(frozen=True)
class Adjustment:
    """Something the door changed or left out, in the words of `check`."""

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
