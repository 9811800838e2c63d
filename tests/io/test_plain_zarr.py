"""Stores read by TensorStore hold what xarray's own reader finds in them, or are left to it."""

import numpy as np
import pytest
import xarray as xr

from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.io.stored_fields import as_stored_variable


def opened(path, **options):
    """A store with its fields as xarray's lazy variables, each read by TensorStore where it can be."""
    ((_, raw),) = open_raw(find_source(str(path)), decode_timedelta=False, **options)
    fields = {n: as_stored_variable(v.data, v.dims, v.attrs, v.encoding) for n, v in raw.items() if v.ndim > 1}
    return raw.assign(fields)


def by_tensorstore(path, name="temperature"):
    """Whether TensorStore reads a field."""
    ((_, raw),) = open_raw(find_source(str(path)), decode_timedelta=False)
    plain = getattr(raw[name].data, "plain", None)
    return plain is not None and plain.ask((slice(0, 1),) * raw[name].ndim) is not None


@pytest.fixture
def fields():
    rng = np.random.default_rng(0)
    dims = ("time", "hour", "latitude", "longitude")
    values = rng.normal(size=(7, 2, 5, 8)).astype(np.float32)
    values[3, 1, 2, 4] = np.nan
    period = np.abs(values[:, 0])
    coordinates = {
        "time": np.datetime64("2020-01-01", "ns") + np.arange(7) * np.timedelta64(6, "h"),
        "hour": ("hour", [0, 12], {"units": "hours"}),
        "latitude": np.linspace(90, -90, 5),
        "longitude": np.arange(8) * 45.0,
    }
    variables = {
        "temperature": (dims, values, {"units": "K"}),
        "wave_period": (("time", "latitude", "longitude"), period, {"units": "s"}),
    }
    return xr.Dataset(variables, coordinates, {"note": "attributes stay"})


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_any_selection_is_what_xarray_reads(tmp_path, fields, zarr_format, consolidated):
    path = str(tmp_path / "a.zarr")
    encoding = {"temperature": {"chunks": (3, 1, 5, 8)}, "wave_period": {"chunks": (2, 2, 3)}}
    fields.to_zarr(path, zarr_format=zarr_format, consolidated=consolidated, encoding=encoding)
    theirs = xr.open_dataset(path, engine="zarr", chunks=None, decode_timedelta=False, consolidated=consolidated)
    assert by_tensorstore(path)
    ours = opened(path)
    xr.testing.assert_identical(ours, theirs)
    assert ours["hour"].dtype == np.int64 and ours["wave_period"].attrs["units"] == "s"
    assert ours["temperature"].encoding["preferred_chunks"] == {"time": 3, "hour": 1, "latitude": 5, "longitude": 8}
    for selection in (
        {"latitude": slice(None, None, -1), "time": 2},
        {"latitude": slice(3, None, -2), "longitude": [5, 1, 1]},
        {"time": [4, 0], "hour": [1]},
        {"time": slice(5, 99), "longitude": slice(0, 0)},
        {"hour": -1, "time": xr.DataArray([0, 6, 2], dims="event"), "latitude": xr.DataArray([4, 0, 1], dims="event")},
    ):
        part = ours["temperature"].isel(selection)
        xr.testing.assert_identical(part, theirs["temperature"].isel(selection))
        turned = ours.isel(latitude=slice(None, None, -1))["temperature"].isel(selection)
        np.testing.assert_array_equal(turned.values, fields["temperature"].values[:, :, ::-1][_key(fields, selection)])


def _key(fields, selection):
    array = fields["temperature"].drop_vars(list(fields.coords))
    numbers = xr.DataArray(np.arange(array.size).reshape(array.shape), dims=array.dims).isel(selection)
    return np.unravel_index(numbers.values, array.shape)


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path, fields):
    path = str(tmp_path / "a.zarr")
    encoding = {"temperature": {"chunks": (1, 2, 5, 8)}}
    fields[["temperature"]].chunk(time=1).to_zarr(path, compute=False, encoding=encoding)
    fields[["temperature"]].isel(time=slice(2, 3)).drop_vars(["latitude", "longitude", "hour"]).to_zarr(
        path, region={"time": slice(2, 3)}
    )
    values = opened(path)["temperature"].values
    np.testing.assert_array_equal(values[2], fields["temperature"].values[2])
    assert np.isnan(np.delete(values, 2, axis=0)).all()


def test_what_is_not_stored_as_it_is_meant_is_left_to_xarray(tmp_path, fields):
    packed = {"temperature": {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -32768}}
    marked = {"temperature": {"_FillValue": np.float32(-999.0)}}
    fields["temperature"].encoding.clear()
    for number, encoding in enumerate((packed, marked)):
        fields.to_zarr(tmp_path / f"{number}.zarr", encoding=encoding)
        assert not by_tensorstore(tmp_path / f"{number}.zarr")
    fields.to_netcdf(tmp_path / "a.nc")
    assert not by_tensorstore(tmp_path / "a.nc")
    fields.to_zarr("memory://a.zarr")
    assert not by_tensorstore("memory://a.zarr")


def test_a_path_from_here_and_one_with_a_scheme(tmp_path, fields, monkeypatch):
    fields.to_zarr(tmp_path / "a.zarr")
    monkeypatch.chdir(tmp_path)
    for path in ("a.zarr", f"file://{tmp_path}/a.zarr", f"{tmp_path}/a.zarr/"):
        assert by_tensorstore(path)
        xr.testing.assert_equal(opened(path).load(), fields)


def test_of_repeated_times_the_first_is_read(tmp_path, fields):
    repeated = (
        fields[["temperature"]]
        .isel(hour=0, drop=True)
        .drop_vars("temperature")
        .assign({"2m_temperature": fields["temperature"].isel(hour=0, drop=True) + 280.0})
    )
    times = repeated["time"].values.copy()
    times[5] = times[2]
    repeated = repeated.assign_coords(time=times, latitude=np.linspace(72, -72, 5))
    repeated.to_zarr(tmp_path / "a.zarr", encoding={"2m_temperature": {"chunks": (1, 5, 8)}})
    dataset = open_dataset(str(tmp_path / "a.zarr"))
    assert dataset.sizes["time"] == 6
    values = FieldReader(str(tmp_path / "a.zarr")).read("2m_temperature")
    expected = dataset["2m_temperature"].transpose("time", "latitude", "longitude").values
    np.testing.assert_array_equal(values, expected)
