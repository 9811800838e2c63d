"""The terminal's scorecard of differences."""

import io

import numpy as np
import pytest
import rich.console
import xarray as xr
from typer.testing import CliRunner

from eval.compare_scores import compare_scores, comparison_table
from eval.scoring import open_scores, score
from weather_scnn.cli import app
from weather_scnn.errors import UserError


@pytest.fixture(scope="module")
def pair(make, world, tmp_path_factory):
    """Scores of a forecast and of one with twice its errors."""
    folder = tmp_path_factory.mktemp("compare")
    worse = make.write(make.forecast(make.truth(), noise=0.1), folder / "worse.zarr")
    paths = []
    for name, store in (("good", world["forecast"]), ("bad", worse)):
        paths.append(str(folder / f"{name}.nc"))
        score(
            store, world["truth"], paths[-1], climatology=world["climatology"], baselines=("persistence",),
            regions=("global", "tropics"), progress=False,
        )  # fmt: skip
    return paths


def printed(found, width=80) -> str:
    console = rich.console.Console(width=width, file=io.StringIO(), color_system=None)
    console.print(comparison_table(found))
    return console.file.getvalue()


def test_changes_are_those_of_the_scores_and_surely_so(pair):
    found = compare_scores(pair[0], pair[1], leads=["12h", "2d"])
    assert found.names == ("good", "bad") and found.leads.size == 2
    scores = [open_scores(path).sel(system="model", metric="rmse", region="global") for path in pair]
    for row, field in enumerate(found.fields):
        for number, dataset in enumerate(scores):
            expected = field.of(dataset).sel(lead_time=found.leads).values
            np.testing.assert_allclose(found.scores[number, row], expected, rtol=1e-6)
    # The errors are drawn alike and twice as large, so every ratio is 2 and no difference is chance.
    np.testing.assert_allclose(found.scores[1] / found.scores[0], 2.0, rtol=1e-3)
    assert found.sure.all() and (found.gain < 0).all()
    text = printed(found)
    assert "+100.0*" in text and "Z500" in text and "bad against good" in text
    back = compare_scores(pair[1], pair[0], leads=["12h"])
    assert (back.gain > 0).all() and "−50.0*" in printed(back)


def test_a_file_against_itself_differs_by_nothing(pair):
    found = compare_scores(pair[0], pair[0], system="model")
    assert not found.sure.any() and np.all(found.gain == 0)
    other = compare_scores(pair[0], pair[0], system="persistence,model", metric="acc", region="tropics")
    assert other.names == ("persistence", "model") and not other.relative
    assert np.all(np.sign(other.gain[other.sure]) == np.sign((other.scores[1] - other.scores[0])[other.sure]))


def test_no_field_is_left_out_unsaid(make, tmp_path):
    levels = list(range(100, 1000, 50))
    truth = make.truth()
    many = truth[["geopotential", "u_component_of_wind", "v_component_of_wind"]].sel(level=500, drop=True)
    truth = truth.drop_dims("level").merge(many.expand_dims(level=levels).transpose("time", "level", ...))
    stores = [make.write(data, tmp_path / name) for data, name in ((truth, "t.zarr"), (make.forecast(truth), "f.zarr"))]
    path = str(tmp_path / "scores.nc")
    score(stores[1], stores[0], path, baselines=("persistence",), progress=False)
    found = compare_scores(path, path, system="persistence,model", leads=["24h"])
    # Three variables and the wind vector on every level, and the temperature at 2 m.
    rows = 4 * len(levels) + 1
    text = printed(found)
    assert len(found.fields) == rows and f"of {rows} cells" in text
    assert all(f"\n {field.short} " in text for field in found.fields) and "Left out" not in text
    # A vector has no bias: the components have.
    text = " ".join(printed(compare_scores(path, path, metric="bias", leads=["24h"])).split())
    assert "Left out, as they have no bias: Wind100, Wind150," in text and f"of {rows - len(levels)} cells" in text


def test_the_scorecard_fits_80_columns(pair):
    text = printed(compare_scores(*pair))
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    result = CliRunner().invoke(app, ["compare", *pair, "--metric", "acc"])
    assert result.exit_code == 0 and "anomaly correlation" in result.stdout


def test_what_cannot_be_compared_is_refused(pair, world, tmp_path):
    other = str(tmp_path / "other.nc")
    score(
        world["forecast"], world["truth"], other, init="2021-01-01:2021-01-03", variables=["geopotential"],
        progress=False,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"init times differ .* shared"):
        compare_scores(pair[0], other)
    with pytest.raises(UserError, match="no score 'crps_of_mine'"):
        compare_scores(*pair, metric="crps_of_mine")
    with pytest.raises(UserError, match="no region 'europe'"):
        compare_scores(*pair, region="europe")
    with pytest.raises(UserError, match="no system 'hres'"):
        compare_scores(*pair, system="hres")
    with pytest.raises(UserError, match="no lead time 9d"):
        compare_scores(*pair, leads=["9d"])
    with pytest.raises(UserError, match="not a file of scores"):
        xr.Dataset({"a": 1}).to_netcdf(tmp_path / "a.nc")
        compare_scores(str(tmp_path / "a.nc"), pair[0])
