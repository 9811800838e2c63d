"""Every command of docs/tpu.md: run with small data where it can be, else held against the command line it is for."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import xarray as xr

ROOT = pathlib.Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "tpu.md").read_text()
# What needs an account, a network or root: the words each begins with, and the options it may have.
CLOUD = {
    "gcloud compute tpus queued-resources create": {
        "node-id", "zone", "accelerator-type", "runtime-version", "spot"
    },
    "gcloud compute tpus queued-resources describe": {"zone"},
    "gcloud compute tpus queued-resources delete": {"zone", "force", "quiet"},
    "gcloud compute tpus tpu-vm ssh": {"zone", "worker", "command"},
    "gcloud storage cat": set(),
}  # fmt: skip
INSTALLING = ("git clone", "curl", "tail", ".local/bin/uv", "make setup", ".venv/bin/uv pip install", "cd ")


def commands():
    """Lines of all fenced blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def inner(command):
    """What a command runs on the hosts of the slice; None for other commands."""
    words = shlex.split(command)
    given = [word.removeprefix("--command=") for word in words if word.startswith("--command=")]
    # Between double quotes a shell takes \$ for $, which shlex does not.
    return given[0].replace("\\$", "$") if given else None


def on_the_hosts():
    """Commands for the hosts, one by one, with redirections away."""
    pieces = [piece.strip() for command in commands() for piece in re.split(r"&&|\|", inner(command) or "")]
    pieces = [re.sub(r"^nohup |\s*>.*$", "", piece) for piece in pieces if piece]
    return [piece for piece in pieces if piece != "sh"]


def our_commands():
    """Commands of this package, in the order of the guide."""
    found = []
    for command in commands():
        text = inner(command) or command
        found += [match.group(0) for match in re.finditer(r"weather-scnn (?:plan|regrid|check|stats|train|forecast) [^>&|]*", text)]  # fmt: skip
    return found


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_of_ours_or_has_the_form_of_the_clouds(command):
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
    if command.startswith("weather-scnn "):
        return
    begins = [words for words in CLOUD if command.startswith(words)]
    assert begins, command
    options = {word.removeprefix("--").partition("=")[0] for word in shlex.split(command) if word.startswith("--")}
    assert options <= CLOUD[begins[0]]
    text = inner(command)
    assert text is None or subprocess.run(["bash", "-n", "-c", text], check=False).returncode == 0


def test_what_runs_on_the_hosts_is_known():
    for piece in on_the_hosts():
        assert piece.startswith((*INSTALLING, ".venv/bin/weather-scnn train")), piece
    assert "setup:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", ["v5e_8", "v6e_16", "v5p_64"])
def test_the_batch_of_a_recipe_divides_over_its_chips(name):
    from weather_scnn.sphere import Grid
    from weather_scnn.training.channels import Channels
    from weather_scnn.training.configuration_reading import load_config

    config = load_config(ROOT / "configs" / "tpu" / f"{name}.py")
    chips, hosts = map(int, re.search(rf"{name}.py` \| `[^`]+` \| (\d+), (\d+)", GUIDE).groups())
    assert chips % hosts == 0 and config.training.batch_size % (chips * config.training.accumulation) == 0
    assert Grid.from_name(config.data.grid, poles=True).shape == (121, 240)
    assert len(Channels.from_config(config.data).describe()) == 13 * 4 + 3
    longest = max(stage.rollout_steps for stage in config.training.stages)
    assert f"up to {longest} steps" in GUIDE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v5e_8", "v6e_16", "v5p_64"])
def test_the_figures_of_the_guide_are_those_of_plan(name):
    """What `weather-scnn plan` prints of a recipe, within 3 per cent: compilers differ a little between machines."""
    rows = re.findall(rf"\| `{name}` on (\d+) \|(.*)\|", GUIDE)
    words = ["plan", "--config", str(ROOT / "configs" / "tpu" / f"{name}.py"), "--devices", rows[0][0], "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "weather_scnn.cli", *words], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found, devices = json.loads(done.stdout), int(rows[0][0])
    assert len(rows) == len(found["stages"]) == 2 and found["mesh"] == [devices, 1, 1]
    for (_, cells), stage in zip(rows, found["stages"]):
        told = [float(cell.replace(",", "")) for cell in cells.split("|")]
        state, activations = (stage[key] / 2**20 for key in ("state_bytes", "temporary_bytes"))
        sent = sum(stage["communicated"].values()) / 2**20
        flops = stage["flops"] / devices / 1e12
        expected = [stage["rollout_steps"], flops, state, activations, state + activations, sent]
        assert told == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
def test_the_guide_can_be_followed(small_store, small_config, tmp_path):
    """All our commands, in order, with the bucket in a folder, small data and one process."""
    config = tmp_path / "small.py"
    config.write_text(
        "from weather_scnn.training.configuration import Config\n"
        f"def get_config():\n    return Config.from_json({small_config.to_json()!r})\n"
    )
    places = {
        r"gs://weatherbench2/\S+\.zarr": small_store,
        r"gs://BUCKET": str(tmp_path / "bucket"),
        r"configs/tpu/\w+\.py": str(config),
        r"--grid 240x121 --poles": "--grid 16x8",
        r"--time \S+": "--time 2001-01-01:2001-01-08",
        r"--init \S+": "--init 2001-01-02:2001-01-02:12h",
        r"--lead \S+": "--lead 12h",
        r"--devices 32": "--devices 2",
    }
    (tmp_path / "bucket").mkdir()
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_ADDRESS": "127.0.0.1:19891", "JAX_NUM_PROCESSES": "1",
        "JAX_PROCESS_ID": "0",
    }  # fmt: skip
    ran = []
    for command in our_commands():
        for pattern, replacement in places.items():
            command = re.sub(pattern, replacement, command)
        assert "gs://" not in command
        words = [sys.executable, "-m", "weather_scnn.cli", *shlex.split(command)[1:]]
        done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        ran.append(shlex.split(command)[1])
        if ran[-1] == "train":
            again = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
            assert again.returncode == 0 and "resumed at step 10 of 10" in again.stderr
    assert ran == ["plan", "regrid", "check", "stats", "train", "forecast"]
    made = xr.open_zarr(tmp_path / "bucket" / "forecast.zarr")
    assert made.sizes["prediction_timedelta"] == 2
    assert (tmp_path / "bucket" / "run" / "curves.png").exists()
