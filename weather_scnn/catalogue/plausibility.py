"""Whether values can be what their name and unit say, and what they look like if not."""

import dataclasses
import math

import numpy as np
import xarray as xr

from weather_scnn.catalogue.naming import Variable, find, lookup
from weather_scnn.catalogue.units import GRAVITY
from weather_scnn.errors import UserError

#: Finite values of float32 fields from here on are netCDF's default fill value: nothing else comes near.
UNWRITTEN = np.float32(9.96e36)
# unit: (what the values may be in instead, scale and offset from that to the unit)
_LOOK_ALIKES: dict[str, list[tuple[str, float, float]]] = {
    "K": [("degrees Celsius", 1.0, 273.15), ("degrees Fahrenheit", 5 / 9, 255.372)],
    "Pa": [("hPa", 100.0, 0.0), ("kPa", 1000.0, 0.0)],
    "kg kg-1": [("g kg-1", 1e-3, 0.0)],
    "m": [("mm", 1e-3, 0.0)],
    "1": [("percent", 0.01, 0.0)],
    "m2 s-2": [("a height in metres", GRAVITY, 0.0), ("a height in decametres", 10 * GRAVITY, 0.0)],
    "J m-2": [("W m-2", 3600.0, 0.0)],
}
# An hour of sunlight anywhere on a global map exceeds this, J m-2; as W m-2 no value would reach it.
_LEAST_SUNLIGHT = 5e3
_SUNLIGHT = (
    "toa_incident_solar_radiation",
    "surface_solar_radiation_downwards",
    "surface_net_solar_radiation",
    "top_net_solar_radiation",
)
_HEAT = ("surface_thermal_radiation_downwards", "top_net_thermal_radiation")
# What programs write for a missing value, and forget to declare.
_SENTINELS = (
    -99.0, -99.9, -999.0, -999.9, -9999.0, -99999.0, -32767.0, -32768.0, 9999.0, 32767.0, 65535.0, 1e10, 1e15,
    1e20, 1e30, 1e35, -1e20, -1e30, -1e34, 3.4028235e38, -3.4028235e38,
)  # fmt: skip
# Between the highest relief in metres and the highest geopotential of relief on the coarsest grids, m2 s-2.
_RELIEF_LIKE_METRES = (1000.0, 8900.0)


@dataclasses.dataclass(frozen=True)
class Extremes:
    """Finite extremes of a field, and its area mean a level where it has levels.

    Attributes:
        low: least value.
        high: greatest value.
        levels: hPa; empty without levels.
        means: area mean of each level.
    """

    low: float
    high: float
    levels: tuple[float, ...] = ()
    means: tuple[float, ...] = ()


def without_unwritten(values: np.ndarray) -> np.ndarray:
    """Values with NaN for netCDF's default fill value; an infinity is no such and stays."""
    return np.where((values >= UNWRITTEN) & np.isfinite(values), np.asarray(np.nan, values.dtype), values)


def standard_geopotential(level: float) -> float:
    """m2 s-2 of a pressure in hPa in the ICAO standard atmosphere (ISO 2533), to 20 km."""
    if level >= 226.32:
        return GRAVITY * 44330.77 * (1.0 - (level / 1013.25) ** 0.190263)
    return GRAVITY * (11000.0 + 6341.62 * math.log(226.32 / level))


def _limits(variable: Variable) -> tuple[float, float]:
    bottom, top = variable.plausible
    if variable.kind == "accumulated" and variable.never_negative:
        bottom = -0.05 * top  # artefacts of packing
    return bottom, top


def _outside(variable: Variable, found: Extremes) -> str:
    bottom, top = _limits(variable)
    if found.low >= bottom and found.high <= top:
        return ""
    return (
        f"{found.low:.5g} … {found.high:.5g} {variable.unit}, outside {bottom:g} … {top:g}"
        f"{_suspected(variable, found.low, found.high)}"
    )


def _suspected(variable: Variable, low: float, high: float) -> str:
    """What an implausible range looks like."""
    bottom, top = variable.plausible
    for value in (low, high):
        if not bottom <= value <= top and any(math.isclose(value, each, rel_tol=1e-6) for each in _SENTINELS):
            return f"; {value:.8g} looks like a missing value: declare it as the attribute _FillValue"
    if variable.name == "geopotential_at_surface" and low < bottom and high <= top:
        return "; it looks like relief with the sea floor"
    for words, scale, offset in _LOOK_ALIKES.get(variable.unit, []):
        if bottom <= low * scale + offset and high * scale + offset <= top:
            return f"; it looks like {words}"
    return ""


def implausible(name: str, found: Extremes) -> str:
    """What is impossible about a field's values, with the suspected cause; empty if nothing is.

    Args:
        name: canonical name; one that the catalogue does not hold is never implausible.
        found: its extremes.
    """
    variable = lookup(name)
    if variable is None or not math.isfinite(found.low):
        return ""
    if fault := _outside(variable, found):
        return fault
    if fault := _too_little(variable, found):
        return fault
    if name == "geopotential":
        for level, mean in zip(found.levels, found.means):
            expected = standard_geopotential(level)
            if 50 <= level <= 925 and math.isfinite(mean) and not 0.6 < mean / expected < 1.5:
                return (
                    f"mean {mean:.5g} m2 s-2 at {level:g} hPa, where {expected:.3g} is usual{_as_height(level, mean)}"
                )
    return ""


def _too_little(variable: Variable, found: Extremes) -> str:
    """What is less than there is somewhere on the globe at any time."""
    if variable.name.startswith(_SUNLIGHT) and 0 < found.high < _LEAST_SUNLIGHT:
        return f"at most {found.high:.5g} {variable.unit}, too little for daylight; it looks like W m-2"
    greatest = max(abs(found.low), abs(found.high))
    if variable.name.startswith(_HEAT) and 0 < greatest < _LEAST_SUNLIGHT:
        return f"at most {greatest:.5g} {variable.unit} anywhere, too little for an hour; it looks like W m-2"
    low, high = _RELIEF_LIKE_METRES
    if variable.name == "geopotential_at_surface" and low < found.high < high:
        return f"at most {found.high:.5g} m2 s-2, too little for mountains; it looks like a height in metres"
    return ""


def _as_height(level: float, mean: float) -> str:
    """Whether the mean geopotential of a level looks like a height."""
    for words, factor in (("metres", GRAVITY), ("decametres", 10 * GRAVITY)):
        if 0.6 < factor * mean / standard_geopotential(level) < 1.5:
            return f"; it looks like a height in {words}"
    return ""


def extremes_of_one_map(array: xr.DataArray, scale: float = 1.0, offset: float = 0.0) -> Extremes | None:
    """Extremes and mean of the first map of a field, at the level nearest 500 hPa; None if it has no finite value.

    Args:
        array: of any dimensions beside latitude and longitude.
        scale: brings the values to the catalogue's unit.
        offset: added after it.
    """
    levels: tuple[float, ...] = ()
    first = {dim: 0 for dim in array.dims if dim not in ("latitude", "longitude")}
    if "level" in array.dims:
        first["level"] = int(np.abs(array["level"].values - 500).argmin())
        levels = (float(array["level"].values[first["level"]]),)
    # In one step, so that dask reads the chunk of this map alone.
    one = array.isel(first)
    values = np.asarray(one.transpose("latitude", ...).values, np.float64) * scale + offset
    if not np.isfinite(values).any():
        return None
    finite = np.where(np.isfinite(values), values, np.nan)
    weights = np.cos(np.radians(array["latitude"].values))[:, None] * np.isfinite(values)
    mean = float(np.nansum(finite * weights) / max(weights.sum(), 1e-300))
    return Extremes(float(np.nanmin(finite)), float(np.nanmax(finite)), levels, (mean,) if levels else ())


@dataclasses.dataclass(frozen=True)
class Judge:
    """Holds every map of a source against what its name and unit allow, while it is read.

    It costs two passes over values in memory, 0.2 ms a map of 0.25 degrees, where decoding one takes 10 ms.

    Attributes:
        where: the source, for messages.
        latitude, longitude: of the maps, degrees.
        globe: whether they cover the globe, which some tests need: a polar night has no sun.
    """

    where: str
    latitude: np.ndarray
    longitude: np.ndarray
    globe: bool

    @classmethod
    def of(cls, dataset: xr.Dataset, where: str) -> "Judge":
        """For fields on the grid of a canonical dataset."""
        latitude, longitude = (dataset[axis].values.astype(np.float64) for axis in ("latitude", "longitude"))
        reach = latitude.size > 1 and latitude[0] < -60 and latitude[-1] > 60
        return cls(where, latitude, longitude, bool(reach and np.ptp(longitude) > 270))

    def __call__(
        self, name: str, values: np.ndarray, times: np.ndarray | None = None, levels: np.ndarray | None = None
    ) -> np.ndarray:
        """The values, with NaN for what netCDF's own fill value marks as never written.

        Args:
            name: canonical name; fields that the catalogue does not hold are not judged.
            values: ([time, ][level, ]latitude, longitude), in the catalogue's unit.
            times: of the first axis, where there is one.
            levels: hPa, where there are any.

        Raises:
            UserError: values that cannot be, with the variable, the time, the level and the place.
        """
        if values.size == 0:
            return values
        low, high = _extremes(values)
        if np.any(high >= UNWRITTEN):
            values = without_unwritten(values)
            low, high = _extremes(values)
        variable = lookup(name)
        if variable is None:
            return values
        bottom, top = _limits(variable)
        outside = low.min(initial=np.inf) < bottom or high.max(initial=-np.inf) > top
        if outside or np.isnan(low).any() or (self.globe and self._suspect(variable, values, low, high, levels)):
            self._refuse(name, values, low, high, times, levels)
        return values

    def _suspect(
        self, variable: Variable, values: np.ndarray, low: np.ndarray, high: np.ndarray, levels: np.ndarray | None
    ) -> bool:
        """Whether a map may be less than there is on the globe; what `_refuse` then looks at closely."""
        if variable.unit == "J m-2":
            return bool((np.maximum(np.abs(low), np.abs(high)) < _LEAST_SUNLIGHT).any())
        if variable.name == "geopotential" and levels is not None and low.shape[-1:] == (len(levels),):
            # Heights in metres are a tenth: of the mean between a map's extremes as of its mean.
            usual = np.array([standard_geopotential(float(level)) for level in levels])
            return bool((0.5 * (low + high) < 0.4 * usual)[..., (levels >= 50) & (levels <= 925)].any())
        return False

    def _refuse(
        self,
        name: str,
        values: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        times: np.ndarray | None,
        levels: np.ndarray | None,
    ) -> None:
        """Raises UserError for the first map that cannot be, if one is so."""
        variable = find(name)
        on_levels = levels is not None and low.ndim > 0 and low.shape[-1] == len(levels)
        means = _sampled_means(values, self.latitude) if name == "geopotential" and on_levels else None
        for index in np.ndindex(low.shape):
            if not math.isfinite(low[index]):
                continue
            found = Extremes(float(low[index]), float(high[index]))
            fault = _outside(variable, found)
            if not fault and self.globe and variable.kind != "static":
                fault = _too_little(variable, found)
            if not fault and self.globe and means is not None and levels is not None and 50 <= levels[index[-1]] <= 925:
                mean, level = float(means[index]), float(levels[index[-1]])
                if guess := _as_height(level, mean):
                    fault = f"mean {mean:.5g} m2 s-2, where {standard_geopotential(level):.3g} is usual{guess}"
            if not fault:
                continue
            place = ""
            if times is not None and len(index) > (1 if on_levels else 0):
                place += f" at {np.datetime_as_string(np.asarray(times[index[0]], 'datetime64[m]'))}"
            if on_levels:
                place += f", {levels[index[-1]]:g} hPa"  # type: ignore[index]
            bottom, top = _limits(variable)
            if found.low < bottom or found.high > top:
                one = values[index]
                worst = np.nanargmin(one) if found.low < bottom else np.nanargmax(one)
                row, column = np.unravel_index(int(worst), one.shape)
                place += f", latitude {self.latitude[row]:g}, longitude {self.longitude[column]:g}"
            raise UserError(
                f"{name} is implausible{place}: {fault}",
                where=self.where,
                remedy="correct the units attribute, or the values there",
            )


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of every map, NaN left out; of one without NaN in a quarter of the time."""
    flat = values.reshape(*values.shape[:-2], -1)
    low, high = flat.min(axis=-1), flat.max(axis=-1)
    if np.isnan(low).any():
        low, high = np.fmin.reduce(flat, axis=-1), np.fmax.reduce(flat, axis=-1)
    return np.asarray(low), np.asarray(high)


def _sampled_means(values: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    """Area mean of every map from some 40 x 40 of its points."""
    rows, columns = (slice(None, None, max(1, size // 40)) for size in values.shape[-2:])
    sample = values[..., rows, columns].astype(np.float64)
    weights = np.cos(np.radians(latitude[rows]))[:, None] * np.isfinite(sample)
    total = np.where(np.isfinite(sample), sample, 0.0) * weights
    with np.errstate(invalid="ignore", divide="ignore"):
        return total.sum((-2, -1)) / weights.sum((-2, -1))
