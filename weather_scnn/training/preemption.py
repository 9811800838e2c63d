"""Signals that ask a run to stop: it saves first."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from weather_scnn.errors import UserError


class Stopped(UserError):
    """A run that was asked to stop and has saved its state; `status` is the exit status the shell expects."""

    status = 128 + signal.SIGTERM


class StopRequests:
    """Turns SIGTERM, which precedes the loss of a machine, and the first Ctrl-C into a request to stop between steps.

    A second Ctrl-C interrupts at once. Of several processes, all stop at the same step: the hosts agree on one through
    the coordinator, which watches SIGTERM itself.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequests":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._received is not None:
            raise KeyboardInterrupt
        self._received = number

    def due(self, step: int) -> bool:
        """Whether to save and stop after this step; every process calls it after every step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self._received = signal.SIGTERM
        return self._received is not None

    def stopped(self, step: int, *, saved: bool) -> Stopped:
        """What to raise once the state of `step` is on disk."""
        number = signal.Signals(self._received or signal.SIGTERM)
        error = Stopped(
            f"stopped by {number.name} at step {step}, " + ("which is saved" if saved else "before any new step"),
            remedy="the same command goes on from there",
        )
        error.status = 128 + number
        return error
