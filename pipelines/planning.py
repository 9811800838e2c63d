"""What a job will read, write and hold in memory, worked out before it starts."""

import dataclasses
import math
from collections.abc import Mapping

from weather_scnn.byte_sizes import in_words
from weather_scnn.errors import UserError

DEFAULT_MEMORY = "1.5GB"
# Python with xarray, Zarr and a store open, before any data (measured: 0.20 GB where netCDF is read, to 0.33 GB), and what Beam adds to that.
BASE_BYTES = 270 * 10**6
BEAM_BYTES = 170 * 10**6

_BLOCK_BYTES = 32 * 2**20  # read at once: enough that the cost of a call vanishes
_ITEM_BYTES = 64 * 2**20  # of the source, a work item that is recorded when done
_OUTPUT_BYTES = 128 * 2**20  # of the result, held until a work item is written
_LEAST_ITEMS = 8
_MOST_REREADS = 8
_DECODED_AT_ONCE = 10  # chunks, by Zarr


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Cost of a job.

    Attributes:
        bytes_read: uncompressed, repeated reading included.
        bytes_written: uncompressed.
        memory: bytes of one worker at its peak, Python included; a worker is a process, of one thread unless
            `in_process` says otherwise.
        rereads: how often a chunk of the source is decoded on average.
    """

    bytes_read: float
    bytes_written: float
    memory: float
    rereads: float = 1.0

    def __add__(self, other: "Estimate") -> "Estimate":
        read = self.bytes_read + other.bytes_read
        once = sum(each.bytes_read / each.rereads for each in (self, other))
        return Estimate(
            read,
            self.bytes_written + other.bytes_written,
            max(self.memory, other.memory),
            read / once if once else 1.0,
        )

    def threads(self, most: int, max_memory: int, *, beam: bool) -> int:
        """How many work items fit side by side into the memory of a process, at least one and at most `most`."""
        each = self.memory - BASE_BYTES
        room = max_memory - BASE_BYTES - BEAM_BYTES * beam
        return max(1, min(most, int(room // each) if each > 0 else most))

    def in_process(self, threads: int, *, beam: bool) -> "Estimate":
        """The cost where a worker is a process of so many threads."""
        memory = BASE_BYTES + BEAM_BYTES * beam + threads * (self.memory - BASE_BYTES)
        return dataclasses.replace(self, memory=memory)

    def __str__(self) -> str:
        again = f", {self.rereads:.2g} times over because of its chunks" if self.rereads > 1.1 else ""
        return (
            f"reads {in_words(self.bytes_read)}{again}, writes {in_words(self.bytes_written)} (uncompressed), "
            f"at most {in_words(self.memory)} of memory a worker"
        )


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a field is worked through.

    Attributes:
        times_in_item: times of a work item, whole chunks of the output.
        times_in_block: times read at once.
        levels_in_block: levels read at once.
        estimate: what it costs.
    """

    times_in_item: int
    times_in_block: int
    levels_in_block: int
    estimate: Estimate


def _more_memory(needed: float) -> str:
    return f"use --max-memory {in_words(needed).replace(' ', '')}"


def too_little(needed: float, allowed: float, where: str, *, what: str = "needs", remedy: str = "") -> UserError:
    """What is said where a worker's memory is too small; by default a little more of it is the remedy."""
    told = f"{what} {in_words(needed)} of memory a worker, and {in_words(allowed)} are allowed"
    return UserError(told, where=where, remedy=remedy or _more_memory(1.02 * needed))


def plan_blocks(
    sizes: Mapping[str, int],
    chunks: Mapping[str, int],
    *,
    fields: int,
    output_points: int,
    output_levels: int,
    output_times: int,
    max_memory: int,
    where: str,
) -> Blocks:
    """Blocks for a job that reads times in order and writes chunks of `output_times`.

    They depend on the source and on what was asked for alone, so that an interrupted run finds its work items again.

    Args:
        sizes: time[, level], latitude, longitude of the field, as many levels as are read.
        chunks: sizes of its stored chunks.
        fields: taken together, two for a wind.
        output_points: of a map of the output.
        output_levels: of the output.
        output_times: in a chunk, or in a shard, of the output.
        max_memory: bytes a worker may take.
        where: the field, for errors.

    Raises:
        UserError: it does not fit in the memory; the remedy names what would.
    """
    points = sizes["latitude"] * sizes["longitude"]
    times, levels = sizes["time"], sizes.get("level", 1)
    chunk_times, chunk_levels = min(chunks["time"], times), min(chunks.get("level", 1), levels)
    over_map = math.ceil(sizes["latitude"] / chunks["latitude"]) * math.ceil(sizes["longitude"] / chunks["longitude"])
    chunk_bytes = 4 * chunk_times * chunks.get("level", 1) * chunks["latitude"] * chunks["longitude"]
    one_map = 4 * points
    working = 2 * 8 * one_map
    decoding = chunk_bytes * min(_DECODED_AT_ONCE, over_map)
    output_each = 4 * fields * output_levels * output_points
    # The result of a work item is held, and once more while it is written.
    least_output = 2 * output_times * output_each
    room = max_memory - BASE_BYTES - working
    output_room = max(least_output, min(_OUTPUT_BYTES, room // 4))
    available = room - output_room

    def block(maps: int) -> int:
        # As held of every field, and what is being read of one: chunks before they are put together, or the field.
        return fields * one_map * maps + max(decoding, one_map * maps)

    def fitting_maps() -> int:
        return int(min((available - decoding) // (fields * one_map), available // ((fields + 1) * one_map)))

    # A chunk is decoded once for every block that holds part of it.
    least = block(max(1, math.ceil(chunk_times * chunk_levels / _MOST_REREADS)))
    if available < least:
        needed = 1.02 * (max_memory - available + least)
        remedy = _more_memory(needed)
        fitting = int((room - least) // (2 * output_each))
        if output_times > 1 and fitting >= 1:
            remedy = f"use --chunks time={min(fitting, output_times - 1)}, or {remedy[4:]}"
        raise too_little(needed, max_memory, where, remedy=remedy)
    whole = block(chunk_times * chunk_levels)
    if whole <= available:
        at_once = min(available, max(whole, 2 * _BLOCK_BYTES))
        block_levels = min(levels, chunk_levels * max(1, at_once // whole))
        block_levels = levels if block_levels >= levels else block_levels // chunk_levels * chunk_levels
        block_times = chunk_times
        if block_levels == levels:
            block_times *= max(1, at_once // block(chunk_times * levels))
    else:
        block_levels = max(1, min(chunk_levels, fitting_maps()))
        block_times = min(max(1, fitting_maps() // block_levels) if block_levels == chunk_levels else 1, chunk_times)
    each = one_map * levels * fields
    item = max(chunk_times, math.ceil(_ITEM_BYTES / each))
    item = min(item, max(chunk_times, math.ceil(times / _LEAST_ITEMS)))
    item = math.ceil(item / output_times) * output_times
    together = math.lcm(chunk_times, output_times)
    if 2 * together * output_each <= output_room:
        item = math.ceil(item / together) * together
    item = max(output_times, min(item, output_room // (2 * output_each) // output_times * output_times))
    if item % chunk_times == 0 or block_times > item:
        block_times = min(block_times, item)
    stretch = min(item, times)
    decoded = 0
    for begin in range(0, times, item):
        for start in range(begin, min(begin + item, times), block_times):
            stop = min(start + block_times, begin + item, times)
            decoded += (stop - 1) // chunk_times - start // chunk_times + 1
    time_again = decoded / math.ceil(times / chunk_times)
    level_again = sum(
        (min(start + block_levels, levels) - 1) // chunk_levels - start // chunk_levels + 1
        for start in range(0, levels, block_levels)
    ) / math.ceil(levels / chunk_levels)
    rereads = max(1.0, time_again * level_again)
    memory = BASE_BYTES + working + block(min(block_times, stretch) * block_levels) + 2 * stretch * output_each
    return Blocks(
        item,
        block_times,
        block_levels,
        Estimate(rereads * each * times, times * output_each, memory, rereads),
    )
