"""The training loader beside plain reads of the same bytes, and its share of a training step.

    python benchmarks/loader.py [--quick] [--json rows.json]

Stores are written in the layout of `weather-scnn regrid`, one time a chunk. Every system reads the same states: the
windows of shuffled batches, each of two times. Ours standardises them and adds forcings; the peers hand over raw
arrays. Repetitions of the systems take turns, so that a busy machine slows all alike; the best of each counts. The share
of the step is what metrics.csv of a real run says once it is warm.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

# A file of this folder has the name of the package `pipelines`.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np
import xarray as xr
import zarr

from configs import demo
from pipelines.statistics import compute_statistics
from weather_scnn.catalogue.naming import find
from weather_scnn.catalogue.plausibility import standard_geopotential
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.statistics import read_statistics
from weather_scnn.io.stored import StoredArray
from weather_scnn.models import ModelConfig, Resolution
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import Config, Stage
from weather_scnn.training.loader import WindowLoader
from weather_scnn.training.log import read_metrics
from weather_scnn.training.loop import train
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.states import StateReader, expected_grid

FOLDER = pathlib.Path(__file__).parent


def write_store(path: str, config: Config, times: int) -> None:
    """Smooth waves with noise in every field, so that chunks compress about as well as analyses do."""
    channels, grid = Channels.from_config(config.data), Grid.from_name(config.data.grid, poles=config.data.poles)
    rng = np.random.default_rng(0)
    stamps = np.datetime64("2000-01-01", "ns") + np.arange(times) * np.timedelta64(6, "h")
    phase = np.radians(grid.longitude) * 3 + np.sin(np.radians(grid.latitude))[:, None]
    levels = list(channels.levels)

    def field(shape: tuple[int, ...], name: str) -> np.ndarray:
        # Within what the field can be: every map is held against that.
        low, high = find(name).plausible
        mean = (
            np.array([standard_geopotential(each) for each in levels])[:, None, None]
            if name == "geopotential"
            else (low + high) / 2
        )
        size = 0.05 * np.abs(mean) if name == "geopotential" else (high - low) / 40
        wave = np.sin(phase + rng.uniform(0, 6, (*shape, 1, 1))) + 0.02 * rng.standard_normal((*shape, *grid.shape))
        return (mean + size * np.clip(wave, -1.0, 1.0)).astype(np.float32)

    variables: dict[str, Any] = {}
    for name in channels.variables:
        if name in config.data.level_variables:
            variables[name] = (("time", "level", "latitude", "longitude"), field((times, len(levels)), name))
        else:
            variables[name] = (("time", "latitude", "longitude"), field((times,), name))
    for name in channels.statics:
        variables[name] = (("latitude", "longitude"), field((), name))
    coordinates = {"time": stamps, "level": levels, "latitude": grid.latitude, "longitude": grid.longitude}
    dataset = xr.Dataset(variables, coordinates)
    dataset.chunk({"time": 1}).to_zarr(path, mode="w", consolidated=False, zarr_format=3)


def cases(quick: bool) -> dict[str, tuple[Config, int, int]]:
    """Name → experiment, times in the store, batches a measurement."""
    small = demo.get_config()
    small = dataclasses.replace(small, training=dataclasses.replace(small.training, validation_windows=8))
    wide_data = dataclasses.replace(
        small.data,
        grid="240x121",
        poles=True,
        level_variables=("geopotential", "temperature", "specific_humidity", *small.data.level_variables[2:4]),
        levels=(50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000),
        surface_variables=("2m_temperature", "mean_sea_level_pressure"),
    )
    # A small network, so that its steps are short: the share of a larger one is smaller still.
    wide = dataclasses.replace(
        small,
        data=wide_data,
        model=ModelConfig(levels=(Resolution(1, 0, 8, 4, 0, 4), Resolution(4, 1, 16, 8, 0, 4))),
        training=dataclasses.replace(small.training, batch_size=4),
    )
    return {"64x32": (small, 120 if quick else 400, 10 if quick else 20), "240x121": (wide, 16 if quick else 40, 3 if quick else 8)}  # fmt: skip


def loader_of(config: Config, path: str, statistics: str, memory: bool) -> WindowLoader:
    channels = Channels.from_config(config.data)
    moments = Normalisation.from_statistics(read_statistics(statistics), channels)
    reader = StateReader.open(path, channels, moments, expected_grid(config.data))
    if not all(isinstance(reader.dataset[name].data, StoredArray) for name in channels.variables):
        raise SystemExit(f"{path} is not read directly")
    step = parse_duration(config.data.step)
    return WindowLoader(reader, step=step, input_steps=1, seed=0, cache_bytes=1e12 if memory else 0)


def systems(config: Config, path: str, statistics: str, batches: int) -> tuple[dict[str, Callable[[], int]], int]:
    """Functions that read all batches, and the bytes of their states."""
    size = config.training.batch_size
    direct, memory = (loader_of(config, path, statistics, each) for each in (False, True))
    windows = direct.windows(1)
    rows = [windows[direct.indices(windows, number * size, size)] for number in range(batches)]
    names = list(direct.reader.channels.variables)
    group, lazy = zarr.open_group(path, mode="r"), xr.open_zarr(path, consolidated=False)

    def ours(loader: WindowLoader) -> Callable[[], int]:
        def run() -> int:
            stream = loader.stream(
                1, batch_size=size, first=0, last=batches, ahead=config.data.prefetch, readers=config.data.readers
            )
            return sum(batch.scalar.shape[0] for batch in stream)

        return run

    def plain() -> int:
        return sum(group[name][int(time)].size > 0 for each in rows for time in each.ravel() for name in names)

    def through_dask() -> int:
        return sum(
            lazy[names].isel(time=slice(int(row[0]), int(row[-1]) + 1)).load().sizes["time"]
            for each in rows
            for row in each
        )

    found = {"ours": ours(direct), "ours, in memory": ours(memory), "zarr": plain, "xarray with dask": through_dask}
    return found, direct.reader.bytes_per_time * 2 * size * batches


def best_of(functions: dict[str, Callable[[], int]], repetitions: int) -> dict[str, float]:
    """Shortest time of each, taking turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(repetitions + 1):
        for name, function in functions.items():
            since = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - since)
    return best


def shares(
    config: Config, path: str, statistics: str, folder: pathlib.Path, steps: int, quick: bool
) -> dict[str, tuple[float, float]]:
    """Loader's share of the time and steps/s of a real run, with the period in memory and read from the store."""
    found = {}
    for name, gigabytes in (("from the store", 0.0),) if quick else (("in memory", 64.0), ("from the store", 0.0)):
        each = dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, path=path, cache_gigabytes=gigabytes),
            training=dataclasses.replace(
                config.training, stages=(Stage(steps, 1),), log_every=max(2, steps // 4), checkpoint_every=10**6
            ),
        )
        workdir = folder / f"{config.data.grid}-{gigabytes:g}"
        train(each, workdir, statistics=statistics, progress=False)
        rows = [row for row in read_metrics(workdir / "metrics.csv")][1:]
        seconds = [1 / float(row["steps_per_second"]) for row in rows]
        share = float(np.average([float(row["loader_share"]) for row in rows], weights=seconds))
        found[name] = share, 1 / float(np.mean(seconds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for case, (config, times, batches) in cases(arguments.quick).items():
            path, statistics = str(folder / f"{case}.zarr"), str(folder / f"{case}.nc")
            write_store(path, config, times)
            compute_statistics(path, statistics, time=None, step="6h", progress=False)
            functions, size = systems(config, path, statistics, batches)
            seconds = best_of(functions, 2 if arguments.quick else 5)
            samples = config.training.batch_size * batches
            for system, duration in seconds.items():
                lines.append(
                    f"| {case} | {system} | {samples / duration:.0f} | {size / duration / 1e6:.0f} | "
                    f"{duration / seconds['ours']:.2f} | |"
                )
            for peer in ("zarr", "xarray with dask"):
                for ours in ("ours", "ours, in memory"):
                    rows.append(
                        {
                            "case": f"{case}, {'from the store' if ours == 'ours' else 'in memory'}",
                            "ours": size / seconds[ours] / 1e6,
                            "peer": size / seconds[peer] / 1e6,
                            "peer_name": f"{peer}, one state after the other",
                            "ratio": seconds[peer] / seconds[ours],
                            "unit": "MB/s",
                        }
                    )
            steps = {"64x32": 40, "240x121": 8}[case] * (1 if arguments.quick else 2)
            for where, (share, speed) in shares(config, path, statistics, folder, steps, arguments.quick).items():
                lines.append(
                    f"| {case} | training, {where} | {speed * config.training.batch_size:.1f} | | | {share:.2%} |"
                )
                rows.append(
                    {
                        "case": f"{case}, loader's share of the step, {where}",
                        "ours": 100 * share,
                        "peer": 10.0,
                        "peer_name": "the most it may be",
                        "ratio": 10.0 / max(100 * share, 1e-3),
                        "unit": "%",
                    }
                )
    heading = (
        f"{platform.machine()}, {os.cpu_count()} CPUs, Zarr {zarr.__version__}, xarray {xr.__version__}, NumPy "
        f"{np.__version__}, Python {platform.python_version()}; stores of format 3 with one time a chunk, in the page cache."
    )
    head = "| grid | system | samples/s | MB/s | × ours' time | share of the step |\n|---|---|---|---|---|---|"
    text = f"# The training loader\n\n{heading}\n\n{head}\n" + "\n".join(lines) + "\n"
    (FOLDER / "loader.md").write_text(text)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
