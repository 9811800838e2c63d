"""The door for data: catalogue, opening and checking of stores, statistics, forcings, windows, loader."""
