"""Commands that verify phenomena: tropical cyclones, blocking."""

from typing import Annotated

import typer

from weather_scnn.commands import console
from weather_scnn.commands.options import Output, Overwrite, StorageOptions, expand
from weather_scnn.commands.sources import check_paths


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
    check_paths(output, "FILE", overwrite=overwrite, forecast=paths, truth=truth)
    from eval.cyclones.verification import cyclone_table, verify_cyclones

    found = verify_cyclones(
        forecast, truth, output, init=init, shortest=parse_duration(shortest, "--shortest"), nearest=nearest, tracks=tracks,
        overwrite=overwrite,
    )  # fmt: skip
    console.print(cyclone_table(found))


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
    check_paths(output, "FILE", overwrite=overwrite, forecast=paths, truth=truth)
    from eval.blocking import blocking_table, verify_blocking

    console.print(blocking_table(verify_blocking(forecast, truth, output, init=init, overwrite=overwrite)))
