"""Rotations of spectra against rotations of points."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, SpinTransform, rotate_spectrum, wigner_d

ANGLES = (0.4, 1.1, -2.3)


def rotation_matrix(alpha, beta, gamma):
    def about_z(angle):
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    c, s = np.cos(beta), np.sin(beta)
    return about_z(alpha) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ about_z(gamma)


def test_wigner_d_closed_forms():
    beta = 0.7
    c, s = np.cos(beta), np.sin(beta)
    expected = [
        [(1 + c) / 2, s / np.sqrt(2), (1 - c) / 2],
        [-s / np.sqrt(2), c, s / np.sqrt(2)],
        [(1 - c) / 2, -s / np.sqrt(2), (1 + c) / 2],
    ]
    np.testing.assert_allclose(wigner_d(1, beta), expected, atol=1e-15)
    matrix = wigner_d(40, beta)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(81), atol=1e-13)
    np.testing.assert_allclose(matrix @ wigner_d(40, 0.5), wigner_d(40, 1.2), atol=1e-13)


def test_rotated_scalar_is_the_field_at_rotated_points(x64, random_spectrum):
    grid = Grid.equiangular(24, 12)
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    a = random_spectrum(12, 12, channels=1)
    theta, phi = np.meshgrid(grid.colatitude, np.radians(grid.longitude), indexing="ij")
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    origin = points @ rotation_matrix(*ANGLES)  # R⁻¹x
    theta, phi = np.arccos(np.clip(origin[..., 2], -1, 1)), np.arctan2(origin[..., 1], origin[..., 0])
    expected = sum(
        (1 if m == 0 else 2) * ((a[l, m, 0, 0] + 1j * a[l, m, 1, 0]) * sph_harm_y(l, m, theta, phi)).real
        for l in range(12)
        for m in range(l + 1)
    )
    found = transform.synthesis(rotate_spectrum(jnp.asarray(a), *ANGLES))[..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rotated_wind_turns_its_vectors(x64):
    # A solid-body rotation about z becomes one about R z.
    grid = Grid.equiangular(24, 12)
    transform = HarmonicTransform.create(grid, dtype=np.float64)
    lat, lon = np.meshgrid(np.radians(grid.latitude), np.radians(grid.longitude), indexing="ij")
    u = jnp.asarray(np.cos(lat))[..., None]
    e, b = transform.analysis_vector(u, jnp.zeros_like(u))
    found = transform.synthesis_vector(rotate_spectrum(e, *ANGLES), rotate_spectrum(b, *ANGLES))
    axis = rotation_matrix(*ANGLES)[:, 2]
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
    wind = np.cross(axis, points)
    east = np.stack([-np.sin(lon), np.cos(lon), 0 * lon], -1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], -1)
    np.testing.assert_allclose(found[0][..., 0], (wind * east).sum(-1), atol=1e-13)
    np.testing.assert_allclose(found[1][..., 0], (wind * north).sum(-1), atol=1e-13)


def test_spin_two_turns_with_its_frame(x64, random_spectrum):
    # The square of a wind, (u + iv)², has spin 2, so turning the wind turns the square's E and B.
    grid = Grid.equiangular(24, 12)
    transform, tensors = (
        HarmonicTransform.create(grid, dtype=np.float64),
        SpinTransform.create(grid, 2, dtype=np.float64),
    )
    e, b = (jnp.asarray(random_spectrum(6, 6, channels=1, least=1)) for _ in range(2))

    def square(e, b):
        u, v = transform.synthesis_vector(e, b)
        return tensors.analysis_pair(u**2 - v**2, 2 * u * v)

    turned = square(rotate_spectrum(e, *ANGLES), rotate_spectrum(b, *ANGLES))
    for found, given in zip(turned, square(e, b)):
        np.testing.assert_allclose(found, rotate_spectrum(given, *ANGLES), atol=1e-12)


@pytest.mark.parametrize("kind", list(GridKind))
def test_rotating_the_input_rotates_the_output_to_rounding(random_spectrum, kind):
    # In float32, over a filter along l as in a network's layer.
    transform = HarmonicTransform.create(Grid(kind, 26, 13))
    degrees = 12
    a, e, b = (jnp.asarray(random_spectrum(degrees, degrees, least=least, dtype=np.float32)) for least in (0, 1, 1))
    filters = jnp.asarray(np.random.default_rng(0).normal(size=(3, degrees, 1, 1, 1)), jnp.float32)

    def layer(a, e, b):
        found = transform.analysis(transform.synthesis(a), degrees - 1)
        wind = transform.analysis_vector(*transform.synthesis_vector(e, b), degrees - 1)
        return [x * f for x, f in zip((found, *wind), filters)]

    rotated = layer(*(rotate_spectrum(x, *ANGLES) for x in (a, e, b)))
    for found, expected in zip(rotated, layer(a, e, b)):
        expected = rotate_spectrum(expected, *ANGLES)
        np.testing.assert_allclose(found, expected, atol=3e-6 * float(jnp.abs(expected).max()))


def test_rotation_needs_all_orders(random_spectrum):
    with pytest.raises(UserError, match="orders"):
        rotate_spectrum(jnp.asarray(random_spectrum(12, 8, dtype=np.float32)), *ANGLES)
