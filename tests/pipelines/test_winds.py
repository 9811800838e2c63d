"""Winds over the poles: regridded as vectors they come through, whatever the grids and the method."""

import numpy as np
import pytest

from weather_scnn.regridding.apply import WeightedRegridder
from weather_scnn.regridding.spectral import SpectralRegridder
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere.grid import Grid

FINE = Grid.equiangular(144, 73, poles=True)
TARGETS = [Grid.equiangular(36, 19, poles=True), Grid.equiangular(64, 32), Grid.gaussian(48, 24)]


def over_the_pole(grid, axis=(1.0, 0.3, 0.2)):
    """Solid-body rotation about an axis near the equator: V = Ω × r, a straight flow across both poles."""
    latitude, longitude = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    place = np.stack(
        np.broadcast_arrays(
            np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)
        )
    )
    flow = np.cross(np.array(axis), place, axisb=0, axisc=0)
    zero = np.zeros_like(latitude)
    east = np.stack(np.broadcast_arrays(-np.sin(longitude), np.cos(longitude) + zero, zero))
    north = np.stack(
        np.broadcast_arrays(
            -np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)
        )
    )
    return (flow * east).sum(0), (flow * north).sum(0)


def worst(found, grid):
    return max(np.abs(ours - true).max() for ours, true in zip(found, over_the_pole(grid)))


@pytest.mark.parametrize("target", TARGETS, ids=lambda grid: f"{grid.kind.value}-{grid.name}")
@pytest.mark.parametrize(
    "source", [FINE, Grid.equiangular(128, 64), Grid.gaussian(128, 64)], ids=lambda grid: grid.name
)
@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_a_flow_across_the_poles_comes_through_as_a_vector(source, target, method):
    regridder = WeightedRegridder(make_weights(source.latitude, source.longitude, target, method))
    wind = over_the_pole(source)
    as_vector = worst(regridder.vectors(*wind), target)
    as_scalars = worst([regridder.scalars(part) for part in wind], target)
    # What is left is the mean of a curved flow over a cell, of second order in its size; speeds are about 1.
    cell = np.radians(max(360 / target.longitudes, 180 / target.latitudes))
    assert as_vector < 0.6 * cell**2
    if method == "bilinear" and target.has_poles and not source.has_poles:
        assert as_scalars > 1  # beyond the last row components tend to their mean over all directions, which is none
    if method == "conservative":
        # Cells follow the meridians, so directions turn little within one.
        assert as_vector < as_scalars < cell**2
    else:
        assert as_vector < 0.1 * cell**2


def test_spectral_truncation_carries_it_exactly():
    target = TARGETS[1]
    found = SpectralRegridder(FINE, target).vectors(*(part.astype(np.float32) for part in over_the_pole(FINE)))
    assert worst(found, target) < 3e-6


def test_the_matrices_are_the_average_of_three_dimensional_vectors():
    """Against the sum over all pairs of points, written out with unit vectors."""
    source, target = Grid.equiangular(12, 7, poles=True), Grid.equiangular(8, 4)
    weights = make_weights(source.latitude, source.longitude, target)
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, *source.shape))

    def directions(grid):
        latitude, longitude = np.meshgrid(np.radians(grid.latitude), np.radians(grid.longitude), indexing="ij")
        east = np.stack([-np.sin(longitude), np.cos(longitude), 0 * longitude], -1)
        north = np.stack(
            [-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)], -1
        )
        return east, north

    (east, north), (target_east, target_north) = directions(source), directions(target)
    vectors = u[..., None] * east + v[..., None] * north
    mean = np.einsum("Yy,Xx,yxi->YXi", weights.latitude, weights.longitude, vectors)
    for threshold in (0, 2**30):  # whole matrices and sparse ones
        regridder = WeightedRegridder(weights)
        regridder.__dict__["_dense"] = threshold > 0
        found = regridder.vectors(u, v)
        np.testing.assert_allclose(found[0], (mean * target_east).sum(-1), atol=1e-14)
        np.testing.assert_allclose(found[1], (mean * target_north).sum(-1), atol=1e-14)


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
def test_a_missing_wind_weighs_nothing_and_identity_changes_no_bit(method):
    source = Grid.equiangular(24, 12)
    u, v = (part.astype(np.float32) for part in over_the_pole(source))
    weights = make_weights(source.latitude, source.longitude, source, method)
    same = WeightedRegridder(weights).vectors(u, v)
    np.testing.assert_array_equal(same[0], u)
    np.testing.assert_array_equal(same[1], v)
    target = Grid.equiangular(8, 4)
    regridder = WeightedRegridder(make_weights(source.latitude, source.longitude, target, method))
    whole = regridder.vectors(u, v)
    u[7, 8] = np.nan
    found = regridder.vectors(u, v)
    assert np.isnan(found[0]).sum() <= (1 if method == "nearest" else 0)
    changed = [np.nanmax(np.abs(ours - before)) for ours, before in zip(found, whole)]
    assert max(changed) < 0.2
    u[:] = np.nan
    assert all(np.isnan(part).all() for part in regridder.vectors(u, v)[: 1 if method == "nearest" else 2])


def test_bilinear_winds_beyond_the_last_row_meet_in_one_vector():
    """A pole row of the target, from a grid without poles: one wind, whatever the longitude."""
    source, target = Grid.equiangular(72, 36), Grid.equiangular(24, 13, poles=True)
    u, v = WeightedRegridder(make_weights(source.latitude, source.longitude, target, "bilinear")).vectors(
        *over_the_pole(source)
    )
    longitude = np.radians(target.longitude)
    for row, sine in ((0, -1), (-1, 1)):
        x = -u[row] * np.sin(longitude) - sine * v[row] * np.cos(longitude)
        y = u[row] * np.cos(longitude) - sine * v[row] * np.sin(longitude)
        np.testing.assert_allclose(x, x.mean(), atol=1e-12)
        np.testing.assert_allclose(y, y.mean(), atol=1e-12)
        np.testing.assert_allclose([x.mean(), y.mean()], [0.3 * sine, -1.0 * sine], atol=2e-3)
