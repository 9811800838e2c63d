"""Transforms against closed forms, exactness, Parseval, and an independent library."""

import functools
import subprocess
import sys

import ducc0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, power_spectrum

pytestmark = pytest.mark.usefixtures("each_layout")

GRIDS = [
    Grid(GridKind.EQUIANGULAR, 64, 32),
    Grid(GridKind.EQUIANGULAR, 67, 33, first_longitude=12.5, north_first=True),
    Grid(GridKind.EQUIANGULAR_WITH_POLES, 64, 32, north_first=True),
    Grid(GridKind.EQUIANGULAR_WITH_POLES, 66, 33),
    Grid(GridKind.GAUSSIAN, 64, 32),
    Grid(GridKind.GAUSSIAN, 48, 33, first_longitude=180.0),
    Grid(GridKind.EQUIANGULAR, 20, 64),
    Grid(GridKind.EQUIANGULAR, 256, 20),
]
identify = functools.partial(str)


def relative(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def mesh(grid):
    return np.meshgrid(grid.colatitude, np.radians(grid.longitude), indexing="ij")


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("kind", list(GridKind))
@pytest.mark.parametrize("rows", [32, 33, 64])
def test_analysis_inverts_synthesis(x64, random_spectrum, kind, rows, dtype, tolerance):
    grid = Grid(kind, 2 * rows, rows)
    transform = HarmonicTransform.create(grid, dtype=dtype)
    assert transform.max_degree == rows - (2 if grid.has_poles else 1)
    degrees, orders, _ = transform.spectrum_shape
    a = random_spectrum(degrees, orders, batch=(2,), dtype=dtype)
    e, b = (random_spectrum(degrees, orders, batch=(2,), least=1, dtype=dtype) for _ in range(2))
    assert relative(transform.analysis(transform.synthesis(a)), a) < tolerance
    found_e, found_b = transform.analysis_vector(*transform.synthesis_vector(e, b))
    assert found_e.dtype == dtype
    assert relative(found_e, e) < tolerance and relative(found_b, b) < tolerance


@pytest.mark.parametrize("grid", GRIDS, ids=identify)
def test_synthesis_of_one_coefficient_is_the_harmonic(x64, grid):
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    degrees, orders, _ = transform.spectrum_shape
    theta, phi = mesh(grid)
    for l, m in [(0, 0), (1, 0), (1, 1), (3, 2), (degrees - 1, 0), (degrees - 1, orders - 1), (orders - 1, orders - 1)]:
        spectrum = np.zeros((degrees, orders, 2, 1))
        spectrum[l, m, 0] = 0.3
        spectrum[l, m, 1] = 0.7 if m else 0.0
        coefficient = spectrum[l, m, 0, 0] + 1j * spectrum[l, m, 1, 0]
        expected = ((2 if m else 1) * coefficient * sph_harm_y(l, m, theta, phi)).real
        assert relative(transform.synthesis(spectrum)[..., 0], expected) < 1e-12, (l, m)
        assert relative(transform.analysis(jnp.asarray(expected)[..., None]), spectrum) < 1e-12, (l, m)


@pytest.mark.parametrize("grid", GRIDS, ids=identify)
def test_agrees_with_ducc0(x64, random_spectrum, grid):
    # ducc0 stores m ≥ 0 of the same orthonormal harmonics. Its spin-1 maps are the components southwards (along θ)
    # and eastwards of the vector field with the same E and B.
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    degrees, orders, _ = transform.spectrum_shape
    a, e, b = (
        random_spectrum(degrees, orders),
        random_spectrum(degrees, orders, least=1),
        random_spectrum(degrees, orders, least=1),
    )

    def packed(spectrum):
        values = spectrum[..., 0, 0] + 1j * spectrum[..., 1, 0]
        return np.concatenate([values[m:, m] for m in range(orders)])

    order = np.argsort(grid.colatitude)
    common = dict(
        theta=grid.colatitude[order],
        nphi=np.full(grid.latitudes, grid.longitudes, np.uint64),
        phi0=np.full(grid.latitudes, np.radians(grid.first_longitude)),
        ringstart=(np.arange(grid.latitudes) * grid.longitudes).astype(np.uint64),
        lmax=degrees - 1,
        mmax=orders - 1,
        nthreads=1,
    )
    scalar = ducc0.sht.synthesis(alm=packed(a)[None], spin=0, **common).reshape(grid.shape)
    found = np.asarray(transform.synthesis(a))[order, :, 0]
    assert relative(found, scalar) < 1e-12
    south, east = ducc0.sht.synthesis(alm=np.stack([packed(e), packed(b)]), spin=1, **common).reshape(2, *grid.shape)
    u, v = (np.asarray(x)[order, :, 0] for x in transform.synthesis_vector(e, b))
    assert relative(v, -south) < 1e-12
    assert relative(u, east) < 1e-12


def test_norms_are_kept(x64, random_spectrum):
    # Degrees low enough for the quadrature to be exact for products.
    grid = Grid.gaussian(64, 32)
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    weights = grid.quadrature_weights[:, None, None] * 2 * np.pi / grid.longitudes
    a, e, b = random_spectrum(32, 32), random_spectrum(32, 32, least=1), random_spectrum(32, 32, least=1)
    field, (u, v) = transform.synthesis(a), transform.synthesis_vector(e, b)
    np.testing.assert_allclose(power_spectrum(a).sum(0), (weights * field**2).sum((0, 1)), rtol=1e-12)
    wind = (weights * (u**2 + v**2)).sum((0, 1))
    np.testing.assert_allclose((power_spectrum(e) + power_spectrum(b)).sum(0), wind, rtol=1e-12)


@pytest.mark.parametrize("grid", GRIDS[:4], ids=identify)
def test_solid_body_rotation_is_the_first_rotational_degree(x64, grid):
    # u = cos(latitude) has the stream function −sin(latitude) = −√(4π/3) Y_10.
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    u = np.repeat(np.sin(grid.colatitude)[:, None, None], grid.longitudes, 1)
    e, b = transform.analysis_vector(jnp.asarray(u), jnp.zeros_like(u))
    expected = np.zeros(b.shape)
    expected[1, 0, 0] = -np.sqrt(2) * np.sqrt(4 * np.pi / 3)
    np.testing.assert_allclose(b, expected, atol=1e-13)
    np.testing.assert_allclose(e, 0, atol=1e-13)


def test_analysis_truncates_and_synthesis_takes_other_sizes(x64, random_spectrum):
    fine = HarmonicTransform.create(Grid.equiangular(64, 32), dtype=np.float64)
    coarse = HarmonicTransform.create(Grid.equiangular(32, 17, poles=True), dtype=np.float64)
    for degrees in (8, 9, 16):
        a, e, b = (
            random_spectrum(degrees, degrees),
            random_spectrum(degrees, degrees, least=1),
            random_spectrum(degrees, degrees, least=1),
        )
        pooled = fine.analysis(fine.synthesis(a), max_degree=degrees - 1)
        assert pooled.shape == a.shape and relative(pooled, a) < 1e-12
        found = fine.analysis_vector(*fine.synthesis_vector(e, b), max_degree=degrees - 1)
        assert relative(found[0], e) < 1e-12 and relative(found[1], b) < 1e-12
        assert relative(coarse.analysis(coarse.synthesis(a), degrees - 1), a) < 1e-12
    large, small = random_spectrum(32, 32), coarse.spectrum_shape
    cut = large[: small[0], : small[1]]
    np.testing.assert_allclose(coarse.synthesis(large), coarse.synthesis(cut), rtol=1e-14)


@pytest.mark.parametrize("longitudes", [40, 256])
def test_jit_vmap_scan_and_grad(longitudes, random_spectrum):
    transform = HarmonicTransform.create(Grid.equiangular(longitudes, 20))
    degrees, orders, _ = transform.spectrum_shape
    a = jnp.asarray(random_spectrum(degrees, orders, batch=(3,), dtype=np.float32))
    field = transform.synthesis(a)
    roundtrip = jax.jit(lambda t, x: t.analysis(t.synthesis(x)))
    np.testing.assert_allclose(roundtrip(transform, a), a, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(transform.synthesis)(a), field, atol=1e-5)
    _, stacked = jax.lax.scan(lambda carry, x: (carry, transform.analysis(x)), 0, field)
    np.testing.assert_allclose(stacked, a, atol=1e-5)
    # <analysis(f), g> is linear in f: its gradient does not depend on f and agrees with the derivative along f.
    g = jnp.asarray(random_spectrum(degrees, orders, batch=(3,), dtype=np.float32))
    value, slope = jax.value_and_grad(lambda f: jnp.vdot(transform.analysis(f), g))(field)
    np.testing.assert_allclose(jnp.vdot(slope, field), value, rtol=2e-4)

    def vector_loss(u, v):
        e, b = transform.analysis_vector(u, v)
        return jnp.vdot(e, g) + 2 * jnp.vdot(b, g)

    u, v = transform.synthesis_vector(a, g)
    value, slopes = jax.value_and_grad(vector_loss, (0, 1))(u, v)
    np.testing.assert_allclose(jnp.vdot(slopes[0], u) + jnp.vdot(slopes[1], v), value, rtol=2e-4)


def test_errors_name_the_grid():
    transform = HarmonicTransform.create(Grid.equiangular(16, 8), vectors=False)
    with pytest.raises(UserError, match="16x8"):
        transform.analysis(jnp.zeros((16, 8, 1)))
    with pytest.raises(UserError, match="vectors=True"):
        transform.analysis_vector(jnp.zeros((8, 16, 1)), jnp.zeros((8, 16, 1)))
    with pytest.raises(UserError, match="between 0 and 7"):
        HarmonicTransform.create(Grid.equiangular(16, 8), 8)
    with pytest.raises(UserError, match="JAX_ENABLE_X64"):
        HarmonicTransform.create(Grid.equiangular(16, 8), dtype=np.float64)


def test_grids_need_no_jax():
    code = "import sys; from weather_scnn.sphere import Grid; Grid.from_name('64x32'); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
