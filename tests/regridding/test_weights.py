import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weather_scnn.errors import UserError
from weather_scnn.regridding.apply import regrid_array
from weather_scnn.regridding.weights import make_weights
from weather_scnn.sphere.grid import Grid, latitude_weights

GRIDS = [
    Grid.equiangular(64, 32),
    Grid.equiangular(36, 19, poles=True),
    Grid.gaussian(48, 24),
    Grid.equiangular(30, 15),
]


def bounds(latitude):
    return np.concatenate([[-90], (latitude[1:] + latitude[:-1]) / 2, [90]])


def brute_force(values, source, target):
    """Mean over every target cell by walking over all pairs of cells, in plain loops."""
    s_lat, t_lat = bounds(source.latitude), bounds(target.latitude)
    s_step, t_step = 360 / source.longitudes, 360 / target.longitudes
    result = np.zeros(target.shape)
    for row in range(target.latitudes):
        for column in range(target.longitudes):
            total = area = 0.0
            west = target.longitude[column] - t_step / 2
            for y in range(source.latitudes):
                low, high = max(t_lat[row], s_lat[y]), min(t_lat[row + 1], s_lat[y + 1])
                if high <= low:
                    continue
                height = np.sin(np.radians(high)) - np.sin(np.radians(low))
                for x in range(source.longitudes):
                    for turn in (-360, 0, 360):
                        start = source.longitude[x] - s_step / 2 + turn
                        width = min(start + s_step, west + t_step) - max(start, west)
                        if width > 0:
                            total += values[y, x] * width * height
                            area += width * height
            result[row, column] = total / area
    return result


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Grid.equiangular(12, 7, poles=True), Grid.equiangular(8, 4)),
        (Grid.gaussian(10, 6), Grid.equiangular(6, 5, poles=True)),
        (Grid.equiangular(5, 4), Grid.gaussian(12, 9)),
    ],
)
def test_conservative_weights_are_the_overlaps_of_cells(source, target):
    values = np.random.default_rng(0).normal(size=source.shape)
    weights = make_weights(source.latitude, source.longitude, target)
    np.testing.assert_allclose(regrid_array(values, weights), brute_force(values, source, target), rtol=0, atol=1e-13)


@pytest.mark.parametrize("source", GRIDS, ids=lambda grid: f"{grid.kind.value}-{grid.name}")
@pytest.mark.parametrize("target", GRIDS, ids=lambda grid: f"{grid.kind.value}-{grid.name}")
def test_the_area_mean_is_conserved_to_rounding(source, target):
    values = np.random.default_rng(1).normal(size=(3, *source.shape)) + 5e4
    result = regrid_array(values, make_weights(source.latitude, source.longitude, target))
    before = np.average(values.mean(-1), axis=-1, weights=latitude_weights(source.latitude))
    after = np.average(result.mean(-1), axis=-1, weights=latitude_weights(target.latitude))
    np.testing.assert_allclose(after, before, rtol=1e-14)


@pytest.mark.parametrize("method", ["conservative", "bilinear", "nearest"])
@pytest.mark.parametrize("grid", [*GRIDS, Grid.equiangular(1440, 721, poles=True)], ids=lambda grid: grid.name)
@pytest.mark.parametrize("coordinates", [np.float64, np.float32])
def test_regridding_a_grid_to_itself_changes_no_bit(grid, method, coordinates):
    # weatherbench2 PR#279: a 0.25° identity gave NaN, from tables in float32
    values = np.random.default_rng(2).normal(5e4, 1e3, size=grid.shape).astype(np.float32)
    values[3, 4] = np.nan
    latitude, longitude = (axis.astype(coordinates) for axis in (grid.latitude, grid.longitude))
    result = regrid_array(values, make_weights(latitude, longitude, grid, method))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, values)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(3, 40), st.integers(3, 40), st.integers(2, 30), st.integers(2, 30)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["conservative", "bilinear", "nearest"]),
)
def test_rows_sum_to_one_and_constants_stay(shape, from_poles, to_poles, method):
    source = Grid.equiangular(shape[0], max(3, shape[2]), poles=from_poles)
    target = Grid.equiangular(shape[1], max(3, shape[3]), poles=to_poles)
    weights = make_weights(source.latitude, source.longitude, target, method)
    for matrix in (weights.latitude, weights.longitude):
        assert matrix.min() >= 0
        np.testing.assert_allclose(matrix.sum(1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(regrid_array(np.full(source.shape, 7.0), weights), 7.0, rtol=1e-14)


@pytest.mark.parametrize("poles", [False, True])
def test_bilinear_is_exact_for_linear_fields_periodic_and_bounded_at_the_poles(poles):
    source, target = Grid.equiangular(16, 9, poles=poles), Grid.equiangular(36, 37, poles=True)
    weights = make_weights(source.latitude, source.longitude, target, "bilinear")
    linear = np.broadcast_to(source.latitude[:, None], source.shape)
    result = regrid_array(linear, weights)
    inside = np.abs(target.latitude) <= source.latitude.max()
    np.testing.assert_allclose(result[inside], np.broadcast_to(target.latitude[inside, None], result[inside].shape))
    # One value at the pole whatever the longitude; without pole rows it is the mean of the last row.
    bumpy = np.random.default_rng(3).normal(size=source.shape)
    if poles:
        bumpy[[0, -1]] = bumpy[[0, -1], :1]
    at_poles = regrid_array(bumpy, weights)[[0, -1]]
    np.testing.assert_allclose(at_poles, np.broadcast_to(bumpy[[0, -1]].mean(-1, keepdims=True), at_poles.shape))
    # Between the last meridian and the first: halfway is the average of the two.
    doubled = Grid.equiangular(32, 9, poles=poles)
    result = regrid_array(bumpy, make_weights(source.latitude, source.longitude, doubled, "bilinear"))
    np.testing.assert_allclose(result[:, -1], (bumpy[:, -1] + bumpy[:, 0]) / 2)


def test_nearest_takes_values_of_the_source_across_the_meridian():
    source = Grid.equiangular(4, 4)
    weights = make_weights(source.latitude, source.longitude, Grid.equiangular(36, 18), "nearest")
    values = np.arange(16.0).reshape(4, 4)
    result = regrid_array(values, weights)
    assert set(result.ravel()) == set(values.ravel())
    np.testing.assert_array_equal(result[0, [0, 4, 5, 31, 32, 35]], [0, 0, 1, 3, 0, 0])


def test_missing_values_weigh_nothing_and_the_threshold_decides():
    # weatherbench2#171: sea spreads into land without a threshold
    source, target = Grid.equiangular(8, 4), Grid.equiangular(4, 2)
    weights = make_weights(source.latitude, source.longitude, target)
    values = np.ones(source.shape)
    values[0, 0] = np.nan
    result = regrid_array(values, weights)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, 1.0)
    values[:2] = np.nan
    assert np.isnan(regrid_array(values, weights)[0]).all() and np.isfinite(regrid_array(values, weights)[1]).all()
    half = np.where(np.arange(8) % 2 == 0, np.nan, 3.0) + np.zeros(source.shape)
    aligned = make_weights(source.latitude, source.longitude + 22.5, Grid(target.kind, 4, 2, 45.0))
    np.testing.assert_allclose(regrid_array(half, aligned, coverage=0.5), 3.0)
    assert np.isnan(regrid_array(half, aligned, coverage=0.6)).all()


def test_rows_follow_a_target_whose_north_comes_first():
    source = Grid.equiangular(8, 8)
    values = np.random.default_rng(4).normal(size=source.shape)
    south = regrid_array(values, make_weights(source.latitude, source.longitude, Grid(source.kind, 6, 5)))
    north = regrid_array(
        values, make_weights(source.latitude, source.longitude, Grid(source.kind, 6, 5, north_first=True))
    )
    # To rounding: the sums of a matrix product depend on a row's place in it, on some processors.
    np.testing.assert_allclose(south[::-1], north, rtol=0, atol=1e-15)


def test_wrong_methods_and_orders_are_refused():
    grid = GRIDS[0]
    with pytest.raises(UserError, match="choose from conservative"):
        make_weights(grid.latitude, grid.longitude, grid, "cubic")
    with pytest.raises(UserError, match="ascend"):
        make_weights(grid.latitude[::-1], grid.longitude, grid)
