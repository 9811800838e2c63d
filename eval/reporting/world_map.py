"""Maps in the Equal Earth projection, with a colour bar and, where the planet has them, coasts."""

import dataclasses

import matplotlib
import matplotlib.cm
import matplotlib.colors
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from eval.reporting.coastlines import coastlines, is_earth, land_mask
from eval.reporting.figure_style import COAST, MUTED, STYLE
from eval.reporting.figures import number_on_axis
from eval.reporting.projection import RIGHT, TOP, place, project, rim
from eval.scorecard import Field

_MAP_PIXELS = 640
_COAST_COLOUR = "#10141a"


@dataclasses.dataclass(frozen=True)
class Globe:
    """What all maps of a report share.

    Attributes:
        latitude, longitude: cell centres in degrees, ascending.
        earth: whether the Earth's coasts are drawn.
        land: fraction of land of another planet, (y, x), whose contour of one half is drawn.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    earth: bool
    land: np.ndarray | None

    @classmethod
    def of(cls, truth: xr.Dataset) -> "Globe":
        """The planet of a dataset of truth."""
        earth = is_earth(truth)
        mask = None if earth else land_mask(truth)
        latitude, longitude = (truth[name].values.astype(np.float64) for name in ("latitude", "longitude"))
        return cls(latitude, longitude, earth, None if mask is None else mask.values.astype(np.float64))


def colours_for(field: Field, arrays: list[np.ndarray]) -> tuple[str, tuple[float, float]]:
    """Colour map and limits that forecast and truth share; winds and tendencies are centred on 0."""
    joined = np.concatenate([array[np.isfinite(array)].ravel() for array in arrays])
    low, high = (float(bound) for bound in np.percentile(joined, [0.5, 99.5])) if joined.size else (0.0, 1.0)
    if low < 0 < high and "temperature" not in field.variable and "geopotential" not in field.variable:
        bound = max(-low, high)
        return "PuOr_r", (-bound, bound)
    name = "Spectral_r" if "temperature" in field.variable else "viridis"
    return name, (low, high if high > low else low + 1.0)


def has_isolines(field: Field) -> bool:
    """Whether forecasters read the field by its isolines."""
    return "geopotential" in field.variable or "pressure" in field.variable


def shade(image: np.ndarray, colours: str, limits: tuple[float, float], *, isolines: bool) -> np.ndarray:
    """An image of values as RGBA bytes, transparent where there is none.

    Args:
        image: values, (height, width).
        colours: a matplotlib colour map.
        limits: values at its ends.
        isolines: whether to darken about twelve lines of equal value, a pixel and a half wide.
    """
    rgba = matplotlib.colormaps[colours](np.clip((image - limits[0]) / (limits[1] - limits[0]), 0, 1), bytes=True)
    rgba[~np.isfinite(image)] = 0
    if isolines:
        ticks = MaxNLocator(12, steps=[1, 2, 4, 5, 10]).tick_values(*limits)
        step = ticks[1] - ticks[0]
        slope = np.hypot(*np.gradient(image))
        distance = np.abs(image / step - np.round(image / step)) * step / np.maximum(slope, 1e-3 * step)
        strength = 0.5 * np.clip(1.25 - distance, 0, 1)
        rgba[..., :3] = (rgba[..., :3] * (1 - np.nan_to_num(strength))[..., None]).astype(np.uint8)
    return rgba


def _coasts(axes: Axes, globe: Globe) -> None:
    if globe.earth:
        lines = [np.stack(place(line[:, 0], line[:, 1]), axis=-1) for line in coastlines()]
        drawn = LineCollection(lines, colors=_COAST_COLOUR, linewidths=0.55, alpha=0.8)
        drawn.set_gid(COAST)
        axes.add_collection(drawn, autolim=False)
    elif globe.land is not None:
        coast, extent = project(globe.land, globe.latitude, globe.longitude, pixels=_MAP_PIXELS)
        x, y = (
            np.linspace(extent[low], extent[high], count, endpoint=False) + (extent[high] - extent[low]) / count / 2
            for low, high, count in ((0, 1, coast.shape[1]), (2, 3, coast.shape[0]))
        )
        axes.contour(x, y, coast, [0.5], colors=[_COAST_COLOUR], linewidths=0.75, alpha=0.75)


def world_map(
    field: Float[np.ndarray, "y x"],
    globe: Globe,
    *,
    title: str,
    units: str,
    colours: str,
    limits: tuple[float, float],
    ends: str = "both",
    isolines: bool = False,
    pixels: int = _MAP_PIXELS,
) -> Figure:
    """A map with its colour bar.

    Args:
        field: south first.
        globe: the planet.
        title: what is shown.
        units: of the field.
        colours: a matplotlib colour map.
        limits: values at the ends of the colour bar.
        ends: which ends of the colour bar are open: both, min, max or neither.
        isolines: whether to draw lines of equal value, as forecasters read geopotential and pressure.
        pixels: width of the picture; half of them quarter what it adds to the page.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.85))
        axes = figure.add_axes((0.015, 0.2, 0.97, 0.7))
        image, extent = project(field, globe.latitude, globe.longitude, pixels=pixels)
        axes.imshow(
            shade(image, colours, limits, isolines=isolines), extent=extent, origin="lower", interpolation="none"
        )
        drawn = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(*limits), colours)
        _coasts(axes, globe)
        axes.plot(*rim(), color=MUTED, linewidth=0.9)
        axes.set_xlim(-RIGHT * 1.005, RIGHT * 1.005)
        axes.set_ylim(-TOP * 1.01, TOP * 1.01)
        axes.set_axis_off()
        axes.set_title(title)
        _colour_bar(figure, (0.12, 0.155, 0.76, 0.026), drawn, units, ends)
    return figure


def map_scale(colours: str, limits: tuple[float, float], units: str) -> Figure:
    """The colour bar alone, for pictures that have none of their own."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 0.55))
        shades = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(*limits), colours)
        _colour_bar(figure, (0.12, 0.72, 0.76, 0.14), shades, units, "both")
    return figure


def _colour_bar(
    figure: Figure,
    place_: tuple[float, float, float, float],
    drawn: matplotlib.cm.ScalarMappable,
    units: str,
    ends: str,
) -> None:
    bar = figure.colorbar(drawn, cax=figure.add_axes(place_), orientation="horizontal", extend=ends)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5)
    bar.formatter = FuncFormatter(lambda value, _: number_on_axis(value))
    bar.update_ticks()
    bar.ax.grid(visible=False)
    bar.ax.set_xlabel(units, fontsize=9, labelpad=1)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
