"""The forecaster: state, static fields and forcings in, standardised increment of the next step out."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.nn import Fields, Harmonics, ResidualBlock, SpectralConvolution, Width
from weather_scnn.sphere import Grid, HarmonicTransform


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape of the network.

    Attributes:
        scalar_channels: spin-0 features.
        vector_channels: spin-1 features.
        blocks: residual blocks.
        filter_parameters: free values of each filter along l; 0 gives one a degree.
        max_degree: largest degree of the features; 0 takes all that the grid resolves.
        gate: multiply spin-1 features by a factor that depends on the spin-0 features.
        mirror_symmetric: forbid what a mirror image of the planet would not do.
    """

    scalar_channels: int = 32
    vector_channels: int = 16
    blocks: int = 4
    filter_parameters: int = 8
    max_degree: int = 0
    gate: bool = True
    mirror_symmetric: bool = False

    def __post_init__(self) -> None:
        for name in ("scalar_channels", "vector_channels", "blocks"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}", remedy="set it to at least 1")


class Forecaster(nnx.Module):
    """A flat spin-weighted spherical CNN that predicts one step.

    Args:
        config: shape of the network.
        grid: grid of the fields.
        state: channels of the state.
        inputs: number of input times.
        extras: number of static and forcing channels together, all spin 0.
        rngs: source of the initial values.
    """

    def __init__(self, config: ModelConfig, grid: Grid, *, state: Width, inputs: int, extras: int, rngs: nnx.Rngs):
        limit = min(grid.maximum_degree, grid.maximum_order)
        if config.max_degree > grid.maximum_degree:
            raise UserError(
                f"model.max_degree is {config.max_degree} but a grid of {grid.name} resolves {grid.maximum_degree}",
                remedy="lower model.max_degree or train on a finer grid",
            )
        self.state, self.config = state, config
        harmonics = Harmonics(HarmonicTransform.create(grid, config.max_degree or limit))
        hidden = Width(config.scalar_channels, config.vector_channels)
        given = Width(state.scalars * inputs + extras, state.vectors * inputs)
        parameters = config.filter_parameters or None
        self.harmonics = harmonics

        def convolution(source: Width, target: Width, scale: float) -> SpectralConvolution:
            return SpectralConvolution(
                source,
                target,
                harmonics.max_degree,
                parameters=parameters,
                mirror_symmetric=config.mirror_symmetric,
                scale=scale,
                rngs=rngs,
            )

        self.encoder = convolution(given, hidden, 1.0)
        self.blocks = nnx.List(
            [
                ResidualBlock(
                    hidden,
                    harmonics,
                    filter_parameters=parameters,
                    gate=config.gate,
                    mirror_symmetric=config.mirror_symmetric,
                    rngs=rngs,
                )
                for _ in range(config.blocks)
            ]
        )
        # A small decoder starts the forecast near persistence.
        self.decoder = convolution(hidden, state, 0.01)

    def __call__(self, history: Fields, extras: Float[Array, "b y x e"], *, training: bool = False) -> Fields:
        """Predicts the standardised increment.

        Args:
            history: standardised states at the input times, oldest first, (b, t, y, x, c).
            extras: static fields and forcings, standardised, (b, y, x, e).
            training: whether batch statistics are used and updated.

        Returns:
            Increments in units of their standard deviation, (b, y, x, c).
        """
        scalar, eastward, northward = (
            jnp.moveaxis(array, 1, -2).reshape(*array.shape[:1], *array.shape[2:4], -1) for array in history
        )
        fields = Fields(jnp.concatenate([scalar, extras], axis=-1), eastward, northward)
        spectrum = self.encoder(self.harmonics.analysis(fields))
        for block in self.blocks:
            spectrum = block(spectrum, training=training)
        return self.harmonics.synthesis(self.decoder(spectrum), self.state)
