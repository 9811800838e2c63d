import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.io.initial_times import initial_times, split_init


def test_the_store_has_the_layout_that_weatherbench_2_reads(run, small_store, tmp_path):
    path = str(tmp_path / "f.zarr")
    forecast(run, small_store, path, init="2001-01-03:2001-01-04:12h", lead="54h", batch_size=3, progress=False)
    found = xr.open_zarr(path, decode_timedelta=True)
    assert found["geopotential"].dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
    assert found["prediction_timedelta"].dtype.kind == "m"
    assert found["prediction_timedelta"].values[[0, -1]].tolist() == [
        np.timedelta64(h, "h").astype("timedelta64[ns]").astype(int) for h in (6, 54)
    ]
    assert found["time"].size == 4 and found["geopotential"].dtype == np.float32
    assert all(np.isfinite(found[name]).all() for name in found.data_vars)
    # At the first lead a barely trained network is near persistence.
    truth = xr.open_zarr(small_store).sel(time=found["time"])
    error = np.abs(found["2m_temperature"].isel(prediction_timedelta=0) - truth["2m_temperature"]).max()
    assert float(error) < 10
    with pytest.raises(UserError, match="--overwrite"):
        forecast(run, small_store, path, init="2001-01-03:2001-01-04:12h", lead="54h", progress=False)


def test_a_killed_forecast_is_finished_by_the_same_command(run, small_store, tmp_path, interrupted_at):
    options = {"init": "2001-01-03:2001-01-04:12h", "lead": "12h", "batch_size": 2, "progress": False}
    whole, broken = str(tmp_path / "whole.zarr"), str(tmp_path / "broken.zarr")
    forecast(run, small_store, whole, **options)
    calls = interrupted_at(2)
    with pytest.raises(KeyboardInterrupt):
        forecast(run, small_store, broken, **options)
    assert xr.open_zarr(broken, consolidated=False).attrs["status"] == "incomplete"
    forecast(run, small_store, broken, **options)
    assert len(calls) == 3
    one, other = xr.open_zarr(whole), xr.open_zarr(broken)
    assert all(np.array_equal(one[name], other[name]) for name in one.data_vars)


def test_states_in_another_layout_give_the_same_forecast(run, small_store, tmp_path):
    """netCDF with north first, longitudes from −180, levels upward in Pa, other names and units, and fields beside."""
    store = xr.open_zarr(small_store).sel(time=slice("2001-01-03", "2001-01-04")).load()
    other = store.assign(geopotential=(store["geopotential"] / 9.80665).assign_attrs(units="gpm"))
    other["2m_temperature"] = (store["2m_temperature"] - 273.15).assign_attrs(units="degC")
    other["temperature"] = (0 * store["geopotential"] + 250).assign_attrs(units="K")
    other = other.assign_coords(longitude=(store["longitude"] + 180) % 360 - 180).sortby("longitude")
    other = other.isel(latitude=slice(None, None, -1), level=slice(None, None, -1))
    other = other.assign_coords(level=("level", 100.0 * other["level"].values, {"units": "Pa"}))
    names = {"geopotential": "gh", "2m_temperature": "t2m", "u_component_of_wind": "u", "v_component_of_wind": "v"}
    other = other.rename({**names, "time": "valid_time", "level": "pressure_level"})
    other.drop_encoding().to_netcdf(tmp_path / "states.nc")
    options = {"init": "2001-01-03:2001-01-04:12h", "lead": "12h", "batch_size": 4, "progress": False}
    for name, source in (("one", small_store), ("other", str(tmp_path / "states.nc"))):
        forecast(run, source, str(tmp_path / f"{name}.zarr"), **options)
    one, other = (xr.open_zarr(tmp_path / f"{name}.zarr").load() for name in ("one", "other"))
    for name, array in one.data_vars.items():
        assert other[name].attrs["units"] == array.attrs["units"].replace("**", "")
        np.testing.assert_allclose(other[name], array, rtol=1e-6, atol=1e-4 * float(array.std()))


def test_what_does_not_fit_is_refused(run, small_store, tmp_path):
    path = str(tmp_path / "f.zarr")
    with pytest.raises(UserError, match="no multiple"):
        forecast(run, small_store, path, init="2001-01-03", lead="7h", progress=False)
    with pytest.raises(UserError, match="no initial time"):
        forecast(run, small_store, path, init="2005-01-03", lead="12h", progress=False)
    assert not (tmp_path / "f.zarr").exists()


def test_numbers_and_outputs_that_cannot_be_are_refused(run, small_store, tmp_path):
    def fails(message, output="f.zarr", **options):
        given = {"init": "2001-01-03", "lead": "12h", "progress": False, **options}
        with pytest.raises(UserError, match=message):
            forecast(run, small_store, output if output.startswith("/") else str(tmp_path / output), **given)

    fails("a batch cannot hold 0", batch_size=0)
    fails("a batch cannot hold -1", batch_size=-1)
    fails("seed -1 is negative", seed=-1)
    fails("cannot be 0 members", members=0)
    fails("holds 2 checkpoints, not 0", checkpoints="last:0")
    fails("10 has no unit; write it as 10d or 10h", lead="10")
    fails("0h' is not a positive", lead="0h")
    fails("6 has no unit; write it as 6h", init="2001-01-03:2001-01-04:6")
    fails("end it in .zarr", output="f.nc")
    fails("the output is the --input", output=small_store, overwrite=True)
    fails("the output lies in the --input", output=f"{small_store}/f.zarr")
    fails("the output is the --workdir", output=f"{run}/", overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_initial_times():
    times = np.datetime64("2001-01-01", "ns") + np.arange(8) * np.timedelta64(6, "h")
    assert split_init("2001-01-01:2001-01-02:12h") == ("2001-01-01:2001-01-02", np.timedelta64(12, "h"))
    assert split_init("2001-01-01:2001-01-02")[1] is None
    assert len(initial_times(times, "2001-01-01:2001-01-01")) == 4
    np.testing.assert_array_equal(initial_times(times, "2001-01-01T06:2001-01-02:12h"), times[[1, 3, 5, 7]])
