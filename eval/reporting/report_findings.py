"""The report in a few sentences: where the forecasts are weakest, and how to read the page."""

from typing import NamedTuple

import numpy as np

from eval.conventions import WIND_VECTORS
from eval.reporting import page
from eval.reporting.report_subject import Subject
from eval.scorecard import Field, format_lead, format_number, skill, values


class Place(NamedTuple):
    """One score: of a field in a region at a lead time, given by its position."""

    field: Field
    region: str
    position: int


def _skills(subject: Subject, reference: str) -> dict[tuple[Field, str], np.ndarray]:
    """Skill of the main system against lead time, by field and region."""
    regions = [str(name) for name in subject.scores["region"].values]
    vectors = {field.variable for field in subject.fields}
    parts = {part for name, pair in WIND_VECTORS.items() if name in vectors for part in pair}
    return {
        (field, region): skill(subject.scores, field, subject.main, reference, region)
        for field in subject.fields
        if field.variable not in parts
        for region in regions
    }


def weakest(subject: Subject, reference: str) -> tuple[Place, float] | None:
    """The field, region and lead time with the least skill, and that skill; None where nothing can be compared."""
    found = None
    for (field, region), skills in _skills(subject, reference).items():
        if np.isfinite(skills).any():
            position = int(np.nanargmin(skills))
            if found is None or skills[position] < found[1]:
                found = Place(field, region, position), float(skills[position])
    return found


def first_lost(subject: Subject, reference: str) -> Place | None:
    """Where the forecast is first no better than the reference, having been better before; None if nowhere."""
    found = None
    for (field, region), skills in _skills(subject, reference).items():
        behind = np.flatnonzero(skills <= 0)
        if behind.size and behind[0] > 0 and (found is None or behind[0] < found.position):
            found = Place(field, region, int(behind[0]))
    return found


def _name(field: Field) -> str:
    """The label within a sentence: `temperature 850 hPa`."""
    return field.label[0].lower() + field.label[1:]


def region_words(region: str) -> str:
    """The region within a sentence: `over the globe`, `in the tropics`."""
    name = region.replace("-", " ")
    return (
        "over the globe"
        if region == "global"
        else f"in the {name}"
        if name.endswith("s") or "hemis" in name
        else f"in {name}"
    )


def _comparison(subject: Subject, place: Place, reference: str) -> str:
    """`RMSE 5.0 against 4.0 K`."""
    ours, theirs = (
        values(subject.scores, place.field, "rmse", system, place.region)[place.position]
        for system in (subject.main, reference)
    )
    factor, units = place.field.scaled_errors(np.array([ours, theirs]))
    return f"RMSE {format_number(ours * factor)} against {format_number(theirs * factor)} {units}".rstrip()


def findings(subject: Subject) -> str:
    """A paragraph on where the forecasts are weakest, from the scores alone; empty without a reference."""
    reference = subject.reference
    found = weakest(subject, reference) if reference is not None and reference != subject.main else None
    if reference is None or found is None:
        return ""
    place, least = found
    lead = format_lead(subject.leads[place.position])
    what = f"{_name(place.field)} {region_words(place.region)} at {lead}"
    numbers = f"skill {page.per_cent(least)}, {_comparison(subject, place, reference)}"
    if least > 0:
        text = (
            f"{subject.main} is ahead of {reference} in every field, region and lead time; least in {what} ({numbers})."
        )
    else:
        every = np.concatenate([skills[np.isfinite(skills)] for skills in _skills(subject, reference).values()])
        share = f"{100 * np.mean(every < 0):.0f}\u00a0%"
        text = f"The {subject.main} fails most against {reference} in {what} ({numbers}); it is behind in {share} of the scores."
    sure = subject.file.significant(place.field, "rmse", subject.main, reference, place.region)
    if sure is not None and not sure[place.position]:
        text += " That difference may be chance."
    if "climatology" in subject.systems and "climatology" not in (subject.main, reference):
        lost = first_lost(subject, "climatology")
        if lost is None:
            text += " Nowhere does it fall behind the climatology later on."
        else:
            lead = format_lead(subject.leads[lost.position])
            text += (
                f" The climatology overtakes it first at {lead}, for {_name(lost.field)} {region_words(lost.region)}."
            )
    return f'<p class="finding"><b>Where it is weakest.</b> {page.escape(text)}</p>'


def how_to_read(subject: Subject) -> str:
    """Three lines for people who see such a page for the first time."""
    lines = ["RMSE, bias and spread are in the units of the field, 0 is perfect; the anomaly correlation is best at 1 "
             "and useful above 0.6. What else is scored is told at the end."]  # fmt: skip
    if subject.reference is not None:
        lines.insert(
            0,
            f"Skill is the part of the error of {subject.reference} that a forecast removes: +30 % is an RMSE smaller by "
            "30 %, below 0 is worse. Blue is better, orange worse.",
        )
    if "intervals" in subject.file.groups:
        share = f"{100 * subject.file.confidence:g}\u00a0%"
        lines.append(f"Bands around lines are {share} intervals; numbers in brackets may be chance.")
    items = "".join(f"<li>{page.escape(line)}</li>" for line in lines)
    return f'<details class="how" open><summary>How to read this</summary><ul>{items}</ul></details>'
