"""Tropical cyclones in forecasts and truth: where they are, their tracks, and how far forecasts are off."""
