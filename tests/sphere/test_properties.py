"""Properties over shapes, spins and grids."""

import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, SpinTransform, power_spectrum

quick = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
grids = st.builds(
    Grid,
    kind=st.sampled_from(list(GridKind)),
    longitudes=st.integers(5, 24),
    latitudes=st.integers(6, 13),
    first_longitude=st.sampled_from([0.0, 33.3]),
    north_first=st.booleans(),
)
batches = st.sampled_from([(), (2,), (2, 1)])


@quick
@given(grid=grids, batch=batches, channels=st.integers(1, 3))
def test_scalars_and_winds_come_back(x64, random_spectrum, grid, batch, channels):
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    degrees, orders, _ = transform.spectrum_shape
    a, e, b = (random_spectrum(degrees, orders, channels, batch, least) for least in (0, 1, 1))
    field, (u, v) = transform.synthesis(a), transform.synthesis_vector(e, b)
    assert field.shape == u.shape == v.shape == (*batch, *grid.shape, channels)
    np.testing.assert_allclose(transform.analysis(field), a, atol=1e-12)
    found = transform.analysis_vector(u, v)
    np.testing.assert_allclose(found[0], e, atol=1e-12)
    np.testing.assert_allclose(found[1], b, atol=1e-12)


@quick
@given(grid=grids, batch=batches, spin=st.integers(1, 4))
def test_pairs_of_any_spin_come_back_and_are_complex_fields(x64, random_spectrum, grid, batch, spin):
    transform = SpinTransform.create(grid, spin, dtype=np.float64)
    degrees, orders = transform.max_degree + 1, transform.max_order + 1
    e, b = (random_spectrum(degrees, orders, 2, batch, spin) for _ in range(2))
    q, u = transform.synthesis_pair(e, b)
    found = transform.analysis_pair(q, u)
    np.testing.assert_allclose(found[0], e, atol=1e-12)
    np.testing.assert_allclose(found[1], b, atol=1e-12)
    # a_lm = i^s (E_lm + i B_lm), and the norm over the sphere is that of E and B together.
    a = np.asarray(transform.analysis(q + 1j * u))
    expected = 1j**spin * ((e[..., 0, :] + 1j * e[..., 1, :]) + 1j * (b[..., 0, :] + 1j * b[..., 1, :]))
    np.testing.assert_allclose(a[..., transform.max_order :, :], expected, atol=1e-12)
    np.testing.assert_allclose((np.abs(a) ** 2).sum(-2), power_spectrum(e) + power_spectrum(b), atol=1e-10)


@quick
@given(one=grids, other=grids, spin=st.integers(-3, 3), degree=st.integers(3, 8))
def test_any_grid_to_any_other(x64, random_spectrum, one, other, spin, degree):
    # Pooled or upsampled, a field is the same function on both grids as far as both resolve it.
    first, second = (HarmonicTransform.create(grid, dtype=np.float64, vectors=False) for grid in (one, other))
    a = random_spectrum(*first.spectrum_shape[:2])
    degree = min(degree, first.max_degree)
    spectrum = first.analysis(first.synthesis(a), degree)
    np.testing.assert_allclose(spectrum, a[: degree + 1, : degree + 1], atol=1e-12)
    common = [min(x, y) for x, y in zip(spectrum.shape[:2], second.spectrum_shape[:2])]
    back = second.analysis(second.synthesis(spectrum), common[0] - 1)
    common[1] = min(common[1], back.shape[1])
    expected = np.asarray(spectrum)[: common[0], : common[1]]
    np.testing.assert_allclose(back[: common[0], : common[1]], expected, atol=1e-12)
    complex_one, complex_other = (SpinTransform.create(grid, spin, dtype=np.float64) for grid in (one, other))
    values = complex_one.analysis(jnp.asarray(first.synthesis(a) + 0j))
    short = complex_one.analysis(jnp.asarray(first.synthesis(a) + 0j), degree)
    top, small = complex_one.max_order, short.shape[-2] // 2
    np.testing.assert_allclose(short, values[: degree + 1, top - small : top + small + 1], atol=1e-12)
    returned = np.asarray(complex_other.analysis(complex_other.synthesis(short)))
    middle, kept = complex_other.max_order, min(small, complex_other.max_order)
    rows = min(degree + 1, returned.shape[0])
    expected = np.asarray(short)[:rows, small - kept : small + kept + 1]
    np.testing.assert_allclose(returned[:rows, middle - kept : middle + kept + 1], expected, atol=1e-12)
