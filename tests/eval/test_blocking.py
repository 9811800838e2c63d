"""Blocking: the index by hand on made heights, and the job's counts."""

import numpy as np
import pytest
import xarray as xr

from eval.blocking import blocked, verify_blocking
from tests import guides
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(32, 16)
G = 9.80665
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")


def heights(high: np.ndarray) -> np.ndarray:
    """A westerly flow with a block where `high`, (…, x): 12 m a degree, but a high of 900 m at 60° N."""
    lat = GRID.latitude[:, None]
    flow = 5800.0 - 12.0 * (lat - 30)
    ridge = 900.0 * np.exp(-(((lat - 62) / 8) ** 2))
    return flow + ridge * np.asarray(high, float)[..., None, :]


def test_the_index_by_hand():
    # Exactly on rows: at 40, 60 and 80° N heights of 5500, 5600 and 5300 m have gradients of +5 and −15 m a degree.
    latitude = np.array([36.0, 40.0, 44.0, 56.0, 60.0, 64.0, 76.0, 80.0, 84.0])
    column = np.interp(latitude, [40, 60, 80], [5500.0, 5600.0, 5300.0])
    assert blocked(column[:, None], latitude).tolist() == [True]
    # A northern gradient of −10 m a degree is not enough, nor is a southern one of 0.
    for values in ([5500.0, 5600.0, 5400.0], [5600.0, 5600.0, 5300.0]):
        weak = np.where(latitude == 60, values[1], np.where(latitude < 60, values[0], values[2]))
        found = blocked(weak[:, None] + np.zeros(2), latitude)
        shifted = [
            (weak[3] - weak[0], weak[6] - weak[3]),
            (weak[4] - weak[1], weak[7] - weak[4]),
            (weak[5] - weak[2], weak[8] - weak[5]),
        ]
        expected = any(south > 0 and north / 20 < -10 for south, north in shifted)
        assert found.tolist() == [expected] * 2
    assert not blocked(5800 - 10 * latitude[:, None], latitude).any()  # plain westerlies


def test_the_job(tmp_path, monkeypatch):
    times = np.datetime64("2021-01-01", "ns") + np.arange(8) * 24 * HOUR
    high = np.zeros((8, 32), bool)
    high[2:, 1:4] = True  # 11 to 34° E from the third day on
    field = heights(high)[:, None] * G
    axes = {"time": times, "level": [500], "latitude": GRID.latitude, "longitude": GRID.longitude}
    truth = xr.Dataset(
        {"geopotential": (("time", "level", "latitude", "longitude"), field.astype("f4"), {"units": "m2 s-2"})}, axes
    )
    truth.to_zarr(tmp_path / "era5.zarr", consolidated=False)
    leads = np.arange(1, 4) * 24 * HOUR
    said = np.zeros((5, 3, 32), bool)
    for init in range(5):
        for lead in range(3):
            said[init, lead] = high[init + lead + 1]
            if lead == 2:  # the block is half as wide, and a false one stands in the Pacific
                said[init, lead, 3] = False
                said[init, lead, 16] = True
    dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
    forecast = xr.Dataset(
        {"geopotential": (dims, (heights(said)[:, :, None] * G).astype("f4"), {"units": "m2 s-2"})},
        {**axes, "time": times[:5], "prediction_timedelta": leads},
    )
    forecast.to_zarr(tmp_path / "forecast.zarr", consolidated=False)
    monkeypatch.chdir(tmp_path)
    guides.run(
        next(line for line in guides.lines("docs/scores.md") if line.startswith("weather-scnn blocking")), {}, {}
    )
    with xr.open_dataset("blocking.nc", decode_timedelta=True) as scores:
        at = scores.sel(system="model")
        assert at["hit_rate"].sel(sector="euro-atlantic").values.tolist() == [1.0, 1.0, 2 / 3]
        assert at["success_ratio"].sel(sector="hemisphere").values == pytest.approx([1.0, 1.0, 10 / 15])
        assert at["frequency"].sel(sector="pacific").values == pytest.approx([0.0, 0.0, 1 / 9])
        # Four of five starts, then all, see the block: 3 of 32 longitudes.
        assert at["truth_frequency"].sel(sector="hemisphere").values == pytest.approx([3 / 32 * 4 / 5, 3 / 32, 3 / 32])
    with xr.open_dataset("blocking.nc", group="longitudes", decode_timedelta=True) as places:
        one = places["frequency"].sel(system="model", of="truth").isel(lead_time=0).sel(longitude=11.25)
        assert float(one) == pytest.approx(0.8)
    with xr.open_dataset("blocking.nc", group="intervals", decode_timedelta=True) as bounds:
        lower, upper = bounds["truth_frequency"].sel(system="model", sector="hemisphere").isel(lead_time=0).values
        assert lower < 3 / 32 * 4 / 5 < upper
    with pytest.raises(UserError, match="has no geopotential at 500 hPa"):
        verify_blocking(_other(tmp_path), "era5.zarr", "b.nc", progress=False)


def _other(folder) -> str:
    """A forecast on another level."""
    store = xr.open_zarr(folder / "forecast.zarr", consolidated=False).load().assign_coords(level=[850])
    store.drop_encoding().to_zarr(folder / "other.zarr", consolidated=False)
    return str(folder / "other.zarr")
