"""Rollouts of years: their sums are those of stored fields, a kill changes nothing, and an end is found at its step."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import xarray as xr

from tests.conftest import travelling_waves
from weather_scnn.errors import UserError
from weather_scnn.forecasting import stability_rollout, stability_truth
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.stability import spectrum_windows, stability
from weather_scnn.forecasting.stability_file import open_stability
from weather_scnn.forecasting.stability_scores import stability_lines, stability_scores
from weather_scnn.forecasting.stability_truth import Days, cycled
from weather_scnn.forecasting.trained_run import TrainedRun, load_run
from weather_scnn.io import restart_file
from weather_scnn.sphere import Grid
from weather_scnn.sphere.field_spectra import degree_power, kinetic_energy
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration_reading import with_overrides
from weather_scnn.training.loop import train
from weather_scnn.training.rollout import build, take_apart
from weather_scnn.training.states import expected_grid

DAY, SIX_HOURS = np.timedelta64(24, "h"), np.timedelta64(6, "h")
DAYS, INIT = 5, "2001-01-02:2001-01-03:24h"
OPTIONS = {"init": INIT, "years": DAYS / 365.2425, "spectra": ["1d", "5d"], "progress": False}


@pytest.fixture(scope="module", autouse=True)
def short_blocks():
    """Of two days, so that five have several; all tests but those of their own options share a compiled program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability_rollout, "DAYS_PER_BLOCK", 2)
        yield


@pytest.fixture(scope="module")
def rolled(run, small_store, tmp_path_factory) -> xr.Dataset:
    """Five days from two initial times, in blocks of two days."""
    path = str(tmp_path_factory.mktemp("stability") / "stability.nc")
    stability(run, small_store, path, **OPTIONS)
    return open_stability(path).load()


@pytest.fixture(scope="module")
def stored(run, small_store, tmp_path_factory) -> xr.Dataset:
    """The same rollouts as forecasts, every step."""
    path = str(tmp_path_factory.mktemp("stored") / "forecast.zarr")
    forecast(run, small_store, path, init=INIT, lead=f"{DAYS}d", progress=False)
    return xr.open_zarr(path, decode_timedelta=True).load().astype(np.float64)


def field_of(dataset: xr.Dataset, label: str) -> xr.DataArray:
    name, _, level = label.partition("@")
    array = dataset[name]
    return array.sel(level=int(level)) if level else array


def test_sums_are_those_of_stored_fields(rolled, stored, small_grid):
    area = small_grid.area_weights[:, None] / small_grid.area_weights.mean()
    system, truth = rolled["system"].values
    assert system.endswith("@10") and truth == "truth" and rolled.attrs["days_of_time_means"] == DAYS
    assert rolled["field"].values.tolist() == [
        "geopotential@500", "geopotential@850", "2m_temperature", "u_component_of_wind@500", "u_component_of_wind@850",
        "v_component_of_wind@500", "v_component_of_wind@850",
    ]  # fmt: skip
    north = (small_grid.latitude > 0)[:, None]
    for label in rolled["field"].values:
        own, values = rolled.sel(system=system, field=label), field_of(stored, label).values
        spread = float(own["field_std"])
        np.testing.assert_allclose(own["time_mean"], values.mean(axis=1), rtol=2e-7, atol=1e-6 * spread)
        np.testing.assert_allclose(own["time_std"], values.std(axis=1), rtol=1e-4, atol=1e-4 * spread)
        np.testing.assert_allclose(own["zonal_mean"], values.mean(axis=(1, 3)), rtol=2e-7, atol=1e-6 * spread)
        days = values.reshape(2, DAYS, 4, *values.shape[-2:])
        expected = (days * area).mean(axis=(2, 3, 4))
        np.testing.assert_allclose(own["global_mean"], expected, rtol=2e-7, atol=1e-6 * spread)
        half = (days * (area * north / north.mean() / area[north[:, 0]].mean())).mean(axis=(2, 3, 4))
        np.testing.assert_allclose(own["hemispheric_mean"].sel(hemisphere="north"), half, rtol=2e-7, atol=1e-6 * spread)
        # One state a day at each hour in turn.
        states = np.stack([days[:, day, day % 4] for day in range(DAYS)], axis=1)
        for position in range(2):
            edges = own["bin_edges"].values.copy()
            edges[[0, -1]] = -np.inf, np.inf
            weights = np.broadcast_to(area, states[position].shape)
            counts = np.histogram(states[position], edges, weights=weights)[0] / weights.sum()
            np.testing.assert_allclose(own["histogram"][position], counts, atol=2e-3)
            assert float(own["histogram"][position].sum()) == pytest.approx(1)


def test_spectra_are_those_of_one_state_a_day_near_the_lead(rolled, stored, small_grid):
    one = rolled.isel(system=0)
    assert rolled["spectrum_field"].values.tolist()[-1] == "wind@850"
    # Of five days the last fifth is the fifth, of which the first state is taken; of the first day it is the first, too.
    for lead, step in ((1, 0), (5, 16)):
        at = stored.isel(prediction_timedelta=step)
        height = degree_power(at["geopotential"].sel(level=500).values, small_grid)
        found = one["spectrum"].sel(spectrum_lead=lead * DAY)
        np.testing.assert_allclose(
            found.sel(spectrum_field="geopotential@500")[:, 1:],
            height[:, 1 : found.sizes["degree"]],
            rtol=1e-3,
            atol=1e-3,
        )
        winds = (at[f"{axis}_component_of_wind"].sel(level=850).values for axis in "uv")
        energy = kinetic_energy(*winds, small_grid)
        np.testing.assert_allclose(
            found.sel(spectrum_field="wind@850"), energy[:, : found.sizes["degree"]], rtol=1e-3, atol=1e-6
        )
    assert spectrum_windows(None, 400).tolist() == [[1, 1], [9, 10], [49, 60], [293, 365], [321, 400]]
    with pytest.raises(UserError, match="--spectra 9d is no whole number of days up to 5d"):
        spectrum_windows(["1d", "9d"], 5)


def test_the_truth_is_summed_alike(rolled, small_store, small_grid):
    store = xr.open_zarr(small_store).load().astype(np.float64)
    truth, area = rolled.sel(system="truth"), small_grid.area_weights[:, None]
    # Days end at the initial time's hour; the one that lacks a time, on 9 January, and what begins before are no whole days.
    ends = rolled["time"].values
    assert ends[0] == np.datetime64("2001-01-02") and np.datetime64("2001-01-10") not in ends and ends.size == 10
    for label in ("geopotential@850", "2m_temperature"):
        values = field_of(store, label)
        for position, start in enumerate(rolled["init"].values):
            times = start + SIX_HOURS * np.arange(1, 4 * DAYS + 1)
            expected = values.sel(time=times).values
            own = truth.sel(field=label).isel(init=position)
            spread = float(own["field_std"])
            np.testing.assert_allclose(own["time_mean"], expected.mean(axis=0), rtol=2e-7, atol=1e-6 * spread)
            np.testing.assert_allclose(own["time_std"], expected.std(axis=0), atol=1e-4 * spread)
            means = (expected * area).mean(axis=(1, 2)).reshape(DAYS, 4).mean(axis=1)
            np.testing.assert_allclose(own["global_mean"], means, rtol=2e-7, atol=1e-6 * spread)
    assert rolled["truth_days"].values.tolist() == [DAYS, DAYS]
    assert np.isnan(rolled["truth_time_mean_spread"]).all()  # of less than two years


@pytest.mark.parametrize("name", ["TruthSums", "Batch"])
def test_a_kill_changes_nothing(run, small_store, rolled, tmp_path, monkeypatch, name):
    owner, method, calls = (
        (stability_truth.TruthSums, "_add", 7) if name == "TruthSums" else (stability_rollout.Batch, "_take", 2)
    )
    path, count, original = str(tmp_path / "s.nc"), [0], getattr(owner, method)

    def dies(*arguments):
        count[0] += 1
        if count[0] == calls:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(restart_file, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(owner, method, dies)
    with pytest.raises(KeyboardInterrupt):
        stability(run, small_store, path, **OPTIONS)
    begun = count[0]
    stability(run, small_store, path, **OPTIONS)
    # What was saved is not done again: of the truth four days are read at once, of rollouts two.
    assert count[0] - begun == (10 - 4 if name == "TruthSums" else 3 - 1)
    found = open_stability(path).load().drop_vars("steps_per_second")
    xr.testing.assert_identical(found.drop_attrs(), rolled.drop_vars("steps_per_second").drop_attrs())
    assert not list(tmp_path.glob("*progress"))


def test_a_state_that_is_not_finite_is_found_at_its_step(run, small_store, rolled, tmp_path, monkeypatch):
    """The sun is missing at one time: each rollout ends there, and the other system goes on."""
    night = np.datetime64("2001-01-05T12:00")

    def without_sun(times):
        found = original(times)
        found[times == night] = np.nan
        return found

    original = stability_rollout.phases
    monkeypatch.setattr(stability_rollout, "phases", without_sun)
    path = str(tmp_path / "s.nc")
    scores = stability(run, small_store, path, allow_implausible=True, **OPTIONS)
    found = open_stability(path).load()
    assert found["finite_steps"].values.tolist() == [[13, 9], [20, 20]]
    assert found["ended_by"].values[0].tolist() == ["geopotential at 500 hPa: values that are not finite"] * 2
    whole, own = rolled.isel(system=0), found.isel(system=0)
    for position, last in enumerate((3, 2)):
        kept = own["global_mean"].isel(init=position)
        np.testing.assert_array_equal(kept[:last], whole["global_mean"].isel(init=position)[:last])
        assert np.isnan(kept[last:]).all()
    assert np.isnan(own["time_mean"]).all() and np.isnan(own["histogram"]).all()
    assert (
        np.isfinite(own["spectrum"].isel(spectrum_lead=0)).all()
        and np.isnan(own["spectrum"].isel(spectrum_lead=1)).all()
    )
    assert np.isinf(scores["drift"]).all() and np.isinf(scores["time_mean_error"]).all()
    told = "\n".join(stability_lines(scores))
    assert "0 of 2 went to the end (20 steps)" in told and "from 2001-01-03T00:00, after 2.25 days" in told


def test_what_is_implausible_ends_a_rollout_where_it_ends_a_forecast(run, small_store, rolled, tmp_path):
    good = load_run(run)
    grown = good.parts._replace(parameters=jax.tree.map(lambda array: 3 * array, good.parts.parameters))
    wild = dataclasses.replace(good, parts=grown, name="wild")
    with pytest.raises(UserError, match="which stops there"):
        forecast([wild], small_store, str(tmp_path / "f.zarr"), init=INIT, lead="5d", progress=False)
    stops = json.loads(xr.open_zarr(str(tmp_path / "f.zarr")).attrs["stopped"])
    path = str(tmp_path / "s.nc")
    stability([wild, good], small_store, path, **OPTIONS)
    found = open_stability(path).load()
    leads = {stop["initial_time"]: stop["lead_hours"] for stop in stops}
    told = found.sel(system="wild")
    for position, start in enumerate(found["init"].values):
        expected = leads.get(np.datetime_as_string(start, "m"), np.inf)
        assert int(told["finite_steps"][position]) == min(expected / 6 - 1, 20)
    assert any(stop["field"] in told["ended_by"].values[0] for stop in stops)
    # The other system goes on as if it were alone.
    changed = (found["time_mean"].isel(system=1) - rolled["time_mean"].isel(system=0)) / found["field_std"]
    assert float(abs(changed).max()) < 2e-5  # what float32 keeps of a geopotential


@pytest.mark.slow
def test_members_of_a_network_without_noise_are_perturbed(run, small_store, tmp_path):
    options = {**OPTIONS, "years": 2 / 365.2425, "spectra": None, "batch_size": 2}
    path, alone = str(tmp_path / "s.nc"), str(tmp_path / "alone.nc")
    stability(run, small_store, path, members=2, **options)
    found = open_stability(path).load().isel(system=0)
    assert found["realization"].values.tolist() == [0, 1, 0, 1]
    assert (found["init"].diff("init") / DAY).values.tolist() == [0, 1, 0]
    stability(run, small_store, alone, **options)
    control = open_stability(alone).load()["time_mean"].isel(system=0)
    for start in (0, 1):
        own, perturbed = found["time_mean"][2 * start], found["time_mean"][2 * start + 1]
        np.testing.assert_allclose(own, control[start], rtol=1e-5, atol=1e-5)
        assert float(abs(own - perturbed).sel(field="2m_temperature").max()) > 0.01


@pytest.mark.slow
def test_members_of_a_network_with_noise_go_on_after_a_kill(
    small_config, small_statistics, small_store, tmp_path, monkeypatch
):
    """The noise is saved with the state; such a network is rolled out while it is trained, too."""
    settings = [
        "loss.kind=crps", "training.members=2", "model.noise.vector=4", "model.noise.fields=2", "training.stages=2",
        "data.validation=2001-01-04:2001-01-08", "training.long_run=2x4", "training.validation_days=0.25",
    ]  # fmt: skip
    folder, whole, killed = (str(tmp_path / name) for name in ("run", "whole.nc", "killed.nc"))
    train(with_overrides(small_config, settings), folder, statistics=small_statistics, progress=False)
    options = {
        "init": "2001-01-02",
        "years": 5 / 365.2425,
        "members": 2,
        "checkpoints": "best_long_run",
        "progress": False,
    }
    stability(folder, small_store, whole, **options)
    original, calls = stability_rollout.Batch._take, [0]

    def dies(*arguments):
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(restart_file, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(stability_rollout.Batch, "_take", dies)
    with pytest.raises(KeyboardInterrupt):
        stability(folder, small_store, killed, **options)
    stability(folder, small_store, killed, **options)
    one, other = (open_stability(path).load().drop_vars("steps_per_second").drop_attrs() for path in (whole, killed))
    xr.testing.assert_identical(one, other)
    assert not np.allclose(*one["time_mean"].isel(system=0).sel(init="2001-01-02T00"), rtol=1e-6)


def test_a_prescribed_field_is_that_of_the_store(run, small_store, tmp_path):
    path = str(tmp_path / "s.nc")
    stability(run, small_store, path, prescribe=["2m_temperature"], **OPTIONS)
    found = open_stability(path).load()
    own, truth = (found.sel(field="2m_temperature").isel(system=place) for place in (0, 1))
    for name in ("time_mean", "time_std", "global_mean"):
        np.testing.assert_allclose(own[name], truth[name], rtol=1e-5)
    assert not np.allclose(*found["time_mean"].sel(field="geopotential@500"), rtol=1e-3)
    with pytest.raises(UserError, match="--prescribe names salinity, which is no scalar of the state"):
        stability(run, small_store, str(tmp_path / "t.nc"), prescribe=["salinity"], **OPTIONS)
    with pytest.raises(UserError, match="holds no whole year that could come again"):
        stability(run, small_store, str(tmp_path / "t.nc"), prescribe=["2m_temperature"], **OPTIONS | {"years": 0.1})


def test_the_last_whole_years_come_again():
    """Of a year and a half the last year, by calendar days; 29 February falls on the 28th."""
    times = np.arange(np.datetime64("2000-07-01", "ns"), np.datetime64("2002-01-01", "ns"), SIX_HOURS)

    def told(text):
        return np.datetime_as_string(times[cycled(times, np.array([text], "M8[ns]"), "store")[0]], "h")

    assert told("2001-12-31T18") == "2001-12-31T18"
    assert told("2002-01-01T00") == "2001-01-01T00"
    assert told("2002-12-31T18") == "2001-12-31T18" and told("2011-03-04T06") == "2001-03-04T06"
    assert told("2004-02-29T12") == "2001-02-28T12"
    with pytest.raises(UserError, match="lacks 2000-06-30"):
        cycled(times, np.array(["2000-06-30"], "M8[ns]"), "store")


def test_windows_are_of_the_season_and_of_whole_years():
    times = np.arange(np.datetime64("2000-01-01", "ns"), np.datetime64("2002-07-01", "ns"), SIX_HOURS)
    days = Days.of(times, np.datetime64("2001-12-20", "ns"), SIX_HOURS)
    assert days.ends.size == 911 and (days.years >= 0).sum() == 731
    winter = days.window(np.datetime64("2001-12-20"), 30 * DAY)
    months = (days.ends[winter] - DAY // 2).astype("datetime64[M]").astype(int) % 12
    # The 18 days of January at the beginning belong to the season, too.
    assert winter.sum() in (78, 79) and set(months) == {11, 0}
    assert (days.window(np.datetime64("2001-12-20"), 365 * DAY) == (days.years >= 0)).all()


def test_thirty_days_of_the_demonstrations_grid(small_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stability_rollout, "DAYS_PER_BLOCK", 10)
    grid = Grid.equiangular(64, 32)
    times = np.datetime64("2001-01-01") + np.arange(9) * SIX_HOURS
    path = str(tmp_path / "waves.zarr")
    travelling_waves(grid, times).chunk({"time": 1}).to_zarr(path, consolidated=True, zarr_format=2)
    data = dataclasses.replace(small_config.data, grid="64x32", path=path)
    channels = Channels.from_config(data)
    whole = xr.open_zarr(path)
    from weather_scnn.training.normalisation import Normalisation

    arrays = [whole[name] if level is None else whole[name].sel(level=level) for name, level in channels.scalars]
    scalar = [np.array([float(one) for one in map(kind, arrays)]) for kind in (xr.DataArray.mean, xr.DataArray.std)]
    wind, static = np.full(2, 10.0), np.zeros(1)
    moments = Normalisation(*scalar, 0.02 * scalar[1], wind, 0.1 * wind, static, static + 1)
    parts = take_apart(build(small_config.model, data, channels, grid, 1))
    config = dataclasses.replace(small_config, data=data)
    statics = np.zeros((*grid.shape, 2), np.float32)
    untrained = TrainedRun(config, moments, channels, expected_grid(data), parts, statics, "untrained")
    output = str(tmp_path / "s.nc")
    stability([untrained], path, output, init="2001-01-01:2001-01-02:24h", years=30 / 365.2425)
    found = open_stability(output).load()
    assert found.sizes["day"] == 30 and found["finite_steps"].values.tolist() == [[120, 120]] * 2
    assert np.isfinite(found["global_mean"].isel(system=0)).all() and float(found["steps_per_second"][0]) > 0
    # The truth is known on the first two days, and said to be too short.
    assert np.isfinite(found["global_mean"].sel(system="truth")).any("field").sum("day").values.tolist() == [2, 1]
    assert "untrained: 2 of 2 went to the end (120 steps)" in capsys.readouterr().err


def synthetic(offset: float, amplitude: float, late: float) -> xr.Dataset:
    """Two years of daily means of the truth, and three of a rollout whose seasons are larger, later and warmer."""
    rng = np.random.default_rng(0)
    times = np.datetime64("2000-01-02", "ns") + DAY * np.arange(731)
    start = np.datetime64("2000-03-01", "ns")
    valid = start + DAY * np.arange(1, 1097)

    def season(times, amplitude, late):
        days = (times - np.datetime64("2000-01-01")) / DAY
        return 280 + amplitude * np.cos(2 * np.pi * (days - 200 - late) / 365.2425)

    truth = season(times, 4.0, 0.0) + 0.3 * rng.standard_normal(times.size)
    rolled = season(valid, 4.0 * amplitude, late) + offset + 0.3 * rng.standard_normal(valid.size)
    inside = np.interp(valid.astype(float), times.astype(float), truth, right=np.nan)
    series = np.stack([rolled, inside])[:, None, :, None]
    spectrum = np.exp(-0.3 * np.arange(32.0)) * (np.arange(32) < 22)
    spectra = np.stack([spectrum * np.where(np.arange(32) > 16.8, 0.8, 1.5), spectrum])[:, None, None, None]
    maps = np.zeros((2, 1, 1, 4, 8))
    maps[0] += offset
    dims = ("system", "init")
    return xr.Dataset(
        {
            "global_mean": ((*dims, "day", "field"), series),
            "hemispheric_mean": (("hemisphere", *dims, "day", "field"), np.stack([series, 560 - series])),
            "truth_global_mean": (("time", "field"), truth[:, None]),
            "truth_hemispheric_mean": (("hemisphere", "time", "field"), np.stack([truth, 560 - truth])[..., None]),
            "time_mean": ((*dims, "field", "latitude", "longitude"), maps),
            "truth_time_mean_spread": (("field", "latitude", "longitude"), np.full((1, 4, 8), 0.25)),
            "spectrum": ((*dims, "spectrum_lead", "spectrum_field", "degree"), spectra),
            "finite_steps": (dims, np.full((2, 1), 4384)),
            "ended_by": (dims, np.full((2, 1), "", object)),
            "steps_per_second": ("system", [50.0, np.nan]),
        },
        {
            "system": ["run", "truth"], "init": [start], "field": ["2m_temperature"], "field_std": ("field", [20.0]),
            "day": np.arange(1, 1097), "time": times, "hemisphere": ["north", "south"], "latitude": [-67.5, -22.5, 22.5, 67.5],
            "spectrum_field": ["2m_temperature"], "spectrum_lead": [60 * DAY.astype("m8[ns]")], "degree": np.arange(32),
        },
        {"steps_per_day": 4},
    )  # fmt: skip


def test_scores_of_a_climate_that_is_known():
    scores = stability_scores(synthetic(offset=1.5, amplitude=1.2, late=9.0))
    deviation = (4.0**2 / 2 + 0.3**2) ** 0.5
    assert float(scores["drift"].squeeze()) == pytest.approx(1.5 / deviation, abs=0.02)
    assert float(scores["time_mean_error"].squeeze()) == pytest.approx(1.5 / 20)
    assert float(scores["truth_time_mean_error"].squeeze()) == pytest.approx(0.25 / 20)
    assert float(scores["small_scale_power"].squeeze()) == pytest.approx(0.8)
    assert (scores["truth_seasonal_share"] > 0.95).all()
    ratio, phase = scores["seasonal_amplitude_ratio"].squeeze(), scores["seasonal_phase_days"].squeeze()
    np.testing.assert_allclose(ratio.sel(region=["global", "north", "south"]), 1.2, atol=0.02)
    np.testing.assert_allclose(phase, 9.0, atol=1.0)
    told = "\n".join(stability_lines(scores))
    assert "1 of 1 went to the end" in told and "amplitude over the truth's median 1.20" in told
