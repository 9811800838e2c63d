"""Regions hold the cells they should, with the weights of the globe."""

import numpy as np
import pytest

from eval.regions import REGIONS, region_weights, with_bands
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid

GRID = Grid.equiangular(144, 72)


def fraction(name: str, grid: Grid = GRID) -> float:
    """Part of the globe's area that the region covers."""
    both = region_weights(["global", name], grid.latitude, grid.longitude).sum(axis=(1, 2))
    return both[1] / both[0]


@pytest.mark.parametrize(
    ("name", "south", "north", "width"),
    [
        ("tropics", -20, 20, 360),
        ("northern-hemisphere", 20, 90, 360),
        ("southern-hemisphere", -90, -20, 360),
        ("arctic", 60, 90, 360),
        ("antarctic", -90, -60, 360),
        ("europe", 35, 75, 55),
        ("north-america", 25, 60, 45),
        ("north-atlantic", 25, 65, 60),
        ("north-pacific", 25, 60, 85),
        ("east-asia", 25, 60, 47.5),
        ("australia-new-zealand", -45, -12.5, 55),
    ],
)
def test_area_of_a_box(name, south, north, width):
    exact = (np.sin(np.radians(north)) - np.sin(np.radians(south))) / 2 * width / 360
    # Cells count whole, by their centres: the edges are off by up to half a cell of 2.5° on each side.
    assert fraction(name) == pytest.approx(exact, rel=0.09)


def test_every_region_has_cells_and_the_parts_of_the_globe_add_up():
    assert all(fraction(name) > 0 for name in REGIONS)
    assert fraction("tropics") + fraction("extratropics") == pytest.approx(1.0)
    assert fraction("northern-hemisphere") == pytest.approx(fraction("southern-hemisphere"))


def test_edges_belong_to_both_neighbours():
    grid = Grid.equiangular(36, 19, poles=True)
    weights = region_weights(["tropics", "extratropics"], grid.latitude, grid.longitude)
    assert (weights[:, grid.latitude == 20.0] > 0).all()


def test_boxes_cross_greenwich_and_the_date_line():
    inside = region_weights(["europe", "north-pacific"], GRID.latitude, GRID.longitude)[:, 50] > 0
    east = GRID.longitude
    np.testing.assert_array_equal(inside[0], (east >= 347.5) | (east <= 42.5))
    np.testing.assert_array_equal(inside[1], (east >= 145) & (east <= 230))


def test_weights_are_those_of_the_globe():
    weights = region_weights(["global", "europe"], GRID.latitude, GRID.longitude)
    inside = weights[1] > 0
    np.testing.assert_array_equal(weights[1][inside], weights[0][inside])


def test_pole_rows_weigh_little_but_not_nothing():
    grid = Grid.equiangular(8, 5, poles=True)
    weights = region_weights(["global"], grid.latitude, grid.longitude)[0, :, 0]
    expected = np.diff(np.sin(np.radians([-90, -67.5, -22.5, 22.5, 67.5, 90])))
    np.testing.assert_allclose(weights, expected / expected.mean())


def test_unknown_and_empty_regions_are_refused():
    with pytest.raises(UserError, match="nearest: europe"):
        region_weights(["eurpoe"], GRID.latitude, GRID.longitude)
    coarse = Grid.equiangular(4, 2)
    with pytest.raises(UserError, match="holds no point of the 4x2 grid"):
        region_weights(["arctic"], coarse.latitude, coarse.longitude)


def test_zonal_bands():
    bands = with_bands(["global", "bands:30"])
    assert bands == ("global", "90s-60s", "60s-30s", "30s-0", "0-30n", "30n-60n", "60n-90n")
    weights = region_weights(bands, GRID.latitude, GRID.longitude)
    # No row of this grid lies on an edge, so the bands add up to the globe.
    np.testing.assert_allclose(weights[1:].sum(axis=0), weights[0])
    assert fraction("10s-10n") == pytest.approx(np.sin(np.radians(10)), rel=1e-3)
    assert fraction("60n-90n") == fraction("arctic")
    for name in ("60n-30n", "30s-60s", "0-95n"):
        with pytest.raises(UserError, match="does not go from south to north"):
            region_weights([name], GRID.latitude, GRID.longitude)
    for name in ("bands:7", "bands:x", "bands:0"):
        with pytest.raises(UserError, match="divides 180"):
            with_bands([name])
