"""Time and memory of regridding, statistics and climatology, beside what else would do the same.

    python benchmarks/pipelines.py [--quick] [--json PATH]

A synthetic record on 1440×721 with one map a chunk, Zarr's default codec, is regridded to 1.5° and to 5.625° with our
plain runner (two threads) and compared with

- reading the same chunks and writing them to another store, by the same number of threads: what any tool must at least
  do to make a copy; `ratio` is our rate over its rate;
- xarray's `interp` (bilinear) and xarray-regrid's conservative method, both with dask's threads, written with `to_zarr`.

All of a case run one after the other and are repeated; the best of each counts. Memory is the peak of a process that
does nothing else, at three lengths of record; so is the time, which should grow in proportion. The climatology is of
30 years of six-hourly maps of 64×32.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import dask
import dask.array
import numpy as np
import pandas as pd
import xarray as xr
import zarr

from pipelines.climatology import compute_climatology
from pipelines.regrid import regrid
from weather_scnn.sphere.grid import Grid

warnings.filterwarnings("ignore")

SOURCE = Grid.equiangular(1440, 721, poles=True)
TARGETS = {"1.5°": Grid.equiangular(240, 121, poles=True), "5.625°": Grid.equiangular(64, 32)}
THREADS = 2
NAME = "2m_temperature"


def write_record(path: pathlib.Path, grid: Grid, times: int, *, step: str = "6h", chunk: int = 1) -> str:
    """Smooth waves with noise of a hundredth of a kelvin, so that they compress about as analyses do."""
    rng = np.random.default_rng(0)
    latitude, longitude = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)[None, :]
    waves = [np.cos(order * longitude) * np.cos(latitude) ** order for order in range(1, 6)]
    mean = 250 + 40 * np.cos(latitude) ** 2
    noise = rng.normal(0, 0.01, grid.shape).round(2)
    dataset = xr.Dataset(
        {NAME: (("time", "latitude", "longitude"), dask.array.zeros((times, *grid.shape), chunks=-1, dtype="f4"))},
        {
            "time": pd.date_range("1990-01-01", periods=times, freq=step),
            "latitude": grid.latitude[::-1],  # from north to south, as ERA5
            "longitude": grid.longitude,
        },
    )
    dataset[NAME].attrs["units"] = "K"
    dataset.to_zarr(path, compute=False, encoding={NAME: {"chunks": (chunk, *grid.shape)}}, consolidated=True)
    array = zarr.open_group(path)[NAME]
    for begin in range(0, times, chunk):
        count = min(chunk, times - begin)
        block = np.empty((count, *grid.shape), np.float32)
        for place in range(count):
            field = mean + sum(rng.normal() / (order + 1) * wave for order, wave in enumerate(waves))
            block[place] = field + np.roll(noise, begin + place, axis=1)
        array[begin : begin + count] = block[:, ::-1]
    return str(path)


def fresh(path: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(f"{path}.progress", ignore_errors=True)
    return path


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def copy_chunks(source: str, output: pathlib.Path) -> None:
    """Reads every chunk and writes it to another store, in threads, with Zarr alone."""
    array = zarr.open_group(source)[NAME]
    copy = zarr.create_array(str(output), shape=array.shape, chunks=array.chunks, dtype=array.dtype)

    def one(begin: int) -> None:
        copy[begin : begin + 1] = array[begin : begin + 1]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(array.shape[0])))


def by_interp(source: str, output: pathlib.Path, target: Grid) -> None:
    dataset = xr.open_zarr(source)
    # xarray knows no wrap: the first meridian is put behind the last.
    edge = dataset.isel(longitude=[0]).assign_coords(longitude=[360.0])
    dataset = xr.concat([dataset, edge], "longitude").chunk(longitude=-1)
    result = dataset.interp(latitude=target.latitude, longitude=target.longitude)
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        result.astype("f4").chunk(time=1).to_zarr(output)


def by_xarray_regrid(source: str, output: pathlib.Path, target: Grid) -> None:
    import xarray_regrid  # noqa: F401  adds `.regrid`

    dataset = xr.open_zarr(source).sortby("latitude")
    grid = xr.Dataset(coords={"latitude": target.latitude, "longitude": target.longitude})
    result = dataset.regrid.conservative(grid, latitude_coord="latitude")
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        result.astype("f4").chunk(time=1, latitude=-1, longitude=-1).to_zarr(output)


def ours(source: str, output: pathlib.Path, target: Grid, method: str = "conservative") -> None:
    regrid(source, str(output), target, method=method, no_beam=True, progress=False)


def rates(source: str, folder: pathlib.Path, times: int, repetitions: int) -> list[dict]:
    """Megabytes of the source a second for every target and way."""
    megabytes = times * SOURCE.latitudes * SOURCE.longitudes * 4 / 1e6
    rows = []
    for name, target in TARGETS.items():
        ways: dict[str, Callable[[pathlib.Path], object]] = {
            "conservative": lambda output, target=target: ours(source, output, target),
            "bilinear": lambda output, target=target: ours(source, output, target, "bilinear"),
            "copy": lambda output: copy_chunks(source, output),
            "interp": lambda output, target=target: by_interp(source, output, target),
        }
        try:
            importlib.metadata.version("xarray-regrid")
            ways["xarray-regrid"] = lambda output, target=target: by_xarray_regrid(source, output, target)
        except importlib.metadata.PackageNotFoundError:
            pass
        best = dict.fromkeys(ways, np.inf)
        for _ in range(repetitions):
            for way, run in ways.items():
                output = fresh(folder / "output.zarr")  # removing a store takes long, and is nobody's work
                best[way] = min(best[way], seconds(functools.partial(run, output)))
        rate = {way: megabytes / value for way, value in best.items()}
        for peer, label, mine in (
            ("copy", "reading and rewriting the chunks", "conservative"),
            ("xarray-regrid", "xarray-regrid, conservative", "conservative"),
            ("interp", "xarray interp", "bilinear"),
        ):
            if peer in rate:
                rows.append(
                    {
                        "case": f"0.25° to {name}, {mine}",
                        "ours": round(rate[mine], 1),
                        "peer": round(rate[peer], 1),
                        "peer_name": label,
                        "ratio": round(rate[mine] / rate[peer], 2),
                        "unit": "MB/s of source",
                    }
                )
    return rows


_CHILD = """
import pathlib, re, sys, time
sys.path.insert(0, {root!r})
from pipelines.regrid import regrid
from weather_scnn.sphere.grid import Grid
start = time.perf_counter()
regrid({source!r}, {output!r}, Grid.equiangular(64, 32), time={period!r}, no_beam=True, progress=False)
# Not `ru_maxrss`, in which Linux counts what the process that started this one held.
peak = re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())
print(time.perf_counter() - start, 1024 * int(peak[1]))
"""


def lengths(source: str, folder: pathlib.Path, times: int) -> list[dict]:
    """Seconds and peak memory of a process that regrids a quarter, a half and all of the record."""
    stamps = pd.date_range("1990-01-01", periods=times, freq="6h")
    found = []
    for share in (4, 2, 1):
        count = times // share
        code = _CHILD.format(
            root=str(pathlib.Path(__file__).parents[1]),
            source=source,
            output=str(fresh(folder / "length.zarr")),
            period=f"{stamps[0]:%Y-%m-%dT%H}:{stamps[count - 1]:%Y-%m-%dT%H}",
        )
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
        )
        elapsed, peak = map(float, result.stdout.split())
        found.append((count, elapsed, peak))
    rows = [
        {
            "case": f"peak memory, two threads, {count} maps of 0.25°",
            "ours": round(peak / 1e9, 2),
            "peer": 1.5,
            "peer_name": "limit a worker",
            "ratio": round(1.5e9 / peak, 2),
            "unit": "GB",
        }
        for count, _, peak in found
    ]
    # A fixed cost makes long records cheaper a map, so a ratio above one; a cost that grew faster would make it less.
    rows += [
        {
            "case": f"{count} maps beside {found[0][0]}",
            "ours": round(elapsed / count * 1e3, 1),
            "peer": round(found[0][1] / found[0][0] * 1e3, 1),
            "peer_name": f"ours, {found[0][0]} maps",
            "ratio": round(found[0][1] / found[0][0] / (elapsed / count), 2),
            "unit": "ms a map",
        }
        for count, elapsed, _ in found[1:]
    ]
    return rows


def climatologies(folder: pathlib.Path, years: int) -> list[dict]:
    """Minutes for mean and spread, and with two quantiles, beside xarray's groupby of day and hour (no window)."""
    grid = Grid.equiangular(64, 32)
    source = write_record(folder / "years.zarr", grid, years * 1461, chunk=100)
    mean = seconds(
        lambda: compute_climatology(source, str(fresh(folder / "c.zarr")), time=None, no_beam=True, progress=False)
    )
    quantiles = seconds(
        lambda: compute_climatology(
            source, str(fresh(folder / "q.zarr")), time=None, quantiles=[0.05, 0.95], no_beam=True, progress=False
        )
    )

    def by_xarray() -> None:
        array = xr.open_zarr(source)[NAME].load()
        key = array.time.dt.dayofyear * 100 + array.time.dt.hour
        groups = array.groupby(key.rename("key"))
        groups.mean(), groups.std()

    peer = seconds(by_xarray)
    rows = []
    for what, value in (("mean and spread", mean), ("with two quantiles", quantiles)):
        rows.append(
            {
                "case": f"climatology of {years} years, 64x32, window of 61 days, {what}",
                "ours": round(value, 1),
                "peer": round(peer, 1),
                "peer_name": "xarray groupby in memory, no window, mean and spread",
                "ratio": round(peer / value, 2),
                "unit": "s",
            }
        )
    return rows


def table(rows: list[dict], setting: str) -> str:
    lines = [f"# Pipelines\n\n{setting}\n", "| case | ours | peer | | ratio | unit |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row[key] for key in ("case", "ours", "peer", "peer_name", "ratio", "unit")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small record, under a minute")
    parser.add_argument("--json", type=pathlib.Path, help="where rows are written")
    parser.add_argument("--folder", type=pathlib.Path, help="for the stores; default a temporary one")
    arguments = parser.parse_args()
    times = 96 if arguments.quick else 512
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        source = write_record(folder / "source.zarr", SOURCE, times)
        rows = rates(source, folder, times, 1 if arguments.quick else 2)
        rows += lengths(source, folder, times)
        rows += climatologies(folder, 2 if arguments.quick else 30)
    size = times * SOURCE.latitudes * SOURCE.longitudes * 4 / 1e9
    setting = (
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"Zarr {zarr.__version__}, xarray {xr.__version__}, dask {dask.__version__}; record of {times} maps of 1440x721 "
        f"({size:.2g} GB), one a chunk; {THREADS} threads each. A ratio above 1 is in our favour."
    )
    text = table(rows, setting)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False))
    if not arguments.quick:
        pathlib.Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
