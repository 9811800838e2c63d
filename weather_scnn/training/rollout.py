"""Rollout of the forecaster and the loss along it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.data.channels import Channels, DataConfig
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.errors import UserError
from weather_scnn.models import Forecaster, ModelConfig
from weather_scnn.nn import Fields, Table, Width, map_fields
from weather_scnn.sphere import Grid


class Scales(NamedTuple):
    """Constants of the state's channels on the device.

    Attributes:
        scalar_ratio, wind_ratio: standard deviation of the increments over that of the states, (c,) and (d,).
        statics: standardised static fields, (y, x, s).
        area: cell-area weights of mean 1, (y,).
        channel: loss weights of scalars then winds, of mean 1 where a wind counts twice, (c + d,).
    """

    scalar_ratio: Float[Array, " c"]
    wind_ratio: Float[Array, " d"]
    statics: Float[Array, "y x s"]
    area: Float[Array, " y"]
    channel: Float[Array, " c+d"]

    @property
    def ratio(self) -> Fields:
        """Ratios by kind of field."""
        return Fields(self.scalar_ratio, self.wind_ratio, self.wind_ratio)


class Parts(NamedTuple):
    """A forecaster taken apart for functional use."""

    graph: nnx.GraphDef
    parameters: nnx.State
    statistics: nnx.State
    tables: nnx.State


def build(config: ModelConfig, data: DataConfig, channels: Channels, grid: Grid, seed: int) -> Forecaster:
    """The forecaster of a configuration, freshly initialised."""
    return Forecaster(
        config,
        grid,
        state=Width(len(channels.scalars), len(channels.winds)),
        inputs=data.input_steps,
        extras=channels.extra_count,
        rngs=nnx.Rngs(seed),
    )


def take_apart(model: Forecaster) -> Parts:
    """Splits into graph, parameters, batch statistics and tables."""
    pieces: tuple[Any, ...] = nnx.split(model, nnx.Param, nnx.BatchStat, Table)
    return Parts(*pieces)


def make_scales(
    channels: Channels, normalisation: Normalisation, statics: np.ndarray, grid: Grid, *, pressure_weights: bool
) -> Scales:
    """Constants of the rollout, with the loss weights checked to be positive and of mean 1."""
    levels = [level for _, level in channels.scalars] + [level for _, _, level in channels.winds]
    count = np.array([1.0] * len(channels.scalars) + [2.0] * len(channels.winds))
    weights = np.ones(len(levels))
    if pressure_weights and channels.levels:
        mean = np.mean(channels.levels)
        weights = np.array([1.0 if level is None else level / mean for level in levels])
    weights = weights * count.sum() / (weights * count).sum()
    area = grid.area_weights
    if not (np.all(weights > 0) and np.all(area > 0) and np.isclose(area.mean(), 1)):
        raise UserError("loss weights are not positive with mean 1", remedy="check the grid's latitudes and levels")

    def single(values: np.ndarray) -> Array:
        return jnp.asarray(values, jnp.float32)

    return Scales(
        single(normalisation.scalar_ratio),
        single(normalisation.wind_ratio),
        single(statics),
        single(area),
        single(weights),
    )


def advance(
    model: Forecaster, history: Fields, scales: Scales, forcings: Float[Array, "b 2 y x f"], *, training: bool
) -> tuple[Fields, Fields]:
    """One forecast step.

    Args:
        model: the forecaster.
        history: standardised states at the input times, oldest first, (b, t, y, x, c).
        scales: constants of the channels.
        forcings: at the last input time and one step later.
        training: whether batch statistics are used and updated.

    Returns:
        The history one step later, and the new state (b, y, x, c).
    """
    batch = forcings.shape[0]
    statics = jnp.broadcast_to(scales.statics, (batch, *scales.statics.shape))
    extras = jnp.concatenate([statics, forcings[:, 0], forcings[:, 1]], axis=-1)
    increment = model(history, extras, training=training)
    new = map_fields(lambda old, change, ratio: old[:, -1] + change * ratio, history, increment, scales.ratio)
    return map_fields(lambda old, last: jnp.concatenate([old[:, 1:], last[:, None]], axis=1), history, new), new


def step_errors(predicted: Fields, target: Fields, scales: Scales) -> Float[Array, " c+d"]:
    """Area-mean squared error a channel in units of the increments' variance; a wind's components are averaged."""
    error = map_fields(lambda one, other, ratio: (one - other) / ratio, predicted, target, scales.ratio)
    squared = jnp.concatenate(
        [jnp.square(error.scalar), 0.5 * (jnp.square(error.eastward) + jnp.square(error.northward))], axis=-1
    )
    return jnp.einsum("byxc,y->c", squared, scales.area) / (squared.shape[0] * squared.shape[1] * squared.shape[2])


def rollout_errors(
    parts: Parts, window: Fields, forcings: Float[Array, "b k+1 y x f"], scales: Scales, *, inputs: int, training: bool
) -> tuple[Float[Array, "k c+d"], nnx.State]:
    """Errors of every step of a rollout, and the batch statistics after it.

    A scan over the steps; each is rematerialised in the backward pass, so memory grows by one state a step.

    Args:
        parts: the forecaster.
        window: true states, (b, inputs + k, y, x, c).
        forcings: at the last input time and the k steps after it.
        scales: constants of the channels.
        inputs: number of input times.
        training: whether batch statistics are used and updated.
    """
    history = map_fields(lambda array: array[:, :inputs], window)
    targets = map_fields(lambda array: jnp.moveaxis(array[:, inputs:], 1, 0), window)
    pairs = jnp.stack([forcings[:, :-1], forcings[:, 1:]], axis=2)

    @jax.checkpoint
    def one(carry, given):
        past, statistics = carry
        target, forcing = given
        # Mapped over, the statistics become variables of this trace, which the batch norms may then update.
        statistics = jax.tree.map(lambda array: array, statistics)
        model = nnx.merge(parts.graph, parts.parameters, statistics, parts.tables)
        past, new = advance(model, past, scales, forcing, training=training)
        _, _, statistics, _ = take_apart(model)
        return (past, statistics), step_errors(new, target, scales)

    (_, statistics), errors = jax.lax.scan(one, (history, parts.statistics), (targets, jnp.moveaxis(pairs, 1, 0)))
    return errors, statistics


def weighted_loss(errors: Float[Array, "k c+d"], scales: Scales, vectors: int) -> Float[Array, ""]:
    """Mean over steps and components of the weighted errors."""
    scalars = errors.shape[-1] - vectors
    count = jnp.concatenate([jnp.ones(scalars), jnp.full(vectors, 2.0)])
    return jnp.mean(errors @ (scales.channel * count)) / jnp.sum(count)
