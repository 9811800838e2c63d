"""Power spectra of the fields of a piece."""

from typing import Any

import numpy as np

from eval.field_source import FieldSource
from eval.piece_arrays import PieceArrays
from weather_scnn.sphere.field_spectra import degree_power, kinetic_energy, mean_zonal_energy


def add_spectra(scorer: FieldSource, block: Any, init: int, arrays: PieceArrays) -> None:
    """Adds power spectra of fields without missing values; of an ensemble that of its first member.

    The mean of an ensemble is smooth by construction, a member is what is to look like the truth.

    Args:
        scorer: of the piece.
        block: what is in memory.
        init: position of the init time in the comparison.
        arrays: to add to.
    """
    comparison = scorer.comparison
    shape = (comparison.latitude.size, comparison.longitude.size)
    for number, lead in enumerate(comparison.spectrum_leads):
        if not block.leads.start <= lead < block.leads.stop:
            continue
        stacks = {}
        for name in scorer.names:
            if not scorer.present[name][init, lead]:
                continue
            fields = [scorer.field(block, system, name, init, lead) for system in comparison.systems]
            truth = scorer.truth_at(block, name, init, lead)
            # A system that has not got the field stands as zeros here; it is NaN in the file.
            stack = np.stack([truth, *(np.zeros_like(truth) if field is None else field[0] for field in fields)])
            stacks[name] = stack.reshape(*stack.shape[:2], *shape)
        for name, stack in stacks.items():
            usable = np.isfinite(stack).all(axis=(0, 2, 3))
            part = stack[:, usable]
            if part.shape[1]:
                power = degree_power(part.reshape(-1, *shape), comparison.grid).reshape(*part.shape[:2], -1)
                arrays.add_spectra(name, number, usable, mean_zonal_energy(part, comparison.latitude), power)
        if scorer.vector is not None and len(stacks) == 2:
            u, v = (stacks[name] for name in scorer.names)
            usable = (np.isfinite(u) & np.isfinite(v)).all(axis=(0, 2, 3))
            parts = [each[:, usable] for each in (u, v)]
            if parts[0].shape[1]:
                east, north = (each.reshape(-1, *shape) for each in parts)
                energy = kinetic_energy(east, north, comparison.grid).reshape(*parts[0].shape[:2], -1)
                zonal = np.mean([mean_zonal_energy(each, comparison.latitude) for each in parts], axis=0)
                arrays.add_spectra(scorer.vector, number, usable, zonal, energy)
