"""The climatology against a brute-force sum over every day of every year."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines import climatology
from pipelines.climatology import compute_climatology
from pipelines.climatology_windows import smoothing_matrix, window_weights
from weather_scnn.errors import UserError
from weather_scnn.io.climatology import day_numbers, open_climatology
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(4, 2)


def make_dataset(times, seed=0):
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * pd.DatetimeIndex(times).day_of_year.values / 365.25
    season = 280 + 15 * np.cos(phase)[:, None, None, None]
    values = season + 3 * rng.standard_normal((len(times), 2, *GRID.shape))
    return xr.Dataset(
        {
            "temperature": (
                ("time", "level", "latitude", "longitude"),
                values.astype(np.float32),
                {"units": "K", "long_name": "Temperature"},
            ),
            "land_sea_mask": (("latitude", "longitude"), np.ones(GRID.shape, np.float32), {"units": "(0 - 1)"}),
        },
        coords={"time": times, "level": [500, 850], "latitude": GRID.latitude, "longitude": GRID.longitude},
    )


def position(time, calendar):
    if calendar == "day-of-year":
        return time.day_of_year
    return pd.Timestamp(2000, time.month, time.day).day_of_year


def brute_force(dataset, hour, day, window, calendar):
    """Mean and standard deviation with the weight of each single time written out."""
    half = window // 2
    weights, values = [], []
    for index, time in enumerate(pd.DatetimeIndex(dataset["time"].values)):
        if time.hour != hour:
            continue
        places = [position(time, calendar)]
        if calendar == "day-of-year" and not time.is_leap_year and places[0] == 365:
            places.append(366)
        for place in places:
            apart = min((place - day) % 366, (day - place) % 366)
            if apart < max(half, 1):
                weights.append(1 - apart / max(half, 1))
                values.append(dataset["temperature"].values[index].astype(np.float64))
    weights, values = np.array(weights)[:, None, None, None], np.array(values)
    weights = np.where(np.isfinite(values), weights, 0.0)
    values = np.where(np.isfinite(values), values, 0.0)
    mean = (weights * values).sum(0) / weights.sum(0)
    return mean, np.sqrt((weights * (values - mean) ** 2).sum(0) / weights.sum(0))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    times = pd.date_range("1999-01-01", "2002-12-31T18", freq="12h").values
    dataset = make_dataset(times)
    dataset["temperature"][100:104, 0, 1, 2] = np.nan
    path = tmp_path_factory.mktemp("climatology") / "data.zarr"
    dataset.chunk(time=200).to_zarr(path)
    return dataset, str(path)


@pytest.mark.parametrize(
    ("budget", "calendar"),
    [
        (None, "month-day"),
        (40_000, "day-of-year"),
        pytest.param(None, "day-of-year", marks=pytest.mark.slow),
        pytest.param(40_000, "month-day", marks=pytest.mark.slow),
    ],
)
def test_against_brute_force(source, tmp_path, monkeypatch, calendar, budget):
    if budget:  # several pieces of days, levels and latitudes
        monkeypatch.setattr(climatology, "_BYTES_PER_ITEM", budget)
        monkeypatch.setattr(climatology, "_BYTES_PER_CHUNK", 1000)
    dataset, path = source
    output = str(tmp_path / "clim.zarr")
    compute_climatology(path, output, time=None, window=21, calendar=calendar, progress=False)
    result = open_climatology(output)
    assert result["temperature"].dims == ("hour", "dayofyear", "level", "latitude", "longitude")
    assert set(result.data_vars) == {"temperature", "temperature_std"}
    assert result["hour"].values.tolist() == [0, 12] and result.sizes["dayofyear"] == 366
    assert result.attrs["calendar"] == calendar and result["temperature"].dtype == np.float32
    for hour, day in ((0, 1), (12, 3), (0, 59), (0, 60), (12, 61), (12, 200), (0, 365), (12, 366)):
        mean, std = brute_force(dataset, hour, day, 21, calendar)
        ours = result.sel(hour=hour, dayofyear=day)
        np.testing.assert_allclose(ours["temperature"], mean, rtol=1e-6)
        np.testing.assert_allclose(ours["temperature_std"], std, rtol=1e-5)


def test_calendar_days_line_up_and_the_leap_day_uses_its_neighbours(tmp_path):
    """Common years only: 29 February has no sample of its own, 1 March has one a year."""
    times = pd.date_range("2001-01-01", "2002-12-31", freq="1D").values
    dataset = make_dataset(times)
    path = str(tmp_path / "data.zarr")
    dataset.to_zarr(path)
    compute_climatology(path, str(tmp_path / "clim.zarr"), time=None, window=5, no_beam=True, progress=False)
    result = open_climatology(str(tmp_path / "clim.zarr"))
    assert result["month"].values[[58, 59, 60]].tolist() == [2, 2, 3]
    assert result["day"].values[[58, 59, 60]].tolist() == [28, 29, 1]
    around = dataset["temperature"].sel(time=["2001-02-28", "2001-03-01", "2002-02-28", "2002-03-01"]).mean("time")
    leap, *_ = day_numbers(np.array(["2004-02-29"], "datetime64[D]"), "month-day")
    np.testing.assert_allclose(result["temperature"].sel(hour=0, dayofyear=leap), around, rtol=1e-6)
    first_of_march = day_numbers(np.array(["2003-03-01", "2004-03-01"], "datetime64[D]"), "month-day")
    assert first_of_march[0] == first_of_march[1]


def test_less_than_a_year_leaves_the_other_days_missing(tmp_path, caplog):
    times = pd.date_range("2001-03-01", "2001-04-30", freq="1D").values
    dataset = make_dataset(times)
    path, output = str(tmp_path / "data.zarr"), str(tmp_path / "clim.zarr")
    dataset.to_zarr(path)
    compute_climatology(path, output, time=None, window=11, no_beam=True, progress=False)
    result = open_climatology(output)
    has_data = np.isfinite(result["temperature"].isel(hour=0, level=0, latitude=0, longitude=0).values)
    assert has_data[60] and not has_data[300]
    assert result.attrs["days_without_data"] == int((~has_data).sum())
    assert "no data" in caplog.text


def test_an_interrupted_run_is_finished(source, tmp_path, monkeypatch):
    _, path = source
    whole, broken = str(tmp_path / "whole.zarr"), str(tmp_path / "broken.zarr")
    arguments = dict(time="1999-01-01:1999-12-31", window=21, progress=False)
    compute_climatology(path, whole, **arguments)
    smooth, hours = climatology.sums_of_days, []

    def fails_the_third_time(*arguments, **options):
        hours.append(options["output_days"][0])
        if len(hours) == 3:
            raise OSError(28, "No space left on device")
        return smooth(*arguments, **options)

    monkeypatch.setattr(climatology, "_BYTES_PER_ITEM", 40_000)
    with monkeypatch.context() as patch:
        patch.setattr(climatology, "sums_of_days", fails_the_third_time)
        with pytest.raises(UserError, match="free some space"):
            compute_climatology(path, broken, beam_options=["--direct_num_workers=1"], **arguments)
    with pytest.raises(UserError, match="unfinished"):
        open_climatology(broken)
    finished = {chunk: chunk.stat().st_mtime_ns for chunk in pathlib.Path(broken).rglob("c/*/*/*") if chunk.is_file()}
    finished |= {chunk: chunk.stat().st_mtime_ns for chunk in pathlib.Path(broken, "temperature").rglob("*/*/*/*/*")}
    assert finished
    compute_climatology(path, broken, **arguments)
    assert {chunk: chunk.stat().st_mtime_ns for chunk in finished} == finished
    xr.testing.assert_allclose(open_climatology(broken).drop_attrs(), open_climatology(whole).drop_attrs(), rtol=1e-6)


def test_windows():
    np.testing.assert_allclose(window_weights(5), [0, 0.5, 1, 0.5, 0])
    np.testing.assert_allclose(window_weights(1), [1])
    matrix = smoothing_matrix(np.array([1, 366]), 5)
    assert matrix[0, [365, 0, 1]].tolist() == [0.5, 1, 0.5] and matrix[1, [364, 365, 0]].tolist() == [0.5, 1, 0.5]
    for wrong in (0, 4, -3, 501):
        with pytest.raises(UserError, match="odd number"):
            window_weights(wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": "2030-01-01:2031-01-01"}, "2030"),
        ({"time": None, "calendar": "moon"}, "no calendar"),
        ({"time": None, "variables": ["land_sea_mask"]}, "no field over time"),
    ],
)
def test_bad_requests(source, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        compute_climatology(source[1], str(tmp_path / "clim.zarr"), progress=False, **arguments)
    assert not (tmp_path / "clim.zarr").exists()
