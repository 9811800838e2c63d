"""Rollouts over years on the page: drift of global means, errors of time means, spectra by lead."""

import warnings

import numpy as np
import xarray as xr

from eval.reporting import page
from eval.reporting.figures import plume, power_ratio
from eval.reporting.forecast_maps import map_rows
from eval.reporting.report_subject import Subject
from eval.reporting.world_map import Globe, world_map
from eval.scorecard import Field, format_lead, pretty_units
from weather_scnn.forecasting.stability_file import TRUTH
from weather_scnn.forecasting.stability_scores import NOTHING, stability_scores

#: Fields of figures, each with a map a system.
FIELDS = 3
_MOST_SYSTEMS, _MOST_POINTS = 3, 400


def stability_section(subject: Subject, stability: xr.Dataset | None, globe: Globe | None) -> str:
    """The section; empty without a file of `stability`.

    Args:
        subject: of the report.
        stability: as `stability_file.open_stability` gives it.
        globe: of the other maps, whose coasts are drawn where the grid is the same.
    """
    if stability is None:
        return ""
    systems = [str(name) for name in stability["system"].values if name != TRUTH][:_MOST_SYSTEMS]
    fields = _fields(subject, stability)
    latitude, longitude = (stability[name].values.astype(np.float64) for name in ("latitude", "longitude"))
    if globe is None or not (np.array_equal(globe.latitude, latitude) and np.array_equal(globe.longitude, longitude)):
        globe = Globe(latitude, longitude, earth=False, land=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        curves = [_drift(subject, stability, field, label, system) for field, label in fields for system in systems]
        maps = [_bias(subject, stability, globe, field, label, system) for field, label in fields for system in systems]
        ratios = [_ratio(subject, stability, field, label, systems) for field, label in fields]
    years = stability.sizes["day"] / 365.2425
    count = stability.sizes["init"]
    text = f"Rollouts of {years:.2g} year{'s' if years != 1 else ''} from {count} initial state{'s' if count > 1 else ''}, of "
    text += "which sums were kept. Weather cannot be forecast so far ahead; what is asked is whether the climate stays that of "
    text += "the truth. A rollout ends where it leaves what is plausible."
    parts = [page.paragraph(text, kind="note"), _table(stability, systems)]
    parts.append(
        page.paragraph(
            "Daily global means; the broad grey line is the truth, where it is known, bands hold half and nine tenths of the "
            "rollouts.",
            kind="note after",
        )
    )
    parts.append(page.panels(curves))
    if any(maps):
        parts.append(
            page.paragraph("Mean over the rollouts less the truth's of the same season or years.", kind="note after")
        )
        parts.append(page.panels([each for each in maps if each], kind="maps"))
    if any(ratios):
        text = "Power by degree over the truth's near the last lead that was reached; the thin pale lines are those before, the "
        text += "earlier the paler."
        parts.append(page.paragraph(text, kind="note after"))
        parts.append(page.key([(index, _short(name)) for index, name in enumerate(systems)]))
        parts.append(page.panels([each for each in ratios if each]))
    return page.section("stability", "Over years", *parts)


def _fields(subject: Subject, stability: xr.Dataset) -> list[tuple[Field, str]]:
    """Fields of figures with their names in the file."""
    found = {}
    for index, label in enumerate(map(str, stability["field"].values)):
        level = float(stability["level"][index])
        place = None if np.isnan(level) else int(level) if level == int(level) else level
        units = pretty_units(str(stability["field_units"].values[index]))
        found[str(stability["variable"].values[index]), place] = (
            Field(str(stability["variable"].values[index]), place, units),
            label,
        )
    wanted = [
        found[field.variable, field.level]
        for field in subject.drawn_fields(subject.scalar_fields, FIELDS)
        if (field.variable, field.level) in found
    ]
    return (wanted or list(found.values()))[:FIELDS]


def _table(stability: xr.Dataset, systems: list[str]) -> str:
    scores = stability_scores(stability)
    head = [
        "system",
        "to the end",
        "drift",
        "error of time means",
        "power of small scales",
        "season's amplitude",
        "steps a second",
    ]
    rows = []
    for system in systems:
        one = scores.sel(system=system)
        kept = one.isel(init=(one["finite_steps"] >= one["steps"]).values)
        cells = [f"{kept.sizes['init']} of {one.sizes['init']}"]
        for name in ("drift", "time_mean_error"):
            values = abs(kept[name]).mean("init").values
            cells.append(f"{np.nanmedian(values):.2g} ({np.nanmax(values):.2g})" if np.isfinite(values).any() else "–")
        for array in (kept["small_scale_power"].isel(spectrum_lead=-1), kept["seasonal_amplitude_ratio"]):
            values = array.values
            cells.append(f"{np.nanmedian(values):.2f}" if np.isfinite(values).any() else "–")
        rate = float(one["steps_per_second"])
        cells.append(f"{rate:.3g}" if np.isfinite(rate) else "–")
        rows.append(page.row(page.escape(_short(system)), [f"<td>{page.escape(cell)}</td>" for cell in cells]))
    note = "Medians over the fields, in brackets the largest. Drift is that of global means in the last year, in yearly standard "
    note += "deviations of the truth's daily mean; the error of time means is in the field's standard deviation; the power of the "
    note += "smallest fifth of degrees and the annual cycle's amplitude are over the truth's."
    return page.table(head, rows, kind="numbers") + page.paragraph(note, kind="note after")


def _short(system: str) -> str:
    return system.rstrip("/").rpartition("/")[2]


def _drift(subject: Subject, stability: xr.Dataset, field: Field, label: str, system: str) -> str:
    """Daily global means of all rollouts beside the truth, thinned to some hundred points."""
    daily = stability["global_mean"].sel(field=label)
    length = -(-daily.sizes["day"] // _MOST_POINTS)
    thinned = daily.coarsen(day=length, boundary="trim").mean() if length > 1 else daily
    values = field.shown.of(thinned.sel(system=system).transpose("init", "day").values)
    truth = field.shown.of(thinned.sel(system=TRUTH).mean("init").values)
    hours = 24.0 * thinned["day"].values.astype(np.float64)
    figure = plume(hours, values, truth, title=f"{field.short}, {_short(system)}", units=field.shown.units)
    rows = np.column_stack([hours / 24, truth, values.T]).tolist()
    head = ["day", "truth", *(f"rollout {number}" for number in range(len(values)))]
    subject.tick()
    name = f"stability_drift_{field.slug}_{_slug(system)}"
    return subject.output.figure(
        figure, name, f"Global mean of {field.label} over time", head, rows, units=field.shown.units
    )


def _slug(system: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in _short(system))


def _bias(subject: Subject, stability: xr.Dataset, globe: Globe, field: Field, label: str, system: str) -> str:
    """Map of the time mean less the truth's; empty where all rollouts ended before."""
    means = stability["time_mean"].sel(field=label).astype(np.float64)
    bias = (means.sel(system=system) - means.sel(system=TRUTH)).mean("init").values
    seen = globe.seen(bias)
    if not np.isfinite(seen).any():
        return ""
    factor, units = field.scaled_errors(seen)
    bias = bias * factor
    largest = float(np.nanpercentile(np.abs(globe.seen(bias)), 99.5)) or 1.0
    figure, picture = world_map(
        bias, globe, title=f"{field.short}, {_short(system)}: rollouts − truth", units=units, colours="RdBu_r",
        limits=(-largest, largest), most_bytes=subject.output.most_map_bytes,
    )  # fmt: skip
    subject.tick()
    return subject.output.figure(
        figure, f"stability_bias_{field.slug}_{_slug(system)}", f"Map of the error of the time mean of {field.label}",
        ["latitude", "longitude", "bias"], map_rows(globe, [bias]), picture=picture, units=units,
    )  # fmt: skip


def _ratio(subject: Subject, stability: xr.Dataset, field: Field, label: str, systems: list[str]) -> str:
    """Power over the truth's by degree, at the last lead that was reached and before; empty for components of winds."""
    if label not in stability["spectrum_field"].values:
        return ""
    power = stability["spectrum"].sel(spectrum_field=label).mean("init")
    truth = power.sel(system=TRUTH).where(lambda each: each > NOTHING * each.max("degree"))
    ratio = power / truth
    reached = np.flatnonzero(np.isfinite(ratio.sel(system=systems).isel(degree=1).values).any(axis=0))
    if not reached.size:
        return ""
    series = [
        {
            index: values
            for index, system in enumerate(systems)
            if np.isfinite(values := ratio.sel(system=system).isel(spectrum_lead=lead).values[1:]).any()
        }
        for lead in reached
    ]
    degree = stability["degree"].values[1:].astype(np.float64)
    lead = format_lead(stability["spectrum_lead"].values[reached[-1]])
    figure = power_ratio(
        degree, series[-1], series[:-1], title=f"{field.short}, {lead}", axis="total wavenumber (degree)", beside="rollout / truth"
    )  # fmt: skip
    rows = [
        [systems[index], format_lead(stability["spectrum_lead"].values[place]), *pair]
        for place, one in zip(reached, series)
        for index, values in one.items()
        for pair in zip(degree.tolist(), values.tolist())
    ]
    subject.tick()
    return subject.output.figure(
        figure, f"stability_power_{field.slug}", f"Power of {field.label} over the truth's by degree",
        ["system", "lead", "degree", "ratio"], rows,
    )  # fmt: skip
