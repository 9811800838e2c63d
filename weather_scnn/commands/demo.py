"""The command that runs the whole chain on a small nature run."""

import pathlib
from collections.abc import Callable
from typing import Annotated

import typer

from weather_scnn.commands import console, data, forecasts, scores, training
from weather_scnn.commands.options import expand


def demo(
    workdir: Annotated[
        pathlib.Path, typer.Option("--workdir", callback=expand, help="Folder for everything the demo makes.")
    ],
) -> None:
    """Runs the whole chain on a small nature run: minutes on two cores, no download.

    An interrupted demo goes on where it stopped.
    """
    from eval.scoring import open_scores, summary_table
    from weather_scnn import demonstration

    workdir.mkdir(parents=True, exist_ok=True)
    commands: dict[str, Callable[..., None]] = {
        "simulate": data.simulate, "regrid": data.regrid, "stats": data.stats, "climatology": data.climatology,
        "train": training.train, "forecast": forecasts.forecast, "score": scores.score, "report": scores.report,
    }  # fmt: skip
    for stage in demonstration.stages(workdir):
        if not stage.done:
            commands[stage.command](**stage.arguments)
    console.print(summary_table(open_scores(str(workdir / "scores.nc")), lead="24h"))
    console.print(f"Report: {workdir / 'report' / 'index.html'}", soft_wrap=True)
