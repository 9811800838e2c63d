"""The commands of docs/scores.md run as they stand, on small stand-ins of the stores that they name."""

import pathlib
import re
import shlex

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from eval.scoring import open_scores
from weather_scnn.cli import app
from weather_scnn.sphere.grid import Grid

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "scores.md"
GRID = Grid.equiangular(64, 32)
LEVELS = [50, 500, 700, 850]
SURFACE = {"2m_temperature": "K", "mean_sea_level_pressure": "Pa"}
VARIABLES = {
    "geopotential": "m**2 s**-2",
    "temperature": "K",
    "specific_humidity": "kg kg**-1",
    "u_component_of_wind": "m s**-1",
    "v_component_of_wind": "m s**-1",
    **SURFACE,
}


def commands() -> dict[str, list[str]]:
    """Arguments of each command of the guide that writes scores or a report, by its output."""
    found = {}
    for block in re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("weather-scnn ") and " --output " in line:
                words = shlex.split(line)[1:]
                found[words[words.index("--output") + 1]] = words
    return found


def fields(axes: dict[str, np.ndarray], grid: Grid = GRID, variables: dict[str, str] = VARIABLES) -> xr.Dataset:
    """Random fields of the published layout: (…, level, longitude, latitude), float32."""
    rng = np.random.default_rng(len(axes))
    data = {}
    for name, units in variables.items():
        coordinates = {**axes, **({} if name in SURFACE else {"level": LEVELS})}
        shape = [*map(len, coordinates.values()), grid.longitudes, grid.latitudes]
        values = rng.standard_normal(shape, np.float32)
        data[name] = ([*coordinates, "longitude", "latitude"], values, {"units": units})
    space = {"level": LEVELS, "longitude": grid.longitude, "latitude": grid.latitude}
    return xr.Dataset(data, {**axes, **space})


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> pathlib.Path:
    """The stores of the guide's paths, a few days of each."""
    root = tmp_path_factory.mktemp("weatherbench2")
    arguments = commands()["official.nc"]
    paths = {word.split("=")[-1] for word in arguments if "$WB2" in word}
    assert len(paths) == 4
    hour = np.timedelta64(1, "h")
    days = [np.datetime64(f"{year}-01-01", "ns") + np.arange(12) * 6 * hour for year in (1990, 1991, 2020)]
    stores = {
        "/era5/": fields({"time": np.concatenate(days)}),
        "/era5-hourly-climatology/": fields({"hour": np.array([0, 6, 12, 18]), "dayofyear": np.arange(1, 5)}),
    }
    forecast = {"time": days[2][:3:2], "prediction_timedelta": np.array([6, 12]) * hour.astype("timedelta64[ns]")}
    stores["/hres/"] = stores["/pangu/"] = fields(forecast)
    for path in paths:
        name = next(part for part in stores if part in path)
        chunks = {"time": 1} if "climatology" not in name else {"hour": 1}
        stores[name].chunk(chunks).to_zarr(path.replace("$WB2", str(root)), zarr_format=2, consolidated=True)
    return root


def test_the_official_evaluation(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Few days stand for thirty years; every other option is as printed.
    words = [word.replace("$WB2", str(bucket)) for word in commands()["official.nc"]]
    ran = CliRunner().invoke(app, words, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    scores = open_scores("official.nc")
    assert list(scores["system"].values) == [
        "hres", "pangu", "persistence", "climatology", "probabilistic-climatology"
    ]  # fmt: skip
    assert scores["level"].values.tolist() == [500, 700, 850] and scores.sizes["region"] == 13
    assert set(VARIABLES) | {"wind_vector"} == set(scores.data_vars)
    for name in scores.data_vars:
        assert np.isfinite(scores[name].sel(metric="rmse")).all()
    assert np.isfinite(scores["geopotential"].sel(metric="crps", system="probabilistic-climatology")).all()
    # Persistence, from the definition.
    with xr.open_zarr(next((bucket / "era5").iterdir()), consolidated=True) as truth:
        field = truth["2m_temperature"].sel(time="2020").values.astype(np.float64)
    area = np.diff(np.sin(np.radians(np.linspace(-90, 90, 33))))
    squares = [np.average((field[i] - field[i + 1]) ** 2 @ area / area.sum()) for i in (0, 2)]
    found = scores["2m_temperature"].sel(system="persistence", metric="mse", region="global")[0]
    assert float(found) == pytest.approx(np.mean(squares), rel=1e-6)


def test_the_forecasts_of_the_authors_beside_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = commands()["sphericalcnn.nc"]
    grid, upper, hour = Grid.equiangular(240, 121, poles=True), {"geopotential": "m**2 s**-2", "temperature": "K"}, 3600
    times = np.datetime64("2020-01-01", "ns") + np.arange(5) * np.timedelta64(6, "h")
    leads = (np.array([6, 12]) * hour).astype("timedelta64[s]").astype("timedelta64[ns]")
    forecast = {"time": times[:3:2], "prediction_timedelta": leads}
    for path in {word.split("=")[-1] for word in words if "$WB2" in word or word.startswith("ours=")}:
        axes = forecast
        if "era5/" in path:
            axes = {"time": times}
        elif "climatology" in path:
            axes = {"hour": np.array([0, 6, 12, 18]), "dayofyear": np.arange(1, 3)}
        fields(axes, grid, upper).to_zarr(path.replace("$WB2", str(tmp_path)), zarr_format=2, consolidated=True)
    ran = CliRunner().invoke(app, [word.replace("$WB2", str(tmp_path)) for word in words], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    scores = open_scores("sphericalcnn.nc")
    assert list(scores["system"].values) == ["ours", "sphericalcnn", "keisler", "neuralgcm", "persistence"]
    assert scores["level"].values.tolist() == [500, 850] and set(upper) == set(scores.data_vars)
    assert np.isfinite(scores["geopotential"].sel(metric=["rmse", "acc"])).all()


@pytest.mark.slow
def test_its_report(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for output in ("official.nc", "official"):
        words = [word.replace("$WB2", str(bucket)) for word in commands()[output]]
        ran = CliRunner().invoke(app, words, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
    assert "probabilistic-climatology" in (tmp_path / "official" / "index.html").read_text(encoding="utf-8")


def test_the_rows_of_the_first_weatherbench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hour = np.timedelta64(1, "h")
    weeks = [np.datetime64(f"{year}-01-01", "ns") + np.arange(365 * 2) * 12 * hour for year in (2015, 2017)]
    rng, space = np.random.default_rng(0), {"lat": GRID.latitude[::8], "lon": GRID.longitude[::8]}

    def store(axes: dict, path: str) -> None:
        values = rng.standard_normal([*map(len, axes.values()), 4, 8], np.float32)
        data = xr.Dataset({"t2m": ([*axes, *space], values, {"units": "K"})}, {**axes, **space})
        data.chunk(time=100).to_zarr(path, consolidated=False)

    store({"time": np.concatenate(weeks)}, "era5_5.625deg.zarr")
    leads = np.array([72, 120]) * hour.astype("timedelta64[ns]")
    store({"time": weeks[1][:40:4], "prediction_timedelta": leads}, "forecast.zarr")
    ran = CliRunner().invoke(app, commands()["weatherbench1.nc"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    scores = open_scores("weatherbench1.nc")["2m_temperature"].sel(region="global")
    assert np.isfinite(scores.sel(metric=["rmse", "acc"])).all()
    assert list(scores["system"].values) == ["model", "persistence", "climatology", "weekly-climatology"]
