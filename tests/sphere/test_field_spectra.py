"""Spectra keep the variance of a field, and put a wave where it is."""

import numpy as np
import pytest

from weather_scnn.catalogue.units import squared_units
from weather_scnn.sphere.field_spectra import (
    EARTH_RADIUS,
    degree_power,
    kinetic_energy,
    mean_zonal_energy,
    zonal_energy,
)
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(32, 16)


@pytest.mark.parametrize("points", [16, 15])
def test_zonal_energy_adds_up_to_the_mean_square(points):
    field = np.random.default_rng(0).normal(size=(3, points))
    latitude = np.array([-60.0, 0.0, 30.0])
    energy = zonal_energy(field, latitude)
    circle = 2 * np.pi * EARTH_RADIUS * np.cos(np.radians(latitude))
    np.testing.assert_allclose(energy.sum(axis=-1), circle * (field**2).mean(axis=-1))


def test_a_wave_has_one_wavenumber_and_the_nyquist_one_is_not_doubled():
    x = np.radians(GRID.longitude)
    latitude = np.array([0.0])
    energy = zonal_energy(3 * np.cos(5 * x)[None] + 2, latitude) / (2 * np.pi * EARTH_RADIUS)
    expected = np.zeros(17)
    expected[0], expected[5] = 4.0, 4.5
    np.testing.assert_allclose(energy[0], expected, atol=1e-12)
    nyquist = zonal_energy(np.cos(16 * x)[None], latitude) / (2 * np.pi * EARTH_RADIUS)
    assert nyquist[0, 16] == pytest.approx(1.0)


def test_pole_rows_have_no_length():
    grid = Grid.equiangular(8, 5, poles=True)
    energy = zonal_energy(np.ones(grid.shape), grid.latitude)
    assert (
        np.all(energy[[0, -1]] < 1e-6 * energy[2, 0])
        and np.isfinite(mean_zonal_energy(np.ones(grid.shape), grid.latitude)).all()
    )


def test_degree_power_of_known_harmonics():
    mu = np.sin(np.radians(GRID.latitude))[:, None] * np.ones(32)
    # P₁ = μ has the mean square ⅓, P₂ = (3μ² − 1)/2 has ⅕; a mean of 5e4, as of geopotential, must not hide them.
    fields = np.stack([mu, (3 * mu**2 - 1) / 2, 5e4 + mu])
    power = degree_power(fields, GRID)
    np.testing.assert_allclose(power[0, :3], [0, 1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(power[1, :3], [0, 0, 1 / 5], atol=1e-6)
    assert power[2, 0] == pytest.approx(2.5e9) and power[2, 1] == pytest.approx(1 / 3, rel=1e-4)


def test_solid_rotation_has_kinetic_energy_at_degree_one():
    u = np.cos(np.radians(GRID.latitude))[:, None] * np.ones(32)
    energy = kinetic_energy(u[None], np.zeros((1, *GRID.shape)), GRID)
    # The mean of cos² over the sphere is ⅔, half of it is the energy.
    np.testing.assert_allclose(energy[0, :4], [0, 1 / 3, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("units", "squared", "times_metres"),
    [
        ("K", "K2", "K2 m"),
        ("m s-1", "m2 s-2", "m3 s-2"),
        ("m**2 s**-2", "m4 s-4", "m5 s-4"),
        ("Pa s^-1", "Pa2 s-2", "Pa2 s-2 m"),
        ("g kg-1", "g2 kg-2", "g2 kg-2 m"),
        ("kg kg**-1", "1", "m"),
        ("(0 - 1)", "1", "m"),
        # What is not understood, or has no square by powers, as degrees above a zero and fractions have not.
        ("BU", "(BU)2", "(BU)2 m"),
        ("degC", "(degC)2", "(degC)2 m"),
        ("J/kg", "(J/kg)2", "(J/kg)2 m"),
    ],
)
def test_units_are_squared(units, squared, times_metres):
    assert squared_units(units) == squared
    assert squared_units(units, times_metres=True) == times_metres
