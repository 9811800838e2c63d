"""What values, units and times of files mean, and what is refused because they mean nothing."""

import re
import struct

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.catalogue.naming import VARIABLES
from weather_scnn.catalogue.units import amount_in_window, conversion
from weather_scnn.checks.checking import check_store
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io.coverage import missing_lines
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.filters import lacking_filter
from weather_scnn.io.stored import StoredArray
from weather_scnn.sphere.grid import Grid

LATITUDE, LONGITUDE = np.linspace(-90, 90, 19), np.arange(0, 360, 10.0)
WARM = (278 + 20 * np.cos(np.radians(LATITUDE)))[:, None] + np.zeros(36)


def netcdf(
    path,
    values,
    *,
    attributes=(),
    units="K",
    dtype="f4",
    name="t2m",
    times=None,
    since="hours since 2020-01-01",
    axis="f8",
):
    """A file with its values as they are, whatever the attributes say; `None` among them is never written."""
    with netCDF4.Dataset(path, "w") as file:
        for axis_name, points, unit in (
            ("latitude", LATITUDE, "degrees_north"),
            ("longitude", LONGITUDE, "degrees_east"),
        ):
            file.createDimension(axis_name, len(points))
            file.createVariable(axis_name, "f8", (axis_name,))[:] = points
            file[axis_name].units = unit
        file.createDimension("time", None)
        file.createVariable("time", axis, ("time",)).units = since
        field = file.createVariable(name, dtype, ("time", "latitude", "longitude"))
        field.set_auto_maskandscale(False)
        for key, value in {"units": units, **dict(attributes)}.items():
            if value is not None:
                field.setncattr(key, value)
        file["time"][:] = np.arange(len(values)) * 6 if times is None else times
        for position, each in enumerate(values):
            if each is not None:
                field[position] = each
    return str(path)


def zarr_store(path, values, attributes=(), chunk=1):
    dataset = xr.Dataset(
        {
            "2m_temperature": (
                ("time", "latitude", "longitude"),
                np.asarray(values, "f4"),
                {"units": "K", **dict(attributes)},
            )
        },
        {
            "time": pd.date_range("2020-01-01", periods=len(values), freq="6h"),
            "latitude": LATITUDE,
            "longitude": LONGITUDE,
        },
    )
    dataset.chunk(time=chunk).to_zarr(path, zarr_format=2)
    return str(path)


def spoiled(value):
    field = WARM.copy()
    field[9, 5] = value
    return field


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_what_was_never_written_is_missing(tmp_path, dtype):
    packing = {"scale_factor": 0.01, "add_offset": 280.0} if dtype == "i2" else {}
    stored = np.round((WARM - 280) / 0.01).astype("i2") if packing else WARM
    path = netcdf(tmp_path / "a.nc", [stored, stored, None, None], attributes=packing, dtype=dtype)
    found = open_dataset(path)["2m_temperature"]
    np.testing.assert_allclose(found[:2], np.stack([WARM, WARM]), atol=0.006)
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize(
    "attributes",
    [{"valid_min": np.float32(150), "valid_max": np.float32(350)}, {"valid_range": np.array([150, 350], "f4")}],
)
def test_what_lies_outside_the_valid_range_is_missing(tmp_path, attributes):
    path = netcdf(tmp_path / "a.nc", [WARM, spoiled(-32768.0), spoiled(1e10)], attributes=attributes)
    found = open_dataset(path)["2m_temperature"]
    np.testing.assert_array_equal(np.isnan(found).sum(("latitude", "longitude")), [0, 1, 1])
    assert not {"valid_min", "valid_max", "valid_range"} & found.attrs.keys()
    assert "valid_range" in {problem["kind"] for problem in check_store(path, progress=False).problems}


def test_a_range_of_packed_data_is_packed_too(tmp_path):
    packing = {"scale_factor": 0.01, "add_offset": 280.0, "valid_range": np.array([-2000, 2000], "i2")}
    values = np.full((2, 19, 36), 100, "i2")
    values[1, 3, 3] = 30000
    found = open_dataset(netcdf(tmp_path / "a.nc", values, attributes=packing, dtype="i2"))["2m_temperature"]
    assert int(np.isnan(found).sum()) == 1 and float(found.max()) == pytest.approx(281)


def test_zarr_stores_by_every_reader(tmp_path):
    path = zarr_store(tmp_path / "a.zarr", [WARM, spoiled(1e10), spoiled(np.float32(9.96921e36))], {"valid_max": 350.0})
    opened = open_dataset(path)
    direct = FieldReader(path)
    assert isinstance(direct.fields["2m_temperature"].data, StoredArray)
    for values in (opened["2m_temperature"].values, direct.read("2m_temperature")):
        np.testing.assert_array_equal(np.isnan(values).sum((1, 2)), [0, 1, 1])
    unsaid = FieldReader(zarr_store(tmp_path / "b.zarr", [WARM, spoiled(np.float32(9.96921e36))]))
    assert np.isnan(unsaid.read("2m_temperature")[1, 9, 5])


@pytest.mark.parametrize("command", ["regrid --grid 36x19 --poles", "stats", "climatology"])
@pytest.mark.parametrize("kind", ["zarr", "netcdf"])
def test_every_map_is_judged(tmp_path, command, kind):
    values = [WARM, WARM, spoiled(-9999.0), WARM]
    path = zarr_store(tmp_path / "a.zarr", values) if kind == "zarr" else netcdf(tmp_path / "a.nc", values)
    output = str(tmp_path / ("o.nc" if command == "stats" else "o"))
    result = CliRunner().invoke(app, [*command.split(), "--no-beam", "--input", path, "--output", output])
    assert result.exit_code == 1
    line = re.sub(r"\s+", " ", result.output)
    assert "2m_temperature is implausible at 2020-01-01T12:00, latitude 0, longitude 50" in line
    assert "-9999 looks like a missing value" in line


def test_units_that_end_within_a_record_are_refused(tmp_path):
    (tmp_path / "u").mkdir()
    netcdf(tmp_path / "u" / "0.nc", [WARM, WARM])
    netcdf(tmp_path / "u" / "1.nc", [WARM - 273.15] * 2, units=None, times=[12, 18])
    with pytest.raises(UserError, match=r"at 2020-01-01T12:00.*looks like degrees Celsius"):
        FieldReader(str(tmp_path / "u")).read("2m_temperature")
    heights = np.full((2, 19, 36), 5500.0)
    heights[0] *= 9.80665
    dataset = xr.Dataset(
        {
            "geopotential": (
                ("time", "level", "latitude", "longitude"),
                heights[:, None].astype("f4"),
                {"units": "m2 s-2"},
            )
        },
        {"time": pd.date_range("2020-01-01", periods=2), "level": [500], "latitude": LATITUDE, "longitude": LONGITUDE},
    )
    dataset.to_netcdf(tmp_path / "z.nc")
    with pytest.raises(UserError, match=r"at 2020-01-02T00:00, 500 hPa.*height in metres"):
        FieldReader(str(tmp_path / "z.nc")).read("geopotential")


@pytest.mark.parametrize(
    ("unit", "wanted", "factor"),
    [
        ("knots", "m s-1", 1852 / 3600), ("kt", "m s-1", 1852 / 3600), ("mph", "m s-1", 0.44704), ("km/h", "m s-1", 1 / 3.6),
        ("km h-1", "m s-1", 1 / 3.6), ("m s**-1", "m s-1", 1), ("m s^-1", "m s-1", 1), ("metres per second", "m s-1", 1),
        ("ft/s", "m s-1", 0.3048), ("inches", "m", 0.0254), ("ft", "m", 0.3048), ("0.1 mm", "m", 1e-4), ("mm w.e.", "m", 1e-3),
        ("gpdam", "m2 s-2", 98.0665), ("J/kg", "m2 s-2", 1), ("g/kg", "kg kg-1", 1e-3), ("1e-3 kg kg-1", "kg kg-1", 1e-3),
        ("percent", "1", 0.01), ("oktas", "1", 0.125), ("mb", "Pa", 100), ("HPA", "Pa", 100), ("psi", "Pa", 6894.757),
        ("inHg", "Pa", 3386.389), ("mm Hg", "Pa", 133.3224), ("kWh/m2", "J m-2", 3.6e6), ("cal cm-2", "J m-2", 41840),
        ("10**-5 s**-1", "s-1", 1e-5), ("hPa/h", "Pa s-1", 1 / 36), ("PVU", "K m2 kg-1 s-1", 1e-6), ("mm", "kg m-2", 1),
        ("kg/(m s)", "kg m-1 s-1", 1), ("DU", "kg m-2", 2.1415e-5),
    ],
)  # fmt: skip
def test_units_of_weather_services(unit, wanted, factor):
    assert conversion(unit, wanted) == (pytest.approx(factor, rel=1e-6), 0)


def test_degrees_have_an_offset_and_the_catalogue_reads_itself():
    for unit, zero in (("degF", 255.3722), ("°F", 255.3722), ("deg C", 273.15), ("degrees_Celsius", 273.15)):
        assert conversion(unit, "K")[1] == pytest.approx(zero, abs=1e-3)
    assert all(conversion(variable.unit, variable.unit) == (1, 0) for variable in VARIABLES)
    for unit in ("furlongs", "m s-1 (knots?)", "banana", "mm/fortnight"):
        with pytest.raises(ValueError):
            conversion(unit, "m")


def test_a_unit_that_some_files_lack_is_not_taken_for_si(tmp_path):
    """Knots are plausible as m s-1, so that nothing else tells."""
    (tmp_path / "u").mkdir()
    netcdf(tmp_path / "u" / "0.nc", [WARM / 20], units="knots", name="u10")
    netcdf(tmp_path / "u" / "1.nc", [WARM / 20], units=None, name="u10", times=[6])
    with pytest.raises(
        UserError, match=r"1\.nc: 10m_u_component_of_wind has no unit, while it is in 'knots' in .*0\.nc"
    ):
        open_dataset(str(tmp_path / "u"))


def test_a_unit_that_is_not_understood_is_refused(tmp_path):
    path = netcdf(tmp_path / "a.nc", [WARM], units="smoots")
    with pytest.raises(UserError, match="the unit 'smoots' of t2m is not understood"):
        open_dataset(path)
    assert not check_store(path, progress=False).usable


def test_amounts_in_hours_have_that_window(tmp_path):
    rain = np.full((4, 19, 36), 0.2)
    opened = open_dataset(netcdf(tmp_path / "a.nc", rain, units="mm/6h", name="tp"))
    np.testing.assert_allclose(opened["total_precipitation_6hr"], 2e-4, rtol=1e-6)
    hourly = open_dataset(netcdf(tmp_path / "b.nc", rain, units="mm/h", name="tp", times=np.arange(4)))
    np.testing.assert_allclose(hourly["total_precipitation"], 2e-4, rtol=1e-6)
    with pytest.raises(UserError, match="every 6 h: a rate, or a total over 1 h"):
        open_dataset(netcdf(tmp_path / "c.nc", rain, units="mm h-1", name="tp"))
    assert amount_in_window("kg m-2 day-1") == ("kg m-2", 24, False) and amount_in_window("m s-1") is None


@pytest.mark.parametrize(
    ("times", "since", "dtype"),
    [
        (np.round(738841.25 + np.arange(5) / 24, 6), "days since 0001-01-01 00:00:00.0", "f8"),
        (np.float32(45244.25 + np.arange(5) / 24), "days since 1900-01-01", "f4"),
        (1700114400.0 + 3600 * np.arange(5) + 0.0004, "seconds since 1970-01-01", "f8"),
    ],
)
def test_times_off_by_milliseconds_are_on_the_minute(tmp_path, times, since, dtype):
    opened = open_dataset(netcdf(tmp_path / "a.nc", [WARM] * 5, times=times, since=since, axis=dtype))
    np.testing.assert_array_equal(opened.time, pd.date_range("2023-11-16T06", periods=5, freq="1h").values)
    assert "rounded_times" in opened.attrs["adjusted"]


@pytest.mark.parametrize(
    ("since", "calendar", "message"),
    [
        ("days since 0001-01-16", None, "of the year 0001; shift them"),
        ("days since 0001-01-16", "noleap", "of the year 0001; shift them"),
        ("days since 1500-01-16", "proleptic_gregorian", "of the year 1500"),
        ("days since 2001-02-28", "all_leap", "calendar all_leap has dates that ours has not"),
    ],
)
def test_years_and_calendars_that_do_not_fit(tmp_path, since, calendar, message):
    path = netcdf(tmp_path / "a.nc", [WARM] * 3, times=np.arange(3), since=since)
    if calendar:
        with netCDF4.Dataset(path, "a") as file:
            file["time"].calendar = calendar
    with pytest.raises(UserError, match=message):
        open_dataset(path)


def test_float32_that_cannot_tell_hours_apart_is_refused(tmp_path):
    times = np.float32(738841.25 + np.arange(5) / 24)
    path = netcdf(tmp_path / "a.nc", [WARM] * 5, times=times, since="days since 0001-01-01", axis="f4")
    with pytest.raises(UserError, match=r"float32, which tells them to .* minutes only"):
        open_dataset(path)


def test_files_without_times_are_left_out_with_a_note(tmp_path):
    (tmp_path / "f").mkdir()
    netcdf(tmp_path / "f" / "1.nc", [WARM] * 2)
    empty = netcdf(tmp_path / "f" / "2.nc", [])
    opened = open_dataset(str(tmp_path / "f"))
    assert opened.sizes["time"] == 2 and "2.nc holds no times" in opened.attrs["adjusted"]
    with pytest.raises(UserError, match=r"2.nc: holds no times"):
        open_dataset(empty)


def test_missing_rows_and_columns():
    gaussian, poles = Grid.gaussian(32, 16).latitude, np.linspace(-90, 90, 19)
    for latitude in (
        gaussian,
        np.sort(gaussian),
        poles,
        poles[1:-1] + 0.0,
        np.array([-90, *np.arange(-87.5, 90, 5), 90]),
    ):
        assert missing_lines(np.sort(latitude), LONGITUDE) == ""
        for row in range(2, latitude.size - 2):
            assert "no latitudes between" in missing_lines(np.delete(np.sort(latitude), row), LONGITUDE)
    assert "no longitudes between 90° and 110°" in missing_lines(poles, np.delete(LONGITUDE, 10))


def test_a_missing_row_is_told_by_check_and_refused_by_jobs(tmp_path):
    with xr.open_dataset(netcdf(tmp_path / "a.nc", [WARM] * 2)) as whole:
        whole.isel(latitude=np.delete(np.arange(19), 7)).to_netcdf(tmp_path / "b.nc")
    report = check_store(str(tmp_path / "b.nc"), progress=False)
    assert not report.usable and "no latitudes between -30° and -10°" in report.problems[0]["where"]
    for command in ("regrid --grid 16x8", "stats", "climatology"):
        arguments = [
            "--no-beam",
            "--input",
            f"{tmp_path}/b.nc",
            "--output",
            f"{tmp_path}/{command[:3]}{'.nc' if command == 'stats' else ''}",
        ]
        result = CliRunner().invoke(app, [*command.split(), *arguments])
        assert result.exit_code == 1 and "no latitudes between" in re.sub(r"\s+", " ", result.output)


def test_a_field_that_never_changes_is_told(tmp_path):
    report = check_store(
        netcdf(tmp_path / "a.nc", np.full((3, 19, 36), 5.0), name="u10", units="m s-1"), progress=False
    )
    assert [(each["kind"], each["where"]) for each in report.problems] == [("constant", "5 everywhere and always")]


def test_compression_that_is_not_installed_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        for name, points, unit in (
            ("time", np.arange(2) * 6.0, "hours since 2020-01-01"), ("latitude", LATITUDE, "degrees_north"),
            ("longitude", LONGITUDE, "degrees_east"),
        ):  # fmt: skip
            file[name] = points
            file[name].attrs["units"] = unit
            file[name].make_scale(name)
        field = file.create_dataset(
            "t2m", data=np.stack([WARM] * 2).astype("f4"), chunks=(1, 19, 36), compression="gzip"
        )
        field.attrs["units"] = "K"
        for position, name in enumerate(("time", "latitude", "longitude")):
            field.dims[position].attach_scale(file[name])
    stored = path.read_bytes()
    at = stored.find(b"deflate") - 8
    path.write_bytes(stored[:at] + struct.pack("<H", 32018) + stored[at + 2 :])  # the number of another filter
    report = check_store(str(path), progress=False)
    assert "the HDF5 filter fcidecomp (32018), which is not installed" in report.problems[0]["where"]
    with pytest.raises(UserError, match=r"fcidecomp.*pip install hdf5plugin"):
        FieldReader(str(path)).judge_first()


def test_codecs_and_packings_are_named():
    class FunctionalityNotEnabledError(Exception):
        pass

    codec = lacking_filter(ValueError("codec not available: ''imagecodecs_jpeg2k''"), "a.zarr")
    assert codec is not None and "codec imagecodecs_jpeg2k" in str(codec) and "pip install imagecodecs" in str(codec)
    packing = lacking_filter(FunctionalityNotEnabledError("Functionality not enabled"), "/no/such.grib")
    assert packing is not None and "ecCodes was built without" in str(packing)
    assert lacking_filter(OSError("disk on fire"), "a") is None


MISSING_OF_64_BITS = {
    "1e20": ({"missing_value": 1e20}, 1e20),
    "-999.9": ({"missing_value": -999.9}, -999.9),
    "several": ({"missing_value": np.array([1e20, -999.9])}, -999.9),
}


@pytest.mark.filterwarnings("ignore:variable .* has multiple fill values")
@pytest.mark.parametrize("kind", MISSING_OF_64_BITS)
@pytest.mark.parametrize("name", ["t2m", "of_my_own"])
def test_missing_values_declared_in_64_bits_mark_those_of_32(tmp_path, kind, name):
    """CMIP's 1e20 as a double is no number of float32: nothing was missing, and 1e20 was averaged into cells."""
    attributes, value = MISSING_OF_64_BITS[kind]
    values = np.stack([WARM] * 3)
    values[1, 9, 5] = value
    opened = open_dataset(netcdf(tmp_path / "a.nc", values, attributes=attributes, name=name))
    expected = values.astype("f4")
    expected[1, 9, 5] = np.nan
    np.testing.assert_array_equal(next(iter(opened.data_vars.values())), expected)


def test_infinity_is_no_missing_value(tmp_path):
    """What exceeds float16 becomes infinite; it is told and refused, not left out like what was never written."""
    values = np.stack([WARM] * 3).astype("f4")
    values[1, 9, 5] = np.inf
    path = zarr_store(tmp_path / "a.zarr", values)
    kinds = {each["kind"]: each for each in check_store(path, progress=False).problems}
    assert kinds["infinite"]["fatal"] and "nan" not in kinds
    output = str(tmp_path / "b.zarr")
    result = CliRunner().invoke(app, ["regrid", "--no-beam", "--input", path, "--output", output, "--grid", "16x8"])
    assert result.exit_code == 1
    assert "2m_temperature is implausible at 2020-01-01T06:00, latitude 0, longitude 50" in result.output
