"""Histograms: of values and errors of a sample of forecasts, and of the truth's rank among ensemble members."""

import numpy as np

from eval.reporting import page
from eval.reporting.figures import histogram, rank_histogram
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.report_subject import Subject
from eval.scorecard import Field, format_lead
from weather_scnn.sphere.grid import latitude_weights

_FIELDS, _MOST_INITS, _MOST_POINTS, _BINS = 3, 24, 40_000, 50


def _values(sample: ForecastSample, field: Field, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecast and truth in the units shown, and weight, of points of at most 24 init times, each flat."""
    inits = sample.inits(position)
    inits = inits[np.unique(np.linspace(0, inits.size - 1, min(inits.size, _MOST_INITS)).round().astype(int))]
    globe = sample.globe
    stride = max(1, round(np.sqrt(globe.latitude.size * globe.longitude.size / _MOST_POINTS)))
    weights = np.broadcast_to(latitude_weights(globe.latitude)[:, None], (globe.latitude.size, globe.longitude.size))
    thin = {"latitude": slice(None, None, stride), "longitude": slice(None, None, stride)}
    predicted = field.of(sample.forecast).sel(time=inits).isel(prediction_timedelta=position).isel(thin)
    observed = field.of(sample.truth).sel(time=inits + sample.leads[position]).isel(thin)
    one, other = (
        array.transpose("time", "latitude", "longitude").values.astype(np.float64).ravel()
        for array in (predicted, observed)
    )
    weight = np.tile(weights[::stride, ::stride].ravel(), inits.size)
    known = np.isfinite(one) & np.isfinite(other)
    return field.shown.of(one[known]), field.shown.of(other[known]), weight[known]


def _share(values: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return 100.0 * np.histogram(values, edges, weights=weight)[0] / weight.sum()


def _edges(values: np.ndarray, *, symmetric: bool) -> np.ndarray:
    low, high = np.percentile(values, [0.05, 99.95])
    if symmetric:
        high = max(-low, high) or 1.0
        low = -high
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)


def _field_figures(subject: Subject, sample: ForecastSample, field: Field) -> list[str]:
    """The histogram of values and that of errors."""
    positions = [position for position in subject.map_positions(sample.leads) if sample.inits(position).size]
    if not positions:
        return []
    samples = {position: _values(sample, field, position) for position in positions}
    last = positions[-1]
    predicted, observed, weight = samples[last]
    edges = _edges(np.concatenate([predicted, observed]), symmetric=False)
    shares = [
        ("truth", "--muted", _share(observed, weight, edges)),
        ("forecast", "--system-0", _share(predicted, weight, edges)),
    ]
    lead = format_lead(sample.leads[last])
    figures = [
        (f"{field.short}, values at {lead}", "values", edges, shares, False, f"Values of {field.label} at {lead}")
    ]
    errors = {position: one - other for position, (one, other, _) in samples.items()}
    edges = _edges(np.concatenate(list(errors.values())), symmetric=True)
    shares = [
        (format_lead(sample.leads[position]), f"--system-{place}", _share(error, samples[position][2], edges))
        for place, (position, error) in enumerate(errors.items())
    ]
    figures.append((f"{field.short}, errors", "errors", edges, shares, True, f"Errors of {field.label}"))
    drawn = []
    for title, kind, bins, parts, zero, description in figures:
        units = field.shown.difference_units if zero else field.shown.units
        figure = histogram(bins, parts, title=title, units=units, zero=zero)
        head = ["from", "to", *(f"{name} (% of area)" for name, _, _ in parts)]
        rows = np.stack([bins[:-1], bins[1:], *(share for _, _, share in parts)], axis=-1).tolist()
        drawn.append(
            subject.output.figure(figure, f"histogram_{kind}_{field.slug}", description, head, rows, units=units)
        )
        subject.tick()
    return drawn


def histogram_section(subject: Subject, sample: ForecastSample) -> str:
    """Histograms of values and errors."""
    fields = [field for field in subject.drawn_fields(subject.scalar_fields, _FIELDS) if sample.has(field)]
    pairs = [pair for field in fields if (pair := _field_figures(subject, sample, field))]
    if not pairs:
        return ""
    # One row of values, one of errors.
    drawn = [figure for kind in zip(*pairs) for figure in kind]
    text = "Shares of the area by value, over up to 24 init times spread over the period. A forecast should have the "
    text += "truth's distribution, extremes too, and errors around 0 without a long tail to one side."
    return page.section("histograms", "Histograms", page.paragraph(text, kind="note"), page.panels(drawn))


def rank_section(subject: Subject) -> str:
    """Rank histograms of ensembles; empty where there are none."""
    group = subject.file.groups.get("rank_histogram")
    if group is None:
        return ""
    drawn = []
    leads = group["lead_time"].values
    chosen = subject.map_positions(leads)
    fields = [
        field
        for field in subject.scalar_fields
        if field.variable in group and np.isfinite(field.of(group).values).any()
    ]
    for field in subject.drawn_fields(fields, _FIELDS):
        for system in map(str, group["system"].values):
            for position in chosen:
                share = field.of(group).sel(system=system).isel(lead_time=position).values.astype(np.float64)
                share = share[np.isfinite(share)]
                if share.size < 2 or share.sum() <= 0:
                    continue
                share = 100.0 * share / share.sum()
                lead = format_lead(leads[position])
                index = subject.systems.index(system) if system in subject.systems else 0
                figure = rank_histogram(share, title=f"{field.short}, {lead}, {system}", index=index)
                name = f"rank_histogram_{system}_{field.slug}_{lead.replace(' ', '')}"
                description = f"Rank histogram of {system} for {field.label} at {lead}"
                rows = [[rank, float(value)] for rank, value in enumerate(share)]
                drawn.append(subject.output.figure(figure, name, description, ["rank", "per cent of area"], rows))
                subject.tick()
    if not drawn:
        return ""
    text = "How often the truth lay between which members, sorted by value. In a reliable ensemble every rank is as "
    text += "likely (the dashed line); a U shape means too little spread, a hump too much, a slope a bias."
    return page.section("ranks", "Rank histograms", page.paragraph(text, kind="note"), page.panels(drawn))
