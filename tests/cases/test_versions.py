"""Final and preliminary ERA5 of one time: expver 1 goes before 5, wherever a source tells it and in any order."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather_scnn.io.datasets import open_dataset

LATITUDE = np.linspace(-90.0, 90.0, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)


def record(first, last, value):
    times = pd.date_range(first, last, freq="6h")
    data = np.full((times.size, 7, 12), value, "f4")
    return xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), data, {"units": "K"})},
        {"time": times, "latitude": LATITUDE, "longitude": LONGITUDE},
    )


FINAL = record("2020-01-01T00", "2020-01-01T12", 280.0)
PRELIMINARY = record("2020-01-01T00", "2020-01-02T00", 290.0)
EXPECTED = [280.0, 280.0, 280.0, 290.0, 290.0]


def expect(path):
    opened = open_dataset(str(path))
    np.testing.assert_array_equal(opened["2m_temperature"].mean(["latitude", "longitude"]), EXPECTED)
    assert "ERA5T" in opened.attrs["adjusted"]


@pytest.mark.parametrize("versions", [(1, 5), ("0001", "0005"), (1.0, 5.0)])
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_along_a_dimension(tmp_path, versions, order):
    both = xr.concat([FINAL, PRELIMINARY], pd.Index(versions, name="expver"), join="outer")
    both.isel(expver=order).to_netcdf(tmp_path / "a.nc")
    expect(tmp_path / "a.nc")


@pytest.mark.parametrize("versions", [("0001", "0005"), (1, 5)])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_along_time(tmp_path, versions, order):
    parts = [
        each.assign_coords(expver=("time", [version] * each.sizes["time"]))
        for each, version in zip((FINAL, PRELIMINARY), versions)
    ]
    xr.concat([parts[at] for at in order], "time").to_netcdf(tmp_path / "a.nc")
    expect(tmp_path / "a.nc")


@pytest.mark.parametrize("told", ["coordinate", "along time", "attribute"])
@pytest.mark.parametrize("names", [("a.nc", "b.nc"), ("b.nc", "a.nc")])
def test_in_files_of_their_own(tmp_path, told, names):
    for dataset, version, name in zip((FINAL, PRELIMINARY), ("0001", "0005"), names):
        if told == "attribute":
            dataset = dataset.assign_attrs(expver=version)
        elif told == "coordinate":
            dataset = dataset.assign_coords(expver=version)
        else:
            dataset = dataset.assign_coords(expver=("time", [version] * dataset.sizes["time"]))
        dataset.to_netcdf(tmp_path / name)
    expect(tmp_path)


def test_a_final_file_beside_one_that_says_nothing(tmp_path):
    FINAL.to_netcdf(tmp_path / "b.nc")
    PRELIMINARY.assign_coords(expver="0005").to_netcdf(tmp_path / "a.nc")
    expect(tmp_path)
