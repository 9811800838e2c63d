"""A folder of forecasts, a netCDF or GRIB 2 file an initial time.

Forecasts come a block of leads at a time, members of several checkpoints in turn. They are gathered in a Zarr store beside
the folder, of which each initial time goes when its file is made; so a kill costs what has not been gathered, and no file is
ever half-written.
"""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.errors import UserError
from weather_scnn.io.atomic import whole_file, write_whole
from weather_scnn.io.marks import (
    ABOUT_FORECASTS,
    COMPLETE,
    REQUEST,
    STATUS,
    Kind,
    store_attributes,
)
from weather_scnn.io.notes import logger
from weather_scnn.io.outputs import check_ending, refuse_to_overwrite
from weather_scnn.io.replacing import place_beside, put_in_place, recover, settled_path
from weather_scnn.io.writing import StoreInProgress, attributes_of_unfinished, begin_store
from weather_scnn.sphere import Grid, GridKind

#: Formats of forecasts, and the ending of a file an initial time; none for the one store of Zarr.
ENDINGS = {"zarr": "", "netcdf": ".nc", "grib2": ".grib2"}
_GATHERED = "gathered.zarr"


def require_format(name: str, output: str) -> None:
    """Raises UserError if there is no such format, or the output cannot be of it by its name."""
    if name not in ENDINGS:
        raise UserError(f"the format {name!r} is not known", remedy=f"choose from {', '.join(ENDINGS)}")
    check_ending(output, kind_of(name))


def kind_of(format: str) -> Kind:
    """What is written in a format."""
    return Kind.FORECASTS if ENDINGS[format] else Kind.STORE


def gathering_place(output: str, format: str) -> str:
    """Where the store of forecasts lies while they come: the output itself, or beside a folder of files."""
    return f"{place_beside(settled_path(output))}/{_GATHERED}" if ENDINGS[format] else output


def file_name(start: np.datetime64, ending: str) -> str:
    """Of the forecasts from an initial time, such as 20200101T0000.nc."""
    return f"{np.datetime_as_string(start, 'm').replace('-', '').replace(':', '')}{ending}"


@dataclasses.dataclass(frozen=True)
class ForecastFiles:
    """Forecasts on their way into files.

    Attributes:
        output: the folder that will be.
        ending: of the files.
        store: in which they are gathered.
        write: makes a file of lazy forecasts from one initial time; what it says of it counts their values.
    """

    output: str
    ending: str
    store: StoreInProgress
    write: Callable[[xr.Dataset, pathlib.Path], int]

    @classmethod
    def begin(
        cls,
        output: str,
        format: str,
        template: xr.Dataset,
        *,
        request: Mapping[str, Any],
        overwrite: bool,
        encoding: Mapping[str, Mapping[str, Any]],
        grid: Grid,
        centre: int,
    ) -> "ForecastFiles":
        """Begins a folder of files, or goes on with an unfinished one of the same request.

        Args:
            output: folder.
            format: of `ENDINGS`.
            template, request, overwrite, encoding: see `begin_store`.
            grid: of the state.
            centre: originating centre in GRIB.

        Raises:
            UserError: something stands there, or another request's unfinished output.
        """
        output = settled_path(output)
        recover(output)
        refuse_to_overwrite(output, Kind.FORECASTS, overwrite=overwrite)
        place = gathering_place(output, format)
        folder = os.path.dirname(place)
        held = (store_attributes(place) or {}).get(REQUEST)
        same = bool(attributes_of_unfinished(place, request))
        if held is not None and not same and not overwrite:
            raise UserError(
                "an unfinished output of a command with other options is kept for it",
                where=output,
                remedy=f"repeat that command to finish it, add --overwrite, or remove {folder}",
            )
        if os.path.isdir(folder) and not same:
            shutil.rmtree(folder)
        os.makedirs(folder, exist_ok=True)
        # Gathered forecasts stay for moments; to compress them takes longer than to write them.
        plain = {name: {**each, "compressors": None} for name, each in encoding.items()}
        store = begin_store(place, template, request=request, encoding=plain)
        gaussian = grid.latitudes if grid.kind is GridKind.GAUSSIAN else 0
        writers: dict[str, Callable[[xr.Dataset, pathlib.Path], int]]
        writers = {"netcdf": _write_netcdf, "grib2": functools.partial(_write_grib, gaussian=gaussian, centre=centre)}
        return cls(output, ENDINGS[format], store, writers[format])

    def make(self, position: int) -> None:
        """The file of an initial time, of which all forecasts are gathered."""
        key = f"file-{position}"
        if key in self.store.done:
            return
        with xr.open_zarr(self.store.path, consolidated=False, decode_timedelta=True) as opened:
            one = opened.isel(time=position)
            target = os.path.join(os.path.dirname(self.store.path), file_name(one["time"].values, self.ending))
            with whole_file(target) as part:
                count = self.write(one, part)
            if not count:
                os.unlink(target)
                logger.warning("%s is not written: the forecast has no value", os.path.basename(target))
            names = [str(name) for name in one.data_vars]
        self.store.mark_done(key)
        for name in names:
            shutil.rmtree(os.path.join(self.store.path, name, "c", str(position)), ignore_errors=True)

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Puts the folder in its place, with what is to be told of the forecasts in a file beside them."""
        folder = os.path.dirname(self.store.path)
        told = {**(store_attributes(self.store.path) or {}), **attributes, STATUS: COMPLETE}
        write_whole(os.path.join(folder, ABOUT_FORECASTS), json.dumps(told, indent=1))
        self.store.clear()
        shutil.rmtree(self.store.path)
        put_in_place(folder, self.output)


def _write_netcdf(one: xr.Dataset, path: pathlib.Path) -> int:
    from weather_scnn.io.netcdf_forecasts import write_cf

    write_cf(one, path)
    return 1


def _write_grib(one: xr.Dataset, path: pathlib.Path, *, gaussian: int, centre: int) -> int:
    from weather_scnn.io.grib_writing import write_grib

    return write_grib(one, path, gaussian=gaussian, centre=centre)
