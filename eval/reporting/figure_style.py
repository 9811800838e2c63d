"""How the report's figures look, and how one drawing becomes an inline SVG and PNGs for light and dark.

A figure is drawn once with matplotlib in the colours of paper. In the SVG these colours become variables of the page's
style sheet, so that the same drawing suits a light page, a dark page and a printer; for the dark PNG the colours of
the drawing's parts are exchanged.
"""

import base64
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.text import Text

# Name of the style sheet's variable → colour on light and on dark.
INK, MUTED, RULE = "#1b2430", "#5b6675", "#d9dee6"
_DARK_CARD = "#1a2029"
COLOURS: dict[str, tuple[str, str]] = {
    "--ink": (INK, "#e8ecf2"),
    "--muted": (MUTED, "#9aa6b6"),
    "--rule": (RULE, "#303947"),
    # Okabe and Ito (2008): told apart by people with any colour vision; dashes and marks do so in grey.
    "--system-0": ("#0072b2", "#4aa3e0"),
    "--system-1": ("#d55e00", "#ef8a45"),
    "--system-2": ("#009e73", "#43dcae"),
    "--system-3": ("#cc79a7", "#e9a6d2"),
    "--system-4": ("#e69f00", "#f3c04d"),
    "--system-5": ("#56b4e9", "#a9dcf7"),
}
# Line pattern and width of the systems, in the order of the colours.
_LINES: tuple[tuple[Any, float], ...] = (
    ("-", 2.2),
    ((0, (5, 1.6)), 1.6),
    ((0, (1.2, 1.3)), 1.8),
    ((0, (5, 1.4, 1.2, 1.4)), 1.6),
    ((0, (8, 2)), 1.6),
    ((0, (3, 1, 1, 1, 1, 1)), 1.6),
)
# Marks on the lines, in the order of the colours, so that lines that lie on each other are told apart.
_MARKERS = ("o", "s", "^", "D", "v", "P")
_MARKER_SIZE = 3.6
# A second score's line beside a system's own, which is then solid: the colour alone names the system.
_SECOND: tuple[Any, float] = ((0, (2.5, 1.5)), 1.3)
# The line of an earlier lead time, in the system's own pattern.
EARLIER_WIDTH, EARLIER_OPACITY = 1.1, 0.75
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "weather-scnn",
    # The ground of the figure shows through, in dark PNGs too.
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # Where titles always are: to look for a place that is free takes a fifth of the drawing.
    "axes.titley": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.major.pad": 5,
    "savefig.transparent": True,
}
# A group of this id is drawn once on the page and referred to afterwards: the coastlines of all maps are the same.
COAST = "coastline"
# The id of an image in a figure that the page shows by a smaller picture.
PICTURE = "picture"


def system_variable(index: int) -> str:
    """The style sheet's variable for the colour of the system at this position."""
    return f"--system-{index % len(_LINES)}"


def system_line(index: int, *, solid: bool = False) -> dict[str, Any]:
    """matplotlib's arguments for the line of the system at this position, in its own pattern or solid."""
    pattern, width = _LINES[index % len(_LINES)]
    return {"color": COLOURS[system_variable(index)][0], "linestyle": "-" if solid else pattern, "linewidth": width}


def system_marks(index: int, count: int) -> dict[str, Any]:
    """matplotlib's arguments for about six marks on a line of `count` points, at other points than other systems'."""
    every = max(1, -(-count // 6))
    return {
        "marker": _MARKERS[index % len(_MARKERS)], "markersize": _MARKER_SIZE, "markevery": (index % every, every),
    }  # fmt: skip


def marker_outline(index: int, size: float) -> np.ndarray:
    """The outline of the system's mark as points around 0, (point, 2), `size` wide, y downwards as in SVG."""
    style = MarkerStyle(_MARKERS[index % len(_MARKERS)])
    points = style.get_path().transformed(style.get_transform()).to_polygons()[0]
    return points / np.ptp(points, axis=0).max() * size * (1, -1)


def second_line(index: int) -> dict[str, Any]:
    """The same for the system's second score, thin and dashed whichever system it is."""
    return system_line(index) | {"linestyle": _SECOND[0], "linewidth": _SECOND[1]}


def earlier_opacity(share: float) -> float:
    """How opaque a line of an earlier lead time is: `share` runs from 0, long before, to 1, the last before."""
    return EARLIER_OPACITY * (0.35 + 0.65 * share)


def earlier_line(index: int, *, share: float) -> dict[str, Any]:
    """The same for the system at an earlier lead time, thin and pale in the system's own pattern."""
    return system_line(index) | {"linewidth": EARLIER_WIDTH, "alpha": earlier_opacity(share)}


def _dashes(pattern: Any) -> str:
    return "" if isinstance(pattern, str) else " ".join(f"{2 * length:g}" for length in pattern[1])


def system_dashes(index: int) -> str:
    """The SVG dash pattern of the system's line, for the key."""
    return _dashes(_LINES[index % len(_LINES)][0])


def second_dashes() -> str:
    """The SVG dash pattern of second lines, for the key."""
    return _dashes(_SECOND[0])


@contextlib.contextmanager
def _without_image(figure: Figure) -> Iterator[None]:
    """Takes one pixel in the place of the image of a map, so that no time goes into encoding what is not kept."""
    images = [artist for artist in figure.findobj(AxesImage) if artist.get_gid() == PICTURE]
    kept = [artist.get_array() for artist in images]
    for artist in images:
        artist.set_data(np.zeros((1, 1, 4), np.uint8))
    try:
        yield
    finally:
        for artist, array in zip(images, kept):
            artist.set_data(array)


def to_svg(
    figure: Figure, *, prefix: str, description: str, coast_is_defined: bool = False, picture: bytes | None = None
) -> str:
    """The figure as an inline SVG element whose colours follow the page.

    Args:
        figure: drawn under `STYLE`.
        prefix: every id starts with it, but for the coastline's.
        description: for readers that do not see the figure; safe for HTML.
        coast_is_defined: whether the page already holds the coastline, to which this figure then refers.
        picture: PNG that the page shows as the figure's image of id `PICTURE`.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE), _without_image(figure):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    coast = re.search(rf'<g id="{COAST}">.*?</g>', text, flags=re.DOTALL)
    if coast is not None:
        # A tenth of a point is enough for a line half a point wide; the clip's id is another in every figure.
        short = re.sub(r"\d+\.\d+", lambda match: f"{float(match[0]):.1f}", coast[0])
        short = re.sub(r' clip-path="[^"]*"', "", short)
        text = text.replace(coast[0], f'<use href="#{COAST}"/>' if coast_is_defined else short)
    # Six digits behind the point would be half of the page.
    text = re.sub(r'( d="|points="| x="| y=")([^"]*)', lambda match: match[1] + _rounded(match[2]), text)
    text = re.sub(
        r' transform="rotate\(-0 [^)]*\)"| font-family: [^;"]*;?|<style type="text/css">.*?</style>', "", text
    )
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(rf'(id="|href="#|url\(#)(?!{COAST}")', lambda match: match[1] + prefix + "-", text)
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) | {COAST, f"{prefix}-{PICTURE}"}
    text = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in referred else "", text)
    text = re.sub(r"<g/>|<g></g>|<defs></defs>", "", text)
    if picture is not None:
        address = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        # The pixel that matplotlib drew is as large as the whole image; ours fills its place.
        text = re.sub(
            rf'<image ([^>]*?)xlink:href="data:[^"]*"([^>]*? id="{prefix}-{PICTURE}")',
            lambda match: f'<image {match[1]}href="{address}" preserveAspectRatio="none"{match[2]}',
            text,
        )
    for variable, (light, _) in COLOURS.items():
        text = text.replace(light, f"var({variable})")
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    head = f'<svg role="img" aria-label="{description}" viewBox="0 0 {width} {height}"'
    head += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :]


def _rounded(path: str) -> str:
    """Coordinates with two digits behind the point, a hundredth of a point, on one line."""
    short = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), path)
    return " ".join(short.split())


def to_png(figure: Figure, *, dark: bool = False) -> bytes:
    """The figure as a PNG on white, or in light colours on a dark ground, 160 dots an inch.

    The dark one changes the figure, so it comes last.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        if dark:
            _darken(figure)
        figure.savefig(
            buffer, format="png", dpi=160, facecolor=_DARK_CARD if dark else "white", transparent=False,
            pil_kwargs={"compress_level": 3},
        )  # fmt: skip
    return buffer.getvalue()


def _darken(figure: Figure) -> None:
    """Exchanges the colours of paper for those of a dark page in every part of the figure."""
    exchange = {light: dark for light, dark in COLOURS.values()}

    def swap(colour: Any) -> Any:
        red, green, blue, alpha = to_rgba(colour)
        return to_rgba(exchange.get(to_hex((red, green, blue)), (red, green, blue)), alpha)

    for artist in figure.findobj():
        if isinstance(artist, Text):
            artist.set_color(swap(artist.get_color()))
        elif isinstance(artist, Line2D):
            artist.set_color(swap(artist.get_color()))
            for part in ("markerfacecolor", "markeredgecolor"):
                if (value := getattr(artist, f"get_{part}")()) not in ("auto", "none"):
                    getattr(artist, f"set_{part}")(swap(value))
        elif isinstance(artist, Patch):
            artist.set_edgecolor(swap(artist.get_edgecolor()))
            artist.set_facecolor(swap(artist.get_facecolor()))
        elif isinstance(artist, Collection) and artist.get_array() is None:
            for part in ("facecolor", "edgecolor"):
                getattr(artist, f"set_{part}")(
                    [swap(colour) for colour in np.atleast_2d(getattr(artist, f"get_{part}")())]
                )
