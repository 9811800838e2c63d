"""Every command of docs/own-files.md and of docs/operational-day.md runs, on small files in place of those of a centre."""

import ast
import re

import numpy as np
import pytest
import xarray as xr

from tests import guides
from tests.conftest import travelling_waves
from tests.guides import ROOT, lines
from weather_scnn.catalogue.naming import lookup
from weather_scnn.sphere import Grid

SMALLER = [
    "data.levels=500,850", "model.scalar_channels=4", "model.vector_channels=2", "model.blocks=1",
    "training.batch_size=4", "training.stages=4x1,2x2", "training.validation_windows=4", "training.validation_days=0.5",
]  # fmt: skip
PERIODS = {
    "TRAINING": "2001-01-01:2001-01-08",
    "VALIDATION": "2001-01-09:2001-01-10",
    "TEST": "2001-01-11:2001-01-12:12h",
}


def delivered(dataset: xr.Dataset) -> xr.Dataset:
    """In the layout of the Climate Data Store's netCDF: north first, lowest level first, and its names."""
    dataset = dataset.isel(latitude=slice(None, None, -1)).rename(time="valid_time").assign_coords(number=0)
    dataset = dataset.assign_coords(expver=("valid_time", ["0001"] * dataset.sizes["valid_time"]))
    if "level" not in dataset.dims:
        return dataset
    dataset = dataset.isel(level=slice(None, None, -1)).rename(level="pressure_level")
    dataset["pressure_level"].attrs["units"] = "hPa"
    return dataset


def download(folder) -> None:
    """Two files of levels, two of the surface, and what never changes."""
    times = np.datetime64("2001-01-01", "ns") + np.arange(52) * np.timedelta64(6, "h")
    waves = travelling_waves(Grid.equiangular(24, 13, poles=True), times)
    u, v, surface = waves["u_component_of_wind"], waves["v_component_of_wind"], waves["2m_temperature"]
    aloft = {
        "z": waves["geopotential"],
        "t": (u * 0.2 + 270).assign_attrs(units="K"),
        "q": (abs(u) * 1e-4).assign_attrs(units="kg kg**-1"),
        "u": u,
        "v": v,
    }
    ground = {
        "t2m": surface,
        "msl": (1e5 + 50 * (surface - 285)).assign_attrs(units="Pa"),
        "u10": u.isel(level=1, drop=True),
        "v10": v.isel(level=1, drop=True),
    }
    mask = waves["land_sea_mask"].expand_dims(time=times[:1])
    never = {"z": (mask * 20000).assign_attrs(units="m**2 s**-2"), "lsm": mask.assign_attrs(units="1")}
    folder.mkdir()
    for part in (slice(0, 30), slice(30, None)):
        day = str(times[part][0])[:10]
        delivered(xr.Dataset(aloft).isel(time=part)).to_netcdf(folder / f"pressure-levels-{day}.nc")
        delivered(xr.Dataset(ground).isel(time=part)).to_netcdf(folder / f"single-levels-{day}.nc")
    delivered(xr.Dataset(never)).to_netcdf(folder / "invariant.nc")


@pytest.mark.slow
def test_own_files_go_all_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    download(tmp_path / "downloads")
    ran = []
    shorter = {"50,250,500,600,700,850,925": "500,850", "--grid 64x32": "--grid 16x8", "--lead 10d": "--lead 12h"}
    for line in lines("docs/own-files.md"):
        if line.startswith("export "):
            assert line.split()[1].partition("=")[0] in PERIODS
            continue
        settings = (
            " ".join(f"--set {setting}" for setting in [*SMALLER, "data.grid=16x8"]) if "--config" in line else ""
        )
        ran.append(guides.run(line, PERIODS, shorter, settings))
    assert ran == "check regrid stats climatology plan train forecast score report".split()
    scores = xr.open_dataset(tmp_path / "scores.nc")
    assert np.isfinite(scores["geopotential"].sel(system="model", metric=["rmse", "acc"])).all()
    assert (tmp_path / "report" / "index.html").exists()


def test_what_the_page_downloads_is_what_it_regrids():
    """The names of the request are the catalogue's, and are those of the command."""
    page = (ROOT / "docs" / "own-files.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    named = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(block).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        for target in node.targets
    }
    (command,) = [line for line in lines("docs/own-files.md") if line.startswith("weather-scnn regrid")]
    variables = re.search(r"--variables (\S+)", command).group(1).split(",")
    assert variables == [*named["aloft"], *named["ground"], "geopotential_at_surface", "land_sea_mask"]
    assert all(lookup(name) is not None for name in variables)
    assert re.search(r"--levels (\S+)", command).group(1).split(",") == named["levels"]


@pytest.mark.slow
def test_days_go_by(run_of_days, monkeypatch):
    """Four days in operation, then the scores of the first two."""
    folder, ran = run_of_days, []
    monkeypatch.chdir(folder)
    shorter = {"--grid 64x32": "--grid 16x8", "--lead 10d": "--lead 24h", "--members 8": "--members 2"}
    page = lines("docs/operational-day.md")
    scoring = next(index for index, line in enumerate(page) if "score " in line)
    # Those of weather services run in test_live_analysis.py.
    daily = [
        line
        for line in page[:scoring]
        if not line.startswith("export ") and "--input ecmwf" not in line and "--input noaa" not in line
    ]
    for day in range(2, 6):
        for line in daily:
            ran.append(guides.run(line, {"TODAY": f"2001-01-0{day}"}, shorter))
    for line in page[scoring:]:
        if not line.startswith("export "):
            ran.append(guides.run(line, {"FIRST": "2001-01-02", "LAST": "2001-01-03"}, shorter))
    assert ran == ["check", "regrid", "forecast", "forecast"] * 4 + ["score", "report", "compare"]
    exported = {line.split()[1].partition("=")[0] for line in page if line.startswith("export ")}
    assert exported == {"TODAY", "FIRST", "LAST"}
    scores = xr.open_dataset(folder / "scores" / "2001-01-03.nc")
    rmse = scores["geopotential"].sel(system="model", metric="rmse", region="global")
    assert np.isfinite(rmse).all() and rmse.sizes["lead_time"] == 4


@pytest.fixture
def run_of_days(tmp_path, small_store, run):
    """A folder with a trained run, a climatology and the analyses of five days as they come in."""
    from pipelines.climatology import compute_climatology

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "era5").symlink_to(run)
    compute_climatology(
        small_store, str(tmp_path / "climatology.zarr"), time=None, window=5, no_beam=True, progress=False
    )
    (tmp_path / "incoming").mkdir()
    for name in ("analyses", "forecasts", "ensembles", "scores"):
        (tmp_path / name).mkdir()
    analyses = xr.open_zarr(small_store).sel(time=slice("2001-01-02", "2001-01-06")).drop_vars("land_sea_mask")
    for index in range(analyses.sizes["time"]):
        delivered(analyses.isel(time=[index])).to_netcdf(tmp_path / "incoming" / f"{index:03}.nc")
    return tmp_path
