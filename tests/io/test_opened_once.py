"""A job opens its source at most twice, once by xarray and once by TensorStore, and brings its axes in order once."""

import numpy as np
import pandas as pd
import pytest
import tensorstore
import xarray as xr
import zarr

from pipelines.climatology import compute_climatology
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.io import opening
from weather_scnn.sphere.grid import Grid


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    grid = Grid.equiangular(12, 6)
    axes = {
        "time": pd.date_range("2020-01-01", periods=8, freq="6h"),
        "latitude": grid.latitude[::-1],
        "longitude": grid.longitude,
    }
    warm = (285 + rng.normal(size=(8, 6, 12))).astype(np.float32)
    fields = {"2m_temperature": warm, "sea_surface_temperature": warm}
    fields |= {f"10m_{each}_component_of_wind": warm - 285 for each in "uv"}
    dataset = xr.Dataset({name: (tuple(axes), values) for name, values in fields.items()}, axes)
    dataset["land_sea_mask"] = (("latitude", "longitude"), (rng.random((6, 12)) > 0.5).astype(np.float32))
    path = str(tmp_path / "source.zarr")
    dataset.chunk(time=1).to_zarr(path)
    return path


@pytest.fixture
def counted(monkeypatch, source):
    """How often a source was opened as a group and each of its arrays by TensorStore, and its axes brought in order."""
    counts = {"group": 0, "axes": 0, "arrays": []}
    open_group, axes, open_array = zarr.open_group, opening.canonical_axes, tensorstore.open

    def group(store, *arguments, **options):
        counts["group"] += str(store) == source
        return open_group(store, *arguments, **options)

    def array(spec, *arguments, **options):
        counts["arrays"].append(spec["kvstore"])
        return open_array(spec, *arguments, **options)

    def ordered(*arguments, **options):
        counts["axes"] += 1
        return axes(*arguments, **options)

    monkeypatch.setattr(zarr, "open_group", group)
    monkeypatch.setattr(tensorstore, "open", array)
    monkeypatch.setattr(opening, "canonical_axes", ordered)
    return counts


@pytest.mark.parametrize("variables", [None, "2m_temperature", "sst,10m_wind_speed"])
def test_a_regrid_opens_its_source_once_and_each_array_once(source, counted, tmp_path, variables):
    """The mask of the sea and the inputs of derived fields among it."""
    output = str(tmp_path / "out.zarr")
    regrid(source, output, Grid.equiangular(8, 4), variables=variables, no_beam=True, progress=False)
    assert counted["group"] == 1 and counted["axes"] == 1
    arrays = [each for each in counted["arrays"] if each.startswith(f"file://{source}")]
    assert arrays and len(arrays) == len(set(arrays))
    opened = xr.open_zarr(output)
    assert ("cells" in opened.get("sea_surface_temperature", opened["time"]).attrs) == (variables != "2m_temperature")


def test_statistics_and_a_climatology_open_it_once(source, counted, tmp_path):
    compute_statistics(source, str(tmp_path / "s.nc"), time=None, no_beam=True, progress=False)
    assert counted["group"] == 1 and counted["axes"] == 1
    compute_climatology(source, str(tmp_path / "c.zarr"), time=None, window=3, no_beam=True, progress=False)
    assert counted["group"] == 2 and counted["axes"] == 2
