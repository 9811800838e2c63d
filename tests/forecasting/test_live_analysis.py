"""Forecasts from today's analysis of a weather service."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from tests import guides
from tests.io import weather_services
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.io import ecmwf_open_data, live_sources, noaa_gfs
from weather_scnn.live_analysis import fields_of, initial_states
from weather_scnn.regridding.apply import WeightedRegridder
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere import Grid

pytest.importorskip("ecmwf.opendata")
TIMES = np.array(["2026-11-01T00", "2026-11-01T12"], "datetime64[ns]")


@pytest.fixture
def services(tmp_path, monkeypatch):
    """Both services on this machine, with two analyses each."""
    with weather_services.serve() as ecmwf, weather_services.serve() as gfs:
        for time in TIMES:
            ecmwf.files |= weather_services.ecmwf(time)
            gfs.files |= weather_services.gfs(time)
        monkeypatch.setenv(ecmwf_open_data.ADDRESS, ecmwf.address)
        monkeypatch.setenv(noaa_gfs.ADDRESS, gfs.address)
        monkeypatch.setenv(live_sources.VARIABLE, str(tmp_path / "cache"))
        monkeypatch.setattr(live_sources, "_PAUSES_SECONDS", (0.0,))
        yield {"ecmwf-open-data": ecmwf, "noaa-gfs": gfs}


def command(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_forecast_from_each_service_is_that_from_its_regridded_files(services, run, tmp_path):
    """By hand: the fields regridded by the library, then a forecast from them."""
    levels = {name: [500, 850] for name in ("geopotential", "u_component_of_wind", "v_component_of_wind")}
    weights = make_weights(weather_services.LATITUDE[::-1], weather_services.LONGITUDE, Grid.equiangular(16, 8))
    for name, server in services.items():
        live, by_hand, again = (tmp_path / f"{name}-{what}.zarr" for what in ("live", "by-hand", "again"))
        words = ["forecast", "--workdir", run, "--lead", "12h"]
        result = command(*words, "--input", name, "--output", live, "--init", "2026-11-01T12")
        assert result.exit_code == 0, result.output
        assert f"{name}: analyses of 2026-11-01T12 (1)" in result.stderr
        asked = len(server.asked)
        regrid = [
            "regrid",
            "--input",
            name,
            "--output",
            by_hand,
            "--grid",
            "16x8",
            "--time",
            "2026-11-01T12",
            "--no-beam",
        ]
        result = command(*regrid, "--variables", ",".join([*levels, "2m_temperature"]), "--levels", "500,850")
        assert result.exit_code == 0, result.output
        assert command(*words, "--input", by_hand, "--output", again, "--init", "latest").exit_code == 0
        assert len(server.asked) == asked  # all was in the cache
        made = xr.open_zarr(live).load()
        np.testing.assert_array_equal(made["time"], TIMES[1:])
        xr.testing.assert_equal(made, xr.open_zarr(again).load())
        sent = weather_services.values("2t", 0, TIMES[1], 285.0, 8.0)[::-1]
        np.testing.assert_allclose(
            xr.open_zarr(by_hand)["2m_temperature"][0], WeightedRegridder(weights).scalars(sent), atol=0.01
        )


def test_the_newest_analysis_and_the_states_before_it(services, run):
    trained = load_run(run)
    data = dataclasses.replace(trained.config.data, input_steps=2, input_step="12h")
    once = dataclasses.replace(trained.config.training, stages=trained.config.training.stages[:1])
    config = dataclasses.replace(trained.config, data=data, training=once)
    two = dataclasses.replace(trained, config=config, statics=None)
    store, init = initial_states("noaa-gfs", "2026-11-01T12", [two])
    states = xr.open_zarr(store)
    assert init == "2026-11-01T12" and states.sizes["time"] == 2
    assert "land_sea_mask" in states  # the checkpoint is taken to have none
    hourly = dataclasses.replace(data, input_step="1h")
    with pytest.raises(UserError, match="needs states 1h apart, and analyses are of 00, 06, 12 and 18 UTC"):
        initial_states(
            "noaa-gfs", init, [dataclasses.replace(two, config=dataclasses.replace(two.config, data=hourly))]
        )


def test_check_of_a_service(services):
    result = command("check", "--input", "noaa-gfs", "--variables", "geopotential,2m_temperature", "--levels", "500",
                     "--time", "2026-11-01T12")  # fmt: skip
    assert result.exit_code == 0 and "geopotential" in result.output, result.output


def test_what_a_service_cannot_be_asked_is_said_in_a_line(services, run, tmp_path):
    with pytest.raises(UserError, match="name fields with --variables"):
        fields_of("noaa-gfs", None, None)
    with pytest.raises(UserError, match="geopotential is on levels; name them with --levels"):
        fields_of("noaa-gfs", ["geopotential"], None)
    services["noaa-gfs"].files |= weather_services.gfs(TIMES[0], without=("2t",))
    noaa_gfs._ranges.cache_clear()
    words = ["forecast", "--workdir", run, "--input", "noaa-gfs", "--output", tmp_path / "f.zarr", "--lead", "12h"]
    result = command(*words, "--init", "2026-11-01T00")
    assert result.exit_code == 1
    assert "noaa-gfs: the analysis of 2026-11-01T00 has no 2m_temperature; try ecmwf-open-data" in " ".join(
        result.stderr.split()
    )
    result = command(*words[:4], "noaa_gfs", *words[5:], "--init", "latest")
    assert result.exit_code == 1 and "did you mean noaa-gfs?" in result.stderr
    result = command("stats", "--input", "noaa-gfs", "--output", tmp_path / "s.nc")
    assert result.exit_code == 1 and "make a store of them with weather-scnn regrid --input noaa-gfs" in " ".join(
        result.stderr.split()
    )


def test_the_commands_of_the_operational_day(services, run, tmp_path, monkeypatch):
    newest = np.datetime64("now", "D").astype("datetime64[s]") - np.timedelta64(12, "h")
    for name, maker in (("ecmwf-open-data", weather_services.ecmwf), ("noaa-gfs", weather_services.gfs)):
        services[name].files |= maker(newest)
    for folder in ("runs", "analyses", "forecasts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "runs" / "era5").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    shorter = {"--grid 64x32": "--grid 16x8", "--lead 10d": "--lead 12h"}
    page = [
        line for line in guides.lines("docs/operational-day.md") if "--input ecmwf" in line or "--input noaa" in line
    ]
    ran = [guides.run(line, {"TODAY": "2026-11-01"}, shorter) for line in page]
    assert ran == ["forecast", "forecast", "regrid"]
    np.testing.assert_array_equal(
        xr.open_zarr("forecasts/ecmwf-latest.zarr")["time"], [newest.astype("datetime64[ns]")]
    )
