"""What is compared with what: systems, init times, lead times, variables, levels and the grid they share."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import xarray as xr

from eval.area_sums import AreaWeights
from eval.baselines import CLIMATOLOGY, PERSISTENCE
from eval.conventions import WEATHERBENCH1, WEATHERBENCH2, WIND_VECTORS
from eval.coverage import with_scored_days
from eval.events import require_events
from eval.field_reading import Conversion, regridding
from eval.forecast_reading import ForecastStore, common_init_times, open_stores, span
from eval.forecasts import common_levels, common_variables, level_numbers, units_to_truth
from eval.regions import region_weights
from eval.request import ScoringRequest, lead_positions
from weather_scnn.catalogue.naming import lookup
from weather_scnn.catalogue.plausibility import extremes_of_one_map, implausible
from weather_scnn.catalogue.units import parse_unit
from weather_scnn.errors import UserError
from weather_scnn.io.climatology import open_climatology
from weather_scnn.io.coverage import other_axis
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.fields import declared_unit
from weather_scnn.io.opening import CanonicalSource
from weather_scnn.sphere.grid import Grid

_log = logging.getLogger(__name__)
_TOLD = 8  # lead times of a message
_HOUR = 3600 * 10**9  # ns


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Stores brought to common terms, still lazy.

    Attributes:
        request: what was asked for.
        names: variables to score.
        systems: forecasts, then baselines.
        levels: hPa, None without levels.
        inits: init times that every system has.
        leads: lead times of the first forecast.
        present: which (init, lead) are scored, shape (init, lead).
        latitude: degrees of the grid that fields are scored on.
        longitude: its degrees east.
        weights: of the regions.
        forecasts: the stores.
        truth: arrays of dims (time[, level], latitude, longitude) by name.
        truth_times: their times.
        truth_conversion: brings the truth onto the grid.
        climatology: the store, None if there is none.
        climatology_conversion: as for the truth.
        notes: attributes that say what was adjusted.
        map_leads: positions of the lead times of maps.
        spectrum_leads: the same for spectra.
    """

    request: ScoringRequest
    names: list[str]
    systems: list[str]
    levels: list[float] | None
    inits: np.ndarray
    leads: np.ndarray
    present: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    weights: AreaWeights
    forecasts: dict[str, ForecastStore]
    truth: dict[str, xr.DataArray]
    truth_times: np.ndarray
    truth_conversion: Conversion
    climatology: xr.Dataset | None
    climatology_conversion: Conversion
    notes: dict[str, str]
    map_leads: np.ndarray
    spectrum_leads: np.ndarray

    @property
    def grid(self) -> Grid:
        """The grid, where spectra need to know its kind.

        Raises:
            UserError: it is not a global equiangular or Gaussian grid.
        """
        return Grid.from_coordinates(self.longitude, self.latitude)

    def present_for(self, name: str) -> np.ndarray:
        """As `present`; accumulations are not scored at lead 0, where stores hold zeros (weatherbench2#159)."""
        known = lookup(name)
        if known is None or known.kind != "accumulated":
            return self.present
        return self.present & (self.leads > np.timedelta64(0, "ns"))[None, :]

    @property
    def pooled(self) -> bool:
        """Whether the convention is that of WeatherBench 1."""
        return self.request.convention == WEATHERBENCH1

    @property
    def anomalies(self) -> bool:
        """Whether there is something to take anomalies from."""
        return self.pooled or self.climatology is not None

    def has_normal(self, name: str) -> bool:
        """Whether this variable has anomalies."""
        return self.pooled or (self.climatology is not None and name in self.climatology)

    @property
    def vectors(self) -> dict[str, tuple[str, str]]:
        """Wind vectors whose two components are both scored."""
        return {name: pair for name, pair in WIND_VECTORS.items() if set(pair) <= set(self.names)}

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Variables that are read together: the components of a wind, and all others alone."""
        pairs = list(self.vectors.values())
        return pairs + [(name,) for name in self.names if not any(name in pair for pair in pairs)]

    def level_count(self, name: str) -> int:
        """Levels of a variable, 1 where it has none."""
        array = self.truth[name]
        return int(array.sizes["level"]) if "level" in array.dims else 1

    def members(self, system: str) -> int:
        """Members of a forecast; 1 for other systems."""
        return self.forecasts[system].members if system in self.forecasts else 1


def _pairs(
    request: ScoringRequest, forecasts: Sequence[ForecastStore], truth_times: np.ndarray, notes: dict[str, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Init times, lead times and which of their pairs are scored: those that all systems and the truth have."""
    first, leads = forecasts[0], forecasts[0].leads
    inits = common_init_times(forecasts[:1], request.init)
    if len(forecasts) > 1:
        counts = {store.system: _within_count(store.init_times, inits) for store in forecasts}
        common = common_init_times(forecasts, request.init)
        if common.size < inits.size:
            _log.warning("scored are the %d init times that all forecasts have, of %d", common.size, inits.size)
        notes["common_init_times"] = f"{common.size} ({', '.join(f'{name} {n}' for name, n in counts.items())})"
        inits = common
    valid = inits[:, None] + leads[None, :]
    present = np.isin(valid, truth_times)
    if request.convention == WEATHERBENCH1:
        present &= np.isin(valid.astype("datetime64[Y]"), inits.astype("datetime64[Y]"))
    for store in forecasts:
        present &= store.has(inits, leads) | ~np.isin(leads, store.leads)[None, :]
    if not present.any():
        raise UserError(
            f"no valid time of the forecast is in the truth: forecasts are valid {span(valid)}, "
            f"the truth covers {span(truth_times)}",
            where=f"{first.path} against {request.truth}",
            remedy="give truth of the forecast's period",
        )
    lacking = np.count_nonzero(~np.isin(valid, truth_times))
    if lacking:
        _log.warning("the truth lacks %d of %d valid times of the forecasts: they are left out", lacking, valid.size)
    keep = present.any(axis=1)
    if PERSISTENCE in request.baselines:
        keep &= np.isin(inits, truth_times)
        if not keep.any():
            raise UserError(
                f"persistence needs truth at init time: forecasts start {span(inits)}, "
                f"the truth covers {span(truth_times)}",
                where=request.truth,
                remedy="give truth that holds the init times, or leave out the baseline `persistence`",
            )
    if not keep.all():
        reason = "no truth at any lead time" + (", or none at init time" if PERSISTENCE in request.baselines else "")
        _log.warning("%d of %d init times are left out: %s", np.count_nonzero(~keep), keep.size, reason)
    empty = ~present[keep].any(axis=0)
    if empty.any():
        hours = [str(hour) for hour in leads[empty].astype("timedelta64[h]").astype(int)]
        if len(hours) > _TOLD:
            hours = [*hours[: _TOLD - 2], "…", hours[-1]]
        _log.warning("no truth at %d lead times, %s h: their scores are NaN", empty.sum(), ", ".join(hours))
    inits, present = inits[keep], present[keep]
    fresh = ~np.isin(inits.astype(np.int64), np.array(request.skip, np.int64))
    if not fresh.any():
        raise UserError("all init times are in the file already", remedy="give others with --init")
    return inits[fresh], leads, present[fresh]


def _within_count(theirs: np.ndarray, period: np.ndarray) -> int:
    return int(np.count_nonzero((theirs >= period[0]) & (theirs <= period[-1])))


def _scoring_grid(request: ScoringRequest, forecasts: Sequence[ForecastStore], truth: xr.Dataset) -> xr.Dataset:
    """A dataset on the grid to score on: the one asked for, else the coarsest of all."""
    if request.grid is not None:
        grid = Grid.from_name(request.grid)
        return xr.Dataset(coords={"latitude": grid.latitude, "longitude": grid.longitude})
    datasets = [truth, *(store.dataset for store in forecasts)]
    return min(datasets, key=lambda data: data.sizes["latitude"] * data.sizes["longitude"])


def _grid_name(dataset: xr.Dataset) -> str:
    return f"{dataset.sizes['longitude']}x{dataset.sizes['latitude']}"


def _to_grid(source: xr.Dataset, target: xr.Dataset, label: str, where: str, notes: dict[str, str]):
    """Weights from a store's grid, None where it is the scoring grid already; noted and logged."""
    if not other_axis(source, target):
        return None
    weights = regridding(source, target, where=where)
    text = f"{_grid_name(source)} to {_grid_name(target)}, conservative"
    notes[f"regridded_{label}"] = text
    _log.warning("%s is regridded: %s", label, text)
    return weights


def _tell_left_out(what: str, values: set[float], units: str) -> None:
    """A warning with at most a dozen of the values, if there are any."""
    texts = [f"{value:g}" for value in sorted(values)]
    if texts:
        _log.warning("not scored: %s: %s %s", what, ", ".join([*texts[:12], *(["…"] if texts[12:] else [])]), units)


def _require_likely_units(
    name: str, array: xr.DataArray, factors: tuple[float, float], truth: xr.DataArray, where: str, truth_path: str
) -> None:
    """Refuses values that cannot be beside others that can, where one of the two does not say its units.

    Raises:
        UserError: one of them is implausible; see `weather_scnn.catalogue.plausibility`.
    """
    texts = [declared_unit(each) for each in (array, truth)]
    if all(text and parse_unit(text) is not None for text in texts):
        return
    faults = []
    for each, (scale, offset) in ((array, factors), (truth, (1.0, 0.0))):
        found = extremes_of_one_map(each, scale, offset)
        faults.append(implausible(name, found) if found is not None else "")
    if bool(faults[0]) != bool(faults[1]):
        raise UserError(
            f"{name} is implausible: {faults[0] or faults[1]}",
            where=where if faults[0] else truth_path,
            remedy="write the units that it is in as its attribute units",
        )


def _open_climatology(
    request: ScoringRequest,
    target: xr.Dataset,
    levels: list[float] | None,
    names: list[str],
    truth: xr.Dataset,
    notes: dict,
) -> tuple[xr.Dataset, Conversion]:
    path = str(request.climatology)
    climatology = open_climatology(path)
    absent = [name for name in names if name not in climatology.data_vars]
    if len(absent) == len(names):
        raise UserError(
            f"has none of the scored variables ({', '.join(names)})",
            where=path,
            remedy="make it from the truth with `weather-scnn climatology`",
        )
    if absent:
        _log.warning("no ACC for %s: not in the climatology %s", ", ".join(absent), path)
    if levels is not None and "level" in climatology.dims:
        lacking = sorted(set(levels) - set(level_numbers(climatology)))
        if lacking:
            raise UserError(
                f"lacks the levels {', '.join(f'{level:g}' for level in lacking)} hPa",
                where=path,
                remedy="leave them out with --levels, or make the climatology with them",
            )
        climatology = climatology.sel(level=levels)
    weights = _to_grid(climatology, target, "climatology", path, notes)
    factors = {}
    for name in names:
        for part in (name, f"{name}_seeps_threshold"):
            if part in climatology.data_vars:
                factors[part] = units_to_truth(name, climatology[part], truth[name], where=path)
        if name in climatology.data_vars:
            _require_likely_units(name, climatology[name], factors[name], truth[name], path, request.truth)
    held = [str(name) for name in climatology.data_vars]
    return climatology, Conversion.of(weights, names, held, factors, label="the climatology")


def open_comparison(request: ScoringRequest) -> Comparison:
    """Opens every store of a request and finds what they share.

    Raises:
        UserError: nothing can be paired, or grids, units, variables or levels do not fit.
    """
    notes: dict[str, str] = {}
    stores = open_stores(request)
    first, truth = stores[0], CanonicalSource(request.truth).fields()
    observed = FieldReader.of(truth.dataset, request.truth).lazy
    if "prediction_timedelta" in observed.dims:
        raise UserError(
            "has lead times: it is a forecast",
            where=request.truth,
            remedy="give analyses as --truth, and this as --forecast",
        )
    where = (first.path, request.truth)
    dynamic = [str(name) for name, array in observed.data_vars.items() if "time" in array.dims]
    forecast_names = dict.fromkeys(str(name) for store in stores for name in store.dataset.data_vars)
    names = common_variables(forecast_names, dynamic, request.variables, where=where)
    if request.variables is None and (left := sorted(set(forecast_names) - set(names))):
        _log.warning("not scored, for they are not in the truth: %s", ", ".join(left))
    levels: list[float] | None = None
    for store in stores:
        shared = [name for name in names if name in store.dataset.data_vars]
        if not shared:
            common_variables(map(str, store.dataset.data_vars), names, None, where=(store.path, request.truth))
        if len(shared) < len(names):
            _log.warning("%s has no %s", store.system, ", ".join(sorted(set(names) - set(shared))))
        found = common_levels(store.dataset[shared], observed[names], request.levels, where=(store.path, request.truth))
        if found is not None:
            levels = found if levels is None else [level for level in levels if level in found]
    if request.levels and levels is None:
        raise UserError("has no levels", where=where[0], remedy="leave out --levels")
    if levels is not None:
        if not levels:
            raise UserError("the forecasts share no level", remedy="give forecasts of the same levels")
        observed = observed.sel(level=levels)
        if request.levels is None:
            lost = {
                level for store in stores if "level" in store.dataset.dims for level in level_numbers(store.dataset)
            }
            _tell_left_out("levels", lost - set(levels), "hPa")
    hours = {lead for store in stores for lead in store.leads.tolist()} - set(first.leads.tolist())
    _tell_left_out(f"lead times that {first.system} has not got", {lead / _HOUR for lead in hours}, "h")
    everything, observed = observed, observed[names]
    target = _scoring_grid(request, stores, observed)
    prepared = {}
    for store in stores:
        weights = _to_grid(store.dataset, target, store.system, store.path, notes)
        held, needed = set(map(str, store.dataset.data_vars)), {}
        for name in names:
            if name in held:
                factors = units_to_truth(name, store.dataset[name], observed[name], where=store.path)
                _require_likely_units(name, store.dataset[name], factors, observed[name], store.path, request.truth)
                declared, units = declared_unit(store.dataset[name]), str(observed[name].attrs.get("units", ""))
                if parse_unit(declared) not in (None, parse_unit(units)):
                    notes[f"converted_{store.system}_{name}"] = f"{declared} to {units}"
                needed[name] = factors
        positions = None
        if levels is not None and "level" in store.dataset.dims:
            stored = level_numbers(store.dataset)
            positions = np.array([stored.index(level) for level in levels])
        conversion = Conversion.of(weights, names, held, needed, label=store.system)
        prepared[store.system] = dataclasses.replace(store, conversion=conversion, level_positions=positions)
    truth_times = observed["time"].values.astype("datetime64[ns]")
    truth_weights = _to_grid(observed, target, "truth", request.truth, notes)
    truth_conversion = Conversion.of(truth_weights, names, dynamic, {}, label="the truth")
    read = dict.fromkeys(part for name in names for part in truth_conversion.together(name))
    climatology: xr.Dataset | None = None
    climatology_conversion = Conversion()
    if request.climatology is not None:
        climatology, climatology_conversion = _open_climatology(request, target, levels, names, observed, notes)
    elif request.convention == WEATHERBENCH2:
        _log.warning("no climatology given: ACC and activity are left out")
    require_events(request.events, names, climatology, str(request.climatology or ""))
    inits, leads, present = _pairs(request, list(prepared.values()), truth_times, notes)
    if climatology is not None and request.convention == WEATHERBENCH2:
        scored = (inits[:, None] + leads)[present]
        if PERSISTENCE in request.baselines:
            scored = np.concatenate([scored, inits])
        climatology = with_scored_days(
            climatology, names, np.unique(scored), str(request.climatology), baseline=CLIMATOLOGY in request.baselines
        )
    area = region_weights(
        request.regions,
        target["latitude"].values,
        target["longitude"].values,
        cosine=request.convention == WEATHERBENCH1,
    )
    return Comparison(
        request=request,
        names=names,
        systems=[*prepared, *request.baselines],
        levels=levels,
        inits=inits,
        leads=leads,
        present=present,
        latitude=target["latitude"].values.astype(np.float64),
        longitude=target["longitude"].values.astype(np.float64),
        weights=AreaWeights(area, pooled=request.convention == WEATHERBENCH1),
        forecasts=prepared,
        truth={name: everything[name] for name in read},
        truth_times=truth_times,
        truth_conversion=truth_conversion,
        climatology=climatology,
        climatology_conversion=climatology_conversion,
        notes=notes,
        map_leads=lead_positions(request.maps, leads, "--maps"),
        spectrum_leads=lead_positions(request.spectra, leads, "--spectra"),
    )
