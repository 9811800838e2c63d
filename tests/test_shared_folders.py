"""Every output can be read by whom the umask lets read, and belongs to the group of a group's folder."""

import dataclasses
import os
import pathlib
import stat

import pytest

from eval.reporting.report import write_report
from eval.scoring import score
from pipelines.climatology import compute_climatology
from pipelines.nature_run import simulate
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.sphere import Grid
from weather_scnn.training.loop import train

GROUP = 4242
UMASK = 0o002


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_store, small_config, small_statistics, drawing) -> pathlib.Path:
    """A group's folder with an output of every command, made by somebody whose group may write."""
    place = tmp_path_factory.mktemp("group")
    if not os.geteuid():
        os.chown(place, -1, GROUP)
    place.chmod(0o2775)
    training = dataclasses.replace(small_config.training, validation_days=(0.25,))
    data = dataclasses.replace(small_config.data, validation="2001-01-01")
    config = dataclasses.replace(small_config, training=training, data=data)
    quiet = {"progress": False}
    before = os.umask(UMASK)
    try:
        for _ in range(2):  # the second time in place of the first
            again = {"overwrite": (place / "regridded.zarr").exists()}
            compute_statistics(small_store, str(place / "stats.nc"), time=None, no_beam=True, **again, **quiet)
            regrid(small_store, str(place / "regridded.zarr"), Grid.equiangular(8, 4), no_beam=True, **again, **quiet)
        # On the grid of test_nature_run, which has compiled this already.
        simulate(str(place / "nature.zarr"), days=0.25, grid=Grid.equiangular(32, 16), spinup_days=0.25, **quiet)
        compute_climatology(
            small_store, str(place / "climatology.zarr"), time=None, variables=["2m_temperature"], no_beam=True, **quiet
        )
        with drawing():
            train(config, place / "run", statistics=small_statistics, **quiet)
        start = {"init": "2001-01-02:2001-01-02:12h", "lead": "12h"}
        forecast(str(place / "run"), small_store, str(place / "forecast.zarr"), **start, **quiet)
        score(str(place / "forecast.zarr"), small_store, str(place / "scores.nc"), bootstrap=0, **quiet)
        write_report(str(place / "scores.nc"), str(place / "report"), fields=["T2M"], **quiet)
    finally:
        os.umask(before)
    return place


@pytest.mark.parametrize(
    "output",
    ["nature.zarr", "regridded.zarr", "stats.nc", "climatology.zarr", "run", "forecast.zarr", "scores.nc", "report"],
)
def test_an_output_has_the_permissions_of_the_umask(folder, output):
    entries = [folder / output, *(folder / output).rglob("*")]
    for entry in entries:
        found = entry.stat()
        expected = (0o777 if entry.is_dir() else 0o666) & ~UMASK
        assert stat.S_IMODE(found.st_mode) & 0o777 == expected, entry
        if not os.geteuid():
            assert found.st_gid == GROUP, entry
    assert {each.name for each in folder.iterdir()} == {
        "nature.zarr", "regridded.zarr", "stats.nc", "climatology.zarr", "run", "forecast.zarr", "scores.nc", "report"
    }  # fmt: skip
