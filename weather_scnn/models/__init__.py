"""The forecaster, and a planar CNN of the same size to compare with."""
