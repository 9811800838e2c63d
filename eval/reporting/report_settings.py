"""The report's last sections: what the scores mean, and where every number came from."""

import json

import xarray as xr

from eval.baselines import EXPLANATIONS
from eval.reporting import page
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.report_subject import Subject
from eval.scores import score_named

_SHORT = {"rmse": "RMSE", "mse": "MSE", "mae": "MAE", "acc": "ACC"}
_LABELS = {
    "source": "forecast",
    "formula": "conventions",
    "init_times": "number of init times",
    "missing_in_truth": "values missing (truth)",
    "missing_in_forecast": "values missing (forecast)",
}
_LAST = ("formula", "created_by", "created")
# Long JSON for machines, and what every finished store says.
_HIDDEN = ("request", "settings", "status", "Conventions")


def _store_rows(dataset: xr.Dataset) -> list[tuple[str, object]]:
    return [
        (name.replace("_", " "), value)
        for name, value in dataset.attrs.items()
        if name not in _HIDDEN and isinstance(value, str | int | float)
    ]


def _in_words(value: object) -> object:
    """Lists and settings within settings as text."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {_in_words(held)}" for name, held in value.items() if held not in (None, [], ""))
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def settings_section(subject: Subject, paths: dict[str, str], sample: ForecastSample | None) -> str:
    """Settings of the scoring, and what the stores say of themselves."""
    attributes = {name: value for name, value in subject.scores.attrs.items() if not name.startswith("definition_")}
    rows: list[tuple[str, object]] = [("scores", subject.file.path)]
    rows += [
        (_LABELS.get(name, name.replace("_", " ")), value)
        for name, value in attributes.items()
        if name not in (*_LAST, *_HIDDEN)
    ]
    rows += [("maps from " + name, path) for name, path in paths.items()]
    if subject.file.groups:
        rows.append(("intervals", f"{100 * subject.file.confidence:g} %, block bootstrap over init times"))
    rows += [(_LABELS.get(name, name.replace("_", " ")), attributes[name]) for name in _LAST if name in attributes]
    parts = [page.facts(rows)]
    if "settings" in attributes:
        asked = json.loads(attributes["settings"])
        found = [
            (name.replace("_", " "), _in_words(value))
            for name, value in asked.items()
            if value not in (None, [], False)
        ]
        parts.append(page.details("What was asked of the scoring", page.facts(found)))
    if sample is not None:
        for title, dataset in (("The forecast store", sample.forecast), ("The truth", sample.truth)):
            found = _store_rows(dataset)
            if found:
                parts.append(page.details(f"{title} says of itself", page.facts(found)))
        if sample.globe.earth:
            parts.append(page.paragraph("Coastlines: Natural Earth, public domain.", kind="note after"))
    flat = [[str(name), str(value)] for name, value in rows]
    subject.output.rows("settings", ["name", "value"], flat)
    return page.section("settings", "Settings and provenance", *parts)


_SKILL = (
    "The part of the reference's RMSE that the forecast removes: 1 − RMSE / RMSE of the reference. 100 % is perfect, "
    "0 % no better than the reference, and below 0 worse."
)


def explanations_section(subject: Subject) -> str:
    """A sentence for each score and baseline."""
    rows = []
    families = set()
    for metric in subject.metrics:
        name = score_named(metric, subject.scores.attrs)
        if name.explanation in families:
            continue
        families.add(name.explanation)
        rows.append((_SHORT.get(metric, name.title), name.explanation))
    if subject.reference:
        rows.insert(0, ("Skill", _SKILL))
    rows += [
        (name.replace("-", " ").capitalize(), EXPLANATIONS[name]) for name in subject.systems if name in EXPLANATIONS
    ]
    return page.section("scores", "What the scores mean", page.definitions(rows))
