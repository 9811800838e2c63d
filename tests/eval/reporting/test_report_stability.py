"""The section on rollouts over years: its numbers are those of the file, and one that ended is drawn to its end."""

import csv

import numpy as np
import pytest

from eval.reporting.report import write_report
from eval.scoring import score
from tests.forecasting.test_stability import synthetic
from weather_scnn.errors import UserError
from weather_scnn.io.writing import write_netcdf


@pytest.fixture(scope="module")
def scores_path(world, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("scored") / "scores.nc")
    score(world["forecast"], world["truth"], path, variables=["2m_temperature"], bootstrap=0, progress=False)
    return path


def rolled(path, *, ended: bool) -> str:
    """A file of one field whose rollout is 1.5 K too warm."""
    dataset = synthetic(offset=1.5, amplitude=1.2, late=9.0).assign_coords(
        variable=("field", ["2m_temperature"]), level=("field", [np.nan]), field_units=("field", ["K"]),
        longitude=np.arange(8) * 45.0, realization=("init", [0]),
    ).assign_attrs(format_version=1)  # fmt: skip
    if ended:
        dataset["finite_steps"][0] = 400
        dataset["global_mean"][0, :, 100:] = np.nan
        dataset["time_mean"][0] = np.nan
        dataset["spectrum"][0] = np.nan
    write_netcdf(dataset, str(path))
    return str(path)


def table(folder, name) -> list[dict[str, str]]:
    with open(folder / "tables" / f"{name}.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_section_tells_what_the_file_holds(scores_path, tmp_path):
    page = write_report(
        scores_path, str(tmp_path / "whole"), stability=rolled(tmp_path / "s.nc", ended=False), progress=False
    )
    text, folder = page.read_text(), page.parent
    assert 'href="#stability"' in text and "1 of 1" in text and "Rollouts of 3 years from 1 initial state," in text
    assert {float(row["bias"]) for row in table(folder, "stability_bias_2m_temperature_run")} == {1.5}
    ratios = {float(row["degree"]): float(row["ratio"]) for row in table(folder, "stability_power_2m_temperature")}
    assert ratios[10] == pytest.approx(1.5) and ratios[20] == pytest.approx(0.8)
    drift = table(folder, "stability_drift_2m_temperature_run")
    assert len(drift) == 365 and drift[-1]["truth"] == "nan" and 0 < float(drift[0]["rollout 0"]) < 20


def test_a_rollout_that_ended_is_drawn_to_its_end(scores_path, tmp_path):
    page = write_report(
        scores_path, str(tmp_path / "ended"), stability=rolled(tmp_path / "s.nc", ended=True), progress=False
    )
    text, folder = page.read_text(), page.parent
    assert "0 of 1" in text and not list((folder / "figures").glob("stability_[bp]*"))
    known = [row["rollout 0"] != "nan" for row in table(folder, "stability_drift_2m_temperature_run")]
    assert known.index(False) == 34 and not any(known[34:])  # 100 days, three a point
    with pytest.raises(UserError, match="is not a file of stability; make one with weather-scnn stability"):
        write_report(scores_path, str(tmp_path / "none"), stability=scores_path, progress=False)
