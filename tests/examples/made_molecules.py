"""Molecules made on the spot: atoms on a jittered lattice, properties that have something to do with them."""

import numpy as np

from examples.qm9.molecules import Molecules
from examples.qm9.targets import ELEMENTS, TARGETS


def made_molecules(count: int, *, seed: int = 0, largest: int = 7) -> Molecules:
    """Molecules of three atoms to `largest`, at least 0.7 Å apart."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, largest + 1, count)
    lattice = 1.2 * np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)
    positions = [rng.permutation(lattice)[:size] + rng.uniform(-0.25, 0.25, (size, 3)) for size in counts]
    numbers = rng.choice(ELEMENTS, counts.sum())
    spread = [np.linalg.norm(place - place.mean(0), axis=1).sum() for place in positions]
    kinds = np.stack([(numbers == element) for element in ELEMENTS], 1).astype(float)
    composition = np.add.reduceat(kinds, np.cumsum(counts) - counts)
    energies = composition @ np.array([-13.0, -1030.0, -1485.0, -2042.0, -2713.0]) + np.array(spread)
    properties = energies[:, None] * np.linspace(0.5, 1.5, len(TARGETS))
    properties[:, 0] = np.array(spread)
    return Molecules(np.arange(1, count + 1), counts, numbers, np.concatenate(positions).astype(np.float32), properties)


def write_npz(path, molecules: Molecules) -> str:
    """The file that `read_npz` reads."""
    values = molecules.properties / np.array([target.factor for target in TARGETS.values()])
    np.savez(
        path,
        index=molecules.index,
        n=molecules.counts.astype(np.uint8),
        Z=molecules.numbers.astype(np.uint8),
        pos=molecules.positions,
        y=values,
        targets=np.array([target.column for target in TARGETS.values()]),
    )
    return str(path)
