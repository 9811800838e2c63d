"""Sums of the maps of a piece."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.field_source import FieldSource
from eval.piece_arrays import PieceArrays
from eval.score_maps import add_to_map_sums


def add_maps(scorer: FieldSource, block: Any, init: int, arrays: PieceArrays) -> None:
    """Adds one init time to the sums of every variable's maps, and of the wind vector that they make.

    Args:
        scorer: of the piece.
        block: what is in memory.
        init: position of the init time in the comparison.
        arrays: to add to.
    """
    for number, lead in enumerate(scorer.comparison.map_leads):
        if not block.leads.start <= lead < block.leads.stop:
            continue
        present = [name for name in scorer.names if scorer.present[name][init, lead]]
        means = {name: _means(scorer, block, name, init, lead) for name in present}
        wanted: dict[str, tuple[str, ...]] = {name: (name,) for name in present}
        if scorer.vector is not None and present == list(scorer.names):
            wanted[scorer.vector] = scorer.names
        for field, parts in wanted.items():
            fields = [_stacked(components) for components in zip(*(means[name] for name in parts))]
            truth = np.stack([scorer.truth_at(block, name, init, lead) for name in parts])
            anomaly = _stacked([scorer.anomaly_at(block, name, init, lead) for name in parts])
            add_to_map_sums(arrays.maps[field][:, :, number], fields, truth, anomaly)


def _means(scorer: FieldSource, block: Any, name: str, init: int, lead: int) -> list[np.ndarray | None]:
    """Of every system its forecast, of an ensemble the mean: shape (v, p)."""
    fields = [scorer.field(block, system, name, init, lead) for system in scorer.comparison.systems]
    return [None if field is None else field.mean(axis=0, dtype=np.float64) for field in fields]


def _stacked(components: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Components as one array, shape (c, v, p); None where one is lacking."""
    held = [each for each in components if each is not None]
    return np.stack(held) if len(held) == len(components) else None
