"""Machine-learned weather forecasts with spin-weighted spherical CNNs."""

from weather_scnn.version import __version__

__all__ = ["__version__"]
