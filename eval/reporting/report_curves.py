"""Scores against lead time, with intervals, and how long forecasts stay useful."""

import numpy as np

from eval.reporting import page
from eval.reporting.figures import Curve, curves
from eval.reporting.report_subject import Subject
from eval.scorecard import Field, values
from eval.scores import all_scores, score_named

USEFUL = 0.6


def useful_hours(hours: np.ndarray, acc: np.ndarray) -> float | None:
    """The lead time at which the ACC first falls below 0.6, between lead times by a straight line.

    Returns:
        Hours; 0 if it is below from the start, and None if it never falls below or is not known.
    """
    known = np.isfinite(acc)
    hours, acc = hours[known], acc[known]
    below = np.flatnonzero(acc < USEFUL)
    if not below.size:
        return None
    first = int(below[0])
    if first == 0:
        return 0.0
    share = (acc[first - 1] - USEFUL) / (acc[first - 1] - acc[first])
    return float(hours[first - 1] + share * (hours[first] - hours[first - 1]))


def format_hours(hours: float) -> str:
    """`30 h`, `6.3 d`."""
    return f"{hours / 24:.1f} d" if hours >= 48 else f"{hours:.0f} h"


def drawn_metrics(subject: Subject) -> list[str]:
    """Metrics that get a section, those of most fields first; the others are in the tables."""
    drawn = sorted((score for score in all_scores(subject.metrics) if score.figures), key=lambda score: -score.figures)
    return [score.name for score in drawn if score.name in subject.metrics]


def figure_count(subject: Subject) -> int:
    """How many figures `curve_sections` draws at most."""
    return sum(min(score_named(metric, {}).figures, len(subject.fields)) for metric in drawn_metrics(subject))


def _curve(subject: Subject, field: Field, metric: str, system: str) -> Curve:
    lower, upper = subject.file.interval(field, metric, system, subject.region)
    return Curve(values(subject.scores, field, metric, system, subject.region), lower, upper)


def _largest_rmse(subject: Subject, field: Field) -> float:
    errors = values(subject.scores, field, "rmse", subject.main, subject.region)
    return float(np.nanmax(errors)) if np.isfinite(errors).any() else 0.0


def _series(subject: Subject, field: Field, metric: str) -> dict[int, Curve]:
    found = {index: _curve(subject, field, metric, system) for index, system in enumerate(subject.systems)}
    # The climatology has neither a pattern of anomalies nor a size of them: flat lines at 0 that hide the rest.
    return {
        index: curve
        for index, curve in found.items()
        if np.isfinite(curve.values).any()
        and not (metric in ("acc", "activity") and subject.systems[index] == "climatology")
    }


def _scored(subject: Subject, metric: str) -> list[Field]:
    """Fields of which some system has the metric."""
    return [
        field
        for field in subject.fields
        if any(
            np.isfinite(values(subject.scores, field, metric, system, subject.region)).any()
            for system in subject.systems
        )
    ]


def _rows(subject: Subject, series: dict[int, Curve], metric: str) -> list[list]:
    rows = []
    for index, curve in series.items():
        nothing = np.full(len(curve.values), np.nan)
        lower, upper = (nothing if bound is None else bound for bound in (curve.lower, curve.upper))
        for numbers in zip(subject.hours.tolist(), curve.values.tolist(), lower.tolist(), upper.tolist()):
            rows.append([subject.systems[index], metric, *numbers])
    return rows


def _section(subject: Subject, metric: str) -> str:
    name = score_named(metric, subject.scores.attrs)
    drawn: list[str] = []
    used: set[int] = set()
    for field in subject.drawn_fields(_scored(subject, metric), name.figures):
        series = _series(subject, field, metric)
        subject.tick()
        if not series:
            continue
        used |= set(series)
        beside = _series(subject, field, "ensemble_mean_rmse") if metric == "spread" else None
        main = subject.systems.index(subject.main)
        crossing = None
        if metric == "acc" and main in series and (limit := useful_hours(subject.hours, series[main].values)):
            crossing = (limit, USEFUL, format_hours(limit))
        drawn_curves = [*series.values(), *(beside or {}).values()]
        factor, units = field.scaled_errors(np.concatenate([curve.values for curve in drawn_curves]), name.units)
        series = {index: curve.scaled(factor) for index, curve in series.items()}
        if beside is not None:
            beside = {index: curve.scaled(factor) for index, curve in beside.items()}
        figure = curves(
            subject.hours,
            series,
            title=field.label,
            units=units,
            from_zero=name.from_zero,
            lines=name.lines,
            least_span=0.02 * factor * _largest_rmse(subject, field) if metric == "bias" else 0.0,
            crossing=crossing,
            beside=beside,
        )
        rows = _rows(subject, series, metric) + _rows(subject, beside or {}, "ensemble_mean_rmse")
        head = ["system", "metric", "lead_hours", "value", "lower", "upper"]
        description = f"{name.title} of {field.label} against lead time"
        drawn.append(subject.output.figure(figure, f"{metric}_{field.slug}", description, head, rows, units=units))
    if not drawn:
        return ""
    text = name.explanation
    if metric == "acc":
        text += " The thin line marks 0.6, the dot where the forecast falls below it."
    if metric == "spread":
        text += " Colours tell the systems; solid lines are the spread, dashed ones the RMSE of the ensemble mean."
    if any(
        bound is not None for bound in subject.file.interval(subject.fields[0], metric, subject.main, subject.region)
    ):
        text += " Bands are 95 % intervals over the init times."
    if subject.region != "global":
        text += f" Region: {subject.region.replace('-', ' ')}."
    return page.section(
        metric,
        f"{name.title} against lead time",
        page.paragraph(text, kind="note"),
        page.key(
            [(index, subject.systems[index]) for index in sorted(used)],
            colours_only=metric == "spread",
            marks=True,
            styles=[("spread", "solid"), ("RMSE of the ensemble mean", "dashed")] if metric == "spread" else (),
        ),
        page.panels(drawn),
        _useful_table(subject) if metric == "acc" else "",
    )


def _useful_cell(subject: Subject, field: Field, system: str) -> tuple[str, list]:
    """The cell of the table and its row as numbers."""
    curve = _curve(subject, field, "acc", system)
    if not np.isfinite(curve.values).any():
        return "–", []
    bounds = [None if bound is None else useful_hours(subject.hours, bound) for bound in (curve.lower, curve.upper)]
    found = useful_hours(subject.hours, curve.values)
    last = float(subject.hours[np.isfinite(curve.values)].max())
    if found is None:
        return f"beyond {format_hours(last)}", [last, "beyond", "", ""]
    if found == 0:
        return f"under {format_hours(float(subject.hours[0]))}", [float(subject.hours[0]), "under", "", ""]
    text = format_hours(found)
    if bounds[0]:
        upper = format_hours(bounds[1]) if bounds[1] else f"over {format_hours(last)}"
        text += f" ({format_hours(bounds[0])} to {upper})"
    return text, [found, "at", *("" if bound is None else bound for bound in bounds)]


def _useful_table(subject: Subject) -> str:
    """How long the ACC stays above 0.6, by field and system."""
    systems = [name for name in subject.systems if name != "climatology"]
    rows, numbers = [], []
    for field in subject.drawn_fields(_scored(subject, "acc"), score_named("acc", {}).figures):
        cells = []
        for system in systems:
            text, row = _useful_cell(subject, field, system)
            cells.append(f"<td>{page.escape(text)}</td>")
            numbers += [[field.variable, "" if field.level is None else field.level, system, *row]] if row else []
        if any("–" not in cell for cell in cells):
            rows.append(page.row(page.field_name(field.label, field.short, ""), cells))
    subject.output.rows(
        "acc_useful_range", ["variable", "level", "system", "hours", "relation", "lower", "upper"], numbers
    )
    note = "In brackets the 95 % interval." if "intervals" in subject.file.groups else ""
    text = f"Lead time at which the ACC falls below 0.6. {note}".strip()
    return page.paragraph(text, kind="note after") + page.table(["ACC above 0.6 until", *systems], rows, kind="numbers")


def curve_sections(subject: Subject) -> dict[str, str]:
    """Sections by metric, in the order of the page; those with nothing to draw are left out."""
    sections = {metric: _section(subject, metric) for metric in drawn_metrics(subject)}
    return {metric: section for metric, section in sections.items() if section}
