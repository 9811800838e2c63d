"""From one grid and one set of levels to another: weights, their application, spherical harmonics, levels."""
