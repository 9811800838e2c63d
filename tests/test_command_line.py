"""The command line as a user meets it: one line for an error, the status, and nothing half-written."""

import errno
import logging
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.cli import app
from weather_scnn.command_errors import explain, speak_for_threads, told_once

runner = CliRunner()


def fails(*arguments, status=1):
    """Runs a command that must fail; gives its standard error."""
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output + result.stderr
    if status == 1:
        assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: "), result.stderr
    return result.stderr


def test_every_command_explains_itself():
    assert runner.invoke(app, ["--help"]).exit_code == 0
    for command in (
        "simulate check regrid stats climatology train plan settings forecast export score report compare demo"
    ).split():
        assert runner.invoke(app, [command, "--help"]).exit_code == 0


def test_a_missing_file_is_named(tmp_path):
    assert "nothing.zarr" in fails("check", "--input", tmp_path / "nothing.zarr")
    output = tmp_path / "o.zarr"
    assert "nothing.zarr" in fails("regrid", "--input", tmp_path / "nothing.zarr", "--output", output)
    assert not output.exists()


def test_a_grid_that_is_none(small_store, tmp_path):
    assert "64x32" in fails("regrid", "--input", small_store, "--output", tmp_path / "o.zarr", "--grid", "64by32")
    assert list(tmp_path.iterdir()) == []


def test_a_variable_that_is_absent_gets_the_nearest_name(small_store, tmp_path):
    line = fails("regrid", "--input", small_store, "--output", tmp_path / "o.zarr", "--variables", "geopotentail")
    assert "geopotential" in line and list(tmp_path.iterdir()) == []


def test_a_period_without_data(small_store, tmp_path):
    line = fails("stats", "--input", small_store, "--output", tmp_path / "s.nc", "--time", "2010-01-01:2010-02-01")
    assert "2001-01-01" in line and list(tmp_path.iterdir()) == []


def test_wrong_usage_exits_2(tmp_path):
    fails("regrid", "--input", "x", status=2)
    fails("nonsense", status=2)


def test_nothing_is_overwritten_unasked(small_store, tmp_path):
    path = tmp_path / "s.nc"
    path.write_text("mine")
    assert "--overwrite" in fails("stats", "--input", small_store, "--output", path)
    assert path.read_text() == "mine"


def test_a_full_disk_and_an_interrupt_are_told_in_one_line():
    assert "disk is full" in explain(OSError(28, "No space left on device", "x.zarr"))
    wrapped = RuntimeError("in a worker")
    wrapped.__cause__ = OSError(28, "No space left on device", "x.zarr")
    assert "disk is full" in explain(wrapped)
    assert "repeat the same command" in explain(KeyboardInterrupt())
    assert explain(ZeroDivisionError()) is None


def test_check_prints_one_json_object(small_store, tmp_path):
    import json

    result = runner.invoke(app, ["check", "--input", small_store, "--json"])
    report = json.loads(result.stdout)
    assert {"variables", "problems"} <= report.keys() and result.exit_code == 0
    assert any(problem["kind"] == "gap" for problem in report["problems"])
    assert all({"kind", "variable", "where", "remedy"} <= problem.keys() for problem in report["problems"])


@pytest.mark.slow
def test_two_processes_train_like_one(small_store, small_config, small_statistics, tmp_path):
    """Two processes of two devices each, as the hosts of a slice."""
    from weather_scnn.training.log import read_metrics

    config = tmp_path / "small.py"
    config.write_text(
        "import json\nfrom weather_scnn.training.configuration import Config\n"
        f"def get_config():\n    return Config.from_json({small_config.to_json()!r})\n"
    )
    base = [sys.executable, "-m", "weather_scnn.cli", "train", "--config", str(config)]
    base += ["--set", f"data.statistics={small_statistics}"]
    import os

    def environment(**extra):
        return {**os.environ, "JAX_PLATFORMS": "cpu", **extra}

    subprocess.run([*base, "--workdir", str(tmp_path / "one")], check=True, env=environment())
    processes = [
        subprocess.Popen(
            [*base, "--workdir", str(tmp_path / "two"), "--distributed"],
            env=environment(
                JAX_COORDINATOR_ADDRESS="127.0.0.1:19873",
                JAX_NUM_PROCESSES="2",
                JAX_PROCESS_ID=str(number),
                JAX_NUM_CPU_DEVICES="2",
            ),
        )
        for number in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    one, two = (
        np.array([float(row["loss"]) for row in read_metrics(tmp_path / name / "metrics.csv")])
        for name in ("one", "two")
    )
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_other_variables_than_the_checkpoint(whole_run, small_store, tmp_path):
    lacking = str(tmp_path / "lacking.zarr")
    xr.open_zarr(small_store).drop_vars("2m_temperature").to_zarr(lacking, zarr_format=2)
    options = ["--init", "2001-01-02", "--lead", "6h", "--output", tmp_path / "f.zarr"]
    assert "2m_temperature" in fails("forecast", "--workdir", whole_run[0], "--input", lacking, *options)
    assert not (tmp_path / "f.zarr").exists()


def test_threads_that_fill_the_disk_tell_it_in_a_line(capsys, monkeypatch):
    """Checkpoints are written by threads, which log and raise what the command then tells."""
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    speak_for_threads()

    def fill(error):
        raise error

    full = OSError(errno.ENOSPC, "No space left on device", "/place")
    for error in (full, ValueError("a fault of the program")):
        thread = threading.Thread(target=fill, args=(error,))
        thread.start()
        thread.join()
    first, *rest = capsys.readouterr().err.splitlines()
    assert "the disk is full" in first and "Traceback" not in first
    assert "ValueError: a fault of the program" in rest
    for error, kept in ((full, False), (ValueError("a fault"), True), (None, True)):
        told = (type(error), error, None) if error else None
        assert told_once(logging.LogRecord("absl", logging.ERROR, "", 0, "saving", (), told)) is kept


def test_the_shell_completes_commands_and_options():
    for words, expected in (("weather-scnn re", "regrid\nreport"), ("weather-scnn report --zo", "--zoom")):
        asked = {"_WEATHER_SCNN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        code = (
            "import sys; sys.argv[0] = 'weather-scnn'; from weather_scnn.cli import app; app(prog_name='weather-scnn')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == expected, done.stderr
