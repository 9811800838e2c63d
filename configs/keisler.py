"""The protocol of Keisler (2022) as the spherical-CNN paper has it: 78 channels in, 6-hourly increments out.

Inputs besides: incident solar radiation, land-sea mask, orography, sine of latitude, sine and cosine of longitude, and
sine and cosine of the year's and the day's phase, 10 channels. Statistics from the training years alone; validation
1991, 2004 and 2017 and test 2012, 2016 and 2020 are left out of them by giving periods before and after.
"""

from weather_scnn.models import ModelConfig
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """Rollouts of 4, 8, then 12 steps after one-step training."""
    return Config(
        data=DataConfig(
            grid="64x32",
            level_variables=(
                "geopotential",
                "specific_humidity",
                "temperature",
                "u_component_of_wind",
                "v_component_of_wind",
                "vertical_velocity",
            ),
            levels=(50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000),
            static_variables=("land_sea_mask", "geopotential_at_surface"),
            coordinates=("sin_latitude", "sin_longitude", "cos_longitude"),
            forcing_times=1,
        ),
        model=ModelConfig(scalar_channels=256, vector_channels=128, blocks=8, filter_parameters=8),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=1000, weight_decay=0.05, average_decay=0.999),
        training=TrainingConfig(
            batch_size=32,
            stages=(Stage(60_000, 1), Stage(10_000, 4), Stage(5_000, 8), Stage(2_500, 12)),
            log_every=50,
            checkpoint_every=1000,
            keep_checkpoints=3,
        ),
    )
