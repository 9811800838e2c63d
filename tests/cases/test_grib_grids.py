"""GRIB values lie where the description of their grid puts them, whatever the order of the points."""

import itertools

import numpy as np
import pytest

from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError
from weather_scnn.io.datasets import open_dataset

eccodes = pytest.importorskip("eccodes")

LATITUDE = np.linspace(90.0, -90.0, 7)
LONGITUDE = np.arange(0.0, 360.0, 30.0)
MODES = [mode for mode in itertools.product((0, 1), repeat=4)]


def field(hour=0.0, latitude=LATITUDE, longitude=LONGITUDE):
    """Kelvin, different at every point, (latitude, longitude)."""
    y, x = np.radians(latitude)[:, None], np.radians(longitude)[None, :]
    return 280 + 8 * np.sin(y) + 5 * np.cos(y) * np.cos(x) + 2 * np.cos(x / 2 + 0.2) + 0.1 * hour


def in_scanning_order(values, west, north, columns, alternating):
    """Values of (latitude from north, longitude from 0) in the order that flag table 3.4 of WMO gives for the flags."""
    values = values[:, ::-1] if west else values
    values = values[::-1] if north else values
    lines = values.T.copy() if columns else values.copy()
    if alternating:
        lines[1::2] = lines[1::2, ::-1]
    return lines.ravel()


def write(file, values, *, edition=2, hour=0, flags=(0, 0, 0, 0), first=0.0, last=330.0, **keys):
    west, north, columns, alternating = flags
    message = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
    ends = (first, last)[:: -1 if west else 1]
    settings = {
        "Ni": 12, "Nj": 7, "iScansNegatively": west, "jScansPositively": north, "jPointsAreConsecutive": columns,
        **({"alternativeRowScanning": alternating} if edition == 2 else {}),
        "latitudeOfFirstGridPointInDegrees": -90.0 if north else 90.0,
        "latitudeOfLastGridPointInDegrees": 90.0 if north else -90.0,
        "longitudeOfFirstGridPointInDegrees": ends[0], "longitudeOfLastGridPointInDegrees": ends[1],
        "iDirectionIncrementInDegrees": 30.0, "jDirectionIncrementInDegrees": 30.0, "dataDate": 20200101,
        "dataTime": hour * 100, "bitsPerValue": 24, "shortName": "2t", **keys,
    }  # fmt: skip
    for key, value in settings.items():
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.asarray(values, np.float64).ravel())
    eccodes.codes_write(message, file)
    eccodes.codes_release(message)


def expect(path, hours=(0,)):
    opened = open_dataset(str(path))
    np.testing.assert_array_equal(opened["time"].dt.hour, hours)
    np.testing.assert_allclose(opened["latitude"], LATITUDE[::-1], atol=1e-5)
    np.testing.assert_allclose(opened["longitude"], LONGITUDE, atol=1e-5)
    for at, hour in enumerate(hours):
        np.testing.assert_allclose(opened["2m_temperature"].values[at], field(hour)[::-1], atol=1e-3)


@pytest.mark.parametrize("flags", MODES, ids=lambda flags: "".join(map(str, flags)))
def test_every_scanning_mode(tmp_path, flags):
    """ecmwf/cfgrib#236; both editions, but for alternating rows, which edition 1 has not."""
    for edition in (1, 2) if not flags[3] else (2,):
        with open(tmp_path / f"{edition}.grib", "wb") as file:
            for hour in (0, 6):
                write(file, in_scanning_order(field(hour), *flags), edition=edition, hour=hour, flags=flags)
        expect(tmp_path / f"{edition}.grib", (0, 6))


def test_a_record_whose_scanning_mode_changes(tmp_path):
    flags = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 1, 0), (1, 1, 0, 1)]
    with open(tmp_path / "mixed.grib2", "wb") as file:
        for hour, each in enumerate(flags):
            write(file, in_scanning_order(field(hour), *each), hour=hour, flags=each)
    expect(tmp_path / "mixed.grib2", (0, 1, 2, 3))


@pytest.mark.parametrize(("first", "last"), [(0.0, -30.0), (-180.0, 150.0), (180.0, 150.0), (30.0, 0.0), (0.0, 330.0)])
@pytest.mark.parametrize("edition", [1, 2])
def test_rows_that_begin_and_end_anywhere(tmp_path, first, last, edition):
    """Old GRIB 1 gives the last longitude of a row from 0 eastward as -30: taken as a corner it would begin the row."""
    columns = np.mod(first + LONGITUDE, 360.0)
    with open(tmp_path / "a.grib", "wb") as file:
        write(file, field(longitude=columns), edition=edition, first=first, last=last)
    expect(tmp_path / "a.grib")


def test_columns_of_one_map_are_read_without_the_others(tmp_path):
    with open(tmp_path / "a.grib2", "wb") as file:
        write(file, in_scanning_order(field(), 1, 1, 1, 1), flags=(1, 1, 1, 1))
    part = open_dataset(str(tmp_path / "a.grib2"))["2m_temperature"].isel(time=0, latitude=[1, 4], longitude=3)
    np.testing.assert_allclose(part.values, field()[::-1][[1, 4], 3], atol=1e-3)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("reduced_gg_sfc_grib2", "reduced Gaussian grid"),
        ("reduced_ll_sfc_grib1", "reduced latitude x longitude grid"),
        ("rotated_ll_sfc_grib2", "rotated latitude x longitude grid"),
        ("polar_stereographic_sfc_grib2", "polar stereographic"),
        ("sh_ml_grib2", "spherical-harmonic coefficients"),
    ],
)
def test_other_grids_are_told_as_what_they_are(tmp_path, sample, message):
    """The remedy is another grid; `check` says the same."""
    made = eccodes.codes_grib_new_from_samples(sample)
    with open(tmp_path / "a.grib", "wb") as file:
        eccodes.codes_write(made, file)
    with pytest.raises(UserError, match=message) as refused:
        open_dataset(str(tmp_path / "a.grib"))
    assert "regular grid" in refused.value.remedy or "latitude x longitude" in refused.value.remedy
    (problem,) = check_store(str(tmp_path / "a.grib"), progress=False).problems
    assert message in problem["where"] and problem["fatal"]


def test_a_record_whose_edition_and_kind_of_level_change(tmp_path, grib):
    """2 m is `surface` in edition 1 and `heightAboveGround` in edition 2; also dynamical-org/reformatters#115."""
    (tmp_path / "record").mkdir()
    with open(tmp_path / "mixed.grib", "wb") as both:
        for hour in (0, 6, 12, 18):
            with open(tmp_path / "record" / f"{hour:02d}.grib", "wb") as one:
                for file in (both, one):
                    grib(file, "2t", field(hour), edition=1 if hour < 12 else 2, hour=hour)
    for name in ("mixed.grib", "record"):
        expect(tmp_path / name, (0, 6, 12, 18))
        problems = {each["kind"] for each in check_store(str(tmp_path / name), progress=False).problems}
        assert "kinds_of_level" in problems and "second_field" not in problems


def test_a_second_kind_of_level_adds_the_times_that_the_first_lacks(tmp_path, grib):
    with open(tmp_path / "a.grib2", "wb") as file:
        for hour in (0, 6):
            grib(file, "tcc", field() * 0 + 0.25, hour=hour, edition=1)
        for hour in (6, 12):
            grib(file, "tcc", field() * 0 + 0.75, hour=hour)
    cover = open_dataset(str(tmp_path / "a.grib2"))["total_cloud_cover"]
    np.testing.assert_allclose(cover.mean(["latitude", "longitude"]), [0.25, 0.25, 0.75], atol=1e-4)
    problems = {each["kind"] for each in check_store(str(tmp_path / "a.grib2"), progress=False).problems}
    assert {"kinds_of_level", "second_field"} <= problems


def test_a_layer_is_another_thing_than_the_surface(tmp_path, grib):
    """CAPE of a mixed layer is not that of a parcel from the surface, though both are paramId 59."""
    with open(tmp_path / "a.grib2", "wb") as file:
        grib(file, "cape", field() * 0 + 100.0, hour=0, edition=1)
        grib(file, "cape", field() * 0 + 900.0, hour=6, edition=1, typeOfLevel="pressureFromGroundLayer")
    found = open_dataset(str(tmp_path / "a.grib2"), variables="cape")
    assert found["convective_available_potential_energy"].sizes["time"] == 1


def test_levels_below_one_hectopascal_are_kept(tmp_path, grib):
    """Unidata/gempak#56: GFS has them as isobaricInPa."""
    with open(tmp_path / "gfs.grib2", "wb") as file:
        for pascals in (40, 100, 50000):
            keys = {"scaleFactorOfFirstFixedSurface": 0, "scaledValueOfFirstFixedSurface": pascals}
            grib(file, "t", field() - 30 + pascals / 1e4, level=500, **keys)
    path = str(tmp_path / "gfs.grib2")
    opened = open_dataset(path)["temperature"]
    np.testing.assert_array_equal(opened["level"], [0.4, 1.0, 500.0])
    for level, pascals in ((0.4, 40), (1, 100), (500, 50000)):
        np.testing.assert_allclose(opened.sel(level=level)[0], field()[::-1] - 30 + pascals / 1e4, atol=1e-3)
    assert open_dataset(path, levels=[0.4])["temperature"].sizes["level"] == 1
    assert open_dataset(path, levels=[1, 500])["temperature"]["level"].dtype == np.int64


@pytest.mark.parametrize("order", [("0005", "0001"), ("0001", "0005")])
def test_of_messages_of_one_time_the_final_version_is_read(tmp_path, order):
    """expver 0001 is ERA5, 0005 ERA5T, whichever comes first."""
    with open(tmp_path / "a.grib", "wb") as file:
        for version in order:
            for hour in (0, 6) if version == "0001" else (0, 6, 12):
                keys = {"setLocalDefinition": 1, "localDefinitionNumber": 1, "expver": version}
                write(file, field(hour) + (0 if version == "0001" else 5), edition=1, hour=hour, **keys)
    opened = open_dataset(str(tmp_path / "a.grib"))["2m_temperature"]
    for at, (hour, more) in enumerate([(0, 0), (6, 0), (12, 5)]):
        np.testing.assert_allclose(opened[at], field(hour)[::-1] + more, atol=1e-3)
