"""Machine-learned weather forecasts with spin-weighted spherical CNNs.

The names below are the Python API; each is imported when it is first used, so that this package imports at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weather_scnn.errors import UserError
from weather_scnn.version import __version__

if TYPE_CHECKING:
    from weather_scnn import sphere, xr
    from weather_scnn.api import climatology, load_forecaster, open_dataset, regrid, score, statistics
    from weather_scnn.sphere import Grid, HarmonicTransform

_HOMES = {
    "Grid": "weather_scnn.sphere",
    "HarmonicTransform": "weather_scnn.sphere",
    "climatology": "weather_scnn.api",
    "load_forecaster": "weather_scnn.api",
    "open_dataset": "weather_scnn.api",
    "regrid": "weather_scnn.api",
    "score": "weather_scnn.api",
    "statistics": "weather_scnn.api",
}
_MODULES = ("sphere", "xr")

__all__ = [
    "Grid",
    "HarmonicTransform",
    "UserError",
    "__version__",
    "climatology",
    "load_forecaster",
    "open_dataset",
    "regrid",
    "score",
    "sphere",
    "statistics",
    "xr",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"weather_scnn.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
