"""Legendre tables against arbitrary precision, weights against integrals, and what the tables take."""

import ducc0
import mpmath
import numpy as np
import pytest
from scipy.special import sph_harm_y

from weather_scnn.sphere import Grid, GridKind
from weather_scnn.sphere.tables import interpolant_weights, legendre, northern_colatitude
from weather_scnn.sphere.transforms import HarmonicTransform


def exact(l, m, s, theta, digits):
    """sλ_lm by Wigner's sum for d^l_{m,−s}, with enough digits for its cancellation."""
    n = -s
    with mpmath.workdps(digits):
        cos, sin = mpmath.cos(mpmath.mpf(float(theta)) / 2), mpmath.sin(mpmath.mpf(float(theta)) / 2)
        low, high = max(0, n - m), min(l + n, l - m)
        f = mpmath.factorial
        term = (-1) ** (m - n + low) * cos ** (2 * l + n - m - 2 * low) * sin ** (m - n + 2 * low)
        term = term / (f(l + n - low) * f(low) * f(m - n + low) * f(l - m - low))
        ratio, total = (sin / cos) ** 2, mpmath.mpf(0)
        for k in range(low, high + 1):
            total += term
            if k < high:
                term *= -ratio * (l + n - k) * (l - m - k) / mpmath.mpf((k + 1) * (m - n + k + 1))
        norm = mpmath.sqrt(f(l + m) * f(l - m) * f(l + n) * f(l - n)) * mpmath.sqrt((2 * l + 1) / (4 * mpmath.pi))
        return float((-1) ** s * norm * total)


@pytest.mark.parametrize("spin", [0, 1, -1, 2, -4])
def test_tables_agree_with_arbitrary_precision(spin):
    theta = np.array([1e-3, 0.4, np.pi / 2, 2.5])
    orders = np.arange(-7, 8)
    table = legendre(theta, 12, orders, spin)
    for l in range(13):
        for i, m in enumerate(orders):
            if l < max(abs(m), abs(spin)):
                assert not table[i, l].any()
                continue
            expected = [exact(l, int(m), spin, t, 40) for t in theta]
            np.testing.assert_allclose(table[i, l], expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    "l, m, s",
    [(1500, m, s) for m, s in [(0, 0), (700, 0), (1500, 0), (1100, 1), (-1499, -1), (2, 2), (3, -2), (-900, 3)]],
)
def test_tables_are_stable_to_degree_1500(l, m, s):
    # Order 700 is 1e-600 at its first degree near the pole and of order one at degree 1500.
    theta = np.array([0.02, 0.45, 0.9, np.pi / 2])
    table = legendre(theta, l, np.array([m]), s)[0, l]
    expected = [exact(l, m, s, t, 1400) for t in theta]
    np.testing.assert_allclose(table, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("spin", [0, 1, 2, *(pytest.param(spin, marks=pytest.mark.slow) for spin in (3, 4))])
def test_all_orders_to_degree_1500_agree_with_ducc0(spin):
    # Rings at four colatitudes, from near the pole to the equator, summed from our tables and by ducc0; its two maps
    # are the parts of −Σ (E_lm + iB_lm) sY_lm, E and B spectra of real fields.
    degree, count = 1500, 3008
    theta = np.array([0.004, 0.3, 1.1, np.pi / 2])
    rng = np.random.default_rng(0)
    e, b = rng.normal(size=(2, degree + 1, degree + 1)) + 1j * rng.normal(size=(2, degree + 1, degree + 1))
    l, orders = np.arange(degree + 1)[:, None], np.arange(degree + 1)
    for x in (e, b):
        x[:, 0] = x[:, 0].real
        x[l < np.maximum(orders, spin)] = 0
    packed = [np.concatenate([x[m:, m] for m in orders]) for x in (e, b)][: 1 if spin == 0 else 2]
    maps = ducc0.sht.synthesis(
        alm=np.stack(packed),
        spin=spin,
        theta=theta,
        nphi=np.full(4, count, np.uint64),
        phi0=np.zeros(4),
        ringstart=(np.arange(4) * count).astype(np.uint64),
        lmax=degree,
        mmax=degree,
        nthreads=1,
    ).reshape(-1, 4, count)
    waves = np.zeros((4, count), complex)
    if spin == 0:
        waves[:, orders] = np.einsum("lm,mlh->hm", e, legendre(theta, degree, orders)) * np.where(orders, 2, 1)
        expected, found = maps[0], (np.fft.ifft(waves, norm="forward")).real
    else:
        a = -(e + 1j * b)
        waves[:, orders] = np.einsum("lm,mlh->hm", a, legendre(theta, degree, orders, spin))
        lower = -((-1.0) ** orders) * (e.conj() + 1j * b.conj())
        waves[:, -orders[1:]] = np.einsum("lm,mlh->hm", lower[:, 1:], legendre(theta, degree, -orders[1:], spin))
        expected, found = maps[0] + 1j * maps[1], np.fft.ifft(waves, norm="forward")
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_spin_zero_is_the_associated_legendre_function():
    theta = np.linspace(0, np.pi, 9)
    table = legendre(theta, 20, np.arange(-20, 21))
    expected = [[sph_harm_y(l, m, theta, 0.0).real * (abs(m) <= l) for l in range(21)] for m in range(-20, 21)]
    np.testing.assert_allclose(table, expected, atol=1e-13)


@pytest.mark.parametrize("spin", [0, 1, 3])
def test_mirror_and_conjugate_symmetry(spin):
    # sλ_lm(π−θ) = (−1)^(l+m) ₋sλ_lm(θ) and sλ_l,−m = (−1)^(m+s) ₋sλ_lm
    theta, m, l = np.linspace(0.1, 3, 7), np.arange(-9, 10)[:, None, None], np.arange(10)[:, None]
    table, other = legendre(theta, 9, m.ravel(), spin), legendre(theta, 9, m.ravel(), -spin)
    np.testing.assert_allclose(legendre(np.pi - theta, 9, m.ravel(), spin), (-1.0) ** (l + m) * other, atol=1e-14)
    np.testing.assert_allclose(table[::-1], (-1.0) ** (m + spin) * other, atol=1e-14)


@pytest.mark.parametrize("kind", list(GridKind))
@pytest.mark.parametrize("rows", [7, 12])
@pytest.mark.parametrize("odd", [False, True])
def test_weights_integrate_products_of_interpolants(kind, rows, odd):
    # ∫ cos(aθ) cos(bθ) sinθ dθ, or of sines, for what the rows determine; Gauss–Legendre only for a + b < 2N.
    grid = Grid(kind, 8, rows)
    weights = interpolant_weights(grid, odd)
    np.testing.assert_array_equal(weights, weights.T)
    theta = grid.colatitude
    # With odd m + s polynomials times sin θ are what Gauss–Legendre integrates.
    function = np.sin if odd else np.cos
    fine = (np.arange(20000) + 0.5) * np.pi / 20000
    for a in range(1, grid.maximum_degree + 1):
        for b in (1, a):
            expected = np.sum(function(a * fine) * function(b * fine) * np.sin(fine)) * np.pi / 20000
            assert function(a * theta) @ weights @ function(b * theta) == pytest.approx(expected, abs=1e-7), (a, b)


def test_northern_colatitude_holds_the_equator_once():
    for grid in (Grid.equiangular(8, 5), Grid.equiangular(8, 5, poles=True), Grid.gaussian(8, 5)):
        theta = northern_colatitude(grid)
        assert theta.size == 3 and theta[-1] == pytest.approx(np.pi / 2, abs=1e-15) and np.all(np.diff(theta) > 0)
    assert northern_colatitude(Grid.equiangular(8, 4, poles=True))[0] == 0.0


def test_tables_of_a_quarter_degree_take_less_than_a_gigabyte_and_a_fifth():
    grid = Grid.equiangular(1440, 721, poles=True)
    assert HarmonicTransform.table_bytes(grid) < 1.2e9
    assert HarmonicTransform.table_bytes(grid, 255) < 0.2e9
    small = Grid.equiangular(80, 40)
    transform = HarmonicTransform.create(small, one_table=True)
    held = sum(table.nbytes for table in (*transform.scalar_synthesis, *transform.vector_synthesis))
    assert held == HarmonicTransform.table_bytes(small)
    assert transform.scalar_analysis is None and transform.vector_analysis is None
