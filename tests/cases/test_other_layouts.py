"""Stores in other layouts than fields on latitude and longitude: each is told as what it is, with what to give."""

import json
import logging
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

from pipelines.climatology import compute_climatology
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.checks.checking import check_store
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.sphere.grid import Grid

LATITUDE = np.linspace(90.0, -90.0, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
TIMES = pd.date_range("2020-01-01", periods=4, freq="6h")
DATA = (280 + np.arange(4 * 84).reshape(4, 7, 12) % 17).astype("f4")


def good():
    return xr.Dataset(
        {"t2m": (("time", "latitude", "longitude"), DATA, {"units": "K"})},
        {"time": TIMES, "latitude": LATITUDE, "longitude": LONGITUDE},
    )


def expect(path):
    np.testing.assert_array_equal(open_dataset(str(path))["2m_temperature"], DATA[:, ::-1])


@pytest.mark.parametrize("group", ["surface", "era5/surface"])
@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_fields_in_groups(tmp_path, ending, group):
    """pydata/xarray#9970, #8749: the groups are named, and PATH/GROUP opens one."""
    path = tmp_path / f"a.{ending}"
    if ending == "zarr":
        good().to_zarr(path, group=group, consolidated=False)
    else:
        good().to_netcdf(path, group=group)
    with pytest.raises(UserError, match=f"fields are in the groups {group}; give {path}/{group}"):
        open_dataset(str(path))
    expect(f"{path}/{group}")
    if ending == "nc":
        expect(f"{path}#{group}")
        with pytest.raises(UserError, match=f"has no group elsewhere.*give {path}/{group}"):
            open_dataset(f"{path}/elsewhere")
    answer = CliRunner().invoke(app, ["check", "--json", "--input", str(path)])
    (problem,) = json.loads(answer.stdout)["problems"]
    assert answer.exit_code == 1 and problem["fatal"] and problem["remedy"] == f"give {path}/{group}"


def test_a_group_of_a_netcdf_file_takes_the_axes_of_the_file(tmp_path):
    axes = good().drop_vars("t2m")
    axes.to_netcdf(tmp_path / "a.nc")
    good().drop_vars(["time", "latitude", "longitude"]).to_netcdf(tmp_path / "a.nc", group="surface", mode="a")
    expect(tmp_path / "a.nc" / "surface")


def test_regridding_a_group_of_a_netcdf_file(tmp_path):
    good().to_netcdf(tmp_path / "a.nc", group="surface")
    regrid(f"{tmp_path}/a.nc/surface", str(tmp_path / "r.zarr"), Grid.from_name("8x4"), no_beam=True, progress=False)
    assert open_dataset(str(tmp_path / "r.zarr"))["2m_temperature"].sizes["longitude"] == 8


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_anemoi_data_sets(tmp_path, named, zarr_format):
    """ecmwf/anemoi-datasets#122: arrays data, dates, latitudes, longitudes, often without names of dimensions."""
    latitude, longitude = (each.ravel() for each in np.meshgrid(LATITUDE, LONGITUDE, indexing="ij"))
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=zarr_format)
    arrays = {
        "data": (DATA.reshape(4, 1, 1, -1), ["time", "variable", "ensemble", "cell"]),
        "dates": (TIMES.values.astype("M8[s]").astype("i8"), ["time"]),
        "latitudes": (latitude, ["cell"]),
        "longitudes": (longitude, ["cell"]),
    }
    for name, (values, dims) in arrays.items():
        options = {"dimension_names": dims} if named and zarr_format == 3 else {}
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=values.shape, **options)
        array[:] = values
        if named and zarr_format == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = dims
    group.attrs.update({"variables": ["2t", "msl"], "frequency": "6h"})
    with pytest.raises(UserError, match="is an anemoi data set of 2t, msl: one array of points in a row"):
        open_dataset(str(tmp_path / "a.zarr"))
    assert check_store(str(tmp_path / "a.zarr"), progress=False).problems[0]["fatal"]


def test_points_in_a_row_with_axes_of_their_own(tmp_path):
    """ecmwf/anemoi-inference PR#479: (time, values) with latitude(latitude) as long as values."""
    latitude, longitude = (each.ravel() for each in np.meshgrid(LATITUDE, LONGITUDE, indexing="ij"))
    dataset = xr.Dataset(
        {"2t": (("time", "values"), DATA.reshape(4, -1))},
        {"time": TIMES, "latitude": ("latitude", latitude), "longitude": ("longitude", longitude)},
    )
    dataset.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(UserError, match=r"as long as values, 84 points: an unstructured grid; .*regular grid"):
        open_dataset(str(tmp_path / "a.nc"))


@pytest.mark.parametrize("dim", ["prediction_timedelta", "lead_time", "step"])
def test_stores_of_forecasts_are_no_states(tmp_path, dim):
    """google-research/weatherbench2#152, #110: refused before any work, by all alike."""
    leads = np.arange(1, 9) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    fields = xr.concat([good()] * 8, pd.Index(leads, name=dim)).transpose("time", ...)
    path = str(tmp_path / "f.zarr")
    fields.to_zarr(path, consolidated=False)
    out = str(tmp_path / "out")
    wanted = "holds forecasts up to 48 h ahead, not one state a time"
    for job in (
        lambda: regrid(path, out, Grid.from_name("8x4"), no_beam=True, progress=False),
        lambda: compute_statistics(path, out + ".nc", time=None, step="6h", no_beam=True, progress=False),
        lambda: compute_climatology(path, out, time=None, no_beam=True, progress=False),
    ):
        with pytest.raises(UserError, match=wanted):
            job()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (problem,) = check_store(path, progress=False).problems
    assert problem["fatal"] and wanted in problem["where"] and not (tmp_path / "out").exists()


def test_one_lead_time_of_a_forecast_is_a_state_at_its_valid_time(tmp_path):
    one = good().assign_coords(prediction_timedelta=np.timedelta64(6, "h").astype("timedelta64[ns]"))
    for number, dataset in enumerate((one, one.expand_dims("prediction_timedelta"))):
        dataset.to_netcdf(tmp_path / f"{number}.nc")
        opened = open_dataset(str(tmp_path / f"{number}.nc"))
        np.testing.assert_array_equal(opened["time"], TIMES + pd.Timedelta("6h"))


def test_opening_in_many_threads_leaves_loggers_alone(tmp_path, grib):
    good().to_zarr(tmp_path / "a.zarr", consolidated=False)
    with open(tmp_path / "a.grib2", "wb") as file:
        for hour in (0, 6):
            grib(file, "2t", DATA[hour // 6], hour=hour)
    before = [logging.getLogger(name).level for name in ("cfgrib", "weather_scnn.io")]
    failures = []

    def work():
        try:
            for _ in range(3):
                assert FieldReader(str(tmp_path / "a.zarr")).read("2m_temperature").shape == (4, 7, 12)
                np.testing.assert_allclose(open_dataset(str(tmp_path / "a.grib2"))["2m_temperature"][1], DATA[1][::-1])
        except Exception as error:  # told by the thread that asserts
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert before == [logging.getLogger(name).level for name in ("cfgrib", "weather_scnn.io")]
