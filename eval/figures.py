"""Figures of the report: curves against lead time, and maps in the Equal Earth projection.

Each is drawn once with matplotlib. Saved as PNG it has the colours of paper; as SVG its colours become variables of
the page's style sheet, so that the same drawing suits a light page, a dark page and a printer.
"""

import io
import re
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

# Colour on paper → variable of the page's style sheet (see eval.page).
INK, MUTED, RULE = "#1b2430", "#5b6675", "#d9dee6"
_THEME = {INK: "--ink", MUTED: "--muted", RULE: "--rule"}
_SYSTEM_STYLES = (
    ("#2458c5", "--system-0", "-", 2.2),
    ("#c2571a", "--system-1", (0, (5, 1.6)), 1.6),
    ("#2f8a5b", "--system-2", (0, (1.2, 1.3)), 1.8),
    ("#8a4fb5", "--system-3", (0, (5, 1.4, 1.2, 1.4)), 1.6),
    ("#a8327a", "--system-4", (0, (8, 2)), 1.6),
)
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "weather-scnn",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 5,
    "savefig.transparent": True,
}
_MAP_PIXELS = 720


def system_variable(index: int) -> str:
    """The style sheet's variable for the colour of the system at this position."""
    return _SYSTEM_STYLES[index % len(_SYSTEM_STYLES)][1]


def system_dashes(index: int) -> str:
    """The SVG dash pattern of the system's line, for the key."""
    pattern = _SYSTEM_STYLES[index % len(_SYSTEM_STYLES)][2]
    return "" if isinstance(pattern, str) else " ".join(f"{2 * length:g}" for length in pattern[1])


def system_colours() -> dict[str, str]:
    """Colour on paper of every system variable."""
    return {variable: colour for colour, variable, _, _ in _SYSTEM_STYLES}


def to_svg(figure: Figure, *, prefix: str, description: str) -> str:
    """The figure as an inline SVG element whose ids start with `prefix` and whose colours follow the page."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', lambda match: match[1] + prefix + "-", text)
    for colour, variable in _THEME.items() | {(colour, variable) for colour, variable, _, _ in _SYSTEM_STYLES}:
        text = text.replace(colour, f"var({variable})")
    # Fonts are the page's own; sizes stay.
    text = re.sub(r"font: ((?:\w+ )*)([\d.]+)px [^;\"]*", r"font: \g<1>\g<2>px var(--sans)", text)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    head = f'<svg role="img" aria-label="{description}" viewBox="0 0 {width} {height}"'
    head += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :]


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG on white, 160 dots an inch."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=160, facecolor="white", transparent=False)
    return buffer.getvalue()


def _tick(value: float) -> str:
    """A number on an axis: short, with a real minus sign, and 0 where rounding left almost nothing."""
    text = f"{0.0 if abs(value) < 1e-12 else value:g}"
    mantissa, _, exponent = text.partition("e")
    return (mantissa + (f"e{int(exponent)}" if exponent else "")).replace("-", "−")


def _lead_axis(axes: Axes, hours: np.ndarray) -> None:
    """Lead times along x: hours for short forecasts, days for long ones."""
    span = float(hours.max())
    if span <= 72:
        step = next(step for step in (1, 3, 6, 12, 24) if span / step <= 7)
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.set_xlabel("lead time, hours")
    else:
        days = next(days for days in (1, 2, 5, 10, 30, 100) if span / 24 / days <= 8 or days == 100)
        axes.xaxis.set_major_locator(MultipleLocator(24 * days))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 24:g}")
        axes.set_xlabel("lead time, days")
    axes.set_xlim(min(0.0, float(hours.min())), span * 1.02)


def curves(
    hours: Float[np.ndarray, " lead"],
    series: dict[int, np.ndarray],
    *,
    title: str,
    units: str,
    from_zero: bool = False,
    lines: tuple[float, ...] = (),
    least_span: float = 0.0,
) -> Figure:
    """One score against lead time.

    Args:
        hours: lead times.
        series: values of shape (lead,) by position of the system, which fixes colour and dashes.
        title: name of the field.
        units: of the score; empty if it has none.
        from_zero: whether the axis starts at 0, as for errors.
        lines: values to mark by a thin horizontal line.
        least_span: the axis reaches at least this far to both sides of 0, so that rounding does not look like a bias.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 2.45))
        # Fixed margins line the panels up, and draw three times faster than a solved layout.
        axes = figure.add_axes((0.165, 0.185, 0.815, 0.7))
        for value in lines:
            axes.axhline(value, color=MUTED, linewidth=0.9, zorder=1)
        for index, values in sorted(series.items(), reverse=True):
            colour, _, dashes, width = _SYSTEM_STYLES[index % len(_SYSTEM_STYLES)]
            shown = np.isfinite(values)
            dots = shown.sum() == 1 or (index == 0 and shown.sum() <= 12)
            axes.plot(
                hours[shown],
                values[shown],
                color=colour,
                linestyle=dashes,
                linewidth=width,
                marker="o" if dots else "",
                markersize=3.4,
            )
        _lead_axis(axes, hours)
        axes.yaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))
        # No offset such as "1e-5" above the axis, which would lie on the title.
        axes.yaxis.set_major_formatter(lambda value, _: _tick(value))
        if least_span > 0:
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, -least_span), max(high, least_span))
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.set_title(title + (f"  ({units})" if units else ""))
        axes.grid(axis="x", visible=False)
        axes.spines["left"].set_visible(False)
    return figure


# Equal Earth (Šavrič, Patterson and Jenny 2018, eqs 1–2): keeps areas, as the scores' weights do.
_EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)


def _equal_earth_y(theta: np.ndarray) -> np.ndarray:
    a1, a2, a3, a4 = _EQUAL_EARTH
    return theta * (a1 + a2 * theta**2 + theta**6 * (a3 + a4 * theta**2))


def _equal_earth_stretch(theta: np.ndarray) -> np.ndarray:
    """x / longitude (radians) on the parallel of parametric latitude `theta`."""
    a1, a2, a3, a4 = _EQUAL_EARTH
    slope = a1 + 3 * a2 * theta**2 + theta**6 * (7 * a3 + 9 * a4 * theta**2)
    return 2 * np.sqrt(3) * np.cos(theta) / (3 * slope)


def project(
    field: Float[np.ndarray, "y x"],
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    *,
    pixels: int = _MAP_PIXELS,
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """A global field drawn in the Equal Earth projection with Greenwich in the middle.

    Args:
        field: on ascending latitudes and longitudes, interpolated bilinearly between cell centres.
        latitude: degrees.
        longitude: degrees, equally spaced around the globe.
        pixels: width of the image.

    Returns:
        The image, south first, NaN outside the globe; and its extent (left, right, bottom, top).
    """
    pole = np.pi / 3
    top = float(_equal_earth_y(np.array(pole)))
    right = float(np.pi * _equal_earth_stretch(np.array(0.0)))
    height = round(pixels * top / right)
    y = top * (2 * (np.arange(height) + 0.5) / height - 1)
    x = right * (2 * (np.arange(pixels) + 0.5) / pixels - 1)
    table = np.linspace(-pole, pole, 4001)
    theta = np.interp(y, _equal_earth_y(table), table)
    north = np.degrees(np.arcsin(2 / np.sqrt(3) * np.sin(theta)))
    east = np.degrees(x[None, :] / _equal_earth_stretch(theta)[:, None])
    outside = np.abs(east) > 180
    row = np.interp(north, latitude, np.arange(latitude.size))
    lower = np.minimum(row.astype(int), latitude.size - 2)
    up = (row - lower)[:, None]
    column = np.mod((east - longitude[0]) / (360.0 / longitude.size), longitude.size)
    left = column.astype(int) % longitude.size
    across = column - np.floor(column)
    following = (left + 1) % longitude.size
    bottom_row, top_row = lower[:, None], lower[:, None] + 1
    image = (1 - up) * ((1 - across) * field[bottom_row, left] + across * field[bottom_row, following])
    image = image + up * ((1 - across) * field[top_row, left] + across * field[top_row, following])
    return np.where(outside, np.nan, image), (-right, right, -top, top)


def world_map(
    field: Float[np.ndarray, "y x"],
    latitude: Float[np.ndarray, " y"],
    longitude: Float[np.ndarray, " x"],
    *,
    title: str,
    units: str,
    colours: str,
    limits: tuple[float, float],
    land: Float[np.ndarray, "y x"] | None = None,
) -> Figure:
    """A map with its colour bar.

    Args:
        field: south first.
        latitude: degrees, ascending.
        longitude: degrees, ascending.
        title: what is shown.
        units: of the field.
        colours: a matplotlib colour map.
        limits: values at the ends of the colour bar.
        land: fraction of land, whose contour of one half is drawn as the coast.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 2.85))
        axes = figure.add_axes((0.015, 0.2, 0.97, 0.7))
        image, extent = project(field, latitude, longitude)
        drawn = axes.imshow(
            image, extent=extent, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="none"
        )
        if land is not None and np.nanmin(land) < 0.5 < np.nanmax(land):
            coast, _ = project(land, latitude, longitude)
            x, y = (
                np.linspace(extent[low], extent[high], count, endpoint=False) + (extent[high] - extent[low]) / count / 2
                for low, high, count in ((0, 1, coast.shape[1]), (2, 3, coast.shape[0]))
            )
            axes.contour(x, y, coast, [0.5], colors=["#101010"], linewidths=0.75, alpha=0.75)
        theta = np.linspace(-np.pi / 3, np.pi / 3, 121)
        rim, height = np.pi * _equal_earth_stretch(theta), _equal_earth_y(theta)
        axes.plot(np.append(rim, -rim[::-1]), np.append(height, height[::-1]), color=MUTED, linewidth=0.9)
        axes.plot([-rim[0], rim[0]], [height[0]] * 2, color=MUTED, linewidth=0.9)
        axes.set_xlim(extent[0] * 1.005, extent[1] * 1.005)
        axes.set_ylim(extent[2] * 1.01, extent[3] * 1.01)
        axes.set_axis_off()
        axes.set_title(title)
        scale = figure.add_axes((0.12, 0.155, 0.76, 0.026))
        bar = figure.colorbar(drawn, cax=scale, orientation="horizontal", extend="both")
        bar.outline.set_visible(False)
        bar.locator = MaxNLocator(5)
        bar.update_ticks()
        bar.ax.grid(visible=False)
        bar.ax.set_xlabel(units, fontsize=9, labelpad=1)
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
    return figure
