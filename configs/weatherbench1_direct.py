"""The 117 inputs of Rasp and Thuerey (2021) for WeatherBench, direct forecasts of 3 days at 5.625°.

38 fields at t − 12 h, t − 6 h and t (geopotential, temperature, humidity and wind on 7 levels, 2 m temperature,
precipitation, incident solar radiation), with land-sea mask, orography and sine of latitude. The loss is of the three that
the benchmark scores, geopotential at 500 hPa, temperature at 850 hPa and 2 m temperature; the others are not trained, and
`--set loss.targets=` takes all. For 5 days add

    --set data.step=5d --set training.validation_days=5

and give `stats` the same step."""

from weather_scnn.models import ModelConfig
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config, LossConfig, OptimiserConfig, Stage, TrainingConfig


def get_config() -> Config:
    """Years 1979 to 2015 to train on, 2016 to watch, 2017 and 2018 to test on, as WeatherBench (Rasp et al. 2020)."""
    return Config(
        data=DataConfig(
            grid="64x32",
            level_variables=(
                "geopotential",
                "temperature",
                "u_component_of_wind",
                "v_component_of_wind",
                "specific_humidity",
            ),
            levels=(50, 250, 500, 600, 700, 850, 925),
            surface_variables=("2m_temperature", "total_precipitation_6hr", "toa_incident_solar_radiation"),
            static_variables=("land_sea_mask", "geopotential_at_surface"),
            solar=False,
            clock=False,
            step="3d",
            input_steps=3,
            input_step="6h",
            train="1979-01-01:2015-12-31",
            validation="2016-01-01:2016-12-31",
        ),
        model=ModelConfig(scalar_channels=128, vector_channels=64, blocks=8, filter_parameters=8),
        loss=LossConfig(targets=("geopotential@500", "temperature@850", "2m_temperature"), pressure_weights=False),
        optimiser=OptimiserConfig(learning_rate=1e-3, warmup_steps=1000, weight_decay=0.1, average_decay=0.999),
        training=TrainingConfig(
            batch_size=32,
            stages=(Stage(50_000, 1),),
            log_every=50,
            checkpoint_every=1000,
            keep_checkpoints=3,
            validation_days=(3.0,),
        ),
    )
