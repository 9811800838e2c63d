"""Meteograms: one forecast at chosen places, its members as plumes, beside what happened."""

import dataclasses
import difflib
import re

import numpy as np

from eval.reporting import page
from eval.reporting.figures import plume
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.report_subject import Subject
from eval.scorecard import Field, format_date
from weather_scnn.errors import UserError

# (latitude, longitude) in degrees, of a few places in every climate.
KNOWN = {
    "Berlin": (52.5, 13.4), "Bogotá": (4.7, -74.1), "Cairo": (30.0, 31.2), "Cape Town": (-33.9, 18.4),
    "Chicago": (41.9, -87.6), "Delhi": (28.6, 77.2), "Honolulu": (21.3, -157.9), "Jakarta": (-6.2, 106.8),
    "Lagos": (6.5, 3.4), "Lima": (-12.0, -77.0), "London": (51.5, -0.1), "Melbourne": (-37.8, 145.0),
    "Mexico City": (19.4, -99.1), "Moscow": (55.8, 37.6), "Nairobi": (-1.3, 36.8), "New York": (40.7, -74.0),
    "Reykjavik": (64.1, -21.9), "San Francisco": (37.8, -122.4), "Santiago": (-33.4, -70.7), "São Paulo": (-23.6, -46.6),
    "Singapore": (1.3, 103.8), "Sydney": (-33.9, 151.2), "Tokyo": (35.7, 139.7),
}  # fmt: skip
_USUAL, _ELSEWHERE = ("Berlin", "New York", "Nairobi"), ((50.0, 0.0), (0.0, 90.0), (-50.0, 180.0))
_MOST_PLACES = 8
# What people look at first at a place.
_FIRST = ("2m_temperature", "total_precipitation", "10m_wind_speed", "mean_sea_level_pressure", "surface_pressure")
_FIELDS = 3
_NUMBER = r"[-+]?\d+(?:\.\d+)?"


@dataclasses.dataclass(frozen=True)
class Place:
    """A place by its name, degrees north and degrees east."""

    name: str
    latitude: float
    longitude: float

    @property
    def where(self) -> str:
        """`52.5° N 13.4° E`."""
        east = (self.longitude + 180) % 360 - 180
        parts = ((self.latitude, "NS"), (east, "EW"))
        return " ".join(f"{abs(value):g}° {letters[value < 0]}" for value, letters in parts)


def read_places(text: str) -> list[Place]:
    """Places as people write them: `Berlin`, `Oslo,59.9,10.8`, and several with semicolons between.

    Raises:
        UserError: a name that is not known, a latitude beyond the poles, or too many.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        match = re.fullmatch(rf"(?P<name>.*?)\s*,?\s*(?P<north>{_NUMBER})\s*,\s*(?P<east>{_NUMBER})", part)
        if match is not None:
            north, east = float(match["north"]), float(match["east"])
            if abs(north) > 90 or abs(east) > 360:
                raise UserError(
                    f"{part!r} lies beyond the poles or the globe",
                    where="--places",
                    remedy="write latitude, then longitude, in degrees: Berlin,52.5,13.4",
                )
            found.append(Place(match["name"] or Place("", north, east).where, north, east))
            continue
        for name in (each.strip() for each in part.split(",")):
            known = {each.lower(): each for each in KNOWN}
            if name.lower() not in known:
                close = difflib.get_close_matches(name.lower(), known, n=1)
                raise UserError(
                    f"{name!r} is not among the places known here",
                    where="--places",
                    remedy=(f"did you mean {known[close[0]]}? Else " if close else "")
                    + f"write {name},LATITUDE,LONGITUDE, and ; between places",
                )
            found.append(Place(known[name.lower()], *KNOWN[known[name.lower()]]))
    if len(found) > _MOST_PLACES:
        raise UserError(f"names {len(found)} places", where="--places", remedy=f"name at most {_MOST_PLACES}")
    return found


def places_for(sample: ForecastSample, chosen: list[Place]) -> list[Place]:
    """Those asked for; else some on the Earth, or of another planet some points."""
    if chosen:
        return chosen
    if sample.globe.idealised or not sample.globe.earth:
        return [Place(Place("", *each).where, *each) for each in _ELSEWHERE]
    return [Place(name, *KNOWN[name]) for name in _USUAL]


def meteograms(chosen: list[Place], sample: ForecastSample | None) -> int:
    """How many there are at most."""
    return 0 if sample is None else _FIELDS * (len(chosen) or len(_USUAL))


def _fields(subject: Subject, sample: ForecastSample) -> list[Field]:
    held = [field for field in subject.scalar_fields if sample.has(field)]
    if subject.asked_fields:
        return [field for field in held if field in subject.asked_fields][:_FIELDS]
    near = sorted(
        (field for field in held if field.level is None and field.variable.startswith(_FIRST)),
        key=lambda field: next(rank for rank, name in enumerate(_FIRST) if field.variable.startswith(name)),
    )
    return [*near, *(field for field in subject.map_fields(held) if field not in near)][:_FIELDS]


def places_section(subject: Subject, sample: ForecastSample, chosen: list[Place]) -> str:
    """The section; empty where the forecast has one lead time only, or none of the fields."""
    fields = _fields(subject, sample)
    if not fields or sample.leads.size < 2:
        return ""
    places, init = places_for(sample, chosen), sample.longest()
    latitude, longitude = (np.array([getattr(each, name) for each in places]) for name in ("latitude", "longitude"))
    hours = sample.leads / np.timedelta64(1, "h")
    series = {field: sample.at_places(field, init, latitude, longitude) for field in fields}
    parts = []
    for number, place in enumerate(places):
        drawn = []
        for field, (members, truth) in series.items():
            own, happened = members[:, :, number], truth[:, number]
            figure = plume(hours, own, happened, title=field.label, units=field.shown.units)
            slug = re.sub(r"\W+", "_", place.name.lower()).strip("_")
            names = [f"member {each}" for each in range(len(own))] if len(own) > 1 else ["forecast"]
            rows = [[hour, *row, seen] for hour, row, seen in zip(hours.tolist(), own.T.tolist(), happened.tolist())]
            description = f"{field.label} at {place.name} against lead time"
            drawn.append(
                subject.output.figure(
                    figure,
                    f"meteogram_{slug}_{field.slug}",
                    description,
                    ["lead_hours", *names, "truth"],
                    rows,
                    units=field.shown.units,
                )
            )
            subject.tick()
        where = "" if place.name == place.where else f" ({place.where})"
        parts += [f"<h3>{page.escape(place.name + where)}</h3>", page.panels(drawn)]
    start = format_date(np.datetime_as_string(init, "h"))
    text = f"The forecast that starts {start}, between the grid's points in a straight line; the broad grey line is what happened."
    if sample.members > 1:
        text += " Thin lines are members; bands hold the middle half and nine tenths of them, and the thick line is their median."
    key = page.key([(0, "forecast" if sample.members == 1 else "median of the members")], extra=("truth", "--muted"))
    return page.section("places", "At chosen places", page.paragraph(text, kind="note"), key, *parts)
