"""Days of a climatology, and opening it."""

import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.climatology import day_numbers, open_climatology


@pytest.fixture
def clim():
    values = 1000.0 * np.array([0, 6, 12, 18])[:, None, None, None] + np.arange(1, 367)[:, None, None]
    return xr.Dataset(
        {"2m_temperature": (("hour", "dayofyear", "latitude", "longitude"), np.broadcast_to(values, (4, 366, 2, 3)))},
        coords={"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 367)},
        attrs={"calendar": "month-day"},
    )


def test_day_numbers():
    days = np.array(["2001-01-01", "2001-02-28", "2001-03-01", "2000-12-31", "2001-12-31"], "datetime64[D]")
    assert day_numbers(days, "month-day").tolist() == [1, 59, 61, 366, 366]
    assert day_numbers(days, "day-of-year").tolist() == [1, 59, 60, 366, 365]


def test_opening(clim, tmp_path):
    places = {"latitude": [-45.0, 45.0], "longitude": [0.0, 120.0, 240.0]}
    clim.assign_coords(places).to_zarr(tmp_path / "clim.zarr")
    assert open_climatology(str(tmp_path / "clim.zarr")).sizes["hour"] == 4
    xr.Dataset({"a": ("time", [1.0])}).to_zarr(tmp_path / "other.zarr")
    with pytest.raises(UserError, match="is no climatology"):
        open_climatology(str(tmp_path / "other.zarr"))
    with pytest.raises(UserError, match="no such file"):
        open_climatology(str(tmp_path / "none.zarr"))
