"""ERA5 at 64x32 for a laptop: the state of WeatherBench's headline scores and what carries it, in under 4 GB of memory."""

import dataclasses

from configs import era5
from weather_scnn.models import ModelConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage


def get_config() -> Config:
    """The fields of `configs/era5.py` on 7 levels, a network of a quarter of its width, and batches of 8."""
    full = era5.get_config()
    return dataclasses.replace(
        full,
        data=dataclasses.replace(full.data, levels=(50, 250, 500, 600, 700, 850, 925), cache_gigabytes=1.0),
        model=ModelConfig(scalar_channels=64, vector_channels=32, blocks=4, filter_parameters=8),
        optimiser=OptimiserConfig(learning_rate=2e-3, warmup_steps=500, weight_decay=0.05, average_decay=0.999),
        training=dataclasses.replace(
            full.training, batch_size=8, stages=(Stage(20_000, 1), Stage(4_000, 2)), validation_windows=16
        ),
    )
