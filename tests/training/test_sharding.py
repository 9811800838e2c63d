"""The same training on one device, on a mesh of eight, and on two processes of four; what each host reads."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from weather_scnn.errors import UserError
from weather_scnn.training import sharding
from weather_scnn.training.configuration import Config, MeshConfig, OptimiserConfig, Stage, TrainingConfig
from weather_scnn.training.log import read_metrics
from weather_scnn.training.loop import train

FILE = """
import json
from weather_scnn.training.configuration import Config
def get_config():
    return Config.from_json(json.loads({text!r}))
"""


def steps(config: Config, *stages: Stage, model: int = 1, **training) -> Config:
    return dataclasses.replace(
        config,
        optimiser=OptimiserConfig(learning_rate=1e-2, warmup_steps=2),
        training=TrainingConfig(
            batch_size=8,
            stages=stages,
            mesh=MeshConfig(model),
            log_every=1,
            checkpoint_every=3,
            keep_checkpoints=10,
            input_noise=0.05,
            input_errors=0.5,
            **training,
        ),
    )


def start(config: Config, folder, statistics: str, devices: int, *, processes: int = 1) -> list[subprocess.Popen]:
    """`weather-scnn train` on so many virtual devices a process."""
    folder.mkdir(exist_ok=True)
    file = folder.with_suffix(".py")
    file.write_text(FILE.format(text=json.dumps(config.to_json())))
    command = [sys.executable, "-m", "weather_scnn.cli", "train", "--config", str(file), "--workdir", str(folder)]
    command += ["--set", f"data.statistics={statistics}"]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        command.append("--distributed")
        environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(processes)}
    return [
        subprocess.Popen(
            command,
            env=environment | {"JAX_PROCESS_ID": str(number)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]


def finish(running: list[subprocess.Popen]) -> None:
    for process in running:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-3000:]


def losses(folder) -> np.ndarray:
    return np.array([float(row["loss"]) for row in read_metrics(folder / "metrics.csv")])


@pytest.mark.slow
def test_a_mesh_of_eight_learns_as_one_device_and_one_device_goes_on_from_its_checkpoint(
    small_config, small_statistics, tmp_path
):
    whole, resumed, alone = tmp_path / "mesh", tmp_path / "resumed", tmp_path / "alone"
    running = start(steps(small_config, Stage(5, 1), model=2), whole, small_statistics, 8)
    train(steps(small_config, Stage(5, 1)), alone, statistics=small_statistics, progress=False)
    finish(running)
    np.testing.assert_allclose(losses(whole), losses(alone), rtol=1e-5)
    assert len(losses(alone)) == 5 and losses(alone)[-1] < losses(alone)[0]
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints" / "5")
    train(steps(small_config, Stage(5, 1)), resumed, statistics=small_statistics, progress=False)
    np.testing.assert_allclose(losses(resumed), losses(alone), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_of_four_devices_and_eight_along_data_learn_as_one_device(
    small_config, small_statistics, tmp_path
):
    stages = Stage(6, 1), Stage(4, 2, 1e-3)
    alone = tmp_path / "alone"
    train(steps(small_config, *stages), alone, statistics=small_statistics, progress=False)
    for name, model, devices, processes in (("hosts", 1, 4, 2), ("hosts-and-model", 2, 4, 2), ("data", 1, 8, 1)):
        folder = tmp_path / name
        finish(start(steps(small_config, *stages, model=model), folder, small_statistics, devices, processes=processes))
        np.testing.assert_allclose(losses(folder), losses(alone), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("model", "batch", "accumulation", "devices", "message"),
    [
        (3, 8, 1, 8, "does not divide 8 devices; set it to one of 1, 2, 4, 8"),
        (1, 12, 1, 8, "set training.batch_size to 8 or 16"),
        (1, 4, 1, 8, "set training.batch_size to 8,"),
        (2, 8, 4, 8, "times training.accumulation 4"),
    ],
)
def test_a_mesh_that_does_not_divide_names_what_would(model, batch, accumulation, devices, message):
    training = TrainingConfig(batch_size=batch, accumulation=accumulation, mesh=MeshConfig(model))
    with pytest.raises(UserError, match=message):
        sharding.mesh_shape(training, devices)


@pytest.mark.parametrize(
    ("rows", "process", "share"),
    [
        ([[0], [0], [1], [1]], 1, (1, 2)),  # two hosts, batch divided
        ([[0, 0], [1, 1], [2, 2], [3, 3]], 2, (2, 4)),  # four hosts of one sample each
        ([[0, 1], [0, 1]], 1, (0, 1)),  # hosts that share their samples read the same
        ([[0, 1], [2, 3]], 3, (1, 2)),
    ],
)
def test_each_host_reads_the_samples_of_its_devices(rows, process, share, monkeypatch, untyped):
    devices = np.array([[types.SimpleNamespace(process_index=host) for host in row] for row in rows])
    mesh = types.SimpleNamespace(devices=devices, shape={"data": len(rows), "model": len(rows[0])})
    monkeypatch.setattr(jax, "process_index", lambda: process)
    assert sharding.host_share(mesh) == share


def test_hosts_with_scattered_samples_are_refused(monkeypatch, untyped):
    devices = np.array([[types.SimpleNamespace(process_index=host)] for host in (0, 1, 0, 1)])
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    with pytest.raises(UserError, match="no even part"):
        sharding.host_share(types.SimpleNamespace(devices=devices, shape={"data": 4, "model": 1}))
