"""Equivariance, realness, variance and gradients of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.nn.spectra import assert_close, compiled, energies, on_arrays, random_spectrum, rotated, to_array, to_grid
from weather_scnn.nn import (
    Features,
    Harmonics,
    LayerScale,
    MagnitudeActivation,
    Pair,
    PhaseCollapse,
    SpatialBatchNorm,
    SpectralBatchNorm,
    SpectralConvolution,
    Width,
)
from weather_scnn.nn.convolution import degree_interpolation
from weather_scnn.sphere import Grid
from weather_scnn.sphere.spectrum import Spectrum

ANGLES = (0.7, 1.1, -2.3)
WIDTH = Width(3, 2, 1)


@pytest.fixture
def spectrum():
    return random_spectrum(3, 7, WIDTH)


@pytest.fixture(scope="module")
def harmonics():
    return Harmonics.create(Grid.equiangular(20, 10), 7, tensors=True)


@pytest.mark.parametrize(
    ("inputs", "outputs", "parameters"),
    [
        (Width(3, 0), Width(2, 1, 1), None),
        (Width(2, 2), Width(0, 2), 3),
        (Width(0, 0, 2), Width(2, 0), None),
        (Width(1, 2, 1), Width(1, 2, 1), 3),
    ],
)
def test_convolution_commutes_with_rotation(inputs, outputs, parameters):
    given = random_spectrum(3, 7, inputs)
    layer = SpectralConvolution(inputs, outputs, 7, parameters=parameters, rngs=nnx.Rngs(0))
    assert layer.kernel.shape == (8 if parameters is None else 3, inputs.spectra, outputs.spectra)
    layer = on_arrays(layer)
    assert_close(layer(rotated(given, *ANGLES)), rotated(layer(given), *ANGLES), 3e-6)


def test_convolution_makes_no_spin_s_below_degree_s(spectrum):
    out = np.asarray(on_arrays(SpectralConvolution(WIDTH, WIDTH, 7, rngs=nnx.Rngs(0)))(spectrum))
    assert np.abs(out[:, 0, ..., 3:]).max() == 0 and np.abs(out[:, 1, ..., [5, 8]]).max() == 0
    assert np.abs(out[:, 1, ..., 3:5]).max() > 0 and np.abs(out[:, 2, ..., [5, 8]]).max() > 0


def test_convolution_keeps_the_variance_at_every_degree():
    """Half of a filter's variance is common to its values along l, so that none between knots is lost."""
    width = Width(40, 20)
    layer = SpectralConvolution(width, width, 15, parameters=5, rngs=nnx.Rngs(0))
    given = random_spectrum(0, 15, width, batch=8)
    before, after = (np.square(np.asarray(part)).sum(axis=(0, 2, 3, 4)) for part in (given, on_arrays(layer)(given)))
    assert 0.9 < after.sum() / before.sum() < 1.1
    assert np.all((after / before)[2:] > 0.7) and np.all((after / before)[2:] < 1.4)


def test_mirror_symmetry_forbids_what_a_mirror_would_not_do(spectrum):
    layer = SpectralConvolution(WIDTH, Width(2, 1, 1), 7, mirror_symmetric=True, rngs=nnx.Rngs(0))
    layer = on_arrays(layer)
    odd = spectrum.at[..., :6].set(0.0)
    assert float(jnp.abs(layer(odd)[..., :4]).max()) == 0.0 and float(jnp.abs(layer(odd)[..., 4:]).max()) > 0
    even = spectrum.at[..., 6:].set(0.0)
    assert float(jnp.abs(layer(even)[..., 4:]).max()) == 0.0


def test_interpolation_rows_sum_to_one_and_knots_are_kept():
    table = degree_interpolation(20, 5)
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    np.testing.assert_allclose(table[[0, 5, 10, 15, 20]], np.eye(5), atol=1e-15)


@pytest.mark.parametrize(("values", "radius"), [(8, 44), (4, 23)])
def test_few_values_along_l_make_filters_local(values, radius):
    """Nine tenths of a random filter's square lie within the degrees of arc that docs/settings.md tells, up to l = 30."""
    angles = np.linspace(0.0, np.pi, 2001)
    kernels = (2 * np.arange(31) + 1) * (
        np.random.default_rng(0).standard_normal((400, values)) @ degree_interpolation(30, values).T
    )
    square = np.polynomial.legendre.legval(np.cos(angles), kernels.T) ** 2 * np.sin(angles)
    inside = np.cumsum((square / square.sum(axis=1, keepdims=True)).mean(axis=0))
    assert np.degrees(angles[np.searchsorted(inside, 0.9)]) == pytest.approx(radius, abs=1.5)


def test_harmonics_give_back_the_spectra_of_all_spins(harmonics, spectrum):
    assert_close(to_array(harmonics, to_grid(harmonics, spectrum, WIDTH)), spectrum, 3e-6)


def test_the_square_of_a_wind_is_a_field_of_spin_2(harmonics):
    """(u² − v², 2uv) has twice the wind's degree, so its spectra of a turned wind are the turned spectra exactly."""
    wind = random_spectrum(1, 3, Width(0, 1))

    def square(given):
        u, v = to_grid(harmonics, given, Width(0, 1)).vector
        empty = jnp.zeros((*u.shape[:-1], 0))
        return to_array(harmonics, Features(empty, Pair(empty, empty), Pair(u**2 - v**2, 2 * u * v)))

    assert_close(square(rotated(wind, *ANGLES)), rotated(square(wind), *ANGLES), 5e-6)


def test_a_mirror_image_changes_the_sign_of_b_alone(harmonics):
    """Longitude φ → −φ turns a_lm of a scalar into its conjugate, and of a pseudoscalar into minus that."""
    width = Width(1, 1, 1)
    given = random_spectrum(2, 7, width)
    fields = to_grid(harmonics, given, width)

    def mirrored(array, sign):
        return sign * jnp.roll(array[:, :, ::-1], 1, axis=2)

    seen = Features(
        mirrored(fields.scalar, 1),
        Pair(mirrored(fields.vector.real, -1), mirrored(fields.vector.imaginary, 1)),
        Pair(mirrored(fields.tensor.real, 1), mirrored(fields.tensor.imaginary, -1)),
    )
    conjugate = given * jnp.array([1.0, -1.0])[:, None]
    assert_close(to_array(harmonics, seen), conjugate * jnp.array([1.0, 1, 1, -1, -1]), 5e-6)


def test_pooling_drops_and_upsampling_pads():
    given = random_spectrum(0, 7, WIDTH)
    spectrum = Spectrum.of(given)
    small = spectrum.resampled(4).array
    np.testing.assert_array_equal(small, given[:, :5, :5])
    back = spectrum.resampled(4).resampled(7).array
    assert back.shape == given.shape
    np.testing.assert_array_equal(back[:, :5, :5], small)
    assert float(jnp.abs(back[:, 5:]).max()) == float(jnp.abs(back[:, :, 5:]).max()) == 0.0


def test_batch_norm_commutes_with_rotation_and_standardises(spectrum):
    layer = SpectralBatchNorm(WIDTH)
    layer.scale[...] = jnp.arange(1.0, 7.0)
    layer.bias[...] = jnp.array([0.5, -0.2, 0.1])
    for training in (True, False):
        turned = on_arrays(layer)(rotated(spectrum, *ANGLES), training=training)
        assert_close(turned, rotated(on_arrays(layer)(spectrum, training=training), *ANGLES), 3e-6)
    plain = on_arrays(SpectralBatchNorm(WIDTH))(spectrum, training=True)
    # Mean square over sphere and batch is 1 for scalars; for a wind (u² + v²)/2 is.
    energy = np.asarray(energies(plain)).mean(axis=0) / (4 * np.pi)
    np.testing.assert_allclose(energy[:3], 1.0, rtol=1e-3)
    np.testing.assert_allclose((energy[3:6] + energy[6:]) / 2, 1.0, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(plain[:, 0, 0, 0, :3]).mean(axis=0), 0.0, atol=1e-6)


def test_spectral_and_spatial_batch_norm_agree_on_fields_the_grid_integrates(spectrum):
    """Squares of degree 6 fields have degree 12 < 16 rows, so the quadrature is exact and both moments are equal."""
    low = spectrum[:, :7, :7]
    harmonics = Harmonics.create(Grid.equiangular(32, 16), 6, tensors=True)
    spectral, spatial = SpectralBatchNorm(WIDTH), SpatialBatchNorm(WIDTH, harmonics.grid)
    for layer in (spectral, spatial):
        layer.scale[...] = jnp.arange(1.0, 7.0)
    expected = to_grid(harmonics, on_arrays(spectral)(low, training=True), WIDTH)
    found = compiled(spatial)(to_grid(harmonics, low, WIDTH), training=True)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert_close(one, other, 1e-5)
    np.testing.assert_allclose(spatial.variance[...], spectral.variance[...], rtol=1e-5)


def test_running_statistics_keep_their_shape_and_approach_the_moments(spectrum):
    layer = SpectralBatchNorm(WIDTH, momentum=0.5)
    shapes = [layer.mean[...].shape, layer.variance[...].shape]
    for _ in range(40):
        trained = on_arrays(layer)(spectrum, training=True)
    assert [layer.mean[...].shape, layer.variance[...].shape] == shapes == [(3,), (6,)]
    before = layer.variance[...]
    assert_close(on_arrays(layer)(spectrum, training=False), trained, 1e-5)
    np.testing.assert_array_equal(layer.variance[...], before)


@pytest.mark.parametrize("kind", ["spectral", "spatial"])
def test_masked_samples_leave_no_trace_in_the_moments(harmonics, kind):
    given = random_spectrum(5, 7, WIDTH, batch=4)
    mask = jnp.array([1.0, 0.0, 1.0, 0.0])

    def run(values, mask):
        if kind == "spectral":
            layer = SpectralBatchNorm(WIDTH)
            return layer, on_arrays(layer)(values, training=True, mask=mask)
        layer = SpatialBatchNorm(WIDTH, harmonics.grid)
        fields = compiled(layer)(to_grid(harmonics, values, WIDTH), training=True, mask=mask)
        return layer, to_array(harmonics, fields)

    layer, found = run(given.at[1].multiply(1e3), mask)
    reference, expected = run(given[::2], None)
    assert_close(found[::2], expected, 1e-5)
    np.testing.assert_allclose(layer.variance[...], reference.variance[...], rtol=1e-5)
    _, nothing = run(given, jnp.zeros(4))
    assert np.isfinite(np.asarray(nothing)).all()


def test_a_mapped_axis_shares_its_moments():
    """Two halves of a batch, each with its own program, get the moments of the whole, with the mask too."""
    given = random_spectrum(5, 7, WIDTH, batch=4)
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])
    layer = SpectralBatchNorm(WIDTH, axis_name="data")
    graph, state = nnx.split(layer)

    def half(values, mask):
        own = nnx.merge(graph, jax.tree.map(lambda array: array, state))
        return on_arrays(own)(values, training=True, mask=mask), nnx.state(own, nnx.BatchStat)

    found, statistics = jax.vmap(half, axis_name="data")(given.reshape(2, 2, *given.shape[1:]), mask.reshape(2, 2))
    whole = SpectralBatchNorm(WIDTH)
    expected = on_arrays(whole)(given, training=True, mask=mask)
    assert_close(found.reshape(expected.shape), expected, 1e-6)
    np.testing.assert_allclose(statistics["variance"][...][0], whole.variance[...], rtol=1e-5)
    np.testing.assert_allclose(statistics["variance"][...][1], whole.variance[...], rtol=1e-5)


def test_layer_scale_multiplies_e_and_b_alike(spectrum):
    layer = LayerScale(WIDTH, 0.5)
    layer.scale[...] = jnp.arange(1.0, 7.0)
    np.testing.assert_allclose(on_arrays(layer)(spectrum), spectrum * jnp.array([1.0, 2, 3, 4, 5, 6, 4, 5, 6]))


def random_features(seed, width, shape=(1, 3, 4)):
    rng = np.random.default_rng(seed)
    scalar, u, v, q, w = (
        jnp.asarray(rng.normal(size=(*shape, c)), jnp.float32) for c in (width[0], *[width[1]] * 2, *[width[2]] * 2)
    )
    return Features(scalar, Pair(u, v), Pair(q, w))


def test_phase_collapse_is_the_published_formula_and_leaves_the_wind():
    layer = PhaseCollapse(Width(2, 1, 1), rngs=nnx.Rngs(0))
    given = random_features(1, Width(2, 1, 1))
    out = layer(given)
    kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    expected = given.scalar @ kernel[:2] + np.abs(given.scalar) @ kernel[2:4] + bias
    expected += np.hypot(*given.vector) @ kernel[4:5] + np.hypot(*given.tensor) @ kernel[5:]
    np.testing.assert_allclose(out.scalar, expected, atol=1e-5)
    for one, other in zip((*out.vector, *out.tensor), (*given.vector, *given.tensor)):
        np.testing.assert_array_equal(one, other)


def test_a_gate_turns_no_wind():
    layer = PhaseCollapse(Width(2, 1, 1), gate=True, rngs=nnx.Rngs(0))
    layer.gate.kernel[...] = jnp.ones((2, 2))
    given = random_features(1, Width(2, 1, 1))
    out = layer(given)
    for one, other in ((out.vector, given.vector), (out.tensor, given.tensor)):
        np.testing.assert_allclose(np.arctan2(*one), np.arctan2(*other), atol=1e-5)
        assert not np.allclose(one.real, other.real)


def test_phase_collapse_starts_with_unit_variance_and_no_mean():
    layer = PhaseCollapse(Width(64, 32, 16), rngs=nnx.Rngs(0))
    out = np.asarray(layer(random_features(0, Width(64, 32, 16), (40, 40))).scalar)
    # Half of it is that of |x|, of which 0.85 is taken to lie within the features' degrees.
    assert 0.9 < out.var(axis=(0, 1)).mean() / (0.5 + 0.5 / 0.85) < 1.1
    assert np.square(out.mean(axis=(0, 1))).mean() < 0.01


def test_magnitude_activation_shrinks_lengths_and_keeps_directions():
    layer = MagnitudeActivation(Width(2, 1, 1))
    layer.bias[...] = jnp.array([-0.5, 0.3])
    given = random_features(1, Width(2, 1, 1))
    out = layer(given)
    np.testing.assert_allclose(out.scalar, np.where(given.scalar > 0, given.scalar, 0.01 * given.scalar), rtol=1e-6)
    np.testing.assert_allclose(np.hypot(*out.vector), np.maximum(np.hypot(*given.vector) - 0.5, 0), atol=1e-5)
    np.testing.assert_allclose(np.hypot(*out.tensor), np.hypot(*given.tensor) + 0.3, atol=1e-5)
    np.testing.assert_allclose(np.arctan2(*out.tensor), np.arctan2(*given.tensor), atol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda w: PhaseCollapse(w, gate=True, rngs=nnx.Rngs(0)), MagnitudeActivation], ids=["collapse", "relu"]
)
def test_gradients_are_finite_where_fields_vanish(make):
    width = Width(1, 1, 1)
    zeros = jax.tree.map(jnp.zeros_like, random_features(0, width))
    layer = make(width)
    gradient = jax.jit(jax.grad(lambda given: sum(part.sum() for part in jax.tree.leaves(layer(given)))))(zeros)
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(gradient))
