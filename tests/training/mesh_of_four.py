"""Run by test_step.py in a process that sees four devices: a step in parts of a batch, on one device and on a mesh."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from tests.training import test_step
from weather_scnn.training.configuration import LossConfig
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import take_apart
from weather_scnn.training.sharding import device_mesh, put, put_constants
from weather_scnn.training.step import make_train_step


def losses(devices: int) -> list[float]:
    """Of three steps with rollouts of two, noise, a masked variable and two parts a batch."""
    config = test_step.experiment(batch_size=8, accumulation=2, input_noise=0.1, input_errors=0.2)
    mesh = device_mesh(config.training, jax.devices()[:devices])
    parts = take_apart(test_step.Mixing())
    window, forcings = test_step.random_batch(2, batch=8)
    # A masked variable with a gap that differs from sample to sample.
    gaps = np.random.default_rng(1).random(window.scalar[..., 2].shape) < 0.3
    window = window._replace(scalar=window.scalar.at[..., 2].set(jnp.where(gaps, jnp.nan, window.scalar[..., 2])))
    window, forcings = jax.device_put((window, forcings), jax.NamedSharding(mesh, jax.P("data")))
    state = put(initial_state(parts, make_optimiser(config.optimiser, config.training.stages)), mesh)
    scales = test_step.constants(LossConfig(), missing=True)._replace(error_deviations=0.1 * jnp.ones((5, 7)))
    tables, scales = put_constants((parts.tables, scales), mesh)
    step, found = make_train_step(parts.graph, config, vectors=2, mesh=mesh), []
    for _ in range(3):
        state, report = step(state, tables, window, forcings, scales)
        found.append(float(report.loss))
    assert step._cache_size() == 1  # the state keeps its layout
    return found


print(json.dumps([losses(1), losses(4)]))
