"""Which times of a period can be trained on: those without a NaN in any variable that may not have one."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from weather_scnn.io.atomic import write_whole
from weather_scnn.progress import progress_bar
from weather_scnn.training.states import StateArrays, StateReader

_logger = logging.getLogger(__name__)


def usable_channels(states: StateArrays, reader: StateReader) -> Bool[np.ndarray, "t channel"]:
    """Whether each channel may be used at each time.

    A masked variable is missing over part of the globe by nature; it fails only where all of it is missing.
    """
    whole, some = states.finite_share()
    masked = set(reader.channels.masked)
    named = [{name} for name, _ in reader.channels.scalars] + [{u, v} for u, v, _ in reader.channels.winds]
    may_have_gaps = np.array([bool(names & masked) for names in named])
    return np.where(may_have_gaps, some, whole)


def blocks(reader: StateReader, length: int, share: tuple[int, int] = (0, 1)) -> list[tuple[int, int]]:
    """Ranges of the time axis that cover it, of about `length` times and whole chunks; only this host's share."""
    size, chunk = reader.times.size, reader.times_per_chunk
    length = max(chunk, length // chunk * chunk)
    host, hosts = share
    return [(start, min(start + length, size)) for start in range(0, size, length)][host::hosts]


def audit(
    reader: StateReader,
    *,
    record: Any = None,
    share: tuple[int, int] = (0, 1),
    gather: Callable[[np.ndarray], np.ndarray] = lambda flags: flags[None],
    progress: bool = False,
) -> Bool[np.ndarray, " t"]:
    """Reads a period once and tells which times are usable; those that are not are named in the log.

    Args:
        reader: the store.
        record: file (pathlib or etils path) that holds the result of an earlier audit of the same times, or will.
        share: (host, hosts); each reads its part.
        gather: brings the hosts' flags together, (t,) → (hosts, t).
        progress: whether to show a bar.
    """
    key = _fingerprint(reader)
    if record is not None and record.exists():
        known = json.loads(record.read_text())
        if known["audited"] == key:
            usable = np.ones(reader.times.size, bool)
            usable[known["unusable"]] = False
            return usable
    flags = np.ones((reader.times.size, len(reader.channels.describe())), bool)
    for start, stop, states in _read(reader, blocks(reader, 16, share), progress):
        flags[start:stop] = usable_channels(states, reader)
    usable = np.all(gather(np.all(flags, axis=1)), axis=0)
    tell(flags, usable, reader)
    if record is not None and share[0] == 0:
        found = {"audited": key, "unusable": np.flatnonzero(~usable).tolist()}
        write_whole(record, json.dumps(found) + "\n")
    return usable


def _read(reader: StateReader, ranges: list[tuple[int, int]], progress: bool) -> Iterator[tuple[int, int, StateArrays]]:
    with progress_bar(enabled=progress) as bar:
        for start, stop in bar.track(ranges, description="look for missing values"):
            yield start, stop, reader.read(start, stop)


def tell(flags: Bool[np.ndarray, "t channel"], usable: Bool[np.ndarray, " t"], reader: StateReader) -> None:
    """Logs how many times are left out, and for which variables."""
    if usable.all():
        return
    counts = sorted(((int((~column).sum()), name) for column, name in zip(flags.T, reader.channels.describe())))[::-1]
    worst = ", ".join(f"{name} {count}" for count, name in counts[:3] if count)
    _logger.warning(
        "%d of %d times have missing values and are in no window, the first %s%s",
        np.sum(~usable),
        usable.size,
        reader.times[~usable][0].astype("datetime64[m]"),
        f" (times by variable: {worst})" if worst else "",
    )


def _fingerprint(reader: StateReader) -> str:
    """Changes with the times and the fields read."""
    digest = hashlib.sha256(reader.times.astype(np.int64).tobytes())
    digest.update(repr(("judged", reader.channels.describe(), reader.channels.masked, reader.grid.name)).encode())
    return digest.hexdigest()
