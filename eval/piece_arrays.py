"""The sums of one piece as arrays, and their names on disk.

Shapes: s systems, i init times of the piece, l lead times, v levels (1 where there is none), r regions, p points.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from eval.metrics import ENSEMBLE_MOMENTS, SEEPS_MOMENTS
from eval.moments import moments_of
from eval.pairing import Comparison
from eval.score_maps import MAP_MOMENTS, WIND_MAP_MOMENTS


@dataclasses.dataclass(frozen=True)
class PieceArrays:
    """What a piece fills.

    Attributes:
        systems: names along the first axis.
        moments: names along the second axis of `sums`.
        sums: by field, (s, moment, i, l, v, r).
        ensemble: the same with `ENSEMBLE_MOMENTS`; empty without ensembles.
        seeps: the same with `SEEPS_MOMENTS`.
        missing: by variable, (2, i, l): points left out for the truth, and for the forecast.
        implausible: by variable, (s, i, l): maps whose values cannot be.
        maps: by field, (s, moment, map lead, v, p); a wind vector's with `WIND_MAP_MOMENTS`.
        zonal: by field, (1 + s, spectrum lead, v, wavenumber), the truth first; sums over init times.
        degree: by field, (1 + s, spectrum lead, v, degree).
        spectrum_count: by field, (spectrum lead, v).
        ranks: by (system, variable), (l, v, rank).
    """

    systems: list[str]
    moments: tuple[str, ...]
    sums: dict[str, np.ndarray]
    ensemble: dict[str, np.ndarray]
    seeps: dict[str, np.ndarray]
    missing: dict[str, np.ndarray]
    implausible: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    zonal: dict[str, np.ndarray]
    degree: dict[str, np.ndarray]
    spectrum_count: dict[str, np.ndarray]
    ranks: dict[tuple[str, str], np.ndarray]

    @classmethod
    def empty(
        cls,
        comparison: Comparison,
        names: Sequence[str],
        vector: str | None,
        inits: int,
        members: Callable[[str], int],
    ) -> "PieceArrays":
        """Zeros, or NaN where a system has not got a field or lead time and so has no score.

        Args:
            comparison: what is compared.
            names: variables of the piece.
            vector: the wind vector they make, if they do.
            inits: init times of the piece.
            members: size of each system's ensemble.
        """
        systems, leads = comparison.systems, comparison.leads
        moments = moments_of(anomalies=comparison.anomalies, pooled=comparison.pooled)
        regions = len(comparison.request.regions)
        points, wavenumbers = comparison.latitude.size * comparison.longitude.size, comparison.longitude.size // 2 + 1
        fields = [*names, *([vector] if vector else [])]
        levels = {name: comparison.level_count(names[0] if name == vector else name) for name in fields}

        def per_init(count: int, wanted: Sequence[str]) -> dict[str, np.ndarray]:
            shapes = {name: (len(systems), count, inits, leads.size, levels[name], regions) for name in wanted}
            return {name: np.zeros(shape) for name, shape in shapes.items()}

        climatology = comparison.climatology
        with_seeps = [name for name in names if climatology is not None and f"{name}_seeps_dry_fraction" in climatology]
        spectrum = comparison.spectrum_leads.size
        degrees = comparison.grid.maximum_degree + 1 if spectrum else 0
        arrays = cls(
            systems=systems,
            moments=moments,
            sums=per_init(len(moments), fields),
            ensemble=per_init(len(ENSEMBLE_MOMENTS), names if any(members(system) > 1 for system in systems) else []),
            seeps=per_init(len(SEEPS_MOMENTS), with_seeps),
            missing={name: np.zeros((2, inits, leads.size), np.int64) for name in names},
            implausible={name: np.zeros((len(systems), inits, leads.size), np.int64) for name in names},
            maps={
                name: np.zeros((len(systems), len(kept), comparison.map_leads.size, levels[name], points))
                for name, kept in ((each, WIND_MAP_MOMENTS if each == vector else MAP_MOMENTS) for each in fields)
                if comparison.map_leads.size
            },
            zonal={
                name: np.zeros((len(systems) + 1, spectrum, levels[name], wavenumbers))
                for name in (fields if spectrum else [])
            },
            degree={
                name: np.zeros((len(systems) + 1, spectrum, levels[name], degrees))
                for name in (fields if spectrum else [])
            },
            spectrum_count={name: np.zeros((spectrum, levels[name])) for name in (fields if spectrum else [])},
            ranks={
                (system, name): np.zeros((leads.size, levels[name], members(system) + 1))
                for system in systems
                if members(system) > 1
                for name in names
            },
        )
        for name in fields:
            parts = [name] if name != vector else list(names)
            for number, system in enumerate(systems):
                store = comparison.forecasts.get(system)
                absent = np.zeros(leads.size, bool)
                if store is not None:
                    absent = ~np.isin(leads, store.leads)
                    if any(part not in store.dataset for part in parts):
                        absent[:] = True
                elif system == "climatology" and not all(comparison.has_normal(part) for part in parts):
                    absent[:] = True
                for kind in (arrays.sums, arrays.ensemble, arrays.seeps):
                    if name in kind:
                        kind[name][number, :, :, absent] = np.nan
                for kind, wanted in (
                    (arrays.zonal, comparison.spectrum_leads),
                    (arrays.degree, comparison.spectrum_leads),
                ):
                    if name in kind:
                        kind[name][number + 1, absent[wanted]] = np.nan
        for array in arrays.ensemble.values():
            # Of single forecasts only the CRPS is defined, see `finished`.
            for number, system in enumerate(systems):
                if members(system) == 1:
                    array[number, 1:] = np.nan
        return arrays

    def put(self, name: str, system: str, row: int, leads: np.ndarray, moments: np.ndarray) -> None:
        """Sets moments of shape (moment, l, v, r) at these lead times."""
        self.sums[name][self.systems.index(system)][:, row][:, leads] = moments[: len(self.moments)]

    def put_levels(self, name: str, system: str, row: int, lead: int, levels: np.ndarray, moments: np.ndarray) -> None:
        """Sets moments of shape (moment, v, r) at some levels."""
        self.sums[name][self.systems.index(system)][:, row, lead][:, levels] = moments

    def put_ensemble(self, name: str, system: str, row: int, lead: int, sums: np.ndarray, ranks: np.ndarray) -> None:
        """Sets ensemble sums of shape (moment, v, r) and adds ranks of shape (v, rank)."""
        self.ensemble[name][self.systems.index(system)][:, row, lead] = sums
        self.ranks[system, name][lead] += ranks

    def put_seeps(self, name: str, system: str, row: int, lead: int, sums: np.ndarray) -> None:
        """Sets SEEPS sums of shape (2, v, r)."""
        self.seeps[name][self.systems.index(system)][:, row, lead] = sums

    def add_seeps_map(self, name: str, system: str, number: int, used: np.ndarray, score: np.ndarray) -> None:
        """Adds SEEPS of shape (v, p), where it is defined, to the sums of a map."""
        sums = self.maps[name][self.systems.index(system), :, number]
        sums[MAP_MOMENTS.index("seeps_count")] += used
        sums[MAP_MOMENTS.index("seeps")] += np.where(used, score, 0.0)

    def put_vector(self, name: str, system: str, row: int, lead: int, level: int, sums: np.ndarray) -> None:
        """Sets the moments of a wind vector, shape (moment, r)."""
        self.sums[name][self.systems.index(system)][:, row, lead, level] = sums

    def moments_at(self, name: str, system: str, row: int, leads: np.ndarray) -> np.ndarray:
        """The moments of a system at lead times, shape (moment, l, v, r)."""
        return self.sums[name][self.systems.index(system)][:, row][:, leads]

    def count_missing(self, name: str, row: int, lead: int, truth: int, forecast: int) -> None:
        """Sets how many points were left out."""
        self.missing[name][:, row, lead] = truth, forecast

    def count_implausible(self, name: str, system: str, rows: slice, leads: slice, maps: np.ndarray) -> None:
        """Sets how many maps of these forecasts, shape (i, l), cannot be."""
        self.implausible[name][self.systems.index(system), rows, leads] = maps

    def add_spectra(self, name: str, number: int, usable: np.ndarray, zonal: np.ndarray, degree: np.ndarray) -> None:
        """Adds spectra of shape (1 + s, usable levels, k) at one lead time."""
        self.zonal[name][:, number, usable] += zonal
        self.degree[name][:, number, usable] += degree
        self.spectrum_count[name][number, usable] += 1

    def finished(self) -> dict[str, np.ndarray]:
        """All arrays under their names on disk."""
        error = self.moments.index("absolute_error")
        for name, array in self.ensemble.items():
            for number, system in enumerate(self.systems):
                if (system, name) not in self.ranks:
                    array[number, 0] = self.sums[name][number, error]
        kinds = {
            "sums": self.sums,
            "ensemble": self.ensemble,
            "seeps": self.seeps,
            "missing": self.missing,
            "implausible": self.implausible,
            "maps": self.maps,
            "zonal": self.zonal,
            "degree": self.degree,
            "spectrum_count": self.spectrum_count,
        }
        result = {f"{kind}/{name}": array for kind, arrays in kinds.items() for name, array in arrays.items()}
        return result | {f"ranks/{system}/{name}": array for (system, name), array in self.ranks.items()}
