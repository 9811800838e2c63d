"""The report's headline: tiles of a few numbers, and scorecards of systems against lead time."""

import numpy as np

from eval.metrics import WIND_VECTORS
from eval.reporting import page
from eval.reporting.report_subject import Subject
from eval.scorecard import Field, card_leads, format_lead, format_number, headline_fields, nearest_lead, skill, values

_HEADLINE_FIELDS = 6


def _cells(subject: Subject, field: Field, system: str, region: str, shown: list[int]) -> list[str]:
    numbers = values(subject.scores, field, "rmse", system, region)
    compared = subject.reference is not None and system != subject.reference
    gains = skill(subject.scores, field, system, str(subject.reference), region) if compared else numbers * np.nan
    sure = subject.file.significant(field, "rmse", system, str(subject.reference), region) if compared else None
    return [
        page.scorecard_cell(
            format_number(numbers[index]),
            float(gains[index]) if np.isfinite(gains[index]) else None,
            unsure=sure is not None and not sure[index],
        )
        for index in shown
    ]


def _headline(subject: Subject) -> list[Field]:
    """The fields most looked at; the wind as a vector stands for its components where both are scored."""
    vectors = {field.variable for field in subject.fields if "wind_vector" in field.variable}
    parts = {part for name, pair in WIND_VECTORS.items() if name in vectors for part in pair}
    return headline_fields([field for field in subject.fields if field.variable not in parts], _HEADLINE_FIELDS)


def _headline_card(subject: Subject, region: str) -> str:
    shown = card_leads(subject.leads)
    rows = []
    for field in _headline(subject):
        rows.append(page.group_row(page.field_name(field.label, field.short, field.units), len(shown)))
        for system in subject.systems:
            if np.isfinite(values(subject.scores, field, "rmse", system, region)).any():
                rows.append(page.row(page.escape(system), _cells(subject, field, system, region, shown)))
    head = ["RMSE", *(format_lead(subject.leads[index]) for index in shown)]
    return page.table(head, rows, kind="card")


def _field_card(subject: Subject, region: str, system: str) -> str:
    shown = card_leads(subject.leads)
    rows = [
        page.row(page.field_name(field.label, field.short, field.units), _cells(subject, field, system, region, shown))
        for field in subject.fields
    ]
    return page.table(["RMSE", *(format_lead(subject.leads[index]) for index in shown)], rows, kind="card")


def scorecards(subject: Subject) -> str:
    """The section: all systems for the fields most looked at, then every field of the main system by region."""
    regions = [str(name) for name in subject.scores["region"].values]
    parts = []
    if subject.reference:
        text = f"Each cell gives the RMSE and, below it, the skill against {subject.reference}: the part of its RMSE "
        text += "that the system removes. Blue is better than the reference, orange worse."
        if "differences" in subject.file.groups:
            share = f"{100 * subject.file.confidence:g}\u00a0%"
            text += f" Brackets mark a difference that may be chance ({share} interval over the init times)."
        parts += [page.paragraph(text, kind="note"), page.skill_scale(subject.reference)]
    parts.append(_headline_card(subject, subject.region))
    for region in regions:
        name = region.replace("-", " ").capitalize()
        card = _field_card(subject, region, subject.main)
        parts.append(page.details(f"{name}: every field of {subject.main}", card))
    title = "Scorecard" if subject.region == "global" else f"Scorecard, {subject.region.replace('-', ' ')}"
    return page.section("scorecard", title, *parts)


def tiles(subject: Subject) -> str:
    """A few numbers at one day ahead."""
    position = nearest_lead(subject.scores, "24h")
    lead = format_lead(subject.leads[position])
    reference = subject.reference
    shown = []
    for field in headline_fields(subject.scalar_fields, 4):
        rmse = values(subject.scores, field, "rmse", subject.main, subject.region)[position]
        units = f" {field.units}".replace(" ", "\u00a0") if field.units else ""
        if reference is None or reference == subject.main:
            shown.append(page.tile(f"{format_number(rmse)}{units}", f"{field.label}: RMSE at {lead}"))
            continue
        gain = skill(subject.scores, field, subject.main, reference, subject.region)[position]
        if not np.isfinite(gain):
            continue
        change = page.per_cent(-gain)
        text = f"{field.label}: RMSE at {lead} against {reference} ({format_number(rmse)}{units})"
        shown.append(page.tile(change, text, kind="good" if gain > 0 else "bad"))
    return f'<div class="tiles">{"".join(shown)}</div>' if shown else ""
