"""Runs that tests of the loop share."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, time
import weather_scnn.training.loop as loop
import weather_scnn.training.placement as placement
from weather_scnn.training.configuration import Config
request = json.loads(sys.argv[1])
original = placement.place
def slowly(*arguments):
    time.sleep(request["pause"])
    return original(*arguments)
placement.place = slowly
loop.train(Config.from_json(request["config"]), request["workdir"], statistics=request["statistics"], progress=False)
"""


@pytest.fixture(scope="session")
def start_run(small_statistics):
    """Starts a run in a process of its own; `pause` seconds a step make it possible to kill it at a chosen one."""

    def start(config, workdir, *, pause=0.0, devices=1):
        request = {
            "config": config.to_json(), "workdir": str(workdir), "statistics": small_statistics, "pause": pause
        }  # fmt: skip
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(request)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.fixture(scope="session")
def training(small_config):
    """`small_config` with other settings of its section `training`."""

    def changed(**settings):
        return dataclasses.replace(small_config, training=dataclasses.replace(small_config.training, **settings))

    return changed
