"""The commands: python -m examples.qm9 prepare, train, evaluate."""

import json
import logging
import pathlib
import sys
from typing import Annotated, Any

import rich.console
import rich.table
import typer

from weather_scnn.command_errors import Commands, speak_for_threads
from weather_scnn.compiled_programs import keep_compiled_programs
from weather_scnn.io.atomic import write_whole
from weather_scnn.plain_text import speak_plainly

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, help="QM9 by spherical CNNs.")
console = rich.console.Console()

Json = Annotated[pathlib.Path | None, typer.Option("--json", help="Also write the result there.")]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False) -> None:
    """Options of every command."""
    del debug  # read by `Commands`


@app.command()
def prepare() -> None:
    """Parses qm9pack once into a file in the cache."""
    from examples.qm9 import molecules

    path = molecules.prepare()
    console.print(f"{len(molecules.read_npz(path)):,} molecules in {path}", highlight=False, soft_wrap=True)


@app.command()
def train(
    target: Annotated[str, typer.Option(help="mu, alpha, homo, lumo, gap, r2, zpve, U0, U, H, G or Cv.")],
    workdir: Annotated[pathlib.Path | None, typer.Option(help="Folder of the run; default runs/qm9-TARGET.")] = None,
    preset: Annotated[str, typer.Option(help="laptop, paper_small or paper_large.")] = "laptop",
    data: Annotated[str, typer.Option(help="An npz of molecules in place of all of QM9.")] = "",
    split: Annotated[str, typer.Option(help="cormorant or dimenet.")] = "cormorant",
    molecules: Annotated[int | None, typer.Option(help="Training molecules; default all of the split.")] = None,
    test: Annotated[int | None, typer.Option(help="Test molecules; default all of the split.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the run.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training, in place of steps.")] = None,
    batch: Annotated[int, typer.Option(help="Molecules of a step.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of initial values and order.")] = 0,
    json_path: Json = None,
) -> None:
    """Trains for one property, goes on after an interruption, and ends with its error beside two baselines'."""
    from examples.qm9.running import complete
    from examples.qm9.training import Run

    keep_compiled_programs()
    run = Run(
        target, preset, data, split, molecules, test, steps, minutes, batch, learning_rate=learning_rate, seed=seed
    )
    folder = workdir or pathlib.Path("runs") / f"qm9-{target}"
    result, page = complete(run, folder)
    if json_path is not None:
        write_whole(json_path, json.dumps(result, indent=2) + "\n")
    _show([result])
    console.print(f"page: {page}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    workdir: Annotated[list[pathlib.Path], typer.Argument(help="Folders of runs.")],
    json_path: Json = None,
) -> None:
    """Errors of trained runs on their test molecules, beside baselines and what others published, and how far a prediction
    changes at most when its molecule is turned."""
    from examples.qm9.running import evaluated

    keep_compiled_programs()
    results = [evaluated(folder) for folder in workdir]
    if json_path is not None:
        write_whole(json_path, json.dumps(results, indent=2) + "\n")
    _show(results)


def _show(results: list[dict[str, Any]]) -> None:
    """A table of runs, one a row; published numbers are of about 100,000 training molecules."""
    from examples.qm9.published import PUBLISHED

    table = rich.table.Table(box=rich.table.box.SIMPLE_HEAD)
    theirs_too = [f"{name}\n(theirs)" for name in PUBLISHED]
    for name in ("target", "ours", "linear\nfit", "kernel\nridge", *theirs_too, "turned"):
        table.add_column(name, justify="left" if name == "target" else "right")
    table.add_column("unit")
    for result in results:
        ours = [result[name] for name in ("mae", "composition_mae", "coulomb_mae")]
        theirs = [values[result["target"]] for values in PUBLISHED.values()]
        cells = ["–" if value is None else f"{value:.4g}" for value in (*ours, *theirs)]
        change = result.get("largest_change_when_turned")
        table.add_row(result["target"], *cells, "–" if change is None else f"{change:.1g}", result["unit"])
    console.print(table)


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        speak_plainly(stream)
    speak_for_threads()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    app(prog_name="python -m examples.qm9")


if __name__ == "__main__":
    main()
