"""The commands of docs/scores.md for stations, events and cyclones, and what the page shows of them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import weather_scnn as ws
from eval.request import StationRequest
from eval.score_reading import open_scores
from tests import guides

PAGE = "docs/scores.md"


@pytest.fixture(scope="module")
def folder(make, tmp_path_factory):
    """Stores of 2 m temperature and 10 m wind, and reports of a METAR network a few minutes off."""
    folder = tmp_path_factory.mktemp("guide")
    truth = make.truth()
    truth["2m_temperature"] = (truth["2m_temperature"] + 270).assign_attrs(units="K")
    for part in "uv":
        wind = truth[f"{part}_component_of_wind"].sel(level=500, drop=True)
        truth[f"10m_{part}_component_of_wind"] = wind.assign_attrs(units="m s-1")
    truth = truth[["2m_temperature", "10m_u_component_of_wind", "10m_v_component_of_wind", "land_sea_mask"]]
    truth["geopotential_at_surface"] = (truth["land_sea_mask"] * 9806.65).assign_attrs(units="m2 s-2")
    make.write(truth, folder / "era5.zarr")
    make.write(make.forecast(truth.drop_vars("geopotential_at_surface")), folder / "forecast.zarr")
    rng = np.random.default_rng(0)
    places = pd.DataFrame({
        "station": [f"K{n:02d}" for n in range(30)], "lat": rng.uniform(-60, 60, 30), "lon": rng.uniform(-180, 180, 30),
        "elevation": rng.uniform(0, 800, 30), "network": ["AWOS", "ASOS", "ASOS"] * 10,
    })  # fmt: skip
    table = places.merge(pd.DataFrame({"valid": truth["time"].values + np.timedelta64(7, "m")}), how="cross")
    table["tmpf"] = rng.normal(40, 10, len(table)).round(1)
    table["sknt"], table["drct"] = rng.uniform(0, 30, len(table)).round(), rng.uniform(0, 360, len(table)).round()
    table.to_csv(folder / "metar.csv", index=False)
    return folder


def command(output):
    """The line of the guide that holds this."""
    return next(line for line in guides.lines(PAGE) if f"{output} " in f"{line} ")


@pytest.mark.slow
def test_stations(folder, monkeypatch):
    monkeypatch.chdir(folder)
    lines = {output: command(f"--output {output}") for output in ("stations.nc", "observed.nc")}
    guides.run(lines["stations.nc"], {}, {}, "--bootstrap 20 --maps 24h --spectra 24h")
    guides.run(lines["observed.nc"], {}, {}, "--bootstrap 20")
    guides.run(next(line for line in guides.lines(PAGE) if "compare stations.nc" in line), {}, {})
    guides.run(command("--output observed"), {}, {}, "--fields 2m_temperature --maps 24h")
    found = open_scores("stations.nc", group="stations")
    assert found["region"].values.tolist()[:3] == ["all-stations", "europe", "tropics"]
    assert found.attrs["height_correction"] == "2 m temperature by 6.5 K/km"
    assert set(open_scores("observed.nc", group="stations").data_vars) >= {"2m_temperature", "10m_wind_speed"}
    page = (folder / "observed" / "index.html").read_text()
    assert "compared with observations at 30 stations" in page
    assert "Map of the Bias of 2 m temperature at stations, 24 h ahead" in page
    assert "2 m temperature: below 273.15" in page and "Equitable threat score, below 273.15" in page
    rows = pd.read_csv(folder / "observed" / "tables" / "stations_bias_2m_temperature_24h.csv")
    places = open_scores("observed.nc", group="stations/places").sel(station=rows["station"].values)
    at = places["2m_temperature"].sel(metric="bias", lead_time=np.timedelta64(24, "h"), system="model")
    np.testing.assert_allclose(rows["bias"], at, rtol=1e-4)
    guides.run(
        "weather-scnn report --scores stations.nc --truth era5.zarr --output both --fields 2m_temperature --maps 24h",
        {},
        {},
    )
    text = (folder / "both" / "index.html").read_text()
    assert (
        "At stations" in text
        and "network=ASOS" in text
        and "correction for height: 2 m temperature by 6.5 K/km" in text
    )
    same = ws.score(
        "forecast.zarr", stations=StationRequest("metar.csv", tolerance="30min"), bootstrap=0
    ).scores.groups["stations"]
    field = open_scores("observed.nc", group="stations")["2m_temperature"].sel(metric="rmse")
    np.testing.assert_allclose(same["2m_temperature"].sel(metric="rmse"), field)
    guides.run("weather-scnn init-scores --scores observed.nc --output t.csv --metrics rmse,bias --leads 24h", {}, {})
    assert set(pd.read_csv("t.csv")["region"]) == {"all-stations"}


def test_events(folder, monkeypatch):
    monkeypatch.chdir(folder)
    guides.run(command("--output quantiles.zarr"), {}, {}, "--variables 2m_temperature --no-beam")
    guides.run(command("--output events.nc"), {}, {}, "--bootstrap 0 --variables 2m_temperature")
    found = open_scores("events.nc")["2m_temperature"].sel(system="model", region="global").isel(lead_time=0)
    assert 0.1 < float(found.sel(metric="ets_0.95")) < 1
    assert 0.5 < float(found.sel(metric="fss_2000km_0.05")) < 1
    assert np.isfinite(found.sel(metric="frequency_bias_above_300")) or (found.sel(metric="brier_above_300") == 0)
    curves = open_scores("events.nc", group="event_curves")["2m_temperature"]
    assert curves.sel(event="0.95", curve="share").sum("probability_bound").round(6).isel(system=0).values.max() == 1.0


def test_icon_at_stations_of_its_own_fields(tmp_path):
    """A real forecast, its fields interpolated by xarray at made stations: nothing but rounding is left of the error."""
    path = guides.ROOT.parent / "shared" / "data" / "icon_forecast_20220401" / "icon_fc_2022040100_12h_5.625deg.nc"
    if not path.exists():
        pytest.skip(f"{path.parent} is not there")
    from eval.scoring import score

    raw = xr.open_dataset(path, decode_timedelta=False).assign_coords(time=np.datetime64("2022-04-01", "ns"))
    raw.to_netcdf(tmp_path / "icon.nc")
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-86, 86, 50), rng.uniform(-180, 180, 50)
    around = xr.concat(
        [raw, raw.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude", data_vars="minimal"
    )
    at = around[["msl", "u10", "v10", "z500"]].interp(latitude=("station", lat), longitude=("station", lon % 360))
    parts = []
    for step in raw["step"].values:
        one = at.sel(step=step)
        wind = {
            "sknt": np.hypot(one["u10"], one["v10"]) * 3600 / 1852,
            "drct": np.degrees(np.arctan2(-one["u10"], -one["v10"])),
        }
        parts.append(pd.DataFrame({
            "station": np.arange(50).astype(str), "valid": np.datetime64("2022-04-01") + np.timedelta64(int(step), "h"), "lat": lat,
            "lon": lon, "mslp": one["msl"] / 100, "z500 (m)": one["z500"] / 9.80665, **wind,
        }))  # fmt: skip
    table = pd.concat(parts)
    table["drct"] %= 360
    table.to_csv(tmp_path / "o.csv", index=False)
    seen = StationRequest(str(tmp_path / "o.csv"))
    found = score(
        str(tmp_path / "icon.nc"),
        None,
        str(tmp_path / "s.nc"),
        stations=seen,
        baselines=["persistence"],
        progress=False,
    )
    at = found.sel(metric="rmse", system="model", region="all-stations")
    assert at.sizes["lead_time"] == 16
    assert at["mean_sea_level_pressure"].max() < 0.02 and at["10m_wind_speed"].max() < 1e-5
    assert at["10m_u_component_of_wind"].max() < 1e-5 and at["geopotential"].sel(level=500).max() < 0.05
    later = found["mean_sea_level_pressure"].sel(metric="rmse", system="persistence", region="all-stations")
    assert later[0] < 0.02 and later[2] > 300  # 24 h later another weather
