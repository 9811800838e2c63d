"""Scoring one work item: some variables and a run of init times → sums. Items are independent of each other."""

import concurrent.futures
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import threadpoolctl

from eval.baselines import PERSISTENCE
from eval.chunks import Block, Chunk, VariableGroup, missing_points, wind_of
from eval.field_reading import CACHE_BYTES
from eval.implausible_forecasts import implausible_maps
from eval.item_sums import ItemSums
from eval.pairing import Comparison
from eval.work_items import WorkItem, blocks_of
from weather_scnn.io.writing import Record


@functools.cache
def _thread_pools() -> threadpoolctl.ThreadpoolController:
    """The libraries' own threads; finding them takes 12 ms, a tenth of a small piece."""
    return threadpoolctl.ThreadpoolController()


_LOCAL = threading.local()


def _reading_thread() -> concurrent.futures.ThreadPoolExecutor:
    """The thread that reads ahead for this one, whatever it scores: memory that a thread lets go of stays with it."""
    if not hasattr(_LOCAL, "reader"):
        _LOCAL.reader = concurrent.futures.ThreadPoolExecutor(1)
    return _LOCAL.reader


class ItemScorer:
    """Scores work items of one group of variables; keeps its caches from item to item.

    Args:
        comparison: what is compared.
        group: number of the group.
        finished: holds the means of `eval.valid_time_fields.prepare_references`.
    """

    def __init__(self, comparison: Comparison, group: int, finished: Record):
        self.comparison = comparison
        self.group = VariableGroup(comparison, group, finished, CACHE_BYTES)
        self._by_valid_time: dict[tuple[str, str, str, int], np.ndarray] = {}
        self._reader = _reading_thread()
        self._begun: tuple[WorkItem, concurrent.futures.Future[Block]] | None = None

    def begin(self, item: WorkItem) -> None:
        """Starts to read an item, while another is being scored."""
        first = blocks_of(self.comparison, self.group.names, item)[0]
        self._begun = item, self._reader.submit(self._load, first)

    def score(
        self,
        item: WorkItem,
        tick: Callable[[float], None] = lambda inits: None,
        ahead: Callable[[], None] = lambda: None,
    ) -> dict[str, np.ndarray]:
        """The sums of an item, see `eval.item_sums`.

        Args:
            item: of the scorer's group.
            tick: told of the init times done.
            ahead: called when all is read, so that the next item can be begun.

        Raises:
            UserError: a forecast has missing values and they are not allowed.
        """
        sums = ItemSums(self.group, item.stop - item.start)
        # Products here are too small for BLAS's own threads, which wait for each other: on a busy machine 5 times longer.
        with _thread_pools().limit(limits=1, user_api="blas"):
            for block in self._loaded(item, ahead):
                self._forget_before(self.comparison.inits[block.inits.start])
                rows = slice(block.inits.start - item.start, block.inits.stop - item.start)
                for (system, name), maps in block.implausible.items():
                    number = self.comparison.systems.index(system)
                    sums.arrays[f"implausible/{name}"][number, rows, block.leads] = maps
                for init in range(block.inits.start, block.inits.stop):
                    self._score_init(block, init, init - item.start, sums)
                share = (block.leads.stop - block.leads.start) / self.comparison.leads.size
                tick((block.inits.stop - block.inits.start) * share)
        return sums.arrays

    def _load(self, block: tuple[slice, slice]) -> Block:
        comparison, names = self.comparison, self.group.names
        inits, leads = comparison.inits[block[0]], comparison.leads[block[1]]
        valid = (inits[:, None] + leads[None, :])[comparison.present[block]]
        if PERSISTENCE in comparison.systems:
            valid = np.concatenate([valid, inits])
        times = np.unique(valid)
        forecasts = {
            (system, name): values
            for system, store in comparison.forecasts.items()
            for name, values in store.read([n for n in names if n in store.dataset], inits, leads).items()
        }
        finite, implausible = {}, {}
        for key, values in forecasts.items():
            low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
            if not (np.isfinite(low) and np.isfinite(high)):
                finite[key] = np.isfinite(values).all(axis=(2, 4))
            if (maps := implausible_maps(key[1], values, low, high)) is not None:
                implausible[key] = maps
        fields = {name: self.group.fields[name].read(times) for name in names}
        return Block(*block, forecasts, finite, implausible, fields, {})

    def _loaded(self, item: WorkItem, ahead: Callable[[], None]) -> Iterator[Block]:
        """Blocks, each read while the one before is being scored; decompression leaves the interpreter free."""
        blocks = blocks_of(self.comparison, self.group.names, item)
        if self._begun is None or self._begun[0] != item:
            self.begin(item)
        assert self._begun is not None
        waiting, self._begun = self._begun[1], None
        for following in [*blocks[1:], None]:
            block = waiting.result()
            if following is not None:
                waiting = self._reader.submit(self._load, following)
            else:
                ahead()
            windows = {name: self.group.fields[name].window(fields) for name, fields in block.read.items()}
            block = dataclasses.replace(block, read={}, windows=windows)  # what windows are made of is let go
            yield block

    def _forget_before(self, init: np.datetime64) -> None:
        """Lets go of the sums of valid times that no later forecast reaches; they are made again if one does."""
        oldest = int(init.astype(np.int64))
        if any(time < oldest for *_, time in self._by_valid_time):
            self._by_valid_time = {key: kept for key, kept in self._by_valid_time.items() if key[-1] >= oldest}

    def _score_init(self, block: Block, init: int, row: int, sums: ItemSums) -> None:
        """Every field from one initial time: its chunk is made, and its points that count are settled, once."""
        chunks = []
        for name in self.group.names:
            leads = np.flatnonzero(self.group.present[name][init, block.leads]) + block.leads.start
            if not leads.size:
                continue
            chunk = Chunk(self.group, block, name, init, leads)
            mask, sums.arrays[f"missing/{name}"][:, row, leads] = missing_points(chunk)
            chunks.append(chunk.masked(mask))
        if self.group.wind is not None and len(chunks) == 2:
            chunks.append(wind_of(self.group.wind, *chunks))
        for chunk in chunks:
            sums.add(chunk, row, self._by_valid_time)
