"""Axes as servers and tools write them: numbered names, dates as text or as digits, groups, units that are none."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.checks.checking import check_store
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io.coverage import missing_poles
from weather_scnn.io.datasets import open_dataset

LATITUDE = np.linspace(90.0, -90.0, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
TIMES = pd.date_range("2020-01-30", periods=8, freq="6h")
FIELD = (280 + np.arange(8 * 7 * 12).reshape(8, 7, 12) % 11).astype("f4")


def temperatures(times=TIMES, attributes=None):
    return xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), FIELD, {"units": "K"})},
        {"time": ("time", times, attributes or {}), "latitude": LATITUDE, "longitude": LONGITUDE},
    )


def test_numbered_axes_of_thredds_servers(tmp_path):
    heights = np.broadcast_to(np.array([5600.0, 1500.0])[:, None, None], (8, 2, 7, 12)) + FIELD[:, None]
    xr.Dataset(
        {"zg": (("time1", "isobaric3", "lat", "lon"), heights.astype("f4"), {"units": "gpm"})},
        {
            "time1": ("time1", TIMES),
            "isobaric3": ("isobaric3", [50000.0, 85000.0], {"units": "Pa"}),
            "lat": ("lat", LATITUDE),
            "lon": ("lon", LONGITUDE),
        },
    ).to_netcdf(tmp_path / "a.nc")
    field = open_dataset(str(tmp_path / "a.nc"))["geopotential"]
    np.testing.assert_array_equal(field["level"], [500, 850])
    np.testing.assert_array_equal(field["time"], TIMES)
    np.testing.assert_allclose(field.sel(level=850), 9.80665 * (1500 + FIELD[:, ::-1]), rtol=1e-6)


def test_a_field_on_an_unknown_axis_alone_is_told_by_its_axis(tmp_path):
    temperatures().rename(time="pass").to_netcdf(tmp_path / "a.nc")
    with pytest.raises(UserError, match="t2m: dimension pass is not understood"):
        open_dataset(str(tmp_path / "a.nc"))


WRITTEN = {
    "iso": ([f"{time:%Y-%m-%dT%H:%M:%S}" for time in TIMES], {}),
    "blank": ([f"{time:%Y-%m-%d %H}" for time in TIMES], {}),
    "digits": ([f"{time:%Y%m%d%H}" for time in TIMES], {}),
    "cdo": (TIMES.year * 10000.0 + TIMES.month * 100 + TIMES.day + TIMES.hour / 24, {"units": "day as %Y%m%d.%f"}),
}


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("store", ["netcdf", "zarr"])
def test_times_as_text_and_as_dates(tmp_path, kind, store):
    dataset, path = temperatures(*WRITTEN[kind]), str(tmp_path / "a")
    dataset.to_netcdf(path + ".nc") if store == "netcdf" else dataset.to_zarr(path + ".zarr", zarr_format=2)
    opened = open_dataset(path + (".nc" if store == "netcdf" else ".zarr"))
    np.testing.assert_array_equal(opened["time"], TIMES)
    np.testing.assert_array_equal(opened["2m_temperature"], FIELD[:, ::-1])


@pytest.mark.parametrize("text", ["31/01/2020", "20200230", "Jan 2020"])
def test_text_that_is_no_date(tmp_path, text):
    temperatures([text] * 8).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(UserError, match="the times are text") as refused:
        open_dataset(str(tmp_path / "a.nc"))
    assert "2020-01-31T06:00" in refused.value.remedy


LEVELS = {
    "ln(Pa)": ([11.5129, 10.8198], "not pressures"),
    "FL": ([100.0, 200.0], "not pressures"),
    "Pa": ([1000.0, 850.0, 500.0], "look like hPa"),
}


@pytest.mark.parametrize("units", LEVELS)
def test_units_of_levels_are_never_guessed(tmp_path, units):
    values, message = LEVELS[units]
    data = np.repeat(FIELD[:, None], len(values), axis=1)
    dataset = xr.Dataset(
        {"t": (("time", "level", "latitude", "longitude"), data, {"units": "K"})},
        {"time": TIMES, "level": ("level", values, {"units": units}), "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    dataset.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(UserError, match=message):
        open_dataset(str(tmp_path / "a.nc"))


def test_units_of_pressure_said_twice(tmp_path):
    for number, units in enumerate(("hPa (millibars)", "mb/hPa", "hPa.")):
        dataset = xr.Dataset(
            {"t": (("time", "level", "latitude", "longitude"), FIELD[:, None], {"units": "K"})},
            {
                "time": TIMES,
                "level": ("level", [850.0], {"units": units}),
                "latitude": LATITUDE,
                "longitude": LONGITUDE,
            },
        )
        dataset.to_netcdf(tmp_path / f"{number}.nc")
        assert open_dataset(str(tmp_path / f"{number}.nc"))["level"].values.tolist() == [850], units


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_group_of_a_zarr_store_has_the_coordinates_above_it(tmp_path, zarr_format):
    path, dataset = str(tmp_path / "a.zarr"), temperatures()
    dataset[["latitude", "longitude"]].to_zarr(path, zarr_format=zarr_format)
    inner = dataset.drop_vars(["latitude", "longitude"])
    inner.to_zarr(path, group="atmosphere/surface", zarr_format=zarr_format, mode="a")
    opened = open_dataset(f"{path}/atmosphere/surface")
    np.testing.assert_array_equal(opened["2m_temperature"], FIELD[:, ::-1])
    np.testing.assert_array_equal(opened["latitude"], LATITUDE[::-1])
    np.testing.assert_array_equal(opened["longitude"], LONGITUDE)


def test_check_prints_json_of_what_no_selection_makes_readable(tmp_path):
    path = tmp_path / "a.nc"
    temperatures().rename(time="pass").to_netcdf(path)
    result = CliRunner().invoke(app, ["check", "--json", "--input", str(path), "--variables", "t2m"])
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and report["problems"][0]["kind"] == "unreadable"
    temperatures().to_netcdf(tmp_path / "b.nc")
    result = CliRunner().invoke(app, ["check", "--json", "--input", str(tmp_path / "b.nc"), "--variables", "msl"])
    assert result.exit_code == 1 and not result.stdout


def test_a_pole_row_that_is_not_there_is_told(tmp_path):
    """Cells of the outermost row then reach to the pole, as those of FourCastNet's 720 rows do: no error."""
    temperatures().isel(latitude=slice(0, 6)).to_netcdf(tmp_path / "a.nc")
    report = check_store(str(tmp_path / "a.nc"), progress=False)
    (problem,) = [each for each in report.problems if each["kind"] == "missing_poles"]
    assert report.usable and "60° south" in problem["where"]
    gaussian = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))
    for latitude in (LATITUDE[::-1], np.arange(-88.75, 90, 2.5), gaussian):
        assert missing_poles(latitude) == ""
