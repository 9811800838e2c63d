"""How the command line tells errors: one line with what, where and the remedy, and exit status 1."""

import logging
import sys
import threading
import types
from typing import Any

import typer
import typer.core

from weather_scnn.errors import UserError, place_fault


class Commands(typer.core.TyperGroup):
    """Runs a command and tells its errors in one line, with exit status 1; wrong usage exits 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise  # a command that has told its end, with a status of its own
        except (Exception, KeyboardInterrupt) as error:
            line = explain(error)
            if line is None or ctx.params.get("debug"):
                raise
            fall_silent()
            print(f"error: {line}", file=sys.stderr)
            raise typer.Exit(1) from None


def told_once(record: logging.LogRecord) -> bool:
    """Filter of the log: an error that the user can mend is told when it ends the command, not by every layer it passes."""
    return not (record.exc_info and record.exc_info[1] is not None and explain(record.exc_info[1]) is not None)


def speak_for_threads() -> None:
    """Lets errors that end a thread be told in one line if the user can mend them; faults of the program keep a traceback.

    Threads of libraries in other languages report by `sys.excepthook`: those of tensorstore that one of their reads or
    writes ended after what had asked for it had failed.
    """
    whole = sys.excepthook

    def tell(arguments: threading.ExceptHookArgs) -> None:
        line = explain(arguments.exc_value) if arguments.exc_value is not None else None
        if line is None:
            threading.__excepthook__(arguments)
        else:
            print(f"WARNING: a thread has stopped: {line}", file=sys.stderr)

    def report(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        late = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        if not (late and threading.current_thread() is not threading.main_thread()):
            whole(kind, error, trace)

    threading.excepthook, sys.excepthook = tell, report


def fall_silent() -> None:
    """Lets nothing follow the error that ends a command.

    What Zarr had begun to read when a read failed asyncio reports at exit, and threads of orbax and tensorboardX that
    write to the same full disk end with tracebacks of their own.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    threading.excepthook = lambda arguments: None
    sys.unraisablehook = lambda arguments: None


# Packages that come with an extra, by the extra.
_EXTRAS = {"apache_beam": "pipelines", "dinosaur": "pipelines", "gcsfs": "cloud", "distributed": "dask"}


def explain(error: BaseException) -> str | None:
    """One line for an error the user can mend; None for a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get(str(error.name).partition(".")[0])):
        return (
            f"this needs {error.name}, which is not installed; pip install 'weather-scnn[{extra}]', or '.[{extra}]' "
            "in a checkout"
        )
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; repeat the same command to go on from what is finished"
    fault = place_fault(error)
    if fault is not None:
        return str(fault)
    chained = error.__cause__ or error.__context__
    return explain(chained) if chained is not None else None
