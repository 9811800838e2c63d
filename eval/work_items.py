"""How a scoring job is cut: items that are finished one by one, and blocks that are in memory at once."""

import dataclasses
import math

from eval.pairing import Comparison

_BLOCK_BYTES = 8 * 2**20
_ITEM_BYTES = 256 * 2**20
_MOST_ITEMS_WITH_MAPS = 16


@dataclasses.dataclass(frozen=True)
class WorkItem:
    """Init times start … stop − 1 of one group of variables."""

    group: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """For its file."""
        return f"{self.group:03d}-{self.start:06d}-{self.stop:06d}"


def _bytes_per_forecast(comparison: Comparison, names: tuple[str, ...]) -> int:
    """Of all systems and names, one init time and lead time, as read."""
    points = comparison.latitude.size * comparison.longitude.size
    members = sum(store.members for store in comparison.forecasts.values())
    return 4 * points * members * sum(comparison.level_count(name) for name in names)


def _chunks(comparison: Comparison, names: tuple[str, ...]) -> tuple[int, int]:
    """Init times and lead times of the largest chunk."""
    stores = comparison.forecasts.values()
    found = [store.chunks(name) for store in stores for name in names if name in store.dataset]
    return max(c[0] for c in found), max(c[1] for c in found)


def work_items_of(comparison: Comparison) -> list[WorkItem]:
    """All items, each of whole chunks and some hundred MiB of forecasts.

    Every item of a run with maps holds sums of whole maps, so then there are at most 16 a group.
    """
    items = []
    count = comparison.inits.size
    for number, names in enumerate(comparison.groups):
        total = _bytes_per_forecast(comparison, names) * count * comparison.leads.size
        wanted = max(1, math.ceil(total / _ITEM_BYTES))
        if comparison.map_leads.size:
            wanted = min(wanted, _MOST_ITEMS_WITH_MAPS)
        chunk = _chunks(comparison, names)[0]
        size = math.ceil(math.ceil(count / wanted) / chunk) * chunk
        items += [WorkItem(number, begin, min(begin + size, count)) for begin in range(0, count, size)]
    return items


def blocks_of(comparison: Comparison, names: tuple[str, ...], item: WorkItem) -> list[tuple[slice, slice]]:
    """Init times and lead times that are in memory together: whole chunks, more lead times before more init times."""
    each, leads = _bytes_per_forecast(comparison, names), comparison.leads.size
    inits, some = _chunks(comparison, names)
    inits, some = min(inits, item.stop - item.start), min(some, leads)
    while some < leads and 2 * some * inits * each <= _BLOCK_BYTES:
        some = min(2 * some, leads)
    if some == leads:
        inits *= max(1, _BLOCK_BYTES // max(1, inits * leads * each))
    return [
        (slice(i, min(i + inits, item.stop)), slice(l, min(l + some, leads)))
        for i in range(item.start, item.stop, inits)
        for l in range(0, leads, some)
    ]
