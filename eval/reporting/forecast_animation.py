"""The report's animation: one forecast and the truth, lead time after lead time."""

import base64
import io

import numpy as np
from PIL import Image

from eval.reporting import page
from eval.reporting.animation import animated, choose_frames, frames
from eval.reporting.forecast_maps import MOST_CSV_ROWS
from eval.reporting.forecast_sample import ForecastSample
from eval.reporting.report_subject import Subject
from eval.reporting.world_map import colours_for, has_isolines, map_scale
from eval.scorecard import format_date, format_lead


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.FASTOCTREE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def animation_section(subject: Subject, sample: ForecastSample) -> str:
    """The section; empty where no field can be shown or the forecast has one lead time only."""
    fields = [field for field in subject.map_fields(subject.scalar_fields) if sample.has(field)]
    if not fields or sample.leads.size < 2:
        return ""
    field = fields[0]
    init = sample.longest()
    positions = choose_frames(sample.leads.size)
    valid = init + sample.leads[positions]
    known = np.isin(valid, sample.truth["time"].values)
    positions, valid = positions[known], valid[known]
    if positions.size < 2:
        return ""
    predicted, observed = sample.predicted(field, init, positions), sample.observed(field, valid)
    colours, limits = colours_for(field, [sample.globe.seen(observed)])
    captions = (
        [f"{field.short} forecast, {format_lead(lead)} ahead" for lead in sample.leads[positions]],
        [f"{field.short} truth, {str(time.astype('datetime64[h]')).replace('T', ' ')} UTC" for time in valid],
    )

    def draw(width: int) -> list[Image.Image]:
        return frames(
            list(zip((predicted, observed), captions)), sample.globe, colours=colours, limits=limits,
            isolines=has_isolines(field), width=width,
        )  # fmt: skip

    moving, last = animated(draw, (480, 400, 320, 240))
    still = _png(last)
    subject.tick()
    name = f"animation_{field.slug}"
    subject.output.file(f"figures/{name}.webp", moving)
    subject.output.file(f"figures/{name}.png", still)
    scale = map_scale(colours, limits, field.shown.units)
    if predicted.size <= MOST_CSV_ROWS:
        hours = sample.leads[positions] / np.timedelta64(1, "h")
        where = np.meshgrid(hours, sample.globe.latitude, sample.globe.longitude, indexing="ij")
        rows = np.stack([array.ravel() for array in (*where, predicted, observed)], axis=-1).tolist()
        subject.output.rows(
            name,
            [
                "lead_hours",
                "latitude",
                "longitude",
                *(f"{each} ({field.shown.units})" for each in ("forecast", "truth")),
            ],
            rows,
        )
    # One picture serves wide pages, where its halves stand side by side, and phones, where one stands over the other.
    style = f"--moving: url({_address(moving, 'webp')}); --still: url({_address(still, 'png')}); "
    style += f"--shape: {last.width // 2} / {last.height}"
    halves = "".join(
        f'<i role="img" aria-label="{page.escape(f"{field.label}: {what} in motion")}"></i>'
        for what in ("forecast", "truth")
    )
    picture = f'<div class="halves" style="{style}">{halves}</div>'
    svg = subject.output.figure(
        scale, f"{name}_scale", f"Colour scale of the animation: {field.label}", ["end", "value"],
        [["lower", float(limits[0])], ["upper", float(limits[1])]], units=field.shown.units,
    )  # fmt: skip
    start = format_date(np.datetime_as_string(init, "h"))
    text = f"{field.label} from {start} to {format_lead(sample.leads[positions[-1]])} ahead: the forecast beside what "
    text += "happened. The forecast is the middle one of those that can be followed to the end."
    figure = f'<figure class="panel motion">{picture}{svg}</figure>'
    text += f" {sample.globe.note}" if sample.globe.note else ""
    return page.section("animation", "A forecast in motion", page.paragraph(text, kind="note"), figure)
