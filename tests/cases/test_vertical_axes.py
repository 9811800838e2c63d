"""Axes that are pressures, in whatever unit and wording, and those that are not; fields that have lost their level."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.catalogue.level_numbers import level_axis, level_number
from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.forecasts import open_forecast
from weather_scnn.sphere.grid import Grid

LATITUDE = np.linspace(90.0, -90.0, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
TIMES = pd.date_range("2020-01-01", periods=4, freq="6h")


def source(axis, values, attributes=None, name="t", units="K", **more):
    """Temperatures of 200 K plus the position on the axis."""
    values = np.asarray(values)
    data = np.zeros((4, values.size, 7, 12), "f4") + 250 + np.arange(values.size, dtype="f4")[:, None, None]
    return xr.Dataset(
        {name: (("time", axis, "latitude", "longitude"), data, {"units": units}), **more},
        {"time": TIMES, axis: (axis, values, attributes or {}), "latitude": LATITUDE, "longitude": LONGITUDE},
    )


def stored(tmp_path, dataset):
    dataset.to_netcdf(tmp_path / "a.nc")
    return str(tmp_path / "a.nc")


PRESSURES = {
    "kPa": ("level", [100.0, 85.0, 50.0], {"units": "kPa"}, [1000, 850, 500]),
    "bar": ("level", [1.0, 0.85, 0.5], {"units": "bar"}, [1000, 850, 500]),
    "mbar": ("lev", [1000.0, 850.0], {"units": "mbar"}, [1000, 850]),
    "atm": ("level", [0.5, 0.25], {"units": "atm"}, [506.625, 253.3125]),
    "Pa below 1 hPa": ("plev", [10.0, 100.0, 1000.0], {"units": "Pa"}, [0.1, 1, 10]),
    "Pa by size": ("plev", [100000.0, 50000.0], {}, [1000, 500]),
    "nothing said": ("level", [50, 500, 850, 1000], {}, [50, 500, 850, 1000]),
    "ERA5's highest": ("level", [1, 2, 3, 5, 7, 10], {}, [1, 2, 3, 5, 7, 10]),
    "dimensionless": ("level", [500, 850], {"units": "1"}, [500, 850]),
    "low numbers with a unit": ("level", [1, 2, 3], {"units": "hPa"}, [1, 2, 3]),
    "low numbers with a name": ("pressure_level", [1, 2, 3], {}, [1, 2, 3]),
    "upward": ("level", [1000, 850], {"units": "millibars", "positive": "up"}, [1000, 850]),
    "another name": ("p", [500.0, 850.0], {"standard_name": "air_pressure", "units": "hPa"}, [500, 850]),
    "axis Z": ("z", [500.0, 850.0], {"axis": "Z", "units": "hPa"}, [500, 850]),
    "text": ("level", ["500hPa", "850hPa"], {}, [500, 850]),
    "text of numbers": ("level", ["500", "850"], {}, [500, 850]),
    "text with a prefix": ("level", ["p500", "p850"], {}, [500, 850]),
    "text in Pa": ("level", ["50000 Pa", "85000 Pa"], {}, [500, 850]),
}


@pytest.mark.parametrize("kind", PRESSURES)
def test_pressures_in_any_unit_and_wording(tmp_path, kind):
    axis, values, attributes, hpa = PRESSURES[kind]
    opened = open_dataset(stored(tmp_path, source(axis, values, attributes)))["temperature"]
    np.testing.assert_allclose(opened["level"], np.sort(hpa), rtol=1e-6)
    assert opened["level"].dtype == (np.int64 if all(each == int(each) for each in hpa) else np.float64)
    for position, level in enumerate(hpa):
        assert float(opened.sel(level=level, method="nearest").mean()) == 250 + position


OTHERS = {
    "MARS numbers": ("level", [60, 96, 114, 137], {"long_name": "model_level_number"}, "model levels"),
    "CF numbers": ("level", [60, 96], {"standard_name": "model_level_number", "units": "1"}, "model levels"),
    "model_level": ("model_level", [60, 96, 114, 137], {}, "model levels"),
    "hybrid": ("hybrid", [60, 96], {"units": "1", "long_name": "hybrid level"}, "model levels"),
    "CAM": ("lev", [3.6, 992.5], {"units": "hPa", "long_name": "hybrid level at midpoints (1000*(A+B))",
            "standard_name": "atmosphere_hybrid_sigma_pressure_coordinate"}, "model levels"),
    "formula": ("lev", [0.1, 0.9], {"formula_terms": "a: hyam b: hybm ps: PS"}, "model levels"),
    "numbers from 1": ("level", [1, 2, 3, 4], {}, "model levels"),
    "numbers": ("level", [60, 96, 114, 137], {}, "model levels"),
    "layers": ("lev", [1.0, 2.0], {"units": "layer"}, "model levels"),
    "sigma": ("lev", [0.99, 0.85, 0.5], {"units": "1", "standard_name": "atmosphere_sigma_coordinate"}, "model levels"),
    "shares": ("lev", [0.99, 0.85, 0.5], {}, "model levels"),
    "heights": ("level", [10.0, 50.0], {"units": "m", "standard_name": "height", "positive": "up"}, "10 … 50 m.*heights"),
    "metres": ("level", [500.0, 1000.0], {"units": "m"}, "500 … 1000 m .*heights"),
    "kilometres": ("altitude", [5.0, 10.0], {"units": "km"}, "heights"),
    "no unit": ("height", [500.0, 1000.0], {}, "heights"),
    "depths": ("lev", [5.0, 15.0], {"units": "m", "standard_name": "depth", "positive": "down"}, "depths"),
    "soil": ("depth", [0.07, 0.28], {"units": "m"}, "depths"),
    "isentropes": ("level", [300.0, 315.0], {"units": "K", "standard_name": "air_potential_temperature"}, "isentropes"),
    "theta": ("theta", [300.0, 315.0], {}, "isentropes"),
    "kelvin": ("level", [300.0, 315.0], {"units": "K"}, "isentropes"),
    "PVU": ("level", [1.5, 2.0], {"units": "K m2 kg-1 s-1"}, "potential vorticities"),
    "from 0": ("level", [0, 1, 2], {}, "nothing says what they are"),
    "metres by size": ("level", [500.0, 3000.0, 10000.0], {}, "nothing says what they are"),
    "names": ("level", ["L1", "L2"], {}, "'L1' … 'L2'.*not pressures"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_axes_are_refused_as_what_they_are(tmp_path, kind):
    """NCAR/era5_to_int#11, Unidata/siphon#34, Unidata/MetPy#3315, ESMValGroup/ESMValCore#840: by check as by opening."""
    axis, values, attributes, message = OTHERS[kind]
    path = stored(tmp_path, source(axis, values, attributes))
    for options in ({}, {"variables": "temperature"}):
        with pytest.raises(UserError, match=message) as refused:
            open_dataset(path, **options)
        expected = "say which pressure levels to make" if message == "model levels" else "pressure levels first"
        assert expected in refused.value.remedy
    (problem,) = check_store(path, progress=False).problems
    assert problem["fatal"] and refused.value.what in problem["where"]


@pytest.mark.parametrize("kind", ["MARS numbers", "heights", "isentropes"])
def test_the_jobs_refuse_them_before_any_work(tmp_path, kind):
    axis, values, attributes, message = OTHERS[kind]
    path = stored(tmp_path, source(axis, values, attributes))
    with pytest.raises(UserError, match=message):
        regrid(path, str(tmp_path / "r.zarr"), Grid.from_name("8x4"), no_beam=True, progress=False)
    with pytest.raises(UserError, match=message):
        compute_statistics(path, str(tmp_path / "s.nc"), time=None, step="6h", no_beam=True, progress=False)
    assert not (tmp_path / "r.zarr").exists() and not (tmp_path / "s.nc").exists()
    forecast = source(axis, values, attributes).rename({axis: "level"} if axis != "level" else {})
    forecast = forecast.rename(t="temperature").expand_dims(prediction_timedelta=[np.timedelta64(6, "h")], axis=1)
    forecast.to_netcdf(tmp_path / "f.nc")
    with pytest.raises(UserError, match=message):
        open_forecast(str(tmp_path / "f.nc"))


def test_fields_on_other_axes_are_left_out_beside_good_ones(tmp_path):
    more = {"t2m": (("time", "latitude", "longitude"), np.full((4, 7, 12), 285.0, "f4"), {"units": "K"})}
    path = stored(tmp_path, source("level", [10.0, 50.0], {"units": "m"}, **more))
    assert list(open_dataset(path).data_vars) == ["2m_temperature"]
    report = check_store(path, progress=False)
    problem = next(each for each in report.problems if each["kind"] == "other_vertical_axis")
    assert report.usable and problem["variable"] == "t" and "heights" in problem["where"]
    with pytest.raises(UserError, match="heights"):
        open_dataset(path, variables="temperature")


def test_pressures_beside_bare_numbers_of_levels_are_the_axis(tmp_path):
    dataset = source("lev", [1, 2, 3]).assign_coords(pressure=("lev", [500.0, 850.0, 1000.0], {"units": "hPa"}))
    opened = open_dataset(stored(tmp_path, dataset))["temperature"]
    np.testing.assert_array_equal(opened["level"], [500, 850, 1000])


def test_an_axis_without_values_is_no_end_in_silence(tmp_path):
    path = stored(tmp_path, source("level", [500, 850]).drop_vars("level"))
    (problem,) = check_store(path, progress=False).problems
    assert problem["fatal"] and "nothing says what they are" in problem["where"]


def geopotential(hours=True, mean=54000.0):
    steps = (6 * np.arange(4) if hours else np.zeros(4))[:, None, None]
    wave = 200 * np.cos(np.radians(3 * LONGITUDE) - 0.1 * steps)
    data = mean + 900 * np.cos(np.radians(LATITUDE))[None, :, None] + wave
    attributes = {"units": "m**2 s**-2", "standard_name": "geopotential"}
    return xr.Dataset(
        {"z": (("time", "latitude", "longitude"), data.astype("f4"), attributes)},
        {"time": TIMES, "latitude": LATITUDE, "longitude": LONGITUDE},
    )


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (geopotential(), "nowhere below 53800.*changes with time.*"),
        (geopotential().isel(time=0, drop=True), "nowhere below"),
        (geopotential().isel(time=[0]), "nowhere below"),
        (geopotential(mean=-200.0), "changes with time"),
        (geopotential(mean=-200.0).rename(z="gh"), "changes with time"),
    ],
)
def test_a_geopotential_without_a_level_is_not_taken_for_the_ground(tmp_path, dataset, message):
    """contrailcirrus/pycontrails#276: a download of one level has no level axis."""
    path = stored(tmp_path, dataset)
    with pytest.raises(UserError, match=message + ".*name the level"):
        open_dataset(path)
    assert "name the level" in check_store(path, progress=False).problems[0]["remedy"]
    with pytest.raises(UserError, match="name the level"):
        regrid(path, str(tmp_path / "r.zarr"), Grid.from_name("8x4"), no_beam=True, progress=False)


def test_the_ground_is_still_the_ground(tmp_path):
    dataset = geopotential(hours=False, mean=0.0)
    opened = open_dataset(stored(tmp_path, dataset))
    assert list(opened.data_vars) == ["geopotential_at_surface"] and "time" not in opened.dims


@pytest.mark.parametrize(
    "told",
    [
        lambda dataset: dataset.assign_coords(level=500),
        lambda dataset: dataset.assign_coords(isobaricInhPa=((), 500.0, {"units": "hPa"})),
        lambda dataset: dataset.assign_coords(pressure=((), 50000.0, {"units": "Pa"})),
        lambda dataset: dataset.assign(z=dataset["z"].assign_attrs(level=500)),
        lambda dataset: dataset.assign(z=dataset["z"].assign_attrs(pressure_level="500 hPa")),
        lambda dataset: dataset.assign(z=dataset["z"].assign_attrs(GRIB_typeOfLevel="isobaricInPa", GRIB_level=50000)),
        lambda dataset: dataset.assign_attrs(pressure=500.0),
        lambda dataset: dataset.rename(z="z500"),
    ],
)
def test_a_level_that_is_told_elsewhere_is_the_level(tmp_path, told):
    path = stored(tmp_path, told(geopotential()))
    opened = open_dataset(path)
    assert list(opened.data_vars) == ["geopotential"]
    np.testing.assert_array_equal(opened["level"], [500])
    assert opened["geopotential"].sizes == {"time": 4, "level": 1, "latitude": 7, "longitude": 12}
    np.testing.assert_allclose(opened["geopotential"][:, 0], geopotential()["z"][:, ::-1], rtol=1e-6)


def test_a_single_level_is_not_given_to_fields_of_the_surface(tmp_path):
    dataset = geopotential().assign(t2m=geopotential()["z"] * 0 + 280).assign_coords(level=500)
    dataset["t2m"].attrs = {"units": "K"}
    opened = open_dataset(stored(tmp_path, dataset))
    assert "level" in opened["geopotential"].dims and "level" not in opened["2m_temperature"].dims


def test_numbers_of_levels_are_whole_where_they_can_be():
    assert [level_number(each) for each in ("500", 500.0, np.float32(0.4), "1.5")] == [500, 500, 0.4, 1.5]
    assert all(type(level_number(each)) is int for each in ("500", 500.0, np.int32(500)))
    assert level_axis([500.0, 850.0]).dtype == np.int64 and level_axis([0.4, 850.0]).dtype == np.float64
    for each in ("nan", "-1", "0", "inf", "all"):
        with pytest.raises(ValueError):
            level_number(each)


def test_other_kinds_of_level_of_a_grib_file_do_no_harm(tmp_path, grib, caplog):
    """A GFS file has winds and temperatures at several heights and sigma levels beside those on pressure levels."""
    with open(tmp_path / "gfs.grib2", "wb") as file:
        for level in (500, 850):
            grib(file, "t", np.full((7, 12), 250.0), level=level)
        for height in (80, 100):
            grib(file, "t", np.full((7, 12), 290.0), typeOfLevel="heightAboveGround", level=height)
            grib(file, "u", np.full((7, 12), 9.0), typeOfLevel="heightAboveGround", level=height)
        for level in (60, 137):
            grib(file, "t", np.full((7, 12), 270.0), typeOfLevel="hybrid", level=level)
    path = str(tmp_path / "gfs.grib2")
    for options in ({}, {"variables": "temperature"}):
        opened = open_dataset(path, **options)
        assert list(opened.data_vars) == ["temperature"] and float(opened["temperature"].mean()) == 250
        np.testing.assert_array_equal(opened["level"], [500, 850])
    assert [record.message.split(":")[0] for record in caplog.records] == ["u is left out"]
    with pytest.raises(UserError, match=r"m of heightAboveGround are heights"):
        open_dataset(path, variables="u")


def test_of_several_pressure_axes_the_one_that_is_named_so_is_read(tmp_path):
    """THREDDS gives GFS fields on isobaric and isobaric1, of other lengths."""
    dataset = source("isobaric", [50000.0, 85000.0], {"units": "Pa", "axis": "Z"}).merge(
        source("isobaric1", [10000.0, 50000.0, 85000.0], {"units": "Pa", "axis": "Z"}, name="o3", units="kg kg-1")
    )
    opened = open_dataset(stored(tmp_path, dataset))
    assert list(opened.data_vars) == ["temperature"] and "o3" in opened.attrs["adjusted"]


@pytest.mark.parametrize("told", ["coordinate", "attribute", "name"])
def test_regridding_a_store_of_one_level_that_is_no_axis(tmp_path, told):
    dataset = {
        "coordinate": lambda: geopotential().assign_coords(level=500),
        "attribute": lambda: geopotential().assign_attrs(pressure=500),
        "name": lambda: geopotential().rename(z="z500"),
    }[told]()
    dataset.to_zarr(tmp_path / "a.zarr", consolidated=False)
    grid = Grid.from_name("12x7", poles=True)
    regrid(str(tmp_path / "a.zarr"), str(tmp_path / "r.zarr"), grid, method="nearest", no_beam=True, progress=False)
    made = open_dataset(str(tmp_path / "r.zarr"))["geopotential"]
    np.testing.assert_array_equal(made["level"], [500])
    np.testing.assert_allclose(made[:, 0], geopotential()["z"][:, ::-1], rtol=1e-6)
