"""What atoms see: the inputs against their formula, on the grid and as spectra, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy.spatial.transform import Rotation

from examples.qm9.batches import fill
from examples.qm9.spheres import harmonics, kernel_spectrum, kernel_width, sphere_fields, sphere_spectra
from examples.qm9.targets import ELEMENTS
from tests.examples.made_molecules import made_molecules
from tests.nn.spectra import assert_close, rotated
from weather_scnn.sphere import Grid, HarmonicTransform

POWERS, ANGLE = (2.0, 6.0), 50.0


@pytest.fixture(scope="module")
def data():
    return made_molecules(3, seed=1)


@pytest.fixture(scope="module")
def batch(data):
    return fill(data, np.zeros(3), np.arange(3), (4, 24))


def direct(data, point):
    """The sums of the definition at a point of the spheres of all atoms, (a, element and power)."""
    rows = []
    for begin, count in zip(data.first_atoms, data.counts):
        numbers, places = data.numbers[begin : begin + count], data.positions[begin : begin + count].astype(float)
        for i in range(count):
            row = np.zeros((len(ELEMENTS), len(POWERS)))
            for j in set(range(count)) - {i}:
                away = places[j] - places[i]
                distance = np.linalg.norm(away)
                mark = np.exp(-((point @ away / distance - 1) ** 2) / kernel_width(ANGLE))
                for k, power in enumerate(POWERS):
                    row[ELEMENTS.index(numbers[j]), k] += numbers[i] * numbers[j] / distance**power * mark
            rows.append(row.ravel())
    return np.array(rows)


def test_fields_are_the_sums_of_the_definition(data, batch):
    grid = Grid.equiangular(8, 4)
    found = sphere_fields(batch, grid, powers=POWERS, angle=ANGLE)
    atoms = data.counts.sum()
    theta, phi = np.pi / 2 - np.radians(grid.latitude[2]), np.radians(grid.longitude[3])
    point = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    np.testing.assert_allclose(found[:atoms, 2, 3], direct(data, point), rtol=2e-4, atol=1e-5)
    assert float(jnp.abs(found[atoms:]).max()) == 0.0


def test_the_mark_of_a_neighbour_falls_to_five_per_cent_at_the_angle():
    assert np.exp(-((np.cos(np.radians(40.0)) - 1) ** 2) / kernel_width(40.0)) == pytest.approx(0.05)


def test_harmonics_are_those_of_scipy():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[0] = 0, 0, 1
    found = np.asarray(harmonics(jnp.asarray(directions, jnp.float32), 6))
    theta, phi = np.arccos(directions[:, 2]), np.arctan2(directions[:, 1], directions[:, 0])
    for l in range(7):
        for m in range(l + 1):
            expected = np.conj(scipy.special.sph_harm_y(l, m, theta, phi))
            np.testing.assert_allclose(found[:, l, m], np.stack([expected.real, expected.imag], -1), atol=2e-6)


def test_spectra_are_those_of_the_fields_on_a_fine_grid(batch):
    """Closed form against sampling, where the grid leaves next to nothing of the kernel unresolved."""
    transform = HarmonicTransform.create(Grid.gaussian(64, 32), 8, vectors=False)
    sampled = transform.analysis(sphere_fields(batch, transform.grid, powers=POWERS, angle=ANGLE))
    exact = sphere_spectra(batch, 8, powers=POWERS, angle=ANGLE)
    assert_close(exact, sampled, 1e-5)
    assert np.abs(kernel_spectrum(8, ANGLE))[5] > 1e-2  # there is something to compare


def test_a_turned_molecule_has_turned_spectra(batch):
    angles = 0.7, 1.1, -2.3
    matrix = Rotation.from_euler("ZYZ", angles).as_matrix()
    turned = batch._replace(positions=(batch.positions @ matrix.T).astype(np.float32))
    assert_close(sphere_spectra(turned, 5), rotated(sphere_spectra(batch, 5), *angles), 3e-6)


def test_gradients_of_neighbours_are_winds_that_a_convolution_makes(batch):
    """Spin-1 inputs, the tangents towards neighbours, have E_lm = √(l(l+1)) a_lm and B = 0: one factor a degree."""
    transform = HarmonicTransform.create(Grid.gaussian(64, 32), 12)
    spectrum = sphere_spectra(batch, 12, powers=(2.0,))
    factor = np.sqrt(np.arange(13) * np.arange(1, 14))[:, None, None, None]
    east, north = transform.synthesis_vector(spectrum * factor, jnp.zeros_like(spectrum))
    grid, steps = transform.grid, 1e-2
    row, column = 20, 7
    theta, phi = np.pi / 2 - np.radians(grid.latitude[row]), np.radians(grid.longitude[column])

    def point(theta, phi):
        where = np.array([[np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)]])
        values = np.asarray(harmonics(jnp.asarray(where, jnp.float32), 12), np.float64)[0]
        doubled = np.where(np.arange(13) > 0, 2.0, 1.0)[:, None]
        return np.einsum("lmr,almrc->ac", values * doubled, np.asarray(spectrum, np.float64))

    southward = (point(theta + steps, phi) - point(theta - steps, phi)) / (2 * steps)
    eastward = (point(theta, phi + steps) - point(theta, phi - steps)) / (2 * steps * np.sin(theta))
    assert_close(north[:, row, column], -southward, 0.02)
    assert_close(east[:, row, column], eastward, 0.02)


def test_spectra_have_gradients(batch):
    """Of a sum of squares with respect to places, against finite differences; finite where atoms fill up."""

    def energy(positions):
        return jnp.sum(jnp.square(sphere_spectra(batch._replace(positions=positions), 3, powers=(2.0,)))) * 1e-4

    energy = jax.jit(energy)
    places = jnp.asarray(batch.positions)
    gradient = np.asarray(jax.jit(jax.grad(energy))(places))
    assert np.isfinite(gradient).all()
    step = 1e-2
    for atom, axis in ((0, 0), (5, 2)):
        ends = [float(energy(places.at[atom, axis].add(sign * step))) for sign in (1, -1)]
        assert gradient[atom, axis] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.03, abs=1e-3)
