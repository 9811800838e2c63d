"""The nature run: physics of its diagnosis, bytes that depend on the arguments alone, restart, sane weather."""

import hashlib
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.special import sph_harm_y

from pipelines import nature_run
from pipelines.atmospheres import HeldSuarez
from pipelines.nature_model import LAYERS, NatureModel, warmest_latitude
from pipelines.nature_output import Diagnosis
from pipelines.nature_run import simulate
from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(32, 16)


@pytest.fixture(scope="module")
def model():
    return NatureModel()


@pytest.fixture(scope="module")
def diagnosis(model):
    return Diagnosis(model, GRID, (100, 500, 850, 1000))


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("nature") / "run.zarr"
    simulate(str(path), days=2, grid=GRID, seed=3, spinup_days=1, progress=False)
    return path


def digest(path: pathlib.Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_synthesis_is_the_spherical_harmonic(model, diagnosis):
    modal = np.zeros(model.coordinates.horizontal.modal_shape, np.float32)
    modal[2 * 3 - 1, 7] = 1.0  # cos(3λ) of degree 7
    values = np.asarray(diagnosis.synthesise(jnp.asarray(modal)))
    expected = np.sqrt(2) * sph_harm_y(7, 3, GRID.colatitude[:, None], np.radians(GRID.longitude)).real
    np.testing.assert_allclose(np.abs(values), np.abs(expected), atol=2e-6)


def test_omega_of_uniform_pressure_is_the_integral_of_divergence(model, diagnosis):
    """With flat surface pressure ω(σ) = −p_s ∫₀^σ ∇·v dσ′; a divergence that is constant in σ makes it linear."""
    state = model.initial_state(0, 0.0)
    divergence = np.zeros(state.divergence.shape, np.float32)
    divergence[:, 3, 5] = 1e-3
    flat = state.replace(
        vorticity=jnp.zeros_like(state.vorticity),
        divergence=jnp.asarray(divergence),
        log_surface_pressure=jnp.zeros_like(state.log_surface_pressure),
    )
    layers = diagnosis.on_layers(flat)
    per_second = np.asarray(diagnosis.synthesise(jnp.asarray(divergence[0]))) * 2 * 7.292e-5
    sigma = (np.arange(LAYERS) + 0.5) / LAYERS
    np.testing.assert_allclose(
        layers["vertical_velocity"], -1e5 * sigma[:, None, None] * per_second, rtol=2e-4, atol=1e-7
    )


def test_wind_of_solid_rotation(model, diagnosis):
    """ζ = 2 (U/a) sin φ is the wind u = U cos φ."""
    state = model.initial_state(0, 0.0)
    grid = model.coordinates.horizontal
    _, sine = grid.nodal_mesh
    vorticity = grid.to_modal(np.broadcast_to(2 * (20.0 / model.metres_per_second) * sine, (LAYERS, *sine.shape)))
    layers = diagnosis.on_layers(state.replace(vorticity=vorticity))
    expected = np.broadcast_to(20.0 * np.cos(np.radians(GRID.latitude))[:, None], GRID.shape)
    np.testing.assert_allclose(layers["u_component_of_wind"][4], expected, atol=1e-3)
    np.testing.assert_allclose(layers["v_component_of_wind"][4], 0, atol=1e-3)


def test_levels_keep_the_hydrostatic_balance(diagnosis):
    """T linear in ln p has a closed hydrostatic integral; below the lowest layer T follows 6.5 K/km."""
    sigma = (np.arange(LAYERS) + 0.5) / LAYERS
    gas, gravity = 1004 * 2 / 7, 9.80616
    profile = 280.0 + 30.0 * np.log(sigma)
    geopotential = gas * (280.0 * np.log(1 / sigma) - 15.0 * np.log(sigma) ** 2)

    def column(values):
        return jnp.asarray(np.broadcast_to(values[:, None, None], (LAYERS, *GRID.shape)), jnp.float32)

    names = ("temperature", "virtual_temperature", "u_component_of_wind", "v_component_of_wind", "vertical_velocity")
    layers = {name: column(profile) for name in names}
    layers["geopotential"] = column(geopotential)
    layers["surface_pressure"] = jnp.full(GRID.shape, 1e5)
    result = {name: np.asarray(values)[:, 3, 3] for name, values in diagnosis.on_levels(layers).items()}
    level = np.log(np.array([100, 500, 850]) / 1000)
    np.testing.assert_allclose(result["temperature"][:3], 280 + 30 * level, rtol=1e-5)
    np.testing.assert_allclose(result["geopotential"][:3], gas * (-280 * level - 15 * level**2), rtol=1e-4, atol=3)
    assert result["u_component_of_wind"][3] == pytest.approx(profile[-1])
    climb = (geopotential[-1] - result["geopotential"][3]) / gravity
    assert result["temperature"][3] - profile[-1] == pytest.approx(0.0065 * climb, rel=1e-2)
    mean = (result["temperature"][3] + profile[-1]) / 2
    assert climb == pytest.approx(gas * mean / gravity * np.log(1 / sigma[-1]), rel=1e-3)


def test_equilibrium_is_warmest_at_the_latitude_that_follows_the_sun(model):
    times = np.array(["2001-01-01", "2001-06-21", "2001-03-21"], "datetime64[D]")
    sines = warmest_latitude(times)
    _, sine = model.coordinates.horizontal.nodal_mesh
    one = jnp.ones((1, *sine.shape))
    # On the level where (p/p₀) is 1, the term in ln p that is symmetric about the equator is smallest.
    warmest = [sine[0, np.argmax(np.asarray(model.equilibrium_temperature(one, s))[-1, 0])] for s in sines]
    assert warmest[0] < -0.1 and warmest[1] > 0.1 and abs(warmest[2]) < 0.06
    assert sines[1] == pytest.approx(np.sin(np.radians(0.4 * 23.44)), abs=2e-3)


def test_store_layout(short_run):
    with xr.open_zarr(short_run) as dataset:
        kind = HeldSuarez
        written = {*kind.level_fields, *kind.surface_fields, *kind.known_fields}
        assert set(dataset.data_vars) == written | {"geopotential_at_surface", "land_sea_mask"}
        assert "extrapolated" in dataset.attrs["below_ground"]
        assert dataset.sizes == {"time": 8, "level": 4, "latitude": 16, "longitude": 32}
        assert dataset["geopotential"].dims == ("time", "level", "latitude", "longitude")
        # Maps of 8 kB lie in chunks of a day.
        assert dataset["geopotential"].encoding["chunks"] == (4, 4, 16, 32)
        assert dataset["level"].values.tolist() == [250, 500, 700, 850]
        assert (np.diff(dataset["latitude"]) > 0).all()
        assert dataset["time"].values[1] == np.datetime64("2000-01-01T06")
        for name, array in dataset.data_vars.items():
            assert array.dtype == np.float32 and array.attrs["units"] == lookup(name).unit
            assert np.isfinite(array.values).all()
        assert set(np.unique(dataset["land_sea_mask"])) == {0.0, 1.0}
        # Pressure falls by about an e-fold in a scale height, RT/g = 8.4 km at 288 K.
        height = dataset["geopotential_at_surface"] / 9.80616
        mean = dataset["surface_pressure"].mean("time")
        assert float(np.corrcoef(np.log(mean).values.ravel(), height.values.ravel())[0, 1]) < -0.9
        assert (dataset["geopotential"].diff("level") < 0).all()


@pytest.mark.slow
def test_same_arguments_give_the_same_bytes(short_run, tmp_path):
    """Those of a run that was killed are the same, too, as the test below has it."""
    again = tmp_path / "again.zarr"
    simulate(str(again), days=2, grid=GRID, seed=3, spinup_days=1, progress=False)
    assert digest(again) == digest(short_run)


def test_another_seed_is_another_weather(short_run, tmp_path):
    other = tmp_path / "other.zarr"
    simulate(str(other), days=1, grid=GRID, seed=4, spinup_days=1, progress=False)
    with xr.open_zarr(other) as first, xr.open_zarr(short_run) as second:
        assert not np.array_equal(first["temperature"][0], second["temperature"][0])


def test_a_killed_run_is_finished_with_the_same_bytes(short_run, tmp_path, monkeypatch):
    path = tmp_path / "killed.zarr"
    monkeypatch.setattr(nature_run, "_BLOCKS_PER_RESTART", 1)
    write, spun_up = nature_run._write, []

    def dies_at_the_second_day(arrays, first, fields):
        if first >= 4:
            raise KeyboardInterrupt
        write(arrays, first, fields)

    arguments = dict(days=2, grid=GRID, seed=3, spinup_days=1, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(nature_run, "_write", dies_at_the_second_day)
        with pytest.raises(KeyboardInterrupt):
            simulate(str(path), **arguments)
    with pytest.raises(UserError, match="other options"):
        simulate(str(path), **{**arguments, "seed": 5})
    monkeypatch.setattr(NatureModel, "initial_state", lambda *_: spun_up.append(True))
    simulate(str(path), **arguments)
    assert not spun_up, "the run began again from the start"
    assert digest(path) == digest(short_run)
    with pytest.raises(UserError, match="already exists"):
        simulate(str(path), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"days": 0}, "0 days"),
        ({"days": -3}, "days"),
        ({"spinup_days": -1}, "negative"),
        ({"grid": Grid.equiangular(32, 17, poles=True)}, "poles"),
        ({"levels": (500, 250)}, "ascending"),
        ({"levels": (10, 500)}, "50 to 1000"),
        ({"start": "soon"}, "not a date"),
        ({"model": "ham"}, "no model 'ham'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(change, message, tmp_path):
    path = tmp_path / "bad.zarr"
    with pytest.raises(UserError, match=message):
        simulate(str(path), **{"days": 1, "grid": GRID, "progress": False, **change})
    assert not path.exists()


@pytest.mark.slow
def test_weather_develops_and_stays_sane(tmp_path):
    path = tmp_path / "weather.zarr"
    simulate(str(path), days=5, grid=Grid.equiangular(64, 32), spinup_days=30, progress=False)
    with xr.open_zarr(path) as dataset:
        zonal = dataset["u_component_of_wind"].sel(level=250).mean(("time", "longitude"))
        assert 20 < float(zonal.max()) < 60
        assert float(dataset["2m_temperature"].min()) > 225 and float(dataset["2m_temperature"].max()) < 320
        height = dataset["geopotential"].sel(level=500) / 9.80616
        day = (height.isel(time=slice(4, None)).values - height.isel(time=slice(None, -4)).values).std()
        assert 10 < day < 120
        mean_pressure = dataset["surface_pressure"].weighted(np.cos(np.radians(dataset["latitude"])))
        drift = mean_pressure.mean(("latitude", "longitude"))
        assert float(drift.max() - drift.min()) < 30


@pytest.mark.slow
def test_a_longer_run_needs_no_more_memory(tmp_path):
    import gc

    import psutil

    def grown(days: float) -> float:
        simulate(str(tmp_path / "memory.zarr"), days=1, grid=GRID, spinup_days=0, overwrite=True, progress=False)
        gc.collect()
        before = psutil.Process().memory_info().rss
        simulate(str(tmp_path / "memory.zarr"), days=days, grid=GRID, spinup_days=0, overwrite=True, progress=False)
        gc.collect()  # which tests do seldom
        return psutil.Process().memory_info().rss - before

    assert grown(60) < grown(5) + 30e6
