"""Where commands may write: never on what they read, over nothing that the program has not made."""

import errno
import json
import os
import subprocess

import dask.array
import fsspec
import netCDF4
import numpy as np
import pytest
import xarray as xr

from weather_scnn.errors import UserError, place_fault
from weather_scnn.io.atomic import whole_file
from weather_scnn.io.marks import GENERATOR, Kind
from weather_scnn.io.outputs import check_output, check_workdir
from weather_scnn.io.replacing import place_beside
from weather_scnn.io.writing import begin_store, provenance, write_netcdf


def template(value="a"):
    values = dask.array.zeros((2, 3), chunks=(1, 3), dtype="float32")
    return xr.Dataset({"t": (("time", "x"), values)}, {"time": np.arange(2)}, {"value": value})


def finished(path, value="a"):
    """A whole store of this program."""
    begin_store(str(path), template(value), request={"value": value}, overwrite=True).finish()
    return str(path)


@pytest.fixture
def sources(tmp_path):
    """A store and a folder of files, as others have made them."""
    template().compute().to_zarr(tmp_path / "source.zarr", consolidated=False)
    (tmp_path / "files").mkdir()
    for month in ("01", "02"):
        (tmp_path / "files" / f"{month}.nc").write_bytes(b"CDF")
    (tmp_path / "link.zarr").symlink_to("source.zarr")
    (tmp_path / "door").symlink_to(".")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "source", "kind"),
    [
        ("source.zarr", "source.zarr", Kind.STORE),
        ("source.zarr/", "source.zarr", Kind.STORE),
        ("./files/../source.zarr", "source.zarr", Kind.STORE),
        ("link.zarr", "source.zarr", Kind.STORE),
        ("source.zarr", "link.zarr", Kind.STORE),
        ("door/door/source.zarr", "source.zarr", Kind.STORE),
        ("source.zarr", "file://{here}/source.zarr", Kind.STORE),
        ("file://{here}/link.zarr", "source.zarr", Kind.STORE),
        ("source.zarr/inside.zarr", "source.zarr", Kind.STORE),
        ("link.zarr/deep/inside.zarr", "source.zarr", Kind.STORE),
        (".", "source.zarr", Kind.STORE),
        ("files/out.zarr", "files", Kind.STORE),
        ("files/stats.nc", "files/*.nc", Kind.FILE),
        ("door/files/01.nc", "files/0*.nc", Kind.FILE),
        ("files", "files/*.nc", Kind.STORE),
        ("files/03.nc", "*/*.nc", Kind.FILE),
        ("files/deep/03.nc", "**/*.nc", Kind.FILE),
        ("files/01.nc", "files/01.nc", Kind.FILE),
        ("twin.nc", "files/01.nc", Kind.FILE),
        ("source.zarr/report", "source.zarr", Kind.REPORT),
    ],
)
def test_a_source_is_never_an_output(sources, monkeypatch, output, source, kind):
    monkeypatch.chdir(sources)
    os.link("files/01.nc", "twin.nc")
    output, source = output.format(here=sources), source.format(here=sources)
    before = sorted(sources.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"--input.*; choose another output"):
            check_output(output, kind, sources={"--input": source}, overwrite=overwrite)
    assert sorted(sources.rglob("*")) == before


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("gs://bucket/a.zarr", "gs://bucket/a.zarr/"),
        ("gs://bucket/a.zarr", "gcs://bucket/a.zarr"),
        ("gs://bucket/a.zarr/b.zarr", "gs://bucket/a.zarr"),
        ("gs://bucket/a", "gs://bucket/a/b.zarr"),
        ("gs://bucket/x/../a.zarr", "gs://bucket//a.zarr"),
        ("gs://bucket/a.zarr", "https://storage.googleapis.com/bucket/a.zarr"),
        ("s3://bucket/a.zarr", "https://bucket.s3.eu-central-1.amazonaws.com/a.zarr"),
        ("s3://bucket/a.zarr", "simplecache::s3a://bucket/a.zarr"),
    ],
)
def test_addresses_are_the_same_however_they_are_spelled(output, source):
    with pytest.raises(UserError, match="choose another output"):
        check_output(output, Kind.STORE, sources={"--truth": [source]}, overwrite=True)


def test_what_lies_beside_a_source_may_be_written(sources, monkeypatch):
    monkeypatch.chdir(sources)
    for output, source in (("out.zarr", "source.zarr"), ("source.zarr2", "source.zarr"), ("files/out.zarr", "files/*.nc"),
                           ("files/deeper/x.zarr", "files/*.nc")):  # fmt: skip
        check_output(output, Kind.STORE, sources={"--input": source, "--truth": None})
    assert sorted(path.name for path in sources.iterdir()) == ["door", "files", "link.zarr", "source.zarr"]


@pytest.mark.parametrize("kind", [Kind.STORE, Kind.REPORT])
def test_only_what_this_program_made_is_replaced(sources, kind):
    (sources / "papers").mkdir()
    (sources / "papers" / "thesis.tex").write_text("three years of work")
    (sources / "papers" / "index.html").write_text("<title>How good are the forecasts?</title>")
    (sources / "note").write_text("mine")
    for name in ("papers", "source.zarr", "note", "files"):
        with pytest.raises(UserError, match=r"that this program has made|no name for"):
            check_output(str(sources / name), kind, overwrite=True)
    (sources / "empty").mkdir()
    xr.Dataset().to_zarr(sources / "begun", consolidated=False)  # and killed before it had attributes
    for name in ("empty", "begun"):
        check_output(str(sources / name), kind, overwrite=True)
    (sources / "begun" / "thesis.tex").write_text("three years of work")
    with pytest.raises(UserError, match="this program has made"):
        check_output(str(sources / "begun"), kind, overwrite=True)


def test_a_file_is_known_by_its_attributes_not_by_its_name(tmp_path):
    (tmp_path / "statistics.nc").write_text("mine")
    template().compute().to_netcdf(tmp_path / "scores.nc")
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "folder.nc" / "kept").write_text("mine")
    for name in ("statistics.nc", "scores.nc", "folder.nc"):
        with pytest.raises(UserError, match="this program has made"):
            write_netcdf(template().compute(), str(tmp_path / name), overwrite=True)
    ours = template("new").compute().assign_attrs(provenance(source="s"))
    write_netcdf(ours, str(tmp_path / "ours.nc"))
    write_netcdf(ours.assign_attrs(value="newer"), str(tmp_path / "ours.nc"), overwrite=True)
    assert netCDF4.Dataset(tmp_path / "ours.nc").value == "newer"


def test_others_files_in_a_store_or_report_of_ours_keep_it(tmp_path):
    path = finished(tmp_path / "s.zarr")
    (tmp_path / "s.zarr" / ".DS_Store").write_text("litter")
    check_output(path, Kind.STORE, overwrite=True)
    (tmp_path / "s.zarr" / "t" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds t/notes\.txt"):
        begin_store(path, template("b"), request={"value": "b"}, overwrite=True)
    report = tmp_path / "report"
    (report / "figures").mkdir(parents=True)
    (report / "index.html").write_text(f"<html>{GENERATOR}")
    check_output(str(report), Kind.REPORT, overwrite=True)
    (report / "figures" / "talk.pptx").write_text("mine")
    with pytest.raises(UserError, match=r"figures/talk\.pptx"):
        check_output(str(report), Kind.REPORT, overwrite=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("out.nc", Kind.STORE), ("out.grib2", Kind.STORE), ("OUT.NC4", Kind.STORE), ("scores.zarr", Kind.FILE),
     ("scores.csv", Kind.FILE), ("report.html", Kind.REPORT), ("report.zarr", Kind.REPORT), ("gs://b/report", Kind.REPORT)],
)  # fmt: skip
def test_an_ending_of_another_format_is_refused(tmp_path, name, kind):
    with pytest.raises(UserError, match=r"end it in \.(nc|zarr)|folder"):
        check_output(name if "://" in name else str(tmp_path / name), kind)


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.STORE, Kind.REPORT])
def test_a_name_without_an_ending_will_do(tmp_path, kind):
    check_output(str(tmp_path / "scores"), kind)


def test_a_store_that_is_replaced_stays_whole_until_the_new_one_is(tmp_path):
    path = finished(tmp_path / "s.zarr", "old")
    new = begin_store(path, template("new"), request={"value": "new"}, overwrite=True)
    new.mark_done("0")
    assert xr.open_zarr(path).attrs["value"] == "old" and new.path != path and new.output == path
    with pytest.raises(UserError, match="--overwrite"):
        begin_store(path, template("new"), request={"value": "new"})
    again = begin_store(path, template("new"), request={"value": "new"}, overwrite=True)
    assert again.done == {"0"}
    again.finish()
    assert xr.open_zarr(path).attrs["value"] == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]


def test_another_request_discards_the_unfinished_replacement_and_old_records(tmp_path):
    path = str(tmp_path / "s.zarr")
    begin_store(path, template("first"), request={"value": "first"}).mark_done("0")  # interrupted, in its place
    begin_store(path, template("second"), request={"value": "second"}, overwrite=True).mark_done("0")  # and beside
    third = begin_store(path, template("third"), request={"value": "third"}, overwrite=True)
    assert third.done == frozenset()
    third.finish()
    assert xr.open_zarr(path).attrs["value"] == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]


def test_an_interrupted_first_run_with_overwrite_goes_on_too(tmp_path):
    path = str(tmp_path / "s.zarr")
    begin_store(path, template(), request={}, overwrite=True).mark_done("0")
    assert begin_store(path, template(), request={}, overwrite=True).done == {"0"}


@pytest.mark.parametrize("older", [False, True])
def test_a_store_killed_before_its_axes_were_written_is_begun_anew(tmp_path, monkeypatch, older):
    path = finished(tmp_path / "s.zarr", "old") if older else str(tmp_path / "s.zarr")
    write = xr.Dataset.to_zarr

    def killed(dataset, place, **options):
        write(dataset.drop_vars("time"), place, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(xr.Dataset, "to_zarr", killed)
        begin_store(path, template("new"), request={"value": "new"}, overwrite=older)
    begin_store(path, template("new"), request={"value": "new"}, overwrite=older).finish()
    assert xr.open_zarr(path)["time"].values.tolist() == [0, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]


def test_a_kill_in_the_middle_of_the_swap_loses_nothing(tmp_path, monkeypatch):
    path = finished(tmp_path / "s.zarr", "old")
    new = begin_store(path, template("new"), request={"value": "new"}, overwrite=True)
    new.mark_done("0")
    rename = os.rename

    def killed(source, target):
        if str(source) == place_beside(path):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        new.finish()
    monkeypatch.undo()
    assert not os.path.exists(path)
    with pytest.raises(UserError, match="already exists"):  # the older one is back
        begin_store(path, template("new"), request={"value": "new"})
    assert xr.open_zarr(path).attrs["value"] == "old"
    again = begin_store(path, template("new"), request={"value": "new"}, overwrite=True)
    assert again.done == {"0"}
    again.finish()
    assert xr.open_zarr(path).attrs["value"] == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.zarr"]


def test_a_store_in_a_bucket_is_replaced_in_the_end_too():
    memory = fsspec.filesystem("memory")
    path = "memory://outputs/s.zarr"
    finished(path, "old")
    new = begin_store(path, template("new"), request={"value": "new"}, overwrite=True)
    assert xr.open_zarr(path).attrs["value"] == "old"
    new.finish()
    assert xr.open_zarr(path).attrs["value"] == "new"
    assert [name.rsplit("/", 1)[1] for name in memory.ls("/outputs", detail=False)] == ["s.zarr"]
    memory.rm("/outputs", recursive=True)


def test_a_link_is_kept_and_its_target_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    finished(tmp_path / "disk" / "s.zarr", "old")
    (tmp_path / "s.zarr").symlink_to("disk/s.zarr")
    finished(tmp_path / "s.zarr", "new")
    assert (tmp_path / "s.zarr").is_symlink() and xr.open_zarr(tmp_path / "disk" / "s.zarr").attrs["value"] == "new"
    ours = template().compute().assign_attrs(provenance(source="s"))
    write_netcdf(ours, str(tmp_path / "disk" / "s.nc"))
    (tmp_path / "s.nc").symlink_to("disk/s.nc")
    write_netcdf(ours, str(tmp_path / "s.nc"), overwrite=True)
    assert (tmp_path / "s.nc").is_symlink()


def test_a_folder_with_the_name_of_a_record_is_kept(tmp_path):
    (tmp_path / "s.zarr.progress").mkdir()
    (tmp_path / "s.zarr.progress" / "thesis.tex").write_text("three years of work")
    with pytest.raises(UserError, match="in the way"):
        begin_store(str(tmp_path / "s.zarr"), template(), request={})
    assert [path.name for path in tmp_path.rglob("*")] == ["s.zarr.progress", "thesis.tex"]


def test_a_workdir_is_no_source_and_no_other_folder(sources, small_config):
    with pytest.raises(UserError, match=r"data\.path"):
        check_workdir(str(sources / "link.zarr" / "run"), {"data.path": str(sources / "source.zarr")})
    with pytest.raises(UserError, match=r"holds zarr\.json"):
        check_workdir(str(sources / "source.zarr"), {})
    project = sources / "project"
    project.mkdir()
    check_workdir(str(project), {"data.path": str(project / "data.zarr")})
    (project / "metrics.csv").write_text("years of results")
    with pytest.raises(UserError, match=r"holds metrics\.csv"):
        check_workdir(str(project), {})
    (project / "config.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r"holds config\.json"):
        check_workdir(str(project), {})
    (project / "config.json").write_text(json.dumps(small_config.to_json()))
    check_workdir(str(project), {})


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")],
)
def test_what_is_wrong_with_a_place_is_said_in_one_line(number, words):
    fault = place_fault(OSError(number, os.strerror(number), "/data/s.nc"))
    assert words in fault.what and fault.where == "/data/s.nc"
    if number != errno.EACCES:  # also where a library passes on the words alone
        assert words in place_fault(RuntimeError(f"INTERNAL: {os.strerror(number)} [while writing]"), "x").what
    assert place_fault(OSError(errno.ENOENT, "no such file")) is None


def test_a_full_disk_that_netcdf_hides_is_told(tmp_path, monkeypatch):
    write = type(tmp_path).write_bytes

    def full(path, data):
        if path.name.endswith(".probe"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
        return write(path, data)

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(UserError, match="quota"), whole_file(tmp_path / "s.nc"):
        raise RuntimeError("NetCDF: HDF error")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]).returncode:
        pytest.skip("only root may mount a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_and_a_read_only_disk(small_disk):
    large = xr.Dataset({"t": ("x", np.random.default_rng(0).random(50_000))})
    with pytest.raises(UserError, match="the disk is full"):
        write_netcdf(large, str(small_disk / "s.nc"))
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for kind, name in ((Kind.STORE, "s.zarr"), (Kind.FILE, "s.nc"), (Kind.REPORT, "deep/report")):
        with pytest.raises(UserError, match="read-only"):
            check_output(str(small_disk / name), kind)
    with pytest.raises(UserError, match="read-only"):
        check_workdir(str(small_disk / "run"), {})
