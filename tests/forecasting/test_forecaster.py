"""The forecaster from Python: the command's numbers, and single steps that make up a forecast."""

import numpy as np
import pytest
import xarray as xr

import weather_scnn as ws
from weather_scnn.forecasting.forecast import forecast as command


@pytest.fixture(scope="module")
def model(run):
    return ws.load_forecaster(run)


@pytest.mark.parametrize("kind", ["path", "memory", "dask"])
def test_forecasts_equal_the_command(kind, model, run, small_store, tmp_path):
    source = {"path": lambda: small_store, "memory": lambda: xr.open_zarr(small_store).load(),
              "dask": lambda: xr.open_zarr(small_store)}[kind]()  # fmt: skip
    first = str(xr.open_zarr(small_store)["time"].values[4])[:13]
    options = {"init": first, "lead": "12h", "members": 2, "perturbation": "increments", "amplitude": 0.3, "seed": 3}
    command(run, small_store, str(tmp_path / "forecast.zarr"), progress=False, **options)
    written, found = (
        xr.open_zarr(tmp_path / "forecast.zarr", decode_timedelta=True).load(),
        model.forecast(source, **options),
    )
    for name in written.variables:
        np.testing.assert_array_equal(found[name].values, written[name].values, err_msg=str(name))
    assert found["geopotential"].dims == written["geopotential"].dims and "request" not in found.attrs


def test_steps_make_up_a_forecast(model, small_store):
    states = ws.open_dataset(small_store)
    past = states.isel(time=slice(0, 4)).load()
    one = model.step(past)
    assert one["time"].values == past["time"].values[-1:] + model.timestep
    assert set(one.data_vars) == set(model.variables)
    assert all(isinstance(array.data, np.ndarray) for array in one.data_vars.values())  # joins a lazy dataset, too
    xr.testing.assert_equal(
        model.forecast(small_store, init=past["time"].values[-1], lead="6h"),
        model.forecast(small_store, init=str(past["time"].values[-1])[:16], lead="6h"),
    )
    two = model.step(xr.concat([past[list(model.variables)], one], "time").merge(
        states[[name for name in states.data_vars if "time" not in states[name].dims]].load()
    ))  # fmt: skip
    whole = model.forecast(small_store, init=str(past["time"].values[-1])[:13], lead="12h")
    for lead, state in enumerate((one, two)):
        for name in model.variables:
            expected = whole[name].isel(prediction_timedelta=lead).values
            np.testing.assert_allclose(state[name].values, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def test_the_forecaster_tells_what_it_takes(model):
    assert model.grid.name and model.levels and model.timestep == np.timedelta64(6, "h")
    with pytest.raises(ws.UserError):
        ws.load_forecaster("nowhere")


def test_a_forecast_that_leaves_the_plausible_is_told_without_options_of_the_command(model, small_store):
    with pytest.raises(ws.UserError, match="implausible") as raised:
        model.forecast(small_store, init="2001-01-02T00", lead="6h", members=2, amplitude=1e4)
    assert "allow_implausible=True" in str(raised.value) and "--" not in str(raised.value)
