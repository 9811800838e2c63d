"""Vector calculus against closed forms and identities."""

import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.sphere import (
    EARTH_RADIUS,
    Grid,
    HarmonicTransform,
    divergence,
    gradient,
    inverse_laplacian,
    kinetic_energy_spectrum,
    laplacian,
    vorticity,
    wind_from_vorticity_divergence,
)

pytestmark = pytest.mark.usefixtures("each_layout")

GRIDS = [Grid.equiangular(48, 24), Grid.equiangular(50, 25, poles=True), Grid.gaussian(40, 20)]


@pytest.fixture(params=GRIDS, ids=lambda grid: f"{grid.name}-{grid.kind.value}")
def transform(x64, request):
    return HarmonicTransform.create(request.param, dtype=np.float64)


def coordinates(transform):
    latitude, longitude = np.radians(transform.grid.latitude), np.radians(transform.grid.longitude)
    return np.meshgrid(latitude, longitude, indexing="ij")


def test_gradient_of_a_known_field(transform):
    # f = cos²(lat) sin(lat) cos(2 lon): degree 3, order 2; polar rows are part of the check.
    lat, lon = coordinates(transform)
    field = (np.cos(lat) ** 2 * np.sin(lat) * np.cos(2 * lon))[..., None]
    east = -2 * np.cos(lat) * np.sin(lat) * np.sin(2 * lon)
    north = (np.cos(lat) ** 3 - 2 * np.cos(lat) * np.sin(lat) ** 2) * np.cos(2 * lon)
    found = gradient(transform, jnp.asarray(field))
    np.testing.assert_allclose(found[0][..., 0] * EARTH_RADIUS, east, atol=1e-12)
    np.testing.assert_allclose(found[1][..., 0] * EARTH_RADIUS, north, atol=1e-12)
    expected = -12 / EARTH_RADIUS**2 * field
    np.testing.assert_allclose(laplacian(transform, jnp.asarray(field)), expected, atol=1e-12 / EARTH_RADIUS**2 * 100)


def test_solid_body_rotation_has_vorticity_twice_its_rate(transform):
    lat, _ = coordinates(transform)
    rate = 1e-5
    u = jnp.asarray(rate * EARTH_RADIUS * np.cos(lat))[..., None]
    found = vorticity(transform, u, jnp.zeros_like(u))
    np.testing.assert_allclose(found[..., 0], 2 * rate * np.sin(lat), atol=1e-16 * 100)
    np.testing.assert_allclose(divergence(transform, u, jnp.zeros_like(u)), 0, atol=1e-17 * 100)


def test_identities(transform, random_spectrum):
    degrees, orders, _ = transform.spectrum_shape
    a, b = random_spectrum(degrees, orders, least=1), random_spectrum(degrees, orders, least=1)
    potential, stream = transform.synthesis(a), transform.synthesis(b)
    scale = float(jnp.abs(laplacian(transform, potential)).max())
    u, v = gradient(transform, potential)
    np.testing.assert_allclose(vorticity(transform, u, v), 0, atol=1e-12 * scale)  # curl(grad) = 0
    np.testing.assert_allclose(divergence(transform, u, v), laplacian(transform, potential), atol=1e-12 * scale)
    east, north = gradient(transform, stream)
    np.testing.assert_allclose(divergence(transform, -north, east), 0, atol=1e-12 * scale)  # div(curl) = 0
    u, v = u - north, v + east
    found = wind_from_vorticity_divergence(transform, laplacian(transform, stream), laplacian(transform, potential))
    np.testing.assert_allclose(found[0], u, atol=1e-12 * float(jnp.abs(u).max()) * 10)
    np.testing.assert_allclose(found[1], v, atol=1e-12 * float(jnp.abs(v).max()) * 10)
    back = inverse_laplacian(transform, laplacian(transform, potential))
    np.testing.assert_allclose(back, potential, atol=1e-12 * float(jnp.abs(potential).max()) * 10)


def test_kinetic_energy_of_solid_body_rotation(transform):
    # Mean of cos²(lat)/2 over the sphere is 1/3.
    lat, _ = coordinates(transform)
    u = jnp.asarray(np.cos(lat))[..., None]
    divergent, rotational = kinetic_energy_spectrum(*transform.analysis_vector(u, jnp.zeros_like(u)))
    np.testing.assert_allclose(rotational[:3, 0], [0, 1 / 3, 0], atol=1e-14)
    np.testing.assert_allclose(divergent, 0, atol=1e-14)
