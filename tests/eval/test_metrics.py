"""Scores against numbers worked by hand, and against the definitions written out naively."""

import numpy as np
import pytest
import xarray as xr

from eval.metrics import combine_scores, combine_sums, scores_by_init_time, scores_from_sums
from eval.regions import region_weights
from eval.scores.errors import ANOMALIES, ERRORS
from tests.eval.defined_sums import defined_sums
from weather_scnn.errors import UserError


def sums_of(forecast, truth, climatology, weights, *, valid=None, first="2021-01-01"):
    """Sums of one field `x` over arrays of shape (init, y, x), at one lead time."""
    valid = np.isfinite(truth) if valid is None else valid
    sums = defined_sums(forecast, truth, climatology, weights, valid, anomalies=climatology is not None)
    moments = ERRORS + (ANOMALIES if climatology is not None else ())
    times = np.datetime64(first, "ns") + np.arange(forecast.shape[0]) * np.timedelta64(1, "D")
    array = sums[None, :, :, None, :]
    return xr.Dataset(
        {"x": (("system", "moment", "init_time", "lead_time", "region"), array)},
        coords={
            "system": ["model"],
            "moment": list(moments),
            "init_time": times,
            "lead_time": [np.timedelta64(24, "h").astype("timedelta64[ns]")],
            "region": [f"r{number}" for number in range(weights.shape[0])],
        },
    )


def one(scores, metric, region="r0"):
    return float(scores["x"].sel(metric=metric, system="model", region=region).squeeze())


def test_hand_worked():
    # Two cells of weight 1.5 and 0.5; two init times.
    weights = np.array([[[1.5], [0.5]]])
    truth = np.array([[[1.0], [2.0]], [[0.0], [0.0]]])
    forecast = np.array([[[3.0], [1.0]], [[1.0], [-1.0]]])
    climatology = np.array([[[0.0], [1.0]], [[1.0], [1.0]]])
    scores = scores_from_sums(sums_of(forecast, truth, climatology, weights))
    # Squared errors (4, 1) and (1, 1): means (1.5·4 + 0.5·1)/2 = 3.25 and 1.
    assert one(scores, "mse") == pytest.approx((3.25 + 1) / 2)
    assert one(scores, "rmse") == pytest.approx(np.sqrt(2.125))
    # Absolute errors (2, 1) and (1, 1): (3 + 0.5)/2 = 1.75 and 1; errors (2, −1) and (1, −1): 1.25 and 0.5.
    assert one(scores, "mae") == pytest.approx(1.375)
    assert one(scores, "bias") == pytest.approx(0.875)
    # First: f' = (3, 0), o' = (1, 1): 2.25 / √(6.75 · 1); second: f' = (0, −2), o' = (−1, −1): 0.5 / √(1 · 1).
    assert one(scores, "acc") == pytest.approx((2.25 / np.sqrt(6.75) + 0.5) / 2)
    # Variances of f': 6.75 − 2.25² and 1 − 0.5²; of o': 0 and 0 → undefined.
    assert np.isnan(one(scores, "activity"))


def test_root_last_is_not_the_mean_of_roots():
    weights = np.ones((1, 2, 1))
    truth = np.zeros((2, 2, 1))
    forecast = np.stack([np.full((2, 1), 1.0), np.full((2, 1), 7.0)])
    assert one(scores_from_sums(sums_of(forecast, truth, None, weights)), "rmse") == pytest.approx(5.0)


def test_matches_definitions_written_naively():
    rng = np.random.default_rng(3)
    latitude, longitude = np.linspace(-90, 90, 7), np.arange(0, 360, 36.0)
    forecast, truth, climatology = rng.normal(size=(3, 5, 7, 10))
    names = ["global", "tropics", "northern-hemisphere"]
    weights = region_weights(names, latitude, longitude)
    scores = scores_from_sums(sums_of(forecast, truth, climatology, weights))
    bounds = np.radians([-90, -75, -45, -15, 15, 45, 75, 90])
    area = np.diff(np.sin(bounds))
    for number, rows in enumerate([range(7), [3], [4, 5, 6]]):
        w = [area[row] for row in rows for _ in longitude]

        def mean(values, rows=rows, w=w):
            return sum(a * b for a, b in zip(w, values[list(rows)].ravel())) / sum(w)

        mse = np.mean([mean((f - o) ** 2) for f, o in zip(forecast, truth)])
        acc, variance_f, variance_o = [], [], []
        for f, o, c in zip(forecast, truth, climatology):
            acc.append(mean((f - c) * (o - c)) / np.sqrt(mean((f - c) ** 2) * mean((o - c) ** 2)))
            variance_f.append(mean((f - c - mean(f - c)) ** 2))
            variance_o.append(mean((o - c - mean(o - c)) ** 2))
        assert one(scores, "rmse", f"r{number}") == pytest.approx(np.sqrt(mse))
        assert one(scores, "acc", f"r{number}") == pytest.approx(np.mean(acc))
        expected = np.sqrt(np.mean(variance_f) / np.mean(variance_o))
        assert one(scores, "activity", f"r{number}") == pytest.approx(expected)


def test_perfect_forecast_and_climatology_as_forecast():
    rng = np.random.default_rng(4)
    truth, climatology = rng.normal(size=(2, 3, 4, 6))
    weights = np.ones((1, 4, 6))
    perfect = scores_from_sums(sums_of(truth, truth, climatology, weights))
    assert one(perfect, "rmse") == 0
    assert one(perfect, "acc") == pytest.approx(1.0, abs=1e-12)
    assert one(perfect, "activity") == pytest.approx(1.0)
    usual = scores_from_sums(sums_of(climatology, truth, climatology, weights))
    assert one(usual, "acc") == 0
    assert one(usual, "activity") == 0


def test_truth_without_anomaly_has_no_correlation():
    climatology = np.random.default_rng(5).normal(size=(2, 4, 6))
    scores = scores_from_sums(sums_of(climatology + 1, climatology, climatology, np.ones((1, 4, 6))))
    assert np.isnan(one(scores, "acc"))


def test_missing_truth_leaves_the_other_points_their_weight():
    weights = np.array([[[1.5], [0.5]]])
    truth = np.array([[[np.nan], [2.0]], [[0.0], [0.0]], [[np.nan], [np.nan]]])
    forecast = np.array([[[3.0], [4.0]], [[1.0], [1.0]], [[9.0], [9.0]]])
    scores = scores_from_sums(sums_of(forecast, truth, None, weights))
    # 4 from the one valid point, 1, and the third init time does not count.
    assert one(scores, "mse") == pytest.approx(2.5)
    assert "acc" not in scores["metric"].values


def test_parts_add_up():
    rng = np.random.default_rng(6)
    forecast, truth, climatology = rng.normal(size=(3, 7, 4, 6))
    weights = np.ones((1, 4, 6))
    whole = scores_from_sums(sums_of(forecast, truth, climatology, weights))
    parts = [
        sums_of(forecast[:3], truth[:3], climatology[:3], weights),
        sums_of(forecast[3:], truth[3:], climatology[3:], weights, first="2021-01-04"),
    ]
    xr.testing.assert_allclose(combine_scores(parts[::-1]), whole, rtol=1e-13)
    with pytest.raises(UserError, match="more than one part"):
        combine_sums([parts[0], parts[0]])
    with pytest.raises(UserError, match="`region`"):
        combine_sums([parts[0], parts[1].assign_coords(region=["tropics"])])


def test_scores_of_every_init_time_are_those_of_a_file_of_it_alone():
    forecast, truth, climatology = np.random.default_rng(7).normal(size=(3, 5, 4, 6))
    weights = np.ones((1, 4, 6))
    found = scores_by_init_time(sums_of(forecast, truth, climatology, weights))
    for number in range(5):
        part = slice(number, number + 1)
        alone = scores_from_sums(sums_of(forecast[part], truth[part], climatology[part], weights))
        here = found.isel(init_time=number, drop=True)
        for name in alone.data_vars:
            xr.testing.assert_allclose(here[name].drop_attrs(), alone[name].drop_attrs(), rtol=1e-12)
