"""Quantiles and SEEPS thresholds against xarray's weighted quantile, as WeatherBench 2 computes them."""

import functools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines import climatology
from pipelines.climatology import compute_climatology
from weather_scnn.io.climatology import open_climatology
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(4, 3)
WINDOW = 15


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    times = pd.date_range("1999-01-01", "2002-12-31T18", freq="12h")
    rng = np.random.default_rng(0)
    season = np.cos(2 * np.pi * times.day_of_year.values / 365.25)[:, None, None]
    rain = np.maximum(rng.gamma(0.5, 2e-3, (len(times), *GRID.shape)) * (1.2 + season) - 2e-4, 0)
    rain[:, 0, 0] = 0.0
    heat = 280 + 10 * season + rng.normal(0, 3, (len(times), *GRID.shape))
    heat[200:230, 1, 1] = np.nan
    maps = ("time", "latitude", "longitude")
    dataset = xr.Dataset(
        {
            "total_precipitation_24hr": (maps, rain.astype("float32"), {"units": "m", "long_name": "rain"}),
            "2m_temperature": (maps, heat.astype("float32"), {"units": "K", "long_name": "heat"}),
        },
        {"time": times, "latitude": GRID.latitude, "longitude": GRID.longitude},
    )
    path = str(tmp_path_factory.mktemp("quantiles") / "data.zarr")
    dataset.chunk(time=50).to_zarr(path)
    return dataset, path


@pytest.fixture(scope="module")
def windows(source):
    """Of a field and an hour: values (year, day, window, …) and weights, after WeatherBench 2's `compute_hourly_stat`."""
    return functools.cache(lambda name, hour: windowed(source[0][name].astype(float), hour))


def windowed(array, hour):
    array = array.sel(time=array.time.dt.hour == hour)
    years = []
    for _, year in array.groupby("time.year"):
        years.append(year.assign_coords(time=year.time.dt.dayofyear).rename(time="dayofyear"))
    stacked = xr.concat(years, dim="year", join="outer").reindex(dayofyear=np.arange(1, 367))
    last = stacked.sel(dayofyear=366).fillna(stacked.sel(dayofyear=365))
    stacked = xr.where(stacked.dayofyear == 366, last, stacked).transpose("year", "dayofyear", ...)
    half = WINDOW // 2
    stacked = stacked.pad(dayofyear=half, mode="wrap").rolling(dayofyear=WINDOW, center=True).construct("window")
    ramp = np.linspace(0, 1, half + 1)
    weights = xr.DataArray(np.concatenate([ramp, ramp[-2::-1]]), dims="window")
    return stacked.isel(dayofyear=slice(half, half + 366)), weights


@pytest.mark.parametrize("budget", [None, pytest.param(8000, marks=pytest.mark.slow)])
def test_the_numbers_of_weatherbench2(source, windows, tmp_path, monkeypatch, budget):
    _, path = source
    if budget:
        monkeypatch.setattr(climatology, "_BYTES_PER_ITEM", budget)
    output = str(tmp_path / "clim.zarr")
    compute_climatology(
        path,
        output,
        time=None,
        window=WINDOW,
        calendar="day-of-year",
        quantiles=[0.95, 0.05],
        no_beam=True,
        progress=False,
    )
    result = open_climatology(output)
    assert result["2m_temperature_quantile"].dims == ("hour", "quantile", "dayofyear", "latitude", "longitude")
    assert result["quantile"].values.tolist() == [0.05, 0.95]
    dims = ("year", "window")
    for hour, day in ((0, 1), (12, 100), (0, 110), (12, 200), (0, 366)):
        ours = result.sel(hour=hour, dayofyear=day)
        (heat, weights), (rain, _) = (windows(name, hour) for name in ("2m_temperature", "total_precipitation_24hr"))
        heat, rain = heat.isel(dayofyear=day - 1), rain.isel(dayofyear=day - 1)
        expected = heat.weighted(weights).quantile([0.05, 0.95], dim=dims)
        np.testing.assert_allclose(ours["2m_temperature_quantile"], expected, rtol=1e-6)
        fraction = (rain < 0.25e-3).mean(dims)
        heavy = rain.where(rain >= 0.25e-3).weighted(weights).quantile(2 / 3, dim=dims)
        np.testing.assert_allclose(ours["total_precipitation_24hr_seeps_dry_fraction"], fraction, rtol=1e-6)
        np.testing.assert_allclose(ours["total_precipitation_24hr_seeps_threshold"], heavy, rtol=1e-5)
        assert np.isnan(ours["total_precipitation_24hr_seeps_threshold"][0, 0])  # a point where it never rains


def test_a_window_of_one_day_is_that_day(source, tmp_path):
    dataset, path = source
    output = str(tmp_path / "clim.zarr")
    compute_climatology(
        path,
        output,
        time=None,
        window=1,
        variables=["2m_temperature"],
        quantiles=[0, 0.5, 1],
        no_beam=True,
        progress=False,
    )
    result = open_climatology(output)["2m_temperature_quantile"].sel(hour=12, dayofyear=200)
    same = dataset["2m_temperature"].sel(time=[f"{year}-07-18T12" for year in (1999, 2000, 2001, 2002)])
    np.testing.assert_allclose(result, same.quantile([0, 0.5, 1], "time"), rtol=1e-6)
