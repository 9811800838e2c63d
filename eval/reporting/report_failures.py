"""Where forecasts fail: regions and regimes of the least skill, and the largest single busts with their maps."""

import dataclasses

import numpy as np
import xarray as xr

from eval.conventions import WEATHERBENCH2
from eval.metrics import scores_by_init_time
from eval.reporting import page
from eval.reporting.forecast_maps import forecast_maps
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.report_findings import region_words
from eval.reporting.report_subject import Subject
from eval.score_reading import SUMS_GROUP, open_group
from eval.scorecard import Field, format_lead, format_number, headline_fields, skill, values

_FIELDS, _BUST_FIELDS, _BUSTS = 6, 2, 5
#: Maps that the section has at most.
MOST_BUST_MAPS = 3 * _BUST_FIELDS
# Fewer initial times are no regime.
_LEAST_INITS, _MOST_INITS = 3, 120
_SEASONS = {"Dec–Feb": (12, 1, 2), "Mar–May": (3, 4, 5), "Jun–Aug": (6, 7, 8), "Sep–Nov": (9, 10, 11)}
# Rossby's zonal index: how much higher the geopotential is in the south of the northern westerlies than in their north.
_SOUTHERN, _NORTHERN = (30.0, 40.0), (50.0, 60.0)


@dataclasses.dataclass(frozen=True)
class _Errors:
    """RMSE of the main system of every initial time at one lead time.

    Attributes:
        inits: datetime64[ns].
        by_field: in the units of the file, (init,), NaN where it could not be scored.
        lead: the lead time.
    """

    inits: np.ndarray
    by_field: dict[Field, np.ndarray]
    lead: np.timedelta64

    @classmethod
    def of(cls, subject: Subject, fields: list[Field]) -> "_Errors | None":
        """At the last lead time that gets maps; None where the file keeps no sums."""
        position = subject.map_positions(subject.leads)[-1]
        try:
            stored = open_group(subject.file.path, SUMS_GROUP)
        except OSError:
            return None
        with stored as sums:
            sums = sums.isel(lead_time=[position]).sel(system=[subject.main], region=[subject.region])
            wanted = {field.variable for field in fields}
            known = {str(name) for name in subject.scores.data_vars} - wanted
            sums = sums.drop_vars([name for name in known if name in sums]).load()
        sums.attrs["convention"] = WEATHERBENCH2
        scores = scores_by_init_time(sums).sel(metric="rmse").squeeze(["lead_time", "system", "region"], drop=True)
        by_field = {
            field: field.of(scores).values.astype(np.float64) for field in fields if field.variable in scores.data_vars
        }
        by_field = {field: errors for field, errors in by_field.items() if np.isfinite(errors).any()}
        return cls(scores["init_time"].values, by_field, subject.leads[position])

    def worst(self, field: Field, count: int) -> list[int]:
        """Positions of the initial times with the largest errors, the largest first."""
        errors = self.by_field[field]
        known = np.flatnonzero(np.isfinite(errors))
        return [int(each) for each in known[np.argsort(-errors[known])][:count]]


def _region_table(subject: Subject, fields: list[Field]) -> str:
    """Of each field the region and lead time of the least skill."""
    regions = [str(name) for name in subject.scores["region"].values]
    if subject.reference is None or len(regions) < 2:
        return ""
    rows, numbers = [], []
    for field in fields:
        found = {
            region: skill(subject.scores, field, subject.main, subject.reference, region)
            for region in regions
            if region != "global"
        }
        found = {region: each for region, each in found.items() if np.isfinite(each).any()}
        if not found:
            continue
        region = min(found, key=lambda name: np.nanmin(found[name]))
        position = int(np.nanargmin(found[region]))
        ours, theirs = (
            values(subject.scores, field, "rmse", system, region)[position]
            for system in (subject.main, subject.reference)
        )
        factor, units = field.scaled_errors(np.array([ours, theirs]))
        lead, least = format_lead(subject.leads[position]), float(found[region][position])
        cells = [region.replace("-", " "), lead, format_number(ours * factor), format_number(theirs * factor)]
        row = [f"<td>{page.escape(cell)}</td>" for cell in cells]
        rows.append(
            page.row(page.field_name(field.label, field.short, units), [*row, f"<td>{page.per_cent(least)}</td>"])
        )
        numbers.append(
            [
                field.variable,
                field.level or "",
                region,
                float(subject.hours[position]),
                ours,
                theirs,
                least,
                field.units,
            ]
        )
    head = ["variable", "level", "region", "lead_hours", "rmse", f"rmse_{subject.reference}", "skill", "units"]
    subject.output.rows("worst_regions", head, numbers)
    if not rows:
        return ""
    title = ["Least skill", "region", "at", "RMSE", subject.reference, "skill"]
    return "<h3>Regions</h3>" + page.table(title, rows, kind="numbers")


def _zonal_index(truth: xr.Dataset, inits: np.ndarray) -> np.ndarray | None:
    """Rossby's index at these times, NaN where it is not known; None where the truth has no Z500."""
    if "geopotential" not in truth or 500 not in truth["geopotential"].coords.get("level", xr.DataArray([])).values:
        return None
    index = np.full(inits.size, np.nan)
    known = np.flatnonzero(np.isin(inits, truth["time"].values))
    known = (
        known[np.unique(np.linspace(0, known.size - 1, min(known.size, _MOST_INITS)).round().astype(int))]
        if known.size
        else known
    )
    height = truth["geopotential"].sel(level=500, time=inits[known])
    south, north = (
        height.sel(latitude=slice(*band)).mean(["latitude", "longitude"]) for band in (_SOUTHERN, _NORTHERN)
    )
    if not height.sel(latitude=slice(*_SOUTHERN)).size or not height.sel(latitude=slice(*_NORTHERN)).size:
        return None
    index[known] = (south - north).values
    return index


def _regimes(errors: _Errors, sample: ForecastSample | None) -> dict[str, np.ndarray]:
    """Which initial times belong to each regime, bool, by its name: seasons, and the strength of the westerlies."""
    months = errors.inits.astype("datetime64[M]").astype(int) % 12 + 1
    seasons = {name: np.isin(months, each) for name, each in _SEASONS.items()}
    held = {name: each for name, each in seasons.items() if each.sum() >= _LEAST_INITS}
    result = held if len(held) > 1 else {}
    index = _zonal_index(sample.truth, errors.inits) if sample is not None else None
    if index is not None and np.isfinite(index).sum() >= 3 * _LEAST_INITS:
        low, high = np.nanquantile(index, [1 / 3, 2 / 3])
        result |= {
            "weak westerlies": index <= low,
            "usual": (index > low) & (index < high),
            "strong westerlies": index >= high,
        }
    return result


def _regime_table(subject: Subject, errors: _Errors, sample: ForecastSample | None) -> str:
    """RMSE by regime, and how much better or worse than over all initial times."""
    regimes = _regimes(errors, sample)
    if not regimes:
        return ""
    rows, numbers = [], []
    for field, each in errors.by_field.items():
        whole = float(np.sqrt(np.nanmean(each**2)))
        found = {
            name: float(np.sqrt(np.nanmean(each[among] ** 2)))
            for name, among in regimes.items()
            if np.isfinite(each[among]).any()
        }
        factor, units = field.scaled_errors(np.array([whole]))
        cells = [
            page.scorecard_cell(format_number(found[name] * factor), 1 - found[name] / whole, unsure=False)
            if name in found and whole > 0
            else "<td>–</td>"
            for name in regimes
        ]
        rows.append(page.row(page.field_name(field.label, field.short, units), cells))
        numbers += [
            [field.variable, field.level or "", name, int(regimes[name].sum()), rmse, whole, field.units]
            for name, rmse in found.items()
        ]
    head = ["variable", "level", "regime", "init_times", "rmse", "rmse_of_all", "units"]
    subject.output.rows("regimes", head, numbers)
    text = f"RMSE of {subject.main} {format_lead(errors.lead)} ahead by the state it starts from, and below it how much smaller than "
    text += "over all. The westerlies are those of the north: the geopotential at 500 hPa of 30–40° N less that of 50–60° N, by thirds; "
    text += "weak ones are often blocked."
    card = page.table(["RMSE", *(f"{name} ({regimes[name].sum()})" for name in regimes)], rows, kind="card")
    return "<h3>Regimes</h3>" + page.paragraph(text, kind="note") + card


def _busts(subject: Subject, errors: _Errors, fields: list[Field], sample: ForecastSample | None) -> str:
    """The worst single forecasts, and maps of the worst of two fields."""
    rows, numbers, maps = [], [], []
    for number, field in enumerate(fields):
        each = errors.by_field[field]
        usual = float(np.nanmedian(each))
        for place in errors.worst(field, _BUSTS if number == 0 else 1):
            factor, units = field.scaled_errors(each[[place]])
            start = np.datetime_as_string(errors.inits[place], "h")
            times = f"{each[place] / usual:.1f} ×" if usual > 0 else "–"
            cells = [f"{start.replace('T', ' ')} UTC", format_number(each[place] * factor), times]
            rows.append(
                page.row(
                    page.field_name(field.label, field.short, units),
                    [f"<td>{page.escape(cell)}</td>" for cell in cells],
                )
            )
            numbers.append(
                [
                    field.variable,
                    field.level or "",
                    start,
                    errors.lead / np.timedelta64(1, "h"),
                    each[place],
                    usual,
                    field.units,
                ]
            )
    head = ["variable", "level", "init_time", "lead_hours", "rmse", "median_rmse", "units"]
    subject.output.rows("busts", head, numbers)
    if not rows:
        return ""
    if sample is not None and (sample.leads == errors.lead).any():
        position = int(np.flatnonzero(sample.leads == errors.lead)[0])
        for field in [field for field in fields if sample.has(field)][:_BUST_FIELDS]:
            worst = [errors.inits[place] for place in errors.worst(field, 1)]
            if worst and worst[0] in sample.inits(position):
                maps.append(forecast_maps(subject, sample, field, position, init=worst[0], name="bust"))
    text = f"The single forecasts of {subject.main} with the largest errors {format_lead(errors.lead)} ahead, and how many times the "
    text += "median error that is."
    table = page.table(["Largest errors", "start", "RMSE", "of the median"], rows, kind="numbers")
    return "<h3>Busts</h3>" + page.paragraph(text, kind="note") + table + "".join(maps)


def failures_section(subject: Subject, sample: ForecastSample | None) -> str:
    """The section; empty where there is nothing to tell regions, regimes or initial times apart by."""
    fields = subject.drawn_fields(subject.scalar_fields, _FIELDS)
    parts = [_region_table(subject, fields)]
    errors = _Errors.of(subject, fields)
    if errors is not None and errors.inits.size > 1:
        parts.append(_regime_table(subject, errors, sample))
        looked_at = [field for field in subject.map_fields(subject.scalar_fields) if field in errors.by_field]
        parts.append(_busts(subject, errors, looked_at or headline_fields(list(errors.by_field), 2), sample))
    parts = [part for part in parts if part]
    if not parts:
        return ""
    text = f"Where and when {subject.main} is at its worst"
    text += f" {region_words(subject.region)}." if subject.region != "global" else "."
    return page.section("failures", "Where it fails", page.paragraph(text, kind="note"), *parts)
