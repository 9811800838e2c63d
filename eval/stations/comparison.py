"""What is compared at stations: forecasts on their own grids, observations, groups of stations and heights.

Shapes: s stations, g groups, p points of a map.
"""

import dataclasses
import itertools
import logging
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import xarray as xr

from eval.baselines import CLIMATOLOGY, PERSISTENCE
from eval.events import require_events
from eval.forecast_reading import ForecastStore, common_init_times, open_stores
from eval.pairing import Comparison
from eval.regions import region_of
from eval.request import ScoringRequest, StationRequest
from eval.stations.interpolation import CORRECTED, LAPSE_RATE, METHODS, at_points, point_weights
from weather_scnn.catalogue.naming import identify, lookup
from weather_scnn.catalogue.units import GRAVITY
from weather_scnn.errors import UserError
from weather_scnn.io.climatology import open_climatology
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.observations import Observations, read_observations
from weather_scnn.io.opening import CanonicalSource
from weather_scnn.io.sources import find_source, open_raw

_log = logging.getLogger(__name__)
ALL_STATIONS = "all-stations"
ELEVATION = "elevation"
_BANDS = (200, 500, 1000, 2000)  # m
_MOST_GROUPS = 60
_GROUND = "geopotential_at_surface"
_WIND = ("10m_u_component_of_wind", "10m_v_component_of_wind")
#: Made of both components where a forecast has no field of it.
WIND_SPEED = "10m_wind_speed"
Key = tuple[str, int | None]


@dataclasses.dataclass(frozen=True)
class StationGrid:
    """A grid's way to the stations.

    Attributes:
        latitude, longitude: of the grid, degrees.
        method: of interpolation.
        weights: of the map's points at the stations' places, (s, p).
        inside: which stations are on the grid, (s,).
        above: how far the model's ground lies above the stations, m, 0 where that is not known, (s,).
    """

    latitude: np.ndarray
    longitude: np.ndarray
    method: str
    weights: scipy.sparse.csr_array
    inside: np.ndarray
    above: np.ndarray

    def moved(self, latitude: np.ndarray, longitude: np.ndarray) -> scipy.sparse.csr_array:
        """Weights at other places."""
        return point_weights(self.latitude, self.longitude, latitude, longitude, self.method)[0]


@dataclasses.dataclass(frozen=True)
class StationComparison:
    """What is compared, still lazy.

    Attributes:
        request: what was asked for.
        systems: forecasts, then baselines.
        stores: the forecasts, in the catalogue's units, each on its own grid.
        inits: init times.
        leads: lead times.
        observations: what was seen.
        tolerance: in time.
        moves: which stations move, (s,).
        keys: variables and levels that are scored.
        groups: names of groups of stations.
        belongs: which station is in which group, 1 or 0, (s, g).
        grids: by system, and of the climatology.
        climatology: the store, for thresholds and the baseline; None without one.
        lapse_rate: K m-1; 0 where nothing is corrected.
        notes: attributes that say what was adjusted.
    """

    request: ScoringRequest
    systems: list[str]
    stores: dict[str, ForecastStore]
    inits: np.ndarray
    leads: np.ndarray
    observations: Observations
    tolerance: np.timedelta64
    moves: np.ndarray
    keys: list[Key]
    groups: list[str]
    belongs: np.ndarray
    grids: dict[str, StationGrid]
    climatology: xr.Dataset | None
    lapse_rate: float
    notes: dict[str, str]

    def members(self, system: str) -> int:
        """Of an ensemble; 1 of others."""
        return self.stores[system].members if system in self.stores else 1


def check_stations(stations: StationRequest) -> None:
    """Refuses what does not read, before anything is opened.

    Raises:
        UserError: a method or a tolerance that there is not, or a lapse rate that cannot be.
    """
    if stations.method not in METHODS:
        raise UserError(f"there is no method {stations.method!r}", remedy="choose " + " or ".join(METHODS))
    if stations.tolerance:
        parse_duration(stations.tolerance, "--time-tolerance", likely=("min", "h"))
    if stations.lapse_rate is not None and not -0.02 <= stations.lapse_rate <= 0.02:
        raise UserError(
            f"a lapse rate of {1000 * stations.lapse_rate:g} K/km cannot be",
            remedy="give it in K/km, as --lapse-rate 6.5",
        )


def _has(store: ForecastStore, key: Key) -> bool:
    """Whether a forecast has a field, or what it is made of."""
    name, level = key
    if name not in store.dataset:
        return name == WIND_SPEED and all(part in store.dataset for part in _WIND)
    return level is None or level in np.atleast_1d(
        store.dataset[name]["level"].values if "level" in store.dataset else []
    )


def _keys(request: ScoringRequest, observations: Observations, stores: Sequence[ForecastStore]) -> list[Key]:
    """What observations and every forecast have, of what is asked for."""
    wanted = (
        None if request.variables is None else [known.name if (known := lookup(n)) else n for n in request.variables]
    )
    held = {name for name, _ in observations.values}
    if not request.truth and (lacking := [name for name in wanted or () if name not in held]):
        raise UserError(
            f"has no {lacking[0]}", where=observations.path, remedy="choose from " + ", ".join(sorted(held))
        )
    seen = {key: values for key, values in observations.values.items() if np.isfinite(values).any()}
    keys = [key for key in seen if wanted is None or key[0] in wanted]
    keys = [key for key in keys if key[1] is None or not request.levels or key[1] in request.levels]
    shared = [key for key in keys if all(_has(store, key) for store in stores)]
    if not shared:
        there = ", ".join(sorted({name for name, _ in seen})) or "nothing"
        forecast = ", ".join(dict.fromkeys(str(name) for store in stores for name in store.dataset.data_vars))
        raise UserError(
            f"observations of {there} and forecasts of {forecast} share no variable"
            + (" of those asked for" if wanted else ""),
            where=observations.path,
            remedy="give observations of what is forecast",
        )
    if left := sorted({name for name, _ in keys} - {name for name, _ in shared}):
        _log.warning("not scored at stations, for they are not in every forecast: %s", ", ".join(left))
    return shared


def _groups(request: ScoringRequest, observations: Observations) -> tuple[list[str], np.ndarray]:
    """All stations, those of the regions, and those of every entry of a column: names and who belongs, (s, g).

    A station that moves belongs where it was first.
    """
    latitude, longitude, _ = observations.places
    found = {ALL_STATIONS: np.ones(latitude.size, bool)}
    for name in request.regions:
        if name != "global":
            found[name] = region_of(name).holds(latitude, longitude)
    assert request.stations is not None
    for column in request.stations.groups:
        if column == ELEVATION:
            heights, edges = observations.elevation, (-np.inf, *_BANDS, np.inf)
            names = [
                f"below-{_BANDS[0]}m",
                *(f"{a}-{b}m" for a, b in itertools.pairwise(_BANDS)),
                f"above-{_BANDS[-1]}m",
            ]
            found |= {name: (heights >= a) & (heights < b) for name, a, b in zip(names, edges, edges[1:])}
            continue
        entries = observations.columns[column]
        for entry in np.unique(entries):
            found[f"{column}={entry}"] = entries == entry
    if len(found) > _MOST_GROUPS:
        raise UserError(
            f"{len(found)} groups of stations are too many", where=observations.path,
            remedy=f"group by columns of at most {_MOST_GROUPS} entries in all",
        )  # fmt: skip
    empty = [name for name, inside in found.items() if not inside.any()]
    if empty:
        _log.warning("no station is in %s", ", ".join(empty))
    kept = {name: inside for name, inside in found.items() if inside.any()}
    return list(kept), np.stack(list(kept.values()), axis=-1).astype(np.float64)


def _ground(path: str) -> xr.DataArray | None:
    """Height of a source's ground, m; None where it has none."""
    raw = open_raw(find_source(path), decode_timedelta=False)
    for where, dataset in raw:
        for name, array in dataset.data_vars.items():
            known = identify(str(name), array.attrs, on_levels=False)
            leads = {"prediction_timedelta", "lead_time", "step"} & set(array.dims)
            if known is not None and known.name == _GROUND and not leads:
                one = dataset[[name]].isel({dim: [0] for dim in array.dims if dim in ("time", "number")})
                one = one.drop_vars([each for each in one.coords if each not in one.dims])
                field = CanonicalSource(path, raw=[(where, one)]).fields([_GROUND]).dataset[_GROUND]
                first = {dim: 0 for dim in field.dims if dim not in ("latitude", "longitude")}
                return field.isel(first).transpose("latitude", "longitude").compute() / GRAVITY
    return None


class _Heights:
    """How far the ground of each model lies above the stations."""

    def __init__(self, request: ScoringRequest, observations: Observations, keys: Sequence[Key]):
        assert request.stations is not None
        self.request, self.observations, self.method = request, observations, request.stations.method
        wanted, asked = request.stations.lapse_rate, request.stations.lapse_rate is not None
        corrected = [name for name, _ in keys if name in CORRECTED]
        self.rate = (LAPSE_RATE if wanted is None else wanted) if corrected else 0.0
        self.told: list[str] = []
        self._shared: xr.DataArray | None = None
        if self.rate and not np.isfinite(observations.elevation).any():
            self._without("the stations have no elevations", observations.path, "add a column elevation, in m", asked)
        if self.rate and request.truth:
            self._shared = _ground(request.truth)
        self._asked = asked

    def _without(self, what: str, where: str, remedy: str, asked: bool) -> None:
        if asked:
            raise UserError(f"{what}, by which 2 m temperature is to be corrected", where=where, remedy=remedy)
        _log.warning("2 m temperature is not corrected for height: %s (%s)", what, where)
        self.rate = 0.0

    def above(self, path: str, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
        """Of a forecast's ground, else of the truth's; 0 at stations whose elevation is not known."""
        nothing = np.zeros(latitude.size)
        if not self.rate:
            return nothing
        ground = _ground(path) if path else None
        ground = self._shared if ground is None else ground
        if ground is None:
            remedy = f"give --truth or forecasts with {_GROUND}, or leave out --lapse-rate"
            self._without(f"neither forecast nor truth has {_GROUND}", path, remedy, self._asked)
            return nothing
        rows, columns = (ground[axis].values.astype(np.float64) for axis in ("latitude", "longitude"))
        weights, inside = point_weights(rows, columns, latitude, longitude, self.method)
        height = at_points(weights, ground.values.reshape(1, -1))[0].astype(np.float64)
        difference = height - self.observations.elevation
        known = inside & np.isfinite(difference)
        if not known.all():
            self.told.append(f"{np.count_nonzero(~known)} stations without a known height are not corrected")
        return np.where(known, difference, 0.0)


def open_station_comparison(request: ScoringRequest, comparison: Comparison | None) -> StationComparison:
    """Opens forecasts and observations, and finds what they share.

    Args:
        request: with `stations`.
        comparison: of the fields, where there is a truth too: the same forecasts from the same init times.

    Raises:
        UserError: nothing is shared, or units, places or times do not fit.
    """
    stations = request.stations
    assert stations is not None
    if comparison is None:
        stores = open_stores(request)
        inits, leads = common_init_times(stores, request.init), stores[0].leads
        inits = inits[~np.isin(inits.astype(np.int64), np.array(request.skip, np.int64))]
        if not inits.size:
            raise UserError("all init times are in the file already", remedy="give others with --init")
    else:
        stores, inits, leads = list(comparison.forecasts.values()), comparison.inits, comparison.leads
    tolerance = (
        parse_duration(stations.tolerance, "--time-tolerance") if stations.tolerance else np.timedelta64(0, "ns")
    )
    times = np.unique(np.concatenate([inits, (inits[:, None] + leads).ravel()]))
    columns = [name for name in stations.groups if name != ELEVATION]
    observations = read_observations(stations.observations, times, tolerance, columns=columns)
    keys = _keys(request, observations, stores)
    names = list(
        dict.fromkeys([name for name, _ in keys] + [part for name, _ in keys if name == WIND_SPEED for part in _WIND])
    )
    prepared = {store.system: store.in_catalogue_units([n for n in names if n in store.dataset]) for store in stores}
    climatology = None
    if request.climatology is not None:
        climatology = open_climatology(request.climatology)
    if request.events:
        require_events(request.events, [name for name, _ in keys], climatology, str(request.climatology or ""))
    baselines = [name for name in request.baselines if name in (PERSISTENCE, CLIMATOLOGY)]
    if left := [name for name in request.baselines if name not in baselines]:
        _log.warning("no baseline at stations: %s", ", ".join(left))
    latitude, longitude, moves = observations.places
    heights = _Heights(request, observations, keys)
    grids = {}
    opened = {system: (store.dataset, store.path) for system, store in prepared.items()}
    if climatology is not None:
        opened[CLIMATOLOGY] = (climatology, "")
    for system, (dataset, path) in opened.items():
        north, east = (dataset[axis].values.astype(np.float64) for axis in ("latitude", "longitude"))
        weights, inside = point_weights(north, east, latitude, longitude, stations.method)
        above = heights.above(path or stores[0].path, latitude, longitude)
        grids[system] = StationGrid(north, east, stations.method, weights, inside, above)
    if not np.all([grid.inside for grid in grids.values()], axis=0).any():
        raise UserError(
            "no station is on the grid of the forecasts", where=stations.observations,
            remedy="give observations of the region that is forecast",
        )  # fmt: skip
    outside = np.any([~grid.inside for grid in grids.values()], axis=0)
    if outside.any():
        _log.warning("%d stations are outside of the forecasts' grid and left out", np.count_nonzero(outside))
    for text in dict.fromkeys(heights.told):
        _log.warning("%s", text)
    groups, belongs = _groups(request, observations)
    belongs[outside] = 0.0
    notes = {
        "observations": stations.observations,
        "stations_interpolation": stations.method,
        "time_tolerance": stations.tolerance or "none",
        "height_correction": f"2 m temperature by {1000 * heights.rate:g} K/km" if heights.rate else "none",
        "observations_left_out": "; ".join(f"{count} {what}" for what, count in observations.dropped.items()) or "none",
    }
    return StationComparison(
        request, [*prepared, *baselines], prepared, inits, leads, observations, tolerance, moves, keys, groups, belongs, grids,
        climatology, heights.rate, notes,
    )  # fmt: skip
