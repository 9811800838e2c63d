"""Stores of other people's making are read for what they are, or refused in one line; never taken for something else."""

import logging
import re

import numpy as np
import pytest
import xarray as xr

from eval.scoring import open_scores, score
from weather_scnn.catalogue.units import GRAVITY
from weather_scnn.errors import UserError
from weather_scnn.io.forecasts import lead_times
from weather_scnn.io.initial_times import initial_times

OPTIONS = {"progress": False, "bootstrap": 0}


@pytest.fixture
def scored(world, tmp_path):
    """Scores some stores of the small world, others in the place of its own."""

    def run(**changes):
        paths = {**world, **{name: changes.pop(name) for name in list(changes) if name in world}}
        options = OPTIONS | {"climatology": paths["climatology"], "overwrite": True} | changes
        return score(paths["forecast"], paths["truth"], str(tmp_path / "scores.nc"), **options)

    return run


def test_a_name_that_means_another_quantity_has_its_units(scored, make, tmp_path):
    usual = scored(variables=["geopotential"])
    forecast, climatology = make.forecast(make.truth()), make.climatology()
    height = (forecast["geopotential"] / GRAVITY).astype(np.float32).drop_attrs(deep=False)
    path = make.write(xr.Dataset({"gh": height}), tmp_path / "gh.zarr")
    normal = (climatology["geopotential"] / GRAVITY).astype(np.float32).drop_attrs(deep=False)
    held = xr.Dataset({"gh": normal, "gh_std": normal}, attrs=climatology.attrs)
    found = scored(
        forecast=path, climatology=make.write(held, tmp_path / "c.zarr"), variables=["geopotential"]
    )  # fmt: skip
    for metric in ("rmse", "acc"):
        a, b = (each["geopotential"].sel(metric=metric) for each in (found, usual))
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_values_that_cannot_be_in_units_that_are_not_said(scored, make, tmp_path):
    truth = make.truth()[["2m_temperature"]]
    truth["2m_temperature"] += 280.0
    forecast = make.forecast(make.truth())[["2m_temperature"]]
    climatology = make.climatology()[["2m_temperature"]]
    climatology["2m_temperature"] += 280.0
    paths = {"truth": make.write(truth, tmp_path / "t.zarr")}
    paths["climatology"] = make.write(climatology, tmp_path / "c.zarr")
    celsius = forecast.copy(deep=True)
    celsius["2m_temperature"] += 6.85
    del celsius["2m_temperature"].attrs["units"]
    path = make.write(celsius, tmp_path / "celsius.zarr")
    with pytest.raises(
        UserError, match=r"celsius.zarr: 2m_temperature is implausible: .* it looks like degrees Celsius"
    ):
        scored(forecast=path, **paths)
    celsius["2m_temperature"].attrs["units"] = "degC"
    found = scored(forecast=make.write(celsius, tmp_path / "said.zarr"), **paths)
    kelvin = forecast.copy(deep=True)
    kelvin["2m_temperature"] += 280.0
    del kelvin["2m_temperature"].attrs["units"]
    same = scored(forecast=make.write(kelvin, tmp_path / "kelvin.zarr"), **paths)
    np.testing.assert_allclose(found["2m_temperature"], same["2m_temperature"], rtol=1e-3, atol=1e-4)
    climatology["2m_temperature"] -= 273.15
    climatology["2m_temperature"].attrs["units"] = "furlong"
    paths["climatology"] = make.write(climatology, tmp_path / "furlong.zarr")
    with pytest.raises(UserError, match=r"furlong.zarr: 2m_temperature is implausible"):
        scored(forecast=str(tmp_path / "kelvin.zarr"), **paths)


def test_a_climatology_in_short_names_and_levels_in_pascals(scored, make, tmp_path):
    usual = scored()
    names = {"geopotential": "z", "2m_temperature": "t2m", "u_component_of_wind": "u", "v_component_of_wind": "v"}
    pascals = ("level", np.array([50000.0, 85000.0]), {"units": "Pa"})
    climatology = make.climatology().rename(names).assign_coords(level=pascals)
    forecast = make.forecast(make.truth()).assign_coords(level=pascals).isel(level=[1, 0])
    found = scored(
        forecast=make.write(forecast, tmp_path / "f.zarr"), climatology=make.write(climatology, tmp_path / "c.zarr")
    )
    xr.testing.assert_allclose(found.drop_attrs(), usual.drop_attrs())


def test_no_order_of_forecasts_hides_a_field_and_what_is_left_out_is_told(scored, world, make, tmp_path, caplog):
    whole = make.forecast(make.truth())
    less = whole.drop_vars("v_component_of_wind").isel(prediction_timedelta=slice(0, 3), level=[0])
    path = make.write(less, tmp_path / "less.zarr")
    found = {}
    for order in ((f"less={path}", f"whole={world['forecast']}"), (f"whole={world['forecast']}", f"less={path}")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found[order[0][:4]] = scored(forecast=list(order))
        assert "less has no v_component_of_wind" in caplog.text and "not scored: levels: 850 hPa" in caplog.text
        told = "not scored: lead times that less has not got: 24, 30, 36, 42, 48 h" in caplog.text
        assert told == order[0].startswith("less")
    for name in ("v_component_of_wind", "wind_vector"):
        assert np.isnan(found["less"][name].sel(system="less")).all()
        np.testing.assert_array_equal(
            found["less"][name].sel(system="whole"),
            found["whol"][name].sel(system="whole").isel(lead_time=slice(0, 3)),
        )


def test_stores_that_are_no_forecast_or_no_truth(scored, world, make, tmp_path):
    forecast = make.forecast(make.truth())
    with pytest.raises(UserError, match=r"forecast.zarr: has lead times: it is a forecast"):
        scored(truth=world["forecast"])
    two = xr.concat([forecast, forecast], "experiment").transpose(..., "experiment", "latitude", "longitude")
    with pytest.raises(UserError, match="has no field with lead times"):
        scored(forecast=make.write(two, tmp_path / "two.zarr"))
    with pytest.raises(UserError, match=r"bare.zarr: the latitude axis has no coordinate values"):
        scored(forecast=make.write(forecast.drop_vars("latitude"), tmp_path / "bare.zarr"))
    for name, content, message in (
        ("f.zarr.zip", b"PK\x03\x04", "is a zip archive"),
        ("f.grib", b"GRIB", "cannot be read as GRIB"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            scored(forecast=str(tmp_path / name))
    for values, message in (
        (np.array(["6h", "12h"]), "lead times are text such as '6h'"),
        (np.array([6, 12]) * 3600 * 10**9, "lead times reach 4.32e.13 hours"),
    ):
        with pytest.raises(UserError, match=message):
            lead_times(xr.DataArray(values, dims="lead"), "f.zarr")


def test_options_that_leave_nothing_to_score_or_to_write(scored, world, tmp_path):
    with pytest.raises(UserError, match="blocks of 12 init times leave nothing to draw from 12"):
        scored(bootstrap=10, block=12)
    (tmp_path / "file").write_text("")
    for output, message in (
        (tmp_path / "scores.zarr", "end it in .nc"),
        (tmp_path / "file/s.nc", "is a file, not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            score(world["forecast"], world["truth"], str(output), **OPTIONS)


def test_one_init_time_has_no_variance_at_a_place(scored, tmp_path):
    scored(init="2021-01-02T00:2021-01-02T00", maps=["24h"])
    maps = open_scores(str(tmp_path / "scores.nc"), group="maps")
    assert {"geopotential", "wind_vector"} <= set(maps.data_vars)
    for name in maps.data_vars:
        assert np.isfinite(maps[name].sel(metric="rmse", system="model")).all()
        assert np.isnan(maps[name].sel(metric="explained_variance", system="model")).all()


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("2001-01-01:2001-01-03:12h", [1, 3, 5, 7, 9]),
        ("2001-01-01T06:2001-01-03:12h", [0, 2, 4, 6, 8, 10]),
        (":2001-01-02:24h", [0, 4]),
        ("2001-01-02:2001-01-02", [3, 4, 5, 6]),
    ],
)
def test_steps_of_initial_times_count_from_the_first_asked_for(text, positions):
    times = np.datetime64("2001-01-01T06", "ns") + np.arange(12) * np.timedelta64(6, "h")
    np.testing.assert_array_equal(initial_times(times[::-1], text), times[positions])


def _of_some_days(climatology, *, empty):
    """A climatology without values on some days of the year."""
    kept = ~climatology["dayofyear"].isin(list(empty))
    return climatology.where(kept).astype(np.float32).assign_attrs(climatology.attrs)


def test_a_climatology_without_the_scored_days(scored, make, tmp_path, caplog, monkeypatch):
    usual, climatology = scored(), make.climatology()
    nowhere = make.write(_of_some_days(climatology, empty=range(1, 60)), tmp_path / "nowhere.zarr")
    with caplog.at_level(logging.WARNING):
        found = scored(climatology=nowhere)
    assert "nowhere.zarr holds no values on the scored days" in caplog.text and "acc" not in found["metric"].values
    for name in usual.data_vars:
        np.testing.assert_allclose(found[name].sel(metric="rmse"), usual[name].sel(metric="rmse"), rtol=1e-6)
    one = climatology.copy()
    one["2m_temperature"] = one["2m_temperature"] * np.float32(np.nan)
    found = scored(climatology=make.write(one, tmp_path / "one.zarr"))
    assert np.isnan(found["2m_temperature"].sel(metric="acc")).all()
    assert np.isfinite(found["geopotential"].sel(metric="acc")).all()

    def nothing_may_be_scored(*_, **__):
        raise AssertionError

    monkeypatch.setattr("eval.scoring._run", nothing_may_be_scored)
    with pytest.raises(
        UserError, match=r"holds no value of .* on the scored days, 2021-01-01T.*leave out the baseline"
    ):
        scored(climatology=nowhere, baselines=["climatology"])
    some = make.write(_of_some_days(climatology, empty=range(4, 60)), tmp_path / "some.zarr")
    with pytest.raises(UserError, match=r"some.zarr: holds no .* at \d+ of \d+ scored times, the first 2021-01-04T00"):
        scored(climatology=some)
    days = make.write(climatology.isel(dayofyear=slice(0, 4)), tmp_path / "days.zarr")
    with pytest.raises(UserError, match=r"days.zarr: has no dayofyear 5, needed for 2021-01-05T00 and"):
        scored(climatology=days)
    hours = make.write(climatology.isel(hour=[0, 2]), tmp_path / "hours.zarr")
    with pytest.raises(UserError, match=r"hours.zarr: has no hour 6 \(it has 0, 12\)"):
        scored(climatology=hours)


def test_truth_without_values_or_valid_times(scored, make, tmp_path, caplog):
    truth = make.truth()
    holes = truth.isel(time=np.r_[0:10, 14:80])
    with caplog.at_level(logging.WARNING):
        scored(truth=make.write(holes, tmp_path / "holes.zarr"))
    assert "the truth lacks 16 of 96 valid times of the forecasts" in caplog.text
    empty = make.write(truth.where(False).astype(np.float32), tmp_path / "empty.zarr")
    with pytest.raises(UserError, match="nothing could be scored"):
        scored(truth=empty)
    assert not list(tmp_path.glob("*.progress")) and not (tmp_path / "scores.nc.progress").exists()


def test_forecasts_that_cannot_be_are_told_and_scored(scored, make, tmp_path, caplog):
    warm = make.truth()[["2m_temperature"]]
    warm["2m_temperature"] = warm["2m_temperature"] + np.float32(280)
    forecast = make.forecast(warm.assign(land_sea_mask=0.0))
    paths = {"truth": make.write(warm, tmp_path / "t.zarr"), "forecast": make.write(forecast, tmp_path / "f.zarr")}
    with caplog.at_level(logging.WARNING):
        scored(**paths, climatology=None)
    assert "implausible" not in caplog.text
    forecast["2m_temperature"][3:5, 5:, 2, 2] = 1e14
    paths["forecast"] = make.write(forecast, tmp_path / "wild.zarr")
    with caplog.at_level(logging.WARNING):
        found = scored(**paths, climatology=None)
    expected = "model: 2m_temperature is implausible, outside .* K, from 36 h ahead on, in 2 of 12 init times"
    assert re.search(expected, caplog.text)
    counts = open_scores(str(tmp_path / "scores.nc"), group="sums")["implausible_forecast"].sel(system="model")
    assert counts.sum() == 6 and np.all(counts.isel(field=0, init_time=[3, 4], lead_time=slice(5, None)) == 1)
    assert found.attrs["implausible_in_forecast"] == 6
    assert found["2m_temperature"].sel(metric="rmse", system="model").isel(lead_time=-1).item() > 1e12
