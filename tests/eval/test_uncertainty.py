"""Intervals cover what they should, and differences are paired."""

import numpy as np
import pytest

from eval.uncertainty import block_length, draw_counts, intervals_and_differences, resampled_means


def autoregressive(rng, length, coefficient, columns):
    noise = rng.normal(size=(length + 100, columns))
    series = np.zeros_like(noise)
    for step in range(1, length + 100):
        series[step] = coefficient * series[step - 1] + noise[step]
    return series[100:]


def statistics(*systems):
    """Squared and absolute errors and errors, (init, system, column), whose mean square is the mean of the inputs."""
    values = np.stack(systems, axis=1)
    return {"squared_error": values, "absolute_error": values, "error": values}


def test_draws_are_runs_of_init_times():
    counts = draw_counts(50, samples=20, block=5)
    assert counts.shape == (20, 50) and np.all(counts.sum(axis=1) == 50)
    # With blocks as long as the series, a circular block is the series itself.
    np.testing.assert_array_equal(draw_counts(50, samples=3, block=50), 1.0)
    assert [block_length(n) for n in (1, 8, 27, 100, 732)] == [1, 2, 3, 5, 10]


def test_resampled_means_leave_out_what_does_not_count():
    counts = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    means = resampled_means({"x": np.array([[1.0], [np.nan], [4.0]])}, counts)["x"]
    np.testing.assert_allclose(means, [[2.0, np.nan]])


def test_intervals_cover_the_mean_of_independent_and_of_persistent_series():
    rng = np.random.default_rng(0)
    for coefficient, least in ((0.0, 0.90), (0.5, 0.85)):
        series = 10 + autoregressive(rng, 200, coefficient, 200)
        intervals, _ = intervals_and_differences(statistics(series), samples=300)
        low, high = intervals["bias"][:, 0]
        assert least <= np.mean((low < 10) & (high > 10)) <= 0.99
        assert np.all(low < high)


def test_blocks_widen_the_interval_of_persistent_series():
    series = autoregressive(np.random.default_rng(1), 300, 0.8, 20)
    width = {}
    for block in (1, 12):
        low, high = intervals_and_differences(statistics(series), samples=300, block=block)[0]["bias"]
        width[block] = (high - low).mean()
    # The variance of the mean is (1 + 0.8)/(1 − 0.8) = 9 times that of independent draws.
    assert width[12] > 2 * width[1]


def test_paired_differences_see_what_intervals_of_each_hide():
    rng = np.random.default_rng(2)
    weather = rng.exponential(5.0, size=(100, 30))  # hard and easy days, the same for both systems
    better, worse = weather, weather + 0.2 + 0.1 * rng.normal(size=weather.shape)
    intervals, differences = intervals_and_differences(statistics(better, worse), samples=500)
    low, high = intervals["mae"]
    assert np.all(high[0] > low[1])  # the intervals overlap
    difference, lower, upper, p = differences["mae"]
    np.testing.assert_allclose(difference[1, 0], (worse - better).mean(axis=0))
    assert np.all(lower[1, 0] > 0) and np.all(p[1, 0] < 0.01)
    np.testing.assert_allclose(lower[0, 1], -upper[1, 0])


def test_equal_systems_differ_significantly_as_rarely_as_said():
    rng = np.random.default_rng(3)
    pair = statistics(*rng.normal(size=(2, 150, 300)))
    p = intervals_and_differences(pair, samples=400)[1]["bias"][3, 1, 0]
    assert 0.01 <= np.mean(p < 0.05) <= 0.10


def test_few_init_times_have_no_intervals():
    intervals, differences = intervals_and_differences(statistics(np.arange(3.0)[:, None], np.ones((3, 1))))
    assert np.isnan(intervals["rmse"]).all()
    assert differences["mse"][0, 0, 1] == pytest.approx(0.0) and np.isnan(differences["mse"][1:, 0, 1]).all()
