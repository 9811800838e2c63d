"""Z500 and T850 alone, on some weeks of analyses at 5.625°: WeatherBench's two headline fields, from a minute of data."""

from weather_scnn.models import ModelConfig
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """Two fields in and out, with terrain, land and sun.

    Two input times: one field of Z500 does not say where the weather goes, its change over six hours does. The features
    have a finer grid than the data, since a third of the change of T850 is in the points and beyond the degrees that
    32 rows determine; filters are constant beyond degree 30, so that weights of a network of that degree serve. Filters of
    four values along l are local, as eight are not: of so few days, wide ones learn the days themselves. The mirror
    at the equator doubles what so short a record shows of either hemisphere. Begin with weights from a nature run
    (`training.start_from`) where there is one; see benchmarks/real_weather.py.
    """
    return Config(
        data=DataConfig(
            grid="64x32",
            level_variables=("geopotential@500", "temperature@850"),
            static_variables=("geopotential_at_surface", "land_sea_mask"),
            # So few weeks tell nothing of the year.
            clock=False,
            input_steps=2,
        ),
        model=ModelConfig(
            scalar_channels=34,
            vector_channels=16,
            blocks=3,
            filter_parameters=4,
            filter_degree=30,
            feature_grid="96x48",
            max_degree=47,
            pointwise=16,
        ),
        optimiser=OptimiserConfig(learning_rate=2e-3, warmup_steps=20, weight_decay=0.1, average_decay=0.97),
        training=TrainingConfig(
            batch_size=8,
            augment=("mirror",),
            stages=(Stage(320, 1), Stage(60, 2), Stage(40, 4, 3e-4), Stage(24, 8, 2e-4)),
            checkpoint_every=100,
        ),
    )
