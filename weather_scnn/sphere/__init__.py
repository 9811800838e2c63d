"""Grids, quadrature, spin-weighted harmonic transforms and vector calculus on the sphere."""
