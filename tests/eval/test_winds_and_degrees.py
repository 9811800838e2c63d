"""Vector energy score, CRPS skill and scores by degree: closed forms, other packages, and what they must not depend on."""

import math

import numpy as np
import pytest
import xarray as xr

from eval.compare_scores import compare_scores
from eval.reporting.report import write_report
from eval.scores.ensembles import crps
from eval.scores.winds import vector_energy_scores
from eval.scoring import open_scores, score
from weather_scnn.sphere.field_spectra import degree_power
from weather_scnn.sphere.grid import Grid

WINDS = ("u_component_of_wind", "v_component_of_wind")


def normal_crps(y):
    """Of the standard normal distribution (Gneiting and Raftery 2007, eq. 21)."""
    density, below = np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi), 0.5 * (1 + np.vectorize(math.erf)(y / np.sqrt(2)))
    return y * (2 * below - 1) + 2 * density - 1 / np.sqrt(np.pi)


@pytest.mark.parametrize("members", [2, 3, 8, 16])
def test_fair_scores_of_gaussians_have_the_closed_form_for_any_number_of_members(members):
    """The fair score is unbiased: its mean over draws is the score of the distribution, whatever M; the plain one's is not."""
    xs = pytest.importorskip("xskillscore")
    rng, draws, truth = np.random.default_rng(members), 40_000, 0.7
    x = rng.normal(size=(members, draws))
    plain, fair = crps(x, np.full(draws, truth))
    expected = float(normal_crps(np.array(truth)))
    theirs = xs.crps_gaussian(xr.DataArray([truth], dims="x"), 0.0, 1.0, dim="x")
    assert expected == pytest.approx(float(theirs), rel=1e-6)
    assert fair.mean() == pytest.approx(expected, abs=4 * fair.std() / draws**0.5)
    # E|X − X′| = 2/√π, of which 1/(2M) is added to the plain score.
    assert plain.mean() == pytest.approx(expected + 1 / (members * np.sqrt(np.pi)), abs=4 * plain.std() / draws**0.5)
    wind = rng.normal(size=(2, members, draws))
    plain, fair = vector_energy_scores(wind)
    # |V| of two standard normals has the mean √(π/2), |V − V′| has √π.
    expected = math.sqrt(math.pi / 2) - math.sqrt(math.pi) / 2
    assert fair.mean() == pytest.approx(expected, abs=4 * fair.std() / draws**0.5)
    biased = expected + math.sqrt(math.pi) / (2 * members)
    assert plain.mean() == pytest.approx(biased, abs=4 * plain.std() / draws**0.5)


def test_the_vector_energy_score_does_not_depend_on_the_frame_and_that_of_components_does():
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=(2, 5, 3, 40)) * np.array([3.0, 0.5])[:, None, None, None]
    for angle in rng.uniform(0, 2 * np.pi, 4):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = np.einsum("ab,b...->a...", turn, deviations)
        for one, other in zip(vector_energy_scores(deviations), vector_energy_scores(turned)):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    components = [sum(crps(each, np.zeros((3, 40)))[1] for each in winds).mean() for winds in (deviations, turned)]
    assert abs(components[1] / components[0] - 1) > 0.01


def test_by_brute_force_and_where_members_coincide():
    rng = np.random.default_rng(1)
    deviations = rng.normal(size=(2, 6, 7))
    lengths = np.linalg.norm(deviations[:, :, None] - deviations[:, None], axis=0).sum(axis=(0, 1))
    mean = np.linalg.norm(deviations, axis=0).mean(axis=0)
    np.testing.assert_allclose(vector_energy_scores(deviations), [mean - lengths / 72, mean - lengths / 60])
    same = np.repeat(deviations[:, :1], 4, axis=1)
    for found in vector_energy_scores(same):
        np.testing.assert_allclose(found, np.linalg.norm(same[:, 0], axis=0))
    assert np.all(np.array(vector_energy_scores(np.zeros((2, 3, 5)))) == 0)
    one, fair = vector_energy_scores(deviations[:, :1])
    np.testing.assert_allclose(one, np.linalg.norm(deviations[:, 0], axis=0))
    assert np.isnan(fair).all()
    # Of winds along a line it is the CRPS.
    line = deviations * np.array([1.0, 0.0])[:, None, None]
    np.testing.assert_allclose(vector_energy_scores(line), crps(line[0], np.zeros(7)))


@pytest.fixture(scope="module")
def ensemble(world, make, tmp_path_factory):
    """Paths of the scores of an ensemble of 4, beside a single forecast, and of the stores."""
    folder, truth = tmp_path_factory.mktemp("winds"), make.truth()
    members = [make.forecast(truth, seed=seed, noise=0.2)[list(WINDS)] for seed in range(4)]
    truth["v_component_of_wind"][5, 0, 2, 3] = np.nan
    whole = xr.concat(members, "number").transpose("time", "prediction_timedelta", "number", ...)
    paths = [make.write(whole, folder / "f.zarr"), make.write(truth, folder / "t.zarr"), str(folder / "s.nc")]
    score(
        [paths[0], f"single={world['forecast']}"], paths[1], paths[2], variables=list(WINDS), spectra=("6h", "24h"),
        bootstrap=40, progress=False,
    )  # fmt: skip
    return paths


def test_winds_of_an_ensemble_in_a_file(ensemble, make):
    _, truth_path, path = ensemble
    lead = np.timedelta64(30, "h")
    scores = open_scores(path)["wind_vector"].sel(lead_time=lead, level=500, region="global")
    truth = xr.open_zarr(truth_path, decode_timedelta=True, consolidated=False)
    area = np.broadcast_to(np.diff(np.sin(np.radians(np.linspace(-90, 90, 9))))[:, None], (8, 16))
    inits = make.forecast(make.truth())["time"].values
    members = [
        make.forecast(make.truth(), seed=seed, noise=0.2).sel(prediction_timedelta=lead, level=500) for seed in range(4)
    ]
    found = {"fair": [], "variance": [], "mse": []}
    for init in inits:
        o = np.stack([truth[name].sel(time=init + lead, level=500).values for name in WINDS]).astype(float)
        x = np.stack([[member[name].sel(time=init).values for member in members] for name in WINDS]).astype(float)
        used = np.isfinite(o).all(axis=0)
        deviations = (x - o[:, None])[..., used]
        values = {
            "fair": vector_energy_scores(deviations)[1],
            "variance": deviations.var(axis=1, ddof=1).sum(axis=0),
            "mse": (deviations.mean(axis=1) ** 2).sum(axis=0),
        }
        for name, each in values.items():
            found[name].append(np.average(each, weights=area[used]))
    model = scores.sel(system="model")
    assert float(model.sel(metric="vector_energy_score_fair")) == pytest.approx(np.mean(found["fair"]), rel=1e-5)
    assert float(model.sel(metric="spread")) == pytest.approx(np.mean(found["variance"]) ** 0.5, rel=1e-5)
    ratio = np.sqrt(5 / 4 * np.mean(found["variance"]) / np.mean(found["mse"]))
    assert float(model.sel(metric="spread_skill_ratio")) == pytest.approx(ratio, rel=1e-5)
    single = scores.sel(system="single")
    assert float(single.sel(metric="vector_energy_score")) == pytest.approx(float(single.sel(metric="mae")), rel=1e-9)
    assert np.isnan(single.sel(metric="vector_energy_score_fair"))
    bounds = open_scores(path, group="intervals")["wind_vector"].sel(system="model", metric="vector_energy_score_fair")
    assert np.all(bounds.sel(bound="lower") < bounds.sel(bound="upper"))
    pair = open_scores(path, group="differences")["wind_vector"].sel(
        system="model", reference_system="single", metric="vector_energy_score", statistic="p_value"
    )
    assert np.isfinite(pair).all()


def test_scores_by_degree(ensemble, make):
    _, _, path = ensemble
    lead, grid = np.timedelta64(24, "h"), Grid.equiangular(16, 8)
    groups = {
        name: open_scores(path, group=f"degree_{name}") for name in ("scores", "intervals", "differences", "sums")
    }
    scores = groups["scores"]["u_component_of_wind"].sel(system="model", level=500, lead_time=lead)
    truth, members = make.truth()["u_component_of_wind"].sel(level=500), []
    for seed in range(4):
        members.append(make.forecast(make.truth(), seed=seed, noise=0.2)["u_component_of_wind"])
    x = np.stack([each.sel(prediction_timedelta=lead, level=500).values for each in members]).astype(float)
    o = truth.sel(time=members[0]["time"].values + lead).values.astype(float)

    def power(fields):
        return degree_power(fields.reshape(-1, 8, 16), grid).reshape(*fields.shape[:-2], -1)

    mean = x.mean(axis=0)
    variance = power(x - mean).sum(axis=0).mean(axis=0) / 3
    error, spectra = power(mean - o).mean(axis=0), power(x).mean(axis=(0, 1))
    np.testing.assert_allclose(scores.sel(metric="degree_spread"), variance**0.5, rtol=1e-4)
    np.testing.assert_allclose(scores.sel(metric="degree_rmse"), error**0.5, rtol=1e-4)
    expected = np.sqrt(5 / 4 * variance / error)
    np.testing.assert_allclose(scores.sel(metric="degree_spread_skill_ratio"), expected, rtol=1e-4)
    ratio = (spectra / power(o).mean(axis=0))[:4]  # the small world has no power beyond
    np.testing.assert_allclose(scores.sel(metric="member_power_ratio")[:4], ratio, rtol=1e-4)
    assert groups["sums"]["wind_vector_by_degree"].sizes["init_time"] == 12
    interval = groups["intervals"]["wind_vector"].sel(system="model", metric="degree_spread_skill_ratio")
    interval = interval.isel(degree=slice(1, None))  # a wind has no degree 0
    assert np.all(interval.sel(bound="lower") < interval.sel(bound="upper"))
    single = groups["scores"]["wind_vector"].sel(system="single")
    assert np.isnan(single.sel(metric="degree_spread")).all() and np.isfinite(single.sel(metric="degree_rmse")).all()
    assert np.isfinite(groups["differences"]["wind_vector"].sel(metric="member_power_ratio", statistic="p_value")).any()


@pytest.mark.slow
def test_they_are_on_the_page(ensemble, tmp_path):
    page = write_report(ensemble[2], str(tmp_path / "report"), progress=False).read_text()
    assert "Fair vector energy score against lead time" in page
    assert "Spread / skill per degree of Wind vector 850 hPa at 24 h against degree" in page
    assert "Power of members / truth of Wind vector 850 hPa" in page
    table = (tmp_path / "report" / "tables" / "degree_spread_skill_ratio_wind_vector_850.csv").read_text().splitlines()
    assert table[0].endswith("degree_spread_skill_ratio,lower,upper") and len(table) == 1 + 2 * 8


def test_crps_skill_against_the_probabilistic_climatology(make, tmp_path):
    """1 − CRPS / CRPS of the same dates of other years, of the same init times; none without that baseline."""
    grid, rng = Grid.equiangular(8, 4), np.random.default_rng(3)
    times = np.arange("2018-01-01", "2021-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    space = {"latitude": grid.latitude, "longitude": grid.longitude}
    field = rng.normal(280, 5, (times.size, 4, 8)).astype("f4")
    truth = xr.Dataset({"2m_temperature": (("time", *space), field, {"units": "K"})}, {"time": times, **space})
    lead, inits = np.array([1], "timedelta64[D]").astype("timedelta64[ns]"), times[-30:-5]
    observed = field[np.searchsorted(times, inits) + 1][:, None, None]
    values = observed + rng.normal(0, 2, (inits.size, 1, 3, 4, 8)).astype("f4")
    dims = ("time", "prediction_timedelta", "number", *space)
    forecast = xr.Dataset(
        {"2m_temperature": (dims, values, {"units": "K"})}, {"time": inits, "prediction_timedelta": lead, **space}
    )
    single = forecast.isel(number=0)
    paths = [
        make.write(each, tmp_path / f"{n}.zarr") for n, each in enumerate((forecast, single, truth.chunk(time=50)))
    ]
    arguments = ([paths[0], f"single={paths[1]}"], paths[2])
    options = {"bootstrap": 30, "progress": False}
    score(*arguments, str(tmp_path / "s.nc"), baselines=["probabilistic-climatology"], **options)
    scores = open_scores(str(tmp_path / "s.nc"))["2m_temperature"].isel(lead_time=0, region=0)
    fair, plain, skill = (scores.sel(metric=name) for name in ("crps_fair", "crps", "crps_skill"))
    reference = float(fair.sel(system="probabilistic-climatology"))
    assert float(skill.sel(system="model")) == pytest.approx(1 - float(fair.sel(system="model")) / reference)
    assert float(skill.sel(system="single")) == pytest.approx(1 - float(plain.sel(system="single")) / reference)
    assert float(skill.sel(system="probabilistic-climatology")) == pytest.approx(0)
    bounds = open_scores(str(tmp_path / "s.nc"), group="intervals")["2m_temperature"].sel(
        metric="crps_skill", system="model"
    )
    assert (
        float(bounds.sel(bound="lower").squeeze())
        < float(skill.sel(system="model"))
        < float(bounds.sel(bound="upper").squeeze())
    )
    same = compare_scores(str(tmp_path / "s.nc"), str(tmp_path / "s.nc"), metric="crps_skill", system="single,model")
    assert np.all(same.gain > 0)
    score(*arguments, str(tmp_path / "n.nc"), **options)
    assert "crps_skill" not in open_scores(str(tmp_path / "n.nc"))["metric"].values
