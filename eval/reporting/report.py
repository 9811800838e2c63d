"""The report: scores as a scorecard, curves, maps, spectra and histograms on one page that needs no network."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import rich.progress
import xarray as xr

from eval.regions import region_of
from eval.reporting import page
from eval.reporting.forecast_animation import animation_section
from eval.reporting.forecast_maps import error_section, forecast_section, map_shares
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.projection import Projection, projection_of
from eval.reporting.report_curves import curve_sections, figure_count
from eval.reporting.report_ensemble import Event, ensemble_maps, ensemble_section, read_events
from eval.reporting.report_events import event_section
from eval.reporting.report_failures import MOST_BUST_MAPS, failures_section
from eval.reporting.report_findings import findings, how_to_read
from eval.reporting.report_folder import ReportFolder
from eval.reporting.report_histograms import histogram_section, rank_section
from eval.reporting.report_places import Place, meteograms, places_section, read_places
from eval.reporting.report_scorecard import region_section, scorecards, tiles
from eval.reporting.report_settings import explanations_section, settings_section
from eval.reporting.report_spectra import spectra_section
from eval.reporting.report_stability import FIELDS, stability_section
from eval.reporting.report_subject import Subject
from eval.reporting.score_file import ScoreFile
from eval.reporting.station_maps import station_map_count, stations_section
from eval.reporting.world_map import Globe
from eval.scorecard import format_date, format_lead, values
from eval.scores import score_named
from weather_scnn.errors import UserError
from weather_scnn.forecasting.stability_file import open_stability
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.replacing import folder_in_place
from weather_scnn.progress import progress_bar

_TITLE = "How good are the forecasts?"
# What all maps together may take of the page, and how many at most: the page is to open at once, also from a mail.
_MAP_BYTES, _MOST_MAPS = 2_000_000, 300


def _score_rows(subject: Subject) -> Iterator[list]:
    """Every score with its interval, in the units of the file."""
    hours = [f"{hour:g}" for hour in subject.hours]
    for field in subject.fields:
        level = "" if field.level is None else field.level
        for region in map(str, subject.scores["region"].values):
            for system in subject.systems:
                for metric in subject.metrics:
                    kind = score_named(metric, subject.scores.attrs).units
                    units = {"none": "1", "field": field.units, "squared": f"({field.units})²"}[kind]
                    numbers = values(subject.scores, field, metric, system, region)
                    lower, upper = subject.file.interval(field, metric, system, region)
                    for index, hour in enumerate(hours):
                        if np.isfinite(numbers[index]):
                            bounds = ["" if bound is None else f"{bound[index]:.9g}" for bound in (lower, upper)]
                            yield [field.variable, level, region, system, metric, hour,
                                   f"{numbers[index]:.9g}", *bounds, units]  # fmt: skip


def _opening(subject: Subject) -> str:
    attributes = subject.scores.attrs
    count = attributes.get("init_times", "")
    if count and subject.file.root != "/":
        plural = "s" if count > 1 else ""
        text = f"{count} forecast{plural}, compared with observations at {attributes.get('stations', '?')} stations."
        return f"{text} Each observation weighs the same, so regions of many stations count most."
    if not count:
        return "Forecasts compared with what happened."
    longest = format_lead(subject.leads[-1]).replace(" ", "\u00a0")
    first, last = (format_date(attributes.get(f"{which}_init_time", "?")) for which in ("first", "last"))
    starts = (
        f"{count} forecasts that start from {first} to {last}" if count > 1 else f"One forecast that starts on {first}"
    )
    return (
        f"{starts}, out to {longest}, on a grid of {attributes.get('grid', '?')} points, "
        f"{'each ' if count > 1 else ''}compared with what happened."
    )


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the sections are made of.

    Attributes:
        subject: scores and choices.
        sample: the forecast that is shown beside the truth, if one is given.
        members: the ensemble whose members are shown; the same forecast unless another store is given.
        globe: the planet of the maps in the scores.
        projection: of all maps.
        paths: of the stores.
        places: of meteograms; empty for the usual ones.
        events: whose probability is shown; empty for what is unusual.
        stability: rollouts over years, if a file of them is given.
    """

    subject: Subject
    sample: ForecastSample | None
    members: ForecastSample | None
    globe: Globe | None
    projection: Projection
    paths: dict[str, str]
    places: list[Place]
    events: list[Event]
    stability: xr.Dataset | None = None


Section = Callable[[Contents], str]


def _with_sample(make: Callable[[Subject, ForecastSample], str]) -> Section:
    """A section of scores and forecast; empty without a forecast."""
    return lambda held: "" if held.sample is None else make(held.subject, held.sample)


def _errors(held: Contents) -> str:
    return "" if held.globe is None else error_section(held.subject, held.globe)


def _places(held: Contents) -> str:
    return "" if held.members is None else places_section(held.subject, held.members, held.places)


def _ensemble(held: Contents) -> str:
    return "" if held.members is None else ensemble_section(held.subject, held.members, held.events)


def sections(held: Contents) -> list[tuple[str, str, str]]:
    """Identifier, title in the list of links and content of every section, in the order of the page.

    A new section is a function from the contents to HTML, and a line here; one that has nothing to show is empty.
    """
    curves = curve_sections(held.subject)
    scores = held.subject.scores.attrs
    made: list[tuple[str, str, Section]] = [
        ("scorecard", "Scorecard", lambda held: scorecards(held.subject)),
        ("regions", "Regions", lambda held: region_section(held.subject)),
        ("failures", "Where it fails", lambda held: failures_section(held.subject, held.sample)),
        *((metric, score_named(metric, scores).title, lambda _, text=text: text) for metric, text in curves.items()),
        ("places", "At places", _places),
        ("ensemble", "Members", _ensemble),
        ("animation", "Animation", _with_sample(animation_section)),
        ("maps", "Maps", _with_sample(forecast_section)),
        ("errors", "Where the errors are", _errors),
        ("stations", "Stations", lambda held: stations_section(held.subject, held.globe, held.projection)),
        ("events", "Events", lambda held: event_section(held.subject)),
        ("spectra", "Spectra", lambda held: spectra_section(held.subject)),
        ("stability", "Over years", lambda held: stability_section(held.subject, held.stability, held.globe)),
        ("histograms", "Histograms", _with_sample(histogram_section)),
        ("ranks", "Rank histograms", lambda held: rank_section(held.subject)),
        ("scores", "What the scores mean", lambda held: explanations_section(held.subject)),
        ("settings", "Settings", lambda held: settings_section(held.subject, held.paths, held.sample)),
    ]
    return [(identifier, title, text) for identifier, title, make in made if (text := make(held))]


def _page(held: Contents) -> str:
    """All sections, in order, in one document."""
    subject = held.subject
    head = ["variable", "level", "region", "system", "metric", "lead_hours", "value", "lower", "upper", "units"]
    subject.output.rows("scores", head, _score_rows(subject))
    shown = sections(held)
    body = [
        f"<header><h1>{_TITLE}</h1>",
        page.paragraph(_opening(subject), kind="lead"),
        tiles(subject),
        findings(subject),
        how_to_read(subject),
        page.navigation((identifier, title) for identifier, title, _ in shown) + "</header>",
        *(section for _, _, section in shown),
        "<footer>Beside this page: every figure as PNG in figures/ (for dark slides in figures/dark/), its numbers in the "
        "same units under the same name in tables/, and every score, in SI units, in tables/scores.csv. "
        f"{page.escape(subject.scores.attrs.get('created_by', ''))}</footer>",
    ]
    return page.document(_TITLE, "\n".join(part for part in body if part))


def _globe(file: ScoreFile, truth: str | None, projection: Projection) -> Globe | None:
    """The planet of the maps in the scores: the truth's, or without a truth the file's grid and no coasts."""
    if truth is not None:
        return Globe.of(open_dataset(truth), projection)
    maps = file.groups.get("maps")
    if maps is None:
        return None
    latitude, longitude = (maps[name].values.astype(np.float64) for name in ("latitude", "longitude"))
    return Globe(latitude, longitude, earth=False, land=None, projection=projection)


def write_report(
    scores: str,
    output: str,
    *,
    forecast: str | None = None,
    truth: str | None = None,
    ensemble: str | None = None,
    stability: str | None = None,
    reference: str | None = None,
    region: str | None = None,
    fields: Sequence[str] = (),
    maps: Sequence[str] = (),
    zoom: str | None = None,
    places: str = "",
    exceed: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> pathlib.Path:
    """Writes the report of a scoring run into a folder.

    Args:
        scores: the file that `eval.scoring.score` wrote.
        output: the folder to make: `index.html`, which needs nothing else; `figures/` of PNG; `tables/` of CSV.
        forecast: the forecast store, for maps, histograms and the animation; with `truth`.
        truth: the truth. Its land_sea_mask, if it has one, tells whether the coasts are the Earth's.
        ensemble: the store whose members are shown at places and on maps; the forecast's if None.
        stability: a file of `weather-scnn stability`, for a section on rollouts over years.
        reference: the system that skill is measured against; persistence, else climatology, if None.
        region: the region of curves; the first of the file if None.
        fields: fields of figures, such as `geopotential@500`, `2m_temperature` or `Z500`; those most looked at if empty.
        maps: lead times of maps, such as `24h` and `10d`; those that the scores have maps of if empty.
        zoom: region that maps show, such as `europe`; the globe if None.
        places: of meteograms, see `report_places.read_places`; some if empty.
        exceed: whose probability maps show, see `report_ensemble.read_events`; what is unusual if empty.
        overwrite: whether to replace a report that stands there.
        progress: whether to show a bar on standard error.

    Returns:
        The path of `index.html`.

    Raises:
        UserError: the output exists, or is a folder that is not a report; an input does not fit; or there is not what
            was asked for.
    """
    projection = projection_of(None if zoom is None else region_of(zoom))
    if (forecast is not None or ensemble is not None) and truth is None:
        raise UserError("maps need both the forecast and the truth", remedy="give both --forecast and --truth")
    sources = {
        "--scores": scores,
        "--forecast": forecast,
        "--truth": truth,
        "--ensemble": ensemble,
        "--stability": stability,
    }
    chosen = read_places(places)
    if (chosen or exceed) and forecast is None and ensemble is None:
        raise UserError("--places and --exceed show a forecast", remedy="give --forecast and --truth, too")
    check_output(output, Kind.REPORT, sources=sources, overwrite=overwrite)
    with contextlib.closing(ScoreFile.open(scores)) as file:
        sample = None
        if forecast is not None and truth is not None:
            sample = ForecastSample.open(forecast, truth, projection)
        members = sample
        if ensemble is not None and truth is not None:
            members = ForecastSample.open(ensemble, truth, projection)
            if members.members < 2:
                raise UserError("holds a single forecast", where=ensemble, remedy="leave --ensemble out")
        globe = _globe(file, truth, projection)
        rolled = None if stability is None else open_stability(stability).load()
        stores = {"forecast": forecast, "truth": truth, "ensemble": ensemble}
        paths = {name: path for name, path in stores.items() if path is not None}
        with folder_in_place(output) as folder:
            bar = progress_bar(rich.progress.MofNCompleteColumn(), "figures", enabled=progress)
            task = bar.add_task("drawing the report", total=None)
            # Checks the choices, so it comes before the bar is seen.
            subject = Subject.create(
                file, ReportFolder(folder), lambda: bar.advance(task), reference=reference, region=region, fields=fields,
                maps=maps, forecast_leads=None if sample is None else sample.leads,
            )  # fmt: skip
            held = Contents(
                subject, sample, members, globe, projection, paths, chosen, read_events(exceed, subject), rolled
            )
            total = _ration(held)
            with bar:
                bar.update(task, total=total)
                text = _page(held)
                bar.update(task, total=bar.tasks[0].completed)
            (folder / "index.html").write_text(text, encoding="utf-8")
    return pathlib.Path(output) / "index.html"


def require_room(maps: float) -> None:
    """Raises UserError if more maps are asked for than a page should hold."""
    if maps > _MOST_MAPS:
        raise UserError(
            f"some {maps:.0f} maps are asked for, and a page holds {_MOST_MAPS}",
            remedy="name fewer --fields or fewer lead times in --maps",
        )


def _ration(held: Contents) -> float:
    """About how many figures there will be, after each map has been given its share of the page.

    Raises:
        UserError: more maps are asked for than a page should hold.
    """
    subject, sample, members = held.subject, held.sample, held.members
    further = station_map_count(subject) + (0 if sample is None else MOST_BUST_MAPS)
    if members is not None and members.members > 1:
        further += ensemble_maps(len(held.events))
    if held.stability is not None:
        further += FIELDS * (held.stability.sizes["system"] - 1)
    maps = map_shares(subject, None if sample is None else sample.leads, further)
    require_room(maps)
    subject.output.most_map_bytes = int(0.75 * _MAP_BYTES / max(maps, 12))  # in the page three bytes take four
    return _figure_count(subject, sample) + further + meteograms(held.places, members)


def _figure_count(subject: Subject, sample: ForecastSample | None) -> int:
    """About how many figures there will be."""
    maps = len(subject.map_positions(subject.leads)) * len(subject.map_fields(subject.fields))
    groups = {"maps": 6 * maps, "spectra": 9, "rank_histogram": maps}
    optional = sum(count for name, count in groups.items() if name in subject.file.groups)
    return figure_count(subject) + optional + (2 + 3 * maps + 6 if sample is not None else 0)
