"""WeatherBench's smallest task: geopotential at 500 hPa and temperature at 850 hPa from themselves, 3 days ahead.

The inputs of its CNN and linear regression (Rasp et al. 2020). For 5 days add `--set data.step=5d`."""

import dataclasses

from configs import weatherbench1_direct
from weather_scnn.training.configuration import Config, LossConfig


def get_config() -> Config:
    """Two fields at one time, nothing else but the sine of latitude."""
    full = weatherbench1_direct.get_config()
    data = dataclasses.replace(
        full.data,
        level_variables=("geopotential@500", "temperature@850"),
        levels=(),
        surface_variables=(),
        static_variables=(),
        input_steps=1,
        input_step="",
    )
    return dataclasses.replace(full, data=data, loss=LossConfig(pressure_weights=False))
