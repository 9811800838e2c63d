"""Trackers with servers that work, sleep or are dead: training never waits, and says once what it left out."""

import http.server
import json
import logging
import threading
import time

import pytest
from etils import epath

from weather_scnn.errors import UserError
from weather_scnn.training import trackers
from weather_scnn.training.configuration import TrainingConfig
from weather_scnn.training.log import RunLog, read_metrics

ROW = {"step": 1, "loss": 1.0, "grad_norm": 0.5, "learning_rate": 1e-3, "rollout_steps": 1}


@pytest.fixture
def server(monkeypatch):
    """A tracker called mlflow, whose `begin` and `tell` may be changed; what it was told."""

    class Server:
        def __init__(self):
            self.told, self.ended, self.begun = [], [], []

        def begin(self, about):
            self.begun.append(about.run)
            if not about.run:
                about.remember("run 1")
            return self

        def tell(self, step, values):
            self.told.append((step, values))

        def close(self, *, finished):
            self.ended.append(finished)

    found = Server()
    kind = trackers._Kind("MLflow", "mlflow", lambda about: found.begin(about))
    monkeypatch.setitem(trackers.KINDS, "mlflow", kind)
    monkeypatch.setattr(trackers, "_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(trackers, "_LITTLE_PATIENCE_SECONDS", 0.3)
    return found


def log_steps(folder, steps, resumed=0):
    """Seconds of writing so many lines, and of the end."""
    with RunLog(epath.Path(folder), resumed, ("mlflow",), {"training.batch_size": 4}) as log:
        begin = time.perf_counter()
        for step in range(resumed + 1, resumed + steps + 1):
            log.step(ROW | {"step": step, "validation_loss": float("nan")}, {"temperature at 850 hPa": 2.0})
        during = time.perf_counter() - begin
    return during, time.perf_counter() - begin - during


def test_a_server_that_works_is_told_all_and_a_resumed_run_is_the_same(server, tmp_path):
    log_steps(tmp_path, 3)
    assert [step for step, _ in server.told] == [1, 2, 3] and server.ended == [True]
    assert server.told[0][1]["error/temperature_850"] == 2.0 and server.told[0][1]["training/loss"] == 1.0
    assert "training/validation_loss" not in server.told[0][1]  # of no number nothing can be drawn
    log_steps(tmp_path, 2, resumed=3)
    log_steps(tmp_path, 1)
    assert server.begun == ["", "run 1", ""]
    with pytest.raises(KeyboardInterrupt), RunLog(epath.Path(tmp_path), 0, ("mlflow",)) as log:
        log.step(ROW, {})
        raise KeyboardInterrupt
    assert server.ended[-1] is False


@pytest.mark.parametrize("fault", ["no run begins", "nothing is taken", "it sleeps"])
def test_a_server_that_fails_costs_no_time_and_is_told_of_once(fault, server, tmp_path, monkeypatch, caplog):
    asleep = threading.Event()

    def fail(*_):
        raise ConnectionError("refused")

    if fault == "no run begins":
        server.begin = fail
    elif fault == "nothing is taken":
        server.tell = fail
    else:
        monkeypatch.setattr(trackers, "_WAITING", 5)
        server.tell = lambda *_: asleep.wait(60)
    with caplog.at_level(logging.WARNING):
        during, end = log_steps(tmp_path, 300)
    asleep.set()
    # TensorBoard and the table take most of that; a step of training takes longer than a line.
    assert during < 3 and end < 2
    assert len(read_metrics(tmp_path / "metrics.csv")) == 300
    messages = [record.message for record in caplog.records if "MLflow" in record.message]
    assert len(messages) == 2 and "training goes on" in messages[0]
    assert "lacks" in messages[1] and int(messages[1].split()[2]) >= 290


def test_what_is_not_there_is_told_before_any_work(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"names wandb, which is not installed; pip install 'weather-scnn\[wandb\]'"):
        trackers.require_trackers(("wandb",))
    with pytest.raises(UserError, match=r"training\.trackers names 'neptune'; give mlflow or wandb, or both"):
        TrainingConfig(trackers=("neptune",))


@pytest.fixture
def sleeping_server():
    """The address of a server that answers nothing for long."""

    class Sleeper(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            time.sleep(30)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sleeper)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_mlflow_keeps_a_run_in_a_folder_and_goes_on_with_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_steps(tmp_path, 3)
    log_steps(tmp_path, 2, resumed=3)
    client = mlflow.MlflowClient((tmp_path / "mlflow").as_uri())
    run = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    assert [metric.step for metric in client.get_metric_history(run, "training/loss")] == [1, 2, 3, 4, 5]
    found = client.get_run(run)
    assert found.info.status == "FINISHED" and found.data.params["training.batch_size"] == "4"
    assert len(client.search_runs([found.info.experiment_id])) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_real_clients_of_a_sleeping_server_cost_no_time(kind, sleeping_server, tmp_path, monkeypatch, caplog):
    pytest.importorskip(kind)
    for name, value in {"MLFLOW_TRACKING_URI": sleeping_server, "WANDB_BASE_URL": sleeping_server,
                        "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "2"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with RunLog(epath.Path(tmp_path), 0, (kind,)) as log:
        time.sleep(8)  # its package is there by now
        begin = time.perf_counter()
        for step in range(1, 201):
            log.step(ROW | {"step": step}, {})
        assert time.perf_counter() - begin < 2
        begin = time.perf_counter()
    assert time.perf_counter() - begin < 25
    assert len(read_metrics(tmp_path / "metrics.csv")) == 200
    if kind == "wandb":  # for `wandb sync`
        (kept,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
        assert kept.stat().st_size > 5000
    else:
        assert any("MLflow lacks 200 lines" in record.message for record in caplog.records)
