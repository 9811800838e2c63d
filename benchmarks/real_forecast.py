"""A real forecast beside what came: Z500 and T850 after three days, by a packed forecaster that nobody has to train.

python benchmarks/real_forecast.py --store /tmp/real/analyses.zarr --init 2021-04-09T00
"""

import argparse
import pathlib
import sys

# The folder's own pipelines.py must not hide the package of that name.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import weather_scnn as ws
from eval.reporting.coastlines import coastlines

HERE = pathlib.Path(__file__).parent
_GRAVITY = 9.80665


def panel(axis, field: np.ndarray, source: xr.Dataset, title: str, levels: np.ndarray, colours: str):
    """A map with coasts; Z500 in dam or T850 in °C."""
    longitude = np.append(source["longitude"].values, 360.0)
    around = np.concatenate([field, field[:, :1]], axis=1)
    filled = axis.contourf(longitude, source["latitude"].values, around, levels, cmap=colours, extend="both")
    for line in coastlines():
        axis.plot(np.where(line[:, 0] < 0, line[:, 0] + 360, line[:, 0]), line[:, 1], ",", color="black")
    axis.set(title=title, xlim=(0, 360), ylim=(-88, 88), xticks=[], yticks=[])
    return filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(HERE.parent / "pretrained" / "gfs_z500_t850"))
    parser.add_argument("--store", required=True, help="analyses, as real_weather.py writes them")
    parser.add_argument("--init", default="2021-04-09T00")
    parser.add_argument("--figure", type=pathlib.Path, default=HERE.parent / "docs" / "images" / "real_forecast.png")
    arguments = parser.parse_args()
    truth, init = ws.open_dataset(arguments.store), np.datetime64(arguments.init, "ns")
    forecast = ws.load_forecaster(arguments.model).forecast(arguments.store, init=arguments.init, lead="72h")
    last = forecast.isel(time=0, prediction_timedelta=-1)
    came, began = truth.sel(time=init + np.timedelta64(72, "h")), truth.sel(time=init)
    figure = Figure(figsize=(13, 5), layout="constrained")
    axes = figure.subplots(2, 3)
    rows = (
        ("geopotential", 500, lambda x: x / (10 * _GRAVITY), np.arange(480, 600, 8), "viridis", "Z500, dam"),
        ("temperature", 850, lambda x: x - 273.15, np.arange(-40, 34, 4), "RdBu_r", "T850, °C"),
    )
    for row, (name, level, unit, levels, colours, label) in zip(axes, rows):
        titles = (f"{label}: analysis at the start", "forecast of 72 h", "what came")
        for axis, source, title in zip(row, (began, last, came), titles):
            field = unit(source[name].sel(level=level).transpose("latitude", "longitude").values)
            filled = panel(axis, field, truth, title, levels, colours)
        figure.colorbar(filled, ax=row)
    figure.savefig(arguments.figure, dpi=75)


if __name__ == "__main__":
    main()
