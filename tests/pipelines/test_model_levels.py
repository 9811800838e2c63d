"""Hybrid and sigma sources against a column-by-column interpolation in plain NumPy."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dinosaur.hybrid_coordinates import HybridCoordinates

from pipelines.model_levels import on_pressure_levels
from pipelines.regrid import regrid
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.derived import derive
from weather_scnn.io.sources import find_source, open_raw
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(12, 6)
LEVELS = [300, 500, 850]


def pressures(kind, surface):
    """Of the centres in Pa, (level, time, y, x)."""
    if kind == "sigma":
        return np.linspace(0.05, 0.99, 20)[:, None, None, None] * surface
    table = HybridCoordinates.ECMWF137()
    return 100 * table.a_centers[:, None, None, None] + table.b_centers[:, None, None, None] * surface


def dataset(kind, *, logarithm=False, coefficients=False):
    rng = np.random.default_rng(0)
    surface = rng.uniform(6.5e4, 1.03e5, (3, *GRID.shape))
    pressure = pressures(kind, surface).transpose(1, 0, 2, 3)
    temperature = 300 + 40 * np.log(pressure / 1e5) + np.sin(pressure / 2e4)
    dim, values = ("sigma", np.linspace(0.05, 0.99, 20)) if kind == "sigma" else ("hybrid", np.arange(1, 138))
    maps = ("latitude", "longitude")
    result = xr.Dataset(
        {"t": (("time", dim, *maps), temperature.astype("float32"), {"units": "K"})},
        {
            "time": pd.date_range("2020-01-01", periods=3, freq="6h"),
            dim: values,
            "latitude": GRID.latitude[::-1],
            "longitude": GRID.longitude,
        },
    )
    if logarithm:
        result["lnsp"] = (("time", *maps), np.log(surface), {"units": "1"})
    else:
        result["sp"] = (("time", *maps), surface.astype("float32"), {"units": "Pa"})
    if coefficients:
        table = HybridCoordinates.ECMWF137()
        result = result.assign_coords(hybrid=np.arange(137) / 137)
        result["hyai"], result["hybi"] = ("interface", 100 * table.a_boundaries), ("interface", table.b_boundaries)
    return result, temperature, pressure


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sigma", {}),
        ("hybrid", {}),
        ("hybrid", {"logarithm": True}),
        ("hybrid", {"coefficients": True}),
    ],
    ids=["sigma", "137-levels", "lnsp", "coefficients"],
)
def test_pressure_levels_of_model_levels(tmp_path, kind, options):
    source, temperature, pressure = dataset(kind, **options)
    source.chunk(time=1).to_zarr(tmp_path / "source.zarr")
    output = str(tmp_path / "out.zarr")
    regrid(str(tmp_path / "source.zarr"), output, GRID, variables="t", levels=LEVELS, no_beam=True, progress=False)
    result = open_dataset(output)
    assert set(result.data_vars) == {"temperature"} and result["level"].values.tolist() == LEVELS
    expected = np.empty((3, len(LEVELS), *GRID.shape))
    for t, y, x in np.ndindex(3, *GRID.shape):
        column = np.log(pressure[t, :, y, x])
        expected[t, :, y, x] = np.interp(np.log(np.array(LEVELS) * 100.0), column, temperature[t, :, y, x])
    # The source's rows run from north to south.
    np.testing.assert_allclose(result["temperature"], expected[:, :, ::-1], rtol=2e-5)


def test_what_is_missing_is_named(tmp_path):
    source, _, _ = dataset("hybrid")
    source.to_zarr(tmp_path / "a.zarr")
    source.drop_vars("sp").to_zarr(tmp_path / "b.zarr")
    source.isel(hybrid=slice(0, 90)).to_zarr(tmp_path / "c.zarr")
    cases = (("a", None, "--levels 500,850"), ("b", [500], "surface_pressure or lnsp"), ("c", [500], "hyam and hybm"))
    for name, levels, message in cases:
        with pytest.raises(UserError, match=message):
            regrid(str(tmp_path / f"{name}.zarr"), str(tmp_path / "out.zarr"), GRID, levels=levels, progress=False)


def hourly(tmp_path, *, members=0):
    """25 hours on sigma levels: T, u, v, q and rain, with a mask; every member warmer by its number."""
    source, _, _ = dataset("sigma")
    source = source.isel(time=[0] * 25).assign_coords(time=pd.date_range("2020-01-01", periods=25, freq="1h"))
    rng = np.random.default_rng(1)
    shape = source["t"].shape
    dims = source["t"].dims
    for name in "uv":
        source[name] = (dims, rng.normal(0, 9, shape).astype("float32"), {"units": "m s-1"})
    source["q"] = (dims, rng.uniform(1e-4, 4e-3, shape).astype("float32"), {"units": "kg kg-1"})
    rain = np.arange(25.0)[:, None, None] * np.full(GRID.shape, 1e-4)
    source["tp"] = (("time", *dims[2:]), rain.astype("float32"), {"units": "m"})
    if members:
        source = xr.concat([source.assign(t=source["t"] + number) for number in range(members)], "number")
        source = source.assign_coords(number=range(members))
        source["t"].attrs["units"] = "K"
    path = str(tmp_path / f"hourly{members}.zarr")
    source.chunk(time=4).to_zarr(path)
    return path


def made(tmp_path, path, **options):
    output = str(tmp_path / "made.zarr")
    regrid(path, output, GRID, no_beam=True, progress=False, overwrite=True, **options)
    return open_dataset(output).load()


def test_a_step_thins_the_times_of_model_levels_and_a_period_narrows_them(tmp_path):
    path = hourly(tmp_path)
    whole = made(tmp_path, path, variables="t", levels=LEVELS)
    found = made(tmp_path, path, variables="t", levels=LEVELS, step="6h")
    assert whole.sizes["time"] == 25 and list(found.time.dt.hour.values) == [0, 6, 12, 18, 0]
    xr.testing.assert_equal(found, whole.isel(time=slice(None, None, 6)))
    both = made(tmp_path, path, variables="t", levels=LEVELS, step="6h", time="2020-01-01T05:2020-01-01T13")
    assert list(both.time.dt.hour.values) == [6, 12]


def test_a_member_of_model_levels_is_chosen_or_missed(tmp_path):
    path = hourly(tmp_path, members=3)
    first, last = (made(tmp_path, path, variables="t", levels=[500], member=member, step="12h") for member in (0, 2))
    np.testing.assert_allclose(last["temperature"] - first["temperature"], 2.0, atol=1e-3)
    with pytest.raises(UserError, match="has no ensemble member 7; choose from 0, 1, 2"):
        made(tmp_path, path, variables="t", levels=[500], member=7)
    with pytest.raises(UserError, match=r"has no ensemble members.*leave --member out"):
        made(tmp_path, hourly(tmp_path), variables="t", levels=[500], member=1)


def test_derived_fields_of_model_levels_are_made_from_their_inputs_on_pressure_levels(tmp_path):
    path = hourly(tmp_path)
    inputs = made(tmp_path, path, variables="t,u,v,q", levels=LEVELS, step="6h")
    names = "wind_speed,vorticity,relative_humidity,t,total_precipitation_6hr"
    found = made(tmp_path, path, variables=names, levels=LEVELS, step="6h")
    expected = derive(inputs, ["wind_speed", "vorticity", "relative_humidity", "temperature"])
    assert list(found.time.dt.hour.values) == [6, 12, 18, 0] and found["level"].values.tolist() == LEVELS
    for name, array in expected.data_vars.items():
        near = 1e-5 * float(abs(array).max())
        np.testing.assert_allclose(found[name], array.isel(time=slice(1, None)), rtol=1e-5, atol=near)
    # Hours 1 to 6 hold 1e-4 times 1 + 2 + … + 6.
    np.testing.assert_allclose(found["total_precipitation_6hr"][0], 21e-4, rtol=1e-5)
    assert "surface_pressure" not in found and "specific_humidity" not in found


def test_surface_fields_of_a_source_on_model_levels_need_no_levels(tmp_path):
    found = made(tmp_path, hourly(tmp_path), variables="sp,total_precipitation_6hr", step="12h")
    assert list(found.data_vars) == ["surface_pressure", "total_precipitation_6hr"] and found.sizes["time"] == 2


def test_parts_of_a_field_on_model_levels_are_those_of_the_whole(tmp_path):
    path = hourly(tmp_path)
    reader = on_pressure_levels(path, raw=open_raw(find_source(path)), variables="t,wind_speed", levels=LEVELS)
    for name in ("temperature", "wind_speed"):
        whole = reader.dataset[name].values
        np.testing.assert_array_equal(reader.read(name), whole)
        np.testing.assert_array_equal(reader.read(name, slice(3, 9), [2]), whole[3:9, [2]])
        np.testing.assert_array_equal(reader.read(name, np.array([1, 20])), whole[[1, 20]])
