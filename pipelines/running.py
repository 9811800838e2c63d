"""Runs a job's work items: in threads of this process, or on any Beam runner; the bar, and errors as users see them."""

import argparse
import concurrent.futures
import contextlib
import functools
import io
import logging
import os
import pathlib
import re
import shlex
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import rich.progress

from pipelines import telling
from pipelines.planning import Estimate, in_words
from weather_scnn.catalogue.naming import nearest_name
from weather_scnn.errors import UserError, place_fault
from weather_scnn.io.retry import reason
from weather_scnn.io.writing import Record
from weather_scnn.job_platform import keep_to_job_platform
from weather_scnn.progress import progress_bar

# Beam knows every runner but this by its short name.
_DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_LOGGING = "DASK_LOGGING__DISTRIBUTED"
_POLL_SECONDS = 2.0
_CHUNK_CACHE_BYTES = 2**20
# Of a worker's process: -9 where the system had no more memory for it.
_KILLED = re.compile(r"return code -?\d+|KilledWorker|Unable to allocate|OutOfMemory")
_LOG = logging.getLogger(__name__)

# Threads of this process find here who waits for them.
_LISTENERS: dict[str, Callable[[], None]] = {}
_FAILURES: dict[str, BaseException] = {}

Work = Callable[[Any], None]
R = TypeVar("R")
T = TypeVar("T")
O = TypeVar("O", bound=Record)


def new_job() -> str:
    """A name for one run of a job, passed to its workers for `work_item`."""
    return uuid.uuid4().hex


class OncePerJob(Generic[R, T]):
    """Makes a function that opens a job's source open it once in every process, whatever the number of threads."""

    def __init__(self, open_source: Callable[[str, R], T]):
        self._open = functools.lru_cache(maxsize=2)(open_source)
        self._lock = threading.Lock()
        self._cache: Callable[[], None] | None = None

    def __call__(self, job: str, request: R) -> T:
        with self._lock:
            misses = self._open.cache_info().misses
            self._cache = self._cache or _small_chunk_cache()
            opened = self._open(job, request)
            if self._open.cache_info().misses > misses and job not in _LISTENERS:
                telling.forget()
            return opened

    def forget(self) -> None:
        """Closes what was opened, so that a later job sees the files as they are then."""
        self._open.cache_clear()
        if self._cache is not None:
            self._cache()
            self._cache = None


def _small_chunk_cache() -> Callable[[], None]:
    """Keeps HDF5 from holding 64 MB of chunks for every variable of every open file; gives what undoes it.

    Jobs read whole chunks, once: ten variables took 2 GB for nothing.
    """
    import netCDF4

    kept = netCDF4.get_chunk_cache()
    netCDF4.set_chunk_cache(_CHUNK_CACHE_BYTES, *kept[1:])
    return lambda: netCDF4.set_chunk_cache(*kept)


@contextlib.contextmanager
def work_item(job: str, record: Record | None = None, key: str = "") -> Iterator[Callable[..., None]]:
    """Wraps a worker's work on one work item: moves the bar when it is done, keeps the error when it fails.

    Args:
        job: from `new_job`.
        record: of the output, and
        key: of the work item in it.

    Yields:
        What marks the work item as done, with its result where that is small; to be called last.
    """
    elsewhere = job not in _LISTENERS
    if elsewhere:
        keep_to_job_platform()
        telling.listen()
    telling.forget()

    def finish(result: bytes | memoryview = b"done") -> None:
        assert record is not None
        telling.leave(record, key)
        record.mark_done(key, result)

    try:
        yield finish
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


def check_options(arguments: Sequence[str], *, no_beam: bool = False) -> None:
    """Refuses options that Beam does not know, or that no Beam would read, before any work.

    Raises:
        UserError: an unknown option, with the nearest one, or a value that Beam refuses.
    """
    if no_beam and arguments:
        raise UserError("options for Beam were given together with no Beam", remedy="leave one of them out")
    if not arguments:
        return
    with _quiet_imports():
        from apache_beam.options.pipeline_options import PipelineOptions

        with contextlib.suppress(ImportError):
            import apache_beam.runners.dask.dask_runner  # noqa: F401  its options count, too
    names: list[str] = []
    unknown: list[str] = []

    def look(parser: argparse.ArgumentParser) -> None:
        names.extend(re.findall(r"(?<![\w-])--\w+", parser.format_usage()))
        unknown.extend(parser.parse_known_args(list(arguments))[1])

    try:
        with contextlib.redirect_stderr(io.StringIO()), _quiet_imports():  # argparse prints its usage
            PipelineOptions(list(arguments)).get_all_options(add_extra_args_fn=look)
    except (SystemExit, ValueError) as error:
        raise UserError(f"Beam refuses the options {' '.join(arguments)}", remedy="check their values") from error
    for argument in unknown:
        name = argument.split("=")[0]
        if name.startswith("--"):
            raise UserError(f"Beam has no option {name}", remedy=nearest_name(name, names))
        raise UserError(f"{argument!r} is no option of Beam", remedy="write options as --name=value, after --")


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Leaves a worker's error to the line that the command ends with: Beam logs its traceback, prints it and raises it.

    Bars and loggers keep the standard error that they have begun with.
    """
    loggers = [logging.getLogger(name) for name in ("apache_beam", "distributed")]
    levels = [logger.level for logger in loggers]
    kept = os.environ.get(_DASK_LOGGING)
    os.environ.setdefault(_DASK_LOGGING, "critical")  # of a local cluster's processes
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels):
            # A cluster goes on to tell how it closes, after its client has.
            logger.setLevel(max(level, logging.WARNING) if logger.name == "distributed" else level)
        if kept is None:
            os.environ.pop(_DASK_LOGGING, None)


def runner_and_options(
    arguments: Sequence[str] | None, log: str = "", threads: int | None = None
) -> tuple[Any, Any, bool]:
    """Beam's runner (None where Beam finds it by the options), its options, and whether work is in this process.

    By default threads of this process, one a core. Beam's DirectRunner first tries to fetch the Prism runner from the
    network; the runner it falls back to is taken directly.

    Args:
        arguments: Beam's options.
        log: file for what processes of this machine write to standard error.
        threads: where the options do not say how many; default `workers()`.

    Raises:
        UserError: the runner needs a package that is not installed.
    """
    with _quiet_imports():
        from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
        from apache_beam.transforms.environments import SubprocessSDKEnvironment
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
        direct.direct_num_workers = threads or workers()
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner(), options, True
    # The mode as Beam has it, but for what its processes write to standard error: some thirty lines of log each, and
    # the traceback of an error three times.
    command = f"{shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main"
    environment = SubprocessSDKEnvironment.from_command_string(f"{command} 2>>{shlex.quote(log or os.devnull)}")
    direct.direct_running_mode = "in_memory"
    return FnApiRunner(default_environment=environment), options, False


def workers() -> int:
    """Threads by default: one a core, at most eight."""
    return min(os.cpu_count() or 1, 8)


def threads_of(
    estimate: Estimate,
    items: int,
    max_memory: int,
    *,
    beam_options: Sequence[str] | None = None,
    no_beam: bool = False,
) -> int:
    """Threads of a worker's process: as many as fit into its memory, unless the options say how many.

    Of a worker elsewhere one, since only its runner knows how many there are.

    Raises:
        UserError: so many as were asked for do not fit.
    """
    most = max(1, min(workers(), items))
    if no_beam or not beam_options:
        return estimate.threads(most, max_memory, beam=not no_beam)
    with _quiet_imports():
        from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    options = PipelineOptions(list(beam_options))
    direct = options.view_as(DirectOptions)
    if options.view_as(StandardOptions).runner not in (None, "DirectRunner"):
        return 1
    if direct.direct_running_mode == "multi_processing":
        return 1
    if not any(argument.split("=")[0] == "--direct_num_workers" for argument in beam_options):
        return estimate.threads(most, max_memory, beam=True)
    asked = min(direct.direct_num_workers or os.cpu_count() or 1, items) or 1
    fitting = estimate.threads(asked, max_memory, beam=True)
    if fitting < asked:
        needed = in_words(1.02 * estimate.in_process(asked, beam=True).memory).replace(" ", "")
        raise UserError(
            f"{asked} workers of one process do not fit into {in_words(max_memory)}",
            remedy=f"use --direct_num_workers={fitting}, or --max-memory {needed}",
        )
    return asked


def run_planned(
    work: Callable[..., None],
    items: Mapping[str, Any],
    estimate: Estimate,
    begin: Callable[[], O],
    *,
    job: str,
    description: str,
    told: str,
    max_memory: int,
    beam_options: Sequence[str] | None,
    no_beam: bool,
    progress: bool,
) -> O:
    """Says what a job will cost, begins its output if that fits, does its work items, and gives the output.

    Args:
        work: as `run_work_items` takes it, with the output, `record`, still to be given.
        items, job, description, beam_options, no_beam, progress: as there.
        estimate: of what they cost.
        begin: makes the output.
        told: what is done to how much, said before the cost.
        max_memory: bytes that one worker may take.
    """
    threads = threads_of(estimate, len(items), max_memory, beam_options=beam_options, no_beam=no_beam)
    record = begin()
    if progress:
        print(f"{told}; {estimate.in_process(threads, beam=not no_beam)}", file=sys.stderr)
    run_work_items(
        functools.partial(work, record=record), items, record, job=job, description=description,
        beam_options=beam_options, no_beam=no_beam, threads=threads, progress=progress,
    )  # fmt: skip
    return record


def run_work_items(
    work: Work,
    items: Mapping[str, Any],
    record: Record,
    *,
    job: str,
    description: str,
    beam_options: Sequence[str] | None = None,
    no_beam: bool = False,
    threads: int | None = None,
    progress: bool = True,
) -> None:
    """Does the work items that `record` does not hold yet, in any order.

    Args:
        work: does one work item within `work_item(job)`, and marks it as done in the record; picklable.
        items: what `work` takes, by the work item's key.
        record: of the output.
        job: from `new_job`.
        description: of the bar.
        beam_options: Beam's own, for example `["--direct_num_workers=4"]` or those of Dataflow.
        no_beam: whether to use threads of this process without Beam.
        threads: of this process, where the options do not say how many; default `workers()`.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: as a worker raised it, or what stopped it, with what to do.
    """
    missing = [part for key, part in items.items() if key not in record.done]
    bar = progress_bar(rich.progress.MofNCompleteColumn(), rich.progress.TimeElapsedColumn(), enabled=progress)
    with bar:
        task = bar.add_task(description, total=len(items), completed=len(items) - len(missing))
        _LISTENERS[job] = lambda: bar.advance(task)
        try:
            if no_beam:
                _run_threads(work, missing, threads or workers())
            elif missing:
                watch = (
                    (lambda: bar.update(task, completed=telling.items_among(record.finished()))) if progress else None
                )
                _run_beam(work, missing, beam_options, watch, threads or workers())
            bar.update(task, completed=len(items))
        except Exception as error:
            raise explained(_FAILURES.get(job, error), record.output) from error
        finally:
            _LISTENERS.pop(job, None)
            _FAILURES.pop(job, None)
    _tell(record)


def _tell(record: Record) -> None:
    """Tells what workers of other processes have warned of, and how many values were changed."""
    clipped, warnings = telling.collected(record)
    for message in warnings:
        _LOG.warning("%s", message)
    for name, count in clipped.items():
        print(f"{name}: {count} negative values, artefacts of packing, were set to 0", file=sys.stderr)


def _run_threads(work: Work, items: Sequence[Any], threads: int) -> None:
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        for future in concurrent.futures.as_completed([pool.submit(work, part) for part in items]):
            future.result()
    finally:
        # After an error or an interrupt, work items that have begun are finished and no others are started.
        pool.shutdown(wait=True, cancel_futures=True)


def _run_beam(
    work: Work,
    items: Sequence[Any],
    beam_options: Sequence[str] | None,
    watch: Callable[[], None] | None,
    threads: int,
) -> None:
    with _quiet_imports():
        import apache_beam as beam
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(_POLL_SECONDS):
            with contextlib.suppress(OSError):
                watch()  # type: ignore[misc]

    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "workers.log")
        runner, options, here = runner_and_options(beam_options, str(log), threads)
        # Workers of other processes cannot move the bar; the record of finished work items does.
        watcher = threading.Thread(target=poll, daemon=True) if watch is not None and not here else None
        if watcher is not None:
            watcher.start()
        pipeline = beam.Pipeline(runner=runner, options=options)
        try:
            with _said_once(), _closed_after(pipeline), pipeline:
                _ = pipeline | "Items" >> beam.Create(list(items), reshuffle=True) | "Work" >> beam.Map(work)
        except Exception as error:
            if _KILLED.search(str(error)) and log.exists() and (lines := log.read_text().splitlines()):
                raise RuntimeError(f"{error}: {lines[-1]}") from error
            raise
        finally:
            stop.set()


@contextlib.contextmanager
def _closed_after(pipeline: Any) -> Iterator[None]:
    """The DaskRunner leaves its client, and so its scheduler, as the default of all of dask in this process."""
    try:
        yield
    finally:
        client = getattr(getattr(pipeline, "result", None), "client", None)
        if client is not None:
            client.close()


def _user_errors() -> list[str]:
    """Names of the errors that are told as they are."""
    kinds: list[type] = [UserError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return [kind.__name__ for kind in kinds]


def explained(error: BaseException, where: str) -> UserError:
    """What stopped a job, for the user. Workers of other processes send their errors as text."""
    if isinstance(error, UserError):
        return error
    result = re.findall(rf"weather_scnn\.[\w.]+\.(?:{'|'.join(_user_errors())}): ([^\n]+)", str(error))
    if result:
        what, _, remedy = re.sub(r"\s*\[while running.*$", "", result[-1]).rpartition("; ")
        return UserError(what or remedy, remedy=remedy)
    if _KILLED.search(str(error)) or isinstance(error, MemoryError):
        return UserError(
            f"a worker was ended from outside, or ran out of memory ({reason(error)[:120]})",
            where=where,
            remedy="give workers more memory, or take fewer of them, then repeat the command: finished pieces are kept",
        )
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
