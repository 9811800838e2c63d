"""What is kept of a batch of forecasts on its way into the store, a block of leads at a time or all at once."""

import dataclasses

import numpy as np
import xarray as xr

from weather_scnn.forecasting.batches import Batch
from weather_scnn.forecasting.kept_fields import Kept

_LEAD = "prediction_timedelta"


@dataclasses.dataclass(frozen=True)
class Target:
    """Where forecasts go.

    Attributes:
        path: of the store.
        kept: what of them.
        gathers: whether all leads of a batch are written at once; see `store_layout`.
        runs: number of checkpoints, which members come from in turn.
        ensemble: whether fields have the dimension `realization`.
    """

    path: str
    kept: Kept
    gathers: bool
    runs: int
    ensemble: bool


class BatchWriter:
    """Writes the forecasts of a batch as they come.

    Args:
        target: where they go.
        batch: of which they are.
        leads: all lead times that are computed.
        starts: initial times of every place of the batch.
    """

    def __init__(self, target: Target, batch: Batch, leads: np.ndarray, starts: np.ndarray):
        self.target, self.batch, self.leads = target, batch, leads
        self.starts = starts[batch.places][:: len(batch.members)]
        self.before: xr.Dataset | None = None
        self.first, self.gathered = 0, list[xr.Dataset]()

    def take(self, begin: int, fields: xr.Dataset) -> None:
        """The block of leads that starts at position `begin`, all fields of the state."""
        leads = self.leads[begin : begin + fields.sizes[_LEAD]]
        piece, self.before = self.target.kept.of_block(fields, leads, self.starts, self.before)
        if piece.data_vars:
            self.gathered.append(piece)
            if not self.target.gathers:
                self.end()

    def end(self) -> None:
        """Writes what is gathered."""
        if not self.gathered:
            return
        piece = self.gathered[0] if len(self.gathered) == 1 else xr.concat(self.gathered, _LEAD)
        stop = self.first + piece.sizes[_LEAD]
        region = {"time": slice(self.batch.inits[0], self.batch.inits[-1] + 1), _LEAD: slice(self.first, stop)}
        if self.target.ensemble:
            members = self.batch.members
            region["realization"] = slice(members[0], members[-1] + 1, self.target.runs)
        _write_region(self.target.path, piece, region)
        self.first, self.gathered = stop, []


def _write_region(path: str, piece: xr.Dataset, region: dict[str, slice]) -> None:
    """Writes a part of a store; members of one checkpoint lie apart, so each is a region of its own."""
    stride = region.get("realization", slice(0, 1, 1))
    if stride.step in (None, 1):
        region = {name: slice(part.start, part.stop) for name, part in region.items()}
        piece.to_zarr(path, region=region, consolidated=False)
        return
    for index, member in enumerate(range(stride.start, stride.stop, stride.step)):
        one = {**region, "realization": slice(member, member + 1)}
        piece.isel(realization=[index]).to_zarr(path, region=one, consolidated=False)
