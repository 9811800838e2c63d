"""Commands that make and look through stores: a nature run, a check, another grid, statistics, a climatology."""

from typing import Annotated

import typer

from weather_scnn.commands import console
from weather_scnn.commands.options import (
    BeamOptions,
    Input,
    InputOrService,
    LevelList,
    MaxMemory,
    Member,
    NoBeam,
    Output,
    Overwrite,
    Period,
    StorageOptions,
    Variables,
    fractions,
    names,
    pressure_levels,
)
from weather_scnn.commands.sources import check_duration, check_paths, fetched, require, there


def simulate(
    output: Output,
    days: Annotated[float, typer.Option(help="Days to write, after the spin-up.")],
    grid: Annotated[str, typer.Option(help="LONxLAT of the output.")] = "64x32",
    seed: Annotated[int, typer.Option(help="Seed of the initial perturbation.")] = 0,
    start: Annotated[str, typer.Option(help="First time.")] = "2000-01-01",
    model: Annotated[
        str, typer.Option(help="held-suarez, a dry planet; or speedy, a moist Earth, which needs the extra 'earth'.")
    ] = "held-suarez",
    levels: LevelList = None,
    overwrite: Overwrite = False,
) -> None:
    """Makes a nature run, so that everything can be tried with no download."""
    check_paths(output, "STORE", overwrite=overwrite)
    from pipelines import nature_run
    from weather_scnn.sphere import Grid

    told = nature_run.simulate(
        output, days=days, grid=Grid.from_name(grid), seed=seed, start=start, model=model,
        levels=pressure_levels(levels), overwrite=overwrite,
    )  # fmt: skip
    if told:
        console.print(told)


def check(
    input: InputOrService,
    variables: Variables = None,
    levels: LevelList = None,
    time: Period = None,
    member: Member = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    storage_option: StorageOptions = None,
) -> None:
    """Tells what is in a store and what is wrong with it; exit status 1 if it is unusable."""
    input, time = fetched(input, variables, levels, time)
    require(input)
    from weather_scnn.checks.checking import check_store

    report = check_store(
        input,
        variables=names(variables),
        levels=pressure_levels(levels),
        time=time,
        member=member,
        progress=not as_json,
    )
    if as_json:
        print(report.to_json())
    else:
        report.render(console)
    if not report.usable:
        raise typer.Exit(1)


def regrid(
    input: InputOrService,
    output: Output,
    grid: Annotated[str, typer.Option(help="LONxLAT of the output.")] = "64x32",
    poles: Annotated[bool, typer.Option("--poles", help="Rows on the poles.")] = False,
    gaussian: Annotated[bool, typer.Option("--gaussian", help="Gaussian latitudes.")] = False,
    method: Annotated[str, typer.Option(help="conservative, bilinear, nearest or spectral.")] = "conservative",
    variables: Annotated[
        str | None, typer.Option(help="Names separated by commas; derived ones too: 10m_wind_speed, vorticity, …")
    ] = None,
    levels: Annotated[str | None, typer.Option(help="Pressure levels in hPa, separated by commas.")] = None,
    interpolate_levels: Annotated[
        bool, typer.Option("--interpolate-levels", help="Make levels that the source lacks, linear in log pressure.")
    ] = False,
    time: Period = None,
    step: Annotated[str | None, typer.Option(help="Only times at whole multiples of this, such as 6h.")] = None,
    member: Member = None,
    coverage: Annotated[float, typer.Option(help="Least valid share of a cell, else it is missing.")] = 0.5,
    winds: Annotated[str, typer.Option(help="vector, or scalar as WeatherBench 2.")] = "vector",
    chunks: Annotated[str | None, typer.Option(help="Chunks of the output: time=8,level=1.")] = None,
    shards: Annotated[str | None, typer.Option(help="Shards of the output: time=64.")] = None,
    max_memory: MaxMemory = "1.5GB",
    no_beam: NoBeam = False,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
    beam_options: BeamOptions = None,
) -> None:
    """Brings a source onto another grid, in the canonical layout."""
    check_paths(output, "STORE", overwrite=overwrite, input=there(input))
    check_duration(step, "the step", "h")
    input, time = fetched(input, variables, levels, time)
    from pipelines.regrid import regrid as job
    from weather_scnn.sphere import Grid

    job(
        input, output, Grid.from_name(grid, poles=poles, gaussian=gaussian), method=method,
        variables=names(variables), levels=pressure_levels(levels), interpolate_levels=interpolate_levels, time=time, step=step,
        member=member,
        coverage=coverage, winds=winds, chunks=chunks, shards=shards, max_memory=max_memory, overwrite=overwrite,
        beam_options=beam_options, no_beam=no_beam,
    )  # fmt: skip


def stats(
    input: Input,
    output: Output,
    time: Period = None,
    step: Annotated[str, typer.Option(help="Step of the increments.")] = "6h",
    variables: Variables = None,
    max_memory: MaxMemory = "1.5GB",
    no_beam: NoBeam = False,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
    beam_options: BeamOptions = None,
) -> None:
    """Computes means and standard deviations of states and increments over the training period."""
    check_paths(output, "FILE", overwrite=overwrite, input=input)
    check_duration(step, "the step", "h")
    from pipelines.statistics import compute_statistics

    compute_statistics(
        input, output, time=time, step=step, variables=names(variables), max_memory=max_memory, overwrite=overwrite,
        beam_options=beam_options, no_beam=no_beam,
    )  # fmt: skip


def climatology(
    input: Input,
    output: Output,
    time: Period = None,
    window: Annotated[int, typer.Option(help="Days of the triangular window.")] = 61,
    variables: Variables = None,
    calendar: Annotated[str, typer.Option(help="month-day, or day-of-year as WeatherBench 2.")] = "month-day",
    quantiles: Annotated[str | None, typer.Option(help="Quantiles to write too: 0.05,0.95.")] = None,
    max_memory: MaxMemory = "1.5GB",
    no_beam: NoBeam = False,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
    beam_options: BeamOptions = None,
) -> None:
    """Computes the climatology by calendar day and hour."""
    check_paths(output, "STORE", overwrite=overwrite, input=input)
    from pipelines.climatology import compute_climatology

    compute_climatology(
        input, output, time=time, window=window, variables=names(variables), calendar=calendar,
        quantiles=fractions(quantiles), max_memory=max_memory, overwrite=overwrite, beam_options=beam_options,
        no_beam=no_beam,
    )  # fmt: skip
