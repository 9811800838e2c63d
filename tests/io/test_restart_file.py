"""Restart files: what was saved last comes back, and what is damaged counts as nothing."""

import pathlib

import numpy as np

from weather_scnn.io import restart_file
from weather_scnn.io.restart_file import RestartFile
from weather_scnn.io.writing import begin_record


def test_what_was_saved_last_comes_back(tmp_path, monkeypatch):
    record = begin_record(str(tmp_path / "out.nc"), request={})
    file = RestartFile(record, "state")
    assert file.load() is None
    file.save({"position": np.asarray(3)})
    file.offer({"position": np.asarray(4)})  # a minute has not passed
    assert RestartFile(record, "state").load()["position"] == 3
    monkeypatch.setattr(restart_file, "_SECONDS_BETWEEN_SAVES", 0.0)
    file.offer({"position": np.asarray(5)})
    assert file.load()["position"] == 5 and RestartFile(record, "other").load() is None
    file.remove()
    file.remove()
    assert file.load() is None


def test_a_damaged_file_counts_as_none(tmp_path):
    file = RestartFile(begin_record(str(tmp_path / "out.nc"), request={}), "state")
    file.save({"position": np.arange(100)})
    path = next(each for each in pathlib.Path(tmp_path).rglob("state.npz"))
    whole = path.read_bytes()
    for content in (
        b"",
        b"not arrays",
        whole[:200],
        whole[: len(whole) // 2] + bytes(20) + whole[len(whole) // 2 + 20 :],
    ):
        path.write_bytes(content)
        assert file.load() is None
    path.write_bytes(whole)
    np.testing.assert_array_equal(file.load()["position"], np.arange(100))
