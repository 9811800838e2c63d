"""Maps for the report: one forecast beside the truth and its error, and where the errors of all forecasts are."""

import numpy as np
import xarray as xr

from eval.reporting import page
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.report_subject import Subject
from eval.reporting.world_map import Globe, colours_for, has_isolines, world_map
from eval.scorecard import Field, format_date, format_lead
from eval.scores import SCORES
from eval.scores.base import MapStyle, Score

# Larger maps are left to the stores themselves; a table of them would be no use.
MOST_CSV_ROWS = 100_000


# The first three of those that a field has are shown at once, the others on request.
_FIRST = 3
# What a map on request may take of the page, beside one that is shown at once.
FURTHER_SHARE = 0.4


def _drawn_scores() -> list[Score]:
    """Scores that have maps on the page, in order; that of the mean square would be that of the RMSE in other numbers."""
    return sorted(
        (score for score in SCORES if score.map is not None), key=lambda score: score.map.rank if score.map else 0
    )


def map_rows(globe: Globe, columns: list[np.ndarray]) -> list[list[float]]:
    """Rows of latitude, longitude and the values of each field; none of a map too large for a table."""
    if columns[0].size > MOST_CSV_ROWS:
        return []
    north, east = np.meshgrid(globe.latitude, globe.longitude, indexing="ij")
    return np.stack([array.ravel() for array in (north, east, *columns)], axis=-1).tolist()


def forecast_maps(
    subject: Subject,
    sample: ForecastSample,
    field: Field,
    position: int,
    *,
    init: np.datetime64 | None = None,
    name: str = "map",
) -> str:
    """Forecast, truth and error of one field at one lead time; empty where there is no truth.

    Args:
        subject, sample: of the report.
        field: the field.
        position: of the lead time.
        init: initial time; the one in the middle if None.
        name: with which its files begin.
    """
    inits = sample.inits(position)
    if not inits.size:
        return ""
    init = inits[inits.size // 2] if init is None else init
    lead, valid = sample.leads[position], init + sample.leads[position]
    predicted, observed = sample.predicted(field, init, position), sample.observed(field, valid)
    error = predicted - observed
    colours, limits = colours_for(field, [sample.globe.seen(each) for each in (predicted, observed)])
    largest = float(np.nanpercentile(np.abs(sample.globe.seen(error)), 99.5)) or 1.0
    shown = []
    for title, array, palette, bounds, units in (
        ("Forecast", predicted, colours, limits, field.shown.units),
        ("Truth", observed, colours, limits, field.shown.units),
        ("Error: forecast − truth", error, "RdBu_r", (-largest, largest), field.shown.difference_units),
    ):
        figure, picture = world_map(
            array, sample.globe, title=title, units=units, colours=palette, limits=bounds,
            isolines=has_isolines(field) and array is not error, most_bytes=subject.output.most_map_bytes,
        )  # fmt: skip
        kind = title.split(":")[0].lower()
        shown.append(
            subject.output.figure(
                figure,
                f"{name}_{field.slug}_{format_lead(lead).replace(' ', '')}_{kind}",
                f"Map of {field.label}, {title.lower()}, at {format_lead(lead)}",
                ["latitude", "longitude", kind],
                map_rows(sample.globe, [array]),
                picture=picture,
                units=units,
            )
        )
        subject.tick()
    times = [format_date(np.datetime_as_string(time, "h")) for time in (init, valid)]
    return (
        f"<h3>{page.escape(field.label)}, {format_lead(lead)} ahead</h3>"
        + page.paragraph(f"Started {times[0]}, valid {times[1]}.", kind="note")
        + page.panels(shown, kind="maps")
    )


def forecast_section(subject: Subject, sample: ForecastSample) -> str:
    """One forecast, field by field, at each lead time that gets maps."""
    parts = [
        forecast_maps(subject, sample, field, position)
        for field in subject.map_fields(subject.scalar_fields)
        if sample.has(field)
        for position in subject.map_positions(sample.leads)
    ]
    if not any(parts):
        return ""
    text = "One forecast beside what happened: the one in the middle of the period, not the best. The projection "
    text += "keeps areas. Colours end at the outer half per cent of the values."
    if sample.members > 1:
        text += f" Shown is the first of {sample.members} members, which starts from the unperturbed state."
    text += f" {sample.globe.note}" if sample.globe.note else ""
    return page.section("maps", "A forecast, the truth and the error", page.paragraph(text, kind="note"), *parts)


def _error_map(
    subject: Subject, globe: Globe, field: Field, score: Score, array: xr.DataArray, lead: str, *, share: float
) -> str:
    """The map of one score, which takes this share of what a map may take of the page."""
    style, metric = score.map or MapStyle(), score.name
    at = array.sel(metric=metric).transpose("latitude", "longitude").values.astype(np.float64)
    # A score may be known at places outside the picture alone.
    seen = globe.seen(at) if np.isfinite(globe.seen(at)).any() else at
    factor, units = field.scaled_errors(seen, score.units)
    at, seen = at * factor, seen * factor
    largest = float(np.nanpercentile(np.abs(seen), 99.5)) or 1.0
    low, high = (bound if bound is not None else end for bound, end in zip(style.limits, (-largest, largest)))
    figure, picture = world_map(
        at, globe, title=score.title, units=units, colours=style.colours, limits=(low, high), ends=style.ends,
        most_bytes=int(share * subject.output.most_map_bytes),
    )  # fmt: skip
    shown = subject.output.figure(
        figure,
        f"{metric}_map_{field.slug}_{lead.replace(' ', '')}",
        f"Map of the {score.title} of {field.label} at {lead}",
        ["latitude", "longitude", metric],
        map_rows(globe, [at]),
        picture=picture,
        units=units,
    )
    subject.tick()
    return shown


def error_section(subject: Subject, globe: Globe) -> str:
    """Every score of all forecasts at every place; empty where the file has no maps."""
    group = subject.file.groups.get("maps")
    if group is None or subject.main not in group["system"].values:
        return ""
    leads = group["lead_time"].values
    parts: list[str] = []
    held_anywhere: set[str] = set()
    for field in subject.map_fields(subject.fields):
        if field.variable not in group or (field.level is not None and field.level not in group["level"].values):
            continue
        for position in subject.map_positions(leads):
            array, lead = (
                field.of(group).sel(system=subject.main).isel(lead_time=position),
                format_lead(leads[position]),
            )
            held = [
                score
                for score in _drawn_scores()
                if score.name in array["metric"].values and np.isfinite(array.sel(metric=score.name)).any()
            ]
            held_anywhere |= {score.name for score in held}
            first, others = (
                [_error_map(subject, globe, field, score, array, lead, share=share) for score in part]
                for part, share in ((held[:_FIRST], 1.0), (held[_FIRST:], FURTHER_SHARE))
            )
            if first:
                parts.append(f"<h3>{page.escape(field.label)}, {lead} ahead</h3>")
                parts.append(page.panels(first, kind="maps"))
            if others:
                parts.append(page.details(f"Further scores of {field.label}", page.panels(others, kind="maps")))
    if not parts:
        return ""
    names = [score.title for score in _drawn_scores() if score.name in held_anywhere][:_FIRST]
    text = f"Scores of {subject.main} at every place, over all init times: {', '.join(names)}; further ones fold out. "
    text += "Of the bias, the mean error, red is where forecasts are too high, blue where they are too low."
    text += f" {globe.note}" if globe.note else ""
    return page.section("errors", "Where the errors are", page.paragraph(text, kind="note"), *parts)


def map_shares(subject: Subject, leads: np.ndarray | None, further: int = 0) -> float:
    """About how many maps the page will have, those that fold out counted as the part of a map that they may take.

    Args:
        subject: of the report.
        leads: lead times of the forecast that is shown; None without one.
        further: maps that other sections have.
    """
    count = float(further)
    if leads is not None:
        count += 3 * len(subject.map_fields(subject.scalar_fields)) * len(subject.map_positions(leads))
    group = subject.file.groups.get("maps")
    if group is not None:
        each = _FIRST + FURTHER_SHARE * (len(_drawn_scores()) - _FIRST)
        count += each * len(subject.map_fields(subject.fields)) * len(subject.map_positions(group["lead_time"].values))
    return count
