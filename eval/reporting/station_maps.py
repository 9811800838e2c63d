"""Scores at stations on the page: a dot a station, and groups of stations beside each other."""

import numpy as np
import xarray as xr

from eval.reporting import page
from eval.reporting.projection import Projection
from eval.reporting.report_subject import Subject
from eval.reporting.world_map import Globe, dots_map
from eval.scorecard import Field, format_lead, format_number, list_fields, values

_FIELDS = 4
_DRAWN = (("bias", "Bias", "RdBu_r"), ("rmse", "RMSE", "YlOrBr"))
_MOST_ROWS = 24


def _fields(subject: Subject) -> list[Field]:
    """Fields that stations have, of those that are asked for."""
    if subject.file.stations is None:
        return []
    places = subject.file.stations[1]
    held = [name for name in map(str, places.data_vars) if not name.endswith("_count")]
    known = list_fields(places[held].drop_vars([n for n in places.coords if n not in places.dims]))
    return subject.drawn_fields(known, _FIELDS)


def _leads(subject: Subject, leads: np.ndarray) -> list[int]:
    positions = subject.map_positions(leads)
    return positions if subject.asked_leads is not None else positions[:2]


def station_map_count(subject: Subject) -> int:
    """How many maps of stations there are at most."""
    if subject.file.stations is None:
        return 0
    leads = subject.file.stations[1]["lead_time"].values
    return len(_DRAWN) * len(_fields(subject)) * len(_leads(subject, leads))


def _maps(subject: Subject, globe: Globe, places: xr.Dataset, field: Field, position: int) -> list[str]:
    system = subject.main if subject.main in places["system"].values else str(places["system"].values[0])
    at = field.of(places).sel(system=system).isel(lead_time=position)
    north, east = (places[axis].values.astype(np.float64) for axis in ("latitude", "longitude"))
    lead, drawn = format_lead(places["lead_time"].values[position]), []
    for metric, title, colours in _DRAWN:
        scores = at.sel(metric=metric).values.astype(np.float64)
        factor, units = field.scaled_errors(scores)
        scores *= factor
        if not np.isfinite(scores).any():
            continue
        largest = float(np.nanpercentile(np.abs(scores), 98)) or 1.0
        low = -largest if metric == "bias" else 0.0
        figure, picture = dots_map(
            scores, north, east, globe, title=f"{title} of {field.short} at {lead}", units=units, colours=colours,
            limits=(low, largest), most_bytes=subject.output.most_map_bytes, ends="both" if metric == "bias" else "max",
        )  # fmt: skip
        rows = [
            [str(name), a, b, c, units]
            for name, a, b, c in zip(places["station"].values, north.tolist(), east.tolist(), scores.tolist())
            if np.isfinite(c)
        ]
        drawn.append(
            subject.output.figure(
                figure, f"stations_{metric}_{field.slug}_{lead.replace(' ', '')}",
                f"Map of the {title} of {field.label} at stations, {lead} ahead",
                ["station", "latitude", "longitude", metric, "units"], rows, picture=picture,
            )
        )  # fmt: skip
        subject.tick()
    return drawn


def _groups_table(subject: Subject, scores: xr.Dataset, field: Field) -> str:
    """RMSE and bias of every group of stations at some lead times."""
    system = subject.main if subject.main in scores["system"].values else str(scores["system"].values[0])
    positions = _leads(subject, scores["lead_time"].values)
    groups = [str(name) for name in scores["region"].values][:_MOST_ROWS]
    numbers = {
        (group, metric): values(scores, field, metric, system, group) for group in groups for metric in ("rmse", "bias")
    }
    factor, units = field.scaled_errors(np.concatenate(list(numbers.values())))
    head, rows = [f"{field.label}, {units}"], []
    for position in positions:
        lead = format_lead(scores["lead_time"].values[position])
        head += [f"RMSE at {lead}", f"bias at {lead}"]
    for group in groups:
        cells = []
        for position in positions:
            for metric in ("rmse", "bias"):
                number = factor * numbers[group, metric][position]
                cells.append(f"<td>{page.escape(format_number(number))}</td>")
        rows.append(page.row(page.escape(group.replace("-", " ")), cells))
    return page.table(head, rows, kind="numbers")


def stations_section(subject: Subject, globe: Globe | None, projection: Projection) -> str:
    """Maps and tables of the scores at stations; empty where the file has none.

    Args:
        subject: of the report.
        globe: of its other maps.
        projection: of the maps, where there are no others.
    """
    if subject.file.stations is None:
        return ""
    scores, places = subject.file.stations
    if globe is None:  # stations stand on the Earth
        globe = Globe(
            np.array([-45.0, 45.0]), np.arange(0.0, 360.0, 90.0), earth=True, land=None, projection=projection
        )
    parts = []
    for field in _fields(subject):
        drawn = [
            figure
            for position in _leads(subject, places["lead_time"].values)
            for figure in _maps(subject, globe, places, field, position)
        ]
        if drawn:
            parts.append(f"<h3>{page.escape(field.label)}</h3>" + page.panels(drawn, kind="maps"))
            parts.append(_groups_table(subject, scores, field))
    if not parts:
        return ""
    attributes = scores.attrs
    text = f"Forecasts of {subject.main} at {attributes.get('stations', places.sizes['station'])} stations, brought there from their "
    text += f"own grid ({attributes.get('stations_interpolation', '?')}); correction for height: "
    text += f"{attributes.get('height_correction', 'none')}. A dot is a station, over all init times; each observation weighs the "
    text += "same. Of the bias red is where forecasts are too high. What a grid cannot resolve at a place is part of the error."
    return page.section("stations", "At stations", page.paragraph(text, kind="note"), *parts)
