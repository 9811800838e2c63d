"""The training loop: from a configuration and a store to checkpoints that forecast."""

import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from weather_scnn.errors import UserError
from weather_scnn.io.outputs import check_workdir
from weather_scnn.io.statistics import read_statistics
from weather_scnn.training.assembly import Experiment, assemble
from weather_scnn.training.channels import Channels
from weather_scnn.training.checkpoints import Checkpoints, Cursor, parameter_count, save_config
from weather_scnn.training.configuration import Config, Stage, differences, flatten
from weather_scnn.training.curves import CurveDrawer
from weather_scnn.training.divergence import divergence_error
from weather_scnn.training.duration import spell, units
from weather_scnn.training.leaves import LeafStep
from weather_scnn.training.log import Display, RunLog, scorecard_lines
from weather_scnn.training.loss import channel_weights
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import TrainState, learning_rate_schedule
from weather_scnn.training.placement import placed_ahead
from weather_scnn.training.preemption import StopRequests
from weather_scnn.training.preparation import check_statistics, check_store, left_as_found
from weather_scnn.training.run_folder import finished_steps, run_folder
from weather_scnn.training.sharding import device_mesh, host_share
from weather_scnn.training.step import Ensemble
from weather_scnn.training.trackers import require_trackers
from weather_scnn.training.weights import Origin

_MOST_SKIPPED = 50  # steps in a row; then skipping has not helped
_MEASURED_SECONDS = 15.0  # of steps, before it is said how long the rest will take
_logger = logging.getLogger(__name__)


def train(
    config: Config,
    workdir: str | os.PathLike,
    *,
    statistics: str = "",
    make_statistics: Callable[[Config, str], None] | None = None,
    progress: bool = True,
) -> TrainState:
    """Trains, or goes on where the newest checkpoint of the workdir stands.

    Args:
        config: the experiment; `config.data.path` names the store.
        workdir: folder for checkpoints, metrics.csv, validation.csv, curves, TensorBoard events and config.json; an
            address such as gs://bucket/run where several hosts take part.
        statistics: file written by `weather-scnn stats`; by default `data.statistics`, or else statistics.nc in the
            workdir. A resumed run keeps the moments of its checkpoint, one with `training.start_from` those of the run
            it starts from.
        make_statistics: computes those in the workdir, where they are not there.
        progress: whether to show a bar.

    Returns:
        The state after the last step.

    Raises:
        UserError: the store or the statistics do not fit the configuration, the run was begun with another
            configuration or on other data, or the loss is not finite or spikes. A new run that is refused before its
            first step leaves nothing behind.
        Stopped: SIGTERM or Ctrl-C; the state is saved.
    """
    if not config.data.path:
        raise UserError("no training store is named", remedy="add --set data.path=S.zarr")
    check_workdir(str(workdir), {"data.path": config.data.path, "data.statistics": config.data.statistics})
    require_trackers(config.training.trackers)
    folder = run_folder(workdir, writable=True)
    mesh = device_mesh(config.training)
    leader = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        with contextlib.nullcontext(set[str]()) if finished_steps(folder) else left_as_found(folder) as kept:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoints = stack.enter_context(Checkpoints(folder, keep=config.training.keep_checkpoints))
            stop = stack.enter_context(StopRequests())
            resumed = checkpoints.latest
            if resumed is None:
                beginning = _begin(config, statistics, folder, make_statistics, kept)
            else:
                beginning = _resume(config, folder, checkpoints)
            config = beginning.config
            experiment = assemble(
                config, beginning.normalisation, folder, mesh, origin=beginning.origin, progress=progress and leader
            )
            lengths = dict.fromkeys(stage.rollout_steps for stage in config.training.stages)
            windows, *_ = (len(experiment.loader.windows(length)) for length in lengths)
            state = experiment.state
            if resumed is not None:
                _check_windows(experiment, beginning.cursor, folder)
                state = checkpoints.restore(state, resumed)
        if leader:
            save_config(config, folder)
        log = (
            stack.enter_context(RunLog(folder, resumed or 0, config.training.trackers, flatten(config)))
            if leader
            else None
        )
        curves = stack.enter_context(CurveDrawer(folder)) if leader else None
        total = config.training.total_steps
        display = stack.enter_context(Display(total, int(state.step), enabled=progress and leader))
        display.say(
            f"{parameter_count(state.parameters):,} parameters, {windows:,} windows, "
            f"{mesh.size} {'device' if mesh.size == 1 else 'devices'} ({jax.devices()[0].device_kind})"
            + (f", resumed at step {resumed} of {total}" if resumed else "")
        )
        display.say(*beginning.told(experiment, int(state.step)))
        return _Loop(experiment, beginning.started_from, checkpoints, stop, log, curves, display).run(state)


class _Beginning(NamedTuple):
    """What a run begins with, or goes on with.

    Attributes:
        config: the experiment; a run that goes on keeps what it was started from.
        normalisation: moments of the channels.
        origin: the checkpoint a new run begins with.
        started_from: where its weights came from, once.
        cursor: where in the data a resumed run stands.
        stages: those before they were extended.
    """

    config: Config
    normalisation: Normalisation
    origin: Origin | None = None
    started_from: dict[str, Any] | None = None
    cursor: Cursor | None = None
    stages: tuple[Stage, ...] = ()

    def told(self, experiment: Experiment, step: int) -> Iterator[str]:
        """What a person should know of it."""
        if self.origin is not None:
            new = experiment.new_parameters
            yield (
                f"begins with the weights of {self.origin.workdir}@{self.origin.step} ({self.origin.kind})"
                + (f"; {new:,} parameters are new" if new else "")
            )
        stages = self.config.training.stages
        if self.stages and self.stages != stages:
            optimiser = self.config.optimiser
            before, now = (float(learning_rate_schedule(optimiser, each)(step)) for each in (self.stages, stages))
            yield (
                f"extended from {sum(stage.steps for stage in self.stages)} to {self.config.training.total_steps} steps: "
                f"the learning rate, {before:.3g} by then, goes on at {now:.3g}"
            )


def _begin(
    config: Config,
    statistics: str,
    folder: epath.Path,
    make_statistics: Callable[[Config, str], None] | None,
    kept: set[str],
) -> _Beginning:
    """A new run's moments, from its statistics or the run whose weights it takes."""
    given = statistics or config.data.statistics
    path = given or str(folder / "statistics.nc")
    channels = Channels.from_config(config.data)
    channel_weights(channels, config.loss)  # what is wrong with them is said before a long period is read
    times = check_store(config)
    origin = Origin.of(config) if config.training.start_from else None
    if origin is not None and not given:
        return _Beginning(config, origin.normalisation, origin, origin.provenance)
    if not given and make_statistics is not None and not epath.Path(path).exists():
        if jax.process_count() > 1:
            raise UserError(
                "several processes cannot make the statistics together",
                remedy="make them first with weather-scnn stats, and add --set data.statistics=FILE",
            )
        try:
            make_statistics(config, path)
        except UserError:
            kept.update(entry.name for entry in folder.iterdir() if entry.name != "checkpoints")
            raise  # the same command goes on with what it has finished
    found = read_statistics(path)
    period = f" --time {config.data.train}" if config.data.train else ""
    remedy = f"make them with weather-scnn stats --input {config.data.path}{period} --step {config.data.step}" + (
        ", or leave data.statistics out" if given else f", or remove {path}, so that train makes them anew"
    )
    normalisation = Normalisation.from_statistics(found, channels, where=path)
    if origin is not None:
        origin.check_statistics(normalisation, path)
        return _Beginning(config, origin.normalisation, origin, origin.provenance)
    check_statistics(found, config, times, where=path, remedy=remedy)
    return _Beginning(config, normalisation)


def _resume(config: Config, folder: epath.Path, checkpoints: Checkpoints) -> _Beginning:
    """What a run goes on with, from its newest checkpoint."""
    about = checkpoints.about(checkpoints.latest)
    changed = differences(about.config, config)
    if changed:
        raise UserError(
            f"was begun with another configuration: {'; '.join(changed)}",
            where=str(folder),
            remedy="choose another --workdir, or give the configuration it was begun with; only training.stages may "
            "grow, by further stages or a longer last one",
        )
    was = about.config.training
    training = dataclasses.replace(config.training, start_from=was.start_from, start_with=was.start_with)
    return _Beginning(
        dataclasses.replace(config, training=training),
        about.normalisation,
        started_from=about.started_from,
        cursor=about.cursor,
        stages=was.stages,
    )


def _check_windows(experiment: Experiment, cursor: Cursor | None, folder: epath.Path) -> None:
    if cursor is None:
        return
    found = experiment.loader.fingerprint(cursor.rollout_steps)
    if found != cursor.windows:
        raise UserError(
            f"was begun on {cursor.windows}, but the store now gives {found}, so it cannot go on from where it was",
            where=str(folder),
            remedy="give the store it was begun with, or data.train as then, or begin anew in another --workdir",
        )


class _Loop:
    """The steps, and what happens between them."""

    def __init__(
        self,
        experiment: Experiment,
        started_from: dict[str, Any] | None,
        checkpoints: Checkpoints,
        stop: StopRequests,
        log: RunLog | None,
        curves: CurveDrawer | None,
        display: Display,
    ):
        self.experiment, self.checkpoints, self.stop = experiment, checkpoints, stop
        self.started_from = started_from
        self.log, self.curves, self.display = log, curves, display
        self.training = experiment.config.training
        self.rate = learning_rate_schedule(experiment.config.optimiser, self.training.stages)
        self.fingerprints: dict[int, str] = {}
        self.skipped_in_a_row = 0
        # Steps whose reports were not looked at yet: looking at once would make the device wait for the host.
        self.pending: collections.deque[tuple[int, Any]] = collections.deque()
        self.since, self.counted, self.waited = time.perf_counter(), 0, 0.0
        self.measuring: tuple[float, int] | None = None  # since when and which step
        self.told = False  # how long it will take

    def run(self, state: TrainState) -> TrainState:
        """All steps that are left."""
        experiment, training = self.experiment, self.training
        mark = int(state.step)
        self.counted = mark
        step = LeafStep(experiment.step, state, experiment.tables, experiment.scales)
        del state  # its arrays are the step's now
        if self.stop.due(mark):
            raise self.stop.stopped(mark, saved=False)
        while mark < training.total_steps:
            first, stage = training.stage_at(mark)
            if mark == first:
                step.state = step.state._replace(watch=step.state.watch.forget())
            batches = experiment.loader.stream(
                stage.rollout_steps,
                batch_size=training.batch_size,
                first=mark - first,
                last=stage.steps,
                share=host_share(experiment.mesh),
                ahead=experiment.config.data.prefetch,
                readers=experiment.config.data.readers,
            )
            ensemble = Ensemble.of(experiment.config, stage, experiment.mesh)
            with contextlib.closing(batches):
                lengths = (self.length(number, stage) for number in itertools.count(mark))
                for window, forcings in placed_ahead(batches, experiment.mesh, lengths):
                    report = step(window, forcings, ensemble)
                    mark += 1
                    self.pending.append((mark, report))
                    self.after(mark, first, stage, step)
        self.checkpoints.wait()
        return step.state

    def length(self, mark: int, stage: Stage) -> int:
        """Of the rollout of step `mark`, by the seed and the step alone."""
        lengths = self.training.lengths[stage.rollout_steps]
        if len(lengths) == 1:
            return lengths[0]
        return int(np.random.default_rng([self.training.seed, 1, mark]).choice(lengths))

    def after(self, mark: int, first: int, stage: Stage, step: LeafStep) -> None:
        """What is due after step `mark`: judge, tell, validate, save, stop."""
        training, total = self.training, self.training.total_steps
        stopping = self.stop.due(mark)
        saving = mark % training.checkpoint_every == 0 or mark == total or stopping
        every = training.validate_every or training.checkpoint_every
        watching = self.experiment.validation is not None and (mark % every == 0 or mark == total)
        telling = mark % training.log_every == 0 or (saving and not stopping) or watching
        report = self.settle(0 if saving or telling or mark == first + 1 else 1)
        self.display.advance(mark)
        self.foretell(mark, first)
        if telling:
            row = self.row(mark, stage, step.state, report)
            if watching and self.experiment.validation is not None:
                card = self.experiment.validation(
                    self.experiment.averaged(step.state),
                    self.experiment.scales,
                    stage.rollout_steps,
                    Ensemble.of(self.experiment.config, stage, self.experiment.mesh),
                )
                row["validation_loss"] = card.loss
                self.display.say(*scorecard_lines(mark, card))
                if self.log is not None:
                    self.log.validation(mark, card)
            if self.log is not None:
                names = self.experiment.channels.describe()
                self.log.step(row, dict(zip(names, np.asarray(report.channel_errors).tolist())))
            self.display.report(row)
        if saving:
            self.save(mark, first, stage, step.state)
        if self.curves is not None and (saving or watching):
            self.curves.request(last=mark == total or stopping)
        if saving or watching or mark == first + 1:
            # The rate is that of training alone, without the compilation before a stage's first step.
            self.since, self.counted, self.waited = time.perf_counter(), mark, self.experiment.loader.waited
        if stopping:
            self.checkpoints.wait()
            raise self.stop.stopped(mark, saved=True)

    def foretell(self, mark: int, first: int) -> None:
        """Says once how long the rest will take, by steps that are not the first of a stage, which is compiled."""
        if self.told:
            return
        now = time.perf_counter()
        if self.measuring is None or mark == first + 1:
            self.measuring = now, mark
            return
        since, begin = self.measuring
        if now - since < _MEASURED_SECONDS or mark - begin < 2:
            return
        self.told = True
        done, left = units(self.training, begin, mark), units(self.training, mark, self.training.total_steps)
        if left:
            seconds = (now - since) * left / done
            self.display.say(f"at this speed the {self.training.total_steps - mark:,} steps left take {spell(seconds)}")

    def settle(self, left: int) -> Any:
        """Judges all pending steps but the newest `left`; gives the last report judged."""
        report = None
        while len(self.pending) > left:
            step, report = self.pending.popleft()
            if bool(report.good):
                self.skipped_in_a_row = 0
                continue
            self.skipped_in_a_row += 1
            errors = np.asarray(report.channel_errors, np.float64)
            # A field without a say in the loss is not what made it spike.
            errors[(np.asarray(self.experiment.scales.channel) == 0) & np.isfinite(errors)] = 0.0
            loss, norm = float(report.loss), float(report.gradient_norm)
            error = divergence_error(step, loss, norm, errors, self.experiment.channels, self.checkpoints.latest)
            if self.training.on_divergence == "stop" or self.skipped_in_a_row > _MOST_SKIPPED:
                raise error
            _logger.warning("step %d is left out: %s", step, error.what)
        return report

    def row(self, mark: int, stage: Stage, state: TrainState, report: Any) -> dict[str, float | int]:
        """A line of metrics.csv."""
        now, waited = time.perf_counter(), self.experiment.loader.waited
        seconds = max(now - self.since, 1e-9)
        speed = (mark - self.counted) / seconds
        row: dict[str, float | int] = {
            "step": mark,
            "loss": float(report.loss),
            "grad_norm": float(report.gradient_norm),
            "learning_rate": float(self.rate(mark - 1)),
            "rollout_steps": self.length(mark - 1, stage),
            "skipped_steps": int(state.watch.skipped),
            "steps_per_second": round(speed, 3),
            "samples_per_second": round(speed * self.training.batch_size, 3),
            "loader_share": round((waited - self.waited) / seconds, 4),
        }
        self.since, self.counted, self.waited = now, mark, waited
        return row

    def save(self, mark: int, first: int, stage: Stage, state: TrainState) -> None:
        """Hands the state to orbax, which copies it before it returns."""
        if self.checkpoints.latest == mark:
            return
        experiment = self.experiment
        if stage.rollout_steps not in self.fingerprints:
            self.fingerprints[stage.rollout_steps] = experiment.loader.fingerprint(stage.rollout_steps)
        cursor = Cursor(mark, stage.rollout_steps, mark - first, self.fingerprints[stage.rollout_steps])
        self.checkpoints.save(
            state,
            experiment.config,
            experiment.normalisation,
            grid=experiment.grid,
            cursor=cursor,
            statics=experiment.statics,
            started_from=self.started_from,
        )
