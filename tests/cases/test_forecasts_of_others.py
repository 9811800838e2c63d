"""Forecasts, truths and climatologies as other programs write them are scored as they are meant."""

import logging

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from eval.scoring import open_scores, score
from weather_scnn.errors import UserError

LATITUDE = np.linspace(90, -90, 7)
LONGITUDE = np.arange(0, 360, 45.0)
TIMES = pd.date_range("2021-01-01", periods=16, freq="6h")
LEADS = np.arange(1, 5) * np.timedelta64(6, "h").astype("timedelta64[ns]")
INITS = TIMES[:6]
DIMS = ("time", "prediction_timedelta", "latitude", "longitude")
RAIN = "total_precipitation_6hr"


def _warmth() -> np.ndarray:
    wave = np.sin(np.radians(LONGITUDE) - 0.2 * np.arange(TIMES.size)[:, None, None])
    return (278 + 20 * np.cos(np.radians(LATITUDE))[:, None] + wave).astype(np.float32)


def _geopotential() -> np.ndarray:
    return 54000 + 100 * (_warmth() - 278)


def _of_valid_time(values: np.ndarray) -> np.ndarray:
    return values[np.arange(INITS.size)[:, None] + np.arange(1, 5)]


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("truth") / "truth.zarr")
    fields = {
        "2m_temperature": (("time", "latitude", "longitude"), _warmth(), {"units": "K"}),
        "geopotential": (("time", "level", "latitude", "longitude"), _geopotential()[:, None], {"units": "m2 s-2"}),
    }
    xr.Dataset(fields, {"time": TIMES, "level": [500], "latitude": LATITUDE, "longitude": LONGITUDE}).to_zarr(path)
    return path


@pytest.fixture
def forecast() -> xr.Dataset:
    """The truth plus 1 K."""
    field = (DIMS, _of_valid_time(_warmth()) + np.float32(1), {"units": "K"})
    axes = {"time": INITS, "prediction_timedelta": LEADS, "latitude": LATITUDE, "longitude": LONGITUDE}
    return xr.Dataset({"2m_temperature": field}, axes)


@pytest.fixture
def scored(tmp_path, truth):
    """Scores of a forecast against the truth; `rmse` of a field at all lead times."""

    def run(forecast, **changes):
        options = {"progress": False, "bootstrap": 0, "overwrite": True, "truth": truth, **changes}
        return score(str(forecast), options.pop("truth"), str(tmp_path / "scores.nc"), **options)

    return run


def rmse(scores: xr.Dataset, name: str) -> np.ndarray:
    return scores[name].sel(metric="rmse", system="model", region="global").values.ravel()


def test_names_with_levels_in_a_forecast(scored, tmp_path):
    dims = ("time", "lead_time", "lat", "lon")
    fields = {
        "t2m": (dims, _of_valid_time(_warmth()) + 1),
        "z500": (dims, _of_valid_time(_geopotential()) + 100),
        "u_850": (dims, np.zeros((6, 4, 7, 8), np.float32)),
    }
    axes = {"time": INITS, "lead_time": LEADS, "lat": LATITUDE, "lon": LONGITUDE}
    xr.Dataset(fields, axes).to_zarr(tmp_path / "earth2.zarr")
    found = scored(tmp_path / "earth2.zarr")
    np.testing.assert_allclose(rmse(found, "2m_temperature"), 1, rtol=1e-4)
    np.testing.assert_allclose(rmse(found, "geopotential"), 100, rtol=1e-4)
    assert set(found.data_vars) == {"2m_temperature", "geopotential"}


def test_names_with_levels_in_a_climatology(scored, forecast, tmp_path, truth):
    forecast["z500"] = (DIMS, _of_valid_time(_geopotential()) + np.float32(100))
    forecast.to_zarr(tmp_path / "f.zarr")
    days, shape = np.arange(1, 367), (4, 366, 7, 8)
    axes = {"hour": [0, 6, 12, 18], "dayofyear": days, "latitude": LATITUDE, "longitude": LONGITUDE}
    normal = {name: (tuple(axes), np.full(shape, value, np.float32)) for name, value in (("z500", 5e4), ("t2m", 270))}
    normal["z500_std"] = (tuple(axes), np.full(shape, 1, np.float32))
    xr.Dataset(normal, axes).to_zarr(tmp_path / "c.zarr")
    found = scored(tmp_path / "f.zarr", climatology=str(tmp_path / "c.zarr"))
    acc = found["geopotential"].sel(metric="acc", system="model", region="global").values
    anomaly, error = _of_valid_time(_geopotential()) - 5e4, 100
    edges = np.radians(np.concatenate([[90], (LATITUDE[1:] + LATITUDE[:-1]) / 2, [-90]]))
    weights = np.abs(np.diff(np.sin(edges)))[:, None]
    product, f, o = (
        (weights * each).sum(axis=(-2, -1))
        for each in ((anomaly + error) * anomaly, (anomaly + error) ** 2, anomaly.astype(float) ** 2)
    )
    np.testing.assert_allclose(acc.ravel(), (product / np.sqrt(f * o)).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("form", ["folder", "glob", "stores", "leads", "uneven", "cf", "members"])
def test_forecasts_of_several_files(form, scored, forecast, tmp_path, caplog):
    folder = tmp_path / "files"
    folder.mkdir()
    path = str(folder)
    for number, init in enumerate(INITS):
        one = forecast.isel(time=number)
        name = folder / f"fc_{init:%Y%m%dT%H}.nc"
        if form == "stores":
            one.to_zarr(name.with_suffix(".zarr"))
            path = str(folder / "*.zarr")
        elif form == "leads":
            for step in range(4):
                one.isel(prediction_timedelta=step).to_netcdf(name.with_suffix(f".{step}.nc"))
        elif form == "uneven":
            one.isel(prediction_timedelta=slice(0, 2 if number == 3 else 4)).to_netcdf(name)
        elif form == "cf":
            valid = one.drop_vars("time").assign_coords(prediction_timedelta=init + LEADS)
            valid.rename(prediction_timedelta="time").assign_coords(forecast_reference_time=init).to_netcdf(name)
        elif form == "members":
            for member, error in enumerate((-1.0, 0.0)):
                (one + error).assign_coords(number=member).to_netcdf(name.with_suffix(f".{member}.nc"))
        else:
            one.to_netcdf(name)
    if form == "glob":
        path = str(folder / "*.nc")
    with caplog.at_level(logging.WARNING):
        found = scored(path)
    np.testing.assert_allclose(rmse(found, "2m_temperature"), 0.5 if form == "members" else 1, rtol=1e-4)
    sums = open_scores(str(tmp_path / "scores.nc"), group="sums")
    assert sums.sizes["init_time"] == INITS.size
    count = [5 if form == "uneven" and lead > 1 else 6 for lead in range(4)]
    np.testing.assert_array_equal(sums["init_count"], count)
    assert ("lacks 2 of 24 pairs" in caplog.text) == (form == "uneven")
    if form == "members":
        spread = found["2m_temperature"].sel(metric="spread", system="model", region="global")
        np.testing.assert_allclose(spread, np.sqrt(0.5), rtol=1e-4)


def test_files_of_several_grids_are_refused(scored, forecast, tmp_path):
    for number, part in enumerate((forecast.isel(time=[0]), forecast.isel(time=[1], longitude=slice(0, 4)))):
        part.to_netcdf(tmp_path / f"f{number}.nc")
    with pytest.raises(UserError, match=r"f1.nc: has other longitudes than .*f0.nc"):
        scored(tmp_path / "f*.nc")


def test_times_and_lead_times_in_any_order(scored, forecast, tmp_path):
    growing = forecast + xr.DataArray(np.arange(4.0, dtype=np.float32), dims="prediction_timedelta")
    growing.isel(prediction_timedelta=[3, 0, 2, 1], time=[5, 0, 1, 4, 3, 2]).to_zarr(tmp_path / "f.zarr")
    found = scored(tmp_path / "f.zarr", variables=["t2m"], maps=["all"])
    np.testing.assert_array_equal(found["lead_time"], LEADS)
    np.testing.assert_allclose(rmse(found, "2m_temperature"), [1, 2, 3, 4], rtol=1e-4)
    with pytest.raises(UserError, match="has no variable 'temprature'"):
        scored(tmp_path / "f.zarr", variables=["temprature"])


def _with_zeros(path, form: str, dims, values, axes) -> None:
    """A store whose fill value is 0, as zarr itself makes it, in the field and in all its axes."""
    if form == "netcdf":
        dataset = xr.Dataset({RAIN: (dims, values, {"units": "m"})}, axes)
        dataset.to_netcdf(path, encoding={name: {"_FillValue": 0} for name in (RAIN, "latitude", "longitude")})
        return
    parts = {RAIN: (values, dims, {"units": "m"})}
    for name, axis in axes.items():
        axis, attributes = np.asarray(axis), {}
        if axis.dtype.kind in "mM":
            zero = TIMES[0].to_datetime64() if axis.dtype.kind == "M" else np.timedelta64(0, "h")
            axis = ((axis - zero) / np.timedelta64(1, "h")).astype(np.int64)
            attributes = {"units": "hours since 2021-01-01" if name == "time" else "hours"}
        parts[name] = (axis, (name,), attributes)
    group = zarr.open_group(str(path), mode="w", zarr_format=int(form[-1]))
    for name, (array, names, attributes) in parts.items():
        stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=array.shape, fill_value=0)
        stored[:] = array
        stored.attrs.update({"_ARRAY_DIMENSIONS": list(names), **attributes})
    if form[-1] == "3":
        # Format 3 has names of axes of its own.
        for name, (array, names, attributes) in parts.items():
            options = {"chunks": array.shape, "fill_value": 0, "dimension_names": names, "overwrite": True}
            stored = group.create_array(name, shape=array.shape, dtype=array.dtype, **options)
            stored[:] = array
            stored.attrs.update(attributes)


@pytest.mark.parametrize("form", ["zarr2", "zarr3", "netcdf"])
def test_a_fill_value_of_zero_marks_nothing(form, scored, tmp_path):
    wet = np.zeros((7, 8), np.float32)
    wet[2:4] = 1
    places = {"latitude": LATITUDE, "longitude": LONGITUDE}
    ending = ".nc" if form == "netcdf" else ".zarr"
    paths = {name: tmp_path / f"{name}{ending}" for name in ("forecast", "truth", "climatology")}
    leads = np.arange(4) * np.timedelta64(6, "h").astype("timedelta64[ns]")
    _with_zeros(
        paths["forecast"], form, DIMS, wet * np.full((6, 4, 1, 1), 3e-3, np.float32),
        {"time": INITS, "prediction_timedelta": leads, **places},
    )  # fmt: skip
    _with_zeros(
        paths["truth"], form, ("time", "latitude", "longitude"), wet * np.full((16, 1, 1), 2e-3, np.float32),
        {"time": TIMES, **places},
    )  # fmt: skip
    axes = {"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 367), **places}
    _with_zeros(
        paths["climatology"], form, tuple(axes), wet[::-1] * np.full((4, 366, 1, 1), 1e-3, np.float32), axes
    )  # fmt: skip
    found = scored(paths["forecast"], truth=str(paths["truth"]), climatology=str(paths["climatology"]))
    edges = np.radians(np.concatenate([[90], (LATITUDE[1:] + LATITUDE[:-1]) / 2, [-90]]))
    weights = np.abs(np.diff(np.sin(edges)))[:, None]
    expected = np.sqrt((weights * (1e-3 * wet) ** 2).sum() / weights.sum() / 8)
    # Of lead 0 there are no totals.
    np.testing.assert_allclose(rmse(found, RAIN)[1:], expected, rtol=1e-4)
    sums = open_scores(str(tmp_path / "scores.nc"), group="sums")
    assert int(sums["missing_truth"].sum()) == 0 and int(sums["missing_forecast"].sum()) == 0
    f, o = 3e-3 * wet - 1e-3 * wet[::-1], 2e-3 * wet - 1e-3 * wet[::-1]
    acc = (weights * f * o).sum() / np.sqrt((weights * f**2).sum() * (weights * o**2).sum())
    np.testing.assert_allclose(found[RAIN].sel(metric="acc", system="model").values.ravel()[1:], acc, rtol=1e-4)


def test_a_forecast_in_grib(scored, forecast, tmp_path):
    eccodes = pytest.importorskip("eccodes")
    with open(tmp_path / "f.grib", "wb") as file:
        for init in INITS:
            for step in (6, 12):
                message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                keys = {
                    "Ni": 8, "Nj": 7, "latitudeOfFirstGridPointInDegrees": 90, "latitudeOfLastGridPointInDegrees": -90,
                    "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 315,
                    "iDirectionIncrementInDegrees": 45, "jDirectionIncrementInDegrees": 30, "dataDate": int(f"{init:%Y%m%d}"),
                    "dataTime": init.hour * 100, "step": step, "paramId": 167, "bitsPerValue": 24,
                }  # fmt: skip
                for key, value in keys.items():
                    eccodes.codes_set(message, key, value)
                field = forecast["2m_temperature"].sel(time=init, prediction_timedelta=np.timedelta64(step, "h"))
                eccodes.codes_set_values(message, field.values.astype(float).ravel())
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)
    found = scored(tmp_path / "f.grib")
    np.testing.assert_array_equal(found["lead_time"], LEADS[:2])
    np.testing.assert_allclose(rmse(found, "2m_temperature"), 1, rtol=1e-4)
