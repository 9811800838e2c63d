"""Tables that survive a kill, and what a person sees."""

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from weather_scnn.io.atomic import write_whole
from weather_scnn.training.log import COLUMNS, Display, RunLog, Table, read_metrics, read_table, scorecard_lines
from weather_scnn.training.scorecard import Scorecard

ROW = {"step": 1, "loss": 1.0, "grad_norm": 0.5, "learning_rate": 1e-3, "rollout_steps": 1}
CARD = Scorecard(
    1.0, ("temperature at 850 hPa", "geopotential at 500 hPa", "wind at 250 hPa"), (1.0, 3.0, 5.0),
    np.arange(1.0, 10.0).reshape(3, 3) * 50, np.arange(2.0, 11.0).reshape(3, 3) * 50,
)  # fmt: skip


def test_lines_after_the_checkpoint_and_half_lines_go(tmp_path):
    log = Table(tmp_path / "metrics.csv", COLUMNS, 0)
    log.write([ROW | {"step": step} for step in (1, 2, 3, 4)])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("5,0.1,,0.")
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == ["1", "2", "3", "4"]
    Table(tmp_path / "metrics.csv", COLUMNS, 2).write([ROW | {"step": 3}])
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == ["1", "2", "3"]


def test_a_table_of_an_earlier_version_is_kept(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,loss,grad_norm,learning_rate,rollout_steps\n1,2.0,3.0,4.0,1\n")
    Table(tmp_path / "metrics.csv", COLUMNS, 1).write([ROW | {"step": 2}])
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["loss"] for row in rows] == ["2.0", "1.0"] and rows[0]["loader_share"] == ""


def test_validation_is_written_beside_persistence(tmp_path):
    with RunLog(epath.Path(tmp_path), 0) as log:
        log.validation(7, CARD)
    rows = read_table(tmp_path / "validation.csv")
    assert len(rows) == 9 and rows[4] == {
        "step": "7", "variable": "geopotential at 500 hPa", "lead_days": "3", "rmse": "250", "persistence_rmse": "300"
    }  # fmt: skip


def test_headlines_come_first_and_fit_a_terminal():
    lines = scorecard_lines(200, CARD)
    assert lines[1].split()[0] == "geopotential" and "100 (150)" in lines[1]
    assert all(len(line) <= 80 for line in lines)


def test_in_a_log_file_lines_come_now_and_then(capsys):
    with Display(10, 0, enabled=True) as display:
        for step in range(1, 11):
            display.advance(step)
            display.report(ROW | {"step": step, "steps_per_second": 3.0, "samples_per_second": 24.0})
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and lines[-1] == "step 10/10  3.00 steps/s  24.0 samples/s  loss 1.0000  |g| 0.500"


def test_nothing_is_shown_when_not_wanted(capsys):
    with Display(3, 0, enabled=False) as display:
        display.say("hello")
        display.report(ROW | {"steps_per_second": 3.0, "samples_per_second": 24.0})
    assert capsys.readouterr() == ("", "")


def test_the_bar_fits_a_terminal_of_80_columns():
    script = (
        "from weather_scnn.training.log import Display\n"
        "with Display(75000, 0, enabled=True) as display:\n"
        "    display.advance(74999)\n"
        "    display.report(dict(step=74999, loss=1.2345, grad_norm=0.5, steps_per_second=12.3, samples_per_second=98))\n"
    )
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen([sys.executable, "-c", script], stderr=follower, env=environment)
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    assert process.wait() == 0
    text = seen.decode()
    assert "74999/75000" in text and "12.3 steps/s" in text and "98.0 samples/s" in text and "loss 1.2345" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert max(len(line) for line in re.split(r"[\r\n]+", plain)) <= 80


def test_a_remote_table_is_written_anew(monkeypatch):
    """An object store cannot append, and renaming there is a copy."""
    import weather_scnn.training.log as log

    written = []
    monkeypatch.setattr(log, "read_table", lambda path: [])
    monkeypatch.setattr(log, "write_whole", lambda path, text: written.append((str(path), text)))
    table = Table(epath.Path("gs://bucket/run/metrics.csv"), ("step", "loss"), 0)
    table.write([ROW])
    table.write([ROW | {"step": 2}])
    assert written[-1] == ("gs://bucket/run/metrics.csv", "step,loss\r\n1,1.0\r\n2,1.0\r\n") and len(written) == 3


def test_a_file_is_replaced_at_once(tmp_path):
    write_whole(tmp_path / "a.json", "one")
    write_whole(tmp_path / "a.json", b"two")
    assert (tmp_path / "a.json").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


@pytest.fixture(autouse=True)
def _no_terminal_size(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
