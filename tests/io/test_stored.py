"""Lazy arrays that remember where their values lie give what NumPy's give, whatever xarray does to them."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io import retry
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.plain_zarr import ChunkCache, plain_arrays
from weather_scnn.io.stored import JoinedParts, StoredArray
from weather_scnn.io.stored_fields import as_stored_variable, limited, on_axis, scaled, stored_fields

SHAPE = (7, 3, 5, 8)
DIMS = ("time", "level", "latitude", "longitude")
VALUES = np.random.default_rng(0).normal(280, 5, SHAPE).astype(np.float32)


def dataset():
    axes = {
        "time": np.datetime64("2020-01-01", "ns") + np.arange(7) * np.timedelta64(6, "h"),
        "level": ("level", [500, 700, 850], {"units": "hPa"}),
        "latitude": np.linspace(-72, 72, 5),
        "longitude": np.arange(8) * 45.0,
    }
    return xr.Dataset({"temperature": (DIMS, VALUES, {"units": "K"})}, axes)


@pytest.fixture
def path(tmp_path):
    dataset().chunk(time=2, level=1).to_zarr(tmp_path / "a.zarr")
    return str(tmp_path / "a.zarr")


CHANGES = {
    "flipped": lambda x: x.isel(latitude=slice(None, None, -1)),
    "picked": lambda x: x.isel(time=[5, 1, 1], longitude=[2, 7]),
    "transposed": lambda x: x.transpose("longitude", "time", "latitude", "level").isel(longitude=slice(6, 1, -2)),
    "one level": lambda x: x.isel(level=1),
    "one level made an axis": lambda x: x.isel(level=-1).expand_dims("level"),
    "no time": lambda x: x.isel(time=[]),
    "a new axis": lambda x: x.isel(level=0, drop=True).expand_dims(number=[4], axis=1).transpose("number", ...),
    "joined and sorted": lambda x: xr.concat([x.isel(time=slice(4, None)), x.isel(time=[0, 2])], "time").sortby("time"),
    "joined and mixed": lambda x: xr.concat([x.isel(time=[0, 3, 5]), x.isel(time=[6, 1, 4, 2])], "time").sortby("time"),
    "stacked": lambda x: xr.concat([x.isel(level=k, drop=True).assign_coords(level=9 - k) for k in (2, 0)], "level")
    .isel(latitude=[3, 1]),
    "strides of strides": lambda x: x.isel(time=slice(1, 7, 2)).isel(time=slice(None, None, -1)),
    "a period": lambda x: x.sel(time=slice("2020-01-01T12", "2020-01-02T00")),
    "repeated": lambda x: x.broadcast_like(xr.DataArray(np.zeros(2), dims="new")),
    "as doubles": lambda x: x.astype(np.float64),
    "some of a mask": lambda x: x.isel(longitude=np.arange(8) % 3 == 0),
    "other levels": lambda x: on_axis(x, "level", np.array([850, 600, 500])),
    "an absent level": lambda x: on_axis(x, "level", np.array([850, 600, 500])).isel(level=1),
    "one value": lambda x: x.isel(time=3, level=0, latitude=2, longitude=-1),
    "scaled": lambda x: scaled(x.isel(time=[2, 0]), 2.0, -3.0),
    "limited": lambda x: limited(x, (275.0, 285.0)),
}  # fmt: skip


@pytest.mark.parametrize("plain", [False, True], ids=["xarray", "tensorstore"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_xarray_does_is_taken_down_and_read_later(path, change, plain):
    raw, expected = xr.open_zarr(path, chunks=None), CHANGES[change](dataset()["temperature"])
    get = plain_arrays(path, raw, 3, ChunkCache()) if plain else lambda name: None
    found = CHANGES[change](stored_fields(raw, get)["temperature"])
    assert isinstance(found.data, StoredArray) and found.dims == expected.dims
    assert all((part.plain is not None) == plain for part in found.data.parts())
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
    assert found.dtype == found.values.dtype and found.shape == found.values.shape
    lazy = as_stored_variable(found.data, found.dims, {}, {})
    if found.ndim == 4 and found.shape[0] > 1:
        np.testing.assert_array_equal(lazy[::-1, :, 0].values, found.values[::-1, :, 0])


def test_points_and_arithmetic_are_those_of_numpy(path):
    stored = stored_fields(xr.open_zarr(path, chunks=None))["temperature"]
    places = {"time": xr.DataArray([0, 3, 6], dims="event"), "latitude": xr.DataArray([4, 0, 2], dims="event")}
    xr.testing.assert_equal(stored.isel(places).load(), dataset()["temperature"].isel(places))
    np.testing.assert_array_equal((stored - stored.isel(time=0)).values, VALUES - VALUES[0])
    assert float(stored.mean()) == pytest.approx(float(VALUES.mean()), rel=1e-6)


def test_absent_entries_read_nothing(path):
    stored = stored_fields(xr.open_zarr(path, chunks=None))["temperature"]
    absent = on_axis(stored, "level", np.array([300, 400])).data
    assert isinstance(absent, JoinedParts) and (absent.which == -1).all() and np.isnan(np.asarray(absent)).all()


def test_any_number_of_threads_and_of_processes_may_read(path):
    reader = FieldReader(path)
    parts = [np.random.default_rng(seed).integers(0, 7, 3) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for part, found in zip(parts, pool.map(lambda part: reader.read("temperature", part), parts)):
            np.testing.assert_array_equal(found, VALUES[part])
    again = pickle.loads(pickle.dumps(reader.dataset))
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(again["temperature"].values, VALUES)


def test_decoded_chunks_are_kept_where_there_is_memory_for_them(path, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", ())
    kept, unkept = FieldReader(path, cache_bytes=2**20), FieldReader(path)
    for reader in (kept, unkept):
        np.testing.assert_array_equal(reader.read("temperature", slice(0, 1)), VALUES[:1])
    for level in range(3):
        (tmp_path / f"a.zarr/temperature/c/0/{level}/0/0").write_bytes(b"spoiled")
    np.testing.assert_array_equal(kept.read("temperature", slice(1, 2)), VALUES[1:2])
    with pytest.raises(
        UserError, match=r"a\.zarr: temperature cannot be read in 2020-01-01T06:2020-01-01T06 .*; fetch"
    ):
        unkept.read("temperature", slice(1, 2))
    np.testing.assert_array_equal(unkept.read("temperature", slice(2, 4)), VALUES[2:4])
