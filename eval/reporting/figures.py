"""Charts of the report: scores against lead time, spectra and histograms."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator, NullFormatter

from eval.reporting.figure_style import (
    COLOURS,
    INK,
    MUTED,
    STYLE,
    earlier_line,
    second_line,
    system_line,
    system_marks,
)


class Curve(NamedTuple):
    """A score against lead time, (lead,), with its interval where one is known."""

    values: np.ndarray
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None

    def scaled(self, factor: float) -> "Curve":
        """In other units."""
        return Curve(*(None if part is None else part * factor for part in self))  # type: ignore[arg-type]


def number_on_axis(value: float) -> str:
    """Short, with a real minus sign, and 0 where rounding left almost nothing."""
    text = f"{0.0 if abs(value) < 1e-12 else value:g}"
    mantissa, _, exponent = text.partition("e")
    return (mantissa + (f"e{int(exponent)}" if exponent else "")).replace("-", "−")


# Points; of a digit on an axis, of the space beside the numbers, and of a label that stands beside them.
_DIGIT, _BESIDE, _LABEL = 6.1, 8.0, 13.0


def _panel(title: str, units: str = "", *, beside: str = "") -> tuple[Figure, Axes]:
    """A figure of the size and margins that all charts share: fixed, they line up and draw fast.

    Args:
        title: of the figure.
        units: after the title, of the values where the title names them.
        beside: along the vertical axis, what it counts and in which units, where the title does not tell.
    """
    figure = Figure(figsize=(3.6, 2.45))
    axes = figure.add_axes((0.165, 0.185, 0.815, 0.7))
    axes.set_ylabel(beside, fontsize=9)
    axes.set_title(title + (f"  ({units})" if units else ""))
    axes.grid(axis="x", visible=False)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _value_axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))
    # No offset such as "1e-5" above the axis, which would lie on the title.
    axes.yaxis.set_major_formatter(lambda value, _: number_on_axis(value))


def _shown_ticks(axis: Axis) -> list[tuple[float, str]]:
    """Values that stand at an axis, and their texts."""
    low, high = axis.get_view_interval()
    ticks = [float(tick) for tick in axis.get_major_locator().tick_values(low, high) if low <= tick <= high]
    return [(tick, axis.get_major_formatter()(tick, None)) for tick in ticks]


def _make_room(axes: Axes) -> None:
    """Moves the edges so that the numbers beside and below the axes stand whole; the last thing done to a figure."""
    width = 72.0 * axes.figure.get_figwidth()  # type: ignore[union-attr]
    box = axes.get_position()
    longest = max((len(text) for _, text in _shown_ticks(axes.yaxis)), default=1)
    left = max(0.115, (_BESIDE + _DIGIT * longest + (_LABEL if axes.get_ylabel() else 0.0)) / width)
    right = box.x1
    below = _shown_ticks(axes.xaxis)
    if below and axes.get_xscale() == "linear":
        # Half of the last number stands to the right of its tick.
        low, high = axes.get_xlim()
        tick, text = below[-1]
        share, half = (tick - low) / (high - low), (0.5 * _DIGIT * len(text) + 1.0) / width
        right = min(right, left + (1.0 - half - left) / share) if share > 0.5 else right
    axes.set_position((left, box.y0, right - left, box.height))


def _lead_axis(axes: Axes, hours: np.ndarray) -> None:
    """Lead times along x: hours for short forecasts, days for long ones."""
    span = float(hours.max())
    if span <= 72:
        step = next(step for step in (1, 3, 6, 12, 24) if span / step <= 7 or step == 24)
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.set_xlabel("lead time, hours")
    elif span > 24 * 800:
        years = next(years for years in (1, 2, 5, 10, 20) if span / 8766 / years <= 8 or years == 20)
        axes.xaxis.set_major_locator(MultipleLocator(8766 * years))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 8766:g}")
        axes.set_xlabel("lead time, years")
    else:
        days = next(days for days in (1, 2, 5, 10, 30, 100) if span / 24 / days <= 8 or days == 100)
        axes.xaxis.set_major_locator(MultipleLocator(24 * days))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 24:g}")
        axes.set_xlabel("lead time, days")
    axes.set_xlim(min(0.0, float(hours.min())), span * 1.02)


def curves(
    hours: Float[np.ndarray, " lead"],
    series: Mapping[int, Curve],
    *,
    title: str,
    units: str,
    from_zero: bool = False,
    lines: tuple[float, ...] = (),
    least_span: float = 0.0,
    crossing: tuple[float, float, str] | None = None,
    beside: Mapping[int, Curve] | None = None,
) -> Figure:
    """One score against lead time.

    Args:
        hours: lead times.
        series: by position of the system, which fixes colour and dashes. Intervals are drawn as bands.
        title: name of the field.
        units: of the score; empty if it has none.
        from_zero: whether the axis starts at 0, as for errors.
        lines: values to mark by a thin horizontal line.
        least_span: the axis reaches at least this far to both sides of 0, so that rounding does not look like a bias.
        crossing: hours, value and text of a point to mark, such as where the ACC falls below 0.6.
        beside: a second score of the same systems, thin and dashed in the same colours; the first is then solid.
            Empty where this field has no second score but others of the section have, None where none has.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, units)
        for value in lines:
            axes.axhline(value, color=MUTED, linewidth=0.9, zorder=1)
        # The first, which is solid, lies beneath: where systems agree, dashes on it show both, and marks at other places.
        for index, curve in sorted(series.items()):
            shown = np.isfinite(curve.values)
            line = system_line(index, solid=beside is not None)
            if curve.lower is not None and curve.upper is not None:
                axes.fill_between(
                    hours[shown], curve.lower[shown], curve.upper[shown], color=line["color"], alpha=0.16, linewidth=0
                )
            axes.plot(hours[shown], curve.values[shown], **line, **system_marks(index, int(shown.sum())))
        for index, curve in (beside or {}).items():
            shown = np.isfinite(curve.values)
            axes.plot(hours[shown], curve.values[shown], **second_line(index))
        _lead_axis(axes, hours)
        _value_axis(axes)
        if least_span > 0:
            low, high = axes.get_ylim()
            axes.set_ylim(min(low, -least_span), max(high, least_span))
        if from_zero:
            axes.set_ylim(bottom=0)
        _make_room(axes)
        if crossing is not None:
            where, value, text = crossing
            axes.plot([where, where], [axes.get_ylim()[0], value], color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.plot([where], [value], color=INK, marker="o", markersize=4.2, linestyle="")
            right = where > 0.6 * hours.max()
            axes.annotate(
                text, (where, value), xytext=(-6 if right else 6, 5), textcoords="offset points", color=INK,
                ha="right" if right else "left", fontsize=9, fontweight="bold",
            )  # fmt: skip
    return figure


def spectrum(
    wavenumber: Float[np.ndarray, " k"],
    truth: Float[np.ndarray, " k"] | None,
    series: Mapping[int, Float[np.ndarray, " k"]],
    *,
    title: str,
    axis: str,
    units: str,
) -> Figure:
    """Power against wavenumber, both logarithmic.

    Args:
        wavenumber: zonal wavenumbers or degrees; 0 is left out.
        truth: power of the truth, drawn broad and grey beneath the others.
        series: power by position of the system, which fixes colour and dashes.
        title: what is shown.
        axis: what the wavenumber is.
        units: of the power.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, beside=f"power, {units}" if units else "power")
        positive = wavenumber > 0
        everything = []
        if truth is not None:
            shown = positive & (truth > 0)
            axes.plot(wavenumber[shown], truth[shown], color=MUTED, linewidth=4.5, alpha=0.45, solid_capstyle="round")
            everything.append(truth[shown])
        # The first, which is solid, lies beneath: where systems agree, dashes on it show both.
        for index, power in sorted(series.items()):
            shown = positive & (power > 0)
            axes.plot(wavenumber[shown], power[shown], **system_line(index))
            everything.append(power[shown])
        axes.set_yscale("log")
        # The last wavenumbers of a truncated field hold nothing but rounding: ten decades tell all.
        joined = np.concatenate(everything)
        if joined.size:
            axes.set_ylim(max(joined.min() / 2, joined.max() * 1e-10), joined.max() * 3)
        _wavenumber_axis(axes, wavenumber, axis)
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
        axes.yaxis.set_major_formatter(lambda value, _: _power_of_ten(value))
        axes.yaxis.set_minor_formatter(NullFormatter())
        _make_room(axes)
    return figure


def power_ratio(
    wavenumber: Float[np.ndarray, " k"],
    series: Mapping[int, Float[np.ndarray, " k"]],
    before: Sequence[Mapping[int, Float[np.ndarray, " k"]]],
    *,
    title: str,
    axis: str,
    beside: str = "forecast / truth",
) -> Figure:
    """A ratio that is best at 1 against wavenumber, as power over the truth's: below 1 a forecast is too smooth.

    Args:
        wavenumber: zonal wavenumbers or degrees; 0 is left out.
        series: ratios by position of the system, which fixes colour and dashes; NaN where the truth has no power.
        before: the same at earlier lead times, drawn thin and pale, the earlier the paler.
        title: what is shown.
        axis: what the wavenumber is.
        beside: what the ratio is.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, beside=beside)
        axes.axhline(1.0, color=MUTED, linewidth=0.9, zorder=1)
        values = [np.ones(1)]
        for place, ratios in enumerate(before, start=1):
            for index, ratio in sorted(ratios.items()):
                shown = (wavenumber > 0) & np.isfinite(ratio)
                axes.plot(wavenumber[shown], ratio[shown], **earlier_line(index, share=place / len(before)))
        for index, ratio in sorted(series.items()):
            shown = (wavenumber > 0) & np.isfinite(ratio)
            axes.plot(wavenumber[shown], ratio[shown], **system_line(index))
            values.append(ratio[shown])
        _wavenumber_axis(axes, wavenumber, axis)
        joined = np.concatenate(values)
        axes.set_ylim(0, min(4.0, 1.1 * float(joined.max())))
        _value_axis(axes)
        _make_room(axes)
    return figure


def _wavenumber_axis(axes: Axes, wavenumber: np.ndarray, label: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1, wavenumber.max() * 1.05)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def _power_of_ten(value: float) -> str:
    exponent = str(round(np.log10(value)))
    return "10" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def histogram(
    edges: Float[np.ndarray, " edge"],
    shares: Sequence[tuple[str, str, np.ndarray]],
    *,
    title: str,
    units: str,
    zero: bool = False,
) -> Figure:
    """Shares of the area by value, as outlines.

    Args:
        edges: of the bins.
        shares: (name, variable of the colour, share of each bin in per cent); the first is filled.
        title: what is shown.
        units: of the values.
        zero: whether to mark 0, as for errors.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, beside="area a bin, %")
        for position, (name, variable, share) in enumerate(shares):
            colour = COLOURS[variable][0]
            axes.stairs(share, edges, color=colour, linewidth=0 if position == 0 else 1.7, label=name,
                        fill=position == 0, alpha=0.35 if position == 0 else None)  # fmt: skip
        if zero:
            axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
        _value_axis(axes)
        # Room for the key above the highest bar.
        axes.set_ylim(0, 1.25 * max(float(share.max()) for _, _, share in shares))
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: number_on_axis(value))
        axes.set_xlabel(units or "value")
        axes.legend(loc="upper right", ncols=len(shares), handlelength=1.2, borderaxespad=0.1, columnspacing=1.2)
        _make_room(axes)
    return figure


def rank_histogram(share: Float[np.ndarray, " rank"], *, title: str, index: int = 0) -> Figure:
    """How often the truth took each rank among the members, in per cent; a flat one has members of the right spread."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, beside="area, %")
        axes.bar(np.arange(share.size), share, width=0.9, color=system_line(index)["color"], alpha=0.75)
        axes.axhline(100.0 / share.size, color=INK, linewidth=1.0, linestyle=(0, (3, 2)))
        _value_axis(axes)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("rank of the truth among the members")
        _make_room(axes)
    return figure


def plume(
    hours: Float[np.ndarray, " lead"],
    members: Float[np.ndarray, "member lead"],
    truth: Float[np.ndarray, " lead"],
    *,
    title: str,
    units: str,
) -> Figure:
    """A forecast at a place against lead time: of an ensemble its members, their middle half and nine tenths, and median.

    Args:
        hours: lead times.
        members: of the forecast; one of a single forecast.
        truth: what happened, NaN where that is not known.
        title: name of the field.
        units: of the values.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, units)
        line = system_line(0, solid=True)
        shown = np.isfinite(truth)
        axes.plot(hours[shown], truth[shown], color=MUTED, linewidth=4.5, alpha=0.45, solid_capstyle="round")
        known = np.isfinite(members).any(axis=0)
        at, spread = hours[known], members[:, known]
        if len(members) > 1 and at.size:
            for low, high in ((5, 95), (25, 75)):
                edges = np.nanpercentile(spread, [low, high], axis=0)
                axes.fill_between(at, *edges, color=line["color"], alpha=0.18, linewidth=0)
            for each in spread:
                axes.plot(at, each, color=line["color"], linewidth=0.5, alpha=0.45)
        if at.size:
            axes.plot(at, np.nanmedian(spread, axis=0), **line)
        _lead_axis(axes, hours)
        _value_axis(axes)
        _make_room(axes)
    return figure


def unit_square(title: str, across: str, up: str, series: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Curves of shares against shares with the diagonal, such as a reliability diagram.

    Args:
        title: what is shown.
        across, up: names of the axes.
        series: by position of the system, both shares of every point.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panel(title, beside=up)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, zorder=1)
        for index, (x, y) in sorted(series.items()):
            axes.plot(x, y, **system_line(index), **system_marks(index, x.size) | {"markevery": 1})
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(across)
        _value_axis(axes)
        _make_room(axes)
    return figure
