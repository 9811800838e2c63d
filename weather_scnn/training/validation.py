"""Validation while training: forecasts from evenly spaced initial times, against persistence."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from weather_scnn.data.channels import Channels
from weather_scnn.data.durations import parse_duration
from weather_scnn.data.loader import WindowLoader
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.data.reading import StateReader, expected_grid
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields, map_fields
from weather_scnn.training.configuration import Config
from weather_scnn.training.loss import Scales, step_errors, weighted_loss
from weather_scnn.training.placement import place
from weather_scnn.training.rollout import Parts, advance
from weather_scnn.training.scorecard import Scorecard
from weather_scnn.training.sharding import host_share


class Validation:
    """Forecasts from `training.validation_windows` times of `data.validation`.

    Args:
        config: the experiment.
        channels, normalisation: of the state.
        mesh: devices; a batch is divided over them as in training.

    Raises:
        UserError: a lead is no multiple of the step, or the period is shorter than the longest lead.
    """

    def __init__(self, config: Config, channels: Channels, normalisation: Normalisation, mesh: Mesh):
        self.config, self.channels, self.normalisation, self.mesh = config, channels, normalisation, mesh
        self.days = tuple(sorted(config.training.validation_days))
        step = parse_duration(config.data.step, "data.step")
        leads = [np.timedelta64(round(days * 86400), "s") / step for days in self.days]
        if not leads or min(leads) < 1 or any(lead != round(lead) for lead in leads):
            raise UserError(
                f"training.validation_days are {', '.join(f'{days:g}' for days in self.days)}",
                remedy=f"give leads that are multiples of {config.data.step}",
            )
        self.leads = np.array([round(lead) for lead in leads])
        reader = StateReader.open(
            config.data.path, channels, normalisation, expected_grid(config.data), time=config.data.validation
        )
        self.loader = WindowLoader(
            reader, step=step, input_steps=config.data.input_steps,
            input_step=parse_duration(config.data.input_step or config.data.step), seed=0,
            cache_bytes=config.data.cache_gigabytes * 2**30,
        )  # fmt: skip
        self.length = int(max(self.leads.max(), *(stage.rollout_steps for stage in config.training.stages)))
        try:
            self.windows = self.loader.windows(self.length)
        except UserError as error:
            raise UserError(
                f"data.validation {config.data.validation} is too short for rollouts of {self.length} steps "
                f"({error.what})",
                remedy="give a longer data.validation, or shorter training.validation_days",
            ) from error
        self._errors = jax.jit(self._rollout)

    def _rollout(
        self, parts: Parts, window: Fields, forcings: Array, scales: Scales
    ) -> tuple[Float[Array, "k c+d"], Float[Array, "k c+d"], Float[Array, "k c+d"]]:
        """Errors of the loss, squared errors on the grid, and those of persistence; units of increments' variance."""
        inputs, grid_scales = self.config.data.input_steps, scales._replace(spectral=None)
        model = nnx.merge(*parts)
        history = map_fields(lambda array: array[:, :inputs], window)
        initial = map_fields(lambda array: array[:, inputs - 1], window)
        targets = map_fields(lambda array: jnp.moveaxis(array[:, inputs:], 1, 0), window)
        pairs = jnp.moveaxis(jnp.stack([forcings[:, :-1], forcings[:, 1:]], axis=2), 1, 0)

        def one(past: Fields, given):
            target, pair = given
            past, new = advance(model, past, scales, pair, training=False)
            loss = step_errors(new, target, scales)
            squared = loss if scales.spectral is None else step_errors(new, target, grid_scales)
            return past, (loss, squared, step_errors(initial, target, grid_scales))

        return jax.lax.scan(one, history, (targets, pairs))[1]

    def __call__(self, parts: Parts, scales: Scales, rollout_steps: int) -> Scorecard:
        """Scores the forecaster.

        Args:
            parts: the averaged forecaster.
            scales: constants of the rollout.
            rollout_steps: of the current stage, for the loss.
        """
        batch_size = self.config.training.batch_size
        count = -(-self.config.training.validation_windows // batch_size) * batch_size
        chosen = np.unique(np.linspace(0, len(self.windows) - 1, count).round().astype(int))
        chosen = np.resize(chosen, count)
        host, hosts = host_share(self.mesh)
        mine = slice(host * batch_size // hosts, (host + 1) * batch_size // hosts)
        batches = []
        for start in range(0, count, batch_size):
            batch = self.loader.batch(self.windows, chosen[start : start + batch_size][mine])
            batches.append(self._errors(parts, *place(batch, self.mesh), scales))
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
