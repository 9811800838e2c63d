"""Windows that are chosen once and looked at again and again, as a validation does: only they are read."""

from collections.abc import Callable
from typing import Any

import numpy as np

from weather_scnn.training.audit import tell, usable_channels
from weather_scnn.training.loader import Batch, read_batch
from weather_scnn.training.states import StateArrays, StateReader
from weather_scnn.training.windows import some_windows


class FixedWindows:
    """Evenly spaced windows of a period, in batches of which every host reads its part.

    Of the period, the times of these windows are read and no others. A window with a missing value gives way to others,
    the same on all hosts. What a host has read it keeps, where that fits into `cache_bytes`, and otherwise reads again
    each time that a batch is asked for.

    Args:
        reader: the store's states.
        step, length, input_steps, input_step: of the windows, see `window_indices`; `length` counts all states.
        count: windows, a multiple of `batch_size`; where there are fewer in the period, they repeat.
        batch_size: windows a batch, over all hosts.
        cache_bytes: memory for this host's windows.
        share: (host, hosts); its contiguous part of each batch.
        gather: brings the hosts' flags together, (t,) → (hosts, t).

    Raises:
        UserError: the period has no such window.
    """

    def __init__(
        self,
        reader: StateReader,
        *,
        step: np.timedelta64,
        length: int,
        input_steps: int,
        input_step: np.timedelta64,
        count: int,
        batch_size: int,
        cache_bytes: float,
        share: tuple[int, int] = (0, 1),
        gather: Callable[[np.ndarray], np.ndarray] = lambda flags: flags[None],
    ):
        self.reader, self.input_steps, self.batch_size = reader, input_steps, batch_size
        host, hosts = share
        self._mine = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)
        self.in_memory = length * reader.bytes_per_time * count / hosts <= cache_bytes
        usable = np.ones(reader.times.size, bool)
        options: dict[str, Any] = {"inputs": input_steps, "input_step": input_step}
        while True:
            result = some_windows(reader.times, step=step, length=length, usable=usable, **options)
            chosen = np.unique(np.linspace(0, len(result) - 1, count).round().astype(int))
            self.windows = result[np.resize(chosen, count)]
            self._held: list[Batch] = []
            flags = np.ones((usable.size, len(reader.channels.describe())), bool)
            for number in range(self.batches):
                batch = self._read(number)
                if self.in_memory:
                    self._held.append(batch)
                rows = self._rows(number)
                states = (array.reshape(-1, *array.shape[2:]) for array in batch[:3])
                flags[rows.ravel()] = usable_channels(StateArrays(*states), reader)
            still = usable & np.all(gather(np.all(flags, axis=1)), axis=0)
            if np.array_equal(still, usable):
                return
            tell(flags, still, reader)
            usable = still

    @property
    def batches(self) -> int:
        """How many batches hold all windows."""
        return len(self.windows) // self.batch_size

    def batch(self, number: int) -> Batch:
        """This host's part of a batch."""
        return self._held[number] if self.in_memory else self._read(number)

    def _rows(self, number: int) -> np.ndarray:
        return self.windows[number * self.batch_size : (number + 1) * self.batch_size][self._mine]

    def _read(self, number: int) -> Batch:
        return read_batch(self.reader, self._rows(number), self.input_steps)
