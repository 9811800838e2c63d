"""Forecasts as CF netCDF and GRIB 2, read back by others' programs and by our own."""

import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import cf_units
import compliance_checker
import numpy as np
import pytest
import xarray as xr

from weather_scnn.catalogue.variables import VARIABLES
from weather_scnn.errors import UserError
from weather_scnn.io.forecasts import open_forecast
from weather_scnn.io.grib_writing import parameter_of, require_centre, require_grib, write_grib
from weather_scnn.io.netcdf_forecasts import write_cf
from weather_scnn.sphere import Grid

START = np.datetime64("2020-01-01T06", "ns")
LEADS = np.array([6, 24, 30], "timedelta64[h]").astype("timedelta64[ns]")
UNITS = {"geopotential": 5e4, "2m_temperature": 280.0, "10m_wind_speed": 9.0, "total_cloud_cover": 0.5,
         "total_precipitation_6hr": 2e-3, "total_precipitation_24hr": 8e-3, "thickness_1000_500": 5400.0}  # fmt: skip


def forecasts(grid=None, members=2) -> xr.Dataset:
    """Forecasts from one initial time; south first, with a gap in a field and a total that is not there at first."""
    rng, grid = np.random.default_rng(0), grid or Grid.equiangular(16, 8)
    sizes = {"realization": members, "prediction_timedelta": 3, "level": 2, "latitude": grid.latitudes,
             "longitude": grid.longitudes}  # fmt: skip
    fields = {}
    for name, mean in UNITS.items():
        dims = [dim for dim, size in sizes.items() if size and (dim != "level" or name == "geopotential")]
        values = mean * (1 + 0.2 * rng.random([sizes[dim] for dim in dims]))
        fields[name] = (dims, values.astype("float32"), {"long_name": name, "units": "m"})
    found = xr.Dataset(fields, {"time": START, "prediction_timedelta": LEADS, "level": [500, 850],
                                "latitude": grid.latitude, "longitude": grid.longitude},
                       {"source": "here", "created_by": "weather-scnn 1", "created": "2026-01-01"})  # fmt: skip
    found["total_precipitation_24hr"][..., 0, :, :] = np.nan
    found["2m_temperature"][..., 3, 3] = np.nan
    found["thickness_1000_500"].attrs |= {"formula": "difference"}
    if members:
        about = {"realization": range(members), "perturbed": ("realization", [number > 0 for number in range(members)])}
        found = found.assign_coords(about)
    return found


@pytest.fixture(scope="module")
def grib(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("grib") / "20200101T0600.grib2")
    # A map each of 2 members and 3 leads, on two levels for one, and no total over a day at 6 h.
    assert write_grib(forecasts(), path) == 6 * 8 - 2
    return path


def messages(path):
    import eccodes

    with open(path, "rb") as file:
        while (handle := eccodes.codes_grib_new_from_file(file)) is not None:
            yield lambda key, kind=None, handle=handle: eccodes.codes_get(handle, key, kind)
            eccodes.codes_release(handle)


KEYS = ("discipline", "parameterCategory", "parameterNumber", "typeOfFirstFixedSurface", "level", "stepRange")


@pytest.mark.parametrize(
    ("short", "first"),
    [
        ("z", (0, 3, 4, "pl", 500, "6")), ("2t", (0, 0, 0, "sfc", 2, "6")), ("10si", (0, 2, 1, "sfc", 10, "6")),
        ("tcc", (0, 6, 1, "sfc", 0, "6")), ("thick", (0, 3, 12, "pl", 500, "6")), ("tp", (0, 1, 52, "sfc", 0, "0-6")),
    ],
)  # fmt: skip
def test_grib_keys_are_those_of_the_wmo(short, first, grib):
    found = [[get(key) for key in KEYS] for get in messages(grib) if get("shortName") == short]
    assert tuple(found[0]) == first
    if short == "tp":
        assert [each[-1] for each in found] == ["0-6", "18-24", "24-30"] * 2 + ["0-24", "6-30"] * 2


def test_grib_tells_members_times_and_who_made_it(grib):
    for get in messages(grib):
        assert get("dataDate") == 20200101 and get("hour") == 6 and get("centre", int) == 255
        assert get("numberOfForecastsInEnsemble") == 2 and get("typeOfGeneratingProcess") == 4
        assert get("localTablesVersion") == 0
        number = get("number")
        assert get("typeOfEnsembleForecast") == (3 if number else 1)
        end = np.datetime64("2020-01-01T06") + np.timedelta64(get("endStep"), "h")
        assert f"{get('validityDate')}T{get('validityTime'):04d}" == str(end).replace("-", "").replace(":", "") + (
            "00" if len(str(end)) == 13 else ""
        )


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_cfgrib_reads_the_same_numbers(grib):
    import cfgrib

    wanted = forecasts().isel(latitude=slice(None, None, -1))
    for name, keys, scale in (
        ("geopotential", {"shortName": "z"}, 1),
        ("2m_temperature", {"shortName": "2t"}, 1),
        ("thickness_1000_500", {"shortName": "thick"}, 1),
        ("total_cloud_cover", {"shortName": "tcc"}, 100),
        ("total_precipitation_6hr", {"shortName": "tp", "lengthOfTimeRange": 6}, 1000),
        ("total_precipitation_24hr", {"shortName": "tp", "lengthOfTimeRange": 24}, 1000),
    ):
        found = cfgrib.open_dataset(grib, filter_by_keys=keys, indexpath="")
        found = found.sortby("isobaricInhPa") if "isobaricInhPa" in found.dims else found
        (read,) = found.data_vars.values()
        expected = wanted[name].values * scale
        if name == "total_precipitation_24hr":
            expected = expected[:, 1:]
        assert str(found["time"].values)[:13] == "2020-01-01T06" and found["number"].values.tolist() == [0, 1]
        # 16 bits of the range of each map, and ecCodes takes a power of two for the step.
        step = np.nanmax(expected) / 2**15
        np.testing.assert_allclose(read.values, expected, atol=step, rtol=1e-6)


@pytest.fixture(scope="module")
def netcdf(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("netcdf") / "20200101T0600.nc")
    write_cf(forecasts().chunk({"realization": 1}), path)
    return path


def test_our_readers_read_both(grib, netcdf):
    wanted = forecasts()
    for path, exact in ((grib, False), (netcdf, True)):
        found = open_forecast(path)
        names = [name for name in wanted.data_vars if exact or name != "thickness_1000_500"]
        for name in names:
            read = found[name].isel(time=0).transpose("number", ...).values
            tolerance = 0 if exact else 2.0**-15 * float(wanted[name].max())
            np.testing.assert_allclose(read, wanted[name], atol=tolerance, rtol=0 if exact else 1e-6, err_msg=name)
        assert found["time"].values == [START] and found["number"].values.tolist() == [0, 1]


def test_netcdf_keeps_to_the_cf_conventions(netcdf):
    """By an independent checker, and by what xarray makes of it."""
    program = pathlib.Path(sys.executable).with_name("compliance-checker")
    checked = subprocess.run([program, "--test=cf:1.10", netcdf], capture_output=True, text=True, check=False)
    assert "All tests passed" in checked.stdout and checked.returncode == 0, checked.stdout
    with xr.open_dataset(netcdf, decode_timedelta=True) as found:
        assert found.attrs["Conventions"] == "CF-1.10"
        assert set(found.data_vars) >= {"geopotential", "t2m", "si10", "total_precipitation_24hr"}
        np.testing.assert_array_equal(found["time"], START + LEADS)
        bounds = found["time_24hr_bounds"].values
        assert found["time_24hr"].attrs["bounds"] == "time_24hr_bounds"
        np.testing.assert_array_equal(bounds[:, 1] - bounds[:, 0], np.timedelta64(24, "h"))
        assert found["total_precipitation_24hr"].attrs["cell_methods"] == "time_24hr: sum"
        assert found["t2m"].attrs["cell_methods"] == "time: point"
        assert float(found["height_2m"]) == 2 and "height_2m" in found["t2m"].coords


def test_standard_names_are_in_the_table_with_their_units():
    table = next(pathlib.Path(compliance_checker.__file__).parent.rglob("cf-standard-name-table*.xml"))
    entries = xml.etree.ElementTree.parse(table).getroot().findall("entry")
    units = {entry.get("id"): entry.findtext("canonical_units") for entry in entries}
    for variable in VARIABLES:
        if variable.standard_name:
            assert cf_units.Unit(variable.unit).is_convertible(units[variable.standard_name]), variable.name


@pytest.mark.parametrize("name", ["16x8_gaussian", "24x13_equiangular_with_poles", "14x7"])
def test_grids_of_every_kind_come_back(name, tmp_path):
    grid = Grid.from_name(name)
    wanted = forecasts(grid, members=0)[["2m_temperature"]]
    write_grib(wanted, tmp_path / "f.grib2", gaussian=8 if "gaussian" in name else 0, centre=98)
    found = open_forecast(str(tmp_path / "f.grib2"))
    np.testing.assert_allclose(found["latitude"], grid.latitude, atol=1e-4)
    np.testing.assert_allclose(found["longitude"], grid.longitude, atol=1e-4)
    np.testing.assert_allclose(found["2m_temperature"][0], wanted["2m_temperature"], atol=0.01)
    region = wanted.isel(latitude=slice(2, 5), longitude=[-2, -1, 0, 1])
    write_grib(region, tmp_path / "g.grib2", gaussian=8 if "gaussian" in name else 0)
    found = open_forecast(str(tmp_path / "g.grib2"))
    np.testing.assert_allclose(found["longitude"], np.sort(region["longitude"]), atol=1e-4)
    np.testing.assert_allclose(found["latitude"], region["latitude"], atol=1e-4)
    np.testing.assert_allclose(found["2m_temperature"][0], region["2m_temperature"].sortby("longitude"), atol=0.01)


def test_what_grib_cannot_tell_is_refused_in_a_line():
    grid = Grid.equiangular(16, 8)
    with pytest.raises(UserError, match="no parameter for snow_albedo; leave it out with --variables, or choose"):
        require_grib(["2m_temperature", "snow_albedo"], grid, ())
    with pytest.raises(UserError, match="odd number"):
        require_grib(["2m_temperature"], Grid.gaussian(16, 9), ())
    with pytest.raises(UserError, match=r"no level of 0\.001 hPa"):
        require_grib(["temperature"], grid, (0.001,))
    with pytest.raises(UserError, match="the centre 70000 is none"):
        require_centre(70000)
    assert parameter_of("100m_u_component_of_wind").keys == (("paramId", 228246),)
