"""What the workers of a job have to say, wherever they run: warnings, and how many values were set to zero.

A worker of another process has nobody who hears it. It leaves what there is to say beside the record of its work item,
before the work item counts as done, and the driver tells it once: also what an interrupted run had found.
"""

import collections
import concurrent.futures
import json
import logging
import threading

from weather_scnn.io.accumulations import take_clipped_counts
from weather_scnn.io.writing import Record

_SUFFIX = ".told"
_LOGGERS = ("weather_scnn", "pipelines", "eval")
_READERS = 8


class _Heard(logging.Handler):
    """Keeps the warnings of the calling thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        self._local.messages = [*getattr(self._local, "messages", []), record.getMessage()]

    def take(self) -> list[str]:
        messages = getattr(self._local, "messages", [])
        self._local.messages = []
        return messages


_heard = _Heard()


def listen() -> None:
    """Begins to keep warnings in a process that nobody hears."""
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(_heard)  # once, however often it is asked for


def forget() -> None:
    """Drops what this thread has to say: all that opening a source says, the driver has said of the same source."""
    _heard.take()
    take_clipped_counts()


def leave(record: Record, key: str) -> None:
    """Leaves what this thread has to say about a work item for the driver."""
    result = {"clipped": take_clipped_counts(), "warnings": _heard.take()}
    if any(result.values()):
        record.mark_done(key + _SUFFIX, json.dumps(result).encode())


def items_among(keys: frozenset[str]) -> int:
    """How many of a record's keys are those of work items."""
    return sum(not key.endswith(_SUFFIX) for key in keys)


def collected(record: Record) -> tuple[dict[str, int], list[str]]:
    """Values set to zero by variable, and warnings, each once, of all finished work items."""
    keys = sorted(key for key in record.finished() if key.endswith(_SUFFIX))
    clipped: collections.Counter[str] = collections.Counter()
    warnings: dict[str, None] = {}
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for content in pool.map(record.read, keys):
            result = json.loads(content)
            clipped.update(result["clipped"])
            warnings.update(dict.fromkeys(result["warnings"]))
    return dict(clipped), list(warnings)
