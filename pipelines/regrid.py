"""Regridding: any source → a WeatherBench 2 Zarr store on another grid, as a Beam job or a plain loop.

The template is written before the job starts (xarray-beam#85: workers that discover it corrupt stores). A piece is some
times with full maps, aligned with the store's chunks, so writing it twice is harmless and a killed job continues.
"""

import contextlib
import errno
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask.array
import numpy as np
import rich.console
import rich.progress
import xarray as xr
import zarr

from pipelines.regridding_weights import METHODS, Weights, make_weights, regrid_array
from weather_scnn.data.catalogue import nearest_name
from weather_scnn.data.opening import coverage_fault, open_dataset
from weather_scnn.data.writing import StoreInProgress, begin_store, provenance
from weather_scnn.errors import UserError
from weather_scnn.progress import progress_bar
from weather_scnn.sphere.grid import Grid

_FORMULAS = {
    "conservative": "mean over the cell: overlaps in sin(latitude) and longitude; NaN where less than half is valid",
    "bilinear": "linear in latitude and periodic longitude; NaN where less than half the weight is valid",
    "nearest": "nearest latitude and nearest longitude",
}
_PIECE_BYTES = 8 * 2**20
_PAUSES_SECONDS = (0.2, 1.0)


def regrid_dataset(dataset: xr.Dataset, grid: Grid, weights: Weights) -> xr.Dataset:
    """Regrids the fields of a canonical dataset that fits in memory.

    Args:
        dataset: fields whose last two dimensions are latitude and longitude.
        grid: target, as given to `make_weights`.
        weights: from the dataset's coordinates to `grid`.
    """
    fields = {
        name: (array.dims, regrid_array(array.values, weights), array.attrs)
        for name, array in dataset.data_vars.items()
    }
    kept = {name: coordinate for name, coordinate in dataset.coords.items() if name not in ("latitude", "longitude")}
    degrees = {
        axis: (axis, values, {"units": f"degrees_{towards}", "standard_name": axis, "long_name": axis})
        for axis, towards, values in (("latitude", "north", grid.latitude), ("longitude", "east", grid.longitude))
    }
    return xr.Dataset(fields, {**kept, **degrees}, dataset.attrs)


def _template(source: xr.Dataset, grid: Grid, weights: Weights, attributes: dict[str, Any]) -> xr.Dataset:
    """The output with static fields computed and the others lazy."""
    static = source[[name for name, array in source.data_vars.items() if "time" not in array.dims]]
    template = regrid_dataset(static.compute(), grid, weights)
    kept = {name: coordinate for name, coordinate in source.coords.items() if name not in ("latitude", "longitude")}
    template = template.assign_coords(kept)
    for name, array in source.data_vars.items():
        if "time" in array.dims:
            shape = (*array.shape[:-2], *grid.shape)
            # One dask chunk: the store's chunks are in the encoding, and a task a time would be slow for long records.
            template[name] = (array.dims, dask.array.zeros(shape, np.float32, chunks=-1), array.attrs)
    return template[list(source.data_vars)].assign_attrs(attributes)


def _piece_name(offset: int) -> str:
    return f"{offset:08d}"


def _times_in_a_piece(source: xr.Dataset) -> int:
    """Whole source chunks, about 8 MiB: a small map alone would cost more to schedule than to regrid.

    Depends on the source alone, so that an interrupted run finds its pieces again.
    """
    chunk = max((array.chunks[0][0] for array in source.data_vars.values() if array.chunks), default=1)
    each = source.nbytes // max(1, source.sizes["time"])
    return chunk * max(1, _PIECE_BYTES // max(1, chunk * each))


def _read_piece(source: xr.Dataset, offset: int, size: int, where: str) -> xr.Dataset:
    """Times from `offset` on, in memory; reading is tried again before the piece is given up and named."""
    piece = source.isel(time=slice(offset, offset + size))
    for pause in (*_PAUSES_SECONDS, None):
        try:
            return piece.compute()
        except Exception as error:  # stores raise nearly any type for a damaged or unreachable chunk
            if pause is None:
                first, last = (np.datetime_as_string(piece["time"].values[i], "h") for i in (0, -1))
                raise UserError(
                    f"cannot be read in {first}:{last} ({type(error).__name__}: {_reason(error)[:160]})",
                    where=where,
                    remedy="fetch that part again, then repeat the command: finished times are kept",
                ) from error
            time.sleep(pause)
    raise AssertionError


def _regrid_piece(
    offset: int, *, source: xr.Dataset, size: int, grid: Grid, weights: Weights, where: str
) -> xr.Dataset:
    return regrid_dataset(_read_piece(source, offset, size, where), grid, weights)


@functools.lru_cache(maxsize=4)
def _open_for_writing(path: str) -> zarr.Group:
    return zarr.open_group(path, mode="r+", use_consolidated=False)


def _write_piece(offset: int, chunk: xr.Dataset, *, path: str) -> None:
    """Writes the times of `chunk` from `offset` on, then records them as done."""
    group = _open_for_writing(path)
    for name, array in chunk.data_vars.items():
        group[str(name)][offset : offset + array.sizes["time"]] = array.values  # type: ignore[index]
    StoreInProgress(path).mark_done(_piece_name(offset))


def _check_beam_options(flags: Sequence[str]) -> None:
    """Refuses options that Beam does not know, before any work."""
    with _quiet_imports():
        from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        with contextlib.suppress(Exception):  # options that several runners declare
            options._add_argparse_args(parser)
    names = [name for action in parser._actions for name in action.option_strings]
    for flag in flags:
        name = flag.split("=")[0]
        if name.startswith("--") and name not in names:
            raise UserError(f"Beam has no option {name}", remedy=nearest_name(name, names))
    try:
        PipelineOptions(list(flags))
    except (SystemExit, ValueError) as error:
        raise UserError(f"Beam refuses the options {' '.join(flags)}", remedy="check their values") from error


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Beam logs a warning on import where its Google Cloud extra is not installed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _run_beam(
    regrid_piece: Callable[[int], xr.Dataset],
    template: xr.Dataset,
    store: StoreInProgress,
    offsets: Sequence[int],
    *,
    beam_options: Sequence[str] | None,
    progress: bool,
) -> None:
    with _quiet_imports():
        import apache_beam as beam
        import xarray_beam

        from pipelines import running

    job = running.new_job()

    def work(key: xarray_beam.Key) -> None:
        with running.piece(job):
            chunk = regrid_piece(key.offsets["time"])
            xarray_beam.validate_zarr_chunk(key, chunk, template, {"time": 1})
            _write_piece(key.offsets["time"], chunk, path=store.path)

    def build(pipeline: beam.Pipeline) -> None:
        keys = [xarray_beam.Key({"time": offset}) for offset in offsets]
        pipeline | "Pieces" >> beam.Create(keys) | "Spread" >> beam.Reshuffle() | "Regrid" >> beam.Map(work)

    running.run(build, job=job, pieces=len(offsets), description="regrid", beam_options=beam_options, progress=progress)


@contextlib.contextmanager
def _bar(progress: bool, total: int) -> Iterator[Callable[[], None]]:
    with progress_bar(rich.progress.MofNCompleteColumn(), rich.progress.TimeElapsedColumn(), enabled=progress) as bar:
        task = bar.add_task("regrid", total=total)
        yield lambda: bar.advance(task)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else type(error).__name__)


def regrid(
    input: str,
    output: str,
    grid: Grid,
    *,
    method: str = "conservative",
    variables: Sequence[str] | str | None = None,
    levels: Sequence[float] | None = None,
    time: str | None = None,
    overwrite: bool = False,
    beam_options: list[str] | None = None,
    no_beam: bool = False,
    progress: bool = True,
) -> None:
    """Writes a source on another grid as a WeatherBench 2 Zarr store, one chunk a time.

    An interrupted run of the same request is continued. Times are those of the source: a gap stays a gap. Fields
    without time are written once. The wind's components are regridded as scalars, which errs next to the poles.

    Args:
        input: anything `open_dataset` takes.
        output: Zarr store, local or an fsspec address.
        grid: target.
        method: conservative, bilinear or nearest; see `make_weights`.
        variables: names; default all.
        levels: hPa; default all.
        time: period A:B; default all.
        overwrite: whether to replace what stands at `output`.
        beam_options: flags for Beam, such as ["--runner=DataflowRunner", "--project=…"]; default: in this process.
        no_beam: whether to run as a plain loop, with the same result.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: the source, the options or the output will not do, or a piece cannot be read or written.
    """
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}", remedy=nearest_name(method, METHODS))
    if no_beam and beam_options:
        raise UserError("options for Beam were given together with no Beam", remedy="leave one of them out")
    if beam_options:
        _check_beam_options(beam_options)
    source = open_dataset(input, variables=variables, levels=levels, time=time)
    latitude, longitude = source["latitude"].values, source["longitude"].values
    if fault := coverage_fault(latitude, longitude):
        raise UserError(f"does not cover the globe: {fault}", where=str(input), remedy="give global fields")
    weights = make_weights(latitude, longitude, grid, method)
    times = source["time"].values if "time" in source.dims else np.array([], "datetime64[ns]")
    period = f"{times[0]}:{times[-1]}" if len(times) else ""
    moving = source[[name for name, array in source.data_vars.items() if "time" in array.dims]]
    size = _times_in_a_piece(moving) if len(times) else 1
    request = {
        "command": "regrid",
        "input": str(input),
        "grid": [grid.kind.value, grid.name, grid.first_longitude, grid.north_first],
        "method": method,
        "variables": sorted(map(str, source.data_vars)),
        "levels": [float(level) for level in source["level"].values] if "level" in source.dims else [],
        "times": [len(times), period],
        "times_in_a_piece": size,
    }
    attributes = provenance(
        source=str(input),
        formula=_FORMULAS[method],
        method=method,
        grid=grid.name,
        grid_kind=grid.kind.value,
        period=period,
    )
    template = _template(source, grid, weights, attributes)
    encoding: dict[str, dict[str, Any]] = {
        str(name): {"chunks": (1, *array.shape[1:])}
        for name, array in template.data_vars.items()
        if "time" in array.dims
    }
    store = begin_store(output, template, request=request, overwrite=overwrite, encoding=encoding)
    _open_for_writing.cache_clear()
    offsets = [offset for offset in range(0, len(times), size) if _piece_name(offset) not in store.done]
    regrid_piece = functools.partial(
        _regrid_piece, source=moving, size=size, grid=grid, weights=weights, where=str(input)
    )
    try:
        if no_beam:
            with _bar(progress, len(offsets)) as advance:
                for offset in offsets:
                    _write_piece(offset, regrid_piece(offset), path=store.path)
                    advance()
        elif offsets:
            _run_beam(regrid_piece, template, store, offsets, beam_options=beam_options, progress=progress)
    except UserError:
        raise
    except Exception as error:  # Beam wraps what a worker raised in types of its own
        full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left" in str(error)
        remedy = "free some space" if full else "mend that part of the source or the store"
        raise UserError(
            f"stopped: {_reason(error)[:300]}",
            where=str(output),
            remedy=f"{remedy}, then repeat the command: finished times are kept",
        ) from error
    store.finish()
