"""Scores of every initial time as a table, to see when a forecast fails."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from eval.conventions import WEATHERBENCH2
from eval.metrics import fields_of, scores_by_init_time
from eval.request import check_leads, lead_positions
from eval.score_reading import STATIONS, SUMS_GROUP, open_scores, scored_at_stations_alone
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import write_whole
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output

_COLUMNS = ("init_time", "lead_hours", "variable", "level", "region", "system")


def write_init_time_table(
    scores: str,
    output: str,
    *,
    metrics: Sequence[str] = ("rmse",),
    variables: Sequence[str] | None = None,
    levels: Sequence[Level] | None = None,
    regions: Sequence[str] | None = None,
    systems: Sequence[str] | None = None,
    leads: Sequence[str] = ("all",),
    stations: bool = False,
    overwrite: bool = False,
) -> int:
    """Writes scores of every initial time as CSV: a row an initial time, lead time, field, region and system, a column a metric.

    Args:
        scores: the file that `eval.scoring.score` wrote.
        output: the table to write, `.csv`.
        metrics: its columns.
        variables, levels, regions, systems: which rows; all if None.
        leads: lead times such as 24h and 5d, or all.
        stations: whether to tell scores at stations, with groups of them as regions; so it is where the file holds no others.
        overwrite: whether to replace `output`.

    Returns:
        The number of rows. Initial times at which nothing could be scored have none.

    Raises:
        UserError: the output exists, is no `.csv` or no table of this function's, or the file has not got what was asked for.
    """
    check_output(str(output), Kind.TABLE, sources={"--scores": scores}, overwrite=overwrite)
    check_leads(leads, "--leads")
    stations |= scored_at_stations_alone(scores)
    sums = open_scores(scores, group=f"{STATIONS}/{SUMS_GROUP}" if stations else SUMS_GROUP)
    sums.attrs["convention"] = WEATHERBENCH2  # of one initial time: there is nothing to pool
    sums = sums.isel(lead_time=lead_positions(leads, sums["lead_time"].values, "--leads"))
    found = scores_by_init_time(sums)
    choices = {
        "metric": (metrics, "--metrics"), "region": (regions, "--regions"), "system": (systems, "--systems"),
        "level": (levels, "--levels"),
    }  # fmt: skip
    for dim, (wanted, option) in choices.items():
        if wanted is not None:
            held = found[dim].values.tolist() if dim in found.dims else []
            _require(wanted, held, option, scores)
            found = found.sel({dim: list(wanted)}) if dim in found.dims else found
    fields = fields_of(sums)
    _require(variables or (), fields, "--variables", scores)
    tables = []
    for field in variables or fields:
        table = found[field].to_dataset("metric").to_dataframe().dropna(how="all", subset=list(metrics)).reset_index()
        hours = table["lead_time"].to_numpy() / np.timedelta64(1, "h")
        tables.append(table.assign(lead_hours=hours, variable=field).reindex(columns=[*_COLUMNS, *metrics]))
    whole = pd.concat(tables).sort_values("init_time", kind="stable")
    write_whole(output, whole.to_csv(index=False, float_format="%.9g", date_format="%Y-%m-%dT%H"))
    return len(whole)


def _require(wanted: Sequence, held: Sequence, option: str, path: str) -> None:
    """Raises UserError if the file has not got one of these."""
    for each in wanted:
        if each not in held:
            remedy = "choose from " + ", ".join(map(str, held)) if len(held) else f"leave {option} out"
            raise UserError(f"{option} names {each}, which is not in the file", where=path, remedy=remedy)
