"""The convention of WeatherBench 1, against its formulas (`score.py` of its repository) written out."""

import numpy as np
import pytest
import xarray as xr

from eval.scoring import score
from weather_scnn.sphere.grid import Grid


def weighted_rmse(forecast, truth):
    weights = np.cos(np.deg2rad(truth.latitude))
    weights /= weights.mean()
    return float(np.sqrt(((forecast - truth) ** 2 * weights).mean()))


def weighted_mae(forecast, truth):
    weights = np.cos(np.deg2rad(truth.latitude))
    weights /= weights.mean()
    return float((np.abs(forecast - truth) * weights).mean())


def weighted_acc(forecast, truth, all_truth):
    clim = all_truth.mean("time")
    fa, a = forecast - clim, truth - clim
    weights = np.cos(np.deg2rad(truth.latitude))
    weights /= weights.mean()
    fa_prime, a_prime = fa - fa.mean(), a - a.mean()
    return float(
        np.sum(weights * fa_prime * a_prime) / np.sqrt(np.sum(weights * fa_prime**2) * np.sum(weights * a_prime**2))
    )


@pytest.fixture(scope="module")
def stores(make, tmp_path_factory):
    """Two years of truth, 12-hourly, and forecasts from every third init time of the second."""
    folder = tmp_path_factory.mktemp("wb1")
    grid = Grid.equiangular(8, 4)
    space = {"latitude": grid.latitude, "longitude": grid.longitude}
    times = np.arange("2016-01-01T00", "2018-01-05T00", np.timedelta64(12, "h"), dtype="datetime64[h]").astype(
        "datetime64[ns]"
    )
    rng = np.random.default_rng(0)
    season = (
        10 * np.cos(2 * np.pi * np.arange(times.size) / 730)[:, None, None] * np.sin(np.radians(grid.latitude))[:, None]
    )
    values = (280 + season + rng.normal(size=(times.size, *grid.shape))).astype(np.float32)
    truth = xr.Dataset({"2m_temperature": (("time", *space), values, {"units": "K"})}, {"time": times, **space})
    leads = np.array([24, 72]) * np.timedelta64(1, "h").astype("timedelta64[ns]")
    inits = times[(times >= np.datetime64("2017-01-01")) & (times < np.datetime64("2018-01-01"))][::3]
    position = np.searchsorted(times, inits[:, None] + leads)
    predicted = values[position] + rng.normal(size=(*position.shape, *grid.shape)).astype(np.float32)
    dims = ("time", "prediction_timedelta", *space)
    forecast = xr.Dataset(
        {"2m_temperature": (dims, predicted, {"units": "K"})}, {"time": inits, "prediction_timedelta": leads, **space}
    )
    return (
        truth,
        forecast,
        make.write(truth.chunk(time=100), folder / "t.zarr"),
        make.write(forecast, folder / "f.zarr"),
    )


def test_against_the_formulas_written_out(stores, tmp_path):
    truth, forecast, truth_path, forecast_path = stores
    scores = score(
        forecast_path,
        truth_path,
        str(tmp_path / "s.nc"),
        convention="weatherbench1",
        baselines=["persistence", "climatology", "weekly-climatology"],
        bootstrap=100,
        progress=False,
    )["2m_temperature"].sel(region="global")
    test, past = (truth["2m_temperature"].astype(float).sel(time=period) for period in ("2017", "2016"))
    weekly = past.groupby(past["time"].dt.isocalendar().week).mean("time")
    for number, lead in enumerate(forecast["prediction_timedelta"].values):
        valid = forecast["time"].values + lead
        inside = valid < np.datetime64("2018-01-01")  # its truth ends with the test years
        observed = truth["2m_temperature"].astype(float).sel(time=valid[inside])
        weeks = np.minimum(observed["time"].dt.isocalendar().week, 52)
        weeks = weeks.where(weeks.isin(weekly["week"]), 52)
        fields = {
            "model": forecast["2m_temperature"].astype(float).isel(prediction_timedelta=number, time=inside),
            "persistence": truth["2m_temperature"].astype(float).sel(time=forecast["time"].values[inside]),
            "climatology": past.mean("time").expand_dims(time=observed["time"]),
            "weekly-climatology": weekly.sel(week=weeks),
        }
        for system, field in fields.items():
            field = field.assign_coords(time=observed["time"])
            row = scores.sel(system=system).isel(lead_time=number)
            assert float(row.sel(metric="rmse")) == pytest.approx(weighted_rmse(field, observed), rel=1e-6)
            assert float(row.sel(metric="mae")) == pytest.approx(weighted_mae(field, observed), rel=1e-6)
            if system == "climatology":  # its anomalies are one map, whose correlation is all sampling
                continue
            assert float(row.sel(metric="acc")) == pytest.approx(weighted_acc(field, observed, test), rel=1e-5)


def test_it_differs_from_weatherbench_2(stores, tmp_path):
    _, _, truth_path, forecast_path = stores
    first, second = (
        score(forecast_path, truth_path, str(tmp_path / f"{name}.nc"), convention=name, bootstrap=0, progress=False)
        for name in ("weatherbench1", "weatherbench2")
    )
    a, b = (float(each["2m_temperature"].sel(metric="rmse")[0, 0, 0]) for each in (first, second))
    assert a != b and a == pytest.approx(b, rel=0.05)
    assert first.attrs["convention"] == "weatherbench1" and "cos(latitude)" in first.attrs["formula"]
