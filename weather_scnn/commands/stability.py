"""The command that rolls forecasters out for years."""

from typing import Annotated

import typer

from weather_scnn.commands.options import Input, Output, Overwrite, StorageOptions, Workdir, names
from weather_scnn.commands.sources import check_paths


def stability(
    workdir: Workdir,
    input: Input,
    output: Output,
    init: Annotated[str, typer.Option(help="Initial times FIRST:LAST[:STEP], inclusive; STEP counts from FIRST.")],
    years: Annotated[float, typer.Option(help="Length of the rollouts; 0.25 is three months.")],
    members: Annotated[int, typer.Option(help="Rollouts from each initial time; the first is not perturbed.")] = 1,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="Each a system: last:N, best_long_run, or steps and workdirs of runs, as in 600,800."),
    ] = None,
    spectra: Annotated[
        str | None, typer.Option(help="Leads of power spectra, 1d,10d,60d,365d; some up to the end if left out.")
    ] = None,
    prescribe: Annotated[
        str | None, typer.Option(help="Fields of the state that come from the store, such as sea_surface_temperature.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of noise and perturbations.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Rollouts side by side: initial times x members.")] = 8,
    allow_implausible: Annotated[
        bool, typer.Option("--allow-implausible", help="Start from, and go on with, states that cannot be weather.")
    ] = False,
    overwrite: Overwrite = False,
    storage_option: StorageOptions = None,
) -> None:
    """Rolls forecasters out for years, keeping sums in place of fields, and holds their climate against the truth's."""
    from weather_scnn.io.outputs import refuse_sources
    from weather_scnn.training.run_folder import require_forecaster

    refuse_sources(output, {"--workdir": workdir}, inside_is_fine=True)
    check_paths(output, "FILE", overwrite=overwrite, input=input)
    require_forecaster(workdir)
    from weather_scnn.compiled_programs import keep_compiled_programs
    from weather_scnn.forecasting.stability import stability as run

    keep_compiled_programs()
    run(
        workdir, input, output, init=init, years=years, members=members, checkpoints=checkpoints,
        spectra=names(spectra), prescribe=names(prescribe) or [], seed=seed, batch_size=batch_size,
        allow_implausible=allow_implausible, overwrite=overwrite,
    )  # fmt: skip
