"""Making sure that forecasts and the truth speak of the same thing."""

import difflib
from collections.abc import Iterable, Sequence

import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.units import conversion, parse_unit
from weather_scnn.errors import UserError
from weather_scnn.io.coverage import other_axis


def units_to_truth(name: str, left: xr.DataArray, right: xr.DataArray, *, where: str) -> tuple[float, float]:
    """(scale, offset) that bring a field into the truth's units; (1, 0) where either states none.

    Raises:
        UserError: the units are of another quantity, as mm are not K.
    """
    ours, theirs = str(left.attrs.get("units", "")).strip(), str(right.attrs.get("units", "")).strip()
    if not ours or not theirs or parse_unit(ours) is None or parse_unit(theirs) is None:
        return 1.0, 0.0
    factors = conversion(ours, theirs)
    if factors is None:
        raise UserError(
            f"{name} is in {ours} here and in {theirs} in the truth", where=where, remedy="correct the attribute units"
        )
    return factors


def require_same_grid(left: xr.Dataset, right: xr.Dataset, *, where: str) -> None:
    """Raises UserError if the coordinates of `left` are not those of the truth, `right`."""
    names = [f"{data.sizes['longitude']}x{data.sizes['latitude']}" for data in (left, right)]
    if axis := other_axis(left, right):
        ours, theirs = left[axis].values, right[axis].values
        detail = (
            f"the grids differ: {names[0]} here, {names[1]} in the truth"
            if names[0] != names[1]
            else f"{axis}s differ from the truth's: {ours[0]:g} … {ours[-1]:g} against {theirs[0]:g} … {theirs[-1]:g}"
        )
        raise UserError(detail, where=where, remedy="bring both to one grid with `weather-scnn regrid`")


def common_variables(
    forecast: Iterable[str], truth: Iterable[str], wanted: Sequence[str] | None, *, where: tuple[str, str]
) -> list[str]:
    """Variables to score, in alphabetical order: those wanted, or all that the forecast and the truth share.

    Args:
        forecast: names in the forecast.
        truth: names in the truth.
        wanted: names to score, by any name that the catalogue knows; None for all.
        where: paths of the forecast and of the truth.

    Raises:
        UserError: a wanted name is absent, or none is shared.
    """
    names, known = list(forecast), list(truth)
    wanted = None if wanted is None else [_own_name(name, {*names, *known}) for name in wanted]
    for name in wanted or ():
        for path, present in zip(where, (names, known)):
            if name not in present:
                near = difflib.get_close_matches(name, present, 1, 0.5)
                raise UserError(
                    f"has no variable {name!r}" + (f" (nearest: {near[0]})" if near else ""),
                    where=path,
                    remedy="choose from " + ", ".join(present),
                )
    shared = sorted(name for name in names if name in known and (wanted is None or name in wanted))
    if not shared:
        raise UserError(
            f"the forecast ({', '.join(names)}) and the truth ({', '.join(known)}) share no variable",
            where=where[0],
            remedy="name the variables of both alike",
        )
    return shared


def _own_name(asked: str, present: Iterable[str]) -> str:
    """The catalogue's name of what is asked for by ERA5's, CDS's, GFS's or CMIP's, unless there is one of this name."""
    known = lookup(asked)
    return asked if asked in present or known is None else known.name


def level_numbers(dataset: xr.Dataset) -> list[float]:
    """Levels in hPa."""
    return dataset["level"].values.tolist()


def common_levels(
    forecast: xr.Dataset, truth: xr.Dataset, wanted: Sequence[float] | None, *, where: tuple[str, str]
) -> list[float] | None:
    """Levels in hPa to score, in the truth's order; None where neither dataset has levels.

    Raises:
        UserError: a wanted level is absent, or none is shared.
    """
    if "level" not in forecast.dims or "level" not in truth.dims:
        return None
    ours, theirs = level_numbers(forecast), level_numbers(truth)
    for level in wanted or ():
        for path, present in zip(where, (ours, theirs)):
            if level not in present:
                raise UserError(
                    f"has no level {level:g} hPa",
                    where=path,
                    remedy="choose from " + ", ".join(f"{each:g}" for each in present),
                )
    shared = [level for level in theirs if level in ours and (wanted is None or level in wanted)]
    if not shared:
        raise UserError(
            f"has the levels {ours} hPa and the truth {theirs}", where=where[0], remedy="give levels that both have"
        )
    return shared
