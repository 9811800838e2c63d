"""Maps of a whole ensemble: lines of all its members, and how likely it is that something is exceeded."""

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from eval.reporting import page
from eval.reporting.figure_style import COLOURS
from eval.reporting.forecast_maps import map_rows
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.line_pictures import contour_pixels, pale_coasts, spaghetti, thickened, with_edge
from eval.reporting.report_subject import Subject, find_fields
from eval.reporting.world_map import ColourBar, has_isolines, painted_map, shade
from eval.scorecard import Field, format_date, format_lead
from weather_scnn.errors import UserError

# What lines are drawn of, before other fields with isolines.
_LINES_OF = ("geopotential", "mean_sea_level_pressure", "surface_pressure")
_USUAL_QUANTILE, _MOST_TIMES = 0.9, 40
_COLOURS = "YlGnBu"
_FIELDS, _LEADS = 2, 2


@dataclasses.dataclass(frozen=True)
class Event:
    """What may be exceeded at each place.

    Attributes:
        field: of which.
        above: whether values above count, or below.
        threshold: in the units shown; of a quantile its share of the truth's times, place by place.
        quantile: whether the threshold is one.
    """

    field: Field
    above: bool
    threshold: float
    quantile: bool = False

    @property
    def words(self) -> str:
        """`above 30 °C`, `above its 90 % quantile`."""
        units = "" if self.quantile else f" {self.field.shown.units}"
        limit = f"its {100 * self.threshold:g} % quantile" if self.quantile else f"{self.threshold:g}{units}"
        return f"{'above' if self.above else 'below'} {limit}".strip()

    def limits(self, sample: ForecastSample) -> float | np.ndarray:
        """The threshold in the units shown: one, or one a place, (y, x)."""
        if not self.quantile:
            return self.threshold
        times = sample.truth["time"].values
        chosen = times[np.unique(np.linspace(0, times.size - 1, min(times.size, _MOST_TIMES)).round().astype(int))]
        return np.asarray(np.nanquantile(sample.observed(self.field, chosen), self.threshold, axis=0))

    def happens(self, values: np.ndarray, limits: float | np.ndarray) -> np.ndarray:
        """1 where it happens, 0 where not, NaN where nothing is known."""
        found = values > limits if self.above else values < limits
        return np.where(np.isfinite(values), found.astype(np.float64), np.nan)


def read_events(texts: Sequence[str], subject: Subject) -> list[Event]:
    """Events as people write them, in the units shown: `T2M>30`, `geopotential@500<520`, or `T2M>q95` for a quantile.

    Raises:
        UserError: it does not read so, or there is no such field.
    """
    events = []
    for text in texts:
        match = re.fullmatch(
            r"\s*(?P<field>[^<>]+?)\s*(?P<sign>[<>])\s*(?P<q>q?)(?P<number>[-+]?\d+(?:\.\d+)?)\s*", text
        )
        if match is None or (match["q"] and not 0 < float(match["number"]) < 100):
            raise UserError(
                f"{text!r} does not read as an event",
                where="--exceed",
                remedy="write T2M>30, geopotential@500<520, or T2M>q95 for the 95 % quantile",
            )
        quantile = bool(match["q"])
        threshold = float(match["number"]) / (100 if quantile else 1)
        for field in find_fields([match["field"]], subject.fields, subject.file.path):
            events.append(Event(field, match["sign"] == ">", threshold, quantile))
    return events


def _figure(
    subject: Subject,
    sample: ForecastSample,
    paint: Callable[[int], np.ndarray],
    name: str,
    title: str,
    columns: dict[str, np.ndarray],
    *,
    description: str,
    units: str,
    bar: ColourBar | None = None,
) -> str:
    figure, picture = painted_map(
        paint, sample.globe, title=title, most_bytes=subject.output.most_map_bytes, bar=bar,
        coasts=bar is not None,
    )  # fmt: skip
    rows = map_rows(sample.globe, [*columns.values()])
    subject.tick()
    head = ["latitude", "longitude", *columns]
    return subject.output.figure(figure, name, description, head, rows, picture=picture, units=units)


def _lines(subject: Subject, sample: ForecastSample, field: Field, init: np.datetime64, position: int) -> str:
    """All members' lines of two values at one lead time, with the truth's."""
    members = sample.predicted_members(field, init, position)
    valid = init + sample.leads[position]
    truth = sample.observed(field, valid) if valid in sample.truth["time"].values else None
    seen = sample.globe.seen(members)
    low, high = np.nanpercentile(seen, [30, 70])
    step = MaxNLocator(8, steps=[1, 2, 4, 5, 10]).tick_values(low, high)
    chosen = sorted({float(step[np.abs(step - edge).argmin()]) for edge in (low, high)})
    levels = [(level, COLOURS[f"--system-{place}"][0]) for place, level in enumerate(chosen)]

    def paint(pixels: int) -> np.ndarray:
        raster = sample.globe.raster(pixels)
        images = np.stack([raster(member) for member in members])
        return spaghetti(images, None if truth is None else raster(truth), levels, pale_coasts(sample.globe, pixels))

    lead = format_lead(sample.leads[position])
    which = " and ".join(f"{level:g}" for level in chosen)
    columns = {"mean of the members": members.mean(axis=0), "spread": members.std(axis=0, ddof=1)}
    return _figure(
        subject, sample, paint, f"spaghetti_{field.slug}_{lead.replace(' ', '')}",
        f"{field.short} {which} {field.shown.units}, {lead}", columns, units=field.shown.units,
        description=f"Lines of {field.label} at {which} {field.shown.units} of all members at {lead}",
    )  # fmt: skip


def _probability(subject: Subject, sample: ForecastSample, event: Event, init: np.datetime64, position: int) -> str:
    """The share of members in which something happens, with the edge of where it did happen."""
    limits = event.limits(sample)
    members = event.happens(sample.predicted_members(event.field, init, position), limits)
    valid = init + sample.leads[position]
    known = valid in sample.truth["time"].values
    truth = sample.observed(event.field, valid) if known else None
    share = 100.0 * members.mean(axis=0)

    def paint(pixels: int) -> np.ndarray:
        raster = sample.globe.raster(pixels)
        rgba = shade(raster(share), _COLOURS, (0.0, 100.0), isolines=False, palette=True)
        if truth is None:
            return rgba
        return with_edge(rgba, thickened(contour_pixels(raster(truth - limits), 0.0), max(1, pixels // 280)))

    lead = format_lead(sample.leads[position])
    title = f"{event.field.short} {event.words}"
    slug = re.sub(r"\W+", "_", title.lower()).strip("_")
    columns = {"probability": share} | ({} if truth is None else {"happened": 100.0 * event.happens(truth, limits)})
    bar = ColourBar(_COLOURS, (0.0, 100.0), "probability, %", "neither")
    return _figure(
        subject, sample, paint, f"probability_{slug}_{lead.replace(' ', '')}", f"{title}, {lead}", columns,
        units="%", bar=bar, description=f"Probability of {event.field.label} {event.words} at {lead}",
    )  # fmt: skip


def ensemble_maps(events: int) -> int:
    """How many maps the section has at most, with this many events asked for."""
    return _LEADS * (1 + (events or _FIELDS))


def ensemble_section(subject: Subject, sample: ForecastSample, events: Sequence[Event]) -> str:
    """The section; empty of a single forecast."""
    if sample.members < 2:
        return ""
    positions = [each for each in subject.map_positions(sample.leads) if sample.inits(each).size][-_LEADS:]
    held = [field for field in subject.scalar_fields if sample.has(field)]
    lined = [field for field in subject.drawn_fields(held, len(held)) if has_isolines(field)]
    lined.sort(key=lambda field: _LINES_OF.index(field.variable) if field.variable in _LINES_OF else len(_LINES_OF))
    mapped = [field for field in subject.map_fields(held) if field in held][:_FIELDS]
    chosen = list(events) or [Event(field, True, _USUAL_QUANTILE, quantile=True) for field in mapped]
    init = sample.longest()
    parts = []
    if lined and positions:
        text = "Lines of equal value of every member, blue for the lower of two values and red for the higher; black is what "
        text += "happened. Where lines lie together the members agree."
        drawn = [_lines(subject, sample, lined[0], init, position) for position in positions]
        parts += [f"<h3>{page.escape(lined[0].label)}: every member</h3>", page.paragraph(text, kind="note")]
        parts.append(page.panels(drawn, kind="maps"))
    for event in chosen if positions else ():
        if not sample.has(event.field):
            continue
        drawn = [_probability(subject, sample, event, init, position) for position in positions]
        parts += [f"<h3>{page.escape(f'{event.field.label} {event.words}')}</h3>", page.panels(drawn, kind="maps")]
    if not parts:
        return ""
    start = format_date(np.datetime_as_string(init, "h"))
    text = f"The {sample.members} members of the forecast that starts {start}. Probabilities are the share of members in which it "
    text += "happens; the red line is the edge of where it did."
    if any(event.quantile for event in chosen):
        text += f" Quantiles are those of up to {_MOST_TIMES} times of the truth, at each place."
    return page.section("ensemble", "What the members say", page.paragraph(text, kind="note"), *parts)
