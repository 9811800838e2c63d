"""Grids, quadrature, spin-weighted harmonic transforms and vector calculus on the sphere."""

from weather_scnn.sphere.grid import Grid, GridKind, cell_bounds, latitude_weights

__all__ = ["Grid", "GridKind", "cell_bounds", "latitude_weights"]
