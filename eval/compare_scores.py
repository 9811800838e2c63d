"""Two files of scores held against each other: a scorecard of differences for the terminal.

The differences are paired: both files score the same init times, so the weather that both met cancels, and a block
bootstrap over the init times (see `eval.uncertainty`) tells which of them may be chance.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
import xarray as xr

from eval.metrics import convention_of, field_statistics, fields_of, mean_over_init_times, metrics_from_means
from eval.score_reading import STATIONS, SUMS_GROUP, open_scores, scored_at_stations_alone
from eval.scorecard import Field, card_leads, format_lead, list_fields, main_system
from eval.scores import score_named
from eval.uncertainty import CONFIDENCE, FEWEST_INIT_TIMES, STATISTICS, intervals_and_differences
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.errors import UserError
from weather_scnn.io.durations import parse_duration

_MOST_LEADS = 7
_USUAL_LEADS = np.array([6, 24, 48, 72, 120, 168, 240, 336], "timedelta64[h]")


@dataclasses.dataclass(frozen=True)
class ScoreDifference:
    """How the scores of a second file differ from those of a first.

    Attributes:
        names: of first and second.
        metric: compared.
        region: compared.
        fields: rows: all that are in both files.
        leads: columns, timedelta64[ns].
        scores: (2, field, lead) of first and second.
        gain: (field, lead): how much nearer to the best value the second is; NaN where unknown.
        sure: (field, lead): whether the interval of the difference leaves out 0; None for too few init times.
        init_times: how many.
    """

    names: tuple[str, str]
    metric: str
    region: str
    fields: list[Field]
    leads: np.ndarray
    scores: np.ndarray
    gain: np.ndarray
    sure: np.ndarray | None
    init_times: int

    @property
    def relative(self) -> bool:
        """Whether cells are per cent of the first file's score rather than differences."""
        return score_named(self.metric, {}).relative


def _main_system(sums: xr.Dataset, wanted: str | None, path: str) -> str:
    systems = [str(name) for name in sums["system"].values]
    if wanted is None:
        return main_system(systems)
    if wanted not in systems:
        raise UserError(f"has no system {wanted!r}", where=path, remedy="choose from " + ", ".join(systems))
    return wanted


def _names(paths: tuple[str, str], systems: Sequence[str]) -> tuple[str, str]:
    """Systems where these differ, else file names, else what tells their folders apart."""
    if systems[0] != systems[1]:
        return systems[0], systems[1]
    stems = [pathlib.Path(path).stem for path in paths]
    if stems[0] == stems[1]:
        stems = [pathlib.Path(path).absolute().parent.name for path in paths]
    return (stems[0], stems[1]) if stems[0] != stems[1] else ("first", "second")


def _require_alike(one: xr.Dataset, other: xr.Dataset, paths: tuple[str, str]) -> None:
    """Raises UserError where the two files do not score the same."""
    where = " and ".join(paths)
    for name in ("convention", "grid"):
        values = [str(sums.attrs.get(name, "")) for sums in (one, other)]
        if values[0] != values[1] and all(values):
            raise UserError(
                f"the {name}s differ: {values[0]} and {values[1]}", where=where, remedy=f"score both with one --{name}"
            )
    times = one["init_time"].values, other["init_time"].values
    if not np.array_equal(times[0], times[1]):
        shared = np.intersect1d(times[0], times[1])
        spans = [
            f"{part.size} from {np.datetime_as_string(part.min(), 'h')} to {np.datetime_as_string(part.max(), 'h')}"
            for part in times
        ]
        remedy = "score both on the same init times with --init"
        if not shared.size:
            remedy = "score forecasts that start at the same times"
        raise UserError(
            f"the init times differ ({spans[0]}, against {spans[1]}; {shared.size} shared)", where=where, remedy=remedy
        )


def _shared_leads(one: xr.Dataset, other: xr.Dataset, wanted: Sequence[str] | None, where: str) -> np.ndarray:
    shared = np.intersect1d(one["lead_time"].values, other["lead_time"].values)
    if not shared.size:
        raise UserError("no lead time is in both", where=where, remedy="score the same lead times")
    if wanted is None:
        usual = shared[np.isin(shared, _USUAL_LEADS)]
        chosen = usual if usual.size >= 4 else shared[card_leads(shared)]
        return chosen[np.unique(np.linspace(0, chosen.size - 1, min(chosen.size, _MOST_LEADS)).round().astype(int))]
    leads = []
    for text in wanted:
        lead = parse_duration(text, "the lead time")
        if lead not in shared:
            raise UserError(
                f"no lead time {text} is in both",
                where=where,
                remedy="choose from " + ", ".join(map(format_lead, shared)),
            )
        leads.append(lead)
    return np.array(leads, "timedelta64[ns]")


def compare_scores(
    first: str,
    second: str,
    *,
    metric: str = "rmse",
    region: str | None = None,
    system: str | None = None,
    leads: Sequence[str] | None = None,
    stations: bool = False,
) -> ScoreDifference:
    """Compares a system of one file with a system of another.

    Args:
        first, second: files that `eval.scoring.score` wrote.
        metric: a score of both.
        region: a region of both; the first they share if None.
        system: its name in both files, or `A,B`; the first that is no baseline if None.
        leads: such as 24h and 5d; about seven of those in both if None.
        stations: whether to compare scores at stations; so it is where one of the files holds no others.

    Raises:
        UserError: the files score other init times, conventions, grids, lead times or metrics, or share no field.
    """
    paths, where = (first, second), f"{first} and {second}"
    stations |= any(scored_at_stations_alone(path) for path in paths)
    root = STATIONS if stations else "/"
    sums = [open_scores(path, group=f"{root}/{SUMS_GROUP}".lstrip("/")) for path in paths]
    _require_alike(sums[0], sums[1], paths)
    asked = (system or "").split(",")
    wanted = [part.strip() or None for part in (asked if len(asked) == 2 else asked[:1] * 2)]
    systems = [_main_system(part, name, path) for part, name, path in zip(sums, wanted, paths)]
    regions = [name for name in map(str, sums[0]["region"].values) if name in sums[1]["region"].values]
    if (region is not None and region not in regions) or not regions:
        named = "no region" if region is None else f"no region {region!r}"
        raise UserError(
            f"{named} is in both", where=where, remedy="choose from " + (", ".join(regions) or "scores of one region")
        )
    chosen = region or regions[0]
    times = _shared_leads(sums[0], sums[1], leads, where)
    parts = [part.sel(region=[chosen], lead_time=times) for part in sums]
    units = open_scores(first, group=root)
    fields = [
        field
        for field in list_fields(units)
        if field.variable in fields_of(sums[1]) and (field.level is None or field.level in sums[1]["level"].values)
    ]
    if not fields:
        raise UserError("no field is in both", where=where, remedy="score the same variables and levels")
    shape = (len(fields), times.size)
    scores, lower, upper = np.full((2, *shape), np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    known: set[str] = set()
    for variable in dict.fromkeys(field.variable for field in fields):
        rows = [index for index, field in enumerate(fields) if field.variable == variable]
        levels = [fields[index].level for index in rows]
        values, bounds, metrics = _of_variable(parts, systems, variable, levels, metric)
        known |= metrics
        if values is not None:
            scores[:, rows] = values
            lower[rows], upper[rows] = bounds
    if metric not in known:
        raise UserError(
            f"no score {metric!r} is in both", where=where, remedy="choose from " + ", ".join(sorted(known))
        )
    count = sums[0].sizes["init_time"]
    return ScoreDifference(
        _names(paths, systems), metric, chosen, fields, times, scores, _gain(metric, scores),
        (lower > 0) | (upper < 0) if count >= FEWEST_INIT_TIMES else None, count,
    )  # fmt: skip


def _of_variable(
    parts: Sequence[xr.Dataset], systems: Sequence[str], variable: str, levels: Sequence[Level | None], metric: str
) -> tuple[np.ndarray | None, tuple[np.ndarray, np.ndarray], set[str]]:
    """Scores (2, level, lead), bounds of second minus first (level, lead), and the metrics that there are."""
    statistics = []
    for part, system in zip(parts, systems):
        at = part if levels[0] is None else part.sel(level=list(levels))
        number = part["system"].values.tolist().index(system)  # chosen last: a skill needs its reference beside it
        found = field_statistics(at, variable)
        statistics.append({name: values[:, [number]][..., 0] for name, values in found.items()})
    shared = [name for name in statistics[0] if name in statistics[1]]
    joined = {name: np.concatenate([one[name] for one in statistics], axis=1) for name in shared}
    _, differences = intervals_and_differences(joined, convention=convention_of(parts[0]))
    observed = metrics_from_means(mean_over_init_times(joined), convention_of(parts[0]))
    nothing = np.full(0, np.nan)
    if metric not in observed:
        return None, (nothing, nothing), set(observed)
    # (system, lead[, level]) → (system, level, lead)
    values = observed[metric] if levels[0] is not None else observed[metric][..., None]
    change = differences[metric][:, 1, 0]
    change = change if levels[0] is not None else change[..., None]
    lower, upper = (change[STATISTICS.index(bound)].T for bound in ("lower", "upper"))
    return np.moveaxis(values, -1, 1), (lower, upper), set(observed)


def _gain(metric: str, scores: np.ndarray) -> np.ndarray:
    """How much nearer to the best value the second is than the first; NaN for a metric without one."""
    best = score_named(metric, {}).best
    distance = np.abs(scores - (np.nan if best is None else best))
    return distance[0] - distance[1]


def comparison_table(found: ScoreDifference) -> rich.console.Group:
    """The scorecard: fields × lead times, green where the second is better, dim where the difference may be chance."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("", no_wrap=True)
    for lead in found.leads:
        table.add_column(format_lead(lead), justify="right", no_wrap=True)
    for row, field in enumerate(found.fields):
        if np.isfinite(found.scores[:, row]).any():
            name = field.short if len(field.short) <= 16 else field.short[:13] + "..."
            table.add_row(name, *(_cell(found, row, column) for column in range(found.leads.size)))
    title = score_named(found.metric, {}).title
    what = f"Change of the {title}, per cent" if found.relative else f"Difference in {title.lower()}"
    region = "" if found.region == "global" else f", {found.region}"
    head = rich.text.Text(f"{what}: {found.names[1]} against {found.names[0]}{region}", style="bold")
    return rich.console.Group(head, table, *map(rich.text.Text, _notes(found)))


def _cell(found: ScoreDifference, row: int, column: int) -> rich.text.Text:
    one, other = found.scores[:, row, column]
    if not (np.isfinite(one) and np.isfinite(other)):
        return rich.text.Text("–", style="dim")
    change = 100.0 * (other - one) / abs(one) if found.relative and one else other - one
    text = f"{change:+.1f}" if found.relative else f"{change:+.3f}" if abs(change) < 10 else f"{change:+.1f}"
    sure = found.sure is not None and bool(found.sure[row, column])
    gain = found.gain[row, column]
    colour = "" if not np.isfinite(gain) or gain == 0 else "green" if gain > 0 else "red"
    style = f"bold {colour}" if sure else f"dim {colour}"
    return rich.text.Text(text.replace("-", "−") + ("*" if sure else " "), style=style.strip())


def _notes(found: ScoreDifference) -> list[str]:
    """What to read from the scorecard."""
    better, worse = found.gain > 0, found.gain < 0
    notes = []
    without = [field.short for row, field in enumerate(found.fields) if not np.isfinite(found.scores[:, row]).any()]
    if without:
        notes.append(f"Left out, as they have no {found.metric}: {', '.join(without)}.")
    if np.isfinite(found.gain).any():
        text = f"{found.names[1]} is better (green) in {better.sum()} of {np.isfinite(found.gain).sum()} cells"
        if found.sure is not None:
            text += f", surely in {(better & found.sure).sum()}; surely worse (red) in {(worse & found.sure).sum()}"
        notes.append(text + ".")
    if found.sure is None:
        notes.append(f"{found.init_times} init times are too few to tell what may be chance.")
    else:
        share = f"{100 * CONFIDENCE:.0f} %"
        notes.append(
            f"* surely: the {share} interval of the paired difference leaves out 0 ({found.init_times} init times)."
        )
    return notes
