"""Work items add up: interrupted runs, added init times, Beam, chunks; and what lies in the groups of the file."""

import functools

import numpy as np
import pytest
import xarray as xr

import eval.work_items as items_module
from eval.item_scoring import ItemScorer
from eval.metrics import combine_scores
from eval.scores import ERROR_SUMS
from eval.scoring import open_scores, score
from tests.eval.defined_sums import LooseChunk, defined_sums
from weather_scnn.errors import UserError
from weather_scnn.scoring_on_beam import run_on_beam

OPTIONS = {
    "baselines": ("persistence", "climatology"),
    "regions": ("global", "europe"),
    "maps": ("24h", "48h"),
    "spectra": ("24h",),
    "bootstrap": 50,
    "progress": False,
}
GROUPS = ("/", "sums", "intervals", "differences", "maps", "map_sums", "spectra")


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("whole") / "scores.nc")
    score(world["forecast"], world["truth"], path, climatology=world["climatology"], **OPTIONS)
    return path


def assert_same_file(path, other, rtol=1e-9):
    for group in GROUPS:
        a, b = (open_scores(each, group=group) for each in (path, other))
        # Of sums that cancel, rounding is measured against the terms: an error of 1e-12 of a squared field is none.
        xr.testing.assert_allclose(a, b.reindex_like(a), rtol=rtol, atol=1e-9)


def small_items(monkeypatch):
    """Makes every forecast a block and every fourth init time a work item."""
    monkeypatch.setattr(items_module, "_ITEM_BYTES", 4 * 8 * 4 * 128)
    monkeypatch.setattr(items_module, "_BLOCK_BYTES", 1)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_fast_sums_are_those_of_the_definition(untyped, pooled, missing):
    """With and without missing points, in one field or all, by one path."""
    rng = np.random.default_rng(0)
    forecast, truth, normal = 5e4 + 1e3 * rng.normal(size=(3, 6, 2, 40))
    forecast = forecast.astype(np.float32)
    regions = rng.uniform(size=(3, 5, 8)) * (rng.uniform(size=(3, 5, 8)) > 0.3)
    mask = rng.uniform(size=truth.shape) > 0.2 if missing else np.ones(truth.shape, bool)
    forecast[~mask], truth[~mask & (rng.uniform(size=mask.shape) > 0.5)] = np.nan, np.nan
    chunk = LooseChunk(
        {"m": forecast[:, None]}, truth, truth - normal, regions, mask=mask if missing else None, pooled=pooled
    )
    found = ERROR_SUMS.of(chunk, "m")
    shaped = [each.reshape(6, 2, 5, 8) for each in (forecast, truth, normal)]
    expected = defined_sums(*shaped, regions, mask.reshape(6, 2, 5, 8), anomalies=True, pooled=pooled)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value")
def test_small_items_and_blocks_give_the_same(world, whole, tmp_path, monkeypatch):
    small_items(monkeypatch)
    path = str(tmp_path / "s.nc")
    score(world["forecast"], world["truth"], path, climatology=world["climatology"], **OPTIONS)
    assert_same_file(path, whole)


@pytest.mark.parametrize(
    "chunks",
    [
        {"time": 5, "prediction_timedelta": 3},
        *(pytest.param(each, marks=pytest.mark.slow) for each in ({"time": 12, "level": 1}, {"latitude": 3})),
    ],
)
def test_chunks_of_the_stores_change_nothing(world, make, whole, tmp_path, chunks):
    make.forecast(make.truth()).chunk(chunks).to_zarr(tmp_path / "f.zarr", consolidated=False, zarr_format=2)
    truth = make.truth().chunk(time=7)
    truth.to_zarr(tmp_path / "t.zarr", consolidated=False)
    make.climatology().chunk(dayofyear=100, hour=2).to_zarr(tmp_path / "c.zarr", consolidated=False)
    path = str(tmp_path / "s.nc")
    paths = [str(tmp_path / f"{name}.zarr") for name in "ft"]
    score(*paths, path, climatology=str(tmp_path / "c.zarr"), **OPTIONS)
    assert_same_file(path, whole)


def test_an_interrupted_run_goes_on(world, whole, tmp_path, monkeypatch):
    small_items(monkeypatch)
    path, done = str(tmp_path / "s.nc"), []
    original = ItemScorer.score

    def counted(self, item, *arguments):
        done.append(item.name)
        return original(self, item, *arguments)

    def dying(self, item, *arguments):
        if len(done) == 4:
            raise KeyboardInterrupt
        return counted(self, item, *arguments)

    monkeypatch.setattr(ItemScorer, "score", dying)
    with pytest.raises(KeyboardInterrupt):
        score(world["forecast"], world["truth"], path, climatology=world["climatology"], **OPTIONS)
    assert not (tmp_path / "s.nc").exists() and len(list((tmp_path / "s.nc.progress").glob("00*"))) == 4
    first = set(done)
    done.clear()
    monkeypatch.setattr(ItemScorer, "score", counted)
    score(world["forecast"], world["truth"], path, climatology=world["climatology"], **OPTIONS)
    assert done and not first & set(done)
    assert_same_file(path, whole)
    assert [each.name for each in tmp_path.iterdir()] == ["s.nc"]


def test_added_init_times_give_the_scores_of_all(world, whole, tmp_path):
    path = str(tmp_path / "s.nc")
    arguments = (world["forecast"], world["truth"], path)
    score(*arguments, climatology=world["climatology"], init="2021-01-03:2021-01-31", **OPTIONS)
    score(*arguments, climatology=world["climatology"], init="2021-01-01:2021-01-04", add=True, **OPTIONS)
    assert_same_file(path, whole)
    assert open_scores(path).attrs["init_times"] == 12
    with pytest.raises(UserError, match="in the file already"):
        score(*arguments, climatology=world["climatology"], add=True, **OPTIONS)
    with pytest.raises(UserError, match=r"made with other settings \(regions\)"):
        score(*arguments, climatology=world["climatology"], add=True, **{**OPTIONS, "regions": ("global",)})
    assert_same_file(path, whole)


def test_parts_of_two_files_combine(world, whole, tmp_path):
    sums = []
    for index, init in enumerate(("2021-01-01:2021-01-03", "2021-01-04:2021-01-31")):
        path, quick = str(tmp_path / f"{index}.nc"), OPTIONS | {"maps": (), "spectra": (), "bootstrap": 0}
        score(world["forecast"], world["truth"], path, climatology=world["climatology"], init=init, **quick)
        sums.append(open_scores(path, group="sums"))
    xr.testing.assert_allclose(combine_scores(sums), open_scores(whole), rtol=1e-12)


def test_beam_gives_the_same(world, whole, tmp_path, monkeypatch):
    small_items(monkeypatch)
    path = str(tmp_path / "s.nc")
    arguments = (world["forecast"], world["truth"], path)
    score(
        *arguments,
        climatology=world["climatology"],
        run_elsewhere=functools.partial(run_on_beam, beam_options=["--direct_num_workers=2"]),
        **OPTIONS,
    )
    assert_same_file(path, whole)


def test_maps_average_to_the_scores(whole, make):
    maps, scores = open_scores(whole, group="maps"), open_scores(whole)
    area = xr.DataArray(np.diff(np.sin(np.radians(np.linspace(-90, 90, 9)))), dims="latitude")
    assert maps["geopotential"].dims == ("system", "metric", "lead_time", "level", "latitude", "longitude")
    for name in ("geopotential", "2m_temperature", "wind_vector"):
        field = maps[name].astype(float)
        mean = (field.sel(metric="rmse") ** 2).weighted(area).mean(["latitude", "longitude"])
        expected = scores[name].sel(metric="mse", region="global", lead_time=maps["lead_time"], system=maps["system"])
        xr.testing.assert_allclose(mean.drop_vars("metric"), expected.drop_vars(["metric", "region"]), rtol=1e-5)
    assert np.all(maps["geopotential"].sel(system="climatology", metric="acc") == 0)
    forecast, truth = make.forecast(make.truth())["2m_temperature"], make.truth()["2m_temperature"]
    lead = np.timedelta64(24, "h").astype("timedelta64[ns]")
    error = [
        forecast.sel(time=t, prediction_timedelta=lead).values - truth.sel(time=t + lead).values
        for t in forecast["time"].values
    ]
    bias = maps["2m_temperature"].sel(system="model", metric="bias", lead_time=lead)
    np.testing.assert_allclose(bias, np.mean(error, axis=0), atol=1e-5)
    mse = maps["2m_temperature"].sel(system="model", metric="mse", lead_time=lead)
    np.testing.assert_allclose(mse, np.mean(np.square(error, dtype=float), axis=0), rtol=1e-4)
    # The climatology of the small world is the same at all times, so the variance of o' is that of o.
    observed = truth.sel(time=forecast["time"].values + lead).values.astype(float)
    explained = maps["2m_temperature"].sel(system="model", metric="explained_variance", lead_time=lead)
    np.testing.assert_allclose(explained, 1 - np.var(error, axis=0) / observed.var(axis=0), rtol=1e-4, atol=1e-4)
    usual = maps["2m_temperature"].sel(system="climatology", metric="explained_variance")
    np.testing.assert_allclose(usual, 0.0, atol=1e-6)
    assert np.isnan(maps["2m_temperature"].sel(metric="seeps")).all()


def test_maps_of_wind_vectors_by_hand(world, make, tmp_path):
    """A point without one component in one truth is left out there, of the vector alone and of all systems."""
    truth, forecast, lead = make.truth(), make.forecast(make.truth()), np.timedelta64(24, "h")
    lead = lead.astype("timedelta64[ns]")
    valid = forecast["time"].values + lead
    truth["u_component_of_wind"].loc[{"time": valid[3], "level": 850}][4, 5] = np.nan
    paths = {name: make.write(each, tmp_path / f"{name}.zarr") for name, each in {"t": truth, "f": forecast}.items()}
    options = OPTIONS | {"maps": ("24h",), "spectra": (), "baselines": ("climatology",)}
    options["variables"] = ("u_component_of_wind", "v_component_of_wind")
    score(paths["f"], paths["t"], str(tmp_path / "s.nc"), climatology=world["climatology"], **options)
    maps = open_scores(str(tmp_path / "s.nc"), group="maps").sel(level=850)
    usual = make.climatology().sel(hour=0, dayofyear=1, level=850)
    predicted, observed, normal = [], [], []
    for name in ("u_component_of_wind", "v_component_of_wind"):
        predicted.append(forecast[name].sel(prediction_timedelta=lead, level=850).values.astype(float))
        observed.append(truth[name].sel(time=valid, level=850).values.astype(float))
        normal.append(usual[name].values.astype(float))
    f, o, c = np.stack(predicted), np.stack(observed), np.stack(normal)[:, None]
    used = np.isfinite(o).all(axis=0)
    assert used.sum() == used.size - 1
    count, e, fa, oa = used.sum(axis=0), *(np.where(used, each, 0.0) for each in (f - o, f - c, o - c))
    mse, square = (e**2).sum(axis=(0, 1)) / count, (oa**2).sum(axis=(0, 1)) / count
    error_mean, anomaly_mean = (((each.sum(axis=1) / count) ** 2).sum(axis=0) for each in (e, oa))
    expected = {
        "mse": mse,
        "rmse": np.sqrt(mse),
        "mae": np.sqrt((e**2).sum(axis=0)).sum(axis=0) / count,
        "acc": (fa * oa).sum(axis=(0, 1)) / np.sqrt((fa**2).sum(axis=(0, 1)) * (oa**2).sum(axis=(0, 1))),
        "activity": np.sqrt((fa**2).sum(axis=(0, 1)) / (oa**2).sum(axis=(0, 1))),
        "explained_variance": 1 - (mse - error_mean) / (square - anomaly_mean),
    }
    found = maps["wind_vector"].sel(system="model", lead_time=lead)
    for metric, values in expected.items():
        np.testing.assert_allclose(found.sel(metric=metric), values, rtol=2e-4, atol=2e-4, err_msg=metric)
    assert np.isnan(found.sel(metric=["bias", "seeps"])).all()
    assert np.all(maps["wind_vector"].sel(system="climatology", metric="acc") == 0)
    at_the_point = maps["v_component_of_wind"].sel(system="model", metric="mse", lead_time=lead).values[4, 5]
    assert at_the_point == pytest.approx(np.mean((f - o)[1, :, 4, 5] ** 2), rel=1e-4)


def test_spectra_hold_the_variance(whole, make):
    spectra, truth = open_scores(whole, group="spectra"), make.truth()["2m_temperature"]
    assert list(spectra["system"].values) == ["truth", "model", "persistence", "climatology"]
    zonal = spectra["2m_temperature_zonal"].sel(system="truth").isel(lead_time=0)
    inits, rows = make.forecast(make.truth())["time"].values, np.diff(np.sin(np.radians(np.linspace(-90, 90, 9))))
    field = truth.sel(time=inits + np.timedelta64(24, "h")).values.astype(float)
    circle = 2 * np.pi * 6371220.0 * np.cos(np.radians(truth["latitude"].values))
    expected = np.average((field**2).mean(axis=(0, 2)) * circle, weights=rows)
    assert float(zonal.sum()) == pytest.approx(expected, rel=1e-6)
    # Errors without structure add power at the smallest scales; the climatology has none there.
    last = spectra["geopotential_degree"].isel(degree=-1, lead_time=0, level=0)
    assert last.sel(system="model") > 2 * last.sel(system="truth") > 2 * last.sel(system="climatology")
    assert spectra["wind_vector_degree"].dims == ("system", "lead_time", "level", "degree")


def test_intervals_and_differences_in_the_file(whole):
    scores, intervals = open_scores(whole), open_scores(whole, group="intervals")
    differences = open_scores(whole, group="differences")
    field = intervals["geopotential"].sel(metric="rmse", system="model")
    assert np.all(field.sel(bound="lower") < field.sel(bound="upper")) and intervals.attrs["confidence"] == 0.95
    pair = differences["geopotential"].sel(
        system="model", reference_system="persistence", metric="rmse", region="global"
    )
    expected = scores["geopotential"].sel(metric="rmse", region="global", system="model") - scores["geopotential"].sel(
        metric="rmse", region="global", system="persistence"
    )
    np.testing.assert_allclose(pair.sel(statistic="difference"), expected)
    assert np.all(pair.sel(statistic="p_value").isel(lead_time=-1) < 0.1)


def test_the_command_line(world, tmp_path):
    from typer.testing import CliRunner

    from weather_scnn.cli import app

    path = str(tmp_path / "s.nc")
    common = ["score", "--forecast", world["forecast"], "--forecast", f"again={world['forecast']}", "--truth"]
    common += [world["truth"], "--climatology", world["climatology"], "--output", path, "--bootstrap", "20"]
    common += ["--baselines", "persistence", "--variables", "2m_temperature"]
    first = CliRunner().invoke(app, [*common, "--init", "2021-01-01:2021-01-03:12h", "--confidence", "0.9"])
    assert first.exit_code == 0, first.output
    assert "2 m temperature" in first.output
    added = CliRunner().invoke(app, [*common, "--init", "2021-01-04:2021-01-31", "--add"])
    assert added.exit_code == 0, added.output
    scores = open_scores(path)
    assert scores.attrs["init_times"] == 12 and list(scores["system"].values) == ["model", "again", "persistence"]
    pair = open_scores(path, group="differences")["2m_temperature"].sel(system="model", reference_system="again")
    assert np.all(pair.sel(statistic="difference") == 0) and np.all(pair.sel(statistic="p_value", metric="rmse") == 1)
    refused = CliRunner().invoke(app, [*common, "--maps", "25h", "--overwrite"])
    assert refused.exit_code == 1 and "--maps names 25h, which is no lead time" in " ".join(refused.output.split())
