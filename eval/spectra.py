"""Power spectra of forecasts and of the truth, added up over initial times."""

from typing import Any

import numpy as np

from eval.chunks import Chunk, VariableGroup
from weather_scnn.sphere.field_spectra import degree_power, kinetic_energy, mean_zonal_energy


class Spectra:
    """Sums over initial times of power spectra; of an ensemble that of its first member.

    The mean of an ensemble is smooth by construction, a member is what is to look like the truth.

    Args:
        group: the variables.
        arrays: of the work item. To them are added, by field, `zonal/…` and `degree/…` of shape (1 + system, spectrum lead, level,
            wavenumber or degree), the truth first, and `spectrum_count/…` of shape (spectrum lead, level).
    """

    def __init__(self, group: VariableGroup, arrays: dict[str, np.ndarray]):
        comparison = group.comparison
        self._comparison, self._arrays = comparison, arrays
        leads = comparison.spectrum_leads
        for name in [*group.names, *([group.wind] if group.wind else [])] if leads.size else []:
            shape = (leads.size, comparison.level_count(group.names[0]))
            arrays[f"spectrum_count/{name}"] = np.zeros(shape)
            sizes = {"zonal": comparison.longitude.size // 2 + 1, "degree": comparison.grid.maximum_degree + 1}
            for kind, size in sizes.items():
                array = np.zeros((len(comparison.systems) + 1, *shape, size))
                for number, system in enumerate(comparison.systems):
                    array[number + 1, ~group.leads_of(system, name)[leads]] = np.nan
                arrays[f"{kind}/{name}"] = array

    def add(self, chunk: Chunk) -> None:
        """Adds the fields of a chunk that lack no value, at the lead times of spectra."""
        comparison = self._comparison
        for lead in np.intersect1d(chunk.leads, comparison.spectrum_leads):
            part = chunk.at(np.array([lead]))
            fields = [self._fields(component, lead) for component in part.components]
            usable = np.logical_and.reduce([np.isfinite(each).all(axis=(0, 2, 3)) for each in fields])
            fields = [each[:, usable] for each in fields]
            if not usable.any():
                continue
            flat = [each.reshape(-1, *each.shape[2:]) for each in fields]
            power: Any = degree_power if len(flat) == 1 else kinetic_energy
            zonal = np.mean([mean_zonal_energy(each, comparison.latitude) for each in fields], axis=0)
            number = int(np.searchsorted(comparison.spectrum_leads, lead))
            self._arrays[f"zonal/{chunk.name}"][:, number, usable] += zonal
            degree = power(*flat, comparison.grid).reshape(*fields[0].shape[:2], -1)
            self._arrays[f"degree/{chunk.name}"][:, number, usable] += degree
            self._arrays[f"spectrum_count/{chunk.name}"][number, usable] += 1

    def _fields(self, chunk: Chunk, lead: int) -> np.ndarray:
        """Truth and first members, shape (1 + system, level, latitude, longitude)."""
        held = [chunk.truth[0]]
        for system in self._comparison.systems:
            # A system that has not got the field stands as zeros here; it is NaN in the file.
            has = chunk.group.leads_of(system, chunk.name)[lead]
            held.append(chunk.forecast(system)[0, 0] if has else np.zeros_like(held[0]))
        stack = np.stack(held)
        return stack.reshape(*stack.shape[:2], self._comparison.latitude.size, self._comparison.longitude.size)
