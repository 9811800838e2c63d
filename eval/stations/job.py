"""Scoring at stations as a job: beside that of fields, or alone."""

import dataclasses
import sys
from typing import Any

import rich.progress
import xarray as xr

from eval.baselines import CLIMATOLOGY, PERSISTENCE
from eval.conventions import CONVENTIONS, FORMAT_VERSION, WEATHERBENCH1, WEATHERBENCH2
from eval.request import ScoringRequest
from eval.score_writing import Bootstrap
from eval.stations.comparison import StationComparison, open_station_comparison
from eval.stations.scoring import score_stations
from eval.stations.writing import StationWriter
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import whole_file
from weather_scnn.io.writing import Record, begin_record, provenance
from weather_scnn.progress import progress_bar


def refuse_without_truth(request: ScoringRequest) -> None:
    """Refuses what needs fields of truth."""
    asked = {
        "--maps": request.maps, "--spectra": request.spectra, "--grid": request.grid, "--neighbourhoods": request.neighbourhoods,
        "--convention weatherbench1": request.convention == WEATHERBENCH1,
        "the baseline": [name for name in request.baselines if name not in (PERSISTENCE, CLIMATOLOGY)],
    }  # fmt: skip
    if needed := [option for option, value in asked.items() if value]:
        raise UserError(f"{needed[0]} needs fields of truth", remedy="add --truth, or leave it out")


def score_at_stations_alone(
    request: ScoringRequest, output: str, how: Bootstrap, existing: str | None, *, progress: bool
) -> xr.Dataset:
    """Scores without a truth: the file's root tells what there is, and the group `stations` holds the scores."""
    observed = open_station_comparison(request, None)
    job = {"inits": observed.inits.tolist(), "format": FORMAT_VERSION}
    finished = begin_record(output, request=dataclasses.asdict(request) | job)
    if progress:
        counts = f"{observed.inits.size} init times, {observed.leads.size} lead times, {len(observed.systems)} systems"
        print(f"score: {counts}, {observed.observations.ids.size} stations", file=sys.stderr)
    run_stations(observed, finished, progress=progress)
    attributes = provenance(
        source=request.forecasts[0][1],
        formula="means over stations, each observation weighs the same; over init times as "
        + CONVENTIONS[WEATHERBENCH2],
        format_version=FORMAT_VERSION,
        convention=WEATHERBENCH2,
        **{f"forecast_{system}": path for system, path in request.forecasts[1:]},
        climatology=request.climatology or "none",
        baselines=", ".join(name for name in observed.systems if name not in observed.stores) or "none",
        settings=request.settings(),
    )
    with whole_file(output) as part:
        scores = StationWriter(observed, finished, existing).write(str(part), attributes, how, alone=True)
    finished.clear()
    return scores


def run_stations(observed: StationComparison, finished: Record, *, progress: bool) -> None:
    """Scores what is not finished yet."""
    with progress_bar(rich.progress.TaskProgressColumn(), enabled=progress) as bar:
        task = bar.add_task("stations", total=len(observed.keys))
        score_stations(observed, finished, lambda name, share: bar.advance(task, share))


def write_stations(
    observed: StationComparison | None,
    finished: Record,
    existing: str | None,
    attributes: dict[str, Any],
    how: Bootstrap,
    path: str,
) -> None:
    """Appends the groups of stations, if there are observations."""
    if observed is not None:
        StationWriter(observed, finished, existing).write(path, attributes, how)
