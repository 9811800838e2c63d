"""A made-up score, the class of docs/architecture.md: it is in files, on maps, in comparisons and on the page."""

import pathlib
import re

import numpy as np
import pytest

from eval import scores
from eval.compare_scores import compare_scores, comparison_table
from eval.reporting.report import write_report
from eval.scoring import open_scores, score

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "architecture.md"


def made_up():
    """Registers the score of the guide, as it is printed there."""
    text = GUIDE.read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    return scores.SCORES[-1]


@pytest.fixture
def registered():
    score = made_up()
    yield
    scores.SCORES.remove(score)


def test_a_made_up_score_goes_everywhere(world, make, registered, tmp_path):
    truth, lead = make.truth(), np.timedelta64(24, "h")
    truth["2m_temperature"][9, 2, 3] = np.nan
    paths = [world["forecast"], make.write(truth, tmp_path / "t.zarr")]
    output, other = str(tmp_path / "s.nc"), str(tmp_path / "o.nc")
    options = {"variables": ["2m_temperature"], "maps": ["24h"], "bootstrap": 20, "progress": False}
    score(*paths, output, baselines=["persistence"], **options)
    score(
        make.write(make.forecast(truth, noise=0.1), tmp_path / "f.zarr"), paths[1], other, allow_missing=True, **options
    )
    forecast = make.forecast(make.truth())["2m_temperature"].sel(prediction_timedelta=lead)
    observed = truth["2m_temperature"].sel(time=forecast["time"] + lead)
    error = (forecast.values.astype(float) - observed.values) ** 4
    area = np.broadcast_to(np.diff(np.sin(np.radians(np.linspace(-90, 90, 9))))[:, None], (8, 16))
    known = [np.isfinite(each) for each in error]
    expected = np.mean([np.average(each[k], weights=area[k]) for each, k in zip(error, known)]) ** 0.25
    at = {"metric": "fourth_power", "system": "model", "lead_time": lead}
    found = open_scores(output)["2m_temperature"].sel(at)
    assert float(found.sel(region="global")) == pytest.approx(expected, rel=1e-6)
    maps = open_scores(output, group="maps")["2m_temperature"].sel(at)
    np.testing.assert_allclose(maps, np.nanmean(error, axis=0) ** 0.25, rtol=1e-5)
    lower, upper = open_scores(output, group="intervals")["2m_temperature"].sel(at).sel(region="global").values
    assert lower < expected < upper
    compared = compare_scores(output, other, metric="fourth_power")
    assert np.all(compared.gain < 0)
    assert comparison_table(compared).renderables[0].plain.startswith("Change of the Fourth-power error, per cent")
    page = write_report(output, str(tmp_path / "report"), truth=paths[1], progress=False).read_text()
    assert "Fourth-power error against lead time" in page and "Like the RMSE, but large errors count for more." in page
    assert "Map of the Fourth-power error of 2 m temperature at 24 h" in page


def test_a_file_that_has_not_got_the_score_yet_can_be_added_to(world, tmp_path):
    """Its init times do not count in the new score."""
    output, fresh = str(tmp_path / "s.nc"), str(tmp_path / "n.nc")
    options = {"variables": ["2m_temperature"], "maps": ["24h"], "bootstrap": 0, "progress": False}
    arguments = (world["forecast"], world["truth"])
    score(*arguments, output, init="2021-01-01:2021-01-03", **options)
    own = made_up()
    try:
        score(*arguments, output, init="2021-01-04:2021-01-31", add=True, **options)
        score(*arguments, fresh, init="2021-01-04:2021-01-31", **options)
        at = {"metric": "fourth_power"}
        for group in ("/", "maps"):
            one, other = (open_scores(path, group=group)["2m_temperature"].sel(at) for path in (output, fresh))
            np.testing.assert_allclose(one, other)
    finally:
        scores.SCORES.remove(own)
    assert open_scores(output).attrs["init_times"] == 12


def test_two_scores_of_one_name_are_refused(registered):
    with pytest.raises(ValueError, match="there is a score 'fourth_power' already"):
        made_up()
