"""Runners, kills and resumes, sources that fail."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from pipelines import regridding_items, running, telling
from pipelines.beam import check_options, runner_and_options
from pipelines.climatology import compute_climatology
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.cli import app
from weather_scnn.errors import UserError
from weather_scnn.io import retry
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.writing import begin_record
from weather_scnn.sphere.grid import Grid

TARGET = Grid.equiangular(16, 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    grid = Grid.equiangular(72, 36)
    rng = np.random.default_rng(0)
    dataset = xr.Dataset(
        {
            f"{name}_component_of_wind": (
                ("time", "level", "latitude", "longitude"),
                rng.normal(0, 9, (64, 2, *grid.shape)).astype("float32"),
                {"units": "m s-1"},
            )
            for name in "uv"
        },
        {
            "time": pd.date_range("2020-01-01", periods=64, freq="6h"),
            "level": [500, 850],
            "latitude": grid.latitude,
            "longitude": grid.longitude,
        },
    )
    dataset["temperature"] = (dataset["u_component_of_wind"] + 280).assign_attrs(units="K")
    path = str(tmp_path_factory.mktemp("running") / "source.zarr")
    dataset.chunk(time=1).to_zarr(path)
    return path


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """What every runner must give, to the bit: the stores and the statistics of the plain run."""
    return outputs(source, tmp_path_factory.mktemp("whole"), no_beam=True)


def outputs(source, folder, **options):
    regrid(source, str(folder / "grid.zarr"), TARGET, progress=False, **options)
    compute_statistics(source, str(folder / "stats.nc"), time=None, progress=False, **options)
    compute_climatology(
        source, str(folder / "clim.zarr"), time=None, window=5, variables=["temperature"], progress=False, **options
    )
    return [
        open_dataset(str(folder / "grid.zarr")).load(),
        xr.load_dataset(folder / "stats.nc"),
        xr.load_dataset(folder / "clim.zarr", engine="zarr"),
    ]


def assert_same(found, whole):
    for ours, plain in zip(found, whole):
        xr.testing.assert_equal(ours, plain)


def test_beams_threads_give_the_same_bits(source, whole, tmp_path):
    assert_same(outputs(source, tmp_path, beam_options=["--direct_num_workers=3"]), whole)


@pytest.mark.slow
def test_beams_processes_give_the_same_bits(source, whole, tmp_path):
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert_same(outputs(source, tmp_path, beam_options=options), whole)


@pytest.mark.slow
def test_a_dask_cluster_of_processes_gives_the_same_bits(source, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        options = ["--runner=DaskRunner", f"--dask_client_address={cluster.scheduler_address}"]
        assert_same(outputs(source, tmp_path, beam_options=options), whole)
        with pytest.raises(UserError, match="already exists"):
            regrid(source, str(tmp_path / "grid.zarr"), TARGET, beam_options=options, progress=False)


CLOUD = {
    "DataflowRunner": [
        "--project=weather",
        "--region=us-central1",
        "--temp_location=gs://weather/tmp",
        "--job_name=regrid",
        "--max_num_workers=50",
        "--machine_type=n2-standard-4",
        "--sdk_container_image=gcr.io/weather/weather-scnn:latest",
    ],
    "FlinkRunner": ["--flink_master=localhost:8081", "--environment_type=LOOPBACK", "--parallelism=8"],
    "SparkRunner": ["--spark_master_url=spark://localhost:7077", "--environment_type=DOCKER"],
}


@pytest.mark.parametrize("runner", CLOUD)
def test_options_of_other_runners_reach_beam(runner):
    from apache_beam.options.pipeline_options import (
        FlinkRunnerOptions,
        GoogleCloudOptions,
        SparkRunnerOptions,
        StandardOptions,
        WorkerOptions,
    )

    arguments = [f"--runner={runner}", *CLOUD[runner]]
    check_options(arguments)
    found, options, here = runner_and_options(arguments)
    assert found is None and not here and options.view_as(StandardOptions).runner == runner
    if runner == "DataflowRunner":
        cloud = options.view_as(GoogleCloudOptions)
        assert (cloud.project, cloud.region, cloud.temp_location) == ("weather", "us-central1", "gs://weather/tmp")
        assert options.view_as(WorkerOptions).max_num_workers == 50
    elif runner == "FlinkRunner":
        assert options.view_as(FlinkRunnerOptions).flink_master == "localhost:8081"
    else:
        assert options.view_as(SparkRunnerOptions).spark_master_url == "spark://localhost:7077"


def test_options_are_checked_before_any_work(source, tmp_path):
    for arguments, message in (
        (["--runnr=DirectRunner"], "did you mean --runner"),
        (["--direct_num_workers=many"], "check their values"),
    ):
        for job in (
            lambda options: regrid(source, str(tmp_path / "a.zarr"), TARGET, beam_options=options, progress=False),
            lambda options: compute_statistics(
                source, str(tmp_path / "a.nc"), time=None, beam_options=options, progress=False
            ),
        ):
            with pytest.raises(UserError, match=message):
                job(arguments)
    assert not list(tmp_path.iterdir())


def test_a_killed_job_resumes_and_leaves_finished_chunks_alone(source, whole, tmp_path):
    """kill -9 in the middle of a run of the command; then the command again."""
    output, record = tmp_path / "grid.zarr", tmp_path / "grid.zarr.progress"
    slow = "import time; from weather_scnn.io.field_reader import FieldReader as Reader; read = Reader._ask\n"
    slow += "Reader._ask = lambda *a: (time.sleep(0.15), read(*a))[1]\n"
    slow += "from weather_scnn.cli import main; main()"
    arguments = ["regrid", "--input", source, "--output", str(output), "--grid", "16x8", "--no-beam"]
    process = subprocess.Popen([sys.executable, "-c", slow, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline and len(list(record.glob("*-*"))) < 3:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = sorted(path.name for path in record.glob("*-*"))
    assert 3 <= len(done) < 16
    with pytest.raises(UserError, match="unfinished"):
        open_dataset(str(output))

    def chunks():
        """Files of the finished pieces, with when they were written."""
        return {
            path: path.stat().st_mtime_ns
            for key in done
            for start in [int(key.rsplit("-", 1)[1])]
            for path in (output / key.rsplit("-", 1)[0] / "c" / str(start)).rglob("*")
            if path.is_file()
        }

    before = chunks()
    assert len(before) == len(done)
    regrid(source, str(output), TARGET, no_beam=True, progress=False)
    assert chunks() == before
    assert_same([open_dataset(str(output)).load()], whole[:1])
    assert not record.exists()


def test_statistics_go_on_from_what_was_read(source, whole, tmp_path, monkeypatch):
    read, count = FieldReader._ask, []

    def fails_later(self, *arguments):
        count.append(arguments)
        if len(count) > 9:
            raise OSError("connection reset")
        return read(self, *arguments)

    monkeypatch.setattr(retry, "_PAUSES_SECONDS", ())
    with monkeypatch.context() as patch:
        patch.setattr(FieldReader, "_ask", fails_later)
        with pytest.raises(UserError, match="cannot be read in 2020"):
            compute_statistics(source, str(tmp_path / "stats.nc"), time=None, no_beam=True, progress=False)
    done = len(list(pathlib.Path(tmp_path, "stats.nc.progress").glob("*-*")))
    assert done > 0 and not (tmp_path / "stats.nc").exists()
    again = []
    monkeypatch.setattr(FieldReader, "_ask", lambda self, *rest: again.append(rest) or read(self, *rest))
    compute_statistics(source, str(tmp_path / "stats.nc"), time=None, no_beam=True, progress=False)
    assert_same([xr.load_dataset(tmp_path / "stats.nc")], whole[1:2])
    assert not (tmp_path / "stats.nc.progress").exists()
    total = []
    monkeypatch.setattr(FieldReader, "_ask", lambda self, *rest: total.append(rest) or read(self, *rest))
    compute_statistics(source, str(tmp_path / "other.nc"), time=None, no_beam=True, progress=False)
    assert len(again) < len(total)


def test_a_hiccup_of_the_source_passes_unnoticed(source, whole, tmp_path, monkeypatch):
    read, failed = FieldReader._ask, set()

    def fails_once(self, *arguments):
        if str(arguments) not in failed:
            failed.add(str(arguments))
            raise ConnectionResetError("reset by peer")
        return read(self, *arguments)

    monkeypatch.setattr(FieldReader, "_ask", fails_once)
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", (0.0, 0.0))
    regrid(source, str(tmp_path / "grid.zarr"), TARGET, no_beam=True, progress=False)
    assert failed
    assert_same([open_dataset(str(tmp_path / "grid.zarr")).load()], whole[:1])


def test_the_commands_take_the_options(source, tmp_path):
    def command(*arguments, status=0):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == status, result.output
        return result.stderr

    grid, clim = tmp_path / "grid.zarr", tmp_path / "clim.zarr"
    common = ("regrid", "--input", source, "--variables", "t,u,v", "--grid", "16x8")
    command(
        *common, "--output", grid, "--gaussian", "--method", "bilinear", "--levels", "600,850", "--interpolate-levels",
        "--coverage", "0.4", "--winds", "scalar", "--chunks", "time=4,level=1", "--shards", "time=8",
        "--max-memory", "1GB", "--no-beam",
    )  # fmt: skip
    written = xr.open_zarr(grid)
    assert written.attrs["grid_kind"] == "gaussian" and written["level"].values.tolist() == [600, 850]
    assert written["temperature"].encoding["chunks"] == (4, 1, 8, 16) and written.attrs["winds"] == "scalar"
    command("climatology", "--input", grid, "--output", clim, "--variables", "t", "--quantiles", "0.9", "--no-beam")
    assert "temperature_quantile" in xr.open_zarr(clim)
    command("stats", "--input", grid, "--output", tmp_path / "stats.nc", "--max-memory", "1GB", "--no-beam")
    told = command(*common, "--output", tmp_path / "no.zarr", "--max-memory", "200MB", status=1)
    assert "use --max-memory" in told and not (tmp_path / "no.zarr").exists()
    told = command("climatology", "--input", grid, "--output", tmp_path / "no.zarr", "--quantiles", "high", status=1)
    assert "0.05,0.95" in told


def test_the_cost_is_told_first(source, tmp_path, capsys):
    regrid(source, str(tmp_path / "grid.zarr"), TARGET, no_beam=True)
    told = capsys.readouterr().err
    # 64 times of 3 fields on 2 levels: 72x36 read, 16x8 written.
    assert "64 times; reads 3.98 MB, writes 197 kB (uncompressed), at most " in told and "of memory a worker" in told


@pytest.fixture(scope="module")
def rain(tmp_path_factory):
    """Two days of hourly rain, with two negative values 24 hours apart, and one chunk that is damaged in a copy."""
    grid = Grid.equiangular(16, 8)
    values = np.full((48, *grid.shape), 1e-4, "float32")
    values[[5, 30], 1, 2] = -1e-7
    dataset = xr.Dataset(
        {"total_precipitation": (("time", "latitude", "longitude"), values, {"units": "m"})},
        {
            "time": pd.date_range("2020-01-01", periods=48, freq="1h"),
            "latitude": grid.latitude,
            "longitude": grid.longitude,
        },
    )
    folder = tmp_path_factory.mktemp("rain")
    for name in ("whole", "damaged"):
        dataset.chunk(time=4).to_zarr(folder / f"{name}.zarr", zarr_format=2, consolidated=True)
    (folder / "damaged.zarr" / "total_precipitation" / "3.0.0").write_bytes(b"x")
    return folder


MADE = {"variables": ["total_precipitation_6hr"], "step": "6h", "progress": False}
CLIPPED = "total_precipitation_6hr: 2 negative values"


@pytest.mark.parametrize("options", [{"no_beam": True}, {"beam_options": ["--direct_num_workers=2"]}])
def test_clipped_values_are_counted_once_however_the_work_is_shared(rain, tmp_path, options, capsys):
    regrid(str(rain / "whole.zarr"), str(tmp_path / "out.zarr"), TARGET, **MADE, **options)
    assert CLIPPED in capsys.readouterr().err


def test_what_an_interrupted_run_has_clipped_is_counted_by_the_next(rain, tmp_path, capsys, monkeypatch):
    source, output = str(rain / "whole.zarr"), str(tmp_path / "out.zarr")
    write = regridding_items._write

    def dies(job, path, name, piece, values):
        if piece.start >= 3:
            raise OSError(28, "No space left on device")
        write(job, path, name, piece, values)

    with monkeypatch.context() as patch:
        patch.setattr(regridding_items, "_write", dies)
        patch.setattr(running, "workers", lambda: 1)
        with pytest.raises(UserError, match="free some space"):
            regrid(source, output, TARGET, no_beam=True, **MADE)
    assert "negative values" not in capsys.readouterr().err
    regrid(source, output, TARGET, no_beam=True, **MADE)
    assert CLIPPED in capsys.readouterr().err


def test_what_other_processes_warn_of_is_told_once(source, tmp_path, caplog):
    """Two pieces as two worker processes leave them: the driver of neither is here."""
    record = begin_record(str(tmp_path / "out.nc"), request={})
    for key in "ab":
        with running.work_item("of another process", record, key) as finish:
            logging.getLogger("weather_scnn.io").warning("a chunk was never written")
            if key == "b":
                logging.getLogger("pipelines.regrid").warning("only here")
            finish()
    logging.getLogger("weather_scnn").removeHandler(telling._heard)
    logging.getLogger("pipelines").removeHandler(telling._heard)
    caplog.clear()
    running.run_work_items(print, {}, record, job=running.new_job(), description="none", no_beam=True, progress=False)
    assert [each.getMessage() for each in caplog.records] == ["a chunk was never written", "only here"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--direct_running_mode=multi_processing", "--direct_num_workers=2"],
        ["--runner=DaskRunner"],
    ],
    ids=["processes", "dask"],
)
def test_other_processes_bring_their_counts_and_one_line_of_their_errors(rain, tmp_path, options):
    def command(name, *more):
        arguments = ["regrid", "--input", rain / name, "--output", tmp_path / name, "--grid", "16x8", *more]
        line = [sys.executable, "-m", "weather_scnn.cli", *map(str, arguments), "--", *options]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    whole = command("whole.zarr", "--variables", "total_precipitation_6hr", "--step", "6h")
    assert whole.returncode == 0 and CLIPPED in whole.stderr
    damaged = command("damaged.zarr", "--variables", "total_precipitation")
    assert damaged.returncode == 1 and "Traceback" not in damaged.stderr
    *_, last = damaged.stderr.strip().splitlines()
    assert last.startswith("error: ") and "total_precipitation cannot be read in 2020-01-01T08" in last


def test_a_worker_that_was_ended_from_outside_is_told_with_what_helps():
    found = running.explained(RuntimeError("Worker subprocess exited with return code -9"), "out.zarr")
    assert "more memory, or take fewer of them" in str(found)
    text = "Traceback …\nweather_scnn.io.sources.UnfinishedStore: a.zarr: is unfinished; repeat it [while running 'W']"
    assert str(running.explained(RuntimeError(text), "out.zarr")) == "a.zarr: is unfinished; repeat it"


def test_options_of_beam_that_nobody_would_read_are_refused(source, tmp_path):
    for arguments, options, message in (
        (["runner=DataflowRunner"], {}, "is no option of Beam"),
        (["--direct_num_workers=2"], {"no_beam": True}, "together with no Beam"),
    ):
        for job, name in ((compute_statistics, "a.nc"), (compute_climatology, "a.zarr")):
            with pytest.raises(UserError, match=message):
                job(source, str(tmp_path / name), time=None, beam_options=arguments, progress=False, **options)
