"""Fields under their canonical names, in SI units and float32."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import Variable, identify, lookup, window_name
from weather_scnn.catalogue.units import amount_in_window, conversion, parse_unit
from weather_scnn.errors import UserError
from weather_scnn.io.grib import RUNNING, WINDOW
from weather_scnn.io.missing_values import declared_range, without_range
from weather_scnn.io.notes import Notes, logger, note
from weather_scnn.io.stored_fields import limited, scaled

# Where a GRIB file has one variable on several kinds of level or step, the first of these is it.
_LEVEL_TYPES: tuple[str, ...] = (
    "isobaricInhPa", "isobaricInPa", "surface", "meanSea", "heightAboveGround", "entireAtmosphere", "atmosphere",
    "atmosphereSingleLayer", "nominalTop",
)  # fmt: skip
#: Key of a field's encoding: RUNNING for a total since the start of its forecast, "said" where a file says its window.
TOTAL = "total"
# A field of one of these is never that of the surface or of the whole air, though its parameter may be the same.
_OTHER_THINGS = (
    "heightAboveGroundLayer",
    "heightAboveSeaLayer",
    "pressureFromGroundLayer",
    "isobaricLayer",
    "sigmaLayer",
    "hybridLayer",
    "thetaLayer",
    "tropopause",
    "maxWind",
    "isothermZero",
    "cloudBase",
    "cloudTop",
    "hybrid",
    "sigma",
    "theta",
    "potentialVorticity",
    "highestTroposphericFreezing",
    "mixedLayer",
    "planetaryBoundaryLayer",
)
#: Encoding of a geopotential that is taken for that of the ground because it has no level: the name in the file.
UNSAID = "taken_for_the_ground"
# No global grid is as coarse as to have no ground below this, m2 s-2, and packing changes no height by a metre.
_LOWEST_GROUND, _PACKING, _HIGHEST_METRES = 3000.0, 10.0, 8900.0
#: Key of a field's encoding: the unit that the file declares.
UNIT = "unit"
_STEP_TYPES = ("instant", "accum", "avg", "max", "min")


def _converted(array: xr.DataArray, source_name: str, variable: Variable, where: str, notes: Notes) -> xr.DataArray:
    """Values in the catalogue's unit (WeatherGenerator#2407: z and climatology once differed by g)."""
    units = str(array.attrs.get("units", "")).strip()
    assumed = variable.assumed_units.get(source_name.lower())
    if assumed is None and str(array.attrs.get("GRIB_shortName", "")).lower() in variable.assumed_units:
        assumed = variable.assumed_units[str(array.attrs["GRIB_shortName"]).lower()]
    if units.lower() in ("", "1", "unknown") and variable.unit != "1":
        units = assumed or ""
    if not units:
        note(notes, "no_units", variable.name, f"taken to be {variable.unit}")
        return array
    amount = amount_in_window(units) if variable.window_hours is not None else None
    if amount is not None and not amount[2]:
        _require_totals(array, source_name, units, amount[1], where)
    try:
        factors = conversion(amount[0] if amount is not None else units, variable.unit)
    except ValueError:
        raise UserError(
            f"the unit {units!r} of {source_name} is not understood",
            where=where,
            remedy=f"correct its units attribute ({variable.name} is in {variable.unit}), or leave the variable out "
            "with --variables",
        ) from None
    if factors is None:
        raise UserError(
            f"{source_name} has the unit {units!r}, but {variable.name} is in {variable.unit}",
            where=where,
            remedy="correct its units attribute, or leave the variable out with --variables",
        )
    scale, offset = factors
    if (scale, offset) == (1.0, 0.0):
        return array
    note(notes, "converted_units", variable.name, f"{units} to {variable.unit}")
    return scaled(array, scale, offset)


def _require_totals(array: xr.DataArray, source_name: str, units: str, hours: float, where: str) -> None:
    """Refuses an amount an hour or a day that may be a rate, unless there is one every hour or every day."""
    intervals = np.diff(np.sort(array["time"].values)) if "time" in array.dims else np.array([])
    spacing = intervals.min() / np.timedelta64(1, "h") if intervals.size else math.nan
    if spacing != hours:
        every = f"every {spacing:g} h" if intervals.size else "at a single time"
        raise UserError(
            f"{source_name} has the unit {units!r} {every}: a rate, or a total over {hours:g} h",
            where=where,
            remedy="give totals in the unit of an amount, or with their hours, as in 'mm/6h'",
        )


def windowed(variable: Variable, array: xr.DataArray) -> Variable:
    """The variable of the window that a total declares, in GRIB or its unit: total_precipitation_6hr for six hours."""
    window = array.attrs.get(WINDOW)
    if window is None and variable.window_hours is not None:
        amount = amount_in_window(str(array.attrs.get("units", "")))
        window = amount[1] if amount is not None else None
    if variable.window_hours is None or not isinstance(window, int | float | np.number):
        return variable
    return lookup(window_name(variable.name, float(window))) or variable


def _declared(array: xr.DataArray, source_name: str, variable: Variable, where: str, notes: Notes) -> Variable | None:
    """`windowed`, noted; None for totals over windows of several lengths."""
    if variable.window_hours is not None and array.attrs.get(WINDOW) == "mixed":
        lengths = array.attrs.get("accumulation_windows", "several")
        note(notes, "mixed_windows", source_name, f"totals over {lengths} h in {where}, left out")
        return None
    known = windowed(variable, array)
    if known.name != variable.name:
        note(notes, "window", known.name, f"{source_name} is labelled as a total over {known.window_hours} h")
    return known


def named_fields(
    piece: xr.Dataset, where: str, notes: Notes, wanted: Sequence[str] | None, *, lenient: bool = False
) -> dict[str, xr.DataArray]:
    """Fields under their canonical names, in SI units and float32.

    Args:
        piece: on canonical axes.
        where: its file, for messages.
        notes: what was changed is added here.
        wanted: canonical names; None for all.
        lenient: whether a field whose unit cannot be brought to SI stays as it is, and doubles stay doubles.

    Raises:
        UserError: a unit is not understood, or of another quantity.
    """
    fields: dict[str, xr.DataArray] = {}
    # A file that spells the WeatherBench 2 name means it, whatever else maps to it.
    names = sorted(map(str, piece.data_vars), key=lambda name: lookup(name) is None or lookup(name).name != name)  # type: ignore[union-attr]
    for source_name in names:
        array = piece[source_name]
        stored = array.encoding.get("preferred_chunks", {})
        variable = identify(source_name, array.attrs, on_levels="level" in array.dims)
        level_type = str(array.attrs.get("GRIB_typeOfLevel", ""))
        if variable is None and lookup(source_name) is not None and "level" not in array.dims:
            note(notes, "other_level_type", source_name, f"on {level_type}, not on pressure levels")
            if wanted is not None and lookup(source_name).name in wanted:  # type: ignore[union-attr]
                continue
        name = variable.name if variable is not None else source_name
        if variable is None and level_type and level_type not in _LEVEL_TYPES:
            name = f"{source_name}_{level_type}"
        if variable is not None:
            variable = _declared(array, source_name, variable, where, notes)
            if variable is None:
                continue
            name = variable.name
        if name in fields:
            logger.warning("%s: %s is a second %s; it keeps its own name", where, source_name, name)
            note(notes, "second_field", source_name, f"also a {name}")
            variable, name = None, source_name
        if wanted is not None and name not in wanted:
            continue
        if array.dtype == np.float16:
            note(notes, "half_precision", name, "stored as float16")
        if array.dtype != np.float32 and not (lenient and array.dtype == np.float64):
            array = array.astype(np.float32, keep_attrs=True)
        window = array.attrs.get(WINDOW)
        # A label of GRIB may be wrong; what other files say of themselves is taken.
        units = str(array.attrs.get("units", "")).strip()
        total = RUNNING if window == RUNNING else "said" if window and "GRIB_paramId" not in array.attrs else ""
        limits = declared_range(array)
        if limits is not None:
            note(notes, "valid_range", name, "values outside the declared valid range are missing")
            array = limited(array, limits)
        attributes = {key: value for key, value in array.attrs.items() if not str(key).startswith("GRIB_")}
        attributes = without_range(attributes)
        attributes.pop("accumulation_windows", None)
        # GRIB has pressures below 1 hPa in pascals: the same axis.
        variant = (level_type.replace("isobaricInPa", "isobaricInhPa"), str(array.attrs.get("GRIB_stepType", "")))
        if variable is not None:
            try:
                array = _converted(array, source_name, variable, where, notes)
                attributes.update(variable.attributes)
            except UserError:
                if not lenient:
                    raise
            if variable.kind == "static" and "level" in array.dims and array.sizes["level"] == 1:
                array = array.squeeze("level", drop=True)
        array = array.drop_vars(["step"], errors="ignore") if "time" not in array.dims else array
        array.attrs = attributes
        array.encoding = {"preferred_chunks": stored, "variant": variant, TOTAL: total}
        array.encoding[UNIT] = units
        if name == "geopotential_at_surface" and level_type != "surface" and lookup(source_name) is not variable:
            array.encoding[UNSAID] = source_name
        if variable is not None and variable.on_levels and "level" not in array.dims:
            note(notes, "no_level", name, "has no level")
        fields[name] = array
    return fields


def catalogue_names(dataset: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """The dataset with these fields under their catalogue's names.

    A name that means another quantity, such as gh, a height, gives a field without units those of that quantity.
    """
    rename = {}
    for name in names:
        array = dataset[name]
        variable = identify(name, array.attrs, on_levels="level" in array.dims)
        if variable is None:
            continue
        assumed = variable.assumed_units.get(name.lower())
        if assumed is not None and not str(array.attrs.get("units", "")).strip():
            dataset = dataset.assign({name: array.assign_attrs(units=assumed)})
        if variable.name != name and variable.name not in dataset:
            rename[name] = variable.name
    return dataset.rename(rename)


def declared_unit(array: xr.DataArray) -> str:
    """The unit in which a file says that a field is; its attribute tells that of the values here."""
    return str(array.encoding.get(UNIT, array.attrs.get("units", ""))).strip()


def require_units_throughout(name: str, parts: list[tuple[str, xr.DataArray]]) -> None:
    """Refuses a field some of whose files are in another unit than the catalogue's, while others do not say theirs.

    Their values would be taken for SI where they most likely are in the unit of the rest, and knots look like m s-1.

    Raises:
        UserError: with a file of each kind.
    """
    variable = lookup(name)
    if variable is None:
        return
    silent = [where for where, array in parts if str(array.encoding.get(UNIT, "")).lower() in ("", "unknown")]
    other = [(where, str(array.encoding[UNIT])) for where, array in parts if array.encoding.get(UNIT)]
    other = [(where, unit) for where, unit in other if parse_unit(unit) not in (None, parse_unit(variable.unit))]
    if silent and other:
        raise UserError(
            f"{name} has no unit, while it is in {other[0][1]!r} in {other[0][0]}",
            where=silent[0],
            remedy="set its units attribute in every file",
        )


def one_variant(name: str, parts: list[tuple[str, xr.DataArray]], notes: Notes) -> list[tuple[str, xr.DataArray]]:
    """The parts of one kind of level and step, where GRIB files give a variable on several, cloud cover for example.

    Editions and archives call the level of one thing by different names: 2 m above ground, or the surface. Of another
    kind the times are added that the first lacks.
    """

    def rank(variant: tuple[str, str]) -> tuple[int, int, int]:
        level_type, step_type = variant
        variable = lookup(name)
        wanted = "accum" if variable is not None and variable.kind == "accumulated" else "instant"
        return (
            _LEVEL_TYPES.index(level_type) if level_type in _LEVEL_TYPES else len(_LEVEL_TYPES),
            step_type not in (wanted, ""),
            _STEP_TYPES.index(step_type) if step_type in _STEP_TYPES else len(_STEP_TYPES),
        )

    by_variant: dict[tuple[str, str], list[tuple[str, xr.DataArray]]] = {}
    for where, array in parts:
        by_variant.setdefault(array.encoding.get("variant", ("", "")), []).append((where, array))
    if len(by_variant) < 2:
        return parts
    kept, *others = sorted(by_variant, key=rank)
    result = by_variant[kept]
    for other in others:
        added = _times_lacking(result, by_variant[other]) if _same_thing(name, kept, other) else []
        words = " ".join(other).strip() or "no kind of level"
        if added:
            note(notes, "kinds_of_level", name, f"{' '.join(kept).strip()} and {words}, joined along time")
            result = result + added
        if sum(map(_count_times, added)) < sum(map(_count_times, by_variant[other])):
            note(notes, "second_field", name, f"also on {words}, left out")
    return result


def _same_thing(name: str, kept: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two kinds of level can be names of one."""
    variable = lookup(name)
    if variable is None or variable.on_levels or (kept[1] and other[1] and kept[1] != other[1]):
        return False
    return kept[0] not in _OTHER_THINGS and other[0] not in _OTHER_THINGS


def _count_times(part: tuple[str, xr.DataArray]) -> int:
    return part[1].sizes.get("time", 1)


def _times_lacking(
    found: list[tuple[str, xr.DataArray]], more: list[tuple[str, xr.DataArray]]
) -> list[tuple[str, xr.DataArray]]:
    """Parts of `more` at the times that `found` does not have."""
    if not all("time" in array.dims for _, array in (*found, *more)):
        return []
    held = np.unique(np.concatenate([array["time"].values for _, array in found]))
    parts = []
    for where, array in more:
        lacking = np.flatnonzero(~np.isin(array["time"].values, held))
        if len(lacking):
            parts.append((where, array if len(lacking) == array.sizes["time"] else array.isel(time=lacking)))
    return parts


def refuse_false_ground(array: xr.DataArray, source_name: str, where: str) -> None:
    """Reads the first and the last map of a geopotential without a level, which may be that of the ground.

    A download of one pressure level has no level axis either (contrailcirrus/pycontrails#276).

    Raises:
        UserError: the ground is nowhere low, or changes.
    """
    ends = sorted({0, array.sizes.get("time", 1) - 1})
    maps = [np.asarray(array.isel(time=end) if "time" in array.dims else array, np.float64) for end in ends]
    found = []
    least, most = (float(end(maps[0])) if np.isfinite(maps[0]).any() else 0.0 for end in (np.nanmin, np.nanmax))
    # A constant may be anything; what cannot be the ground at all is told where values are judged.
    if least > _LOWEST_GROUND and (most > least or least > _HIGHEST_METRES):
        found.append(f"is nowhere below {least:.5g} m2 s-2, and no ground is that high all over")
    change = np.abs(maps[-1] - maps[0])
    if np.isfinite(change).any() and np.nanmax(change) > _PACKING:
        found.append(f"changes with time by {float(np.nanmax(change)):.4g} m2 s-2, and the ground does not")
    if found:
        raise UserError(
            f"{source_name} has no level, so that it would be the geopotential of the ground, but it "
            f"{' and '.join(found)}",
            where=where,
            remedy="name the level: call the variable z500, or give the file a scalar coordinate level in hPa",
        )
