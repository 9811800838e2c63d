import mpmath
import numpy as np
import pytest

from weather_scnn.errors import UserError
from weather_scnn.sphere import Grid, GridKind, latitude_weights


@pytest.mark.parametrize("count", [2, 3, 32, 33, 64])
@pytest.mark.parametrize("kind", GridKind)
def test_quadrature_integrates_polynomials_in_cos_theta(kind, count):
    grid = Grid(kind, 8, count)
    highest = 2 * count - 1 if kind is GridKind.GAUSSIAN else count - 1
    mu = np.cos(grid.colatitude)
    for degree in range(min(highest, 40) + 1):
        exact = 2.0 / (degree + 1) if degree % 2 == 0 else 0.0
        assert grid.quadrature_weights @ mu**degree == pytest.approx(exact, abs=1e-13)


def test_area_weights_are_the_published_ones():
    # Bounds -90, -45, 45, 90 for rows at -90, 0, 90: sines -1, -√½, √½, 1.
    half = np.sqrt(0.5)
    expected = np.array([1 - half, 2 * half, 1 - half])
    np.testing.assert_allclose(latitude_weights([-90, 0, 90]), expected / expected.mean(), rtol=1e-14)
    np.testing.assert_allclose(latitude_weights([90, 0, -90]), expected / expected.mean(), rtol=1e-14)


@pytest.mark.parametrize("kind", GridKind)
@pytest.mark.parametrize("north_first", [False, True])
def test_coordinates_in_float32_give_the_grid_back(kind, north_first):
    grid = Grid(kind, 96, 48, north_first=north_first)
    again = Grid.from_coordinates(grid.longitude.astype("float32"), grid.latitude.astype("float32"))
    assert again == grid
    assert np.all(grid.area_weights > 0) and grid.area_weights.mean() == pytest.approx(1)


def test_weatherbench_latitudes_without_and_with_poles():
    np.testing.assert_allclose(Grid.from_name("64x32").latitude[[0, -1]], [-87.1875, 87.1875])
    np.testing.assert_allclose(Grid.from_name("240x121", poles=True).latitude[[0, 1]], [-90, -88.5])


@pytest.mark.parametrize("count", [5, 64, 129, 721])
def test_gauss_legendre_is_right_to_rounding(count):
    grid = Grid.gaussian(8, count)
    for row in (0, 1, count // 3, count // 2):
        with mpmath.workdps(40):
            node = mpmath.findroot(lambda x: mpmath.legendre(count, x), np.sin(np.radians(grid.latitude[row])))
            slope = count * (node * mpmath.legendre(count, node) - mpmath.legendre(count - 1, node)) / (node**2 - 1)
            weight = float(2 / ((1 - node**2) * slope**2))
            latitude = float(mpmath.degrees(mpmath.asin(node)))
        assert grid.latitude[row] == pytest.approx(latitude, abs=2e-14)
        assert grid.quadrature_weights[row] == pytest.approx(weight, rel=1e-14)


def test_names_of_weatherbench_stores():
    grid = Grid.from_name("240x121_equiangular_with_poles_conservative")
    assert grid == Grid.equiangular(240, 121, poles=True)
    assert grid.weatherbench_name == "240x121_equiangular_with_poles"
    assert Grid.from_name("64x32_equiangular_conservative") == Grid.equiangular(64, 32)
    assert Grid.from_name(Grid.gaussian(128, 64).weatherbench_name) == Grid.gaussian(128, 64)
    assert Grid.from_name("1440x721", poles=True).weatherbench_name == "1440x721_equiangular_with_poles"
    with pytest.raises(UserError, match="64x32_gaussian"):
        Grid.from_name("64x32_gaussian", poles=True)


@pytest.mark.parametrize("name", ["64", "64x", "sixtyfour", "64x32x2", "1x1"])
def test_a_name_that_is_not_a_grid_is_refused(name):
    with pytest.raises(UserError, match="64x32"):
        Grid.from_name(name)


@pytest.mark.parametrize("latitude", [[0.0, 100.0], [10.0, 10.0], [0.0, 20.0, 10.0]])
def test_latitudes_that_give_no_positive_weights_are_refused(latitude):
    with pytest.raises(UserError):
        latitude_weights(latitude)
