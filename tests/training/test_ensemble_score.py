"""The score that ensembles are trained by: its formula, what it does not depend on, its gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.spectra import random_spectrum
from tests.training.test_step import CHANNELS, GRID, constants
from weather_scnn.nn import Fields, Width, map_fields
from weather_scnn.sphere import Grid, HarmonicTransform, rotate_spectrum
from weather_scnn.training.configuration import LossConfig
from weather_scnn.training.forcings import Forcings
from weather_scnn.training.loss import Scales, channel_weights, step_errors
from weather_scnn.training.losses import make_loss

# As one program: one after the other, each operation would be a program for each number of members.
scored = jax.jit(step_errors)
CRPS = LossConfig(kind="crps", spectral_weight=0.0)
RATIO = np.array([0.3, 0.3, 0.3, 0.5, 0.5])


def ensemble(members: int, seed: int = 0, batch: int = 2) -> tuple[Fields, Fields]:
    """Members (b, m, y, x, c) and a truth."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    one = Fields(*(normal(batch, members, *GRID.shape, size) for size in (3, 2, 2)))
    return one, Fields(*(normal(batch, *GRID.shape, size) for size in (3, 2, 2)))


def almost_fair(distances: np.ndarray, between: np.ndarray, alpha: float) -> np.ndarray:
    """S_α from distances to the truth (m, …) and between members (m, m, …), as α of the fair and 1 − α of the plain."""
    count = len(distances)
    pairs = between.sum(axis=(0, 1))
    fair = distances.mean(axis=0) - pairs / (2 * count * (count - 1))
    plain = distances.mean(axis=0) - pairs / (2 * count**2)
    return alpha * fair + (1 - alpha) * plain


def expected_on_grid(predicted: Fields, target: Fields, alpha: float) -> np.ndarray:
    """By every pair, in NumPy; winds by the length of their difference, over its mean for a component."""
    scalars, eastward, northward = (np.moveaxis(np.asarray(part, np.float64), 1, 0) for part in predicted)
    truth = [np.asarray(part, np.float64) for part in target]

    def sizes(scalar, east, north):
        return np.concatenate([np.abs(scalar), np.hypot(east, north) * 2 / np.pi], axis=-1) / RATIO

    to_truth = sizes(scalars - truth[0], eastward - truth[1], northward - truth[2])
    pairs = sizes(*(part[:, None] - part[None] for part in (scalars, eastward, northward)))
    area = GRID.area_weights[:, None, None] / np.prod([2, *GRID.shape])
    return (almost_fair(to_truth, pairs, alpha) * area).sum(axis=(0, 1, 2))


@pytest.mark.parametrize("members", [2, 5, *(pytest.param(count, marks=pytest.mark.slow) for count in (3, 16))])
@pytest.mark.parametrize("alpha", [0.0, 0.95, 1.0])
def test_the_score_is_its_formula_for_any_number_of_members(members, alpha):
    predicted, target = ensemble(members)
    found = scored(predicted, target, constants(dataclasses.replace(CRPS, alpha=alpha)))
    np.testing.assert_allclose(found, expected_on_grid(predicted, target, alpha), rtol=1e-5)


def test_the_spectral_term_is_the_energy_score_of_each_degree():
    predicted, target = ensemble(3)
    both, grid = (
        np.asarray(scored(predicted, target, constants(dataclasses.replace(CRPS, spectral_weight=weight))))
        for weight in (0.25, 0.0)
    )
    transform = HarmonicTransform.create(GRID, min(GRID.maximum_degree, GRID.maximum_order))
    double = np.where(np.arange(transform.max_order + 1) > 0, 2.0, 1.0)[:, None, None]

    def norms(fields):
        """√ of the power per degree, over E and B of a wind as for a component."""
        scalar = np.asarray(transform.analysis(fields.scalar), np.float64) / RATIO[:3]
        winds = [np.asarray(part, np.float64) / RATIO[3:] for part in transform.analysis_vector(*fields[1:])]
        power = [(scalar**2 * double).sum((-3, -2)), sum((part**2 * double).sum((-3, -2)) for part in winds) / 2]
        return np.sqrt(np.concatenate(power, axis=-1) / (4 * np.pi))

    first = map_fields(lambda array: jnp.moveaxis(array, 1, 0), predicted)
    to_truth = norms(map_fields(lambda one, other: one - other, first, target))
    pairs = norms(map_fields(lambda array: array[:, None] - array[None], first))
    degrees = transform.max_degree + 1
    expected = almost_fair(to_truth, pairs, 0.95).mean(axis=0).sum(axis=0) / np.sqrt(degrees)
    np.testing.assert_allclose(both - grid, 0.25 * expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_all_pairs_and_finite_where_members_coincide():
    loss = dataclasses.replace(CRPS, spectral_weight=0.5)
    scales, (predicted, target) = constants(loss), ensemble(4)
    score, weights = scales.loss, jnp.arange(1.0, 6.0)

    def naive(predicted):
        members, truth = score._seen(predicted, scales), score._seen(map_fields(lambda a: a[:, None], target), scales)
        total = score.distance(members, truth, scales.area)
        for shift in range(1, 4):
            others = jax.tree.map(lambda array: jnp.roll(array, shift, axis=1), members)  # noqa: B023
            total = total - (1 - 0.05 / 4) / 6 * score.distance(members, others, scales.area)
        return total @ weights

    def ours(predicted):
        return scored(predicted, target, scales) @ weights

    values, slopes = zip(*(jax.jit(jax.value_and_grad(function))(predicted) for function in (naive, ours)))
    assert values[1] == pytest.approx(float(values[0]), rel=1e-5)
    for one, other in zip(*slopes):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
    same = map_fields(lambda array: jnp.repeat(array[:, :1], 4, axis=1), predicted)
    for truth in (target, map_fields(lambda array: array[:, 0], predicted)):  # also where all are right
        slope = jax.jit(jax.grad(lambda given: scored(given, truth, scales).sum()))(same)  # noqa: B023
        assert all(np.isfinite(part).all() for part in slope)


def turned(angles, grid: Grid, degree: int, members: int):
    """Band-limited members and truth with and without a rotation of the planet, and constants of their grid."""
    transform = HarmonicTransform.create(grid, degree)
    spectra = random_spectrum(1, degree, Width(3, 2), batch=members + 1)

    def fields(spectra):
        winds = transform.synthesis_vector(spectra[..., 3:5], spectra[..., 5:7])
        scalar = transform.synthesis(spectra[..., :3])
        return Fields(*(part[None, :-1] for part in (scalar, *winds))), Fields(
            *(part[-1:] for part in (scalar, *winds))
        )

    return fields(spectra), fields(rotate_spectrum(spectra, *angles))


def scales_on(grid: Grid, loss: LossConfig) -> Scales:
    weights = jnp.asarray(channel_weights(CHANNELS, loss), jnp.float32)
    area = jnp.asarray(grid.quadrature_weights * grid.latitudes / 2, jnp.float32)
    return Scales(
        jnp.full(3, 0.3),
        jnp.full(2, 0.5),
        jnp.zeros((*grid.shape, 1)),
        area,
        weights,
        Forcings.on(grid, CHANNELS),
        None,
        make_loss(grid, loss),
    )


def test_the_loss_does_not_see_how_the_planet_lies_but_that_of_components_does():
    """Spectral term to rounding; on the grid to the quadrature of absolute values, which do not end at any degree."""
    grid = Grid.equiangular(96, 48)
    given, other = turned((0.7, 1.1, -2.3), grid, 4, 3)

    def both(loss: LossConfig):
        return (np.asarray(scored(*pair, scales_on(grid, loss))) for pair in (given, other))

    values, after = both(CRPS)
    np.testing.assert_allclose(after, values, rtol=3e-3)
    spectral = dataclasses.replace(CRPS, spectral_weight=1e4)
    values, after = both(spectral)
    np.testing.assert_allclose(after, values, rtol=1e-5)
    values, after = both(dataclasses.replace(CRPS, winds="components"))
    np.testing.assert_allclose(after[:3], values[:3], rtol=3e-3)
    assert np.abs(after[3:] / values[3:] - 1).max() > 0.01


def test_the_wind_score_does_not_depend_on_the_axes_at_any_point():
    (predicted, target), scales = ensemble(3), constants(CRPS)
    angle = np.random.default_rng(5).uniform(0, 2 * np.pi, (*GRID.shape, 1))

    def frame(fields):
        cos, sin = np.cos(angle), np.sin(angle)
        return fields._replace(
            eastward=cos * fields.eastward - sin * fields.northward,
            northward=sin * fields.eastward + cos * fields.northward,
        )

    one, other = scored(predicted, target, scales), scored(frame(predicted), frame(target), scales)
    np.testing.assert_allclose(other, one, rtol=1e-5)


def test_a_reliable_ensemble_has_the_closed_form_of_the_fair_score_whatever_its_size():
    """E of the fair score of normal members and truth is 1/√π, at M = 2 as at 8; the plain one is larger by 1/M of it."""
    for members in (2, 8):
        predicted, target = ensemble(members, seed=members, batch=40)
        fair, plain = (
            np.asarray(scored(predicted, target, constants(dataclasses.replace(CRPS, alpha=alpha))))[:3] * 0.3
            for alpha in (1.0, 0.0)
        )
        np.testing.assert_allclose(fair.mean(), 1 / np.sqrt(np.pi), rtol=0.03)
        np.testing.assert_allclose(plain.mean(), (1 + 1 / members) / np.sqrt(np.pi), rtol=0.03)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_missing_values_count_in_no_member(weight):
    predicted, target = ensemble(3)
    land = jnp.zeros(GRID.shape, bool).at[:3, 4:9].set(True)
    scales = constants(dataclasses.replace(CRPS, spectral_weight=weight), missing=True)
    holes = target._replace(scalar=target.scalar.at[..., 2].set(jnp.where(land, jnp.nan, target.scalar[..., 2])))
    value, slope = jax.jit(jax.value_and_grad(lambda given: scored(given, holes, scales)[2]))(predicted)
    assert np.isfinite(value) and all(np.isfinite(part).all() for part in slope)
    assert np.abs(np.asarray(slope.scalar)[..., land, :]).max() == 0
    # Members that differ there by themselves gain nothing by it.
    apart = predicted._replace(scalar=jnp.where(land[..., None], 1e3 * predicted.scalar, predicted.scalar))
    assert scored(apart, holes, scales)[2] == pytest.approx(float(value), rel=1e-6)


def test_whitening_lifts_weak_degrees_and_floors_empty_ones():
    degree = min(GRID.maximum_degree, GRID.maximum_order)
    amplitudes = np.exp(-np.arange(degree + 1.0))[:, None] * np.ones(5)
    amplitudes[-1] = 0.0
    loss = LossConfig(kind="crps", whitening=0.5)
    weights = np.asarray(make_loss(GRID, loss, amplitudes).degree_weights)
    assert weights.shape == (degree + 1, 5) and np.isfinite(weights).all()
    np.testing.assert_allclose(weights[1] / weights[0], np.exp(0.5), rtol=1e-5)
    np.testing.assert_allclose(weights.mean(axis=0) * np.sqrt(degree + 1), 1.0, rtol=1e-5)
