"""Every command of docs/stability.md runs, on a small state."""

import pytest

from tests import guides

SMALLER = {
    "runs/era5": "{run}", "era5.zarr": "{store}", "2020-01-01:2020-10-01:2190h": "2001-01-02:2001-01-03:24h", "--years 10": "--years 0.0055",
    "2020-01-01": "2001-01-02", "--lead 10d": "--lead 6h", "4x360": "2x4", "=2019": "=2001-01-04:2001-01-06",
    "scores.nc": "{scores}",
}  # fmt: skip
TINY = {
    "data.grid": "16x8", "data.levels": "500,850", "data.level_variables": "geopotential,u_component_of_wind,v_component_of_wind",
    "data.surface_variables": "2m_temperature", "data.static_variables": "land_sea_mask", "model.scalar_channels": "4",
    "model.vector_channels": "2", "model.blocks": "1", "model.max_degree": "7", "training.batch_size": "4",
    "training.stages": "4", "training.validation_days": "0.25", "data.train": "2001-01-01:2001-01-03", "model.correctors.means": "",
}  # fmt: skip


@pytest.mark.slow
def test_every_command_of_the_guide_runs(run, small_store, tmp_path, monkeypatch):
    from eval.scoring import score
    from weather_scnn.forecasting.forecast import forecast

    forecast(run, small_store, str(tmp_path / "f.zarr"), init="2001-01-02", lead="12h", progress=False)
    score(str(tmp_path / "f.zarr"), small_store, str(tmp_path / "own.nc"), progress=False)
    monkeypatch.chdir(tmp_path)
    shorter = {
        long: short.format(run=run, store=small_store, scores=tmp_path / "own.nc") for long, short in SMALLER.items()
    }
    settings = " ".join(f"--set {name}={value}" for name, value in TINY.items())
    ran = []
    for line in guides.lines("docs/stability.md"):
        ran.append(guides.run(line, {}, shorter, settings if "--config" in line else ""))
    assert ran == ["stability", "report", "train", "forecast"]
    text = (tmp_path / "report" / "index.html").read_text()
    assert 'id="stability"' in text and "Over years" in text and "2 of 2" in text
    figures = {path.name.rpartition("_run")[0] for path in (tmp_path / "report" / "figures").glob("stability_*.png")}
    assert {"stability_drift_geopotential_500", "stability_bias_geopotential_500"} <= figures
