"""An ensemble for ERA5 at 64x32, from the weights of a run of `era5`: noise in the network, scored by the almost fair CRPS.

weather-scnn train --config era5_ensemble --workdir ENSEMBLE --set training.start_from=RUN --set data.path=era5.zarr
"""

import dataclasses

from configs import era5
from weather_scnn.models import NoiseConfig
from weather_scnn.training.configuration import Config, LossConfig, OptimiserConfig, Stage


def get_config() -> Config:
    """Two members on single steps, then four on rollouts of up to three days, which are scored fairly at the end."""
    base = era5.get_config()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, noise=NoiseConfig(vector=32, fields=1)),
        loss=LossConfig(kind="crps"),
        optimiser=OptimiserConfig(learning_rate=3e-4, warmup_steps=500, weight_decay=0.05, average_decay=0.999),
        training=dataclasses.replace(
            base.training,
            batch_size=16,
            members=2,
            stages=(
                Stage(10_000, 1),
                Stage(4_000, 4),
                Stage(1_000, 8, 3e-5, members=4),
                Stage(500, 12, 1e-5, members=4, alpha=1.0),
            ),
        ),
    )
