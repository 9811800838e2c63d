"""Experiment trackers that a run tells its numbers to: MLflow and Weights & Biases, whose servers may be slow or dead.

Nothing that a server does reaches the training: numbers go into a queue of bounded length, which a thread empties. Where it
is full they are left out, counted, and told of once; all of them are in metrics.csv in any case.
"""

import contextlib
import dataclasses
import importlib.util
import json
import logging
import math
import os
import pathlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from etils import epath

from weather_scnn.errors import UserError
from weather_scnn.io.atomic import write_whole

_logger = logging.getLogger(__name__)
_RUNS = "trackers.json"
_PROJECT = "weather-scnn"
# Lines of numbers that wait; a line of a hundred channels takes some 10 kB.
_WAITING = 1000
# At the end of a run, for what still waits: where the tracker has answered before, and where it has not.
_PATIENCE_SECONDS, _LITTLE_PATIENCE_SECONDS = 20.0, 5.0
# From a run that could not begin to the next try.
_PAUSE_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_MLFLOW_MOST_METRICS, _MLFLOW_MOST_PARAMETERS, _MLFLOW_MOST_LETTERS = 1000, 100, 500


@runtime_checkable
class Tracker(Protocol):
    """A run at a tracker. Its methods are called by one thread, may take long and may fail."""

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step."""

    def close(self, *, finished: bool) -> None:
        """The run ends; `finished` says whether with its last step."""


@dataclasses.dataclass(frozen=True)
class About:
    """What a tracker is told of a run.

    Attributes:
        name: of the run, the last part of its workdir.
        workdir: of the run.
        settings: of its configuration, by dotted name.
        run: under which the tracker knows a run that goes on; empty for a new one.
        remember: takes down under which it will.
        warn: says something to the user, while the run lasts.
    """

    name: str
    workdir: str
    settings: Mapping[str, Any]
    run: str
    remember: Callable[[str], None]
    warn: Callable[..., None]


class MLflow:
    """A run at the MLflow server of `MLFLOW_TRACKING_URI`, or in `mlflow/` of the workdir where none is named.

    Args:
        about: the run.
    """

    def __init__(self, about: About):
        # It tells every try.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        # Version 3.17 refuses local folders unless they are asked for.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        import mlflow.entities

        self.entities = mlflow.entities
        address = os.environ.get("MLFLOW_TRACKING_URI", "")
        if not address:
            if "://" in about.workdir:
                raise UserError("no server is named for a workdir elsewhere", remedy="set MLFLOW_TRACKING_URI")
            address = pathlib.Path(about.workdir, "mlflow").resolve().as_uri()
        self.client = mlflow.MlflowClient(address)
        if about.run:
            self.run = about.run
            self.client.update_run(self.run, "RUNNING")
            return
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT
        experiment = self.client.get_experiment_by_name(named)
        number = self.client.create_experiment(named) if experiment is None else experiment.experiment_id
        self.run = self.client.create_run(number, run_name=about.name).info.run_id
        about.remember(self.run)
        settings = [
            self.entities.Param(key, str(value)[:_MLFLOW_MOST_LETTERS]) for key, value in about.settings.items()
        ]
        for first in range(0, len(settings), _MLFLOW_MOST_PARAMETERS):
            self.client.log_batch(self.run, params=settings[first : first + _MLFLOW_MOST_PARAMETERS])

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1e3)
        metrics = [self.entities.Metric(key, value, now, step) for key, value in values.items()]
        for first in range(0, len(metrics), _MLFLOW_MOST_METRICS):
            self.client.log_batch(self.run, metrics=metrics[first : first + _MLFLOW_MOST_METRICS])

    def close(self, *, finished: bool) -> None:
        self.client.set_terminated(self.run, "FINISHED" if finished else "KILLED")


class WeightsAndBiases:
    """A run at Weights & Biases, or where its server cannot be reached in `wandb/` of the workdir, for `wandb sync`.

    Args:
        about: the run.
    """

    def __init__(self, about: About):
        # Its reports on itself hold a process up at exit where the server sleeps (20 s with wandb 0.31).
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        run = about.run or secrets.token_hex(4)
        about.remember(run)
        options: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT") or _PROJECT,
            "id": run, "name": about.name, "resume": "allow", "config": dict(about.settings),
            "dir": None if "://" in about.workdir else about.workdir,
        }  # fmt: skip
        quiet: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "disable_code": True}
        patience: dict[str, Any] = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": _ANSWER_SECONDS}
        options["settings"] = wandb.Settings(**quiet, **patience)
        try:
            self.run = wandb.init(**options)
        except Exception as error:  # no key, no server: each has a class of its own
            about.warn(
                "Weights & Biases cannot be reached (%s): its files go to %s for `wandb sync`",
                _first_line(error), pathlib.Path(options["dir"] or "", "wandb"),
            )  # fmt: skip
            wandb.teardown()  # its process holds the run that could not begin
            self.run = wandb.init(**options, mode="offline")
        # Its own count of steps only grows, but a run that goes on from a checkpoint takes some steps again.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"step": step, **values})

    def close(self, *, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A tracker's name for people, its package, and what opens a run of it."""

    words: str
    package: str
    begin: Callable[[About], Tracker]


KINDS = {
    "mlflow": _Kind("MLflow", "mlflow", MLflow),
    "wandb": _Kind("Weights & Biases", "wandb", WeightsAndBiases),
}


def require_trackers(names: Iterable[str]) -> None:
    """Refuses trackers whose package is not there, before any work.

    Raises:
        UserError: one is not.
    """
    for name in names:
        if importlib.util.find_spec(KINDS[name].package) is None:
            raise UserError(
                f"training.trackers names {name}, which is not installed", remedy=f"pip install 'weather-scnn[{name}]'"
            )


class Relay:
    """Passes the numbers of a run on to a tracker, in a thread of its own; never waits for it, and never fails.

    Args:
        kind: a key of `KINDS`.
        workdir: of the run.
        settings: of its configuration, by dotted name.
        resumed: whether the run goes on.
    """

    def __init__(self, kind: str, workdir: os.PathLike, settings: Mapping[str, Any], *, resumed: bool):
        self.kind, self.workdir, self.settings, self.resumed = KINDS[kind], epath.Path(workdir), settings, resumed
        self.name, self.lost, self.failed = kind, 0, ""
        self.waiting: queue.Queue[tuple[int, Mapping[str, float]] | None] = queue.Queue(_WAITING)
        self.finished = self.answers = self.closed = False
        self.thread = threading.Thread(target=self._work, name=f"tracker-{kind}", daemon=True)
        self.thread.start()

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers of a step, or leaves them out where too many wait."""
        try:
            self.waiting.put_nowait((step, values))
        except queue.Full:
            self._lose(f"{self.kind.words} does not keep up: numbers are left out")

    def close(self, *, finished: bool) -> None:
        """Waits a little for what still waits."""
        patience = _PATIENCE_SECONDS if self.answers else _LITTLE_PATIENCE_SECONDS
        self.finished, deadline = finished, time.monotonic() + patience
        with contextlib.suppress(queue.Full):
            self.waiting.put(None, timeout=patience)
        self.thread.join(max(0.0, deadline - time.monotonic()))
        self.closed = True
        left = max(0, self.waiting.qsize() - 1) if self.thread.is_alive() else 0  # but for the sign of the end
        if self.lost + left:
            _logger.warning("%s lacks %d lines of numbers; metrics.csv has them all", self.kind.words, self.lost + left)

    def _lose(self, why: str, *, count: bool = True) -> None:
        self.lost += count
        if not self.failed:
            self.failed = why
            self._warn("%s; training goes on, and metrics.csv has them all", why)

    def _work(self) -> None:
        tracker: Tracker | None = None
        item: tuple[int, Mapping[str, float]] | None = (0, {})  # a run begins while the first step is compiled
        again = 0.0  # when the next try is, by the clock
        while item is not None:
            step, values = item
            try:
                if tracker is None and time.monotonic() >= again:
                    tracker = self.kind.begin(self._about())
                if tracker is None:
                    self.lost += 1
                elif values:
                    tracker.tell(step, {key: float(value) for key, value in values.items() if math.isfinite(value)})
                    self.answers = True
            except Exception as error:  # of whatever library: a run does not depend on it
                again = time.monotonic() + _PAUSE_SECONDS
                self._lose(f"{self.kind.words} cannot be told ({_first_line(error)})", count=bool(values))
            item = self.waiting.get()
        with contextlib.suppress(Exception):
            if tracker is not None:
                tracker.close(finished=self.finished)

    def _about(self) -> About:
        runs = _runs(self.workdir)
        name = self.workdir.name or str(self.workdir)
        run = runs.get(self.name, "") if self.resumed else ""
        return About(name, str(self.workdir), self.settings, run, self._remember, self._warn)

    def _warn(self, *words: Any) -> None:
        if not self.closed:
            _logger.warning(*words)

    def _remember(self, run: str) -> None:
        with _writing:
            write_whole(self.workdir / _RUNS, json.dumps(_runs(self.workdir) | {self.name: run}))


_writing = threading.Lock()


def _runs(workdir: epath.Path) -> dict[str, str]:
    """Under which each tracker knows the run."""
    try:
        found = json.loads((workdir / _RUNS).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return text if len(text) < 160 else f"{text[:157]}…" if text else type(error).__name__
