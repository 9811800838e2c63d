import io
import json

import numpy as np
import pandas as pd
import pytest
import rich.console
import xarray as xr

from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError

TIMES = pd.date_range("2020-01-01", periods=8, freq="6h")


def healthy(**changes):
    latitude, longitude = np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 10.0)
    shape = (8, 36, 36)
    warm = 300 - 40 * np.sin(np.radians(latitude))[None, :, None] ** 2 + np.zeros(shape)
    dims = ("time", "latitude", "longitude")
    dataset = xr.Dataset(
        {"2m_temperature": (dims, warm.astype("float32"), {"units": "K"})},
        {"time": TIMES, "latitude": latitude, "longitude": longitude},
    )
    return dataset.assign({key: (dims, np.broadcast_to(value, shape).copy(), {}) for key, value in changes.items()})


def check(tmp_path, dataset):
    dataset.chunk({"time": 1}).to_zarr(tmp_path / "s.zarr", consolidated=False)
    report = check_store(str(tmp_path / "s.zarr"), progress=False)
    return report, {problem["kind"]: problem for problem in report.problems}


def test_a_healthy_store_is_described_and_has_no_problems(tmp_path):
    report, problems = check(tmp_path, healthy())
    assert problems == {} and report.usable
    (row,) = report.variables
    assert (row["name"], row["units"], row["step"], row["gaps"]) == ("2m_temperature", "K", "6h", 0)
    assert row["period"] == ["2020-01-01T00:00", "2020-01-02T18:00"] and row["chunks"] == [1, 36, 36]
    # ∫ (300 − 40 μ²) dμ / 2 over [−1, 1] = 300 − 40/3; the cells' mean of μ² errs by their size squared
    assert row["mean"] == pytest.approx(300 - 40 / 3, abs=0.05)
    assert json.loads(report.to_json()).keys() == {"variables", "problems"}
    console = rich.console.Console(file=io.StringIO(), width=200)
    report.render(console)
    assert "2m_temperature" in console.file.getvalue() and "no problems" in console.file.getvalue()


def test_nans_are_counted_and_placed(tmp_path):
    dataset = healthy()
    dataset["2m_temperature"][2] = np.nan
    dataset["2m_temperature"][5, 0, 0] = np.nan
    report, problems = check(tmp_path, dataset)
    assert report.variables[0]["nan_count"] == 36 * 36 + 1
    assert report.variables[0]["nan_period"] == ["2020-01-01T12:00", "2020-01-02T06:00"]
    assert problems["nan_times"]["where"] == "1 times whole: 2020-01-01T12:00" and report.usable
    assert problems["nan"]["where"] == "1 values in 1 times: 2020-01-02T06:00"
    assert report.variables[0]["mean"] == pytest.approx(300 - 40 / 3, abs=0.1)


def test_a_constant_mask_is_told_from_missing_times_and_an_empty_variable_is_fatal(tmp_path):
    sea = np.full((8, 36, 36), 290.0, np.float32)
    sea[:, :5] = np.nan
    report, problems = check(tmp_path, healthy(sea_surface_temperature=sea, surface_pressure=np.float32(np.nan)))
    assert problems["masked"]["variable"] == "sea_surface_temperature"
    assert problems["all_nan"]["variable"] == "surface_pressure" and not report.usable
    json.loads(report.to_json())


def test_gaps_repeats_disorder_and_irregular_times_are_found(tmp_path):
    dataset = healthy()
    report, problems = check(tmp_path / "a", dataset.isel(time=[0, 1, 2, 4, 5, 5, 3 + 4]))
    assert "3 missing" not in problems["gap"]["where"] and "2 missing at a step of 6h" in problems["gap"]["where"]
    assert "2020-01-01T12:00 … 2020-01-02T00:00" in problems["gap"]["where"]
    assert problems["repeated_times"]["where"].startswith("1 dropped") and report.usable
    _, problems = check(tmp_path / "b", dataset.isel(time=[1, 0, 2, 3]))
    assert set(problems) == {"unsorted_times"}
    odd = dataset.assign_coords(time=TIMES + pd.to_timedelta([0, 0, 0, 1, 0, 0, 0, 0], unit="h"))
    _, problems = check(tmp_path / "c", odd)
    assert "irregular_times" in problems


@pytest.mark.parametrize(
    ("name", "value", "guess"),
    [
        ("temperature", 15.0, "degrees Celsius"),
        ("mean_sea_level_pressure", 1013.0, "hPa"),
        ("specific_humidity", 5.0, "g kg-1"),
        ("total_precipitation", 5.0, "mm"),
        ("vertical_velocity", 500.0, ""),
    ],
)
def test_impossible_magnitudes_are_fatal_and_the_unit_is_guessed(tmp_path, name, value, guess):
    report, problems = check(tmp_path, healthy(**{name: np.float32(value)}))
    assert not report.usable and problems["implausible"]["variable"] == name
    assert guess in problems["implausible"]["where"] and problems["implausible"]["remedy"]


def test_a_height_labelled_geopotential_is_found_by_level(tmp_path):
    dataset = healthy().expand_dims(level=[500, 850], axis=1)
    for labelled, factor in (("height", 1.0), ("geopotential", 9.80665)):
        height = xr.full_like(dataset["2m_temperature"], 5574.0)
        height[:, 1] = 1457.0
        case = (height * factor).to_dataset(name="z")
        case["z"].attrs["units"] = "m**2 s**-2"
        report, problems = check(tmp_path / labelled, case)
        assert report.usable == (labelled == "geopotential")
        if labelled == "height":
            assert "height in metres" in problems["implausible"]["where"]


def test_negative_accumulations_are_counted_and_small(tmp_path):
    rain = np.full((8, 36, 36), 1e-4, np.float32)
    rain[1, 2, 3] = -1e-6
    report, problems = check(tmp_path, healthy(tp=rain))
    assert problems["negative_accumulation"]["where"].startswith("1 values") and report.usable


def test_regional_unfinished_and_damaged_stores_are_unusable(tmp_path):
    report, problems = check(tmp_path / "a", healthy().sel(latitude=slice(0, 90)))
    assert problems["not_global"]["fatal"] and not report.usable
    report, problems = check(tmp_path / "b", healthy().assign_attrs(status="incomplete"))
    assert problems["unfinished"]["fatal"] and "repeat that command" in problems["unfinished"]["remedy"]
    healthy().chunk({"time": 1}).to_zarr(tmp_path / "c.zarr", consolidated=False)
    chunk = tmp_path / "c.zarr" / "2m_temperature" / "c" / "3" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    report = check_store(str(tmp_path / "c.zarr"), progress=False)
    (problem,) = report.problems
    assert problem["kind"] == "unreadable_chunk" and "2020-01-01T18:00" in problem["where"] and problem["fatal"]
    with pytest.raises(UserError, match="no such file"):
        check_store(str(tmp_path / "absent.zarr"), progress=False)
