"""The climate of a moist nature run beside that of the Earth: zonal wind, Z500, rain, storm tracks, global means.

    python benchmarks/nature_climate.py --nature speedy.zarr

Means are over whole years from the first time on. The Earth's are rounded from textbooks and reanalyses (Trenberth,
Fasullo and Kiehl 2009 for the water; ERA5 for temperature and jets), to see whether the run is an Earth, not to score it.
"""

import argparse
import pathlib
import sys

# The folder's own pipelines.py must not hide the package of that name.
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from eval.reporting.coastlines import coastlines
from weather_scnn.sphere.grid import latitude_weights

HERE = pathlib.Path(__file__).parent
_GRAVITY, _DAY = 9.80665, 4  # m s-2; outputs a day


def area_mean(field: xr.DataArray) -> xr.DataArray:
    """Mean over the globe."""
    weights = xr.DataArray(latitude_weights(field["latitude"].values), dims="latitude")
    return field.weighted(weights).mean(("latitude", "longitude"))


def season(field: xr.DataArray, name: str) -> xr.DataArray:
    """Mean over the months of DJF or JJA."""
    return field.sel(time=field["time"].dt.season == name).mean("time")


def facts(run: xr.Dataset) -> list[tuple[str, str, str]]:
    """(what, in the run, on Earth)."""
    lines = [
        ("near-surface temperature", f"{float(area_mean(run['2m_temperature'].mean('time'))) - 273.15:.1f} °C", "14"),
        (
            "precipitation",
            f"{float(area_mean(run['total_precipitation_6hr'].mean('time'))) * 4000:.2f} mm a day",
            "2.7",
        ),
        (
            "pressure at sea level",
            f"{float(area_mean(run['mean_sea_level_pressure'].mean('time'))) / 100:.0f} hPa",
            "1011",
        ),
    ]
    jet = run["u_component_of_wind"].sel(level=200).mean("longitude")
    for name, half, earth in (
        ("DJF", slice(0, 90), "40 m s⁻¹ at 30° N"),
        ("JJA", slice(-90, 0), "40 m s⁻¹ at 30° S"),
    ):
        wind = season(jet, name).sel(latitude=half)
        top = wind.isel(latitude=int(wind.argmax("latitude")))
        side = "N" if float(top["latitude"]) > 0 else "S"
        lines.append(
            (f"jet at 200 hPa, {name}", f"{float(top):.0f} m s⁻¹ at {abs(float(top['latitude'])):.0f}° {side}", earth)
        )
    return lines


def draw(run: xr.Dataset, path: pathlib.Path) -> None:
    """Six panels of time means."""
    wind = run["u_component_of_wind"].mean(("time", "longitude"))
    height = run["geopotential"].sel(level=500) / (10 * _GRAVITY)
    rain = run["total_precipitation_6hr"]
    change = height.diff("time", n=1) if run.sizes["time"] <= _DAY else height - height.shift(time=_DAY)
    figure = Figure(figsize=(12, 10), layout="constrained")
    panels = figure.subplots(3, 2).ravel()
    levels = np.arange(-30, 45, 5)
    filled = panels[0].contourf(wind["latitude"], wind["level"], wind.values, levels, cmap="RdBu_r", extend="both")
    panels[0].invert_yaxis()
    panels[0].set(title="zonal wind, annual mean, m s⁻¹", xlabel="latitude", ylabel="hPa")
    figure.colorbar(filled, ax=panels[0])
    maps = (
        ("Z500 in DJF, dam", season(height, "DJF"), np.arange(480, 600, 8), "viridis"),
        ("rain in DJF, mm a day", season(rain, "DJF") * 4000, np.arange(0, 15, 1), "YlGnBu"),
        ("rain in JJA, mm a day", season(rain, "JJA") * 4000, np.arange(0, 15, 1), "YlGnBu"),
        ("storm tracks in DJF: change of Z500 in a day, dam", _spread(change, "DJF"), np.arange(0, 14, 1), "magma_r"),
        ("storm tracks in JJA", _spread(change, "JJA"), np.arange(0, 14, 1), "magma_r"),
    )
    for panel, (title, field, steps, colours) in zip(panels[1:], maps):
        shown = field.transpose("latitude", "longitude")
        around = xr.concat([shown, shown.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude")
        filled = panel.contourf(
            around["longitude"], around["latitude"], around.values, steps, cmap=colours, extend="both"
        )
        figure.colorbar(filled, ax=panel)
        for line in coastlines():
            panel.plot(np.where(line[:, 0] < 0, line[:, 0] + 360, line[:, 0]), line[:, 1], ",", color="black")
        panel.set(title=title, xlim=(0, 360), ylim=(-90, 90))
    figure.savefig(path, dpi=80)


def _spread(change: xr.DataArray, name: str) -> xr.DataArray:
    return np.sqrt(season(change**2, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nature", required=True, help="store that simulate --model speedy wrote")
    parser.add_argument("--years", type=int, default=2)
    parser.add_argument("--figure", type=pathlib.Path, default=HERE.parent / "docs" / "images" / "speedy.png")
    arguments = parser.parse_args()
    run = xr.open_zarr(arguments.nature).isel(time=slice(0, arguments.years * 365 * _DAY))
    names = [
        "2m_temperature",
        "total_precipitation_6hr",
        "mean_sea_level_pressure",
        "u_component_of_wind",
        "geopotential",
    ]
    run = run[names].load()
    print("| | this run | the Earth |\n|---|---|---|")
    for line in facts(run):
        print("| " + " | ".join(line) + " |")
    draw(run, arguments.figure)


if __name__ == "__main__":
    main()
