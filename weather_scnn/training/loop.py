"""The training loop: from a configuration and a store to checkpoints that forecast."""

import collections
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.io.outputs import check_workdir
from weather_scnn.training.assembly import Experiment, assemble
from weather_scnn.training.beginning import begin, check_windows, resume
from weather_scnn.training.checkpoints import Checkpoints, Cursor, parameter_count, save_config
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.configuration_reading import flatten
from weather_scnn.training.curves import CurveDrawer
from weather_scnn.training.divergence import divergence_error
from weather_scnn.training.duration import spell, units
from weather_scnn.training.leaves import LeafStep
from weather_scnn.training.log import Display, RunLog, scorecard_lines
from weather_scnn.training.long_run import ROW, LongRuns
from weather_scnn.training.optimiser import TrainState, learning_rate_schedule
from weather_scnn.training.placement import placed_ahead
from weather_scnn.training.preemption import StopRequests
from weather_scnn.training.preparation import left_as_found
from weather_scnn.training.run_folder import finished_steps, run_folder
from weather_scnn.training.sharding import device_mesh, host_share
from weather_scnn.training.step import Ensemble
from weather_scnn.training.trackers import require_trackers

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
    config = Config.from_json(config.to_json())  # as checkpoints give it back: a caller's lists are tuples
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
                beginning = begin(config, statistics, folder, make_statistics, kept)
            else:
                beginning = resume(config, folder, checkpoints)
            config = beginning.config
            experiment = assemble(
                config, beginning.normalisation, folder, mesh, origin=beginning.origin, progress=progress and leader
            )
            long_runs = best = None
            if config.training.long_run:
                long_runs = LongRuns(config, experiment.channels, experiment.normalisation, mesh, folder, resumed or 0)
                best = stack.enter_context(Checkpoints(folder, keep=1, best=True))
            lengths = dict.fromkeys(stage.rollout_steps for stage in config.training.stages)
            windows, *_ = (len(experiment.loader.windows(length)) for length in lengths)
            state = experiment.state
            if resumed is not None:
                check_windows(experiment, beginning.cursor, folder)
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
        return _Loop(experiment, beginning.started_from, checkpoints, stop, log, curves, display, long_runs, best).run(
            state
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
        long_runs: LongRuns | None = None,
        best: Checkpoints | None = None,
    ):
        self.experiment, self.checkpoints, self.stop = experiment, checkpoints, stop
        self.started_from = started_from
        self.log, self.curves, self.display = log, curves, display
        self.long_runs, self.best = long_runs, best
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
        if mark:
            # That of a step at which the run was stopped.
            self.run_long(mark, *training.stage_at(mark - 1), state)
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
        if not stopping:
            self.run_long(mark, first, stage, step.state)
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
        if self.checkpoints.latest != mark:
            self.hand_over(self.checkpoints, mark, first, stage, state)

    def hand_over(
        self, checkpoints: Checkpoints, mark: int, first: int, stage: Stage, state: TrainState, **about: Any
    ) -> None:
        """Saves the state with what it was made with."""
        experiment = self.experiment
        if stage.rollout_steps not in self.fingerprints:
            self.fingerprints[stage.rollout_steps] = experiment.loader.fingerprint(stage.rollout_steps)
        cursor = Cursor(mark, stage.rollout_steps, mark - first, self.fingerprints[stage.rollout_steps])
        checkpoints.save(
            state,
            experiment.config,
            experiment.normalisation,
            grid=experiment.grid,
            cursor=cursor,
            statics=experiment.statics,
            started_from=self.started_from,
            **about,
        )

    def run_long(self, mark: int, first: int, stage: Stage, state: TrainState) -> None:
        """Makes the long run that is due after step `mark`, and keeps the state if none was better.

        It is kept before the state itself is saved: after a kill between the two, the long run is made again, and comes
        to the same.
        """
        if self.long_runs is None or self.best is None or not self.long_runs.due(mark):
            return
        found = self.long_runs(mark, self.experiment.averaged(state), self.experiment.scales)
        latest = self.best.latest
        before = np.inf if latest is None else self.best.about(latest).long_run_error
        days = found.steps * self.long_runs.step / np.timedelta64(24, "h")
        if latest is None or (before is not None and found.error < before):
            self.hand_over(self.best, mark, first, stage, state, long_run_error=found.error)
            self.best.wait()
        told = f"error of time means {found.error:.3g}, worst {found.worst} {found.worst_error:.3g}"
        if not np.isfinite(found.error):
            told = f"{found.worst} is not finite after {days:g} days"
        kept = "" if latest is None else f"; best so far {min(before or np.inf, found.error):.3g}"
        self.display.say(f"step {mark}: long run of {self.long_runs.size}: {told}{kept}")
        if self.log is not None:
            self.log.long_run(mark, ROW, self.long_runs.size.steps * days / max(found.steps, 1), found.error)
        # The rate of steps is that of training alone.
        self.since, self.counted, self.waited = time.perf_counter(), mark, self.experiment.loader.waited
