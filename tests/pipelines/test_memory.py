"""The memory that a job tells of, against what its process takes."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines.climatology import compute_climatology
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(240, 121, poles=True)
LEVELS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]

_RUN = """
import pathlib, re, sys
from pipelines.climatology import compute_climatology
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.sphere.grid import Grid
{call}
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]))
"""
CALLS = {
    "regrid": "regrid({source!r}, {output!r}, Grid.equiangular(64, 32), no_beam=True)",
    "stats": "compute_statistics({source!r}, {output!r}, time=None, no_beam=True)",
    "climatology": "compute_climatology({source!r}, {output!r}, time=None, window=5, no_beam=True, "
    "variables=['temperature'])",
}


def month(times=124, levels=LEVELS, grid=GRID):
    rng = np.random.default_rng(0)
    one = rng.normal(0, 9, (len(levels), *grid.shape)).astype("float32")
    maps = np.stack([np.roll(one, number, -1) for number in range(times)])
    means = {"temperature": (250, "K"), "u_component_of_wind": (0, "m s-1"), "v_component_of_wind": (0, "m s-1")}
    dims = ("time", "level", "latitude", "longitude")
    return xr.Dataset(
        {name: (dims, maps + np.float32(mean), {"units": units}) for name, (mean, units) in means.items()},
        {
            "time": pd.date_range("2020-01-01", periods=times, freq="6h"),
            "level": levels,
            "latitude": grid.latitude,
            "longitude": grid.longitude,
        },
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder, dataset = tmp_path_factory.mktemp("memory"), month()
    dataset.chunk(time=1).to_zarr(folder / "maps.zarr", zarr_format=2)
    encoding = {name: {"zlib": True, "complevel": 1, "chunksizes": (1, 13, 121, 240)} for name in dataset.data_vars}
    dataset.to_netcdf(folder / "maps.nc", encoding=encoding)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", CALLS)
@pytest.mark.parametrize("name", ["maps.zarr", "maps.nc"])
def test_the_memory_told_is_that_of_the_process(sources, tmp_path, command, name):
    call = CALLS[command].format(source=str(sources / name), output=str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", _RUN.format(call=call)], capture_output=True, text=True, check=True)
    told, unit = re.search(r"at most ([\d.]+) (MB|GB) of memory", done.stderr).groups()
    told = float(told) * {"MB": 1e6, "GB": 1e9}[unit]
    assert told == pytest.approx(float(done.stdout.split()[-1]), rel=0.25)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 62}], ids=["a-time", "many-times"])
def test_the_climatology_of_a_month_reads_every_value_once(tmp_path, monkeypatch, chunks):
    """All levels and hours of a chunk together: level by level each chunk was decoded once for every level."""
    dataset = month(levels=[300, 500, 850], grid=Grid.equiangular(24, 12))[["temperature"]]
    path = str(tmp_path / "month.zarr")
    dataset.chunk(chunks).to_zarr(path, zarr_format=2)
    read, taken = FieldReader._ask, []

    def counted(self, name, wanted):
        whole = wanted.get("level") in (None, slice(0, 3))
        taken.extend(np.arange(124)[wanted["time"]].tolist() if whole else [])
        return read(self, name, wanted)

    monkeypatch.setattr(FieldReader, "_ask", counted)
    compute_climatology(path, str(tmp_path / "clim.zarr"), time=None, window=5, no_beam=True, progress=False)
    assert sorted(taken) == [0, *range(124)]  # the first map is looked at before anything is written
