"""Layers of a spin-weighted spherical CNN.

`Width` needs NumPy only; the other names, which need JAX, are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weather_scnn.nn.width import Width

if TYPE_CHECKING:
    from weather_scnn.nn.activation import MagnitudeActivation, PhaseCollapse, ProductActivation, product_grid
    from weather_scnn.nn.convolution import SpectralConvolution
    from weather_scnn.nn.features import Features, Fields, Harmonics, Pair, Table, concatenate, map_fields
    from weather_scnn.nn.invariants import first_degree_vectors, rotation_invariants
    from weather_scnn.nn.noise import Noise, NoiseModulation, NoiseSource, noise_keys
    from weather_scnn.nn.normalisation import LayerScale, SpatialBatchNorm, SpectralBatchNorm
    from weather_scnn.nn.pointwise import PointwiseHead
    from weather_scnn.nn.residual import BlockOptions, ResidualBlock
    from weather_scnn.nn.small_grids import MatrixHarmonics
    from weather_scnn.nn.stack import run_blocks

_HOMES = {
    "BlockOptions": "residual",
    "Features": "features",
    "Fields": "features",
    "Harmonics": "features",
    "LayerScale": "normalisation",
    "MagnitudeActivation": "activation",
    "MatrixHarmonics": "small_grids",
    "Noise": "noise",
    "NoiseModulation": "noise",
    "NoiseSource": "noise",
    "Pair": "features",
    "PhaseCollapse": "activation",
    "PointwiseHead": "pointwise",
    "ProductActivation": "activation",
    "ResidualBlock": "residual",
    "SpatialBatchNorm": "normalisation",
    "SpectralBatchNorm": "normalisation",
    "SpectralConvolution": "convolution",
    "Table": "features",
    "concatenate": "features",
    "first_degree_vectors": "invariants",
    "map_fields": "features",
    "noise_keys": "noise",
    "product_grid": "activation",
    "rotation_invariants": "invariants",
    "run_blocks": "stack",
}

__all__ = [
    "BlockOptions",
    "Features",
    "Fields",
    "Harmonics",
    "LayerScale",
    "MagnitudeActivation",
    "MatrixHarmonics",
    "Noise",
    "NoiseModulation",
    "NoiseSource",
    "Pair",
    "PhaseCollapse",
    "PointwiseHead",
    "ProductActivation",
    "ResidualBlock",
    "SpatialBatchNorm",
    "SpectralBatchNorm",
    "SpectralConvolution",
    "Table",
    "Width",
    "concatenate",
    "first_degree_vectors",
    "map_fields",
    "noise_keys",
    "product_grid",
    "rotation_invariants",
    "run_blocks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
