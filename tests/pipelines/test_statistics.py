"""Statistics against plain NumPy, across gaps and missing values."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines import statistics
from pipelines.partial_statistics import PartialStatistics
from pipelines.statistics import compute_statistics
from weather_scnn.errors import UserError
from weather_scnn.io.statistics import read_statistics
from weather_scnn.sphere.grid import Grid, latitude_weights

GRID = Grid.equiangular(12, 6)
ROWS = latitude_weights(GRID.latitude)
WEIGHTS = ROWS[:, None]


def make_dataset(times, seed=0):
    rng = np.random.default_rng(seed)
    level = [500, 850]
    count = len(times)
    maps = ("latitude", "longitude")
    walk = np.cumsum(rng.standard_normal((count, 2, *GRID.shape)), axis=0) + 250.0
    return xr.Dataset(
        {
            "temperature": (("time", "level", *maps), walk.astype(np.float32), {"units": "K", "long_name": "T"}),
            "surface_pressure": (
                ("time", *maps),
                (1e5 + 300 * rng.standard_normal((count, *GRID.shape))).astype(np.float32),
                {"units": "Pa", "long_name": "p"},
            ),
            "geopotential_at_surface": (
                maps,
                (1e3 * rng.standard_normal(GRID.shape)).astype(np.float32),
                {"units": "m**2 s**-2", "long_name": "z"},
            ),
        },
        coords={"time": times, "level": level, "latitude": GRID.latitude, "longitude": GRID.longitude},
    )


def write(dataset, path):
    dataset.chunk(time=1).to_zarr(path)
    return str(path)


def weighted(values, axes):
    values = np.asarray(values, np.float64)
    weights = np.where(np.isfinite(values), WEIGHTS, 0.0)
    values = np.where(np.isfinite(values), values, 0.0)
    mean = (weights * values).sum(axes, keepdims=True) / weights.sum(axes, keepdims=True)
    std = np.sqrt((weights * (values - mean) ** 2).sum(axes) / weights.sum(axes))
    return mean.squeeze(axes), std


@pytest.fixture(scope="module")
def times():
    return pd.date_range("2001-01-01", periods=40, freq="6h").delete([13, 14]).values


def test_against_plain_numpy_with_a_gap_and_missing_values(times, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "_ITEM_BYTES", 4000)
    monkeypatch.setattr(statistics, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(statistics, "_STEPS_PER_PIECE", 1)
    dataset = make_dataset(times)
    dataset["temperature"][5, 1, 2, 3:6] = np.nan
    path = write(dataset, tmp_path / "data.zarr")
    compute_statistics(path, str(tmp_path / "stats.nc"), time=None, step="12h", progress=False)
    result = read_statistics(str(tmp_path / "stats.nc"))
    pairs = [
        (i, j) for i in range(len(times)) for j in range(len(times)) if times[j] - times[i] == np.timedelta64(12, "h")
    ]
    for name, axes in (("temperature", (0, 2, 3)), ("surface_pressure", (0, 1, 2))):
        values = dataset[name].values.astype(np.float64)
        differences = np.stack([values[j] - values[i] for i, j in pairs])
        for prefix, part in (("", values), ("increment_", differences)):
            mean, std = weighted(part, axes)
            np.testing.assert_allclose(result[name].sel(statistic=f"{prefix}mean"), mean, rtol=1e-10)
            np.testing.assert_allclose(result[name].sel(statistic=f"{prefix}std"), std, rtol=1e-10)
            np.testing.assert_array_equal(
                result[name].sel(statistic=f"{prefix}count"), np.isfinite(part).sum(axes).astype(float)
            )
    mean, std = weighted(dataset["geopotential_at_surface"].values, (0, 1))
    assert result["geopotential_at_surface"].dims == ("statistic",)
    np.testing.assert_allclose(result["geopotential_at_surface"][:2], [mean, std], rtol=1e-10)
    assert np.isnan(result["geopotential_at_surface"].sel(statistic="increment_std"))
    assert result["temperature"].dtype == np.float64 and result["temperature"].attrs["units"] == "K"
    assert result.attrs["step"] == "12h" and result.attrs["grid"] == "12x6" and result.attrs["times"] == 38
    assert result.attrs["period"] == "2001-01-01T00:00:00:2001-01-10T18:00:00"
    assert "sqrt" in result.attrs["formula"]


def test_only_the_period_counts(times, tmp_path):
    dataset = make_dataset(times)
    path = write(dataset, tmp_path / "data.zarr")
    compute_statistics(path, str(tmp_path / "stats.nc"), time="2001-01-02:2001-01-03", progress=False)
    result = read_statistics(str(tmp_path / "stats.nc"))
    part = dataset["surface_pressure"].sel(time=slice("2001-01-02", "2001-01-03")).values.astype(np.float64)
    mean, std = weighted(np.diff(part, axis=0), (0, 1, 2))
    np.testing.assert_allclose(
        result["surface_pressure"].sel(statistic=["increment_mean", "increment_std"]), [mean, std]
    )
    assert result["surface_pressure"].sel(statistic="increment_count") == 7 * 72


def test_a_spread_small_beside_the_mean_keeps_its_digits(times, tmp_path, monkeypatch):
    """Geopotential at 50 hPa and increments of metres: sums of squares in float64 would lose seven digits of nine."""
    monkeypatch.setattr(statistics, "_ITEM_BYTES", 1000)
    monkeypatch.setattr(statistics, "_BLOCK_BYTES", 500)
    rng = np.random.default_rng(2)
    dataset = make_dataset(times)[["surface_pressure"]]
    values = (1.0e5 + np.cumsum(rng.normal(0, 0.1, (len(times), *GRID.shape)), axis=0)).astype(np.float32)
    dataset["surface_pressure"] = dataset["surface_pressure"].copy(data=values)
    compute_statistics(
        write(dataset, tmp_path / "d.zarr"), str(tmp_path / "s.nc"), time=None, step="6h", no_beam=True, progress=False
    )
    result = read_statistics(str(tmp_path / "s.nc"))["surface_pressure"]
    together = np.diff(times) == np.timedelta64(6, "h")
    increments = np.diff(values.astype(np.float64), axis=0)[together]
    for prefix, part in (("", values), ("increment_", increments)):
        mean, std = weighted(part, (0, 1, 2))
        np.testing.assert_allclose(result.sel(statistic=f"{prefix}mean"), mean, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(result.sel(statistic=f"{prefix}std"), std, rtol=1e-9)


def test_two_halves_make_the_whole():
    rng = np.random.default_rng(1)
    values = 1e6 + rng.standard_normal((30, 4, *GRID.shape))
    values[3, 1, 0] = np.nan
    axes = (-4, -2, -1)
    whole = PartialStatistics.of(values, ROWS, axes)
    halves = PartialStatistics.of(values[:7], ROWS, axes).merge(PartialStatistics.of(values[7:], ROWS, axes))
    np.testing.assert_array_equal(halves.count, whole.count)
    np.testing.assert_allclose(halves.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(halves.std, whole.std, rtol=1e-10)
    nothing = PartialStatistics.of(np.full((2, 4, *GRID.shape), np.nan), ROWS, axes)
    np.testing.assert_allclose(nothing.merge(whole).mean, whole.mean)
    assert np.isnan(nothing.std).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": "2010-01-01:2010-02-01"}, "2010"),
        ({"time": None, "step": "5h"}, "multiple"),
        ({"time": None, "step": "soon"}, "duration"),
        ({"time": None, "step": "-6h"}, "positive"),
        ({"time": None, "step": "600h"}, "no two times"),
        ({"time": "2001-01-01T00:2001-01-01T00"}, "single time"),
    ],
)
def test_bad_requests(arguments, message, times, tmp_path):
    path = write(make_dataset(times), tmp_path / "data.zarr")
    with pytest.raises(UserError, match=message):
        compute_statistics(path, str(tmp_path / "stats.nc"), progress=False, **arguments)
    assert not (tmp_path / "stats.nc").exists()


def test_an_existing_file_is_kept(times, tmp_path):
    (tmp_path / "stats.nc").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        compute_statistics(str(tmp_path / "no.zarr"), str(tmp_path / "stats.nc"), time=None, progress=False)
    assert (tmp_path / "stats.nc").read_text() == "mine"
