"""The paper's layers as in `configs/paper_flat.py`, pooled and upsampled spectrally by factors of two."""

import dataclasses

from configs import paper_flat
from weather_scnn.models import Resolution
from weather_scnn.training.configuration import Config


def get_config() -> Config:
    """Three resolutions, filters of 8, 6 and 3 parameters along l."""
    flat = paper_flat.get_config()
    levels = (Resolution(1, 1, 32, 32, 0, 8), Resolution(2, 2, 64, 64, 0, 6), Resolution(4, 2, 128, 128, 0, 3))
    return dataclasses.replace(flat, model=dataclasses.replace(flat.model, levels=levels))
