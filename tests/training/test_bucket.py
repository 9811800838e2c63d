"""A run whose workdir is a bucket: checkpoints, logs and curves on gs://, killed and continued, then forecast from."""

import json
import os
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest
import xarray as xr

from tests.pipelines.test_google_storage import bucket, faults  # noqa: F401
from weather_scnn.training.log import read_metrics

CONFIG = """
import json
from weather_scnn.training.configuration import Config
def get_config():
    return Config.from_json(json.loads({text!r}))
"""


@pytest.fixture(autouse=True)
def generations(monkeypatch):
    """Downloads name the object's generation, as the cloud's do and the emulator's do not; TensorStore needs it."""
    objects = pytest.importorskip("gcp_storage_emulator.handlers.objects")
    download = objects.download

    def with_generation(request, response, storage, *rest, **options):
        download(request, response, storage, *rest, **options)
        if response.status.value < 400:
            file = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
            response["x-goog-generation"], response["x-goog-metageneration"] = file["generation"], "1"

    monkeypatch.setattr(objects, "download", with_generation)


@pytest.fixture
def command(bucket):  # noqa: F811
    """Starts a command of the package that knows the emulator as a cloud's machines know the cloud."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "FSSPEC_GS_TOKEN": "anon",
        "FSSPEC_GCS_TOKEN": "anon",
        "TENSORSTORE_GCS_HTTP_URL": os.environ["STORAGE_EMULATOR_HOST"],
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anonymous",
    }

    def start(*words):
        command = [sys.executable, "-m", "weather_scnn.cli", *map(str, words)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def finished(process):
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return said + errors


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_continued_and_forecast_from(
    command, bucket, training, small_statistics, small_store, whole_run, tmp_path  # noqa: F811
):  # fmt: skip
    workdir, config = f"{bucket}/run", tmp_path / "small.py"
    config.write_text(CONFIG.format(text=json.dumps(training(checkpoint_every=3, log_every=1).to_json())))
    words = "train", "--config", config, "--workdir", workdir, "--set", f"data.statistics={small_statistics}"
    files, root = fsspec.core.url_to_fs(workdir)

    def there(name):
        files.invalidate_cache()
        return files.exists(f"{root}/checkpoints/{name}")

    process = command(*words)
    while not there("3/commit_success.txt"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    text = finished(command(*words))
    assert "resumed at step" in text and "Trained" in text
    files.invalidate_cache()
    rows = read_metrics(f"{workdir}/metrics.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    whole = {row["step"]: float(row["loss"]) for row in read_metrics(whole_run[0] / "metrics.csv")}
    mine = {row["step"]: float(row["loss"]) for row in rows}
    np.testing.assert_allclose([mine[step] for step in whole], list(whole.values()), rtol=1e-5)
    assert files.cat(f"{root}/curves.png")[:4] == b"\x89PNG" and files.ls(f"{root}/tensorboard")
    made = tmp_path / "forecast.zarr"
    words = "forecast", "--workdir", workdir, "--input", small_store, "--output", made, "--lead", "12h"
    finished(command(*words, "--init", "2001-01-02:2001-01-02T06"))
    assert np.isfinite(xr.open_zarr(made)["geopotential"].values).all()
    # Another run begins with its weights, needs no statistics, and lies in the bucket too.
    words = "train", "--config", config, "--workdir", f"{bucket}/new", "--set", f"training.start_from={workdir}"
    text = finished(command(*words, "--set", "training.stages=2x1"))
    assert f"begins with the weights of {workdir}@10 (moving average)" in text
    # One that is refused after its folder was made leaves nothing there.
    words = "train", "--config", config, "--workdir", f"{bucket}/refused", "--set", f"training.start_from={workdir}"
    process = command(*words, "--set", "model.scalar_channels=8")
    _, errors = process.communicate(timeout=300)
    files.invalidate_cache()
    assert process.returncode == 1 and "and this network of" in errors.splitlines()[-1], errors
    assert not files.exists(f"{root.rpartition('/')[0]}/refused")


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_line(command, bucket, training, small_statistics, tmp_path):  # noqa: F811
    config = tmp_path / "small.py"
    config.write_text(CONFIG.format(text=json.dumps(training().to_json())))
    words = "train", "--config", config, "--workdir", "gs://no-such-bucket/run"
    process = command(*words, "--set", f"data.statistics={small_statistics}")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    (line,) = errors.splitlines()
    assert line.startswith("error: gs://no-such-bucket/run: cannot be written to (FileNotFoundError")
