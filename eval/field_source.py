"""What the maps, the spectra and the masked sums of a piece are made from."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from eval.pairing import Comparison
from eval.valid_time_fields import ValidTimeFields


@runtime_checkable
@runtime_checkable
class FieldSource(Protocol):
    """The fields of a piece by positions in the whole comparison; `eval.scoring_pieces.PieceScorer` is one.

    Shapes: n members, v levels, p points.

    Attributes:
        comparison: what is compared.
        names: variables of the piece.
        vector: the wind vector they make, if they do.
        fields: by variable, what belongs to a valid time.
        present: by variable, which pairs of init and lead time are scored.
        absent: by system and variable, levels that the store holds nothing at.
        ensembles: systems of more than one member.
    """

    comparison: Comparison
    names: tuple[str, ...]
    vector: str | None
    fields: dict[str, ValidTimeFields]
    present: dict[str, np.ndarray]
    absent: dict[tuple[str, str], np.ndarray]
    ensembles: list[str]

    def truth_at(self, block: Any, name: str, init: int, lead: int) -> np.ndarray:
        """The truth of a pair, shape (v, p)."""

    def anomaly_at(self, block: Any, name: str, init: int, lead: int) -> np.ndarray | None:
        """The truth's anomaly, shape (v, p); None without a climatology of the variable."""

    def field(self, block: Any, system: str, name: str, init: int, lead: int) -> np.ndarray | None:
        """A system's field, shape (n, v, p); None where it has not got it."""

    def ensemble_parts(
        self, name: str, members: np.ndarray, truth: np.ndarray, valid_time: np.datetime64, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the ensemble's scores, and ranks of the truth."""
