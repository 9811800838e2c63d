"""Every command of docs/forecasts.md runs, on a small state."""

import pathlib

from tests import guides

SMALLER = {
    "runs/era5": "{run}", "era5.zarr": "{store}", "6h,1d:10d:1d": "6h:12h", "1d:10d:1d": "6h:12h",
    "10m_wind_speed,total_precipitation_24hr": "wind_speed,thickness_850_500",
}  # fmt: skip


def test_every_command_of_the_guide_runs(run, small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shorter = {long: short.format(run=run, store=small_store) for long, short in SMALLER.items()}
    variables = {"TEST": "2001-01-03:2001-01-04:12h"}
    ran = [guides.run(line, variables, shorter) for line in guides.lines("docs/forecasts.md")]
    assert ran == ["forecast", "forecast", "forecast", "score"]
    assert len(list(pathlib.Path("cf").glob("*.nc"))) == len(list(pathlib.Path("grib").glob("*.grib2"))) == 4
