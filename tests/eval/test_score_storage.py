"""What a file of scores keeps: enough to add and to draw, in little room; files of earlier versions are read as well."""

import netCDF4
import numpy as np
import pytest
import xarray as xr

from eval import score_storage, score_writing
from eval.conventions import FORMAT_VERSION, MEMBERS
from eval.map_sums import left_open, map_scores, moments_of, restored_sums
from eval.reporting.report import write_report
from eval.score_storage import rounded, stored
from eval.scoring import open_scores, score
from weather_scnn.errors import UserError

MAP_MOMENTS = moments_of(wind=False)[1]
OPTIONS = {
    "baselines": ("persistence", "climatology"),
    "regions": ("global", "tropics"),
    "maps": ("24h",),
    "spectra": ("24h",),
    "bootstrap": 50,
    "progress": False,
}


@pytest.fixture
def all_large(monkeypatch):
    """Files of the small world are stored as large ones are."""
    monkeypatch.setattr(score_storage, "LARGE", 1)
    monkeypatch.setattr(score_writing, "LARGE", 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [None, 3])
def test_rounding_keeps_digits_and_what_has_none(kind, seed):
    values = (10.0 ** np.random.default_rng(0).uniform(-6, 6, (3, 500))).astype(kind)
    found = rounded(values, 10, seed)
    assert found.dtype == kind
    assert np.abs(found / values - 1).max() <= (2.0**-10 if seed else 2.0**-11)
    np.testing.assert_array_equal(rounded(found, 10, seed), found)
    special = np.array([[0.0, -0.0, 1.0, -2.5, np.nan, np.inf, -np.inf]], kind)
    np.testing.assert_array_equal(rounded(special, 10, seed), special)


def test_rounding_by_chance_neither_drifts_nor_tells_equal_entries_apart():
    mean = np.full((2, 4000), 1.0, np.float32)
    for count in range(2000, 2400):
        # Of so many, one more is less than the last digit that is kept.
        mean = rounded(((mean * count + 1.5) / (count + 1)).astype(np.float32), 10, count)
    np.testing.assert_array_equal(mean[0], mean[1])
    assert mean.mean() == pytest.approx((2000 + 1.5 * 400) / 2400, rel=1e-3)


@pytest.mark.slow
def test_a_large_file_is_small_and_keeps_its_scores(world, tmp_path, monkeypatch):
    arguments = (world["forecast"], world["truth"])
    paths = [str(tmp_path / name) for name in ("exact.nc", "small.nc")]
    score(*arguments, paths[0], climatology=world["climatology"], **OPTIONS)
    for module in (score_storage, score_writing):
        monkeypatch.setattr(module, "LARGE", 1)
    score(*arguments, paths[1], climatology=world["climatology"], **OPTIONS)
    tolerances = {"/": 1e-12, "sums": 4e-6, "maps": 1e-3, "map_sums": 4e-3, "intervals": 1e-3, "differences": 1e-3}
    for group, tolerance in tolerances.items():
        one, other = (open_scores(path, group=group) for path in paths)
        xr.testing.assert_allclose(one, other.reindex_like(one), rtol=tolerance, atol=1e-4 if "map" in group else 1e-7)
    differences = [open_scores(path, group="differences").sel(statistic="p_value") for path in paths]
    xr.testing.assert_equal(*(each.drop_attrs() for each in differences))
    with xr.open_dataset(paths[1], group="map_sums") as kept:
        assert kept.sizes["moment"] < len(MAP_MOMENTS)


@pytest.mark.slow
def test_additions_to_a_large_file(world, tmp_path, all_large):
    arguments = (world["forecast"], world["truth"])
    whole, path = str(tmp_path / "whole.nc"), str(tmp_path / "s.nc")
    score(*arguments, whole, climatology=world["climatology"], **OPTIONS)
    for number, init in enumerate(("2021-01-03:2021-01-31", "2021-01-01:2021-01-04")):
        score(*arguments, path, climatology=world["climatology"], init=init, add=number > 0, **OPTIONS)
    for group in ("/", "sums", "maps", "spectra", "intervals"):
        one, other = (open_scores(each, group=group) for each in (whole, path))
        xr.testing.assert_allclose(one, other.reindex_like(one), rtol=5e-3, atol=2e-3)


def test_sums_of_maps_come_back_from_their_scores():
    rng = np.random.default_rng(1)
    forecast, truth = rng.normal(size=(2, 9, 1, 1, 4, 6))
    truth[..., 1, 1] = 0.0  # no anomaly, as of rain in a desert
    forecast[..., 2, 2] = 0.0
    parts = {
        "count": np.ones_like(truth), "error": forecast - truth, "squared_error": (forecast - truth) ** 2,
        "absolute_error": np.abs(forecast - truth), "anomaly_product": forecast * truth,
        "forecast_anomaly_squared": forecast**2, "truth_anomaly_squared": truth**2, "truth_anomaly": truth,
        "seeps_count": np.ones_like(truth), "seeps": np.abs(forecast),
    }  # fmt: skip
    values = np.stack([parts[name].sum(axis=0) for name in MAP_MOMENTS], axis=1)
    dims = ("system", "moment", "lead_time", "latitude", "longitude")
    sums = xr.DataArray(values, dims=dims, coords={"moment": list(MAP_MOMENTS)})
    found = restored_sums(left_open(sums), map_scores(sums))
    xr.testing.assert_allclose(found, sums, rtol=1e-5, atol=1e-5)


def test_chunks_hold_one_moment_and_one_map():
    array = xr.DataArray(
        np.zeros((4, 9, 28, 20, 13, 4)), dims=("system", "moment", "init_time", "lead_time", "level", "region")
    )
    array = array.assign_coords(moment=list("abcdefghi"))
    _, encoding = stored(xr.Dataset({"t": array}), "sums")
    assert encoding["t"]["chunksizes"] == (4, 1, 28, 20, 13, 4)
    dims = ("system", "metric", "lead_time", "level", "latitude", "longitude")
    maps = xr.DataArray(np.zeros((4, 8, 2, 13, 32, 64), np.float32), dims=dims)
    assert stored(xr.Dataset({"t": maps}), "maps")[1]["t"]["chunksizes"] == (1, 1, 1, 13, 32, 64)


@pytest.fixture(scope="module")
def reliable(make, tmp_path_factory):
    """Truth and ensembles of 2, 4, 8 and 50 members, all drawn from one distribution."""
    folder, rng = tmp_path_factory.mktemp("reliable"), np.random.default_rng(5)
    truth = make.truth()[["2m_temperature"]]
    truth["2m_temperature"] = truth["2m_temperature"].copy(
        data=rng.normal(280, 2, truth["2m_temperature"].shape).astype("f4")
    )
    inits, leads = truth["time"].values[:70], np.array([6], "timedelta64[h]").astype("timedelta64[ns]")
    paths = {"truth": make.write(truth, folder / "t.zarr")}
    for members in (2, 4, 8, 50):
        values = rng.normal(280, 2, (inits.size, 1, members, 8, 16)).astype("f4")
        dims = ("time", "prediction_timedelta", "number", "latitude", "longitude")
        axes = {
            "time": inits,
            "prediction_timedelta": leads,
            "latitude": truth["latitude"],
            "longitude": truth["longitude"],
        }
        field = xr.Dataset({"2m_temperature": (dims, values, {"units": "K"})}, axes)
        paths[f"m{members}"] = make.write(field, folder / f"m{members}.zarr")
    output = str(folder / "scores.nc")
    forecasts = [f"{name}={path}" for name, path in paths.items() if name != "truth"]
    score(forecasts, paths["truth"], output, bootstrap=20, progress=False)
    return output


def test_a_reliable_ensemble_of_any_size_has_a_spread_skill_ratio_of_one(reliable):
    scores = open_scores(reliable)["2m_temperature"].isel(lead_time=0, region=0)
    ratio = scores.sel(metric="spread_skill_ratio", system=["m2", "m4", "m8", "m50"])
    # 70 times 128 points: a standard error of 1.1 %. Without the factor the first would be 0.82.
    np.testing.assert_allclose(ratio, 1.0, atol=0.035)
    plain = scores.sel(metric="spread") / scores.sel(metric="ensemble_mean_rmse")
    np.testing.assert_allclose(ratio / plain, np.sqrt([3 / 2, 5 / 4, 9 / 8, 51 / 50]), rtol=1e-9)
    sums = open_scores(reliable, group="sums")
    assert sums[MEMBERS].dims == ("system", "init_time") and sums[MEMBERS].isel(init_time=0).values.tolist() == [
        2,
        4,
        8,
        50,
    ]


def test_a_file_of_before_has_its_ratio_corrected(reliable, tmp_path):
    old = str(tmp_path / "old.nc")
    groups = {
        group: open_scores(reliable, group=group)
        for group in ("/", "sums", "intervals", "differences", "rank_histogram")
    }
    factor = xr.DataArray(np.sqrt([3 / 2, 5 / 4, 9 / 8, 51 / 50]), {"system": groups["/"]["system"]}, "system")
    groups["sums"] = groups["sums"].drop_vars(MEMBERS)
    for number, (group, dataset) in enumerate(groups.items()):
        if "metric" in dataset.dims and group != "differences":
            ratio = dataset["metric"] == "spread_skill_ratio"
            dataset = dataset.assign(
                {name: xr.where(ratio, a / factor, a).transpose(*a.dims) for name, a in dataset.items()}
            )
        dataset.drop_encoding().to_netcdf(old, mode="a" if number else "w", group=None if group == "/" else group)
    for group in ("/", "sums", "intervals"):
        one, other = (open_scores(path, group=group) for path in (reliable, old))
        xr.testing.assert_allclose(one, other.reindex_like(one))
    pair = open_scores(old, group="differences")["2m_temperature"].sel(metric="spread_skill_ratio")
    assert np.isnan(pair.sel(system="m2", reference_system="m4")).all()
    rmse = open_scores(old, group="differences")["2m_temperature"].sel(metric="rmse", statistic="difference")
    assert np.isfinite(rmse).all()


def test_netcdf_alone_reads_the_file(world, tmp_path, all_large):
    path = str(tmp_path / "s.nc")
    score(world["forecast"], world["truth"], path, climatology=world["climatology"], **OPTIONS)
    with netCDF4.Dataset(path) as file:
        variable = file.groups["maps"].variables["geopotential"]
        assert variable.filters()["zlib"] and int(variable.binary_digits) == 10


def test_small_and_large_fields_share_a_file(world, tmp_path, monkeypatch):
    """Sums of a field without levels are small where those of a field on levels are large."""
    for module in (score_storage, score_writing):
        monkeypatch.setattr(module, "LARGE", 5000)
    path = str(tmp_path / "s.nc")
    score(world["forecast"], world["truth"], path, climatology=world["climatology"], **OPTIONS)
    scores, sums = open_scores(path, group="maps"), open_scores(path, group="map_sums")
    for field in ("2m_temperature", "geopotential"):
        found = map_scores(sums[field]).sel(metric="rmse")
        xr.testing.assert_allclose(found, scores[field].sel(metric="rmse"), rtol=2e-3)


def test_forecasts_that_never_hold_a_value_are_named(world, tmp_path):
    """Such as an ensemble of which one member stopped at its initial state: the truth is not to blame."""
    path = str(tmp_path / "stopped.zarr")
    forecast = xr.open_zarr(world["forecast"], decode_timedelta=True)[["2m_temperature"]].load()
    (forecast.drop_encoding() * np.nan).to_zarr(path)
    with pytest.raises(UserError, match=r"stopped\.zarr: nothing could be scored.*values of the forecasts are missing"):
        score(path, world["truth"], str(tmp_path / "s.nc"), allow_missing=True, bootstrap=0, progress=False)


def test_the_file_says_its_format_and_a_newer_one_is_refused(world, tmp_path):
    path = str(tmp_path / "s.nc")
    score(world["forecast"], world["truth"], path, variables=["2m_temperature"], bootstrap=0, progress=False)
    assert open_scores(path).attrs["format_version"] == FORMAT_VERSION
    for version, message in ((FORMAT_VERSION + 1, r"is in version 3 of the format of scores"), (None, None)):
        with netCDF4.Dataset(path, "a") as file:
            file.delncattr("format_version")
            if version is not None:
                file.format_version = version
        if message is None:
            assert "2m_temperature" in open_scores(path)  # of earlier versions, which do not say it
            continue
        with pytest.raises(UserError, match=message):
            open_scores(path)
        with pytest.raises(UserError, match=message):
            write_report(path, str(tmp_path / "report"), progress=False)
