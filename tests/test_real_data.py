"""The whole chain on real analyses: 10 m wind of the GFS in October 2018, one time missing."""

import pathlib

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.cli import app

FILES = pathlib.Path(__file__).parents[1].parent / "shared" / "data" / "gfs_simple_wind_1deg_6h"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FILES.is_dir(), reason="the real GFS files are not beside the checkout"),
]


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result


def prepare(folder, grid):
    """regrid → stats; gives the store."""
    wind = folder / "wind.zarr"
    run(
        "regrid",
        "--input",
        FILES / "gfs_1p00_10mwind_201810*[0-9][0-9].grib2",
        "--output",
        wind,
        "--grid",
        grid,
        "--no-beam",
    )
    run("stats", "--input", wind, "--output", folder / "stats.nc", "--time", "2018-10-06:2018-10-13")
    return wind


def chain(folder, *, grid, settings):
    """… → train → forecast → score; gives the scores."""
    wind, run_folder = prepare(folder, grid), folder / "run"
    options = [
        f"data.path={wind}",
        f"data.statistics={folder / 'stats.nc'}",
        "data.train=2018-10-06:2018-10-13",
        *settings,
    ]
    options = [part for setting in options for part in ("--set", setting)]
    run("train", "--config", "configs/gfs_wind.py", "--workdir", run_folder, *options)
    run("forecast", "--workdir", run_folder, "--input", wind, "--output", folder / "f.zarr",
        "--init", "2018-10-14:2018-10-15", "--lead", "24h")  # fmt: skip
    run("score", "--forecast", folder / "f.zarr", "--truth", wind, "--output", folder / "scores.nc",
        "--baselines", "persistence")  # fmt: skip
    return xr.open_dataset(folder / "scores.nc")


def test_the_gap_stays_a_gap(tmp_path):
    wind = xr.open_zarr(prepare(tmp_path, "32x16"))
    assert wind.sizes["time"] == 40
    assert np.datetime64("2018-10-10T18") not in wind["time"].values
    statistics = xr.open_dataset(tmp_path / "stats.nc")["10m_u_component_of_wind"]
    # 28 states until the end of 13 October; the missing time takes two of the 28 increments that 29 would give.
    assert float(statistics.sel(statistic="count")) == 28 * 32 * 16
    assert float(statistics.sel(statistic="increment_count")) == 26 * 32 * 16


@pytest.mark.slow
def test_the_chain_runs(tmp_path, monkeypatch):
    """As that of the README, which runs at any time."""
    monkeypatch.chdir(pathlib.Path(__file__).parents[1])
    small = ["data.grid=32x16", "model.max_degree=12", "training.stages=20x1,5x2", "training.checkpoint_every=25"]
    scores = chain(tmp_path, grid="32x16", settings=small)
    rmse = scores["10m_u_component_of_wind"].sel(metric="rmse", region="global")
    assert np.isfinite(rmse).all() and set(rmse["system"].values) == {"model", "persistence"}
    assert float(rmse.sel(system="persistence").isel(lead_time=0)) > 0.5


@pytest.mark.slow
def test_a_few_hundred_steps_beat_persistence(tmp_path, monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parents[1])
    scores = chain(tmp_path, grid="64x32", settings=[])
    rmse = scores["10m_u_component_of_wind"].sel(metric="rmse", region="global", lead_time=np.timedelta64(6, "h"))
    assert float(rmse.sel(system="model")) < float(rmse.sel(system="persistence"))
