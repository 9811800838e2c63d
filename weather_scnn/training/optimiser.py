"""The optimiser, and the state that one training step carries to the next."""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from weather_scnn.training.configuration import OptimiserConfig, Stage
from weather_scnn.training.divergence import LossWatch
from weather_scnn.training.rollout import Parts

_UNDECAYED = ("bias", "scale")


class TrainState(NamedTuple):
    """All that changes while training.

    Attributes:
        parameters: of the network.
        statistics: running moments of the batch norms.
        optimiser: state of the optimiser.
        average: moving average of the parameters, which validation and forecasts use.
        average_statistics: that of the running moments, which belongs to it: the averaged network has moments of its own.
        step: steps done, with those that were skipped. Learning rates and stages follow it, and with the seed it gives
            the noise of a step, so a resumed run draws the same.
        watch: what the next loss is held against.
    """

    parameters: nnx.State
    statistics: nnx.State
    optimiser: Any
    average: nnx.State
    average_statistics: nnx.State
    step: Int[Array, ""]
    watch: LossWatch


def learning_rate_schedule(config: OptimiserConfig, stages: tuple[Stage, ...]) -> optax.Schedule:
    """Linear warm-up from zero, then a cosine to zero over the stages without a rate of their own.

    A stage with a rate holds it; the cosine goes on after it where it was. With the last stages at small rates, this
    is the usual curriculum: the cosine on single steps, then fine-tuning on rollouts (Lam et al. 2023, GraphCast).
    """
    total = sum(stage.steps for stage in stages if stage.learning_rate is None)
    warmup = min(config.warmup_steps, max(total - 1, 1))
    cosine = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(total, warmup + 1))

    def part(stage: Stage, behind: int, first: bool) -> optax.Schedule:
        if stage.learning_rate is None:
            return lambda step: cosine(step + behind)
        if first:
            return optax.linear_schedule(0.0, stage.learning_rate, max(config.warmup_steps, 1))
        return optax.constant_schedule(stage.learning_rate)

    schedules, boundaries, begin, behind = [], [], 0, 0
    for stage in stages:
        schedules.append(part(stage, behind, begin == 0))
        begin += stage.steps
        boundaries.append(begin)
        behind += stage.steps if stage.learning_rate is None else 0
    return optax.join_schedules(schedules, boundaries[:-1])


def decays(parameters: Any) -> Any:
    """Which parameters weight decay draws to zero: matrices, not biases and the scales of norms."""

    def decay(path: tuple[Any, ...], array: Any) -> bool:
        names = [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]
        return array.ndim > 1 and not any(name in _UNDECAYED for name in names)

    return jax.tree_util.tree_map_with_path(decay, parameters)


def make_optimiser(config: OptimiserConfig, stages: tuple[Stage, ...]) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW (Loshchilov & Hutter 2019) on a schedule; only matrices decay."""
    return optax.chain(
        clipped(config.clip_norm),
        optax.adamw(learning_rate_schedule(config, stages), weight_decay=config.weight_decay, mask=decays),
    )


def global_norm(tree: Any) -> Float[Array, ""]:
    """Root of the sum of the squares of all values."""
    squares = [jnp.sum(jnp.square(array)) for array in jax.tree.leaves(tree)]
    return jnp.sqrt(functools.reduce(operator.add, squares, jnp.zeros(())))


def clipped(largest: float) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm`, which takes the norm where it is known already: computed twice, it is traced twice."""

    def update(updates: Any, state: Any, params: Any = None, *, norm: Array | None = None, **_: Any) -> tuple[Any, Any]:
        del params
        size = global_norm(updates) if norm is None else norm
        small = size < largest

        def clip(array: Array) -> Array:
            return jax.lax.select(small, array, (array / size) * largest)

        return jax.tree.map(clip, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def at_step(state: Any, step: Int[Array, ""]) -> Any:
    """The optimiser's state, its schedule at this step of the run.

    Its own count stands still at a skipped step, as that of Adam's moments must; the learning rate and the stages go by
    the steps of the run, which are those that the log counts.
    """

    def of_schedule(path: tuple[Any, ...], _: Any) -> bool:
        return getattr(path[-1], "tuple_name", "") == optax.ScaleByScheduleState.__name__

    return optax.tree.set(state, of_schedule, count=step)


def initial_state(parts: Parts, optimiser: optax.GradientTransformation) -> TrainState:
    """State before the first step."""
    average, average_statistics = jax.tree.map(jnp.copy, (parts.parameters, parts.statistics))
    return TrainState(
        parts.parameters,
        parts.statistics,
        optimiser.init(parts.parameters),
        average,
        average_statistics,
        jnp.zeros((), jnp.int32),
        LossWatch.fresh(),
    )


def moved_average(average: Any, new: Any, step: Int[Array, ""], decay: float | Float[Array, ""]) -> Any:
    """The moving average of a tree after a step; it follows quickly at first, so that it forgets the initial values."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    share = jnp.asarray(1.0 - decay, jnp.float32)
    rest = 1.0 - share
    return jax.tree.map(lambda one, mean: share * one + rest * mean, new, average)
