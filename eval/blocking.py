"""Blocking of the westerlies in forecasts and truth: the index of Tibaldi and Molteni (1990), which coarse grids resolve.

Shapes: y latitudes, x longitudes, i init times, l lead times.
"""

from collections.abc import Sequence

import numpy as np
import rich.progress
import rich.table
import xarray as xr
from jaxtyping import Float

from eval.forecast_reading import ForecastStore, common_init_times
from eval.ratio_scores import Ratio, ratio_table, write_ratio_scores
from eval.systems import named_forecasts
from eval.uncertainty import SAMPLES
from weather_scnn.catalogue.units import GRAVITY
from weather_scnn.errors import UserError
from weather_scnn.io.field_reader import FieldReader
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output
from weather_scnn.io.writing import provenance
from weather_scnn.progress import progress_bar

_NAME, _LEVEL = "geopotential", 500.0
#: Degrees north of the middle, the southern and the northern latitude, and by how much all three are moved.
_SOUTH, _MIDDLE, _NORTH, _MOVED = 40.0, 60.0, 80.0, (-4.0, 0.0, 4.0)
_WESTERLY = -10.0  # m of height a degree: a westerly wind north of the block
# Degrees east; the index's own sectors.
SECTORS = {"hemisphere": (0.0, 360.0), "euro-atlantic": (-26.25, 41.25), "pacific": (116.25, 213.75)}
_SUMS = ("hit", "forecast", "truth", "count")
SCORES = {
    "hit_rate": Ratio("hit", "truth", "1", "share of the truth's blocked longitudes that the forecast has blocked"),
    "success_ratio": Ratio(
        "hit", "forecast", "1", "share of the forecast's blocked longitudes that are blocked in the truth"
    ),
    "frequency_bias": Ratio(
        "forecast", "truth", "1", "how often longitudes are blocked in the forecast for every time in the truth"
    ),
    "frequency": Ratio("forecast", "count", "1", "share of times and longitudes that are blocked in the forecast"),
    "truth_frequency": Ratio("truth", "count", "1", "share of times and longitudes that are blocked in the truth"),
}


def blocked(height: Float[np.ndarray, "*t y x"], latitude: Float[np.ndarray, " y"]) -> np.ndarray:
    """Which longitudes are blocked, bool (*t, x).

    With φ₀ = 60° + Δ, φₛ = 40° + Δ and φₙ = 80° + Δ, those where for a Δ of −4°, 0° or 4° the height rises polewards in the
    south, (Z(φ₀) − Z(φₛ)) / 20° > 0, and falls in the north, (Z(φₙ) − Z(φ₀)) / 20° < −10 m a degree.

    Args:
        height: geopotential height at 500 hPa, m.
        latitude: degrees, ascending; between rows the height is linear.
    """
    found = np.zeros((*height.shape[:-2], height.shape[-1]), bool)
    for moved in _MOVED:
        south, middle, north = (_at(height, latitude, place + moved) for place in (_SOUTH, _MIDDLE, _NORTH))
        found |= ((middle - south) / (_MIDDLE - _SOUTH) > 0) & ((north - middle) / (_NORTH - _MIDDLE) < _WESTERLY)
    return found


def _at(height: np.ndarray, latitude: np.ndarray, wanted: float) -> np.ndarray:
    above = int(np.clip(np.searchsorted(latitude, wanted), 1, latitude.size - 1))
    share = (wanted - latitude[above - 1]) / (latitude[above] - latitude[above - 1])
    return (1 - share) * height[..., above - 1, :] + share * height[..., above, :]


def _require(dataset: xr.Dataset, where: str) -> None:
    array = dataset.get(_NAME)
    if array is None or "level" not in array.dims or _LEVEL not in array["level"].values:
        raise UserError("has no geopotential at 500 hPa", where=where, remedy="give a source with it, such as z500")
    latitude = dataset["latitude"].values
    if latitude.min() > _SOUTH + _MOVED[0] or latitude.max() < _NORTH + _MOVED[-1]:
        raise UserError("does not reach from 36 to 84° N", where=where, remedy="give fields of the whole hemisphere")


def _truth(path: str, wanted: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which longitudes of the forecast are blocked in the truth at times that it has, (t, x), and these."""
    reader = FieldReader(path, variables=[_NAME], levels=[_LEVEL])
    _require(reader.fields, path)
    times = reader.fields["time"].values.astype("datetime64[ns]")
    positions = np.flatnonzero(np.isin(times, wanted))
    if not positions.size:
        raise UserError("holds no valid time of the forecasts", where=path, remedy="give truth of their period")
    latitude, own = (reader.fields[axis].values.astype(np.float64) for axis in ("latitude", "longitude"))
    found = [blocked(reader.read(_NAME, slice(p, p + 1))[0, 0] / GRAVITY, latitude) for p in positions.tolist()]
    away = np.abs((own[None, :] - longitude[:, None] + 180) % 360 - 180)
    return np.stack(found)[:, away.argmin(axis=1)], times[positions]


def verify_blocking(
    forecast: str | Sequence[str],
    truth: str,
    output: str,
    *,
    init: str | None = None,
    bootstrap: int = SAMPLES,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Scores blocked longitudes of the northern hemisphere by lead time and sector.

    Args:
        forecast: stores as PATH or NAME=PATH with geopotential at 500 hPa; of an ensemble the first member counts.
        truth: dataset of the forecasts' period with the same; longitudes are the nearest of its grid.
        output: netCDF file: scores (system, lead_time, sector); groups `intervals`, `sums`, and `longitudes` with the
            frequency of blocking of forecast and truth at every longitude.
        init: init times "A:B[:STEP]"; all if None.
        bootstrap: resamples of the intervals.
        overwrite: whether to replace `output`.
        progress: whether to show a bar on standard error.

    Raises:
        UserError: a source lacks the field, the latitudes or the times.
    """
    named = named_forecasts(forecast)
    sources = {"--forecast": tuple(path for _, path in named), "--truth": truth}
    check_output(output, Kind.FILE, sources=sources, overwrite=overwrite)
    stores = [ForecastStore.open(system, path) for system, path in named]
    for store in stores:
        _require(store.dataset, store.path)
    inits, leads = common_init_times(stores, init), stores[0].leads
    longitude = stores[0].dataset["longitude"].values.astype(np.float64)
    seen, times = _truth(truth, np.unique(inits[:, None] + leads), longitude)
    east = (longitude + 180) % 360 - 180
    inside = np.stack(
        [
            np.ones(longitude.size) if high - low >= 360 else (longitude - low) % 360 <= high - low
            for low, high in SECTORS.values()
        ],
        axis=1,
    ).astype(np.float64)
    sums = np.full((len(stores), len(_SUMS), inits.size, leads.size, len(SECTORS)), np.nan)
    places = np.zeros((len(stores), 3, leads.size, longitude.size))
    with progress_bar(rich.progress.TaskProgressColumn(), enabled=progress) as bar:
        task = bar.add_task("blocking", total=len(stores) * inits.size)
        for system, store in enumerate(stores):
            if store.dataset.sizes["longitude"] != longitude.size:
                raise UserError(f"{store.system} is on another grid", where=store.path, remedy="score it by itself")
            latitude = store.dataset["latitude"].values.astype(np.float64)
            ready = store.in_catalogue_units([_NAME]).at_levels([_LEVEL])
            for number, start in enumerate(inits):
                valid = start + leads
                known = np.flatnonzero(np.isin(valid, times) & store.has(np.array([start]), leads)[0])
                maps = ready.read([_NAME], np.array([start]), leads[known])[_NAME][0, :, 0, 0]
                height = maps.reshape(known.size, latitude.size, longitude.size) / GRAVITY
                ours, theirs = blocked(height, latitude), seen[np.searchsorted(times, valid[known])]
                whole = np.isfinite(height).all(axis=(1, 2))
                parts = np.stack([ours & theirs, ours, theirs, np.ones_like(ours)]).astype(np.float64)
                parts[:, ~whole] = np.nan
                sums[system, :, number, known] = np.moveaxis(parts @ inside, 1, 0)
                places[system][:, known[whole]] += parts[1:, whole]
                bar.advance(task)
    axes = {
        "system": [store.system for store in stores],
        "part": list(_SUMS),
        "init_time": inits,
        "lead_time": leads,
        "sector": list(SECTORS),
    }
    counts = np.where(places[:, 2:] > 0, places[:, 2:], np.nan)
    by_longitude = xr.DataArray(
        places[:, :2] / counts,
        {"system": axes["system"], "of": ["forecast", "truth"], "lead_time": leads, "longitude": ("longitude", east)},
        ["system", "of", "lead_time", "longitude"], attrs={"long_name": "share of init times at which a longitude is blocked"},
    )  # fmt: skip
    attributes = provenance(
        source=named[0][1], truth=truth, init_times=int(inits.size),
        formula="Tibaldi and Molteni (1990): GHGS > 0 and GHGN < -10 m/degree for a shift of -4, 0 or 4 degrees around 40, 60, 80 N",
    )  # fmt: skip
    return write_ratio_scores(
        output, xr.DataArray(sums, axes, list(axes)), SCORES, bootstrap, attributes=attributes, overwrite=overwrite,
        groups={"longitudes": by_longitude.sortby("longitude").to_dataset(name="frequency")},
    )  # fmt: skip


def blocking_table(scores: xr.Dataset) -> rich.table.Table:
    """Frequencies and hit rates of the whole hemisphere for the terminal."""
    return ratio_table(
        "Blocked longitudes of the northern hemisphere",
        ("frequency", "in the truth", "hit rate", "success ratio"),
        scores.sel(sector="hemisphere"),
        lambda at: tuple(float(at[name]) for name in ("frequency", "truth_frequency", "hit_rate", "success_ratio")),
    )
