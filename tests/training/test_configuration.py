import pathlib

import pytest

from weather_scnn.errors import UserError
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.configuration_reading import differences, load_config, with_overrides

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def test_overrides_are_typed():
    config = with_overrides(
        Config(), ["data.levels=500,850", "training.stages=8x1,2x4", "model.gate=false", "optimiser.learning_rate=1e-4"]
    )
    assert config.data.levels == (500, 850) and config.training.stages == (Stage(8, 1), Stage(2, 4))
    assert config.model.gate is False and config.optimiser.learning_rate == 1e-4
    assert Config.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.pth=x", "did you mean data.path"),
        ("training.seed=one", "no value for training.seed"),
        ("training.stages=0x1", "at least 1"),
        ("training.stages=fast", "800x1,200x2"),
        ("model.gate=perhaps", "no value for model.gate"),
        ("data.path", "a.b=value"),
    ],
)
def test_a_wrong_override_says_what_is_right(assignment, message):
    with pytest.raises(UserError, match=message):
        with_overrides(Config(), [assignment])


def test_differences_name_what_matters():
    other = with_overrides(Config(), ["data.path=elsewhere", "training.batch_size=8"])
    assert differences(Config(), other) == ["training.batch_size was 16, is 8"]


def test_configuration_files_that_fail_say_where(tmp_path):
    (tmp_path / "good.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="get_config"):
        load_config(tmp_path / "good.py")
    with pytest.raises(UserError, match=r"good\.py"):
        load_config(tmp_path / "missing.py")


def test_stages_follow_one_another():
    config = with_overrides(Config(), ["training.stages=3x1,2x2"]).training
    assert [config.stage_at(step)[0] for step in range(5)] == [0, 0, 0, 3, 3] and config.total_steps == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("OptimiserConfig(learning_rate='1e-3')", r"optimiser\.learning_rate is '1e-3', which is no float"),
        ("OptimiserConfig(warmup_steps=2.5)", r"optimiser\.warmup_steps is 2\.5, which is no int"),
        ("OptimiserConfig(learning_rate=True)", r"optimiser\.learning_rate is True"),
    ],
)
def test_a_configuration_file_is_typed_too(tmp_path, line, message, untyped):
    (tmp_path / "c.py").write_text(
        "from weather_scnn.training.configuration import Config, OptimiserConfig\n"
        f"def get_config():\n    return Config(optimiser={line})\n"
    )
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / "c.py")


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("[!_]*.py")), ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_is_well_typed(path):
    assert load_config(path).training.total_steps > 0


def test_layout_on_devices_may_change_on_resume():
    other = with_overrides(Config(), ["training.mesh.model=2", "data.validation=2001", "training.log_every=3"])
    assert differences(Config(), other) == []


def test_push_forward_is_another_name_of_backprop_steps(tmp_path):
    assert with_overrides(Config(), ["training.push_forward=2"]).training.backprop_steps == 2
    old = Config().to_json()
    old["training"]["push_forward"] = old["training"].pop("backprop_steps") + 3
    found = Config.from_json(old)
    assert found.training.backprop_steps == 3
    # What is made of it keeps the number, and takes a new one.
    assert with_overrides(found, ["training.seed=1"]).training.backprop_steps == 3
    assert with_overrides(found, ["training.backprop_steps=1"]).training.backprop_steps == 1
