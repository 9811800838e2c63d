"""Hourly surface fields beside 6-hourly fields on levels, as people download them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.checks.checking import check_store
from weather_scnn.cli import app
from weather_scnn.io.field_reader import FieldReader

LATITUDE, LONGITUDE = np.linspace(-90, 90, 7), np.arange(0.0, 360.0, 30.0)
HOURS = pd.date_range("2020-01-01", periods=49, freq="1h")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of a temperature on levels every 6 h, of rain and 2 m temperature every hour."""
    place = tmp_path_factory.mktemp("download")
    coords = {"latitude": LATITUDE, "longitude": LONGITUDE}
    rain = np.random.default_rng(0).gamma(0.5, 1e-3, (49, 7, 12))
    dims = ("time", "latitude", "longitude")
    surface = {"tp": (dims, rain.astype("f4"), {"units": "m"}), "t2m": (dims, 280 + rain, {"units": "K"})}
    xr.Dataset(surface, {"time": HOURS, **coords}).to_netcdf(place / "surface.nc")
    warm = 250 + np.random.default_rng(1).random((9, 2, 7, 12))
    levels = {"t": (("time", "level", *dims[1:]), warm.astype("f4"), {"units": "K"})}
    xr.Dataset(levels, {"time": HOURS[::6], "level": [500, 850], **coords}).to_netcdf(place / "levels.nc")
    return place, rain


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_totals_are_made_of_the_hourly_ones(folder, tmp_path):
    place, rain = folder
    names = "temperature,2m_temperature,total_precipitation_6hr"
    expected = rain[1:].reshape(8, 6, 7, 12).sum(1)
    lazy = FieldReader(str(place), variables=names, step="6h").dataset
    assert list(lazy.data_vars) == names.split(",") and lazy.sizes["time"] == 8
    np.testing.assert_allclose(lazy["total_precipitation_6hr"], expected, rtol=1e-5)
    command = ["--no-beam", "--input", place, "--variables", names]
    run(
        "regrid",
        *command,
        "--output",
        tmp_path / "r.zarr",
        "--grid",
        "12x7",
        "--poles",
        "--method",
        "nearest",
        "--step",
        "6h",
    )
    with xr.open_zarr(tmp_path / "r.zarr") as made:
        np.testing.assert_allclose(made["total_precipitation_6hr"], expected, rtol=1e-5)
        assert made["temperature"].shape == (8, 2, 7, 12) and made["2m_temperature"].shape == (8, 7, 12)
    run("stats", *command, "--output", tmp_path / "s.nc", "--step", "6h")
    with xr.open_dataset(tmp_path / "s.nc") as found:
        assert set(found.data_vars) == set(names.split(","))
        assert found["total_precipitation_6hr"].sel(statistic="count") == 8 * 84
    run("climatology", *command, "--output", tmp_path / "c.zarr")
    with xr.open_zarr(tmp_path / "c.zarr") as found:
        assert list(found.hour.values) == [0, 6, 12, 18] and "total_precipitation_6hr_seeps_threshold" in found


def test_check_reads_every_time_of_every_field(folder):
    place, _ = folder
    report = check_store(str(place), progress=False)
    rows = {row["name"]: row for row in report.variables}
    assert rows["total_precipitation"]["step"] == "1h" and rows["total_precipitation"]["shape"][0] == 49
    assert rows["temperature"]["step"] == "6h" and rows["temperature"]["shape"][0] == 9
    kinds = {problem["kind"]: problem for problem in report.problems}
    assert "accumulation_window" not in kinds and "unshared_times" not in kinds
    assert "every 1h" in kinds["own_steps"]["where"] and "every 6h" in kinds["own_steps"]["where"]
