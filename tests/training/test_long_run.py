"""Long runs while training: the checkpoint that drifts least is kept, and the training is as without them."""

import dataclasses

import jax
import numpy as np
import pytest
import xarray as xr

import weather_scnn.training.placement as placement
from tests.training.test_loop import assert_same_bits
from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.sphere import Grid
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Config, LongRun, Stage, TrainingConfig
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.log import read_table
from weather_scnn.training.long_run import ROW, LongRuns, due_marks
from weather_scnn.training.loop import train
from weather_scnn.training.loss import make_scales
from weather_scnn.training.sharding import device_mesh

PERIOD = "2001-01-04:2001-01-08"


@pytest.fixture(scope="module")
def config(small_config) -> Config:
    """Long runs of two days from two times, after steps 5 and 10."""
    return with_overrides(
        small_config,
        [
            f"data.validation={PERIOD}", "training.long_run=2x8", "training.long_run_share=0.5",
            "training.validation_windows=4", "training.validation_days=0.25",
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(config, small_statistics, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("long")
    return workdir, train(config, workdir, statistics=small_statistics, progress=False)


def rows_of(workdir) -> list[dict[str, str]]:
    return [row for row in read_table(workdir / "validation.csv") if row["variable"] == ROW]


def test_the_error_is_that_of_the_time_means_of_forecasts(trained, small_store, tmp_path):
    """From the first and the last time that two days of the period follow, beside the store."""
    store = xr.open_zarr(small_store).load()
    starts = np.array(["2001-01-04T00", "2001-01-06T18"], "M8[ns]")
    rows = rows_of(trained[0])
    assert [(row["step"], row["lead_days"], row["persistence_rmse"]) for row in rows] == [
        ("5", "2", ""),
        ("10", "2", ""),
    ]
    for row in rows:
        path = str(tmp_path / f"{row['step']}.zarr")
        init = "2001-01-04T00:2001-01-06T18:66h"
        options = {"init": init, "lead": "2d", "checkpoints": row["step"], "allow_implausible": True}
        forecast(str(trained[0]), small_store, path, progress=False, **options)
        found = xr.open_zarr(path, decode_timedelta=True).load()
        assert found["time"].values.tolist() == starts.tolist()
        run = load_run(trained[0], int(row["step"]))
        area = Grid.equiangular(16, 8).area_weights[:, None]
        errors = []
        names = [*run.channels.scalars, *((name, level) for *pair, level in run.channels.winds for name in pair)]
        deviations = np.concatenate([run.normalisation.scalar_std, np.repeat(run.normalisation.wind_std, 2)])
        for (name, level), deviation in zip(names, deviations):
            one, other = (each[name] if level is None else each[name].sel(level=level) for each in (found, store))
            truth = np.mean(
                [other.sel(time=start + found["prediction_timedelta"]).values for start in starts], axis=(0, 1)
            )
            bias = one.astype(np.float64).mean(("time", "prediction_timedelta")).values - truth
            errors.append(np.sqrt((area * bias**2).mean()) / deviation)
        assert float(row["rmse"]) == pytest.approx(np.mean(errors), rel=1e-3)


def test_training_is_as_without_long_runs_and_the_best_is_kept(trained, whole_run, small_store, tmp_path):
    workdir, state = trained
    assert_same_bits(state, whole_run[1])
    best = min(rows_of(workdir), key=lambda row: float(row["rmse"]))
    one, other = load_run(workdir, "best_long_run"), load_run(workdir, int(best["step"]))
    assert one.name == other.name == f"{workdir}@{best['step']}"
    assert_same_bits(one.parts.parameters, other.parts.parameters)
    with Checkpoints(workdir, best=True) as checkpoints:
        assert checkpoints.steps == [int(best["step"])]
        assert checkpoints.about().long_run_error == pytest.approx(float(best["rmse"]), rel=1e-5)
    path = str(tmp_path / "f.zarr")
    options = {"init": "2001-01-04", "lead": "6h", "progress": False}
    forecast(str(workdir), small_store, path, checkpoints="best_long_run", **options)
    assert xr.open_zarr(path).attrs["run"] == one.name
    with pytest.raises(UserError, match="holds no checkpoint of a long run; train with"):
        load_run(whole_run[0], "best_long_run")


@pytest.mark.slow
def test_an_interrupted_run_keeps_the_same_best(trained, config, small_statistics, tmp_path, monkeypatch):
    calls, original = {"left": 8}, placement.place

    def interrupted(batch, *arguments):
        if batch.scalar.shape[1] == 3:  # of the second stage
            calls["left"] -= 1
        if calls["left"] == 6:
            calls["left"] = 0
            raise KeyboardInterrupt
        return original(batch, *arguments)

    monkeypatch.setattr(placement, "place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, statistics=small_statistics, progress=False)
    assert [row["step"] for row in rows_of(tmp_path)] == ["5"]
    assert_same_bits(train(config, tmp_path, statistics=small_statistics, progress=False), trained[1])
    assert rows_of(tmp_path) == rows_of(trained[0])
    assert_same_bits(
        load_run(tmp_path, "best_long_run").parts.parameters, load_run(trained[0], "best_long_run").parts.parameters
    )


def test_a_run_that_is_not_finite_counts_as_infinite(trained, config, tmp_path):
    run = load_run(trained[0])
    long_runs = LongRuns(config, run.channels, run.normalisation, device_mesh(config.training), tmp_path)
    assert long_runs.due(10) and not long_runs.due(9)
    scales = make_scales(run.channels, run.normalisation, run.statics, run.grid)
    broken = run.parts._replace(parameters=jax.tree.map(lambda array: array * np.nan, run.parts.parameters))
    found = long_runs(10, broken, scales)
    assert found.error == np.inf and found.steps == 0 and found.worst == "geopotential at 500 hPa"
    assert not long_runs.due(10)


def test_long_runs_take_their_share_of_the_work():
    """A step of batch 8 is 24 forecaster steps; a long run of 1440 fits a tenth of the work after 600 steps."""
    training = TrainingConfig(
        batch_size=8, stages=(Stage(2000),), checkpoint_every=100, long_run=(LongRun(4, 360),), long_run_share=0.1
    )
    assert due_marks(training) == {600, 1200, 1800, 2000}
    assert due_marks(dataclasses.replace(training, long_run_every=4)) == {800, 1200, 2000}
    assert due_marks(dataclasses.replace(training, long_run_share=0.0)) == {2000}
    # A rollout of two steps is differentiated with each step computed again: eight forward passes.
    longer = dataclasses.replace(training, stages=(Stage(100), Stage(1900, 2)))
    assert min(due_marks(longer)) == 300
    assert due_marks(dataclasses.replace(training, long_run=())) == set()


def test_settings_of_long_runs(config, trained, small_statistics, tmp_path):
    base = with_overrides(Config(), ["data.validation=2001", "training.long_run=4x1460"])
    assert base.training.long_run == (LongRun(4, 1460),) and Config.from_json(base.to_json()) == base
    assert with_overrides(base, ["training.long_run="]).training.long_run == ()
    for text, match in (
        ("4", "give initial times and steps such as 4x1460"),
        ("0x4", "at least 1"),
        ("4x9,2x1", "several"),
    ):
        with pytest.raises(UserError, match=match):
            with_overrides(base, [f"training.long_run={text}"])
    with pytest.raises(UserError, match="validation, which is empty"):
        with_overrides(Config(), ["training.long_run=4x1460"])
    short = with_overrides(config, ["training.long_run=2x20"])
    with pytest.raises(UserError, match="has not 2 times that 5 days follow"):
        train(short, tmp_path / "run", statistics=small_statistics, progress=False)
