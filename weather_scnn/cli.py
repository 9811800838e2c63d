"""The command `weather-scnn`: one thin function a stage. Heavy imports wait until a stage runs."""

import dataclasses
import functools
import json
import logging
import os
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import rich.console
import typer

from weather_scnn.command_errors import Commands, speak_for_threads, told_once
from weather_scnn.command_options import (
    Assignments,
    AtStations,
    BeamOptions,
    ConfigFile,
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
    Workdir,
    expand,
    fractions,
    names,
    pressure_levels,
)
from weather_scnn.errors import UserError
from weather_scnn.job_platform import keep_to_job_platform
from weather_scnn.plain_text import speak_plainly
from weather_scnn.version import __version__

if TYPE_CHECKING:
    from weather_scnn.forecasting.trained_run import TrainedRun

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Machine-learned weather forecasts: regrid, statistics, train, forecast, score, report.",
)  # fmt: skip
console = rich.console.Console()

# Commands that leave accelerators to others; `demo` runs some of them in a process that also trains.
_JOBS = ("check", "regrid", "stats", "climatology", "score", "report", "compare", "cyclones", "blocking")


@app.command()
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
    _check(output, "STORE", overwrite=overwrite)
    from pipelines import nature_run
    from weather_scnn.sphere import Grid

    told = nature_run.simulate(
        output, days=days, grid=Grid.from_name(grid), seed=seed, start=start, model=model,
        levels=pressure_levels(levels), overwrite=overwrite,
    )  # fmt: skip
    if told:
        console.print(told)


@app.command()
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
    input, time = _fetched(input, variables, levels, time)
    _require(input)
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


@app.command()
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
    _check(output, "STORE", overwrite=overwrite, input=_there(input))
    _duration(step, "the step", "h")
    input, time = _fetched(input, variables, levels, time)
    from pipelines.regrid import regrid as job
    from weather_scnn.sphere import Grid

    job(
        input, output, Grid.from_name(grid, poles=poles, gaussian=gaussian), method=method,
        variables=names(variables), levels=pressure_levels(levels), interpolate_levels=interpolate_levels, time=time, step=step,
        member=member,
        coverage=coverage, winds=winds, chunks=chunks, shards=shards, max_memory=max_memory, overwrite=overwrite,
        beam_options=beam_options, no_beam=no_beam,
    )  # fmt: skip


@app.command()
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
    _check(output, "FILE", overwrite=overwrite, input=input)
    _duration(step, "the step", "h")
    from pipelines.statistics import compute_statistics

    compute_statistics(
        input, output, time=time, step=step, variables=names(variables), max_memory=max_memory, overwrite=overwrite,
        beam_options=beam_options, no_beam=no_beam,
    )  # fmt: skip


@app.command()
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
    _check(output, "STORE", overwrite=overwrite, input=input)
    from pipelines.climatology import compute_climatology

    compute_climatology(
        input, output, time=time, window=window, variables=names(variables), calendar=calendar,
        quantiles=fractions(quantiles), max_memory=max_memory, overwrite=overwrite, beam_options=beam_options,
        no_beam=no_beam,
    )  # fmt: skip


@app.command()
def train(
    config: ConfigFile,
    workdir: Workdir,
    set_: Assignments = None,
    storage_option: StorageOptions = None,
    distributed: Annotated[
        bool, typer.Option("--distributed", help="One of several processes, such as the hosts of a TPU slice.")
    ] = False,
) -> None:
    """Trains a forecaster, or goes on with a run that was interrupted."""
    from weather_scnn.io.outputs import check_workdir
    from weather_scnn.training.configuration import Config, load_config, with_overrides
    from weather_scnn.training.run_folder import is_trained, run_folder

    settings = with_overrides(load_config(config), set_ or [])
    if not settings.data.path:
        raise UserError("no training store is named", remedy="add --set data.path=S.zarr")
    check_workdir(workdir, {"data.path": settings.data.path, "data.statistics": settings.data.statistics})
    folder = run_folder(workdir, writable=True)
    if is_trained(folder, settings):
        _tell_trained(folder)
        return
    _require(settings.data.path, settings.data.statistics)
    if distributed:
        import jax

        # A TPU slice describes itself; elsewhere the environment does, with JAX_COORDINATOR_ADDRESS.
        count, number = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        jax.distributed.initialize(
            num_processes=int(count) if count else None, process_id=int(number) if number else None
        )
    from weather_scnn.compiled_programs import keep_compiled_programs
    from weather_scnn.training.loop import train as run
    from weather_scnn.training.preemption import Stopped

    keep_compiled_programs()

    def make_statistics(settings: Config, path: str) -> None:
        from pipelines.statistics import compute_statistics
        from weather_scnn.training.channels import Channels

        channels = Channels.from_config(settings.data)
        compute_statistics(
            settings.data.path, path, time=settings.data.train or None, step=settings.data.step,
            variables=[*channels.variables, *channels.statics],
        )  # fmt: skip

    try:
        run(settings, folder, make_statistics=make_statistics)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(stopped.status) from None
    _tell_trained(folder)


def _tell_trained(folder: os.PathLike) -> None:
    curves, numbers = (os.path.join(folder, name) for name in ("curves.png", "metrics.csv"))
    console.print(f"Trained. Curves: {curves}, numbers: {numbers}", soft_wrap=True)


@app.command()
def plan(
    config: ConfigFile,
    devices: Annotated[int, typer.Option(help="Devices in all; training.mesh.model of them share samples.")] = 1,
    topology: Annotated[
        str, typer.Option(help="Compile for these TPUs, such as v5e:2x4; needs libtpu but no TPU.")
    ] = "",
    platform: Annotated[
        str, typer.Option(help="Lay the transforms out as on this one: cpu, gpu or tpu; else as on these devices.")
    ] = "",
    every_stage: Annotated[
        bool, typer.Option("--every-stage", help="Compile all lengths of rollouts, not only the first and the longest.")
    ] = False,
    set_: Assignments = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Prints parameters, operations, memory and communication per device, from the compiled program; needs no data."""
    from weather_scnn.training.configuration import load_config, with_overrides

    settings = with_overrides(load_config(config), set_ or [])
    from weather_scnn.training.plan import plan as estimate

    found = estimate(settings, devices=devices, topology=topology, every_stage=every_stage, platform=platform)
    if json_:
        print(json.dumps(dataclasses.asdict(found)))
        return
    for table in found.render():
        console.print(table)


@app.command()
def settings() -> None:
    """Prints a page of all settings of a configuration, with their defaults and what they do."""
    from weather_scnn.training.settings_table import settings_page

    print(settings_page(), end="")


@app.command()
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
        str | None, typer.Option(help="Members' checkpoints: last:N, or steps and workdirs of runs, as in 600,800.")
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
    _check(output, "STORE" if format == "zarr" else "FORECASTS", overwrite=overwrite, input=_there(input))
    _duration(lead, "the lead", "d", "h")
    require_forecaster(workdir)
    from weather_scnn.compiled_programs import keep_compiled_programs
    from weather_scnn.forecasting.forecast import forecast as run

    keep_compiled_programs()

    runs: str | list[TrainedRun] = workdir
    if _there(input) is None:
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


@app.command()
def export(
    workdir: Workdir,
    output: Output,
    checkpoint: Annotated[int | None, typer.Option(help="Step of the checkpoint; the newest if left out.")] = None,
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
    run(workdir, output, step=checkpoint, scores=found, licence=licence, about=about, overwrite=overwrite)


@app.command()
def score(
    forecast: Annotated[
        list[str],
        typer.Option(
            help="Forecast store, PATH or NAME=PATH; repeat it to compare systems on their common init times."
        ),
    ],
    output: Output,
    truth: Annotated[
        str | None, typer.Option(callback=expand, help="Store to verify against; may be left out with --observations.")
    ] = None,
    observations: Annotated[
        str | None, typer.Option(callback=expand, help="Station file to verify against: CSV, parquet or netCDF.")
    ] = None,
    station_method: Annotated[str, typer.Option(help="To the stations: bilinear or nearest.")] = "bilinear",
    time_tolerance: Annotated[str, typer.Option(help="How far from a valid time a report may be, such as 30min.")] = "",
    lapse_rate: Annotated[
        float | None,
        typer.Option(help="K/km by which 2 m temperature is brought to a station's height; 6.5, or 0 for not."),
    ] = None,
    station_groups: Annotated[
        str, typer.Option(help="Columns whose entries get scores of their own, or elevation for bands of height.")
    ] = "",
    climatology: Annotated[str | None, typer.Option(callback=expand, help="Climatology store; needed for ACC.")] = None,
    baselines: Annotated[
        str,
        typer.Option(help="persistence, climatology, weekly-climatology, probabilistic-climatology; by commas."),
    ] = "",
    baseline_years: Annotated[
        str | None, typer.Option(help="Truth A:B that weekly and probabilistic climatology are made from.")
    ] = None,
    by_valid_time: Annotated[str, typer.Option(help="Systems whose store's time is the valid time, by commas.")] = "",
    regions: Annotated[
        str,
        typer.Option(
            help="Regions by commas; 30n-60n is a zonal band, bands:30 are all of 30 degrees; global if left out."
        ),
    ] = "",
    variables: Variables = None,
    levels: Annotated[str | None, typer.Option(help="Pressure levels in hPa, separated by commas.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Only initial times FIRST:LAST[:STEP]; STEP counts from FIRST.")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="LONxLAT to score on; else the coarsest of the stores.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="weatherbench2: its init times, levels, regions and grid, where not given here.")
    ] = None,
    convention: Annotated[str | None, typer.Option(help="weatherbench2 or weatherbench1.")] = None,
    maps: Annotated[str, typer.Option(help="Lead times of maps of the scores: 24h,5d or all.")] = "",
    spectra: Annotated[str, typer.Option(help="Lead times of power spectra: 24h,5d or all.")] = "",
    events: Annotated[
        str,
        typer.Option(
            help="Scores of events, by commas: quantiles of the climatology or values, 0.95,2m_temperature<0degC."
        ),
    ] = "",
    neighbourhoods: Annotated[str, typer.Option(help="Radii of the events' fractions skill score: 500km,1000km.")] = "",
    bootstrap: Annotated[int, typer.Option(help="Resamples for intervals and differences; 0 for none.")] = 1000,
    block: Annotated[int | None, typer.Option(help="Init times in a block of the bootstrap.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Accept NaNs in the forecast.")] = False,
    add: Annotated[bool, typer.Option("--add", help="Add the init times that the output has not got yet.")] = False,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
    beam_options: BeamOptions = None,
) -> None:
    """Scores forecasts: RMSE, ACC, bias, MAE and more per variable, level, lead and region."""
    from eval.systems import named_forecasts

    paths = [path for _, path in named_forecasts(forecast)]
    _check(
        output, "FILE", overwrite=overwrite or add, forecast=paths, truth=truth, climatology=climatology,
        observations=observations,
    )  # fmt: skip
    from eval.request import StationRequest
    from eval.scoring import score as run
    from eval.scoring import summary_table

    run_elsewhere = None
    if beam_options:
        from weather_scnn.scoring_on_beam import run_on_beam

        run_elsewhere = functools.partial(run_on_beam, beam_options=beam_options)
    stations = None
    if observations is None and (station_groups or time_tolerance or lapse_rate is not None):
        raise UserError("these options are of stations", remedy="add --observations FILE")
    if observations is not None:
        rate = None if lapse_rate is None else lapse_rate / 1000
        stations = StationRequest(
            observations, station_method, time_tolerance, rate, tuple(names(station_groups) or ())
        )
    scores = run(
        forecast, truth, output, stations=stations, climatology=climatology, baselines=names(baselines) or [],
        baseline_years=baseline_years, by_valid_time=names(by_valid_time) or [], regions=names(regions),
        variables=names(variables), levels=pressure_levels(levels), init=init, grid=grid, protocol=protocol,
        convention=convention, maps=names(maps) or [], spectra=names(spectra) or [], events=names(events) or [],
        neighbourhoods=names(neighbourhoods) or [], bootstrap=bootstrap, block=block,
        confidence=confidence, allow_missing=allow_missing, add=add, overwrite=overwrite, run_elsewhere=run_elsewhere,
    )  # fmt: skip
    console.print(summary_table(scores))


@app.command()
def report(
    scores: Annotated[str, typer.Option(callback=expand, help="File written by score.")],
    output: Output,
    forecast: Annotated[str | None, typer.Option(callback=expand, help="Forecast store, for maps.")] = None,
    truth: Annotated[str | None, typer.Option(callback=expand, help="Truth store, for maps.")] = None,
    ensemble: Annotated[
        str | None, typer.Option(callback=expand, help="Store whose members are shown; the forecast's if left out.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="System that skill is measured against.")] = None,
    region: Annotated[
        str | None, typer.Option(help="Region of the curves; the first of the scores if left out.")
    ] = None,
    fields: Annotated[
        str | None, typer.Option(help="Fields of the figures, by commas: geopotential@500,2m_temperature or Z500,T2M.")
    ] = None,
    maps: Annotated[
        str, typer.Option(help="Lead times of maps: 24h,10d or all; those that were scored if left out.")
    ] = "",
    zoom: Annotated[str | None, typer.Option(help="Region that maps show, such as europe; else the globe.")] = None,
    places: Annotated[str, typer.Option(help="Of meteograms: Berlin, or Oslo,59.9,10.8; with ; between.")] = "",
    exceed: Annotated[str, typer.Option(help="Whose probability is mapped, by commas: T2M>30,Z500<520,T2M>q95.")] = "",
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
) -> None:
    """Makes one HTML page of curves, maps and a scorecard that works offline."""
    _check(output, "REPORT", overwrite=overwrite, scores=scores, forecast=forecast, truth=truth, ensemble=ensemble)
    from eval.reporting.report import write_report

    path = write_report(
        scores, output, forecast=forecast, truth=truth, ensemble=ensemble, reference=reference, region=region,
        fields=names(fields) or [], maps=names(maps) or [], zoom=zoom, places=places, exceed=names(exceed) or [],
        overwrite=overwrite,
    )  # fmt: skip
    console.print(f"Report: {path}")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(callback=expand, help="Scores of the first forecasts.")],
    second: Annotated[str, typer.Argument(callback=expand, help="Scores of the second, which are held against them.")],
    metric: Annotated[str, typer.Option(help="Score to compare, such as rmse or acc.")] = "rmse",
    region: Annotated[str | None, typer.Option(help="Region; the first of both if left out.")] = None,
    system: Annotated[str | None, typer.Option(help="System in both, or A,B; the model if left out.")] = None,
    leads: Annotated[str | None, typer.Option(help="Lead times separated by commas, as in 24h,5d.")] = None,
    stations: AtStations = False,
) -> None:
    """Prints a scorecard of how the second scores differ from the first, and which differences may be chance."""
    _require(first, second)
    from eval.compare_scores import compare_scores, comparison_table

    found = compare_scores(
        first, second, metric=metric, region=region, system=system, leads=names(leads), stations=stations
    )
    console.print(comparison_table(found))


@app.command()
def cyclones(
    forecast: Annotated[list[str], typer.Option(help="Forecast store, PATH or NAME=PATH; repeatable.")],
    truth: Annotated[str, typer.Option(callback=expand, help="Store to verify against.")],
    output: Output,
    tracks: Annotated[str | None, typer.Option(callback=expand, help="CSV of all tracks to write too.")] = None,
    init: Annotated[str | None, typer.Option(help="Only initial times FIRST:LAST[:STEP].")] = None,
    shortest: Annotated[str, typer.Option(help="Shortest track that counts.")] = "54h",
    nearest: Annotated[
        float, typer.Option(help="km between forecast and truth at the start of a shared track.")
    ] = 500.0,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
) -> None:
    """Tracks tropical cyclones in forecasts and truth: errors of track and strength by lead time."""
    from eval.systems import named_forecasts
    from weather_scnn.io.durations import parse_duration

    paths = [path for _, path in named_forecasts(forecast)]
    _check(output, "FILE", overwrite=overwrite, forecast=paths, truth=truth)
    from eval.cyclones.verification import cyclone_table, verify_cyclones

    found = verify_cyclones(
        forecast, truth, output, init=init, shortest=parse_duration(shortest, "--shortest"), nearest=nearest, tracks=tracks,
        overwrite=overwrite,
    )  # fmt: skip
    console.print(cyclone_table(found))


@app.command()
def blocking(
    forecast: Annotated[list[str], typer.Option(help="Forecast store, PATH or NAME=PATH; repeatable.")],
    truth: Annotated[str, typer.Option(callback=expand, help="Store to verify against.")],
    output: Output,
    init: Annotated[str | None, typer.Option(help="Only initial times FIRST:LAST[:STEP].")] = None,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
) -> None:
    """Scores blocked longitudes of the northern hemisphere, from Z500: frequency and hits by lead time and sector."""
    from eval.systems import named_forecasts

    paths = [path for _, path in named_forecasts(forecast)]
    _check(output, "FILE", overwrite=overwrite, forecast=paths, truth=truth)
    from eval.blocking import blocking_table, verify_blocking

    console.print(blocking_table(verify_blocking(forecast, truth, output, init=init, overwrite=overwrite)))


@app.command()
def init_scores(
    scores: Annotated[str, typer.Option(callback=expand, help="File written by score.")],
    output: Output,
    metrics: Annotated[str, typer.Option(help="Columns of the table, by commas, such as rmse,acc.")] = "rmse",
    variables: Variables = None,
    levels: Annotated[str | None, typer.Option(help="Pressure levels in hPa, separated by commas.")] = None,
    regions: Annotated[str | None, typer.Option(help="Regions of the scores by commas; all if left out.")] = None,
    systems: Annotated[str | None, typer.Option(help="Systems of the scores by commas; all if left out.")] = None,
    leads: Annotated[str, typer.Option(help="Lead times by commas, as in 24h,5d.")] = "all",
    stations: AtStations = False,
    overwrite: Overwrite = False,
) -> None:
    """Writes the scores of every initial time as a table (CSV), to see when forecasts fail."""
    _require(scores)
    from eval.init_time_table import write_init_time_table

    count = write_init_time_table(
        scores, output, metrics=names(metrics) or ["rmse"], variables=names(variables), levels=pressure_levels(levels),
        regions=names(regions), systems=names(systems), leads=names(leads) or ["all"], stations=stations,
        overwrite=overwrite,
    )  # fmt: skip
    console.print(f"Table of {count} rows: {output}")


@app.command()
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
        "simulate": simulate, "regrid": regrid, "stats": stats, "climatology": climatology, "train": train,
        "forecast": forecast, "score": score, "report": report,
    }  # fmt: skip
    for stage in demonstration.stages(workdir):
        if not stage.done:
            commands[stage.command](**stage.arguments)
    console.print(summary_table(open_scores(str(workdir / "scores.nc")), lead="24h"))
    console.print(f"Report: {workdir / 'report' / 'index.html'}", soft_wrap=True)


def _check(output: str, kind: str, *, overwrite: bool, **sources: str | list[str] | None) -> None:
    """Refuses an output, or a missing input, before what the work needs is loaded; the work looks again."""
    from weather_scnn.io.marks import Kind
    from weather_scnn.io.outputs import check_output

    named = {f"--{option}": paths for option, paths in sources.items()}
    check_output(output, Kind[kind], sources=named, overwrite=overwrite)


def _require(*paths: str) -> None:
    from weather_scnn.io.addresses import require_there

    for path in filter(None, paths):
        require_there(path)


def _there(input: str) -> str | None:
    """A path as it is; None for a service, whose analyses are fetched."""
    from weather_scnn.io.addresses import is_live

    return None if is_live(input) else input


def _fetched(input: str, variables: str | None, levels: str | None, time: str | None) -> tuple[str, str | None]:
    """What to read, and when: of a service a file that is fetched, of these times alone."""
    if _there(input) is not None:
        return input, time
    from weather_scnn.live_analysis import analyses

    return analyses(input, names(variables), pressure_levels(levels), time), None


def _duration(text: str | None, what: str, *likely: str) -> None:
    from weather_scnn.io.durations import parse_duration

    if text is not None:
        parse_duration(text, what, likely=likely)


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
