"""Chunks and shards of a store of forecasts, and how many of them are written at once."""

import dataclasses
import math
from typing import Any

import xarray as xr

from weather_scnn.byte_sizes import in_words
from weather_scnn.errors import UserError
from weather_scnn.io.chunk_sizes import parse_chunks
from weather_scnn.io.grib_writing import BITS

# Leads in a chunk, as they are computed.
_LEADS = 8
#: A store of more chunks has shards, unless it is asked for others: files beyond that make copying slow.
MOST_CHUNKS = 1000
# What is gathered of a batch so that a shard is written once; beyond, a shard holds what is computed at once.
_GATHERED_BYTES = 2**30
# Of GRIB 2 beside the values.
_MESSAGE_BYTES = 200


@dataclasses.dataclass(frozen=True)
class StoreLayout:
    """How a store is laid out.

    Attributes:
        encoding: of every variable.
        gathers: whether all leads of a batch are kept in memory until they are written, so that no shard is written
            twice.
    """

    encoding: dict[str, dict[str, Any]]
    gathers: bool

    @classmethod
    def settle(
        cls,
        template: xr.Dataset,
        block: int,
        batch: tuple[int, int],
        *,
        dealt: bool,
        sharded: bool,
        chunks: str | None,
        shards: str | None,
    ) -> "StoreLayout":
        """Chunks of one initial time, one member, some leads and full maps, unless others are asked for.

        Args:
            template: of the store.
            block: leads that are computed at once.
            batch: initial times and members of one checkpoint that are computed side by side.
            dealt: whether neighbouring members come from different checkpoints.
            sharded: whether a store of many chunks has shards.
            chunks, shards: as time=1,level=1; None for the usual.

        Raises:
            UserError: they name no axis, or a shard holds no whole chunks.
        """
        dims = tuple(str(dim) for dim in template.dims)
        leads = template.sizes["prediction_timedelta"]
        usual = {"time": 1, "realization": 1, "prediction_timedelta": -(-leads // -(-leads // min(_LEADS, block)))}
        sizes = usual | (parse_chunks(chunks, dims, "--chunks") if chunks else {})
        at_once = batch[0] * batch[1] * sum(
            4 * math.prod(size for dim, size in array.sizes.items() if dim not in ("time", "realization"))
            for array in template.data_vars.values()
        )  # fmt: skip
        fits = at_once <= _GATHERED_BYTES
        chunk = {name: {dim: min(sizes.get(str(dim), size), size) for dim, size in array.sizes.items()}
                 for name, array in template.data_vars.items()}  # fmt: skip
        count = sum(
            math.prod(-(-size // chunk[name][dim]) for dim, size in array.sizes.items())
            for name, array in template.data_vars.items()
        )
        wanted = parse_chunks(shards, dims, "--shards") if shards else {}
        if sharded and not wanted and count > MOST_CHUNKS:
            wanted = {"time": 1, "realization": 1 if dealt else batch[1]}
            if not fits:
                wanted["prediction_timedelta"] = sizes["prediction_timedelta"]
            # Chunks that are asked for may be longer.
            wanted = {dim: -(-size // sizes.get(dim, 1)) * sizes.get(dim, 1) for dim, size in wanted.items()}
        encoding: dict[str, dict[str, Any]] = {}
        for name, array in template.data_vars.items():
            encoding[str(name)] = {"chunks": tuple(chunk[name].values())}
            if not wanted:
                continue
            shard = {dim: min(wanted.get(str(dim), size), size) for dim, size in array.sizes.items()}
            for dim, size in chunk[name].items():
                if shard[dim] % size and shard[dim] < array.sizes[dim]:
                    raise UserError(
                        f"shards of {shard[dim]} along {dim} do not hold whole chunks of {size}",
                        remedy=f"use --shards {dim}={-(-shard[dim] // size) * size}",
                    )
                shard[dim] = -(-shard[dim] // size) * size
            encoding[str(name)]["shards"] = tuple(shard.values())
        return cls(encoding, bool(wanted) and fits)


def size_in_words(template: xr.Dataset, format: str, output: str) -> str:
    """What will be written, for people: fields, lead times, points and bytes."""
    sizes = template.sizes
    forecasts = sizes["time"] * sizes.get("realization", 1)
    values = sum(array.size for array in template.data_vars.values())
    maps = sum(array.size // (sizes["latitude"] * sizes["longitude"]) for array in template.data_vars.values())
    written = f"{in_words(4 * values)} before compression"
    if format == "grib2":
        written = f"about {in_words(values * BITS // 8 + maps * _MESSAGE_BYTES)}"
    return (
        f"writes {forecasts} forecast{'s' * (forecasts > 1)} of {len(template.data_vars)} "
        f"variable{'s' * (len(template.data_vars) > 1)} at {sizes['prediction_timedelta']} "
        f"lead{'s' * (sizes['prediction_timedelta'] > 1)} on {sizes['longitude']}x{sizes['latitude']} points to {output}: "
        f"{written}"
    )
