"""Grids, quadrature, spin-weighted harmonic transforms and vector calculus on the sphere.

Grids need NumPy only; the names that need JAX are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from weather_scnn.sphere.grid import EARTH_RADIUS, Grid, GridKind, cell_bounds, latitude_weights

if TYPE_CHECKING:
    from weather_scnn.sphere.calculus import (
        divergence,
        gradient,
        inverse_laplacian,
        kinetic_energy_spectrum,
        laplacian,
        vorticity,
        wind_from_vorticity_divergence,
    )
    from weather_scnn.sphere.rotation import rotate_spectrum, wigner_d
    from weather_scnn.sphere.spin import SpinTransform
    from weather_scnn.sphere.transforms import HarmonicTransform, power_spectrum

_HOMES = {
    "HarmonicTransform": "transforms",
    "SpinTransform": "spin",
    "divergence": "calculus",
    "gradient": "calculus",
    "inverse_laplacian": "calculus",
    "kinetic_energy_spectrum": "calculus",
    "laplacian": "calculus",
    "power_spectrum": "transforms",
    "rotate_spectrum": "rotation",
    "vorticity": "calculus",
    "wigner_d": "rotation",
    "wind_from_vorticity_divergence": "calculus",
}

__all__ = [
    "EARTH_RADIUS",
    "Grid",
    "GridKind",
    "HarmonicTransform",
    "SpinTransform",
    "cell_bounds",
    "divergence",
    "gradient",
    "inverse_laplacian",
    "kinetic_energy_spectrum",
    "laplacian",
    "latitude_weights",
    "power_spectrum",
    "rotate_spectrum",
    "vorticity",
    "wigner_d",
    "wind_from_vorticity_divergence",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
