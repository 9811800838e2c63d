"""Events on the page: reliability diagrams and curves of hits against false alarms."""

import numpy as np
import xarray as xr

from eval.reporting import page
from eval.reporting.figures import unit_square
from eval.reporting.report_subject import Subject
from eval.scorecard import format_lead

_FIELDS, _LEADS = 3, 2
_KINDS = (
    ("reliability", ("mean_probability", "observed_frequency"), "forecast probability", "observed frequency"),
    ("roc", ("false_alarm_rate", "hit_rate"), "false alarm rate", "hit rate"),
)


def _series(subject: Subject, at: xr.DataArray, names: tuple[str, str]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for system in map(str, at["system"].values):
        x, y = (at.sel(system=system, curve=name).values.astype(np.float64) for name in names)
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() and system in subject.systems:
            order = np.lexsort((y[known], x[known]))
            found[subject.systems.index(system)] = (x[known][order], y[known][order])
    return found


def event_section(subject: Subject) -> str:
    """Diagrams of every event of the first fields at some lead times; empty where no events were scored."""
    group = subject.file.groups.get("event_curves")
    if group is None:
        return ""
    parts: list[str] = []
    held = [field for field in subject.scalar_fields if field.variable in group and np.isfinite(field.of(group)).any()]
    used: set[int] = set()
    for field in subject.drawn_fields(held, _FIELDS):
        for event in map(str, group["event"].values):
            drawn = []
            for position in subject.map_positions(group["lead_time"].values)[:_LEADS]:
                at = field.of(group).sel(event=event, region=subject.region).isel(lead_time=position)
                lead = format_lead(group["lead_time"].values[position])
                for kind, names, across, up in _KINDS:
                    series = _series(subject, at, names)
                    if not series:
                        continue
                    used |= set(series)
                    rows = [
                        [subject.systems[n], float(a), float(b)] for n, (x, y) in series.items() for a, b in zip(x, y)
                    ]
                    name = f"{kind}_{event}_{field.slug}_{lead.replace(' ', '')}"
                    title = f"{'Reliability' if kind == 'reliability' else 'ROC'}, {lead}"
                    description = f"{title.replace(',', ' at')} of {field.label}, {event.replace('_', ' ')}"
                    figure = unit_square(title, across, up, series)
                    drawn.append(subject.output.figure(figure, name, description, ["system", *names], rows))
                    subject.tick()
            if drawn:
                heading = f"{field.label}: {_words(event)}"
                parts += [f"<h3>{page.escape(heading)}</h3>", page.panels(drawn)]
    if not parts:
        return ""
    text = "Reliability: how often an event came true where it was given a probability; on the diagonal probabilities mean what "
    text += "they say. ROC: hits against false alarms as less and less probability is enough for a warning; the farther above "
    text += "the diagonal, the better events are told from other weather. A single forecast has one point."
    key = page.key([(index, subject.systems[index]) for index in sorted(used)], marks=True)
    return page.section("events", "Events", page.paragraph(text, kind="note"), key, *parts)


def _words(tag: str) -> str:
    """An event by its tag."""
    side, _, value = tag.rpartition("_")
    if side:
        return f"{side} {value}"
    return f"{'above' if float(tag) >= 0.5 else 'below'} the {tag} quantile of the climatology"
