"""Power spectra of forecasts beside the truth: a forecast that loses power at large wavenumbers is blurred."""

from typing import Literal

import numpy as np
import xarray as xr

from eval.baselines import BASELINES
from eval.reporting import page
from eval.reporting.figures import power_ratio, spectrum
from eval.reporting.report_subject import Subject
from eval.scorecard import Field, format_lead, pretty_units
from eval.scores import SCORES

_FIELDS = 3
# Share of the largest power below which a field has nothing but rounding there, and a ratio says nothing.
_NOTHING = 1e-9
_KINDS = {"degree": "total wavenumber (degree)", "zonal": "zonal wavenumber"}


def _array(group: xr.Dataset, field: Field, kind: str) -> xr.DataArray | None:
    name = f"{field.variable}_{kind}"
    if name not in group:
        return None
    array = group[name]
    if field.level is not None and "level" in array.dims:
        if field.level not in array["level"].values:
            return None
        array = array.sel(level=field.level)
    return array.load()


def _powers(subject: Subject, array: xr.DataArray, position: int) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """Power of each forecast system by its position, and of the truth, at one lead time."""
    at = array.isel(lead_time=position)
    known = [str(name) for name in at["system"].values]
    # A baseline's spectrum is the truth's own, or of a field with no weather in it.
    series = {
        index: at.sel(system=system).values.astype(np.float64)
        for index, system in enumerate(subject.systems)
        if system not in BASELINES and system in known
    }
    truth = at.sel(system="truth").values.astype(np.float64) if "truth" in known else None
    return {index: power for index, power in series.items() if np.isfinite(power).any()}, truth


def _field_figures(subject: Subject, group: xr.Dataset, field: Field, used: set[int]) -> list[str]:
    """Power per degree, its ratio to the truth's, and power per zonal wavenumber, at the last lead time."""
    leads = group["lead_time"].values
    lead, last = format_lead(leads[-1]), len(leads) - 1
    figures = []
    for kind, axis in _KINDS.items():
        array = _array(group, field, kind)
        if array is None:
            continue
        wavenumber = array[array.dims[-1]].values.astype(np.float64)
        series, truth = _powers(subject, array, last)
        if not series:
            continue
        used |= set(series)
        columns = {subject.systems[index]: power for index, power in series.items()}
        columns |= {} if truth is None else {"truth": truth}
        units = pretty_units(str(array.attrs.get("units", "")))
        figure = spectrum(wavenumber, truth, series, title=f"{field.short}, {lead}", axis=axis, units=units)
        description = f"Power spectrum of {field.label} at {lead} against {axis}"
        figures.append((f"spectrum_{kind}_{field.slug}", description, figure, axis, wavenumber, columns))
        if kind == "degree" and truth is not None:
            floor = np.where(truth > truth.max() * _NOTHING, truth, np.nan)
            ratios = {index: power / floor for index, power in series.items()}
            before: list[dict[int, np.ndarray]] = []
            for position in range(last):
                early, early_truth = _powers(subject, array, position)
                known = np.where(np.isfinite(floor), np.nan if early_truth is None else early_truth, np.nan)
                before.append({index: power / known for index, power in early.items()})
            figure = power_ratio(wavenumber, ratios, before, title=f"{field.short}, {lead}", axis=axis)
            columns = {subject.systems[index]: ratio for index, ratio in ratios.items()}
            columns |= {
                f"{subject.systems[index]} at {format_lead(early_lead)}": ratio
                for early_lead, early in zip(leads, before)
                for index, ratio in early.items()
            }
            description = f"Power of {field.label} at {lead} over the truth's, against {axis}"
            figures.append((f"spectrum_ratio_{field.slug}", description, figure, axis, wavenumber, columns))
    drawn = []
    for name, description, figure, axis, wavenumber, columns in figures:
        rows = [[int(k), *(float(power[place]) for power in columns.values())] for place, k in enumerate(wavenumber)]
        drawn.append(subject.output.figure(figure, name, description, [axis, *columns], rows))
        subject.tick()
    return drawn


def _degree_figures(subject: Subject, field: Field, used: set[int]) -> list[str]:
    """Scores of ensembles degree by degree that are best at 1, at the last lead time and, paler, before."""
    group, sure = (subject.file.groups.get(name) for name in ("degree_scores", "degree_intervals"))
    if group is None or field.variable not in group:
        return []
    array, drawn, leads = field.of(group), [], group["lead_time"].values
    degree, last = group["degree"].values, len(leads) - 1
    truth = (
        None if subject.file.groups.get("spectra") is None else _array(subject.file.groups["spectra"], field, "degree")
    )
    for score in (score for score in SCORES if score.name in group["metric"].values and score.best == 1.0):
        at: list[dict[int, np.ndarray]] = []
        for position in range(len(leads)):
            power = np.ones(degree.size) if truth is None else truth.sel(system="truth").isel(lead_time=position).values
            found = {
                index: np.where(power > np.nanmax(power) * _NOTHING, part.values, np.nan)
                for index, system in enumerate(subject.systems)
                if system in array["system"].values and system not in BASELINES
                for part in [array.sel(system=system, metric=score.name).isel(lead_time=position)]
            }
            at.append({index: values for index, values in found.items() if np.isfinite(values).any()})
        if not at[last]:
            continue
        used |= set(at[last])
        lead = format_lead(leads[last])
        figure = power_ratio(
            degree.astype(np.float64), at[last], at[:last], title=f"{field.short}, {lead}", axis=_KINDS["degree"],
            beside=score.title[0].lower() + score.title[1:],
        )  # fmt: skip
        rows: list[list] = []
        for position, series in enumerate(at):
            for index, values in series.items():
                place = {"system": subject.systems[index], "metric": score.name}
                bounds = np.full((2, degree.size), np.nan)
                if sure is not None:
                    bounds = field.of(sure).sel(place).isel(lead_time=position).transpose("bound", "degree").values
                head = [subject.systems[index], format_lead(leads[position])]
                rows += [[*head, *each] for each in zip(degree.tolist(), values.tolist(), *bounds.tolist())]
        name, description = f"{score.name}_{field.slug}", f"{score.title} of {field.label} at {lead} against degree"
        columns = ["system", "lead time", _KINDS["degree"], score.name, "lower", "upper"]
        drawn.append(subject.output.figure(figure, name, description, columns, rows))
        subject.tick()
    return drawn


def _ensembles(subject: Subject, used: set[int]) -> list[str]:
    """Names of the drawn systems that have members: those with rank histograms."""
    group = subject.file.groups.get("rank_histogram")
    known = [] if group is None else [str(name) for name in group["system"].values]
    return [subject.systems[index] for index in sorted(used) if subject.systems[index] in known]


def spectra_section(subject: Subject) -> str:
    """The section, empty where the file has no spectra."""
    group = subject.file.groups.get("spectra")
    if group is None:
        return ""
    used: set[int] = set()
    drawn = [
        figure
        for field in subject.drawn_fields(subject.fields, _FIELDS)
        for figure in _field_figures(subject, group, field, used)
    ]
    members = [
        figure
        for field in subject.drawn_fields(subject.fields, _FIELDS)
        for figure in _degree_figures(subject, field, used)
    ]
    if not drawn:
        return ""
    leads = group["lead_time"].values
    text = "How much of the field's variance lies at which scale, from the planet's on the left to the grid's on the "
    text += (
        "right. The broad grey line is the truth. Where the ratio of forecast to truth falls below 1 the forecast is "
    )
    text += "too smooth, above it too noisy."
    styles: list[tuple[str, Literal["solid", "dashed", "pale"]]] = []
    if len(leads) > 1:
        early = ", ".join(format_lead(lead) for lead in leads[:-1])
        text += f" Lines are at {format_lead(leads[-1])}; the thin pale ones beside the ratio are the ratio at {early}"
        text += ", the earlier the paler." if len(leads) > 2 else "."
        styles = [(f"ratio at {early}", "pale")]
    ensembles = _ensembles(subject, used)
    if ensembles:
        text += f" Of an ensemble ({', '.join(ensembles)}) the first member is shown, as the mean of members is smooth."
    if any("wind_vector" in field.variable for field in subject.fields):
        text += " Wind vectors are shown by their kinetic energy."
    key = page.key(
        [(index, subject.systems[index]) for index in sorted(used)],
        extra=("truth", "--muted"),
        styles=styles,
    )
    parts = [page.paragraph(text, kind="note"), key, page.panels(drawn)]
    if members:
        text = "All members of ensembles, degree by degree: their mean power over the truth's, and their spread over the error of "
        text += "their mean, allowing for the number of members. Both are 1 where the ensemble is right at that scale."
        parts += [page.paragraph(text, kind="note after"), page.panels(members)]
    return page.section("spectra", "Spectra", *parts)
