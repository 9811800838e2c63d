"""What users of such systems met in their data, by the number of the list of kinds that this project keeps.

The number and the issue are in each docstring; what concerns training, forecasts and scores is tested beside those.
"""

import io

import numpy as np
import pandas as pd
import pytest
import rich.console
import xarray as xr

from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError
from weather_scnn.io.accumulations import take_clipped_counts
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.opening import longitudes_from
from weather_scnn.training.windows import window_indices

LATITUDE = np.linspace(-87.5, 87.5, 36)
LONGITUDE = np.arange(0.0, 360.0, 10.0)
TIMES = pd.date_range("2020-01-01", periods=8, freq="6h")


def warm(time=TIMES, latitude=LATITUDE, longitude=LONGITUDE, name="2m_temperature", units="K"):
    """Warm at the equator, and warmer eastward."""
    shape = (len(time), len(latitude), len(longitude))
    data = 300 - 40 * np.sin(np.radians(latitude))[:, None] ** 2 + np.asarray(longitude) % 360 / 360
    return xr.Dataset(
        {name: (("time", "latitude", "longitude"), np.broadcast_to(data, shape).astype("f4"), {"units": units})},
        {"time": time, "latitude": latitude, "longitude": longitude},
    )


def stored(tmp_path, dataset, name="s.zarr", **options):
    path = str(tmp_path / name)
    dataset.chunk({"time": 1} if "time" in dataset.dims else {}).to_zarr(path, consolidated=False, **options)
    return path


def found(path, **options):
    report = check_store(path, progress=False, **options)
    return report, {problem["kind"]: problem for problem in report.problems}


def test_01_decreasing_latitudes_are_flipped_and_recorded(tmp_path):
    """weatherbench2#275: conservative failed, nearest flipped the map, bilinear gave NaN."""
    path = stored(tmp_path, warm(latitude=LATITUDE[::-1]))
    opened = open_dataset(path)
    assert "descending_latitude" in opened.attrs["adjusted"]
    xr.testing.assert_allclose(opened["2m_temperature"].compute(), warm()["2m_temperature"])
    assert found(path)[1]["descending_latitude"]["remedy"].startswith("none needed")


def test_04_a_band_of_latitudes_is_not_empty(tmp_path):
    """arco-era5#60: latitudes from 90 to −90 made slice(−50, 50) empty."""
    opened = open_dataset(stored(tmp_path, warm(latitude=LATITUDE[::-1])))
    assert opened.sel(latitude=slice(-50, 50)).sizes["latitude"] == 20


@pytest.mark.parametrize("end", [180.0, 190.0])
def test_05_longitudes_from_minus_180_wrap_and_can_be_had_back(tmp_path, end):
    """aurora#164, #154; a meridian given twice is dropped."""
    longitude = np.arange(-180.0, end, 10.0)
    opened = open_dataset(stored(tmp_path, warm(longitude=longitude)))
    assert opened.sizes["longitude"] == 36 and float(opened.longitude[0]) == 0
    xr.testing.assert_allclose(opened["2m_temperature"].compute(), warm()["2m_temperature"])
    back = longitudes_from(opened, -180)
    np.testing.assert_array_equal(back.longitude, np.arange(-180, 180, 10.0))
    east = float(back["2m_temperature"].sel(longitude=-90)[0, 0])
    assert east == float(opened["2m_temperature"].sel(longitude=270)[0, 0])


def test_06_what_is_missing_is_named_not_told_by_a_shape(tmp_path):
    """weathernext#131: weights of 267 against 303."""
    path = stored(tmp_path, warm())
    with pytest.raises(UserError, match="none of the variables geopotential, specific_humidity; it holds 2m_temp"):
        open_dataset(path, variables="z,q,t2m")


def test_07_longitude_before_latitude_is_transposed_by_name(tmp_path):
    """makani's converter."""
    path = stored(tmp_path, warm().transpose("time", "longitude", "latitude"))
    report, problems = found(path)
    assert report.variables[0]["dims"] == ["time", "latitude", "longitude"]
    assert problems["axis_order"]["where"] == "(time, longitude, latitude), transposed"


def test_08_whole_days_of_nan_are_found_whatever_attributes_claim(tmp_path):
    """arco-era5#136, #125, #103, #78."""
    dataset = warm().assign_attrs(valid_time_start="2020-01-01", valid_time_stop="2020-01-02")
    dataset["2m_temperature"][4:] = np.nan
    report, problems = found(stored(tmp_path, dataset))
    assert problems["nan_times"]["where"] == "4 times whole: 2020-01-02T00:00 … 2020-01-02T18:00"
    assert report.usable and report.variables[0]["nan_count"] == 4 * 36 * 36


def test_09_single_nans_are_placed_by_time_and_level(tmp_path):
    """weatherbench2#168: humidity of 1992 and 2008, vertical velocity of 1998."""
    dataset = warm().rename({"2m_temperature": "t"}).expand_dims(level=[300, 500, 850], axis=1).copy(deep=True)
    dataset["t"][1, 0, 3, 4] = np.nan
    dataset["t"][5, 2, 3, 4] = np.nan
    _, problems = found(stored(tmp_path, dataset))
    where = "2 values in 2 times: 2020-01-01T06:00, 2020-01-02T06:00, at 300, 850 hPa"
    assert problems["nan"]["where"] == where and problems["nan"]["variable"] == "temperature"


def test_10_a_missing_time_stays_a_gap_that_no_window_crosses(tmp_path):
    """anemoi-datasets#109, PR#753."""
    path = stored(tmp_path, warm().isel(time=[0, 1, 2, 4, 5, 6, 7]))
    opened = open_dataset(path)
    windows = window_indices(opened.time.values, step=np.timedelta64(6, "h"), length=3)
    assert [list(row) for row in windows] == [[0, 1, 2], [3, 4, 5], [4, 5, 6]]
    assert "1 missing at a step of 6h" in found(path)[1]["gap"]["where"]


def test_11_times_in_disorder_are_sorted_and_repeats_dropped(tmp_path):
    """lagtraj#183."""
    dataset = warm(time=TIMES[[3, 0, 1, 1, 2]])
    dataset["2m_temperature"][:] = np.array([3, 0, 1, 1, 2], "f4")[:, None, None] + 280
    opened = open_dataset(stored(tmp_path, dataset))
    np.testing.assert_array_equal(opened["2m_temperature"][:, 0, 0], [280, 281, 282, 283])
    assert "unsorted_times" in opened.attrs["adjusted"] and "repeated_times" in opened.attrs["adjusted"]


def test_12_hourly_totals_every_six_hours_are_no_six_hour_totals(tmp_path):
    """OpenCastKit#23, weathernext#117."""
    rain = warm(name="tp", units="m").assign(tp=lambda d: (d.tp * 0 + 1e-4).assign_attrs(units="m"))
    path = stored(tmp_path, rain)
    problem = found(path)[1]["accumulation_window"]
    assert "totals over 1 h every 6 h: 5 h of each step are in none" in problem["where"]
    assert "total_precipitation_6hr" in problem["remedy"]
    with pytest.raises(UserError, match="no time has the 6 totals of 1 h"):
        FieldReader(path, variables="total_precipitation_6hr")


def test_13_negative_totals_are_counted_and_clipped_where_sums_are_made(tmp_path):
    """weatherbench2#215; a total at the start of a forecast is empty (#159) and left out."""
    times = pd.date_range("2020-01-01T01", periods=12, freq="1h")
    rain = warm(time=times, name="tp", units="m").assign(tp=lambda d: (d.tp * 0 + 1e-4).assign_attrs(units="m"))
    rain["tp"][3, 0, 0] = -1e-5
    path = stored(tmp_path, rain)
    problem = found(path)[1]["negative_accumulation"]
    assert problem["where"].startswith("1 values, the least -1e-05") and not problem["fatal"]
    take_clipped_counts()
    six = FieldReader(path, variables="total_precipitation_6hr", step="6h").dataset.compute(scheduler="synchronous")
    np.testing.assert_allclose(six["total_precipitation_6hr"][0, 0, :2], [5e-4, 6e-4], rtol=1e-5)
    assert take_clipped_counts() == {"total_precipitation_6hr": 1}
    steps = rain.expand_dims(step=[0, 6], axis=1).isel(time=[5]).copy(deep=True)
    steps["tp"][:, 0] = 0
    steps["step"] = pd.to_timedelta([0, 6], unit="h")
    steps.to_netcdf(tmp_path / "hres.nc")
    kept = open_dataset(str(tmp_path / "hres.nc"))
    assert list(kept.time.values) == [np.datetime64("2020-01-01T12")]
    assert "empty accumulations of step 0" in kept.attrs["adjusted"]


@pytest.mark.parametrize(
    ("name", "units", "value", "message"),
    [
        ("z", "m**2 s**-2", 5574.0, "looks like a height in metres"),
        ("z", "m**2 s**-2", 557.4, "looks like a height in decametres"),
        ("t", "K", -20.0, "looks like degrees Celsius"),
        ("t", "K", 15.0, "looks like degrees Celsius"),
        ("q", "kg kg**-1", 8.0, "looks like g kg-1"),
        ("r", "1", 80.0, "looks like percent"),
    ],
)
def test_14_impossible_magnitudes_are_refused_with_what_they_look_like(tmp_path, name, units, value, message):
    """WeatherGenerator#2407: z and its climatology differed by g."""
    dataset = warm(name=name, units=units).expand_dims(level=[500], axis=1)
    dataset[name] = (dataset[name] * 0 + value).assign_attrs(units=units)
    path = stored(tmp_path, dataset)
    report, problems = found(path)
    assert not report.usable and message in problems["implausible"]["where"]
    with pytest.raises(UserError, match=message):
        FieldReader(path).judge_first(one_map=True)


@pytest.mark.parametrize(
    ("name", "units", "value", "message"),
    [
        ("msl", "Pa", 1013.0, "looks like hPa"),
        ("tp", "m", 4.0, "looks like mm"),
        ("tcc", "1", 70.0, "looks like percent"),
        ("tisr", "J m**-2", 900.0, "looks like W m-2"),
        ("z", "m**2 s**-2", 4000.0, "looks like a height in metres"),
        ("z", "m**2 s**-2", -2e4, "looks like relief with the sea floor"),
    ],
)
def test_14_at_the_surface_too(tmp_path, name, units, value, message):
    dataset = warm(name=name, units=units)
    dataset[name] = (dataset[name] * 0 + value).assign_attrs(units=units)
    _, problems = found(stored(tmp_path, dataset))
    assert message in problems["implausible"]["where"]


@pytest.mark.parametrize(
    ("units", "factor", "offset"), [("gpm", 1 / 9.80665, 0), ("m", 1 / 9.80665, 0), ("m**2 s**-2", 1, 0)]
)
def test_14_units_decide_between_height_and_geopotential(tmp_path, units, factor, offset):
    dataset = warm(name="z", units=units).expand_dims(level=[500], axis=1)
    dataset["z"] = (dataset["z"] * 0 + 5.5e4 * factor + offset).assign_attrs(units=units)
    opened = open_dataset(stored(tmp_path, dataset))
    np.testing.assert_allclose(opened["geopotential"], 5.5e4, rtol=1e-6)
    assert opened["geopotential"].attrs["units"] == "m2 s-2"


def test_14_omega_labelled_in_metres_a_second_is_refused(tmp_path):
    """bris-inference PR#241."""
    path = stored(tmp_path, warm(name="w", units="m s**-1").expand_dims(level=[500], axis=1))
    with pytest.raises(UserError, match="unit 'm s\\*\\*-1', but vertical_velocity is in Pa s-1"):
        open_dataset(path)


def test_15_a_surface_z_and_odd_names_find_their_variable_and_unknown_ones_the_nearest(tmp_path):
    """earth2studio#476, anemoi-datasets#87."""
    for name in ("z", "zsl"):
        surface = warm(name=name, units="m**2 s**-2").isel(time=[0])
        assert list(open_dataset(stored(tmp_path, surface, f"{name}.zarr"))) == ["geopotential_at_surface"]
    path = stored(tmp_path, warm(name="2t_2"))
    assert list(open_dataset(path)) == ["2m_temperature"]
    with pytest.raises(UserError, match="did you mean 2m_temperature"):
        open_dataset(path, variables="2m_temperatur")


def test_17_infinities_of_half_precision_are_found(tmp_path):
    """nowcasting_dataset#370: float16 ends at 65504, the geopotential of 50 hPa is 2e5."""
    dataset = warm(name="z", units="m**2 s**-2").expand_dims(level=[50], axis=1)
    with np.errstate(over="ignore"):
        dataset["z"] = (dataset["z"] * 0 + 2e5).astype("float16").assign_attrs(units="m**2 s**-2")
    report, problems = found(stored(tmp_path, dataset))
    assert "float16" in problems["half_precision"]["where"] and problems["infinite"]["fatal"] and not report.usable
    assert report.variables[0]["infinite_count"] == 8 * 36 * 36


def test_19_variables_may_differ_in_chunks(tmp_path):
    """weatherbench2#135: one chunk size a dimension was demanded."""
    dataset = xr.merge([warm(), warm(name="skt")])
    path = str(tmp_path / "u.zarr")
    chunks = {"2m_temperature": {"chunks": (3, 36, 36)}, "skt": {"chunks": (1, 18, 36)}}
    dataset.to_zarr(path, encoding=chunks, consolidated=False)
    xr.testing.assert_allclose(open_dataset(path)["skin_temperature"].compute(), warm(name="skt")["skt"].rename("s"))
    problem = found(path)[1]["uneven_chunks"]
    assert "1 (skin_temperature), 3 (2m_temperature)" in problem["where"] and not problem["fatal"]


def test_21_giant_and_tiny_chunks_are_told(tmp_path, monkeypatch):
    """earth2studio PR#707, PR#1176."""
    from weather_scnn.checks import layout

    path = str(tmp_path / "one.zarr")
    warm().to_zarr(path, encoding={"2m_temperature": {"chunks": (8, 36, 36)}}, consolidated=False)
    monkeypatch.setattr(layout, "_LARGE_CHUNK_BYTES", 2**14)
    assert "chunks hold 8 times" in found(path)[1]["large_chunks"]["where"]
    monkeypatch.setattr(layout, "_MANY_CHUNKS", 4)
    assert "8 chunks of 5 KiB" in found(stored(tmp_path, warm(), "many.zarr"))[1]["small_chunks"]["where"]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_22_both_formats_read_alike_with_zeros_kept_and_lost_chunks_told(tmp_path, zarr_format, consolidated):
    """weatherbenchX#63, anemoi-datasets#573, miles-credit#217: fill values and consolidated metadata."""
    import zarr

    path = str(tmp_path / "rain.zarr")
    dataset = warm(name="tp", units="m").assign(tp=lambda d: (d.tp * 0).assign_attrs(units="m"))
    dataset["tp"][0, 0, 0] = 1e-3
    dataset.drop_vars("tp").to_zarr(path, zarr_format=zarr_format, consolidated=False)
    group = zarr.open_group(path, mode="r+")
    options = {"dimension_names": dataset["tp"].dims} if zarr_format == 3 else {}
    array = group.create_array(
        "tp", shape=(8, 36, 36), chunks=(1, 36, 36), dtype="f4", fill_value=0, **options,
        config={"write_empty_chunks": True},
    )  # fmt: skip
    array.attrs.update({"units": "m"} | ({"_ARRAY_DIMENSIONS": list(dataset["tp"].dims)} if zarr_format == 2 else {}))
    array[:6] = dataset["tp"].values[:6]
    if consolidated:
        zarr.consolidate_metadata(path)
    opened = open_dataset(path)["total_precipitation"]
    assert int(opened.isnull().sum()) == 0 and float(opened.max()) == pytest.approx(1e-3)
    problem = found(path)[1]["missing_chunks"]
    assert problem["where"] == "2 of 8 chunks were never written and read as 0" and not problem["fatal"]


@pytest.mark.parametrize("lead", [pd.to_timedelta([6], unit="h"), np.array([6.0]), np.array([6])])
def test_23_and_24_lead_times_of_either_kind_give_the_valid_time(tmp_path, lead):
    """earth2studio#512, weatherbenchX#249, xarray#10099; ace#886, #1315: valid = init + lead."""
    dataset = warm(time=TIMES[:2]).expand_dims(step=lead, axis=1)
    dataset.to_netcdf(tmp_path / "f.nc")
    opened = open_dataset(str(tmp_path / "f.nc"))
    assert list(opened.time.values) == list((TIMES[:2] + pd.Timedelta(hours=6)).values)


@pytest.mark.parametrize("units", ["hours", None])
def test_23_forecast_stores_keep_timedeltas(tmp_path, units):
    dataset = warm(time=TIMES[:2]).expand_dims(prediction_timedelta=pd.to_timedelta([6, 12], unit="h"), axis=1)
    encoding = {"prediction_timedelta": {"units": units, "dtype": "int64"}} if units else {}
    dataset.to_zarr(tmp_path / "f.zarr", encoding=encoding, consolidated=False)
    opened = open_dataset(str(tmp_path / "f.zarr"))
    np.testing.assert_array_equal(opened.prediction_timedelta, np.array([6, 12], "timedelta64[h]"))


@pytest.mark.parametrize(("calendar", "message"), [("360_day", "360 days"), ("noleap", None)])
def test_24_calendars_that_are_not_ours(tmp_path, calendar, message):
    """ace#1324: a wrong calendar label. Dates of common years are kept as they are, those of 360 days refused."""
    dataset = warm().assign_coords(time=("time", np.arange(8) * 6.0))
    dataset["time"].attrs = {"units": "hours since 2001-02-28", "calendar": calendar}
    dataset.to_netcdf(tmp_path / "c.nc")
    if message:
        with pytest.raises(UserError, match=message):
            open_dataset(str(tmp_path / "c.nc"))
    else:
        times = open_dataset(str(tmp_path / "c.nc")).time.values
        assert times[-1] == np.datetime64("2001-03-01T18") and np.ptp(np.diff(times)) == np.timedelta64(0)


def test_check_prints_the_worst_first_and_each_problem_with_its_remedy(tmp_path):
    dataset = warm(latitude=LATITUDE[::-1], units="K")
    dataset["2m_temperature"] = dataset["2m_temperature"] - 273.15
    dataset["2m_temperature"].attrs["units"] = "K"
    report, _ = found(stored(tmp_path, dataset))
    console = rich.console.Console(file=io.StringIO(), width=80)
    report.render(console)
    lines = console.file.getvalue().splitlines()
    verdicts = [line.split(":")[0] for line in lines if line.startswith(("note:", "unusable:"))]
    assert (verdicts == ["unusable", "note"] and max(map(len, lines)) <= 80) or "zarr" in max(lines, key=len)
    assert all(problem["remedy"] for problem in report.problems)


def test_check_of_a_part(tmp_path):
    dataset = xr.merge([warm(), warm(name="skt")])
    dataset["skt"][:] = np.nan
    path = stored(tmp_path, dataset)
    report, _ = found(path, variables="t2m", time="2020-01-02")
    assert report.usable and report.variables[0]["period"][0] == "2020-01-02T00:00" and len(report.variables) == 1
    with pytest.raises(UserError, match="no times in 2031"):
        check_store(path, time="2031", progress=False)
