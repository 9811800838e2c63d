"""ERA5 at its own 0.25° (1440x721) on a pyramid of four grids: 0.25°, 0.75°, 1.5° and 3°."""

import dataclasses

from configs import era5
from weather_scnn.models import ModelConfig, Resolution
from weather_scnn.training.configuration import Config, Stage


def get_config() -> Config:
    """The state of `configs/era5.py`. The finest grid has no block: its spectra pass by, mixed linearly."""
    flat = era5.get_config()
    return dataclasses.replace(
        flat,
        data=dataclasses.replace(flat.data, grid="1440x721", poles=True, shuffle_windows=2000),
        model=ModelConfig(
            levels=(
                Resolution(1, 0, 32, 16),
                Resolution(3, 1, 64, 32),
                Resolution(6, 2, 128, 64),
                Resolution(12, 8, 256, 128),
            ),
            activations="bfloat16",
            remat="block",
        ),
        training=dataclasses.replace(
            flat.training, batch_size=32, stages=(Stage(150_000, 1), Stage(20_000, 2), Stage(10_000, 4))
        ),
    )
