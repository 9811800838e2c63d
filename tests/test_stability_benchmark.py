"""The benchmark of climates over years: figures of a climate that is known, what of seeds is told, and its variants."""

import json
import sys

import numpy as np
import pytest
import xarray as xr

from benchmarks import stability as benchmark
from benchmarks.skill import NATURES, OURS, PAPER, experiment, systems
from tests.forecasting.test_stability import synthetic
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import Stage
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.correctors import settle

STAGES = (Stage(1000, 1), Stage(200, 2))


def climate(warm: float, heavy: float) -> xr.Dataset:
    """Of a rollout of three years, too warm and too heavy, whose seasons are too wide and too late."""
    parts = [
        synthetic(offset=offset, amplitude=1.2, late=9.0).assign_coords(field=[name])
        for name, offset in (("2m_temperature", warm), ("surface_pressure", heavy))
    ]
    return xr.concat(parts, "field", data_vars="minimal", coords="minimal", compat="override", join="override")


@pytest.fixture(scope="module")
def known() -> xr.Dataset:
    return climate(1.5, -3.0)


def test_figures_of_a_climate_that_is_known(known):
    found = benchmark.figures(known, known, 21)
    deviation = (4.0**2 / 2 + 0.3**2) ** 0.5
    figures, pressure = found["figures"], "surface_pressure"
    assert figures["temperature_drift"] == (pytest.approx(1.5 / deviation, abs=0.02), "2m_temperature")
    assert figures["pressure_drift"] == (pytest.approx(-3.0 / deviation, abs=0.03), pressure)
    assert figures["time_mean_error"] == (pytest.approx(3.0 / 20), pressure)  # the worst of the fields
    assert figures["power_at_60_days"] == (pytest.approx(0.8), "2m_temperature")
    assert figures["seasonal_amplitude"] == (pytest.approx(1.2, abs=0.02), "2m_temperature")
    assert figures["seasonal_days_late"] == (pytest.approx(9.0, abs=1.0), "2m_temperature")
    assert found["deviation"]["2m_temperature"] == pytest.approx(deviation, rel=0.01)
    assert found["truth"]["time_mean_error"][0] == pytest.approx(0.25 / 20)
    assert abs(found["truth"]["temperature_drift"][0]) < 0.02  # of white noise about a fixed season
    assert (found["finite_steps"], found["steps"], found["steps_per_second"]) == (4384, 4384, 50.0)


def test_only_degrees_that_are_resolved_count(known):
    # The power is 1.5 times the truth's up to degree 16, and 0.8 times beyond.
    assert benchmark.figures(known, known, 15)["figures"]["power_at_60_days"][0] == pytest.approx(1.5)


def test_a_rollout_that_ended_is_worse_than_any(known):
    over = known.copy(deep=True)
    for name in ("finite_steps", "global_mean", "hemispheric_mean", "time_mean", "spectrum"):
        over[name] = over[name].astype(float)
        over[name].loc[{"system": "run"}] = np.nan
    over["finite_steps"].loc[{"system": "run"}] = 100
    found = benchmark.figures(over, over, 21)
    assert {value for value, _ in found["figures"].values()} == {None}
    assert set(found["figures"]) == set(benchmark.FIGURES)
    good, bad = benchmark.figures(known, known, 21), found
    requests = [{"days": 1096, "config": {"training": {"seed": seed}}} for seed in (0, 1)]
    told = [
        each | {"request": request, "parameters": 10, "minutes": 1.0} for each, request in zip((good, bad), requests)
    ]
    both = benchmark.summary(told)
    assert (both["to_the_end"], both["runs"]) == (1, 2)
    # Of two the middle one is the worse; the worst is of those that did not end.
    assert (
        both["temperature_drift"][0][0] is None and both["temperature_drift"][1] == good["figures"]["temperature_drift"]
    )
    assert benchmark.summary([told[0], told[0], told[1]])["temperature_drift"][0][0] is not None

    page = benchmark.page(
        "Title",
        ["About."],
        {OURS: told},
        {"input noise": told[:1]},
        {"input noise": ["training.input_noise=0.03"]},
        ["x"],
    )
    line = next(line for line in page.splitlines() if line.startswith(f"| {OURS} |"))
    assert "| 1 of 2 |" in line and "| –; -1.06 (surface_pressure) |" in line
    assert f"| {OURS}, seed 0 | 10 | 1 of 1 | 0.528 (2m_temperature) |" in page
    assert f"- {OURS}, seed 1: after 25 days, " in page
    assert "| input noise: `training.input_noise=0.03` | 10 | 1 of 1 |" in page and page.endswith("left out:\n\n- x\n")

    rows = benchmark.rows({OURS: benchmark.summary(told[:1]), PAPER: both})
    ratios = {(row["case"], row["peer_name"]): row["ratio"] for row in rows}
    assert ratios["power at 60 days, off by", "wanted at most"] == pytest.approx(0.1 / 0.2)
    assert ratios["power at 60 days, off by", PAPER] is None
    assert ratios["share of rollouts that went to the end", PAPER] == 2.0
    json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize("model", list(NATURES))
def test_each_variant_is_another_network_or_training(model):
    nature = benchmark.seasonal(NATURES[model])
    settings = [*benchmark.base(nature), *benchmark.LASTING, *benchmark.OWN]
    base = with_overrides(experiment(nature, systems(nature)[OURS], "store.zarr", 730, STAGES, 0), settings)
    assert base.data.clock and base.data.static_variables
    variants = benchmark.variants(nature, STAGES)
    configs = {name: with_overrides(base, settings) for name, settings in variants.items()}
    assert len({repr(config) for config in [base, *configs.values()]}) == len(variants) + 1
    for config in configs.values():
        settle(config.model.correctors, Channels.from_config(config.data), 6.0)  # the state has what they need
    assert configs["rollouts twice as long"].training.stages == (Stage(1000, 1), Stage(200, 4))
    assert configs["rollouts at a tenth of the rate"].training.stages == (Stage(1000, 1), Stage(200, 2, 3e-4))
    assert base.optimiser.learning_rate == benchmark.RATE
    assert configs["single steps"].training.stages == (Stage(1200, 1),)


def test_an_unknown_name_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["stability.py", "--only", "no clock", "--workdir", str(tmp_path / "w")])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--only names 'no clock'; choose of " in capsys.readouterr().err and not (tmp_path / "w").exists()


@pytest.mark.slow
def test_the_whole_benchmark_runs(monkeypatch, capsys, tmp_path):
    wanted = f"{OURS};mean surface pressure free"
    arguments = ["stability.py", "--quick", "--ablate", "--only", wanted, "--workdir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json", str(tmp_path / "rows.json")])
    benchmark.main()
    page = capsys.readouterr().out
    assert f"| {OURS} | " in page and "`model.correctors.means=`" in page and "- no errors on inputs, seed 0" in page
    assert {row["peer_name"] for row in json.loads((tmp_path / "rows.json").read_text())} > {"wanted at most"}
    held, free = (
        json.loads(path.read_text())["figures"]["pressure_drift"][0]
        for name in ("spherical_CNN_0", "mean_surface_pressure_free_0")
        for path in tmp_path.rglob(f"{name}/figures.json")
    )
    assert abs(held) < abs(free)

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(benchmark, "train", never)
    for more in ([], ["--report"]):
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        benchmark.main()
        assert capsys.readouterr().out == page
