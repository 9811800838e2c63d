"""Several forecasts at once, in the layouts that others write, beside baselines made from the truth."""

import logging

import numpy as np
import pytest
import xarray as xr

from eval.baselines import iso_weeks, same_dates
from eval.forecast_reading import ForecastStore
from eval.regions import REGIONS
from eval.scoring import open_scores, score
from eval.systems import named_forecasts
from weather_scnn.errors import UserError
from weather_scnn.regridding.apply import regrid_array
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere.grid import Grid

TEMPERATURE = ("2m_temperature",)


def run(forecast, truth, tmp_path, name="s.nc", **options):
    options = {"bootstrap": 0, "variables": TEMPERATURE, **options}
    return score(forecast, truth, str(tmp_path / name), progress=False, **options)


def rmse(scores, system="model", name="2m_temperature", region="global"):
    return scores[name].sel(system=system, metric="rmse", region=region).values


def test_names_of_forecasts():
    assert named_forecasts(["a/b.zarr", "pangu=gs://x/y=1.zarr", "c/hres.zarr/"], "model") == [
        ("model", "a/b.zarr"),
        ("pangu", "gs://x/y=1.zarr"),
        ("hres", "c/hres.zarr/"),
    ]
    assert named_forecasts(["/data/year=2020/f.zarr"], "model") == [("model", "/data/year=2020/f.zarr")]
    with pytest.raises(UserError, match="two forecasts are called 'a'"):
        named_forecasts(["a=x", "a=y"], "model")


def test_systems_are_scored_on_their_common_init_times(world, make, tmp_path, caplog):
    other = make.forecast(make.truth(), inits=slice(2, 30, 4), noise=0.1, seed=5)
    path = make.write(other, tmp_path / "other.zarr")
    with caplog.at_level(logging.WARNING):
        scores = run([world["forecast"], f"other={path}"], world["truth"], tmp_path)
    assert "scored are the 6 init times that all forecasts have, of 12" in caplog.text
    assert scores.attrs["common_init_times"] == "6 (model 12, other 6)"
    assert list(scores["system"].values) == ["model", "other"]
    common = np.intersect1d(other["time"], make.forecast(make.truth())["time"])
    for system, forecast in (("model", make.forecast(make.truth())), ("other", other)):
        alone = make.write(forecast.sel(time=common), tmp_path / f"alone-{system}.zarr")
        np.testing.assert_allclose(rmse(scores, system), rmse(run(alone, world["truth"], tmp_path, f"{system}.nc")))
    late = make.write(
        make.forecast(make.truth()).assign_coords(
            time=other["time"].values[:1] + np.arange(12) * np.timedelta64(7, "D") + np.timedelta64(1, "h")
        ),
        tmp_path / "late.zarr",
    )
    with pytest.raises(UserError, match="share no init time"):
        run([world["forecast"], f"late={late}"], world["truth"], tmp_path, "late.nc")


def test_a_system_without_a_variable_or_lead_time_has_no_score_there(world, make, tmp_path):
    forecast = make.forecast(make.truth(), seed=7)
    part = forecast[["2m_temperature", "u_component_of_wind"]].isel(prediction_timedelta=[1, 3, 5])
    path = make.write(part, tmp_path / "part.zarr")
    variables = ["2m_temperature", "u_component_of_wind", "v_component_of_wind"]
    scores = run(
        [world["forecast"], f"part={path}"],
        world["truth"],
        tmp_path,
        variables=variables,
        climatology=world["climatology"],
    )
    assert np.isnan(scores["v_component_of_wind"].sel(system="part")).all()
    assert np.isnan(scores["wind_vector"].sel(system="part")).all()
    np.testing.assert_array_equal(np.isfinite(rmse(scores, "part")), [0, 1, 0, 1, 0, 1, 0, 0])
    assert np.isfinite(rmse(scores)).all()
    assert np.isfinite(scores["wind_vector"].sel(system="model", metric="rmse")).all()


def test_a_level_that_the_store_leaves_empty_is_not_scored(world, make, tmp_path, caplog):
    forecast = make.forecast(make.truth())
    forecast["geopotential"][:, :, 1] = np.nan
    path = make.write(forecast, tmp_path / "f.zarr")
    truth = make.truth()
    truth["geopotential"][5, :, 2, 3] = np.nan
    options = {"variables": ["geopotential"], "baselines": ["persistence"], "maps": ["24h"]}
    with caplog.at_level(logging.WARNING):
        scores = run(path, make.write(truth, tmp_path / "t.zarr"), tmp_path, **options)
    assert "model holds no geopotential at 850 hPa" in caplog.text
    expected = run(world["forecast"], str(tmp_path / "t.zarr"), tmp_path, "e.nc", **options)
    model, persistence = (rmse(scores, system, "geopotential") for system in ("model", "persistence"))
    assert np.isnan(model[:, 1]).all()
    np.testing.assert_allclose(model[:, 0], rmse(expected, "model", "geopotential")[:, 0])
    np.testing.assert_allclose(persistence, rmse(expected, "persistence", "geopotential"))
    maps, full = (open_scores(str(tmp_path / name), group="maps")["geopotential"] for name in ("s.nc", "e.nc"))
    xr.testing.assert_allclose(maps.sel(system="persistence"), full.sel(system="persistence"))
    assert np.isnan(maps.sel(system="model", metric="rmse", level=850)).all()


@pytest.mark.parametrize("renamed", [True, False])
def test_a_store_by_valid_time(world, make, tmp_path, renamed):
    forecast = make.forecast(make.truth())[["2m_temperature"]]
    leads = forecast["prediction_timedelta"].values
    valid = np.unique(forecast["time"].values[:, None] + leads)
    by_valid = xr.full_like(forecast.isel(time=0, drop=True), np.nan).expand_dims(time=valid).copy(deep=True)
    for init in forecast["time"].values:
        for lead in leads:
            target = {"time": init + lead, "prediction_timedelta": lead}
            by_valid["2m_temperature"].loc[target] = forecast["2m_temperature"].sel(
                time=init, prediction_timedelta=lead
            )
    if renamed:
        by_valid = by_valid.rename(time="valid_time")
    path = str(tmp_path / "valid.zarr")
    by_valid.to_zarr(path, consolidated=False)
    expected = run(world["forecast"], world["truth"], tmp_path)
    init = "2021-01-01:2021-01-06:12h"
    whole = run(world["forecast"], world["truth"], tmp_path, "w.nc", init=init)
    options = {} if renamed else {"by_valid_time": ["model"]}
    scores = run(path, world["truth"], tmp_path, "v.nc", init=init, **options)
    np.testing.assert_allclose(rmse(scores), rmse(whole))
    np.testing.assert_allclose(rmse(whole), rmse(expected))
    assert ForecastStore.open("x", path, by_valid_time=not renamed).by_valid_time


def test_another_grid_is_regridded_with_a_note(world, make, tmp_path, caplog):
    fine = Grid.equiangular(32, 17, poles=True)
    truth = make.truth()
    source = truth[["2m_temperature"]].interp(
        latitude=fine.latitude, longitude=fine.longitude, kwargs={"fill_value": "extrapolate"}
    )
    source = source.astype(np.float32).assign_attrs(truth.attrs)
    source["2m_temperature"].attrs = truth["2m_temperature"].attrs
    forecast = make.forecast(source.assign(land_sea_mask=source["2m_temperature"][0] * 0))
    path = make.write(forecast.isel(latitude=slice(None, None, -1)), tmp_path / "fine.zarr")
    with caplog.at_level(logging.WARNING):
        scores = run(path, world["truth"], tmp_path)
    assert scores.attrs["regridded_model"] == "32x17 to 16x8, conservative" and "regridded" in caplog.text
    coarse = Grid.equiangular(16, 8)
    values = regrid_array(forecast["2m_temperature"].values, make_weights(fine.latitude, fine.longitude, coarse))
    space = {"latitude": coarse.latitude, "longitude": coarse.longitude}
    same = forecast.drop_vars(["2m_temperature", *space]).assign_coords(space)
    same["2m_temperature"] = (forecast["2m_temperature"].dims, values, truth["2m_temperature"].attrs)
    expected = run(make.write(same, tmp_path / "same.zarr"), world["truth"], tmp_path, "e.nc")
    np.testing.assert_allclose(rmse(scores), rmse(expected), rtol=1e-6)


def test_the_protocol_sets_init_times_levels_regions_and_grid(make, tmp_path, caplog):
    grid = Grid.equiangular(72, 36)
    times = np.datetime64("2019-12-31", "ns") + np.arange(16) * np.timedelta64(6, "h")
    levels = [300, 500, 700, 850]
    rng = np.random.default_rng(0)
    space = {"level": levels, "latitude": grid.latitude, "longitude": grid.longitude}
    field = rng.normal(size=(16, 4, *grid.shape)).astype(np.float32)
    truth = xr.Dataset({"temperature": (("time", *space), field, {"units": "K"})}, {"time": times, **space})
    leads = np.array([6, 12]) * np.timedelta64(1, "h").astype("timedelta64[ns]")
    values = np.stack([field[1:13], field[2:14]], axis=1) + np.float32(1)
    dims = ("time", "prediction_timedelta", *space)
    forecast = xr.Dataset(
        {"temperature": (dims, values, {"units": "K"})}, {"time": times[:12], "prediction_timedelta": leads, **space}
    )
    paths = [make.write(each, tmp_path / f"{number}.zarr") for number, each in enumerate((forecast, truth))]
    scores = score(*paths, str(tmp_path / "s.nc"), protocol="weatherbench2", bootstrap=0, progress=False)
    assert list(scores["region"].values) == list(REGIONS)
    assert scores["level"].values.tolist() == [500, 700, 850]
    assert scores.attrs["grid"] == "64x32" and scores.attrs["protocol"].startswith("weatherbench2")
    inits = open_scores(str(tmp_path / "s.nc"), group="sums")["init_time"].values
    np.testing.assert_array_equal(inits, times[4:12:2])
    np.testing.assert_allclose(scores["temperature"].sel(metric="bias"), 1.0, rtol=1e-5)
    with pytest.raises(UserError, match="there is no protocol"):
        score(*paths, str(tmp_path / "x.nc"), protocol="weatherbench9", progress=False)


def years_of_truth(make, years=(2018, 2019, 2020, 2021)):
    """2 m temperature of whole years, once a day, on a small grid: year number plus week of the year."""
    grid = Grid.equiangular(8, 4)
    times = np.arange(f"{years[0]}-01-01", f"{years[-1] + 1}-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    year = times.astype("datetime64[Y]").astype(int) + 1970
    values = (year - years[0]) * 0.5 + iso_weeks(times)
    field = values[:, None, None] + np.random.default_rng(0).normal(size=(times.size, *grid.shape))
    space = {"latitude": grid.latitude, "longitude": grid.longitude}
    variables = {"2m_temperature": (("time", *space), field.astype(np.float32), {"units": "K"})}
    return xr.Dataset(variables, {"time": times, **space})


@pytest.fixture(scope="module")
def long_world(make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("years")
    truth = years_of_truth(make)
    leads = np.array([1, 2]) * np.timedelta64(1, "D").astype("timedelta64[ns]")
    inits = truth["time"].values[-40:-3]
    position = np.searchsorted(truth["time"].values, inits[:, None] + leads)
    values = truth["2m_temperature"].values[position] + np.float32(0.5)
    dims = ("time", "prediction_timedelta", "latitude", "longitude")
    forecast = truth.drop_vars(["2m_temperature", "time"]).assign_coords(time=inits, prediction_timedelta=leads)
    forecast["2m_temperature"] = (dims, values, {"units": "K"})
    paths = make.write(forecast, folder / "f.zarr"), make.write(truth.chunk(time=50), folder / "t.zarr")
    return truth, forecast, *paths


def mean_square(errors, latitude):
    area = np.broadcast_to(np.diff(np.sin(np.radians(np.linspace(-90, 90, latitude + 1))))[:, None], errors.shape[-2:])
    return np.mean([np.average(error**2, weights=area) for error in errors])


def test_weekly_climatology(long_world, tmp_path):
    truth, forecast, *paths = long_world
    scores = run(*paths, tmp_path, baselines=["weekly_climatology", "persistence"])
    assert list(scores["system"].values) == ["model", "weekly-climatology", "persistence"]
    past = truth["2m_temperature"].sel(time=slice("2018", "2020"))
    weekly = past.astype(float).groupby(past["time"].dt.isocalendar().week).mean("time")
    for number, lead in enumerate(forecast["prediction_timedelta"].values):
        observed = truth["2m_temperature"].sel(time=forecast["time"].values + lead)
        usual = weekly.sel(week=observed["time"].dt.isocalendar().week)
        expected = np.sqrt(mean_square((usual - observed).transpose("time", "latitude", "longitude").values, 4))
        assert rmse(scores, "weekly-climatology")[number] == pytest.approx(expected)
    other = run(*paths, tmp_path, "o.nc", baselines=["weekly-climatology"], baseline_years="2018:2018")
    assert rmse(other, "weekly-climatology")[0] > rmse(scores, "weekly-climatology")[0]
    assert other.attrs["baseline_years"] == "2018:2018"


def test_probabilistic_climatology(long_world, tmp_path):
    truth, forecast, *paths = long_world
    scores = run(*paths, tmp_path, baselines=["probabilistic-climatology"])
    ensemble = scores["2m_temperature"].sel(system="probabilistic-climatology", region="global")
    lead = forecast["prediction_timedelta"].values[0]
    observed = truth["2m_temperature"].sel(time=forecast["time"].values + lead)
    members = np.stack(
        [
            truth["2m_temperature"]
            .sel(time=[np.datetime64(f"{year}{str(t)[4:10]}") for t in observed["time"].values])
            .values
            for year in (2018, 2019, 2020)
        ]
    ).astype(float)
    o = observed.values.astype(float)
    pairs = sum(np.abs(a - b) for a in members for b in members) / 2
    fair = np.abs(members - o).mean(axis=0) - pairs / 6
    area = np.broadcast_to(np.diff(np.sin(np.radians(np.linspace(-90, 90, 5))))[:, None], (4, 8))
    assert float(ensemble.sel(metric="crps_fair")[0]) == pytest.approx(
        np.mean([np.average(x, weights=area) for x in fair])
    )
    spread = np.sqrt(np.mean([np.average(x, weights=area) for x in members.var(axis=0, ddof=1)]))
    assert float(ensemble.sel(metric="spread")[0]) == pytest.approx(spread)
    error = np.sqrt(mean_square(members.mean(axis=0) - o, 4))
    assert float(ensemble.sel(metric="rmse")[0]) == pytest.approx(error)
    factor = np.sqrt(4 / 3)  # of three members
    assert float(ensemble.sel(metric="spread_skill_ratio")[0]) == pytest.approx(factor * spread / error)
    # A single forecast has the CRPS of its absolute error, and no spread.
    model = scores["2m_temperature"].sel(system="model", region="global")
    np.testing.assert_allclose(model.sel(metric="crps"), model.sel(metric="mae"))
    assert np.isnan(model.sel(metric="spread")).all()
    ranks = open_scores(str(tmp_path / "s.nc"), group="rank_histogram")
    np.testing.assert_allclose(ranks["2m_temperature"].sum("rank"), 1.0)
    assert ranks.sizes["rank"] == 4
    with pytest.raises(UserError, match="all its years are scored"):
        short = truth.sel(time=slice("2021", None))
        short.to_zarr(tmp_path / "short.zarr", consolidated=False)
        run(paths[0], str(tmp_path / "short.zarr"), tmp_path, "x.nc", baselines=["probabilistic-climatology"])


def test_same_dates_fall_back_on_28_february():
    times = np.arange("2017-01-01", "2021-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    found = same_dates(times, np.arange(1095), np.array(["2020-02-29", "2020-03-01"], "datetime64[ns]"), where="t")
    assert [str(each)[:10] for each in times[found[0]]] == ["2017-02-28", "2018-02-28", "2019-02-28"]
    assert [str(each)[5:10] for each in times[found[1]]] == ["03-01"] * 3


def test_ensemble_forecast(world, make, tmp_path):
    forecast = make.forecast(make.truth())[["2m_temperature"]]
    rng = np.random.default_rng(9)
    noise = xr.DataArray(
        rng.normal(size=(5, *forecast["2m_temperature"].shape)), dims=("realization", *forecast["2m_temperature"].dims)
    )
    members = (forecast["2m_temperature"] + 0.3 * noise).astype(np.float32).assign_attrs(units="K")
    path = str(tmp_path / "ensemble.zarr")
    members.transpose("time", "realization", ...).to_dataset(name="2m_temperature").to_zarr(path, consolidated=False)
    climatology = make.climatology()[["2m_temperature"]]
    climatology["2m_temperature_std"] = (climatology["2m_temperature"] * 0 + np.float32(0.5)).assign_attrs(units="K")
    normal = make.write(climatology, tmp_path / "c.zarr")
    scores = run([path, f"single={world['forecast']}"], world["truth"], tmp_path, climatology=normal, bootstrap=50)
    xs = pytest.importorskip("xskillscore")
    truth, lead = make.truth()["2m_temperature"], forecast["prediction_timedelta"].values[3]
    f = members.sel(prediction_timedelta=lead).rename(realization="member").astype(float)
    o = truth.sel(time=forecast["time"].values + lead).assign_coords(time=forecast["time"].values).astype(float)
    area = xr.DataArray(
        np.diff(np.sin(np.radians(np.linspace(-90, 90, 9)))), dims="latitude", coords={"latitude": o["latitude"]}
    )
    expected = xs.crps_ensemble(o, f, dim=[]).weighted(area).mean()
    ours = scores["2m_temperature"].sel(system="model", region="global").isel(lead_time=3)
    assert float(ours.sel(metric="crps")) == pytest.approx(float(expected), rel=1e-5)
    expected = np.sqrt(xs.mse(f.mean("member"), o, dim=[]).weighted(area).mean())
    assert float(ours.sel(metric="ensemble_mean_rmse")) == pytest.approx(float(expected), rel=1e-5)
    # Brier score at a quantile of the normal distribution with the climatology's mean and standard deviation.
    mean = climatology["2m_temperature"].isel(hour=0, dayofyear=0)
    above = (f > mean + 0.5 * 1.2815515655446004).mean("member")
    expected = ((above - (o > mean + 0.5 * 1.2815515655446004)) ** 2).weighted(area).mean()
    assert float(ours.sel(metric="brier_0.9")) == pytest.approx(float(expected), rel=1e-4)
    intervals = open_scores(str(tmp_path / "s.nc"), group="intervals")["2m_temperature"]
    assert np.isfinite(intervals.sel(system="model", metric="crps_fair")).all()
    ranks = open_scores(str(tmp_path / "s.nc"), group="rank_histogram")["2m_temperature"]
    assert ranks.sizes["rank"] == 6 and list(ranks["system"].values) == ["model"]
    # A missing member is a missing forecast; allowed, the point is left out for all systems.
    broken = members.copy()
    broken[3, 2, 0, 1, 4] = np.nan
    path = str(tmp_path / "broken.zarr")
    broken.to_dataset(name="2m_temperature").to_zarr(path, consolidated=False)
    with pytest.raises(UserError, match="1 values of 2m_temperature are missing"):
        run(path, world["truth"], tmp_path, "b.nc")
    allowed = run(path, world["truth"], tmp_path, "b.nc", allow_missing=True)
    assert allowed.attrs["missing_in_forecast"] == 1
    assert np.isfinite(allowed["2m_temperature"].sel(metric=["crps", "energy_score", "spread"])).all()


def test_another_order_of_dimensions_is_read_by_chunks(tmp_path):
    """xarray alone looks a lazily transposed field up value by value: minutes for what takes a second."""
    field = np.random.default_rng(3).standard_normal((3, 2, 4, 4, 8)).astype(np.float32)
    grid = Grid.equiangular(8, 4)
    times = np.datetime64("2020-01-01", "ns") + np.arange(3) * np.timedelta64(12, "h")
    leads = np.arange(1, 5) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    coords = {
        "time": times,
        "realization": [0, 1],
        "prediction_timedelta": leads,
        "latitude": grid.latitude,
        "longitude": grid.longitude,
    }
    stored = xr.Dataset({"temperature": (tuple(coords), field)}, coords)
    stored.chunk(time=1, prediction_timedelta=2).to_zarr(tmp_path / "ensemble.zarr")
    store = ForecastStore.open("ensemble", str(tmp_path / "ensemble.zarr"))
    assert store.chunks("temperature") == (1, 2)
    np.testing.assert_array_equal(
        store.read(["temperature"], times[1:], leads[1:3])["temperature"][:, :, :, 0].reshape(2, 2, 2, 4, 8),
        field[1:, :, 1:3].swapaxes(1, 2),
    )
