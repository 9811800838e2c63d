"""The whole network: shapes, equivariance, variants, precision, and the planar network beside it."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn.spectra import assert_close, compiled, random_spectrum, rotated
from weather_scnn.errors import UserError
from weather_scnn.models import (
    Forecaster,
    ModelConfig,
    NoiseConfig,
    PlanarForecaster,
    Resolution,
    make_forecaster,
    planar_like,
)
from weather_scnn.models.planar import PeriodicConvolution, _by_convolution, _by_product
from weather_scnn.nn import Fields, Harmonics, Width, map_fields, noise_keys
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.layouts import made_for
from weather_scnn.sphere.spectrum import Spectrum
from weather_scnn.training.checkpoints import parameter_count

SMALL = ModelConfig(scalar_channels=4, vector_channels=3, blocks=2, filter_parameters=4)
GRID = Grid.equiangular(16, 8)
STATE = Width(3, 2)
PYRAMID = (Resolution(1, 1, 4, 2, 0, 4), Resolution(2, 2, 6, 3, 1, 3))
VARIANTS = {
    "flat": {},
    "spin 0": {"vector_channels": 0},
    "spins 0, 1, 2": {"tensor_channels": 2},
    "magnitude": {"nonlinearity": "magnitude"},
    "spatial norm": {"normalisation": "spatial"},
    "no norm": {"normalisation": "none", "branch_scale": 0.1},
    "no residual": {"residual": False},
    "paper": {"activate_after_skip": True, "gate": False},
    "pyramid": {"levels": PYRAMID},
    "narrow top": {"levels": (Resolution(1, 0, 4, 2), Resolution(2, 1, 6, 3))},
    "finer features": {"feature_grid": "24x12", "max_degree": 11, "filter_degree": 6, "direct": True},
    "bfloat16": {"activations": "bfloat16", "remat": "block"},
    "planar": {"kind": "planar"},
}


def make(config=SMALL, *, grid=GRID, state=STATE, inputs=2, extras=2, seed=0):
    return make_forecaster(config, grid, state=state, inputs=inputs, extras=extras, rngs=nnx.Rngs(seed))


def fields(seed, shape, width):
    rng = np.random.default_rng(seed)
    return Fields(*(jnp.asarray(rng.normal(size=(*shape, c)), jnp.float32) for c in (width[0], width[1], width[1])))


def opened(model, seed=5):
    """The model with every zero-initialised scale and gate at work."""
    state = nnx.state(model, nnx.Param)

    def move(path, array):
        rng = np.random.default_rng([seed, zlib.crc32(jax.tree_util.keystr(path).encode())])
        return jnp.asarray(array + 0.3 * rng.normal(size=array.shape), array.dtype)

    nnx.update(model, jax.tree_util.tree_map_with_path(move, state))
    return model


@pytest.fixture(scope="module")
def model():
    return opened(make())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_real_parameters_and_the_shapes_of_the_state(variant):
    config = dataclasses.replace(SMALL, **VARIANTS[variant])

    def run(history, extras, mask):
        net = make(config)
        out = net(history, extras, training=True, mask=mask)
        return out, nnx.state(net, nnx.Param), nnx.state(net, nnx.BatchStat)

    shapes = Fields(*(jax.ShapeDtypeStruct((2, 2, 8, 16, c), jnp.float32) for c in (3, 2, 2)))
    extras, mask = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 8, 16, 2), (2,)))
    out, parameters, _ = jax.eval_shape(run, shapes, extras, mask)
    assert [part.shape for part in out] == [(2, 8, 16, 3), (2, 8, 16, 2), (2, 8, 16, 2)]
    assert {part.dtype for part in (*out, *jax.tree.leaves(parameters))} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "variant", ["flat", pytest.param("spin 0", marks=pytest.mark.slow), "finer features", "planar"]
)
def test_turning_the_planet_about_its_axis_turns_the_forecast(variant):
    net = compiled(opened(make(dataclasses.replace(SMALL, **VARIANTS[variant]))))
    history, extras = fields(1, (1, 2, 8, 16), STATE), fields(2, (1, 8, 16), (2, 0)).scalar
    out = net(history, extras)
    # Six columns of 16 are nine of the 24 that finer features have.
    turned = net(Fields(*(jnp.roll(part, 6, axis=3) for part in history)), jnp.roll(extras, 6, axis=2))
    for one, other in zip(turned, out):
        assert_close(one, jnp.roll(other, 6, axis=2), 3e-6)


@pytest.mark.parametrize("levels", [(), pytest.param(PYRAMID, marks=pytest.mark.slow)], ids=["flat", "pyramid"])
def test_a_forecaster_on_a_rotated_planet_gives_the_rotated_forecast(levels):
    """State, static fields and forcings are turned by Euler angles; on finer grids at equal degree the error falls."""
    angles, degree, errors = (0.7, 1.1, -2.3), 6, []
    spectra = random_spectrum(0, degree, Width(3 * 2 + 2, 2 * 2), batch=1)
    for factor in (1, 4):
        bounded = tuple(dataclasses.replace(level, max_degree=degree // level.coarsening) for level in levels)
        config = dataclasses.replace(SMALL, max_degree=degree, tensor_channels=2, levels=bounded, direct=True)
        grid = Grid.equiangular(16 * factor, 8 * factor)
        net = opened(make(config, grid=grid))
        harmonics = Harmonics.create(grid, degree)

        @nnx.jit
        def forecast(net, given, harmonics=harmonics):
            both = harmonics.synthesis(Spectrum.of(given), Width(8, 4)).fields
            scalar, eastward, northward = (
                jnp.moveaxis(part.reshape(*part.shape[:-1], 2, -1), -2, 1)
                for part in (both.scalar[..., :6], both.eastward, both.northward)
            )
            out = net(Fields(scalar, eastward, northward), both.scalar[..., 6:], training=True)
            return harmonics.analysis(out).array

        found, expected = forecast(net, rotated(spectra, *angles)), forecast(net, spectra)
        expected = rotated(expected, *angles)
        errors.append(float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)))
    assert errors[1] < 0.02 and errors[1] < 0.5 * errors[0]


def test_turned_noise_gives_the_turned_forecast_of_a_turned_planet():
    """Both kinds of noise, and the season, at work; the law of the noise is the turned law, so that of the forecast is the turned one."""
    angles, degree, errors = (0.7, 1.1, -2.3), 6, []
    spectra = random_spectrum(0, degree, Width(3 + 2, 2), batch=1)
    spring = jnp.array([[0.6, 0.8]])
    lengths = NoiseConfig(vector=3, fields=1, length_scales=(2000.0, 6000.0), correlation_hours=(12.0, 48.0))
    for factor in (1, 4):
        config = dataclasses.replace(SMALL, blocks=1, max_degree=degree, noise=lengths, seasonal=True)
        net = opened(make(config, grid=Grid.equiangular(16 * factor, 8 * factor), inputs=1))
        harmonics = Harmonics.create(Grid.equiangular(16 * factor, 8 * factor), degree)
        keys = noise_keys(jax.random.key(0), jnp.arange(1), jnp.arange(1))
        noise, _ = net.noise.step(keys, 0, net.noise.stationary(keys))

        @nnx.jit
        def forecast(net, given, noise, season=spring, harmonics=harmonics):
            both = harmonics.synthesis(Spectrum.of(given), Width(5, 2)).fields
            history = Fields(both.scalar[:, None, ..., :3], both.eastward[:, None], both.northward[:, None])
            return harmonics.analysis(net(history, both.scalar[..., 3:], noise=noise, season=season)).array

        turned = noise._replace(fields=rotated(noise.fields, *angles))
        expected = rotated(forecast(net, spectra, noise), *angles)
        silent = forecast(net, spectra, noise._replace(vector=0 * noise.vector, fields=0 * noise.fields))
        for other in (silent, forecast(net, spectra, noise, -spring)):
            assert float(jnp.linalg.norm(expected - rotated(other, *angles)) / jnp.linalg.norm(expected)) > 0.1
        found = forecast(net, rotated(spectra, *angles), turned)
        errors.append(float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected)))
    assert errors[1] < 0.02 and errors[1] < 0.5 * errors[0]


def test_a_padded_batch_trains_as_the_batch_itself(model):
    history, extras = fields(1, (2, 2, 8, 16), STATE), fields(2, (2, 8, 16), (2, 0)).scalar
    graph, state = nnx.split(model)
    one, both = (compiled(nnx.merge(graph, jax.tree.map(jnp.copy, state))) for _ in range(2))
    alone = one(map_fields(lambda part: part[:1], history), extras[:1], training=True)
    padded = both(history, extras, training=True, mask=jnp.array([1.0, 0.0]))
    for one, other in zip(padded, alone):
        assert_close(one[:1], other, 2e-5)


def test_training_uses_the_batch_and_forecasts_the_running_moments(model):
    history, extras = fields(1, (2, 2, 8, 16), STATE), jnp.zeros((2, 8, 16, 2))
    first, run = map_fields(lambda part: part[:1], history), compiled(model)
    for one, other in zip(run(first, extras[:1]), run(history, extras)):
        assert_close(one, other[:1], 1e-5)
    assert not np.allclose(run(first, extras[:1], training=True).scalar, run(first, extras[:1]).scalar, atol=1e-3)


@pytest.mark.parametrize("remat", [pytest.param("grid", marks=pytest.mark.slow), "block"])
def test_rematerialisation_saves_memory_and_changes_no_gradient(remat):
    history, extras = fields(1, (8, 2, 8, 16), STATE), jnp.zeros((8, 8, 16, 2))

    def pieces(remat):
        net = opened(make(dataclasses.replace(SMALL, remat=remat)))
        graph, parameters, rest = nnx.split(net, nnx.Param, ...)

        def run(parameters):
            inner = nnx.merge(graph, parameters, jax.tree.map(lambda array: array, rest))
            out = inner(history, extras, training=True)
            return sum(jnp.mean(jnp.square(part)) for part in out), nnx.state(inner, nnx.BatchStat)

        kept = jax.eval_shape(lambda p: jax.vjp(run, p, has_aux=True)[1], parameters)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept) if 8 in leaf.shape[:2])
        return size, *jax.jit(jax.grad(run, has_aux=True))(parameters)

    whole, expected, moments = pieces("none")
    small, found, other = pieces(remat)
    assert small < whole * (0.35 if remat == "block" else 0.75)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6), found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), other, moments)


@pytest.mark.slow
def test_bfloat16_activations_change_the_forecast_by_a_percent():
    history, extras = fields(1, (2, 2, 8, 16), STATE), fields(2, (2, 8, 16), (2, 0)).scalar
    one, other = (
        compiled(opened(make(dataclasses.replace(SMALL, activations=kind))))(history, extras, training=True)
        for kind in ("bfloat16", "float32")
    )
    error = jnp.linalg.norm(one.scalar - other.scalar) / jnp.linalg.norm(other.scalar)
    assert 1e-5 < float(error) < 0.02


def test_gradients_are_finite_on_pole_rows_of_a_resting_atmosphere():
    grid = Grid.equiangular(16, 9, poles=True)
    net = opened(make(dataclasses.replace(SMALL, tensor_channels=1), grid=grid))
    graph, parameters, rest = nnx.split(net, nnx.Param, ...)
    rest_state = Fields(*(jnp.zeros((1, 2, 9, 16, c)) for c in (3, 2, 2)))

    def loss(parameters, history):
        inner = nnx.merge(graph, parameters, jax.tree.map(lambda array: array, rest))
        return sum(jnp.sum(jnp.square(part)) for part in inner(history, jnp.zeros((1, 9, 16, 2))))

    gradients = jax.jit(jax.grad(loss, (0, 1)))(parameters, rest_state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_a_state_without_scalars_or_without_winds_is_served():
    config = ModelConfig(scalar_channels=2, vector_channels=2, blocks=1, filter_parameters=4)
    for width in (Width(0, 1), Width(2, 0)):
        net = compiled(make(config, state=width, inputs=1, extras=1))
        out = net(fields(0, (1, 1, 8, 16), width), jnp.ones((1, 8, 16, 1)), training=True)
        assert out.width == width


def test_the_direct_convolution_starts_as_nothing_and_moves_each_degree_by_itself():
    small = dataclasses.replace(SMALL, blocks=1)
    plain, direct = make(small), make(dataclasses.replace(small, direct=True))
    assert not np.any(direct.direct.kernel[...])
    own = nnx.state(direct, nnx.Param)
    del own["direct"]
    jax.tree.map(np.testing.assert_array_equal, own, nnx.state(plain, nnx.Param))
    # From the first scalar at the last input time to itself, at degree 2 alone.
    degree, place = 2, STATE.scalars
    direct.direct.kernel[...] = direct.direct.kernel[...].at[degree, place, 0].set(0.7)
    history, extras = fields(1, (1, 2, 8, 16), STATE), fields(2, (1, 8, 16), (2, 0)).scalar
    change = compiled(direct)(history, extras).scalar - compiled(plain)(history, extras).scalar
    spectrum = HarmonicTransform.create(GRID, direct.harmonics.max_degree).analysis(history.scalar[:, -1, ..., :1])
    expected = HarmonicTransform.create(GRID, degree).synthesis(
        0.7 * spectrum[:, : degree + 1, : degree + 1] * (jnp.arange(degree + 1) == degree)[:, None, None, None]
    )
    assert_close(change[..., :1], expected, 2e-6)
    assert not np.any(change[..., 1:])


def test_planar_like_matches_the_number_of_parameters():
    spherical = nnx.eval_shape(lambda: make(ModelConfig(scalar_channels=16, vector_channels=8, blocks=2)))
    count = parameter_count(nnx.state(spherical, nnx.Param))
    config = planar_like(ModelConfig(blocks=2), count, state=STATE, inputs=2, extras=2)
    planar = nnx.eval_shape(lambda: make(config))
    assert isinstance(planar, PlanarForecaster) and isinstance(spherical, Forecaster)
    assert abs(parameter_count(nnx.state(planar, nnx.Param)) / count - 1) < 0.05


def test_what_does_not_fit_is_refused_with_a_remedy(untyped):
    with pytest.raises(UserError, match=r"max_degree is 9 .* resolves 7"):
        make(ModelConfig(max_degree=9))
    with pytest.raises(UserError, match="cannot be coarsened 3 times"):
        make(ModelConfig(levels=(Resolution(), Resolution(3))))
    with pytest.raises(UserError, match="coarsen by 1, 3, 4"):
        ModelConfig(levels=(Resolution(1), Resolution(3), Resolution(4)))
    with pytest.raises(UserError, match="first of model"):
        ModelConfig(levels=(Resolution(2), Resolution(4)))
    with pytest.raises(UserError, match="has no block"):
        ModelConfig(levels=(Resolution(1), Resolution(2, 0)))
    with pytest.raises(UserError, match="normalisation is 'batch'"):
        ModelConfig(normalisation="batch")
    with pytest.raises(UserError, match="blocks is 0"):
        ModelConfig(blocks=0)
    with pytest.raises(UserError, match="kernel_size is 4"):
        ModelConfig(kind="planar", kernel_size=4)
    for acts in ({"seasonal": True}, {"noise": NoiseConfig(vector=2)}):
        with pytest.raises(UserError, match="acts on spectra, and model"):
            ModelConfig(normalisation="spatial", **acts)


def test_a_level_reads_as_it_is_written():
    assert Resolution.parse("2:4:64+32+8:6") == Resolution(2, 4, 64, 32, 8, 6)
    assert Resolution.parse("1:0:16") == Resolution(1, 0, 16, 0, 0, 8)


def test_the_planar_convolution_is_the_same_by_either_way_and_periodic():
    layer = PeriodicConvolution(3, 2, 3, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    field = jnp.asarray(rng.normal(size=(1, 5, 6, 3)), jnp.float32)
    kernel = np.asarray(layer.kernel[...])
    columns = np.pad(np.asarray(field), [(0, 0), (0, 0), (1, 1), (0, 0)], mode="wrap")
    padded = np.pad(columns, [(0, 0), (1, 1), (0, 0), (0, 0)], mode="edge")
    expected = sum(padded[:, i : i + 5, j : j + 6] @ kernel[i, j] for i in range(3) for j in range(3))
    np.testing.assert_allclose(layer(field), expected, atol=1e-5)
    for way in (_by_product, _by_convolution):
        np.testing.assert_allclose(way(jnp.asarray(padded), layer.kernel[...]), expected, atol=1e-5)


@pytest.mark.parametrize(
    "variant",
    ["spins 0, 1, 2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("spatial norm", "paper", "pyramid"))],
)
def test_the_layout_for_accelerators_gives_the_same_forecast_and_gradient(variant):
    config = dataclasses.replace(SMALL, **VARIANTS[variant])
    given, extras = fields(0, (2, 2, *GRID.shape), STATE), fields(1, (2, *GRID.shape), Width(2, 0)).scalar
    results = []
    for platform in ("cpu", "gpu"):
        with made_for(platform):
            graph, state, rest = nnx.split(opened(make(config)), nnx.Param, ...)

        @jax.jit
        def loss(state, rest, graph=graph):
            model = nnx.merge(graph, state, jax.tree.map(lambda array: array, rest))
            out = model(given, extras, training=True)
            return sum(jnp.sum(jnp.sin(part)) for part in out), out

        results.append(jax.jit(jax.grad(loss, has_aux=True))(state, rest))
    (slopes, out), (slopes_again, out_again) = results
    for one, other in zip(jax.tree.leaves(out_again), jax.tree.leaves(out), strict=True):
        assert_close(one, other, 1e-5)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slopes))
    for one, other in zip(jax.tree.leaves(slopes_again), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * scale)
