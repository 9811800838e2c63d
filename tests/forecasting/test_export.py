"""Packages: the same forecasts bit for bit from any address, a card that says what it is, and refusals in one line."""

import functools
import http.server
import json
import shutil
import threading

import numpy as np
import pytest
import xarray as xr

from weather_scnn.api import load_forecaster
from weather_scnn.errors import UserError
from weather_scnn.forecasting.export import export
from weather_scnn.forecasting.forecast import forecast
from weather_scnn.forecasting.trained_run import load_run
from weather_scnn.training.run_folder import is_package, require_forecaster

INIT = "2001-01-10"


@pytest.fixture(scope="module")
def package(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "model"
    lead = np.array([6], "timedelta64[h]").astype("timedelta64[ns]")
    axes = {"system": ["model"], "metric": ["rmse"], "lead_time": lead, "region": ["global"]}
    rmse = xr.DataArray(np.full((1, 1, 1, 1), 1.5), axes, tuple(axes), attrs={"units": "K"})
    scores = xr.Dataset({"2m_temperature": rmse}, attrs={"truth": "/disk/of/mine/truth.zarr", "init_times": 4})
    card = export(run, folder, scores=scores, licence="CC0", about="Made of a nature run.")
    return folder, card


def test_a_package_forecasts_as_the_run_bit_for_bit(run, package, small_config, tmp_path):
    folder, _ = package
    assert is_package(folder) and not is_package(run)
    require_forecaster(folder)
    for name, workdir in (("run", run), ("package", str(folder))):
        forecast(workdir, small_config.data.path, str(tmp_path / name), init=INIT, lead="12h", progress=False)
    with xr.open_zarr(tmp_path / "run") as one, xr.open_zarr(tmp_path / "package") as other:
        assert one.sizes["prediction_timedelta"] == 2
        for field in one.data_vars:
            np.testing.assert_array_equal(one[field], other[field])


def test_the_card_says_what_it_is_and_no_path_of_the_machine(package, small_config):
    folder, card = package
    assert (folder / "MODEL_CARD.md").read_text() == card
    assert "CC0" in card and "Made of a nature run." in card and "parameters" in card
    assert small_config.data.path.rpartition("/")[0] not in card
    assert "| 2m_temperature, K | 1.5 |" in card and "truth: truth.zarr; init_times: 4." in card and "/disk" not in card


def test_a_checkpoint_of_before_and_a_package_of_a_package(run, package, tmp_path):
    export(run, tmp_path / "early", step=5)
    early, late = (load_run(each).parts.parameters for each in (tmp_path / "early", package[0]))
    assert str(early) != str(late)
    export(package[0], tmp_path / "again")
    assert (tmp_path / "again" / "weights.npz").read_bytes() == (package[0] / "weights.npz").read_bytes()
    with pytest.raises(UserError, match="without steps"):
        load_run(package[0], 5)


def test_it_is_taken_over_http(package):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(package[0].parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        require_forecaster(f"{address}/model")
        there, here = load_forecaster(f"{address}/model"), load_forecaster(package[0])
        assert there.runs[0].normalisation.to_json() == here.runs[0].normalisation.to_json()
        with pytest.raises(UserError, match=r"no forecaster\.json"):
            require_forecaster(f"{address}/nothing")
        server.shutdown()


def test_nothing_is_overwritten_unasked(run, package, tmp_path):
    with pytest.raises(UserError, match="already exists"):
        export(run, package[0])
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(UserError, match="no package"):
        export(run, tmp_path / "letters", overwrite=True)
    shutil.copytree(package[0], tmp_path / "old")
    export(run, tmp_path / "old", step=5, overwrite=True)
    assert (tmp_path / "old" / "weights.npz").read_bytes() != (package[0] / "weights.npz").read_bytes()


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("weights.npz", lambda content: content[:-100], "fetch the package again"),
        ("weights.npz", lambda content: content[:-1] + b"x", "fetch the package again"),
        ("forecaster.json", lambda content: content[:200], "not all of it"),
        ("forecaster.json", lambda content: b'{"format": "a letter"}', "is not the description"),
        (
            "forecaster.json",
            lambda content: json.dumps({**json.loads(content), "format_version": 9}).encode(),
            "version 9 of the format",
        ),
    ],
)
def test_what_is_truncated_foreign_or_of_later_is_refused_in_one_line(package, tmp_path, file, spoil, message):
    folder = tmp_path / "spoilt"
    shutil.copytree(package[0], folder)
    (folder / file).write_bytes(spoil((folder / file).read_bytes()))
    with pytest.raises(UserError, match=message) as error:
        load_run(folder)
    assert "\n" not in str(error.value)
