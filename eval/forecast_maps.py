"""Maps of one forecast beside the truth and the error, for the report."""

from collections.abc import Callable, Sequence

import numpy as np

from eval import page
from eval.figures import world_map
from eval.forecasts import open_forecast, require_same_grid
from eval.report_folder import ReportFolder
from eval.scorecard import Field, format_date, format_lead
from weather_scnn.data.opening import open_dataset

# Larger maps are left to the forecast store itself; a table of them would be no use.
_CSV_POINTS = 100_000


def _colours(field: Field, fields: list[np.ndarray]) -> tuple[str, tuple[float, float]]:
    """Colour map and limits that forecast and truth share; winds and tendencies are centred on 0."""
    joined = np.concatenate([array[np.isfinite(array)].ravel() for array in fields])
    low, high = (float(bound) for bound in np.percentile(joined, [0.5, 99.5])) if joined.size else (0.0, 1.0)
    if low < 0 < high and "temperature" not in field.variable and "geopotential" not in field.variable:
        bound = max(-low, high)
        return "PuOr_r", (-bound, bound)
    name = "Spectral_r" if "temperature" in field.variable else "viridis"
    return name, (low, high if high > low else low + 1.0)


def map_section(
    fields: Sequence[Field], forecast_path: str, truth_path: str, output: ReportFolder, tick: Callable[[], None]
) -> str:
    """The page's section of maps, at one day and at five days ahead or the nearest lead times there are.

    Args:
        fields: what to draw.
        forecast_path: the forecast store.
        truth_path: the truth; its land_sea_mask, if it has one, draws the coasts.
        output: where figures and tables go.
        tick: called once a field and lead time.

    Raises:
        UserError: a store cannot be read, or the grids differ.
    """
    forecast, truth = open_forecast(forecast_path), open_dataset(truth_path)
    require_same_grid(forecast, truth, where=forecast_path)
    known = truth["time"].values
    latitude, longitude = truth["latitude"].values.astype(float), truth["longitude"].values.astype(float)
    land = None
    if "land_sea_mask" in truth:
        mask = truth["land_sea_mask"]
        land = (mask.isel(time=0) if "time" in mask.dims else mask).transpose("latitude", "longitude").values
    scored = forecast["prediction_timedelta"].values
    wanted = dict.fromkeys(int(np.abs(scored - np.timedelta64(hours, "h")).argmin()) for hours in (24, 120))
    parts = []
    for position in wanted:
        lead = scored[position]
        inits = forecast["time"].values
        inits = inits[np.isin(inits + lead, known)]
        if not inits.size:
            continue
        init = inits[inits.size // 2]
        valid = init + lead
        times = [format_date(np.datetime_as_string(time, "h")) for time in (init, valid)]
        for field in fields:
            tick()
            if field.variable not in forecast or field.variable not in truth:
                continue
            predicted = field.of(forecast).sel(time=init).isel(prediction_timedelta=position).values.astype(float)
            observed = field.of(truth).sel(time=valid).transpose("latitude", "longitude").values.astype(float)
            error = predicted - observed
            colours, limits = _colours(field, [predicted, observed])
            largest = float(np.nanpercentile(np.abs(error), 99.5)) or 1.0
            slug = f"map_{field.slug}_{format_lead(lead).replace(' ', '')}"
            shown = []
            for name, array, palette, bounds in (
                ("Forecast", predicted, colours, limits),
                ("Truth", observed, colours, limits),
                ("Error: forecast − truth", error, "RdBu_r", (-largest, largest)),
            ):
                figure = world_map(
                    array, latitude, longitude, title=name, units=field.units, colours=palette, limits=bounds, land=land
                )
                description = f"Map of {field.label}, {name.lower()}, at {format_lead(lead)}"
                shown.append(output.figure(figure, f"{slug}_{name.split(':')[0].lower()}", description))
            if error.size <= _CSV_POINTS:
                north, east = np.meshgrid(latitude, longitude, indexing="ij")
                columns = [array.ravel() for array in (north, east, predicted, observed, error)]
                rows = ([f"{value:.7g}" for value in row] for row in zip(*columns))
                output.rows(slug, ["latitude", "longitude", "forecast", "truth", "error"], rows)
            heading = f"<h3>{page.escape(field.label)}, {format_lead(lead)} ahead</h3>"
            note = page.paragraph(f"Started {times[0]}, valid {times[1]}.", kind="note")
            parts.append(heading + note + page.panels(shown, kind="maps"))
    if not parts:
        return ""
    text = "One forecast beside what happened: the one in the middle of the period, not the best. The projection "
    text += "keeps areas. Colours end at the outer half per cent of the values."
    return page.section("maps", "A forecast, the truth and the error", page.paragraph(text, kind="note"), *parts)
