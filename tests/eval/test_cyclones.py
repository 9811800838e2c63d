"""Tracks of made vortices whose paths are known: both hemispheres, over the date line, warm and cold cores."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from eval.cyclones.detection import CycloneFinder, great_circle
from eval.cyclones.tracks import KM_PER_DEGREE, Low, Stitching, stitch
from eval.cyclones.verification import verify_cyclones
from tests import guides
from weather_scnn.cli import app
from weather_scnn.errors import UserError

HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
START = np.datetime64("2021-09-01", "ns")
LATITUDE, LONGITUDE = np.arange(-89.25, 90, 1.5), np.arange(0, 360, 1.5)
# (latitude, longitude at first, degrees north and east an hour, Pa of depth): one passes the date line, one the prime meridian.
PATHS = ((14.0, 172.0, 0.05, 0.15, 4000.0), (-16.0, 5.0, -0.04, -0.12, 3000.0))


def vortices(hours, *, weaker=1.0):
    """Pressure (t, y, x), thickness and wind of the vortices at some hours.

    Args:
        hours: (t,).
        weaker: factor of their depth.
    """
    pressure, thickness, wind = (np.zeros((len(hours), LATITUDE.size, LONGITUDE.size)) for _ in range(3))
    pressure += 101000.0 + 100 * np.cos(np.radians(6 * LATITUDE))[:, None]
    for latitude, longitude, north, east, depth in PATHS:
        for number, hour in enumerate(hours):
            place = latitude + north * hour, longitude + east * hour
            away = great_circle(*place, LATITUDE[:, None], LONGITUDE[None, :])
            bell = np.exp(-((away / 3.0) ** 2))
            pressure[number] -= weaker * depth * bell
            thickness[number] += 300.0 * bell
            wind[number] += weaker * 40.0 * bell
    return pressure, thickness, wind


def dataset(times, dims, fields) -> xr.Dataset:
    pressure, thickness, wind = fields
    axes = {**times, "latitude": LATITUDE, "longitude": LONGITUDE}
    dims = [*dims, "latitude", "longitude"]
    heights = np.stack([90000.0 + thickness, 55000.0 + 0 * thickness], axis=-3)
    levels = [*dims[:-2], "level", *dims[-2:]]
    return xr.Dataset(
        {
            "mean_sea_level_pressure": (dims, pressure.astype("f4"), {"units": "Pa"}),
            "geopotential": (levels, heights.astype("f4"), {"units": "m2 s-2"}),
            "10m_u_component_of_wind": (dims, wind.astype("f4"), {"units": "m s-1"}),
            "10m_v_component_of_wind": (dims, 0 * wind.astype("f4"), {"units": "m s-1"}),
        },
        {**axes, "level": [300, 500]},
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cyclones")
    hours = np.arange(0, 109, 12)
    dataset({"time": START + hours * HOUR}, ["time"], vortices(hours)).to_zarr(
        folder / "truth.zarr", consolidated=False
    )
    leads = np.arange(12, 61, 12)
    inits = np.array([0, 12, 24, 36])
    parts = []
    for init in inits:
        # A tenth too weak; from the fourth lead time on a row of the grid too far north.
        each = [vortices(init + np.array([lead]), weaker=0.9) for lead in leads]
        parts.append([np.concatenate([e[n] for e in each]) for n in range(3)])
    fields = tuple(np.stack([part[n] for part in parts]) for n in range(3))
    times = {"time": START + inits * HOUR, "prediction_timedelta": leads * HOUR}
    forecast = dataset(times, ["time", "prediction_timedelta"], fields)
    drift = xr.concat(
        [
            _moved(forecast.isel(prediction_timedelta=[n]), 1) if n >= 3 else forecast.isel(prediction_timedelta=[n])
            for n in range(leads.size)
        ],
        "prediction_timedelta",
    )
    drift.transpose("time", "prediction_timedelta", ...).to_zarr(folder / "forecast.zarr", consolidated=False)
    return folder


def _moved(dataset: xr.Dataset, rows: int) -> xr.Dataset:
    """Fields moved northwards by rows of the grid."""
    return dataset.roll(latitude=rows, roll_coords=False)


def test_minima_are_found_where_they_are():
    finder = CycloneFinder(LATITUDE, LONGITUDE)
    for hour in (0, 50, 90):
        pressure, thickness, wind = (each[0] for each in vortices([hour]))
        found = finder.find(pressure, thickness, wind)
        assert len(found) == 2
        for low, (latitude, longitude, north, east, depth) in zip(found, PATHS):
            away = great_circle(low.latitude, low.longitude, latitude + north * hour, longitude + east * hour)
            assert away < 0.2  # an eighth of a step of the grid
            assert low.pressure == pytest.approx(101000 + 100 * np.cos(np.radians(6 * low.latitude)) - depth, abs=150)
            assert 35 < low.wind <= 40  # the strongest at a point of the grid


def test_what_is_no_tropical_cyclone():
    finder = CycloneFinder(LATITUDE, LONGITUDE)
    pressure, thickness, _ = (each[0] for each in vortices([0]))
    assert finder.find(pressure, -thickness) == []  # a cold core
    assert len(finder.find(pressure)) == 2  # nobody knows of the core
    assert finder.find(101000.0 + 0.03 * (pressure - 101000.0)) == []  # 1.2 hPa are no closed contour of 2 hPa
    away = np.abs(LATITUDE)[:, None] + 0 * LONGITUDE
    trough = 101000.0 - 2000 * np.exp(-(((away - 20) / 4) ** 2)) * (1 + 0.001 * np.cos(np.radians(LONGITUDE)))
    assert finder.find(trough) == []  # a belt of low pressure around the globe is open
    north = np.roll(pressure, 30, axis=0)
    assert all(abs(low.latitude) <= 50 for low in finder.find(north))


def test_one_track_over_a_gap_and_the_date_line():
    times = START + np.arange(0, 73, 6) * HOUR
    lows = [
        [Low(15.0, (176.0 + n) % 360, 98000.0), *([Low(-10.0, 60.0, 99000.0)] if n < 3 else [])]
        for n in range(times.size)
    ]
    lows[5] = lows[6] = []
    tracks = stitch(times, lows)
    assert len(tracks) == 1 and len(tracks[0].lows) == times.size - 2  # the other lasts for 12 h only
    assert len(stitch(times, lows, Stitching(shortest=6 * HOUR))) == 2
    assert len(stitch(times, lows, Stitching(gap=6 * HOUR, shortest=6 * HOUR))) == 3
    # Two that pass each other keep apart: each goes on as it went.
    both = [[Low(10.0, 100.0 + 2 * n, 98000.0), Low(11.5, 112.0 - 2 * n, 98000.0)] for n in range(7)]
    for track in stitch(times[:7], both, Stitching(shortest=HOUR)):
        assert np.ptp([low.latitude for low in track.lows]) == 0.0


def test_errors_of_track_and_strength(stores, tmp_path):
    output, tracks = str(tmp_path / "c.nc"), str(tmp_path / "tracks.csv")
    scores = verify_cyclones(
        str(stores / "forecast.zarr"), str(stores / "truth.zarr"), output, tracks=tracks, progress=False
    )
    at = scores.sel(system="model")
    # Up to 36 h where they should be, later a row of 1.5° too far north; depths of 40 and 30 hPa are a tenth too small.
    np.testing.assert_allclose(at["track_error"][:3], 0.0, atol=8.0)
    np.testing.assert_allclose(at["track_error"][3:], 1.5 * KM_PER_DEGREE, atol=15.0)
    np.testing.assert_allclose(at["pressure_error"], 350.0, atol=60.0)
    np.testing.assert_allclose(at["pressure_absolute_error"], 350.0, atol=60.0)
    np.testing.assert_allclose(at["wind_error"], -4.0, atol=0.3)
    np.testing.assert_allclose(at["hit_rate"], 1.0)
    np.testing.assert_allclose(at["success_ratio"], 1.0)
    with xr.open_dataset(output, group="intervals", decode_timedelta=True) as bounds:
        lower, upper = bounds["track_error"].sel(system="model").values
        assert (lower <= at["track_error"]).all() and (at["track_error"] <= upper).all()
    with xr.open_dataset(output, group="sums", decode_timedelta=True) as sums:
        assert sums["sums"].sel(part="matched").values.sum() == 2 * 4 * 5
    table = pd.read_csv(tracks)
    assert {"track_id", "time", "lon", "lat"} <= set(table.columns)
    assert table.groupby("track_id")["system"].nunique().max() == 1 and table["track_id"].nunique() == 2 + 2 * 4
    east = table[(table["system"] == "truth") & (table["lat"] > 0)]["lon"]
    assert east.min() >= 172 and east.max() <= 190 and len(east) == 10
    with pytest.raises(UserError, match="exists"):
        verify_cyclones(str(stores / "forecast.zarr"), str(stores / "truth.zarr"), output, progress=False)


def test_misses_and_false_alarms(stores, tmp_path):
    truth = xr.open_zarr(stores / "truth.zarr", consolidated=False).load()
    south = truth["latitude"] < 0
    truth["mean_sea_level_pressure"] = truth["mean_sea_level_pressure"].where(~south, 101000.0)
    truth.drop_encoding().to_zarr(tmp_path / "t.zarr", consolidated=False)
    scores = verify_cyclones(
        str(stores / "forecast.zarr"), str(tmp_path / "t.zarr"), str(tmp_path / "c.nc"), progress=False
    )
    np.testing.assert_allclose(scores["hit_rate"], 1.0)
    np.testing.assert_allclose(scores["success_ratio"], 0.5)
    both = [f"a={stores / 'forecast.zarr'}", f"b={tmp_path / 'f.zarr'}"]
    quiet = xr.open_zarr(stores / "forecast.zarr", consolidated=False).load()
    quiet["mean_sea_level_pressure"][:] = 101000.0
    quiet.drop_encoding().to_zarr(tmp_path / "f.zarr", consolidated=False)
    scores = verify_cyclones(both, str(tmp_path / "t.zarr"), str(tmp_path / "d.nc"), progress=False).sel(system="b")
    np.testing.assert_allclose(scores["hit_rate"], 0.0)
    assert scores["track_error"].isnull().all() and scores["success_ratio"].isnull().all()
    with pytest.raises(UserError, match="no tropical cyclone is in the truth"):
        flat = truth.copy()
        flat["mean_sea_level_pressure"] = 101000.0 + 0 * flat["mean_sea_level_pressure"]
        flat.drop_encoding().to_zarr(tmp_path / "none.zarr", consolidated=False)
        verify_cyclones(both[0], str(tmp_path / "none.zarr"), str(tmp_path / "e.nc"), progress=False)


def test_the_command_and_what_it_says_of_coarse_grids(world, stores, tmp_path, caplog):
    arguments = ["cyclones", "--forecast", str(stores / "forecast.zarr"), "--truth", str(stores / "truth.zarr")]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "c.nc")])
    assert result.exit_code == 0, result.output
    assert "track km" in result.output
    with pytest.raises(UserError, match="has no mean_sea_level_pressure"):
        verify_cyclones(world["forecast"], world["truth"], str(tmp_path / "d.nc"), progress=False)
    coarse = {"latitude": slice(None, None, 4), "longitude": slice(None, None, 4)}
    for name in ("truth", "forecast"):
        part = xr.open_zarr(stores / f"{name}.zarr", consolidated=False).load().isel(coarse).drop_vars("geopotential")
        part.drop_encoding().to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
    verify_cyclones(
        str(tmp_path / "forecast.zarr"), str(tmp_path / "truth.zarr"), str(tmp_path / "e.nc"), progress=False
    )
    assert "does not resolve tropical cyclones" in caplog.text and "no warm core is asked for" in caplog.text


def test_the_command_of_the_guide(stores, monkeypatch):
    monkeypatch.chdir(stores)
    line = next(line for line in guides.lines("docs/scores.md") if line.startswith("weather-scnn cyclones"))
    guides.run(line, {}, {"era5.zarr": "truth.zarr"})
    assert (stores / "tracks.csv").exists()
