"""Regridding: any source → a WeatherBench 2 Zarr store on another grid, as a Beam job or in threads.

The template is written before the job starts (xarray-beam#85: workers that discover it corrupt stores). A work item is a
field, or the two components of a wind, over some times with full maps, aligned with the store's chunks, so writing it
twice is harmless and a killed job continues.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from pipelines import running
from pipelines.beam import check_options
from pipelines.planning import DEFAULT_MEMORY, Blocks, Estimate, plan_blocks
from pipelines.regridding_items import (
    SEA_FIELDS,
    Opened,
    RegriddingItem,
    RegriddingRequest,
    close,
    groups,
    open_once,
    work,
)
from weather_scnn.byte_sizes import parse_bytes
from weather_scnn.catalogue.level_numbers import level_axis
from weather_scnn.catalogue.naming import nearest_name
from weather_scnn.errors import UserError
from weather_scnn.io.chunk_sizes import parse_chunks
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.writing import begin_store, provenance
from weather_scnn.regridding.weights import METHODS as WEIGHTED
from weather_scnn.sphere.grid import Grid

METHODS = (*WEIGHTED, "spectral")
WINDS = ("vector", "scalar")

_FORMULAS = {
    "conservative": "mean over the cell: overlaps in sin(latitude) and longitude",
    "bilinear": "linear in latitude and periodic longitude",
    "nearest": "nearest latitude and nearest longitude",
    "spectral": "spherical harmonics, triangularly truncated at the largest degree that both grids carry",
}


def _template(opened: Opened, request: RegriddingRequest, attributes: dict[str, Any]) -> xr.Dataset:
    """The output with static fields computed and the others lazy."""
    source, grid = opened.reader.fields, request.grid
    coords: dict[str, Any] = {
        axis: (axis, values, {"units": f"degrees_{towards}", "standard_name": axis, "long_name": axis})
        for axis, towards, values in (("latitude", "north", grid.latitude), ("longitude", "east", grid.longitude))
    }
    if "time" in source.dims:
        coords["time"] = source["time"].variable
    if opened.levels is not None:
        coords["level"] = ("level", level_axis(opened.levels.levels), dict(source["level"].attrs))
    template = xr.Dataset(coords=coords, attrs={**source.attrs, **attributes})
    for name, array in source.data_vars.items():
        name = str(name)
        facts = dict(array.attrs)
        if name in SEA_FIELDS and opened.sea is not None:
            facts["cells"] = "those less than half of which are land, by the source's land_sea_mask"
        leading = [dim for dim in ("time", "level") if dim in array.dims]
        if "time" in array.dims:
            sizes = [
                len(opened.levels.levels) if dim == "level" and opened.levels else array.sizes[dim] for dim in leading
            ]
            # One dask chunk: the store's chunks are in the encoding, and a task a time would be slow for long records.
            template[name] = (
                (*leading, "latitude", "longitude"),
                dask.array.zeros((*sizes, *grid.shape), dtype=np.float32, chunks=-1),
                facts,
            )
        else:
            values = opened.read(name, None, slice(None))
            values = opened.regridded((name,), [values])[0]
            if "level" in array.dims and opened.levels is not None:
                values = opened.levels.apply(values[None])[0]
            template[name] = ((*leading, "latitude", "longitude"), values, facts)
    return template


def _plan(
    opened: Opened, request: RegriddingRequest, encoding: dict[str, dict[str, Any]], max_memory: int
) -> tuple[dict[str, RegriddingItem], Estimate]:
    """Work items by key, and what they cost."""
    dataset = opened.reader.fields
    items: dict[str, RegriddingItem] = {}
    total = Estimate(0, 0, 0)
    for names in groups(dataset, request.winds):
        array = dataset[names[0]]
        sizes = {str(dim): size for dim, size in array.sizes.items()}
        plan = opened.levels if "level" in sizes else None
        if plan is not None:
            sizes["level"] = len(plan.read)
        stored = [opened.reader.chunks(name) for name in names]
        shape = encoding[names[0]].get("shards") or encoding[names[0]]["chunks"]
        blocks: Blocks = plan_blocks(
            sizes,
            {dim: max(each.get(dim, 1) for each in stored) for dim in sizes},
            fields=len(names),
            output_points=request.grid.latitudes * request.grid.longitudes,
            output_levels=len(plan.levels) if plan is not None else 1,
            output_times=shape[0],
            max_memory=max_memory,
            where=f"{request.input}, {' and '.join(names)}",
        )
        total = total + blocks.estimate
        for start in range(0, sizes["time"], blocks.times_in_item):
            stop = min(start + blocks.times_in_item, sizes["time"])
            item = RegriddingItem(names, start, stop, blocks.times_in_block, blocks.levels_in_block)
            items[item.key] = item
    return items, total


def _encoding(template: xr.Dataset, chunks: str | None, shards: str | None) -> dict[str, dict[str, Any]]:
    """Chunks, and shards where asked for, of the fields over time."""
    dims = ("time", "level")
    chunk = {"time": 1, **(parse_chunks(chunks, dims, "--chunks") if chunks else {})}
    shard = parse_chunks(shards, dims, "--shards") if shards else {}
    encoding: dict[str, dict[str, Any]] = {}
    for name, array in template.data_vars.items():
        if "time" not in array.dims:
            continue
        sizes = {str(dim): min(chunk.get(str(dim), size), size) for dim, size in array.sizes.items()}
        encoding[str(name)] = {"chunks": tuple(sizes.values())}
        if shard:
            whole = {dim: max(shard.get(dim, array.sizes[dim]), size) for dim, size in sizes.items()}
            whole["time"] = shard.get("time", sizes["time"])
            if whole["time"] % sizes["time"]:
                raise UserError(
                    f"shards of {whole['time']} times do not hold whole chunks of {sizes['time']}",
                    remedy=f"use --shards time={-(-whole['time'] // sizes['time']) * sizes['time']}",
                )
            for dim in whole:
                if dim != "time":
                    whole[dim] = -(-whole[dim] // sizes[dim]) * sizes[dim]
            encoding[str(name)]["shards"] = tuple(whole.values())
    return encoding


def regrid(
    input: str,
    output: str,
    grid: Grid,
    *,
    method: str = "conservative",
    variables: Sequence[str] | str | None = None,
    levels: Sequence[float] | None = None,
    interpolate_levels: bool = False,
    time: str | None = None,
    step: str | None = None,
    member: int | None = None,
    coverage: float = 0.5,
    winds: str = "vector",
    chunks: str | None = None,
    shards: str | None = None,
    max_memory: str = DEFAULT_MEMORY,
    overwrite: bool = False,
    beam_options: list[str] | None = None,
    no_beam: bool = False,
    progress: bool = True,
) -> None:
    """Writes a source on another grid as a WeatherBench 2 Zarr store.

    An interrupted run of the same request is continued. Times are those of the source: a gap stays a gap. Fields
    without time are written once.

    Args:
        input: anything `open_dataset` takes; fields on hybrid or sigma levels need `levels`, see `model_levels`.
        output: Zarr store, local or an fsspec address.
        grid: target.
        method: conservative, bilinear, nearest (see `make_weights`) or spectral (see `SpectralRegridder`).
        variables: names, derived fields among them (see `weather_scnn.io.derived`); default all that are there.
        levels: hPa; default all.
        interpolate_levels: whether levels that the source lacks are interpolated in the logarithm of pressure.
        time: period A:B; default all.
        step: only times at whole multiples of this since midnight, such as 6h.
        member: number of the ensemble member; default the first.
        coverage: least share of a target cell that holds valid values, else it is NaN. Fields of the sea are valid
            in cells less than half of which are land, where the source has a land-sea mask.
        winds: "vector" averages winds as vectors, which is right at the poles; "scalar" component by component, as
            WeatherBench 2 does.
        chunks: of the output, such as time=8 or time=8,level=1; default one time with all levels.
        shards: of the output, such as time=64: many chunks in one object.
        max_memory: that one worker may take.
        overwrite: whether to replace what stands at `output`.
        beam_options: flags for Beam, such as ["--runner=DataflowRunner", "--project=…"]; default: in this process.
        no_beam: whether to run in threads without Beam, with the same result.
        progress: whether to show what it will cost, and a bar, on standard error.

    Raises:
        UserError: the source, the options or the output will not do, or a work item cannot be read or written.
    """
    check_output(output, Kind.STORE, sources={"--input": input}, overwrite=overwrite)
    if step:
        parse_duration(step, "the step", likely=("h",))
    for what, value, known in (("method", method, METHODS), ("kind of winds", winds, WINDS)):
        if value not in known:
            raise UserError(f"there is no {what} {value!r}", remedy=nearest_name(value, known))
    if not 0 < coverage <= 1:
        raise UserError(f"a coverage of {coverage:g} is not above 0 and at most 1", remedy="choose one such as 0.5")
    if method == "spectral" and coverage != 0.5:
        raise UserError(
            "a coverage means nothing to --method spectral, whose fields have no missing values",
            remedy="leave --coverage out, or choose --method conservative",
        )
    check_options(beam_options or [], no_beam=no_beam)
    memory = parse_bytes(max_memory)
    if isinstance(variables, str):
        variables = [name.strip() for name in variables.split(",") if name.strip()]
    request = RegriddingRequest(
        str(input),
        grid,
        method,
        None if variables is None else tuple(variables),
        None if levels is None else tuple(map(float, levels)),
        time,
        interpolate_levels,
        coverage,
        winds,
        step,
        member,
    )
    job = running.new_job()
    try:
        opened = open_once(job, request)
        opened.reader.judge_first(one_map=True)
        times = opened.reader.fields["time"].values if "time" in opened.reader.fields.dims else np.array([])
        period = f"{times[0]}:{times[-1]}" if len(times) else ""
        attributes = provenance(
            source=request.input,
            formula=_FORMULAS[method]
            + (f"; NaN where less than {coverage:g} of it is valid" if method != "spectral" else ""),
            method=method,
            winds=winds,
            grid=grid.name,
            grid_kind=grid.kind.value,
            period=period,
        )
        template = _template(opened, request, attributes)
        encoding = _encoding(template, chunks, shards)
        items, estimate = _plan(opened, request, encoding, memory)
        facts = dataclasses.asdict(request) | {
            "command": "regrid",
            "grid": [grid.kind.value, grid.name, grid.first_longitude, grid.north_first],
            "fields": sorted(map(str, template.data_vars)),
            "times": [len(times), period],
            "chunks": encoding,
            "pieces": sorted({item.stop - item.start for item in items.values()}),
        }
        store = running.run_planned(
            functools.partial(work, job=job, request=request),
            items,
            estimate,
            lambda: begin_store(output, template, request=facts, overwrite=overwrite, encoding=encoding),
            job=job,
            description="regrid",
            told=f"regrid {grid.name}: {len(times)} times",
            max_memory=memory,
            beam_options=beam_options,
            no_beam=no_beam,
            progress=progress,
        )
        store.finish()
    finally:
        close()
