"""Scores at stations: against worked cases, xarray's interpolation and the files that users have."""

import logging

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from eval.compare_scores import compare_scores
from eval.request import StationRequest
from eval.score_reading import open_scores
from eval.scores.ensembles import crps
from eval.scoring import score
from eval.stations.interpolation import at_points, point_weights
from weather_scnn.errors import UserError
from weather_scnn.io.observations import Reports, read_observations

START = np.datetime64("2022-04-01T00", "ns")
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
NOW = np.timedelta64(0, "ns")
LATITUDE, LONGITUDE = np.arange(-67.5, 90, 45.0), np.arange(0.0, 360.0, 45.0)


def a_forecast(*, inits=1, leads=(0, 6), members=None, ground=None) -> xr.Dataset:
    """2 m temperature 280 K + latitude / 10 + init + lead (+ member) on 8x4, and winds of 3 and 4 m/s."""
    dims = ["time", "prediction_timedelta", "latitude", "longitude"]
    axes = {
        "time": START + np.arange(inits) * 12 * HOUR,
        "prediction_timedelta": np.array(leads) * HOUR,
        "latitude": LATITUDE,
        "longitude": LONGITUDE,
    }
    field = (
        280.0
        + np.arange(inits)[:, None, None, None]
        + np.array(leads)[:, None, None]
        + LATITUDE[:, None] / 10
        + np.zeros(8)
    )
    wind = np.zeros(field.shape)
    if members is not None:
        field = field[:, :, None] + np.array(members)[:, None, None]
        wind = np.zeros(field.shape)
        dims.insert(2, "number")
        axes["number"] = np.arange(len(members))
    fields = {
        "2m_temperature": (field, "K"),
        "10m_u_component_of_wind": (wind + 3, "m s-1"),
        "10m_v_component_of_wind": (wind - 4, "m s-1"),
    }
    dataset = xr.Dataset(
        {name: xr.DataArray(each.astype("f4"), axes, dims, attrs={"units": u}) for name, (each, u) in fields.items()}
    )
    if ground is not None:
        height = np.full((4, 8), ground * 9.80665, "f4")
        dataset["geopotential_at_surface"] = (("latitude", "longitude"), height, {"units": "m2 s-2"})
    return dataset


def reports(**columns) -> pd.DataFrame:
    """Two stations on the equator at 00 and 06 UTC; columns replace or add to theirs."""
    table = {
        "station": ["A", "A", "B", "B"], "valid": ["2022-04-01 00:00", "2022-04-01 06:00"] * 2, "lat": [0.0] * 4,
        "lon": [10.0, 10.0, -100.0, -100.0], "elevation": [100.0] * 4, "tmpc": [7.85, 12.85, 5.85, 14.85],
    }  # fmt: skip
    return pd.DataFrame({**table, **columns})


@pytest.fixture
def run(tmp_path):
    def scored(forecast, table, *, truth=None, output="s.nc", options=None, **stations):
        path = table
        if isinstance(table, pd.DataFrame):
            path = tmp_path / "obs.csv"
            table.to_csv(path, index=False)
        store = tmp_path / f"f{len(list(tmp_path.glob('f*.zarr')))}.zarr"
        forecast.to_zarr(store, consolidated=False)
        score(
            str(store), truth, str(tmp_path / output), stations=StationRequest(str(path), **stations), progress=False,
            **{"bootstrap": 0, **(options or {})},
        )  # fmt: skip
        return str(tmp_path / output)

    return scored


def of(path, metric, field="2m_temperature", group="stations", **at):
    return open_scores(path, group=group)[field].sel(metric=metric, **at).squeeze().values


def test_errors_by_hand(run):
    # The forecast is 280 K = 6.85 °C, 6 h later 286 K; A has 281 and 286 K, B 279 and 288 K.
    path = run(a_forecast(), reports())
    np.testing.assert_allclose(of(path, "bias"), [0.0, -1.0], atol=1e-4)
    np.testing.assert_allclose(of(path, "rmse"), [1.0, np.sqrt(2)], atol=1e-4)
    np.testing.assert_allclose(of(path, "mae"), [1.0, 1.0], atol=1e-4)
    places = open_scores(path, group="stations/places")
    assert places["station"].values.tolist() == ["A", "B"] and places["longitude"].values.tolist() == [10.0, 260.0]
    np.testing.assert_allclose(places["2m_temperature"].sel(metric="bias").squeeze(), [[-1, 1], [0, -2]], atol=1e-4)
    assert places["2m_temperature_count"].values.tolist() == [[[1, 1], [1, 1]]]
    assert open_scores(path).attrs["format_version"] == 2 and set(open_scores(path).data_vars) == {"observation_count"}


def test_height_and_groups(run, caplog):
    # The ground of the model lies 400 m above the stations, so it is 2.6 K warmer there; at 10 K/km 4 K.
    table = reports(network=["x", "x", "y", "y"])
    path = run(
        a_forecast(ground=500.0), table, groups=("network", "elevation"), options={"regions": ["europe", "tropics"]}
    )
    region = open_scores(path, group="stations")["region"].values.tolist()
    assert region == ["all-stations", "tropics", "network=x", "network=y", "below-200m"]
    assert "no station is in europe, 200-500m" in caplog.text
    np.testing.assert_allclose(of(path, "bias", region="network=x"), [-1 + 2.6, 2.6], atol=1e-4)
    np.testing.assert_allclose(of(path, "bias", region="all-stations"), [2.6, -1 + 2.6], atol=1e-4)
    path = run(a_forecast(ground=500.0), table, lapse_rate=0.01, output="t.nc")
    np.testing.assert_allclose(of(path, "bias"), [4.0, 3.0], atol=1e-4)
    assert open_scores(path, group="stations").attrs["height_correction"] == "2 m temperature by 10 K/km"
    np.testing.assert_allclose(
        of(run(a_forecast(ground=500.0), table, lapse_rate=0.0, output="u.nc"), "bias"), [0, -1], atol=1e-4
    )


def test_heights_that_are_not_known(run, caplog):
    run(a_forecast(ground=500.0), reports().drop(columns="elevation"))
    assert "2 m temperature is not corrected for height: the stations have no elevations" in caplog.text
    run(a_forecast(), reports(), output="t.nc")
    assert "neither forecast nor truth has geopotential_at_surface" in caplog.text
    with pytest.raises(UserError, match="the stations have no elevations, by which 2 m temperature is to be corrected"):
        run(a_forecast(ground=500.0), reports().drop(columns="elevation"), lapse_rate=0.0065, output="u.nc")
    with pytest.raises(UserError, match="neither forecast nor truth has geopotential_at_surface"):
        run(a_forecast(), reports(), lapse_rate=0.0065, output="u.nc")


def test_an_ensemble_and_events_by_hand(run):
    members = [-1.0, 0.0, 3.0]
    options = {"events": ["2m_temperature>280.5", "2m_temperature<279"], "baselines": ["persistence"]}
    path = run(a_forecast(members=members), reports(), options=options)
    at = {"system": "model", "lead_time": NOW}
    seen = [281.0, 279.0]
    each = [crps(280 + np.array(members), np.array(o)) for o in seen]
    assert of(path, "crps", **at) == pytest.approx(np.mean([one for one, _ in each]), abs=1e-4)
    assert of(path, "crps_fair", **at) == pytest.approx(np.mean([fair for _, fair in each]), abs=1e-4)
    # One of three members is above 280.5 K, as A is; none is below 279 K, nor is a station.
    assert of(path, "brier_above_280.5", **at) == pytest.approx(((1 / 3 - 1) ** 2 + (1 / 3) ** 2) / 2)
    assert of(path, "frequency_bias_above_280.5", **at) == pytest.approx((1 / 3) / (1 / 2))
    assert of(path, "brier_below_279", **at) == 0.0
    curves = open_scores(path, group="stations/event_curves")["2m_temperature"].squeeze("region")
    diagram = curves.sel(event="above_280.5", **at).sel(curve=["mean_probability", "observed_frequency", "share"])
    np.testing.assert_allclose(diagram.isel(probability_bound=4), [1 / 3, 0.5, 1.0])
    # Persistence is what the station had at first: 6 h later A is 5 K and B 9 K warmer.
    later = {"system": "persistence", "lead_time": 6 * HOUR}
    assert of(path, "bias", **later) == pytest.approx(-7.0, abs=1e-4)


def test_climatology_and_its_quantiles_at_stations(run, world, make, tmp_path):
    climatology, truth = make.climatology(), make.truth()
    array = climatology["2m_temperature"]
    climatology["2m_temperature_quantile"] = (array + xr.DataArray([-1.0, 1.0], {"quantile": [0.1, 0.9]})).transpose(
        "hour", "quantile", ...
    )
    forecast = make.forecast(truth)
    forecast["2m_temperature"], climatology["2m_temperature"] = forecast["2m_temperature"] + 270, array + 270
    climatology["2m_temperature_quantile"] = (climatology["2m_temperature_quantile"] + 270).assign_attrs(units="K")
    for each in (forecast, climatology):
        each["2m_temperature"].attrs["units"] = "K"
    row, column, time = 3, 5, forecast["time"].values[4]
    lead = forecast["prediction_timedelta"].values[1]
    seen = float(
        forecast["2m_temperature"].isel(latitude=row, longitude=column).sel(time=time, prediction_timedelta=lead)
    )
    table = pd.DataFrame({
        "id": ["a"], "time": [time + lead], "latitude": [truth["latitude"].values[row]],
        "longitude": [truth["longitude"].values[column]], "2m_temperature": [seen + 0.5],
    })  # fmt: skip
    options = {
        "climatology": make.write(climatology, tmp_path / "c.zarr"),
        "baselines": ["climatology"],
        "events": ["0.9"],
    }
    path = run(forecast[["2m_temperature"]], table, options=options)
    usual = 280.0 * 0 + 270 + 10 * np.cos(np.radians(truth["latitude"].values[row])) ** 2
    assert of(path, "bias", system="climatology", lead_time=lead) == pytest.approx(usual - seen - 0.5, abs=1e-3)
    happened, said = seen + 0.5 > usual + 1, seen > usual + 1
    assert of(path, "brier_0.9", system="model", lead_time=lead) == (happened != said)


def test_winds_from_speed_and_direction(run):
    # From the north-west (323.13°) at 5 m/s is u = 3, v = −4; a calm has no direction.
    knots = 3600 / 1852
    table = reports(sknt=[5 * knots, 0.0, 5 * knots, 10 * knots], drct=[323.13, np.nan, 323.13, np.nan]).drop(
        columns="tmpc"
    )
    path = run(a_forecast(), table)
    np.testing.assert_allclose(of(path, "mae", "10m_u_component_of_wind"), [0.0, 3.0], atol=1e-4)
    np.testing.assert_allclose(of(path, "bias", "10m_v_component_of_wind"), [0.0, -4.0], atol=1e-4)
    # The speed is made of both components, and counts without a direction too.
    np.testing.assert_allclose(of(path, "mae", "10m_wind_speed"), [0.0, 5.0], atol=1e-4)


def test_moving_stations_and_levels(run):
    forecast = a_forecast()
    level = forecast["2m_temperature"].expand_dims(level=[500], axis=2)
    forecast["temperature"] = level.assign_attrs(units="K") - 30
    table = reports(lat=[0.0, 22.5, 0.0, 0.0]).drop(columns="tmpc").assign(t500=[250.0, 258.25, 250.0, 256.0])
    path = run(forecast, table)
    found = open_scores(path, group="stations/places")["temperature"].sel(metric="bias", level=500).squeeze()
    np.testing.assert_allclose(found, [[0.0, 0.0], [0.0, 0.0]], atol=1e-4)
    assert open_scores(path, group="stations/places")["moves"].values.tolist() == [1, 0]


def test_bilinear_and_nearest_against_xarray():
    rng = np.random.default_rng(0)
    latitude, longitude = np.linspace(-85, 85, 18), np.arange(0, 360, 20.0)
    maps = rng.normal(size=(3, 18 * 18)).astype(np.float32)
    lat, lon = rng.uniform(-84, 84, 40), rng.uniform(-180, 360, 40)
    array = xr.DataArray(maps.reshape(3, 18, 18), {"lat": latitude, "lon": longitude}, ("n", "lat", "lon"))
    around = xr.concat([array, array.isel(lon=[0]).assign_coords(lon=[360.0])], "lon")
    for method in ("bilinear", "nearest"):
        weights, inside = point_weights(latitude, longitude, lat, lon, method)
        kind = "linear" if method == "bilinear" else method
        expected = around.interp(lat=("s", lat), lon=("s", lon % 360), method=kind).values
        np.testing.assert_allclose(at_points(weights, maps), expected, atol=1e-5)
        assert inside.all()
    # Beyond the last row that row counts; a grid of a part of the globe ends.
    weights, inside = point_weights(latitude, longitude, np.array([89.0, 0.0]), np.array([5.0, 355.0]))
    assert inside.all() and weights[[0]].indices.min() == 17 * 18
    part = np.concatenate([longitude[:4], longitude[-3:]])  # 300 … 60 across Greenwich
    weights, inside = point_weights(
        latitude[9:], part, np.array([20.0, 20.0, 20.0, -20.0]), np.array([350.0, 90.0, 59.0, 0.0])
    )
    assert inside.tolist() == [True, False, True, False]
    # A missing point does no harm where it does not count.
    maps[0, 5] = np.nan
    weights, _ = point_weights(latitude, longitude, latitude[[0]], longitude[[4]])
    assert np.isfinite(at_points(weights, maps)).all()


def test_reports_near_a_time(tmp_path):
    times = ["00:50", "01:10", "01:40", "02:58", "03:10"]
    table = pd.DataFrame({
        "id": ["a"] * 4 + ["b"], "time": [f"2022-04-01T{t}" for t in times], "latitude": 0.0, "longitude": 0.0,
        "air_temperature [degC]": [1.0, 2.0, 3.0, np.nan, 5.0],
    })  # fmt: skip
    table.to_csv(tmp_path / "o.csv", index=False)
    wanted = np.array(["2022-04-01T01", "2022-04-01T02", "2022-04-01T03"], "datetime64[ns]")
    slack = np.timedelta64(20, "m")
    seen = read_observations(str(tmp_path / "o.csv"), wanted, slack)
    nearest = Reports(seen, ("2m_temperature", None), slack)
    found = [
        [None if row < 0 else float(seen.values["2m_temperature", None][row]) for row in nearest.at(t)] for t in wanted
    ]
    # Two as near: the earlier. 20 min off is within the tolerance. A report without the value does not count.
    assert found == [[274.15, None], [276.15, None], [None, 278.15]]


def test_duplicates_and_what_cannot_be(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    table = pd.DataFrame({
        "id": ["007", "007", "b", "c", "d"], "time": ["2022-04-01T00:00Z"] * 4 + ["2022-04-01T02:00+02:00"],
        "latitude": [0, 0, 1, 95, 2], "longitude": [-10, -10, 350, 0, 5], "tmpf": [50.0, 59.0, 500.0, 50.0, 32.0], "colour": 1,
        "mslp": ["1013.2", "M", "1000.0", "1000.0", "1000.0"],
    })  # fmt: skip
    table.to_csv(tmp_path / "o.csv", index=False)
    seen = read_observations(str(tmp_path / "o.csv"), np.array([START]), NOW)
    assert seen.ids.tolist() == ["007", "b", "d"] and seen.longitude.tolist() == [350.0, 350.0, 5.0]
    np.testing.assert_allclose(seen.values["2m_temperature", None], [288.15, np.nan, 273.15])
    # The correction lacks the pressure, which stays that of the first report.
    np.testing.assert_allclose(seen.values["mean_sea_level_pressure", None], [101320.0, 1e5, 1e5])
    assert "no known variable are not used: colour" in caplog.text
    for text in (
        "1 reports without a place",
        "1 values of 2m_temperature that cannot be",
        "1 reports of a station and time that come again",
    ):
        assert text in caplog.text


def test_the_same_from_parquet_and_netcdf(run, tmp_path):
    table = reports().assign(tmpc=lambda each: each["tmpc"] + 273.15).rename(columns={"tmpc": "air_temperature"})
    table.assign(valid=pd.to_datetime(table["valid"])).to_parquet(tmp_path / "o.parquet")
    grid = table.assign(valid=pd.to_datetime(table["valid"])).set_index(["station", "valid"]).to_xarray()
    profile = xr.Dataset(
        {"t2m": (("station", "time"), grid["air_temperature"].values, {"units": "K"})},
        {
            "station_id": ("station", np.array(grid["station"].values.tolist())), "time": grid["valid"].values,
            "lat": ("station", [0.0, 0.0]), "lon": ("station", [10.0, -100.0]), "altitude": ("station", [100.0, 100.0], {"units": "m"}),
        },
    )  # fmt: skip
    profile.to_netcdf(tmp_path / "o.nc")
    ragged = xr.Dataset({name: ("obs", table[name].values) for name in ("lat", "lon", "elevation")})
    ragged["station_id"], ragged["time"] = (
        ("obs", np.array(table["station"].tolist())),
        ("obs", pd.to_datetime(table["valid"]).values),
    )
    ragged["air_temperature"] = ("obs", table["air_temperature"].values - 273.15, {"units": "degC"})
    ragged.to_netcdf(tmp_path / "r.nc")
    for number, name in enumerate(("o.parquet", "o.nc", "r.nc")):
        np.testing.assert_allclose(
            of(run(a_forecast(), str(tmp_path / name), output=f"s{number}.nc"), "rmse"), [1, np.sqrt(2)], atol=1e-4
        )


def test_the_integrated_surface_database(tmp_path):
    lines = ["STATION,DATE,LATITUDE,LONGITUDE,ELEVATION,TMP,SLP,WND"]
    lines += ['"01001099999","2022-04-01T00:00:00","70.9","-8.6","9.0","-0056,1","10132,1","270,1,N,0046,1"']
    lines += ['"01001099999","2022-04-01T06:00:00","70.9","-8.6","9.0","+9999,9","10140,3","999,9,V,0010,1"']
    (tmp_path / "o.csv").write_text("\n".join(lines))
    seen = read_observations(str(tmp_path / "o.csv"), START + np.array([0, 6]) * HOUR, NOW)
    assert seen.ids.tolist() == ["01001099999"] and seen.elevation.tolist() == [9.0]
    np.testing.assert_allclose(seen.values["2m_temperature", None], [267.55, np.nan])
    np.testing.assert_allclose(
        seen.values["mean_sea_level_pressure", None], [101320.0, np.nan]
    )  # quality 3 is an error
    np.testing.assert_allclose(seen.values["10m_u_component_of_wind", None], [4.6, np.nan])
    np.testing.assert_allclose(seen.values["10m_wind_speed", None], [4.6, 1.0])


def test_beside_a_truth_added_to_and_compared(world, make, tmp_path):
    forecast = make.forecast(make.truth())
    rng, rows = np.random.default_rng(5), []
    for init in forecast["time"].values:
        one = forecast["geopotential"].sel(time=init, level=500)
        for lead in one["prediction_timedelta"].values:
            rows += [{"id": f"s{n}", "time": init + lead, "latitude": float(one["latitude"][n + 1]), "longitude": float(one["longitude"][3 * n]), "z500": 5e4 + rng.normal()} for n in range(4)]  # fmt: skip
    pd.DataFrame(rows).drop_duplicates(["id", "time"]).to_csv(tmp_path / "o.csv", index=False)
    seen, whole, parts, other = StationRequest(str(tmp_path / "o.csv")), *(str(tmp_path / f"{n}.nc") for n in "abc")
    options = {
        "stations": seen,
        "variables": ["geopotential"],
        "bootstrap": 30,
        "progress": False,
        "baselines": ["persistence"],
    }
    arguments = (world["forecast"], world["truth"])
    score(*arguments, whole, **options)
    score(*arguments, parts, init="2021-01-01:2021-01-03", **options)
    score(*arguments, parts, init="2021-01-04:2021-01-31", add=True, **options)
    for group in ("stations", "stations/places", "stations/intervals", "/"):
        one, two = (open_scores(path, group=group)["geopotential"] for path in (whole, parts))
        np.testing.assert_allclose(one, two, rtol=2e-3 if "intervals" in group else 1e-5)
    options |= {"variables": None}
    score(make.write(make.forecast(make.truth(), noise=0.2), tmp_path / "f.zarr"), None, other, **options)
    found = compare_scores(whole, other, metric="bias", stations=True)
    assert found.region == "all-stations" and [field.short for field in found.fields] == ["Z500"]
    assert np.isfinite(found.gain).all()


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({"valid": ["2022-04-01 00:07"] * 4}, {}, "the nearest is 7 min off: add --time-tolerance 7min"),
        ({"valid": ["2021-04-01 00:00"] * 4}, {}, "give observations of the forecasts' period"),
        ({"valid": ["yesterday"] * 4}, {}, "has times that cannot be read"),
        ({"t2m": [10.0, 11.0, 12.0, 13.0], "tmpc": np.nan}, {}, None),
        ({"lat": [100.0] * 4}, {}, "has no report with a place"),
        ({}, {"groups": ("country",)}, "has no column 'country'"),
        ({}, {"method": "cubic"}, "there is no method 'cubic'"),
        ({}, {"tolerance": "soon"}, "--time-tolerance 'soon' is not a duration"),
        ({}, {"lapse_rate": 6.5}, "a lapse rate of 6500 K/km cannot be"),
    ],
)
def test_tables_that_cannot_be_used(run, columns, options, said):
    if said is None:
        columns, said = {}, "most values of t2m cannot be 2m_temperature: .*it looks like degrees Celsius"
        table = reports().rename(columns={"tmpc": "t2m"})
    else:
        table = reports(**columns)
    with pytest.raises(UserError, match=said):
        run(a_forecast(), table, **options)


def test_further_files_that_cannot_be_used(run, tmp_path, caplog):
    with pytest.raises(UserError, match="has no time; its columns: station, lat"):
        run(a_forecast(), reports().drop(columns="valid"))
    with pytest.raises(UserError, match="has no variable that is known: skyc1"):
        run(a_forecast(), reports().rename(columns={"tmpc": "skyc1"}))
    with pytest.raises(UserError, match="is in 'hPa', and 2m_temperature is in K"):
        run(a_forecast(), reports().rename(columns={"tmpc": "2m_temperature (hPa)"}))
    with pytest.raises(
        UserError, match=r"observations of mean_sea_level_pressure and forecasts of .* share no variable"
    ):
        run(a_forecast(), reports(mslp=1013.0).drop(columns="tmpc"))
    with pytest.raises(UserError, match="--maps needs fields of truth"):
        run(a_forecast(), reports(), options={"maps": ["6h"]})
    with pytest.raises(UserError, match="nothing to score against"):
        score("f.zarr", None, str(tmp_path / "n.nc"))
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read as a table"):
        run(a_forecast(), str(tmp_path / "e.csv"))
    broken = a_forecast()
    broken["2m_temperature"][0, 0] = np.nan
    with pytest.raises(UserError, match="2 values of 2m_temperature are missing or infinite at stations"):
        run(broken, reports())
    path = run(broken, reports(), output="ok.nc", options={"allow_missing": True})
    assert np.isnan(of(path, "rmse")[0]) and np.isfinite(of(path, "rmse")[1])


def test_a_pass_that_was_stopped_goes_on(run, tmp_path, monkeypatch):
    import eval.stations.scoring as scoring

    table, add, done = reports(sknt=5.0, drct=90.0), scoring.StationSums.add, []

    def stop_at_the_second(self, first, last):
        done.append(self.key[0])
        if len(done) == 2:
            raise KeyboardInterrupt
        add(self, first, last)

    monkeypatch.setattr(scoring.StationSums, "add", stop_at_the_second)
    a_forecast().to_zarr(tmp_path / "f.zarr", consolidated=False)
    table.to_csv(tmp_path / "obs.csv", index=False)
    arguments = (str(tmp_path / "f.zarr"), None, str(tmp_path / "s.nc"))
    options = {"stations": StationRequest(str(tmp_path / "obs.csv")), "bootstrap": 0, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        score(*arguments, **options)
    score(*arguments, **options)
    assert len(done) == 1 + 4 and done.count(done[0]) == 1  # four variables, the first of them once
    assert not (tmp_path / "s.nc.progress").exists()
