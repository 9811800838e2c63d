"""A look at one map of every field, before a job begins to write."""

import functools

import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.plausibility import extremes_of_one_map, implausible
from weather_scnn.errors import UserError
from weather_scnn.io.retry import read_again


def refuse_implausible(dataset: xr.Dataset, where: str) -> None:
    """Reads one map of every field and refuses values that cannot be; see `implausible`.

    The first time is read, at the level nearest 500 hPa. For jobs that would otherwise spread a wrong unit; `check`
    reads everything.

    Raises:
        UserError: with the variable, its range and the suspected cause.
    """
    for name, array in dataset.data_vars.items():
        if lookup(str(name)) is None:
            continue
        found = read_again(
            functools.partial(extremes_of_one_map, array),
            what=functools.partial(str.format, "{} cannot be read at its first time", name),
            where=where,
        )
        if found is None:
            continue
        if fault := implausible(str(name), found):
            raise UserError(
                f"{name} is implausible: {fault}",
                where=where,
                remedy="correct the units attribute, or the values",
            )
