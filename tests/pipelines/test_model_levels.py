"""Hybrid and sigma sources against a column-by-column interpolation in plain NumPy."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dinosaur.hybrid_coordinates import HybridCoordinates

from pipelines.regrid import regrid
from weather_scnn.data.opening import open_dataset
from weather_scnn.errors import UserError
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
