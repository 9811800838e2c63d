"""The scoring job on stores: baselines, layouts other people write, missing values, periods that do not meet."""

import logging
import shutil

import numpy as np
import pytest
import rich.console
import xarray as xr

from eval.metrics import combine_scores
from eval.scorecard import format_number, pretty_units, summary_table
from eval.scoring import open_scores, score
from weather_scnn.errors import UserError
from weather_scnn.io import retry
from weather_scnn.io.forecasts import lead_times, open_forecast


@pytest.fixture(scope="module")
def scored(world, tmp_path_factory):
    """Path of the scores of the small world, and the scores."""
    path = tmp_path_factory.mktemp("scored") / "scores.nc"
    scores = score(
        world["forecast"],
        world["truth"],
        str(path),
        climatology=world["climatology"],
        baselines=("persistence", "climatology"),
        regions=("global", "tropics"),
        progress=False,
        bootstrap=100,
    )
    return str(path), scores


def number(scores, name, metric, system="model", hours=24, **selection):
    lead = np.timedelta64(hours, "h")
    return float(scores[name].sel(metric=metric, system=system, region="global", lead_time=lead, **selection))


def test_layout_of_the_file(scored):
    path, scores = scored
    with xr.open_dataset(path) as plain:
        assert plain["lead_time"].dtype.kind == "m"
    opened = open_scores(path)
    xr.testing.assert_identical(opened, scores)
    assert opened["geopotential"].dims == ("system", "metric", "lead_time", "level", "region")
    assert opened["2m_temperature"].dims == ("system", "metric", "lead_time", "region")
    assert list(opened["system"].values) == ["model", "persistence", "climatology"]
    assert {"rmse", "mse", "mae", "bias", "acc", "activity", "explained_variance"} == set(opened["metric"].values)
    assert opened["geopotential"].attrs["units"] == "m2 s-2"
    for key in ("source", "truth", "climatology", "formula", "created_by", "definition_acc", "missing_in_truth"):
        assert key in opened.attrs
    sums = open_scores(path, group="sums")
    assert sums["init_count"].values.tolist() == [12] * 8
    xr.testing.assert_allclose(combine_scores([sums]), scores, rtol=1e-12)


def test_numbers_against_the_definition(scored, world, make):
    _, scores = scored
    truth, forecast = make.truth(), make.forecast(make.truth())
    rows = np.sin(np.radians(np.linspace(-90, 90, 9)))
    weights = xr.DataArray(np.diff(rows), dims="latitude")
    lead = np.timedelta64(24, "h")
    inits = forecast["time"].values
    observed = truth["geopotential"].sel(time=inits + lead, level=500).values.astype(float)
    start = truth["geopotential"].sel(time=inits, level=500).values.astype(float)
    predicted = forecast["geopotential"].sel(prediction_timedelta=lead, level=500).values.astype(float)
    normal = make.climatology()["geopotential"].sel(level=500).values[0, 0].astype(float)
    w = np.broadcast_to(weights.values[:, None], (8, 16))
    for system, field in (("model", predicted), ("persistence", start), ("climatology", normal + 0 * start)):
        expected = np.sqrt(np.mean([np.average(e**2, weights=w) for e in field - observed]))
        assert number(scores, "geopotential", "rmse", system, level=500) == pytest.approx(expected)
        bias = np.mean([np.average(e, weights=w) for e in field - observed])
        assert number(scores, "geopotential", "bias", system, level=500) == pytest.approx(bias, abs=1e-9)
    acc = [
        np.average(f * o, weights=w) / np.sqrt(np.average(f * f, weights=w) * np.average(o * o, weights=w))
        for f, o in zip(predicted - normal, observed - normal)
    ]
    assert number(scores, "geopotential", "acc", level=500) == pytest.approx(np.mean(acc))
    assert number(scores, "geopotential", "acc", "climatology", level=500) == 0


def test_wind_vector_has_the_error_of_both_components(scored):
    _, scores = scored
    for system in ("model", "persistence", "climatology"):
        parts = [number(scores, f"{c}_component_of_wind", "mse", system, level=850) for c in "uv"]
        assert number(scores, "wind_vector", "rmse", system, level=850) == pytest.approx(np.sqrt(sum(parts)))


def test_truth_as_forecast_is_perfect_and_persistence_at_lead_0_too(world, tmp_path, make):
    truth = make.truth()
    exact = make.forecast(truth, noise=0.0, inits=slice(0, 6))
    now = truth.drop_vars("land_sea_mask").isel(time=slice(0, 6)).expand_dims(prediction_timedelta=1, axis=1)
    now = now.assign_coords(prediction_timedelta=[np.timedelta64(0, "ns")])
    path = make.write(xr.concat([now, exact], dim="prediction_timedelta"), tmp_path / "exact.zarr")
    scores = score(
        path,
        world["truth"],
        str(tmp_path / "s.nc"),
        climatology=world["climatology"],
        baselines=["persistence"],
        progress=False,
        bootstrap=0,
    )
    for name in ("geopotential", "2m_temperature"):
        assert np.all(scores[name].sel(system="model", metric="rmse") == 0)
        np.testing.assert_allclose(scores[name].sel(system="model", metric="acc"), 1.0, atol=1e-12)
        assert np.all(scores[name].sel(system="persistence", metric="rmse").isel(lead_time=0) == 0)
        assert np.all(scores[name].sel(system="persistence", metric="rmse").isel(lead_time=1) > 0)


def test_months_add_up(world, scored, tmp_path):
    sums = []
    for index, init in enumerate(("2021-01-01:2021-01-03", "2021-01-04:2021-01-31")):
        score(
            world["forecast"],
            world["truth"],
            str(tmp_path / f"{index}.nc"),
            climatology=world["climatology"],
            baselines=("persistence", "climatology"),
            regions=("global", "tropics"),
            init=init,
            progress=False,
            bootstrap=0,
        )
        sums.append(open_scores(str(tmp_path / f"{index}.nc"), group="sums"))
    assert sums[0].sizes["init_time"] + sums[1].sizes["init_time"] == 12
    xr.testing.assert_allclose(combine_scores(sums), scored[1], rtol=1e-12)


def _aliases(forecast):
    hours = (forecast["prediction_timedelta"].values / np.timedelta64(1, "h")).astype(np.int64)
    return forecast.assign_coords(prediction_timedelta=hours).rename(
        time="init_time", prediction_timedelta="lead_time", latitude="lat", longitude="lon", level="pressure_level"
    )


def _shifted(forecast):
    return forecast.roll(longitude=8, roll_coords=True).assign_coords(
        longitude=(np.roll(forecast["longitude"].values, 8) + 180) % 360 - 180
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.isel(latitude=slice(None, None, -1)),
        lambda f: f.transpose("prediction_timedelta", "longitude", "level", "latitude", "time"),
        lambda f: f.isel(level=slice(None, None, -1)),
        lambda f: f.isel(time=slice(None, None, -1)),
        lambda f: f.expand_dims(number=[0]),
        _shifted,
        _aliases,
    ],
    ids=["north first", "transposed", "levels reversed", "init times reversed", "singleton", "from -180", "aliases"],
)
def test_layout_of_the_forecast_changes_no_score(change, world, scored, tmp_path, make):
    path = str(tmp_path / "changed.zarr")
    change(make.forecast(make.truth())[["geopotential"]]).to_zarr(path, consolidated=False)
    scores = score(
        path,
        world["truth"],
        str(tmp_path / "s.nc"),
        climatology=world["climatology"],
        baselines=("persistence", "climatology"),
        regions=("global", "tropics"),
        variables=["geopotential"],
        progress=False,
        bootstrap=0,
    )
    assert set(scores.data_vars) == {"geopotential"}
    expected = scored[1]["geopotential"].sel(metric=scores["metric"])
    xr.testing.assert_allclose(scores["geopotential"].drop_attrs(), expected.drop_attrs(), rtol=1e-9)


def test_netcdf_forecast(world, tmp_path, make):
    make.forecast(make.truth()).to_netcdf(tmp_path / "f.nc")
    scores = score(str(tmp_path / "f.nc"), world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    assert np.isfinite(number(scores, "2m_temperature", "rmse"))


def test_rolling_the_world_around_changes_no_global_score(scored, tmp_path, make):
    def rolled(dataset):
        return dataset.roll(longitude=5, roll_coords=False)

    truth = make.truth()
    paths = [
        make.write(rolled(dataset), tmp_path / name)
        for name, dataset in (("f.zarr", make.forecast(truth)), ("t.zarr", truth), ("c.zarr", make.climatology()))
    ]
    scores = score(
        *paths[:2],
        str(tmp_path / "s.nc"),
        climatology=paths[2],
        baselines=("persistence", "climatology"),
        progress=False,
        bootstrap=0,
    )
    expected = scored[1].sel(region=["global"])
    xr.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_without_climatology_there_is_no_acc(world, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        scores = score(world["forecast"], world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    assert "ACC" in caplog.text
    assert list(scores["metric"].values) == ["rmse", "mse", "mae", "bias"]
    assert list(scores["system"].values) == ["model"]
    assert all(np.isfinite(array).all() for name, array in scores.data_vars.items() if name != "wind_vector")


def test_variables_and_levels(world, tmp_path):
    scores = score(
        world["forecast"],
        world["truth"],
        str(tmp_path / "s.nc"),
        variables=["geopotential"],
        levels=[850],
        progress=False,
        bootstrap=0,
    )
    assert list(scores.data_vars) == ["geopotential"]
    assert scores["level"].values.tolist() == [850]
    with pytest.raises(UserError, match="nearest: geopotential"):
        score(
            world["forecast"],
            world["truth"],
            str(tmp_path / "x.nc"),
            variables=["geopotentail"],
            progress=False,
            bootstrap=0,
        )
    with pytest.raises(UserError, match="no level 300 hPa"):
        score(world["forecast"], world["truth"], str(tmp_path / "x.nc"), levels=[300], progress=False, bootstrap=0)


def test_missing_truth_is_masked_and_counted(world, tmp_path, make):
    truth = make.truth()
    truth["2m_temperature"][:, :, :8] = np.nan
    path = make.write(truth, tmp_path / "t.zarr")
    scores = score(
        world["forecast"], path, str(tmp_path / "s.nc"), baselines=["persistence"], progress=False, bootstrap=0
    )
    sums = open_scores(str(tmp_path / "s.nc"), group="sums")
    assert np.isfinite(scores["2m_temperature"].sel(metric="rmse")).all()
    assert int(sums["missing_truth"].sel(field="2m_temperature").sum()) == 12 * 8 * 8 * 8
    assert int(sums["missing_truth"].sel(field="geopotential").sum()) == 0
    assert scores.attrs["missing_in_truth"] == 12 * 8 * 8 * 8
    half = make.forecast(make.truth())["2m_temperature"] - make.forecast(make.truth(), noise=0.0)["2m_temperature"]
    area = np.diff(np.sin(np.radians(np.linspace(-90, 90, 9))))
    squares = (half.isel(longitude=slice(8, None), prediction_timedelta=3).astype(float) ** 2).mean(
        ["time", "longitude"]
    )
    expected = np.sqrt(np.average(squares, weights=area))
    assert number(scores, "2m_temperature", "rmse") == pytest.approx(expected, rel=1e-5)


def test_missing_forecast_is_an_error_unless_allowed(world, tmp_path, make):
    forecast = make.forecast(make.truth())
    forecast["2m_temperature"][3, 2, 1, 4] = np.nan
    path = make.write(forecast, tmp_path / "f.zarr")
    with pytest.raises(UserError, match=r"1 values of 2m_temperature .* 2021-01-02T12 at 18 h.*--allow-missing"):
        score(path, world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    assert not (tmp_path / "s.nc").exists()
    scores = score(path, world["truth"], str(tmp_path / "s.nc"), allow_missing=True, progress=False, bootstrap=0)
    assert scores.attrs["missing_in_forecast"] == 1
    assert np.isfinite(scores["2m_temperature"].sel(metric="rmse")).all()


def test_periods_that_do_not_meet_are_explained(world, tmp_path, make):
    later = make.write(make.truth(start="2022-06-01"), tmp_path / "t.zarr")
    with pytest.raises(UserError, match=r"valid 2021-01-01T06 to 2021-01-08T12.*2022-06-01T00 to 2022-06-20T18"):
        score(world["forecast"], later, str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    with pytest.raises(UserError, match="no initial time in"):
        score(
            world["forecast"],
            world["truth"],
            str(tmp_path / "s.nc"),
            init="1999-01-01:1999-02-01",
            progress=False,
            bootstrap=0,
        )


def test_truth_that_ends_early(world, tmp_path, make):
    # Truth to 3 January 18 UTC: of init times 0, 12, 24 … h those up to 60 h have some truth, the last but one lead.
    short = make.write(make.truth().isel(time=slice(0, 12)), tmp_path / "t.zarr")
    scores = score(
        world["forecast"], short, str(tmp_path / "s.nc"), baselines=["persistence"], progress=False, bootstrap=0
    )
    sums = open_scores(str(tmp_path / "s.nc"), group="sums")
    assert sums.sizes["init_time"] == 6
    assert sums["init_count"].values.tolist() == [6, 5, 5, 4, 4, 3, 3, 2]
    assert np.isfinite(scores["geopotential"].sel(metric="rmse")).all()


def test_geopotential_height_is_converted(world, tmp_path, make, scored):
    height = make.forecast(make.truth())
    height["geopotential"] = (height["geopotential"] / np.float32(9.80665)).assign_attrs(units="m")
    path = make.write(height, tmp_path / "h.zarr")
    scores = score(
        path, world["truth"], str(tmp_path / "s.nc"), variables=["geopotential"], progress=False, bootstrap=0
    )
    expected = scored[1]["geopotential"].sel(metric="rmse", system="model", region="global")
    actual = scores["geopotential"].sel(metric="rmse", system="model", region="global")
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert scores.attrs["converted_model_geopotential"] == "m to m2 s-2"


def test_mismatches_name_the_remedy(world, tmp_path, make):
    forecast = make.forecast(make.truth())
    part = make.write(forecast.isel(longitude=slice(0, 8)), tmp_path / "part.zarr")
    with pytest.raises(
        UserError, match=r"truth.zarr: the grids differ \(16x8 and 8x8\).*not equally spaced.*global fields"
    ):
        score(part, world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    wrong = forecast.copy()
    wrong["geopotential"] = wrong["geopotential"].assign_attrs(units="K")
    with pytest.raises(UserError, match=r"geopotential is in K here and in m2 s-2"):
        score(
            make.write(wrong, tmp_path / "h.zarr"), world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0
        )
    with pytest.raises(UserError, match="needs a climatology"):
        score(
            world["forecast"],
            world["truth"],
            str(tmp_path / "s.nc"),
            baselines=["climatology"],
            progress=False,
            bootstrap=0,
        )
    with pytest.raises(UserError, match="there is no such file or folder"):
        score(str(tmp_path / "none.zarr"), world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    with pytest.raises(UserError, match="no lead times"):
        score(world["truth"], world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0)
    (tmp_path / "taken.nc").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        score(world["forecast"], world["truth"], str(tmp_path / "taken.nc"), progress=False, bootstrap=0)


def test_unfinished_forecast_is_refused(tmp_path, world, make):
    forecast = make.forecast(make.truth()).assign_attrs(status="incomplete")
    with pytest.raises(UserError, match="unfinished"):
        open_forecast(make.write(forecast, tmp_path / "f.zarr"))


def test_equal_units_written_differently_pass(world, tmp_path, make):
    forecast = make.forecast(make.truth())
    forecast["geopotential"].attrs["units"] = "m2/s2"
    forecast["u_component_of_wind"].attrs["units"] = "m s^-1"
    score(
        make.write(forecast, tmp_path / "f.zarr"), world["truth"], str(tmp_path / "s.nc"), progress=False, bootstrap=0
    )


def test_summary_table(scored):
    console = rich.console.Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(summary_table(scored[1], lead="24h"))
    text = console.export_text()
    assert "RMSE at 24 h" in text and "Geopotential 500 hPa" in text and "RMSE of persistence" in text
    assert format_number(number(scored[1], "geopotential", "rmse", level=500)) in text
    with pytest.raises(UserError, match="not a duration"):
        summary_table(scored[1], lead="soon")


@pytest.mark.parametrize(
    ("units", "pretty"), [("m**2 s**-2", "m² s⁻²"), ("kg kg^-1", "kg kg⁻¹"), ("m2 s-2", "m² s⁻²"), ("K", "K"), ("", "")]
)
def test_pretty_units(units, pretty):
    assert pretty_units(units) == pretty


@pytest.mark.parametrize(
    ("values", "units"),
    [
        (np.array([6, 36]), None),
        (np.array([6.0, 36.0]), "hours"),
        (np.array([0.25, 1.5]), "days"),
        (np.array([360, 2160]), "minutes"),
        (np.array([21600, 129600]), "s"),
        (np.array([21600, 129600]) * 10**9, "nanoseconds"),
        (np.array([6, 36], "timedelta64[h]"), None),
    ],
)
def test_lead_times_in_any_units(values, units):
    coordinate = xr.DataArray(values, dims="step", attrs={"units": units} if units else {})
    hours = lead_times(coordinate, "f.zarr") / np.timedelta64(1, "h")
    np.testing.assert_array_equal(hours, [6, 36])


def test_lead_times_that_are_not_times():
    with pytest.raises(UserError, match="units 'kelvin'"):
        lead_times(xr.DataArray([1.0], dims="step", attrs={"units": "kelvin"}), "f.zarr")


@pytest.mark.parametrize(("name", "scored_as"), [("geopotential", "geopotential"), ("z", "geopotential_at_surface")])
def test_geopotential_without_levels_is_scored(make, tmp_path, caplog, name, scored_as):
    """Forecast and truth are named by the same rule: spelled out it stays, z without levels is the ground's."""
    truth = make.truth()[["geopotential", "land_sea_mask"]].isel(level=0, drop=True)
    forecast = make.forecast(truth).rename(geopotential=name)
    paths = [
        make.write(forecast, tmp_path / "f.zarr"),
        make.write(truth.rename(geopotential=name), tmp_path / "t.zarr"),
    ]
    if name == "z":
        with pytest.raises(UserError, match="share no variable"):
            score(*paths, str(tmp_path / "s.nc"), bootstrap=0, progress=False)
        return
    scores = score(*paths, str(tmp_path / "s.nc"), bootstrap=0, progress=False)
    assert list(scores.data_vars) == [scored_as] and "not scored" not in caplog.text


@pytest.mark.parametrize("stored", ["forecast", "truth", "climatology"])
def test_a_damaged_chunk_is_named_and_leaves_no_scores(tmp_path, world, monkeypatch, stored):
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", (0.0, 0.0))
    paths = dict(world)
    paths[stored] = str(shutil.copytree(world[stored], tmp_path / "damaged.zarr"))
    for chunk in (tmp_path / "damaged.zarr/geopotential/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(UserError, match=r"damaged.zarr: geopotential cannot be read at (time|dayofyear) .*; fetch"):
        score(
            paths["forecast"],
            paths["truth"],
            str(tmp_path / "scores.nc"),
            climatology=paths["climatology"],
            progress=False,
        )
    assert not (tmp_path / "scores.nc").exists()
