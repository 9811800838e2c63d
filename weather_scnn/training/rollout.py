"""Rollout of the forecaster: one step, and a scan over steps that keeps little for the backward pass."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration
from weather_scnn.models import Forecaster, ModelConfig, PlanarForecaster, make_forecaster
from weather_scnn.nn import Fields, Noise, Table, Width, map_fields
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.correctors import settle
from weather_scnn.training.forcings import season
from weather_scnn.training.loss import Scales, filled, step_errors

# Above so many steps, nested rematerialisation is worth its second forward pass.
_LONG = 16


class Parts(NamedTuple):
    """A forecaster taken apart for functional use."""

    graph: nnx.GraphDef
    parameters: nnx.State
    statistics: nnx.State
    tables: nnx.State


def build(
    config: ModelConfig, data: DataConfig, channels: Channels, grid: Grid, seed: int
) -> Forecaster | PlanarForecaster:
    """The forecaster of a configuration, freshly initialised, with its `correctors`, or None.

    Raises:
        UserError: the state lacks a field that a corrector needs.
    """
    step_hours = float(parse_duration(data.step) / np.timedelta64(1, "h"))
    model = make_forecaster(
        config,
        grid,
        state=Width(len(channels.scalars), len(channels.winds)),
        inputs=data.input_steps,
        extras=channels.extra_count,
        step_hours=step_hours,
        rngs=nnx.Rngs(seed),
    )
    model.correctors = settle(config.correctors, channels, step_hours)
    return model


def take_apart(model: nnx.Module) -> Parts:
    """Splits into graph, parameters, batch statistics and tables."""
    pieces: tuple[Any, ...] = nnx.split(model, nnx.Param, nnx.BatchStat, Table)
    return Parts(*pieces)


def _given_forcings(extras: int, statics: int, forcings: Float[Array, "b 2 y x f"]) -> list[Array]:
    """The forcings that a network of so many extras takes besides the static fields: at both ends of a step, or its start.

    Raises:
        UserError: it takes neither.
    """
    each = forcings.shape[-1]
    for times in (2, 1):
        if extras == statics + times * each:
            return [forcings[:, time] for time in range(times)]
    raise UserError(
        f"the network takes {extras} static fields and forcings, and is given {statics} and {each} at each end of a step",
        remedy="give it the data.static_variables, coordinates, solar, clock and forcing_times it was made for",
    )


def advance(
    model: Any,
    history: Fields,
    scales: Scales,
    forcings: Float[Array, "b 2 7"],
    *,
    training: bool,
    noise: Noise | None = None,
) -> tuple[Fields, Fields]:
    """One forecast step: the network's increment, and the correctors of what comes out.

    Channels that may be missing are filled with their mean where they are, and stay missing there.

    Args:
        model: the forecaster.
        history: standardised states at the input times, oldest first, (b, t, y, x, c).
        scales: constants of the channels.
        forcings: `forcings.phases` of the last input time and one step later.
        training: whether batch statistics are used and updated.
        noise: of this step; None for a network without.

    Returns:
        The history one step later, and the new state (b, y, x, c).
    """
    batch = forcings.shape[0]
    statics = jnp.broadcast_to(scales.statics, (batch, *scales.statics.shape))
    given = _given_forcings(model.extras, statics.shape[-1], scales.forcings(forcings))
    extras = jnp.concatenate([statics, *given], axis=-1)
    gaps = scales.gaps(history)
    known = filled(history, gaps)
    options: dict[str, Any] = {} if noise is None else {"noise": noise}
    if getattr(model, "seasonal", False):
        options["season"] = season(forcings[:, 0])
    increment = model(known, extras, training=training, **options)
    last = map_fields(lambda array: array[:, -1], known)
    new = map_fields(lambda old, change, ratio: old + change * ratio, last, increment, scales.ratio)
    if (correctors := getattr(model, "correctors", None)) is not None:
        new = correctors(last, new, scales.moments, scales.area, scales.statics)
    if gaps is not None:
        new = map_fields(lambda gap, array: jnp.where(gap[:, -1], jnp.nan, array), gaps, new)
    return map_fields(lambda old, last: jnp.concatenate([old[:, 1:], last[:, None]], axis=1), history, new), new


def rollout_errors(
    parts: Parts,
    window: Fields,
    forcings: Float[Array, "b t 7"],
    scales: Scales,
    *,
    inputs: int,
    training: bool,
    remat: str = "auto",
    backprop_steps: int = 0,
    axis: str | tuple[str, ...] | None = None,
    keys: Array | None = None,
) -> tuple[Float[Array, "k channel"], nnx.State]:
    """Errors of every step of a rollout, and the batch statistics after it.

    Args:
        parts: the forecaster.
        window: true states, (b, inputs + k, y, x, c).
        forcings: `forcings.phases` of the last input time and the k steps after it.
        scales: constants of the channels.
        inputs: number of input times.
        training: whether batch statistics are used and updated.
        remat: what the backward pass computes again, see `TrainingConfig.remat`.
        backprop_steps: the gradient runs through so many last steps only; 0 takes all.
        axis: inside `shard_map`, the axes that divide the batch and the members; batch statistics and errors are of the
            whole of them.
        keys: of the noise of every sample and member, (b · m,), those of a sample side by side; None without noise.
    """
    steps = forcings.shape[1] - 1
    history = map_fields(lambda array: array[:, :inputs], window)
    targets = map_fields(lambda array: jnp.moveaxis(array[:, inputs:], 1, 0), window)
    pairs = jnp.moveaxis(jnp.stack([forcings[:, :-1], forcings[:, 1:]], axis=2), 1, 0)

    batch, chance = forcings.shape[0], None
    numbers = None if keys is None else jnp.arange(steps)
    if keys is not None:
        members = keys.shape[0] // batch
        history = map_fields(lambda array: jnp.repeat(array, members, axis=0), history)
        chance = nnx.merge(*parts).noise.stationary(keys)

    def step(parameters):
        def one(carry, given):
            past, statistics, chance = carry
            target, forcing, number = given
            # Mapped over, the statistics become variables of this trace, which the batch norms may then update.
            statistics = jax.tree.map(lambda array: array, statistics)
            model = nnx.merge(parts.graph, parameters, statistics, parts.tables)
            for _, module in nnx.iter_modules(model):
                if hasattr(module, "axis_name"):  # a batch norm
                    module.axis_name = axis
            noise = None
            if keys is not None:
                noise, chance = model.noise.step(keys, number, chance)
                forcing = jnp.repeat(forcing, members, axis=0)
            past, new = advance(model, past, scales, forcing, training=training, noise=noise)
            if keys is not None:
                new = map_fields(lambda array: array.reshape(batch, members, *array.shape[1:]), new)
            statistics = nnx.state(model, nnx.BatchStat)
            return (past, statistics, chance), step_errors(new, target, scales, axis=axis)

        return one

    carry, given = (history, parts.statistics, chance), (targets, pairs, numbers)
    led = max(steps - backprop_steps, 0) if backprop_steps else 0
    found = []
    if led:
        # No gradient enters here, so nothing of these steps is kept for one.
        carry, errors = jax.lax.scan(
            step(jax.lax.stop_gradient(parts.parameters)), carry, jax.tree.map(lambda array: array[:led], given)
        )
        carry = jax.lax.stop_gradient(carry)
        given = jax.tree.map(lambda array: array[led:], given)
        found.append(errors)
    (_, statistics, _), errors = scan_rematerialised(step(parts.parameters), carry, given, steps - led, remat)
    return jnp.concatenate([*found, errors]), statistics


def segment_length(steps: int, remat: str) -> int:
    """Steps a segment of a rollout of which the backward pass keeps only the first state; 0 for no segments."""
    if remat == "nested" or (remat == "auto" and steps > _LONG):
        return math.isqrt(max(steps - 1, 0)) + 1
    return 0


def scan_rematerialised(body: Any, carry: Any, given: Any, steps: int, remat: str) -> tuple[Any, Any]:
    """`jax.lax.scan` of `steps` steps that keeps less for the backward pass than all that the body computes.

    - `none` keeps all of every step.
    - `step` keeps the carry of every step, and recomputes the inside of one step at a time.
    - `nested` keeps the carry at the start of every segment of about √k steps, and, of the segment that the backward
      pass is in, that of every step: 2√k carries, for one more forward pass.
    - `auto`: with one step nothing can be saved, so nothing is recomputed, which takes a quarter less time; then
      `step`; and `nested` when longer than 16.
    """
    if remat == "none" or (remat == "auto" and steps == 1):
        if steps == 1:
            # Outside of a loop the compiler fuses the step with what is around it.
            carry, found = body(carry, jax.tree.map(lambda array: array[0], given))
            return carry, jax.tree.map(lambda array: array[None], found)
        return jax.lax.scan(body, carry, given)
    inner = jax.checkpoint(body, prevent_cse=False)
    length = segment_length(steps, remat)
    if length < 2 or length >= steps:
        return jax.lax.scan(inner, carry, given)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def segment(carry, given):
        return jax.lax.scan(inner, carry, given)

    whole = steps // length * length
    grouped = jax.tree.map(lambda array: array[:whole].reshape(-1, length, *array.shape[1:]), given)
    carry, found = jax.lax.scan(segment, carry, grouped)
    found = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), found)
    if whole < steps:
        carry, last = segment(carry, jax.tree.map(lambda array: array[whole:], given))
        found = jax.tree.map(lambda one, other: jnp.concatenate([one, other]), found, last)
    return carry, found
