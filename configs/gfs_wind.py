"""10 m wind alone, on a few weeks of NOAA GFS analyses: a pure spin-1 state, small enough for a laptop."""

from weather_scnn.models import ModelConfig
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """A few hundred steps; so short a record is soon learned by heart, hence the small network."""
    return Config(
        data=DataConfig(grid="64x32", surface_variables=("10m_u_component_of_wind", "10m_v_component_of_wind")),
        model=ModelConfig(scalar_channels=16, vector_channels=16, blocks=2, filter_parameters=6, max_degree=24),
        optimiser=OptimiserConfig(learning_rate=2e-3, warmup_steps=20, weight_decay=0.1, average_decay=0.98),
        training=TrainingConfig(batch_size=8, stages=(Stage(250, 1), Stage(50, 2)), checkpoint_every=100),
    )
