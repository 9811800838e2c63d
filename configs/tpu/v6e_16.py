"""As `v5e_8`, on four hosts of four TPU v6e chips, 32 GB each: twice the batch, rollouts up to 8 steps."""

import dataclasses

from configs.tpu import v5e_8
from weather_scnn.training.configuration import Config, Stage


def get_config() -> Config:
    """One window a chip."""
    base = v5e_8.get_config()
    stages = (Stage(100_000, 1), Stage(10_000, 2, 3e-5), Stage(5_000, 4, 3e-5), Stage(2_500, 8, 3e-5))
    return dataclasses.replace(base, training=dataclasses.replace(base.training, batch_size=16, stages=stages))
