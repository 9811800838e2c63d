"""How long a training takes, by what its steps cost."""

import re

import pytest

import weather_scnn.training.loop as loop
from weather_scnn.training.configuration import Config
from weather_scnn.training.configuration_reading import load_config, with_overrides
from weather_scnn.training.duration import planned_seconds, spell, step_units, units
from weather_scnn.training.plan import plan


def training(*settings):
    return with_overrides(Config(), [f"training.{setting}" for setting in settings]).training


def test_a_step_costs_three_passes_a_forecast_step_and_those_done_again():
    assert step_units(training("remat=none"), 4) == 12 and step_units(training("remat=step"), 4) == 16
    assert [step_units(training(), rollout) for rollout in (1, 2, 20)] == [3, 8, 100]
    assert step_units(training("remat=none", "backprop_steps=1"), 4) == 3 + 3


def test_the_rest_of_a_run_is_counted_over_its_stages():
    schedule = training("stages=10x1,4x2", "remat=none")
    assert units(schedule, 0, 14) == 10 * 3 + 4 * 6 and units(schedule, 8, 12) == 2 * 3 + 2 * 6
    assert planned_seconds(schedule, {1: 5.0}, speed=2.0) == pytest.approx((10 * 5 + 4 * 10) / 2)
    assert planned_seconds(schedule, {1: 5.0, 2: 11.0}, speed=2.0) == pytest.approx((10 * 5 + 4 * 11) / 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(20, "about 20 s"), (1200, "about 20 min"), (9000, "about 2.5 h"), (2e5, "about 56 h")]
)
def test_durations_as_people_say_them(seconds, text):
    assert spell(seconds) == text


@pytest.mark.slow
def test_the_time_left_is_measured_and_told_once(training_of, small_statistics, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "_MEASURED_SECONDS", 0.0)
    loop.train(training_of(), tmp_path, statistics=small_statistics)
    said = re.findall(r"at this speed the (\d+) steps left take (about .*)", capsys.readouterr().err)
    assert len(said) == 1 and said[0][0] == "7"


@pytest.fixture
def training_of(small_config):
    return lambda: small_config


@pytest.mark.slow
def test_a_laptop_trains_its_configuration():
    """Memory of the step and of the data, with half a gigabyte for the program itself, is under 4 GB."""
    config = load_config("era5_laptop")
    found = plan(config)
    step = max(stage.state_bytes + stage.temporary_bytes for stage in found.stages)
    assert step + config.data.cache_gigabytes * 2**30 + 0.5e9 < 4e9
    assert found.seconds > 600 and any("All steps take about" in str(table.caption) for table in found.render())
