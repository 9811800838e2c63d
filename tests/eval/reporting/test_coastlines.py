"""Coasts where they belong: on the Earth."""

import numpy as np
import pytest
import xarray as xr

from eval.reporting.coastlines import coastlines, is_earth
from weather_scnn.sphere.grid import Grid


def earth_mask(grid: Grid) -> np.ndarray:
    """Land by counting how often a ray along the parallel crosses a coast (even-odd rule)."""
    mask = np.zeros(grid.shape)
    for row, north in enumerate(grid.latitude):
        crossings = []
        for line in coastlines():
            (x, y), (x1, y1) = line[:-1].T, line[1:].T
            across = (y > north) != (y1 > north)
            crossings += list((x + (north - y) / np.where(across, y1 - y, 1) * (x1 - x))[across])
        east = np.where(grid.longitude > 180, grid.longitude - 360, grid.longitude)
        mask[row] = np.searchsorted(np.sort(crossings), east) % 2
        if north < -80:
            mask[row] = 1
    return mask


def planet(mask: np.ndarray | None, grid: Grid, **attributes: str) -> xr.Dataset:
    coordinates = {"latitude": grid.latitude, "longitude": grid.longitude}
    fields = {} if mask is None else {"land_sea_mask": (("latitude", "longitude"), mask)}
    return xr.Dataset(fields, coordinates, attributes)


@pytest.mark.parametrize("size", [(64, 32), (240, 120)])
def test_the_mask_of_the_earth_is_known_from_others(size):
    grid = Grid.equiangular(*size)
    mask = earth_mask(grid)
    # Natural Earth's land covers 29 % of the globe.
    area = np.cos(np.radians(grid.latitude))[:, None] * np.ones(grid.shape)
    assert (mask * area).sum() / area.sum() == pytest.approx(0.29, abs=0.03)
    assert is_earth(planet(mask, grid))
    assert not is_earth(planet(np.roll(mask, size[0] // 4, axis=1), grid))
    assert not is_earth(planet(mask[::-1], grid))
    assert not is_earth(planet(mask, grid, title="Idealised nature run"))


def test_without_a_mask_the_attributes_decide():
    grid = Grid.equiangular(16, 8)
    assert is_earth(planet(None, grid, source="ERA5"))
    assert not is_earth(planet(None, grid, source="aquaplanet"))
    assert not is_earth(planet(np.zeros(grid.shape), grid))


def test_lines_do_not_cross_the_map():
    lines = coastlines()
    assert sum(map(len, lines)) > 5000
    for line in lines:
        assert np.abs(line[:, 0]).max() <= 180 and np.abs(line[:, 1]).max() < 90
        assert np.abs(np.diff(line[:, 0])).max() < 20
