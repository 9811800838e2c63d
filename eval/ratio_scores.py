"""Scores that are ratios of sums over init times, such as hit rates, with intervals by the blocks of `eval.uncertainty`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import rich.box
import rich.table
import xarray as xr

from eval.scorecard import format_lead, format_number
from eval.uncertainty import CONFIDENCE, FEWEST_INIT_TIMES, draw_counts
from weather_scnn.io.writing import write_netcdf_groups


class Ratio(NamedTuple):
    """One sum over another: unknown where this is 0, so that none of none is no score."""

    over: str
    under: str
    units: str
    text: str

    def of(self, sums: xr.DataArray) -> xr.DataArray:
        """The score, from sums along the axis `part`."""
        over, under = (sums.sel(part=name, drop=True) for name in (self.over, self.under))
        return (over / under.where(under > 0)).assign_attrs(units=self.units, long_name=self.text)


def ratio_scores(sums: xr.DataArray, ratios: dict[str, Ratio], bootstrap: int) -> tuple[xr.Dataset, xr.Dataset | None]:
    """Scores and, from four init times on, their intervals.

    Args:
        sums: dims (…, part, init_time, …), NaN where an init time does not count.
        ratios: by name.
        bootstrap: resamples; 0 for no intervals.
    """
    known = sums.fillna(0.0)
    scores = xr.Dataset({name: ratio.of(known.sum("init_time")) for name, ratio in ratios.items()})
    if not bootstrap or known.sizes["init_time"] < FEWEST_INIT_TIMES:
        return scores, None
    counts = xr.DataArray(draw_counts(known.sizes["init_time"], samples=bootstrap), dims=("sample", "init_time"))
    drawn = xr.dot(counts, known, dim="init_time")
    bounds = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    found = {}
    for name, ratio in ratios.items():
        each = ratio.of(drawn).transpose("sample", ...)
        some = np.isfinite(each.values).any(axis=0)
        both = np.full((2, *some.shape), np.nan)
        both[:, some] = np.nanquantile(each.values[:, some], bounds, axis=0)
        dims = ["bound", *map(str, each.dims[1:])]
        found[name] = xr.DataArray(
            both, {**scores[name].coords, "bound": ["lower", "upper"]}, dims, attrs=scores[name].attrs
        )
    return scores, xr.Dataset(found, attrs={"confidence": CONFIDENCE})


def write_ratio_scores(
    output: str,
    sums: xr.DataArray,
    ratios: dict[str, Ratio],
    bootstrap: int,
    *,
    attributes: dict,
    groups: Mapping[str, xr.Dataset],
    overwrite: bool,
) -> xr.Dataset:
    """Writes scores, and as groups `intervals`, where there are some, `sums` and others; gives the scores.

    Args:
        output: netCDF file.
        sums, ratios, bootstrap: see `ratio_scores`.
        attributes: of the file.
        groups: the others.
        overwrite: whether to replace it.
    """
    scores, intervals = ratio_scores(sums, ratios, bootstrap)
    some = {} if intervals is None else {"intervals": intervals}
    everything = {"/": scores.assign_attrs(attributes), **some, "sums": sums.to_dataset(name="sums"), **groups}
    write_netcdf_groups(everything, output, overwrite=overwrite)
    return scores


def ratio_table(
    title: str, columns: tuple[str, ...], scores: xr.Dataset, numbers: Callable[[xr.Dataset], tuple[float, ...]]
) -> rich.table.Table:
    """Scores by lead time for the terminal: at most some eight lead times of every system.

    Args:
        title: of the table.
        columns: after those of system and lead time.
        scores: dims (system, lead_time).
        numbers: of a row, from the scores of a system at a lead time.
    """
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title=title)
    for name in ("system", "lead", *columns):
        table.add_column(name, justify="left" if name == "system" else "right")
    leads = scores["lead_time"].values
    for system in map(str, scores["system"].values):
        for position in np.unique(np.linspace(0, leads.size - 1, min(8, leads.size)).round().astype(int)):
            at = scores.sel(system=system).isel(lead_time=position)
            table.add_row(system, format_lead(leads[position]), *(format_number(float(each)) for each in numbers(at)))
    return table
