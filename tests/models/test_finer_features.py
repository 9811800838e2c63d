"""Features on a finer grid than the data: small scales pass, any rotation turns the forecast, old weights serve."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.test_forecaster import make, opened
from tests.nn.spectra import random_spectrum
from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig, Resolution
from weather_scnn.nn import Fields, Harmonics, Width
from weather_scnn.sphere import Grid, HarmonicTransform, layouts, rotate_spectrum
from weather_scnn.sphere.spectrum import Spectrum

GRID = Grid.equiangular(16, 8)
PLAIN = ModelConfig(scalar_channels=4, vector_channels=3, blocks=1, filter_parameters=4, max_degree=6)
FINER = dataclasses.replace(PLAIN, feature_grid="24x12", max_degree=11, filter_degree=6)


def one_field(model, field):
    """The increment of a single scalar."""
    empty = jnp.zeros((*field.shape[:-1], 0))
    return model(Fields(field[:, None], empty[:, None], empty[:, None]), empty).scalar


def test_it_answers_to_what_the_rows_do_not_resolve():
    """A chequered pattern at the equator, of two points' width, is beyond degree 6 of eight rows."""
    rows = np.exp(-((GRID.latitude / 40.0) ** 2))
    field = jnp.asarray(rows[:, None] * np.cos(np.radians(7 * GRID.longitude)), jnp.float32)[None, ..., None]
    low = HarmonicTransform.create(GRID, 6, vectors=False)
    field = field - low.synthesis(low.analysis(field))
    answers = []
    for config in (PLAIN, FINER):
        model = opened(make(config, state=Width(1, 0), inputs=1, extras=0))
        answers.append(float(jnp.abs(one_field(model, field) - one_field(model, 0 * field)).max()))
    assert answers[0] < 1e-4 < 0.03 < answers[1]


def test_a_smooth_planet_turned_by_any_angles_has_the_turned_forecast():
    """To what the analysis of smooth fields and the aliases of the non-linearities leave; columns of both grids are exact."""
    angles, degree, grid = (0.7, 1.1, -2.3), 5, Grid.equiangular(32, 16)
    config = dataclasses.replace(FINER, feature_grid="64x32", max_degree=20, blocks=2)
    model = opened(make(config, grid=grid, state=Width(2, 1), inputs=1, extras=1))
    harmonics = Harmonics.create(grid, degree)
    spectra = random_spectrum(0, degree, Width(3, 1), batch=1)

    @nnx.jit
    def forecast(model, given):
        fields = harmonics.synthesis(Spectrum.of(given), Width(3, 1)).fields
        state = Fields(fields.scalar[:, None, ..., :2], fields.eastward[:, None], fields.northward[:, None])
        return harmonics.analysis(model(state, fields.scalar[..., 2:], training=True)).array

    found, expected = forecast(model, rotate_spectrum(spectra, *angles)), forecast(model, spectra)
    expected = rotate_spectrum(expected, *angles)
    assert float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)) < 0.02


def test_weights_of_a_network_with_fewer_degrees_serve_and_say_the_same_of_smooth_fields():
    plain, finer = (opened(make(config, state=Width(1, 0), inputs=1, extras=0)) for config in (PLAIN, FINER))
    shapes = [jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(net, nnx.Param))) for net in (plain, finer)]
    assert shapes[0] == shapes[1]
    nnx.update(finer, nnx.state(plain, nnx.Param))
    spectrum = random_spectrum(0, 2, Width(1, 0), batch=1)
    field = HarmonicTransform.create(GRID, 2, vectors=False).synthesis(spectrum)
    one, other = one_field(plain, field), one_field(finer, field)
    # What differs are harmonics beyond degree 6, which the non-linearities make, and what the coarser grid aliases.
    assert float(jnp.linalg.norm(one - other) / jnp.linalg.norm(other)) < 0.2


def test_filters_stay_what_they_are_beyond_their_last_degree():
    matrices = make(FINER).encoder.matrices()
    assert (matrices[7:] == matrices[6]).all() and not (matrices[6] == matrices[5]).all()


def test_a_pyramid_is_coarsened_from_the_finer_grid():
    levels = (Resolution(1, 0, 4, 2), Resolution(2, 1, 6, 3))
    model = make(dataclasses.replace(FINER, levels=levels, max_degree=0))
    assert [level[0].harmonics.grid.name for level in model.down if len(level)] == ["12x6"]
    assert model.harmonics.grid.name == "24x12" and model.boundary.max_degree == 11


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_grid": "8x4", "max_degree": 0}, "coarser than the data's 16x8"),
        ({"feature_grid": "24x7", "max_degree": 0}, "coarser than the data's 16x8"),
        ({"feature_grid": "fine", "max_degree": 0}, r"model\.feature_grid: .* does not read as LONxLAT"),
        ({"max_degree": 12}, r"24x12 resolves 11; .* model\.feature_grid"),
        ({"filter_degree": 12}, "filter_degree is 12, and the features end at degree 11"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(dataclasses.replace(FINER, **changes))


@pytest.mark.parametrize("data", [GRID, Grid.equiangular(16, 9, poles=True), Grid.gaussian(16, 8)], ids=str)
def test_features_lie_on_the_kind_of_grid_that_their_name_or_the_data_tell(data):
    named = dataclasses.replace(FINER, feature_grid="24x12_gaussian").grid_of_features(data)
    assert named == Grid.gaussian(24, 12)
    assert FINER.grid_of_features(data) == dataclasses.replace(data, longitudes=24, latitudes=12)


@pytest.mark.parametrize("changes", [{}, {"levels": (Resolution(1, 0, 4, 2), Resolution(2, 1, 6, 3)), "max_degree": 0}])
@pytest.mark.parametrize("largest", [20, 14])
def test_grids_whose_transforms_have_different_layouts_work_together(changes, largest, monkeypatch):
    """As on GPUs, where circles of many points have the layout of CPUs: of 16, 24 and 12 here some are longer."""
    monkeypatch.setattr(layouts, "LARGEST_CIRCLE", largest)

    def run(field):
        net = make(dataclasses.replace(FINER, **changes), state=Width(1, 0), inputs=1, extras=0)
        return one_field(net, field), net.boundary.layout, net.harmonics.layout

    with layouts.made_for("gpu"):
        shape = jax.eval_shape(lambda field: run(field)[0], jax.ShapeDtypeStruct((1, 8, 16, 1), jnp.float32))
    assert shape.shape == (1, 8, 16, 1)
