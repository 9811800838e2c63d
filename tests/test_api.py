"""The Python API: the numbers of the commands, from paths and from datasets in memory and dask-backed alike."""

import doctest
import importlib
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import weather_scnn as ws
from tests.conftest import travelling_waves

TIMES = np.datetime64("2001-01-01") + np.arange(24) * np.timedelta64(6, "h")
KINDS = ("path", "memory", "dask")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six days of waves."""
    path = str(tmp_path_factory.mktemp("api") / "waves.zarr")
    travelling_waves(ws.Grid.equiangular(24, 12), TIMES).chunk(time=4).to_zarr(path)
    return path


@pytest.fixture(scope="module")
def sources(store):
    """The store as a path, in memory, and dask-backed."""
    lazy = xr.open_zarr(store)
    return {"path": store, "memory": lazy.load(), "dask": xr.open_zarr(store)}


def same(found: xr.Dataset, expected: xr.Dataset, rounding: float = 0.0) -> None:
    """Equal values, names, coordinates and units; to the bit unless a relative rounding is given."""
    assert set(found.variables) == set(expected.variables)
    for name, array in expected.variables.items():
        if rounding and array.dtype.kind == "f":
            np.testing.assert_allclose(found[name].values, array.values, rtol=rounding, err_msg=str(name))
        else:
            np.testing.assert_array_equal(found[name].values, array.values, err_msg=str(name))
        assert found[name].dims == array.dims
        assert found[name].attrs.get("units") == array.attrs.get("units")


@pytest.fixture(scope="module")
def written(store, tmp_path_factory):
    """What the commands regrid, statistics and climatology write, by name."""
    from pipelines.climatology import compute_climatology
    from pipelines.regrid import regrid
    from pipelines.statistics import compute_statistics

    folder = tmp_path_factory.mktemp("written")
    paths = {name: str(folder / name) for name in ("coarse.zarr", "statistics.nc", "climatology.zarr")}
    coarse, statistics, climatology = paths.values()
    regrid(store, coarse, ws.Grid.from_name("8x4"), levels=[500], no_beam=True, progress=False)
    compute_statistics(store, statistics, time=None, no_beam=True, progress=False)
    compute_climatology(store, climatology, time=None, window=5, variables=["2m_temperature"], no_beam=True)
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_regridding_equals_the_command(kind, written, sources):
    found = ws.regrid(sources[kind], "8x4", levels=[500])
    same(found, xr.open_zarr(written["coarse.zarr"]))
    assert "status" not in found.attrs and not found["geopotential"].encoding


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_and_climatology_equal_the_commands(kind, written, sources):
    # Sums are formed chunk by chunk, and arrays in memory have none.
    expected = xr.open_dataset(written["statistics.nc"])
    same(ws.statistics(sources[kind]), expected, rounding=1e-13 if kind == "memory" else 0.0)
    found = ws.climatology(sources[kind], window=5, variables=["2m_temperature"])
    same(found, xr.open_zarr(written["climatology.zarr"]))
    assert found.attrs["calendar"] == "month-day"


@pytest.fixture(scope="module")
def forecasts(store):
    """Two systems whose errors are known: +1 and −2 K at every lead."""
    truth = xr.open_zarr(store)["2m_temperature"].load()
    leads = np.arange(1, 5) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    fields = np.stack([truth.values[lead : lead + 16] for lead in range(1, 5)], axis=1)
    coordinates = {
        "time": TIMES[:16].astype("datetime64[ns]"),
        "prediction_timedelta": leads,
        "latitude": truth["latitude"].values,
        "longitude": truth["longitude"].values,
    }
    dims = ("time", "prediction_timedelta", "latitude", "longitude")
    return {
        name: xr.Dataset({"2m_temperature": (dims, fields + np.float32(error), {"units": "K"})}, coordinates)
        for name, error in (("warm", 1.0), ("cold", -2.0))
    }


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_command(kind, store, sources, forecasts, written, tmp_path):
    from eval.scoring import open_scores
    from eval.scoring import score as command

    paths = {}
    for name, forecast in forecasts.items():
        paths[name] = str(tmp_path / f"{name}.zarr")
        forecast.to_zarr(paths[name])
    options = {"baselines": ["persistence", "climatology"], "regions": ["global", "tropics"], "bootstrap": 20}
    output = str(tmp_path / "scores.nc")
    command(
        [f"{name}={path}" for name, path in paths.items()], store, output,
        climatology=written["climatology.zarr"], progress=False, **options,
    )  # fmt: skip
    systems = {
        "path": paths,
        "memory": forecasts,
        "dask": {name: forecast.chunk(time=4) for name, forecast in forecasts.items()},
    }[kind]
    known = written["climatology.zarr"] if kind == "path" else xr.open_zarr(written["climatology.zarr"]).load()
    found = ws.score(systems, sources[kind], climatology=known, **options)
    same(found, open_scores(output))
    np.testing.assert_allclose(
        found["2m_temperature"].sel(metric="bias", region="global", system=["warm", "cold"]).T,
        np.tile([1.0, -2.0], (4, 1)), rtol=1e-5,
    )  # fmt: skip
    same(found.scores.groups["sums"], open_scores(output, group="sums"))
    skill = found.scores.skill("persistence")["2m_temperature"].sel(system="persistence", region="global")
    np.testing.assert_array_equal(skill, 0.0)
    with pytest.raises(ws.UserError, match="no system 'nobody'"):
        found.scores.skill("nobody")


def test_one_forecast_is_called_the_model(store, forecasts):
    found = ws.score(forecasts["warm"], store, bootstrap=0)
    assert list(found["system"].values) == ["model"]


def test_datasets_are_opened_as_files_are(store, sources, tmp_path):
    """An odd layout gives the same from memory as from the file it was written to."""
    dataset = xr.open_zarr(store)[["2m_temperature"]].load().rename({"2m_temperature": "t2m", "latitude": "lat"})
    celsius = (dataset["t2m"] - 273.15).assign_attrs(units="degC")
    odd = dataset.assign(t2m=celsius).isel(lat=slice(None, None, -1)).transpose("longitude", "lat", "time")
    odd = odd.assign_coords(longitude=(odd["longitude"] + 180) % 360 - 180)
    odd.to_netcdf(tmp_path / "odd.nc")
    same(ws.open_dataset(odd), ws.open_dataset(tmp_path / "odd.nc"))
    found = ws.open_dataset(sources["dask"], levels=[850], variables="z,t2m")
    assert found["geopotential"].chunks is not None
    np.testing.assert_allclose(ws.open_dataset(odd)["2m_temperature"], found["2m_temperature"], atol=1e-4)


def test_errors_teach(untyped, store):
    with pytest.raises(ws.UserError, match="no latitude axis among"):
        ws.open_dataset(xr.Dataset({"a": ("x", [1.0])}))
    with pytest.raises(ws.UserError, match="to_dataset"):
        ws.regrid(xr.open_zarr(store)["geopotential"], "8x4")
    with pytest.raises(ws.UserError, match="no such file"):
        ws.statistics("nowhere.zarr")
    with pytest.raises(ws.UserError, match="no latitude axis"):
        ws.xr.power_spectrum(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")))


def test_spectra_and_calculus_keep_other_dimensions_and_order(store):
    """Against closed forms elsewhere; here dims, laziness, and either order of latitudes and any first longitude."""
    waves = ws.open_dataset(store)
    u, v = waves["u_component_of_wind"], waves["v_component_of_wind"]
    spectrum = ws.xr.power_spectrum(u)
    assert spectrum.chunks is not None and spectrum.dims == ("time", "level", "degree")
    square = (u.astype(np.float64) ** 2).isel(time=0, level=0).load()
    assert abs(float(spectrum.isel(time=0, level=0).sum()) / float(ws.xr.area_mean(square)) - 1) < 0.02
    turned = ws.xr.vorticity(u, v).isel(time=0).load()
    flipped = [field.isel(latitude=slice(None, None, -1)).roll(longitude=5, roll_coords=True) for field in (u, v)]
    there = [field.assign_coords(longitude=np.unwrap(field["longitude"].values, period=360)) for field in flipped]
    again = ws.xr.vorticity(*there).isel(time=0).load()
    again = again.roll(longitude=-5, roll_coords=False).isel(latitude=slice(None, None, -1))
    np.testing.assert_allclose(again.values, turned.values, atol=1e-10)
    assert abs(float(ws.xr.area_mean(ws.xr.divergence(u, v).isel(time=0, level=0)))) < 1e-8
    energy = ws.xr.kinetic_energy_spectrum(u.isel(time=0), v.isel(time=0))
    assert energy.dims == ("level", "degree") and float(energy.isel(level=0).sum()) > 0


@pytest.mark.parametrize("name", ["weather_scnn.api", "weather_scnn.xr", "weather_scnn.catalogue.field_names"])
def test_examples(name):
    found = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert found.attempted and not found.failed


def test_the_package_imports_at_once_and_without_jax():
    """Well under 0.3 s: it imports nothing but itself."""
    code = (
        "import sys, weather_scnn as ws; print(*[m for m in ('jax', 'numpy', 'xarray') if m in sys.modules], dir(ws))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['Grid'")


def test_names_may_be_one_text_as_on_the_command_line(store, forecasts):
    names = "2m_temperature,geopotential"
    xr.testing.assert_equal(ws.statistics(store, variables=names), ws.statistics(store, variables=names.split(",")))
    found = ws.score(
        forecasts["warm"], store, baselines="persistence", regions="global,tropics", maps="6h", bootstrap=0
    )
    assert list(found["system"].values) == ["model", "persistence"]
    assert list(found["region"].values) == ["global", "tropics"] and "maps" in found.scores.groups


def test_a_wind_whose_components_are_in_another_order_is_put_together(untyped, store):
    fields = ws.open_dataset(store)
    u, v = (fields[f"{c}_component_of_wind"].isel(time=0) for c in "uv")
    xr.testing.assert_equal(ws.xr.vorticity(u, v.isel(latitude=slice(None, None, -1))), ws.xr.vorticity(u, v))
    with pytest.raises(ws.UserError, match="different values of latitude"):
        ws.xr.vorticity(u, v.assign_coords(latitude=v["latitude"] + 1))
    with pytest.raises(ws.UserError, match="choose one field"):
        ws.xr.power_spectrum(fields)
