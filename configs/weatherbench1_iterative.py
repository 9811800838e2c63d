"""The 117 inputs of `configs/weatherbench1_direct.py`, forecast 6 hours at a time and rolled out."""

import dataclasses

from configs import weatherbench1_direct
from weather_scnn.training.configuration import Config, LossConfig, Stage


def get_config() -> Config:
    """Rollouts of 1, 2, then 4 steps of 6 hours; all 38 fields count, since each step starts from all of them."""
    direct = weatherbench1_direct.get_config()
    return dataclasses.replace(
        direct,
        data=dataclasses.replace(direct.data, step="6h", input_step=""),
        loss=LossConfig(),
        training=dataclasses.replace(
            direct.training,
            stages=(Stage(40_000, 1), Stage(8_000, 2), Stage(4_000, 4)),
            validation_days=(1.0, 3.0, 5.0),
        ),
    )
