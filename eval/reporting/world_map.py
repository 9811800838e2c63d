"""Maps with a colour bar and, where the planet has them, coasts."""

import dataclasses
import functools
import io
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import matplotlib.cm
import matplotlib.colors
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from eval.reporting.coastlines import coastlines, is_earth, land_mask, marked_idealised
from eval.reporting.figure_style import COAST, MUTED, PICTURE, STYLE
from eval.reporting.figures import number_on_axis
from eval.reporting.projection import EqualEarth, Projection, Raster, picture_height
from eval.scorecard import Field

_MAP_PIXELS = 640
# Smaller widths of a map on the page, for pages of many maps.
_PAGE_PIXELS = (560, 480, 400, 320, 260, 210)
# Colours of a map on the page, and shades of each along isolines: together at most the 256 of a palette.
_PAGE_COLOURS, _PAGE_SHADES = 60, 3
_COAST_COLOUR = "#10141a"
_CLIP_UNITS = 1e6
# Inches of a figure's map and around it.
_WIDTH, _HEIGHTS, _BELOW, _ABOVE = 4.074, (1.0, 3.6), 0.57, 0.285


class WorldMap(NamedTuple):
    """A map as a figure, and its image for the page: a PNG of at most 256 colours, the southernmost row first."""

    figure: Figure
    picture: bytes


class ColourBar(NamedTuple):
    """Colours of a map: a colour map of matplotlib, the values at its ends, their units, and which ends are open."""

    colours: str
    limits: tuple[float, float]
    units: str
    ends: str = "both"

    def draw(self, figure: Figure, place: tuple[float, float, float, float]) -> None:
        """Draws it into a figure: left, bottom, width and height as shares of it."""
        shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(*self.limits), self.colours)
        bar = figure.colorbar(shades, cax=figure.add_axes(place), orientation="horizontal", extend=self.ends)
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(5)
        bar.formatter = FuncFormatter(lambda value, _: number_on_axis(value))
        bar.update_ticks()
        bar.ax.grid(visible=False)
        bar.ax.set_xlabel(self.units, fontsize=9, labelpad=1)
        if bar.solids is not None:
            bar.solids.set_rasterized(True)


@dataclasses.dataclass(frozen=True)
class Globe:
    """What all maps of a report share.

    Attributes:
        latitude, longitude: cell centres in degrees, ascending.
        earth: whether the Earth's coasts are drawn.
        land: fraction of land of another planet, (y, x), whose contour of one half is drawn.
        idealised: whether the data say of themselves that they are of no real planet.
        projection: the whole globe or a part of it.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    earth: bool
    land: np.ndarray | None
    idealised: bool = False
    projection: Projection = EqualEarth()

    @classmethod
    def of(cls, truth: xr.Dataset, projection: Projection) -> "Globe":
        """The planet of a dataset of truth."""
        earth = is_earth(truth)
        mask = None if earth else land_mask(truth)
        latitude, longitude = (truth[name].values.astype(np.float64) for name in ("latitude", "longitude"))
        land = None if mask is None else mask.values.astype(np.float64)
        return cls(latitude, longitude, earth, land, marked_idealised(truth.attrs), projection)

    @property
    def note(self) -> str:
        """What a reader should know of the planet under its maps; empty of the whole Earth."""
        label = self.projection.label
        part = f"Shown is {label}, outlined, with what lies around it; colours are for this part." if label else ""
        if not self.idealised:
            return part
        text = "An idealised planet, not the Earth: its weather has neither sea nor rain."
        if self.land is not None:
            text += " The lines are the edges of its high ground, the only part of the surface that its air feels."
        return f"{text} {part}".strip()

    @functools.cached_property
    def _visible(self) -> np.ndarray:
        """Cells whose centres are in the picture, (y, x); all where none is, as of a part smaller than a cell."""
        longitude, latitude = np.meshgrid((self.longitude + 180) % 360 - 180, self.latitude)
        left, right, bottom, top = self.projection.extent
        x, y = self.projection.place(longitude, latitude)
        inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        return inside if inside.any() and self.projection.label else np.ones_like(inside)

    def seen(self, fields: Float[np.ndarray, "*t y x"]) -> Float[np.ndarray, "*t n"]:
        """The values that are in the picture, by which it is coloured."""
        return fields[..., self._visible]

    @functools.cached_property
    def _rasters(self) -> dict[int, Raster]:
        return {}

    def raster(self, pixels: int) -> Raster:
        """From the grid to an image this wide; made once."""
        if pixels not in self._rasters:
            self._rasters[pixels] = Raster.create(self.projection, self.latitude, self.longitude, pixels)
        return self._rasters[pixels]

    @functools.cached_property
    def coasts(self) -> list[np.ndarray]:
        """The Earth's coasts as lines of (x, y) within what the projection shows."""
        left, right, bottom, top = (_CLIP_UNITS * edge for edge in self.projection.extent)
        # A box across the date line has longitudes beyond 180°.
        turns = (0.0,) if isinstance(self.projection, EqualEarth) else (0.0, 360.0)
        found = []
        for line in coastlines():
            for turn in turns:
                x, y = self.projection.place(line[:, 0] + turn, line[:, 1])
                for part in _pieces(x, y):
                    # It clips a whole unit beyond the edges, which are therefore put far apart.
                    clipped = Path(_CLIP_UNITS * part).cleaned(clip=(left, bottom, right, top))
                    vertices, codes = np.asarray(clipped.vertices, np.float64), np.asarray(clipped.codes)
                    drawn = vertices[codes != Path.STOP] / _CLIP_UNITS
                    starts = np.flatnonzero(codes == Path.MOVETO)[1:]
                    found += [piece for piece in np.split(drawn, starts) if len(piece) > 1]
        return found


def _pieces(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """A line without its points at NaN, which break it."""
    points = np.stack([x, y], axis=-1)
    known = np.isfinite(points).all(axis=-1)
    if known.all():
        return [points]
    parts = np.split(points, np.flatnonzero(np.diff(known)) + 1)
    return [part for part in parts if len(part) > 1 and np.isfinite(part[0]).all()]


def colours_for(field: Field, arrays: list[np.ndarray]) -> tuple[str, tuple[float, float]]:
    """Colour map and limits that forecast and truth share; winds and tendencies are centred on 0."""
    joined = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays])
    low, high = (float(bound) for bound in np.percentile(joined, [0.5, 99.5])) if joined.size else (0.0, 1.0)
    if low < 0 < high and "temperature" not in field.variable and "geopotential" not in field.variable:
        bound = max(-low, high)
        return "PuOr_r", (-bound, bound)
    name = "plasma" if "temperature" in field.variable else "viridis"
    return name, (low, high if high > low else low + 1.0)


def has_isolines(field: Field) -> bool:
    """Whether forecasters read the field by its isolines."""
    return "geopotential" in field.variable or "pressure" in field.variable


def shade(
    image: np.ndarray, colours: str, limits: tuple[float, float], *, isolines: bool, palette: bool = False
) -> np.ndarray:
    """An image of values as RGBA bytes, transparent where there is none.

    Args:
        image: values, (height, width).
        colours: a matplotlib colour map.
        limits: values at its ends.
        isolines: whether to darken about twelve lines of equal value, a pixel and a half wide.
        palette: whether to keep to at most 256 colours.
    """
    share = np.clip((image - limits[0]) / (limits[1] - limits[0]), 0, 1)
    if palette:
        share = (np.minimum(np.floor(share * _PAGE_COLOURS), _PAGE_COLOURS - 1) + 0.5) / _PAGE_COLOURS
    rgba = matplotlib.colormaps[colours](share, bytes=True)
    rgba[~np.isfinite(image)] = 0
    if isolines:
        ticks = MaxNLocator(12, steps=[1, 2, 4, 5, 10]).tick_values(*limits)
        step = ticks[1] - ticks[0]
        slope = np.hypot(*np.gradient(image))
        distance = np.abs(image / step - np.round(image / step)) * step / np.maximum(slope, 1e-3 * step)
        strength = np.nan_to_num(np.clip(1.25 - distance, 0, 1))
        if palette:
            strength = np.round(strength * _PAGE_SHADES) / _PAGE_SHADES
        rgba[..., :3] = (rgba[..., :3] * (1 - 0.5 * strength)[..., None]).astype(np.uint8)
    return rgba


def palette_png(rgba: np.ndarray) -> bytes:
    """An image of at most 256 colours as a PNG of one byte a pixel, a fifth of the size that its colours would take.

    Args:
        rgba: bytes, (height, width, 4).
    """
    colours, index = np.unique(np.ascontiguousarray(rgba).view(np.uint32)[..., 0], return_inverse=True)
    picture = Image.fromarray(index.reshape(rgba.shape[:2]).astype(np.uint8), "P")
    table = colours.view(np.uint8).reshape(-1, 4)
    picture.putpalette(table[:, :3].tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True, transparency=table[:, 3].tobytes())
    return buffer.getvalue()


def _page_picture(paint: Callable[[int], np.ndarray], most_bytes: int) -> bytes:
    """The map's image for the page, south first as figures draw it, as wide as fits into its share of it, but at least a third of the full width."""
    picture = palette_png(paint(_MAP_PIXELS))
    if len(picture) > most_bytes:
        # Bytes grow with the width and, by edges alone, less than with the area.
        fitting = _MAP_PIXELS * (most_bytes / len(picture)) ** 0.75
        picture = palette_png(paint(next((pixels for pixels in _PAGE_PIXELS if pixels <= fitting), _PAGE_PIXELS[-1])))
    return picture


def _coasts(axes: Axes, globe: Globe) -> None:
    if globe.earth:
        drawn = LineCollection(globe.coasts, colors=_COAST_COLOUR, linewidths=0.55, alpha=0.8)
        drawn.set_gid(COAST)
        axes.add_collection(drawn, autolim=False)
    elif globe.land is not None:
        coast = globe.raster(_MAP_PIXELS)(globe.land)
        left, right, bottom, top = globe.projection.extent
        x, y = (
            low + (high - low) * (np.arange(count) + 0.5) / count
            for low, high, count in ((left, right, coast.shape[1]), (bottom, top, coast.shape[0]))
        )
        axes.contour(x, y, coast, [0.5], colors=[_COAST_COLOUR], linewidths=0.75, alpha=0.75).set_gid(COAST)


def world_map(
    field: Float[np.ndarray, "y x"],
    globe: Globe,
    *,
    title: str,
    units: str,
    colours: str,
    limits: tuple[float, float],
    most_bytes: int,
    ends: str = "both",
    isolines: bool = False,
) -> WorldMap:
    """A map with its colour bar.

    Args:
        field: south first.
        globe: the planet.
        title: what is shown.
        units: of the field.
        colours: a matplotlib colour map.
        limits: values at the ends of the colour bar.
        most_bytes: what the map's picture may take of the page, if a small one can be so small.
        ends: which ends of the colour bar are open: both, min, max or neither.
        isolines: whether to draw lines of equal value, as forecasters read geopotential and pressure.
    """

    def paint(pixels: int) -> np.ndarray:
        return shade(globe.raster(pixels)(field), colours, limits, isolines=isolines, palette=True)

    bar = ColourBar(colours, limits, units, ends)
    return painted_map(paint, globe, title=title, most_bytes=most_bytes, bar=bar)


def painted_map(
    paint: Callable[[int], np.ndarray],
    globe: Globe,
    *,
    title: str,
    most_bytes: int,
    bar: ColourBar | None = None,
    coasts: bool = True,
) -> WorldMap:
    """A map of any picture.

    Args:
        paint: gives the picture at a width in pixels: RGBA bytes of at most 256 colours, south first.
        globe: the planet.
        title: what is shown.
        most_bytes: what the picture may take of the page, if a small one can be so small.
        bar: below the map; None for none.
        coasts: whether to draw them; a picture may have its own.
    """
    left, right, bottom, top = globe.projection.extent
    # As wide as the card allows, or as high as a map may be; below it the colour bar, above it the title: inches.
    high = float(np.clip(_WIDTH * (top - bottom) / (right - left), *_HEIGHTS))
    below = _BELOW if bar is not None else 0.08
    whole = high + below + _ABOVE
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, whole))
        axes = figure.add_axes((0.015, below / whole, 0.97, high / whole))
        image = axes.imshow(
            paint(_MAP_PIXELS), extent=(left, right, bottom, top), origin="lower", interpolation="none"
        )  # fmt: skip
        image.set_gid(PICTURE)
        if coasts:
            _coasts(axes, globe)
        axes.plot(*globe.projection.outline(), color=MUTED, linewidth=0.9)
        beside, above = 0.005 * (right - left), 0.01 * (top - bottom)
        axes.set_xlim(left - beside, right + beside)
        axes.set_ylim(bottom - above, top + above)
        axes.set_axis_off()
        axes.set_title(title)
        if bar is not None:
            bar.draw(figure, (0.12, 0.44 / whole, 0.76, 0.074 / whole))
    return WorldMap(figure, _page_picture(paint, most_bytes))


def dots_map(
    values: Float[np.ndarray, " s"],
    latitude: Float[np.ndarray, " s"],
    longitude: Float[np.ndarray, " s"],
    globe: Globe,
    *,
    title: str,
    units: str,
    colours: str,
    limits: tuple[float, float],
    most_bytes: int,
    ends: str = "both",
) -> WorldMap:
    """A map of places, each a dot in the colour of its value, with its colour bar; the values farthest from 0 lie on top.

    Args:
        values: NaN where there is none.
        latitude, longitude: of the places, degrees.
        globe, title, units, colours, limits, most_bytes, ends: see `world_map`.
    """
    known = np.flatnonzero(np.isfinite(values))
    known = known[np.argsort(np.abs(values[known]), kind="stable")]
    left, right, bottom, top = globe.projection.extent
    x, y = globe.projection.place((longitude[known] + 180) % 360 - 180, latitude[known])

    def paint(pixels: int) -> np.ndarray:
        height = picture_height(globe.projection, pixels)
        across, up = (x - left) / (right - left) * pixels, (y - bottom) / (top - bottom) * height
        radius = float(np.clip(90 / np.sqrt(max(known.size, 1)), 1.5, 5.0)) * pixels / _MAP_PIXELS
        reach = np.arange(-int(np.ceil(radius)), int(np.ceil(radius)) + 1)
        disc = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
        disc = disc[(disc**2).sum(axis=-1) <= radius**2]
        image = np.full((height, pixels), np.nan)
        placed = np.isfinite(across) & np.isfinite(up)
        for row, column in disc:
            rows, columns = (np.floor(each[placed]).astype(int) + step for each, step in ((up, row), (across, column)))
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < pixels)
            image[rows[inside], columns[inside]] = values[known][placed][inside]
        return shade(image, colours, limits, isolines=False, palette=True)

    bar = ColourBar(colours, limits, units, ends)
    return painted_map(paint, globe, title=title, most_bytes=most_bytes, bar=bar)


def map_scale(colours: str, limits: tuple[float, float], units: str) -> Figure:
    """The colour bar alone, for pictures that have none of their own."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 0.55))
        ColourBar(colours, limits, units).draw(figure, (0.12, 0.72, 0.76, 0.14))
    return figure
