"""Stores as public catalogues keep them: dynamical.org's sharded Zarr of forecasts and analyses, and ARCO-ERA5."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.forecasts import open_forecast
from weather_scnn.io.stored import StoredArray

LATITUDE, LONGITUDE = np.linspace(90.0, -90.0, 19), np.arange(-180.0, 180.0, 10.0)
INIT, LEAD = pd.date_range("2026-11-01", periods=2, freq="6h"), pd.to_timedelta(np.arange(5) * 6, "h")
# Name there, units, short name there, name here, and what a value there is here.
FIELDS = [
    ("temperature_2m", "degree_Celsius", "2t", "2m_temperature", lambda x: x + 273.15),
    ("dew_point_temperature_2m", "degree_Celsius", "2d", "2m_dewpoint_temperature", lambda x: x + 273.15),
    ("pressure_reduced_to_mean_sea_level", "Pa", "prmsl", "mean_sea_level_pressure", lambda x: x),
    ("wind_u_10m", "m s-1", "10u", "10m_u_component_of_wind", lambda x: x),
    ("wind_u_100m", "m s-1", "100u", "100m_u_component_of_wind", lambda x: x),
    ("total_cloud_cover_atmosphere", "percent", "tcc", "total_cloud_cover", lambda x: x / 100),
    ("geopotential_height_500hpa", "m", "gh", "geopotential", lambda x: x * 9.80665),
    ("temperature_850hpa", "degree_Celsius", "t", "temperature", lambda x: x + 273.15),
]
MEANS = {"degree_Celsius": 5.0, "Pa": 1e5, "m s-1": 0.0, "percent": 50.0, "m": 5500.0}


def dynamical(path, *, members=0, attributes=True):
    """A store with the dimensions, names, units, chunks and shards of the catalogue; and its values by name there."""
    random = np.random.default_rng(0)
    dims = ("init_time", "lead_time", *(["ensemble_member"] * bool(members)), "latitude", "longitude")
    sizes = (2, 5, *([members] * bool(members)), 19, 36)
    held = {name: (MEANS[units] + 5 * random.standard_normal(sizes)).astype("float32") for name, units, *_ in FIELDS}
    dataset = xr.Dataset(
        {
            name: (dims, held[name], {"units": units, **({"short_name": short, "step_type": "instant"} if attributes else {})})
            for name, units, short, *_ in FIELDS
        },
        {
            "init_time": INIT, "lead_time": LEAD, "latitude": LATITUDE, "longitude": LONGITUDE,
            "valid_time": (("init_time", "lead_time"), INIT.to_numpy()[:, None] + LEAD.to_numpy()),
            "ingested_forecast_length": ("init_time", LEAD[[4, 4]]), "expected_forecast_length": ("init_time", LEAD[[4, 4]]),
            "spatial_ref": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
            **({"ensemble_member": np.arange(members, dtype="uint16")} if members else {}),
        },
    )  # fmt: skip
    inner = (1, 5, *([members] * bool(members)), 10, 12)
    shards = (1, 5, *([members] * bool(members)), 20, 36)
    encoding = {name: {"chunks": inner, "shards": shards} for name in held}
    dataset.to_zarr(path, zarr_format=3, consolidated=True, encoding=encoding)
    return held


@pytest.mark.parametrize("members", [0, 3])
@pytest.mark.parametrize("attributes", [True, False])
def test_forecasts_of_dynamical_org(tmp_path, members, attributes):
    held = dynamical(tmp_path / "forecast.zarr", members=members, attributes=attributes)
    forecast = open_forecast(str(tmp_path / "forecast.zarr"))
    np.testing.assert_array_equal(forecast["time"], INIT)
    np.testing.assert_array_equal(forecast["prediction_timedelta"], LEAD)
    assert forecast.sizes.get("number", 0) == members
    for name, _, _, here, convert in FIELDS:
        field = forecast[here]
        if "level" in field.dims:
            field = field.sel(level=500 if here == "geopotential" else 850)
        there = np.roll(held[name][..., ::-1, :], 18, axis=-1)  # from south to north, from 0° eastward
        np.testing.assert_allclose(field.values, convert(there.astype(float)), rtol=1e-5, atol=1e-4)


def test_analyses_of_dynamical_org_with_levels_in_a_group(tmp_path):
    random = np.random.default_rng(0)
    dims = ("time", "latitude", "longitude", "pressure_level")
    values = (5.0 + random.standard_normal((2, 19, 36, 2))).astype("float32")
    dataset = xr.Dataset(
        {"wind_u": (dims, values, {"units": "m s-1"}), "wind_v": (dims, -values, {"units": "m s-1"})},
        {
            "time": INIT, "latitude": LATITUDE, "longitude": LONGITUDE,
            "pressure_level": ("pressure_level", [850.0, 500.0], {"units": "hPa"}),
        },
    )  # fmt: skip
    dataset.to_zarr(
        tmp_path / "a.zarr", group="pressure_level", zarr_format=3, consolidated=False,
        encoding={name: {"chunks": (1, 10, 12, 1), "shards": (1, 20, 36, 2)} for name in ("wind_u", "wind_v")},
    )  # fmt: skip
    opened = open_dataset(str(tmp_path / "a.zarr" / "pressure_level"))
    expected = np.roll(values[:, ::-1], 18, axis=2).transpose(0, 3, 1, 2)[:, ::-1]
    np.testing.assert_array_equal(opened["u_component_of_wind"].values, expected)
    np.testing.assert_array_equal(opened["level"], [500, 850])


def test_arco_era5(tmp_path):
    """Years of times of which some hold nothing yet, 37 levels, north first, and fields that are longer than others."""
    times = pd.date_range("2020-01-01", periods=6, freq="h")
    values = (280 + np.random.default_rng(0).normal(size=(6, 19, 36))).astype("float32")
    levels = np.array([1, 500, 850, 1000])
    aloft = np.broadcast_to(values[:, None], (6, 4, 19, 36)).copy()
    dataset = xr.Dataset(
        {
            "2m_temperature": (("time", "latitude", "longitude"), values, {"units": "K", "short_name": "t2m"}),
            "temperature": (("time", "level", "latitude", "longitude"), aloft, {"units": "K", "short_name": "t"}),
            "land_sea_mask": (("time", "latitude", "longitude"), np.ones_like(values), {"units": "(0 - 1)"}),
        },
        {"time": times, "level": levels, "latitude": LATITUDE, "longitude": LONGITUDE + 180},
        {"valid_time_start": "2020-01-01", "valid_time_stop": "2020-01-01", "last_updated": "2026-11-01"},
    )
    dataset.chunk({"time": 1}).to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    opened = open_dataset(str(tmp_path / "a.zarr"), levels=[500, 850], time="2020-01-01T02:2020-01-01T04")
    np.testing.assert_array_equal(opened["temperature"].values, aloft[2:5, 1:3, ::-1])
    assert opened["land_sea_mask"].dims == ("latitude", "longitude")
    from weather_scnn.io.field_reader import FieldReader

    assert isinstance(FieldReader(str(tmp_path / "a.zarr")).fields["temperature"].data, StoredArray)
