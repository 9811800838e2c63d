"""Which initial times and members are forecast side by side."""

import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Batch:
    """Initial times × members of one checkpoint that are forecast side by side; filled up to one size.

    Attributes:
        run: position of the checkpoint.
        inits, members: positions, each consecutive in its list.
        size: (initial times, members) of a full batch.
    """

    run: int
    inits: np.ndarray
    members: np.ndarray
    size: tuple[int, int]

    @property
    def key(self) -> str:
        """Under which the batch is recorded when it is written."""
        return f"checkpoint-{self.run}-initial-{self.inits[0]}-member-{self.members[0]}"

    @property
    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Initial time and member of every place, (b,); a short batch repeats, so that one program serves all."""
        inits, members = np.resize(self.inits, self.size[0]), np.resize(self.members, self.size[1])
        return np.repeat(inits, self.size[1]), np.tile(members, self.size[0])

    @property
    def places(self) -> np.ndarray:
        """Where in `filled` the forecasts of the batch stand, without repetitions."""
        grid = np.arange(self.size[0] * self.size[1]).reshape(self.size)
        return grid[: len(self.inits), : len(self.members)].ravel()


def batches(inits: int, members: int, runs: int, batch_size: int) -> Iterator[Batch]:
    """Members are dealt to the checkpoints in turn: member k comes from checkpoint k mod `runs`.

    All forecasts from some initial times come before those from the next.
    """
    most = -(-members // runs)
    wide = min(most, batch_size)
    size = (max(1, batch_size // wide), wide)
    for first in range(0, inits, size[0]):
        for run in range(runs):
            own = np.arange(run, members, runs)
            for at in range(0, own.size, wide):
                yield Batch(run, np.arange(first, min(first + size[0], inits)), own[at : at + wide], size)
