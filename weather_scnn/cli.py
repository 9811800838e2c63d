"""The command `weather-scnn`: what every command shares, and the list of them."""

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from weather_scnn.command_errors import Commands, speak_for_threads, told_once
from weather_scnn.commands import data, demo, forecasts, phenomena, scores, stability, training
from weather_scnn.compiled_programs import compile_quickly
from weather_scnn.job_platform import keep_to_job_platform
from weather_scnn.plain_text import speak_plainly
from weather_scnn.version import __version__

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Machine-learned weather forecasts: regrid, statistics, train, forecast, score, report.",
)  # fmt: skip

# In the order of the help.
for command in (
    data.simulate, data.check, data.regrid, data.stats, data.climatology,
    training.train, training.plan, training.settings,
    forecasts.forecast, forecasts.export, stability.stability,
    scores.score, scores.report, scores.compare, phenomena.cyclones, phenomena.blocking, scores.init_scores,
    demo.demo,
):  # fmt: skip
    app.command()(command)

# Commands that leave accelerators to others; `demo` runs some of them in a process that also trains.
_JOBS = ("check", "regrid", "stats", "climatology", "score", "report", "compare", "cyclones", "blocking")


def _version(value: bool) -> bool:
    if value:
        print(f"weather-scnn {__version__}")
        raise typer.Exit
    return value


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options of every command."""
    if context.invoked_subcommand in _JOBS:
        keep_to_job_platform()


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        speak_plainly(stream)
    speak_for_threads()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the notices of XLA's C++ side are not for users
    compile_quickly()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.addFilter(told_once)
    # Files of other programs in a Zarr store harm no reading.
    warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component of a Zarr hierarchy")
    # It logs the traceback of every request that fails, though it also raises what it gives up.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    app()


if __name__ == "__main__":
    main()
