"""Scores by initial time as a table: the command of docs/scores.md, and what it refuses."""

import csv
import pathlib
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.scoring import open_scores, score
from weather_scnn.cli import app

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "scores.md"


@pytest.fixture(scope="module")
def scored(world, make, tmp_path_factory):
    """Scores in a folder, of truth that lacks all of a field at one time."""
    folder = tmp_path_factory.mktemp("table")
    truth = make.truth()
    truth["2m_temperature"][9] = np.nan
    score(
        world["forecast"], make.write(truth, folder / "t.zarr"), str(folder / "scores.nc"),
        climatology=world["climatology"], baselines=["persistence"], regions=["global", "bands:30"], bootstrap=0,
        variables=["geopotential", "2m_temperature"], progress=False,
    )  # fmt: skip
    return folder


def invoke(*words):
    return CliRunner().invoke(app, ["init-scores", *words])


def test_the_command_of_the_guide(scored, monkeypatch):
    monkeypatch.chdir(scored)
    line = next(line for line in GUIDE.read_text().splitlines() if line.startswith("weather-scnn init-scores"))
    ran = CliRunner().invoke(app, shlex.split(line)[1:], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    rows = list(csv.DictReader((scored / "z500.csv").read_text().splitlines()))
    assert f"Table of {len(rows)} rows" in ran.output
    assert list(rows[0]) == ["init_time", "lead_hours", "variable", "level", "region", "system", "rmse", "acc"]
    assert {row["variable"] for row in rows} == {"geopotential"} and {row["level"] for row in rows} == {"500"}
    model = [
        row for row in rows if row["system"] == "model" and row["lead_hours"] == "24" and row["region"] == "global"
    ]
    assert len(model) == 12 and model[0]["init_time"] == "2021-01-01T00"
    # The mean square over the initial times, the root taken last, is the score of all.
    found = open_scores("scores.nc")["geopotential"].sel(system="model", level=500, region="global")
    at = found.sel(lead_time=np.timedelta64(24, "h"))
    squares = np.mean([float(row["rmse"]) ** 2 for row in model])
    assert float(at.sel(metric="rmse")) == pytest.approx(squares**0.5, rel=1e-6)
    assert float(at.sel(metric="acc")) == pytest.approx(np.mean([float(row["acc"]) for row in model]), rel=1e-6)


def test_rows_are_chosen_and_times_without_scores_have_none(scored):
    output = str(scored / "t2m.csv")
    words = ["--scores", str(scored / "scores.nc"), "--output", output, "--variables", "2m_temperature"]
    ran = invoke(*words, "--leads", "6h", "--systems", "model", "--regions", "30n-60n,30s-0")
    assert ran.exit_code == 0, ran.output
    rows = list(csv.DictReader(pathlib.Path(output).read_text().splitlines()))
    assert len(rows) == 2 * 11 and {row["region"] for row in rows} == {"30n-60n", "30s-0"}
    assert "2021-01-03T00" not in {row["init_time"] for row in rows} and {row["level"] for row in rows} == {""}
    again = invoke(*words)
    assert again.exit_code == 1 and "exists" in again.output
    assert invoke(*words, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["--metrics", "rmes"], "--metrics names rmes, which is not in the file"),
        (["--regions", "europe"], "--regions names europe, which is not in the file"),
        (["--levels", "100"], "--levels names 100, which is not in the file"),
        (["--variables", "rain"], "--variables names rain, which is not in the file"),
        (["--leads", "7h"], "--leads names 7h, which is no lead time"),
    ],
)
def test_what_the_file_has_not_got_is_named(scored, words, message):
    ran = invoke("--scores", str(scored / "scores.nc"), "--output", str(scored / "x.csv"), *words)
    assert ran.exit_code == 1 and message in " ".join(ran.output.split())
    assert not (scored / "x.csv").exists()


def test_an_output_that_is_no_table_is_refused(scored):
    ran = invoke("--scores", str(scored / "scores.nc"), "--output", str(scored / "x.nc"))
    assert ran.exit_code == 1 and "end it in .csv" in ran.output


def test_a_table_of_others_is_never_replaced(scored):
    other = scored / "stations.csv"
    other.write_text("station,rmse\nA,1.0\n")
    ran = invoke("--scores", str(scored / "scores.nc"), "--output", str(other), "--overwrite")
    assert ran.exit_code == 1 and "is not a table of scores that this program has made" in " ".join(ran.output.split())
    assert other.read_text() == "station,rmse\nA,1.0\n"
