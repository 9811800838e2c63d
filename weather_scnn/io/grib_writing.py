"""Forecasts from one initial time as GRIB 2, by ecCodes.

Parameters are told by the standard tables of the WMO alone, so that every reader knows them whatever the centre; amounts
of water are then in kg m-2, clouds in per cent. Maps run from north to south, as weather services write them.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.units import known_conversion
from weather_scnn.errors import UserError
from weather_scnn.sphere.grid import Grid, GridKind

#: Of the centre, "missing": for whoever is none.
NO_CENTRE = 255
BITS = 16
_LEAD = "prediction_timedelta"
_ECMWF = 98
# Local tables of a centre, and the discipline that ecCodes takes for what has no place in the WMO's.
_NO_DISCIPLINE = 192
_STEP_TYPES = ("instant", "accum")
_MISSING = 9999.0
_SAMPLES = {True: "regular_ll_pl_grib2", False: "regular_ll_sfc_grib2"}
_MICRODEGREES = 1e6


@dataclasses.dataclass(frozen=True)
class Parameter:
    """How GRIB 2 tells a field.

    Attributes:
        on_levels: whether it has pressure levels.
        keys: of ecCodes, set in this order.
        scale, offset: from our units to those of the parameter.
        hours: of the window of a total; 0 for a field of one time.
    """

    on_levels: bool
    keys: tuple[tuple[str, int | str], ...]
    scale: float = 1.0
    offset: float = 0.0
    hours: int = 0


@functools.cache
def parameter_of(name: str) -> Parameter:
    """How GRIB 2 tells a field of this canonical name.

    Raises:
        UserError: the WMO's tables have no place for it, or ecCodes is missing.
    """
    ec = _eccodes()
    if match := re.fullmatch(r"thickness_(\d+)_(\d+)", name):
        surface = (("typeOfLevel", "isobaricLayer"), ("topLevel", int(match[2])), ("bottomLevel", int(match[1])))
        return Parameter(False, (("discipline", 0), ("parameterCategory", 3), ("parameterNumber", 12), *surface))
    variable = lookup(name)
    # A total over another window is the same parameter.
    known = lookup(re.sub(r"_\d+hr$", "", name)) if variable is not None and variable.window_hours else variable
    if variable is None or known is None:
        raise UserError(f"the catalogue does not hold {name}", remedy="leave it out with --variables")
    for param_id in reversed(known.param_ids):
        handle = ec.codes_grib_new_from_samples(_SAMPLES[known.on_levels])
        try:
            # Of a foreign centre ecCodes complains on standard error about what that one has not.
            ec.codes_set(handle, "centre", _ECMWF)
            ec.codes_set(handle, "paramId", param_id)
            standard = ec.codes_get_long(handle, "discipline") != _NO_DISCIPLINE and not ec.codes_get_long(
                handle, "localTablesVersion"
            )
            if not standard or ec.codes_get_string(handle, "stepType") not in _STEP_TYPES:
                continue
            factors = known_conversion(variable.unit, ec.codes_get_string(handle, "units"))
        finally:
            ec.codes_release(handle)
        if factors is not None:
            return Parameter(known.on_levels, (("paramId", param_id),), *factors, hours=variable.window_hours or 0)
    raise UserError(
        f"the WMO's tables of GRIB 2 have no parameter for {name}",
        remedy="leave it out with --variables, or choose --format netcdf",
    )


def require_grib(names: Iterable[str], grid: Grid, levels: Iterable[float]) -> None:
    """Refuses what cannot be written as GRIB 2, before any work.

    Raises:
        UserError: a variable has no parameter there, or the grid none of its descriptions.
    """
    for name in names:
        parameter_of(name)
    if grid.kind is GridKind.GAUSSIAN and grid.latitudes % 2:
        raise UserError(
            f"GRIB describes no Gaussian grid of {grid.latitudes} latitudes, an odd number",
            remedy="choose --format netcdf",
        )
    for level in levels:
        if level * 100 % 1:
            raise UserError(f"GRIB has no level of {level:g} hPa", remedy="leave it out with --levels")


def require_centre(centre: int) -> None:
    """Raises UserError if it is no number of common table C-11, as GRIB 2 stores it."""
    if not 0 <= centre <= 65535:
        raise UserError(f"the centre {centre} is none", remedy="give its number in the WMO's common table C-11")


def write_grib(forecast: xr.Dataset, path: str | os.PathLike, *, gaussian: int = 0, centre: int = NO_CENTRE) -> int:
    """Writes forecasts from one initial time, a message a map; maps without a value are left out.

    Args:
        forecast: ([realization,] prediction_timedelta[, level], latitude, longitude), south first, lazy, with the scalar
            coordinate `time`, the initial time; read some leads of one member at a time.
        path: local.
        gaussian: number of latitudes of the globe's Gaussian grid; 0 where latitudes are equally spaced.
        centre: originating centre, common table C-11.

    Returns:
        Number of messages.
    """
    ec, count = _eccodes(), 0
    with open(path, "wb") as file:
        for name, array in forecast.data_vars.items():
            field = parameter_of(str(name))
            handle = _handle(field, forecast, gaussian, centre)
            was: dict[str, Any] = {}
            try:
                for about, values in _maps(array):
                    finite = np.isfinite(values)
                    if not finite.any():
                        continue
                    gaps = not finite.all()
                    for key, value in (*_about(about, forecast, field), ("bitmapPresent", int(gaps))):
                        if was.get(key) != value:
                            ec.codes_set(handle, key, value)
                            was[key] = value
                    _set_values(handle, values[::-1], finite[::-1] if gaps else None, field)
                    ec.codes_write(handle, file)
                    count += 1
            finally:
                ec.codes_release(handle)
    return count


def _eccodes() -> Any:
    try:
        import eccodes
    except (ImportError, RuntimeError) as error:
        raise UserError("writing GRIB needs eccodes", remedy="pip install 'weather-scnn[grib]'") from error
    return eccodes


def _handle(field: Parameter, forecast: xr.Dataset, gaussian: int, centre: int) -> Any:
    """A message with all that the maps of a field share."""
    ec = _eccodes()
    start = str(np.datetime64(forecast["time"].values.item(), "ns").astype("datetime64[s]"))
    ensemble = "realization" in forecast.dims
    handle = ec.codes_grib_new_from_samples(_SAMPLES[field.on_levels])
    keys: list[tuple[str, Any]] = [("centre", _ECMWF), *field.keys]
    keys += [("productDefinitionTemplateNumber", {0: (0, 1), 1: (8, 11)}[bool(field.hours)][ensemble])]
    # An ensemble's template has lost what the parameter's name has set.
    keys += [*field.keys] if ensemble else []
    keys += [
        ("centre", centre), ("subCentre", 0), ("significanceOfReferenceTime", 1), ("productionStatusOfProcessedData", 2),
        # Control and perturbed forecasts together: told apart, they were two data sets to cfgrib.
        ("typeOfProcessedData", 5 if ensemble else 1), ("typeOfGeneratingProcess", 4 if ensemble else 2),
        ("dataDate", int(start[:10].replace("-", ""))), ("hour", int(start[11:13])), ("minute", int(start[14:16])),
        ("second", int(start[17:19])),
        *_grid_keys(forecast, gaussian), ("packingType", "grid_simple"), ("bitsPerValue", BITS),
    ]  # fmt: skip
    if ensemble:
        keys.append(("numberOfForecastsInEnsemble", forecast.sizes["realization"]))
    for key, value in keys:
        ec.codes_set(handle, key, value)
    return handle


def _grid_keys(forecast: xr.Dataset, gaussian: int) -> Iterator[tuple[str, Any]]:
    """Of the rows, from north to south, and the columns."""
    latitude, longitude = forecast["latitude"].values[::-1], np.mod(forecast["longitude"].values, 360.0)
    yield "gridType", "regular_gg" if gaussian else "regular_ll"
    if gaussian:
        yield "N", gaussian // 2
    yield from (("Ni", longitude.size), ("Nj", latitude.size))
    yield from (("iScansNegatively", 0), ("jScansPositively", 0), ("jPointsAreConsecutive", 0))
    for axis, letter, values in (("latitude", "j", latitude), ("longitude", "i", longitude)):
        yield f"{axis}OfFirstGridPointInDegrees", float(values[0])
        yield f"{axis}OfLastGridPointInDegrees", float(values[-1])
        if gaussian and letter == "j":
            continue
        step = float(np.mod(values[1] - values[0], 360.0)) if letter == "i" and values.size > 1 else 0.0
        if letter == "j" and values.size > 1:
            step = float(values[0] - values[1])
        # What is no whole number of microdegrees is told by both ends alone.
        exact = step > 0 and abs(step * _MICRODEGREES - round(step * _MICRODEGREES)) < 1e-3
        yield f"{letter}DirectionIncrementGiven", int(exact)
        if exact:
            yield f"{letter}DirectionIncrementInDegrees", step


def _maps(array: xr.DataArray) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Each map with its member, lead time and level, read a chunk of leads at a time."""
    members = array["realization"].values if "realization" in array.dims else [None]
    chunk = (array.encoding.get("preferred_chunks") or {}).get(_LEAD, 1)
    for number, member in enumerate(members):
        one = array if member is None else array.isel(realization=number)
        for begin in range(0, array.sizes[_LEAD], chunk):
            part = one.isel({_LEAD: slice(begin, begin + chunk)})
            values = part.values
            for position, lead in enumerate(part[_LEAD].values):
                for place, level in enumerate(part["level"].values if "level" in part.dims else [None]):
                    about = {"number": number, "member": member, "lead": lead, "level": level}
                    yield about, values[position] if level is None else values[position, place]


def _about(about: Mapping[str, Any], forecast: xr.Dataset, field: Parameter) -> Iterator[tuple[str, Any]]:
    """Keys of one map.

    Plain keys where there are any: `stepRange`, `level` and `typeOfLevel` take ecCodes longer than the values of 64x32.
    """
    minutes = int(about["lead"] / np.timedelta64(1, "m"))
    whole = minutes % 60 == 0
    if field.hours:
        begin = minutes - 60 * field.hours
        yield "stepRange", f"{begin // 60}-{minutes // 60}" if whole else f"{begin}m-{minutes}m"
    else:
        yield "indicatorOfUnitOfTimeRange", int(whole)
        yield "forecastTime", minutes // 60 if whole else minutes
    if about["level"] is not None:
        yield "scaleFactorOfFirstFixedSurface", 0
        yield "scaledValueOfFirstFixedSurface", round(float(about["level"]) * 100)
    if about["member"] is not None:
        perturbed = "perturbed" in forecast.coords and bool(forecast["perturbed"].values[about["number"]])
        yield "typeOfEnsembleForecast", 3 if perturbed or about["number"] else 1
        yield "perturbationNumber", int(about["member"])


def _set_values(handle: Any, values: np.ndarray, finite: np.ndarray | None, field: Parameter) -> None:
    """The map, packed; `finite` tells the points that have a value, None for all."""
    ec = _eccodes()
    scaled = values.astype(np.float64, order="C")
    if (field.scale, field.offset) != (1.0, 0.0):
        scaled = scaled * field.scale + field.offset
    if finite is not None:
        ec.codes_set(handle, "missingValue", _MISSING)
        scaled = np.where(finite, scaled, _MISSING)
    ec.codes_set_values(handle, scaled.ravel())
