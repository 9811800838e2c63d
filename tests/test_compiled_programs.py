"""Compiled programs are kept between processes, where they are said to be."""

import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from weather_scnn import compiled_programs

_PROGRAM = """
import jax, jax.numpy as jnp
from weather_scnn.compiled_programs import keep_compiled_programs
keep_compiled_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(float(jax.jit(lambda x: jnp.sum(jnp.sin(x) ** 2))(jnp.arange(100.0))).hex())
"""


def _run(**environment: str) -> str:
    # The test run tells JAX where to keep programs, too.
    mine = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={**mine, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not done.stderr
    return done.stdout


def _files(folder: pathlib.Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*-cache")}


def test_a_second_process_takes_what_the_first_compiled(tmp_path):
    first = _run(WEATHER_SCNN_COMPILED=str(tmp_path))
    kept = _files(tmp_path)
    assert kept
    assert _run(WEATHER_SCNN_COMPILED=str(tmp_path)) == first
    assert _files(tmp_path) == kept


def test_what_jax_was_told_goes_before_ours(tmp_path):
    _run(WEATHER_SCNN_COMPILED=str(tmp_path / "ours"), JAX_COMPILATION_CACHE_DIR=str(tmp_path / "theirs"))
    assert _files(tmp_path / "theirs") and not (tmp_path / "ours").exists()


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path):
    (tmp_path / "file").touch()
    _run(WEATHER_SCNN_COMPILED=str(tmp_path / "file"))


@pytest.mark.parametrize("chosen", ["off", ""])
def test_it_can_be_turned_off(chosen, monkeypatch):
    monkeypatch.setenv(compiled_programs.VARIABLE, chosen)
    assert compiled_programs.directory() is None


def test_by_default_it_lies_in_the_user_s_cache(monkeypatch, tmp_path):
    monkeypatch.delenv(compiled_programs.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled_programs.directory().parent == tmp_path / "weather-scnn" / "compiled"


@pytest.mark.parametrize(
    ("version", "driver", "given", "expected"),
    [
        ("0.10.2", "", "", "--xla_cpu_use_fusion_emitters=false"),
        ("0.10.2", "", "--xla_a=1", "--xla_a=1 --xla_cpu_use_fusion_emitters=false"),
        ("0.10.2", "", "--xla_cpu_use_fusion_emitters=true", "--xla_cpu_use_fusion_emitters=true"),
        ("0.10.2", "libtpu", "", ""),
        ("0.11.0", "", "", ""),
    ],
)
def test_the_older_emitters_are_asked_for_where_xla_knows_the_flag(version, driver, given, expected, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == driver or None)
    compiled_programs.compile_quickly()
    assert os.environ["XLA_FLAGS"] == expected
