"""The report's headline: tiles of a few numbers, and scorecards of systems against lead time."""

import dataclasses

import numpy as np

from eval.conventions import WIND_VECTORS
from eval.reporting import page
from eval.reporting.report_subject import Subject
from eval.scorecard import (
    Field,
    card_leads,
    format_lead,
    format_number,
    headline_fields,
    nearest_lead,
    skill,
    values,
)

_HEADLINE_FIELDS = 6


@dataclasses.dataclass(frozen=True)
class _Row:
    """RMSE of one field and system at the lead times shown, with its skill.

    Attributes:
        rmse: (lead_time,), NaN where unknown.
        gain: skill against the reference, NaN where there is nothing to compare.
        sure: whether the difference is no chance; None where that is not known.
    """

    rmse: np.ndarray
    gain: np.ndarray
    sure: np.ndarray | None

    @classmethod
    def of(cls, subject: Subject, field: Field, system: str, region: str) -> "_Row":
        """All lead times of the file."""
        rmse = values(subject.scores, field, "rmse", system, region)
        if subject.reference is None or system == subject.reference:
            return cls(rmse, np.full(rmse.shape, np.nan), None)
        gain = skill(subject.scores, field, system, subject.reference, region)
        return cls(rmse, gain, subject.file.significant(field, "rmse", system, subject.reference, region))

    def cell(self, index: int, factor: float) -> str:
        """The cell at a lead time, the RMSE multiplied by the factor."""
        gain = self.gain[index]
        return page.scorecard_cell(
            format_number(self.rmse[index] * factor),
            float(gain) if np.isfinite(gain) else None,
            unsure=self.sure is not None and not self.sure[index],
        )


def _name(field: Field, units: str) -> str:
    return page.field_name(field.label, field.short, units)


def _headline(subject: Subject) -> list[Field]:
    """The fields most looked at; the wind as a vector stands for its components where both are scored."""
    vectors = {field.variable for field in subject.fields if "wind_vector" in field.variable}
    parts = {part for name, pair in WIND_VECTORS.items() if name in vectors for part in pair}
    return headline_fields([field for field in subject.fields if field.variable not in parts], _HEADLINE_FIELDS)


def _lead_names(subject: Subject, shown: list[int]) -> list[str]:
    return [format_lead(subject.leads[index]) for index in shown]


def _headline_card(subject: Subject, region: str) -> str:
    shown = card_leads(subject.leads)
    rows = []
    for field in _headline(subject):
        found = {system: _Row.of(subject, field, system, region) for system in subject.systems}
        factor, units = field.scaled_errors(np.stack([row.rmse for row in found.values()]))
        rows.append(page.group_row(_name(field, units), len(shown)))
        for system, row in found.items():
            if np.isfinite(row.rmse).any():
                rows.append(page.row(page.escape(system), [row.cell(index, factor) for index in shown]))
    return page.table(["RMSE", *_lead_names(subject, shown)], rows, kind="card")


def _field_card(subject: Subject, region: str, system: str) -> str:
    shown = card_leads(subject.leads)
    rows = []
    for field in subject.fields:
        row = _Row.of(subject, field, system, region)
        factor, units = field.scaled_errors(row.rmse)
        rows.append(page.row(_name(field, units), [row.cell(index, factor) for index in shown]))
    return page.table(["RMSE", *_lead_names(subject, shown)], rows, kind="card")


def region_section(subject: Subject) -> str:
    """The regions side by side at the lead times that get maps; empty where there is one region only."""
    regions = [str(name) for name in subject.scores["region"].values]
    if len(regions) < 2:
        return ""
    fields = _headline(subject)
    found = {field: [_Row.of(subject, field, subject.main, region) for region in regions] for field in fields}
    rows = []
    for position in subject.map_positions(subject.leads):
        rows.append(page.group_row(page.escape(f"{format_lead(subject.leads[position])} ahead"), len(regions)))
        for field, parts in found.items():
            factor, units = field.scaled_errors(np.stack([row.rmse for row in parts]))
            rows.append(page.row(_name(field, units), [row.cell(position, factor) for row in parts]))
    text = f"The RMSE of {subject.main} in each region"
    text += f" and its skill against {subject.reference} there." if subject.reference else "."
    head = ["RMSE", *(name.replace("-", " ") for name in regions)]
    return page.section("regions", "Regions side by side", page.paragraph(text, kind="note"),
                        page.table(head, rows, kind="card"))  # fmt: skip


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
    for field in subject.map_fields(subject.scalar_fields)[:4]:
        rmse = values(subject.scores, field, "rmse", subject.main, subject.region)[position]
        factor, name = field.scaled_errors(rmse[None])
        rmse, units = rmse * factor, f" {name}".replace(" ", "\u00a0") if name else ""
        if reference is None or reference == subject.main:
            shown.append(page.tile(f"{format_number(rmse)}{units}", f"{field.label}: RMSE at {lead}"))
            continue
        gain = skill(subject.scores, field, subject.main, reference, subject.region)[position]
        if not np.isfinite(gain):
            continue
        text = f"{field.label}: skill at {lead} against {reference} (RMSE {format_number(rmse)}{units})"
        shown.append(page.tile(page.per_cent(gain), text, kind="good" if gain > 0 else "bad"))
    return f'<div class="tiles">{"".join(shown)}</div>' if shown else ""
