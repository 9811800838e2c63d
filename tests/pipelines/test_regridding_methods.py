"""WeatherBench 2's definition, spectral truncation, levels in log p, fields of the sea."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines.regrid import regrid
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset
from weather_scnn.regridding.apply import WeightedRegridder, regrid_array
from weather_scnn.regridding.spectral import SpectralRegridder
from weather_scnn.regridding.vertical import LevelPlan
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere.grid import Grid
from weather_scnn.sphere.transforms import HarmonicTransform


def weatherbench2(field, source, target):
    """Cell averages as WeatherBench 2 defines them, with its wrapping of longitudes, in float64 loops over rows."""

    def latitude_weights(first, second):
        edges = [
            np.concatenate([[-np.pi / 2], (x[:-1] + x[1:]) / 2, [np.pi / 2]]) for x in map(np.radians, (first, second))
        ]
        upper = np.minimum(edges[1][1:, None], edges[0][None, 1:])
        lower = np.maximum(edges[1][:-1, None], edges[0][None, :-1])
        overlap = (upper > lower) * (np.sin(upper) - np.sin(lower))
        return overlap / overlap.sum(1, keepdims=True)

    def align(x, near, period=2 * np.pi):
        return x + period * (x < near - period / 2) - period * (x > near + period / 2)

    def bounds(x):
        return (align(np.roll(x, 1), x) + x) / 2, (x + align(np.roll(x, -1), x)) / 2

    def longitude_weights(first, second):
        (s0, s1), (t0, t1) = bounds(np.radians(first)), bounds(np.radians(second))
        begin, end = align(s0[None, :], t0[:, None]), align(s1[None, :], t0[:, None])
        overlap = np.maximum(np.minimum(t1[:, None], end) - np.maximum(t0[:, None], begin), 0)
        return overlap / overlap.sum(1, keepdims=True)

    across = latitude_weights(source.latitude, target.latitude)
    around = longitude_weights(source.longitude, target.longitude)
    valid = np.isfinite(field)
    with np.errstate(invalid="ignore"):
        return np.einsum("Yy,Xx,yx->YX", across, around, np.where(valid, field, 0), optimize=True) / np.einsum(
            "Yy,Xx,yx->YX", across, around, valid.astype(float), optimize=True
        )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Grid.equiangular(360, 181, poles=True), Grid.equiangular(64, 32)),
        (Grid.equiangular(360, 181, poles=True), Grid.equiangular(240, 121, poles=True)),
        (Grid.gaussian(128, 64), Grid.equiangular(60, 31, poles=True)),
    ],
    ids=["64x32", "240x121", "gaussian"],
)
def test_the_definition_of_weatherbench2(source, target):
    rng = np.random.default_rng(0)
    field = rng.normal(5e4, 3e3, source.shape).astype(np.float32)
    field[20:24, 30:60] = np.nan
    ours = regrid_array(field, make_weights(source.latitude, source.longitude, target), coverage=1e-6)
    np.testing.assert_allclose(ours, weatherbench2(field.astype(np.float64), source, target), rtol=1e-6)


def test_small_maps_and_large_ones_take_the_same_way():
    source, target = Grid.equiangular(48, 24), Grid.equiangular(10, 7, poles=True)
    field = np.random.default_rng(1).normal(280, 5, (3, *source.shape)).astype(np.float32)
    field[1, 4:9, 5:20] = np.nan
    for method in ("conservative", "bilinear", "nearest"):
        weights = make_weights(source.latitude, source.longitude, target, method)
        dense, sparse = WeightedRegridder(weights), WeightedRegridder(weights)
        dense.__dict__["_dense"], sparse.__dict__["_dense"] = True, False
        np.testing.assert_allclose(dense.scalars(field), sparse.scalars(field), rtol=3e-7)


def test_spectral_truncation_keeps_the_low_degrees_and_nothing_else():
    source, target = Grid.equiangular(128, 65, poles=True), Grid.equiangular(48, 24)
    regridder = SpectralRegridder(source, target)
    assert regridder.degree == 23
    fine, coarse = HarmonicTransform.create(source), HarmonicTransform.create(target)
    rng = np.random.default_rng(0)
    spectrum = rng.normal(size=(40, 40, 2, 11)).astype(np.float32)
    degree, order = np.ogrid[:40, :40]
    spectrum[order > degree] = 0
    spectrum[:, 0, 1] = 0
    field = np.asarray(fine.synthesis(spectrum)).transpose(2, 0, 1) + 5e4
    low = np.asarray(coarse.synthesis(spectrum[:24, :24])).transpose(2, 0, 1) + 5e4
    np.testing.assert_allclose(regridder.scalars(field), low, rtol=3e-7)
    field[3, 2, 1] = np.nan
    with pytest.raises(UserError, match="--method conservative"):
        regridder.scalars(field)


def test_levels_are_linear_in_the_logarithm_of_pressure():
    plan = LevelPlan.make([100, 500, 850, 1000], [925, 500, 700], where="here")
    assert plan.read.tolist() == [1, 2, 3] and plan.levels.tolist() == [500, 700, 925] and plan.interpolates
    values = np.log([500.0, 850.0, 1000.0])[None, :, None, None] * np.ones((2, 3, 4, 5))
    np.testing.assert_allclose(plan.apply(values)[1, :, 2, 3], np.log([500, 700, 925]), rtol=1e-12)
    values[:, 2] = np.nan  # below ground: only what is made of it is missing
    assert np.isfinite(plan.apply(values)[:, :2]).all() and np.isnan(plan.apply(values)[:, 2]).all()
    with pytest.raises(UserError, match="50 hPa is outside its levels of 100 to 1000"):
        LevelPlan.make([100, 1000], [50], where="here")


@pytest.fixture
def source(tmp_path):
    grid = Grid.equiangular(24, 12)
    rng = np.random.default_rng(0)
    values = rng.normal(280, 5, (4, 3, *grid.shape)).astype("float32")
    sst = rng.normal(290, 2, (4, *grid.shape)).astype("float32")
    land = np.zeros(grid.shape, "float32")
    land[:, 4:10] = 1.0
    sst[:, land > 0] = 273.16  # filled over land, as some centres do
    maps = ("latitude", "longitude")
    dataset = xr.Dataset(
        {
            "temperature": (("time", "level", *maps), values, {"units": "K"}),
            "u_component_of_wind": (("time", "level", *maps), values - 280, {"units": "m s-1"}),
            "v_component_of_wind": (("time", "level", *maps), 280 - values, {"units": "m s-1"}),
            "sea_surface_temperature": (("time", *maps), sst, {"units": "K"}),
            "land_sea_mask": (maps, land, {"units": "1"}),
        },
        {
            "time": pd.date_range("2020-01-01", periods=4, freq="6h"),
            "level": [500, 850, 1000],
            "latitude": grid.latitude,
            "longitude": grid.longitude,
        },
    )
    path = str(tmp_path / "source.zarr")
    dataset.chunk(time=1).to_zarr(path)
    return path


def run(source, tmp_path, grid, **options):
    output = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr")
    regrid(source, output, grid, no_beam=True, progress=False, **options)
    return open_dataset(output)


def test_fields_of_the_sea_take_nothing_from_land(source, tmp_path):
    target = Grid.equiangular(6, 6)
    result = run(source, tmp_path, target, variables="sst")["sea_surface_temperature"]
    before = open_dataset(source)
    latitude = before["sea_surface_temperature"].where(before["land_sea_mask"] < 0.5)
    # Cells are 60° wide, of four of the source's columns; that about 60° is land but for nothing, about 120° for half.
    assert "land_sea_mask" in result.attrs["cells"]
    assert float(result.min()) > 280
    weights = make_weights(before.latitude.values, before.longitude.values, target)
    np.testing.assert_allclose(result, regrid_array(latitude.values, weights), rtol=1e-6)
    assert np.isnan(result).any() and np.isfinite(result).any()
    more = run(source, tmp_path, target, variables="sst", coverage=0.05)["sea_surface_temperature"]
    assert np.isnan(more).sum() < np.isnan(result).sum()
    with pytest.raises(UserError, match="coverage"):
        run(source, tmp_path, target, coverage=0)


def test_levels_the_source_lacks_need_to_be_asked_for(source, tmp_path):
    grid = Grid.equiangular(12, 6)
    with pytest.raises(UserError, match="700"):
        run(source, tmp_path, grid, variables="t", levels=[700])
    result = run(source, tmp_path, grid, variables="t", levels=[700, 850], interpolate_levels=True)["temperature"]
    assert result["level"].values.tolist() == [700, 850]
    whole = run(source, tmp_path, grid, variables="t")["temperature"]
    share = np.log(700 / 500) / np.log(850 / 500)
    made = (1 - share) * whole.sel(level=500) + share * whole.sel(level=850)
    np.testing.assert_allclose(result.sel(level=700), made, rtol=1e-6)
    np.testing.assert_array_equal(result.sel(level=850), whole.sel(level=850))


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest", "spectral"])
@pytest.mark.parametrize("grid", [Grid.equiangular(8, 5, poles=True), Grid.gaussian(8, 4)], ids=["poles", "gaussian"])
def test_every_method_writes_every_kind_of_grid(source, tmp_path, method, grid):
    result = run(source, tmp_path, grid, method=method, variables="t,u,v")
    np.testing.assert_allclose(result["latitude"], grid.latitude)
    assert np.isfinite(result["u_component_of_wind"]).all() and result.sizes["level"] == 3
    before = open_dataset(source)
    wind = [before[f"{name}_component_of_wind"].values for name in "uv"]
    if method == "spectral":
        expected = SpectralRegridder(Grid.equiangular(24, 12), grid).vectors(*wind)
    else:
        weights = make_weights(before.latitude.values, before.longitude.values, grid, method)
        expected = WeightedRegridder(weights).vectors(*wind)
    np.testing.assert_array_equal(result["u_component_of_wind"], expected[0])
    np.testing.assert_array_equal(result["v_component_of_wind"], expected[1])


def test_winds_as_scalars_are_those_of_weatherbench2(source, tmp_path, caplog):
    grid, before = Grid.equiangular(8, 4), open_dataset(source)
    scalar = run(source, tmp_path, grid, variables="u,v", winds="scalar")["u_component_of_wind"]
    naive = weatherbench2(before["u_component_of_wind"].values[2, 1].astype(float), Grid.equiangular(24, 12), grid)
    np.testing.assert_allclose(scalar[2, 1], naive, rtol=1e-6, atol=1e-6)
    alone = run(source, tmp_path, grid, variables="u")["u_component_of_wind"]
    assert "regridded as a scalar" in caplog.text
    np.testing.assert_array_equal(alone, scalar)


def test_chunks_and_shards_of_the_output(source, tmp_path):
    grid = Grid.equiangular(12, 6)
    regrid(
        source, str(tmp_path / "a.zarr"), grid, no_beam=True, progress=False, chunks="time=2,level=1", shards="time=4"
    )
    encoding = xr.open_zarr(tmp_path / "a.zarr")["temperature"].encoding
    assert encoding["chunks"] == (2, 1, 6, 12) and encoding["shards"] == (4, 3, 6, 12)
    files = [file for file in (tmp_path / "a.zarr" / "temperature" / "c").rglob("*") if file.is_file()]
    assert len(files) == 1
    xr.testing.assert_equal(open_dataset(str(tmp_path / "a.zarr")), run(source, tmp_path, grid))
    for wrong, message in (({"chunks": "times=2"}, "choose from time, level"), ({"chunks": "2"}, "write it as")):
        with pytest.raises(UserError, match=message):
            run(source, tmp_path, grid, **wrong)
    with pytest.raises(UserError, match="--shards time=4"):
        run(source, tmp_path, grid, chunks="time=2", shards="time=3")
