"""One forecast in motion beside the truth, as an animated picture that needs no player and no network."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from eval.reporting.coastlines import coastlines
from eval.reporting.projection import RIGHT, TOP, Raster, place, rim
from eval.reporting.world_map import Globe, shade

# Legible on white and on a dark page, so that one picture with a transparent ground serves both.
_TEXT = (126, 137, 152, 255)
_COAST = (16, 20, 26, 210)
_MOST_FRAMES, _FRAME_MILLISECONDS, _LAST_MILLISECONDS = 41, 200, 1600
_MOST_BYTES = 1_500_000


def _lines(globe: Globe, width: int, scale: int) -> Image.Image:
    """Coasts and the rim of the globe on a transparent ground, (height, width)."""
    height = round(width * TOP / RIGHT)
    large = Image.new("RGBA", (width * scale, height * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(large)

    def pixels(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
        right, down = (x / RIGHT + 1) / 2 * large.width, (1 - (y / TOP + 1) / 2) * large.height
        return list(zip(right.tolist(), down.tolist()))

    if globe.earth:
        for line in coastlines():
            draw.line(pixels(*place(line[:, 0], line[:, 1])), fill=_COAST, width=scale)
    elif globe.land is not None:
        inside = np.nan_to_num(Raster.create(globe.latitude, globe.longitude, large.width)(globe.land)[::-1]) > 0.5
        edge = np.zeros_like(inside)
        edge[1:] |= inside[1:] ^ inside[:-1]
        edge[:, 1:] |= inside[:, 1:] ^ inside[:, :-1]
        large.paste(_COAST, (0, 0), Image.fromarray(edge[: large.height, : large.width]))
    draw.line(pixels(*rim()), fill=_TEXT, width=2 * scale)
    return large.resize((width, height), Image.Resampling.LANCZOS)


def frames(
    forecast: Float[np.ndarray, "t y x"],
    truth: Float[np.ndarray, "t y x"],
    globe: Globe,
    captions: Sequence[str],
    *,
    colours: str,
    limits: tuple[float, float],
    isolines: bool,
    width: int,
    stacked: bool,
) -> list[Image.Image]:
    """Pictures of forecast and truth side by side, or one above the other.

    Args:
        forecast: at the lead times shown.
        truth: at their valid times; NaN where unknown.
        globe: the planet.
        captions: one a frame.
        colours: a matplotlib colour map.
        limits: values at its ends.
        isolines: whether to draw lines of equal value.
        width: of one map, in pixels.
        stacked: whether the truth stands below the forecast.
    """
    raster, lines = Raster.create(globe.latitude, globe.longitude, width), _lines(globe, width, 2)
    font = font_manager.findfont("DejaVu Sans")
    small, bold = ImageFont.truetype(font, 15), ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 17)
    height, head, name, gap = lines.height, 32, 24, 14
    columns, rows = (1, 2) if stacked else (2, 1)
    size = (columns * width + (columns - 1) * gap, head + rows * (name + height) + (rows - 1) * gap)
    pictures = []
    for index, caption in enumerate(captions):
        picture = Image.new("RGBA", size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(picture)
        draw.text((size[0] / 2, 4), caption, font=bold, fill=_TEXT, anchor="ma")
        for place_, (label, field) in enumerate((("Forecast", forecast[index]), ("Truth", truth[index]))):
            left = 0 if stacked else place_ * (width + gap)
            top = head + (place_ * (name + height + gap) if stacked else 0)
            rgba = shade(raster(field)[::-1], colours, limits, isolines=isolines)
            map_ = Image.alpha_composite(Image.fromarray(rgba), lines)
            picture.paste(map_, (left, top + name))
            draw.text((left + width / 2, top), label, font=small, fill=_TEXT, anchor="ma")
        pictures.append(picture)
    return pictures


def choose_frames(count: int) -> np.ndarray:
    """Positions of the lead times that are shown: all, or as many as a bounded picture holds, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_FRAMES)).round().astype(int))


def animated(draw: Callable[[int], list[Image.Image]], widths: Sequence[int]) -> tuple[bytes, Image.Image]:
    """An endless WebP of at most 1.5 MB, and its last frame.

    Args:
        draw: gives the frames at a width of the map.
        widths: the widths to try, largest first; the last is taken whatever its size.
    """
    for width in widths:
        pictures = draw(width)
        times = [_FRAME_MILLISECONDS] * (len(pictures) - 1) + [_LAST_MILLISECONDS]
        buffer = io.BytesIO()
        pictures[0].save(
            buffer, format="WEBP", save_all=True, append_images=pictures[1:], duration=times, loop=0, quality=60,
            method=2,
        )  # fmt: skip
        if buffer.tell() <= _MOST_BYTES:
            break
    return buffer.getvalue(), pictures[-1]
