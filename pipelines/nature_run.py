"""A nature run in the WeatherBench 2 layout, so that everything else can run with no download."""

import concurrent.futures
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import dask.array
import jax
import numpy as np
import rich.console
import rich.progress
import xarray as xr
import zarr

from pipelines.atmospheres import Atmosphere, HeldSuarez, attributes
from pipelines.nature_model import OUTPUT_SECONDS
from pipelines.nature_output import BELOW_GROUND
from weather_scnn.errors import UserError
from weather_scnn.io.marks import MADE_BY, Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.restart_file import RestartFile
from weather_scnn.io.writing import begin_store
from weather_scnn.progress import progress_bar
from weather_scnn.sphere.grid import Grid

_STEP = np.timedelta64(OUTPUT_SECONDS, "s")
_OUTPUTS_PER_DAY = 86400 // OUTPUT_SECONDS
# Outputs integrated, diagnosed and written together: one day.
_BLOCK = 4
# Bytes that a chunk holds at most, if it is of more than one time: on a small grid a file a map would be thousands of
# tiny ones, and a chunk of a day is read as fast.
_CHUNK_BYTES = 2**19
# Blocks between two saved states: an interrupted run repeats at most this many days, a few seconds.
_BLOCKS_PER_RESTART = 30
_MOST_DAYS = 90_000  # within the 292 years that timestamps of nanoseconds reach
_LOWEST_LEVEL, _HIGHEST_LEVEL = 1000, 50


def _refuse_bad_requests(
    days: float, grid: Grid, seed: int, start: str, levels: Sequence[int], spinup_days: float
) -> None:
    if days > _MOST_DAYS:
        raise UserError(f"{days:g} days are more than times can count", remedy=f"give at most {_MOST_DAYS}")
    if seed < 0:
        raise UserError(f"the seed {seed} is negative", remedy="give --seed 0 or more")
    if not days * _OUTPUTS_PER_DAY >= 1:
        raise UserError(f"{days:g} days hold no output time", remedy="give at least 0.25 days")
    if not 0 <= spinup_days <= _MOST_DAYS:
        raise UserError(
            f"a spin-up of {spinup_days:g} days is negative or endless", remedy=f"give 0 to {_MOST_DAYS} days"
        )
    if grid.has_poles or grid.north_first:
        raise UserError(
            "the nature run writes no rows on the poles and south first", remedy="choose a grid without poles"
        )
    if not levels or sorted(set(levels)) != list(levels):
        raise UserError(f"levels {tuple(levels)} are not strictly ascending", remedy="sort them, each once, in hPa")
    if levels[0] < _HIGHEST_LEVEL or levels[-1] > _LOWEST_LEVEL:
        raise UserError(
            f"levels {tuple(levels)} reach outside {_HIGHEST_LEVEL} to {_LOWEST_LEVEL} hPa, where the model has layers",
            remedy="choose levels in between",
        )
    try:
        np.datetime64(start, "s")
    except ValueError:
        raise UserError(f"the start {start!r} is not a date", remedy="write it as 2000-01-01") from None


def _times_in_chunk(levels: int, grid: Grid) -> int:
    """Times in a chunk: those of a block where they are small, else one, as training reads single times."""
    whole_block = _BLOCK * levels * grid.latitudes * grid.longitudes * np.dtype(np.float32).itemsize
    return _BLOCK if whole_block <= _CHUNK_BYTES else 1


def _atmosphere(model: str, grid: Grid, levels: Sequence[int | float] | None) -> Atmosphere:
    if model == HeldSuarez.name:
        kind: Any = HeldSuarez
    elif model == "speedy":
        from pipelines.nature_speedy import Speedy

        kind = Speedy
    else:
        raise UserError(f"there is no model {model!r}", remedy=f"choose {HeldSuarez.name} or speedy")
    return kind(grid) if levels is None else kind(grid, tuple(int(level) for level in levels))


def _template(atmosphere: Atmosphere, times: np.ndarray, seed: int, spinup_days: float) -> xr.Dataset:
    grid, levels = atmosphere.grid, atmosphere.levels
    one_map = ("latitude", "longitude")
    chunk = min(_times_in_chunk(len(levels), grid), times.size)

    def lazy(*leading: int) -> dask.array.Array:
        shape = (times.size, *leading, *grid.shape)
        return dask.array.zeros(shape, chunks=(chunk, *shape[1:]), dtype=np.float32)

    variables: dict[str, tuple] = {
        name: (("time", "level", *one_map), lazy(len(levels))) for name in atmosphere.level_fields
    }
    flat = (*atmosphere.surface_fields, *atmosphere.known_fields)
    variables |= {name: (("time", *one_map), lazy()) for name in flat}
    variables |= {name: (one_map, values) for name, values in atmosphere.static_fields().items()}
    told = attributes(list(variables), atmosphere.long_names)
    dataset = xr.Dataset(
        {name: (*variable, told[name]) for name, variable in variables.items()},
        coords={
            "time": ("time", times.astype("datetime64[ns]"), {"standard_name": "time"}),
            "level": ("level", np.asarray(levels, np.int64), {"units": "hPa", "long_name": "pressure level"}),
            "latitude": ("latitude", grid.latitude, {"units": "degrees_north", "standard_name": "latitude"}),
            "longitude": ("longitude", grid.longitude, {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    # No date of creation: the same seed gives the same bytes.
    return dataset.assign_attrs(
        Conventions="CF-1.8",
        title=atmosphere.title,
        source=atmosphere.source,
        below_ground=BELOW_GROUND,
        created_by=MADE_BY,
        seed=seed,
        spinup_days=float(spinup_days),
        grid=grid.name,
    )


def _save(restart: RestartFile, atmosphere: Atmosphere, state: Any, position: int) -> None:
    restart.save({"position": np.asarray(position), **atmosphere.pack(state)})


def _resumed(restart: RestartFile, atmosphere: Atmosphere) -> tuple[Any, int] | None:
    """The state an interrupted run saved last and the index of the output it belongs to; None if there is none."""
    saved = restart.load()
    try:
        return None if saved is None else (atmosphere.unpack(saved), int(saved["position"]))
    except KeyError:  # of a model that has changed since
        return None


class _SimulatedDays(rich.progress.ProgressColumn):
    """Days done and simulated days per second of wall time."""

    def render(self, task: rich.progress.Task) -> str:
        speed = task.finished_speed or task.speed
        rate = f", {speed:.1f} days/s" if speed else ""
        return f"{task.completed:.0f} of {task.total or 0:.0f} days{rate}"


def _write(arrays: dict[str, Any], first: int, fields: dict[str, np.ndarray]) -> None:
    for name, values in fields.items():
        arrays[name][first : first + values.shape[0]] = values


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run_block(atmosphere: Atmosphere, state: Any, boundary: Any) -> tuple[Any, dict[str, jax.Array]]:
    """Fields at the state's time and every six hours after, one for each boundary; and the state after them all."""

    def step(carry: Any, driver: Any) -> tuple[Any, dict[str, jax.Array]]:
        return atmosphere.advance(carry, driver), atmosphere.fields(carry, driver)

    return jax.lax.scan(step, state, boundary)


def _blocks(count: int, first: int) -> Iterator[tuple[int, int]]:
    for begin in range(first, count, _BLOCK):
        yield begin, min(begin + _BLOCK, count)


def simulate(
    output: str,
    *,
    days: float,
    grid: Grid,
    seed: int = 0,
    start: str = "2000-01-01",
    levels: Sequence[int | float] | None = None,
    spinup_days: float | None = None,
    model: str = HeldSuarez.name,
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Integrates an atmosphere and writes a WeatherBench 2 store, six-hourly, in chunks of a day on small grids and
    of one time on others.

    Memory does not grow with `days`. The same arguments give the same bytes on the same machine, also when the
    command was killed and repeated: the state is saved beside the store as it goes.

    Args:
        output: Zarr store to write.
        days: simulated days to write; four times a day, the first at `start`.
        grid: output grid without pole rows, any size; the model itself is T21, or T31.
        seed: of the initial perturbation.
        start: date of the first output.
        levels: hPa, ascending, within 50 to 1000; default those of the model. Below ground they are extrapolated.
        spinup_days: days integrated before `start` and not written, rounded up to whole ones; default what the model
            needs.
        model: held-suarez, a dry planet without a boundary; speedy, a moist Earth with its seas, lands and seasons,
            which needs the extra `earth`.
        overwrite: whether to replace what stands at `output`.
        progress: whether to show a bar on standard error.

    Returns:
        Global budgets in one line, of models that have them.

    Raises:
        UserError: an argument is out of range, the output exists, or the integration became unstable.
    """
    check_output(output, Kind.STORE, overwrite=overwrite)
    atmosphere = _atmosphere(model, grid, levels)
    spinup_days = atmosphere.settling_days if spinup_days is None else spinup_days
    _refuse_bad_requests(days, grid, seed, start, atmosphere.levels, spinup_days)
    times = np.datetime64(start, "s") + _STEP * np.arange(int(days * _OUTPUTS_PER_DAY + 1e-9))
    request = {
        "command": "simulate",
        "outputs": times.size,
        "grid": [grid.kind.value, grid.longitudes, grid.latitudes, grid.first_longitude],
        "seed": seed,
        "start": str(times[0]),
        "levels": atmosphere.levels,
        "spinup_days": float(spinup_days),
        "model": atmosphere.name,
    }
    template = _template(atmosphere, times, seed, spinup_days)
    encoding = {"time": {"units": f"hours since {times[0]}".replace("T", " "), "dtype": "int64"}}
    store = begin_store(output, template, request=request, overwrite=overwrite, encoding=encoding)
    group = zarr.open_group(store.path, mode="r+", use_consolidated=False)
    names = (*atmosphere.level_fields, *atmosphere.surface_fields, *atmosphere.known_fields)
    arrays: dict[str, Any] = {name: group[name] for name in names}
    bar = progress_bar(_SimulatedDays(), enabled=progress)
    with bar, concurrent.futures.ThreadPoolExecutor(1) as writer:
        restart = RestartFile(store, "state")
        resumed = _resumed(restart, atmosphere)
        if resumed is None:
            blocks = math.ceil(spinup_days * _OUTPUTS_PER_DAY / _BLOCK)
            early = times[0] - _STEP * _BLOCK * np.arange(blocks, 0, -1)
            state = atmosphere.initial_state(seed, early[0] if blocks else times[0])
            task = bar.add_task("spin-up", total=float(blocks))
            for begin_time in early:
                state, _ = _run_block(atmosphere, state, atmosphere.boundary(begin_time + _STEP * np.arange(_BLOCK)))
                jax.block_until_ready(state)
                bar.advance(task)
            first = 0
            _save(restart, atmosphere, state, first)
        else:
            state, first = resumed
        task = bar.add_task("simulate", total=times.size / _OUTPUTS_PER_DAY)
        bar.update(task, completed=first / _OUTPUTS_PER_DAY)
        pending: concurrent.futures.Future | None = None
        for count, (begin, end) in enumerate(_blocks(times.size, first)):
            if pending is not None and count % _BLOCKS_PER_RESTART == 0:
                pending.result()
                _save(restart, atmosphere, state, begin)
            # The last block may be short; its surplus times are integrated and dropped.
            state, frames = _run_block(atmosphere, state, atmosphere.boundary(times[begin] + _STEP * np.arange(_BLOCK)))
            fields = {name: np.asarray(values)[: end - begin] for name, values in frames.items()}
            if not all(np.isfinite(values).all() for values in fields.values()):
                raise UserError(
                    f"the integration became unstable by {times[end - 1]}",
                    where=store.output,
                    remedy="try another seed",
                )
            fields |= atmosphere.known(times[begin:end])
            if pending is not None:
                pending.result()
            pending = writer.submit(_write, arrays, begin, fields)
            bar.update(task, completed=end / _OUTPUTS_PER_DAY)
        if pending is not None:
            pending.result()
    store.finish()
    return atmosphere.balance(state)
