"""What the steps of a forecast are held to: over a thousand of them, in gradients, under symmetries, and who may ask for what."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from weather_scnn.errors import UserError
from weather_scnn.forecasting.propagation import propagate
from weather_scnn.models import CorrectorConfig, ModelConfig
from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.configuration import Config, OptimiserConfig, Stage, TrainingConfig
from weather_scnn.training.configuration_reading import differences, with_overrides
from weather_scnn.training.correctors import settle
from weather_scnn.training.forcings import PHASES
from weather_scnn.training.hlo_cost import size_of
from weather_scnn.training.loss import make_scales
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.plan import step_tracer
from weather_scnn.training.rollout import advance, build, rollout_errors, take_apart

GRID = Grid.equiangular(12, 8)
LEVELS = (300, 700, 900)
FLUXES = (
    "top_net_solar_radiation_6hr",
    "top_net_thermal_radiation_6hr",
    "surface_net_solar_radiation_6hr",
    "surface_net_thermal_radiation_6hr",
    "surface_sensible_heat_flux_6hr",
    "surface_latent_heat_flux_6hr",
)
DATA = DataConfig(
    grid="12x8",
    level_variables=("temperature", "specific_humidity@300/900", "u_component_of_wind", "v_component_of_wind"),
    levels=LEVELS,
    surface_variables=("surface_pressure", "total_precipitation_6hr", "2m_temperature", *FLUXES),
    static_variables=("land_sea_mask", "geopotential_at_surface"),
)
CHANNELS = Channels.from_config(DATA)
NAMES = [name if level is None else f"{name}@{level}" for name, level in CHANNELS.scalars]
ALL = CorrectorConfig(means=("2m_temperature",), positive="rescale", dry_air=True, moisture=True, energy="fluxes")
# Mean and standard deviation; half of the columns reach down to the lowest layer, a tenth of the humidity is below 0 at first.
MOMENTS = {
    "temperature": (250.0, 15.0),
    "specific_humidity": (4e-3, 3e-3),
    "surface_pressure": (8.5e4, 9e3),
    "total_precipitation_6hr": (6e-3, 5e-3),  # as much as keeps above what the air takes up in any step
    "2m_temperature": (285.0, 15.0),
    "top_net_thermal_radiation_6hr": (-1.7e7, 4e5),
    "surface_sensible_heat_flux_6hr": (-2e5, 5e4),
    "surface_latent_heat_flux_6hr": (-1.7e7, 4e5),
}
AREA = GRID.area_weights[:, None] / GRID.longitudes / GRID.latitudes


def moments(channels=CHANNELS, counts=2) -> Normalisation:
    known = [MOMENTS.get(name, (2e5, 5e4)) for name, _ in channels.scalars]
    mean, std = np.array(known).T
    wind = np.full(len(channels.winds), 12.0)
    return Normalisation(mean, std, 0.3 * std, wind, 0.4 * wind, np.array([0.3, 3e3]), np.array([0.4, 6e3]))


@functools.cache
def scales(channels=CHANNELS):
    statics = np.random.default_rng(9).standard_normal((*GRID.shape, channels.static_count)).astype(np.float32)
    return make_scales(channels, moments(channels), statics, GRID)


class Mixing(nnx.Module):
    """In place of a network: moves and mixes the state for ever, and would let all of its means run away."""

    def __init__(self, correctors: CorrectorConfig):
        self.extras = CHANNELS.extra_count
        self.correctors = settle(correctors, CHANNELS, 6.0)
        self.lift = nnx.Param(jnp.array(0.1))

    def __call__(self, history: Fields, extras, *, training: bool) -> Fields:
        def mixed(array):
            last = array[:, -1]
            wave = jnp.sin(4.0 * jnp.roll(last, 1, axis=2) + jnp.arange(last.shape[-1]))
            return wave + self.lift[...] - 0.5 * last * jnp.square(last) / 4.0

        return map_fields(mixed, history)


def state(seed: int = 0, batch: int = 1) -> Fields:
    rng = np.random.default_rng(seed)
    shape = (batch, 1, *GRID.shape)
    counts = (len(CHANNELS.scalars), len(CHANNELS.winds), len(CHANNELS.winds))
    return Fields(*(jnp.asarray(rng.standard_normal((*shape, count)), jnp.float32) for count in counts))


def rollout(correctors: CorrectorConfig, steps: int, history: Fields | None = None) -> Fields:
    """States 0 … steps, (k, b, y, x, c), all but the first made by steps."""
    model, constants, forcing = Mixing(correctors), scales(), jnp.zeros((1, 2, PHASES))

    @jax.jit
    def run(history):
        def one(past, _):
            return advance(model, past, constants, forcing, training=False)

        return jax.lax.scan(one, history, None, length=steps)[1]

    history = state() if history is None else history
    return map_fields(lambda first, rest: jnp.concatenate([first[:, 0][None], rest]), history, run(history))


class Physical:
    """A state in the fields' units and float64, and its budgets, each as its formula says."""

    def __init__(self, states: Fields, step: int):
        known = moments()
        scalar = np.asarray(states.scalar[step, 0], np.float64) * known.scalar_std + known.scalar_mean
        self.fields = dict(zip(NAMES, np.moveaxis(scalar, -1, 0)))
        self.squares = sum(np.asarray(part[step, 0], np.float64) ** 2 for part in states[1:]) * known.wind_std**2
        self.pressure = self.fields["surface_pressure"]
        self.ground = np.asarray(scales().statics[..., 1], np.float64) * 6e3 + 3e3

    def mean(self, field) -> float:
        return float((field * AREA).sum())

    def __getitem__(self, name: str) -> float:
        return self.mean(self.fields[name])

    @property
    def water(self) -> np.ndarray:
        """Pa: humidity at 300 hPa down to 600 hPa, that at 900 hPa from there to the ground."""
        upper, lower = np.minimum(self.pressure, 6e4), np.maximum(self.pressure - 6e4, 0)
        return self.fields["specific_humidity@300"] * upper + self.fields["specific_humidity@900"] * lower

    @property
    def dry_air(self) -> float:
        return self.mean(self.pressure - self.water)

    @property
    def energy(self) -> float:
        """J m⁻²: layers of 300, 700 and 900 hPa meet at 500 and 800 hPa."""
        bounds = np.stack([np.minimum(self.pressure, below) for below in (0.0, 5e4, 8e4, np.inf)])
        temperature = np.stack([self.fields[f"temperature@{level}"] for level in LEVELS])
        heat = 1004.709 * temperature + np.moveaxis(self.squares, -1, 0) / 2
        whole = (heat * np.diff(bounds, axis=0)).sum(axis=0) + 2.5008e6 * self.water + self.ground * self.pressure
        return self.mean(whole) / 9.80665

    @property
    def warming(self) -> float:
        """J m⁻² over the step: all totals count downwards."""
        sun, thermal, *surface = (self[name] for name in FLUXES)
        return sun + thermal - sum(surface)


@pytest.fixture(scope="module")
def thousand():
    """1000 steps with all correctors."""
    return rollout(ALL, 1000)


def test_a_thousand_steps_keep_the_means_and_the_mass_of_dry_air(thousand):
    first, last = Physical(thousand, 0), Physical(thousand, -1)
    assert last["2m_temperature"] == pytest.approx(first["2m_temperature"], rel=1e-6)
    assert last.dry_air == pytest.approx(first.dry_air, rel=1e-6)
    # While the water itself, and so the pressure, come and go.
    assert abs(last["surface_pressure"] / first["surface_pressure"] - 1) > 1e-4


def test_a_thousand_steps_close_the_budgets_of_water_and_energy(thousand):
    steps = [Physical(thousand, step) for step in range(1001)]
    rain = sum(step["total_precipitation_6hr"] * 1e3 for step in steps[1:])
    evaporated = sum(-step["surface_latent_heat_flux_6hr"] / 2.5008e6 for step in steps[1:])
    gained = steps[-1].mean(steps[-1].water - steps[0].water) / 9.80665
    open_steps = [step["total_precipitation_6hr"] < 1e-9 for step in steps[1:]]
    assert not any(open_steps)  # or the budget could not be closed
    assert gained == pytest.approx(evaporated - rain, abs=1e-6 * rain)
    warmed = sum(step.warming for step in steps[1:])
    assert steps[-1].energy - steps[0].energy == pytest.approx(warmed, abs=1e-6 * steps[0].energy)


def test_a_thousand_steps_have_no_negative_water(thousand):
    known = moments()
    scalar = np.asarray(thousand.scalar[1:], np.float64) * known.scalar_std + known.scalar_mean
    water = [index for index, name in enumerate(NAMES) if "humidity" in name or "precipitation" in name]
    assert len(water) == 3 and scalar[..., water].min() >= 0
    free = np.asarray(rollout(CorrectorConfig(means=("2m_temperature",)), 50).scalar, np.float64)
    assert (free * known.scalar_std + known.scalar_mean)[1:, ..., water].min() < -1e-4  # what they would have been


def test_energy_and_pressure_held_alone_over_a_thousand_steps():
    states = rollout(CorrectorConfig(means=("surface_pressure",), energy="hold"), 1000)
    first, last = Physical(states, 0), Physical(states, -1)
    assert last.energy == pytest.approx(first.energy, rel=1e-6)
    assert last["surface_pressure"] == pytest.approx(first["surface_pressure"], rel=1e-6)


def test_means_of_the_climate_are_those_of_the_training_period_from_the_first_step_on():
    states = rollout(CorrectorConfig(means=("surface_pressure",), means_of="climate"), 20)
    first, second, last = (Physical(states, step)["surface_pressure"] for step in (0, 1, -1))
    assert second == pytest.approx(8.5e4, rel=1e-7) and last == pytest.approx(8.5e4, rel=1e-7)
    assert abs(first / 8.5e4 - 1) > 1e-4


def test_rescaled_fields_keep_their_means_and_clipped_ones_gain():
    free, kept, clipped = (
        Physical(rollout(CorrectorConfig(positive=positive), 1), 1) for positive in ("none", "rescale", "clip")
    )
    for name in NAMES:
        if "humidity" in name or "precipitation" in name:
            assert free.fields[name].min() < 0 <= kept.fields[name].min()
            assert kept[name] == pytest.approx(free[name], rel=1e-5)
            np.testing.assert_allclose(clipped.fields[name], np.maximum(free.fields[name], 0), atol=1e-9)
        else:
            np.testing.assert_array_equal(kept.fields[name], free.fields[name])


def turned(fields: Fields, columns: int, mirror: bool) -> Fields:
    fields = map_fields(lambda array: jnp.roll(array, columns, axis=-2)[..., :: -1 if mirror else 1, :, :], fields)
    return fields._replace(northward=-fields.northward) if mirror else fields


@pytest.mark.parametrize("mirror", [False, True])
def test_correctors_commute_with_turns_and_the_mirror(mirror):
    before, after = (map_fields(lambda array: array[:, 0], state(seed)) for seed in (1, 2))
    constants, correctors = scales(), jax.jit(settle(ALL, CHANNELS, 6.0))
    statics = constants.statics
    moved = turned(Fields(statics, statics[..., :0], statics[..., :0]), 5, mirror).scalar
    there = correctors(before, after, constants.moments, constants.area, statics)
    moved = correctors(*(turned(each, 5, mirror) for each in (before, after)), constants.moments, constants.area, moved)
    for one, other in zip(turned(there, 5, mirror), moved):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_gradients_are_those_of_finite_differences():
    with jax.enable_x64(True):
        constants, correctors = scales(), settle(ALL, CHANNELS, 6.0)
        known, area, statics = jax.tree.map(
            lambda array: jnp.asarray(array, jnp.float64), (constants.moments, constants.area, constants.statics)
        )
        before, after, along, weights = (
            map_fields(lambda array: jnp.asarray(array[:, 0], jnp.float64), state(seed)) for seed in range(4)
        )

        @jax.jit
        @functools.partial(jax.value_and_grad, argnums=(0, 1))
        def loss(before, after):
            found = correctors(before, after, known, area, statics)
            return sum(jnp.sum(weight * part) for weight, part in zip(weights, found))

        slopes = loss(before, after)[1]
        for number, slope in enumerate(slopes):  # by the state before the step, and by the one after it
            given, values = [before, after], []
            expected = sum(float(jnp.sum(one * other)) for one, other in zip(slope, along))
            for size in (1e-6, -1e-6):
                given[number] = map_fields(lambda array, way: array + size * way, [before, after][number], along)  # noqa: B023
                values.append(float(loss(*given)[0]))
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-5)


def small(**more) -> Config:
    return Config(
        data=DATA,
        model=ModelConfig(kind="planar", scalar_channels=3, blocks=1, **more),
        optimiser=OptimiserConfig(learning_rate=1e-2, warmup_steps=1),
        training=TrainingConfig(batch_size=2, stages=(Stage(3, 2),)),
    )


def test_training_goes_through_all_of_them():
    parts, constants = take_apart(Mixing(ALL)), scales()
    windows = [state(seed, batch=2) for seed in range(2)]
    window = map_fields(lambda *arrays: jnp.concatenate(arrays, axis=1), *windows)

    def loss(parameters):
        given, forcings = parts._replace(parameters=parameters), jnp.zeros((2, 2, PHASES))
        return rollout_errors(given, window, forcings, constants, inputs=1, training=True)[0].mean()

    (slope,) = jax.tree.leaves(jax.jit(jax.grad(loss))(parts.parameters))
    assert 0 < abs(float(slope)) < 1e3


def test_networks_and_forecasts_have_them():
    model = ModelConfig(kind="planar", scalar_channels=3, blocks=1, correctors=ALL)
    assert build(model, DATA, CHANNELS, GRID, 0).correctors == settle(ALL, CHANNELS, 6.0) is not None
    _, _, states = propagate(take_apart(Mixing(ALL)), state(), scales(), jnp.zeros((1, 3, PHASES)), leads=2)
    assert Physical(states, 1).dry_air == pytest.approx(Physical(states, 0).dry_air, rel=1e-7)
    assert Physical(states, 1)["surface_pressure"] != pytest.approx(Physical(states, 0)["surface_pressure"], rel=1e-7)


def test_a_plan_counts_them():
    model, counts = ModelConfig(kind="planar", scalar_channels=3, blocks=1), []
    for correctors in (ALL, CorrectorConfig()):
        config = Config(DATA, dataclasses.replace(model, correctors=correctors))
        counts.append(size_of(step_tracer(config, jax.devices()[:1], "cpu")[2](1).jaxpr)[0])
    assert counts[0] > counts[1] + 100


def without(*names: str) -> DataConfig:
    kept = {
        key: tuple(name for name in getattr(DATA, key) if name.partition("@")[0] not in names)
        for key in ("level_variables", "surface_variables")
    }
    return dataclasses.replace(DATA, **kept)


@pytest.mark.parametrize(
    ("data", "correctors", "message"),
    [
        (without(), {"means": ("2m_temprature",)}, r"correctors\.means names 2m_temprature, which is no scalar"),
        (without("surface_pressure"), {"dry_air": True}, r"dry_air needs surface_pressure, which the state does not"),
        (without("temperature"), {"energy": "hold"}, r"energy needs temperature, .*add it to data\.level_variables"),
        (without(FLUXES[1]), {"energy": "fluxes"}, "fluxes needs top_net_thermal_radiation_6hr"),
        (without(FLUXES[-1]), {"moisture": True}, "moisture needs evaporation_6hr or surface_latent_heat_flux_6hr"),
        (without("specific_humidity"), {"moisture": True}, "needs specific_humidity or total_column_water_vapour"),
        (dataclasses.replace(DATA, step="12h"), {"moisture": True}, "moisture needs total_precipitation_12hr"),
        (
            without("specific_humidity", "total_precipitation_6hr", *FLUXES),
            {"positive": "clip"},
            "no field of the state is never negative",
        ),
        (
            without(),
            {"means": ("total_precipitation_6hr",), "moisture": True},
            "means holds total_precipitation_6hr, and .*moisture scales it",
        ),
        (
            dataclasses.replace(DATA, masked_variables=("surface_pressure",)),
            {"dry_air": True},
            "surface_pressure, which data.masked_variables says has gaps",
        ),
    ],
)
def test_a_corrector_that_lacks_a_field_says_so(data, correctors, message):
    with pytest.raises(UserError) as error:
        settle(CorrectorConfig(**correctors), Channels.from_config(data), 6.0 if data.step == "6h" else 12.0)
    assert re.search(message, str(error.value))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"means": ("surface_pressure",), "dry_air": True}, "dry_air shifts it"),
        ({"means": ("temperature",), "energy": "hold"}, "energy shifts it"),
        ({"positive": "always"}, "choose none or clip or rescale"),
        ({"energy": "held"}, "choose none or hold or fluxes"),
    ],
)
def test_correctors_that_contradict_each_other_are_refused(settings, message, untyped):
    with pytest.raises(UserError, match=message):
        CorrectorConfig(**settings)


def test_without_humidity_dry_air_is_the_surface_pressure():
    data = without("specific_humidity")
    channels = Channels.from_config(data)
    before, after = (
        Fields(*(jnp.asarray(np.random.default_rng(seed).standard_normal((1, *GRID.shape, size)), jnp.float32)
                 for size in (len(channels.scalars), 3, 3)))
        for seed in (0, 1)
    )  # fmt: skip
    constants, found = scales(channels), []
    for config in (CorrectorConfig(dry_air=True), CorrectorConfig(means=("surface_pressure",))):
        correctors = jax.jit(settle(config, channels, 6.0))
        found.append(correctors(before, after, constants.moments, constants.area, constants.statics).scalar)
    np.testing.assert_allclose(*found, atol=1e-6)


def test_hold_mean_is_another_name_of_the_means():
    held = ("surface_pressure", "temperature")
    config = with_overrides(Config(), [f"model.hold_mean={','.join(held)}"])
    assert config.model.correctors == CorrectorConfig(means=held)
    assert ModelConfig(hold_mean=held) == config.model
    old = Config().to_json()
    del old["model"]["correctors"]
    found = Config.from_json(old | {"model": old["model"] | {"hold_mean": list(held)}})
    assert differences(found, config) == [] and found == config
    # What is made of it keeps them, and takes new ones.
    assert with_overrides(found, ["model.blocks=2"]).model.correctors.means == held
    assert with_overrides(found, ["model.correctors.means="]).model.correctors.means == ()
    assert Config.from_json(config.to_json()) == config
