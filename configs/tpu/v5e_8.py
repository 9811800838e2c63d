"""ERA5 at 240x121 (1.5°) on one host of eight TPU v5e chips, 16 GB each."""

from weather_scnn.models import ModelConfig, Resolution
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """One window a chip; rollouts up to 4 steps of 6 hours."""
    return Config(
        data=DataConfig(
            grid="240x121",
            poles=True,
            level_variables=(
                "geopotential",
                "temperature",
                "specific_humidity",
                "u_component_of_wind",
                "v_component_of_wind",
            ),
            levels=(50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000),
            surface_variables=(
                "2m_temperature",
                "mean_sea_level_pressure",
                "10m_u_component_of_wind",
                "10m_v_component_of_wind",
            ),
            static_variables=("geopotential_at_surface", "land_sea_mask"),
            train="1979-01-01:2017-12-31",
            validation="2018-01-01:2018-12-31",
            # The period takes 470 GB and is read window by window; this holds decoded chunks.
            cache_gigabytes=16,
            prefetch=8,
            readers=8,
        ),
        model=ModelConfig(
            levels=(Resolution(1, 1, 64, 32, 0, 8), Resolution(2, 2, 128, 64, 0, 8), Resolution(4, 4, 256, 128, 0, 6)),
            remat="block",
            activations="bfloat16",
        ),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=1000, weight_decay=0.05, average_decay=0.999),
        training=TrainingConfig(
            batch_size=8,
            stages=(Stage(150_000, 1), Stage(10_000, 2, 3e-5), Stage(5_000, 4, 3e-5)),
            log_every=50,
            checkpoint_every=500,
            keep_checkpoints=3,
            validate_every=2000,
            validation_windows=64,
        ),
    )
