"""Rotations of spectra against rotations of points."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import sph_harm_y

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, HarmonicTransform, rotate_spectrum, wigner_d

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


def test_rotation_needs_all_orders(random_spectrum):
    with pytest.raises(UserError, match="orders"):
        rotate_spectrum(jnp.asarray(random_spectrum(12, 8, dtype=np.float32)), *ANGLES)
