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


def run(commands: list[list[object]], **environment: str) -> list[tuple[int, str, str, list[str]]]:
    """Status, standard error, standard output and heavy modules loaded, of commands run in one fresh process."""
    text = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=text, capture_output=True, text=True, check=True, env={**os.environ, **environment},
    )  # fmt: skip
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
        "the output is the --workdir": ["forecast", *initial, *source, "--output", f"{workdir}/", "--overwrite"],
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


def test_a_tilde_after_an_equals_sign_is_the_home_folder(tmp_path, workdir, small_store):
    """Of every option that names a path; a shell expands it at the beginning of a word only."""
    (tmp_path / "there.zarr").mkdir()
    (tmp_path / "there.nc").write_text("mine")
    (tmp_path / "waves.zarr").symlink_to(small_store)
    source, forecasts = "--input=~/waves.zarr", ["forecast", "--init=2001-01-02", "--input=~/waves.zarr"]
    scored = ["score", "--truth=~/waves.zarr", "--forecast=~/waves.zarr"]
    training = ["train", "--config=~/small.py"]
    none, exists = "{home}/none: there is no such file", "{home}/there.{ending}: already exists"
    expected = [
        (none, "zarr", ["check", "--input=~/none"]),
        (exists, "zarr", ["simulate", "--days=1", "--output=~/there.zarr"]),
        (exists, "zarr", ["regrid", source, "--output=~/there.zarr"]),
        (none, "zarr", ["regrid", "--input=~/none", "--output=~/x.zarr"]),
        (exists, "nc", ["stats", source, "--output=~/there.nc"]),
        (exists, "zarr", ["climatology", source, "--output=~/there.zarr"]),
        (none, "", [*training, "--workdir=~/free", "--set=data.path=~/none"]),
        (none, "", [*training, "--workdir=~/free", "--set=data.statistics=~/none"]),
        ("{home}/free: the workdir is the data.path", "", [*training, "--workdir=~/free", "--set=data.path=~/free"]),
        (exists, "zarr", [*forecasts, "--workdir=~/run", "--output=~/there.zarr"]),
        ("{home}/none: holds no checkpoints", "", [*forecasts, "--workdir=~/none", "--output=~/x.zarr"]),
        (exists, "nc", [*scored, "--output=~/there.nc"]),
        (none, "", [*scored, "--forecast=mine=~/none", "--output=~/x.nc"]),
        (none, "", [*scored, "--climatology=~/none", "--output=~/x.nc"]),
        (none, "", ["score", "--truth=~/none", "--forecast=~/waves.zarr", "--output=~/x.nc"]),
        (none, "", ["report", "--scores=~/none", "--output=~/report"]),
        (none, "", ["report", "--scores=~/there.nc", "--forecast=~/none", "--truth=~/none", "--output=~/report"]),
        (none, "", ["compare", "~/none", "~/none"]),
        ("{home}/none: is neither a file nor the name of an experiment", "", ["plan", "--config=~/none"]),
    ]
    results = run([command for _, _, command in expected], HOME=str(tmp_path))
    for (words, ending, command), (status, error, _, _) in zip(expected, results):
        assert status == 1 and words.format(home=tmp_path, ending=ending) in error, (command, error)
    assert not {"free", "x.zarr", "x.nc", "report"} & {path.name for path in tmp_path.iterdir()}


def test_a_finished_run_says_so_at_once(tmp_path, workdir):
    command = ["train", "--config", tmp_path / "small.py", "--workdir", workdir]
    (whole, longer), before = run([command, [*command, "--set", "optimiser.clip_norm=0"]]), sorted(workdir.rglob("*"))
    assert whole[0] == 0 and "Trained." in whole[2] and not whole[3]
    assert longer[0] == 1 and "clip_norm" in longer[1]
    assert sorted(workdir.rglob("*")) == before


def test_terminals_that_lack_characters_get_others(tmp_path, small_store):
    """Latin-1 and ASCII, as in batch logs, for a help text, a report and an error."""
    script = "import sys; from weather_scnn.cli import main; main()"
    report = ["check", "--input", small_store], 1, "2m_temperature"
    help_text = ["regrid", "--help"], 0, "10m_wind_speed, vorticity, ..."
    error = ["regrid", "--input", "Ωμέγα…", "--output", str(tmp_path / "o.zarr")], 1, "no such file"
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for settings, cases in (({"PYTHONIOENCODING": "latin-1"}, (report,)), (ascii_only, (report, help_text, error))):
        for arguments, status, words in cases:
            done = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                env={**os.environ, "COLUMNS": "160", **settings}, capture_output=True, check=False,
            )  # fmt: skip
            said = (done.stdout + done.stderr).decode("latin-1")
            assert "Traceback" not in said and "codec" not in said, said
            assert words in said and done.returncode in (0, status), said
