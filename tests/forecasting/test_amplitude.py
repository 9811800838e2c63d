"""The amplitude that `auto` chooses, and options that no forecast can have."""

import dataclasses
import shutil

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.forecasting import forecast as module
from weather_scnn.forecasting.amplitude import Fit, _root
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.trained_run import load_run

INIT = "2001-01-06:2001-01-08"
DAY = np.timedelta64(24, "h")


@pytest.mark.parametrize("power", [0.5, 1.0, 1.4])
def test_the_root_is_found_of_any_power_of_the_amplitude(power):
    amplitude, left = _root(lambda a: power * np.log(a / 0.7) if a < 2 else np.inf)
    assert amplitude == pytest.approx(0.7, rel=0.05) and abs(left) < 0.02


def test_the_amplitude_stays_in_bounds():
    assert _root(lambda a: np.log(a / 100))[0] == pytest.approx(4)
    assert _root(lambda a: 0.3 + 0.01 * a)[0] == pytest.approx(0.01)
    few = []
    _root(lambda a: few.append(a) or np.log(a / 0.9))
    assert len(few) == 2  # on a line of slope 1 the second trial is right


@pytest.fixture(scope="module")
def validated(run):
    """The run, as one that was validated on three days."""
    trained = load_run(run)
    data = dataclasses.replace(trained.config.data, validation=INIT)
    return dataclasses.replace(trained, config=dataclasses.replace(trained.config, data=data))


def test_spread_is_fitted_to_error_at_a_day_once(run, validated, small_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "load_runs", lambda *_: [validated])
    path, fits, original = str(tmp_path / "f.zarr"), [], Fit.__call__

    def counted(*arguments):
        fits.append(1)
        return original(*arguments)

    monkeypatch.setattr(Fit, "__call__", counted)
    options = {"init": INIT, "lead": "24h", "members": 4, "batch_size": 16}
    with monkeypatch.context() as killed:
        killed.setattr(module._Job, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forecast(run, small_store, path, **options)
    told = capsys.readouterr().err
    forecast(run, small_store, path, **options)
    assert len(fits) == 1  # the amplitude that was chosen stays, however often the command is repeated
    found = xr.open_zarr(path, decode_timedelta=True).load()
    amplitude = found.attrs["amplitude"]
    assert f"amplitude {amplitude:g}:" in told and f"validation period {INIT}" in found.attrs["amplitude_fit"]
    # Independently: geometric mean over channels of spread · √(5/4) / error of the mean, a wind as a vector.
    truth = xr.open_zarr(small_store).load()
    ours = found.sel(prediction_timedelta=DAY)
    ours = ours.sel(time=ours.time[np.isin(ours.time + DAY, truth.time)])
    area = np.cos(np.radians(ours["latitude"]))
    squares = []
    for names in (["geopotential"], ["2m_temperature"], ["u_component_of_wind", "v_component_of_wind"]):
        spread = error = 0.0
        for name in names:
            right = truth[name].sel(time=ours.time.values + DAY).assign_coords(time=ours.time)
            spread = spread + ours[name].var("realization", ddof=1).weighted(area).mean(
                ("time", "latitude", "longitude")
            )
            wrong = (ours[name].mean("realization") - right) ** 2
            error = error + wrong.weighted(area).mean(("time", "latitude", "longitude"))
        squares += list(np.atleast_1d(spread / error * 5 / 4))
    ratio = np.exp(0.5 * np.log(squares).mean())
    stated = float(found.attrs["amplitude_fit"].split()[1])
    assert ratio == pytest.approx(stated, rel=0.15) and (stated == pytest.approx(1, abs=0.03) or amplitude == 4)


@pytest.mark.slow
def test_without_validation_other_days_are_taken_and_it_is_said(run, small_store, tmp_path):
    options = {"members": 2, "lead": "6h", "batch_size": 16, "progress": False}
    forecast(run, small_store, str(tmp_path / "f.zarr"), init="2001-01-02", **options)
    told = xr.open_zarr(str(tmp_path / "f.zarr")).attrs["amplitude_fit"]
    assert "outside of this forecast's, since the run has no validation period" in told
    forecast(run, small_store, str(tmp_path / "g.zarr"), init="2001-01-02", amplitude="0.3", **options)
    found = xr.open_zarr(str(tmp_path / "g.zarr")).attrs
    assert found["amplitude"] == 0.3 and "amplitude_fit" not in found
    # Two states, as an operational day may have: enough for the increments, but for no forecast that is verified.
    two = str(tmp_path / "two.zarr")
    xr.open_zarr(small_store).isel(time=[4, 5]).drop_encoding().to_zarr(two, zarr_format=2)
    forecast(run, two, str(tmp_path / "h.zarr"), init="2001-01-02T06", **options)
    found = xr.open_zarr(str(tmp_path / "h.zarr")).attrs
    assert found["amplitude"] == 0.2 and found["amplitude_fit"].startswith("not fitted")


REFUSED = {
    "--batch-size 0": "a batch cannot hold 0 forecasts",
    "--batch-size -2": "a batch cannot hold -2 forecasts",
    "--members 0": "there cannot be 0 members",
    "--members -3": "there cannot be -3 members",
    "--members 3 --amplitude 0": "the amplitude 0 is not positive",
    "--members 3 --amplitude -1": "the amplitude -1 is not positive",
    "--members 3 --amplitude nan": "the amplitude nan is not positive",
    "--members 3 --amplitude inf": "the amplitude inf is not positive",
    "--members 3 --amplitude big": "the amplitude 'big' is not a number",
    "--members 3 --seed -1": "the seed -1 is negative",
    "--perturbation increments": "would perturb nothing",
    "--members 1 --perturbation bred": "would perturb nothing",
    "--checkpoints 10,10": "is named 2 times",
}


@pytest.mark.parametrize("options", REFUSED)
def test_options_that_no_forecast_can_have_get_one_line(run, small_store, tmp_path, options):
    output = tmp_path / "f.zarr"
    base = ["forecast", "--workdir", run, "--input", small_store, "--output", str(output), "--init", INIT]
    result = CliRunner().invoke(app, [*base, "--lead", "6h", *options.split()])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ") and REFUSED[options] in result.stderr
    assert not output.exists()


def test_initial_times_that_are_not_there_are_told(run, small_store, tmp_path, caplog):
    """09 12 UTC is missing in the store; 2001-01-13 is past its end."""
    options = {"init": "2001-01-09:2001-01-13:12h", "lead": "6h", "batch_size": 16, "progress": False}
    forecast(run, small_store, str(tmp_path / "f.zarr"), **options)
    assert xr.open_zarr(str(tmp_path / "f.zarr")).sizes["time"] == 7
    assert "lacks 1 of 8 initial times, the first at 2001-01-09T12:00" in caplog.text
    assert "ends at 2001-01-12T18:00, before the last initial time asked for, 2001-01-13" in caplog.text


def test_an_existing_output_is_refused_before_anything_is_loaded(small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "there.zarr")
    with pytest.raises(UserError, match="already exists"):
        forecast("nowhere", small_store, str(tmp_path / "there.zarr"), init=INIT, lead="6h", progress=False)
