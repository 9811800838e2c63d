"""As `v5e_8` with a wider network, on eight hosts of four TPU v5p chips, 95 GB each: rollouts up to 12 steps.

A v5p-64 has 64 cores on 32 chips, and JAX sees one device a chip.
"""

import dataclasses

from configs.tpu import v5e_8
from weather_scnn.models import Resolution
from weather_scnn.training.configuration import Config, Stage


def get_config() -> Config:
    """Two windows a chip."""
    base = v5e_8.get_config()
    levels = (Resolution(1, 1, 128, 64, 0, 8), Resolution(2, 2, 256, 128, 0, 8), Resolution(4, 6, 512, 256, 0, 6))
    stages = (
        Stage(60_000, 1),
        Stage(10_000, 2, 3e-5),
        Stage(5_000, 4, 3e-5),
        Stage(2_500, 8, 3e-5),
        Stage(1_000, 12, 3e-5),
    )
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, levels=levels),
        training=dataclasses.replace(base.training, batch_size=64, stages=stages),
    )
