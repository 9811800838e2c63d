"""Losses of some of the fields, and a direct forecast of three days that is trained on them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from tests.training import test_step
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.training.configuration import LossConfig, VariableWeight
from weather_scnn.training.log import read_metrics, read_table
from weather_scnn.training.loss import channel_weights, weighted_loss
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import take_apart
from weather_scnn.training.step import make_train_step

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
# temperature at 500 and 850 hPa, sea surface temperature, wind at 500 and 850 hPa
CHANNELS = test_step.CHANNELS


@pytest.mark.parametrize(
    ("targets", "weights"),
    [
        (("temperature@850", "sea_surface_temperature"), [0, 1, 1, 0, 0]),
        (("temperature@500/850",), [1, 1, 0, 0, 0]),
        (("temperature", "v_component_of_wind@500"), [1, 1, 0, 1, 0]),
        (("u_component_of_wind",), [0, 0, 0, 1, 1]),
        ((), [1, 1, 1, 1, 1]),
    ],
)
def test_targets_alone_have_weights_of_mean_one_over_their_components(targets, weights):
    loss = LossConfig(targets=targets, pressure_weights=False)
    np.testing.assert_allclose(channel_weights(CHANNELS, loss), weights)
    errors = np.random.default_rng(0).random((2, 5))
    components = np.array([1, 1, 1, 2, 2]) * np.array(weights)
    expected = np.mean(errors @ components) / components.sum()
    scales = test_step.constants(loss)
    assert float(weighted_loss(jnp.asarray(errors, jnp.float32), scales, 2)) == pytest.approx(expected, rel=1e-6)


def test_weights_of_targets_are_relative_to_one_another():
    loss = LossConfig(
        targets=("temperature@850", "sea_surface_temperature"), pressure_weights=False,
        variable_weights=(VariableWeight("temperature", 3.0),),
    )  # fmt: skip
    np.testing.assert_allclose(channel_weights(CHANNELS, loss), [0, 1.5, 0.5, 0, 0])


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (LossConfig(targets=("temperatur@850",)), r"names temperatur@850, .*did you mean temperature@850\?"),
        (LossConfig(targets=("temperature@500/700",)), r"names temperature@700, .*did you mean temperature@[58]"),
        (LossConfig(targets=("temperature@low",)), r"'temperature@low' in loss\.targets"),
        (
            LossConfig(targets=("temperature",), variable_weights=(VariableWeight("sea_surface_temperature", 2.0),)),
            r"sea_surface_temperature, which is not among loss\.targets",
        ),
    ],
)
def test_targets_that_are_not_there_are_named_with_the_nearest(loss, message):
    with pytest.raises(UserError, match=message):
        channel_weights(CHANNELS, loss)


def test_a_step_moves_what_makes_the_targets_and_nothing_else():
    config = test_step.experiment()
    parts = take_apart(test_step.Mixing())
    state = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
    scales = test_step.constants(LossConfig(targets=("temperature@850", "sea_surface_temperature")))
    step = make_train_step(parts.graph, config, vectors=2)
    before = jax.tree.map(np.array, state.parameters)
    for _ in range(2):  # the first has a learning rate of zero
        state, report = step(state, parts.tables, *test_step.random_batch(1), scales)
    moved = jax.tree.map(lambda one, other: np.abs(np.asarray(one) - other).max(axis=0), state.parameters, before)
    assert np.asarray(moved["scalar"]["kernel"][...])[0] == 0 and moved["scalar"]["kernel"][...][1:].min() > 0
    assert np.all(np.asarray(moved["wind"]["kernel"][...]) == 0)
    errors = np.asarray(report.channel_errors)
    assert float(report.loss) == pytest.approx((errors[1] * 850 + errors[2] * 675) / (850 + 675), rel=1e-5)


@pytest.mark.slow
def test_a_direct_forecast_of_three_days_from_training_to_store(small_store, tmp_path):
    """configs/weatherbench1_direct.py with the fields of the small store: one step is 72 hours."""
    run, made = tmp_path / "run", tmp_path / "forecast.zarr"
    settings = [
        f"data.path={small_store}", "data.grid=16x8",
        "data.level_variables=geopotential,u_component_of_wind,v_component_of_wind", "data.levels=500,850",
        "data.surface_variables=2m_temperature", "data.static_variables=land_sea_mask",
        "data.train=2001-01-01:2001-01-12", "data.validation=2001-01-01:2001-01-12",
        "loss.targets=geopotential@500,2m_temperature",
        "model.scalar_channels=6", "model.vector_channels=4", "model.blocks=1", "model.filter_parameters=4",
        "optimiser.warmup_steps=3", "optimiser.learning_rate=1e-2",
        "training.batch_size=4", "training.stages=20x1", "training.log_every=5", "training.checkpoint_every=20",
        "training.validation_windows=4",
    ]  # fmt: skip
    words = ["train", "--config", str(CONFIGS / "weatherbench1_direct.py"), "--workdir", str(run)]
    done = CliRunner().invoke(app, [*words, *(word for each in settings for word in ("--set", each))])
    assert done.exit_code == 0, done.output
    rows, scores = read_metrics(run / "metrics.csv"), read_table(run / "validation.csv")
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert {row["lead_days"] for row in scores} == {"3"}
    better = [
        float(row["rmse"]) < float(row["persistence_rmse"]) for row in scores if row["variable"] == "2m_temperature"
    ]
    assert better and all(better)
    words = ["forecast", "--workdir", str(run), "--input", small_store, "--output", str(made), "--lead", "3d"]
    done = CliRunner().invoke(app, [*words, "--init", "2001-01-03:2001-01-03T12:6h"])
    assert done.exit_code == 0, done.output
    forecast, truth = xr.open_zarr(made, decode_timedelta=True), xr.open_zarr(small_store)
    assert (forecast["prediction_timedelta"].values == np.array([72], "timedelta64[h]")).all()
    warm = forecast["2m_temperature"].isel(prediction_timedelta=0).transpose("time", "latitude", "longitude").values
    valid = truth["2m_temperature"].sel(time=forecast["time"].values + np.timedelta64(72, "h"))
    start = truth["2m_temperature"].sel(time=forecast["time"].values)
    errors = [np.square(each - valid.values).mean() for each in (warm, start.values)]
    assert warm.shape[0] == 3 and errors[0] < errors[1]
