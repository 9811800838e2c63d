"""Times scoring beside xskillscore on dask, and beside a plain read of the same chunks, all in one run.

    python benchmarks/evaluation.py --json evaluation.json [--quick]

Cases: 365 init times × 20 lead times × 5 variables at 64x32, and 20 × 20 × 5 at 240x121; RMSE, MSE, MAE, bias and ACC over
the globe from Zarr stores in the layout of `weather-scnn forecast`, `regrid` and `climatology`: forecast chunks of 10
lead times, truth one time a chunk, zstd. Each run is a process of its own; systems take turns; seconds, of the clock and
of all cores, are the least of the repetitions; memory is the most that the process held above what it held after its
imports. The peer, a minute a run, takes a turn less often, and always the whole case.

- ours: `eval.scoring.score`, all of it: opening, pairing, reading, scoring, writing `scores.nc`; without the bootstrap,
  which the peer has not (its time is a row of its own).
- xskillscore: mse, mae, me and pearson_r with weights, of dask arrays of the stores' chunks, in one `dask.compute`. The truth
  and the climatology are paired with the forecasts in memory beforehand, outside its time and memory: dask takes minutes
  to select them by valid time.
- plain read: the same chunks of the three stores through Zarr, each once, in blocks as large as ours.
- TensorStore's read: the same by the library that ours reads with, twice as fast as Zarr.

Memory must not grow with the number of init times: it is measured for 120, 365 and 1460 of them.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

# A script's folder is searched first, and this one holds a pipelines.py.
sys.path[:] = [each for each in sys.path if pathlib.Path(each).resolve() != pathlib.Path(__file__).resolve().parent]

VARIABLES = {
    "surface_pressure": ("Pa", 9.7e4, 1e3),
    "temperature": ("K", 270.0, 10.0),
    "specific_humidity": ("kg kg-1", 5e-3, 2e-3),
    "2m_temperature": ("K", 285.0, 12.0),
    "mean_sea_level_pressure": ("Pa", 1.01e5, 800.0),
}
LEADS, STEP_HOURS = 20, 12
PEER = "xskillscore on dask"
READ_BYTES = 2**23


def make_stores(folder: pathlib.Path, inits: int, longitudes: int, latitudes: int, poles: bool) -> None:
    """Truth of travelling waves, forecasts that are the truth plus growing noise, and a climatology."""
    import xarray as xr

    from weather_scnn.sphere.grid import Grid

    grid = Grid.equiangular(longitudes, latitudes, poles=poles)
    rng = np.random.default_rng(0)
    hours = np.arange(0, 24 * inits + LEADS * STEP_HOURS, STEP_HOURS)
    start = np.datetime64("2020-01-01", "ns")
    space = {"latitude": grid.latitude, "longitude": grid.longitude}
    leads = np.arange(1, LEADS + 1) * np.timedelta64(STEP_HOURS, "h").astype("timedelta64[ns]")
    lat, lon = np.radians(grid.latitude)[None, :, None], np.radians(grid.longitude)[None, None, :]
    truth, forecast, climatology = {}, {}, {}
    for name, (units, mean, size) in VARIABLES.items():
        usual = mean + size * np.cos(2 * lat[0]) + np.zeros(grid.shape)
        field = np.repeat(usual[None], hours.size, 0)
        for wave in range(1, 9):
            field += (
                size
                / wave
                * np.cos(lat) ** wave
                * np.cos(wave * lon + rng.uniform(0, 6) - hours[:, None, None] / (9 * wave))
            )
        field = (field + 0.05 * size * rng.normal(size=field.shape)).astype(np.float32)
        truth[name] = (("time", "latitude", "longitude"), field, {"units": units})
        valid = np.arange(inits)[:, None] * (24 // STEP_HOURS) + 1 + np.arange(LEADS)[None, :]
        noise = rng.normal(size=(64, *grid.shape)).astype(np.float32) * np.float32(0.02 * size)
        values = field[valid]
        for lead in range(LEADS):
            values[:, lead] += (lead + 1) * noise[rng.integers(0, 64, inits)]
        forecast[name] = (("time", "prediction_timedelta", "latitude", "longitude"), values, {"units": units})
        shape = (4, 366, *grid.shape)
        climatology[name] = (
            ("hour", "dayofyear", *space),
            np.broadcast_to(usual, shape).astype(np.float32),
            {"units": units},
        )
    times = start + hours * np.timedelta64(1, "h")
    init_times = start + np.arange(inits) * np.timedelta64(1, "D")
    days = max(1, min(61, 2**19 // (longitudes * latitudes)))
    for path, variables, coordinates, chunks in (
        ("truth.zarr", truth, {"time": times}, (1,)),
        ("forecast.zarr", forecast, {"time": init_times, "prediction_timedelta": leads}, (1, 10)),
        ("climatology.zarr", climatology, {"hour": [0, 6, 12, 18], "dayofyear": np.arange(1, 367)}, (1, days)),
    ):
        encoding = {name: {"chunks": (*chunks, *grid.shape)} for name in variables}
        dataset = xr.Dataset(variables, {**coordinates, **space}, {"calendar": "month-day"})
        dataset.to_zarr(folder / path, encoding=encoding, mode="w", consolidated=False)


def peak_bytes() -> int:
    """The most memory that this process has held since `forget_peak`."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def forget_peak() -> int:
    """Resets the mark of `peak_bytes`; gives what is held now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def score_ours(folder: pathlib.Path, bootstrap: int) -> float:
    """Seconds of a whole scoring run."""
    from eval.scoring import score

    begun = time.perf_counter()
    score(
        str(folder / "forecast.zarr"),
        str(folder / "truth.zarr"),
        str(folder / "scores.nc"),
        climatology=str(folder / "climatology.zarr"),
        bootstrap=bootstrap,
        overwrite=True,
        progress=False,
    )
    return time.perf_counter() - begun


def score_peer(folder: pathlib.Path) -> float:
    """Seconds of the same scores by xskillscore; the mean square errors go to a file, to be compared."""
    import dask
    import dask.array
    import xarray as xr
    import xskillscore as xs

    from weather_scnn.io.climatology import day_numbers
    from weather_scnn.sphere.grid import latitude_weights

    forecast = xr.open_zarr(folder / "forecast.zarr", decode_timedelta=True, consolidated=False)
    truth = xr.open_zarr(folder / "truth.zarr", chunks=None, consolidated=False).load()
    climatology = xr.open_zarr(folder / "climatology.zarr", chunks=None, consolidated=False).load()
    weights = xr.DataArray(
        latitude_weights(truth["latitude"].values), dims="latitude", coords={"latitude": truth["latitude"]}
    )
    weights = weights.expand_dims(longitude=truth["longitude"]).transpose("latitude", "longitude")
    valid = forecast["time"] + forecast["prediction_timedelta"]
    position = np.searchsorted(truth["time"].values, valid.values)
    hour = valid.dt.hour.values // 6
    day = day_numbers(valid.values.ravel(), "month-day").reshape(valid.shape) - 1
    paired = {}
    for name in VARIABLES:
        dims, chunks = forecast[name].dims, forecast[name].chunks
        for kind, values in (("truth", truth[name].values[position]), ("normal", climatology[name].values[hour, day])):
            paired[kind, name] = xr.DataArray(
                dask.array.from_array(values, chunks), dims=dims, coords=forecast[name].coords
            )
    begun = time.perf_counter()
    lazy, space = {}, ["latitude", "longitude"]
    for name in VARIABLES:
        f, o, c = forecast[name], paired["truth", name], paired["normal", name]
        mse = xs.mse(f, o, dim=space, weights=weights)
        lazy[name] = xr.Dataset(
            {
                "mse": mse.mean("time"),
                "rmse": mse.mean("time") ** 0.5,
                "mae": xs.mae(f, o, dim=space, weights=weights).mean("time"),
                "bias": xs.me(f, o, dim=space, weights=weights).mean("time"),
                "acc": xs.pearson_r(f - c, o - c, dim=space, weights=weights).mean("time"),
            }
        )
    found = dask.compute(lazy)[0]
    seconds = time.perf_counter() - begun
    np.savez(folder / "peer.npz", **{name: scores["mse"].values for name, scores in found.items()})
    return seconds


def read_plainly(folder: pathlib.Path, *, by_tensorstore: bool = False) -> float:
    """Seconds to read every chunk that scoring needs, once, in blocks."""
    import tensorstore
    import xarray as xr
    import zarr

    with xr.open_zarr(folder / "forecast.zarr", decode_timedelta=True, consolidated=False) as forecast:
        last = forecast["time"].values[-1] + forecast["prediction_timedelta"].values[-1]
    days = int((last - np.datetime64("2020-01-01")) // np.timedelta64(1, "D")) + 1
    begun = time.perf_counter()

    def opened(store: str, name: str):
        if not by_tensorstore:
            return zarr.open_array(folder / f"{store}.zarr" / name, mode="r")
        spec = {"driver": "zarr3", "kvstore": f"file://{folder}/{store}.zarr/{name}/"}
        return tensorstore.open(spec, read=True, open=True).result()

    for name in VARIABLES:
        for array in (opened("forecast", name), opened("truth", name)):
            length = int(array.shape[0])
            each = max(1, READ_BYTES // (4 * int(np.prod(array.shape[1:]))))
            for begin in range(0, length, each):
                _ = np.asarray(array[begin : min(begin + each, length)])
        climatology = opened("climatology", name)
        for hour in (0, 2):
            _ = np.asarray(climatology[hour, : min(days, 366)])
    return time.perf_counter() - begun


def worker(task: str, folder: pathlib.Path) -> None:
    """Runs one task in this process and prints what it took as JSON."""
    # All that xarray would import at its first use, so that no system's time holds imports.
    import dask.array  # noqa: F401
    import distributed  # noqa: F401
    import netCDF4  # noqa: F401
    import pint  # noqa: F401
    import xarray as xr
    import xskillscore  # noqa: F401

    import eval.scoring  # noqa: F401

    # xarray's and Zarr's first store takes 0.1 s more than the next: they look for backends and start a thread.
    with xr.open_dataset(folder / "truth.zarr", engine="zarr", chunks=None, consolidated=False) as first:
        first.isel(time=0).load()
    held, cpu = forget_peak(), time.process_time()
    seconds = {
        "ours": lambda: score_ours(folder, 0),
        "ours with bootstrap": lambda: score_ours(folder, 1000),
        "peer": lambda: score_peer(folder),
        "read": lambda: read_plainly(folder),
        "fast read": lambda: read_plainly(folder, by_tensorstore=True),
    }[task]()
    cpu = time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "bytes": peak_bytes() - held}))


def run(task: str, folder: pathlib.Path) -> dict[str, float]:
    """One task in a process of its own."""
    command = [sys.executable, __file__, "--worker", task, str(folder)]
    root = str(pathlib.Path(__file__).parents[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def agree(folder: pathlib.Path) -> float:
    """Largest relative difference of the two systems' mean square errors."""
    from eval.scoring import open_scores

    ours, peer = open_scores(str(folder / "scores.nc")), np.load(folder / "peer.npz")
    differences = []
    for name in VARIABLES:
        mse = ours[name].sel(system="model", metric="mse", region="global").values
        differences.append(np.abs(mse / peer[name] - 1).max())
    return float(max(differences))


def measure(
    inits: int, size: tuple[int, int, bool], repetitions: int, peer_repetitions: int
) -> dict[str, dict[str, float]]:
    """Least seconds and largest memory of every task."""
    import zarr

    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_stores(folder, inits, *size)
        for turn in range(repetitions):
            for task in (
                "ours",
                "read",
                "fast read",
                "ours with bootstrap",
                *(["peer"] if turn < peer_repetitions else []),
            ):
                once = run(task, folder)
                held = found.setdefault(task, once)
                found[task] = {
                    "seconds": min(held["seconds"], once["seconds"]),
                    "cpu": min(held["cpu"], once["cpu"]),
                    "bytes": max(held["bytes"], once["bytes"]),
                }
        stores = ("forecast.zarr", "truth.zarr")
        total = sum(zarr.open_group(folder / store, mode="r")[v].nbytes for store in stores for v in VARIABLES)
        found["stores"] = {"bytes": total}
        if peer_repetitions:
            error = agree(folder)
            if error > 1e-5:
                raise RuntimeError(f"the mean square errors differ by {error:.1e}")
    return found


def memory_of(inits: int, size: tuple[int, int, bool], repetitions: int) -> float:
    """The most bytes that scoring held in some runs."""
    with tempfile.TemporaryDirectory() as name:
        make_stores(pathlib.Path(name), inits, *size)
        return max(run("ours", pathlib.Path(name))["bytes"] for _ in range(repetitions))


def rows_of(inits: int, size: tuple[int, int, bool], found: dict[str, dict[str, float]]) -> list[dict]:
    """Rows of the record for one case."""
    case = f"{inits} init times x {LEADS} lead times x {len(VARIABLES)} variables, {size[0]}x{size[1]}"
    ours, peer, read, fast = (found[name] for name in ("ours", "peer", "read", "fast read"))
    rate = found["stores"]["bytes"] / 1e6
    mib = 2**20

    def row(what: str, unit: str, mine: float, theirs: float, name: str, ratio: float) -> dict:
        return {
            "case": f"{case}: {what}",
            "ours": mine,
            "peer": theirs,
            "peer_name": name,
            "ratio": ratio,
            "unit": unit,
        }

    return [
        row("time", "s", ours["seconds"], peer["seconds"], PEER, peer["seconds"] / ours["seconds"]),
        row("time of all cores", "s", ours["cpu"], peer["cpu"], PEER, peer["cpu"] / ours["cpu"]),
        row("peak memory", "MiB", ours["bytes"] / mib, peer["bytes"] / mib, PEER, peer["bytes"] / ours["bytes"]),
        row(
            "rate",
            "MB/s",
            rate / ours["seconds"],
            rate / read["seconds"],
            "plain read",
            read["seconds"] / ours["seconds"],
        ),
        row("time of all cores", "s", ours["cpu"], read["cpu"], "plain read", read["cpu"] / ours["cpu"]),
        row(
            "rate",
            "MB/s",
            rate / ours["seconds"],
            rate / fast["seconds"],
            "TensorStore's read",
            fast["seconds"] / ours["seconds"],
        ),
        row(
            "time with 1000 resamples",
            "s",
            found["ours with bootstrap"]["seconds"],
            peer["seconds"],
            PEER + " without",
            peer["seconds"] / found["ours with bootstrap"]["seconds"],
        ),
    ]


def table(rows: list[dict]) -> str:
    """The record as Markdown."""
    import dask
    import xskillscore
    import zarr

    lines = [
        "# Scoring",
        "",
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Zarr {zarr.__version__}, xskillscore {xskillscore.__version__}, dask {dask.__version__}; RMSE, MSE, MAE, bias, ACC; "
        "`python benchmarks/evaluation.py`. A ratio above 1 is in our favour; against a plain read of the same chunks it is "
        "the share of its rate.",
        "",
        "| case | ours | peer | peer's name | unit | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['case']} | {row['ours']:.3g} | {row['peer']:.3g} | {row['peer_name']} | {row['unit']} | {row['ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="file for the rows")
    parser.add_argument("--output", type=pathlib.Path, help="file for the table; default beside this script")
    parser.add_argument("--quick", action="store_true", help="fewer init times, one repetition")
    parser.add_argument("--worker", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker[0], pathlib.Path(options.worker[1]))
        return
    small, large = (64, 32, False), (240, 121, True)
    turns, counts, large_count = (1, (20, 60, 120), 4) if options.quick else (5, (120, 365, 1460), 20)
    rows = rows_of(counts[1], small, measure(counts[1], small, turns, 1))
    rows += rows_of(large_count, large, measure(large_count, large, turns, 1))
    few, *more = [memory_of(count, small, turns) / 2**20 for count in counts]
    for count, held in zip(counts[1:], more):
        rows.append(
            {
                "case": f"peak memory of {count} init times, 64x32",
                "ours": held,
                "peer": few,
                "peer_name": f"ours, {counts[0]} init times",
                "ratio": few / held,
                "unit": "MiB",
            }
        )
    text = table(rows)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    if options.output or not options.quick:
        (options.output or pathlib.Path(__file__).with_suffix(".md")).write_text(text)


if __name__ == "__main__":
    main()
