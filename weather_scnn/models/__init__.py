"""The forecaster."""

from weather_scnn.models.forecaster import Forecaster, ModelConfig

__all__ = ["Forecaster", "ModelConfig"]
