"""The twelve properties that are usually learned, their units, and what of them a network has to learn.

Energies of molecules are large sums of energies of atoms: 99.99 % of U0 is there before any bond. Chemists take those off
(atomisation energies); here they come from a linear fit to the training molecules' composition, for all extensive
properties, so that the network learns what the composition does not tell.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

ELEMENTS = (1, 6, 7, 8, 9)  # H C N O F, all that QM9 has
_HARTREE_MEV = 27211.386245988  # CODATA 2018


@dataclasses.dataclass(frozen=True)
class Target:
    """A property.

    Attributes:
        column: its name in qm9pack.
        unit: of results, as in chemists' tables.
        factor: from the data's unit to `unit`.
        kind: how the atoms make up the molecule's value: sum; dipole, the length of a vector sum; spread, a sum weighted by
            squared distances from the centre; intensive, which does not grow with the molecule.
    """

    column: str
    unit: str
    factor: float
    kind: str


TARGETS: Mapping[str, Target] = {
    "mu": Target("Dipole_debye", "mD", 1e3, "dipole"),
    "alpha": Target("Polarizability_bohr3", "a0³", 1.0, "sum"),
    "homo": Target("HOMO_au", "meV", _HARTREE_MEV, "intensive"),
    "lumo": Target("LUMO_au", "meV", _HARTREE_MEV, "intensive"),
    "gap": Target("HOMO_LUMO_gap_au", "meV", _HARTREE_MEV, "intensive"),
    "r2": Target("R2_bohr2", "a0²", 1.0, "spread"),
    "zpve": Target("ZPVE_au", "meV", _HARTREE_MEV, "sum"),
    "U0": Target("InternalEnergy_0K_au", "meV", _HARTREE_MEV, "sum"),
    "U": Target("InternalEnergy_298K_au", "meV", _HARTREE_MEV, "sum"),
    "H": Target("Enthalphy_298K_au", "meV", _HARTREE_MEV, "sum"),
    "G": Target("GibbsFreeEnergy_298K_au", "meV", _HARTREE_MEV, "sum"),
    "Cv": Target("Heatcapacity_Cv_cal_mol_K", "cal/(mol K)", 1.0, "sum"),
}


@dataclasses.dataclass(frozen=True)
class Composition:
    """A linear fit to how many atoms of each element a molecule has.

    Attributes:
        constant: of all molecules; 0 for extensive properties.
        by_element: of each atom, in the order of `ELEMENTS`.
    """

    constant: float
    by_element: tuple[float, ...]

    @classmethod
    def fit(cls, counts: Int[np.ndarray, "n 5"], values: Float[np.ndarray, " n"], *, constant: bool) -> "Composition":
        """Least squares, with a constant or without."""
        columns = np.concatenate([counts, np.full((len(counts), 1), float(constant))], axis=1)
        found = np.linalg.lstsq(columns, values, rcond=None)[0]
        return cls(float(found[-1]) if constant else 0.0, tuple(map(float, found[:-1])))

    def __call__(self, counts: Int[np.ndarray, "n 5"]) -> Float[np.ndarray, " n"]:
        """The fit's values for molecules of these compositions."""
        return counts @ np.array(self.by_element) + self.constant


@dataclasses.dataclass(frozen=True)
class Scale:
    """Between a property in its unit and what the network learns: (value − composition − centre) / spread.

    Attributes:
        composition: what is taken off first; all zero for properties that do not add up.
        centre: mean of what is left.
        spread: its mean absolute deviation, robust against the few odd molecules.
    """

    composition: Composition
    centre: float
    spread: float

    @classmethod
    def fit(cls, target: Target, counts: Int[np.ndarray, "n 5"], values: Float[np.ndarray, " n"]) -> "Scale":
        """From the training molecules alone."""
        composition = Composition(0.0, (0.0,) * len(ELEMENTS))
        if target.kind == "sum":
            composition = Composition.fit(counts, values, constant=False)
        rest = values - composition(counts)
        # A length is not shifted: the head gives it as one. Neither is a sum over distances from the centre.
        centre = float(rest.mean()) if target.kind in ("sum", "intensive") else 0.0
        return cls(composition, centre, float(np.abs(rest - rest.mean()).mean()))

    def normalised(self, counts: Int[np.ndarray, "n 5"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """What the network learns."""
        return (values - self.composition(counts) - self.centre) / self.spread

    def physical(self, counts: Int[np.ndarray, "n 5"], learned: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The inverse, in the property's unit."""
        return np.asarray(learned, np.float64) * self.spread + self.centre + self.composition(counts)
