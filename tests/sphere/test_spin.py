"""Transforms of complex fields of any spin."""

import ducc0
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, SpinTransform

pytestmark = pytest.mark.usefixtures("each_layout")


def random_coefficients(transform, channels=2, batch=()):
    rng = np.random.default_rng(3)
    degrees, orders = transform.spectrum_shape
    shape = (*batch, degrees, orders, channels)
    degree, order = np.arange(degrees)[:, None], np.abs(np.arange(orders) - transform.max_order)
    mask = degree >= np.maximum(order, abs(transform.spin))
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * mask[..., None]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(list(GridKind)),
    rows=st.integers(7, 14),
    columns=st.integers(5, 20),
    spin=st.integers(-4, 4),
    first=st.sampled_from([0.0, 33.3]),
    north_first=st.booleans(),
)
def test_analysis_inverts_synthesis(x64, kind, rows, columns, spin, first, north_first):
    transform = SpinTransform.create(Grid(kind, columns, rows, first, north_first), spin, dtype=np.float64)
    a = random_coefficients(transform, batch=(2,))
    np.testing.assert_allclose(transform.analysis(transform.synthesis(a)), a, atol=1e-12)


@pytest.mark.parametrize("spin", [-2, -1, 1, 2])
def test_closed_forms(x64, spin):
    # ±1Y and ±2Y of low degree (Goldberg et al. 1967): differences of sign would show here.
    grid = Grid(GridKind.EQUIANGULAR, 16, 8, 10.0)
    theta, phi = np.meshgrid(grid.colatitude, np.radians(grid.longitude), indexing="ij")
    cos, sin = np.cos(theta), np.sin(theta)
    sign = np.sign(spin)
    forms = {
        1: {
            (1, 0): sign * np.sqrt(3 / (8 * np.pi)) * sin,
            (1, 1): -np.sqrt(3 / (16 * np.pi)) * (1 - sign * cos) * np.exp(1j * phi),
            (1, -1): -np.sqrt(3 / (16 * np.pi)) * (1 + sign * cos) * np.exp(-1j * phi),
        },
        2: {
            (2, 0): np.sqrt(15 / (32 * np.pi)) * sin**2,
            (2, 2): np.sqrt(5 / (64 * np.pi)) * (1 - sign * cos) ** 2 * np.exp(2j * phi),
            (2, -2): np.sqrt(5 / (64 * np.pi)) * (1 + sign * cos) ** 2 * np.exp(-2j * phi),
        },
    }[abs(spin)]
    transform = SpinTransform.create(grid, spin, dtype=np.float64)
    for (l, m), expected in forms.items():
        spectrum = np.zeros((*transform.spectrum_shape, 1), complex)
        spectrum[l, m + transform.max_order] = 1.0
        np.testing.assert_allclose(transform.synthesis(spectrum)[..., 0], expected, atol=1e-14, err_msg=f"{l} {m}")


@pytest.mark.parametrize("spin", [1, 2, 3])
def test_agrees_with_ducc0(x64, random_spectrum, spin):
    # ducc0's two maps of spin s are the real and imaginary part of −Σ (E_lm + iB_lm) sY_lm, E and B of real fields.
    grid = Grid.equiangular(30, 14)
    transform = SpinTransform.create(grid, spin, dtype=np.float64)
    degrees, orders = transform.max_degree + 1, transform.max_order + 1
    e, b = (random_spectrum(degrees, orders, channels=1, least=spin)[..., 0] for _ in range(2))
    e, b = e[..., 0] + 1j * e[..., 1], b[..., 0] + 1j * b[..., 1]
    sign = (-1.0) ** np.arange(orders)
    positive, negative = e + 1j * b, sign * (e.conj() + 1j * b.conj())
    spectrum = -np.concatenate([negative[:, :0:-1], positive], 1)[..., None]
    found = np.asarray(transform.synthesis(spectrum))[::-1, :, 0]
    packed = [np.concatenate([x[m:, m] for m in range(orders)]) for x in (e, b)]
    maps = ducc0.sht.synthesis(
        alm=np.stack(packed),
        spin=spin,
        theta=grid.colatitude[::-1].copy(),
        nphi=np.full(14, 30, np.uint64),
        phi0=np.zeros(14),
        ringstart=(np.arange(14) * 30).astype(np.uint64),
        lmax=degrees - 1,
        mmax=orders - 1,
    ).reshape(2, 14, 30)
    np.testing.assert_allclose(found, maps[0] + 1j * maps[1], atol=1e-12)


def test_a_wind_is_the_field_of_spin_one(x64):
    # u + iv = i Σ (E_lm + i B_lm) ₁Y_lm
    grid = Grid.equiangular(24, 13, poles=True)
    wind, spin = HarmonicTransform.create(grid, dtype=np.float64), SpinTransform.create(grid, 1, dtype=np.float64)
    u, v = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 13, 24, 2)))
    e, b = (x[..., 0, :] + 1j * x[..., 1, :] for x in wind.analysis_vector(u, v))
    np.testing.assert_allclose(spin.analysis(u + 1j * v)[..., spin.max_order :, :], 1j * (e + 1j * b), atol=1e-14)


def test_errors():
    with pytest.raises(UserError, match="spin 4"):
        SpinTransform.create(Grid.equiangular(8, 4), 4)
    transform = SpinTransform.create(Grid.equiangular(8, 4), 1)
    with pytest.raises(UserError, match="8x4"):
        transform.analysis(jnp.zeros((8, 4, 1), complex))
    with pytest.raises(UserError, match="spin 1"):
        transform.synthesis(jnp.zeros((4, 4, 1), complex))
