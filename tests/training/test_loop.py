"""A run as a user has it: what it writes, and how it goes on after any kind of interruption."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import xarray as xr

import weather_scnn.training.loop as loop
import weather_scnn.training.placement as placement
from tests.conftest import travelling_waves
from weather_scnn.errors import UserError
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Stage
from weather_scnn.training.log import read_metrics, read_table
from weather_scnn.training.loop import train
from weather_scnn.training.preemption import Stopped


def assert_same_bits(one, other):
    left, right = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(left) == len(right) > 10
    for a, b in zip(left, right):
        np.testing.assert_array_equal(a, b)


def steps_of(workdir):
    return [int(row["step"]) for row in read_metrics(workdir / "metrics.csv")]


def wait_for(condition, process, what):
    for _ in range(60_000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise AssertionError(f"no {what}")


def test_training_lowers_the_loss_and_tells_so(whole_run):
    workdir, _ = whole_run
    rows = read_metrics(workdir / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [2, 4, 5, 6, 8, 10]
    assert float(rows[3]["loss"]) < float(rows[0]["loss"])
    assert [row["rollout_steps"] for row in rows] == ["1", "1", "1", "1", "2", "2"]
    assert {"step", "loss", "grad_norm", "learning_rate", "rollout_steps"} <= rows[0].keys()
    assert all(0 <= float(row["loader_share"]) <= 1 and row["skipped_steps"] == "0" for row in rows)
    for name in ("curves", "validation"):
        assert (workdir / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(workdir.glob("*.part*"))


def test_validation_scores_persistence_as_the_formula_says(whole_run, small_store, small_grid):
    """RMSE against persistence at 6 and 12 hours, from the store itself."""
    rows = read_table(whole_run[0] / "validation.csv")
    assert {row["step"] for row in rows} == {"5", "10"} and {row["lead_days"] for row in rows} == {"0.25", "0.5"}
    day = xr.open_zarr(small_store).sel(time="2001-01-01").load()
    area = small_grid.area_weights[:, None]

    def expected(name, lead, level=None):
        field = day[name] if level is None else day[name].sel(level=level)
        # Two windows of three states fit into the day; they are scored in turn.
        values = field.transpose("time", "latitude", "longitude").values.astype(np.float64)
        return np.mean([np.mean(area * (values[start + lead] - values[start]) ** 2) for start in (0, 1)])

    def told(variable, days):
        chosen = [row for row in rows if (row["variable"], row["lead_days"]) == (variable, days)]
        return [float(row["persistence_rmse"]) for row in chosen]

    height = pytest.approx(expected("geopotential", 2, 500) ** 0.5, rel=1e-3)
    assert told("geopotential at 500 hPa", "0.5") == [height, height]
    warmth = pytest.approx(expected("2m_temperature", 1) ** 0.5, rel=1e-3)
    assert told("2m_temperature", "0.25") == [warmth, warmth]
    wind = expected("u_component_of_wind", 1, 850) + expected("v_component_of_wind", 1, 850)
    speed = pytest.approx(wind**0.5, rel=1e-3)
    assert told("wind at 850 hPa", "0.25") == [speed, speed]
    assert all(float(row["rmse"]) > 0 for row in rows)


def test_events_for_tensorboard(whole_run):
    """Record by record: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (whole_run[0] / "tensorboard").iterdir()
    content, found, position = path.read_bytes(), {}, 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        event = Event.FromString(content[position + 12 : position + 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        position += 16 + length
    rows = read_metrics(whole_run[0] / "metrics.csv")
    assert [step for step, _ in found["training/loss"]] == [2, 4, 5, 6, 8, 10]
    assert found["training/loss"][0][1] == pytest.approx(float(rows[0]["loss"]), rel=1e-6)
    assert {"error/geopotential_500", "error/wind_850", "rmse_0.25d/2m_temperature"} <= found.keys()


@pytest.mark.parametrize("steps", [6, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (3, 8))])
def test_an_interrupted_run_ends_with_the_same_bits(
    whole_run, training, small_statistics, tmp_path, steps, monkeypatch
):
    """Stopped when so many batches had come (before, at and after a change of stage), then run again."""
    calls, original = {"left": steps}, placement.place

    def interrupted(*arguments):
        if calls["left"] == 0:
            raise KeyboardInterrupt
        calls["left"] -= 1
        return original(*arguments)

    config = training(checkpoint_every=2)
    monkeypatch.setattr(placement, "place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, statistics=small_statistics, progress=False)
    calls["left"] = -1
    assert_same_bits(train(config, tmp_path, statistics=small_statistics, progress=False), whole_run[1])
    whole = {row["step"]: row["loss"] for row in read_metrics(whole_run[0] / "metrics.csv")}
    mine = read_metrics(tmp_path / "metrics.csv")
    assert len(mine) == len({row["step"] for row in mine})
    assert all(whole.get(row["step"], row["loss"]) == row["loss"] for row in mine)


def test_sigterm_saves_first(whole_run, small_config, small_statistics, tmp_path, monkeypatch):
    calls, original = {"left": 7}, placement.place

    def preempted(*arguments):
        calls["left"] -= 1
        if calls["left"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(placement, "place", preempted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM at step 7, which is saved; the same command") as stopped:
        train(small_config, tmp_path, statistics=small_statistics, progress=False)
    assert stopped.value.status == 143 and signal.getsignal(signal.SIGTERM) is before
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 7
        cursor = checkpoints.about().cursor
    assert cursor.step == 7 and cursor.rollout_steps == 2 and cursor.batch == 1
    assert_same_bits(train(small_config, tmp_path, statistics=small_statistics, progress=False), whole_run[1])
    assert steps_of(tmp_path) == [2, 4, 5, 6, 8, 10]


def test_the_command_ends_with_the_status_of_the_signal(small_config, small_statistics, tmp_path, monkeypatch):
    """143 after SIGTERM tells a scheduler that the run is to be started again; one line says where it stands."""
    from typer.testing import CliRunner

    from weather_scnn.cli import app

    def stopped(*_, **__):
        raise Stopped("stopped by SIGTERM at step 7, which is saved", remedy="the same command goes on from there")

    monkeypatch.setattr(loop, "train", stopped)
    (tmp_path / "c.py").write_text(
        "from weather_scnn.training.configuration import Config\n"
        f"def get_config():\n    return Config.from_json({small_config.to_json()!r})\n"
    )
    words = "train", "--config", tmp_path / "c.py", "--workdir", tmp_path / "run"
    done = CliRunner().invoke(app, [*map(str, words), "--set", f"data.statistics={small_statistics}"])
    assert done.exit_code == 143
    assert done.stderr == "stopped by SIGTERM at step 7, which is saved; the same command goes on from there\n"


def kill_when(condition, start_run, config, workdir, what):
    process = start_run(config, workdir, pause=0.15)
    wait_for(condition, process, what)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()


def test_kill_at_a_random_step_loses_nothing(whole_run, training, small_statistics, start_run, tmp_path):
    step = int(np.random.default_rng().integers(2, 9))
    kill_when(
        lambda: max(steps_of(tmp_path), default=0) >= step, start_run, training(checkpoint_every=3, log_every=1),
        tmp_path, f"step {step}",
    )  # fmt: skip
    state = train(training(checkpoint_every=3, log_every=1), tmp_path, statistics=small_statistics, progress=False)
    assert_same_bits(state, whole_run[1])
    assert steps_of(tmp_path) == list(range(1, 11))


@pytest.mark.slow
def test_kill_during_a_save(whole_run, training, small_statistics, start_run, tmp_path):
    config, folder = training(checkpoint_every=1), tmp_path / "checkpoints"

    def saving():
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return "2" in names and any("tmp" in name for name in names)

    kill_when(saving, start_run, config, tmp_path, "half-written checkpoint")
    assert_same_bits(train(config, tmp_path, statistics=small_statistics, progress=False), whole_run[1])
    assert all(path.name.isdigit() for path in folder.iterdir() if path.is_dir())


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 7])
def test_kill_at_a_change_of_stage(whole_run, training, small_statistics, start_run, tmp_path, step):
    config = training(checkpoint_every=step, log_every=1)

    def there():
        return step in steps_of(tmp_path) and (tmp_path / "checkpoints" / str(step)).is_dir()

    kill_when(there, start_run, config, tmp_path, f"checkpoint {step}")
    assert_same_bits(train(config, tmp_path, statistics=small_statistics, progress=False), whole_run[1])


@pytest.mark.slow
def test_killed_again_and_again(whole_run, training, small_statistics, start_run, tmp_path):
    """Five kills at random moments, whatever the run does then."""
    config, rng = training(checkpoint_every=1, log_every=1), np.random.default_rng()
    for _ in range(5):
        process = start_run(config, tmp_path, pause=0.1)
        wait_for(lambda: (tmp_path / "metrics.csv").exists(), process, "start")
        time.sleep(rng.uniform(0.0, 12.0))
        process.kill()
        process.communicate()
    assert_same_bits(train(config, tmp_path, statistics=small_statistics, progress=False), whole_run[1])
    assert steps_of(tmp_path) == list(range(1, 11))


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(whole_run, small_config, start_run, training, tmp_path):
    """Half on four devices, the other half on one, against the whole on one."""
    process = start_run(training(checkpoint_every=5), tmp_path, pause=0.3, devices=4)
    wait_for(lambda: (tmp_path / "checkpoints" / "5").is_dir(), process, "checkpoint 5")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    for devices in (2, 1):
        process = start_run(small_config, tmp_path, pause=0.3 if devices == 2 else 0.0, devices=devices)
        if devices == 2:
            wait_for(lambda: len(steps_of(tmp_path)) > 4, process, "step 8")
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
        assert devices == 2 or process.returncode == 0, errors
    losses = [
        [float(row["loss"]) for row in read_metrics(folder / "metrics.csv") if row["step"] in ("4", "8", "10")]
        for folder in (whole_run[0], tmp_path)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_run_is_not_continued_with_another_configuration(whole_run, small_config, small_statistics):
    other = dataclasses.replace(small_config, model=dataclasses.replace(small_config.model, blocks=2))
    saved = (whole_run[0] / "config.json").read_text()
    with pytest.raises(UserError, match=r"model\.blocks was 1, is 2"):
        train(other, whole_run[0], statistics=small_statistics, progress=False)
    assert (whole_run[0] / "config.json").read_text() == saved


def test_a_run_is_not_continued_on_other_windows(whole_run, small_config, small_statistics, small_grid, tmp_path):
    times = np.datetime64("2001-01-01") + np.arange(30) * np.timedelta64(6, "h")
    shorter = str(tmp_path / "shorter.zarr")
    travelling_waves(small_grid, times).chunk({"time": 1}).to_zarr(shorter, zarr_format=2)
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, path=shorter))
    with pytest.raises(UserError, match=r"begun on 43 windows .* now gives 28 windows"):
        train(config, whole_run[0], statistics=small_statistics, progress=False)


def test_a_checkpoint_alone_is_enough_to_forecast(whole_run, small_store, tmp_path):
    from weather_scnn.forecasting.forecast import forecast

    alone = tmp_path / "elsewhere"
    shutil.copytree(whole_run[0] / "checkpoints", alone / "checkpoints")
    forecast(
        str(alone), small_store, str(tmp_path / "f.zarr"), init="2001-01-02:2001-01-02T06", lead="12h", progress=False
    )
    made = xr.open_zarr(tmp_path / "f.zarr", decode_timedelta=True)
    assert np.isfinite(made["geopotential"].values).all() and made.sizes["prediction_timedelta"] == 2


def test_a_checkpoint_says_all_about_its_run(whole_run, small_config, small_grid):
    from weather_scnn.version import __version__

    with Checkpoints(whole_run[0]) as checkpoints:
        about = checkpoints.about()
        content = json.loads((pathlib.Path(checkpoints.folder) / "10" / "about" / "metadata").read_text())
    assert about.config.model == small_config.model and about.cursor.step == 10
    assert about.statics.shape == (*small_grid.shape, 2) and np.std(about.statics) > 0
    assert content["grid"]["name"] == "16x8" and content["created_by"].endswith(__version__)
    np.testing.assert_allclose(content["grid"]["latitude"], small_grid.latitude)
    assert content["random"] == {"seed": 0, "step": 10} and content["format"] == 1


@pytest.mark.parametrize("found", [None, 1, 2])
def test_a_checkpoint_of_a_newer_format_is_refused_and_an_older_one_read(whole_run, small_config, tmp_path, found):
    """One before formats were counted carries none."""
    shutil.copytree(whole_run[0] / "checkpoints", tmp_path / "checkpoints")
    about = tmp_path / "checkpoints" / "10" / "about" / "metadata"
    content = json.loads(about.read_text())
    content["created_by"] = "weather-scnn 9.1"
    content.pop("format") if found is None else content.update(format=found)
    about.write_text(json.dumps(content))
    with Checkpoints(tmp_path) as checkpoints:
        if found == 2:
            with pytest.raises(
                UserError, match=r"checkpoint 10 has format 2, written by weather-scnn 9\.1.*reads up to 1"
            ):
                checkpoints.about()
        else:
            assert checkpoints.about().config.model == small_config.model


def broken_target(monkeypatch, at):
    """The loop's batches get a missing value in the last time of the second channel at these steps."""
    calls, original = {"step": 0}, placement.place

    def place(batch, mesh, length=None):
        calls["step"] += 1
        if calls["step"] in at:
            scalar = batch.scalar.copy()
            scalar[0, -1, 0, 0, 1] = np.nan
            batch = batch._replace(scalar=scalar)
        return original(batch, mesh, length)

    monkeypatch.setattr(placement, "place", place)


def test_a_loss_that_is_not_finite_names_step_variable_and_checkpoint(
    training, small_statistics, tmp_path, monkeypatch
):
    broken_target(monkeypatch, {4})
    config = training(checkpoint_every=2, stages=(Stage(6, 1),))
    with pytest.raises(UserError, match=r"step 4, for geopotential at 850 hPa; .* checkpoint is that of step 2"):
        train(config, tmp_path, statistics=small_statistics, progress=False)
    assert max(steps_of(tmp_path)) == 2


def test_such_a_step_is_skipped_and_counted_if_asked(training, small_statistics, tmp_path, monkeypatch, caplog):
    broken_target(monkeypatch, {3, 4})
    config = training(on_divergence="skip", stages=(Stage(6, 1),), checkpoint_every=3)
    with caplog.at_level(logging.WARNING):
        state = train(config, tmp_path, statistics=small_statistics, progress=False)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["skipped_steps"] for row in rows] == ["0", "1", "2", "2"] and int(state.watch.skipped) == 2
    assert "step 3 is left out" in caplog.text and "geopotential at 850 hPa" in caplog.text
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.slow
def test_a_loss_that_explodes_stops_the_run(small_config, small_statistics, tmp_path):
    wild = dataclasses.replace(
        small_config,
        optimiser=dataclasses.replace(small_config.optimiser, learning_rate=1e30, clip_norm=1e30),
        training=dataclasses.replace(small_config.training, stages=(Stage(40, 1),)),
    )
    with pytest.raises(UserError, match=r"(not finite|spiked to \S+) at step \d+.*there is no checkpoint yet"):
        train(wild, tmp_path, statistics=small_statistics, progress=False)


def test_a_folder_without_checkpoints_says_so(tmp_path):
    with pytest.raises(UserError, match="no checkpoints"):
        Checkpoints(tmp_path)


def test_another_grid_is_named(small_config, small_statistics, tmp_path):
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, grid="32x16"))
    with pytest.raises(UserError, match=r"16x8 .* 32x16"):
        train(config, tmp_path, statistics=small_statistics, progress=False)


@pytest.mark.parametrize(
    ("validation", "days", "message"),
    [("2001-01-01", (5.0,), "data.validation 2001-01-01 is too short"), ("", (0.1,), "multiples of 6h")],
)
def test_a_validation_that_cannot_be_is_refused_before_training(
    small_config, small_statistics, training, tmp_path, validation, days, message
):
    config = training(validation_days=days)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, validation=validation or "2001-01-01:2001-01-09")
    )
    with pytest.raises(UserError, match=message):
        train(config, tmp_path, statistics=small_statistics, progress=False)


@pytest.mark.slow
def test_of_two_processes_one_is_preempted_and_both_save_the_same_step(whole_run, training, small_statistics, tmp_path):
    """As on the hosts of a slice: SIGTERM reaches one, all stop after the same step, and the run goes on as one."""
    script = (
        "import jax, json, sys, time\n"
        "number, request = int(sys.argv[1]), json.loads(sys.argv[2])\n"
        "jax.distributed.initialize('127.0.0.1:19897', 2, number)\n"
        "import weather_scnn.training.loop as loop\n"
        "import weather_scnn.training.placement as placement\n"
        "from weather_scnn.training.configuration import Config\n"
        "from weather_scnn.training.preemption import Stopped\n"
        "original = placement.place\n"
        "def slowly(*arguments):\n    time.sleep(0.5)\n    return original(*arguments)\n"
        "placement.place = slowly\n"
        "try:\n"
        "    loop.train(Config.from_json(request['config']), request['workdir'], statistics=request['statistics'])\n"
        "except Stopped as stopped:\n    print(stopped, file=sys.stderr)\n    sys.exit(stopped.status)\n"
    )
    config = training(
        checkpoint_every=100, log_every=1, validation_days=(0.25,), validation_windows=4, validate_every=2
    )
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, validation="2001-01-01"))
    request = json.dumps({"config": config.to_json(), "workdir": str(tmp_path), "statistics": small_statistics})
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(number), request], env=environment, stderr=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    wait_for(lambda: max(steps_of(tmp_path), default=0) >= 2, processes[0], "step 2")
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], said
    with Checkpoints(tmp_path) as checkpoints:
        saved = checkpoints.latest
    assert 2 < saved < 10 and all(f"SIGTERM at step {saved}, which is saved" in text for text in said)
    train(config, tmp_path, statistics=small_statistics, progress=False)
    losses = [
        [
            float(row["loss"])
            for row in read_metrics(folder / "metrics.csv")
            if row["step"] in ("2", "4", "6", "8", "10")
        ]
        for folder in (whole_run[0], tmp_path)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
