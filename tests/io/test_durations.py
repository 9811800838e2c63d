"""Durations have units; a number alone is refused wherever one is read."""

import numpy as np
import pytest

from eval.request import check_leads, lead_positions
from eval.scorecard import nearest_lead
from weather_scnn.errors import UserError
from weather_scnn.io.derived_opening import at_step
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.initial_times import split_init
from weather_scnn.training.channels import DataConfig
from weather_scnn.training.configuration import Config
from weather_scnn.training.configuration_reading import with_overrides


@pytest.mark.parametrize(
    ("text", "hours"),
    [("6h", 6), ("10d", 240), ("1D", 24), ("1d12h", 36), ("12 hours", 12), ("1 day", 24), ("90min", 1.5), ("0.25d", 6),
     ("2w", 336), ("PT6H", 6), ("P1DT12H", 36), ("06:00:00", 6), ("1 days 06:00:00", 30), ("3600s", 1), (" 6 hr ", 6)],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(text, hours):
    assert parse_duration(text) == np.timedelta64(round(hours * 3600), "s")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("6", "6 has no unit; write it as 6h or 6d"),
        ("1.5", "1.5 has no unit"),
        ("1e3", "has no unit"),
        ("0", "not a positive"),
        ("0h", "not a positive"),
        ("-6h", "not a positive"),
        ("-6", "not a positive"),
        ("0.0000000001s", "not a positive"),
        ("99999999d", "longer than 290 years"),
        ("", "not a duration"),
        ("six hours", "not a duration"),
        ("6x", "not a duration"),
        ("1M", "not a duration"),
        ("nan", "not a duration"),
        ("inf", "not a duration"),
        ("6h6", "not a duration"),
        ("P", "not a duration"),
    ],
)
def test_what_is_no_duration_is_refused_in_one_line(text, words):
    with pytest.raises(UserError, match=words) as caught:
        parse_duration(text)
    assert "write it as" in str(caught.value) and "\n" not in str(caught.value)


def test_every_reader_of_durations_wants_a_unit(small_store, untyped):
    import xarray as xr

    scores = xr.Dataset(coords={"lead_time": np.array([6, 24], "timedelta64[h]").astype("timedelta64[ns]")})
    readers = [
        lambda: DataConfig(step="6"),
        lambda: DataConfig(step=6),
        lambda: DataConfig(input_step="6"),
        lambda: with_overrides(Config(), ["data.step=6"]),
        lambda: at_step(xr.open_zarr(small_store), "6"),
        lambda: check_leads(["24h", "6"], "--maps"),
        lambda: lead_positions(["6"], scores["lead_time"].values, "--spectra"),
        lambda: nearest_lead(scores, "6"),
        lambda: split_init("2001-01-01:2001-01-08:6"),
    ]
    for reader in readers:
        with pytest.raises(UserError, match="6 has no unit; write it as 6h"):
            reader()
    check_leads(["24h", "0", "all"], "--maps")
    assert lead_positions(["24h"], scores["lead_time"].values, "--maps").tolist() == [1]


def test_minutes_that_may_be_a_step_are_asked_for():
    with pytest.raises(UserError, match=r"minutes or a step.*12h"):
        split_init("2001-01-01T00:2001-01-08T00:12")
    assert split_init("2001-01-01T00:2001-01-08T00:00")[1] is None
    assert split_init("2001-01-01T00:00:2001-01-08T00:12")[1] is None
    for text in ("2001-01-01:2001-01-08:0h", "2001-01-01:2001-01-08:-6h", "2001-01-01:2001-01-08:often"):
        with pytest.raises(UserError, match="write it as 6h"):
            split_init(text)


@pytest.mark.parametrize(
    "assignment",
    ["training.log_every=0", "training.checkpoint_every=0", "training.keep_checkpoints=0", "training.seed=-1",
     "training.validation_windows=0", "training.validate_every=-1", "data.readers=0", "data.prefetch=0",
     "data.input_steps=0", "data.forcing_times=3", "data.cache_gigabytes=-1", "optimiser.learning_rate=0",
     "optimiser.clip_norm=0", "optimiser.average_decay=1", "optimiser.warmup_steps=-1", "optimiser.weight_decay=nan"],
)  # fmt: skip
def test_settings_that_nothing_can_be_made_of_are_refused(assignment):
    with pytest.raises(UserError, match="set it to"):
        with_overrides(Config(), [assignment])


def test_a_tilde_in_a_setting_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    data = with_overrides(Config(), ["data.path=~/era5.zarr", "data.statistics=~/s.nc"]).data
    assert (data.path, data.statistics) == (f"{tmp_path}/era5.zarr", f"{tmp_path}/s.nc")
    assert DataConfig(path="gs://bucket/~x.zarr").path == "gs://bucket/~x.zarr"
