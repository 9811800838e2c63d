"""Ensembles: from perturbed initial states and from several checkpoints."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.perturbations import IncrementPerturbations, perturb
from weather_scnn.forecasting.propagation import read_states
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import power_spectrum
from weather_scnn.training.states import StateReader

INIT = "2001-01-04:2001-01-04:12h"
STEP = np.timedelta64(6, "h")
# Batches of four throughout, so that few programs are compiled.


@pytest.fixture(scope="module")
def reader(run, small_store):
    trained = load_run(run)
    return StateReader.open(small_store, trained.channels, trained.normalisation, trained.grid)


def opened(path) -> xr.Dataset:
    return xr.open_zarr(path, decode_timedelta=True).load()


@pytest.fixture(scope="module")
def single(run, small_store, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("single") / "f.zarr")
    forecast(run, small_store, path, init=INIT, lead="24h", batch_size=4, progress=False)
    return opened(path)


@pytest.fixture(scope="module")
def ensemble(run, small_store, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("ensemble") / "f.zarr")
    forecast(
        run, small_store, path, init=INIT, lead="24h", members=5, amplitude=0.3, seed=7, batch_size=4, progress=False
    )
    return opened(path)


def test_the_first_member_is_the_single_forecast_and_the_others_differ(single, ensemble):
    assert ensemble["geopotential"].dims == (
        "time", "realization", "prediction_timedelta", "level", "latitude", "longitude",
    )  # fmt: skip
    assert ensemble["2m_temperature"].dims == ("time", "realization", "prediction_timedelta", "latitude", "longitude")
    control = ensemble.isel(realization=0)
    for name in single.data_vars:
        np.testing.assert_allclose(control[name], single[name], rtol=1e-5, atol=1e-3)
    spread = ensemble["2m_temperature"].std("realization")
    assert float(spread.min()) > 0
    assert ensemble.attrs["seed"] == 7 and ensemble.attrs["perturbation"] == "increments"
    assert ensemble.attrs["amplitude"] == 0.3
    assert ensemble["perturbed"].values.tolist() == [0, 1, 1, 1, 1]


def test_members_do_not_depend_on_how_they_are_batched(run, small_store, ensemble, tmp_path):
    path = str(tmp_path / "f.zarr")
    options = {"init": INIT, "lead": "24h", "members": 5, "amplitude": 0.3, "progress": False}
    forecast(run, small_store, path, **options, seed=7, batch_size=7)
    again = opened(path)
    for name in again.data_vars:
        np.testing.assert_allclose(again[name], ensemble[name], rtol=1e-5, atol=1e-3)
    other = str(tmp_path / "g.zarr")
    forecast(run, small_store, other, **options, seed=8)
    difference = np.abs(opened(other)["2m_temperature"] - ensemble["2m_temperature"]).max(("time", "latitude"))
    assert float(difference.isel(realization=0).max()) < 1e-3 < float(difference.isel(realization=1).min())


def test_a_killed_ensemble_is_finished_by_the_same_command(run, small_store, ensemble, tmp_path, interrupted_at):
    path = str(tmp_path / "f.zarr")
    interrupted_at(2)
    options = {"init": INIT, "lead": "24h", "members": 5, "amplitude": 0.3, "seed": 7, "batch_size": 4}
    with pytest.raises(KeyboardInterrupt):
        forecast(run, small_store, path, **options, progress=False)
    forecast(run, small_store, path, **options, progress=False)
    again = opened(path)
    assert all(np.array_equal(again[name], ensemble[name]) for name in again.data_vars)


def test_random_fields_have_the_spectrum_of_the_increments(reader):
    made = IncrementPerturbations.estimate(reader, STEP, amplitude=0.5, seed=1)
    count = 400
    spectra = made.spectra(np.full(count, reader.times[0]), np.arange(count))
    drawn = np.asarray(power_spectrum(jnp.asarray(spectra))).mean(axis=0) / 0.5**2
    pairs = np.flatnonzero(np.isin(reader.times, reader.times + STEP))
    states = read_states(reader, np.stack([pairs - 1, pairs], axis=-1))
    scalar = map_fields(lambda array: jnp.asarray(array[:, 1] - array[:, 0]), states).scalar
    expected = np.asarray(power_spectrum(made.transform.analysis(scalar))).mean(axis=0)
    scalars = scalar.shape[-1]
    # The sum over degrees but 0, which is left out: relative error of an estimate from 400 draws.
    np.testing.assert_allclose(drawn[1:, :scalars].sum(0), expected[1:].sum(0), rtol=0.1)
    large = expected[1:4] > 0.05 * expected[1:].sum(0)
    np.testing.assert_allclose(drawn[1:4, :scalars][large], expected[1:4][large], rtol=0.25)
    assert np.all(drawn[0] == 0)
    # The covariance between channels, too: neighbouring levels of geopotential change together or not at all.
    first = made.draw(np.full(2, reader.times[0]), np.arange(2))
    assert first.scalar.shape == (2, *reader.grid.shape, scalars) and bool(jnp.isfinite(first.scalar).all())
    assert float(jnp.abs(first.scalar[0] - first.scalar[1]).max()) > 0


def test_bred_vectors_have_the_amplitude_and_the_shape_of_the_flow(run, small_store, reader, tmp_path):
    from weather_scnn.forecasting.perturbations import BredPerturbations, _size
    from weather_scnn.training.loss import make_scales

    trained = load_run(run)
    scales = make_scales(trained.channels, trained.normalisation, trained.statics, trained.grid)
    random = IncrementPerturbations.estimate(reader, STEP, amplitude=0.3, seed=0)
    bred = BredPerturbations(reader, trained.parts, scales, STEP, 1, random)
    starts = np.full(4, np.datetime64("2001-01-04", "ns"))
    found = bred.draw(starts, np.arange(1, 5))
    last = map_fields(lambda array: array[:, -1], found)
    np.testing.assert_allclose(_size(last, scales), 0.3, rtol=1e-4)

    def alike(fields: Fields) -> float:
        flat = np.asarray(fields.scalar).reshape(4, -1)
        return float(np.abs(np.corrcoef(flat)[np.triu_indices(4, 1)]).mean())

    # Eight cycles of the same flow have turned independent fields towards each other.
    assert alike(last) > alike(random.draw(starts, np.arange(1, 5)))
    path = str(tmp_path / "f.zarr")
    forecast(
        run,
        small_store,
        path,
        init="2001-01-04:2001-01-04:12h",
        lead="24h",
        members=2,
        perturbation="bred",
        batch_size=4,
        progress=False,
    )
    assert opened(path).attrs["perturbation"] == "bred"
    with pytest.raises(UserError, match="48 h before"):
        forecast(
            run, small_store, str(tmp_path / "g.zarr"), init="2001-01-01T12", lead="12h", members=2,
            perturbation="bred", progress=False,
        )  # fmt: skip
    assert not (tmp_path / "g.zarr").exists()


def test_several_checkpoints_make_an_ensemble(run, small_store, single, tmp_path):
    path = str(tmp_path / "f.zarr")
    forecast(run, small_store, path, init=INIT, lead="24h", checkpoints="last:2", batch_size=4, progress=False)
    found = opened(path)
    assert found.sizes["realization"] == 2 and found["checkpoint"].values.tolist() == [0, 1]
    names = found.attrs["run"].split(", ")
    assert names[0].endswith("@10") and names[1].endswith("@5") and found["perturbed"].values.tolist() == [0, 0]
    for name in single.data_vars:
        np.testing.assert_allclose(found[name].isel(realization=0), single[name], rtol=1e-5, atol=1e-3)
    both = str(tmp_path / "g.zarr")
    forecast(run, small_store, both, init=INIT, lead="24h", checkpoints="10,5", members=4, batch_size=4, progress=False)
    mixed = opened(both)
    assert mixed["checkpoint"].values.tolist() == [0, 1, 0, 1]
    assert mixed["perturbed"].values.tolist() == [0, 0, 1, 1]
    for name in single.data_vars:
        np.testing.assert_allclose(mixed[name].isel(realization=[0, 1]), found[name], rtol=1e-5, atol=1e-3)
        assert np.isfinite(mixed[name]).all()
    third = str(tmp_path / "h.zarr")
    forecast(
        run, small_store, third, init=INIT, lead="24h", checkpoints=f"{run}@10,{run}@5", batch_size=4, progress=False
    )
    assert np.array_equal(opened(third)["geopotential"], found["geopotential"])


def test_members_that_would_be_the_same_are_refused(run, small_store, tmp_path):
    path = str(tmp_path / "f.zarr")

    def refused(match, **options):
        with pytest.raises(UserError, match=match):
            forecast(run, small_store, path, init=INIT, lead="12h", progress=False, **options)

    refused("would be the same", members=3, perturbation="none")
    refused("cannot come from", members=1, checkpoints="last:2")
    refused("not known", members=3, perturbation="noise")
    refused("not positive", members=3, amplitude=0.0)
    refused("no checkpoint 7", checkpoints="7")
    refused("checkpoints, not 9", checkpoints="last:9")
    assert not (tmp_path / "f.zarr").exists()


def test_what_cannot_be_negative_stays_so():
    state = Fields(jnp.asarray([[[[[0.1, 0.1]]]]]), *[jnp.zeros((1, 1, 1, 1, 0))] * 2)
    change = Fields(jnp.asarray([[[[-5.0, -5.0]]]]), *[jnp.zeros((1, 1, 1, 0))] * 2)
    changed = perturb(state, change, np.array([-1.5, -np.inf], np.float32))
    np.testing.assert_allclose(changed.scalar.ravel(), [-1.5, -4.9], rtol=1e-6)
