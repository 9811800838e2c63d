"""Layers of a spin-weighted spherical CNN."""

from weather_scnn.nn.activation import PhaseCollapse
from weather_scnn.nn.convolution import SpectralConvolution
from weather_scnn.nn.features import Fields, Harmonics, Table, Width, concatenate, map_fields
from weather_scnn.nn.normalisation import SpectralBatchNorm
from weather_scnn.nn.residual import ResidualBlock

__all__ = [
    "Fields",
    "Harmonics",
    "PhaseCollapse",
    "ResidualBlock",
    "SpectralBatchNorm",
    "SpectralConvolution",
    "Table",
    "Width",
    "concatenate",
    "map_fields",
]
