import dask.array
import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.writing import begin_store, write_netcdf, write_netcdf_groups


@pytest.fixture
def template():
    values = dask.array.zeros((4, 3), chunks=(1, 3), dtype="float32")
    return xr.Dataset({"temperature": (("time", "x"), values)}, {"time": np.arange(4)})


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_interrupted_store_is_continued_and_a_finished_one_is_kept(tmp_path, template, zarr_format):
    path = str(tmp_path / "s.zarr")
    store = begin_store(path, template, request={"days": 1}, zarr_format=zarr_format)
    template.isel(time=slice(0, 1)).drop_vars("time").to_zarr(path, region={"time": slice(0, 1)})
    store.mark_done("0")
    assert xr.open_zarr(path, consolidated=False).attrs["status"] == "incomplete"
    with pytest.raises(UserError, match="other options"):
        begin_store(path, template, request={"days": 2}, zarr_format=zarr_format)
    again = begin_store(path, template, request={"days": 1}, zarr_format=zarr_format)
    assert again.done == {"0"}
    again.finish()
    assert xr.open_zarr(path).attrs["status"] == "complete"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]
    with pytest.raises(UserError, match="--overwrite"):
        begin_store(path, template, request={"days": 1})
    assert begin_store(path, template, request={"days": 2}, overwrite=True).done == frozenset()


def test_something_else_at_the_path_is_not_touched(tmp_path, template):
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="already exists"):
        begin_store(str(tmp_path / "notes"), template, request={})


def test_netcdf_appears_only_when_whole(tmp_path, template):
    path = tmp_path / "stats.nc"
    bad = template.assign(odd=("x", np.array([object()] * 3)))
    with pytest.raises((TypeError, ValueError)):
        write_netcdf(bad, str(path))
    assert list(tmp_path.iterdir()) == []
    write_netcdf_groups({"/": template, "sums": template}, str(path))
    assert xr.open_dataset(path, group="sums").sizes["time"] == 4
    with pytest.raises(UserError, match="--overwrite"):
        write_netcdf(template, str(path))
