"""Every command of the README runs: as it stands, on a small store in place of ERA5."""

import re

import numpy as np
import pytest
import xarray as xr

from pipelines.atmospheres import HeldSuarez
from tests.conftest import travelling_waves
from tests.guides import ROOT, lines, run
from tests.io import weather_services
from weather_scnn.io import live_sources, noaa_gfs
from weather_scnn.sphere import Grid

# What stands for ERA5 and its periods here, and what makes the training small: one field, since each has thirty figures, and one
# length of rollouts, since each is a program. Training on winds and over several stages is that of tests/training.
REPLACED = {"TRAINING": "2001-01-01:2001-01-08", "ALL": "2001-01-01:2001-01-12", "TEST": "2001-01-10:2001-01-11:12h"}
SMALLER = [
    "data.levels=500",
    "data.level_variables=geopotential",
    "data.surface_variables=",
    "model.scalar_channels=4",
    "model.vector_channels=2",
    "model.blocks=1",
    "training.batch_size=4",
    "training.stages=4x2",
]

SHORTER = {
    "--lead 10d": "--lead 18h",
    "--members 8": "--members 2",
    "24h,5d": "18h",
    "--days 2": "--days 0.25",
    "--lead 3d": "--lead 12h",
}


@pytest.fixture(scope="module")
def era5(tmp_path_factory):
    """A week and a half of fields under the names that the README asks for, on a grid with poles."""
    times = np.datetime64("2001-01-01") + np.arange(64) * np.timedelta64(6, "h")
    grid = Grid.equiangular(24, 13, poles=True)
    waves = travelling_waves(grid, times)
    surface, aloft = waves["2m_temperature"], waves["u_component_of_wind"]
    dataset = waves.assign(
        temperature=(aloft * 0.2 + 270).assign_attrs(units="K"),
        specific_humidity=(abs(aloft) * 1e-4).assign_attrs(units="kg kg**-1"),
        mean_sea_level_pressure=(1e5 + 50 * (surface - 285)).assign_attrs(units="Pa"),
        geopotential_at_surface=(waves["land_sea_mask"] * 20000).assign_attrs(units="m**2 s**-2"),
        **{f"10m_{c}_component_of_wind": waves[f"{c}_component_of_wind"].isel(level=1, drop=True) for c in "uv"},
    )
    path = str(tmp_path_factory.mktemp("era5") / "source.zarr")
    dataset.chunk({"time": 1}).to_zarr(path, zarr_format=2, consolidated=True)
    return path


@pytest.fixture
def noaa(tmp_path, monkeypatch):
    """NOAA's service on this machine, with two analyses of yesterday and today."""
    with weather_services.serve() as service:
        newest = np.datetime64("now", "D").astype("datetime64[ns]")
        for hours in (6, 0):
            service.files |= weather_services.gfs(newest - np.timedelta64(hours, "h"))
        monkeypatch.setenv(noaa_gfs.ADDRESS, service.address)
        monkeypatch.setenv(live_sources.VARIABLE, str(tmp_path / "downloads"))
        yield "noaa-gfs"


def test_every_command_runs(era5, noaa, tmp_path, monkeypatch):
    """In one folder, in order. `make` targets are run by whoever runs this test; here they must only exist."""
    for folder in ("configs", "pretrained"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    # Weather settles in forty days; the nature run's own tests look at it, and a day is enough for a store.
    monkeypatch.setattr(HeldSuarez, "settling_days", 1.0)
    variables = {**REPLACED, "ERA5": era5, "ANALYSES": noaa}
    ran = []
    for line in lines("README.md"):
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), line
        elif line.startswith("export "):
            name = line.split()[1].partition("=")[0]
            assert name in variables, f"{name} has no small value in this test"
        else:
            smaller = " ".join(f"--set {setting}" for setting in SMALLER) if "--config" in line else ""
            ran.append(run(line, variables, SHORTER, smaller))
    assert (
        ran
        == "forecast check regrid stats climatology plan train forecast forecast score report compare simulate".split()
    )
    assert (tmp_path / "report" / "index.html").stat().st_size > 50_000
    scores = xr.open_dataset(tmp_path / "scores.nc")
    assert set(scores["system"].values) == {"model", "ensemble", "persistence", "climatology"}
