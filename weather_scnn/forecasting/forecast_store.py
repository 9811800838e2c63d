"""The store that forecasts are written to: WeatherBench 2's layout, with `realization` for the members of an ensemble."""

import json
from collections.abc import Mapping
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from weather_scnn.catalogue.level_numbers import Level, level_axis
from weather_scnn.errors import UserError
from weather_scnn.forecasting.kept_fields import ORDER, Kept
from weather_scnn.forecasting.plausible_states import Stop
from weather_scnn.io.marks import store_attributes
from weather_scnn.io.writing import provenance
from weather_scnn.nn import Fields
from weather_scnn.training.states import StateReader


def forecast_template(
    reader: StateReader,
    kept: Kept,
    starts: np.ndarray,
    *,
    source: str,
    about_members: Mapping[str, np.ndarray] | None = None,
    **details: Any,
) -> xr.Dataset:
    """The store's metadata.

    Args:
        reader: of the initial states.
        kept: what is written.
        starts: initial times.
        source: path of the initial states.
        about_members: what is known of each, by name, such as the checkpoint it comes from; None for a single forecast.
        details: further attributes.
    """
    levels = kept.kept_levels
    count = 0 if about_members is None else len(next(iter(about_members.values())))
    sizes = {"time": len(starts), "realization": count, "prediction_timedelta": len(kept.leads), "level": len(levels)}
    sizes |= {"latitude": kept.rows.size, "longitude": kept.columns.size}
    variables = {}
    of_state = {str(name): array.attrs for name, array in reader.dataset.data_vars.items()}
    for name in kept.names:
        dims = [key for key in sizes if (key != "level" or name in kept.on_levels) and (key != "realization" or count)]
        lazy = dask.array.zeros(tuple(sizes[key] for key in dims), dtype=np.float32, chunks=-1)
        variables[name] = (dims, lazy, kept.attributes(name, of_state))
    latitude = kept.latitude[kept.rows]
    coordinates: dict[str, Any] = {
        "time": ("time", starts, {"long_name": "initial time", "standard_name": "forecast_reference_time"}),
        "prediction_timedelta": (
            "prediction_timedelta",
            kept.leads.astype("timedelta64[ns]"),
            {"long_name": "lead time", "standard_name": "forecast_period"},
        ),
        "latitude": ("latitude", latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", kept.kept_longitude, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    if about_members is not None:
        about = {"long_name": "member of the ensemble", "standard_name": "realization"}
        coordinates["realization"] = ("realization", np.arange(count), about)
        coordinates |= {name: ("realization", values) for name, values in about_members.items()}
    if levels:
        coordinates["level"] = ("level", level_axis(levels), {"units": "hPa", "positive": "down"})
    attributes = provenance(source=source, grid=reader.grid.name, initial_times=len(starts), **details)
    return xr.Dataset(variables, coordinates, attributes)


def to_dataset(states: Fields, reader: StateReader, *, members: int, ensemble: bool) -> xr.Dataset:
    """Physical fields of a block of leads.

    Args:
        states: standardised, (k, b, y, x, c); b runs over initial times, and within each over members.
        reader: of the initial states.
        members: members of each initial time.
        ensemble: whether the fields have the dimension `realization`.
    """
    moments = reader.normalisation
    found: dict[str, dict[Level | None, np.ndarray]] = {}
    for index, (name, level) in enumerate(reader.channels.scalars):
        values = states.scalar[..., index] * moments.scalar_std[index] + moments.scalar_mean[index]
        found.setdefault(name, {})[level] = values
    for index, (eastward, northward, level) in enumerate(reader.channels.winds):
        found.setdefault(eastward, {})[level] = states.eastward[..., index] * moments.wind_std[index]
        found.setdefault(northward, {})[level] = states.northward[..., index] * moments.wind_std[index]
    variables = {}
    for name, layers in found.items():
        levels = None if None in layers else reader.channels.levels
        if levels is None:
            values = layers[None]
        else:
            # Of a variable with levels of its own, those that only others have are missing.
            nothing = np.full_like(next(iter(layers.values())), np.nan)
            values = np.stack([layers.get(level, nothing) for level in levels], axis=2)
        values = values.reshape(values.shape[0], -1, members, *values.shape[2:])
        lead_first = ["prediction_timedelta", "time", "realization", *([] if levels is None else ["level"])]
        array = xr.DataArray(values.astype(np.float32), dims=(*lead_first, "latitude", "longitude"))
        array = array if ensemble else array.isel(realization=0)
        variables[name] = array.transpose(*(key for key in ORDER if key in array.dims))
    return xr.Dataset(variables)


def refuse_stopped(path: str) -> None:
    """Refuses an output whose forecasts have stopped, and tells of them: repeating the command would end likewise.

    Raises:
        UserError: it is one.
    """
    found = store_attributes(path) or {}
    if "stopped" in found:
        first, count = Stop(**json.loads(str(found["stopped"]))[0]), int(found["stopped_forecasts"])
        raise UserError(
            f"already exists, with {count} forecast{'s' * (count > 1)} that stopped, the first since {first}",
            where=path,
            remedy="choose another output or add --overwrite",
        )
