"""Runs a job's work items: in threads of this process, or on any Beam runner; the bar, and errors as users see them."""

import concurrent.futures
import contextlib
import functools
import logging
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import rich.progress

from pipelines import telling
from pipelines.beam import KILLED, run_pipeline, threads_asked
from pipelines.planning import Estimate, in_words
from weather_scnn.errors import UserError, place_fault
from weather_scnn.io.retry import reason
from weather_scnn.io.writing import Record
from weather_scnn.job_platform import keep_to_job_platform
from weather_scnn.progress import progress_bar

_CHUNK_CACHE_BYTES = 2**20
_LOG = logging.getLogger(__name__)

# Threads of this process find here who waits for them.
_LISTENERS: dict[str, Callable[[], None]] = {}
_FAILURES: dict[str, BaseException] = {}

Work = Callable[[Any], None]
R = TypeVar("R")
T = TypeVar("T")
Output = TypeVar("Output", bound=Record)


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


def workers() -> int:
    """Threads by default: one a core, at most eight."""
    return min(os.cpu_count() or 1, 8)


def threads_of(
    estimate: Estimate, items: int, max_memory: int, *, beam_options: Sequence[str] | None, no_beam: bool
) -> int:
    """Threads of a worker's process: as many as fit into its memory, unless the options say how many.

    Raises:
        UserError: so many as were asked for do not fit.
    """
    asked = None if no_beam or not beam_options else threads_asked(beam_options)
    if asked is None:
        return estimate.threads(max(1, min(workers(), items)), max_memory, beam=not no_beam)
    asked = min(asked, items) or 1
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
    begin: Callable[[], Output],
    *,
    job: str,
    description: str,
    told: str,
    max_memory: int,
    beam_options: Sequence[str] | None,
    no_beam: bool,
    progress: bool,
) -> Output:
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
                run_pipeline(work, missing, beam_options, watch, threads or workers())
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
    if KILLED.search(str(error)) or isinstance(error, MemoryError):
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
