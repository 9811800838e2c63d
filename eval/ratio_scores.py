"""Scores that are ratios of sums over init times, such as hit rates, with intervals by the blocks of `eval.uncertainty`."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from eval.uncertainty import CONFIDENCE, FEWEST_INIT_TIMES, draw_counts


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
