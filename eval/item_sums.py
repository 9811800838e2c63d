"""The sums of one work item as arrays under the names that they have on disk.

Shapes: s systems, i initial times of the item, l lead times, v levels (1 where there is none), r regions.
"""

from collections.abc import Sequence

import numpy as np

from eval.baselines import BY_VALID_TIME, CLIMATOLOGY
from eval.chunks import Chunk, VariableGroup
from eval.map_sums import MapSums
from eval.scores import ERROR_SUMS, all_sums, sums_of
from eval.scores.base import AreaSums
from eval.scores.ensembles import RANK_SUMS
from eval.spectra import Spectra


def key_of(sums: AreaSums, field: str) -> str:
    """Name on disk of a field's area sums, of shape (s, label, i, l, v, r)."""
    return f"sums-{sums.name}/{field}"


def init_axes() -> dict[str, int]:
    """Which arrays hold every initial time, by the first part of their name, and along which axis; all others are added up."""
    return {"missing": 1, "implausible": 1} | {key_of(sums, "").split("/")[0]: 2 for sums in all_sums()}


class ItemSums:
    """What a work item fills: 0, or NaN where a system has not got a field or lead time and so has no score.

    Args:
        group: its variables.
        inits: its number of initial times.

    Attributes:
        arrays: by name: area sums (`key_of`); `missing/<variable>` (2, i, l), points left out for the truth and for a forecast;
            `implausible/<variable>` (s, i, l), maps whose values cannot be; `ranks/<system>/<variable>` (l, v, rank); and those of
            `eval.map_sums` and `eval.spectra`.
    """

    def __init__(self, group: VariableGroup, inits: int):
        comparison = group.comparison
        self.systems, leads = comparison.systems, comparison.leads.size
        self.arrays: dict[str, np.ndarray] = {}
        members = {system: group.members(system) for system in self.systems}
        ensembles = any(count > 1 for count in members.values())
        fields = [*group.names, *([group.wind] if group.wind else [])]
        self.sums: dict[str, Sequence[AreaSums]] = {
            field: sums_of(comparison, field, ensembles=ensembles) for field in fields
        }
        self.ensembles = [system for system, count in members.items() if count > 1]
        for field in fields:
            levels = comparison.level_count(group.names[0])
            for sums in self.sums[field]:
                labels, own = sums.labels(comparison), sums.leads(comparison)
                array = np.zeros((len(self.systems), len(labels), inits, own.size, levels, sums.size(comparison)))
                for number, system in enumerate(self.systems):
                    array[number, :, :, ~group.leads_of(system, field)[own]] = np.nan
                self.arrays[key_of(sums, field)] = array
        for name in group.names:
            self.arrays[f"missing/{name}"] = np.zeros((2, inits, leads), np.int64)
            self.arrays[f"implausible/{name}"] = np.zeros((len(self.systems), inits, leads), np.int64)
            for system in self.ensembles:
                shape = (leads, comparison.level_count(name), members[system] + 1)
                self.arrays[f"ranks/{system}/{name}"] = np.zeros(shape)
        self.maps = MapSums(group, self.arrays)
        self.spectra = Spectra(group, self.arrays)

    def add(self, chunk: Chunk, row: int, by_valid_time: dict) -> None:
        """Adds what a field's chunk holds.

        Args:
            chunk: masked.
            row: of the initial time.
            by_valid_time: sums of baselines that depend on the valid time alone, which are made once for all initial times.
        """
        for sums in self.sums[chunk.name]:
            array, own = self.arrays[key_of(sums, chunk.name)], sums.leads(chunk.comparison)
            for number, system in enumerate(self.systems):
                for part in chunk.parts(system):
                    wanted = part.leads[np.isin(part.leads, own)]
                    if wanted.size:
                        found = _sums(sums, part.at(wanted), system, by_valid_time)
                        array[number][:, row][:, np.searchsorted(own, wanted)] = found
        if not chunk.wind:
            for system in self.ensembles:
                for part in chunk.parts(system):
                    ranks = _sums(RANK_SUMS, part, system, by_valid_time)
                    self.arrays[f"ranks/{system}/{chunk.name}"][part.leads] += ranks
        self.maps.add(chunk)
        self.spectra.add(chunk)


def _sums(sums: AreaSums, chunk: Chunk, system: str, by_valid_time: dict) -> np.ndarray:
    """Sums of shape (…, l, v, r or rank), those of a valid time again where they are the same."""
    # Those of the climatology follow from the truth's at once.
    plain = system == CLIMATOLOGY and sums is ERROR_SUMS and not chunk.wind
    if chunk.mask is not None or system not in BY_VALID_TIME or plain:
        return sums.of(chunk, system)
    found = []
    for lead, time in zip(chunk.leads, chunk.valid_times.astype(np.int64).tolist()):
        key = (chunk.name, sums.name, system, time)
        if key not in by_valid_time:
            by_valid_time[key] = sums.of(chunk.at(np.array([lead])), system)
        found.append(by_valid_time[key])
    return np.concatenate(found, axis=0 if sums is RANK_SUMS else 1)
