"""What a run needs and does not change: data, network, constants, compiled step."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Float

from weather_scnn.io.durations import parse_duration
from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.layouts import made_for
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import Config
from weather_scnn.training.loader import WindowLoader
from weather_scnn.training.loss import Scales, channel_weights, make_scales
from weather_scnn.training.losses import product_by_degree, spectra
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import TrainState, initial_state, make_optimiser
from weather_scnn.training.rollout import Parts, build, take_apart
from weather_scnn.training.sharding import MODEL, put, put_constants
from weather_scnn.training.states import StateReader, expected_grid
from weather_scnn.training.step import make_train_step
from weather_scnn.training.validation import Validation
from weather_scnn.training.weights import Origin

# Share of `data.cache_gigabytes` for the windows of the validation, where the training's period does not fit.
_WATCHED = 0.25


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The fixed parts of a run.

    Attributes:
        config: the experiment.
        channels, normalisation, grid: of the state.
        statics: standardised static fields, (y, x, s).
        mesh: devices.
        loader: training windows.
        validation: forecasts to watch; None where the configuration names no period.
        graph: structure of the network.
        tables, scales: constants on the devices.
        state: before the first step.
        new_parameters: how many of its parameters a run whose weights it begins with lacks.
        step: the compiled training step, see `make_train_step`.
    """

    config: Config
    channels: Channels
    normalisation: Normalisation
    grid: Grid
    statics: Float[np.ndarray, "y x s"]
    mesh: Mesh
    loader: WindowLoader
    validation: Validation | None
    graph: nnx.GraphDef
    tables: Any
    scales: Scales
    state: TrainState
    new_parameters: int
    step: Callable[..., Any]

    def averaged(self, state: TrainState) -> Parts:
        """The forecaster with the moving averages, which validation and forecasts use."""
        return Parts(self.graph, state.average, state.average_statistics, self.tables)


def assemble(
    config: Config,
    normalisation: Normalisation,
    workdir: epath.Path,
    mesh: Mesh,
    *,
    origin: Origin | None = None,
    progress: bool,
) -> Experiment:
    """Opens the data and builds the network.

    Args:
        config: the experiment.
        normalisation: from the statistics of a new run, or the checkpoint of a resumed one.
        workdir: folder of the run, for the record of missing values.
        mesh: devices.
        origin: whose weights a new run begins with.
        progress: whether to show a bar while the period is searched for missing values.

    Raises:
        UserError: the store does not fit the configuration, or the weights the network.
    """
    channels, grid = Channels.from_config(config.data), expected_grid(config.data)
    channel_weights(channels, config.loss)  # what is wrong with them is said before a long period is searched
    cache_bytes = config.data.cache_gigabytes * 2**30
    reader = StateReader.open(
        config.data.path,
        channels,
        normalisation,
        grid,
        time=config.data.train or None,
        chunk_cache_bytes=(1 - _WATCHED) * cache_bytes,
    )
    statics = reader.statics()
    # The network before the period is read: what is wrong with it is said at once.
    split = mesh.shape[MODEL] > 1
    with made_for(split=split):
        parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
    # Copied to the devices: the first step donates the state, and the parameters it was made of must not go with it.
    state = put(initial_state(parts, make_optimiser(config.optimiser, config.training.stages)), mesh)
    state, new_parameters = (state, 0) if origin is None else origin.into(state)
    loader = WindowLoader(
        reader,
        step=parse_duration(config.data.step),
        input_steps=config.data.input_steps,
        input_step=config.data.input_interval,
        seed=config.training.seed,
        cache_bytes=cache_bytes,
        shuffle_windows=config.data.shuffle_windows,
        record=workdir / "missing_values.json",
        share=(jax.process_index(), jax.process_count()),
        gather=_gather,
        progress=progress,
    )
    validation = None
    if config.data.validation:
        left = cache_bytes - loader.nbytes if loader.in_memory else _WATCHED * cache_bytes
        validation = Validation(config, channels, normalisation, mesh, cache_bytes=left, gather=_gather)
    errors = config.training.input_errors > 0
    amplitudes = increment_amplitudes(loader, normalisation) if config.loss.whitening or errors else None
    with made_for(split=split):
        scales = make_scales(
            channels, normalisation, statics, grid, loss=config.loss, amplitudes=amplitudes, errors=errors
        )
    tables, scales = put_constants((parts.tables, scales), mesh)
    step = make_train_step(parts.graph, config, vectors=len(channels.winds), mesh=mesh)
    return Experiment(
        config,
        channels,
        normalisation,
        grid,
        statics,
        mesh,
        loader,
        validation,
        parts.graph,
        tables,
        scales,
        state,
        new_parameters,
        step,
    )


def increment_amplitudes(loader: WindowLoader, normalisation: Normalisation) -> Float[np.ndarray, "l channel"]:
    """Root mean square per degree of up to 64 increments spread evenly over the period, in units of their deviation."""
    windows, grid = loader.windows(1), loader.reader.grid
    chosen = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), 64)).round().astype(int))
    transform = HarmonicTransform.create(grid, min(grid.maximum_degree, grid.maximum_order))
    ratio = Fields(normalisation.scalar_ratio, normalisation.wind_ratio, normalisation.wind_ratio)  # type: ignore[arg-type]
    powers = []
    for part in np.array_split(chosen, -(-chosen.size // 8)):
        states = Fields(*loader.batch(windows, part)[:3])  # type: ignore[arg-type]
        change = map_fields(lambda array, each: jnp.nan_to_num((array[:, -1] - array[:, -2]) / each), states, ratio)
        found = spectra(transform, map_fields(lambda array: jnp.asarray(array, jnp.float32), change))
        powers.append(np.asarray(product_by_degree(found, found), np.float64).sum(axis=0))
    return np.sqrt(np.sum(powers, axis=0) / chosen.size)


def _gather(flags: np.ndarray) -> np.ndarray:
    """Every host's flags, (hosts, t)."""
    if jax.process_count() == 1:
        return flags[None]
    return np.asarray(multihost_utils.process_allgather(flags))
