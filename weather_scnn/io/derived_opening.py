"""Derived fields among those asked for of a source: what inputs they need, and the result."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.io.canonical import at_levels, at_times, shared_times, take
from weather_scnn.io.derived import Recipe, canonical_name, derive, may_be_made, recipe
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.opening import CanonicalSource
from weather_scnn.io.periods import parse_period


def at_step(dataset: xr.Dataset, step: str) -> xr.Dataset:
    """The times at whole multiples of a step since midnight: of hourly data, every sixth for 6h.

    Raises:
        UserError: there are none, or the step does not read as a duration.
    """
    if "time" not in dataset.dims:
        return dataset
    stride = parse_duration(step, "the step", likely=("h",)).astype(np.int64)
    times = dataset["time"].values.astype("datetime64[ns]")
    chosen = np.flatnonzero(times.astype(np.int64) % stride == 0)
    if len(chosen) == 0:
        raise UserError(
            f"no time is a whole multiple of {step}",
            remedy=f"leave --step out: the times begin {pd.Timestamp(times[0]):%Y-%m-%dT%H:%M}",
        )
    return take(dataset, "time", chosen)


@dataclasses.dataclass(frozen=True)
class FieldPlan:
    """What has to be opened for the fields asked for.

    Attributes:
        names: canonical names of the result's fields; None for all that the source holds.
        derived: recipes of those that are made.
        inputs: names to open; None for all.
        levels: hPa to open; None for all.
        kept_levels: hPa of the result; None for all.
        time: period to open, with a beginning early enough for totals.
        period: of the result.
    """

    names: tuple[str, ...] | None
    derived: dict[str, Recipe]
    inputs: tuple[str, ...] | None
    levels: tuple[float, ...] | None
    kept_levels: tuple[float, ...] | None
    time: str | None
    period: str | None

    def kinds(self) -> list[tuple[str, ...]]:
        """The names, parted into totals that are made and what else is over time; one part where there is one kind."""
        totals = tuple(name for name, each in self.derived.items() if each.hours_before)
        others = tuple(name for name in self.names or () if name not in totals)
        return [part for part in (others, totals) if part]

    @property
    def hours_before(self) -> int:
        """How far back totals reach."""
        return max((each.hours_before for each in self.derived.values()), default=0)

    def of_what_is_there(self, opened: xr.Dataset) -> "FieldPlan":
        """The plan with recipes for what has been opened: totals may have come with another window than their label."""
        held = [str(name) for name in opened.data_vars]
        result = {name: recipe(name, held) for name in self.derived if name not in held}
        return dataclasses.replace(self, derived={name: each for name, each in result.items() if each is not None})

    def result(self, opened: xr.Dataset, step: str | None, where: str) -> xr.Dataset:
        """The fields asked for, of a dataset opened by this plan."""
        dataset = opened
        if self.names is not None and (self.derived or not set(self.names) >= set(map(str, opened.data_vars))):
            dataset = derive(opened, self.names)
        if self.kept_levels is not None and "level" in dataset.dims:
            dataset = at_levels(dataset, self.kept_levels)
        if self.hours_before and self.period:
            dataset = dataset.sel(time=parse_period(self.period))
            if dataset.sizes["time"] == 0:
                raise UserError(
                    f"no time in {self.period} has all that the derived fields need",
                    where=where,
                    remedy="give a longer period",
                )
        return at_step(dataset, step) if step else dataset


def plan(
    source: CanonicalSource, variables: Sequence[str] | None, levels: Iterable[float] | None, time: str | None
) -> FieldPlan:
    """Which inputs the fields asked for need.

    Args:
        source: whose axes are in order.
        variables, levels, time: see `FieldReader`.

    Raises:
        UserError: a field can be derived, but not from what is there.
    """
    kept = None if levels is None else tuple(float(level) for level in levels)
    if variables is None:
        return FieldPlan(None, {}, None, kept, None, time, time)
    if not any(may_be_made(asked) for asked in variables):
        return FieldPlan(tuple(variables), {}, tuple(variables), kept, None, time, time)
    held = source.names
    names: list[str] = []
    inputs: list[str] = []
    derived: dict[str, Recipe] = {}
    for asked in variables:
        name = asked if asked in held else canonical_name(asked)
        if name == "geopotential" and asked == "z" and name not in held:
            name = "geopotential_at_surface"
        names.append(name)
        result = None if name in held else recipe(name, held)
        if result is None:
            inputs.append(asked)  # if it is not there, whoever selects fields says so, and knows the nearest name
        else:
            derived[name] = result
            inputs += result.inputs
    if not derived:
        return FieldPlan(tuple(names), {}, tuple(inputs), kept, None, time, time)
    if not inputs:
        # Solar radiation alone still needs times and a grid.
        inputs = [next(name for name in sorted(held) if (v := lookup(name)) is None or v.kind != "static")]
    on_levels = any((v := lookup(name)) is not None and v.on_levels for name in inputs)
    needed = {level for result in derived.values() for level in result.levels}
    opened: tuple[float, ...] | None = None
    if on_levels and kept is not None:
        opened = tuple(sorted({*kept, *needed}))
    elif on_levels and needed and not any((v := lookup(name)) is not None and v.on_levels for name in names):
        opened = tuple(sorted(needed))
    hours = max(result.hours_before for result in derived.values())
    unique = tuple(dict.fromkeys(inputs))
    return FieldPlan(tuple(names), derived, unique, opened, kept if on_levels else None, _extended(time, hours), time)


def of_shared_times(datasets: Sequence[xr.Dataset], where: str) -> xr.Dataset:
    """Fields of several datasets at the times that all have.

    Raises:
        UserError: there is none.
    """
    common = shared_times(datasets)
    assert common is not None
    if len(common) == 0:
        raise UserError(
            "the fields asked for share no time", where=where, remedy="ask for fields of one period with --variables"
        )
    parts = [at_times(dataset, common) for dataset in datasets]
    joined = xr.merge(parts, join="override", compat="override", combine_attrs="drop_conflicts")
    adjusted = dict.fromkeys(text for part in parts for text in str(part.attrs.get("adjusted", "")).split("; ") if text)
    return joined.assign_attrs({"adjusted": "; ".join(adjusted)} if adjusted else {})


def _extended(time: str | None, hours: int) -> str | None:
    """The period with a beginning `hours` earlier."""
    if time is None or hours == 0:
        return time
    period = parse_period(time)
    begin = f"{pd.Timestamp(period.start) - pd.Timedelta(hours=hours):%Y-%m-%dT%H:%M}" if period.start else ""
    return f"{begin}:{period.stop or ''}"
