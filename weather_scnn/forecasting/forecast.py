"""Forecasts of a trained run, streamed to a Zarr store in the WeatherBench 2 layout."""

import functools
import pathlib
import re
from typing import Any

import dask.array
import jax
import jax.numpy as jnp
import numpy as np
import rich.progress
import xarray as xr
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.data.channels import Channels
from weather_scnn.data.normalisation import Normalisation
from weather_scnn.data.opening import parse_period
from weather_scnn.data.reading import StateReader, expected_grid
from weather_scnn.data.windows import parse_step
from weather_scnn.data.writing import StoreInProgress, begin_store, provenance
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields, map_fields
from weather_scnn.progress import progress_bar
from weather_scnn.sphere import Grid
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Config
from weather_scnn.training.loss import Scales, make_scales
from weather_scnn.training.optimiser import initial_state, make_optimiser
from weather_scnn.training.rollout import Parts, advance, build, take_apart

_LEADS_PER_BLOCK = 8
_DURATION = re.compile(r"\d+(\.\d+)?\s*(min|[hHdD]|days?|hours?)")


def split_init(text: str) -> tuple[str, np.timedelta64 | None]:
    """Splits A:B[:STEP] into the period A:B and the step."""
    head, colon, tail = text.rpartition(":")
    if colon and _DURATION.fullmatch(tail.strip()):
        return head, parse_step(tail.strip())
    return text, None


def initial_times(times: np.ndarray, text: str) -> np.ndarray:
    """Times of the store that lie in A:B and, counted from the first of them, on multiples of STEP.

    Raises:
        UserError: there is none.
    """
    period, step = split_init(text)
    index = xr.DataArray(times, dims="time", coords={"time": times}).sortby("time")
    chosen = index.sel(time=parse_period(period)).values
    if step is not None and chosen.size:
        chosen = chosen[(chosen - chosen[0]) % step == np.timedelta64(0, "ns")]
    if not chosen.size:
        raise UserError(
            f"no initial time in {text!r}; the store has {times.min().astype('datetime64[h]')} to "
            f"{times.max().astype('datetime64[h]')}",
            remedy="give --init A:B[:STEP] within that period",
        )
    return chosen


@functools.partial(jax.jit, static_argnames=("leads",))
def _roll(
    parts: Parts, history: Fields, scales: Scales, forcings: Float[Array, "b k+1 y x f"], *, leads: int
) -> tuple[Fields, Fields]:
    """Runs `leads` steps; gives the last history and the states, (k, b, y, x, c)."""
    model = nnx.merge(*parts)

    def one(past: Fields, index: Array) -> tuple[Fields, Fields]:
        pair = jax.lax.dynamic_slice_in_dim(forcings, index, 2, axis=1)
        return advance(model, past, scales, pair, training=False)

    return jax.lax.scan(one, history, jnp.arange(leads))


def load_run(workdir: str | pathlib.Path) -> tuple[Config, Normalisation, Channels, Grid, Parts]:
    """The averaged forecaster of a run's newest checkpoint.

    Raises:
        UserError: there is none, or it does not fit.
    """
    with Checkpoints(workdir) as checkpoints:
        config, normalisation = checkpoints.about()
        channels, grid = Channels.from_config(config.data), expected_grid(config.data)
        parts = take_apart(build(config.model, config.data, channels, grid, config.training.seed))
        template = initial_state(parts, make_optimiser(config.optimiser, config.training.stages))
        state = checkpoints.restore(template)
    return config, normalisation, channels, grid, parts._replace(parameters=state.average, statistics=state.statistics)


def forecast(
    workdir: str,
    input: str,
    output: str,
    *,
    init: str,
    lead: str,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Forecasts from every initial time, writing each as it comes.

    Args:
        workdir: folder of a run with a checkpoint; nothing else of the run is read.
        input: store with the initial states.
        output: Zarr store to write, dimensions time (initial) × prediction_timedelta × [level ×] latitude × longitude.
        init: A:B[:STEP], inclusive.
        lead: longest lead, such as 10d; leads are multiples of the forecaster's step.
        batch_size: initial times forecast side by side.
        overwrite: replace an existing output.
        progress: whether to show a bar.

    Raises:
        UserError: the store does not fit the run, an initial state is missing, or a forecast is not finite.
    """
    config, normalisation, channels, grid, parts = load_run(workdir)
    step = parse_step(config.data.step)
    count = int(parse_step(lead) // step)
    if count < 1 or parse_step(lead) % step != np.timedelta64(0, "ns"):
        raise UserError(
            f"the lead {lead} is no multiple of the forecaster's step {config.data.step}", remedy="give another --lead"
        )
    reader = StateReader.open(input, channels, normalisation, grid)
    starts = initial_times(reader.times, init)
    position = {time: index for index, time in enumerate(reader.times)}
    rows = np.array(
        [
            [position.get(start - step * back, -1) for back in reversed(range(config.data.input_steps))]
            for start in starts
        ]
    )
    if (rows < 0).any():
        raise UserError(
            f"the forecast from {starts[(rows < 0).any(axis=1)][0].astype('datetime64[h]')} needs "
            f"{config.data.input_steps} states {config.data.step} apart, and one is missing",
            where=input,
            remedy="begin later or choose other initial times",
        )
    scales = make_scales(channels, normalisation, reader.statics(), grid)
    block = min(_LEADS_PER_BLOCK, count)
    leads = step * np.arange(1, count + 1)
    template, encoding = _template(reader, starts, leads, block, source=input, workdir=workdir)
    request = {"init": init, "lead": lead, "input": input, "workdir": str(workdir), "run": config.to_json()}
    store = begin_store(output, template, request=request, overwrite=overwrite, encoding=encoding)
    bar = progress_bar(rich.progress.MofNCompleteColumn(), "initial times", enabled=progress)
    with bar:
        task = bar.add_task("forecast", total=len(starts))
        for first in range(0, len(starts), batch_size):
            chosen = np.arange(first, min(first + batch_size, len(starts)))
            key = f"initial-{first}"
            if key not in store.done:
                # A last, shorter batch is filled up, so that one compiled program serves all.
                padded = np.resize(chosen, batch_size)
                _run_batch(store, reader, parts, scales, rows[padded], starts[padded], chosen, leads, block)
                store.mark_done(key)
            bar.update(task, advance=len(chosen))
    store.finish()


def _run_batch(
    store: StoreInProgress,
    reader: StateReader,
    parts: Parts,
    scales: Scales,
    rows: np.ndarray,
    starts: np.ndarray,
    chosen: np.ndarray,
    leads: np.ndarray,
    block: int,
) -> None:
    """Rolls one batch out and writes it, a block of leads at a time."""
    pieces = []
    for row, start in zip(rows, starts):
        states = reader.read(int(row.min()), int(row.max()) + 1).take(row - row.min())
        if not states.finite().all():
            raise UserError(
                f"the initial state at {start.astype('datetime64[h]')} has NaNs", remedy="choose other initial times"
            )
        pieces.append(states)
    history = Fields(*(jnp.asarray(np.stack(parts)) for parts in zip(*pieces)))
    step = leads[0]
    for begin in range(0, len(leads), block):
        times = starts[:, None] + step * np.arange(begin, begin + block + 1)
        forcing = reader.forcings(times.ravel()).reshape(*times.shape, *reader.grid.shape, -1)
        history, states = _roll(parts, history, scales, jnp.asarray(forcing), leads=block)
        stop = min(begin + block, len(leads))
        trimmed = map_fields(lambda array: np.asarray(array)[: stop - begin, : len(chosen)], states)  # noqa: B023
        _refuse_non_finite(trimmed, reader.channels, leads[begin:stop], starts)
        piece = _to_dataset(trimmed, reader)
        region = {"time": slice(chosen[0], chosen[-1] + 1), "prediction_timedelta": slice(begin, stop)}
        piece.to_zarr(store.path, region=region, consolidated=False)


def _refuse_non_finite(states: Fields, channels: Channels, leads: np.ndarray, starts: np.ndarray) -> None:
    magnitude = np.abs(states.eastward) + np.abs(states.northward)
    good = np.isfinite(np.concatenate([states.scalar, magnitude], axis=-1)).all(axis=(2, 3))
    if good.all():
        return
    lead, member, channel = np.argwhere(~good)[0]
    raise UserError(
        f"the forecast of {channels.describe()[channel]} from {starts[member].astype('datetime64[h]')} is not finite "
        f"at lead {leads[lead] / np.timedelta64(1, 'h'):g} h",
        remedy="train longer, with rollouts of more steps or a lower learning rate",
    )


def _to_dataset(states: Fields, reader: StateReader) -> xr.Dataset:
    """Physical fields of a block of leads, (time, prediction_timedelta[, level], latitude, longitude)."""
    moments = reader.normalisation
    found: dict[str, dict[int | None, np.ndarray]] = {}
    for index, (name, level) in enumerate(reader.channels.scalars):
        values = states.scalar[..., index] * moments.scalar_std[index] + moments.scalar_mean[index]
        found.setdefault(name, {})[level] = values
    for index, (eastward, northward, level) in enumerate(reader.channels.winds):
        found.setdefault(eastward, {})[level] = states.eastward[..., index] * moments.wind_std[index]
        found.setdefault(northward, {})[level] = states.northward[..., index] * moments.wind_std[index]
    lead_first = ("prediction_timedelta", "time", "latitude", "longitude")
    variables = {}
    for name, layers in found.items():
        if None in layers:
            array = xr.DataArray(layers[None], dims=lead_first)
        else:
            stacked = np.stack([layers[level] for level in reader.channels.levels], axis=2)
            array = xr.DataArray(stacked, dims=(*lead_first[:2], "level", *lead_first[2:]))
        order = [
            name for name in ("time", "prediction_timedelta", "level", "latitude", "longitude") if name in array.dims
        ]
        variables[name] = array.transpose(*order).astype(np.float32)
    return xr.Dataset(variables)


def _template(
    reader: StateReader, starts: np.ndarray, leads: np.ndarray, block: int, *, source: str, workdir: str
) -> tuple[xr.Dataset, dict]:
    """The store's metadata: chunks hold one initial time, a block of leads and full maps."""
    grid, levels = reader.grid, list(reader.channels.levels)
    has_level = {name for name, level in reader.channels.scalars if level is not None}
    for eastward, northward, level in reader.channels.winds:
        has_level |= {eastward, northward} if level is not None else set()
    sizes = {"time": len(starts), "prediction_timedelta": len(leads), "level": len(levels)}
    sizes |= {"latitude": grid.latitudes, "longitude": grid.longitudes}
    variables, encoding = {}, {}
    for name in reader.channels.variables:
        dims = [key for key in sizes if key != "level" or name in has_level]
        shape = tuple(sizes[key] for key in dims)
        chunks = tuple({"time": 1, "prediction_timedelta": block}.get(key, sizes[key]) for key in dims)
        lazy = dask.array.zeros(shape, chunks=chunks, dtype=np.float32)
        variables[name] = (dims, lazy, reader.dataset[name].attrs)
        encoding[name] = {"chunks": chunks}
    coordinates: dict[str, Any] = {
        "time": ("time", starts, {"long_name": "initial time", "standard_name": "forecast_reference_time"}),
        "prediction_timedelta": (
            "prediction_timedelta",
            leads.astype("timedelta64[ns]"),
            {"long_name": "lead time", "standard_name": "forecast_period"},
        ),
        "latitude": ("latitude", grid.latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", grid.longitude, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    if levels:
        coordinates["level"] = ("level", levels, {"units": "hPa", "positive": "down"})
    attributes = provenance(source=source, run=str(workdir), grid=grid.name, initial_times=len(starts))
    return xr.Dataset(variables, coordinates, attributes), encoding
