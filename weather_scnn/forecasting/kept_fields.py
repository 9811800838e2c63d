"""What is kept of a forecast: variables, levels, lead times, a region, and fields made from the state."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.catalogue.level_numbers import Level
from weather_scnn.catalogue.naming import lookup, nearest_name
from weather_scnn.errors import UserError
from weather_scnn.io.accumulations import summable
from weather_scnn.io.derived import Recipe, canonical_name, recipe
from weather_scnn.sphere import Grid
from weather_scnn.sphere.regions import box_of
from weather_scnn.training.channels import Channels

#: Axes of forecasts, in their order.
ORDER = ("time", "realization", "prediction_timedelta", "level", "latitude", "longitude")
_LEAD = "prediction_timedelta"
_HOUR = np.timedelta64(1, "h")
# Lead times stand in for times where a recipe joins fields of several times.
_EPOCH = np.datetime64("1970-01-01", "ns")
_EDGE_DEGREES = 1e-3  # a column on the western edge comes first


@dataclasses.dataclass(frozen=True)
class Kept:
    """What is kept of the states of a forecast.

    Attributes:
        names: of the fields, canonical.
        recipes: of those that are made from others.
        on_levels: those with levels.
        state_levels: hPa, of the state.
        levels: hPa, positions of those kept in `state_levels`.
        leads: kept, ascending.
        rows, columns: of the grid that are kept; columns run eastwards from the western edge of a region.
        latitude, longitude: of the grid, degrees.
        kept_longitude: of the columns that are kept, ascending: negative west of 0° E where a region reaches across it.
    """

    names: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    on_levels: frozenset[str]
    state_levels: tuple[Level, ...]
    levels: np.ndarray
    leads: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    kept_longitude: np.ndarray

    @classmethod
    def settle(
        cls,
        channels: Channels,
        grid: Grid,
        step: np.timedelta64,
        leads: np.ndarray,
        *,
        variables: Sequence[str] | None = None,
        derived: Sequence[str] = (),
        levels: Sequence[float] | None = None,
        region: str | None = None,
    ) -> "Kept":
        """From what is asked for.

        Args:
            channels: of the state.
            grid: of the state.
            step: of the forecaster.
            leads: lead times, see `lead_times.asked_leads`.
            variables: of the state or made from it, by any name of the catalogue; None for all of the state.
            derived: made from the state and kept beside them, such as 10m_wind_speed, thickness_1000_500 or
                total_precipitation_24hr.
            levels: hPa; None for all of the state.
            region: name of a region, or W,S,E,N; None for the globe.

        Raises:
            UserError: something is not in the state and cannot be made from it, or the region has no point.
        """
        held = channels.variables
        names: list[str] = []
        recipes: dict[str, Recipe] = {}
        for asked in (*(held if variables is None else variables), *derived):
            name = asked if asked in held else canonical_name(asked)
            if name in names:
                continue
            names.append(name)
            if name not in held:
                recipes[name] = _recipe(asked, name, channels, step, leads)
        if not names:
            raise UserError("no variable is asked for", remedy="name one in --variables, or leave it out")
        # What is made from fields on levels has theirs, but for a thickness between two.
        levels_of = {
            name: [set(_levels_of(each, channels)) for each in (recipes[name].inputs if name in recipes else (name,))]
            for name in names
            if name not in recipes or not recipes[name].levels
        }
        on_levels = {name: set.intersection(*each) for name, each in levels_of.items() if each and all(each)}
        positions = _positions(channels.levels, levels, set().union(*on_levels.values()))
        rows, columns, kept_longitude = _cells(grid, region)
        return cls(
            tuple(names), recipes, frozenset(on_levels), channels.levels,
            positions, leads, rows, columns, grid.latitude, grid.longitude,
            kept_longitude,
        )  # fmt: skip

    @property
    def kept_levels(self) -> tuple[Level, ...]:
        """hPa; empty where no field has levels."""
        return tuple(self.state_levels[position] for position in self.levels)

    @property
    def reach(self) -> np.timedelta64:
        """How far back of a lead time totals reach for the fields that they are sums of."""
        return max((each.hours_before for each in self.recipes.values()), default=0) * _HOUR

    def sources(self) -> list[str]:
        """Fields that totals are made from."""
        return sorted({each for found in self.recipes.values() if found.hours_before for each in found.inputs})

    def chosen(self, leads: np.ndarray) -> np.ndarray:
        """Which of these lead times are kept."""
        return np.isin(leads, self.leads)

    def attributes(self, name: str, of_state: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Of a field."""
        return self.recipes[name].described(name) if name in self.recipes else dict(of_state[name])

    def of_block(
        self, fields: xr.Dataset, leads: np.ndarray, starts: np.ndarray, before: xr.Dataset | None
    ) -> tuple[xr.Dataset, xr.Dataset | None]:
        """The kept fields of a block of leads, and what the next block needs of it.

        Args:
            fields: physical, of the whole state, (time[, realization], prediction_timedelta[, level], latitude,
                longitude), without coordinates.
            leads: of the block.
            starts: initial times.
            before: what the block before gave; None for the first.

        Returns:
            Fields at the leads that are kept, none or more; NaN where a total would begin before the initial time.
        """
        fields = fields.assign_coords(prediction_timedelta=leads, latitude=self.latitude, longitude=self.longitude)
        if self.state_levels and "level" in fields.dims:
            fields = fields.assign_coords(level=np.asarray(self.state_levels, np.float64))
        carried = None
        if self.recipes and (sources := self.sources()):
            parts = fields[sources]
            summed = parts if before is None else xr.concat([before, parts], _LEAD)
            carried = summed.isel({_LEAD: summed[_LEAD].values > leads[-1] - self.reach})
        else:
            summed = fields
        wanted = np.flatnonzero(self.chosen(leads))
        result = {}
        for name in self.names:
            found = self.recipes.get(name)
            if found is None:
                array = fields[name].isel({_LEAD: wanted})
            elif not wanted.size:
                continue
            elif found.hours_before:
                array = _total(found, summed, leads[wanted])
            elif not found.inputs:
                array = _of_times(found, fields.isel({_LEAD: wanted}), starts)
            else:
                array = found.make(fields[list(found.inputs)].isel({_LEAD: wanted}))
            if "level" in array.dims:
                array = array.isel(level=self.levels)
            array = array.isel(latitude=self.rows).isel(longitude=self.columns)
            array = array.transpose(*(dim for dim in ORDER if dim in array.dims))
            result[name] = (array.dims, np.asarray(array.values, np.float32))
        return xr.Dataset(result if wanted.size else {}), carried


def _recipe(asked: str, name: str, channels: Channels, step: np.timedelta64, leads: np.ndarray) -> Recipe:
    """How a field is made from a state, if it can be at these lead times."""
    held = channels.variables
    found = recipe(name, held)
    if found is None:
        raise UserError(
            f"the forecaster has no variable {asked}, and it is not one that can be made from its state",
            remedy=nearest_name(name, held),
        )
    lacking = [level for level in found.levels if any(level not in _levels_of(each, channels) for each in found.inputs)]
    if lacking:
        levels = ", ".join(f"{level:g}" for level in _levels_of(found.inputs[0], channels))
        raise UserError(
            f"{name} needs {found.inputs[0]} at {lacking[0]:g} hPa, which the state has not",
            remedy=f"choose of its levels {levels}" if levels else "leave it out",
        )
    if found.hours_before:
        source = lookup(summable(name, list(held)) or "")
        assert source is not None and source.window_hours is not None
        if source.window_hours * _HOUR % step:
            raise UserError(
                f"{name} cannot be made: totals of {source.window_hours} h every {step / _HOUR:g} h leave gaps",
                remedy="leave it out",
            )
        hours = found.hours_before + source.window_hours
        if leads[-1] < hours * _HOUR:
            raise UserError(
                f"no lead time asked for has the {hours} h before it that {name} sums",
                remedy=f"ask for a lead of {hours}h or more, or leave it out",
            )
    return found


def _levels_of(name: str, channels: Channels) -> tuple[Level, ...]:
    scalars = [level for each, level in channels.scalars if each == name]
    found = scalars + [level for *pair, level in channels.winds if name in pair]
    return tuple(level for level in found if level is not None)


def _positions(state: Sequence[Level], asked: Sequence[float] | None, held: set[Level]) -> np.ndarray:
    """Of the levels kept among those of the state: those asked for, else those that kept fields hold."""
    if asked is not None and not held:
        raise UserError("no variable asked for has levels", remedy="leave --levels out")
    missing = [level for level in asked or () if not np.isclose([*held], level).any()]
    if missing:
        raise UserError(
            f"no variable asked for has the level {', '.join(f'{level:g}' for level in missing)} hPa",
            remedy=f"choose from {', '.join(f'{level:g}' for level in state if level in held)}",
        )
    wanted = np.asarray([*held] if asked is None else [*asked], float)
    return np.flatnonzero(np.isclose(np.asarray(state, float)[:, None], wanted).any(axis=1))


def _cells(grid: Grid, region: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the region, and the longitudes of the columns, ascending."""
    if region is None:
        return np.arange(grid.latitudes), np.arange(grid.longitudes), grid.longitude
    box = box_of(region)
    inside = box.contains(grid.latitude, grid.longitude)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size or not columns.size:
        raise UserError(
            f"the region {region} ({box.description}) holds no point of the {grid.name} grid",
            remedy="give a larger one",
        )
    if box.longitudes is not None:
        columns = columns[np.argsort(np.mod(grid.longitude[columns] - box.longitudes[0] + _EDGE_DEGREES, 360.0))]
    longitude = grid.longitude[columns]
    falls = np.flatnonzero(np.diff(longitude) < 0)
    if falls.size:
        longitude[: falls[0] + 1] -= 360.0
    return rows, columns, longitude


def _total(found: Recipe, summed: xr.Dataset, leads: np.ndarray) -> xr.DataArray:
    """A total at these leads, from fields of these and of leads before."""
    source = summed[list(found.inputs)]
    times = _EPOCH + summed[_LEAD].values.astype("timedelta64[ns]")
    complete = times - found.hours_before * _HOUR
    if not np.isin(complete, times).any():  # the first hours of a forecast
        return xr.full_like(source[found.inputs[0]].isel({_LEAD: np.zeros(leads.size, int)}), np.nan)
    moved = source.rename(time="start").rename({_LEAD: "time"}).assign_coords(time=times)
    array = found.make(moved).rename(time=_LEAD, start="time")
    return array.reindex({_LEAD: _EPOCH + leads.astype("timedelta64[ns]")})


def _of_times(found: Recipe, fields: xr.Dataset, starts: np.ndarray) -> xr.DataArray:
    """A field that is known from the time alone."""
    leads = fields[_LEAD].values
    valid = starts[:, None] + leads
    times, inverse = np.unique(valid.ravel(), return_inverse=True)
    maps = found.make(xr.Dataset(coords={"time": times, **{axis: fields[axis] for axis in ORDER[-2:]}})
                      .assign(place=("time", np.zeros(times.size)))).values  # fmt: skip
    array = xr.DataArray(maps[inverse].reshape(*valid.shape, *maps.shape[1:]), dims=("time", _LEAD, *ORDER[-2:]))
    return array.expand_dims(realization=fields.sizes["realization"]) if "realization" in fields.dims else array
