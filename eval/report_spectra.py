"""Power spectra of forecasts beside the truth: a forecast that loses power at large wavenumbers is blurred."""

import numpy as np
import xarray as xr

from eval import page
from eval.figures import spectrum
from eval.report_subject import BASELINES, Subject
from eval.scorecard import Field, format_lead, headline_fields

_FIELDS, _LEADS = 4, 2
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


def spectra_section(subject: Subject) -> str:
    """The section, empty where the file has no spectra."""
    group = subject.file.groups.get("spectra")
    if group is None:
        return ""
    leads = group["lead_time"].values
    chosen = sorted({0, len(leads) - 1}) if len(leads) > _LEADS else range(len(leads))
    drawn, used = [], set()
    for field in headline_fields(subject.fields, _FIELDS):
        for kind, axis in _KINDS.items():
            array = _array(group, field, kind)
            if array is None:
                continue
            wavenumber = array[array.dims[-1]].values.astype(np.float64)
            for position in chosen:
                at = array.isel(lead_time=position)
                # A baseline's spectrum is the truth's own, or of a field with no weather in it.
                series = {
                    index: at.sel(system=system).values.astype(np.float64)
                    for index, system in enumerate(subject.systems)
                    if system not in BASELINES and system in at["system"].values
                }
                series = {index: power for index, power in series.items() if np.isfinite(power).any()}
                truth = at.sel(system="truth").values.astype(np.float64) if "truth" in at["system"].values else None
                if not series:
                    continue
                used |= set(series)
                lead = format_lead(leads[position])
                figure = spectrum(wavenumber, truth, series, title=f"{field.short}, {lead}", units="", axis=axis)
                columns = {subject.systems[index]: power for index, power in series.items()}
                columns |= {} if truth is None else {"truth": truth}
                rows = [
                    [int(number), *(float(power[place]) for power in columns.values())]
                    for place, number in enumerate(wavenumber)
                ]
                drawn.append(
                    subject.output.figure(
                        figure,
                        f"spectrum_{kind}_{field.slug}_{lead.replace(' ', '')}",
                        f"Power spectrum of {field.label} at {lead} against {axis}",
                        [axis, *columns],
                        rows,
                    )
                )
                subject.tick()
    if not drawn:
        return ""
    text = "How much of the field's variance lies at which scale, from the planet's on the left to the grid's on the "
    text += (
        "right. The broad grey line is the truth; a forecast that falls below it is too smooth, one above it noisy. "
    )
    text += "Wind vectors are shown by their kinetic energy."
    key = page.key([(index, subject.systems[index]) for index in sorted(used)], extra=("truth", "--muted"))
    return page.section("spectra", "Spectra", page.paragraph(text, kind="note"), key, page.panels(drawn))
