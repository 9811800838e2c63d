"""One forecast in motion beside the truth, as an animated picture that needs no player and no network."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from eval.reporting.projection import picture_height
from eval.reporting.world_map import Globe, shade

# Legible on white and on a dark page, so that one picture with a transparent ground serves both.
_TEXT = (126, 137, 152, 255)
_COAST = (16, 20, 26, 210)
_MOST_FRAMES, _FRAME_MILLISECONDS, _LAST_MILLISECONDS = 41, 200, 1600
_MOST_BYTES = 900_000


def _lines(globe: Globe, width: int, scale: int) -> Image.Image:
    """Coasts and the outline of the map on a transparent ground, (height, width)."""
    height = picture_height(globe.projection, width)
    large = Image.new("RGBA", (width * scale, height * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(large)
    left, right, bottom, top = globe.projection.extent

    def pixels(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
        across, down = (x - left) / (right - left) * large.width, (top - y) / (top - bottom) * large.height
        return list(zip(across.tolist(), down.tolist()))

    if globe.earth:
        for line in globe.coasts:
            draw.line(pixels(line[:, 0], line[:, 1]), fill=_COAST, width=scale)
    elif globe.land is not None:
        inside = np.nan_to_num(globe.raster(large.width)(globe.land)[::-1]) > 0.5
        edge = np.zeros_like(inside)
        edge[1:] |= inside[1:] ^ inside[:-1]
        edge[:, 1:] |= inside[:, 1:] ^ inside[:, :-1]
        large.paste(_COAST, (0, 0), Image.fromarray(edge[: large.height, : large.width]))
    draw.line(pixels(*globe.projection.outline()), fill=_TEXT, width=2 * scale)
    return large.resize((width, height), Image.Resampling.LANCZOS)


def frames(
    halves: Sequence[tuple[Float[np.ndarray, "t y x"], Sequence[str]]],
    globe: Globe,
    *,
    colours: str,
    limits: tuple[float, float],
    isolines: bool,
    width: int,
) -> list[Image.Image]:
    """Pictures of maps side by side, each under its own caption, so that a half can stand alone.

    Args:
        halves: of each map its field at the times shown, NaN where unknown, and its captions.
        globe: the planet.
        colours: a matplotlib colour map.
        limits: values at its ends.
        isolines: whether to draw lines of equal value.
        width: of one map, in pixels.
    """
    raster, lines = globe.raster(width), _lines(globe, width, 2)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), round(width / 29))
    # Of a part of the globe the maps are rectangles, which would touch.
    head, gap = round(width / 16), width // 40 if globe.projection.label else 0
    whole = width + 2 * gap
    pictures = []
    for index in range(len(halves[0][1])):
        picture = Image.new("RGBA", (len(halves) * whole, head + lines.height), (0, 0, 0, 0))
        draw = ImageDraw.Draw(picture)
        for place, (fields, captions) in enumerate(halves):
            rgba = shade(raster(fields[index])[::-1], colours, limits, isolines=isolines)
            picture.paste(Image.alpha_composite(Image.fromarray(rgba), lines), (place * whole + gap, head))
            middle = (place * whole + whole / 2, head / 2)
            draw.text(middle, captions[index], font=font, fill=_TEXT, anchor="mm")
        pictures.append(picture)
    return pictures


def choose_frames(count: int) -> np.ndarray:
    """Positions of the lead times that are shown: all, or as many as a bounded picture holds, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_FRAMES)).round().astype(int))


def animated(draw: Callable[[int], list[Image.Image]], widths: Sequence[int]) -> tuple[bytes, Image.Image]:
    """An endless WebP of at most 0.9 MB, and its last frame.

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
