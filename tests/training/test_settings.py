"""The page of settings is that of the code, and experiments are found by name."""

import os
import pathlib
import subprocess
import sys

import pytest

from weather_scnn.errors import UserError
from weather_scnn.training.configuration import Config
from weather_scnn.training.configuration_reading import flatten, load_config
from weather_scnn.training.settings_table import settings_page

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_in_docs_is_current():
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), (
        "run weather-scnn settings > docs/settings.md"
    )


def test_every_setting_stands_there_once_with_its_default():
    page = settings_page()
    for key in flatten(Config()):
        assert page.count(f"| `{key}` |") == 1, key
    assert (
        "| `training.stages` | `1000x1` | list of `STEPSxROLLOUTxMEMBERS@RATE:ALPHA` | Curriculum of rollouts" in page
    )
    assert "| `optimiser.learning_rate` | `0.002` | number | Highest learning rate. |" in page
    assert "| `training.remat` | `auto` | `auto` or `none` or `step` or `nested` | What the backward pass" in page


@pytest.mark.parametrize("name", ["demo", "era5_laptop", "tpu/v5e_8"])
def test_an_experiment_is_found_by_its_name(name):
    assert load_config(name) == load_config(ROOT / "configs" / f"{name}.py")


@pytest.mark.parametrize("name", ["dmo", "../configs/demo", "tpu", "/demo"])
def test_a_name_that_is_none_is_told_which_there_are(name):
    with pytest.raises(UserError, match=r"neither a file nor the name of an experiment; .* demo, .* tpu/v5e_8"):
        load_config(name)


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("")
    with pytest.raises(UserError, match=r"get_config|no Python file|is not a Python file"):
        load_config("demo")


def test_names_need_no_checkout(tmp_path):
    """From a folder with nothing in it, as with an installed wheel."""
    done = subprocess.run(
        [sys.executable, "-m", "weather_scnn.cli", "train", "--config", "demo", "--workdir", str(tmp_path / "r")],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr == "error: no training store is named; add --set data.path=S.zarr\n"
    assert list(tmp_path.iterdir()) == []
