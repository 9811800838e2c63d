"""Batches of training windows, a pure function of seed and position, read ahead by threads."""

import concurrent.futures
import functools
import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from weather_scnn.training.audit import audit, blocks, tell, usable_channels
from weather_scnn.training.forcings import phases
from weather_scnn.training.states import StateArrays, StateReader
from weather_scnn.training.windows import some_windows

_BLOCK = 64  # times a read while the period is brought into memory
_logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Windows of states with what their forcings depend on, float32.

    Attributes:
        scalar, eastward, northward: standardised states, (b, t, y, x, channels), t = input times + rollout steps.
        forcings: what they depend on at the last input time and at every step after it, see `forcings.phases`, (b, k + 1, 7).
    """

    scalar: Float[np.ndarray, "b t y x c"]
    eastward: Float[np.ndarray, "b t y x d"]
    northward: Float[np.ndarray, "b t y x d"]
    forcings: Float[np.ndarray, "b t 7"]

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(array.nbytes for array in self)


def read_batch(reader: StateReader, rows: np.ndarray, input_steps: int, *, judged: bool = False) -> Batch:
    """Windows read from the store, each time once.

    Args:
        reader: the store's states.
        rows: positions on its time axis, (windows, input times + rollout steps).
        input_steps: input times a window.
        judged: see `StateReader.read_at`.
    """
    return Batch(*reader.read_at(rows, judged=judged), phases(reader.times[rows[:, input_steps - 1 :]]))


class WindowLoader:
    """Shuffled windows of one period.

    A period that fits into `cache_bytes` is read once, in blocks; a longer one is read window by window. The batches
    are the same either way, on any number of hosts, and from any position on.

    Args:
        reader: the store's states.
        step: distance between states.
        input_steps: input times a window.
        input_step: distance between them; default `step`.
        seed: of the shuffling.
        cache_bytes: memory the states may take.
        shuffle_windows: 0 shuffles all windows of an epoch; otherwise they are shuffled within buffers of about this
            many, filled from whole runs of consecutive times in shuffled order.
        record: file for the result of the search for missing values, where the period is not held in memory.
        share: (host, hosts) of that search.
        gather: brings the hosts' flags together, (t,) → (hosts, t).
        progress: whether to show a bar while reading the period.
    """

    def __init__(
        self,
        reader: StateReader,
        *,
        step: np.timedelta64,
        input_steps: int,
        input_step: np.timedelta64 | None = None,
        seed: int,
        cache_bytes: float,
        shuffle_windows: int = 0,
        record: Any = None,
        share: tuple[int, int] = (0, 1),
        gather: Callable[[np.ndarray], np.ndarray] = lambda flags: flags[None],
        progress: bool = False,
    ):
        self.reader, self.step, self.input_steps, self.seed = reader, step, input_steps, seed
        self.input_step = input_step
        self.shuffle_windows = shuffle_windows
        self.waited = 0.0
        times = reader.times
        self._cached: StateArrays | None = None
        self._phases = phases(times)
        if reader.bytes_per_time * times.size <= cache_bytes:
            self._fill_memory()
        else:
            self.usable = audit(reader, record=record, share=share, gather=gather, progress=progress)
            if reader.times_per_chunk > 1 and not shuffle_windows:
                _logger.warning(
                    "the store's chunks hold %d times each, all of which are decoded for every window that touches "
                    "one; set data.shuffle_windows to some thousands, or raise data.cache_gigabytes above %.1f",
                    reader.times_per_chunk,
                    reader.bytes_per_time * times.size / 2**30,
                )

    def _fill_memory(self) -> None:
        reader, size = self.reader, self.reader.times.size
        y, x = reader.grid.shape
        c, d = len(reader.channels.scalars), len(reader.channels.winds)
        held = StateArrays(*(np.empty((size, y, x, count), np.float32) for count in (c, d, d)))
        flags = np.ones((size, c + d), bool)
        for start, stop in blocks(reader, _BLOCK):
            block = reader.read(start, stop)
            flags[start:stop] = usable_channels(block, reader)
            for target, source in zip(held, block):
                target[start:stop] = source
        self.usable = np.all(flags, axis=1)
        tell(flags, self.usable, reader)
        self._cached = held

    @property
    def in_memory(self) -> bool:
        """Whether the whole period is held in memory."""
        return self._cached is not None

    @property
    def nbytes(self) -> int:
        """Memory that the period takes; 0 where it is not held."""
        return sum(array.nbytes for array in self._cached or ())

    def windows(self, rollout_steps: int) -> np.ndarray:
        """Indices (windows, input_steps + rollout_steps) of every window without a gap or a NaN.

        Raises:
            UserError: there is none.
        """
        return some_windows(
            self.reader.times,
            step=self.step,
            length=self.input_steps + rollout_steps,
            usable=self.usable,
            inputs=self.input_steps,
            input_step=self.input_step,
        )

    def fingerprint(self, rollout_steps: int) -> str:
        """Changes with the windows there are; a run is resumed only where it finds those it was begun with."""
        starts = self.reader.times[self.windows(rollout_steps)[:, 0]]
        return f"{len(starts)} windows {hashlib.sha256(starts.astype(np.int64).tobytes()).hexdigest()[:12]}"

    def batch(self, windows: np.ndarray, indices: np.ndarray) -> Batch:
        """The windows at these rows."""
        rows = windows[indices]
        if self._cached is not None:
            return Batch(*self._cached.take(rows), self._phases[rows[:, self.input_steps - 1 :]])
        return read_batch(self.reader, rows, self.input_steps, judged=True)

    def indices(self, windows: np.ndarray | int, position: int, batch_size: int) -> np.ndarray:
        """Rows of the batch that starts at sample `position` of an endless stream of shuffled epochs.

        Args:
            windows: as from `windows`, or how many there are.
            position: sample to start from.
            batch_size: how many.
        """
        starts = None if isinstance(windows, int) else windows[:, 0]
        count = windows if isinstance(windows, int) else len(windows)
        samples = np.arange(position, position + batch_size)
        rows = np.empty(batch_size, np.int64)
        for epoch in np.unique(samples // count).tolist():
            chosen = samples // count == epoch
            rows[chosen] = self._order(count, epoch, starts)[samples[chosen] % count]
        return rows

    def _order(self, count: int, epoch: int, starts: np.ndarray | None) -> np.ndarray:
        if not self.shuffle_windows or starts is None:
            return _permutation(self.seed, epoch, count)
        chunk = self.reader.times_per_chunk
        return _buffered_permutation(self.seed, epoch, (starts // chunk).tobytes(), self.shuffle_windows)

    def stream(
        self,
        rollout_steps: int,
        *,
        batch_size: int,
        first: int,
        last: int,
        share: tuple[int, int] = (0, 1),
        ahead: int = 2,
        readers: int = 1,
    ) -> Generator[Batch, None, None]:
        """Batches first … last − 1, prepared by threads while the device works.

        `waited` grows by the seconds that the caller was kept waiting.

        Args:
            rollout_steps: forecast steps a window.
            batch_size: windows a batch, over all hosts.
            first, last: numbers of the batches.
            share: (host, hosts); only this host's contiguous part of each batch is read and given.
            ahead: batches prepared in advance.
            readers: threads.
        """
        windows = self.windows(rollout_steps)
        host, hosts = share
        mine = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)

        def make(number: int) -> Batch:
            return self.batch(windows, self.indices(windows, number * batch_size, batch_size)[mine])

        pool = concurrent.futures.ThreadPoolExecutor(readers, thread_name_prefix="loader")
        try:
            waiting = [pool.submit(make, number) for number in range(first, min(first + ahead, last))]
            for number in range(first, last):
                if number + ahead < last:
                    waiting.append(pool.submit(make, number + ahead))
                since = time.perf_counter()
                current = waiting.pop(0).result()
                self.waited += time.perf_counter() - since
                yield current
        finally:
            # Batches that nobody will take are not made.
            pool.shutdown(wait=True, cancel_futures=True)


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


@functools.lru_cache(maxsize=4)
def _buffered_permutation(seed: int, epoch: int, chunk_of_window: bytes, buffer: int) -> np.ndarray:
    """Chunks in shuffled order, their windows shuffled within buffers of about `buffer` windows."""
    rng = np.random.default_rng([seed, epoch])
    chunk = np.frombuffer(chunk_of_window, np.int64)
    rank = rng.permutation(int(chunk.max()) + 1)[chunk]
    order = np.argsort(rank, kind="stable")
    sizes = np.diff(np.append(np.flatnonzero(np.diff(rank[order], prepend=-1)), len(order)))
    # A buffer ends with the chunk in which it reaches its size, so that each chunk is decoded in one buffer only.
    ends = np.cumsum(sizes)
    bounds, last = [0], 0
    for end in ends.tolist():
        if end - last >= buffer:
            bounds.append(end)
            last = end
    if bounds[-1] != len(order):
        bounds.append(len(order))
    parts = [rng.permutation(order[low:high]) for low, high in itertools.pairwise(bounds)]
    return np.concatenate(parts)
