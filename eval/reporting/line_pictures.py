"""Lines of equal value as pictures: of all members of an ensemble on one map, and of a region's edge."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw

from eval.reporting.world_map import Globe

# Shades of each colour: with two colours and a black line fewer than the 256 of a palette.
_SHADES = 40


def contour_pixels(image: Float[np.ndarray, "h w"], level: float) -> Bool[np.ndarray, "h w"]:
    """Pixels at which a picture of values crosses a level on the way to the next one, right or up."""
    above = image > level
    known = np.isfinite(image)
    edge = np.zeros(image.shape, bool)
    edge[:, :-1] |= (above[:, :-1] != above[:, 1:]) & known[:, :-1] & known[:, 1:]
    edge[:-1] |= (above[:-1] != above[1:]) & known[:-1] & known[1:]
    return edge


def thickened(edge: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """A line of single pixels made this much wider."""
    result = edge.copy()
    for step in range(1, width):
        result[step:] |= edge[:-step]
        result[:, step:] |= edge[:, :-step]
        result[step:, step:] |= edge[:-step, :-step]
    return result


def pale_coasts(globe: Globe, pixels: int) -> Bool[np.ndarray, "h w"]:
    """Where the coasts lie on a map this wide, or the edges of another planet's land."""
    height, width = globe.raster(pixels).outside.shape
    if globe.land is not None and not globe.earth:
        return contour_pixels(globe.raster(pixels)(globe.land), 0.5)
    picture = Image.new("1", (width, height))
    left, right, bottom, top = globe.projection.extent
    for line in globe.coasts if globe.earth else ():
        across, up = (line[:, 0] - left) / (right - left) * width, (line[:, 1] - bottom) / (top - bottom) * height
        ImageDraw.Draw(picture).line(list(zip(across.tolist(), up.tolist())), fill=1)
    return np.asarray(picture)


def spaghetti(
    images: Float[np.ndarray, "member h w"],
    truth: Float[np.ndarray, "h w"] | None,
    levels: Sequence[tuple[float, str]],
    coasts: Bool[np.ndarray, "h w"] | None = None,
) -> np.ndarray:
    """Lines of all members, the darker the more of them lie on each other, under the truth's in black: RGBA bytes.

    Args:
        images: of the members, NaN where nothing is shown.
        truth: what happened, if that is known.
        levels: values and their colours.
        coasts: pixels that are grey beneath them.
    """
    rgba = np.zeros((*images.shape[1:], 4))
    rgba[np.isfinite(images[0])] = (1.0, 1.0, 1.0, 1.0)
    if coasts is not None:
        rgba[coasts] = (0.72, 0.74, 0.77, 1.0)
    for level, colour in levels:
        count = sum(contour_pixels(image, level).astype(float) for image in images)
        # One member is seen; half of them make the full colour.
        depth = np.where(count > 0, np.clip(0.6 + count / len(images), 0, 1), 0.0)
        depth = np.round(depth * _SHADES) / _SHADES
        rgba[..., :3] = rgba[..., :3] * (1 - depth[..., None]) + np.array(to_rgb(colour)) * depth[..., None]
    if truth is not None:
        for level, _ in levels:
            rgba[thickened(contour_pixels(truth, level), max(2, images.shape[2] // 280))] = (0.07, 0.08, 0.1, 1.0)
    # A pixel of two colours would be a colour of its own: fewer of them than a palette holds.
    rgba[..., :3] = np.round(rgba[..., :3] * 15) / 15
    return _few_colours((255 * rgba).round().astype(np.uint8))


def with_edge(rgba: np.ndarray, edge: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """A picture with a red line on it, seen on light and on dark."""
    result = rgba.copy()
    result[edge & (rgba[..., 3] > 0)] = (213, 94, 0, 255)
    return result


def _few_colours(rgba: np.ndarray) -> np.ndarray:
    """With at most 256 colours: rarer ones become the nearest of the others."""
    flat = np.ascontiguousarray(rgba).view(np.uint32)[..., 0]
    colours, index, count = np.unique(flat, return_inverse=True, return_counts=True)
    if colours.size <= 256:
        return rgba
    order = np.argsort(-count)
    table = colours.view(np.uint8).reshape(-1, 4).astype(int)
    kept = order[:256]
    nearest = np.abs(table[:, None] - table[None, kept]).sum(axis=-1).argmin(axis=1)
    return table[kept[nearest]].astype(np.uint8)[index.reshape(flat.shape)]
