"""The network that a configuration describes."""

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
    step_hours: float = 6.0,
    rngs: nnx.Rngs,
) -> Forecaster | PlanarForecaster:
    """The network of a configuration, freshly initialised; see `Forecaster` for the arguments."""
    if config.kind == "planar":
        return PlanarForecaster(config, grid, state=state, inputs=inputs, extras=extras, rngs=rngs)
    return Forecaster(config, grid, state=state, inputs=inputs, extras=extras, step_hours=step_hours, rngs=rngs)
