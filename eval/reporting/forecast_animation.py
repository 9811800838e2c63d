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
from eval.scorecard import format_date, format_lead, headline_fields


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def animation_section(subject: Subject, sample: ForecastSample) -> str:
    """The section; empty where no field can be shown or the forecast has one lead time only."""
    fields = [field for field in headline_fields(subject.scalar_fields, 8) if sample.has(field)]
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
    colours, limits = colours_for(field, [observed])
    captions = [
        f"{field.short}   +{format_lead(lead)}   {str(time.astype('datetime64[h]')).replace('T', ' ')} UTC"
        for lead, time in zip(sample.leads[positions], valid)
    ]

    def draw(*, stacked: bool):
        def at_width(width: int) -> list[Image.Image]:
            return frames(
                predicted, observed, sample.globe, captions, colours=colours, limits=limits, isolines=has_isolines(field), width=width,
                stacked=stacked,
            )  # fmt: skip

        return at_width

    wide, last = animated(draw(stacked=False), (560, 440, 320))
    subject.tick()
    narrow, last_narrow = animated(draw(stacked=True), (420, 320, 240))
    subject.tick()
    name = f"animation_{field.slug}"
    subject.output.file(f"figures/{name}.webp", wide)
    subject.output.file(f"figures/{name}.png", _png(last))
    scale = map_scale(colours, limits, field.units)
    if predicted.size <= MOST_CSV_ROWS:
        hours = sample.leads[positions] / np.timedelta64(1, "h")
        where = np.meshgrid(hours, sample.globe.latitude, sample.globe.longitude, indexing="ij")
        rows = np.stack([array.ravel() for array in (*where, predicted, observed)], axis=-1).tolist()
        subject.output.rows(name, ["lead_hours", "latitude", "longitude", "forecast", "truth"], rows)
    description = page.escape(f"{field.label}: forecast and truth in motion")
    size, small = last.size, last_narrow.size
    picture = (
        "<picture>"
        f'<source media="(prefers-reduced-motion: reduce), print" srcset="{_address(_png(last), "png")}">'
        f'<source media="(max-width: 700px)" srcset="{_address(narrow, "webp")}" width="{small[0]}" height="{small[1]}">'
        f'<img src="{_address(wide, "webp")}" alt="{description}" width="{size[0]}" height="{size[1]}"></picture>'
    )
    svg = subject.output.figure(
        scale, f"{name}_scale", f"Colour scale of the animation: {field.label}", ["end", "value"],
        [["lower", float(limits[0])], ["upper", float(limits[1])]],
    )  # fmt: skip
    start = format_date(np.datetime_as_string(init, "h"))
    text = f"{field.label} from {start} to {format_lead(sample.leads[positions[-1]])} ahead: the forecast beside what "
    text += "happened. The forecast is the middle one of those that can be followed to the end."
    figure = f'<figure class="panel motion">{picture}{svg}</figure>'
    return page.section("animation", "A forecast in motion", page.paragraph(text, kind="note"), figure)
