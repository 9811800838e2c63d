"""The ensemble of the demonstration: its forecaster with noise, fine-tuned by the almost fair CRPS in a minute or two."""

import dataclasses

from configs import demo
from weather_scnn.models import NoiseConfig
from weather_scnn.training.configuration import Config, LossConfig, OptimiserConfig, Stage


def get_config() -> Config:
    """Two members, rollouts of four steps; begins with the run that `training.start_from` names."""
    base = demo.get_config()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, noise=NoiseConfig(vector=16, fields=1)),
        loss=LossConfig(kind="crps"),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=10, average_decay=0.9),
        training=dataclasses.replace(base.training, batch_size=4, members=2, stages=(Stage(40, 4),)),
    )
