"""The ensemble of `v5e_8` on one host of eight TPU v5e chips: four windows at a time, their members over two chips each.

weather-scnn train --config tpu/v5e_8_ensemble --workdir ENSEMBLE --set training.start_from=RUN --set data.path=gs://…
"""

import dataclasses

from configs import era5_ensemble
from configs.tpu import v5e_8
from weather_scnn.training.configuration import Config, MeshConfig, Stage


def get_config() -> Config:
    """Noise, score and optimiser of `era5_ensemble`; a member a chip; rollouts up to 4 steps of 6 hours."""
    base, ensemble = v5e_8.get_config(), era5_ensemble.get_config()
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, noise=ensemble.model.noise),
        loss=ensemble.loss,
        optimiser=ensemble.optimiser,
        training=dataclasses.replace(
            base.training,
            batch_size=4,
            members=2,
            mesh=MeshConfig(ensemble=2),
            stages=(Stage(20_000, 1), Stage(5_000, 2, 3e-5), Stage(2_000, 4, 3e-5)),
        ),
    )
