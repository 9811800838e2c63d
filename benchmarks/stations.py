"""Times scoring at stations beside a loop over xarray's `interp`, in one run.

    python benchmarks/stations.py --json stations.json [--quick]

Case: 10,000 stations × 60 init times × 40 lead times of 2 m temperature at 64x32, six-hourly, from a Zarr store with a chunk an
init time; observations of every valid time in a parquet file. Ours is all of `eval.scoring.score --observations`: reading both,
bilinear interpolation, correction for height, sums over groups, scores, `scores.nc`; without the bootstrap, which the peer has
not. The peer reads the same table with pandas, interpolates each init time's maps with `xarray.Dataset.interp` at the stations,
looks observations up by valid time, and makes RMSE, MAE and bias by lead time; it does no checks, groups or maps of stations. Both
must give the same RMSE. `--quick` takes a tenth of the stations.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import numpy as np

# A script's folder is searched first, and this one holds a pipelines.py.
sys.path[:] = [each for each in sys.path if pathlib.Path(each).resolve() != pathlib.Path(__file__).resolve().parent]

INITS, LEADS, STEP = 60, 40, np.timedelta64(6, "h")
START = np.datetime64("2022-01-01", "ns")


def make_files(folder: pathlib.Path, stations: int) -> None:
    """A forecast store and a table of observations."""
    import pandas as pd
    import xarray as xr

    rng = np.random.default_rng(0)
    latitude, longitude = np.arange(-87.1875, 90, 5.625), np.arange(0, 360, 5.625)
    inits, leads = START + np.arange(INITS) * 2 * STEP, np.arange(1, LEADS + 1) * STEP
    usual = 288 - 30 * np.sin(np.radians(latitude))[:, None] ** 2
    field = (usual + 3 * rng.normal(size=(INITS, LEADS, 32, 64))).astype(np.float32)
    dims = ("time", "prediction_timedelta", "latitude", "longitude")
    axes = {
        "time": inits,
        "prediction_timedelta": leads.astype("timedelta64[ns]"),
        "latitude": latitude,
        "longitude": longitude,
    }
    store = xr.Dataset({"2m_temperature": (dims, field, {"units": "K"})}, axes)
    ground = 500 * 9.80665 * rng.uniform(size=(32, 64))
    store["geopotential_at_surface"] = (dims[2:], ground.astype(np.float32), {"units": "m2 s-2"})
    store.to_zarr(
        folder / "forecast.zarr", encoding={"2m_temperature": {"chunks": (1, LEADS, 32, 64)}}, consolidated=False
    )
    times = np.unique(inits[:, None] + leads)
    places = pd.DataFrame({
        "id": [f"S{number:05d}" for number in range(stations)], "latitude": rng.uniform(-80, 80, stations),
        "longitude": rng.uniform(-180, 180, stations), "elevation": rng.uniform(0, 1000, stations),
    })  # fmt: skip
    table = places.loc[np.repeat(np.arange(stations), times.size)].reset_index(drop=True)
    table["time"] = np.tile(times, stations)
    table["air_temperature"] = 280 + 5 * rng.normal(size=len(table))
    table.to_parquet(folder / "observations.parquet")


def ours(folder: pathlib.Path) -> np.ndarray:
    """RMSE by lead time."""
    from eval.request import StationRequest
    from eval.scoring import score

    seen = StationRequest(str(folder / "observations.parquet"))
    found = score(
        str(folder / "forecast.zarr"),
        None,
        str(folder / "scores.nc"),
        stations=seen,
        bootstrap=0,
        overwrite=True,
        progress=False,
    )
    return found["2m_temperature"].sel(metric="rmse").squeeze().values


def peer(folder: pathlib.Path) -> np.ndarray:
    """RMSE by lead time, from a loop over init times."""
    import pandas as pd
    import xarray as xr

    table = pd.read_parquet(folder / "observations.parquet")
    observed = table.set_index(["time", "id"])["air_temperature"].to_xarray()
    places = table.drop_duplicates("id").set_index("id").sort_index().to_xarray()
    store = xr.open_zarr(folder / "forecast.zarr", consolidated=False)
    around = xr.concat(
        [store, store.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude", data_vars="minimal"
    )
    at = {"latitude": places["latitude"], "longitude": places["longitude"] % 360}
    above = around["geopotential_at_surface"].interp(at) / 9.80665 - places["elevation"]
    squared, size, error = (np.zeros(LEADS) for _ in range(3))
    for init in store["time"].values:
        maps = around["2m_temperature"].sel(time=init).load().interp(at) + 0.0065 * above
        valid = init + store["prediction_timedelta"].values
        difference = maps.values - observed.sel(time=valid).values
        squared += np.nanmean(difference**2, axis=1)
        size += np.nanmean(np.abs(difference), axis=1)
        error += np.nanmean(difference, axis=1)
    return np.sqrt(squared / INITS)


def main() -> None:
    """Runs both and prints their times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    stations = 1000 if options.quick else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_files(folder, stations)
        seconds, results = {}, {}
        for run in (ours, peer):
            begun = time.perf_counter()
            results[run.__name__] = run(folder)
            seconds[run.__name__] = time.perf_counter() - begun
    np.testing.assert_allclose(results["ours"], results["peer"], rtol=1e-5)
    case = f"{stations} stations x {INITS} init times x {LEADS} lead times, 2 m temperature at 64x32"
    row = {
        "case": case, "ours": round(seconds["ours"], 2), "peer": round(seconds["peer"], 2), "peer_name": "xarray interp in a loop",
        "ratio": round(seconds["peer"] / seconds["ours"], 2), "unit": "s",
    }  # fmt: skip
    print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps([row], indent=1))


if __name__ == "__main__":
    main()
