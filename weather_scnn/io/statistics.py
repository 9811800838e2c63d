"""Reading the statistics that normalise training.

A file has one variable a field, with its WeatherBench 2 name, of dimensions (statistic[, level]) in float64.
`statistic` holds the names in `STATISTICS`; increments of static fields are NaN. Attributes say which period, step
and source they come from.
"""

import difflib
import pathlib
from collections.abc import Sequence

import fsspec
import numpy as np
import xarray as xr

from weather_scnn.errors import UserError

#: Values of the coordinate `statistic`, in the order written.
STATISTICS = ("mean", "std", "increment_mean", "increment_std", "count", "increment_count")


def read_statistics(
    path: str, *, variables: Sequence[str] | None = None, levels: Sequence[float] | None = None
) -> xr.Dataset:
    """Reads and checks a statistics file.

    Args:
        path: netCDF file written by `weather-scnn stats`.
        variables: fields that must be there; None for no check.
        levels: hPa that must be there; None for no check.

    Returns:
        The whole dataset in memory, restricted to `variables` and `levels` where those are given.

    Raises:
        UserError: no such file, not such a file, or a variable or level is missing.
    """
    if "://" not in str(path) and not pathlib.Path(path).is_file():
        raise UserError("no such file", where=str(path), remedy="make it with `weather-scnn stats`")
    try:
        # netCDF needs a local file; a remote one is fetched.
        local = fsspec.open_local(f"simplecache::{path}") if "://" in str(path) else path
        dataset = xr.load_dataset(local)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot be read as netCDF ({error})", where=str(path), remedy="make it with `weather-scnn stats`"
        ) from None
    absent = set(STATISTICS) - set(dataset["statistic"].values.tolist() if "statistic" in dataset.coords else ())
    if absent:
        raise UserError(
            f"holds no {', '.join(name for name in STATISTICS if name in absent)}",
            where=str(path),
            remedy="make it with `weather-scnn stats`",
        )
    if variables is not None:
        for name in variables:
            if name not in dataset.data_vars:
                known = [str(known) for known in dataset.data_vars]
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise UserError(
                    f"has no statistics of {name!r}; the nearest name is {near[0] if near else 'none'}",
                    where=str(path),
                    remedy="run `weather-scnn stats` on data that holds it",
                )
        dataset = dataset[list(variables)]
    if levels is not None and "level" in dataset.dims:
        known_levels = dataset["level"].values
        for level in levels:
            if level not in known_levels:
                nearest = known_levels[np.abs(known_levels - level).argmin()]
                raise UserError(
                    f"has no statistics of {level:g} hPa; the nearest level is {nearest:g} hPa",
                    where=str(path),
                    remedy="run `weather-scnn stats` on data that holds it",
                )
        dataset = dataset.sel(level=list(levels))
    return dataset
