"""Winds as vectors: their scores from the definition, and their way to another grid."""

import numpy as np
import pytest
import xarray as xr

from eval.area_sums import AreaWeights, Scratch, length_sums
from eval.scores import ERROR_SUMS
from eval.scores.errors import ANOMALIES, ERRORS
from eval.scoring import open_scores, score
from tests.eval.defined_sums import LooseChunk
from weather_scnn.sphere.grid import Grid

WINDS = ["u_component_of_wind", "v_component_of_wind"]
LEAD = np.timedelta64(24, "h").astype("timedelta64[ns]")


def test_a_wind_by_hand(untyped):
    """One error of (3, 4) m/s at a valid point; the other point misses a component."""
    truth, regions, mask = np.zeros((1, 1, 2)), np.ones((1, 1, 2)), np.array([[[True, False]]])
    parts = tuple(
        LooseChunk({"m": np.array(each).reshape(1, 1, 1, 2)}, truth, truth - 1, regions)
        for each in ([3.0, 1.0], [4.0, np.nan])
    )
    found = ERROR_SUMS.of(LooseChunk({}, None, None, regions, mask=mask, winds=parts), "m")[:, 0, 0]
    # f' = (2, 3), o' = (-1, -1)
    expected = {
        "weight": 1, "squared_error": 25, "absolute_error": 5, "error": 5, "forecast_anomaly": 13**0.5,
        "truth_anomaly": 2**0.5, "forecast_anomaly_squared": 13, "truth_anomaly_squared": 2, "anomaly_product": -5,
    }  # fmt: skip
    np.testing.assert_allclose(found[:, 0], [expected[name] for name in ERRORS + ANOMALIES])
    weights = AreaWeights(np.array([[[1.0, 2.0]]]))
    pair = np.array([[[3.0, 0.0]]]), np.array([[[4.0, 2.0]]])
    zeros = (np.zeros((1, 1, 2)), np.zeros((1, 1, 2)))
    assert length_sums(pair, zeros, weights, Scratch(2)).item() == 5.0 + 2 * 2.0


@pytest.mark.parametrize("missing", [False, True])
def test_scores_of_a_wind_are_those_of_the_definition(world, make, tmp_path, missing):
    truth, forecast, normal = make.truth(), make.forecast(make.truth()), make.climatology()
    if missing:
        truth["u_component_of_wind"][:, 0, :4] = np.nan
        truth["v_component_of_wind"][:, 0, 3:5] = np.nan
    path = make.write(truth, tmp_path / "t.zarr")
    scores = score(
        world["forecast"], path, str(tmp_path / "s.nc"), climatology=world["climatology"], variables=WINDS,
        baselines=["persistence", "climatology"], bootstrap=0, progress=False,
    )["wind_vector"].sel(region="global", lead_time=LEAD, level=500)  # fmt: skip
    inits = forecast["time"].values
    observed = np.stack([truth[name].sel(time=inits + LEAD, level=500).values.astype(float) for name in WINDS])
    usual = np.stack([np.broadcast_to(normal[name][0, 0, 0], observed.shape[1:]) for name in WINDS])
    area = np.broadcast_to(np.diff(np.sin(np.radians(np.linspace(-90, 90, 9))))[:, None], (8, 16))
    systems = {
        "model": np.stack([forecast[name].sel(prediction_timedelta=LEAD, level=500).values for name in WINDS]),
        "persistence": np.stack([truth[name].sel(time=inits, level=500).values for name in WINDS]).astype(float),
        "climatology": usual,
    }
    used = np.isfinite(observed).all(axis=(0, 1)) & np.isfinite(systems["persistence"]).all(axis=(0, 1))

    def mean(values):
        return np.average(values[..., used], weights=area[used], axis=-1)

    def variance(vectors):
        return (mean((vectors**2).sum(axis=0)) - (mean(vectors) ** 2).sum(axis=0)).mean()

    for system, predicted in systems.items():
        error, f, o = predicted - observed, predicted - usual, observed - usual
        squares = (f**2).sum(axis=0), (o**2).sum(axis=0)
        with np.errstate(invalid="ignore"):
            acc = mean((f * o).sum(axis=0)) / np.sqrt(mean(squares[0]) * mean(squares[1]))
        expected = {
            "mse": mean((error**2).sum(axis=0)).mean(),
            "mae": mean(np.sqrt((error**2).sum(axis=0))).mean(),
            "acc": 0.0 if system == "climatology" else acc.mean(),
            "activity": np.sqrt(variance(f) / variance(o)),
            "explained_variance": 1 - variance(error) / variance(o),
        }
        for metric, value in expected.items():
            found = float(scores.sel(system=system, metric=metric))
            assert found == pytest.approx(value, rel=1e-5, abs=1e-6), (system, metric)
        assert np.isnan(scores.sel(system=system, metric="bias"))


def solid_rotation(grid: Grid, speed: float = 30.0, tilt: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Wind of a rotation about an axis tilted away from the poles, so that it blows across them."""
    lat, lon = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    u = speed * (np.cos(tilt) * np.cos(lat) - np.sin(tilt) * np.cos(lon) * np.sin(lat))
    return u, speed * np.sin(tilt) * np.sin(lon) + np.zeros(grid.shape)


@pytest.mark.parametrize("variables", [WINDS, WINDS[:1]])
def test_a_rotation_across_the_poles_survives_regridding(tmp_path, make, variables):
    """Truth and climatology on a fine grid, the forecast on a coarse one: components alone would err at the poles.

    With one component asked for, its partner is read all the same.
    """
    times = np.datetime64("2021-01-01", "ns") + np.arange(6) * np.timedelta64(6, "h")
    coarse, fine = Grid.equiangular(4, 18), Grid.equiangular(72, 36)

    def dataset(grid, lead):
        dims = ["time", *(["prediction_timedelta"] if lead else []), "latitude", "longitude"]
        coordinates = {"time": times[:2] if lead else times, "latitude": grid.latitude, "longitude": grid.longitude}
        if lead:
            coordinates["prediction_timedelta"] = np.array([6, 12]) * np.timedelta64(3600 * 10**9, "ns")
        shape = [2, 2] if lead else [times.size]
        fields = {
            name: (dims, np.broadcast_to(part, (*shape, *grid.shape)).astype(np.float32), {"units": "m s-1"})
            for name, part in zip(WINDS, solid_rotation(grid))
        }
        return xr.Dataset(fields, coordinates)

    paths = [
        make.write(dataset(coarse, True), tmp_path / "f.zarr"), make.write(dataset(fine, False), tmp_path / "t.zarr")
    ]  # fmt: skip
    climatology = dataset(fine, False).isel(time=0, drop=True).expand_dims(hour=[0, 6, 12, 18], dayofyear=range(1, 5))
    usual = make.write(climatology.transpose("hour", "dayofyear", ...), tmp_path / "c.zarr")
    scores = score(
        *paths, str(tmp_path / "s.nc"), climatology=usual, variables=variables, baselines=["climatology"],
        maps=["all"], bootstrap=0, progress=False,
    )  # fmt: skip
    maps = open_scores(str(tmp_path / "s.nc"), group="maps")
    for name in variables:
        # Around the poles a mean vector is the wind at the cell's centre within 0.3 m/s; components by themselves are
        # 2.3 m/s off, for their directions turn by 90 degrees within a cell.
        errors = np.abs(maps[name].sel(metric="bias", system="model"))
        assert float(errors.isel(latitude=[0, -1]).max()) < 0.35
        assert float(scores[name].sel(metric="rmse", system="climatology").max()) < 1e-4
    # The forecast regridded, the truth coarse: the other way around.
    swapped = score(
        make.write(dataset(fine, True), tmp_path / "f2.zarr"), make.write(dataset(coarse, False), tmp_path / "t2.zarr"),
        str(tmp_path / "s2.nc"), variables=variables, bootstrap=0, progress=False,
    )  # fmt: skip
    for name in variables:
        np.testing.assert_allclose(
            swapped[name].sel(metric="mse"), scores[name].sel(metric="mse", system=["model"]), rtol=1e-5
        )


def test_a_component_without_its_partner_is_said_to_be_regridded_as_a_scalar(make, tmp_path, caplog):
    truth = make.truth()[["u_component_of_wind", "land_sea_mask"]]
    path = make.write(truth, tmp_path / "t.zarr")
    forecast = make.write(make.forecast(truth), tmp_path / "f.zarr")
    score(forecast, path, str(tmp_path / "s.nc"), grid="8x4", bootstrap=0, progress=False)
    assert "u_component_of_wind of the truth is regridded as a scalar" in caplog.text
