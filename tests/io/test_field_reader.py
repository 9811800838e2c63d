"""Reading a source in parts gives what its dataset holds, whatever its layout."""

import time

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.stored import StoredArray

TIMES = pd.date_range("2020-01-01", periods=12, freq="6h")


def store(tmp_path, *, dims=("time", "level", "latitude", "longitude"), zarr_format=3, **changes):
    """A store with every fault that is mended by moving indices or scaling."""
    rng = np.random.default_rng(0)
    height = xr.DataArray(
        rng.normal(5000, 50, (12, 3, 6, 8)).astype("float32"),
        dims=("time", "level", "latitude", "longitude"),
        attrs={"units": "m"},
    )
    dataset = xr.Dataset(
        {
            "geopotential_height": height.transpose(*dims),
            "t2m": (("time", "latitude", "longitude"), rng.normal(10, 5, (12, 6, 8)), {"units": "degC"}),
            "lsm": (("latitude", "longitude"), rng.random((6, 8)).astype("float32"), {"units": "1"}),
        },
        {
            "time": TIMES,
            "level": ("level", [85000.0, 50000.0, 25000.0], {"units": "Pa"}),
            "latitude": np.linspace(75, -75, 6),
            "longitude": np.arange(-180, 180, 45.0),
        },
    ).assign_coords(changes)
    path = str(tmp_path / "store.zarr")
    encoding = {"t2m": {"dtype": "int16", "scale_factor": 0.01, "add_offset": 10.0, "_FillValue": -32767}}
    dataset.chunk({"time": 5, "level": 2}).to_zarr(path, zarr_format=zarr_format, encoding=encoding)
    return path


def plans(reader):
    """Where the fields lie that come from one stored array, moved and scaled."""
    return {name: array.data for name, array in reader.fields.items() if isinstance(array.data, StoredArray)}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "dims", [("time", "level", "latitude", "longitude"), ("level", "time", "longitude", "latitude")]
)
@pytest.mark.parametrize("options", [{}, {"levels": [850, 250], "time": "2020-01-02:2020-01-03T06"}])
def test_parts_are_those_of_the_dataset(tmp_path, zarr_format, dims, options):
    path = store(tmp_path, dims=dims, zarr_format=zarr_format)
    reader, dataset = FieldReader(path, **options), open_dataset(path, **options)
    xr.testing.assert_identical(reader.dataset, dataset)
    assert set(plans(reader)) == {"geopotential", "2m_temperature", "land_sea_mask"}
    packed = plans(reader)["2m_temperature"]
    assert packed.plain is None and packed.offset == pytest.approx(273.15)
    assert plans(reader)["geopotential"].scale == pytest.approx(9.80665) and plans(reader)["geopotential"].plain
    geopotential = dataset["geopotential"].values
    assert geopotential.mean() > 4e4
    np.testing.assert_array_equal(reader.read("geopotential"), geopotential)
    np.testing.assert_array_equal(reader.read("geopotential", slice(1, 4), slice(1, 2)), geopotential[1:4, 1:2])
    picked = np.array([5, 0, 3])
    np.testing.assert_array_equal(
        reader.read("geopotential", picked, np.array([1, 0])), geopotential[picked][:, [1, 0]]
    )
    np.testing.assert_allclose(
        reader.read("2m_temperature", slice(2, 3)), dataset["2m_temperature"][2:3].values, rtol=2e-7
    )
    np.testing.assert_array_equal(reader.read("land_sea_mask"), dataset["land_sea_mask"].values)
    if not options:
        assert reader.chunks("geopotential") == {"time": 5, "level": 2, "latitude": 6, "longitude": 8}


def test_times_out_of_order_and_repeated(tmp_path):
    times = TIMES.values.copy()
    times[[2, 3]], times[7] = times[[3, 2]], times[6]
    path = store(tmp_path, time=times)
    reader = FieldReader(path)
    assert plans(reader) and reader.dataset.sizes["time"] == 11
    np.testing.assert_array_equal(reader.read("geopotential"), open_dataset(path)["geopotential"].values)


@pytest.mark.parametrize("everywhere", [False, True])
def test_axes_of_length_one_that_are_dropped(tmp_path, everywhere):
    """A single member or version, on all fields or on some, wherever the axis stands."""
    raw = xr.open_zarr(store(tmp_path), decode_timedelta=False).load().drop_encoding()
    for field in [name for name in raw.data_vars if "time" in raw[name].dims][: None if everywhere else 1]:
        raw[field] = raw[field].expand_dims(expver=1, axis=1).expand_dims(number=1, axis=-1)
    path = str(tmp_path / "single.zarr")
    raw.to_zarr(path)
    reader, dataset = FieldReader(path), open_dataset(path)
    assert set(plans(reader)) == set(dataset.data_vars)
    for name, array in dataset.data_vars.items():
        np.testing.assert_allclose(reader.read(name), array.values, rtol=2e-7)
        if "time" in array.dims:
            np.testing.assert_allclose(reader.read(name, np.array([4, 1])), array[[4, 1]].values, rtol=2e-7)


def test_files_are_read_so_too(tmp_path):
    dataset = open_dataset(store(tmp_path))
    dataset.to_netcdf(tmp_path / "file.nc")
    reader = FieldReader(str(tmp_path / "file.nc"))
    assert set(plans(reader)) == set(dataset.data_vars)
    np.testing.assert_array_equal(reader.read("geopotential", slice(3, 5)), dataset["geopotential"][3:5].values)


def test_a_part_costs_the_same_however_long_the_record_is(tmp_path):
    """Through dask it would cost some ten times more at 20 000 times than at 200."""
    seconds = {}
    for count in (200, 20_000):
        path = str(tmp_path / f"{count}.zarr")
        lazy = dask.array.zeros((count, 4, 8), chunks=-1, dtype="float32")
        xr.Dataset(
            {"2m_temperature": (("time", "latitude", "longitude"), lazy, {"units": "K"})},
            {
                "time": pd.date_range("2000-01-01", periods=count, freq="6h"),
                "latitude": np.linspace(67.5, -67.5, 4),
                "longitude": np.arange(8) * 45.0,
            },
        ).to_zarr(path, compute=False, encoding={"2m_temperature": {"chunks": (1, 4, 8)}})
        reader = FieldReader(path)
        best = np.inf
        for _ in range(20):
            start = time.perf_counter()
            reader.read("2m_temperature", slice(100, 104))
            best = min(best, time.perf_counter() - start)
        seconds[count] = best
    assert seconds[20_000] < 4 * seconds[200] + 2e-3
