"""Each publisher's layout, from a small file with its traits."""

import json
import shutil

import fsspec
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from weather_scnn.checks.checking import check_store
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io.addresses import set_storage_options, unreachable
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.stored import StoredArray

LATITUDE = np.linspace(-90, 90, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
TIMES = pd.date_range("2020-01-01", periods=4, freq="6h")


def expect(opened, name="temperature"):
    """Every value lies where its coordinates say."""
    array = opened[name]
    assert array.dtype == np.float32 and array.chunks is not None
    hours = (opened.time - np.datetime64("2020-01-01")) / np.timedelta64(1, "h")
    exact = 230 + hours * 0.1 + opened.latitude * 0.1 + opened.longitude * 0.01
    if "level" in array.dims:
        exact = exact + opened.level * 0.01
    np.testing.assert_allclose(array, exact.transpose(*array.dims), atol=2e-3)
    for axis in ("latitude", "longitude"):
        assert opened.indexes[axis].is_monotonic_increasing
    return opened


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_weatherbench_2_with_longitude_before_latitude(tmp_path, make, zarr_format):
    dataset = make().rename(t="temperature").transpose("time", "level", "longitude", "latitude")
    path = tmp_path / "1959-2023_01_10-6h-64x32_equiangular_conservative.zarr"
    dataset.chunk({"time": 2}).to_zarr(path, consolidated=zarr_format == 2, zarr_format=zarr_format)
    opened = expect(open_dataset(str(path)))
    assert opened["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert "axis_order" in opened.attrs["adjusted"]
    assert opened["temperature"].encoding["preferred_chunks"] == {
        "time": 2, "level": 2, "latitude": 7, "longitude": 12,
    }  # fmt: skip


def test_arco_era5_with_an_axis_longer_than_its_data(tmp_path, make):
    """Times of 1900–2050 of which the attributes declare some filled; north first; hourly."""
    times = pd.date_range("2019-12-31", periods=120, freq="1h")
    dataset = make(time=times, latitude=LATITUDE[::-1]).rename(t="temperature")
    dataset["temperature"][:24] = np.nan
    dataset["temperature"][96:] = np.nan
    dataset["land_sea_mask"] = dataset["temperature"].isel(time=30, level=0, drop=True) * 0 + 1
    dataset["land_sea_mask"].attrs["units"] = "(0 - 1)"
    dataset.attrs = {
        "valid_time_start": "2020-01-01", "valid_time_stop": "2020-01-02", "valid_time_stop_era5t": "2020-01-03",
    }  # fmt: skip
    dataset.chunk({"time": 1}).to_zarr(tmp_path / "full_37-1h-0p25deg-chunk-1.zarr-v3", zarr_format=2)
    path = str(tmp_path / "full_37-1h-0p25deg-chunk-1.zarr-v3")
    opened = expect(open_dataset(path))
    assert opened.sizes["time"] == 72 and opened.time.values[0] == np.datetime64("2020-01-01")
    assert "unfilled_times" in opened.attrs["adjusted"] and "ERA5T after 2020-01-02" in opened.attrs["adjusted"]
    assert opened["land_sea_mask"].dims == ("latitude", "longitude")
    reader = FieldReader(path, variables="t,lsm", levels=[850], time="2020-01-02")
    assert set(reader.fields.data_vars) == {"temperature", "land_sea_mask"}
    assert all(isinstance(array.data, StoredArray) for array in reader.fields.values())  # read without a graph
    np.testing.assert_array_equal(reader.read("temperature", slice(2, 5)), opened["temperature"][26:29, [1]])
    np.testing.assert_array_equal(reader.read("land_sea_mask"), 1)
    kinds = {problem["kind"] for problem in check_store(path, progress=False).problems}
    assert {"unfilled_times", "preliminary", "descending_latitude"} <= kinds and "nan_times" not in kinds


def test_weatherbench_1_with_a_folder_a_variable_and_a_file_a_year(tmp_path, make):
    for year in (2018, 2019):
        times = pd.date_range(f"{year}-12-30", periods=48, freq="1h")
        for folder, name, level in (("temperature", "t", (500, 850)), ("2m_temperature", "t2m", None)):
            (tmp_path / folder).mkdir(exist_ok=True)
            part = make(name, time=times, level=level).rename(latitude="lat", longitude="lon")
            part.to_netcdf(tmp_path / folder / f"{folder}_{year}_5.625deg.nc")
        (tmp_path / "geopotential_500").mkdir(exist_ok=True)
        height = make("z", time=times, level=None, units="m**2 s**-2").rename(latitude="lat", longitude="lon") * 200
        height["z"].attrs["units"] = "m**2 s**-2"
        height.to_netcdf(tmp_path / "geopotential_500" / f"geopotential_500hPa_{year}_5.625deg.nc")
    grid = xr.Dataset(coords={"lat": LATITUDE, "lon": LONGITUDE})
    (tmp_path / "constants").mkdir()
    grid.assign(
        orography=(("lat", "lon"), np.full((7, 12), 300.0), {"units": "m"}),
        lsm=(("lat", "lon"), np.ones((7, 12)), {"units": "(0 - 1)"}),
        slt=(("lat", "lon"), np.ones((7, 12)), {"units": "~"}),
        lat2d=(("lat", "lon"), np.ones((7, 12)), {"units": "degrees_north"}),
        lon2d=(("lat", "lon"), np.ones((7, 12)), {"units": "degrees_east"}),
    ).to_netcdf(tmp_path / "constants" / "constants_5.625deg.nc")
    opened = open_dataset(str(tmp_path), variables="t,t2m,orography,lsm,slt", levels=[500, 850])
    expect(opened), expect(opened, "2m_temperature")
    assert opened.sizes["time"] == 96  # the year between stays a gap
    np.testing.assert_allclose(opened["geopotential_at_surface"], 300 * 9.80665, rtol=1e-6)
    # z without a level is geopotential here, not the surface's
    upper = open_dataset(str(tmp_path / "geopotential_500" / "*.nc"))
    assert list(upper.data_vars) == ["geopotential"] and list(upper.level.values) == [500]
    both = open_dataset(str(tmp_path), variables="z,t", levels=[500])
    assert set(both.data_vars) == {"geopotential", "temperature"} and "level_in_path" in both.attrs["adjusted"]


def packed(dataset, name):
    return {name: {"dtype": "int16", "scale_factor": 0.001, "add_offset": 250.0, "_FillValue": -32767}}


def test_cds_netcdf_of_old_packed_with_era5t_along_expver(tmp_path, make):
    whole = make(level=None).rename(t="t2m").isel(latitude=slice(None, None, -1))
    final, preliminary = whole.copy(deep=True), whole.copy(deep=True)
    final["t2m"][2:] = np.nan
    preliminary["t2m"][:2] = np.nan
    mixed = xr.concat([final, preliminary], pd.Index([1, 5], name="expver")).transpose("time", "expver", ...)
    mixed.to_netcdf(tmp_path / "adaptor.nc", encoding=packed(mixed, "t2m"), format="NETCDF3_64BIT")
    opened = expect(open_dataset(str(tmp_path / "adaptor.nc")), "2m_temperature")
    assert opened["2m_temperature"].dims == ("time", "latitude", "longitude")
    assert "expver" in opened.attrs["adjusted"]


def test_cds_netcdf_of_today(tmp_path, make):
    dataset = make(level=(850, 500)).rename(time="valid_time", level="pressure_level").assign_coords(number=0)
    dataset = dataset.assign_coords(expver=("valid_time", ["0001", "0001", "0005", "0005"]))
    dataset["pressure_level"].attrs["units"] = "hPa"
    dataset.to_netcdf(tmp_path / "data_stream-oper_stepType-instant.nc")
    rain = make("tp", level=None, units="m").rename(time="valid_time").assign_coords(number=0) * 1e-6
    rain["tp"].attrs.update(units="m", GRIB_stepType="accum", GRIB_paramId=228)
    rain.to_netcdf(tmp_path / "data_stream-oper_stepType-accum.nc")
    opened = expect(open_dataset(str(tmp_path)))
    assert list(opened.data_vars) == ["temperature", "total_precipitation"] and list(opened.level.values) == [500, 850]
    assert "preliminary (some times are ERA5T)" in opened.attrs["adjusted"]
    shutil.make_archive(str(tmp_path / "delivered"), "zip", tmp_path)
    (tmp_path / "delivered.zip").rename(tmp_path / "request.nc")
    with pytest.raises(UserError, match="is a zip archive; unzip it"):
        open_dataset(str(tmp_path / "request.nc"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>Please log in</html>", "holds text, not data"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
    ],
)
def test_files_that_are_not_what_they_are_called(tmp_path, content, message):
    (tmp_path / "era5.nc").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_dataset(str(tmp_path / "era5.nc"))


@pytest.mark.parametrize("edition", [1, 2])
def test_grib_of_both_editions(tmp_path, make, grib, edition):
    with open(tmp_path / "a.grib", "wb") as file:
        for hour in (0, 6, 12, 18):
            data = make(time=TIMES[[hour // 6]], latitude=LATITUDE[::-1])["t"].values[0]
            for index, level in enumerate((500, 850)):
                grib(file, "t", data[index], edition=edition, level=level, hour=hour)
            grib(file, "2t", np.full((7, 12), 280.0), edition=edition, hour=hour)
    opened = expect(open_dataset(str(tmp_path / "a.grib")))
    assert float(opened["2m_temperature"].mean()) == pytest.approx(280)
    assert [each.name for each in tmp_path.iterdir()] == ["a.grib"]  # no index is left beside it


def test_grib_members(tmp_path, grib):
    with open(tmp_path / "m.grib2", "wb") as file:
        for number in (0, 1, 2):
            grib(file, "t", np.full((7, 12), 250.0 + number), level=500, number=number)
    path = str(tmp_path / "m.grib2")
    first, second = open_dataset(path), open_dataset(path, member=1)
    assert float(first["temperature"].mean()) == pytest.approx(250, abs=1e-3)
    assert float(second["temperature"].mean()) == pytest.approx(251, abs=1e-3)
    assert ("number 0 of 3 members" in first.attrs["adjusted"] and "adjusted" not in second.attrs) or (
        "member" not in second.attrs["adjusted"]
    )
    with pytest.raises(UserError, match="no ensemble member 7; choose from 0, 1, 2"):
        open_dataset(path, member=7)


def test_grib_with_one_variable_on_several_kinds_of_level(tmp_path, grib):
    """As a GFS or HRES file has them: what is not on pressure levels is no second temperature."""
    with open(tmp_path / "gfs.grib2", "wb") as file:
        for level in (500, 850):
            grib(file, "t", np.full((7, 12), 250.0), level=level)
        grib(file, "t", np.full((7, 12), 290.0), typeOfLevel="hybrid", level=1)
        grib(file, "t", np.full((7, 12), 210.0), typeOfLevel="tropopause")
        grib(file, "gh", np.full((7, 12), 11e3), typeOfLevel="tropopause")
        grib(file, "u", np.full((7, 12), 9.0), typeOfLevel="heightAboveGround", level=80)
        grib(file, "10u", np.full((7, 12), 5.0))
        grib(file, "orog", np.full((7, 12), 100.0))
    opened = open_dataset(str(tmp_path / "gfs.grib2"))
    assert float(opened["temperature"].mean()) == pytest.approx(250, abs=1e-2)
    assert opened["temperature"].sizes["level"] == 2
    assert float(opened["10m_u_component_of_wind"].mean()) == pytest.approx(5, abs=1e-3)
    assert float(opened["geopotential_at_surface"].mean()) == pytest.approx(980.665, rel=1e-5)
    assert "geopotential" not in opened and "u_component_of_wind" not in opened
    assert "other_level_type" in opened.attrs["adjusted"]


def test_grib_totals_have_the_window_of_their_label(tmp_path, grib):
    for name, steps in (("hourly", [(0, 1), (1, 2), (2, 3)]), ("six", [(0, 6), (6, 12)]), ("start", [(0, 6), (0, 12)])):
        with open(tmp_path / f"{name}.grib2", "wb") as file:
            for begin, end in steps:
                grib(file, "tp", np.full((7, 12), 1e-3 * end), stepType="accum", stepRange=f"{begin}-{end}")
    hourly = open_dataset(str(tmp_path / "hourly.grib2"))
    assert list(hourly.data_vars) == ["total_precipitation"] and list(hourly.time.dt.hour.values) == [1, 2, 3]
    six = open_dataset(str(tmp_path / "six.grib2"))
    assert list(six.data_vars) == ["total_precipitation_6hr"] and list(six.time.dt.hour.values) == [6, 12]
    assert six["total_precipitation_6hr"].attrs["accumulation_hours"] == 6
    problems = {each["kind"]: each for each in check_store(str(tmp_path / "six.grib2"), progress=False).problems}
    assert "labelled as a total over 6 h" in problems["window"]["where"]
    # All since the start of the forecast: windows of several lengths are no series.
    with pytest.raises(UserError, match="cannot be read from there"):
        open_dataset(str(tmp_path / "start.grib2"), variables="tp")


def test_spectral_and_reduced_grids_are_refused_with_the_remedy(tmp_path):
    points = np.arange(20.0)
    reduced = xr.Dataset(
        {"t": (("time", "values"), np.zeros((4, 20)))},
        {"time": TIMES, "latitude": ("values", points), "longitude": ("values", points * 3)},
    )
    reduced.to_netcdf(tmp_path / "reduced.nc")
    with pytest.raises(UserError, match=r"reduced Gaussian or unstructured.*cdo setgridtype,regular"):
        open_dataset(str(tmp_path / "reduced.nc"))


def test_levels_in_names(tmp_path, make):
    """earth2studio's and anemoi's way: z500, t_850, u100 for 100 hPa, 2t_2 for 2 m."""
    one = make(level=None)["t"]
    names = {"t500": 500, "t_850": 850, "u100": 100, "u500": 500, "z100": 100, "z500": 500}
    one.attrs = {}
    dataset = xr.Dataset({name: one * 0 + level for name, level in names.items()})
    dataset = dataset.assign({"2t_2": one, "u10m": one * 0 + 10})
    dataset.to_zarr(tmp_path / "e2s.zarr", consolidated=False)
    path = str(tmp_path / "e2s.zarr")
    opened = open_dataset(path, variables="u,z")
    assert list(opened.level.values) == [100, 500]
    np.testing.assert_array_equal(opened["u_component_of_wind"].mean(["time", "latitude", "longitude"]), [100, 500])
    assert list(open_dataset(path, variables="t").level.values) == [500, 850]
    assert "2m_temperature" in open_dataset(path, variables="2t")
    assert float(open_dataset(path, variables="u10")["10m_u_component_of_wind"].mean()) == 10
    era5 = xr.Dataset({"u100": one * 0 + 7, "u10": one, "t2m": one})
    era5.to_zarr(tmp_path / "era5.zarr", consolidated=False)
    assert "100m_u_component_of_wind" in open_dataset(str(tmp_path / "era5.zarr"))


def test_many_files_open_lazily(tmp_path, make):
    for day, start in enumerate(pd.date_range("2020-01-01", periods=12, freq="1D")):
        make(time=pd.date_range(start, periods=4, freq="6h")).to_netcdf(tmp_path / f"era5_{day:02d}.nc")
    opened = expect(open_dataset(str(tmp_path / "era5_*.nc")))
    assert opened.sizes["time"] == 48 and len(opened["temperature"].chunks[0]) == 12


def test_fsspec_addresses_of_stores_files_folders_and_globs(tmp_path, make):
    memory = fsspec.filesystem("memory")
    try:
        make().to_zarr("memory://case/a.zarr", consolidated=True, zarr_format=2)
        expect(open_dataset("memory://case/a.zarr"))
        make(time=TIMES[:2]).to_netcdf(tmp_path / "a.nc")
        make(time=TIMES[2:]).to_netcdf(tmp_path / "b.nc")
        for name in ("a.nc", "b.nc"):
            memory.pipe(f"/case/files/{name}", (tmp_path / name).read_bytes())
        for address in ("memory://case/files/*.nc", "memory://case/files"):
            assert expect(open_dataset(address)).sizes["time"] == 4
        expect(open_dataset(f"file://{tmp_path}/a.nc"))
        with pytest.raises(UserError, match="nothing at this address"):
            open_dataset("memory://case/files/c.nc")
        with pytest.raises(UserError, match="no Zarr store, netCDF or GRIB file at this address"):
            open_dataset("memory://case/absent.zarr")
        with pytest.raises(UserError, match=r"cannot be read \(ValueError: Protocol not known"):
            open_dataset("nowhere://a.zarr")
    finally:
        memory.rm("/case", recursive=True)


def test_files_and_stores_over_http(tmp_path, make, web, grib):
    make().to_netcdf(tmp_path / "web" / "a.nc")
    make().to_zarr(tmp_path / "web" / "a.zarr", consolidated=True, zarr_format=2)
    with open(tmp_path / "web" / "a.grib2", "wb") as file:
        grib(file, "t", make(time=TIMES[:1], latitude=LATITUDE[::-1])["t"].values[0, 0], level=500)
    for name in ("a.nc", "a.zarr", "a.grib2"):
        expect(open_dataset(f"{web}/{name}"))
    with pytest.raises(UserError, match="nothing at this address"):
        open_dataset(f"{web}/b.nc")


def test_a_bucket_whose_readers_pay(make, bucket, clean_options):
    """gs:// by Google's API: without a project it is refused with the remedy, with one it is read, anonymously."""
    endpoint, folder, asked = bucket
    make().to_zarr(folder / "era5.zarr", consolidated=True, zarr_format=2)
    make().to_netcdf(folder / "era5.nc")
    options = ["--storage-option", "token=anon", "--storage-option", f"gs.endpoint_url={endpoint}"]
    refused = CliRunner().invoke(app, ["check", "--input", "gs://b/era5.zarr", *options])
    assert refused.exit_code == 1 and "--storage-option requester_pays=PROJECT" in refused.stderr
    options += ["--storage-option", "requester_pays=my-project"]
    for name in ("era5.zarr", "era5.nc"):
        result = CliRunner().invoke(app, ["check", "--json", "--input", f"gs://b/{name}", *options])
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["variables"][0]["name"] == "temperature"
    assert asked[-1] == {"project": "my-project", "authorised": False}
    expect(open_dataset("gs://b/*.zarr"))


def test_storage_options_reach_the_file_system_and_its_worker_processes(clean_options, monkeypatch):
    import os

    set_storage_options(["token=anon", "gs.requester_pays=my-project", "s3.anon=true"])
    assert fsspec.config.conf["gs"] == {"token": "anon", "requester_pays": "my-project"}
    assert fsspec.config.conf["s3"]["anon"] is True
    assert json.loads(os.environ["FSSPEC_GS"])["requester_pays"] == "my-project"
    assert fsspec.filesystem("gs").requester_pays == "my-project"
    for wrong in ("token", "=anon", ".token=anon"):
        with pytest.raises(UserError, match="does not read as key=value"):
            set_storage_options([wrong])
    assert "token=anon" in unreachable("gs://b/x", OSError("Anonymous caller does not have access")).remedy


def test_hour_zero_of_format_2_is_a_time(tmp_path, make):
    """Writers other than xarray leave integer coordinates with the fill value 0."""
    import zarr

    path = str(tmp_path / "a.zarr")
    make().to_zarr(path, zarr_format=2, consolidated=False, encoding={"time": {"units": "hours since 2020-01-01"}})
    group = zarr.open_group(path, mode="r+")
    attributes = dict(group["time"].attrs)
    del group["time"]
    time = group.create_array("time", shape=(4,), chunks=(4,), dtype="i8", fill_value=0)
    time[:] = np.arange(4) * 6
    time.attrs.update(attributes)
    assert expect(open_dataset(path)).time.values[0] == np.datetime64("2020-01-01")


def test_forecasts_of_the_cds_get_their_valid_time(tmp_path, make):
    """forecast_reference_time and forecast_period, with valid_time along both."""
    dataset = make(time=TIMES[:2]).rename(time="forecast_reference_time")
    dataset = dataset.expand_dims(forecast_period=pd.to_timedelta([0, 6], unit="h"), axis=1).copy(deep=True)
    dataset["t"][:, 1] = dataset["t"][:, 1] + 0.6
    dataset = dataset.assign_coords(valid_time=dataset.forecast_reference_time + dataset.forecast_period)
    dataset.to_netcdf(tmp_path / "f.nc")
    opened = expect(open_dataset(str(tmp_path / "f.nc")))
    assert list(opened.time.values) == list(TIMES[:2].values)  # analyses, and forecasts left out
    dataset.isel(forecast_period=[1]).to_netcdf(tmp_path / "g.nc")
    assert list(expect(open_dataset(str(tmp_path / "g.nc"))).time.values) == list(TIMES[1:3].values)
