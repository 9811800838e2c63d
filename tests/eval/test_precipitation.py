"""SEEPS on cases worked by hand."""

import numpy as np
import pytest
import xarray as xr

from eval.scores.precipitation import dry_threshold, seeps, usable_points


def test_every_pair_of_categories_by_hand():
    # p₁ = ½: 1/(1−p₁) = 2, 1/p₁ = 2, 3/(2+p₁) = 1.2. Rows are forecasts, columns truths: dry, light, heavy.
    amounts = np.array([0.0, 1e-3, 9e-3])
    found = seeps(amounts[:, None], amounts[None, :], np.array(0.5), np.array(5e-3), 0.25e-3)
    np.testing.assert_allclose(found, [[0, 1, 4], [1, 0, 3], [1.6, 0.6, 0]])


def test_constant_forecasts_score_one_on_average():
    # The score is made so that a forecast without skill has the expectation 1, for any p₁.
    for p in (0.2, 0.5, 0.8):
        shares = np.array([p, 2 * (1 - p) / 3, (1 - p) / 3])  # light rain is twice as frequent as heavy rain
        for amount in (0.0, 1e-3, 9e-3):
            score = seeps(np.full(3, amount), np.array([0.0, 1e-3, 9e-3]), np.full(3, p), np.full(3, 5e-3), 0.25e-3)
            assert (score * shares).sum() == pytest.approx(1.0)


def test_points_nearly_always_dry_or_wet_are_left_out():
    np.testing.assert_array_equal(usable_points(np.array([0.05, 0.1, 0.2, 0.85, 0.9, np.nan])), [0, 0, 1, 0, 0, 0])
    assert np.isnan(seeps(np.zeros(1), np.zeros(1), np.array([0.95]), np.array([1e-3]), 1e-4)).all()


def test_edges_belong_to_the_wetter_category():
    found = seeps(np.array([0.25e-3, 5e-3]), np.array([1e-3, 9e-3]), np.full(2, 0.5), np.full(2, 5e-3), 0.25e-3)
    np.testing.assert_array_equal(found, 0)
    assert dry_threshold(24) == 0.25e-3 and dry_threshold(6) == 0.1e-3


def test_against_the_scores_package():
    verification = pytest.importorskip("scores.categorical")
    rng = np.random.default_rng(0)
    f, o = (rng.exponential(4e-3, 200) * (rng.uniform(size=200) > 0.4) for _ in range(2))
    p, heavy = np.full(200, 0.4), np.full(200, 4e-3)
    # Its categories include the lower edge of light otherwise; no amount here lies on an edge but 0.
    expected = verification.seeps(
        xr.DataArray(f, dims="x"),
        xr.DataArray(o, dims="x"),
        xr.DataArray(p, dims="x"),
        xr.DataArray(heavy, dims="x"),
        dry_light_threshold=0.25e-3,
        mask_clim_extremes=False,
        preserve_dims="all",
    )
    np.testing.assert_allclose(seeps(f, o, p, heavy, 0.25e-3), expected, rtol=1e-12)


def test_seeps_in_a_scoring_job(make, tmp_path):
    from eval.scoring import open_scores, score

    truth = make.truth().isel(time=slice(0, 24))
    rng = np.random.default_rng(4)
    rain = truth["2m_temperature"].copy(data=(rng.exponential(3e-3, (24, 8, 16)) - 2e-3).clip(0).astype(np.float32))
    rain = rain.assign_attrs(units="m", long_name="total precipitation")
    truth = truth[["2m_temperature"]].assign(total_precipitation_24hr=rain)
    leads = np.array([0, 6]) * np.timedelta64(1, "h").astype("timedelta64[ns]")
    inits = truth["time"].values[:20:4]
    values = rng.permuted(rain.values[:10], axis=0).reshape(5, 2, 8, 16)
    forecast = xr.Dataset(
        {"total_precipitation_24hr": (("time", "prediction_timedelta", "latitude", "longitude"), values, rain.attrs)},
        {"time": inits, "prediction_timedelta": leads, "latitude": truth["latitude"], "longitude": truth["longitude"]},
    )
    climatology = make.climatology()[["2m_temperature"]]
    fraction = rng.uniform(0.05, 0.95, (8, 16)).astype(np.float32)
    shape = climatology["2m_temperature"].shape
    for name, field in (("seeps_dry_fraction", fraction), ("seeps_threshold", np.full((8, 16), 2e-3, np.float32))):
        climatology[f"total_precipitation_24hr_{name}"] = (
            climatology["2m_temperature"].dims,
            np.broadcast_to(field, shape),
        )
    climatology["total_precipitation_24hr"] = (climatology["2m_temperature"] * 0).assign_attrs(units="m")
    paths = [make.write(each, tmp_path / f"{n}.zarr") for n, each in enumerate((forecast, truth, climatology))]
    options = {"climatology": paths[2], "maps": ["6h"], "bootstrap": 0, "progress": False}
    scores = score(*paths[:2], str(tmp_path / "s.nc"), **options)
    row = scores["total_precipitation_24hr"].sel(system="model", metric="seeps", region="global")
    assert np.isnan(row[0])  # nothing has fallen at lead 0
    area = np.broadcast_to(np.diff(np.sin(np.radians(np.linspace(-90, 90, 9))))[:, None], (8, 16))
    use = (fraction > 0.1) & (fraction < 0.85)
    expected, maps = [], []
    for number, init in enumerate(inits):
        o = rain.sel(time=init + leads[1]).values
        maps.append(seeps(values[number, 1], o, fraction, 2e-3, 0.25e-3))
        expected.append(np.average(maps[-1][use], weights=area[use]))
    assert float(row[1]) == pytest.approx(np.mean(expected), rel=1e-6)
    found = open_scores(str(tmp_path / "s.nc"), group="maps")["total_precipitation_24hr"].sel(metric="seeps")
    np.testing.assert_allclose(found[0, 0], np.where(use, np.mean(maps, axis=0), np.nan), rtol=1e-6)
