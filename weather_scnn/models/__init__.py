"""The forecaster, and a planar CNN to compare it with.

Configurations need no JAX; the networks are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weather_scnn.models.configuration import CorrectorConfig, ModelConfig, NoiseConfig, Resolution

if TYPE_CHECKING:
    from weather_scnn.models.forecaster import Forecaster
    from weather_scnn.models.making import make_forecaster
    from weather_scnn.models.planar import PlanarForecaster, planar_like

_HOMES = {
    "Forecaster": "forecaster",
    "PlanarForecaster": "planar",
    "make_forecaster": "making",
    "planar_like": "planar",
}

__all__ = [
    "CorrectorConfig",
    "Forecaster",
    "ModelConfig",
    "NoiseConfig",
    "PlanarForecaster",
    "Resolution",
    "make_forecaster",
    "planar_like",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
