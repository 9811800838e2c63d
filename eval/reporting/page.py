"""The page of the report: its style sheet and the pieces of HTML it is put together from.

One file with nothing fetched: it opens from a mail, a memory stick or an archive years later.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Literal

from eval.reporting.figure_style import (
    COLOURS,
    EARLIER_OPACITY,
    marker_outline,
    second_dashes,
    system_dashes,
    system_variable,
)
from weather_scnn.io.marks import GENERATOR

_STYLE_SHEET = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --better: #2f7fd1; --worse: #d9622b; --accent: #2458c5; LIGHT_COLOURS
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --card: #1a2029; --better: #3f8fe6; --worse: #e0713a; --accent: #7aa7ff; DARK_COLOURS }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 72px; }
h1 { font-size: clamp(1.7rem, 4.5vw, 2.5rem); line-height: 1.15; letter-spacing: -.02em; margin: 0 0 10px; }
h2 { font-size: 1.32rem; letter-spacing: -.01em; margin: 52px 0 6px; }
h3 { font-size: 1.02rem; margin: 26px 0 8px; }
p { margin: 0 0 14px; max-width: 72ch; }
.lead, .note, figcaption { color: var(--muted); }
.lead { font-size: 1.06rem; }
.note { font-size: .9rem; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 18px 0 0; font-size: .93rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px; margin: 28px 0 0; }
.tile, .panel { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.tile { padding: 16px 18px; }
.tile b { display: block; font-size: 1.75rem; letter-spacing: -.02em; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--muted); font-size: .88rem; line-height: 1.4; }
.good { color: var(--better); } .bad { color: var(--worse); }
.finding { border-left: 3px solid var(--accent); padding-left: 14px; margin: 24px 0 0; }
.how ul { margin: 8px 0 0; padding-left: 20px; max-width: 80ch; color: var(--muted); font-size: .92rem; }
.swipe { position: relative; }
.swipe .hint { display: none; margin: 0 0 6px; color: var(--muted); font-size: .84rem; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 12px; background: var(--card); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; width: 100%; }
caption { text-align: left; color: var(--muted); padding: 10px 14px; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; border-top: 1px solid var(--rule); }
thead th { border-top: 0; color: var(--muted); font-weight: 600; font-size: .84rem; }
tbody th { text-align: left; font-weight: 600; position: sticky; left: 0; background: var(--card); z-index: 1; }
tbody th small { color: var(--muted); font-weight: 400; }
thead th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); z-index: 1; }
.card th, .card td { padding-left: 7px; padding-right: 7px; } .card th:first-child { padding-left: 12px; }
.card thead th { white-space: normal; }
.card td { min-width: 58px; line-height: 1.25; border-left: 2px solid var(--card); border-top: 2px solid var(--card);
  background: color-mix(in srgb, var(--tone, var(--card)) var(--depth, 0%), var(--card)); }
.short { display: none; text-decoration: none; }
.card td small { display: block; font-size: .74rem; opacity: .78; }
.card .group th { padding-top: 12px; } .card .group td { background: none; padding: 0; min-width: 0; }
.card .group ~ tr:not(.group) th { font-weight: 400; padding-left: 22px; }
.numbers td { color: var(--ink); }
.after { margin-top: 18px; }
.scale { display: flex; align-items: center; gap: 10px; margin: 10px 0 12px; color: var(--muted); font-size: .84rem;
  flex-wrap: wrap; }
.scale i { height: 12px; width: 190px; border-radius: 6px; background: linear-gradient(90deg,
  color-mix(in srgb, var(--worse) 62%, var(--card)), var(--card), color-mix(in srgb, var(--better) 62%, var(--card))); }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 4px 0 14px; font-size: .92rem; }
.key span { display: inline-flex; align-items: center; gap: 8px; }
.key svg { width: 34px; height: 10px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 14px; }
.panel { margin: 0; padding: 10px 10px 6px; break-inside: avoid; }
.panel svg { display: block; width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt; }
.panel svg text { font-family: var(--sans); }
.motion { padding: 14px; } .halves { display: grid; grid-template-columns: 1fr 1fr; max-width: 1000px; margin: 0 auto; }
.halves i { background: var(--moving) 0 0 / 200% 100% no-repeat; aspect-ratio: var(--shape); }
.halves i:last-child { background-position: 100% 0; }
@media (prefers-reduced-motion: reduce), print { .halves i { background-image: var(--still); } }
.motion svg { max-width: 420px; margin: 8px auto 0; }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 14px; }
.plain td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
.plain th { vertical-align: top; white-space: nowrap; }
details { margin: 14px 0; } summary { cursor: pointer; color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 8px 18px; margin: 0; max-width: 84ch; }
dt { font-weight: 600; } dd { margin: 0; }
footer { margin-top: 56px; padding-top: 14px; border-top: 1px solid var(--rule); color: var(--muted);
  font-size: .86rem; }
@media (max-width: 560px) { SWIPE_PHONE
  main { padding: 24px 14px 48px; } h2 { margin-top: 40px; }
  th, td { padding: 5px 8px; } .card td { min-width: 54px; }
  .long { display: none; } .short { display: inline; }
  .halves { grid-template-columns: 1fr; }
  .card .group ~ tr:not(.group) th { padding-left: 10px; font-size: .8rem;
    max-width: 30vw; white-space: normal; hyphens: auto; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 10px; } .tile { padding: 12px; } .tile b { font-size: 1.4rem; }
  dl { grid-template-columns: 1fr; gap: 2px; } dd { margin-bottom: 10px; }
  .plain tr, .plain th, .plain td { display: block; width: 100%; min-width: 0; white-space: normal; }
  .plain td { border-top: 0; padding-top: 0; } .plain th { position: static; }
}
@media (min-width: 561px) and (max-width: 900px) { SWIPE_TABLET }
@media print {
  :root { --paper: #fff; --card: #fff; --better: #2f7fd1; --worse: #d9622b; LIGHT_COLOURS }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 11px; } body { font-size: 1rem; } .card td { min-width: 0; } th, td { padding: 3px 6px; }
  main { max-width: none; padding: 0; } nav { display: none; }
  .scroll { overflow: visible; } .tiles { grid-template-columns: repeat(4, 1fr); gap: 8px; }
  .panels, .maps { grid-template-columns: repeat(3, 1fr); gap: 8px; }
  h2, h3, .note, .key { break-after: avoid; break-inside: avoid; } tr { break-inside: avoid; } details:not([open]) { display: none; }
  .halves { max-width: 70%; }
}
"""


def escape(text: object) -> str:
    """Text made safe for HTML, in attributes too."""
    return html.escape(str(text), quote=True)


# Columns of numbers that a phone and a tablet show at once; of a table with more they tell that it goes on.
_PHONE_COLUMNS, _TABLET_COLUMNS = 4, 8
# What tells it: a line above, and a shadow at the right edge.
_SWIPE = """
  CLASS .hint { display: block; }
  CLASS::after { content: ""; position: absolute; right: 1px; bottom: 1px; width: 22px; height: calc(100% - 32px);
    border-radius: 0 12px 12px 0; pointer-events: none;
    background: linear-gradient(90deg, transparent, color-mix(in srgb, var(--ink) 26%, transparent)); }"""


def style_sheet() -> str:
    """The style sheet, with the colours that figures share on light and on dark."""
    light, dark = (" ".join(f"{name}: {colours[mode]};" for name, colours in COLOURS.items()) for mode in (0, 1))
    text = _STYLE_SHEET.replace("LIGHT_COLOURS", light).replace("DARK_COLOURS", dark)
    phone, tablet = (_SWIPE.replace("CLASS", f".{name}") for name in ("beyond-phone", "beyond-tablet"))
    return text.replace("SWIPE_PHONE", phone).replace("SWIPE_TABLET", tablet)


def document(title: str, body: str) -> str:
    """The whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{GENERATOR}\n<title>{escape(title)}</title>\n"
        f"<style>{style_sheet()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def section(identifier: str, title: str, *parts: str) -> str:
    """A section with a heading that can be linked to."""
    return f'<section id="{identifier}">\n<h2>{escape(title)}</h2>\n' + "\n".join(parts) + "\n</section>"


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{f' class={kind!r}' if kind else ''}>{escape(text)}</p>"


def navigation(entries: Iterable[tuple[str, str]]) -> str:
    """Links to sections: (identifier, title)."""
    links = (f'<a href="#{identifier}">{escape(title)}</a>' for identifier, title in entries)
    return f"<nav>{''.join(links)}</nav>"


def tile(value: str, text: str, *, kind: str = "") -> str:
    """One number and what it means."""
    return f'<div class="tile"><b class="{kind}">{escape(value)}</b><span>{escape(text)}</span></div>'


def key(
    systems: Iterable[tuple[int, str]],
    *,
    extra: tuple[str, str] | None = None,
    colours_only: bool = False,
    marks: bool = False,
    styles: Iterable[tuple[str, Literal["solid", "dashed", "pale"]]] = (),
) -> str:
    """Which line is which system.

    Args:
        systems: position, which fixes colour and dashes, and name.
        extra: name and colour variable of a broad line before them, such as the truth's.
        colours_only: whether systems differ by colour alone, as dashes have a meaning of their own.
        marks: whether the lines carry the systems' marks.
        styles: what lines of a style show, in any colour.
    """
    entries = []
    if extra is not None:
        entries.append(_key_entry(extra[0], extra[1], "", 6, opacity=0.45))
    for index, system in systems:
        dashes = "" if colours_only else system_dashes(index)
        entries.append(_key_entry(system, system_variable(index), dashes, 3, mark=index if marks else None))
    for name, style in styles:
        dashes, width = second_dashes() if style == "dashed" else "", 3 if style == "solid" else 2
        entries.append(_key_entry(name, "--ink", dashes, width, opacity=EARLIER_OPACITY if style == "pale" else 1.0))
    return f'<div class="key">{"".join(entries)}</div>'


def _key_entry(
    name: str, variable: str, dashes: str, width: int, *, opacity: float = 1.0, mark: int | None = None
) -> str:
    faint = f" stroke-opacity='{opacity:g}'" if opacity < 1 else ""
    points = "" if mark is None else " ".join(f"{x + 17:.1f},{y + 5:.1f}" for x, y in marker_outline(mark, 8.0))
    shape = f'<polygon points="{points}" style="fill: var({variable})"/>' if points else ""
    line = (
        f'<svg viewBox="0 0 34 10" aria-hidden="true"><line x1="1" y1="5" x2="33" y2="5" stroke-width="{width}" '
        f'style="stroke: var({variable})"{faint}{f" stroke-dasharray={dashes!r}" if dashes else ""}/>{shape}</svg>'
    )
    return f"<span>{line}{escape(name)}</span>"


def panel(svg: str) -> str:
    """A figure in its frame."""
    return f'<figure class="panel">{svg}</figure>'


def panels(figures: Iterable[str], *, kind: str = "panels") -> str:
    """Figures side by side, as many as the width allows."""
    return f'<div class="{kind}">{"".join(map(panel, figures))}</div>'


def per_cent(share: float) -> str:
    """`+12 %`, with a real minus sign, and no sign before 0."""
    number = round(100 * share)
    return f"{number:+d} %".replace("-", "−") if number else "0 %"


def scorecard_cell(value: str, skill: float | None, *, unsure: bool) -> str:
    """A cell of the scorecard: the score over its skill, blue where better than the reference, orange where worse.

    Args:
        value: the score.
        skill: against the reference; None where there is nothing to compare.
        unsure: whether the difference may be chance, told by brackets.
    """
    if skill is None:
        return f"<td>{escape(value)}</td>"
    depth = min(abs(skill) / 0.6, 1.0) * 62
    tone = "--better" if skill >= 0 else "--worse"
    percent = f"({per_cent(skill)})" if unsure else per_cent(skill)
    return f'<td style="--tone: var({tone}); --depth: {depth:.0f}%">{escape(value)}<small>{percent}</small></td>'


def skill_scale(reference: str) -> str:
    """The colours of the scorecard."""
    end = f"+60 % skill against {escape(reference)}"
    return f'<div class="scale"><span>−60 %</span><i></i><span>{end}</span></div>'


def field_name(label: str, short: str, units: str) -> str:
    """A field's name in a table: its label and units, or on narrow screens its symbol."""
    small = f" <small>{escape(units)}</small>" if units else ""
    return f'<span class="long">{escape(label)}{small}</span><abbr class="short" title="{escape(label)}">{escape(short)}</abbr>'


def row(head: str, cells: Sequence[str]) -> str:
    """A row of a table; head and cells are HTML already."""
    return f"<tr><th>{head}</th>{''.join(cells)}</tr>"


def group_row(head: str, columns: int) -> str:
    """A row that names the rows below it."""
    return f'<tr class="group"><th>{head}</th><td colspan="{columns}"></td></tr>'


def table(head: Sequence[str], rows: Iterable[str], *, kind: str) -> str:
    """A table that scrolls sideways on narrow screens, and says so there; rows are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    header = f"<thead><tr>{top}</tr></thead>" if head else ""
    body = f'<div class="scroll"><table class="{kind}">{header}<tbody>{"".join(rows)}</tbody></table></div>'
    limits = (("beyond-phone", _PHONE_COLUMNS), ("beyond-tablet", _TABLET_COLUMNS))
    classes = " ".join(name for name, most in limits if len(head) - 1 > most)
    if not classes:
        return body
    return f'<div class="swipe {classes}"><p class="hint">Swipe sideways to see all {len(head) - 1} columns →</p>{body}</div>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values."""
    return table((), (row(escape(name), (f"<td>{escape(value)}</td>",)) for name, value in rows), kind="plain")


def details(summary: str, content: str) -> str:
    """Content that opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def definitions(rows: Iterable[tuple[str, str]]) -> str:
    """Terms and what they mean."""
    return "<dl>" + "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in rows) + "</dl>"
