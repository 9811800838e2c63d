"""Events that scores are asked for: values beyond a quantile of the climatology, or beyond a value; and neighbourhoods."""

import dataclasses
import logging
import re
from collections.abc import Collection, Sequence

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import find
from weather_scnn.catalogue.units import known_conversion
from weather_scnn.errors import UserError

_log = logging.getLogger(__name__)
#: What stands behind the name of an event's score: `0.95`, `above_303.15`, `below_273.15`.
TAG = r"(?:0\.\d+|(?:above|below)_-?\d[\d.e+-]*)"
_VALUE = re.compile(
    r"(?P<name>[A-Za-z0-9_]+?)(?:@(?P<level>\d+))?\s*(?P<side>[<>])\s*(?P<value>-?\d+\.?\d*(?:e[+-]?\d+)?)\s*(?P<unit>.*)"
)
_DISTANCE = re.compile(r"(\d+(?:\.\d+)?)\s*km")
_HALF_WAY = 20_015.0  # km to the antipodes


@dataclasses.dataclass(frozen=True)
class Event:
    """Values above or below a threshold.

    Attributes:
        tag: in names of scores.
        above: whether values greater than the threshold are meant; else those that are less.
        quantile: of the climatology at valid time and place; None for a value.
        variable: whose value; None of a quantile, which holds for all fields.
        level: hPa; None for all.
        threshold: in the catalogue's unit.
    """

    tag: str
    above: bool
    quantile: float | None = None
    variable: str | None = None
    level: int | None = None
    threshold: float = 0.0

    def of_field(self, field: str) -> bool:
        """Whether a field can have it."""
        return self.variable in (None, field)

    @property
    def description(self) -> str:
        """For people, such as `above the 0.95 quantile of the climatology`."""
        side = "above" if self.above else "below"
        if self.quantile is not None:
            return f"{side} the {self.quantile:g} quantile of the climatology"
        return f"{side} {self.tag.split('_', 1)[1]}"


def event_of(text: str) -> Event:
    """An event as the command line has it: `0.95` is above that quantile, `0.05` (less than a half) below it; or a variable
    with its value, as `2m_temperature<0degC`, `10m_wind_speed>17`, `geopotential@500>57000`, SI where it says no unit.

    Raises:
        UserError: it reads as neither.

    Example:
        >>> event_of("0.05").above, event_of("t2m < 0 degC").tag
        (False, 'below_273.15')
    """
    if re.fullmatch(r"0?\.\d+", text):
        quantile = float(text)
        if 0 < quantile < 1:
            return Event(f"{quantile:g}", quantile >= 0.5, quantile)
    match = _VALUE.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"--events names {text!r}, which is neither a quantile nor a value",
            remedy="write quantiles as 0.95,0.05 or values as '2m_temperature<0degC'",
        )
    variable = find(match["name"])
    unit = match["unit"].strip() or variable.unit
    factors = known_conversion(unit, variable.unit)
    if factors is None:
        raise UserError(
            f"--events has {variable.name} in {unit!r}",
            remedy=f"give it in {variable.unit} or in units of the same kind",
        )
    threshold = float(f"{float(match['value']) * factors[0] + factors[1]:.9g}")
    above = match["side"] == ">"
    level = int(match["level"]) if match["level"] else None
    return Event(f"{'above' if above else 'below'}_{threshold:g}", above, None, variable.name, level, threshold)


def radius_of(text: str) -> float:
    """Kilometres of a neighbourhood written as 500km.

    Raises:
        UserError: it is no such distance.
    """
    match = _DISTANCE.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) <= _HALF_WAY:
        raise UserError(f"--neighbourhoods names {text!r}, which is no distance", remedy="write them as 500km,1000km")
    return float(match[1])


def require_events(texts: Sequence[str], names: Collection[str], climatology: xr.Dataset | None, where: str) -> None:
    """Refuses events that no field can have; fields whose quantiles are not known are told.

    Args:
        texts: the events.
        names: scored variables.
        climatology: with `<name>_quantile` for events by quantiles; None without one.
        where: its path.

    Raises:
        UserError: no field has an event.
    """
    events = [event_of(text) for text in texts]
    quantiles = [event.quantile for event in events if event.quantile is not None]
    lacking = [name for name in names if not holds_quantiles(climatology, name, quantiles)] if quantiles else []
    listed = ",".join(f"{quantile:g}" for quantile in sorted(quantiles))
    if lacking and len(lacking) == len(names):
        raise UserError(
            f"events by quantiles need a climatology with the quantiles {listed}",
            where=where,
            remedy=f"make it with `weather-scnn climatology --quantiles {listed}` and give it as --climatology",
        )
    if lacking:
        _log.warning("the climatology has no quantiles of %s: no scores of events by quantiles", ", ".join(lacking))
    for text, event in zip(texts, events):
        if event.variable is not None and event.variable not in names:
            raise UserError(
                f"--events names {text!r}, and {event.variable} is not scored", remedy="choose from " + ", ".join(names)
            )


def holds_quantiles(climatology: xr.Dataset | None, name: str, wanted: Sequence[float]) -> bool:
    """Whether a climatology has quantiles of a variable from which these follow."""
    if climatology is None or f"{name}_quantile" not in climatology:
        return False
    known = np.sort(climatology["quantile"].values)
    return bool(known[0] <= min(wanted) + 1e-6 and known[-1] >= max(wanted) - 1e-6)
