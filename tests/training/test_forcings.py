"""Forcings made on the device: equal to float64 sums on the host, and turned and mirrored as the planet is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.physics.solar import SOLAR_CONSTANT, toa_incident_solar_radiation
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.forcings import PHASES, Forcings, Phases, phases

GRID = Grid.equiangular(64, 33, poles=True)
TIMES = np.datetime64("1959-01-01T00") + np.arange(0, 60 * 365 * 24, 9973) * np.timedelta64(1, "h")


def on(grid: Grid, **kinds: bool) -> Forcings:
    return Forcings.on(grid, Channels.from_config(DataConfig(surface_variables=("2m_temperature",), **kinds)))


@pytest.mark.parametrize("grid", [GRID, Grid.gaussian(32, 16)], ids=["poles", "gaussian"])
def test_radiation_is_that_of_the_host_to_float32(grid):
    """Sixty years, polar day and night, and hours around midnight."""
    expected = toa_incident_solar_radiation(TIMES, grid.latitude, grid.longitude) / (SOLAR_CONSTANT * 3600)
    found = jax.jit(lambda make, packed: make(packed))(on(grid, clock=False), phases(TIMES))
    assert found.shape == (*TIMES.shape, *grid.shape, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], expected, atol=2e-6)
    assert (np.asarray(found[..., 0])[expected == 0.0] < 1e-6).all()


def test_the_clock_is_that_of_the_local_day_and_the_calendar_year():
    grid = Grid.from_name("4x4")
    found = on(grid, solar=False)(jnp.asarray(phases(np.array(["2001-01-01T06", "2004-12-31T18"], "datetime64[h]"))))
    np.testing.assert_allclose(found[0, 0, :, 2:], [[1, 0], [0, -1], [-1, 0], [0, 1]], atol=1e-6)
    for time, passed in ((0, 0.25 / 365), (1, 365.75 / 366)):
        expected = [np.sin(2 * np.pi * passed), np.cos(2 * np.pi * passed)]
        np.testing.assert_allclose(found[time, 2, 3, :2], expected, atol=1e-6)


def test_kinds_and_shapes():
    packed = jnp.asarray(phases(TIMES[:6].reshape(2, 3)))
    assert packed.shape == (2, 3, PHASES)
    for solar, clock, count in ((True, True, 5), (True, False, 1), (False, True, 4), (False, False, 0)):
        assert on(GRID, solar=solar, clock=clock)(packed).shape == (2, 3, *GRID.shape, count)
    np.testing.assert_array_equal(Phases.of(packed).packed(), packed)


def test_turned_and_mirrored_phases_turn_and_mirror_the_fields():
    make, packed = on(GRID), Phases.of(jnp.asarray(phases(TIMES[:20])))
    before = make(packed.packed())
    np.testing.assert_allclose(make(packed.turned(2 * np.pi * 5 / 64).packed()), np.roll(before, 5, axis=-2), atol=3e-6)
    after = make(packed.mirrored().packed())
    np.testing.assert_allclose(after[..., 0], before[:, ::-1, :, 0], atol=2e-6)
    np.testing.assert_array_equal(after[..., 1:3], -before[..., 1:3])
