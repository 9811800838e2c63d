"""Layers of a spin-weighted spherical CNN."""

from weather_scnn.nn.activation import MagnitudeActivation, PhaseCollapse
from weather_scnn.nn.convolution import SpectralConvolution
from weather_scnn.nn.features import (
    Features,
    Fields,
    Harmonics,
    Pair,
    Table,
    Width,
    concatenate,
    map_fields,
)
from weather_scnn.nn.normalisation import LayerScale, SpatialBatchNorm, SpectralBatchNorm
from weather_scnn.nn.residual import BlockOptions, ResidualBlock
from weather_scnn.nn.stack import run_blocks

__all__ = [
    "BlockOptions",
    "Features",
    "Fields",
    "Harmonics",
    "LayerScale",
    "MagnitudeActivation",
    "Pair",
    "PhaseCollapse",
    "ResidualBlock",
    "SpatialBatchNorm",
    "SpectralBatchNorm",
    "SpectralConvolution",
    "Table",
    "Width",
    "concatenate",
    "map_fields",
    "run_blocks",
]
