"""What can be refused without JAX is refused without loading it, nor anything else that takes long."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
from typer.testing import CliRunner
from weather_scnn.cli import app
results = []
for arguments in json.load(sys.stdin):
    result = CliRunner().invoke(app, arguments)
    heavy = sorted({"jax", "xarray", "pandas", "zarr", "dask", "matplotlib", "apache_beam"} & set(sys.modules))
    results.append([result.exit_code, result.stderr, result.stdout, heavy])
json.dump(results, sys.stdout)
"""


def run(commands: list[list[object]]) -> list[tuple[int, str, str, list[str]]]:
    """Status, standard error, standard output and heavy modules loaded, of commands run in one fresh process."""
    text = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=text, capture_output=True, text=True, check=True)
    return [tuple(each) for each in json.loads(done.stdout)]


@pytest.fixture
def workdir(tmp_path, small_config):
    """A run that has taken all its steps, as far as its folder tells."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / str(small_config.training.total_steps)).mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(small_config.to_json()))
    config = tmp_path / "small.py"
    config.write_text(
        "from weather_scnn.training.configuration import Config\n"
        f"def get_config():\n    return Config.from_json({small_config.to_json()!r})\n"
    )
    return folder


def test_refusals_load_nothing_heavy(tmp_path, workdir, small_store, small_statistics):
    config, missing, free = tmp_path / "small.py", tmp_path / "waves.zar", tmp_path / "free"
    there = tmp_path / "there.zarr"
    there.mkdir()
    (there / "kept").write_text("mine")
    (tmp_path / "there.nc").write_text("mine")
    (tmp_path / "there").mkdir()
    (tmp_path / "waves.zarr").symlink_to(small_store)
    source, initial = ["--input", small_store], ["--workdir", workdir, "--init", "2001-01-02"]
    scored = ["--forecast", small_store, "--truth", small_store]
    refused = {
        "did you mean data.path": ["train", "--config", config, "--workdir", free, "--set", "data.pth=x"],
        "did you mean model.blocks": ["plan", "--config", config, "--set", "model.block=2"],
        "6 has no unit; write it as 6h": ["train", "--config", config, "--workdir", free, "--set", "data.step=6"],
        "data.path, ": ["train", "--config", config, "--workdir", small_store],
        "did you mean": ["train", "--config", config, "--workdir", free, "--set", f"data.path={missing}"],
        "there.zarr: already exists": ["forecast", *initial, *source, "--output", there],
        "10 has no unit; write it as 10d or 10h": ["forecast", *initial, *source, "--output", free, "--lead", "10"],
        "holds no checkpoints": ["forecast", "--workdir", tmp_path, *initial[2:], *source, "--output", free],
        "there.nc: already exists": ["stats", *source, "--output", tmp_path / "there.nc"],
        "the step 6 has no unit; write it as 6h": ["regrid", *source, "--output", free, "--step", "6"],
        "not a netCDF file that this program": ["score", *scored, "--output", tmp_path / "there.nc", "--overwrite"],
        "waves.zar: there is no such file or folder; did you mean": [
            "climatology",
            "--input",
            missing,
            "--output",
            free,
        ],
        "end it in .nc": ["stats", *source, "--output", tmp_path / "s.zarr"],
        "end it in .zarr": ["simulate", "--output", tmp_path / "n.nc", "--days", "1"],
        "there: already exists": ["report", "--scores", small_statistics, "--output", tmp_path / "there"],
        "the output is the --input": ["regrid", *source, "--output", small_store, "--overwrite"],
        "did you mean " + str(tmp_path / "waves.zarr"): ["check", "--input", missing],
        "x.nc: there is no such file": ["compare", tmp_path / "x.nc", tmp_path / "y.nc"],
    }
    for (words, command), (status, error, _, heavy) in zip(refused.items(), run(list(refused.values()))):
        assert status == 1 and words in error and error.count("\n") == 1, (command, error)
        assert not heavy, (command, heavy)
    assert not free.exists()


def test_a_finished_run_says_so_at_once(tmp_path, workdir):
    command = ["train", "--config", tmp_path / "small.py", "--workdir", workdir]
    (whole, longer), before = run([command, [*command, "--set", "optimiser.clip_norm=0"]]), sorted(workdir.rglob("*"))
    assert whole[0] == 0 and "Trained." in whole[2] and not whole[3]
    assert longer[0] == 1 and "clip_norm" in longer[1]
    assert sorted(workdir.rglob("*")) == before


def test_terminals_that_lack_characters_get_others(tmp_path, small_store):
    """Latin-1 and ASCII, as in batch logs, for a help text, a report and an error."""
    script = "import sys; from weather_scnn.cli import main; main()"
    for settings in ({"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        for arguments, status, words in (
            (["check", "--input", small_store], 1, "2m_temperature"),
            (["regrid", "--help"], 0, "10m_wind_speed, vorticity, ..."),
            (["regrid", "--input", "Ωμέγα…", "--output", str(tmp_path / "o.zarr")], 1, "no such file"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                env={**os.environ, "COLUMNS": "160", **settings}, capture_output=True, check=False,
            )  # fmt: skip
            said = (done.stdout + done.stderr).decode("latin-1")
            assert "Traceback" not in said and "codec" not in said, said
            assert words in said and done.returncode in (0, status), said
