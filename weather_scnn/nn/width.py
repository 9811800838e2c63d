"""How many channels of each spin features have."""

from typing import NamedTuple

import numpy as np


class Width(NamedTuple):
    """Numbers of channels of spin 0, 1 and 2."""

    scalars: int
    vectors: int
    tensors: int = 0

    @property
    def pairs(self) -> int:
        """Channels of spin 1 and 2, each of which has two real components."""
        return self.vectors + self.tensors

    @property
    def channels(self) -> int:
        """Channels of all spins."""
        return self.scalars + self.pairs

    @property
    def spectra(self) -> int:
        """Channels of the spectrum: a field of spin 1 or 2 is two real spectra, E and B."""
        return self.channels + self.pairs

    @property
    def lowest_degrees(self) -> np.ndarray:
        """The degree from which on each spectrum exists: its spin, (C,)."""
        pairs = [1] * self.vectors + [2] * self.tensors
        return np.array([0] * self.scalars + pairs + pairs)
