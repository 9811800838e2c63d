"""A small forecaster for the idealised nature run: trains in minutes on two CPU cores."""

from weather_scnn.models import CorrectorConfig, ModelConfig
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """Single steps at 64x32, as rollouts are left to the ensemble; the dynamical core's spectrum ends at degree 21."""
    return Config(
        data=DataConfig(
            grid="64x32",
            level_variables=(
                "geopotential",
                "temperature",
                "u_component_of_wind",
                "v_component_of_wind",
                "vertical_velocity",
            ),
            levels=(250, 500, 700, 850),
            surface_variables=("surface_pressure", "2m_temperature"),
            static_variables=("geopotential_at_surface", "land_sea_mask"),
        ),
        model=ModelConfig(
            scalar_channels=32,
            vector_channels=16,
            blocks=3,
            filter_parameters=8,
            max_degree=22,
            # The mass of the air, constant to 0.03 Pa in the nature run, was 30 Pa low after five days without.
            correctors=CorrectorConfig(means=("surface_pressure",)),
        ),
        optimiser=OptimiserConfig(learning_rate=3e-3, warmup_steps=50),
        training=TrainingConfig(
            batch_size=8,
            stages=(Stage(700, 1),),
            remat="none",  # a few steps of so small a network fit into memory, and nothing is computed twice
            log_every=10,
            checkpoint_every=200,
            validate_every=350,  # half a minute of two cores less than after every checkpoint
            validation_windows=16,
        ),
    )
