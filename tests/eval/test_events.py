"""Scores of events: by hand, against xskillscore and scores, and through the whole job."""

import numpy as np
import pytest
import xarray as xr

from eval.events import event_of, radius_of
from eval.neighbourhoods import Neighbourhood
from eval.score_reading import open_scores
from eval.scores import scores_from
from eval.scores.events import event_labels, event_scores, event_terms
from eval.scoring import score
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import EARTH_RADIUS, Grid, latitude_weights


def scores_of(members, truth, threshold, event):
    """Every score of equally weighted points."""
    terms = [[values.mean()] for values in event_terms(members, truth, threshold, event)]
    means = {label: np.array(value) for label, value in zip(event_labels(event), terms)}
    return {score.name.rsplit(f"_{event.tag}", 1)[0]: score.value(means).item() for score in event_scores(means)}


def test_a_contingency_table_by_hand():
    # 10 places: 3 hits, 1 miss, 2 false alarms, 4 correct rejections.
    forecast = np.array([[1, 1, 1, 0, 1, 1, 0, 0, 0, 0]], float)
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], float)
    found = scores_of(forecast, truth, 0.5, event_of("0.95"))
    assert found["frequency_bias"] == pytest.approx(5 / 4)
    chance = 5 * 4 / 10
    assert found["ets"] == pytest.approx((3 - chance) / (6 - chance))
    # One point of the curve: hit rate 3/4, false alarm rate 2/6.
    assert found["roc_area"] == pytest.approx((1 + 3 / 4 - 2 / 6) / 2)
    assert found["brier"] == pytest.approx(3 / 10)
    # Said never, it happened in 1 of 5; said surely, in 3 of 5.
    assert found["reliability"] == pytest.approx(0.5 * (1 / 5) ** 2 + 0.5 * (2 / 5) ** 2)


def test_probabilities_against_xskillscore():
    xs = pytest.importorskip("xskillscore")
    rng = np.random.default_rng(0)
    signal = rng.normal(size=3000)
    truth, members = signal + rng.normal(size=3000), signal + rng.normal(size=(10, 3000))
    found = scores_of(members, truth, 1.0, event_of("0.9"))
    happened = xr.DataArray(truth > 1.0, dims="x")
    probability = xr.DataArray((members > 1.0).mean(axis=0), dims="x")
    assert found["brier"] == pytest.approx(float(xs.brier_score(happened.astype(float), probability)))
    edges = np.array([-0.05, *np.arange(0.05, 1.1, 0.1)])  # around the eleven probabilities of ten members
    relative = xs.reliability(happened, probability, probability_bin_edges=edges)
    rows = relative.notnull().values
    weight = relative["samples"].values[rows] / 3000
    expected = (weight * (np.arange(11)[rows] / 10 - relative.values[rows]) ** 2).sum()
    assert found["reliability"] == pytest.approx(expected)
    area = xs.roc(happened.astype(float), probability, bin_edges=np.sort(edges), return_results="area")
    assert found["roc_area"] == pytest.approx(float(area), abs=1e-9)


@pytest.mark.parametrize(("text", "tail"), [("0.9", "upper"), ("0.05", "lower")])
def test_the_tail_against_scores(text, tail):
    verification = pytest.importorskip("scores.probability")
    rng = np.random.default_rng(1)
    members, truth = rng.normal(size=(7, 50)), rng.normal(size=50)
    found = scores_of(members, truth, 0.3, event_of(text))
    f, o = xr.DataArray(members, dims=("member", "x")), xr.DataArray(truth, dims="x")
    expected = verification.tail_tw_crps_for_ensemble(f, o, "member", 0.3, tail=tail, method="ecdf")
    assert found["twcrps"] == pytest.approx(float(expected))
    quantile = f.quantile(float(text), "member")
    from scores.continuous import quantile_score

    assert found["quantile_score"] == pytest.approx(float(quantile_score(quantile, o, float(text))))


def test_below_a_threshold_is_the_mirror_of_above():
    rng = np.random.default_rng(2)
    members, truth = rng.normal(size=(4, 30)), rng.normal(size=30)
    below = scores_of(members, truth, -0.5, event_of("mean_sea_level_pressure<98000"))
    above = scores_of(-members, -truth, 0.5, event_of("mean_sea_level_pressure>98000"))
    np.testing.assert_allclose(list(below.values()), list(above.values()))
    assert np.isnan(below["quantile_score"])


GRID = Grid.equiangular(16, 8)


def inside_of(grid: Grid, radius: float) -> np.ndarray:
    """Which points (p, p) lie within a distance in km."""
    lat, lon = (np.radians(each).ravel() for each in np.meshgrid(grid.latitude, grid.longitude, indexing="ij"))
    place = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    inside = np.arccos(np.clip(place.T @ place, -1, 1)) * EARTH_RADIUS / 1000 <= radius
    np.fill_diagonal(inside, True)
    return inside


@pytest.mark.parametrize("poles", [False, True])
def test_neighbourhoods_by_brute_force(poles):
    grid = Grid.equiangular(16, 9 if poles else 8, poles=poles)
    area = np.repeat(latitude_weights(grid.latitude), 16)
    inside = inside_of(grid, 3000.0)
    values, mask = np.random.default_rng(3).uniform(size=(2, area.size)), np.ones((2, area.size), bool)
    mask[1, ::3] = False
    near = Neighbourhood(grid.latitude, grid.longitude, 3000.0)
    for used in (None, mask):
        weights = inside * area * (1.0 if used is None else used[:, None])
        counted = values if used is None else np.where(used, values, 0.0)
        expected = (weights * counted[:, None]).sum(axis=-1) / weights.sum(axis=-1)
        np.testing.assert_allclose(near.shares(counted, used), expected.reshape(2, -1), atol=1e-12)
    alone = Neighbourhood(grid.latitude, grid.longitude, 1.0)
    if not poles:  # the points of a pole row are one place
        np.testing.assert_allclose(alone.shares(values), values, atol=1e-12)


def with_quantiles(make, path):
    """The climatology of the small world with quantiles −1 and 1 around its mean."""
    climatology = make.climatology()
    for name in list(climatology.data_vars):
        array = climatology[name]
        offset = xr.DataArray([-1.0, 1.0], {"quantile": [0.1, 0.9]}, "quantile")
        climatology[f"{name}_quantile"] = (array + offset).transpose("hour", "quantile", ...).assign_attrs(array.attrs)
    return make.write(climatology, path)


@pytest.fixture(scope="module")
def events(world, make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    output = str(folder / "s.nc")
    score(
        world["forecast"], world["truth"], output, climatology=with_quantiles(make, folder / "c.zarr"),
        events=["0.9", "2m_temperature<8"], neighbourhoods=["2000km"], baselines=["persistence"], bootstrap=20,
        variables=["2m_temperature", "geopotential"], progress=False,
    )  # fmt: skip
    return output


def test_the_job_counts_events_by_area(events, make):
    truth, forecast = make.truth(), make.forecast(make.truth())
    lead = forecast["prediction_timedelta"].values[3]
    one = forecast["2m_temperature"].sel(prediction_timedelta=lead)
    other = truth["2m_temperature"].sel(time=one["time"] + lead).values
    mean = 10.0 * np.cos(np.radians(one["latitude"].values))[:, None] ** 2
    area = np.broadcast_to(latitude_weights(one["latitude"].values)[:, None], (*mean.shape[:1], 16))
    found = open_scores(events)["2m_temperature"].sel(system="model", lead_time=lead, region="global")
    for tag, f, o in (("0.9", one.values > mean + 1, other > mean + 1), ("below_8", one.values < 8, other < 8)):
        hit, yes, seen = (
            np.average(each, axis=(1, 2), weights=np.broadcast_to(area, f.shape)).mean() for each in (f & o, f, o)
        )
        assert float(found.sel(metric=f"frequency_bias_{tag}")) == pytest.approx(yes / seen, rel=1e-5)
        chance = yes * seen
        assert float(found.sel(metric=f"ets_{tag}")) == pytest.approx(
            (hit - chance) / (yes + seen - hit - chance), rel=1e-5
        )
    near = inside_of(GRID, 2000.0) * area.ravel()
    near /= near.sum(axis=1, keepdims=True)
    shares = [(each > mean + 1).reshape(-1, near.shape[0]) @ near.T for each in (one.values, other)]
    error, size = (
        np.average(each, axis=1, weights=area.ravel()).mean()
        for each in ((shares[0] - shares[1]) ** 2, shares[0] ** 2 + shares[1] ** 2)
    )
    assert float(found.sel(metric="fss_2000km_0.9")) == pytest.approx(1 - error / size, rel=1e-5)
    assert float(found.sel(metric="fss_2000km_0.9")) > float(found.sel(metric="ets_0.9"))
    # A field without the value has none of its scores; winds and all were not asked for.
    assert np.isnan(open_scores(events)["geopotential"].sel(metric="ets_below_8")).all()
    lower, upper = open_scores(events, group="intervals")["2m_temperature"].sel(
        system="model", lead_time=lead, region="global", metric="roc_area_0.9"
    ).values  # fmt: skip
    assert lower <= float(found.sel(metric="roc_area_0.9")) <= upper
    assert "definition_ets_0.9" in open_scores(events).attrs


def test_without_being_asked_for_there_are_none(world, tmp_path):
    output = str(tmp_path / "s.nc")
    score(world["forecast"], world["truth"], output, variables=["2m_temperature"], bootstrap=0, progress=False)
    assert not [name for name in open_scores(output)["metric"].values if "0.9" in name or "below" in name]


def test_names_are_read_from_files_and_sums():
    assert [each.name for each in event_scores(["fss_error_500km_0.95", "rmse", "brier_0.1"])] == [
        "fss_500km_0.95",
        "brier_0.1",
    ]
    assert len({each.name for each in scores_from({"event_0.95", "probability_0.95"})} - {"rmse"}) == 1
    assert event_of("2m_temperature>30 degC").tag == "above_303.15" and radius_of("500 km") == 500.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"events": ["1.5"]}, "neither a quantile nor a value"),
        ({"events": ["warm>3"]}, "no variable is called 'warm'"),
        ({"events": ["2m_temperature>3 hPa"]}, "2m_temperature in 'hPa'"),
        ({"events": ["mean_sea_level_pressure>1e5"]}, "mean_sea_level_pressure is not scored"),
        ({"events": ["0.95"]}, "events by quantiles need a climatology with the quantiles 0.95"),
        ({"neighbourhoods": ["500km"]}, "neighbourhoods are of events"),
        ({"events": ["0.95"], "neighbourhoods": ["5deg"]}, "'5deg', which is no distance"),
        ({"events": ["0.95"], "convention": "weatherbench1"}, "weatherbench1 has no events"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(world, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        score(world["forecast"], world["truth"], str(tmp_path / "s.nc"), progress=False, **options)
