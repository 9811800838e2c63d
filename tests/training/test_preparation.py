"""What a new run is refused for: before any work, with both sides named, and with nothing left behind."""

import dataclasses
import logging
import shutil

import numpy as np
import pytest
import xarray as xr
from etils import epath
from typer.testing import CliRunner

from tests.conftest import travelling_waves
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io.statistics import read_statistics
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.loop import train
from weather_scnn.training.preparation import check_statistics, check_store, left_as_found

TIMES = np.array(["2001-01-01", "2001-01-12T18"], "datetime64[ns]")


@pytest.fixture
def no_work(monkeypatch):
    """Reading a state, and computing statistics, fail the test."""
    from pipelines import statistics
    from weather_scnn.training.states import StateReader

    def worked(*_, **__):
        raise AssertionError("began to work")

    monkeypatch.setattr(StateReader, "read_at", worked)
    monkeypatch.setattr(statistics, "compute_statistics", worked)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.levels=500,300", "geopotential has no level 300 hPa; choose from 500, 850"),
        ("data.surface_variables=2m_temperature,sea_surface_temperature", "sea_surface_temperature"),
        ("data.static_variables=soil_type", "soil_type"),
        ("data.surface_variables=geopotential", "geopotential is on 2 levels there; name it in data.level_variables"),
        ("data.level_variables=2m_temperature", "2m_temperature has no levels there; name it in data.surface_variables"),
        ("data.surface_variables=land_sea_mask", "does not change with time; name it in data.static_variables"),
        ("data.grid=32x16", "the store's grid is 16x8 .* 32x16"),
        ("data.train=1990-01-01:1995-01-01", "data.train is 1990-01-01:1995-01-01, and the store holds 2001-01-01T00:2001-01-12T18"),
        ("data.validation=2010", "data.validation is 2010, and the store holds 2001-01-01T00:2001-01-12T18"),
        ("data.validation=2001-01-01", "data.validation 2001-01-01 is too short"),
        ("data.step=5h", "the store's times are 6 h apart: no 3 consecutive states 5 h apart"),
        ("training.validation_days=0.1", "multiples of 6h"),
        ("training.stages=4x60", "no 61 consecutive states"),
    ],
)  # fmt: skip
def test_what_the_store_lacks_is_named_before_any_work(small_config, tmp_path, no_work, setting, message):
    settings = [setting] + (["data.validation=2001-01-01:2001-01-09"] if "validation_days" in setting else [])
    with pytest.raises(UserError, match=message):
        train(with_overrides(small_config, settings), tmp_path / "runs" / "a", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_period_that_reaches_beyond_the_store_is_told(small_config, caplog):
    with caplog.at_level(logging.WARNING):
        times = check_store(with_overrides(small_config, ["data.train=1979:2001-01-05"]))
    assert times.size == 20 and "holds only 2001-01-01T00:2001-01-12T18" in caplog.text
    caplog.clear()
    check_store(with_overrides(small_config, ["data.train=2001-01-01:2001-01-12"]))
    assert not caplog.text


def attributes(**changed):
    given = {"step": "6h", "period": "2001-01-01T00:00:00:2001-01-12T18:00:00", "grid": "16x8"} | changed
    return xr.Dataset(attrs={key: value for key, value in given.items() if value is not None})


@pytest.mark.parametrize(
    ("about", "settings", "message"),
    [
        ({"step": "12h"}, [], "increments over 12h, and data.step is 6h"),
        ({}, ["data.step=12h"], "increments over 6h, and data.step is 12h"),
        ({}, ["data.train=2001-01-01:2001-01-06"], "of 2001-01-01T00:2001-01-12T18, and data.train is 2001-01-01:2001-01-06"),
        ({}, ["data.train=2001-01-07:2001-01-12"], "and data.train is 2001-01-07:2001-01-12"),
        ({"period": "2005-06-01T00:00:00:2005-06-30T18:00:00"}, [], "the store trained on holds 2001-01-01T00"),
    ],
)  # fmt: skip
def test_statistics_of_other_data_are_refused_with_both_named(small_config, about, settings, message):
    config = with_overrides(small_config, settings)
    with pytest.raises(UserError, match=message):
        check_statistics(attributes(**about), config, TIMES, where="s.nc", remedy="make them anew")


@pytest.mark.parametrize(
    ("about", "settings"),
    [
        ({}, []),
        ({}, ["data.train=2001-01-01:2001-01-12"]),
        ({"step": "6 hours"}, []),
        ({"step": "360min"}, []),
        ({"period": "2001-01-03T00:00:00:2001-01-05T18:00:00"}, ["data.train=2001"]),  # a part of the training
        ({"period": "2001-01-01T00:00:00:2001-01-12T23:00:00"}, []),  # of hourly data, trained on 6-hourly
    ],
)
def test_statistics_of_the_training_period_are_taken(small_config, about, settings, caplog):
    check_statistics(attributes(**about), with_overrides(small_config, settings), TIMES, where="s.nc", remedy="")
    assert not caplog.text


def test_statistics_that_do_not_say_are_told(small_config, caplog):
    check_statistics(attributes(step=None, period=None, grid="32x16"), small_config, TIMES, where="s.nc", remedy="")
    assert "does not say its step and period" in caplog.text and "32x16; training is on 16x8" in caplog.text


def test_stale_statistics_in_a_workdir_are_refused(small_config, small_statistics, tmp_path, no_work):
    """As a kill between the statistics and the first checkpoint leaves them."""
    shutil.copy(small_statistics, tmp_path / "statistics.nc")
    config = with_overrides(small_config, ["data.step=12h"])
    with pytest.raises(UserError, match=r"statistics\.nc: holds increments over 6h, and data\.step is 12h; .*remove"):
        train(config, tmp_path, progress=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["statistics.nc"]


def test_statistics_without_a_level_name_what_they_have(small_config, small_statistics, tmp_path, no_work):
    part = tmp_path / "part.nc"
    read_statistics(small_statistics).sel(level=[500]).to_netcdf(part)
    with pytest.raises(UserError, match="has no geopotential at 850 hPa, only at 500 hPa"):
        train(small_config, tmp_path / "run", statistics=str(part), progress=False)
    assert not (tmp_path / "run").exists()


def test_the_command_refuses_in_one_line_and_leaves_nothing(small_config, small_grid, tmp_path):
    """The data can be read, but has a gap a day: it is known after statistics were made, which go as well."""
    times = np.datetime64("2001-01-01") + np.arange(24) * np.timedelta64(6, "h")
    waves = travelling_waves(small_grid, times)
    waves["2m_temperature"][::2, 0, 0] = np.nan
    waves.chunk({"time": 1}).to_zarr(tmp_path / "s.zarr", zarr_format=2)
    (tmp_path / "c.py").write_text(
        "from weather_scnn.training.configuration import Config\n"
        f"def get_config():\n    return Config.from_json({small_config.to_json()!r})\n"
    )
    words = ["train", "--config", tmp_path / "c.py", "--workdir", tmp_path / "run"]
    done = CliRunner().invoke(app, [*map(str, words), "--set", f"data.path={tmp_path / 's.zarr'}"])
    assert done.exit_code == 1 and "error: no 2 consecutive states 6 h apart" in done.stderr.splitlines()[-1]
    left = {entry.name for entry in tmp_path.iterdir()} - {"__pycache__"}  # Python's own, of the configuration
    assert left == {"c.py", "s.zarr"}


def test_what_was_there_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError), left_as_found(epath.Path(tmp_path)) as kept:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "half").mkdir()
        kept.add("half")
        raise UserError("no", remedy="yes")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["half", "notes.txt"]
    with pytest.raises(KeyboardInterrupt), left_as_found(epath.Path(tmp_path)):
        (tmp_path / "begun").mkdir()
        raise KeyboardInterrupt
    assert (tmp_path / "begun").is_dir()


def test_a_refused_run_leaves_another_runs_configuration(whole_run, small_config, small_statistics):
    """The configuration of a run is written when it goes on, not when it is refused."""
    before = (whole_run[0] / "config.json").read_text()
    other = dataclasses.replace(
        small_config, data=dataclasses.replace(small_config.data, train="2001-01-01:2001-01-08")
    )
    with pytest.raises(UserError, match=r"data\.train was '', is"):
        train(other, whole_run[0], statistics=small_statistics, progress=False)
    assert (whole_run[0] / "config.json").read_text() == before
