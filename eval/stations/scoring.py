"""The pass over forecasts at stations: sums over groups of stations by init time, and over init times by station.

Shapes: i init times, l lead times, n members, s stations, g groups.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from eval.baselines import CLIMATOLOGY, PERSISTENCE
from eval.events import Event, event_of, holds_quantiles
from eval.field_reading import read_values
from eval.scores.ensembles import crps
from eval.scores.errors import ERRORS
from eval.scores.events import event_labels, event_terms
from eval.stations.comparison import Key, StationComparison, StationGrid
from eval.stations.interpolation import CORRECTED, at_points
from eval.valid_time_fields import between
from weather_scnn.catalogue.naming import find
from weather_scnn.catalogue.units import known_conversion
from weather_scnn.errors import UserError
from weather_scnn.io.climatology import DAY_OF_YEAR, day_numbers
from weather_scnn.io.fields import declared_unit
from weather_scnn.io.observations import Reports
from weather_scnn.io.writing import Record

ENSEMBLE = ("crps", "crps_fair", "variance")
#: Of every station over the init times.
AT_STATION = (*ERRORS, "crps")
_WIND = ("10m_u_component_of_wind", "10m_v_component_of_wind")
_BLOCK_BYTES = 64 * 2**20


def item_name(key: Key) -> str:
    """Of a variable's finished sums."""
    return f"stations-{key[0]}" + ("" if key[1] is None else f"-{key[1]}")


def events_in(comparison: StationComparison) -> list[Event]:
    """The events that are scored."""
    return [event_of(text) for text in comparison.request.events]


def labels_of(comparison: StationComparison) -> list[str]:
    """Names of the sums of events."""
    return list(dict.fromkeys(label for event in events_in(comparison) for label in event_labels(event)))


class _Seen:
    """Observations of a variable by time, and where moving stations were; the latest are kept."""

    def __init__(self, comparison: StationComparison, key: Key):
        self._comparison, self._values = comparison, comparison.observations.values[key]
        self._reports = Reports(comparison.observations, key, comparison.tolerance)
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def at(self, time: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
        """Values, NaN where there is none, and positions of the reports: (s,) each."""
        number = int(time.astype(np.int64))
        if number not in self._kept:
            rows = self._reports.at(time)
            self._kept[number] = np.where(rows >= 0, self._values[rows], np.nan), rows
        return self._kept[number]

    def forget_before(self, time: np.datetime64) -> None:
        """Lets go of what no later init time needs."""
        oldest = int(time.astype(np.int64))
        self._kept = {number: kept for number, kept in self._kept.items() if number >= oldest}


class FieldAtStations:
    """One variable at the stations.

    Args:
        comparison: what is compared.
        key: variable and level.
    """

    def __init__(self, comparison: StationComparison, key: Key):
        self.comparison, self.key = comparison, key
        self.seen = _Seen(comparison, key)
        self.accumulated = find(key[0]).kind == "accumulated"
        self.moving = np.flatnonzero(comparison.moves)
        self.rate = comparison.lapse_rate if key[0] in CORRECTED else 0.0

    def _placed(self, grid: StationGrid, maps: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Maps (l, n, p) at the stations (l, n, s), those that move where they were, and at their height."""
        found = at_points(grid.weights, maps)
        seen = self.comparison.observations
        for lead in range(maps.shape[0]) if self.moving.size else ():
            there = self.moving[rows[lead, self.moving] >= 0]
            row = rows[lead, there]
            found[lead][:, there] = at_points(grid.moved(seen.latitude[row], seen.longitude[row]), maps[lead])
        return found + np.float32(self.rate) * grid.above.astype(np.float32) if self.rate else found

    def forecasts(self, system: str, inits: np.ndarray, leads: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Of a system, (i, l, n, s).

        Args:
            system: a forecast.
            inits: init times.
            leads: lead times.
            rows: reports of the valid times, (i, l, s).
        """
        store, grid, (name, level) = self.comparison.stores[system], self.comparison.grids[system], self.key
        parts = (name,) if name in store.dataset else _WIND
        if level is not None:
            store = store.at_levels([level])
        read = store.read(parts, inits, leads)
        at = [
            np.stack([self._placed(grid, maps[:, :, 0], row) for maps, row in zip(read[part], rows)]) for part in parts
        ]
        return at[0] if len(at) == 1 else np.hypot(*at)

    @functools.cached_property
    def _factors(self) -> tuple[float, float]:
        store = self.comparison.climatology
        assert store is not None
        unit = declared_unit(store[self.key[0]]) or find(self.key[0]).unit
        factors = known_conversion(unit, find(self.key[0]).unit)
        if factors is None:
            where = str(self.comparison.request.climatology)
            raise UserError(f"has {self.key[0]} in {unit}", where=where, remedy="correct the attribute units")
        return factors

    def _usual(self, variable: str, times: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """Of the climatology at valid times, (l, n, s); n the quantiles where it has some."""
        store, level = self.comparison.climatology, self.key[1]
        if store is None or variable not in store or (level is not None and level not in store["level"].values):
            return None
        array = store[variable] if level is None else store[variable].sel(level=level)
        dims = [dim for dim in array.dims if dim not in ("hour", "dayofyear", "latitude", "longitude")]
        array = array.transpose("hour", "dayofyear", *dims, "latitude", "longitude")
        numbers = day_numbers(times, str(store.attrs.get("calendar", DAY_OF_YEAR)))
        hours = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
        days, known = store["dayofyear"].values, store["hour"].values
        where = str(self.comparison.request.climatology)
        if not (np.isin(hours, known).all() and np.isin(numbers, days).all()):
            raise UserError(
                "lacks hours or days that are scored",
                where=where,
                remedy="make it from data of the same hours, all year",
            )
        maps = []
        for number, hour in zip(numbers, hours):
            one = array.isel(
                hour=int(np.flatnonzero(known == hour)[0]), dayofyear=int(np.flatnonzero(days == number)[0])
            )
            maps.append(self._map(variable, int(number), float(hour), one, where))
        scale, offset = self._factors
        stacked = np.stack(maps) * np.float32(scale) + np.float32(offset)
        return self._placed(self.comparison.grids[CLIMATOLOGY], stacked, rows)

    @functools.cached_property
    def _maps(self) -> dict[tuple[str, int, float], np.ndarray]:
        return {}

    def _map(self, variable: str, day: int, hour: float, one, where: str) -> np.ndarray:
        """A map of the climatology, (n, p); the latest are kept."""
        key = variable, day, hour
        if key not in self._maps:
            while sum(each.nbytes for each in self._maps.values()) > _BLOCK_BYTES:
                self._maps.pop(next(iter(self._maps)))
            points = one.sizes["latitude"] * one.sizes["longitude"]
            self._maps[key] = read_values(one, variable, "latitude", where).reshape(-1, points)
        return self._maps[key]

    def thresholds(self, events: Sequence[Event], times: np.ndarray, rows: np.ndarray) -> list[np.ndarray | None]:
        """Of each event at valid times, (l, s); None where the variable has not got it."""
        name, level = self.key
        store = self.comparison.climatology
        wanted = [event.quantile for event in events if event.quantile is not None]
        held: dict[float, np.ndarray] = {}
        if wanted and store is not None and holds_quantiles(store, name, wanted):
            usual = self._usual(f"{name}_quantile", times, rows)
            known = store["quantile"].values.astype(np.float64)
            if usual is not None:
                held = dict(zip(wanted, between(np.moveaxis(usual, 1, 0), known, wanted)))
        found: list[np.ndarray | None] = []
        for event in events:
            if event.quantile is not None:
                found.append(held[event.quantile].astype(np.float64) if held else None)
            else:
                fits = event.of_field(name) and event.level in (None, level)
                found.append(np.full(rows.shape, event.threshold) if fits else None)
        return found

    def normal(self, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The climatology as a forecast, (l, 1, s); NaN where it has not got the variable."""
        found = self._usual(self.key[0], times, rows)
        return np.full((times.size, 1, rows.shape[-1]), np.nan) if found is None else found


class StationSums:
    """Sums of one variable.

    Args:
        comparison: what is compared.
        key: variable and level.

    Attributes:
        arrays: `errors` (system, label, i, l, g) of `eval.scores.errors.ERRORS`; `ensemble` of `ENSEMBLE` and `events` of
            `labels_of` alike, where they apply; `stations` (system, label, l, s) of `AT_STATION`.
    """

    def __init__(self, comparison: StationComparison, key: Key):
        self.comparison, self.key, self.field = comparison, key, FieldAtStations(comparison, key)
        systems, inits, leads = len(comparison.systems), comparison.inits.size, comparison.leads.size
        shape = (inits, leads, len(comparison.groups))
        self.ensembles = any(comparison.members(system) > 1 for system in comparison.systems)
        self.events, self.labels = events_in(comparison), labels_of(comparison)
        self.arrays = {
            "errors": np.zeros((systems, len(ERRORS), *shape)),
            "stations": np.zeros((systems, len(AT_STATION), leads, comparison.observations.ids.size)),
        }
        if self.ensembles:
            self.arrays["ensemble"] = np.zeros((systems, len(ENSEMBLE), *shape))
        if self.events:
            self.arrays["events"] = np.full((systems, len(self.labels), *shape), np.nan)

    def add(self, first: int, last: int) -> None:
        """Scores init times first … last − 1."""
        comparison, leads = self.comparison, self.comparison.leads
        inits = comparison.inits[first:last]
        self.field.seen.forget_before(inits[0])
        valid = inits[:, None] + leads
        seen = [[self.field.seen.at(time) for time in times] for times in valid]
        observed = np.array([[each[0] for each in row] for row in seen])
        rows = np.array([[each[1] for each in row] for row in seen])
        if self.field.accumulated:
            observed[:, leads <= np.timedelta64(0, "ns")] = np.nan
        observed[..., comparison.belongs[:, 0] == 0] = np.nan
        forecasts = {}
        for system, store in comparison.stores.items():
            values = self.field.forecasts(system, inits, leads, rows)
            held = store.has(inits, leads)
            self._require_whole(system, values, observed, held, inits)
            forecasts[system] = values
        for number, init in enumerate(inits):
            at = {system: values[number] for system, values in forecasts.items()}
            if PERSISTENCE in comparison.systems:
                start = self.field.seen.at(init)[0]
                at[PERSISTENCE] = np.broadcast_to(start, (leads.size, 1, start.size))
            if CLIMATOLOGY in comparison.systems:
                at[CLIMATOLOGY] = self.field.normal(valid[number], rows[number])
            self._add(first + number, at, observed[number], rows[number], valid[number])

    def _require_whole(self, system, values, observed, held, inits) -> None:
        """Raises UserError where a forecast has no value beside an observation, unless that is allowed."""
        if self.comparison.request.allow_missing:
            return
        absent = ~np.isfinite(values).all(axis=2) & np.isfinite(observed) & held[..., None]
        if absent.any():
            init, lead, station = (int(each[0]) for each in np.nonzero(absent))
            hours = int(self.comparison.leads[lead] // np.timedelta64(1, "h"))
            raise UserError(
                f"{np.count_nonzero(absent)} values of {self.key[0]} are missing or infinite at stations, the first from "
                f"{np.datetime_as_string(inits[init], 'h')} at {hours} h at {self.comparison.observations.ids[station]}",
                where=self.comparison.stores[system].path,
                remedy="find out why, or add --allow-missing to score the others",
            )

    def _add(
        self, init: int, at: dict[str, np.ndarray], observed: np.ndarray, rows: np.ndarray, times: np.ndarray
    ) -> None:
        """One init time: the same observations for every system that has the lead time."""
        belongs, leads = self.comparison.belongs, observed.shape[0]
        known = np.isfinite(observed)
        has = {system: np.isfinite(values).any(axis=(1, 2)) for system, values in at.items()}
        for system, values in at.items():
            known &= np.isfinite(values).all(axis=1) | ~has[system][:, None]
        thresholds = self.field.thresholds(self.events, times, rows) if self.events else []
        for number, system in enumerate(self.comparison.systems):
            members, here = at[system], known & has[system][:, None]
            mean = members[:, 0] if members.shape[1] == 1 else members.mean(axis=1, dtype=np.float64)
            error = np.where(here, mean - observed, 0.0)
            parts = [here.astype(np.float64), error**2, np.abs(error), error]
            self.arrays["errors"][number, :, init] = np.stack(parts) @ belongs
            single = parts[2]
            if self.ensembles:
                spread = np.full((len(ENSEMBLE), leads, belongs.shape[1]), np.nan)
                spread[0] = single @ belongs
                if members.shape[1] > 1:
                    kept = np.where(here[:, None], members, 0.0).astype(np.float64)
                    biased, fair = crps(np.moveaxis(kept, 1, 0), np.where(here, observed, 0.0))
                    spread = np.stack([biased, fair, kept.var(axis=1, ddof=1)]) @ belongs
                    single = biased
                self.arrays["ensemble"][number, :, init] = spread
            self.arrays["stations"][number] += np.stack([*parts, single])
            for event, threshold in zip(self.events, thresholds):
                if threshold is not None:
                    self._add_event(number, init, event, members, observed, threshold, here)

    def _add_event(self, system, init, event, members, observed, threshold, here) -> None:
        """An event's sums, over the stations that count."""
        labels = [self.labels.index(label) for label in event_labels(event)]
        for lead in range(observed.shape[0]):
            there = np.flatnonzero(here[lead])
            belongs = self.comparison.belongs[there]
            terms = event_terms(
                members[lead][:, there].astype(np.float64), observed[lead, there], threshold[lead, there], event
            )
            for label, values in zip(labels, terms):
                self.arrays["events"][system, label, init, lead] = values @ belongs


def _inits_together(comparison: StationComparison, key: Key) -> int:
    """Init times that are read at once: whole chunks, some MiB."""
    most, chunk = 1, 1
    for store in comparison.stores.values():
        name = key[0] if key[0] in store.dataset else _WIND[0]
        points = store.dataset.sizes["latitude"] * store.dataset.sizes["longitude"]
        at_stations = comparison.observations.ids.size
        each = 4 * store.members * comparison.leads.size * max(points, at_stations)
        most, chunk = max(1, _BLOCK_BYTES // each), max(chunk, store.chunks(name)[0])
    return min(most, chunk)


def score_stations(
    comparison: StationComparison,
    finished: Record,
    tick: Callable[[str, float], None] = lambda name, share: None,
) -> None:
    """Scores every variable that is not finished yet, into `finished`.

    Args:
        comparison: what is compared.
        finished: where sums go.
        tick: told of a variable and the share of its init times that is done.

    Raises:
        UserError: a forecast has no value where it must.
    """
    done = finished.finished()
    for key in comparison.keys:
        if item_name(key) in done:
            continue
        sums, step = StationSums(comparison, key), _inits_together(comparison, key)
        for first in range(0, comparison.inits.size, step):
            sums.add(first, min(first + step, comparison.inits.size))
            tick(key[0], min(step, comparison.inits.size - first) / comparison.inits.size)
        finished.save(item_name(key), sums.arrays)
