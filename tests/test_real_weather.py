"""The benchmark on real analyses: its regression solves what is linear, its errors are those of the definition."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
import xarray as xr

from weather_scnn.sphere import Grid

ROOT = pathlib.Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("real_weather", ROOT / "benchmarks" / "real_weather.py")
real_weather = importlib.util.module_from_spec(spec)
sys.modules["real_weather"] = real_weather
spec.loader.exec_module(real_weather)

GRID = Grid.from_name("64x32")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three waves that travel at speeds of their own, with a little noise; z at 500 and t at 850 hPa alone."""
    times = np.datetime64("2021-02-14", "ns") + np.arange(120) * np.timedelta64(6, "h")
    rng, hours = np.random.default_rng(0), 6.0 * np.arange(120)[:, None, None]
    latitude, longitude = np.radians(GRID.latitude)[:, None], np.radians(GRID.longitude)
    waves = sum(
        size * np.cos(latitude) ** order * np.cos(order * (longitude - speed * hours))
        for order, speed, size in ((1, 0.004, 1.0), (3, 0.009, 0.7), (5, 0.012, 0.5))
    )
    waves = waves + 0.01 * rng.standard_normal(waves.shape)
    absent = np.full_like(waves, np.nan)
    dims = ("time", "level", "latitude", "longitude")
    dataset = xr.Dataset(
        {
            "geopotential": (dims, np.stack([55000 + 1000 * waves, absent], 1).astype(np.float32), {"units": "m2 s-2"}),
            "temperature": (dims, np.stack([absent, 280 + 5 * waves], 1).astype(np.float32), {"units": "K"}),
        },
        {"time": times, "level": [500, 850], "latitude": GRID.latitude, "longitude": GRID.longitude},
    )
    path = str(tmp_path_factory.mktemp("real") / "waves.zarr")
    dataset.to_zarr(path)
    return path


def test_the_regression_forecasts_linear_waves(store):
    period, init = "2021-02-14:2021-03-08", np.datetime64("2021-03-10", "ns") + np.arange(4) * np.timedelta64(6, "h")
    forecast = real_weather.ridge_forecast(store, period, init)
    assert forecast["geopotential"].dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
    found = real_weather.errors({"ridge": forecast}, store)
    for field, own in found["ridge"].items():
        assert max(own) < 0.5, field
    with xr.open_zarr(store) as truth:
        start, end = (truth["temperature"].sel(level=850, time=init + np.timedelta64(h, "h")).values for h in (0, 24))
    weights = np.broadcast_to(GRID.area_weights[:, None], GRID.shape)
    expected = np.sqrt(np.mean([np.average((a - b) ** 2, weights=weights) for a, b in zip(start, end)]))
    assert found["persistence"]["temperature"][1] == pytest.approx(expected, rel=1e-4)


def test_planar_and_spherical_networks_have_equal_parameters():
    from weather_scnn.training.channels import Channels
    from weather_scnn.training.checkpoints import parameter_count
    from weather_scnn.training.rollout import build, take_apart

    config = real_weather.gfs_z500_t850.get_config()
    channels = Channels.from_config(config.data)
    counts = [
        parameter_count(take_apart(build(model, config.data, channels, GRID, 0)).parameters)
        for model in real_weather.networks(config).values()
    ]
    assert counts[1] == pytest.approx(counts[0], rel=0.04)


def test_it_says_why_it_is_skipped(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["real_weather.py", "--analyses", str(tmp_path / "absent.nc")])
    real_weather.main()
    assert "skipped: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not real_weather.ANALYSES.exists(), reason="the real GFS files are not beside the checkout")
def test_the_whole_benchmark_runs_on_the_real_file(monkeypatch, capsys, tmp_path):
    arguments = ["real_weather.py", "--quick", "--days", "10", "--workdir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    real_weather.main()
    page = capsys.readouterr().out
    assert "spherical, 10 days" in page and real_weather.RIDGE in page and "begun on a nature run" in page
