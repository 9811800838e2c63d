"""Options that several commands share, and how their text is read."""

import pathlib
from typing import Annotated, Any

import typer

from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.errors import UserError


def _set_storage_options(assignments: list[str] | None) -> list[str] | None:
    if assignments:
        from weather_scnn.io.addresses import set_storage_options

        set_storage_options(assignments)
    return assignments


def expand(path: Any) -> Any:
    """Makes a ~ the home folder, where the shell has not: it leaves --input=~/x alone."""
    if path is None:
        return None
    from weather_scnn.io.addresses import expanded

    return type(path)(expanded(str(path)))


Input = Annotated[
    str, typer.Option("--input", callback=expand, help="Store, file, folder, glob, or address such as gs://….")
]
InputOrService = Annotated[
    str,
    typer.Option(
        "--input", callback=expand, help="Store, file, folder, glob, address, or service: ecmwf-open-data, noaa-gfs."
    ),
]
Output = Annotated[str, typer.Option("--output", callback=expand, help="What to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        callback=_set_storage_options,
        help="For remote addresses, key=value: token=anon, requester_pays=PROJECT; repeatable.",
    ),
]
Member = Annotated[int | None, typer.Option("--member", help="Number of the ensemble member; default the first.")]
LevelList = Annotated[str | None, typer.Option("--levels", help="Pressure levels in hPa, separated by commas.")]
Period = Annotated[str | None, typer.Option("--time", help="Period A:B, inclusive; dates as xarray takes them.")]
Variables = Annotated[str | None, typer.Option("--variables", help="Names separated by commas.")]
Workdir = Annotated[
    str, typer.Option("--workdir", callback=expand, help="Folder of the run; local, or an address such as gs://….")
]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="Replace a setting: a.b=value; repeatable.")]
ConfigFile = Annotated[
    pathlib.Path,
    typer.Option(
        "--config",
        callback=expand,
        help="Python file with get_config(), or the name of an experiment, such as demo.",
    ),
]
AtStations = Annotated[bool, typer.Option("--stations", help="The scores at stations, of a file that has both.")]
NoBeam = Annotated[bool, typer.Option("--no-beam", help="Threads of this process, without Beam.")]
MaxMemory = Annotated[str, typer.Option("--max-memory", help="Memory that one worker may take.")]
BeamOptions = Annotated[
    list[str] | None, typer.Argument(help="Options for the Beam runner, after --.", metavar="-- BEAM OPTIONS")
]


def names(text: str | None) -> list[str] | None:
    """Parts between commas; None where nothing is given."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else None


def pressure_levels(text: str | None) -> list[Level] | None:
    """Pressure levels in hPa."""
    try:
        return [level_number(part) for part in names(text) or []] or None
    except ValueError as error:
        raise UserError(
            f"the levels {text!r} are not pressures", remedy="write --levels 0.5,500,850, in hPa"
        ) from error


def fractions(text: str | None) -> list[float]:
    """Quantiles."""
    try:
        return [float(part) for part in names(text) or []]
    except ValueError as error:
        raise UserError(f"the quantiles {text!r} are not numbers", remedy="write --quantiles 0.05,0.95") from error
