"""Which fields of a source are asked for, and what to say of those that are not there."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import catalogue_order, find, identify, lookup, nearest_name
from weather_scnn.errors import UserError
from weather_scnn.io.notes import logger


def restricted(
    raw: list[tuple[str, xr.Dataset]], variables: Sequence[str] | None, beside: Sequence[str]
) -> list[tuple[str, xr.Dataset]]:
    """The files without the fields that nobody asked for, where their names tell all that was asked for.

    ARCO-ERA5 has 273 fields over 1.3 million times, and what nobody asked for shall not stop what is.
    """
    if variables is None:
        return raw
    names = {asked: {asked, *([known.name] if (known := lookup(asked)) else [])} for asked in variables}
    held: set[str] = set()
    kept = []
    for where, dataset in raw:
        matching = []
        for field in map(str, dataset.data_vars):
            known_as = {field}
            for on_levels in (True, False):
                variable = identify(field, dataset[field].attrs, on_levels=on_levels)
                known_as |= {variable.name} if variable is not None else set()
            if any(known_as & each for each in names.values()):
                matching.append(field)
                held |= known_as
            elif known_as & set(beside):
                matching.append(field)
        # Axes and their bounds that a file keeps among its fields stay; files without any of the fields go.
        axes = [str(name) for name, array in dataset.data_vars.items() if array.ndim < 2]
        if matching:
            kept.append((where, dataset[[*matching, *axes]]))
    return kept if all(each & held for each in names.values()) else raw


def tell_left_out(left_out: dict[str, UserError], present: set[str], variables: Sequence[str] | None) -> None:
    """Says which fields are on a vertical axis that is no pressure, and nowhere on pressure levels.

    Raises:
        UserError: there are no others, or one of them is asked for.
    """
    lacking = {name: error for name, error in left_out.items() if canonical_name(name) not in present}
    wanted = None if variables is None else {canonical_name(name) for name in variables}
    for name, error in lacking.items():
        if not present or (wanted is not None and {name, canonical_name(name)} & wanted):
            raise error
        if wanted is None:
            logger.warning("%s is left out: %s", name, error)


def canonical_name(name: str) -> str:
    known = lookup(name)
    return name if known is None else known.name


def wanted_names(variables: Sequence[str], present: set[str], where: str) -> list[str]:
    """Canonical names of what is asked for; every one that is not there is named in the error."""
    wanted: list[str] = []
    missing: list[tuple[str, str]] = []
    for asked in variables:
        known = lookup(asked)
        name = asked if asked in present else known.name if known is not None else asked
        if name == "geopotential" and name not in present and "geopotential_at_surface" in present and asked == "z":
            name = "geopotential_at_surface"
        if name not in present:
            missing.append((asked, name))
        elif name not in wanted:
            wanted.append(name)
    if len(missing) == 1:
        ((asked, name),) = missing
        if lookup(asked) is None and "did you mean" not in nearest_name(asked, present):
            find(asked)
        raise UserError(
            f"holds no variable {asked}" if asked == name else f"holds no variable {asked} ({name})",
            where=where,
            remedy=nearest_name(name, present),
        )
    if missing:
        raise UserError(
            f"holds none of the variables {', '.join(name for _, name in missing)}",
            where=where,
            remedy=f"it holds {', '.join(sorted(present, key=catalogue_order)[:20])}",
        )
    return wanted


def require_levels(present: dict[str, set[float]], levels: Sequence[float], where: str) -> None:
    """Refuses levels that no field has; one that others have is left absent in the fields that lack it."""
    if not any(present.values()):
        raise UserError("no variable there has levels", where=where, remedy="leave --levels out")
    held = sorted(set().union(*present.values()))
    missing = [level for level in levels if not np.isclose(held, level).any()]
    if missing:
        first = next(name for name, each in present.items() if each)
        raise UserError(
            f"{first} has no level {', '.join(f'{level:g}' for level in missing)} hPa",
            where=where,
            remedy=f"choose from {', '.join(f'{level:g}' for level in held)}",
        )
