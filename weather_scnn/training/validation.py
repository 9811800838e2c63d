"""Validation while training: forecasts from evenly spaced initial times, against persistence."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration
from weather_scnn.nn import Fields, map_fields, noise_keys
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import Config
from weather_scnn.training.fixed_windows import FixedWindows
from weather_scnn.training.loss import Scales, step_errors, weighted_loss
from weather_scnn.training.losses import SquaredError, of_ensemble
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.placement import place
from weather_scnn.training.rollout import Parts, advance
from weather_scnn.training.scorecard import Scorecard
from weather_scnn.training.sharding import host_share
from weather_scnn.training.states import StateReader, expected_grid
from weather_scnn.training.step import Ensemble
from weather_scnn.training.windows import NoWindows


def validation_leads(config: Config) -> np.ndarray:
    """Leads of the validation in steps, ascending.

    Raises:
        UserError: one is no multiple of the step.
    """
    days, step = sorted(config.training.validation_days), parse_duration(config.data.step)
    leads = [np.timedelta64(round(each * 86400), "s") / step for each in days]
    if not leads or min(leads) < 1 or any(lead != round(lead) for lead in leads):
        raise UserError(
            f"training.validation_days are {', '.join(f'{each:g}' for each in days)}",
            remedy=f"give leads that are multiples of {config.data.step}",
        )
    return np.array([round(lead) for lead in leads])


def window_shape(config: Config) -> dict[str, Any]:
    """Steps and length of the validation's windows: to its longest lead, and as long as any rollout of the training."""
    longest = max(int(validation_leads(config).max()), *(stage.rollout_steps for stage in config.training.stages))
    return {
        "step": parse_duration(config.data.step),
        "input_step": config.data.input_interval,
        "length": config.data.input_steps + longest,
    }


@contextlib.contextmanager
def long_enough(config: Config) -> Iterator[None]:
    """Says of a period without windows that it is that of the validation."""
    try:
        yield
    except NoWindows as error:
        steps = window_shape(config)["length"] - config.data.input_steps
        raise UserError(
            f"data.validation {config.data.validation} is too short for rollouts of {steps} steps ({error.what})",
            remedy="give a longer data.validation, or shorter training.validation_days",
        ) from error


class Validation:
    """Forecasts from `training.validation_windows` times of `data.validation`.

    Args:
        config: the experiment.
        channels, normalisation: of the state.
        mesh: devices; a batch is divided over them as in training.
        cache_bytes: memory for the windows, of what the training leaves of `data.cache_gigabytes`.
        gather: brings the hosts' flags together, (t,) → (hosts, t).

    Raises:
        UserError: a lead is no multiple of the step, or the period is shorter than the longest lead.
    """

    def __init__(
        self,
        config: Config,
        channels: Channels,
        normalisation: Normalisation,
        mesh: Mesh,
        *,
        cache_bytes: float,
        gather: Callable[[np.ndarray], np.ndarray] = lambda flags: flags[None],
    ):
        self.config, self.channels, self.normalisation, self.mesh = config, channels, normalisation, mesh
        self.days = tuple(sorted(config.training.validation_days))
        self.leads = validation_leads(config)
        reader = StateReader.open(
            config.data.path, channels, normalisation, expected_grid(config.data), time=config.data.validation
        )
        batch_size = config.training.batch_size
        with long_enough(config):
            self.windows = FixedWindows(
                reader,
                **window_shape(config),
                input_steps=config.data.input_steps,
                count=-(-config.training.validation_windows // batch_size) * batch_size,
                batch_size=batch_size,
                cache_bytes=cache_bytes,
                share=host_share(mesh),
                gather=gather,
            )
        self._errors = jax.jit(self._rollout)

    def _rollout(
        self, parts: Parts, window: Fields, forcings: Array, scales: Scales, number: Array, members: Array | None
    ) -> tuple[Float[Array, "k channel"], Float[Array, "k channel"], Float[Array, "k channel"]]:
        """Errors of the loss, squared errors on the grid, and those of persistence; units of increments' variance.

        Of an ensemble, the squared errors are those of its mean.
        """
        inputs, grid_scales = self.config.data.input_steps, scales._replace(loss=SquaredError())
        model = nnx.merge(*parts)
        history = map_fields(lambda array: array[:, :inputs], window)
        initial = map_fields(lambda array: array[:, inputs - 1], window)
        targets = map_fields(lambda array: jnp.moveaxis(array[:, inputs:], 1, 0), window)
        pairs = jnp.moveaxis(jnp.stack([forcings[:, :-1], forcings[:, 1:]], axis=2), 1, 0)
        keys = chance = None
        batch, count = forcings.shape[0], 1 if members is None else members.size
        if members is not None:
            key = jax.random.fold_in(jax.random.key(self.config.training.seed), number)
            keys = noise_keys(key, jnp.arange(batch), members)
            history = map_fields(lambda array: jnp.repeat(array, count, axis=0), history)
            chance = model.noise.stationary(keys)

        def one(carry, given):
            (past, chance), (target, pair, step), noise = carry, given, None
            if keys is not None:
                noise, chance = model.noise.step(keys, step, chance)
                pair = jnp.repeat(pair, count, axis=0)
            past, new = advance(model, past, scales, pair, training=False, noise=noise)
            mean = new
            if keys is not None:
                new = map_fields(lambda array: array.reshape(batch, count, *array.shape[1:]), new)
                mean = map_fields(lambda array: array.mean(axis=1), new)
            loss = step_errors(new, target, scales)
            squared = loss if isinstance(scales.loss, SquaredError) else step_errors(mean, target, grid_scales)
            return (past, chance), (loss, squared, step_errors(initial, target, grid_scales))

        return jax.lax.scan(one, (history, chance), (targets, pairs, jnp.arange(forcings.shape[1] - 1)))[1]

    def __call__(self, parts: Parts, scales: Scales, rollout_steps: int, ensemble: Ensemble | None = None) -> Scorecard:
        """Scores the forecaster.

        Args:
            parts: the averaged forecaster.
            scales: constants of the rollout.
            rollout_steps: of the current stage, for the loss.
            ensemble: of the current stage.
        """
        members = None if ensemble is None else ensemble.members
        if ensemble is not None:
            scales = scales._replace(loss=of_ensemble(scales.loss, alpha=ensemble.alpha))
        batches = [
            self._errors(parts, *place(self.windows.batch(number), self.mesh), scales, jnp.uint32(number), members)
            for number in range(self.windows.batches)
        ]
        loss, squared, persistence = (np.mean([np.asarray(one) for one in kind], axis=0) for kind in zip(*batches))
        scalars, winds = len(self.channels.scalars), len(self.channels.winds)
        increment = np.concatenate([self.normalisation.scalar_increment, self.normalisation.wind_increment])
        # A wind's error is the mean over its components; as a vector it is their sum.
        factor = increment**2 * np.concatenate([np.ones(scalars), np.full(winds, 2.0)])
        at = self.leads - 1
        mean = weighted_loss(jnp.asarray(loss[:rollout_steps], jnp.float32), scales, winds)
        return Scorecard(
            float(mean),
            tuple(self.channels.describe()),
            self.days,
            np.sqrt(squared[at] * factor),
            np.sqrt(persistence[at] * factor),
        )
