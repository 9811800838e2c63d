"""Totals since the start of a day or of a forecast, beside plain ones that must not be taken for them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.checks.checking import check_store
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader

LATITUDE = np.linspace(-90, 90, 13)
LONGITUDE = np.arange(0.0, 360.0, 15.0)
SHAPE = (LATITUDE.size, LONGITUDE.size)


def rates(name, hours, seed=0):
    """What falls or shines in every hour, in the unit of the field: (hour, y, x)."""
    rng = np.random.default_rng(seed)
    local = (np.arange(hours)[:, None] + LONGITUDE / 15)[:, None, :] + np.zeros((1, *SHAPE))
    sun = np.clip(-np.cos(local * np.pi / 12), 0, None) * np.cos(np.radians(LATITUDE))[:, None]
    wet = rng.random((hours, *SHAPE)) < 0.3
    return {
        "tp": np.where(wet, rng.gamma(0.6, 1e-3, wet.shape), 0.0),
        "sf": np.where(wet & (np.abs(LATITUDE) > 50)[:, None], rng.gamma(0.6, 3e-4, wet.shape), 0.0),
        "ssrd": 3e6 * sun,
        "tsr": 4e6 * sun,
        "strd": 1.1e6 + 2e5 * rng.random(wet.shape),
        "str": -2e5 - 1e5 * rng.random(wet.shape) + 1.2e5 * sun,
        "e": -1e-4 * sun + 1e-5 * (rng.random(wet.shape) - 0.3),
        "slhf": -1e6 * sun + 1e5 * (rng.random(wet.shape) - 0.4),
    }[name]


def running(hourly, times, starts=(0,)):
    """Totals of hourly rates since the last of some hours of the day, as they stand at times."""
    hour = pd.DatetimeIndex(times).hour.values
    cycle = 24 // len(starts)
    since = (hour - starts[0] - 1) % cycle + 1
    total = np.concatenate([np.zeros((1, *SHAPE)), np.cumsum(hourly, axis=0)])
    last = np.arange(1, len(times) + 1)
    return total[last] - total[np.maximum(last - since, 0)]


def write(path, name, values, times, units=None):
    units = units or ("m" if name in ("tp", "sf", "e") else "J m**-2")
    xr.Dataset(
        {name: (("valid_time", "latitude", "longitude"), values.astype("float32"), {"units": units})},
        {"valid_time": times, "latitude": LATITUDE, "longitude": LONGITUDE},
    ).to_netcdf(path)
    return str(path)


HOURLY = pd.date_range("2020-01-01T01:00", periods=72, freq="1h")


@pytest.mark.parametrize("name", ["tp", "sf", "ssrd", "tsr", "strd", "str", "e", "slhf"])
@pytest.mark.parametrize("starts", [(0,), (6, 18)])
def test_running_totals_become_hourly_ones_and_hourly_ones_stay(tmp_path, name, starts):
    hourly = rates(name, HOURLY.size)
    opened = open_dataset(write(tmp_path / "running.nc", name, running(hourly, HOURLY, starts), HOURLY))
    (field,) = opened.data_vars.values()
    begin = 0 if starts == (0,) else 6  # what ran before the file begins is not known
    scale = np.abs(hourly).max()
    np.testing.assert_allclose(field.values[begin:], hourly[begin:], atol=3e-6 * 24 * scale)
    assert "running_totals" in opened.attrs["adjusted"] and field.attrs["accumulation_hours"] == 1
    plain = open_dataset(write(tmp_path / "hourly.nc", name, hourly, HOURLY))
    assert "running_totals" not in plain.attrs.get("adjusted", "")
    np.testing.assert_array_equal(next(iter(plain.data_vars.values())), hourly.astype("float32"))


@pytest.mark.parametrize("interval", [3, 6])
def test_other_intervals_have_the_window_of_their_interval(tmp_path, interval):
    hourly = rates("tp", HOURLY.size)
    times, values = HOURLY[interval - 1 :: interval], running(hourly, HOURLY)[interval - 1 :: interval]
    path = write(tmp_path / "t.nc", "tp", values, times)
    opened = open_dataset(path, variables="tp")
    expected = hourly.reshape(-1, interval, *SHAPE).sum(1)
    np.testing.assert_allclose(opened[f"total_precipitation_{interval}hr"], expected, atol=1e-6)
    day = FieldReader(path, time="2020-01-02").read(f"total_precipitation_{interval}hr")
    chosen = times.normalize() == pd.Timestamp("2020-01-02")
    np.testing.assert_allclose(day, expected[chosen], atol=1e-6)  # what is to be taken off lies before the period


def test_no_rain_and_the_same_rain_are_no_running_totals(tmp_path):
    local = np.clip(np.sin(np.arange(72) * np.pi / 12), 0, None)[:, None, None]
    for number, values in enumerate((0.0, 1e-4, np.nan, 1e-4 * (np.arange(72)[:, None, None] == 30), 1e-4 * local)):
        path = write(tmp_path / f"{number}.nc", "tp", np.zeros((72, *SHAPE)) + values, HOURLY)
        assert "running" not in open_dataset(path).attrs.get("adjusted", ""), number


def test_a_store_is_told_by_check_and_made_six_hour_totals_by_regrid(tmp_path):
    hourly = rates("tp", HOURLY.size)
    dataset = xr.open_dataset(write(tmp_path / "a.nc", "tp", running(hourly, HOURLY), HOURLY)).rename(valid_time="time")
    dataset.chunk(time=1).drop_encoding().to_zarr(tmp_path / "a.zarr")
    kinds = {problem["kind"]: problem for problem in check_store(str(tmp_path / "a.zarr"), progress=False).problems}
    assert "since 00 UTC" in kinds["running_totals"]["where"]
    command = f"regrid --no-beam --input {tmp_path}/a.zarr --output {tmp_path}/b.zarr --grid 24x13 --poles --step 6h"
    result = CliRunner().invoke(app, [*command.split(), "--variables", "tp6", "--method", "nearest"])
    assert result.exit_code == 0, result.output
    with xr.open_zarr(tmp_path / "b.zarr") as made:
        np.testing.assert_allclose(made["total_precipitation_6hr"], hourly.reshape(-1, 6, *SHAPE).sum(1), atol=1e-6)
    again = open_dataset(str(tmp_path / "b.zarr"))
    assert "running" not in again.attrs.get("adjusted", "")


def test_grib_in_the_manner_of_era5_land(tmp_path, grib):
    """Steps of 1 to 24 hours of each day's forecast, as the CDS delivers them."""
    hourly = rates("tp", 48)
    total = running(hourly, HOURLY[:48])
    with open(tmp_path / "land.grib", "wb") as file:
        for day in (1, 2):
            for step in range(1, 25):
                data = total[24 * (day - 1) + step - 1][::-1]
                grib(file, "tp", data, edition=1, date=20200100 + day, stepType="accum", startStep=0, endStep=step)
    opened = open_dataset(str(tmp_path / "land.grib"))
    np.testing.assert_allclose(opened["total_precipitation"], hourly, atol=2e-6)
    assert opened.sizes["time"] == 48 and "running_totals" in opened.attrs["adjusted"]


@pytest.mark.parametrize("name", ["tp", "ssrd", "slhf"])
@pytest.mark.parametrize("interval", [1, 3])
def test_cycles_of_six_hours(tmp_path, name, interval):
    """Of forecasts every six hours, as GFS's buckets: starts at 00, 06, 12 and 18 UTC."""
    hourly = rates(name, HOURLY.size)
    total = running(hourly, HOURLY, (0, 6, 12, 18))[interval - 1 :: interval]
    field = next(
        iter(open_dataset(write(tmp_path / "t.nc", name, total, HOURLY[interval - 1 :: interval])).data_vars.values())
    )
    expected = hourly.reshape(-1, interval, *SHAPE).sum(1)
    if name == "tp" or interval == 1:
        np.testing.assert_allclose(field, expected, atol=3e-5 * np.abs(hourly).max())


def since_start(hourly, interval):
    return np.cumsum(hourly, axis=0)[interval - 1 :: interval]


@pytest.mark.parametrize("interval", [1, 3, 6])
def test_totals_since_the_start_of_a_forecast_are_refused(tmp_path, interval):
    """They would be taken for totals of one hour at each time: 36 times the rain in three days."""
    times = HOURLY[interval - 1 :: interval]
    path = write(tmp_path / "t.nc", "tp", since_start(rates("tp", HOURLY.size), interval), times)
    with pytest.raises(
        UserError, match=r"t\.nc: total_precipitation falls nowhere from 2020-01-01T0\d to 2020-01-0\dT"
    ) as refused:
        open_dataset(path)
    assert "differences" in refused.value.remedy
    (problem,) = check_store(path, progress=False).problems
    assert problem["fatal"]


def test_a_single_day_since_00_utc(tmp_path):
    """A day of ERA5-Land never falls: 01 to 24 UTC."""
    hourly = rates("tp", 24)
    opened = open_dataset(write(tmp_path / "day.nc", "tp", since_start(hourly, 1), HOURLY[:24]))
    np.testing.assert_allclose(opened["total_precipitation"], hourly, atol=2e-6)
    part = open_dataset(write(tmp_path / "part.nc", "tp", since_start(hourly, 1)[5:], HOURLY[5:24]))
    assert np.isnan(part["total_precipitation"][0]).all()
    np.testing.assert_allclose(part["total_precipitation"][1:], hourly[6:], atol=2e-6)


def test_growth_in_proportion_is_no_running_total(tmp_path):
    """What grows everywhere alike was made so; it does not tell of a start."""
    pattern = rates("tp", 1)[0]
    for number, factor in enumerate((1 + np.arange(72.0), 1 + np.arange(72) % 6, 1 + 0.01 * np.arange(72))):
        values = factor[:, None, None] * pattern
        opened = open_dataset(write(tmp_path / f"{number}.nc", "tp", values, HOURLY))
        np.testing.assert_array_equal(opened["total_precipitation"], values.astype("float32"))
