"""WeatherBench's smallest task, geopotential at 500 hPa and temperature at 850 hPa, 6 hours at a time."""

import dataclasses

from configs import weatherbench1_iterative, weatherbench1_two_direct
from weather_scnn.training.configuration import Config


def get_config() -> Config:
    """The two fields, rolled out."""
    data = weatherbench1_two_direct.get_config().data
    return dataclasses.replace(weatherbench1_iterative.get_config(), data=dataclasses.replace(data, step="6h"))
