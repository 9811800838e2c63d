"""Whether states and forecasts can be weather, by the catalogue's ranges; what is never negative is clipped and counted."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool

from weather_scnn.catalogue.field_names import field_in_words
from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.catalogue.naming import Variable, lookup
from weather_scnn.catalogue.plausibility import Extremes, implausible
from weather_scnn.errors import UserError
from weather_scnn.training.channels import Channels

# Amounts are standardised and brought back in float32: an exact zero comes back as this part of the range at most.
_ROUNDING = 1e-6
# A network overshoots the bounds of what cannot be negative, most of all those of fractions such as cloud cover; that
# is clipped, and no sign that it runs away. Parts of the range.
_OVERSHOOT, _OVERSHOOT_OF_FRACTIONS = 0.05, 0.5
# Forecasts that the attributes tell of one by one: every reader of a store loads them.
_LISTED = 100


@dataclasses.dataclass(frozen=True)
class Fault:
    """The first value of a series of states that cannot be.

    Attributes:
        position: in the series.
        name: of the variable.
        level: hPa; None without.
        what: the values, beside what is plausible.
    """

    position: int
    name: str
    level: Level | None
    what: str

    @property
    def field(self) -> str:
        """Variable and level, for messages."""
        return field_in_words(self.name, self.level)


def faults(fields: xr.Dataset, channels: Channels, area: np.ndarray, *, forecast: bool) -> dict[int, Fault]:
    """The first state that cannot be of every series that has one.

    Args:
        fields: physical fields, (time[, realization], prediction_timedelta[, level], latitude, longitude); a series
            runs along the last of the first three, and the others count them.
        channels: which fields there are.
        area: weights of the rows, of mean 1.
        forecast: whether a network made them, which may overshoot the bounds of amounts and fractions.

    Returns:
        Faults by number of the series.
    """
    found: dict[int, Fault] = {}
    layers = [(name, level, name in channels.masked) for name, level in channels.scalars]
    for *pair, level in channels.winds:
        layers += [(name, level, any(each in channels.masked for each in pair)) for name in pair]
    for name, level, gaps in layers:
        array = fields[name] if level is None else fields[name].isel(level=channels.levels.index(level))
        values = array.values.reshape(-1, *array.shape[-3:])
        flat = values.reshape(*values.shape[:2], -1)
        with np.errstate(invalid="ignore"):
            # fmin passes over missing values, which only a field that may have gaps is allowed.
            lowest, highest = (np.fmin, np.fmax) if gaps else (np.minimum, np.maximum)
            low, high = (kind.reduce(flat, axis=-1).astype(np.float64) for kind in (lowest, highest))
            mean = np.einsum("bkyx,y->bk", values, area) / flat.shape[-1] if name == "geopotential" else low
        note_faults(found, name, level, low, high, mean, forecast=forecast)
    return found


def note_faults(
    found: dict[int, Fault],
    name: str,
    level: Level | None,
    low: np.ndarray,
    high: np.ndarray,
    mean: np.ndarray,
    *,
    forecast: bool,
) -> None:
    """Notes the first states of series that one field makes impossible, where no earlier one is noted.

    Args:
        found: faults by number of the series, added to.
        name, level: of the field.
        low, high, mean: extremes, and area mean, which only geopotential needs, of the states, (series, position).
        forecast: see `faults`.
    """
    low, high = _tolerated(lookup(name), low, high, forecast=forecast)
    wrong = ~(np.isfinite(low) & np.isfinite(high))
    if not wrong.any() and not _what(
        name, level, *(float(each) for each in (low.min(), high.max(), mean.min(), mean.max()))
    ):
        return
    for series, position in np.ndindex(low.shape):
        if series in found and found[series].position <= position:
            continue
        at = series, position
        what = "values that are not finite"
        if not wrong[at]:
            what = _what(name, level, float(low[at]), float(high[at]), float(mean[at]))
        if what:
            found[series] = Fault(position, name, level, what)


def _tolerated(
    variable: Variable | None, low: np.ndarray, high: np.ndarray, *, forecast: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Extremes with what lies little beyond the bounds of amounts and fractions brought back to them."""
    if variable is None or not variable.never_negative:
        return low, high
    fraction, top = variable.unit == "1", variable.plausible[1]
    slack = _ROUNDING if not forecast else _OVERSHOOT_OF_FRACTIONS if fraction else _OVERSHOOT
    low = np.where((low < 0) & (low >= -slack * top), 0.0, low)
    return low, np.where((high > top) & (high <= (1 + slack) * top), top, high) if fraction else high


def _what(name: str, level: Level | None, low: float, high: float, *means: float) -> str:
    """What the catalogue finds wrong."""
    levels = () if level is None else (float(level),) * len(means)
    return implausible(name, Extremes(low, high, levels, means if levels else ()))


@dataclasses.dataclass
class Clipped:
    """Negative values set to zero: by variable their number, the number of all, and their sum."""

    counts: dict[str, tuple[int, int, float]] = dataclasses.field(default_factory=dict)

    def clip(self, fields: xr.Dataset) -> xr.Dataset:
        """The fields without negative values where the catalogue says that there are none."""
        changed = {}
        for name, array in fields.data_vars.items():
            variable = lookup(str(name))
            if variable is None or not variable.never_negative:
                continue
            values = array.values
            negative = values < 0
            self.add(
                str(name),
                int(negative.sum()),
                int(np.isfinite(values).sum()),
                float(values[negative].sum(dtype=np.float64)),
            )
            if negative.any():
                changed[name] = array.copy(data=np.where(negative, np.float32(0), values))
        return fields.assign(changed)

    def add(self, name: str, negative: int, values: int, total: float) -> None:
        """Adds what was found of one variable."""
        before = self.counts.get(name, (0, 0, 0.0))
        self.counts[name] = (before[0] + negative, before[1] + values, before[2] + total)

    def describe(self) -> dict[str, dict[str, float]]:
        """Count, share and sum of each variable that had negative values."""
        return {
            name: {"count": negative, "share": negative / values, "sum": total}
            for name, (negative, values, total) in self.counts.items()
            if negative
        }


@dataclasses.dataclass(frozen=True)
class Stop:
    """Where one forecast leaves what is plausible.

    Attributes:
        initial_time: ISO, to the minute.
        member: number; None for a single forecast.
        lead_hours: of the first state that is not plausible; 0 is the perturbed initial state.
        field: that is not, with its level.
        what: its values, beside what is plausible.
    """

    initial_time: str
    member: int | None
    lead_hours: float
    field: str
    what: str

    def __str__(self) -> str:
        member = "" if self.member is None else f" (member {self.member})"
        state = f"at lead {self.lead_hours:g} h of the forecast from"
        if not self.lead_hours:
            state = "in the perturbed initial state of"
        return f"{self.field} is implausible, {self.what}, {state} {self.initial_time}{member}"


@dataclasses.dataclass
class Outcome:
    """What is told of the forecasts of a batch.

    Attributes:
        stops: first state of each forecast that is not plausible, by the forecast's place in the batch.
        clipped: negative values set to zero.
    """

    stops: dict[int, Stop] = dataclasses.field(default_factory=dict)
    clipped: Clipped = dataclasses.field(default_factory=Clipped)

    def to_json(self) -> bytes:
        """For the record of the batch."""
        stops = [dataclasses.asdict(stop) for stop in self.stops.values()]
        return json.dumps({"stops": stops, "clipped": self.clipped.counts}).encode()

    @classmethod
    def together(cls, records: Iterable[bytes]) -> "Outcome":
        """Of all batches; stops in order of initial time and member."""
        joined, stops = cls(), []
        for record in records:
            found = json.loads(record)
            stops += [Stop(**each) for each in found["stops"]]
            for name, counts in found["clipped"].items():
                joined.clipped.add(name, *counts)
        stops.sort(key=lambda stop: (stop.initial_time, stop.member or 0))
        joined.stops = dict(enumerate(stops))
        return joined

    def lines(self, *, kept: bool) -> list[str]:
        """What a user is told beside an error."""
        told = [
            f"{name}: {each['count']:.0f} values below zero, {each['share']:.2g} of all, {each['sum']:.3g} in sum, are "
            "written as 0"
            for name, each in self.clipped.describe().items()
        ]
        if kept and self.stops:
            first, more = next(iter(self.stops.values())), len(self.stops) - 1
            others = f"; so {'are' if more > 1 else 'is'} {more} more forecast{'s' * (more > 1)}" if more else ""
            told.append(f"{first}{others}")
        return told

    def error(self, path: str) -> UserError:
        """Of forecasts that stopped."""
        first, more = next(iter(self.stops.values())), len(self.stops) - 1
        others = f"; {more} more forecast{'s' * (more > 1)} stopped" if more else ""
        mend = "train longer or with rollouts of more steps" if first.lead_hours else "give a smaller --amplitude"
        return UserError(
            f"{first}, which stops there{others}",
            where=path,
            remedy=f"what came before and the other forecasts are kept; {mend}, or add --allow-implausible --overwrite to "
            "go on",
        )

    def attributes(self, *, kept: bool) -> dict[str, Any]:
        """Attributes of the store, in JSON; `kept` says that implausible states were written all the same."""
        told: dict[str, Any] = {}
        if self.stops:
            name = "implausible" if kept else "stopped"
            listed = list(self.stops.values())[:_LISTED]
            told = {
                name: json.dumps([dataclasses.asdict(stop) for stop in listed]),
                f"{name}_forecasts": len(self.stops),
            }
        clipped = self.clipped.describe()
        return told | ({"clipped": json.dumps(clipped)} if clipped else {})


def blanked(fields: xr.Dataset, until: Bool[np.ndarray, "series k"]) -> xr.Dataset:
    """Fields, (time[, realization], prediction_timedelta, …), NaN where `until` is false."""
    if until.all():
        return fields
    dims = [dim for dim in ("time", "realization", "prediction_timedelta") if dim in fields.dims]
    kept = xr.DataArray(until.reshape([fields.sizes[dim] for dim in dims]), dims=dims)
    return fields.map(lambda array: array.where(kept).transpose(*array.dims))
