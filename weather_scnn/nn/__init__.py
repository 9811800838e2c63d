"""Layers of a spin-weighted spherical CNN."""
