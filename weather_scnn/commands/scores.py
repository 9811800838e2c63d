"""Commands of scores: making them, comparing them, tables and the page."""

import functools
from typing import Annotated

import typer

from weather_scnn.commands import console
from weather_scnn.commands.options import (
    AtStations,
    BeamOptions,
    Output,
    Overwrite,
    StorageOptions,
    Variables,
    expand,
    names,
    pressure_levels,
)
from weather_scnn.commands.sources import check_paths, require
from weather_scnn.errors import UserError


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
    check_paths(
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


def report(
    scores: Annotated[str, typer.Option(callback=expand, help="File written by score.")],
    output: Output,
    forecast: Annotated[str | None, typer.Option(callback=expand, help="Forecast store, for maps.")] = None,
    truth: Annotated[str | None, typer.Option(callback=expand, help="Truth store, for maps.")] = None,
    ensemble: Annotated[
        str | None, typer.Option(callback=expand, help="Store whose members are shown; the forecast's if left out.")
    ] = None,
    stability: Annotated[
        str | None,
        typer.Option(callback=expand, help="File written by stability, for a section on rollouts over years."),
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
    check_paths(
        output, "REPORT", overwrite=overwrite, scores=scores, forecast=forecast, truth=truth, ensemble=ensemble,
        stability=stability,
    )  # fmt: skip
    from eval.reporting.report import write_report

    path = write_report(
        scores, output, forecast=forecast, truth=truth, ensemble=ensemble, stability=stability, reference=reference, region=region,
        fields=names(fields) or [], maps=names(maps) or [], zoom=zoom, places=places, exceed=names(exceed) or [],
        overwrite=overwrite,
    )  # fmt: skip
    console.print(f"Report: {path}")


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
    require(first, second)
    from eval.compare_scores import compare_scores, comparison_table

    found = compare_scores(
        first, second, metric=metric, region=region, system=system, leads=names(leads), stations=stations
    )
    console.print(comparison_table(found))


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
    require(scores)
    from eval.init_time_table import write_init_time_table

    count = write_init_time_table(
        scores, output, metrics=names(metrics) or ["rmse"], variables=names(variables), levels=pressure_levels(levels),
        regions=names(regions), systems=names(systems), leads=names(leads) or ["all"], stations=stations,
        overwrite=overwrite,
    )  # fmt: skip
    console.print(f"Table of {count} rows: {output}")
