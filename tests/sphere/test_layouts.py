"""The layouts of tables and spectra: equal results and gradients, which one a backend gets, and what each cannot do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.spectra import random_spectrum as network_spectrum
from weather_scnn.errors import UserError
from weather_scnn.nn import Harmonics, Width
from weather_scnn.sphere import Grid, GridKind, HarmonicTransform, SpinTransform
from weather_scnn.sphere.layouts import DENSE, FOLDED, chosen_layout, made_for
from weather_scnn.sphere.spectrum import Spectrum
from weather_scnn.sphere.stored import shapes_only
from weather_scnn.training.hlo_cost import size_of

# One of each kind at any time; the slow ones are the usual even grid, and grids of more degrees or more orders.
GRIDS = [
    Grid(GridKind.EQUIANGULAR, 67, 33, first_longitude=12.5, north_first=True),
    Grid(GridKind.EQUIANGULAR_WITH_POLES, 66, 33),
    *(
        pytest.param(grid, marks=pytest.mark.slow)
        for grid in (
            Grid(GridKind.GAUSSIAN, 48, 33, first_longitude=180.0),
            Grid(GridKind.EQUIANGULAR, 64, 32),
            Grid(GridKind.EQUIANGULAR, 20, 40),
            Grid(GridKind.EQUIANGULAR, 80, 40),
        )
    ),
]


def assert_equal(one, other, tolerance=1e-12):
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance * float(jnp.abs(right).max()))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_layouts_agree_on_fields_spectra_and_gradients(x64, grid):
    rng = np.random.default_rng(0)
    u, v = jnp.asarray(rng.normal(size=(2, 2, *grid.shape, 3)))
    results = []
    for layout in (FOLDED, DENSE):
        transform = HarmonicTransform.create(grid, dtype=np.float64, layout=layout)
        degree = transform.max_degree // 2

        def found(u, v, transform=transform, degree=degree):
            scalar, pair = transform.analysis(u), transform.analysis_vector(u, v)
            low = transform.analysis(v, degree), transform.analysis_vector(u, v, degree)
            back = transform.synthesis(scalar), transform.synthesis_vector(*pair)
            return scalar, pair, low, back, transform.synthesis(low[0]), transform.synthesis_vector(*low[1])

        def loss(u, v, found=found):
            return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(found(u, v)))

        results.append((jax.jit(found)(u, v), jax.jit(jax.grad(loss, (0, 1)))(u, v)))
    assert_equal(results[1], results[0])


@pytest.mark.parametrize("spin", [-2, *(pytest.param(spin, marks=pytest.mark.slow) for spin in (0, 2)), 1])
def test_layouts_agree_on_spins_and_their_gradients(x64, spin):
    grid = GRIDS[0]
    rng = np.random.default_rng(1)
    real, imaginary = jnp.asarray(rng.normal(size=(2, 2, *grid.shape, 2)))
    results = []
    for layout in (FOLDED, DENSE):
        transform = SpinTransform.create(grid, spin, dtype=np.float64, layout=layout)

        def loss(real, imaginary, transform=transform):
            spectrum = transform.analysis(jax.lax.complex(real, imaginary))
            field = transform.synthesis(spectrum[..., :20, 3:-3, :])
            return jnp.sum(jnp.sin(field.real) * jnp.cos(field.imag)), (spectrum, field)

        results.append(jax.jit(jax.grad(loss, (0, 1), has_aux=True))(real, imaginary))
    assert_equal(results[1], results[0])


@pytest.mark.parametrize(("degree", "other"), [(7, 4), (4, 7), (40, 20), (20, 40)])
def test_a_dense_spectrum_is_pooled_and_filled_as_a_folded_one(degree, other):
    array = network_spectrum(1, degree, Width(2, 1))
    dense, folded = (Spectrum.of(array, layout) for layout in (DENSE, FOLDED))
    np.testing.assert_array_equal(dense.array, array)
    np.testing.assert_array_equal(dense.in_layout(FOLDED).array, array)
    np.testing.assert_array_equal(dense.resampled(other).array, folded.resampled(other).array)
    np.testing.assert_allclose(dense.energy(), folded.energy(), rtol=1e-5)


def test_dense_products_take_their_operands_as_they_lie():
    """No joins, and one reversal each way: the factor i between E and B."""
    grid = Grid.equiangular(64, 32)
    harmonics = Harmonics.create(grid, 31, layout=DENSE)
    transform = harmonics.transform.get_value()
    field = jnp.zeros((64, 32, 2, 3))
    scalar = jax.make_jaxpr(lambda t, f: t.scalar_field(t.scalar_parts(f, inner=True), inner=True))(transform, field)
    assert size_of(scalar)[0] < 25 and size_of(scalar)[1] == 0

    def wind(t, u, v):
        return t.vector_fields(*t.vector_parts(u, v, inner=True), inner=True)

    assert size_of(jax.make_jaxpr(wind)(transform, field, field))[1] == 2


def test_each_backend_gets_the_layout_that_suits_it():
    grid = Grid.equiangular(64, 32)
    assert HarmonicTransform.create(grid).layout == FOLDED  # these tests run on a CPU
    for platform in ("gpu", "tpu"):
        with made_for(platform):
            assert HarmonicTransform.create(grid).layout == SpinTransform.create(grid, 2).layout == DENSE
            assert HarmonicTransform.create(grid, one_table=True).layout == FOLDED
            assert chosen_layout(grid, 0, split=True) == FOLDED
            assert chosen_layout(Grid.equiangular(1440, 720), 0) == FOLDED
            assert chosen_layout(grid, 2**40) == FOLDED
        with made_for(platform, split=True):
            assert HarmonicTransform.create(grid).layout == FOLDED
    with made_for("cpu"):
        assert HarmonicTransform.create(grid).layout == FOLDED


def test_shapes_alone_are_those_of_the_tables():
    grid = Grid.equiangular(24, 12)
    with shapes_only():
        empty = HarmonicTransform.create(grid, layout=DENSE)
    shapes = [leaf.shape for leaf in jax.tree.leaves(HarmonicTransform.create(grid, layout=DENSE))]
    assert [leaf.shape for leaf in jax.tree.leaves(empty)] == shapes == [(12, 12, 12)] * 6


def test_what_a_layout_cannot_do_is_refused():
    grid = Grid.equiangular(24, 12)
    mesh = jax.make_mesh((1,), ("model",))
    for options in ({"one_table": True}, {"mesh": mesh, "mesh_axis": "model"}):
        with pytest.raises(UserError, match="dense layout"):
            HarmonicTransform.create(grid, layout=DENSE, **options)
        with pytest.raises(UserError, match="dense layout"):
            SpinTransform.create(grid, 2, layout=DENSE, **options)
    with pytest.raises(UserError, match="folded or dense"):
        HarmonicTransform.create(grid, layout="sparse")
