"""The scoring job: forecasts against the truth, beside baselines.

It goes through work items of some variables and init times and keeps only sums, so memory does not grow with the data.
"""

import dataclasses
import functools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rich.progress
import xarray as xr

from eval.baselines import BASELINES, known_baselines
from eval.conventions import CONVENTIONS, FORMAT_VERSION, WEATHERBENCH1, WEATHERBENCH2
from eval.events import event_of, radius_of
from eval.item_scoring import ItemScorer
from eval.metrics import combine_scores
from eval.pairing import Comparison, open_comparison
from eval.regions import REGIONS, with_bands
from eval.request import ScoringRequest, StationRequest, check_leads
from eval.score_reading import STATIONS, SUMS_GROUP, open_scores
from eval.score_size import expected_bytes
from eval.score_writing import Bootstrap, ScoreWriter
from eval.scorecard import summary_table
from eval.stations.comparison import check_stations, open_station_comparison
from eval.stations.job import refuse_without_truth, run_stations, score_at_stations_alone, write_stations
from eval.systems import MODEL, named_forecasts
from eval.valid_time_fields import prepare_references
from eval.work_items import WorkItem, work_items_of
from weather_scnn.byte_sizes import in_words
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.errors import UserError
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.sources import open_one
from weather_scnn.io.writing import Record, begin_record, provenance
from weather_scnn.progress import progress_bar

__all__ = ["MODEL", "PROTOCOLS", "combine_scores", "open_scores", "score", "summary_table"]

_log = logging.getLogger(__name__)
#: Scores the work items of a request, with or without a bar.
RunElsewhere = Callable[[ScoringRequest, Sequence[WorkItem], Record, bool], None]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of an official evaluation; those that the user gives go before."""

    init: str
    levels: tuple[int, ...]
    regions: tuple[str, ...]
    grid: str
    convention: str
    description: str


PROTOCOLS = {
    "weatherbench2": Protocol(
        init="2020-01-01:2020-12-31:12h",
        levels=(500, 700, 850),
        regions=tuple(REGIONS),
        grid="64x32",
        convention=WEATHERBENCH2,
        description="init times of 2020 at 00 and 12 UTC, levels 500, 700 and 850 hPa, 64x32 without poles, conservative",
    )
}


def _request(
    forecast: str | Sequence[str],
    protocol: str | None,
    convention: str | None,
    levels: Sequence[Level] | None,
    regions: Sequence[str] | None,
    init: str | None,
    grid: str | None,
    baselines: Sequence[str],
    climatology: str | None,
    **others: Any,
) -> ScoringRequest:
    """The request, completed by the protocol."""
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}", remedy="choose " + ", ".join(PROTOCOLS))
    official = PROTOCOLS.get(protocol) if protocol else None
    convention = convention or (official.convention if official else WEATHERBENCH2)
    if convention not in CONVENTIONS:
        raise UserError(f"there is no convention {convention!r}", remedy="choose " + " or ".join(CONVENTIONS))
    known = climatology is not None or convention == WEATHERBENCH1
    systems = named_forecasts(forecast)
    if reserved := [name for name, _ in systems if name in (*BASELINES, "truth")]:
        raise UserError(
            f"a forecast is called {reserved[0]!r}", remedy="give it another name, as in --forecast mine=PATH"
        )
    return ScoringRequest(
        forecasts=tuple(systems),
        levels=tuple(levels) if levels else (official.levels if official else None),
        regions=with_bands(regions) if regions else (official.regions if official else ("global",)),
        init=init or (official.init if official else None),
        grid=grid or (official.grid if official else None),
        baselines=known_baselines(baselines, climatology=known),
        climatology=climatology,
        convention=convention,
        **others,
    )


def score(
    forecast: str | Sequence[str],
    truth: str | None,
    output: str,
    *,
    stations: StationRequest | None = None,
    climatology: str | None = None,
    baselines: Sequence[str] = (),
    baseline_years: str | None = None,
    by_valid_time: Sequence[str] = (),
    regions: Sequence[str] | None = None,
    variables: Sequence[str] | None = None,
    levels: Sequence[Level] | None = None,
    init: str | None = None,
    grid: str | None = None,
    protocol: str | None = None,
    convention: str | None = None,
    maps: Sequence[str] = (),
    spectra: Sequence[str] = (),
    events: Sequence[str] = (),
    neighbourhoods: Sequence[str] = (),
    bootstrap: int = 1000,
    block: int | None = None,
    confidence: float = 0.95,
    allow_missing: bool = False,
    add: bool = False,
    overwrite: bool = False,
    run_elsewhere: RunElsewhere | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Scores forecasts against the truth and writes scores, intervals, differences and the sums they come from.

    All systems are scored on the same init times, lead times and points: where truth, climatology (if given) and
    every baseline have a value. A value missing from a forecast is an error unless `allow_missing`. What is on another
    grid than the coarsest is regridded to it, conservatively, and the file says so. A run that was interrupted goes on.

    Args:
        forecast: stores as PATH or NAME=PATH; dims (time, prediction_timedelta[, number][, level], latitude, longitude),
            see `eval.forecasts.open_forecast` for other layouts that are accepted.
        truth: dataset that holds the valid times; None to score at stations alone.
        output: the netCDF file to write, laid out as docs/scores.md says.
        stations: observations that forecasts are held against, on their own grids, beside or without a truth.
        climatology: store of the climatology by hour and calendar day; without it there is no ACC and no activity.
        baselines: of `eval.baselines.BASELINES`.
        baseline_years: period "A:B" of the truth that weekly and probabilistic climatology are made from; all years that
            are not scored if None.
        by_valid_time: systems whose store's `time` is the valid time.
        regions: keys of `eval.regions.REGIONS`, zonal bands such as 30n-60n, bands:30 for all of 30°; `global` if None.
        variables: names to score; all that forecast and truth share if None.
        levels: hPa; all shared if None.
        init: init times "A:B" or "A:B:STEP", inclusive, STEP counted from A; all if None.
        grid: LONxLAT without poles, to score on; the coarsest of the stores' if None.
        protocol: a key of `PROTOCOLS`, which fills in what is None here.
        convention: `weatherbench2` or `weatherbench1`.
        maps: lead times of maps, such as ("24h", "5d"), or ("all",).
        spectra: lead times of spectra.
        events: of `eval.events.event_of`, such as ("0.95", "0.05", "2m_temperature<0degC"); quantiles need a climatology
            that has them.
        neighbourhoods: radii of the fractions skill score of these events, such as ("500km", "1000km").
        bootstrap: resamples for intervals and differences; 0 for none.
        block: init times in a block of the bootstrap; n^⅓ if None.
        confidence: of intervals.
        allow_missing: whether to score the other points where a forecast has NaNs.
        add: whether to add the init times that `output` has not got yet.
        overwrite: whether to replace `output`.
        run_elsewhere: scores the work items that are not finished yet, such as on Beam; None for a plain loop.
        progress: whether to show a bar on standard error.

    Returns:
        The scores, as in the root of the file; without a truth those at stations.

    Raises:
        UserError: nothing can be paired, or grids, units, variables or levels do not fit.
    """
    if not 0 < confidence < 1:
        raise UserError(f"the confidence {confidence:g} is not between 0 and 1", remedy="give one such as 0.95")
    if bootstrap < 0 or (block is not None and block < 1):
        raise UserError("the bootstrap needs a positive number of resamples and block", remedy="leave the options out")
    for option, texts in (("--maps", maps), ("--spectra", spectra)):
        check_leads(texts, option)
    _check_events(events, neighbourhoods, convention)
    request = _request(
        forecast,
        protocol,
        convention,
        levels,
        regions,
        init,
        grid,
        baselines,
        climatology,
        truth="" if truth is None else str(truth),
        stations=stations,
        baseline_years=baseline_years,
        by_valid_time=tuple(by_valid_time),
        variables=tuple(variables) if variables else None,
        maps=tuple(maps),
        spectra=tuple(spectra),
        events=tuple(events),
        neighbourhoods=tuple(neighbourhoods),
        allow_missing=allow_missing,
    )
    if stations is None and truth is None:
        raise UserError("there is nothing to score against", remedy="add --truth STORE, or --observations FILE")
    if stations is not None:
        check_stations(stations)
    if truth is None:
        refuse_without_truth(request)
    existing = None
    check_output(str(output), Kind.FILE, sources=request.sources(), overwrite=overwrite or add)
    if add:
        request, existing = _added_to(request, output)
    how = Bootstrap(bootstrap, block, confidence)
    if truth is None:
        return score_at_stations_alone(request, output, how, existing, progress=progress)
    comparison = open_comparison(request)
    observed = open_station_comparison(request, comparison) if stations is not None else None
    count = comparison.inits.size + len(request.skip)
    if bootstrap and block is not None and block >= count > 1:
        raise UserError(
            f"blocks of {block} init times leave nothing to draw from {count}", remedy="give a smaller --block"
        )
    items = work_items_of(comparison)
    job = {"inits": comparison.inits.tolist(), "items": [item.name for item in items], "format": FORMAT_VERSION}
    finished = begin_record(str(output), request=dataclasses.asdict(request) | job)
    if progress:
        size = in_words(expected_bytes(comparison, intervals=bootstrap > 0, further=len(request.skip)))
        counts = (
            f"{comparison.inits.size} init times, {comparison.leads.size} lead times, {len(comparison.systems)} systems"
        )
        print(f"score: {counts}; writes about {size}", file=sys.stderr)
    _run(comparison, items, finished, run_elsewhere, progress=progress)
    if observed is not None:
        run_stations(observed, finished, progress=progress)
    file = ScoreWriter(comparison, finished, items, existing)
    attributes = _attributes(comparison, protocol)
    with progress_bar(rich.progress.MofNCompleteColumn(), enabled=progress) as bar:
        task = bar.add_task("scores and intervals of fields", total=len(file.fields))
        try:
            further = functools.partial(write_stations, observed, finished, existing, attributes, how)
            scores = file.write(output, attributes, how, lambda: bar.advance(task), further)
        except UserError:
            finished.clear()  # nothing of which was of use
            raise
    if missing := int(scores.attrs["missing_in_truth"]):
        _log.warning("%d values of the truth are missing: those points are left out of all systems", missing)
    finished.clear()
    return scores


def _check_events(events: Sequence[str], neighbourhoods: Sequence[str], convention: str | None) -> None:
    """Refuses events and neighbourhoods that do not read, before anything is opened."""
    tags = [event_of(text).tag for text in events]
    if repeated := {tag for tag in tags if tags.count(tag) > 1 and tag.startswith("0.")}:
        raise UserError(f"--events names {sorted(repeated)[0]} twice", remedy="name each once")
    for text in neighbourhoods:
        radius_of(text)
    if neighbourhoods and not events:
        raise UserError("neighbourhoods are of events", remedy="add --events, such as --events 0.95")
    if events and convention == WEATHERBENCH1:
        raise UserError("the convention weatherbench1 has no events", remedy="leave out --events or --convention")


def _run(
    comparison: Comparison,
    items: list[WorkItem],
    finished: Record,
    run_elsewhere: RunElsewhere | None,
    *,
    progress: bool,
) -> None:
    """Scores the work items that are not on disk yet."""
    with progress_bar(enabled=progress) as bar:
        task = bar.add_task("references", total=None, visible=False)
        prepare_references(comparison, finished, lambda text: bar.update(task, description=text, visible=True))
    if run_elsewhere is not None:
        run_elsewhere(comparison.request, items, finished, progress)
        return
    done = finished.finished()
    items = [item for item in items if item.name not in done]
    with progress_bar(rich.progress.TaskProgressColumn(), enabled=progress) as bar:
        task = bar.add_task("scoring", total=sum(item.stop - item.start for item in items))
        scorers: dict[int, ItemScorer] = {}

        def scorer_of(item: WorkItem) -> ItemScorer:
            if item.group not in scorers:
                scorers[item.group] = ItemScorer(comparison, item.group, finished)
            return scorers[item.group]

        for item, following in zip(items, [*items[1:], None]):

            def ahead(following: WorkItem | None = following) -> None:
                if following is not None:
                    scorer_of(following).begin(following)

            finished.save(item.name, scorer_of(item).score(item, lambda inits: bar.advance(task, inits), ahead))
            if following is None or following.group != item.group:
                del scorers[item.group]  # and its caches


def _added_to(request: ScoringRequest, output: str) -> tuple[ScoringRequest, str]:
    """The request without the init times that the file has, if its settings are those of the file.

    Raises:
        UserError: there is no such file, or it was made with other settings.
    """
    with open_one(output) as root:
        held = json.loads(root.attrs.get("settings", "{}"))
    wanted = json.loads(request.settings())
    if differing := sorted(key for key in {*wanted, *held} if held.get(key) != wanted.get(key)):
        raise UserError(
            f"was made with other settings ({', '.join(differing)})",
            where=output,
            remedy="repeat the options it was made with, or write a file of its own",
        )
    group = SUMS_GROUP if request.truth else f"{STATIONS}/{SUMS_GROUP}"
    inits = open_scores(output, group=group)["init_time"].values.astype("datetime64[ns]").astype(np.int64)
    return dataclasses.replace(request, skip=tuple(inits.tolist())), output


def _attributes(comparison: Comparison, protocol: str | None) -> dict[str, Any]:
    request = comparison.request
    return provenance(
        source=request.forecasts[0][1],
        formula=CONVENTIONS[request.convention],
        format_version=FORMAT_VERSION,
        convention=request.convention,
        **({"protocol": f"{protocol}: {PROTOCOLS[protocol].description}"} if protocol else {}),
        **{f"forecast_{system}": path for system, path in request.forecasts[1:]},
        truth=request.truth,
        climatology=request.climatology or ("time mean of the truth" if comparison.pooled else "none"),
        baselines=", ".join(request.baselines) or "none",
        **({"baseline_years": request.baseline_years} if request.baseline_years else {}),
        grid=f"{comparison.longitude.size}x{comparison.latitude.size}",
        regions=", ".join(request.regions),
        missing_values="masked where the truth, the climatology or a baseline has none"
        + (", or a forecast" if request.allow_missing else "; an error in a forecast"),
        **comparison.notes,
        settings=request.settings(),
    )
