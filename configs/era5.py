"""ERA5 at 64x32 on WeatherBench 2's 13 levels: the state of Keisler (2022), without its vertical velocity."""

from weather_scnn.models import ModelConfig
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """Rollouts of 1, 2, then 4 steps of 6 hours."""
    return Config(
        data=DataConfig(
            grid="64x32",
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
        ),
        model=ModelConfig(scalar_channels=256, vector_channels=128, blocks=8, filter_parameters=8),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=1000, weight_decay=0.05, average_decay=0.999),
        training=TrainingConfig(
            batch_size=32,
            stages=(Stage(60_000, 1), Stage(10_000, 2), Stage(5_000, 4)),
            log_every=50,
            checkpoint_every=1000,
            keep_checkpoints=3,
        ),
    )
