"""A trained run that the tests of forecasts share."""

import pytest

from weather_scnn.training.loop import train


@pytest.fixture(scope="session")
def run(small_config, small_statistics, tmp_path_factory) -> str:
    """The workdir of ten steps of training, with a checkpoint at 5 and at 10."""
    workdir = tmp_path_factory.mktemp("run")
    train(small_config, workdir, statistics=small_statistics, progress=False)
    return str(workdir)
