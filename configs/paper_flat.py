"""The layers of Scaling Spherical CNNs (Esteves, Slotine and Makadia, ICML 2023) on ERA5 at 64x32, one resolution.

Blocks, spins and non-linearities are those of the authors' public layers: spins (0, 1) with as many channels each,
filters of few parameters along l, spectral batch norm, phase collapse within the branch and again after the skip, a
branch that starts at zero. Left out are their defects: no bias on the skip, a projection only where channels differ,
running moments of fixed shape, the wind's handedness; and features are real, so they are twice as many for a complex
network of this width. Ablations are one setting each:

    --set model.nonlinearity=magnitude      against phase collapse
    --set model.normalisation=spatial       against the spectral batch norm
    --set model.residual=false
    --set model.vector_channels=0           spin 0 alone, u and v as two scalars
    --set model.tensor_channels=64          spins 0, 1 and 2
"""

import dataclasses

from configs import keisler
from weather_scnn.models import ModelConfig
from weather_scnn.training.configuration import Config


def get_config() -> Config:
    """Inputs, targets and training of `configs/keisler.py`, with the paper's layers."""
    return dataclasses.replace(
        keisler.get_config(),
        model=ModelConfig(
            scalar_channels=64,
            vector_channels=64,
            blocks=6,
            filter_parameters=6,
            gate=False,
            activate_after_skip=True,
        ),
    )
