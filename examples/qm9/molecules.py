"""All of QM9 from the package qm9pack, or some of it from a file; splits into training, validation and test."""

import ast
import dataclasses
import importlib.util
import os
import pathlib
import zipfile
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from examples.qm9.targets import ELEMENTS, TARGETS
from weather_scnn.cache_folder import cache_folder
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import whole_file

_NUMBERS = dict(zip("HCNOF", ELEMENTS))
#: Atoms of the largest molecules of QM9.
LARGEST_MOLECULE = 29
_PARTS = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
_KEYS = ("index", "n", "Z", "pos", "y", "targets")
#: Sizes of training, validation and test in papers: Anderson et al. 2019 (Cormorant), Gasteiger et al. 2020 (DimeNet).
SPLITS = {"cormorant": (100_000, 17_748, 13_083), "dimenet": (110_000, 10_000, 10_831)}
#: Of the permutation that splits are cut from.
SPLIT_SEED = 2014
_VALIDATION = 1_000


@dataclasses.dataclass(frozen=True)
class Molecules:
    """Molecules whose atoms are concatenated.

    Attributes:
        index: number of each in QM9, 1 to 133,885.
        counts: atoms of each.
        numbers: atomic number of every atom.
        positions: of every atom, Å.
        properties: the twelve of `TARGETS` in its order and units.
    """

    index: Int[np.ndarray, " n"]
    counts: Int[np.ndarray, " n"]
    numbers: Int[np.ndarray, " a"]
    positions: Float[np.ndarray, "a 3"]
    properties: Float[np.ndarray, "n 12"]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def first_atoms(self) -> Int[np.ndarray, " n"]:
        """Where the atoms of each begin."""
        return np.cumsum(self.counts) - self.counts

    @property
    def composition(self) -> Int[np.ndarray, "n 5"]:
        """Atoms of each element, in the order of `ELEMENTS`."""
        kinds = (self.numbers[:, None] == np.array(ELEMENTS)).astype(np.int64)
        return np.add.reduceat(kinds, self.first_atoms) if len(self) else np.zeros((0, len(ELEMENTS)), np.int64)

    def target(self, name: str) -> Float[np.ndarray, " n"]:
        """One property, in the unit of `TARGETS`."""
        return self.properties[:, list(TARGETS).index(name)]

    def take(self, chosen: Int[np.ndarray, " k"]) -> "Molecules":
        """Some molecules, in this order."""
        counts = self.counts[chosen]
        begin = np.cumsum(counts) - counts
        atoms = np.repeat(self.first_atoms[chosen] - begin, counts) + np.arange(counts.sum())
        return Molecules(
            self.index[chosen], counts, self.numbers[atoms], self.positions[atoms], self.properties[chosen]
        )


def read_tables(folder: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of the npz from the csv files of qm9pack, whose numbers are Python's literals (`0.`, `1.,`), not JSON's."""
    columns = [target.column for target in TARGETS.values()]
    index, counts, numbers, positions, values = [], [], [], [], []
    for part in _PARTS:
        table = pd.read_csv(pathlib.Path(folder) / part, usecols=["Index", "Elements", "XYZ_Ang", *columns])
        index.append(table["Index"].to_numpy(np.int32))
        values.append(table[columns].to_numpy(np.float64))
        for row, elements, places in zip(table["Index"], table["Elements"], table["XYZ_Ang"], strict=True):
            elements, places = ast.literal_eval(elements), np.asarray(ast.literal_eval(places), np.float32)
            if places.shape != (len(elements), 3):
                raise UserError(
                    f"molecule {row} has {len(elements)} elements and positions of shape {places.shape}",
                    where=str(part),
                    remedy="install qm9pack 1.0.3 again",
                )
            counts.append(len(elements))
            numbers.append([_NUMBERS[element] for element in elements])
            positions.append(places)
    return {
        "index": np.concatenate(index),
        "n": np.array(counts, np.uint8),
        "Z": np.concatenate(numbers).astype(np.uint8),
        "pos": np.concatenate(positions),
        "y": np.concatenate(values),
        "targets": np.array(columns),
    }


def read_npz(path: str | os.PathLike) -> Molecules:
    """Molecules of an npz with arrays index, n, Z, pos, y and targets, as `prepare` writes it.

    Raises:
        UserError: there is no such file, or it lacks an array or a property, or holds a value that is not finite.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: file[name] for name in _KEYS}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"no file of molecules ({error})", where=str(path), remedy=f"give an npz with {', '.join(_KEYS)}"
        ) from error
    columns = {str(name): number for number, name in enumerate(found["targets"])}
    missing = [target.column for target in TARGETS.values() if target.column not in columns]
    if missing:
        raise UserError(f"has no {', '.join(missing)}", where=str(path), remedy="prepare it again from qm9pack")
    values = np.stack([found["y"][:, columns[target.column]] * target.factor for target in TARGETS.values()], axis=1)
    counts, numbers = found["n"].astype(np.int64), found["Z"].astype(np.int64)
    if counts.sum() != len(numbers) or found["pos"].shape != (len(numbers), 3) or len(values) != len(counts):
        raise UserError("numbers of atoms and molecules do not agree", where=str(path), remedy="prepare it again")
    strange = sorted(set(np.unique(numbers)) - set(ELEMENTS))
    if strange:
        raise UserError(f"atomic numbers {strange}", where=str(path), remedy="leave molecules with these elements out")
    if len(counts) and not 1 <= counts.min() <= counts.max() <= LARGEST_MOLECULE:
        raise UserError(
            f"molecules of {counts.min()} to {counts.max()} atoms",
            where=str(path),
            remedy=f"give molecules of 1 to {LARGEST_MOLECULE} atoms",
        )
    if not (np.isfinite(values).all() and np.isfinite(found["pos"]).all()):
        raise UserError("holds values that are not finite", where=str(path), remedy="leave those molecules out")
    return Molecules(found["index"].astype(np.int64), counts, numbers, found["pos"].astype(np.float32), values)


def prepared_file() -> pathlib.Path:
    """Where the parsed molecules are kept: $QM9_CACHE, else the user's cache folder."""
    folder = cache_folder("QM9_CACHE", "qm9")
    if folder is None:
        raise UserError("the cache is turned off", where="QM9_CACHE", remedy="name a folder, or give --data FILE.npz")
    return folder / "qm9.npz"


def prepare() -> pathlib.Path:
    """Parses the package once; the file appears when it is whole. Returns its path.

    Raises:
        UserError: qm9pack is not installed.
    """
    path = prepared_file()
    if path.exists():
        return path
    package = importlib.util.find_spec("qm9pack")
    if package is None or not package.submodule_search_locations:
        raise UserError("the molecules are not here", where="qm9pack", remedy="pip install 'qm9pack==1.0.3'")
    arrays: dict[str, Any] = read_tables(pathlib.Path(package.submodule_search_locations[0]) / "data")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


@dataclasses.dataclass(frozen=True)
class Split:
    """Molecules to train on, to draw the learning curve with, and to test on."""

    training: Molecules
    validation: Molecules
    test: Molecules


def split(molecules: Molecules, sizes: str, *, training: int | None = None, test: int | None = None) -> Split:
    """Cuts a permutation with the seed `SPLIT_SEED`: training at its beginning, test at its end, validation between.

    Args:
        molecules: all there are.
        sizes: cormorant or dimenet.
        training: only so many of the training molecules.
        test: only so many of the test molecules.

    Raises:
        UserError: there are not so many molecules.
    """
    if sizes not in SPLITS:
        raise UserError(f"no split {sizes!r}", where="--split", remedy=f"choose {' or '.join(SPLITS)}")
    first, middle, last = SPLITS[sizes]
    count = len(molecules)
    if count < first + middle + last:
        # A part of QM9 has no published split; test molecules are still the last, and validation what is between.
        first, last = training or 0, test or 0
        middle = min(count - first - last, _VALIDATION)
    for wanted, there, name in ((training, first, "--molecules"), (test, last, "--test")):
        if not 0 < (there if wanted is None else wanted) <= there:
            raise UserError(f"{wanted} of {there} molecules", where=name, remedy="give a number within this split")
    if middle < 1:
        raise UserError(
            f"{first} and {last} of {count} molecules leave none for validation",
            where="--molecules and --test",
            remedy="give smaller numbers",
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    parts = order[: training or first], order[first : first + middle], order[count - (test or last) :]
    return Split(*(molecules.take(part) for part in parts))
