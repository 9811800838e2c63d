"""The training loop: from a configuration and a store to checkpoints that forecast."""

import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from weather_scnn.data.channels import Channels
from weather_scnn.data.loader import Batch, WindowLoader
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.data.reading import StateReader, expected_grid
from weather_scnn.data.statistics import read_statistics
from weather_scnn.data.windows import parse_step
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields
from weather_scnn.training.checkpoints import Checkpoints, parameter_count, save_config
from weather_scnn.training.configuration import Config, differences
from weather_scnn.training.log import MetricsLog, draw_curves, training_bar
from weather_scnn.training.loss import Scales, make_scales, weighted_loss
from weather_scnn.training.optimiser import (
    TrainState,
    initial_state,
    learning_rate_schedule,
    make_optimiser,
)
from weather_scnn.training.rollout import Parts, build, rollout_errors, take_apart
from weather_scnn.training.sharding import device_mesh, host_share, put, put_constants
from weather_scnn.training.step import make_train_step

_VALIDATION_WINDOWS = 32


def train(config: Config, workdir: str | pathlib.Path, *, statistics: str, progress: bool = True) -> TrainState:
    """Trains, or goes on where the newest checkpoint of the workdir stands.

    Args:
        config: the experiment; `config.data.path` names the store.
        workdir: folder for checkpoints, metrics.csv, curves.png and config.json.
        statistics: file written by `weather-scnn stats`; a resumed run keeps the moments of its checkpoint.
        progress: whether to show a bar.

    Returns:
        The state after the last step.

    Raises:
        UserError: the store does not fit the configuration, the run was begun with another configuration, or the
            loss is not finite.
    """
    workdir = pathlib.Path(workdir)
    if not config.data.path:
        raise UserError("no training store is named", remedy="add --set data.path=S.zarr")
    mesh = device_mesh(config.training)
    channels, grid = Channels.from_config(config.data), expected_grid(config.data)
    workdir.mkdir(parents=True, exist_ok=True)
    with Checkpoints(workdir, keep=config.training.keep_checkpoints) as checkpoints:
        resumed = checkpoints.latest
        if resumed is None:
            normalisation = Normalisation.from_statistics(read_statistics(statistics), channels, where=statistics)
        else:
            saved, normalisation = checkpoints.about(resumed)
            changed = differences(saved, config)
            if changed:
                raise UserError(
                    f"was begun with another configuration: {'; '.join(changed)}",
                    where=str(workdir),
                    remedy="choose another --workdir, or give the configuration it was begun with",
                )
        leader = jax.process_index() == 0
        if leader:
            save_config(config, workdir)
        reader = StateReader.open(config.data.path, channels, normalisation, grid, time=config.data.train or None)
        loader = _loader(config, reader)
        watch = _validation(config, channels, normalisation) if config.data.validation else None
        parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
        scales = make_scales(channels, normalisation, reader.statics(), grid, loss=config.loss)
        total = config.training.total_steps
        state = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
        # Copied: the first step donates the state, and the parameters it was made of must not go with it.
        state, tables, scales = put(state, mesh), *put_constants((parts.tables, scales), mesh)
        if resumed is not None:
            state = checkpoints.restore(state, resumed)
        step_function = make_train_step(parts.graph, config, vectors=len(channels.winds), mesh=mesh)
        rate = learning_rate_schedule(config.optimiser, config.training.stages)
        log = MetricsLog(workdir, resumed or 0) if leader else None
        with training_bar(enabled=progress and leader) as bar:
            bar.console.print(
                f"{parameter_count(parts.parameters):,} parameters, "
                f"{loader.windows(config.training.stages[0].rollout_steps).shape[0]:,} windows"
                + (f", resumed at step {resumed}" if resumed else "")
            )
            task = bar.add_task("train", total=total, completed=int(state.step), report="compiling")
            since, mark = time.perf_counter(), int(state.step)
            counted = mark
            while mark < total:
                first, stage = config.training.stage_at(mark)
                batches = loader.stream(
                    stage.rollout_steps,
                    batch_size=config.training.batch_size,
                    first=mark - first,
                    last=stage.steps,
                    share=host_share(mesh),
                )
                for batch in batches:
                    window, forcings = place(batch, mesh)
                    state, report = step_function(state, tables, window, forcings, scales)
                    mark += 1
                    saving = mark % config.training.checkpoint_every == 0 or mark == total
                    if saving or mark % config.training.log_every == 0:
                        loss = float(report.loss)
                        if not np.isfinite(loss):
                            raise _diverged(report.channel_errors, channels, mark, checkpoints.latest)
                        now = time.perf_counter()
                        speed = (mark - counted) / max(now - since, 1e-9)
                        since, counted = now, mark
                        row: dict[str, float | int | str] = {
                            "step": mark,
                            "loss": loss,
                            "grad_norm": float(report.gradient_norm),
                            "learning_rate": float(rate(mark - 1)),
                            "rollout_steps": stage.rollout_steps,
                            "steps_per_second": round(speed, 3),
                        }
                        if saving and watch is not None:
                            model = Parts(parts.graph, state.average, state.statistics, tables)
                            row["validation_loss"] = watch(model, scales, stage.rollout_steps)
                            since = time.perf_counter()
                        if log is not None:
                            log.write(row)
                        text = f"{speed:5.2f} steps/s  loss {loss:.4f}  |g| {row['grad_norm']:.3f}"
                        bar.update(task, completed=mark, report=text)
                    if saving:
                        checkpoints.save(state, config, normalisation)
                        if leader:
                            draw_curves(workdir)
        checkpoints.wait()
    return state


def place(batch: Batch, mesh: Mesh) -> tuple[Fields, jax.Array]:
    """Puts a host's part of a batch on its devices: one array over all hosts, divided along its first axis."""
    divided = NamedSharding(mesh, PartitionSpec("data"))
    scalar, eastward, northward, forcings = (jax.make_array_from_process_local_data(divided, array) for array in batch)
    return Fields(scalar, eastward, northward), forcings


def _loader(config: Config, reader: StateReader) -> WindowLoader:
    return WindowLoader(
        reader,
        step=parse_step(config.data.step),
        input_steps=config.data.input_steps,
        seed=config.training.seed,
        cache_bytes=config.data.cache_gigabytes * 2**30,
    )


def _validation(config: Config, channels: Channels, normalisation: Normalisation):
    """A function (parts, scales, rollout steps) → loss over evenly spaced windows of the validation period."""
    reader = StateReader.open(
        config.data.path, channels, normalisation, expected_grid(config.data), time=config.data.validation
    )
    loader = _loader(config, reader)

    @jax.jit
    def errors(parts: Parts, window: Fields, forcings: jax.Array, scales: Scales) -> jax.Array:
        found, _ = rollout_errors(parts, window, forcings, scales, inputs=config.data.input_steps, training=False)
        return weighted_loss(found, scales, len(channels.winds))

    def watch(parts: Parts, scales: Scales, rollout_steps: int) -> float:
        windows = loader.windows(rollout_steps)
        chosen = np.unique(np.linspace(0, len(windows) - 1, _VALIDATION_WINDOWS).round().astype(int))
        batch = loader.batch(windows, np.resize(chosen, _VALIDATION_WINDOWS))
        window = Fields(*(jnp.asarray(array) for array in batch[:3]))
        return float(errors(parts, window, jnp.asarray(batch.forcings), scales))

    return watch


def _diverged(errors, channels: Channels, step: int, last_good: int | None) -> UserError:
    at_fault = channels.describe()[int(np.argmax(~np.isfinite(np.asarray(errors))))]
    return UserError(
        f"the loss is not finite at step {step}, first for {at_fault}",
        remedy=f"the last good checkpoint is that of step {last_good}; lower optimiser.learning_rate",
    )
