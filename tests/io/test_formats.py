"""A source format is a module and a line: references to chunks in other files, repositories of versions, one made up here."""

import contextlib
import json
import sys
import types

import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io import icechunk_stores, sources
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.in_memory import address_of
from weather_scnn.io.stored import StoredArray
from weather_scnn.io.stored_fields import stored_fields

VALUES = (280 + np.random.default_rng(0).normal(size=(4, 6, 8))).astype(np.float32)


@pytest.fixture
def dataset():
    coordinates = {
        "time": pd.date_range("2020-01-01", periods=4, freq="6h"),
        "latitude": np.linspace(75, -75, 6),
        "longitude": np.arange(8) * 45.0,
    }
    return xr.Dataset({"t2m": (tuple(coordinates), VALUES, {"units": "K"})}, coordinates)


def require_read(path):
    reader = FieldReader(str(path))
    assert isinstance(reader.fields["2m_temperature"].data, StoredArray)
    np.testing.assert_array_equal(reader.read("2m_temperature", slice(1, 3)), VALUES[1:3, ::-1])
    np.testing.assert_array_equal(reader.dataset["2m_temperature"].values, VALUES[:, ::-1])


def references(file, path):
    """kerchunk's layout, from where HDF5 keeps its chunks."""
    refs = {".zgroup": json.dumps({"zarr_format": 2}), ".zattrs": "{}"}
    with h5py.File(file) as held:
        for name, array in ((name, held[name]) for name in ("t2m", "time", "latitude", "longitude")):
            dims = ["time", "latitude", "longitude"] if name == "t2m" else [name]
            kept = {key: array.attrs[key] for key in ("units", "calendar") if key in array.attrs}
            attributes = {key: v.decode() if isinstance(v, bytes) else str(v) for key, v in kept.items()}
            refs[f"{name}/.zattrs"] = json.dumps({"_ARRAY_DIMENSIONS": dims, **attributes})
            chunks = array.chunks or array.shape
            refs[f"{name}/.zarray"] = json.dumps(
                {"zarr_format": 2, "shape": array.shape, "chunks": chunks, "dtype": array.dtype.str, "order": "C",
                 "fill_value": None, "compressor": None, "filters": None}
            )  # fmt: skip
            if array.chunks is None:
                refs[f"{name}/" + ".".join("0" * array.ndim)] = [str(file), array.id.get_offset(), array.nbytes]
                continue
            for number in range(array.id.get_num_chunks()):
                chunk = array.id.get_chunk_info(number)
                place = ".".join(str(start // size) for start, size in zip(chunk.chunk_offset, chunks))
                refs[f"{name}/{place}"] = [str(file), chunk.byte_offset, chunk.size]
    path.write_text(json.dumps({"version": 1, "refs": refs}))


def test_references_to_chunks_of_a_file_are_read_where_they_lie(tmp_path, dataset):
    dataset.to_netcdf(tmp_path / "a.nc", encoding={"t2m": {"chunksizes": (1, 6, 8)}})
    references(tmp_path / "a.nc", tmp_path / "a.json")
    require_read(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"some": "settings"}')
    with pytest.raises(UserError, match="neither Zarr nor netCDF nor GRIB"):
        FieldReader(str(tmp_path / "b.json"))


def test_references_that_kerchunk_makes(tmp_path, dataset):
    hdf = pytest.importorskip("kerchunk.hdf")
    dataset.to_netcdf(tmp_path / "a.nc", encoding={"t2m": {"chunksizes": (1, 6, 8), "zlib": True}})
    made = hdf.SingleHdf5ToZarr(str(tmp_path / "a.nc"), inline_threshold=0).translate()
    (tmp_path / "a.json").write_text(json.dumps(made))
    require_read(tmp_path / "a.json")


def test_references_in_tables(tmp_path, dataset, monkeypatch):
    """Two chunks a table, as kerchunk lays them out."""
    hdf, tables = pytest.importorskip("kerchunk.hdf"), pytest.importorskip("fsspec.implementations.reference")
    dataset.to_netcdf(tmp_path / "a.nc", encoding={"t2m": {"chunksizes": (1, 6, 8), "zlib": True}})
    made = hdf.SingleHdf5ToZarr(str(tmp_path / "a.nc"), inline_threshold=0).translate()
    (tmp_path / "a.parquet").mkdir()
    files = fsspec.filesystem("file")
    table = tables.LazyReferenceMapper.create(str(tmp_path / "a.parquet"), fs=files, record_size=2, engine="pyarrow")
    for key, value in sorted(made["refs"].items(), key=lambda each: "/.z" not in each[0]):
        table[key] = value
    table.flush()
    require_read(tmp_path / "a.parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pyarrow. is not installed.*pip install 'weather-scnn\[virtual\]'"):
        FieldReader(str(tmp_path / "a.parquet"))


@contextlib.contextmanager
def virtual(folder, dataset):
    """A dataset of VirtualiZarr, whose chunks lie in a netCDF file of the folder."""
    virtualizarr = pytest.importorskip("virtualizarr")
    parsers, registry = pytest.importorskip("virtualizarr.parsers"), pytest.importorskip("obspec_utils.registry")
    obstore = pytest.importorskip("obstore.store")
    dataset.to_netcdf(folder / "a.nc", encoding={"t2m": {"chunksizes": (1, 6, 8)}})
    stores = registry.ObjectStoreRegistry({"file://": obstore.LocalStore()})
    address = f"file://{folder}/a.nc"
    with virtualizarr.open_virtual_dataset(address, registry=stores, parser=parsers.HDFParser()) as found:
        yield found


def test_references_that_virtualizarr_makes(tmp_path, dataset):
    with virtual(tmp_path, dataset) as found:
        found.vz.to_kerchunk(str(tmp_path / "a.json"), format="json")
    require_read(tmp_path / "a.json")


@pytest.mark.filterwarnings("ignore")
def test_repositories_of_icechunk(tmp_path, dataset):
    icechunk = pytest.importorskip("icechunk")
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repository"))
    session = icechunk.Repository.create(storage).writable_session("main")
    dataset.to_zarr(session.store, consolidated=False, encoding={"t2m": {"chunks": (1, 6, 8)}})
    session.commit("analyses")
    require_read(tmp_path / "repository")
    (tmp_path / "repository").rename(tmp_path / "v0.1.icechunk")
    require_read(tmp_path / "v0.1.icechunk")


@pytest.mark.filterwarnings("ignore")
def test_repositories_of_icechunk_whose_chunks_lie_in_other_files(tmp_path, dataset):
    icechunk = pytest.importorskip("icechunk")
    configuration = icechunk.RepositoryConfig.default()
    configuration.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(f"file://{tmp_path}/", icechunk.local_filesystem_store(str(tmp_path)))
    )
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repository"))
    repository = icechunk.Repository.create(storage, configuration)
    repository.save_config()
    session = repository.writable_session("main")
    with virtual(tmp_path, dataset) as found:
        found.vz.to_icechunk(session.store)
    session.commit("references")
    require_read(tmp_path / "repository")


def test_a_repository_in_a_cloud_is_opened_with_fsspecs_options(monkeypatch):
    icechunk = pytest.importorskip("icechunk")
    asked = []
    monkeypatch.setattr(icechunk, "s3_storage", lambda **options: asked.append(options))
    monkeypatch.setattr("fsspec.config.conf", {"s3": {"anon": True, "client_kwargs": {"region_name": "us-west-2"}}})
    icechunk_stores._storage("s3://dynamical-noaa-gfs/noaa-gfs-forecast/v0.2.7.icechunk/")
    (options,) = asked
    assert {name: options[name] for name in ("bucket", "prefix", "region", "anonymous", "from_env")} == {
        "bucket": "dynamical-noaa-gfs", "prefix": "noaa-gfs-forecast/v0.2.7.icechunk", "region": "us-west-2",
        "anonymous": True, "from_env": False,
    }  # fmt: skip


def test_icechunk_that_is_not_installed_is_named(tmp_path, monkeypatch):
    (tmp_path / "repository/snapshots").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "icechunk", None)
    with pytest.raises(UserError, match=r"needs the package icechunk; pip install 'weather-scnn\[virtual\]'"):
        FieldReader(str(tmp_path / "repository"))


def test_a_new_format_is_a_module_and_a_line(tmp_path, dataset, monkeypatch):
    made = types.ModuleType("numpy_archives")
    made.recognised = lambda path, start: path.endswith(".npy")
    made.opened = lambda path, *, decode_timedelta, cache: [
        stored_fields(dataset.copy(data={"t2m": np.load(path)}).assign_attrs(title="from an archive"))
    ]
    monkeypatch.setitem(sys.modules, "numpy_archives", made)
    monkeypatch.setitem(sources.FORMATS, "archive", "numpy_archives")
    np.save(tmp_path / "a.npy", VALUES)
    require_read(tmp_path / "a.npy")
    assert FieldReader(str(tmp_path / "a.npy")).fields.attrs["title"] == "from an archive"


def test_a_dataset_in_memory_of_numpy_and_of_dask(dataset):
    for held in (dataset, dataset.chunk(time=2)):
        with address_of(held) as address:
            np.testing.assert_array_equal(FieldReader(address).read("2m_temperature", [3, 0]), VALUES[[3, 0], ::-1])
