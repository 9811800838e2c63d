"""Runs the Beam jobs: the local runner, the progress bar, and errors as the user should see them."""

import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence

import rich.console
import rich.progress

from weather_scnn.errors import UserError
from weather_scnn.progress import progress_bar

# Beam logs a warning on import where its Google Cloud extra is absent; jobs import Beam from here, without it.
logging.disable(logging.WARNING)
try:
    import apache_beam as beam
    import xarray_beam as xbeam
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
finally:
    logging.disable(logging.NOTSET)

__all__ = ["beam", "new_job", "piece", "run", "xbeam"]

# Workers of the local runner are threads of this process, so they find here who waits for them.
_LISTENERS: dict[str, Callable[[], None]] = {}
_FAILURES: dict[str, BaseException] = {}


def new_job() -> str:
    """A name for one run of a job, passed to its workers for `piece`."""
    return uuid.uuid4().hex


@contextlib.contextmanager
def piece(job: str) -> Iterator[None]:
    """Wraps a worker's work on one piece: moves the bar when it is done, keeps the error when it fails."""
    try:
        yield
    except Exception as error:
        _FAILURES.setdefault(job, error)
        raise
    listener = _LISTENERS.get(job)
    if listener is not None:
        listener()


def _options(arguments: Sequence[str] | None) -> tuple[FnApiRunner | None, PipelineOptions]:
    """The runner (None where the options name one) and the options, with the cores of this machine by default.

    Beam's DirectRunner first tries to fetch the Prism runner from the network. The runner it falls back to, which
    runs in this process, is taken directly.
    """
    options = PipelineOptions(list(arguments or []))
    if options.view_as(StandardOptions).runner not in (None, "DirectRunner"):
        return None, options
    direct = options.view_as(DirectOptions)
    names = " ".join(arguments or [])
    if "--direct_running_mode" not in names:
        direct.direct_running_mode = "multi_threading"
    if "--direct_num_workers" not in names:
        direct.direct_num_workers = min(os.cpu_count() or 1, 8)
    return FnApiRunner(), options


def run(
    build: Callable[[beam.Pipeline], object],
    *,
    job: str,
    pieces: int,
    description: str,
    beam_options: Sequence[str] | None = None,
    progress: bool = True,
) -> None:
    """Builds a pipeline and runs it to its end.

    Args:
        build: applies the transforms to the pipeline; workers wrap each piece of work in `piece(job)`.
        job: from `new_job`.
        pieces: how many times workers will enter `piece`.
        description: of the progress bar.
        beam_options: Beam's own options, for example `["--direct_num_workers=4"]` or those of Dataflow.
        progress: whether to show a bar on standard error. It moves with the local runner; others have a console.

    Raises:
        UserError, OSError: as a worker of the local runner raised it.
    """
    runner, options = _options(beam_options)
    bar = progress_bar(rich.progress.MofNCompleteColumn(), rich.progress.TimeElapsedColumn(), enabled=progress)
    with bar:
        task = bar.add_task(description, total=pieces)
        _LISTENERS[job] = lambda: bar.advance(task)
        try:
            with beam.Pipeline(runner=runner, options=options) as pipeline:
                build(pipeline)
        except Exception:
            cause = _FAILURES.get(job)
            if isinstance(cause, UserError | OSError):
                raise cause from None
            raise
        finally:
            _LISTENERS.pop(job, None)
            _FAILURES.pop(job, None)
