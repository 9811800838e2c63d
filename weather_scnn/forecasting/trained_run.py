"""The forecasters of one or several checkpoints, ready to forecast."""

import dataclasses
import pathlib
import re

import jax
import numpy as np
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.forecasting.package import read_package
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Config
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import Parts, build, take_apart
from weather_scnn.training.run_folder import BEST_LONG_RUN, is_package
from weather_scnn.training.states import expected_grid

_LAST = re.compile(r"last:(\d+)")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A forecaster with averaged parameters and what it was made for.

    Attributes:
        config: the experiment.
        normalisation: moments of the channels.
        channels: layout of the state.
        grid: of the state.
        parts: the forecaster.
        statics: standardised static fields of the training store, (y, x, s); None in old checkpoints.
        name: workdir and step, such as `runs/era5@1000`.
    """

    config: Config
    normalisation: Normalisation
    channels: Channels
    grid: Grid
    parts: Parts
    statics: Float[np.ndarray, "y x s"] | None
    name: str


def load_run(workdir: str | pathlib.Path, step: int | str | None = None) -> TrainedRun:
    """The forecaster of one checkpoint of a run, or that of an exported package.

    Args:
        workdir: of the run, or the package.
        step: of the checkpoint; `best_long_run`; the newest by default.

    Raises:
        UserError: there is none, or it does not fit.
    """
    if is_package(workdir):
        if step is not None:
            raise UserError("is one forecaster, without steps", where=str(workdir), remedy="leave the step out")
        package = read_package(workdir)
        config, normalisation = package.config, package.normalisation
        channels, grid = Channels.from_config(config.data), expected_grid(config.data)
        parts = package.into(take_apart(build(config.model, config.data, channels, grid, config.training.seed)))
        return TrainedRun(config, normalisation, channels, grid, parts, package.statics, package.where)
    best = step == BEST_LONG_RUN
    with Checkpoints(workdir, best=best) as checkpoints:
        present = checkpoints.steps
        step = checkpoints.latest if best or step is None else int(step)
        if step is not None and step not in present:
            raise UserError(
                f"holds no checkpoint {step}",
                where=str(workdir),
                remedy="choose from " + ", ".join(map(str, present)),
            )
        about = checkpoints.about(step)
        config, normalisation = about.config, about.normalisation
        channels, grid = Channels.from_config(config.data), expected_grid(config.data)
        parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
        template = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
        state = checkpoints.restore(template, step)
        parts = parts._replace(parameters=state.average, statistics=state.average_statistics)
        name = f"{workdir}@{step}"
    return TrainedRun(config, normalisation, channels, grid, parts, about.statics, name)


def _chosen(workdir: str, text: str) -> list[tuple[str, int | str | None]]:
    """Workdirs and steps that `--checkpoints` names."""
    last = _LAST.fullmatch(text.strip())
    if last is not None:
        with Checkpoints(workdir) as checkpoints:
            steps = checkpoints.steps
        count = int(last[1])
        if not 1 <= count <= len(steps):
            raise UserError(
                f"holds {len(steps)} checkpoints, not {count}",
                where=workdir,
                remedy="ask for fewer, or train with a larger training.keep_checkpoints",
            )
        return [(workdir, step) for step in reversed(steps[-count:])]
    chosen: list[tuple[str, int | str | None]] = []
    for entry in (part.strip() for part in text.split(",")):
        folder, at, step = entry.rpartition("@")
        if entry.isdecimal():
            chosen.append((workdir, int(entry)))
        elif entry == BEST_LONG_RUN or (at and step == BEST_LONG_RUN):
            chosen.append((folder or workdir, BEST_LONG_RUN))
        elif at and step.isdecimal():
            chosen.append((folder, int(step)))
        elif entry:
            chosen.append((entry, None))
    if not chosen:
        raise UserError(f"{text!r} names no checkpoint", remedy="write --checkpoints last:3, or steps as in 600,800")
    return chosen


def load_runs(workdir: str, checkpoints: str | None) -> list[TrainedRun]:
    """The forecasters of the checkpoints that `--checkpoints` names; the newest of the run without it.

    Args:
        workdir: the run.
        checkpoints: `last:N`, or steps of the run, `best_long_run` and workdirs of other runs (`RUN`, `RUN@STEP` or
            `RUN@best_long_run`) with commas between.

    Raises:
        UserError: one is not there, or they were not trained on the same state, grid and moments.
    """
    if checkpoints is None:
        return [load_run(workdir)]
    runs = [load_run(folder, step) for folder, step in _chosen(str(workdir), checkpoints)]
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"{name} is named {names.count(name)} times among the checkpoints, for members that would be the same",
                remedy="name each once, and ask for more --members, which are then perturbed",
            )
    first = runs[0]
    for run in runs[1:]:
        same = run.channels == first.channels and run.config.data.grid == first.config.data.grid
        same &= run.config.data.poles == first.config.data.poles and run.config.data.step == first.config.data.step
        same &= run.config.data.input_steps == first.config.data.input_steps
        same &= bool(run.config.data.input_interval == first.config.data.input_interval)
        moments = zip(jax.tree.leaves(run.normalisation.to_json()), jax.tree.leaves(first.normalisation.to_json()))
        if not (same and all(np.isclose(one, other, rtol=1e-6) for one, other in moments)):
            raise UserError(
                f"{run.name} and {first.name} differ in state, grid, step or statistics",
                remedy="give checkpoints of runs with the same data settings and the same statistics file",
            )
    return runs
