"""A trained run that the tests of forecasts share."""

import pytest

from weather_scnn.forecasting import forecast as module
from weather_scnn.training.loop import train


@pytest.fixture(scope="session")
def run(small_config, small_statistics, tmp_path_factory) -> str:
    """The workdir of ten steps of training, with a checkpoint at 5 and at 10."""
    workdir = tmp_path_factory.mktemp("run")
    train(small_config, workdir, statistics=small_statistics, progress=False)
    return str(workdir)


@pytest.fixture
def interrupted_at(monkeypatch):
    """Interrupts forecasts once, at a work item by its number from 1; gives a list that grows with every work item."""

    def interrupt(number: int) -> list[int]:
        calls, original = [], module._Job.run

        def dies(*arguments):
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt
            original(*arguments)

        monkeypatch.setattr(module._Job, "run", dies)
        return calls

    return interrupt
