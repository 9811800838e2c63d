"""Ensembles of a network with noise: from unperturbed states, each member by its number."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.forecaster import Forecaster
from weather_scnn.models import NoiseConfig
from weather_scnn.training.configuration import LossConfig, Stage
from weather_scnn.training.loop import train

OPTIONS = {"init": "2001-01-04:2001-01-04:12h", "lead": "60h", "progress": False}


@pytest.fixture(scope="module")
def noisy(small_config, small_statistics, tmp_path_factory) -> str:
    """The workdir of a few steps of an ensemble, from scratch."""
    workdir = tmp_path_factory.mktemp("noisy")
    noise = NoiseConfig(vector=3, fields=1, length_scales=(1000.0, 4000.0), correlation_hours=(12.0, 48.0))
    config = dataclasses.replace(
        small_config,
        model=dataclasses.replace(small_config.model, noise=noise),
        loss=LossConfig(kind="crps"),
        training=dataclasses.replace(small_config.training, members=2, stages=(Stage(6, 1),)),
    )
    train(config, workdir, statistics=small_statistics, progress=False)
    return str(workdir)


def made(noisy, small_store, path, **options) -> xr.Dataset:
    forecast(noisy, small_store, str(path), **{**OPTIONS, "batch_size": 6, **options})
    return xr.open_zarr(str(path), decode_timedelta=True).load()


@pytest.fixture(scope="module")
def ensemble(noisy, small_store, tmp_path_factory):
    return made(noisy, small_store, tmp_path_factory.mktemp("e") / "f.zarr", members=3, seed=5)


def test_members_differ_from_unperturbed_states_and_winds_and_scalars_alike(ensemble):
    assert ensemble.attrs["noise"] == "of the network" and ensemble.attrs["perturbation"] == "none"
    assert ensemble["perturbed"].values.tolist() == [0, 0, 0]
    for name in ("geopotential", "u_component_of_wind", "2m_temperature"):
        assert float(ensemble[name].std("realization").mean(("latitude", "longitude")).min()) > 0
    # Two initial times draw different noise.
    first, second = (ensemble["2m_temperature"].isel(time=time, prediction_timedelta=0) for time in (0, 1))
    assert not np.allclose(first - first.mean("realization"), second - second.mean("realization"), rtol=0.1)


def test_a_member_is_the_same_whatever_runs_beside_it(noisy, small_store, ensemble, tmp_path):
    """More members, other batches; the single forecast is member 0. Ten leads are two blocks, so noise is carried on."""
    more = made(noisy, small_store, tmp_path / "m.zarr", members=4, seed=5, batch_size=4)
    single = made(noisy, small_store, tmp_path / "s.zarr", seed=5)
    other = made(noisy, small_store, tmp_path / "o.zarr", seed=6)
    for name in ensemble.data_vars:
        np.testing.assert_allclose(more[name][:, :3], ensemble[name], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(single[name], ensemble[name][:, 0], rtol=1e-5, atol=1e-3)
    assert "realization" not in single.dims
    assert not np.allclose(other["2m_temperature"], single["2m_temperature"], rtol=1e-5)


def test_an_interrupted_ensemble_is_finished_by_the_same_command(
    noisy, small_store, ensemble, tmp_path, interrupted_at
):
    calls = interrupted_at(2)
    options = {"members": 3, "seed": 5, "batch_size": 3}
    with pytest.raises(KeyboardInterrupt):
        forecast(noisy, small_store, str(tmp_path / "f.zarr"), **OPTIONS, **options)
    found = made(noisy, small_store, tmp_path / "f.zarr", **options)
    assert len(calls) == 3
    for name in ensemble.data_vars:
        np.testing.assert_allclose(found[name], ensemble[name], rtol=1e-5, atol=1e-3)


def test_perturbations_may_be_added(noisy, small_store, ensemble, tmp_path):
    found = made(
        noisy, small_store, tmp_path / "f.zarr", members=3, seed=5, perturbation="increments", amplitude=0.3
    )  # fmt: skip
    assert found["perturbed"].values.tolist() == [0, 1, 1]
    first = {"prediction_timedelta": 0}
    same, moved = (
        np.abs(found["geopotential"] - ensemble["geopotential"]).isel(realization=member, **first).max()
        for member in (0, 1)
    )
    assert float(same) < 1e-2 < float(moved)


@pytest.mark.slow
def test_from_python_an_ensemble_has_the_numbers_of_the_command(noisy, small_store, ensemble):
    model = Forecaster.load(noisy)
    found = model.forecast(small_store, init=OPTIONS["init"], lead="60h", members=3, seed=5, batch_size=6)
    np.testing.assert_array_equal(found["geopotential"], ensemble["geopotential"])
    truth = xr.open_zarr(small_store, decode_timedelta=True)
    step = model.step(truth.sel(time=slice("2001-01-03T18", "2001-01-04T00")).load())
    zero = model.forecast(small_store, init="2001-01-04T00", lead="6h")  # member 0 of seed 0
    np.testing.assert_allclose(
        step["2m_temperature"].isel(time=0), zero["2m_temperature"].isel(time=0, prediction_timedelta=0), rtol=1e-6
    )
