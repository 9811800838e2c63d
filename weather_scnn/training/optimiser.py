"""The optimiser, and the state that one training step carries to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array

from weather_scnn.nn import Fields
from weather_scnn.training.configuration import OptimiserConfig
from weather_scnn.training.rollout import Parts, Scales, rollout_errors, weighted_loss


class TrainState(NamedTuple):
    """All that changes while training."""

    parameters: nnx.State
    statistics: nnx.State
    optimiser: Any
    average: nnx.State
    step: Array


class StepReport(NamedTuple):
    """What one step tells."""

    loss: Array
    channel_errors: Array
    gradient_norm: Array


def learning_rate_schedule(config: OptimiserConfig, total_steps: int) -> optax.Schedule:
    """Linear warm-up from zero, then a cosine to zero."""
    warmup = min(config.warmup_steps, max(total_steps - 1, 1))
    return optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(total_steps, warmup + 1))


def make_optimiser(config: OptimiserConfig, total_steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW; only matrices decay."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate_schedule(config, total_steps),
            weight_decay=config.weight_decay,
            mask=lambda parameters: jax.tree.map(lambda array: array.ndim > 1, parameters),
        ),
    )


def initial_state(parts: Parts, optimiser: optax.GradientTransformation) -> TrainState:
    """State before the first step."""
    average = jax.tree.map(jnp.copy, parts.parameters)
    return TrainState(
        parts.parameters, parts.statistics, optimiser.init(parts.parameters), average, jnp.zeros((), jnp.int32)
    )


def make_train_step(graph: nnx.GraphDef, config: OptimiserConfig, total_steps: int, *, inputs: int, vectors: int):
    """The compiled training step; its old state is donated.

    Returns:
        A function (state, tables, window, forcings, scales) → (state, report).
    """
    optimiser = make_optimiser(config, total_steps)

    def train_step(
        state: TrainState, tables: nnx.State, window: Fields, forcings: Array, scales: Scales
    ) -> tuple[TrainState, StepReport]:
        def loss_function(parameters):
            parts = Parts(graph, parameters, state.statistics, tables)
            errors, statistics = rollout_errors(parts, window, forcings, scales, inputs=inputs, training=True)
            return weighted_loss(errors, scales, vectors), (errors.mean(axis=0), statistics)

        (loss, (errors, statistics)), gradient = jax.value_and_grad(loss_function, has_aux=True)(state.parameters)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.parameters)
        parameters = optax.apply_updates(state.parameters, updates)
        # The average follows quickly at first, so that it does not remember the initial values.
        decay = jnp.minimum(config.average_decay, (1.0 + state.step) / (10.0 + state.step))
        average = optax.incremental_update(parameters, state.average, 1.0 - decay)
        report = StepReport(loss, errors, optax.tree.norm(gradient))
        return TrainState(parameters, statistics, optimiser_state, average, state.step + 1), report

    return jax.jit(train_step, donate_argnums=0)
