"""One field from one initial time, beside the truth: aligned arrays that every score is made from.

Shapes: l lead times, n members, v levels, p points of the map, r regions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from eval.area_sums import Scratch, TruthSums, truth_sums
from eval.baselines import CLIMATOLOGY, PERSISTENCE, PROBABILISTIC
from eval.field_reading import as_slice
from eval.pairing import Comparison
from eval.valid_time_fields import ReadFields, References, ValidTimeFields, Window
from weather_scnn.errors import UserError
from weather_scnn.io.writing import Record


class VariableGroup:
    """Variables that are read together, and what is known of them before anything is scored.

    Args:
        comparison: what is compared.
        number: of the group.
        finished: holds the means of `eval.valid_time_fields.prepare_references`.
        cache_bytes: of the truth and climatology that are kept.
    """

    def __init__(self, comparison: Comparison, number: int, finished: Record, cache_bytes: int):
        self.comparison, self.names = comparison, comparison.groups[number]
        readers = References(comparison, cache_bytes // (2 * len(self.names)))
        self.fields = {name: ValidTimeFields(comparison, name, finished, readers) for name in self.names}
        self.wind = next((key for key, pair in comparison.vectors.items() if pair == self.names), None)
        self.scratch = Scratch(comparison.latitude.size * comparison.longitude.size)
        self.present = {name: comparison.present_for(name) for name in self.names}
        self.has_lead = {name: np.isin(comparison.leads, store.leads) for name, store in comparison.forecasts.items()}
        self.empty_levels = {
            (system, name): store.empty_levels(
                name, comparison.inits, comparison.leads, self.present[name] & self.has_lead[system]
            )
            for system, store in comparison.forecasts.items()
            for name in self.names
            if name in store.dataset
        }
        # What baselines by valid time have at a time, found once.
        self.finite_at: dict[tuple[str, str, int], np.ndarray] = {}
        self._leads: dict[tuple[str, str], np.ndarray] = {}

    def members(self, system: str) -> int:
        """Size of an ensemble, 1 of others."""
        if system == PROBABILISTIC:
            return self.fields[self.names[0]].member_count
        return self.comparison.members(system)

    def leads_of(self, system: str, name: str) -> np.ndarray:
        """Lead times of the comparison at which a system has a field; bool, (l,)."""
        if (system, name) not in self._leads:
            comparison = self.comparison
            parts = comparison.vectors.get(name, (name,))
            if system in comparison.forecasts:
                held = self.has_lead[system] & all((system, part) in self.empty_levels for part in parts)
            else:
                known = system != CLIMATOLOGY or all(comparison.has_normal(part) for part in parts)
                held = np.full(comparison.leads.size, known)
            self._leads[system, name] = held
        return self._leads[system, name]


@dataclasses.dataclass(frozen=True)
class Block:
    """What is in memory.

    Attributes:
        inits: initial times of the comparison.
        leads: lead times of the comparison.
        forecasts: by system and name, shape (i, l, n, v, p).
        finite: by system and name, whether maps are finite, (i, l, v); absent where all are.
        implausible: by system and name, how many maps cannot be, (i, l); absent where none.
        read: what windows are made of; reading and arithmetic take two cores.
        windows: truth and anomalies by name.
    """

    inits: slice
    leads: slice
    forecasts: dict[tuple[str, str], np.ndarray]
    finite: dict[tuple[str, str], np.ndarray]
    implausible: dict[tuple[str, str], np.ndarray]
    read: dict[str, ReadFields]
    windows: dict[str, Window]


class Chunk:
    """Forecasts, truth, anomaly and mask of a field from one initial time, all of the same lead times, levels and points.

    `comparison`, the `weights` of regions and `scratch`, room for the arithmetic, come with it.

    Args:
        group: the variables.
        block: what is in memory.
        name: of the field.
        init: position of the initial time in the comparison.
        leads: positions of lead times, in the block.
        mask: points that count, (l, v, p); all if None.
        winds: the components of a wind vector, each with a mask of its own.
    """

    def __init__(
        self, group: VariableGroup, block: Block, name: str, init: int, leads: np.ndarray,
        mask: np.ndarray | None = None, winds: "tuple[Chunk, ...]" = (),
    ):  # fmt: skip
        self.group, self.block, self.name, self.init, self.leads = group, block, name, init, leads
        self.mask, self._winds = mask, winds
        self.comparison, self.scratch, self.weights = group.comparison, group.scratch, group.comparison.weights
        self._once: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once for this chunk."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    @property
    def wind(self) -> bool:
        """Whether the field is a wind vector."""
        return bool(self._winds)

    @functools.cached_property
    def components(self) -> "tuple[Chunk, ...]":
        """Both of a wind vector, with its mask; else the field itself."""
        return tuple(part.masked(self.mask) for part in self._winds) or (self,)

    @property
    def fields(self) -> ValidTimeFields:
        """What belongs to a valid time, of a variable."""
        return self.group.fields[self.name]

    @functools.cached_property
    def valid_times(self) -> np.ndarray:
        """Shape (l,)."""
        return self.comparison.inits[self.init] + self.comparison.leads[self.leads]

    @property
    def _window(self) -> Window:
        return self.block.windows[self.name]

    @functools.cached_property
    def _times(self) -> slice | np.ndarray:
        return as_slice(self._window.positions(self.valid_times))

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """Of a variable, (l, v, p)."""
        return self._window.truth[self._times]

    @functools.cached_property
    def anomaly(self) -> np.ndarray | None:
        """Truth minus climatology of a variable, (l, v, p); None without one."""
        return None if self._window.anomaly is None else self._window.anomaly[self._times]

    @functools.cached_property
    def truth_sums(self) -> TruthSums:
        """Sums of a variable's anomalies over the points that count."""
        if self.mask is None:
            return self._window.sums.at(self._times)
        anomaly = None if self.anomaly is None else list(np.where(self.mask, self.anomaly, 0.0))
        return truth_sums(list(self.truth), anomaly, self.weights)

    @functools.cached_property
    def weight_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Σw and the number of the points that count, each broadcast to (l, v, r)."""
        if self.mask is None:
            return self.weights.total, self.weights.count
        regions = len(self.weights.total)
        sums = self.weights.sums(self.mask.astype(np.float64))
        return sums[..., :regions], sums[..., regions : 2 * regions]

    def forecast(self, system: str) -> np.ndarray:
        """Of a variable, with the members: shape (l or 1, n, v, p)."""
        return self.once(("forecast", system), lambda: self._forecast(system))

    def _forecast(self, system: str) -> np.ndarray:
        if system in self.comparison.forecasts:
            rows = as_slice(self.leads - self.block.leads.start)
            return self.block.forecasts[system, self.name][self.init - self.block.inits.start][rows]
        if system == PERSISTENCE:
            start = self._window.positions(self.comparison.inits[[self.init]])
            return self._window.truth[start][:, None]
        if system == PROBABILISTIC:
            return np.stack([self.fields.members(time) for time in self.valid_times])
        return self.fields.baseline(system, self.valid_times)[:, None]

    def mean(self, system: str) -> np.ndarray:
        """The forecast, of an ensemble its mean: shape (l or 1, v, p)."""
        members = self.forecast(system)
        if members.shape[1] == 1:
            return members[:, 0]
        return self.once(("mean", system), lambda: members.mean(axis=1, dtype=np.float64))

    def thresholds(self, number: int) -> np.ndarray | None:
        """Quantiles of the climatology at one of the lead times, (q, v, p)."""
        return self.once(("thresholds", number), lambda: self.fields.quantiles(self.valid_times[number]))

    def quantiles(self, number: int, wanted: tuple[float, ...]) -> np.ndarray | None:
        """Those of the climatology at one of the lead times, (q, v, p); None where it does not hold them."""
        if not wanted:
            return None
        valid = self.valid_times[number]
        return self.once(("quantiles", number), lambda: self.fields.quantiles(valid, wanted, normal=False))

    def empty_levels(self, system: str) -> np.ndarray:
        """Levels at which a system's store holds nothing; bool, (v,)."""
        nothing = np.zeros(self.components[0].truth.shape[1], bool)
        empty = [self.group.empty_levels.get((system, part.name), nothing) for part in self.components]
        return np.any(np.stack(empty), axis=0)

    def at(self, leads: np.ndarray) -> "Chunk":
        """The chunk at some of its lead times; the same one again if asked again."""
        return self if leads.size == self.leads.size else self.once(("at", leads.tobytes()), lambda: self._at(leads))

    def _at(self, leads: np.ndarray) -> "Chunk":
        mask = None if self.mask is None else self.mask[np.searchsorted(self.leads, leads)]
        mask = None if mask is None or mask.all() else mask
        winds = tuple(part.at(leads) for part in self._winds)
        return Chunk(self.group, self.block, self.name, self.init, leads, mask, winds)

    def masked(self, mask: np.ndarray | None) -> "Chunk":
        """The chunk with another mask."""
        same = mask is self.mask or (mask is not None and self.mask is not None and np.array_equal(mask, self.mask))
        return self if same else Chunk(self.group, self.block, self.name, self.init, self.leads, mask, self._winds)

    def parts(self, system: str) -> "list[Chunk]":
        """The lead times that a system has, those without missing points apart from the others."""
        leads = self.leads[self.group.leads_of(system, self.name)[self.leads]]
        if self.mask is None:
            return [self.at(leads)] if leads.size else []
        whole = self.mask[np.searchsorted(self.leads, leads)].all(axis=(1, 2))
        return [self.at(part) for part in (leads[whole], leads[~whole]) if part.size]


def wind_of(name: str, east: Chunk, north: Chunk) -> Chunk:
    """The wind vector of two components: points that miss one of them do not count."""
    masks = [part.mask for part in (east, north) if part.mask is not None]
    mask = functools.reduce(np.logical_and, masks) if masks else None
    return Chunk(east.group, east.block, name, east.init, east.leads, mask, (east, north))


def missing_points(chunk: Chunk) -> tuple[np.ndarray | None, np.ndarray]:
    """Which points of a variable count: those that truth, climatology, every baseline and every forecast have.

    All systems are scored on the same points. Levels at which a store holds nothing at all are left to the others.

    Returns:
        The mask, (l, v, p) or None for all, and how many points are left out for the truth and for a forecast, (2, l).

    Raises:
        UserError: a forecast has missing values and they are not allowed.
    """
    comparison, leads = chunk.comparison, chunk.leads
    suspect, counts = _suspect(chunk), np.zeros((2, leads.size), np.int64)
    if not suspect.any():
        return None, counts
    mask = np.ones(chunk.truth.shape, bool)
    for number in np.flatnonzero(suspect.any(axis=1)):
        at = chunk.at(leads[[number]])
        reference = np.isfinite(at.truth[0])
        if at.anomaly is not None:
            reference &= np.isfinite(at.anomaly[0])
        systems = [name for name in comparison.systems if chunk.group.leads_of(name, chunk.name)[leads[number]]]
        for system in systems:
            if system not in comparison.forecasts:
                reference &= np.isfinite(at.forecast(system)[0]).all(axis=0)
        lost = np.zeros(reference.shape, bool)
        for system in systems:
            if system in comparison.forecasts:
                absent = reference & ~np.isfinite(at.forecast(system)[0]).all(axis=0)
                absent &= ~chunk.empty_levels(system)[:, None]
                if absent.any() and not comparison.request.allow_missing:
                    hours = int(comparison.leads[leads[number]] // np.timedelta64(1, "h"))
                    raise UserError(
                        f"{np.count_nonzero(absent)} values of {chunk.name} are missing or infinite in the forecast from "
                        f"{np.datetime_as_string(comparison.inits[chunk.init], 'h')} at {hours} h",
                        where=comparison.forecasts[system].path,
                        remedy="find out why, or add --allow-missing to score the other points",
                    )
                lost |= absent
        mask[number] = reference & ~lost
        counts[:, number] = np.count_nonzero(~reference), np.count_nonzero(lost)
    return None if mask.all() else mask, counts


def _suspect(chunk: Chunk) -> np.ndarray:
    """Fields in which something may be missing, shape (l, v): what is known of them without looking at every value."""
    comparison, block, group = chunk.comparison, chunk.block, chunk.group
    suspect = ~chunk.truth_sums.finite
    for system in comparison.systems:
        held = group.leads_of(system, chunk.name)[chunk.leads]
        if system in comparison.forecasts:
            finite = block.finite.get((system, chunk.name))
            if finite is not None:
                here = finite[chunk.init - block.inits.start][chunk.leads - block.leads.start]
                suspect |= ~here & ~chunk.empty_levels(system) & held[:, None]
        elif system == PERSISTENCE:
            suspect |= ~np.isfinite(chunk.forecast(system).sum(axis=(1, 3), dtype=np.float64))
        elif held.any() and not (system == CLIMATOLOGY and not comparison.pooled):  # this one has what the anomaly has
            for number, time in enumerate(chunk.valid_times):
                key = (chunk.name, system, int(time.astype(np.int64)))
                if key not in group.finite_at:
                    fields = chunk.at(chunk.leads[[number]]).forecast(system)[0]
                    group.finite_at[key] = np.isfinite(fields).all(axis=(0, 2))
                suspect[number] |= ~group.finite_at[key]
    return suspect
