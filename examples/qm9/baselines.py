"""What anyone gets without a network, on the same split: a linear fit to the composition, and a kernel ridge regression.

Sorted Coulomb matrices (Rupp et al. 2012): Z_i Z_j / r_ij off the diagonal and Z_i^2.4 / 2 on it, rows and columns by
descending norm, which makes them independent of the order of atoms, of shifts and of rotations. With a Laplacian kernel
they are the usual first baseline of QM9 (Hansen et al. 2013; Faber et al. 2017).
"""

import dataclasses

import numpy as np
import scipy.linalg
import scipy.spatial.distance
from jaxtyping import Float

from examples.qm9.molecules import LARGEST_MOLECULE, Molecules, Split
from examples.qm9.targets import TARGETS, Composition, Scale

_SEARCHED = 2_000  # training molecules among which width and ridge are chosen
_HELD_OUT = 500
#: Training molecules of the kernel, whose matrix takes eight bytes for each pair of them.
LARGEST_KERNEL = 20_000
_WIDTHS, _RIDGES = (0.25, 0.5, 1.0, 2.0, 4.0), (1e-9, 1e-6, 1e-3)


@dataclasses.dataclass(frozen=True)
class Baselines:
    """Mean absolute errors on the test molecules, in the property's unit.

    Attributes:
        composition_mae: of a linear fit with a constant to how many atoms of each element there are.
        coulomb_mae: of kernel ridge regression on sorted Coulomb matrices.
        coulomb_molecules: training molecules of the latter, at most `LARGEST_KERNEL`.
    """

    composition_mae: float
    coulomb_mae: float
    coulomb_molecules: int


def coulomb_matrices(molecules: Molecules) -> Float[np.ndarray, "n k"]:
    """The lower triangles of sorted Coulomb matrices (Å in place of the bohr, one factor for all), filled up with zeros."""
    found = np.zeros((len(molecules), LARGEST_MOLECULE, LARGEST_MOLECULE))
    for row, begin, count in zip(found, molecules.first_atoms, molecules.counts):
        numbers = molecules.numbers[begin : begin + count].astype(np.float64)
        places = molecules.positions[begin : begin + count].astype(np.float64)
        distances = scipy.spatial.distance.cdist(places, places)
        np.fill_diagonal(distances, 1.0)
        matrix = np.outer(numbers, numbers) / distances
        np.fill_diagonal(matrix, 0.5 * numbers**2.4)
        order = np.argsort(-np.linalg.norm(matrix, axis=1), kind="stable")
        row[:count, :count] = matrix[order][:, order]
    lower = np.tril_indices(LARGEST_MOLECULE)
    return found[:, lower[0], lower[1]]


def _solved(kernel: Float[np.ndarray, "n n"], ridge: float, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """(K + λ)⁻¹ y; K is used up."""
    kernel[np.diag_indices(len(kernel))] += ridge
    factor = scipy.linalg.cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    return scipy.linalg.cho_solve(factor, values, check_finite=False)


def baselines(split: Split, target: str) -> Baselines:
    """Both, fitted to the training molecules; the kernel's width and ridge are chosen on a part of those held out.

    The regression learns what the network learns: what the composition does not tell, for extensive properties.
    """
    training, test = split.training, split.test
    values, truth = training.target(target), test.target(target)
    fit = Composition.fit(training.composition, values, constant=True)
    composition = np.abs(fit(test.composition) - truth).mean()

    scale = Scale.fit(TARGETS[target], training.composition, values)
    learned = scale.normalised(training.composition, values)
    learned, centre = learned - learned.mean(), learned.mean()
    count = min(len(training), LARGEST_KERNEL)
    known, asked = coulomb_matrices(training.take(np.arange(count))), coulomb_matrices(test)

    some = min(_SEARCHED, count)
    rest = max(min(_HELD_OUT, some // 4), 1)
    distances = scipy.spatial.distance.cdist(known[:some], known[:some], "cityblock")
    typical = float(np.median(distances))
    fitted, held = slice(0, some - rest), slice(some - rest, some)
    errors = {}
    for width in _WIDTHS:
        kernel = np.exp(-distances / (width * typical))
        for ridge in _RIDGES:
            weights = _solved(kernel[fitted, fitted].copy(), ridge, learned[fitted])
            errors[width, ridge] = np.abs(kernel[held, fitted] @ weights - learned[held]).mean()
    width, ridge = min(errors, key=lambda each: errors[each])

    kernel = scipy.spatial.distance.cdist(known, known, "cityblock")
    kernel *= -1.0 / (width * typical)
    weights = _solved(np.exp(kernel, out=kernel), ridge, learned[:count])
    found = np.exp(-scipy.spatial.distance.cdist(asked, known, "cityblock") / (width * typical)) @ weights + centre
    error = np.abs(scale.physical(test.composition, found) - truth).mean()
    return Baselines(float(composition), float(error), count)
