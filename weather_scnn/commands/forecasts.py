"""Commands that use trained forecasters: forecasts, and packages to take along."""

from typing import TYPE_CHECKING, Annotated

import typer

from weather_scnn.commands.options import (
    InputOrService,
    LevelList,
    Output,
    Overwrite,
    StorageOptions,
    Variables,
    Workdir,
    expand,
    names,
    pressure_levels,
)
from weather_scnn.commands.sources import check_duration, check_paths, there

if TYPE_CHECKING:
    from weather_scnn.forecasting.trained_run import TrainedRun


def forecast(
    workdir: Workdir,
    input: InputOrService,
    output: Output,
    init: Annotated[
        str,
        typer.Option(help="Initial times FIRST:LAST[:STEP], inclusive; STEP counts from FIRST. latest is the last."),
    ],
    lead: Annotated[str | None, typer.Option(help="Longest lead; 10d if --leads is left out, too.")] = None,
    leads: Annotated[str | None, typer.Option(help="Leads to keep: 6h,1d:10d:1d.")] = None,
    variables: Variables = None,
    levels: LevelList = None,
    region: Annotated[str | None, typer.Option(help="To keep: a name such as europe, 30n-60n, or W,S,E,N.")] = None,
    derived: Annotated[
        str | None,
        typer.Option(
            "--derived",
            "--accumulate",
            help="Made beside them: 10m_wind_speed, thickness_1000_500, total_precipitation_24hr, …",
        ),
    ] = None,
    members: Annotated[int | None, typer.Option(help="Size of an ensemble; member 0 is not perturbed.")] = None,
    perturbation: Annotated[
        str | None, typer.Option(help="Of initial states: increments, bred or none; increments if left out.")
    ] = None,
    amplitude: Annotated[
        str,
        typer.Option(
            help="Of perturbations, in standard deviations of a step's increments; auto fits spread to error at a day."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the perturbations.")] = 0,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="Members' checkpoints: last:N, best_long_run, or steps and workdirs of runs, as in 600,800."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Forecasts run side by side: initial times x members.")] = 8,
    allow_implausible: Annotated[
        bool,
        typer.Option("--allow-implausible", help="Start from, and go on with, states that cannot be weather."),
    ] = False,
    format: Annotated[str, typer.Option(help="zarr, or a folder of files: netcdf (CF-1.10) or grib2.")] = "zarr",
    chunks: Annotated[str | None, typer.Option(help="Of Zarr: prediction_timedelta=1,level=1.")] = None,
    shards: Annotated[str | None, typer.Option(help="Of Zarr; an initial time each above 1,000 chunks.")] = None,
    centre: Annotated[int | None, typer.Option(help="Originating centre in GRIB (WMO's table C-11).")] = None,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
) -> None:
    """Forecasts from every initial time, single or as an ensemble, streaming to a store or to files."""
    from weather_scnn.io.outputs import refuse_sources
    from weather_scnn.training.run_folder import require_forecaster

    refuse_sources(output, {"--workdir": workdir}, inside_is_fine=True)
    check_paths(output, "STORE" if format == "zarr" else "FORECASTS", overwrite=overwrite, input=there(input))
    check_duration(lead, "the lead", "d", "h")
    require_forecaster(workdir)
    from weather_scnn.compiled_programs import keep_compiled_programs
    from weather_scnn.forecasting.forecast import forecast as run

    keep_compiled_programs()

    runs: str | list[TrainedRun] = workdir
    if there(input) is None:
        from weather_scnn.forecasting.trained_run import load_runs
        from weather_scnn.live_analysis import initial_states

        runs = load_runs(workdir, checkpoints)
        input, init = initial_states(input, init, runs)
    run(
        runs, input, output, init=init, lead=lead or (None if leads else "10d"), leads=leads,
        variables=names(variables), levels=pressure_levels(levels), region=region, derived=names(derived) or [],
        members=members, perturbation=perturbation, amplitude=amplitude, seed=seed, checkpoints=checkpoints,
        batch_size=batch_size, allow_implausible=allow_implausible, format=format, chunks=chunks, shards=shards,
        centre=centre, overwrite=overwrite,
    )  # fmt: skip


def export(
    workdir: Workdir,
    output: Output,
    checkpoint: Annotated[
        str | None, typer.Option(help="Step of the checkpoint, or best_long_run; the newest if left out.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(callback=expand, help="Score file of this forecaster, for its card.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Of the weights and of what they were trained on.")] = "",
    about: Annotated[str, typer.Option(help="What it was trained on, in a sentence.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Writes a trained forecaster to take along: weights, configuration, static fields and a model card."""
    from weather_scnn.forecasting.export import export as run
    from weather_scnn.io.outputs import refuse_sources
    from weather_scnn.training.run_folder import require_forecaster

    refuse_sources(output, {"--workdir": workdir, "--scores": scores})
    require_forecaster(workdir)
    found = None
    if scores:
        from eval.score_reading import open_scores

        found = open_scores(scores)
    run(workdir, output, step=_step(checkpoint), scores=found, licence=licence, about=about, overwrite=overwrite)


def _step(text: str | None) -> int | str | None:
    """A checkpoint as `load_run` takes it."""
    from weather_scnn.errors import UserError
    from weather_scnn.training.run_folder import BEST_LONG_RUN

    if text is None or text == BEST_LONG_RUN:
        return text
    if not text.isdecimal():
        raise UserError(f"--checkpoint {text} is no step", remedy=f"give a step such as 800, or {BEST_LONG_RUN}")
    return int(text)
