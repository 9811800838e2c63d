"""Runs a job's pieces: in threads of this process, or on any Beam runner; the bar, and errors as users see them."""

import concurrent.futures
import contextlib
import functools
import io
import logging
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import rich.progress

from weather_scnn.data.catalogue import nearest_name
from weather_scnn.data.reading_again import reason
from weather_scnn.data.writing import Record
from weather_scnn.errors import UserError, place_fault
from weather_scnn.progress import progress_bar

# Beam knows every runner but this by its short name.
_DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
_POLL_SECONDS = 2.0

# Threads of this process find here who waits for them.
_LISTENERS: dict[str, Callable[[], None]] = {}
_FAILURES: dict[str, BaseException] = {}

Work = Callable[[Any], None]
R = TypeVar("R")
T = TypeVar("T")


def new_job() -> str:
    """A name for one run of a job, passed to its workers for `piece`."""
    return uuid.uuid4().hex


class OncePerJob(Generic[R, T]):
    """Makes a function that opens a job's source open it once in every process, whatever the number of threads."""

    def __init__(self, open_source: Callable[[str, R], T]):
        self._open = functools.lru_cache(maxsize=2)(open_source)
        self._lock = threading.Lock()

    def __call__(self, job: str, request: R) -> T:
        with self._lock:
            return self._open(job, request)

    def forget(self) -> None:
        """Closes what was opened, so that a later job sees the files as they are then."""
        self._open.cache_clear()


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


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Beam logs a warning on import where its Google Cloud extra is not installed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def check_options(arguments: Sequence[str]) -> None:
    """Refuses options that Beam does not know, before any work.

    Raises:
        UserError: an unknown option, with the nearest one, or a value that Beam refuses.
    """
    if not arguments:
        return
    with _quiet_imports():
        from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

        with contextlib.suppress(ImportError):
            import apache_beam.runners.dask.dask_runner  # noqa: F401  its options count, too
    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        with contextlib.suppress(Exception):  # options that several runners declare
            options._add_argparse_args(parser)
    names = [name for action in parser._actions for name in action.option_strings]
    for argument in arguments:
        name = argument.split("=")[0]
        if name.startswith("--") and name not in names:
            raise UserError(f"Beam has no option {name}", remedy=nearest_name(name, names))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # argparse prints its usage
            PipelineOptions(list(arguments)).get_all_options()
    except (SystemExit, ValueError) as error:
        raise UserError(f"Beam refuses the options {' '.join(arguments)}", remedy="check their values") from error


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Leaves a worker's error to the line that the command ends with: Beam logs its traceback, prints it and raises it.

    Bars and loggers keep the standard error that they have begun with.
    """
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def runner_and_options(arguments: Sequence[str] | None) -> tuple[Any, Any, bool]:
    """Beam's runner (None where Beam finds it by the options), its options, and whether work is in this process.

    By default threads of this process, one a core. Beam's DirectRunner first tries to fetch the Prism runner from the
    network; the runner it falls back to is taken directly.

    Raises:
        UserError: the runner needs a package that is not installed.
    """
    with _quiet_imports():
        from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    given = list(arguments or [])
    names = {argument.split("=")[0] for argument in given}
    runner = PipelineOptions(given).view_as(StandardOptions).runner
    if runner in ("DaskRunner", "dask", _DASK_RUNNER):
        try:
            with _quiet_imports():
                import distributed  # noqa: F401
                from apache_beam.runners.dask.dask_runner import DaskRunner
        except ImportError as error:
            raise UserError(
                "the DaskRunner needs dask's distributed", remedy="pip install 'weather-scnn[dask]'"
            ) from error
        rest = [argument for argument in given if not argument.startswith("--runner")]
        return DaskRunner(), PipelineOptions(rest), False
    if runner not in (None, "DirectRunner"):
        return None, PipelineOptions(given), False
    if "--default_sdk_harness_log_level" not in names:
        given.append("--default_sdk_harness_log_level=WARNING")
    options = PipelineOptions(given)
    direct = options.view_as(DirectOptions)
    if "--direct_running_mode" not in names:
        direct.direct_running_mode = "multi_threading"
    if "--direct_num_workers" not in names:
        direct.direct_num_workers = workers()
    return FnApiRunner(), options, direct.direct_running_mode != "multi_processing"


def workers() -> int:
    """Threads by default: one a core, at most eight."""
    return min(os.cpu_count() or 1, 8)


def run_pieces(
    work: Work,
    pieces: Mapping[str, Any],
    record: Record,
    *,
    job: str,
    description: str,
    beam_options: Sequence[str] | None = None,
    no_beam: bool = False,
    progress: bool = True,
) -> None:
    """Does the pieces that `record` does not hold yet, in any order.

    Args:
        work: does one piece within `piece(job)`, and marks it as done in the record; picklable.
        pieces: what `work` takes, by the piece's key.
        record: of the output.
        job: from `new_job`.
        description: of the bar.
        beam_options: Beam's own, for example `["--direct_num_workers=4"]` or those of Dataflow.
        no_beam: whether to use threads of this process without Beam.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: as a worker raised it, or what stopped it, with what to do.
    """
    missing = [part for key, part in pieces.items() if key not in record.done]
    bar = progress_bar(rich.progress.MofNCompleteColumn(), rich.progress.TimeElapsedColumn(), enabled=progress)
    with bar:
        task = bar.add_task(description, total=len(pieces), completed=len(pieces) - len(missing))
        _LISTENERS[job] = lambda: bar.advance(task)
        try:
            if no_beam:
                _run_threads(work, missing)
            elif missing:
                watch = (lambda: bar.update(task, completed=len(record.finished()))) if progress else None
                _run_beam(work, missing, beam_options, watch)
            bar.update(task, completed=len(pieces))
        except Exception as error:
            raise explained(_FAILURES.get(job, error), record.output) from error
        finally:
            _LISTENERS.pop(job, None)
            _FAILURES.pop(job, None)


def _run_threads(work: Work, pieces: Sequence[Any]) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(workers())
    try:
        for future in concurrent.futures.as_completed([pool.submit(work, part) for part in pieces]):
            future.result()
    finally:
        # After an error or an interrupt, pieces that have begun are finished and no others are started.
        pool.shutdown(wait=True, cancel_futures=True)


def _run_beam(
    work: Work, pieces: Sequence[Any], beam_options: Sequence[str] | None, watch: Callable[[], None] | None
) -> None:
    with _quiet_imports():
        import apache_beam as beam
    runner, options, here = runner_and_options(beam_options)
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(_POLL_SECONDS):
            with contextlib.suppress(OSError):
                watch()  # type: ignore[misc]

    # Workers of other processes cannot move the bar; the record of finished pieces does.
    watcher = threading.Thread(target=poll, daemon=True) if watch is not None and not here else None
    if watcher is not None:
        watcher.start()
    pipeline = beam.Pipeline(runner=runner, options=options)
    try:
        with _said_once(), pipeline:
            _ = pipeline | "Pieces" >> beam.Create(list(pieces), reshuffle=True) | "Work" >> beam.Map(work)
    finally:
        stop.set()
        # The DaskRunner leaves its client, and so its scheduler, as the default of all of dask in this process.
        client = getattr(getattr(pipeline, "result", None), "client", None)
        if client is not None:
            client.close()


def explained(error: BaseException, where: str) -> UserError:
    """What stopped a job, for the user. Workers of other processes send their errors as text."""
    if isinstance(error, UserError):
        return error
    found = re.findall(r"weather_scnn\.errors\.UserError: ([^\n]+)", str(error))
    if found:
        what, _, remedy = re.sub(r"\s*\[while running.*$", "", found[-1]).rpartition("; ")
        return UserError(what or remedy, remedy=remedy)
    fault = place_fault(error, where)
    if fault is not None:
        return UserError(
            f"stopped: {fault.what}", where=fault.where, remedy=f"{fault.remedy}: finished pieces are kept"
        )
    return UserError(
        f"stopped: {reason(error)[:300]}",
        where=where,
        remedy="mend that part of the source or the store, then repeat the command: finished pieces are kept",
    )
