"""The moist nature run: bytes, restart, budgets of water and mass, units, levels, and an Earth's weather."""

import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from pipelines import nature_run
from pipelines.nature_output import LAPSE_RATE
from pipelines.nature_run import simulate
from pipelines.nature_speedy import STEP_SECONDS, Speedy
from weather_scnn.catalogue.naming import lookup
from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid

pytest.importorskip("jcm", reason="the extra earth (jcm) is not installed")
# What jcm asks of pandas will change.
pytestmark = pytest.mark.filterwarnings("ignore:A future version of pandas")

GRID = Grid.equiangular(32, 16)
ARGUMENTS = {"days": 2, "grid": GRID, "seed": 3, "spinup_days": 1, "model": "speedy", "progress": False}


@pytest.fixture(scope="module")
def atmosphere():
    return Speedy(GRID)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("speedy") / "run.zarr"
    told = simulate(str(path), **ARGUMENTS)
    return path, told


def digest(path: pathlib.Path) -> dict[str, str]:
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def area_mean(values: xr.DataArray) -> xr.DataArray:
    weights = xr.DataArray(GRID.area_weights, dims="latitude")
    return (values * weights).mean(("latitude", "longitude")) / weights.mean()


def test_layout_and_units(run):
    path, told = run
    assert "precipitation" in told and "W m-2" in told
    with xr.open_zarr(path) as dataset:
        assert dataset["level"].values.tolist() == [100, 200, 250, 300, 500, 700, 850, 925]
        assert {
            "geopotential", "temperature", "specific_humidity", "u_component_of_wind", "v_component_of_wind",
            "vertical_velocity", "2m_temperature", "mean_sea_level_pressure", "surface_pressure",
            "10m_u_component_of_wind", "10m_v_component_of_wind", "total_precipitation_6hr", "sea_surface_temperature",
            "sea_ice_cover", "toa_incident_solar_radiation", "geopotential_at_surface", "land_sea_mask",
        } == set(dataset.data_vars)  # fmt: skip
        for name, array in dataset.data_vars.items():
            assert array.dtype == np.float32 and array.attrs["units"] == lookup(name).unit
            assert np.isfinite(array.values).all()
        for name in ("specific_humidity", "total_precipitation_6hr", "toa_incident_solar_radiation", "sea_ice_cover"):
            assert float(dataset[name].min()) >= 0
        assert float(dataset["total_precipitation_6hr"].max()) > 0
        assert 0 <= float(dataset["land_sea_mask"].min()) and float(dataset["land_sea_mask"].max()) <= 1
        # The sun's mean over the sphere is a quarter of SPEEDY's solar constant, 1368 W m-2, and 3.4 % more in January.
        sun = float(area_mean(dataset["toa_incident_solar_radiation"]).mean()) / 3600
        assert sun == pytest.approx(1.034 * 1368 / 4, rel=0.01)


def test_same_seed_gives_the_same_bytes_and_a_killed_run_is_gone_on_from(run, tmp_path, monkeypatch):
    path = tmp_path / "killed.zarr"
    monkeypatch.setattr(nature_run, "_BLOCKS_PER_RESTART", 1)
    write = nature_run._write

    def dies_at_the_second_day(arrays, first, fields):
        if first >= 4:
            raise KeyboardInterrupt
        write(arrays, first, fields)

    with monkeypatch.context() as patch:
        patch.setattr(nature_run, "_write", dies_at_the_second_day)
        with pytest.raises(KeyboardInterrupt):
            simulate(str(path), **ARGUMENTS)
    with pytest.raises(UserError, match="other options"):
        simulate(str(path), **{**ARGUMENTS, "model": "held-suarez"})
    monkeypatch.setattr(Speedy, "initial_state", lambda *_: pytest.fail("the run began again from the start"))
    simulate(str(path), **ARGUMENTS)
    assert digest(path) == digest(run[0])


def test_another_seed_gives_other_weather(atmosphere):
    one, other = (atmosphere.initial_state(seed, np.datetime64("2000-01-01", "s")) for seed in (0, 1))
    assert not np.array_equal(one.dynamics.log_surface_pressure, other.dynamics.log_surface_pressure)


def test_water_and_mass_add_up(atmosphere):
    """Rain adds up to the sum over steps; the air's water changes by evaporation minus rain; its mass hardly changes."""
    core = atmosphere.core
    times = np.datetime64("2000-06-01", "s") + np.timedelta64(6, "h") * np.arange(12)
    advance = jax.jit(atmosphere.advance)
    state = atmosphere.initial_state(0, times[0])
    thickness = np.asarray(core.coordinates.vertical.layer_thickness)[:, None, None]

    def water_and_air(state):
        column = core.dycore.to_physics_state(state.dynamics)
        pressure = column.normalized_surface_pressure
        water = np.asarray((column.specific_humidity * thickness).sum(axis=0) * pressure) * 1e5 / 9.81
        return (water * core.area).sum(), float((np.asarray(pressure) * core.area).sum())

    fallen = 0.0
    for time in times:
        state = advance(state, jax.tree.map(lambda array: array[0], atmosphere.boundary(np.array([time]))))
        fallen += float((np.asarray(state.rain) * core.area).sum())
    rain, evaporation, _, _, steps = np.asarray(state.budget, np.float64)
    assert steps == 12 * 21600 / STEP_SECONDS
    assert fallen * 1000 == pytest.approx(rain * STEP_SECONDS, rel=1e-4)  # m of water and kg m-2
    water, air = water_and_air(state)
    # A dry start: what is there has evaporated. Waves that are not positive are cut off by the physics.
    assert water == pytest.approx((evaporation - rain) * STEP_SECONDS, rel=0.06)
    # The core keeps the mean of ln p_s, so the mass grows by half its variance while weather comes up.
    assert air == pytest.approx(water_and_air(atmosphere.initial_state(0, times[0]))[1], rel=4e-3)


def test_levels_agree_with_the_package_that_integrates(atmosphere):
    """Between layers, dinosaur's own interpolation to pressure gives the same temperature and wind, to its linear-in-p
    error."""
    from dinosaur import vertical_interpolation

    state = atmosphere.initial_state(0, np.datetime64("2000-01-01", "s"))
    layers = atmosphere.diagnosis.on_layers(state.dynamics)
    sigma = np.asarray(atmosphere.core.coordinates.vertical.centers)
    profile = 220.0 + 70.0 * sigma[:, None, None] + 0 * np.asarray(layers["temperature"])
    layers |= {"temperature": jnp.asarray(profile), "virtual_temperature": jnp.asarray(profile)}
    ours = np.asarray(atmosphere.diagnosis.on_levels(layers)["temperature"])
    theirs = np.stack(
        [
            np.asarray(
                vertical_interpolation.interp_sigma_to_pressure(
                    {"t": jnp.moveaxis(jnp.asarray(profile), -1, 1)},
                    vertical_interpolation.PressureCoordinates(np.asarray(atmosphere.levels, np.float64)),
                    atmosphere.core.coordinates.vertical,
                    jnp.moveaxis(layers["surface_pressure"][None], -1, 1) / 100.0,
                )["t"]
            )
        ]
    )[0]
    theirs = np.moveaxis(theirs, 1, -1)
    lowest = sigma[-1] * np.asarray(layers["surface_pressure"]) / 100.0
    for number, level in enumerate(atmosphere.levels):
        inside = level < lowest
        np.testing.assert_allclose(ours[number][inside], theirs[number][inside], atol=1.6)


def test_pressure_at_sea_level_of_the_standard_atmosphere(atmosphere):
    """T = 288.15 K − 6.5 K/km z has p = 1013.25 hPa at sea level, whatever the ground's height."""
    gas, gravity = float(atmosphere.core.specs.R), float(atmosphere.core.specs.g)
    height = np.linspace(0.0, 2500.0, GRID.shape[0] * GRID.shape[1]).reshape(GRID.shape)
    ground = 288.15 - LAPSE_RATE * height
    pressure = 101325.0 * (ground / 288.15) ** (gravity / (gas * LAPSE_RATE))
    lowest = float(np.asarray(atmosphere.core.coordinates.vertical.centers)[-1])
    layer = ground * lowest ** (gas * LAPSE_RATE / gravity)
    layers = {"surface_pressure": jnp.asarray(pressure), "temperature": jnp.asarray(layer)[None]}
    found = atmosphere.diagnosis.sea_level_pressure(layers, jnp.asarray(gravity * height))
    np.testing.assert_allclose(found, 101325.0, rtol=1e-4)


def test_the_boundary_follows_the_calendar(atmosphere):
    days = np.array(["2000-02-28", "2000-02-29", "2000-03-01", "2001-03-01"], "datetime64[s]")
    sea = atmosphere.known(days)["sea_surface_temperature"]
    assert np.array_equal(sea[0], sea[1]) and not np.array_equal(sea[1], sea[2]) and np.array_equal(sea[2], sea[3])
    halves = atmosphere.known(np.array(["2000-03-01", "2000-09-01"], "datetime64[s]"))["sea_ice_cover"]
    north = GRID.latitude > 50
    assert halves[0][north].mean() > halves[1][north].mean()


def test_an_unstable_run_ends_in_one_line(tmp_path, monkeypatch):
    def broken(self, state, boundary):
        return {name: values * jnp.nan for name, values in fields(self, state, boundary).items()}

    fields = Speedy.fields
    monkeypatch.setattr(Speedy, "fields", broken)
    # Another grid, so that the step is compiled anew.
    with pytest.raises(UserError, match="became unstable by 2000-01-01T18"):
        simulate(str(tmp_path / "run.zarr"), **{**ARGUMENTS, "grid": Grid.equiangular(16, 8)})


def test_without_the_extra_it_is_said_what_to_install(tmp_path, monkeypatch):
    from pipelines import nature_speedy

    monkeypatch.setitem(__import__("sys").modules, "jcm.model", None)
    with pytest.raises(UserError, match=r"weather-scnn\[earth\]"):
        nature_speedy._Core()


@pytest.mark.slow
def test_it_is_an_earth(tmp_path):
    path = tmp_path / "earth.zarr"
    simulate(str(path), days=10, grid=Grid.equiangular(64, 32), spinup_days=40, model="speedy", progress=False)
    assert check_store(str(path)).usable
    with xr.open_zarr(path) as dataset:
        zonal = dataset["u_component_of_wind"].sel(level=200).mean(("time", "longitude"))
        assert 25 < float(zonal.max()) < 70
        assert 20 < abs(float(zonal["latitude"][zonal.argmax()])) < 50
        weights = np.cos(np.radians(dataset["latitude"]))
        rain = float(dataset["total_precipitation_6hr"].weighted(weights).mean()) * 4000
        assert 2 < rain < 4, "mm a day"
        assert 284 < float(dataset["2m_temperature"].weighted(weights).mean()) < 291
