"""Apache Beam as jobs use it: its options, its runners, and its errors and logs kept to what a user needs."""

import argparse
import contextlib
import io
import logging
import os
import pathlib
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from weather_scnn.catalogue.naming import nearest_name
from weather_scnn.errors import UserError

# Beam knows every runner but this by its short name.
_DASK_RUNNER = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_LOGGING = "DASK_LOGGING__DISTRIBUTED"
_POLL_SECONDS = 2.0
#: What runners say of a worker's process that was ended: -9 where the system had no more memory for it.
KILLED = re.compile(r"return code -?\d+|KilledWorker|Unable to allocate|OutOfMemory")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Beam logs a warning on import where its Google Cloud extra is not installed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _options(arguments: Sequence[str]) -> tuple[Any, Any, str | None]:
    """Beam's options, those of its DirectRunner, and the runner's name."""
    with _quietly():
        from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
    options = PipelineOptions(list(arguments))
    return options, options.view_as(DirectOptions), options.view_as(StandardOptions).runner


def _names(arguments: Sequence[str]) -> set[str]:
    return {argument.split("=")[0] for argument in arguments}


def check_options(arguments: Sequence[str], *, no_beam: bool = False) -> None:
    """Refuses options that Beam does not know, or that no Beam would read, before any work.

    Raises:
        UserError: an unknown option, with the nearest one, or a value that Beam refuses.
    """
    if no_beam and arguments:
        raise UserError("options for Beam were given together with no Beam", remedy="leave one of them out")
    if not arguments:
        return
    with _quietly():
        from apache_beam.options.pipeline_options import PipelineOptions

        with contextlib.suppress(ImportError):
            import apache_beam.runners.dask.dask_runner  # noqa: F401  its options count, too
    names: list[str] = []
    unknown: list[str] = []

    def look(parser: argparse.ArgumentParser) -> None:
        names.extend(re.findall(r"(?<![\w-])--\w+", parser.format_usage()))
        unknown.extend(parser.parse_known_args(list(arguments))[1])

    try:
        with contextlib.redirect_stderr(io.StringIO()), _quietly():  # argparse prints its usage
            PipelineOptions(list(arguments)).get_all_options(add_extra_args_fn=look)
    except (SystemExit, ValueError) as error:
        raise UserError(f"Beam refuses the options {' '.join(arguments)}", remedy="check their values") from error
    for argument in unknown:
        name = argument.split("=")[0]
        if name.startswith("--"):
            raise UserError(f"Beam has no option {name}", remedy=nearest_name(name, names))
        raise UserError(f"{argument!r} is no option of Beam", remedy="write options as --name=value, after --")


def threads_asked(arguments: Sequence[str]) -> int | None:
    """Work items at once in a worker's process by these options; None where they do not say.

    Of a worker elsewhere one, since only its runner knows how many there are.
    """
    _, direct, runner = _options(arguments)
    if runner not in (None, "DirectRunner") or direct.direct_running_mode == "multi_processing":
        return 1
    if "--direct_num_workers" not in _names(arguments):
        return None
    return direct.direct_num_workers or os.cpu_count() or 1


def runner_and_options(arguments: Sequence[str] | None, log: str = "", threads: int = 1) -> tuple[Any, Any, bool]:
    """Beam's runner (None where Beam finds it by the options), its options, and whether work is in this process.

    By default threads of this process. Beam's DirectRunner first tries to fetch the Prism runner from the network; the
    runner it falls back to is taken directly.

    Args:
        arguments: Beam's options.
        log: file for what processes of this machine write to standard error.
        threads: where the options do not say how many.

    Raises:
        UserError: the runner needs a package that is not installed.
    """
    with _quietly():
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
        from apache_beam.transforms.environments import SubprocessSDKEnvironment
    given, names = list(arguments or []), _names(arguments or [])
    options, _, runner = _options(given)
    if runner in ("DaskRunner", "dask", _DASK_RUNNER):
        try:
            with _quietly():
                import distributed  # noqa: F401
                from apache_beam.runners.dask.dask_runner import DaskRunner
        except ImportError as error:
            raise UserError(
                "the DaskRunner needs dask's distributed", remedy="pip install 'weather-scnn[dask]'"
            ) from error
        rest = [argument for argument in given if not argument.startswith("--runner")]
        return DaskRunner(), _options(rest)[0], False
    if runner not in (None, "DirectRunner"):
        return None, options, False
    if "--default_sdk_harness_log_level" not in names:
        given.append("--default_sdk_harness_log_level=WARNING")
    options, direct, _ = _options(given)
    if "--direct_running_mode" not in names:
        direct.direct_running_mode = "multi_threading"
    if "--direct_num_workers" not in names:
        direct.direct_num_workers = threads
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner(), options, True
    # The mode as Beam has it, but for what its processes write to standard error: some thirty lines of log each, and
    # the traceback of an error three times.
    command = f"{shlex.quote(sys.executable)} -m apache_beam.runners.worker.sdk_worker_main"
    environment = SubprocessSDKEnvironment.from_command_string(f"{command} 2>>{shlex.quote(log or os.devnull)}")
    direct.direct_running_mode = "in_memory"
    return FnApiRunner(default_environment=environment), options, False


def run_pipeline(
    work: Callable[[Any], None],
    items: Sequence[Any],
    beam_options: Sequence[str] | None,
    watch: Callable[[], None] | None,
    threads: int,
) -> None:
    """Does work items on a runner.

    Args:
        work: does one of them; picklable.
        items: what it takes.
        beam_options: see `runner_and_options`.
        watch: called every two seconds while workers are other processes.
        threads: of this process, where the options do not say how many.
    """
    with _quietly():
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
            if KILLED.search(str(error)) and log.exists() and (lines := log.read_text().splitlines()):
                raise RuntimeError(f"{error}: {lines[-1]}") from error
            raise
        finally:
            stop.set()


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


@contextlib.contextmanager
def _closed_after(pipeline: Any) -> Iterator[None]:
    """The DaskRunner leaves its client, and so its scheduler, as the default of all of dask in this process."""
    try:
        yield
    finally:
        client = getattr(getattr(pipeline, "result", None), "client", None)
        if client is not None:
            client.close()
