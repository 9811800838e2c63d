"""Ensemble scores by hand, by brute force, and against xskillscore and scores."""

import numpy as np
import pytest
import xarray as xr

from eval.conventions import BRIER_QUANTILES
from eval.scores.ensembles import ENSEMBLE_SUMS, crps, energy_scores, ensemble_sums, rank_weights


def test_crps_by_hand():
    # Members 1, 2, 6 and truth 3: E|X − o| = (2 + 1 + 3)/3 = 2; pairs |1−2| + |1−6| + |2−6| = 10.
    biased, fair = crps(np.array([6.0, 1.0, 2.0]), np.array(3.0))
    assert biased == pytest.approx(2 - 10 / 9)
    assert fair == pytest.approx(2 - 10 / 6)
    one, none = crps(np.array([5.0]), np.array(3.0))
    assert one == 2.0 and np.isnan(none)


def test_crps_against_other_packages():
    xs, verification = pytest.importorskip("xskillscore"), pytest.importorskip("scores.probability")
    rng = np.random.default_rng(0)
    members, truth = rng.normal(size=(7, 40)).round(1), rng.normal(size=40).round(1)
    f, o = xr.DataArray(members, dims=("member", "x")), xr.DataArray(truth, dims="x")
    biased, fair = crps(members, truth)
    np.testing.assert_allclose(biased, xs.crps_ensemble(o, f, dim=[]).values, atol=1e-12)
    arguments = {"ensemble_member_dim": "member", "preserve_dims": "all"}
    np.testing.assert_allclose(fair, verification.crps_for_ensemble(f, o, method="fair", **arguments), atol=1e-12)
    np.testing.assert_allclose(biased, verification.crps_for_ensemble(f, o, method="ecdf", **arguments), atol=1e-12)


def test_energy_score_against_brute_force():
    rng = np.random.default_rng(1)
    members, truth = rng.normal(size=(4, 2, 5)), rng.normal(size=(2, 5))
    columns = rng.uniform(size=(5, 3))
    columns[:2, 2] = 0
    total = np.broadcast_to(columns.sum(axis=0), (2, 3))
    found = energy_scores(members - truth, columns, total)
    for level in range(2):
        for region in range(3):
            w = columns[:, region]

            def norm(x, w=w):
                return np.sqrt((w * x**2).sum() / w.sum())

            x, o = members[:, level], truth[level]
            pairs = [norm(a - b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
            expected = np.mean([norm(a - o) for a in x]) - np.mean(pairs) / 2
            assert found[level, region] == pytest.approx(expected)


def test_energy_score_of_one_cell_is_the_fair_crps():
    rng = np.random.default_rng(2)
    members, truth = rng.normal(size=(6, 1, 1)), rng.normal(size=(1, 1))
    found = energy_scores(members - truth, np.ones((1, 1)), np.ones((1, 1)))
    assert found[0, 0] == pytest.approx(crps(members[:, 0, 0], truth[0, 0])[1])


def test_brier_score_and_missing_points(untyped):
    # Two cells of weight 3 and 1; the second is missing. Three of four members are above, the truth is not.
    members = np.array([1.0, 2.0, 3.0, 0.0])[:, None, None] * np.ones((4, 1, 2))
    members[0, 0, 1] = np.nan
    truth = np.array([[0.2, np.nan]])
    thresholds = np.full((len(BRIER_QUANTILES), 1, 2), 0.5)
    sums = ensemble_sums(members, truth, thresholds, np.array([[3.0], [1.0]]), np.array([[True, False]]))
    part = dict(zip(ENSEMBLE_SUMS.labels(None), sums[:, 0, 0]))
    assert part["brier_0.1"] == pytest.approx(3 * 0.75**2)
    assert part["variance"] == pytest.approx(3 * np.var([0, 1, 2, 3], ddof=1))
    assert part["crps"] == pytest.approx(3 * crps(members[:, 0, 0], np.array(0.2))[0])


def test_ranks_by_hand_with_ties_shared():
    members = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 1.0]])[:, None]
    truth = np.array([[0.0, 1.5, 1.0]])
    ranks = rank_weights(members, truth, np.array([1.0, 2.0, 3.0]))
    # Below both: rank 0, weight 1; between: rank 1, weight 2; equal to both: a third of 3 to each rank.
    np.testing.assert_allclose(ranks, [[2.0, 3.0, 1.0]])


def test_ranks_of_a_reliable_ensemble_are_flat():
    draws = np.random.default_rng(3).normal(size=(10, 1, 20000))
    ranks = rank_weights(draws[:9], draws[9], np.ones(20000))
    np.testing.assert_allclose(ranks[0] / ranks.sum(), 0.1, atol=0.01)
