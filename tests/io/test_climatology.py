"""Looking up a climatology by valid time."""

import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.climatology import climatology_at, day_numbers, open_climatology


@pytest.fixture
def clim():
    values = 1000.0 * np.array([0, 6, 12, 18])[:, None, None, None] + np.arange(1, 367)[:, None, None]
    return xr.Dataset(
        {"2m_temperature": (("hour", "dayofyear", "latitude", "longitude"), np.broadcast_to(values, (4, 366, 2, 3)))},
        coords={"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 367)},
        attrs={"calendar": "month-day"},
    )


TIMES = np.array(["2000-02-29T06", "2001-02-28T00", "2001-03-01T18", "2000-03-01T18", "2001-12-31T12"], "datetime64[h]")


def test_calendar_days(clim):
    result = climatology_at(clim, TIMES)["2m_temperature"]
    assert result.dims == ("time", "latitude", "longitude")
    assert result[:, 0, 0].values.tolist() == [6060, 59, 18061, 18061, 12366]
    np.testing.assert_array_equal(result["time"].values, TIMES.astype("datetime64[ns]"))


def test_plain_days_of_the_year_as_weatherbench_2_stores_them(clim):
    del clim.attrs["calendar"]
    assert climatology_at(clim, TIMES)["2m_temperature"][:, 0, 0].values.tolist() == [6060, 59, 18060, 18061, 12365]


def test_day_numbers():
    days = np.array(["2001-01-01", "2001-02-28", "2001-03-01", "2000-12-31", "2001-12-31"], "datetime64[D]")
    assert day_numbers(days, "month-day").tolist() == [1, 59, 61, 366, 366]
    assert day_numbers(days, "day-of-year").tolist() == [1, 59, 60, 366, 365]


@pytest.mark.parametrize("time", ["2001-05-05T03", "2001-05-05T06:30"])
def test_an_absent_hour_is_an_error(clim, time):
    with pytest.raises(UserError, match=r"no hour .* \(it has 0, 6, 12, 18\)"):
        climatology_at(clim, np.array([time], "datetime64[m]"))


def test_an_absent_day_is_an_error(clim):
    with pytest.raises(UserError, match="no dayofyear 366"):
        climatology_at(clim.isel(dayofyear=slice(365)), TIMES)


def test_opening(clim, tmp_path):
    clim.to_zarr(tmp_path / "clim.zarr")
    assert open_climatology(str(tmp_path / "clim.zarr")).sizes["hour"] == 4
    xr.Dataset({"a": ("time", [1.0])}).to_zarr(tmp_path / "other.zarr")
    with pytest.raises(UserError, match="is no climatology"):
        open_climatology(str(tmp_path / "other.zarr"))
    with pytest.raises(UserError, match="cannot be read"):
        open_climatology(str(tmp_path / "none.zarr"))
