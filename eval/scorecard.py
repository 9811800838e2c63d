"""Reading scores: which fields there are, what they are called, and their skill against a reference."""

import dataclasses
import datetime
import math
from collections.abc import Sequence

import numpy as np
import rich.table
import xarray as xr

from eval.baselines import BASELINES
from weather_scnn.catalogue.display import Shown, shown
from weather_scnn.catalogue.level_numbers import Level, level_number
from weather_scnn.io.durations import parse_duration

# The order in which forecasters look at fields; others follow by name.
_VARIABLE_ORDER = (
    "geopotential",
    "temperature",
    "wind_vector",
    "u_component_of_wind",
    "v_component_of_wind",
    "specific_humidity",
    "vertical_velocity",
    "2m_temperature",
    "10m_wind_vector",
    "10m_u_component_of_wind",
    "10m_v_component_of_wind",
    "surface_pressure",
    "mean_sea_level_pressure",
)
_SHORT = {
    "geopotential": "Z",
    "temperature": "T",
    "u_component_of_wind": "U",
    "v_component_of_wind": "V",
    "wind_vector": "Wind",
    "specific_humidity": "Q",
    "vertical_velocity": "ω",
    "2m_temperature": "T2M",
    "10m_u_component_of_wind": "U10",
    "10m_v_component_of_wind": "V10",
    "10m_wind_vector": "Wind10",
    "surface_pressure": "SP",
    "mean_sea_level_pressure": "MSL",
}
_LONG = {
    "u_component_of_wind": "Eastward wind",
    "v_component_of_wind": "Northward wind",
    "wind_vector": "Wind vector",
    "2m_temperature": "2 m temperature",
    "10m_wind_speed": "10 m wind speed",
    "10m_u_component_of_wind": "10 m eastward wind",
    "10m_v_component_of_wind": "10 m northward wind",
    "10m_wind_vector": "10 m wind vector",
}

# Smaller units of mass, by powers of ten.
_SMALLER = {"kg kg⁻¹": {-3: "g kg⁻¹", -6: "mg kg⁻¹", -9: "µg kg⁻¹"}, "g kg⁻¹": {-3: "mg kg⁻¹", -6: "µg kg⁻¹"}}
# Columns of a table in the terminal.
_MOST_SYSTEMS, _TERMINAL = 6, 80
_CARD_LEADS = 10


@dataclasses.dataclass(frozen=True)
class Field:
    """One scored field: a variable, on one level if it has levels."""

    variable: str
    level: Level | None
    units: str = ""

    @property
    def label(self) -> str:
        """For people, such as `Geopotential 500 hPa`."""
        name = _LONG.get(self.variable, self.variable.replace("_", " ").capitalize())
        return name if self.level is None else f"{name} {self.level} hPa"

    @property
    def short(self) -> str:
        """The field's usual symbol, such as `Z500`; the label where it has none."""
        if self.variable not in _SHORT:
            return self.label
        return _SHORT[self.variable] + ("" if self.level is None else str(self.level))

    @property
    def slug(self) -> str:
        """For file names."""
        return self.variable + ("" if self.level is None else f"_{self.level}")

    @property
    def shown(self) -> Shown:
        """Units in which people read it."""
        return shown(self.variable, self.units)

    def scaled_errors(self, values: np.ndarray, kind: str = "field") -> tuple[float, str]:
        """A factor that brings errors, or their squares, to readable units, and these; see `scaled_units`.

        Args:
            values: in the units of the file.
            kind: `field`, `squared`, or `none` of a score without units.
        """
        power = {"none": 0, "field": 1, "squared": 2}[kind]
        factor, units = self.shown.scale**power, self.shown.difference_units if power else ""
        units = f"({units})²" if power == 2 and units else units
        further, units = scaled_units(values * factor, units)
        return factor * further, units

    def of(self, dataset: xr.Dataset) -> xr.DataArray:
        """This field's array in a dataset of scores, a forecast or the truth."""
        array = dataset[self.variable]
        return array if self.level is None or "level" not in array.dims else array.sel(level=self.level)


def pretty_units(units: str) -> str:
    """`m**2 s**-2` as `m² s⁻²`."""
    powers = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    words = []
    for word in units.replace("**", "^").split():
        base, _, power = word.partition("^")
        if not power and base[-1:].isdigit() and base.rstrip("-0123456789").isalpha():
            power = base[len(base.rstrip("-0123456789")) :]
            base = base[: -len(power)]
        words.append(base + power.translate(powers))
    return " ".join(words)


def list_fields(scores: xr.Dataset) -> list[Field]:
    """All fields that are scored anywhere, the most looked-at variables first, levels from the top down."""

    def order(name: str) -> tuple[int, str]:
        return (_VARIABLE_ORDER.index(name) if name in _VARIABLE_ORDER else len(_VARIABLE_ORDER), name)

    fields = []
    for name in sorted(map(str, scores.data_vars), key=order):
        units = pretty_units(str(scores[name].attrs.get("units", "")))
        levels: Sequence[Level | None] = (None,)
        if "level" in scores[name].dims:
            array = scores[name].transpose("level", ...).values
            # Fields on levels of their own share an axis: what one has not got is scored nowhere.
            held = np.isfinite(array).any(axis=tuple(range(1, array.ndim)))
            levels = sorted(map(level_number, scores["level"].values[held if held.any() else slice(None)]))
        fields += [Field(name, level, units) for level in levels]
    return fields


def headline_fields(fields: Sequence[Field], count: int, *, first: Sequence[str] = ()) -> list[Field]:
    """At most `count` fields, one level of every variable first, then further levels; in the order of `fields`.

    Args:
        fields: to choose from.
        count: how many at most.
        first: variables that come before the others.
    """

    def rank(field: Field) -> tuple[int, int, int]:
        siblings: list[Level | None] = [other.level for other in fields if other.variable == field.variable]
        wanted = first.index(field.variable) if field.variable in first else len(first)
        if field.level is None:
            return 0, wanted, fields.index(field)
        # The headline levels of WeatherBench 2 first.
        preferred: list[Level] = [500, 850, 700, 250] if field.variable == "geopotential" else [850, 500, 700, 250]
        ranked: list[Level] = [level for level in preferred if level in siblings]
        ranked += [level for level in siblings if level is not None and level not in ranked]
        return ranked.index(field.level), wanted, fields.index(field)

    chosen = sorted(fields, key=rank)[:count]
    return [field for field in fields if field in chosen]


def values(scores: xr.Dataset, field: Field, metric: str, system: str, region: str, **others: str) -> np.ndarray:
    """One score against lead time, shape (lead_time,); NaN where the file has it not.

    Args:
        scores: the root of a file of scores, or its intervals or differences.
        field, metric, system, region: which score.
        others: labels of further dimensions, such as bound="lower".
    """
    array = scores.variables[field.variable]
    wanted = {"metric": metric, "system": system, "region": region, "level": field.level, **others}
    position: list[int | slice] = []
    # Plain indexing: a report asks for thousands of curves, and label look-up would take most of its time.
    for name in map(str, array.dims):
        if name == "lead_time":
            position.append(slice(None))
            continue
        labels = scores.variables[name].values.tolist()
        if wanted[name] not in labels:
            return np.full(scores.sizes["lead_time"], np.nan)
        position.append(labels.index(wanted[name]))
    return array.values[tuple(position)].astype(np.float64)


def _card_positions(count: int) -> list[int]:
    """Lead times that a scorecard shows: all, or about ten spread evenly, always with the first and the last."""
    if count <= _CARD_LEADS:
        return list(range(count))
    return sorted({round(position) for position in np.linspace(0, count - 1, _CARD_LEADS)})


def card_leads(leads: np.ndarray) -> list[int]:
    """As `_card_positions`, but whole days where the forecast is long enough to have several."""
    days = [index for index, lead in enumerate(leads) if lead % np.timedelta64(24, "h") == np.timedelta64(0)]
    if len(leads) <= _CARD_LEADS or len(days) < 4:
        return _card_positions(len(leads))
    return sorted({0, *(days[position] for position in _card_positions(len(days)))})


def main_system(systems: Sequence[str], reference: str | None = None) -> str:
    """The system whose forecasts are looked at: the first that others are not merely held against."""
    return next((name for name in systems if name not in (*BASELINES, reference)), systems[0])


def reference_system(scores: xr.Dataset) -> str | None:
    """The system that skill is measured against: persistence, else climatology, else none."""
    systems = list(scores["system"].values)
    return next((name for name in ("persistence", "climatology") if name in systems), None)


def skill(scores: xr.Dataset, field: Field, system: str, reference: str, region: str) -> np.ndarray:
    """1 − RMSE / RMSE of the reference, against lead time: 1 is perfect, 0 no better, negative worse."""
    ours, theirs = (values(scores, field, "rmse", name, region) for name in (system, reference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(theirs > 0, 1.0 - ours / theirs, np.nan)


def format_number(value: float) -> str:
    """Three significant digits without exponents where they would only be in the way."""
    if not np.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def scaled_units(values: np.ndarray, units: str) -> tuple[float, str]:
    """A factor that brings very small or large values to a readable size, and the units they then have.

    Args:
        values: all that are shown in the same units; NaN where unknown.
        units: theirs.
    """
    sizes = np.abs(values[np.isfinite(values)])
    largest = float(sizes.max()) if sizes.size else 0.0
    if largest == 0 or 0.01 <= largest < 1e5:
        return 1.0, units
    # Tenths of a unit are as readable: 0.7 g kg⁻¹ rather than 700 mg kg⁻¹.
    power = 3 * math.floor((math.log10(largest) + (largest < 1)) / 3)
    smaller = _SMALLER.get(units, {}).get(power)
    return 10.0**-power, smaller or pretty_units(f"10**{power} {units}").strip()


def format_lead(lead: np.timedelta64) -> str:
    """`6 h`, `36 h`, `3 d`."""
    hours = float(lead / np.timedelta64(1, "h"))
    if hours >= 48 and hours % 24 == 0:
        return f"{hours / 24:.0f} d"
    return f"{hours:g} h"


def format_date(text: str) -> str:
    """`2021-01-10T00` as `10 January 2021, 00 UTC`."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time.day} {time:%B %Y}, {time:%H} UTC"


def nearest_lead(scores: xr.Dataset, lead: str) -> int:
    """Position of the lead time closest to `lead`, such as "24h".

    Raises:
        UserError: `lead` is not a duration.
    """
    wanted = parse_duration(lead, "the lead time")
    return int(np.abs(scores["lead_time"].values - wanted).argmin())


def summary_table(scores: xr.Dataset, lead: str = "24h") -> rich.table.Table:
    """RMSE of every field and system at one lead time, with the first system's skill against persistence.

    Args:
        scores: as `eval.scoring.score` returns.
        lead: the lead time; the nearest there is, which the title names, stands in for one that is absent.
    """
    position = nearest_lead(scores, lead)
    region = "global" if "global" in scores["region"].values else str(scores["region"].values[0])
    systems = [str(name) for name in scores["system"].values]
    reference = reference_system(scores)
    where = "" if region == "global" else f", {region}"
    title = f"RMSE at {format_lead(scores['lead_time'].values[position])}{where}"
    notes = [f"skill: the part of the RMSE of {reference} that the {systems[0]} removes"] if reference else []
    if len(systems) > _MOST_SYSTEMS:
        notes.append(f"{len(systems) - _MOST_SYSTEMS} more systems in the file")
    table = rich.table.Table(title=title, caption="; ".join(notes) or None)
    # Narrow enough for a terminal of 80 columns: symbols in place of names where there are many systems.
    labels = [f"{field.label} {field.units}" for field in list_fields(scores)]
    widths = [max(map(len, labels), default=0), *(max(7, len(name)) for name in systems[:_MOST_SYSTEMS]), 4]
    symbols = sum(widths) + 3 * len(widths) + 1 > _TERMINAL
    table.add_column("field", no_wrap=True)
    for system in systems[:_MOST_SYSTEMS]:
        table.add_column(system, justify="right", overflow="fold")
    if reference is not None:
        table.add_column("skill", justify="right", no_wrap=True)
    for field in list_fields(scores):
        cells = [
            format_number(values(scores, field, "rmse", system, region)[position]) for system in systems[:_MOST_SYSTEMS]
        ]
        if reference is not None:
            gain = skill(scores, field, systems[0], reference, region)[position]
            style = "green" if gain > 0 else "red"
            cells.append(f"[{style}]{100 * gain:+.0f}%[/]" if np.isfinite(gain) else "–")
        table.add_row(f"{field.short if symbols else field.label} [dim]{field.units}[/]", *cells)
    return table
