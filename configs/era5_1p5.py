"""ERA5 at 1.5° (240x121, as WeatherBench 2 stores it), on a pyramid of three grids."""

import dataclasses

from configs import era5
from weather_scnn.models import ModelConfig, Resolution
from weather_scnn.training.configuration import Config, Stage


def get_config() -> Config:
    """The state of `configs/era5.py`; most of the blocks work at 6°, the finer ones carry what 6° does not resolve."""
    flat = era5.get_config()
    return dataclasses.replace(
        flat,
        data=dataclasses.replace(flat.data, grid="240x121", poles=True),
        model=ModelConfig(
            levels=(Resolution(1, 1, 64, 32), Resolution(2, 2, 128, 64), Resolution(4, 6, 256, 128)),
            activations="bfloat16",
            remat="block",
        ),
        training=dataclasses.replace(
            flat.training, batch_size=32, stages=(Stage(100_000, 1), Stage(20_000, 2), Stage(10_000, 4))
        ),
    )
