"""Forecasts as they are asked for: only what is kept is written, in every format, also after a kill."""

import json

import numpy as np
import pytest
import xarray as xr

import weather_scnn as ws
from eval.scoring import score
from weather_scnn.errors import UserError
from weather_scnn.forecasting import store_layout
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.io.forecasts import open_forecast

OPTIONS = {"init": "2001-01-03:2001-01-04:12h", "batch_size": 2, "progress": False}


@pytest.fixture(scope="module")
def whole(run, small_store, tmp_path_factory) -> str:
    """The whole state at 6 and 12 hours, from four initial times."""
    path = str(tmp_path_factory.mktemp("whole") / "f.zarr")
    forecast(run, small_store, path, lead="12h", **OPTIONS)
    return path


def opened(path) -> xr.Dataset:
    return xr.open_zarr(path, decode_timedelta=True).load()


def test_what_is_asked_for_is_kept_and_nothing_else(whole, run, small_store, tmp_path, capsys):
    asked = {"leads": "12h", "variables": ["z", "t2m"], "levels": [500], "region": "-30,10,60,80",
             "derived": ["wind_speed", "thickness_850_500"]}  # fmt: skip
    forecast(run, small_store, str(tmp_path / "f.zarr"), **asked, **OPTIONS | {"progress": True})
    told = capsys.readouterr().err
    # Four times 4x4 points of a variable on one level and three others: 1,024 bytes.
    assert "writes 4 forecasts of 4 variables at 1 lead on 4x4 points" in told and "1.02 kB before" in told
    found, state = opened(tmp_path / "f.zarr"), opened(whole).isel(prediction_timedelta=[1])
    assert set(found.data_vars) == {"geopotential", "2m_temperature", "wind_speed", "thickness_850_500"}
    assert found.sizes == {"time": 4, "prediction_timedelta": 1, "level": 1, "latitude": 4, "longitude": 4}
    turned = state.assign_coords(longitude=(state["longitude"] + 180) % 360 - 180).sortby("longitude")
    there = turned.sel(latitude=found["latitude"], longitude=found["longitude"])
    np.testing.assert_array_equal(found["geopotential"], there["geopotential"].sel(level=[500]))
    np.testing.assert_array_equal(found["2m_temperature"], there["2m_temperature"])
    speed = np.hypot(there["u_component_of_wind"], there["v_component_of_wind"]).sel(level=[500])
    np.testing.assert_allclose(found["wind_speed"], speed, rtol=1e-6)
    thickness = (there["geopotential"].sel(level=500) - there["geopotential"].sel(level=850)) / 9.80665
    np.testing.assert_allclose(found["thickness_850_500"], thickness, rtol=1e-5)
    assert found["thickness_850_500"].attrs["units"] == "m" and found["level"].values.tolist() == [500]
    python = ws.load_forecaster(run).forecast(small_store, init=OPTIONS["init"], **asked)
    xr.testing.assert_allclose(python, found, rtol=1e-6)  # the last bit of a root depends on where its array lies


@pytest.mark.parametrize("format", ["netcdf", pytest.param("grib2", marks=pytest.mark.slow)])
def test_a_folder_of_files_is_finished_after_a_kill(format, whole, run, small_store, tmp_path, interrupted_at):
    path, options = tmp_path / "forecasts", {"lead": "12h", "format": format, **OPTIONS}
    calls = interrupted_at(2)
    with pytest.raises(KeyboardInterrupt):
        forecast(run, small_store, str(path), **options)
    assert not path.exists()  # nothing half-written looks whole
    with pytest.raises(UserError, match="an unfinished output of a command with other options is kept for it"):
        forecast(run, small_store, str(path), **options | {"lead": "6h"})
    forecast(run, small_store, str(path), **options)
    assert len(calls) == 3
    ending = {"netcdf": "nc", "grib2": "grib2"}[format]
    names = [f"2001010{day}T{hour:02d}00.{ending}" for day in (3, 4) for hour in (0, 12)]
    assert sorted(each.name for each in path.iterdir()) == [*names, "forecast.json"]
    assert [each.name for each in tmp_path.iterdir()] == ["forecasts"]
    about = json.loads((path / "forecast.json").read_text())
    assert about["status"] == "complete" and about["source"] == small_store
    found, state = open_forecast(str(path)), opened(whole)
    for name, array in state.data_vars.items():
        # 16 bits of each map.
        tolerance = 0 if format == "netcdf" else 2.0**-15 * float(np.ptp(array.values))
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance)
    part = ws.open_dataset(path, variables="t2m", time="2001-01-03")
    assert list(part) == ["2m_temperature"] and part.sizes["time"] == 2 and part.sizes["prediction_timedelta"] == 2
    for asked, message in (({"variables": "mslp"}, "no variable mslp"), ({"levels": [300]}, "no level 300 hPa"),
                           ({"time": "2002"}, "no initial time in 2002"), ({"member": 1}, "no ensemble members, and member 1 is asked for")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            ws.open_dataset(path, **asked)
    with pytest.raises(UserError, match="already exists"):
        forecast(run, small_store, str(path), **options)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt, which is no part of a folder of forecasts"):
        forecast(run, small_store, str(path), overwrite=True, **options)
    (path / "notes.txt").unlink()
    forecast(run, small_store, str(path), overwrite=True, **options | {"init": "2001-01-03"})
    assert len(list(path.iterdir())) == 5


def test_scores_of_all_formats_are_the_same(whole, run, small_store, tmp_path):
    paths = {"zarr": whole}
    for format in ("netcdf", "grib2"):
        paths[format] = str(tmp_path / format)
        forecast(run, small_store, paths[format], lead="12h", format=format, **OPTIONS)
    named = [f"{name}={path}" for name, path in paths.items()]
    scores = score(named, small_store, str(tmp_path / "scores.nc"), bootstrap=0, progress=False)
    for name in ("geopotential", "2m_temperature"):
        one, other, packed = (scores[name].sel(system=system, metric="rmse") for system in paths)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, packed, rtol=1e-3)


@pytest.mark.parametrize("gathered", [2**30, 0])
def test_a_store_of_many_chunks_has_a_shard_an_initial_time(gathered, whole, run, small_store, tmp_path, monkeypatch):
    monkeypatch.setattr(store_layout, "MOST_CHUNKS", 10)
    monkeypatch.setattr(store_layout, "_GATHERED_BYTES", gathered)
    path = str(tmp_path / "f.zarr")
    forecast(run, small_store, path, lead="12h", chunks="prediction_timedelta=1,level=1", **OPTIONS)
    found = xr.open_zarr(path, decode_timedelta=True)
    assert found["geopotential"].encoding["chunks"] == (1, 1, 1, 8, 16)
    assert found["geopotential"].encoding["shards"] == (1, 2 if gathered else 1, 2, 8, 16)
    xr.testing.assert_equal(found.load(), opened(whole))


@pytest.mark.slow
def test_members_of_several_checkpoints_come_into_one_file(run, small_store, tmp_path):
    options = {"lead": "12h", "checkpoints": "last:2", "members": 3, "amplitude": 0.3, **OPTIONS}
    forecast(run, small_store, str(tmp_path / "f.zarr"), **options)
    forecast(run, small_store, str(tmp_path / "f"), format="netcdf", **options)
    store, found = opened(tmp_path / "f.zarr"), open_forecast(str(tmp_path / "f"))
    np.testing.assert_array_equal(found["number"], store["realization"])
    for name, array in store.data_vars.items():
        read = found[name].transpose("time", "number", "prediction_timedelta", ...).values
        np.testing.assert_array_equal(read, array)
    with xr.open_dataset(tmp_path / "f" / "20010103T0000.nc", decode_timedelta=True) as one:
        assert one["checkpoint"].values.tolist() == [0, 1, 0] and one["perturbed"].values.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "hdf"}, "the format 'hdf' is not known; choose from zarr, netcdf, grib2"),
        ({"format": "netcdf", "chunks": "level=1"}, "--chunks and --shards are of Zarr stores"),
        ({"centre": 98}, "--centre is of GRIB"),
        ({"format": "grib2", "centre": -1}, "the centre -1 is none"),
        ({"shards": "time=1,prediction_timedelta=1", "lead": "12h"}, "do not hold whole chunks of 2"),
        ({"chunks": "day=1"}, "--chunks names 'day'; choose from time, prediction_timedelta, level"),
        ({"variables": ["t850"]}, "has no variable t850"),
        ({"region": "1,1,2,2"}, "holds no point"),
        ({"leads": "7h", "lead": None}, "7h is no multiple of the forecaster's step 6h"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(options, message, run, small_store, tmp_path):
    with pytest.raises(UserError, match=message):
        forecast(run, small_store, str(tmp_path / "f"), **{"lead": "6h", **OPTIONS, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["netcdf", "grib2"])
def test_a_folder_is_no_file_and_no_address(format, run, small_store, tmp_path):
    for path, message in ((str(tmp_path / "f.zarr"), "name a folder"), ("gs://bucket/f", "copy it afterwards")):
        with pytest.raises(UserError, match=message):
            forecast(run, small_store, path, lead="6h", format=format, **OPTIONS)
