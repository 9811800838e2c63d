"""Scores against observations at stations: their places on a grid, the pass over the forecasts, the group of the file."""
