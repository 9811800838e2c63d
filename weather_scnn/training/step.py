"""The compiled training step: noise, gradient of the rollout, in parts if asked, update, average."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from weather_scnn.nn import Fields, map_fields, noise_keys
from weather_scnn.nn.noise import random_spectrum
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.training.augmentation import Window, augmented
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.divergence import judge, keep_if
from weather_scnn.training.loss import Scales, step_weights, weighted_loss
from weather_scnn.training.losses import of_ensemble
from weather_scnn.training.optimiser import TrainState, at_step, global_norm, make_optimiser, moved_average
from weather_scnn.training.rollout import Parts, rollout_errors
from weather_scnn.training.sharding import DATA, ENSEMBLE, MODEL, divided, shardings
from weather_scnn.training.states import expected_grid

# Sets the noise of members apart from what else is drawn from the seed and the step.
_MEMBERS = 0x6E6F6973
_ERRORS = 0x65727273
# Errors of the largest scales that are far off: how far at most, beside the others', and in how many windows.
_FAR, _OFTEN = 12.0, 0.125


class Ensemble(NamedTuple):
    """The ensemble of a training step.

    Attributes:
        members: numbers of the members, (M,).
        alpha: of the score, see `losses.EnsembleScore`.
    """

    members: Int[Array, " M"]
    alpha: Float[Array, ""]

    @classmethod
    def of(cls, config: Config, stage: Stage, mesh: Mesh | None = None) -> "Ensemble | None":
        """Of a stage, divided over the axis `ensemble`; None where there is none."""
        count = config.training.members_of(stage)
        if count < 2:
            return None
        alpha = config.loss.alpha if stage.alpha is None else stage.alpha
        found = cls(np.arange(count, dtype=np.int32), np.float32(alpha))  # type: ignore[arg-type]
        if mesh is None:
            return jax.tree.map(jnp.asarray, found)
        places = cls(jax.NamedSharding(mesh, jax.P(ENSEMBLE)), jax.NamedSharding(mesh, jax.P()))  # type: ignore[arg-type]
        return jax.tree.map(
            lambda array, place: jax.make_array_from_callback(array.shape, place, lambda index: array[index]),
            found,
            places,
        )


class StepReport(NamedTuple):
    """What one step tells.

    Attributes:
        loss: weighted mean over steps and components.
        channel_errors: error a channel, mean over the steps, (c + d,).
        gradient_norm: global norm before clipping.
        good: whether the step was taken; one that is not finite or spikes is not.
    """

    loss: Float[Array, ""]
    channel_errors: Float[Array, " channel"]
    gradient_norm: Float[Array, ""]
    good: Array


@functools.lru_cache(maxsize=4)
def make_train_step(graph: nnx.GraphDef, config: Config, *, vectors: int, mesh: Mesh | None = None):
    """The compiled training step; its old state is donated.

    Moments of batch norms and means of the loss are over the whole batch, wherever its samples live, so the result
    does not depend on the mesh. A run of the same experiment in the same process gets the step that is compiled already.
    A step whose loss or gradient is not finite, or whose loss spikes by more than
    `explosion_factor`, counts but changes nothing; its report says so.

    Args:
        graph: structure of the network.
        config: the experiment.
        vectors: how many of the state's channels are winds.
        mesh: from `sharding.device_mesh`; None runs on one device.

    Returns:
        A function (state, tables, window, forcings, scales[, ensemble]) → (state, report).
    """
    training, optimiser = config.training, make_optimiser(config.optimiser, config.training.stages)

    def train_step(
        state: TrainState,
        tables: nnx.State,
        window: Fields,
        forcings: Array,
        scales: Scales,
        ensemble: Ensemble | None = None,
    ) -> tuple[TrainState, StepReport]:
        if training.augment:
            whole = Window(window, forcings, scales.statics)
            window, forcings, statics = augmented(whole, training.augment, config.data, training.seed, state.step)
            scales = scales._replace(statics=statics)
        window, forcings = divided((window, forcings), mesh)
        if training.input_noise:
            window = with_noise(window, config.data.input_steps, training.input_noise, training.seed, state.step)
        if training.input_errors:
            window = with_errors(
                window,
                config.data.input_steps,
                training.input_errors,
                training.seed,
                state.step,
                scales,
                expected_grid(config.data),
            )
        weights = step_weights(config.loss, forcings.shape[1] - 1, training.backprop_steps)

        momentum = running_momentum(Parts(graph, state.parameters, state.statistics, tables))

        def gradient_of(
            parameters: nnx.State,
            statistics: nnx.State,
            constants: Any,
            batch: Any,
            members: Array | None,
            axis: str | tuple[str, ...] | None = None,
        ):
            tables, scales, key = constants

            def loss_function(
                parameters: nnx.State, statistics: nnx.State, window: Fields, forcings: Array, places: Array | None
            ):
                errors, statistics = rollout_errors(
                    Parts(graph, parameters, statistics, tables),
                    window,
                    forcings,
                    scales,
                    inputs=config.data.input_steps,
                    training=True,
                    remat=training.remat,
                    backprop_steps=training.backprop_steps,
                    axis=axis,
                    keys=None if places is None or members is None else noise_keys(key, places, members),
                )
                return weighted_loss(errors, scales, vectors, weights), (errors.mean(axis=0), statistics)

            split = mesh if axis is None else None
            return accumulated_gradient(loss_function, parameters, statistics, batch, training.accumulation, split)

        places = key = members = None
        if ensemble is not None:
            # The place in the batch and the step say which window it is, and which time it is taken.
            members, places = ensemble.members, jnp.arange(forcings.shape[0])
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(training.seed), _MEMBERS), state.step)
            scales = scales._replace(loss=of_ensemble(scales.loss, alpha=ensemble.alpha))
        given = state.parameters, state.statistics, (tables, scales, key), (window, forcings, places), members
        if mesh is not None and mesh.size > 1 and mesh.shape[MODEL] == 1:
            loss, errors, statistics, gradient = over_samples(gradient_of, mesh, ensemble is not None)(*given)
        else:
            loss, errors, statistics, gradient = gradient_of(*given)
        if training.trained == "noise":
            gradient = of_noise(gradient)
        norm = global_norm(gradient)
        updates, optimiser_state = optimiser.update(
            gradient, at_step(state.optimiser, state.step), state.parameters, norm=norm
        )
        if training.trained == "noise":
            updates = of_noise(updates)
        parameters = optax.apply_updates(state.parameters, updates)
        average, average_statistics = moved_average(
            (state.average, state.average_statistics),
            (parameters, own_moments(statistics, state.statistics, momentum ** (forcings.shape[1] - 1))),
            state.step,
            config.optimiser.average_decay,
        )
        good, watch = judge(state.watch, loss, norm, training.explosion_factor)
        new = TrainState(parameters, statistics, optimiser_state, average, average_statistics, state.step + 1, watch)
        kept = keep_if(good, new, state)._replace(step=new.step, watch=watch)
        if mesh is not None:
            # Without this, the compiler could give the state another layout than it came with, and compile again.
            kept = jax.lax.with_sharding_constraint(kept, shardings(kept, mesh))
        return kept, StepReport(loss, errors, norm, good)

    return jax.jit(train_step, donate_argnums=0)


def running_momentum(parts: Parts) -> float:
    """Share of the old running statistics that the batch norms keep at each update; 0 where they keep no one share."""
    model = nnx.merge(*parts)
    found = {module.momentum for _, module in nnx.iter_modules(model) if hasattr(module, "momentum")}
    return found.pop() if len(found) == 1 else 0.0


def own_moments(after: Any, before: Any, kept: float) -> Any:
    """A step's own moments, from the running ones after and before it, of which a share is kept.

    The averaged network is that of some hundred steps before. Averages of the running moments, which themselves lag
    behind, would come too late for it: those of each step's own lag exactly as its parameters do.
    """
    return jax.tree.map(lambda new, old: (new - kept * old) / (1.0 - kept), after, before)


def over_samples(gradient_of: Any, mesh: Mesh, members: bool = False) -> Any:
    """Each device differentiates its own samples and members; their gradients meet in one sum at the end.

    Left to the compiler, gradients meet where they first arise: for filters once per degree instead of once per free
    value, and once for every step of a rollout and every part of a batch.

    Args:
        gradient_of: (parameters, statistics, constants, batch, members, axis) → (loss, errors, statistics, gradient).
        mesh: with all devices along `data` and `ensemble`.
        members: whether there are any.
    """
    axes: Any = (DATA, ENSEMBLE) if members else DATA

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(jax.P(), jax.P(), jax.P(), jax.P(DATA), jax.P(ENSEMBLE)),
        out_specs=jax.P(),
    )
    def mapped(parameters: nnx.State, statistics: nnx.State, constants: Any, batch: Any, numbers: Array | None):
        # Copies of its own for each device, or differentiation would sum over devices wherever they are used.
        own = jax.lax.pcast(parameters, axes, to="varying")
        if members:
            batch = jax.lax.pcast(batch, ENSEMBLE, to="varying")
            tables, scales, key = constants
            scales = scales._replace(loss=of_ensemble(scales.loss, axis=ENSEMBLE))
            constants = tables, scales, key
        loss, errors, statistics, gradient = gradient_of(own, statistics, constants, batch, numbers, axes)
        return loss, errors, statistics, jax.lax.psum(gradient, axes)

    return mapped


def of_noise(tree: Any) -> Any:
    """Zeros for all parameters but those of the noise."""

    def kept(path: tuple[Any, ...], array: Array) -> Array:
        names = [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]
        return array if any(name.startswith("noise") for name in names) else jnp.zeros_like(array)

    return jax.tree_util.tree_map_with_path(kept, tree)


def with_noise(window: Fields, inputs: int, deviation: float, seed: int, step: Int[Array, ""]) -> Fields:
    """Gaussian noise on the input states, from the seed and the number of the step alone.

    It imitates the errors that a rollout feeds back, of which single steps would never learn (Sanchez-Gonzalez et al.
    2020). The components of a wind get noise of their own, so it has no preferred direction.

    Args:
        window: standardised states, (b, t, y, x, c).
        inputs: number of input times.
        deviation: standard deviation of the noise, in those of the channels.
        seed: of the run.
        step: of the run.
    """
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), step), 3)

    def noisy(array: Array, key: Array) -> Array:
        first = array[:, :inputs]
        return array.at[:, :inputs].set(first + deviation * jax.random.normal(key, first.shape, first.dtype))

    return map_fields(noisy, window, Fields(*keys))


def with_errors(
    window: Fields, inputs: int, size: float, seed: int, step: Int[Array, ""], scales: Scales, grid: Grid
) -> Fields:
    """Errors of all scales on the input states, the same at all input times, from the seed and the number of the step alone.

    The largest scales vary with the season and hardly else, so the data do not say what becomes of them where they are off; in
    rollouts of months the little that each step adds is fed back, and grows. Shown states that are off and successors
    that are not, a network learns to bring them back. Each scalar, and each wind by its divergence and vorticity, is changed
    by an isotropic random field of its own, which has no preferred direction.

    Args:
        window: standardised states, (b, t, y, x, c).
        inputs: number of input times.
        size: standard deviation of the errors at a point, in those of the increments.
        seed: of the run.
        step: of the run.
        scales: have the deviations per degree.
        grid: of the states.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), _ERRORS)
    deviations = scales.error_deviations
    assert deviations is not None
    transform = HarmonicTransform.create(grid, deviations.shape[0] - 1)
    batch, scalars, winds = window.scalar.shape[0], window.scalar.shape[-1], window.eastward.shape[-1]
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(batch))
    # Some windows are hardly off, others much: a factor even from 0 to √3, of mean square 1.
    sizes = size * jax.random.uniform(jax.random.fold_in(key, batch), (batch,), maxval=np.sqrt(3.0))
    # In one window of eight the largest scales are further off than nature ever has them, so that from there, too, the way back
    # is known; were they so in all, what nature varies there would be taken for an error.
    often, how = jax.random.split(jax.random.fold_in(key, batch + 1))
    far = jnp.where(jax.random.uniform(often, (batch,)) < _OFTEN, jax.random.uniform(how, (batch,), maxval=_FAR), 0.0)
    large = 1.0 / (1.0 + (np.arange(deviations.shape[0]) / 3.0) ** 4)
    factors = sizes[:, None] + size * far[:, None] * jnp.asarray(large, deviations.dtype)
    drawn = jax.vmap(lambda one, factor: random_spectrum(one, factor[:, None] * deviations))(keys, factors)
    scalar, divergent, rotational = jnp.split(drawn, [scalars, scalars + winds], axis=-1)
    change = Fields(transform.synthesis(scalar), *transform.synthesis_vector(divergent, rotational))
    return map_fields(lambda array, each: array.at[:, :inputs].add(each[:, None]), window, change)


def accumulated_gradient(
    loss_function: Any, parameters: nnx.State, statistics: nnx.State, batch: Any, parts: int, mesh: Mesh | None = None
) -> tuple[Array, Array, nnx.State, nnx.State]:
    """Loss, errors, statistics and gradient of a batch, worked on in parts; all are means over the parts.

    Args:
        loss_function: (parameters, statistics, *batch) → loss, (errors, statistics).
        parameters: to differentiate by.
        statistics: running statistics every part starts from.
        batch: a tuple of trees of arrays, their first axis the batch's.
        parts: how many; one part after the other is in memory.
        mesh: every device works on its share of each part.
    """
    function = jax.value_and_grad(loss_function, has_aux=True)
    if parts == 1:
        (loss, (errors, statistics)), gradient = function(parameters, statistics, *batch)
        return loss, errors, statistics, gradient

    def dealt(array: Array) -> Array:
        # Samples are dealt out in turn, so that those of one device, which are neighbours, come in all parts alike.
        return jnp.moveaxis(array.reshape(-1, parts, *array.shape[1:]), 1, 0)

    def one(total: Any, part: Any) -> tuple[Any, None]:
        (loss, (errors, after)), gradient = function(parameters, statistics, *divided(part, mesh))
        return jax.tree.map(jnp.add, total, (loss, errors, after, gradient)), None

    dealt_batch = jax.tree.map(dealt, batch)
    first = jax.tree.map(lambda array: array[0], dealt_batch)
    (loss, (errors, after)), _ = jax.eval_shape(function, parameters, statistics, *first)
    means = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), (loss, errors, after))
    # Zeros taken from the parameters differ from device to device, for `shard_map`, where those do.
    zeros = *means, jax.tree.map(lambda array: jnp.where(False, array, jnp.zeros_like(array)), parameters)
    total, _ = jax.lax.scan(one, zeros, dealt_batch)
    return jax.tree.map(lambda array: array / parts, total)
