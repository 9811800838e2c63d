"""The network that a configuration describes."""

from collections.abc import Sequence

from flax import nnx

from weather_scnn.models.configuration import ModelConfig
from weather_scnn.models.forecaster import Forecaster
from weather_scnn.models.planar import PlanarForecaster
from weather_scnn.nn.width import Width
from weather_scnn.sphere import Grid


def make_forecaster(
    config: ModelConfig,
    grid: Grid,
    *,
    state: Width,
    inputs: int,
    extras: int,
    held: Sequence[int] = (),
    step_hours: float = 6.0,
    rngs: nnx.Rngs,
) -> Forecaster | PlanarForecaster:
    """The network of a configuration, freshly initialised; see `Forecaster` for the arguments."""
    if config.kind == "planar":
        return PlanarForecaster(config, grid, state=state, inputs=inputs, extras=extras, held=held, rngs=rngs)
    return Forecaster(
        config, grid, state=state, inputs=inputs, extras=extras, held=held, step_hours=step_hours, rngs=rngs
    )
