"""Any source as a dataset of canonical fields, states or forecasts."""

from collections.abc import Iterable, Sequence

import xarray as xr

from weather_scnn.io.blocks import in_blocks
from weather_scnn.io.forecasts import chosen_forecasts
from weather_scnn.io.marks import holds_forecasts
from weather_scnn.io.opening import CanonicalSource, listed


def open_dataset(
    path: str,
    *,
    variables: Sequence[str] | str | None = None,
    levels: Iterable[float] | None = None,
    time: str | None = None,
    member: int | None = None,
) -> xr.Dataset:
    """Opens a source lazily as a canonical dataset.

    Args:
        path: Zarr store (format 2 or 3), netCDF or GRIB file, folder or glob of files; local or an fsspec address such
            as gs://weatherbench2/….zarr; see `addresses` for its options. Fields of several files are joined along time
            and level. Of a folder of forecasts that this program has written the fields keep their lead times.
        variables: names of any kind the catalogue knows, or the file's own; default all. Geopotential heights become
            geopotential, and the other units SI, by the `units` attribute.
        levels: pressure levels in hPa; default all.
        time: period `A:B`, see `parse_period`; default all.
        member: number of the ensemble member; default the first, with a warning.

    Returns:
        Fields in dask blocks (see `blocks`), whose encoding has the stored chunks as `preferred_chunks`. The attribute `adjusted` says what was reordered, converted or left out.

    Raises:
        UserError: nothing there, unfinished, no such variable, level or time, or axes that cannot be understood.
    """
    names = listed(variables)
    if holds_forecasts(path):
        return in_blocks(chosen_forecasts(path, names, levels=levels, time=time, member=member))
    canonical = CanonicalSource(path, names, member=member).fields(names, levels=levels, time=time)
    return in_blocks(canonical.dataset)
