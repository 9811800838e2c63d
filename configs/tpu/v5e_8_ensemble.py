"""The ensemble of `v5e_8` on one host of eight TPU v5e chips: four windows at a time, their members over two chips each.

weather-scnn train --config tpu/v5e_8_ensemble --workdir ENSEMBLE --set training.start_from=RUN --set data.path=gs://…
"""

import dataclasses

from configs.tpu import v5e_8
from weather_scnn.models import NoiseConfig
from weather_scnn.training.configuration import Config, LossConfig, MeshConfig, OptimiserConfig, Stage


def get_config() -> Config:
    """A member a chip; rollouts up to 4 steps of 6 hours."""
    base = v5e_8.get_config()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, noise=NoiseConfig(vector=32, fields=1)),
        loss=LossConfig(kind="crps"),
        optimiser=OptimiserConfig(learning_rate=3e-4, warmup_steps=500, weight_decay=0.05, average_decay=0.999),
        training=dataclasses.replace(
            base.training,
            batch_size=4,
            members=2,
            mesh=MeshConfig(ensemble=2),
            stages=(Stage(20_000, 1), Stage(5_000, 2, 3e-5), Stage(2_000, 4, 3e-5)),
        ),
    )
