"""What a statistics file must hold."""

import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.statistics import STATISTICS, read_statistics


@pytest.fixture
def path(tmp_path):
    dataset = xr.Dataset(
        {
            "temperature": (("statistic", "level"), np.arange(12.0).reshape(6, 2)),
            "geopotential": (("statistic", "level"), np.ones((6, 2))),
            "surface_pressure": ("statistic", np.ones(6)),
        },
        coords={"statistic": list(STATISTICS), "level": [500, 850]},
        attrs={"step": "6h"},
    )
    dataset.to_netcdf(tmp_path / "stats.nc")
    return str(tmp_path / "stats.nc")


def test_reads_what_is_asked_for(path):
    result = read_statistics(path, variables=["temperature", "surface_pressure"], levels=[850])
    assert set(result.data_vars) == {"temperature", "surface_pressure"}
    assert result["temperature"].sel(statistic="std").values.tolist() == [3.0]
    assert result.attrs["step"] == "6h"
    assert set(read_statistics(path).data_vars) == {"temperature", "geopotential", "surface_pressure"}


def test_names_what_is_missing_and_the_nearest(path, tmp_path):
    with pytest.raises(UserError, match="'geopotental'; the nearest name is geopotential"):
        read_statistics(path, variables=["geopotental"])
    with pytest.raises(UserError, match="925 hPa; the nearest level is 850 hPa"):
        read_statistics(path, levels=[925])
    with pytest.raises(UserError, match="no such file"):
        read_statistics(str(tmp_path / "none.nc"))
    (tmp_path / "text.nc").write_text("not netCDF")
    with pytest.raises(UserError, match="cannot be read"):
        read_statistics(str(tmp_path / "text.nc"))
    xr.Dataset({"temperature": ("x", [1.0])}).to_netcdf(tmp_path / "plain.nc")
    with pytest.raises(UserError, match="holds no mean"):
        read_statistics(str(tmp_path / "plain.nc"))
