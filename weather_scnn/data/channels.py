"""The old name of `weather_scnn.training.channels`."""

import warnings

from weather_scnn.training.channels import Channels, DataConfig

__all__ = ["Channels", "DataConfig"]

warnings.warn(
    "weather_scnn.data.channels is now weather_scnn.training.channels; change the import before weather_scnn 0.3",
    FutureWarning,
    stacklevel=2,
)
