"""Layers that pressure levels stand for, and integrals over them."""

import jax.numpy as jnp
import numpy as np
import pytest

from weather_scnn.physics.columns import column_integral, layer_thickness

LEVELS = (850, 250, 500, 700)


def test_layers_reach_half_way_to_their_neighbours_and_add_up_to_the_surface_pressure():
    pressure = jnp.array([1013e2, 800e2, 600e2, 300e2])
    found = np.asarray(layer_thickness(pressure, LEVELS))
    np.testing.assert_allclose(found[0], [238e2, 375e2, 225e2, 175e2])
    # 700 hPa stands for 600 to 775 hPa, 850 hPa for what is below.
    np.testing.assert_allclose(found[1], [25e2, 375e2, 225e2, 175e2])
    np.testing.assert_allclose(found[2], [0, 375e2, 225e2, 0])
    np.testing.assert_allclose(found.sum(axis=1), pressure, rtol=1e-6)


def test_between_the_levels_an_integral_is_the_trapezoidal_rule():
    levels = np.array([100.0, 300.0, 450.0, 900.0])
    values = np.array([3.0, -1.0, 2.0, 4.0])
    ends = levels[0] * values[0] + 50.0 * values[-1]  # the top, and 50 hPa down to the ground
    expected = 100 * (np.trapezoid(values, levels) + ends)
    found = column_integral(jnp.asarray(values[None]), jnp.array([950e2]), levels.tolist())
    assert float(found[0]) == pytest.approx(expected, rel=1e-6)
