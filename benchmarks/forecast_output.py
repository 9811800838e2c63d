"""Writing forecasts as GRIB 2 and netCDF, beside plain loops over the same libraries.

    python benchmarks/forecast_output.py [--quick] [--json PATH]

The forecasts of one initial time lie in the store that `forecast --format` gathers them in, and become a file. The peers have
the same maps in memory already:

- ecCodes: a message cloned for every map, its parameter, level, step and values set, and written; 16 bits a value;
- xarray: `to_netcdf` with the same compression and chunks, without the axes and names of CF.

All of a case run one after the other and are repeated; the best of each counts. A rate counts four bytes a value.
"""

import argparse
import functools
import json
import pathlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import eccodes
import numpy as np
import xarray as xr

from weather_scnn.io.grib_writing import write_grib
from weather_scnn.io.netcdf_forecasts import write_cf
from weather_scnn.sphere.grid import Grid

warnings.filterwarnings("ignore")

LEVELS = (50, 100, 200, 300, 500, 700, 850, 925, 1000)
PARAMETERS = {"geopotential": 129, "temperature": 130, "u_component_of_wind": 131, "v_component_of_wind": 132}


def forecasts(folder: pathlib.Path, grid: Grid, leads: int) -> str:
    """A store of forecasts from one initial time, chunks and compression as they are gathered."""
    rng = np.random.default_rng(0)
    latitude, longitude = np.radians(grid.latitude)[:, None], np.radians(grid.longitude)
    wave = np.cos(latitude) * np.cos(3 * longitude)
    shape = (1, leads, len(LEVELS), *grid.shape)
    dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
    fields = {
        name: (dims, (250 + 30 * wave + rng.normal(size=shape, scale=0.3)).astype("float32")) for name in PARAMETERS
    }
    axes = {
        "time": np.array(["2020-01-01"], "datetime64[ns]"),
        "prediction_timedelta": np.arange(1, leads + 1) * np.timedelta64(6, "h").astype("timedelta64[ns]"),
        "level": list(LEVELS), "latitude": grid.latitude, "longitude": grid.longitude,
    }  # fmt: skip
    path = str(folder / f"{grid.name}.zarr")
    chunks = (1, min(8, leads), *shape[2:])
    encoding = {name: {"chunks": chunks, "compressors": None} for name in PARAMETERS}
    xr.Dataset(fields, axes).to_zarr(path, encoding=encoding, consolidated=False)
    return path


def plain_grib(dataset: xr.Dataset, path: pathlib.Path) -> None:
    """A loop over ecCodes as its examples have it."""
    template = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
    rows, columns = dataset.sizes["latitude"], dataset.sizes["longitude"]
    for key, value in {
        "Ni": columns, "Nj": rows, "latitudeOfFirstGridPointInDegrees": float(dataset["latitude"][-1]),
        "latitudeOfLastGridPointInDegrees": float(dataset["latitude"][0]), "longitudeOfFirstGridPointInDegrees": 0.0,
        "longitudeOfLastGridPointInDegrees": float(dataset["longitude"][-1]), "jDirectionIncrementInDegrees": 180 / rows,
        "iDirectionIncrementInDegrees": 360 / columns, "dataDate": 20200101, "dataTime": 0, "bitsPerValue": 16,
    }.items():  # fmt: skip
        eccodes.codes_set(template, key, value)
    with open(path, "wb") as file:
        for name, parameter in PARAMETERS.items():
            for lead, maps in enumerate(dataset[name].values):
                for level, values in zip(LEVELS, maps):
                    message = eccodes.codes_clone(template)
                    for key, value in (("paramId", parameter), ("level", level), ("step", 6 * (lead + 1))):
                        eccodes.codes_set(message, key, value)
                    eccodes.codes_set_values(message, values[::-1].astype(np.float64).ravel())
                    eccodes.codes_write(message, file)
                    eccodes.codes_release(message)
    eccodes.codes_release(template)


def plain_netcdf(dataset: xr.Dataset, path: pathlib.Path) -> None:
    """xarray alone."""
    packed = {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": (1, 1, *dataset["temperature"].shape[-2:])}
    dataset.drop_encoding().to_netcdf(path, encoding=dict.fromkeys(PARAMETERS, packed))


def best(runs: int, *tasks: Callable[[], object]) -> list[float]:
    """Seconds of each, the best of several rounds."""
    seconds = [[] for _ in tasks]
    for _ in range(runs):
        for task, found in zip(tasks, seconds):
            begin = time.perf_counter()
            task()
            found.append(time.perf_counter() - begin)
    return [min(found) for found in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="coarse grids alone")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    rows = []
    grids = {"64x32": 40, "240x121": 16, "1440x721": 1}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name, leads in list(grids.items())[: 2 if options.quick else 3]:
            path = forecasts(folder, Grid.from_name(name), leads)
            memory = xr.open_zarr(path, chunks=None, consolidated=False, decode_timedelta=True).isel(time=0).load()
            megabytes = sum(array.nbytes for array in memory.values()) / 1e6

            def ours(write: Callable, target: str, path: str = path) -> None:
                one = xr.open_zarr(path, consolidated=False, decode_timedelta=True).isel(time=0)
                write(one, folder / target)

            for kind, write, peer, words in (
                ("GRIB 2", write_grib, plain_grib, "a loop over ecCodes, from memory"),
                ("netCDF", write_cf, plain_netcdf, "xarray, from memory"),
            ):
                mine, theirs = best(
                    3, functools.partial(ours, write, "ours"), functools.partial(peer, memory, folder / "peer")
                )
                rows.append({"case": f"{kind}, {name}, {megabytes:.0f} MB", "ours": round(megabytes / mine, 1),
                             "peer": round(megabytes / theirs, 1), "peer_name": words,
                             "ratio": round(theirs / mine, 2), "unit": "MB/s"})  # fmt: skip
                print(rows[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    print("\n| case | ours | peer | | ratio | unit |\n|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(row[key]) for key in ("case", "ours", "peer", "peer_name", "ratio", "unit")) + " |")


if __name__ == "__main__":
    main()
