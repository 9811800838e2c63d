"""Batches of molecules of one static shape: their atoms side by side, filled up with atoms that count for nothing."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from examples.qm9.molecules import LARGEST_MOLECULE, Molecules

_SPARE = 1.06


class Batch(NamedTuple):
    """Some molecules.

    Attributes:
        numbers: atomic number of every atom, 0 for those that fill up.
        positions: of every atom, Å.
        molecule: which molecule of the batch an atom belongs to; n, one too many, for those that fill up.
        first: the first atom of its molecule.
        size: atoms of its molecule.
        targets: what the network learns of every molecule.
        weights: 1 for molecules, 0 for places that are empty.
    """

    numbers: Int[Array | np.ndarray, " a"]
    positions: Float[Array | np.ndarray, "a 3"]
    molecule: Int[Array | np.ndarray, " a"]
    first: Int[Array | np.ndarray, " a"]
    size: Int[Array | np.ndarray, " a"]
    targets: Float[Array | np.ndarray, " n"]
    weights: Float[Array | np.ndarray, " n"]

    @property
    def atoms(self) -> Float[Array, " a"]:
        """1 for atoms, 0 for those that fill up."""
        return (jnp.asarray(self.numbers) > 0).astype(jnp.float32)

    def total(self, values: Float[Array, "a ..."]) -> Float[Array, "n ..."]:
        """Sum over the atoms of each molecule."""
        return jax.ops.segment_sum(values, self.molecule, len(self.targets))

    def mean(self, values: Float[Array, "a ..."]) -> Float[Array, "n ..."]:
        """Mean over the atoms of each molecule; 0 for empty places."""
        count = jnp.maximum(self.total(self.atoms), 1.0)
        return self.total(values) / count.reshape(-1, *[1] * (values.ndim - 1))


def capacity(molecules: int, mean_size: float) -> int:
    """Atoms of a batch of so many molecules: room for nearly all draws of them, a multiple of 8."""
    room = max(_SPARE * mean_size * molecules, mean_size * molecules + 2 * LARGEST_MOLECULE)
    return 8 * math.ceil(min(room, LARGEST_MOLECULE * molecules) / 8)


def fill(molecules: Molecules, targets: Float[np.ndarray, " n"], chosen: Int[np.ndarray, " k"], shape: tuple) -> Batch:
    """A batch of these molecules, which must fit its shape (molecules, atoms)."""
    count, atoms = shape
    part = molecules.take(chosen)
    sizes, used = part.counts, int(part.counts.sum())

    def padded(values: np.ndarray, length: int, value: float = 0) -> np.ndarray:
        rest = [(0, length - len(values))] + [(0, 0)] * (values.ndim - 1)
        return np.pad(values, rest, constant_values=value)

    return Batch(
        padded(part.numbers.astype(np.int32), atoms),
        padded(part.positions.astype(np.float32), atoms),
        padded(np.repeat(np.arange(len(part), dtype=np.int32), sizes), atoms, count),
        padded(np.repeat(part.first_atoms.astype(np.int32), sizes), atoms, used),
        padded(np.repeat(sizes.astype(np.int32), sizes), atoms),
        padded(targets[chosen].astype(np.float32), count),
        padded(np.ones(len(part), np.float32), count),
    )


def packed(sizes: Int[np.ndarray, " n"], order: Int[np.ndarray, " n"], shape: tuple[int, int]) -> list[np.ndarray]:
    """Cuts an order of molecules into batches that fit a shape (molecules, atoms); all are used, once each."""
    batches, begin, atoms = [], 0, 0
    for place, molecule in enumerate(order):
        if place - begin == shape[0] or atoms + sizes[molecule] > shape[1]:
            batches.append(order[begin:place])
            begin, atoms = place, 0
        atoms += sizes[molecule]
    return batches + [order[begin:]] * (begin < len(order))


def epochs(sizes: Int[np.ndarray, " n"], shape: tuple[int, int], seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Without end, (epoch, molecules of a batch), in an order that is a function of seed and epoch alone."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(sizes))
        for chosen in packed(sizes, order, shape):
            yield epoch, chosen
        epoch += 1
