import pytest

from pipelines.planning import BASE_BYTES, plan_blocks
from weather_scnn.byte_sizes import in_words, parse_bytes
from weather_scnn.errors import UserError
from weather_scnn.io.chunk_sizes import parse_chunks

ERA5 = {"time": 58_440, "level": 37, "latitude": 721, "longitude": 1440}


def plan(chunks, *, sizes=ERA5, fields=1, target=64 * 32, levels=37, output_times=1, memory="1.5GB"):
    return plan_blocks(
        sizes,
        chunks,
        fields=fields,
        output_points=target,
        output_levels=levels,
        output_times=output_times,
        max_memory=parse_bytes(memory),
        where="here",
    )


def test_sizes_and_chunks_read_as_people_write_them():
    assert parse_bytes("1.5GB") == 1_500_000_000 and parse_bytes("2 GiB") == 2 * 2**30 and parse_bytes("800mb") == 8e8
    assert parse_bytes("4096") == 4096 and in_words(1.5e9) == "1.5 GB"
    assert parse_chunks("time=8, level=1", ("time", "level"), "--chunks") == {"time": 8, "level": 1}
    for text in ("many", "3 apples", "-1GB"):
        with pytest.raises(UserError, match=r"1\.5GB"):
            parse_bytes(text)
    for text in ("time", "time=0", "time=x"):
        with pytest.raises(UserError, match="write it as --chunks time=8"):
            parse_chunks(text, ("time", "level"), "--chunks")


def test_blocks_are_whole_chunks_that_fit():
    blocks = plan({**ERA5, "time": 1}, fields=2)  # a chunk a time, both components of the wind
    assert blocks.times_in_block == 1 and blocks.levels_in_block == 37
    assert blocks.estimate.rereads == 1 and 0.6e9 < blocks.estimate.memory < 1.5e9
    assert blocks.estimate.bytes_read == 2 * 58_440 * 37 * 721 * 1440 * 4
    assert blocks.estimate.bytes_written == 2 * 58_440 * 37 * 64 * 32 * 4
    ten = plan({**ERA5, "time": 10, "level": 1}, output_times=4)
    assert ten.times_in_block % 10 == 0 and ten.times_in_item % 20 == 0 and ten.estimate.rereads == 1
    long = plan({**ERA5, "time": 1}, sizes={**ERA5, "time": 10 * 58_440})
    assert long.estimate.memory == plan({**ERA5, "time": 1}).estimate.memory  # whatever the length


def test_chunks_that_do_not_fit_are_read_in_parts_or_refused():
    # A chunk of many times and few points: every map meets all of them.
    columns = {"time": 500, "level": 1, "latitude": 30, "longitude": 30}
    blocks = plan(columns)
    assert blocks.estimate.rereads > 4 and blocks.estimate.memory < 1.5e9
    with pytest.raises(UserError, match=r"use --max-memory [\d.]+GB"):
        plan({**ERA5, "time": 100})  # one chunk decodes to 15 GB
    with pytest.raises(UserError, match=r"use --chunks time=(\d+)") as refusal:
        plan({**ERA5, "time": 1}, target=721 * 1440, output_times=16)
    fitting = int(refusal.value.remedy.split("time=")[1].split(",")[0])
    assert plan({**ERA5, "time": 1}, target=721 * 1440, output_times=fitting).estimate.memory <= 1.5e9
    with pytest.raises(UserError, match="--max-memory"):
        plan({**ERA5, "time": 1}, memory="300MB")


def test_the_memory_a_refusal_asks_for_is_enough():
    with pytest.raises(UserError) as refusal:
        plan({**ERA5, "time": 100})
    memory = refusal.value.remedy.split("--max-memory ")[1]
    assert plan({**ERA5, "time": 100}, memory=memory).estimate.memory < parse_bytes(memory)
    assert BASE_BYTES < 5e8
