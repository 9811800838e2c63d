"""An ordinary CNN on the latitude–longitude grid, with the inputs and outputs of the spherical one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from weather_scnn.models.configuration import ModelConfig
from weather_scnn.models.forecaster import as_scalars, from_scalars, pack
from weather_scnn.nn import Fields, Width
from weather_scnn.sphere import Grid
from weather_scnn.sphere.products import EXACT, check_precision


class PeriodicConvolution(nnx.Module):
    """Convolution on the grid, periodic in longitude; rows beyond a pole repeat the last one.

    The kernel has shape (rows, columns, in, out).

    Args:
        inputs, outputs: channels.
        size: rows and columns of the filter, odd.
        scale: standard deviation of the outputs at initialisation, for inputs of unit variance.
        precision: of products, see `weather_scnn.sphere.products`; convolutions have no three passes, and take more.
        rngs: source of the initial values.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        scale: float = 1.0,
        precision: str = "high",
        rngs: nnx.Rngs,
    ):
        deviation = scale / (size * size * inputs) ** 0.5
        self.kernel = nnx.Param(deviation * rngs.params.normal((size, size, inputs, outputs)))
        self.precision = jax.lax.Precision.DEFAULT if check_precision(precision) == "default" else EXACT

    def __call__(self, field: Float[Array, "b y x c"]) -> Float[Array, "b y x d"]:
        kernel = self.kernel[...].astype(field.dtype)
        margin = kernel.shape[0] // 2
        field = jnp.pad(field, [(0, 0), (0, 0), (margin, margin), (0, 0)], mode="wrap")
        field = jnp.pad(field, [(0, 0), (margin, margin), (0, 0), (0, 0)], mode="edge")
        return jax.lax.platform_dependent(
            field, kernel, cpu=_by_product, default=functools.partial(_by_convolution, precision=self.precision)
        )


def _by_convolution(
    field: Float[Array, "b v w c"], kernel: Float[Array, "i j c d"], precision: jax.lax.Precision | None = None
) -> Float[Array, "b y x d"]:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(field, kernel, (1, 1), "VALID", dimension_numbers=numbers, precision=precision)


def _by_product(field: Float[Array, "b v w c"], kernel: Float[Array, "i j c d"]) -> Float[Array, "b y x d"]:
    """One matrix product: within a loop, as rollouts are, XLA's convolution on CPUs was measured 50 times slower."""
    size = kernel.shape[0]
    y, x = field.shape[1] - size + 1, field.shape[2] - size + 1
    shifted = [field[:, i : i + y, j : j + x] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


class PlanarBlock(nnx.Module):
    """convolution → batch norm → ReLU → convolution → batch norm, added to the input; starts as nothing.

    Args:
        width: channels.
        size: of the filters.
        precision: see `PeriodicConvolution`.
        rngs: source of the initial values.
    """

    def __init__(self, width: int, size: int, *, precision: str = "high", rngs: nnx.Rngs):
        self.first = PeriodicConvolution(width, width, size, precision=precision, rngs=rngs)
        self.first_norm = nnx.BatchNorm(width, momentum=0.98, rngs=rngs)
        self.second = PeriodicConvolution(width, width, size, precision=precision, rngs=rngs)
        self.second_norm = nnx.BatchNorm(width, momentum=0.98, scale_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(
        self, field: Float[Array, "b y x c"], *, training: bool, mask: Bool[Array, "b 1 1 1"] | None
    ) -> Float[Array, "b y x c"]:
        options: dict[str, Any] = {"use_running_average": not training, "mask": mask}
        branch = jax.nn.relu(self.first_norm(self.first(field), **options))
        return field + self.second_norm(self.second(branch), **options)


class PlanarForecaster(nnx.Module):
    """A residual CNN that predicts one step; u and v are two scalars to it.

    Args:
        config: `scalar_channels` features, `blocks`, `kernel_size`; the rest is of the sphere.
        grid: grid of the fields.
        state: channels of the state.
        inputs: number of input times.
        extras: number of static and forcing channels together.
        rngs: source of the initial values.
    """

    #: Of what a step ends with, see `weather_scnn.training.correctors`; set by `training.rollout.build`.
    correctors: Any = None

    def __init__(
        self,
        config: ModelConfig,
        grid: Grid,
        *,
        state: Width,
        inputs: int,
        extras: int,
        rngs: nnx.Rngs,
    ):
        self.state, self.config, self.extras = state, config, extras
        given, wanted = (state.scalars + 2 * state.vectors) * inputs + extras, state.scalars + 2 * state.vectors
        width, size = config.scalar_channels, config.kernel_size
        common: dict[str, Any] = {"precision": config.precision, "rngs": rngs}
        self.encoder = PeriodicConvolution(given, width, size, **common)
        self.blocks = nnx.List([PlanarBlock(width, size, **common) for _ in range(config.blocks)])
        self.decoder = PeriodicConvolution(width, wanted, size, scale=0.01, **common)

    def __call__(
        self,
        history: Fields,
        extras: Float[Array, "b y x e"],
        *,
        training: bool = False,
        mask: Float[Array, " b"] | None = None,
    ) -> Fields:
        """Predicts the standardised increment; see `Forecaster.__call__`."""
        chosen = None if mask is None else (mask > 0)[:, None, None, None]
        field = self.encoder(as_scalars(pack(history, extras)).scalar)
        for block in self.blocks:
            field = block(field, training=training, mask=chosen)
        return from_scalars(self.decoder(field), self.state)


def planar_like(config: ModelConfig, parameters: int, *, state: Width, inputs: int, extras: int) -> ModelConfig:
    """The planar network whose number of parameters is nearest to a given one, at equal blocks and kernel size."""
    wanted = state.scalars + 2 * state.vectors
    area = config.kernel_size**2

    def count(width: int) -> int:
        per_block = 2 * area * width * width + 4 * width
        return area * width * (wanted * inputs + extras + wanted) + config.blocks * per_block

    width = min(range(1, 4096), key=lambda width: abs(count(width) - parameters))
    return dataclasses.replace(
        config, kind="planar", scalar_channels=width, vector_channels=0, tensor_channels=0, levels=()
    )
