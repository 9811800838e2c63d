"""The report: scores as a scorecard, curves and maps on one page that needs no network."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import rich.console
import rich.progress
import xarray as xr

from eval import page
from eval.figures import curves
from eval.forecast_maps import map_section
from eval.report_folder import ReportFolder
from eval.scorecard import (
    Field,
    format_date,
    format_lead,
    format_number,
    headline_fields,
    list_fields,
    nearest_lead,
    reference_system,
    skill,
    values,
)
from eval.scoring import MODEL, open_scores
from weather_scnn.errors import UserError

_CURVE_FIELDS, _MAP_FIELDS, _CARD_LEADS = 12, 3, 10

_EXPLAINED = {
    "rmse": "Root-mean-square error: the typical size of the error, in the field's own units, large errors counting "
    "most. 0 is perfect. Every cell of the globe weighs by its area, and the root is taken last, after the mean over "
    "all forecasts.",
    "mse": "Mean square error: the square of the RMSE, the sums that scores of several periods can be added from.",
    "mae": "Mean absolute error: the mean size of the error; less moved by a few large errors than the RMSE.",
    "bias": "Mean of forecast minus truth: above 0 the forecast is too high on average. 0 is best, though errors of "
    "opposite sign cancel.",
    "acc": "Anomaly correlation: how well the pattern of departures from the climatology is forecast. 1 is perfect, "
    "0 no better than the climatology; 0.6 is the usual limit of a useful forecast.",
    "activity": "How much the forecast departs from the climatology, as a ratio to the truth: 1 is right, below 1 the "
    "forecast is too smooth.",
    "skill": "The part of the reference's RMSE that the forecast removes: 1 − RMSE / RMSE of the reference. 100 % is "
    "perfect, 0 % no better than the reference, and below 0 worse.",
}
_SYSTEMS_EXPLAINED = {
    "persistence": "The state at the start of the forecast, unchanged: the simplest forecast there is.",
    "climatology": "The usual weather of the date and hour, the same whatever the weather was at the start.",
}
_SECTION_TITLES = {"rmse": "RMSE", "acc": "Anomaly correlation", "bias": "Bias", "activity": "Activity"}


def _score_rows(scores: xr.Dataset, fields: list[Field]) -> Iterator[list]:
    hours = scores["lead_time"].values / np.timedelta64(1, "h")
    for field in fields:
        for region in scores["region"].values:
            for system in scores["system"].values:
                for metric in scores["metric"].values:
                    for hour, value in zip(hours, values(scores, field, metric, system, region)):
                        if np.isfinite(value):
                            level = "" if field.level is None else field.level
                            yield [field.variable, level, region, system, metric, f"{hour:g}", f"{value:.9g}"]


def _card_positions(count: int) -> list[int]:
    """Lead times that a scorecard shows: all, or about ten spread evenly, always with the first and the last."""
    if count <= _CARD_LEADS:
        return list(range(count))
    return sorted({round(position) for position in np.linspace(0, count - 1, _CARD_LEADS)})


def _card_leads(leads: np.ndarray) -> list[int]:
    """As `_card_positions`, but whole days where the forecast is long enough to have several."""
    days = [index for index, lead in enumerate(leads) if lead % np.timedelta64(24, "h") == np.timedelta64(0)]
    if len(leads) <= _CARD_LEADS or len(days) < 4:
        return _card_positions(len(leads))
    return sorted({0, *(days[position] for position in _card_positions(len(days)))})


def _scorecard(scores: xr.Dataset, fields: list[Field], region: str, system: str, reference: str | None) -> str:
    leads = scores["lead_time"].values
    shown = _card_leads(leads)
    rows = []
    for field in fields:
        numbers = values(scores, field, "rmse", system, region)
        gains = skill(scores, field, system, reference, region) if reference else np.full(leads.size, np.nan)
        clim = values(scores, field, "rmse", "climatology", region)
        cells = [
            page.scorecard_cell(
                format_number(numbers[index]),
                float(gains[index]) if np.isfinite(gains[index]) else None,
                behind=bool(clim[index] < numbers[index]),
            )
            for index in shown
        ]
        rows.append((page.field_name(field.label, field.short, field.units), cells))
    head = ["RMSE", *(format_lead(leads[index]) for index in shown)]
    return page.table(head, rows, kind="card")


def _scorecards(scores: xr.Dataset, fields: list[Field]) -> str:
    reference = reference_system(scores)
    regions = [str(name) for name in scores["region"].values]
    systems = [str(name) for name in scores["system"].values]
    main = MODEL if MODEL in systems else systems[0]
    parts = []
    if reference:
        text = f"Each cell gives the RMSE of the {main} and, below it, the skill against {reference}; blue is better, orange worse."
        if reference != "climatology" and "climatology" in systems:
            text += " A dotted line under a number marks where the climatology has the smaller error."
        parts += [
            page.paragraph(text, kind="note"),
            '<div class="scale"><span>−60 %</span><i></i>'
            f"<span>+60 % skill against {page.escape(reference)}</span></div>",
        ]
    for index, region in enumerate(regions):
        card = _scorecard(scores, fields, region, main, reference)
        name = page.escape(region.replace("-", " ").capitalize())
        if index == 0:
            parts.append((f"<h3>{name}</h3>" if len(regions) > 1 else "") + card)
        else:
            parts.append(f"<details><summary>{name}</summary>{card}</details>")
    return page.section("scorecard", "Scorecard", *parts)


def _tiles(scores: xr.Dataset, fields: list[Field]) -> str:
    position = nearest_lead(scores, "24h")
    lead = format_lead(scores["lead_time"].values[position])
    reference = reference_system(scores)
    system, region = str(scores["system"].values[0]), str(scores["region"].values[0])
    tiles = []
    for field in headline_fields([field for field in fields if "wind_vector" not in field.variable], 4):
        rmse = values(scores, field, "rmse", system, region)[position]
        units = f" {field.units}".replace(" ", "\u00a0") if field.units else ""
        if reference is None:
            tiles.append(page.tile(f"{format_number(rmse)}{units}", f"RMSE of {field.label} at {lead}"))
            continue
        gain = skill(scores, field, system, reference, region)[position]
        if not np.isfinite(gain):
            continue
        change = f"{-100 * gain:+.0f} %".replace("-", "−")
        text = f"{field.label}: RMSE at {lead} against {reference} ({format_number(rmse)}{units})"
        tiles.append(page.tile(change, text, kind="good" if gain > 0 else "bad"))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _largest_rmse(scores: xr.Dataset, field: Field, region: str) -> float:
    errors = values(scores, field, "rmse", str(scores["system"].values[0]), region)
    return float(np.nanmax(errors)) if np.isfinite(errors).any() else 0.0


def _curve_section(
    scores: xr.Dataset, fields: list[Field], metric: str, output: ReportFolder, tick: Callable[[], None]
) -> str:
    hours = scores["lead_time"].values / np.timedelta64(1, "h")
    region = str(scores["region"].values[0])
    systems = [str(name) for name in scores["system"].values]
    drawn, used = [], set()
    for field in fields:
        series = {index: values(scores, field, metric, system, region) for index, system in enumerate(systems)}
        series = {index: numbers for index, numbers in series.items() if np.isfinite(numbers).any()}
        # The climatology has neither a pattern of anomalies nor a size of them: flat lines at 0 that hide the rest.
        if metric in ("acc", "activity"):
            series = {index: numbers for index, numbers in series.items() if systems[index] != "climatology"}
        tick()
        if not series:
            continue
        used |= set(series)
        figure = curves(
            hours,
            series,
            title=field.label,
            units="" if metric in ("acc", "activity") else field.units,
            from_zero=metric == "rmse",
            lines={"acc": (0.6,), "bias": (0.0,), "activity": (1.0,)}.get(metric, ()),
            least_span=0.02 * _largest_rmse(scores, field, region) if metric == "bias" else 0.0,
        )
        description = f"{_SECTION_TITLES[metric]} of {field.label} against lead time"
        drawn.append(output.figure(figure, f"{metric}_{field.slug}", description))
    if not drawn:
        return ""
    where = "" if region == "global" else f" Region: {region}."
    note = " The thin line marks 0.6." if metric == "acc" else ""
    return page.section(
        metric,
        f"{_SECTION_TITLES[metric]} against lead time",
        page.paragraph(_EXPLAINED[metric] + note + where, kind="note"),
        page.key(systems) if used == set(range(len(systems))) else page.key(systems[: max(used) + 1]),
        page.panels(drawn),
    )


def _settings(scores: xr.Dataset, paths: dict[str, str]) -> str:
    hidden = {"formula", "created_by", "created"}
    attributes = {name: value for name, value in scores.attrs.items() if not name.startswith("definition_")}
    labels = {"source": "forecast", "init_times": "number of init times", "missing_in_truth": "values missing (truth)"}
    labels["missing_in_forecast"] = "values missing (forecast)"
    rows: list[tuple[str, object]] = [
        (labels.get(name, name.replace("_", " ")), value) for name, value in attributes.items() if name not in hidden
    ]
    rows += [("maps from " + name, path) for name, path in paths.items()]
    for name in ("formula", "created_by", "created"):
        if name in attributes:
            rows.append(({"formula": "conventions"}.get(name, name.replace("_", " ")), attributes[name]))
    return page.section("settings", "Settings and provenance", page.facts(rows))


def _explanations(scores: xr.Dataset) -> str:
    metrics = [str(name) for name in scores["metric"].values]
    names = {"rmse": "RMSE", "mse": "MSE", "mae": "MAE", "acc": "ACC"}
    rows = [(names.get(name, name.capitalize()), _EXPLAINED[name]) for name in metrics if name in _EXPLAINED]
    if reference_system(scores):
        rows.insert(0, ("Skill", _EXPLAINED["skill"]))
    rows += [
        (name.capitalize(), _SYSTEMS_EXPLAINED[name])
        for name in map(str, scores["system"].values)
        if name in _SYSTEMS_EXPLAINED
    ]
    return page.section("scores", "What the scores mean", page.definitions(rows))


def _page(scores: xr.Dataset, forecast: str | None, truth: str | None, output: ReportFolder, *, progress: bool) -> str:
    fields = list_fields(scores)
    output.rows(
        "scores",
        ["variable", "level", "region", "system", "metric", "lead_hours", "value"],
        _score_rows(scores, fields),
    )
    curve_fields = headline_fields(fields, _CURVE_FIELDS)
    map_fields = headline_fields([field for field in fields if "wind_vector" not in field.variable], _MAP_FIELDS)
    metrics = [metric for metric in _SECTION_TITLES if metric in scores["metric"].values]
    total = len(metrics) * len(curve_fields) + (2 * len(map_fields) if forecast else 0)
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(console=console, disable=not progress) as bar:
        task = bar.add_task("drawing the report", total=total)

        def tick() -> None:
            bar.advance(task)

        sections = {metric: _curve_section(scores, curve_fields, metric, output, tick) for metric in metrics}
        maps = map_section(map_fields, forecast, truth, output, tick) if forecast and truth else ""
        bar.update(task, completed=total)
    attributes = scores.attrs
    count = attributes.get("init_times", "")
    opening = (
        f"{count} forecasts that start from {format_date(attributes.get('first_init_time', '?'))} to "
        f"{format_date(attributes.get('last_init_time', '?'))}, out to {format_lead(scores['lead_time'].values[-1])}, on a grid "
        f"of {attributes.get('grid', '?')} points, each compared with what happened."
        if count
        else "Forecasts compared with what happened."
    )
    links = [("scorecard", "Scorecard")]
    links += [(metric, _SECTION_TITLES[metric]) for metric in metrics if sections[metric]]
    links += [("maps", "Maps")] if maps else []
    links += [("scores", "What the scores mean"), ("settings", "Settings")]
    less = len(fields) - len(curve_fields)
    note = (
        [
            page.paragraph(
                f"Curves are drawn for {len(curve_fields)} fields; the other {less} are in tables/scores.csv.",
                kind="note",
            )
        ]
        if less
        else []
    )
    body = [
        "<header><h1>How good are the forecasts?</h1>",
        page.paragraph(opening, kind="lead"),
        _tiles(scores, fields),
        page.navigation(links) + "</header>",
        _scorecards(scores, fields),
        *sections.values(),
        *note,
        maps,
        _explanations(scores),
        _settings(scores, {"forecast": forecast, "truth": truth} if forecast and truth else {}),
        "<footer>Beside this page: every figure as PNG in figures/, every number as CSV in tables/. "
        f"{page.escape(attributes.get('created_by', ''))}</footer>",
    ]
    return page.document("How good are the forecasts?", "\n".join(part for part in body if part))


def write_report(
    scores: str,
    output: str,
    *,
    forecast: str | None = None,
    truth: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> pathlib.Path:
    """Writes the report of a scoring run into a folder.

    Args:
        scores: the file that `eval.scoring.score` wrote.
        output: the folder to make: `index.html`, which needs nothing else; `figures/` of PNG; `tables/` of CSV.
        forecast: the forecast store, for maps; with `truth`.
        truth: the truth, for maps; with `forecast`. Its land_sea_mask, if it has one, draws the coasts.
        overwrite: whether to replace a report that stands there.
        progress: whether to show a bar on standard error.

    Returns:
        The path of `index.html`.

    Raises:
        UserError: the output exists, or is a folder that is not a report; or an input does not fit.
    """
    target = pathlib.Path(output)
    if (forecast is None) != (truth is None):
        raise UserError("maps need both the forecast and the truth", remedy="give both --forecast and --truth")
    if target.exists():
        if not overwrite:
            raise UserError("already exists", where=output, remedy="choose another output or add --overwrite")
        if not target.is_dir() or (any(target.iterdir()) and not (target / "index.html").exists()):
            raise UserError("exists and is not a report", where=output, remedy="choose another output")
    dataset = open_scores(scores)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    # Made beside its final place, so that it appears there whole or not at all.
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=f".{target.name}.") as temporary:
        folder = pathlib.Path(temporary) / "report"
        folder.mkdir()
        text = _page(dataset, forecast, truth, ReportFolder(folder), progress=progress)
        (folder / "index.html").write_text(text, encoding="utf-8")
        if target.exists():
            os.replace(target, pathlib.Path(temporary) / "replaced")
        shutil.move(folder, target)
    return target / "index.html"
