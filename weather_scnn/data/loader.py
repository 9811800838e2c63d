"""Batches of training windows, a pure function of seed and position, read ahead by a thread."""

import concurrent.futures
import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from weather_scnn.data.reading import StateArrays, StateReader
from weather_scnn.data.windows import window_indices
from weather_scnn.errors import UserError

_BLOCK = 64  # times a read while the period is brought into memory
_logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Windows of states with their forcings, float32.

    Attributes:
        scalar, eastward, northward: standardised states, (b, t, y, x, channels), t = input times + rollout steps.
        forcings: at the last input time and at every step after it, (b, k + 1, y, x, f).
    """

    scalar: Float[np.ndarray, "b t y x c"]
    eastward: Float[np.ndarray, "b t y x d"]
    northward: Float[np.ndarray, "b t y x d"]
    forcings: Float[np.ndarray, "b k+1 y x f"]


class WindowLoader:
    """Shuffled windows of one period.

    A period that fits into `cache_bytes` is read once, in blocks; a longer one is read window by window. The batches
    are the same either way.

    Args:
        reader: the store's states.
        step: distance between states.
        input_steps: input times a window.
        seed: of the shuffling.
        cache_bytes: memory the states may take.
    """

    def __init__(self, reader: StateReader, *, step: np.timedelta64, input_steps: int, seed: int, cache_bytes: float):
        self.reader, self.step, self.input_steps, self.seed = reader, step, input_steps, seed
        times = reader.times
        self._cached: StateArrays | None = None
        cache = reader.bytes_per_time * times.size <= cache_bytes
        blocks, flags = [], []
        for start in range(0, times.size, _BLOCK):
            block = reader.read(start, min(start + _BLOCK, times.size))
            flags.append(block.finite())
            if cache:
                blocks.append(block)
        self.usable = np.concatenate(flags)
        if not self.usable.all():
            _logger.warning(
                "%d of %d times have NaNs and are left out, the first at %s",
                np.sum(~self.usable),
                times.size,
                times[~self.usable][0].astype("datetime64[m]"),
            )
        if cache:
            self._cached = StateArrays(*(np.concatenate(parts) for parts in zip(*blocks)))

    def windows(self, rollout_steps: int) -> np.ndarray:
        """Indices (windows, input_steps + rollout_steps) of every window without a gap or a NaN.

        Raises:
            UserError: there is none.
        """
        length = self.input_steps + rollout_steps
        found = window_indices(self.reader.times, step=self.step, length=length, usable=self.usable)
        if not len(found):
            hours = self.step / np.timedelta64(1, "h")
            raise UserError(
                f"no {length} consecutive states {hours:g} h apart without a gap or NaN among {self.usable.size} times",
                remedy="give a longer period, another data.step or fewer rollout steps",
            )
        return found

    def batch(self, windows: np.ndarray, indices: np.ndarray) -> Batch:
        """The windows at these rows."""
        rows = windows[indices]
        if self._cached is not None:
            states = self._cached.take(rows)
        else:
            pieces = []
            for row in rows:
                low, high = row.min(), row.max() + 1
                pieces.append(self.reader.read(low, high).take(row - low))
            states = StateArrays(*(np.stack(parts) for parts in zip(*pieces)))
        steps = rows[:, self.input_steps - 1 :]
        times = self.reader.times[steps]
        forcing = self.reader.forcings(times.ravel())
        return Batch(*states, forcing.reshape(*steps.shape, *forcing.shape[1:]))

    def indices(self, count: int, position: int, batch_size: int) -> np.ndarray:
        """Rows of the batch that starts at sample `position` of an endless stream of shuffled epochs."""
        samples = np.arange(position, position + batch_size)
        rows = np.empty(batch_size, np.int64)
        for epoch in np.unique(samples // count):
            order = np.random.default_rng([self.seed, int(epoch)]).permutation(count)
            chosen = samples // count == epoch
            rows[chosen] = order[samples[chosen] % count]
        return rows

    def stream(
        self,
        rollout_steps: int,
        *,
        batch_size: int,
        first: int,
        last: int,
        share: tuple[int, int] = (0, 1),
        ahead: int = 2,
    ) -> Iterator[Batch]:
        """Batches first … last − 1, prepared by a thread while the device works.

        Args:
            rollout_steps: forecast steps a window.
            batch_size: windows a batch, over all hosts.
            first, last: numbers of the batches.
            share: (host, hosts); only this host's contiguous part of each batch is read and given.
            ahead: batches prepared in advance.
        """
        windows = self.windows(rollout_steps)
        host, hosts = share
        mine = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)

        def make(number: int) -> Batch:
            return self.batch(windows, self.indices(len(windows), number * batch_size, batch_size)[mine])

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = [pool.submit(make, number) for number in range(first, min(first + ahead, last))]
            for number in range(first, last):
                current = waiting.pop(0)
                if number + ahead < last:
                    waiting.append(pool.submit(make, number + ahead))
                yield current.result()
