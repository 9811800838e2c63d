"""gs:// for real: the chain against a local emulator of Google Cloud Storage, with requests that fail."""

import collections
import dataclasses
import http.server
import logging
import threading
import types

import fsspec
import numpy as np
import pytest
import xarray as xr

from pipelines.climatology import compute_climatology
from pipelines.regrid import regrid
from pipelines.statistics import compute_statistics
from weather_scnn.checks.checking import check_store
from weather_scnn.errors import UserError
from weather_scnn.io import retry
from weather_scnn.io.datasets import open_dataset
from weather_scnn.io.statistics import read_statistics
from weather_scnn.sphere.grid import Grid

emulator = pytest.importorskip("gcp_storage_emulator.server")


class Faults:
    """Answers some requests with an error in place of what was asked for.

    Attributes:
        status: of the answer; gcsfs repeats a request after 503 and gives up after 400.
        match: part of the address; empty for none.
        times: how many answers are left.
        seen: how often each method was answered with an error.
    """

    def __init__(self):
        self.status, self.match, self.times = 0, "", 0
        self.seen = collections.Counter()

    def plan(self, status, match, times):
        self.status, self.match, self.times = status, match, times

    def answers(self, handler):
        if not self.match or self.match not in handler.path or self.times <= 0:
            return False
        self.times -= 1
        self.seen[handler.command] += 1
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        handler.send_error(self.status)
        return True


@pytest.fixture(scope="module")
def faults():
    return Faults()


@pytest.fixture(scope="module")
def bucket(faults):
    """Address of a bucket of the emulator."""
    with pytest.MonkeyPatch.context() as patch:
        turn = threading.Lock()  # the emulator's memory is not made for several threads

        def answering(answer):
            def method(handler):
                with turn:
                    if not faults.answers(handler):
                        answer(handler)

            return method

        for method in ("do_GET", "do_POST", "do_PUT", "do_DELETE"):
            patch.setattr(emulator.RequestHandler, method, answering(getattr(emulator.RequestHandler, method)))
        patch.setattr(emulator.RequestHandler, "log_message", lambda *rest: None)
        logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # each absent object is an error to it
        # The emulator's own server takes one request at a time and keeps five waiting; gcsfs sends a hundred.
        many = type("ManyRequests", (http.server.ThreadingHTTPServer,), {"request_queue_size": 512})
        # For the emulator alone: what else is imported meanwhile may build on the standard library's server.
        patch.setattr(emulator, "server", types.SimpleNamespace(HTTPServer=many))
        server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="weather")
        server.start()
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server._api._httpd.server_address[1]}")
        for protocol in ("gs", "gcs"):
            patch.setitem(fsspec.config.conf, protocol, {"token": "anon"})
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        yield "gs://weather"
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        server.stop()


def uploaded(path, address):
    filesystem, root = fsspec.core.url_to_fs(address)
    filesystem.put(path, root, recursive=True)
    return address


@pytest.fixture(scope="module")
def fields(small_store, tmp_path_factory):
    """Two fields and the mask of the small store of 16x8: each chunk is a request, and each request takes its time."""
    path = str(tmp_path_factory.mktemp("fields") / "fields.zarr")
    kept = xr.open_zarr(small_store)[["geopotential", "2m_temperature", "land_sea_mask"]]
    kept.to_zarr(path, consolidated=True, zarr_format=2)
    return path


@pytest.fixture(scope="module")
def remote_store(bucket, fields):
    """The same, uploaded."""
    return uploaded(fields, f"{bucket}/waves.zarr")


def test_the_pipelines_on_gs(bucket, remote_store, fields, tmp_path):
    """check, regrid, stats and climatology give what they give on a disk."""
    assert check_store(remote_store, progress=False).usable
    grids, tables, clims = {}, {}, {}
    for place in (bucket, str(tmp_path)):
        source = remote_store if place == bucket else fields
        grids[place], tables[place], clims[place] = (
            f"{place}/{name}" for name in ("grid.zarr", "stats.nc", "clim.zarr")
        )
        regrid(source, grids[place], Grid.equiangular(16, 8), no_beam=place == bucket, progress=False)
        compute_statistics(grids[place], tables[place], time="2001-01-01:2001-01-08", no_beam=True, progress=False)
        compute_climatology(
            grids[place],
            clims[place],
            time=None,
            window=5,
            variables=["2m_temperature"],
            no_beam=place != bucket,
            progress=False,
        )
    here = str(tmp_path)
    xr.testing.assert_equal(open_dataset(grids[bucket]), open_dataset(grids[here]))
    xr.testing.assert_equal(read_statistics(tables[bucket]), read_statistics(tables[here]))
    xr.testing.assert_equal(xr.open_zarr(clims[bucket]), xr.open_zarr(clims[here]))
    with pytest.raises(UserError, match="already exists"):
        compute_statistics(grids[bucket], tables[bucket], time=None, progress=False)
    listed = fsspec.core.url_to_fs(bucket)[0]
    listed.invalidate_cache()
    assert not [name for name in listed.ls("weather") if name.endswith((".progress", ".scratch"))]


@pytest.mark.slow
def test_training_forecasts_and_scores_on_gs(bucket, small_store, small_config, tmp_path):
    from eval.scoring import score
    from weather_scnn.forecasting.forecast import forecast
    from weather_scnn.training.loop import train

    remote_store = uploaded(small_store, f"{bucket}/all_waves.zarr")
    statistics, clim, forecasts = (f"{bucket}/{name}" for name in ("train.nc", "train_clim.zarr", "forecast.zarr"))
    compute_statistics(remote_store, statistics, time="2001-01-01:2001-01-08", no_beam=True, progress=False)
    compute_climatology(remote_store, clim, time=None, window=5, no_beam=True, progress=False)
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, path=remote_store))
    train(config, tmp_path / "run", statistics=statistics, progress=False)
    forecast(str(tmp_path / "run"), remote_store, forecasts, init="2001-01-03:2001-01-04", lead="12h", progress=False)
    scores = str(tmp_path / "scores.nc")
    score(forecasts, remote_store, scores, climatology=clim, baselines=["persistence"], progress=False)
    rmse = xr.open_dataset(scores)["geopotential"].sel(metric="rmse", system="model")
    assert np.isfinite(rmse).all()


def test_requests_that_fail_once_are_repeated(bucket, remote_store, tmp_path, faults):
    faults.plan(503, "waves.zarr%2Fgeopotential%2F2", 2)
    output = f"{bucket}/once.zarr"
    before = faults.seen["GET"]
    regrid(remote_store, output, Grid.equiangular(8, 4), variables=["geopotential"], no_beam=True, progress=False)
    assert faults.seen["GET"] == before + 2
    assert np.isfinite(open_dataset(output)["geopotential"]).all()


def test_requests_that_go_on_failing_stop_the_job_and_it_resumes(bucket, remote_store, faults, monkeypatch):
    monkeypatch.setattr(retry, "_PAUSES_SECONDS", (0.01, 0.01))
    output = f"{bucket}/stopped.zarr"
    options = {"variables": ["geopotential"], "no_beam": True, "progress": False}
    # Chunks of 24 to 29, 44: later pieces, read after earlier ones are done.
    faults.plan(400, "waves.zarr%2Fgeopotential%2F44", 10**6)
    with pytest.raises(UserError, match=r"geopotential cannot be read in .*repeat the command"):
        regrid(remote_store, output, Grid.equiangular(8, 4), **options)
    with pytest.raises(UserError, match="unfinished"):
        open_dataset(output)
    filesystem, root = fsspec.core.url_to_fs(output)
    filesystem.invalidate_cache()
    done = [name for name in filesystem.ls(f"{root}.progress", detail=False) if "-" in name.rsplit("/", 1)[1]]
    assert done
    start = min(int(key.rsplit("-", 1)[1]) for key in done)
    chunk = f"{root}/geopotential/c/{start}/0/0/0"
    before = filesystem.info(chunk)
    faults.plan(0, "", 0)
    regrid(remote_store, output, Grid.equiangular(8, 4), **options)
    filesystem.invalidate_cache()
    assert filesystem.info(chunk)["generation"] == before["generation"]  # not written again
    assert np.isfinite(open_dataset(output)["geopotential"]).all()
    assert not filesystem.exists(f"{root}.progress")


def test_a_write_that_fails_is_told_and_finished_later(bucket, remote_store, faults):
    output = f"{bucket}/refused.zarr"
    options = {"variables": ["2m_temperature"], "no_beam": True, "progress": False}
    # Uploads of objects name the bucket alone in their address; those of the template come first.
    started = []

    class AfterTheTemplate(str):
        def __contains__(self, _):
            return False

    answers = faults.answers
    faults.answers = lambda handler: (
        (handler.command == "POST" and bool(started) and (handler.send_error(403) or True)) or answers(handler)
    )
    from pipelines import regridding_items

    write = regridding_items._write
    try:
        with pytest.MonkeyPatch.context() as patch:

            def refused(*arguments):
                started.append(1)
                write(*arguments)

            patch.setattr(regridding_items, "_write", refused)
            with pytest.raises(UserError, match="repeat the command"):
                regrid(remote_store, output, Grid.equiangular(8, 4), **options)
    finally:
        faults.answers = answers
    regrid(remote_store, output, Grid.equiangular(8, 4), **options)
    assert np.isfinite(open_dataset(output)["2m_temperature"]).all()
