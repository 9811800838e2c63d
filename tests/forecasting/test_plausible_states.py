"""Forecasts start from states that can be, stop where they no longer are, and hold nothing negative that cannot be."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from weather_scnn.catalogue.variables import VARIABLES
from weather_scnn.errors import UserError
from weather_scnn.forecasting import forecast as module
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.forecast_store import to_dataset
from weather_scnn.forecasting.plausible_states import Clipped
from weather_scnn.forecasting.propagation import propagate, read_states
from weather_scnn.forecasting.trained_run import TrainedRun
from weather_scnn.nn import map_fields
from weather_scnn.training.channels import Channels
from weather_scnn.training.forcings import phases
from weather_scnn.training.loss import make_scales
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.states import StateReader, expected_grid

INIT = "2001-01-04:2001-01-04:12h"
OPTIONS = {"init": INIT, "lead": "54h", "batch_size": 4, "progress": False}


def opened(path) -> xr.Dataset:
    return xr.open_zarr(path, decode_timedelta=True).load()


def changed(small_store, folder, name, at, change) -> str:
    """A copy of the small store with one time of a field changed."""
    store = xr.open_zarr(small_store).load()
    store[name].loc[{"time": at}] = change(store[name].sel(time=at))
    path = str(folder / "changed.zarr")
    store.drop_encoding().chunk(time=1).to_zarr(path, zarr_format=2)
    return path


def set_one(value):
    """Sets one point of a map, at the lowest level where there are levels."""

    def change(array):
        array = array.copy()
        array.values[..., 3, 5] = value
        return array

    return change


IMPOSSIBLE = {
    "a fill value": ("2m_temperature", set_one(9.96921e36), "2m_temperature is implausible"),
    "an infinity": ("u_component_of_wind", set_one(np.inf), "u_component_of_wind is implausible|missing values"),
    "a missing value": ("2m_temperature", set_one(np.nan), "missing values"),
    "a height": ("geopotential", lambda array: array / 9.80665, "it looks like a height in metres"),
    "Celsius": ("2m_temperature", lambda array: array - 273.15, "it looks like degrees Celsius"),
    "a wind of the component that is not first": ("v_component_of_wind", set_one(-999.0), "v_component_of_wind"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_every_initial_state_is_judged_before_anything_is_written(run, small_store, tmp_path, case):
    name, change, match = IMPOSSIBLE[case]
    path = changed(small_store, tmp_path, name, "2001-01-04T12", change)
    with pytest.raises(UserError, match=match) as told:
        forecast(run, path, str(tmp_path / "f.zarr"), **OPTIONS)
    assert "2001-01-04T12:00" in str(told.value) and "changed.zarr" in str(told.value)
    assert not (tmp_path / "f.zarr").exists()
    if case in ("a missing value", "Celsius"):
        # What is impossible at another time matters to nobody.
        forecast(run, path, str(tmp_path / "g.zarr"), **{**OPTIONS, "init": "2001-01-04T00", "lead": "6h"})


def test_bred_vectors_start_from_plausible_states(run, small_store, tmp_path):
    path = changed(small_store, tmp_path, "2m_temperature", "2001-01-03T00", set_one(1e4))
    options = {**OPTIONS, "members": 2, "lead": "6h", "amplitude": 0.2}
    with pytest.raises(UserError, match="2001-01-03T00:00"):
        forecast(run, path, str(tmp_path / "f.zarr"), perturbation="bred", **options)
    assert not (tmp_path / "f.zarr").exists()
    # Random fields need the increments of the store: the two that are spoilt are left out.
    whole, lacking = str(tmp_path / "whole.zarr"), str(tmp_path / "lacking.zarr")
    forecast(run, small_store, whole, **options)
    forecast(run, path, lacking, **options)
    spread = [float(opened(each)["2m_temperature"].std("realization").mean()) for each in (whole, lacking)]
    assert spread[1] == pytest.approx(spread[0], rel=0.2)


def test_impossible_states_are_forecast_from_if_asked(run, small_store, tmp_path, capsys):
    path = changed(small_store, tmp_path, "2m_temperature", "2001-01-04T12", lambda array: array - 273.15)
    forecast(run, path, str(tmp_path / "f.zarr"), allow_implausible=True, **{**OPTIONS, "progress": True})
    found = opened(tmp_path / "f.zarr")
    assert np.isfinite(found["2m_temperature"]).all()
    told = json.loads(found.attrs["implausible"])
    assert [each["initial_time"] for each in told] == ["2001-01-04T12:00"] and told[0]["lead_hours"] == 6
    assert "stopped" not in found.attrs and "2m_temperature is implausible" in capsys.readouterr().err


def running_away(place: int, lead: int):
    """`propagate` whose forecast at one place of the batch leaves the plausible at one lead of the first block."""

    def runs_away(*arguments, leads):
        history, chance, states = propagate(*arguments, leads=leads)
        scalar = states.scalar.at[lead - 1 :, place, 2, 3, 0].set(1e12)
        return (
            map_fields(lambda array: array.at[place].set(jnp.nan), history),
            chance,
            states._replace(scalar=scalar),
        )

    return runs_away


def test_a_forecast_stops_where_it_leaves_the_plausible_and_the_others_go_on(run, small_store, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole.zarr", tmp_path / "broken.zarr"
    forecast(run, small_store, str(whole), **OPTIONS)
    monkeypatch.setattr(module, "propagate", running_away(1, 3))
    with pytest.raises(UserError, match="geopotential at 500 hPa is implausible") as told:
        forecast(run, small_store, str(broken), **OPTIONS)
    assert "lead 18 h" in str(told.value) and "2001-01-04T12:00" in str(told.value)
    monkeypatch.setattr(module, "propagate", propagate)
    found, expected = opened(broken), opened(whole)
    assert found.attrs["status"] == "complete"
    early = {"prediction_timedelta": slice(0, 2)}
    for name in expected.data_vars:
        assert np.array_equal(found[name].isel(time=0), expected[name].isel(time=0))
        assert np.array_equal(found[name].isel(time=1, **early), expected[name].isel(time=1, **early))
        assert np.isnan(found[name].isel(time=1, prediction_timedelta=slice(2, None))).all()
    (stop,) = json.loads(found.attrs["stopped"])
    assert stop["lead_hours"] == 18 and stop["initial_time"] == "2001-01-04T12:00" and stop["member"] is None
    # The same command again says the same, and computes nothing.
    with pytest.raises(UserError, match="1 forecast that stopped, the first since geopotential at 500 hPa"):
        forecast(run, small_store, str(broken), **OPTIONS)


def test_a_killed_forecast_that_stops_ends_as_an_uninterrupted_one(
    run, small_store, tmp_path, monkeypatch, interrupted_at
):
    monkeypatch.setattr(module, "propagate", running_away(0, 2))
    options = {**OPTIONS, "batch_size": 1, "init": "2001-01-04:2001-01-04", "lead": "12h"}
    whole, broken = str(tmp_path / "whole.zarr"), str(tmp_path / "broken.zarr")
    with pytest.raises(UserError, match="3 more forecasts stopped") as first:
        forecast(run, small_store, whole, **options)
    interrupted_at(3)
    with pytest.raises(KeyboardInterrupt):
        forecast(run, small_store, broken, **options)
    with pytest.raises(UserError) as second:
        forecast(run, small_store, broken, **options)
    assert str(second.value).replace("broken", "whole") == str(first.value)
    one, other = opened(whole), opened(broken)
    assert one.attrs["stopped"] == other.attrs["stopped"] and one.equals(other)


def test_a_member_that_runs_away_is_named(run, small_store, tmp_path):
    """A perturbation that is no small one makes a state that cannot be; the control is not perturbed."""
    path = str(tmp_path / "f.zarr")
    with pytest.raises(UserError, match=r"initial state of 2001-01-04T00:00 \(member 1\).*a smaller --amplitude"):
        forecast(run, small_store, path, members=2, amplitude=1e4, **OPTIONS)
    found = opened(path)
    assert np.isfinite(found["2m_temperature"].isel(realization=0)).all()
    assert np.isnan(found["2m_temperature"].isel(realization=1)).all()
    assert [each["member"] for each in json.loads(found.attrs["stopped"])] == [1, 1]


@pytest.fixture(scope="module")
def humid(small_config, small_store, tmp_path_factory):
    """(untrained run, store) with humidity and precipitation, zero over much of the globe."""
    store = xr.open_zarr(small_store).load()
    wave = store["u_component_of_wind"] - 10
    store["specific_humidity"] = (wave.clip(0) * 2e-4).assign_attrs(units="kg kg**-1")
    rain = (wave.isel(level=0, drop=True).clip(0) * 1e-4).assign_attrs(units="m")
    store["total_precipitation_6hr"] = rain
    path = str(tmp_path_factory.mktemp("humid") / "humid.zarr")
    store.drop_encoding().chunk(time=1).to_zarr(path, zarr_format=2)
    data = dataclasses.replace(
        small_config.data,
        path=path,
        level_variables=("geopotential", "specific_humidity"),
        surface_variables=("2m_temperature", "total_precipitation_6hr"),
        static_variables=(),
    )
    channels, grid = Channels.from_config(data), expected_grid(data)
    arrays = [store[name] if level is None else store[name].sel(level=level) for name, level in channels.scalars]
    mean, std, change = (
        np.array([float(measure(array)) for array in arrays])
        for measure in (xr.DataArray.mean, xr.DataArray.std, lambda array: array.diff("time").std())
    )
    none = np.zeros(0)
    moments = Normalisation(mean, std, change, none, none, none, none)
    parts = take_apart(build(small_config.model, data, channels, grid, 1))
    # Grown, so that an untrained network moves the state.
    parts = parts._replace(parameters=jax.tree.map(lambda array: 2 * array, parts.parameters))
    config = dataclasses.replace(small_config, data=data)
    statics = np.sin(np.radians(grid.latitude))[:, None, None] * np.ones((*grid.shape, 1), np.float32)
    return TrainedRun(config, moments, channels, grid, parts, statics.astype(np.float32), "untrained@0"), path


def test_nothing_negative_is_written_that_the_catalogue_calls_never_negative(humid, tmp_path, monkeypatch, capsys):
    run, path = humid
    monkeypatch.setattr(module, "load_runs", lambda *_: [run])
    forecast("untrained", path, str(tmp_path / "f.zarr"), **{**OPTIONS, "lead": "24h", "progress": True})
    found, said = opened(tmp_path / "f.zarr"), capsys.readouterr().err
    # The states that the network went on from are not clipped.
    reader = StateReader.open(path, run.channels, run.normalisation, run.grid)
    rows = np.flatnonzero(np.isin(reader.times, found["time"].values))[:, None]
    times = reader.times[rows] + np.timedelta64(6, "h") * np.arange(5)
    scales = make_scales(run.channels, run.normalisation, run.statics, run.grid)
    *_, states = propagate(run.parts, read_states(reader, rows), scales, jnp.asarray(phases(times)), leads=4)
    raw = to_dataset(map_fields(np.asarray, states), reader, members=1, ensemble=False)
    told = json.loads(found.attrs["clipped"])
    assert set(told) == {"specific_humidity", "total_precipitation_6hr"}
    for name, each in told.items():
        below = raw[name].values.astype(np.float64)[raw[name].values < 0]
        assert float(found[name].min()) == 0 and each["count"] == below.size > 0
        assert each["share"] == pytest.approx(below.size / raw[name].size)
        assert each["sum"] == pytest.approx(below.sum(), rel=1e-4)
        np.testing.assert_allclose(found[name], raw[name].clip(0), atol=1e-7)
        assert f"{name}: {below.size} values below zero" in said
    np.testing.assert_allclose(found["2m_temperature"], raw["2m_temperature"], rtol=1e-5)


def test_what_is_clipped_adds_up_over_pieces():
    values = np.array([[-1.0, 2.0], [np.nan, -3.0]], np.float32)
    fields = xr.Dataset({name: (("latitude", "longitude"), values) for name in ("specific_humidity", "temperature")})
    clipped = Clipped()
    for _ in range(2):
        found = clipped.clip(fields)
    np.testing.assert_array_equal(found["specific_humidity"], [[0, 2], [np.nan, 0]])
    np.testing.assert_array_equal(found["temperature"], values)
    assert clipped.describe() == {"specific_humidity": {"count": 4, "share": 4 / 6, "sum": -8.0}}


def test_amounts_and_fractions_are_never_negative():
    named = {each.name for each in VARIABLES if each.never_negative}
    assert {
        "specific_humidity",
        "total_precipitation_24hr",
        "total_cloud_cover",
        "10m_wind_speed",
        "snow_depth",
    } <= named
    assert {"total_column_water_vapour", "relative_humidity", "specific_cloud_ice_water_content"} <= named
    signed = {"temperature", "vertical_velocity", "evaporation", "geopotential", "potential_vorticity", "divergence"}
    assert not signed & named
