"""The training step: weights, losses, missing values, noise, accumulation, rematerialisation, schedule."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig
from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.configuration import (
    Config,
    LossConfig,
    OptimiserConfig,
    Stage,
    TrainingConfig,
    VariableWeight,
)
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.forcings import PHASES, Forcings, phases
from weather_scnn.training.loss import (
    Scales,
    channel_weights,
    checked_area,
    error_spectrum,
    step_errors,
    step_weights,
    weighted_loss,
)
from weather_scnn.training.losses import make_loss
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import decays, initial_state, learning_rate_schedule, make_optimiser
from weather_scnn.training.rollout import advance, build, rollout_errors, take_apart
from weather_scnn.training.step import accumulated_gradient, make_train_step, with_errors, with_noise

scored = jax.jit(step_errors)
DATA = DataConfig(
    grid="16x8",
    level_variables=("temperature", "u_component_of_wind", "v_component_of_wind"),
    levels=(500, 850),
    surface_variables=("sea_surface_temperature",),
    masked_variables=("sea_surface_temperature",),
    solar=False,
)
CHANNELS, GRID = Channels.from_config(DATA), Grid.equiangular(16, 8)
COUNTS = 3, 2


def random_batch(steps: int, batch: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    window = Fields(*(jnp.asarray(normal(batch, 1 + steps, *GRID.shape, size)) for size in (3, 2, 2)))
    return window, jnp.asarray(normal(batch, steps + 1, PHASES))


def constants(loss: LossConfig | None = None, missing: bool = False) -> Scales:
    return Scales(
        jnp.full(3, 0.3),
        jnp.full(2, 0.5),
        jnp.zeros((*GRID.shape, 1)),
        jnp.asarray(GRID.area_weights, jnp.float32),
        jnp.asarray(channel_weights(CHANNELS, loss or LossConfig()), jnp.float32),
        Forcings.on(GRID, CHANNELS),
        jnp.array([False, False, True, False, False]) if missing else None,
        make_loss(GRID, loss or LossConfig()),
    )


class Mixing(nnx.Module):
    """A network of one product and a batch norm at each point: as a forecaster to call, and soon compiled."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.extras = CHANNELS.extra_count
        self.scalar = nnx.Linear(3 + self.extras, 3, rngs=rngs)
        self.wind = nnx.Linear(2, 2, use_bias=False, rngs=rngs)
        self.axis_name: str | None = None
        self.variance = nnx.BatchStat(jnp.ones(3))

    def __call__(self, history: Fields, extras, *, training: bool) -> Fields:
        scalar = jnp.sin(self.scalar(jnp.concatenate([history.scalar[:, -1], extras], -1)))
        variance = jnp.square(scalar).mean((0, 1, 2))
        if self.axis_name is not None:
            variance = jax.lax.pmean(variance, self.axis_name)
        if training:
            self.variance[...] = 0.9 * self.variance[...] + 0.1 * variance
        scalar = scalar / jnp.sqrt((variance if training else self.variance[...]) + 1e-3)
        return Fields(scalar, self.wind(history.eastward[:, -1]), self.wind(history.northward[:, -1]))


@pytest.fixture(scope="module")
def parts():
    return take_apart(Mixing())


def experiment(**training) -> Config:
    settings = {"batch_size": 4, "stages": (Stage(20, 1),)} | training
    return Config(
        data=DATA,
        optimiser=OptimiserConfig(learning_rate=1e-2, warmup_steps=2, weight_decay=0.0),
        training=TrainingConfig(**settings),
    )


# Weights


def test_weights_are_pressure_times_variable_with_mean_one_over_components():
    loss = LossConfig(variable_weights=(VariableWeight("v_component_of_wind", 3.0),))
    weights = channel_weights(CHANNELS, loss)
    expected = np.array([500 / 675, 850 / 675, 1, 3 * 500 / 675, 3 * 850 / 675])
    assert np.sum(weights * [1, 1, 1, 2, 2]) == pytest.approx(7)
    np.testing.assert_allclose(weights / weights[2], expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossConfig(variable_weights=(VariableWeight("temperature", -1.0),)), "temperature is -1"),
        (
            lambda: channel_weights(CHANNELS, LossConfig(variable_weights=(VariableWeight("temprature", 1.0),))),
            "did you mean temperature",
        ),
        (
            lambda: channel_weights(dataclasses.replace(CHANNELS, scalars=(("temperature", -500),)), LossConfig()),
            "temperature at -500 hPa is -",
        ),
        (lambda: LossConfig(degree_exponent=1.0), "loss.kind=spectral"),
        (lambda: LossConfig(whitening=0.5), "loss.kind=spectral"),
        (lambda: LossConfig(step_weights=(1.0, 0.0)), "positive"),
        (lambda: TrainingConfig(batch_size=6, accumulation=4), "divisor of training.batch_size"),
        (lambda: TrainingConfig(remat="all"), "auto or none or step or nested"),
        (lambda: Channels.from_config(dataclasses.replace(DATA, masked_variables=("sst",))), "sst"),
    ],
)
def test_settings_that_cannot_be_name_their_cause(make, message, untyped):
    with pytest.raises(UserError, match=message):
        make()


def test_a_grid_with_latitudes_that_give_negative_areas_is_named(untyped):
    class Unsorted:
        name, latitude = "2x3", np.array([-60.0, 80.0, 70.0])
        area_weights = np.array([1.5, 2.0, -0.5])

    with pytest.raises(UserError, match=r"latitude 70 is -0\.5"):
        checked_area(Unsorted())


def test_step_weights_have_mean_one_and_backprop_steps_leaves_early_steps_out():
    np.testing.assert_allclose(step_weights(LossConfig(step_weights=(1.0, 3.0)), 4), [0.4, 1.2, 1.2, 1.2])
    np.testing.assert_allclose(step_weights(LossConfig(), 3, backprop_steps=1), [0, 0, 3])


# Losses


def band_limited(seed: int) -> Fields:
    """Fields that the grid's quadrature integrates exactly when squared."""
    transform = HarmonicTransform.create(GRID, 3)
    rng = np.random.default_rng(seed)

    def spectrum(channels):
        values = rng.standard_normal((2, *transform.spectrum_shape, channels)).astype(np.float32)
        degree, order = np.indices(transform.spectrum_shape[:2])
        values[:, order > degree] = 0
        values[:, :, 0, 1] = 0
        return jnp.asarray(values)

    divergent, rotational = (spectrum(2).at[:, 0].set(0) for _ in range(2))
    return Fields(transform.synthesis(spectrum(3)), *transform.synthesis_vector(divergent, rotational))


def test_the_spectral_loss_is_the_area_integral_of_the_squared_error():
    one, other = band_limited(0), band_limited(1)
    found = scored(one, other, constants(LossConfig(kind="spectral")))
    weights = GRID.quadrature_weights / GRID.quadrature_weights.sum() / GRID.longitudes
    squares = map_fields(lambda a, b, r: np.square((a - b) / r), one, other, constants().ratio)
    wind = 0.5 * (squares.eastward + squares.northward)
    expected = np.einsum("byxc,y->c", np.concatenate([squares.scalar, wind], -1), weights) / 2
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_degree_weights_favour_small_scales():
    rough = constants(LossConfig(kind="spectral", degree_exponent=1.0)).loss.degree_weights
    assert rough.mean() == pytest.approx(1) and rough[-1] / rough[0] == pytest.approx(len(rough))


def test_whitening_weighs_squared_errors_by_the_inverse_power_of_the_increments():
    amplitudes = np.exp(-np.arange(GRID.maximum_degree + 1.0))[:, None] * np.ones(5)
    weights = make_loss(GRID, LossConfig(kind="adjusted", whitening=0.5), amplitudes).degree_weights
    np.testing.assert_allclose(weights[1:4] / weights[:3], np.e, rtol=1e-5)
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, rtol=1e-5)


def test_the_adjusted_loss_charges_blur_that_the_squared_error_rewards():
    """Of a forecast in the wrong place with the right power: halving it costs a quarter of the power when adjusted."""
    truth = band_limited(0)
    forecast = map_fields(lambda array: jnp.roll(array, 6, axis=2), truth)

    def errors(kind, one, other):
        return np.asarray(scored(one, other, constants(LossConfig(kind=kind)))).mean()

    half = map_fields(lambda array: 0.5 * array, forecast)
    assert errors("spectral", half, truth) < errors("spectral", forecast, truth)
    power = errors("spectral", truth, map_fields(jnp.zeros_like, truth))
    cost = errors("adjusted", half, truth) - errors("adjusted", forecast, truth)
    assert cost == pytest.approx(0.25 * power, rel=1e-3)
    assert errors("adjusted", truth, truth) == pytest.approx(0, abs=1e-5)


def test_the_adjusted_loss_is_its_formula():
    truth, forecast = band_limited(0), band_limited(1)
    scales = constants(LossConfig(kind="adjusted"))
    found = np.asarray(scored(forecast, truth, scales))[0]
    transform = scales.loss.transform
    a, b = (np.asarray(transform.analysis(fields.scalar), np.float64)[..., 0] / 0.3 for fields in (forecast, truth))
    double = np.where(np.arange(a.shape[2]) > 0, 2.0, 1.0)
    powers = [np.einsum("blmr,m->bl", x * y, double) for x, y in ((a, a), (b, b), (a, b))]
    coherence = powers[2][:, :4] / np.sqrt(powers[0] * powers[1])[:, :4]
    p, t = powers[0][:, :4], powers[1][:, :4]
    expected = (np.sqrt(p) - np.sqrt(t)) ** 2 + 2 * np.maximum(p, t) * (1 - coherence)
    expected[:, 0] = ((a - b)[:, 0, 0, 0] ** 2).reshape(-1)
    assert found == pytest.approx(expected.sum() / (4 * np.pi * 2), rel=1e-3)


def test_the_adjusted_loss_draws_a_mean_of_the_wrong_sign_to_the_truth():
    truth = map_fields(lambda array: 0.2 + 0.0 * array, band_limited(0))
    scales = constants(LossConfig(kind="adjusted"))

    def loss(shift):
        return scored(truth._replace(scalar=truth.scalar + shift), truth, scales)[0]

    assert float(jax.grad(loss)(-0.3)) < 0 < float(jax.grad(loss)(0.1))


@pytest.mark.parametrize("kind", ["grid", "spectral", "adjusted"])
def test_missing_values_count_neither_in_the_loss_nor_in_its_gradient(parts, kind):
    window, forcings = random_batch(2)
    land = jnp.zeros(GRID.shape, bool).at[:3, 4:9].set(True)
    scales = constants(LossConfig(kind=kind), missing=True)
    holes = window._replace(scalar=window.scalar.at[..., 2].set(jnp.where(land, jnp.nan, window.scalar[..., 2])))

    @jax.jit
    @jax.value_and_grad
    def loss(parameters, window):
        errors, _ = rollout_errors(
            parts._replace(parameters=parameters), window, forcings, scales, inputs=1, training=True
        )
        return weighted_loss(errors, scales, 2)

    value, gradient = loss(parts.parameters, holes)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    if kind == "grid":
        predicted = map_fields(lambda array: array[:, 0], window)
        target = map_fields(lambda array: array[:, 1], holes)
        sea = np.asarray(~land) * GRID.area_weights[:, None]
        difference = np.square(np.asarray(predicted.scalar - window.scalar[:, 1])[..., 2] / 0.3)
        expected = np.sum(difference * sea) / (4 * np.sum(sea))
        assert scored(predicted, target, scales)[2] == pytest.approx(expected, rel=1e-5)


def test_a_missing_value_where_none_may_be_is_not_hidden(parts):
    window, forcings = random_batch(1)
    broken = window._replace(scalar=window.scalar.at[0, 0, 0, 0, 0].set(jnp.nan))
    scales = constants(missing=True)
    errors, _ = jax.jit(lambda window: rollout_errors(parts, window, forcings, scales, inputs=1, training=False))(
        broken
    )
    assert np.isnan(errors[0, 0])


# Rollouts


@pytest.mark.parametrize(
    ("remat", "steps"), [("none", 5), ("nested", 5), pytest.param("nested", 4, marks=pytest.mark.slow), ("auto", 1)]
)
def test_rematerialisation_changes_no_loss_and_no_gradient(parts, remat, steps):
    window, forcings = random_batch(steps)

    def loss(parameters, remat):
        errors, statistics = rollout_errors(
            parts._replace(parameters=parameters),
            window,
            forcings,
            constants(),
            inputs=1,
            training=True,
            remat=remat,
        )
        return errors.sum(), (errors, statistics)

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    for one, other in zip(*(jax.tree.leaves(gradient(parts.parameters, kind)) for kind in (remat, "step"))):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-4)


def test_backprop_steps_is_the_gradient_of_the_last_steps_from_the_state_the_first_lead_to(parts):
    window, forcings = random_batch(3)

    def loss(parameters, window, forcings, push):
        errors, _ = rollout_errors(
            parts._replace(parameters=parameters), window, forcings, constants(), inputs=1, training=False,
            backprop_steps=push,
        )  # fmt: skip
        return weighted_loss(errors, constants(), 2, step_weights(LossConfig(), errors.shape[0], push))

    history = map_fields(lambda array: array[:, :1], window)
    for step in range(2):
        history, _ = advance(nnx.merge(*parts), history, constants(), forcings[:, step : step + 2], training=False)
    led = map_fields(lambda past, array: jnp.concatenate([past, array[:, 3:]], 1), history, window)
    gradient = jax.jit(jax.grad(loss), static_argnums=3)
    found, expected = (
        gradient(parts.parameters, *arguments) for arguments in ((window, forcings, 1), (led, forcings[:, 2:], 0))
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_seasonal_network_is_told_the_part_of_the_year_that_has_passed_at_the_last_input_time():
    class Seasonal:
        extras, seasonal, told = CHANNELS.extra_count, True, None

        def __call__(self, history: Fields, extras, *, training: bool, season):
            self.told = season
            return map_fields(lambda array: jnp.zeros_like(array[:, -1]), history)

    times = np.array([["2001-01-01T00", "2001-01-01T06"], ["2001-07-02T12", "2001-07-02T18"]], "datetime64[h]")
    network, (window, _) = Seasonal(), random_batch(1, batch=2)
    advance(network, window, constants(), jnp.asarray(phases(times)), training=False)
    np.testing.assert_allclose(network.told, [[0, 1], [0, -1]], atol=1e-6)


def test_noise_is_a_function_of_seed_and_step_of_the_asked_size_and_spares_the_targets():
    window, _ = random_batch(2)
    noisy = with_noise(window, 1, 0.1, 7, jnp.asarray(3))
    again, next_step = with_noise(window, 1, 0.1, 7, jnp.asarray(3)), with_noise(window, 1, 0.1, 7, jnp.asarray(4))
    for before, after, same, other in zip(window, noisy, again, next_step):
        np.testing.assert_array_equal(after, same)
        np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
        assert np.std(after[:, 0] - before[:, 0]) == pytest.approx(0.1, rel=0.1)
        assert not np.array_equal(after, other)


def test_errors_of_all_scales_have_their_size_and_spectrum_and_spare_the_targets(monkeypatch):
    amplitudes = np.exp(-0.5 * np.square(np.arange(GRID.maximum_degree + 1.0) - 2.0))[:, None] * np.ones(5)
    moments = Normalisation(*np.ones((2, 3)), np.full(3, 0.3), np.ones(2), np.full(2, 0.5), *np.zeros((2, 1)))
    scales = constants()._replace(error_deviations=jnp.asarray(error_spectrum(amplitudes, moments), jnp.float32))
    window, _ = random_batch(2, batch=800)

    def compiled():
        return jax.jit(lambda step: with_errors(window, 2, 0.1, 7, step, scales, GRID))

    def size(moved):
        return np.sqrt(np.square(moved.scalar - window.scalar)[:, 0].mean(axis=(1, 2, 3)))

    # A few windows are far off.
    far = size(compiled()(3)) > 0.1
    assert 0.07 < far.mean() < 0.14
    monkeypatch.setattr("weather_scnn.training.step._OFTEN", 0.0)
    moved = compiled()
    shifted, again, other = moved(3), moved(3), moved(4)
    np.testing.assert_array_less(size(shifted), 0.1)
    for before, after, same, next_step in zip(window, shifted, again, other):
        np.testing.assert_array_equal(after, same)
        np.testing.assert_array_equal(after[:, 2:], before[:, 2:])
        np.testing.assert_allclose((after - before)[:, 0], (after - before)[:, 1], atol=1e-5)
        assert not np.array_equal(after, next_step)
    # A tenth of the increments at every latitude: 0.3 and 0.5 of the states.
    scalar, eastward, northward = (np.asarray((one - two)[:, 0]) for one, two in zip(shifted, window))
    np.testing.assert_allclose(scalar.std(axis=(0, 2)), 0.03, rtol=0.1)
    np.testing.assert_allclose(eastward.std(axis=(0, 2)), 0.05, rtol=0.1)
    np.testing.assert_allclose(northward.std(axis=(0, 2)), 0.05, rtol=0.1)
    # Coefficients as the increments from degree 2 on, and as large as those of degree 2 below.
    power = np.square(HarmonicTransform.create(GRID, 4).analysis(scalar)).sum(axis=3).mean(axis=(0, 3))
    each = np.array([(row[0] + 2 * row[1 : degree + 1].sum()) / (2 * degree + 1) for degree, row in enumerate(power)])
    np.testing.assert_allclose(each / each[2], [1, 1, 1, np.exp(-1) * 5 / 7, np.exp(-4) * 5 / 9], rtol=0.1)


# The step


def test_parts_of_a_batch_give_the_gradient_of_the_whole(parts):
    window, forcings = random_batch(2, batch=6)

    def loss(parameters, statistics, window, forcings):
        errors, _ = rollout_errors(
            parts._replace(parameters=parameters), window, forcings, constants(), inputs=1, training=False
        )
        return weighted_loss(errors, constants(), 2), (errors.mean(0), statistics)

    whole, divided = (
        jax.jit(lambda count=count: accumulated_gradient(loss, *parts[1:3], (window, forcings), count))()
        for count in (1, 3)
    )
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(divided)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_steps_in_parts_learn_as_whole_ones_where_the_parts_have_the_same_moments(parts):
    """Each part holds the same samples, so batch statistics agree too."""
    window, forcings = (jax.tree.map(lambda array: jnp.repeat(array, 2, 0), part) for part in random_batch(1, batch=2))
    losses = []
    for accumulation in (1, 2):
        config = experiment(accumulation=accumulation)
        state = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
        state = jax.tree.map(jnp.copy, state)
        step, found = make_train_step(parts.graph, config, vectors=2), []
        for _ in range(3):
            state, report = step(state, parts.tables, window, forcings, constants())
            found.append(float(report.loss))
        losses.append(found)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][2] < losses[0][0]


def test_a_mesh_learns_as_one_device_with_parts_noise_and_gaps():
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "4",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.mesh_of_four"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    alone, mesh = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(mesh, alone, rtol=1e-5)
    assert alone[2] < alone[0]


def test_decay_draws_matrices_and_spares_biases_and_norms():
    config = ModelConfig(scalar_channels=3, vector_channels=2, blocks=1, filter_parameters=2)
    shapes = nnx.eval_shape(lambda: nnx.state(build(config, DATA, CHANNELS, GRID, 0), nnx.Param))
    chosen = {jax.tree_util.keystr(path): decay for path, decay in jax.tree_util.tree_leaves_with_path(decays(shapes))}
    assert any(chosen.values()) and not all(chosen.values())
    for path, decay in chosen.items():
        assert decay == ("kernel" in path), path
    optimiser = make_optimiser(OptimiserConfig(warmup_steps=0, weight_decay=1.0), (Stage(10),))
    ones = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones((1, 2))}
    still = {name: jnp.zeros_like(array) for name, array in ones.items()}
    updates, _ = optimiser.update(still, optimiser.init(ones), ones)
    assert np.all(updates["kernel"] < 0) and not np.any(updates["bias"]) and not np.any(updates["scale"])


def test_stages_with_rates_hold_them_and_the_cosine_spans_the_others():
    config = OptimiserConfig(learning_rate=1.0, warmup_steps=10)
    rate = learning_rate_schedule(config, (Stage(50, 1), Stage(20, 2, 0.25), Stage(50, 1)))
    plain = learning_rate_schedule(config, (Stage(100, 1),))
    np.testing.assert_allclose([rate(s) for s in (0, 10, 49)], [plain(s) for s in (0, 10, 49)])
    assert float(rate(50)) == float(rate(69)) == 0.25
    np.testing.assert_allclose([rate(70), rate(119)], [plain(50), plain(99)], rtol=1e-6)
    fine = learning_rate_schedule(config, (Stage(5, 1, 0.1),))
    assert float(fine(0)) == 0 and float(fine(5)) == pytest.approx(0.05)


def test_settings_that_only_fit_together_come_in_any_order():
    orders = ["loss.degree_exponent=1", "loss.kind=adjusted", "training.stages=8x1,4x2@3e-5", "training.mesh.model=2"]
    for assignments in (orders, orders[::-1]):
        config = with_overrides(Config(), assignments)
        assert config.loss == LossConfig("adjusted", 1.0) and config.training.mesh.model == 2
        assert config.training.stages == (Stage(8, 1), Stage(4, 2, 3e-5))
        assert Config.from_json(config.to_json()) == config
    weighted = with_overrides(Config(), ["loss.variable_weights=geopotential:2,2m_temperature:0.5"])
    assert weighted.loss.variable_weights[1] == VariableWeight("2m_temperature", 0.5)
    assert Config.from_json(weighted.to_json()) == weighted
