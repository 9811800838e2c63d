"""Degrees beyond what the rows determine: the smoothest field through the points, on every grid and in every layout."""

import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, GridKind, HarmonicTransform
from weather_scnn.sphere.layouts import DENSE, FOLDED
from weather_scnn.sphere.tables import legendre, smooth_analysis

DEGREE = 17
GRIDS = [
    Grid.equiangular(24, 12),
    Grid.equiangular(24, 13, poles=True),
    Grid.gaussian(26, 13),
    Grid(GridKind.EQUIANGULAR, 27, 11, first_longitude=12.5, north_first=True),
]


def transform(grid, layout=FOLDED):
    return HarmonicTransform.create(grid, DEGREE, dtype=np.float64, layout=layout, beyond=True)


def smooth(spectrum, power=-3.0):
    """A spectrum whose coefficients fall with the degree, as those of the atmosphere do."""
    degree = np.arange(spectrum.shape[-4])
    return spectrum * ((1.0 + degree) ** power)[:, None, None, None]


@pytest.mark.parametrize("spin", [0, 1, -2])
def test_no_other_field_fits_as_well_and_is_as_smooth(spin):
    """The same minimum by a least-squares solver, which is given misfit and roughness as rows of one system."""
    grid, orders = Grid.equiangular(24, 12), np.array([0, 1, 6, 11])
    found = smooth_analysis(grid, DEGREE, orders, spin)
    theta, values = np.sort(grid.colatitude), np.random.default_rng(0).normal(size=12)
    degrees = np.arange(DEGREE + 1)
    roughness = 1.0 + degrees * (degrees + 1.0)
    left_over = 0.1 * roughness[-1] ** -2.0 * (2 * DEGREE + 1) / (4 * np.pi)
    misfit = np.sqrt(grid.area_weights / left_over)
    for matrix, table in zip(found, legendre(theta, DEGREE, orders, spin)):
        exists = table.any(axis=1)
        system = np.concatenate([misfit[:, None] * table.T, np.diag(roughness)])[:, exists]
        expected = np.linalg.lstsq(system, np.concatenate([misfit * values, 0 * roughness]))[0]
        np.testing.assert_allclose(matrix[exists] @ values, expected, atol=1e-9 * np.abs(expected).max())
        assert not matrix[~exists].any()


@pytest.mark.parametrize("layout", [FOLDED, DENSE])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_transforms_apply_it_to_every_order_of_scalars_and_winds(x64, grid, layout):
    rng = np.random.default_rng(0)
    field, u, v = rng.normal(size=(3, *grid.shape, 1))
    orders, longitude = np.arange(grid.maximum_order + 1), np.radians(grid.longitude)
    waves = np.exp(-1j * orders[:, None] * longitude) / grid.longitudes
    made = transform(grid, layout)

    def coefficients(values, spin, mirrored=False):
        rows = values[:, :, 0] if grid.north_first else values[::-1, :, 0]
        table = smooth_analysis(grid, DEGREE, orders, spin)
        return np.einsum("mly,yx,mx->lm", table, rows, waves)

    def parts(spectrum):
        return np.asarray(spectrum[..., 0, 0] + 1j * spectrum[..., 1, 0])

    np.testing.assert_allclose(parts(made.analysis(jnp.asarray(field))), coefficients(field, 0), atol=1e-10)
    # u + iv = i Σ (E + iB) ₁Y and its complex conjugate, of spin −1, hold E and B for the orders from 0 on.
    plus = coefficients(u, 1) + 1j * coefficients(v, 1)
    minus = coefficients(u, -1) - 1j * coefficients(v, -1)
    first, second = -1j * plus, -1j * minus
    e, b = (parts(part) for part in made.analysis_vector(jnp.asarray(u), jnp.asarray(v)))
    np.testing.assert_allclose(e, (first + second) / 2, atol=1e-10)
    np.testing.assert_allclose(b, (first - second) / 2j, atol=1e-10)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_it_finds_smooth_fields_better_than_quadrature_in_its_own_degrees_and_beyond(x64, grid, random_spectrum):
    made, rows = transform(grid), HarmonicTransform.create(grid, dtype=np.float64)
    given = smooth(random_spectrum(DEGREE + 1, made.max_order + 1, channels=8))
    field = made.synthesis(jnp.asarray(given))
    found, low = np.asarray(made.analysis(field)), np.asarray(rows.analysis(field))
    l, m = low.shape[:2]
    mine, its = (np.square(part[:l, :m] - given[:l, :m]).sum() for part in (found, low))
    assert mine < its
    assert np.square(found[l:] - given[l:]).sum() < 0.75 * np.square(given[l:]).sum()
    left = field - made.synthesis(jnp.asarray(found))
    assert jnp.square(left).mean() < 0.05 * jnp.square(field - rows.synthesis(jnp.asarray(low))).mean()


def test_degrees_beyond_the_rows_must_be_asked_for():
    with pytest.raises(UserError, match="degree 17 is not between 0 and 11"):
        HarmonicTransform.create(GRIDS[0], DEGREE)
    assert HarmonicTransform.create(GRIDS[0], DEGREE, beyond=True, one_table=True).scalar_analysis is not None
