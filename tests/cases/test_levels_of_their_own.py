"""Fields on levels of their own in one file, as Z500 beside T850, with gaps and intervals of 12 h: read as they are."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eval.scoring import score
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.statistics import read_statistics
from weather_scnn.sphere.grid import Grid, latitude_weights
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.states import StateReader, open_states
from weather_scnn.training.windows import window_indices

GRID = Grid.equiangular(16, 8)
SIX = np.timedelta64(6, "h")
# Six-hourly, but for an interval of 12 h and a gap of two days.
TIMES = pd.DatetimeIndex([*pd.date_range("2021-03-01", periods=10, freq="6h"),
                          *pd.date_range("2021-03-03T18", periods=12, freq="6h"),
                          *pd.date_range("2021-03-09", periods=8, freq="6h")])  # fmt: skip
DATA = DataConfig(grid="16x8", level_variables=("geopotential@500", "temperature@850"))


def analyses():
    rng = np.random.default_rng(4)
    shape = (TIMES.size, *GRID.shape)
    axes = {"time": TIMES, "latitude": GRID.latitude, "longitude": GRID.longitude}
    dims = tuple(axes)
    z = (55000 + 500 * rng.standard_normal(shape)).astype(np.float32)
    t = (280 + 5 * rng.standard_normal(shape)).astype(np.float32)
    return xr.Dataset({"z500": (dims, z, {"units": "m2 s-2"}), "t850": (dims, t, {"units": "K"})}, axes)


@pytest.fixture
def path(tmp_path):
    analyses().to_netcdf(tmp_path / "gfs.nc")
    return str(tmp_path / "gfs.nc")


def test_they_share_one_level_axis_and_what_is_absent_stays_absent(path):
    dataset, raw = open_dataset(path), analyses()
    assert dataset["level"].values.tolist() == [500, 850]
    assert "own_levels (geopotential at 500 hPa; temperature at 850 hPa; absent elsewhere)" in dataset.attrs["adjusted"]
    np.testing.assert_array_equal(dataset["geopotential"].sel(level=500).values, raw["z500"].values)
    np.testing.assert_array_equal(dataset["temperature"].sel(level=850).values, raw["t850"].values)
    reader = FieldReader(path)
    assert np.isnan(reader.read("geopotential", slice(3, 5), [1])).all()
    np.testing.assert_array_equal(reader.read("temperature", slice(3, 5))[:, 1], raw["t850"].values[3:5])
    assert open_dataset(path, levels=[850], variables=["t"])["level"].values.tolist() == [850]
    with pytest.raises(UserError, match=r"geopotential has no level 700 hPa; choose from 500, 850"):
        open_dataset(path, levels=[500, 700])


def test_check_tells_it_and_counts_no_absent_value_as_missing(path):
    report = check_store(path, progress=False)
    kinds = {problem["kind"] for problem in report.problems}
    assert "own_levels" in kinds and "irregular_times" not in kinds and not {"nan", "masked", "all_nan"} & kinds
    rows = {row["name"]: row for row in report.variables}
    assert rows["geopotential"]["levels"] == [500.0] and rows["temperature"]["levels"] == [850.0]
    assert rows["geopotential"]["nan_count"] == 0


def test_regridded_and_summed_up_each_on_its_level(path, tmp_path):
    output = str(tmp_path / "coarse.zarr")
    regrid(path, output, Grid.equiangular(8, 4), no_beam=True, progress=False)
    written = xr.open_zarr(output)
    assert (
        np.isfinite(written["temperature"].sel(level=850)).all()
        and written["temperature"].sel(level=500).isnull().all()
    )
    compute_statistics(path, str(tmp_path / "s.nc"), time=None, step="6h", no_beam=True, progress=False)
    found, raw = read_statistics(str(tmp_path / "s.nc")), analyses()
    mean = np.average(raw["z500"].values.astype(float), axis=1, weights=latitude_weights(GRID.latitude)).mean()
    assert float(found["geopotential"].sel(statistic="mean", level=500)) == pytest.approx(mean, rel=1e-6)
    assert float(found["geopotential"].sel(statistic="count", level=850)) == 0


def test_windows_of_training_cross_neither_the_gap_nor_the_interval_of_12_h(path):
    channels = Channels.from_config(DATA)
    moments = Normalisation(*(np.array(each) for each in ([5.5e4, 280.0], [500.0, 5.0], [1.0, 1.0], [], [], [], [])))
    reader = StateReader.open(path, channels, moments, GRID)
    rows = window_indices(reader.times, step=SIX, length=3)
    assert len(rows) == 8 + 10 + 6
    states = reader.read_at(rows[:2])
    assert all(np.isfinite(array).all() for array in states)
    expected = (analyses()["t850"].values[rows[0]] - 280.0) / 5.0
    np.testing.assert_allclose(states.scalar[0, ..., 1], expected, atol=1e-5)
    absent = Channels.from_config(DataConfig(grid="16x8", level_variables=("geopotential@500/850", "temperature@850")))
    with pytest.raises(UserError, match=r"geopotential has no level 850 hPa; choose from 500"):
        open_states(path, absent, GRID)


def test_forecasts_of_such_fields_are_scored_against_such_analyses(path, tmp_path):
    raw = analyses()
    inits, leads = TIMES[:4].values, np.array([6, 12]) * np.timedelta64(1, "h").astype("timedelta64[ns]")
    forecast = xr.concat(
        [raw.sel(time=inits + lead).assign_coords(time=inits) + 1.0 for lead in leads],
        xr.DataArray(leads, dims="prediction_timedelta", name="prediction_timedelta"),
    )
    for name in raw:
        forecast[name].attrs = raw[name].attrs
    forecast.to_netcdf(tmp_path / "f.nc")
    score([str(tmp_path / "f.nc")], path, str(tmp_path / "scores.nc"), progress=False, bootstrap=0)
    scores = xr.open_dataset(tmp_path / "scores.nc", decode_timedelta=True).sel(metric="rmse", region="global")
    for name, level, other in (("geopotential", 500, 850), ("temperature", 850, 500)):
        np.testing.assert_allclose(scores[name].sel(level=level).values, 1.0, atol=1e-2)
        assert scores[name].sel(level=other).isnull().all()


@pytest.mark.realdata
def test_the_real_analyses_open(tmp_path):
    folder = pathlib.Path(__file__).parents[2].parent / "shared/data/gfs_z500_t850_2021"
    if not folder.is_dir():
        pytest.skip("no real files beside the checkout")
    reader = FieldReader(str(folder), variables=["z", "t"])
    assert reader.fields.sizes == {"time": 157, "level": 2, "latitude": 32, "longitude": 64}
    window = window_indices(reader.fields["time"].values, step=SIX, length=2)
    assert np.isfinite(reader.read("geopotential", window[0], [0])).all() and len(window) > 100
