"""Derived fields against closed forms and independent libraries."""

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines.regrid import regrid
from weather_scnn.errors import UserError
from weather_scnn.io.accumulations import take_clipped_counts, total
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.derived import derive
from weather_scnn.io.derived_opening import at_step
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.physics import humidity
from weather_scnn.physics.solar import toa_incident_solar_radiation
from weather_scnn.sphere import EARTH_RADIUS, Grid

GRID = Grid.equiangular(24, 12)
TIMES = pd.date_range("2020-01-01", periods=48, freq="1h")
LEVELS = (300, 500, 1000)


def source(times=TIMES):
    """Hourly fields whose derived ones have closed forms."""
    latitude, longitude = np.radians(GRID.latitude)[:, None], np.radians(GRID.longitude)[None, :]
    hours = np.asarray((times - times[0]) / pd.Timedelta(hours=1))
    dims = ("time", "level", "latitude", "longitude")
    solid = 30 * np.cos(latitude) * np.ones_like(longitude)  # solid-body rotation
    shape = (len(times), len(LEVELS), *GRID.shape)
    growing = (1 + hours / 10)[:, None, None, None] * np.ones(shape)
    geopotential = np.array([9.1e4, 5.5e4, 1.0e3])[:, None, None] * np.ones(shape)
    rain = np.broadcast_to(1e-4 * (1 + hours % 6)[:, None, None], (len(times), *GRID.shape)).copy()
    rain[5, 0, 0] = -1e-7
    fields = {
        "u_component_of_wind": (dims, growing * solid, "m s-1"),
        "v_component_of_wind": (dims, growing * 4 * np.sin(longitude) * np.ones_like(latitude), "m s-1"),
        "temperature": (dims, np.full(shape, 285.0), "K"),
        "specific_humidity": (dims, np.full(shape, 0.004), "kg kg-1"),
        "geopotential": (dims, geopotential, "m2 s-2"),
        "2m_temperature": (("time", *dims[2:]), np.full(rain.shape, 293.15), "K"),
        "2m_dewpoint_temperature": (("time", *dims[2:]), np.full(rain.shape, 283.15), "K"),
        "surface_pressure": (("time", *dims[2:]), np.full(rain.shape, 1e5), "Pa"),
        "total_precipitation": (("time", *dims[2:]), rain, "m"),
        "land_sea_mask": (dims[2:], np.ones(GRID.shape), "1"),
    }
    return xr.Dataset(
        {name: (axes, values.astype("float32"), {"units": unit}) for name, (axes, values, unit) in fields.items()},
        {"time": times, "level": list(LEVELS), "latitude": GRID.latitude, "longitude": GRID.longitude},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("derived") / "hourly.zarr"
    source().chunk({"time": 4}).to_zarr(path, consolidated=True, zarr_format=2)
    return str(path)


def test_the_vorticity_of_solid_rotation_and_its_lack_of_divergence(store):
    found = FieldReader(store, variables="vo,divergence,wind_speed", levels=[500]).dataset
    assert list(found.data_vars) == ["vorticity", "divergence", "wind_speed"]
    assert found["vorticity"].chunks is not None and found["vorticity"].dtype == np.float32
    assert found["vorticity"].dims == ("time", "level", "latitude", "longitude")
    # u = U cos φ has ζ = 2 U sin φ / a; v = V sin λ / 1 on the sphere adds V cos λ / (a cos φ)
    rigid = derive(
        open_dataset(store).assign(v_component_of_wind=lambda d: d["v_component_of_wind"] * 0), ["vorticity"]
    )
    hours = np.arange(48)[:, None, None]
    exact = 2 * 30 * (1 + hours / 10) * np.sin(np.radians(GRID.latitude))[:, None] / EARTH_RADIUS + np.zeros(GRID.shape)
    np.testing.assert_allclose(rigid["vorticity"].sel(level=500), exact, atol=2e-6 * np.abs(exact).max())
    speed = np.hypot(*(source()[f"{name}_component_of_wind"].sel(level=[500]) for name in "uv"))
    np.testing.assert_allclose(found["wind_speed"], speed.transpose(*found["wind_speed"].dims), rtol=1e-6)
    assert found["wind_speed"].attrs["units"] == "m s-1" and "sqrt" in found["wind_speed"].attrs["formula"]


def test_the_divergence_of_a_velocity_potential(store):
    """χ = sin φ: the wind is its gradient, with ∇²χ = −2 sin φ / a²."""
    phi = np.radians(GRID.latitude)[:, None]
    v = 1e5 * np.cos(phi) * np.ones(GRID.shape) / EARTH_RADIUS * 1e3
    wind = open_dataset(store)
    wind = wind.assign(
        u_component_of_wind=wind["u_component_of_wind"] * 0, v_component_of_wind=wind["u_component_of_wind"] * 0 + v
    )
    exact = -2 * 1e8 * np.sin(phi) / EARTH_RADIUS**2
    found = derive(wind, ["divergence", "vorticity"]).isel(time=0, level=0)
    np.testing.assert_allclose(found["divergence"], exact * np.ones(GRID.shape), atol=2e-6 * np.abs(exact).max())
    np.testing.assert_allclose(found["vorticity"], 0, atol=2e-6 * np.abs(exact).max())
    hole = wind["u_component_of_wind"].where(wind["longitude"] > 20)
    assert bool(derive(wind.assign(u_component_of_wind=hole), ["vorticity"])["vorticity"].isnull().all())


def test_spectral_fields_need_a_whole_globe(store):
    with pytest.raises(UserError, match="not equally spaced around the globe"):
        derive(open_dataset(store).isel(longitude=slice(0, 8)), ["vorticity"])


TEMPERATURES = np.array([200.0, 233.0, 250.16, 255.0, 265.0, 273.16, 280.0, 305.0])


def test_humidity_is_that_of_an_independent_library():
    """earthkit-meteo is ECMWF's own implementation of the IFS formulas."""
    thermo = pytest.importorskip("earthkit.meteo.thermo.array")
    pressure, amount = np.full(8, 7e4), np.full(8, 3e-4)
    ours = humidity.saturation_pressure(TEMPERATURES)
    np.testing.assert_allclose(ours, thermo.saturation_vapour_pressure(TEMPERATURES), rtol=1e-5)
    relative = humidity.relative_humidity(TEMPERATURES, amount, pressure)
    theirs = thermo.relative_humidity_from_specific_humidity(TEMPERATURES, amount, pressure)
    np.testing.assert_allclose(relative, theirs / 100, rtol=1e-5)
    np.testing.assert_allclose(humidity.specific_humidity(TEMPERATURES, relative, pressure), amount, rtol=1e-12)
    dewpoint = humidity.specific_humidity_at_2m(TEMPERATURES, np.full(8, 1e5))
    np.testing.assert_allclose(dewpoint, thermo.specific_humidity_from_dewpoint(TEMPERATURES, 1e5), rtol=1e-5)


def test_humidity_agrees_with_the_tables_of_the_wmo():
    """Goff's values (WMO No. 8, annex 4.B): 6.1114 hPa at 0.01 °C, 23.388 at 20 °C, over ice 1.0325 at −20 °C."""
    assert humidity.saturation_pressure_over_water(np.array([293.15])) == pytest.approx(2338.8, rel=2e-3)
    assert humidity.saturation_pressure(np.array([273.16])) == pytest.approx(611.2, rel=1e-3)
    assert humidity.saturation_pressure(np.array([250.0])) == pytest.approx(76.0, rel=5e-3)


def test_humidity_of_a_store(store):
    found = FieldReader(store, variables=["r", "2m_relative_humidity", "2m_specific_humidity"], levels=[500]).dataset
    (exact,) = humidity.relative_humidity(np.array([285.0]), np.array([0.004]), np.array([5e4]))
    np.testing.assert_allclose(found["relative_humidity"], exact, rtol=1e-5)
    np.testing.assert_allclose(found["2m_relative_humidity"], 1227.94 / 2338.9, rtol=1e-3)
    assert 0.007 < float(found["2m_specific_humidity"][0, 0, 0]) < 0.0085  # 7.7 g kg-1 at 10 °C dew point
    back = derive(
        open_dataset(store, levels=[500])
        .assign(relative_humidity=found["relative_humidity"])
        .drop_vars("specific_humidity"),
        ["specific_humidity"],
    )
    np.testing.assert_allclose(back["specific_humidity"], 0.004, rtol=1e-5)


def test_totals_over_the_step_end_at_their_time_and_negative_amounts_are_clipped_and_counted(store):
    take_clipped_counts()
    found = FieldReader(store, variables="total_precipitation_6hr,2m_temperature", step="6h").dataset
    # Values 1 … 6 at the hours 0 … 5 of each six: from 1 to 6 o'clock they are 2 … 6 and 1.
    assert list(found.time.dt.hour[:4].values) == [6, 12, 18, 0] and found.sizes["time"] == 7
    with dask.config.set(scheduler="synchronous"):
        rain = found["total_precipitation_6hr"].compute()
    np.testing.assert_allclose(rain[:, 1, 1], 21e-4, rtol=1e-5)
    assert float(rain[0, 0, 0]) == pytest.approx(21e-4 - 6e-4, rel=1e-5)
    assert take_clipped_counts() == {"total_precipitation_6hr": 1} and take_clipped_counts() == {}
    assert rain.attrs["accumulation_hours"] == 6 and rain.attrs["units"] == "m"
    day = FieldReader(store, variables=["total_precipitation_24hr"], time="2020-01-02T00").dataset
    assert day.sizes["time"] == 1  # the period is that of the result, its inputs reach back
    np.testing.assert_allclose(day["total_precipitation_24hr"][0, 1], 84e-4, rtol=1e-5)


def test_a_total_with_a_missing_part_is_left_out_and_windows_must_fit(store, tmp_path):
    whole = open_dataset(store)["total_precipitation"]
    holed = whole.isel(time=np.delete(np.arange(48), 20))
    hours = total(holed, name="total_precipitation_6hr", hours=6, window_hours=1).time
    missing = TIMES[[*range(5), *range(20, 26)]]
    assert not set(hours.values) & set(missing.values) and len(hours) == 48 - 11
    six = derive(open_dataset(store), ["total_precipitation_6hr"])
    twice = derive(at_step(six, "6h"), ["total_precipitation_12hr", "total_precipitation_24hr"])
    np.testing.assert_allclose(twice["total_precipitation_12hr"][0, 1], 42e-4, rtol=1e-5)
    with pytest.raises(UserError, match="needs totals over a shorter window"):
        derive(twice, ["total_precipitation_6hr"])
    with pytest.raises(UserError, match="no time has the 6 totals"):
        total(whole.isel(time=slice(None, None, 6)), name="total_precipitation_6hr", hours=6, window_hours=1)


def test_solar_radiation_of_any_step_and_thickness(store):
    found = FieldReader(
        store, variables="tisr,toa_incident_solar_radiation_6hr,thickness_500_1000", time="2020-01-02"
    ).dataset
    assert list(found.data_vars) == [
        "toa_incident_solar_radiation",
        "toa_incident_solar_radiation_6hr",
        "thickness_1000_500",
    ]
    assert found.sizes["time"] == 24
    for name, hours in (("toa_incident_solar_radiation", 1), ("toa_incident_solar_radiation_6hr", 6)):
        exact = toa_incident_solar_radiation(found.time.values, GRID.latitude, GRID.longitude, hours)
        np.testing.assert_allclose(found[name], exact, rtol=1e-6, atol=1)
        assert found[name].attrs["accumulation_hours"] == hours
    np.testing.assert_allclose(found["thickness_1000_500"], 5.4e4 / 9.80665, rtol=1e-6)
    assert found["thickness_1000_500"].attrs["units"] == "m"
    mixed = FieldReader(store, variables="temperature,thickness_1000_500", levels=[300]).dataset
    assert list(mixed.level.values) == [300] and mixed["thickness_1000_500"].dims == ("time", "latitude", "longitude")


def test_what_cannot_be_derived_says_what_it_needs(store):
    with pytest.raises(UserError, match=r"10m_wind_speed needs 10m_u_component_of_wind and .* is not there"):
        FieldReader(store, variables="10m_wind_speed")
    with pytest.raises(UserError, match=r"no variable temprature.*did you mean temperature"):
        FieldReader(store, variables="temprature,vo")
    with pytest.raises(UserError, match="not one that can be derived"):
        derive(open_dataset(store), ["cape"])
    with pytest.raises(UserError, match="no level 700 hPa"):
        FieldReader(store, variables="thickness_1000_700")
    with pytest.raises(UserError, match="no time is a whole multiple of 168h"):
        at_step(open_dataset(store, time="2020-01-01T03:2020-01-01T09"), "168h")


def test_plain_names_open_as_ever(store):
    xr.testing.assert_identical(
        FieldReader(store, variables="t,lsm", levels=[500]).dataset,
        open_dataset(store, variables="t,lsm", levels=[500]),
    )
    assert FieldReader(store, step="6h").dataset.sizes["time"] == 8


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ("vo,wind_speed,t", {"levels": [500, 1000]}),
        ("total_precipitation_6hr,2m_temperature,lsm", {"step": "6h", "time": "2020-01-01T09:2020-01-02"}),
        ("total_precipitation_24hr,tisr,thickness_1000_500", {}),
        ("2m_temperature", {"step": "12h"}),
    ],
)
def test_parts_read_without_a_graph_are_those_of_the_lazy_dataset(store, variables, options):
    lazy = FieldReader(store, variables=variables, **options).dataset
    reader = FieldReader(store, variables=variables, **options)
    xr.testing.assert_identical(reader.dataset.coords.to_dataset(), lazy.coords.to_dataset())
    for name, array in lazy.data_vars.items():
        near = {"rtol": 2e-6, "atol": 1e-6 * float(abs(array).max())}
        np.testing.assert_allclose(reader.read(name), array, **near)
        if "time" in array.dims:
            np.testing.assert_allclose(reader.read(name, slice(1, 3)), array[1:3], **near)
        if "level" in array.dims:
            np.testing.assert_allclose(reader.read(name, slice(0, 2), [1]), array[:2, [1]], **near)
        assert set(reader.chunks(name)) == set(array.dims)


def test_regrid_makes_derived_fields(store, tmp_path, capsys):
    output = str(tmp_path / "six.zarr")
    names = ["total_precipitation_6hr", "10m_temperature_absent"]
    with pytest.raises(UserError, match="no variable 10m_temperature_absent"):
        regrid(store, output, GRID, variables=names, no_beam=True, progress=False)
    names = ["total_precipitation_6hr", "vorticity", "tisr"]
    regrid(store, output, GRID, variables=names, levels=[500], step="6h", no_beam=True, progress=False)
    assert "total_precipitation_6hr: 1 negative values" in capsys.readouterr().err
    found, expected = open_dataset(output), FieldReader(store, variables=names, levels=[500], step="6h").dataset
    assert list(found.time.values) == list(expected.time.values)
    for name in found.data_vars:  # the identity keeps every value
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6 * float(abs(expected[name]).max()))
