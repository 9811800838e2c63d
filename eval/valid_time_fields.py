"""Fields that belong to a valid time: truth, climatology, and the baselines made from them."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np
import xarray as xr

from eval.area_sums import TruthSums, truth_sums
from eval.baselines import (
    CLIMATOLOGY,
    PROBABILISTIC,
    WEEKLY,
    baseline_times,
    mean_by_key,
    same_dates,
    week_positions,
    weekly_means,
)
from eval.conventions import BRIER_QUANTILES
from eval.events import holds_quantiles
from eval.field_reading import Conversion, KeptFields, as_slice
from eval.pairing import Comparison
from weather_scnn.catalogue.plausibility import Judge, extremes_of_one_map, implausible
from weather_scnn.io.climatology import DAY_OF_YEAR, day_numbers
from weather_scnn.io.writing import Record

_log = logging.getLogger(__name__)
_TIME_MEAN, _BASELINE_MEAN = "time-mean", "baseline-mean"


@dataclasses.dataclass(frozen=True)
class Window:
    """Truth at some valid times, as stored, which is float32 mostly: shape (time, level, point).

    Attributes:
        times: ascending.
        truth: o.
        anomaly: o − c; None without a climatology of the variable.
        sums: of the anomalies.
    """

    times: np.ndarray
    truth: np.ndarray
    anomaly: np.ndarray | None
    sums: TruthSums

    def positions(self, valid_times: np.ndarray) -> np.ndarray:
        """Positions of valid times that are in the window."""
        return np.searchsorted(self.times, valid_times)

    def at(self, times: np.ndarray) -> "Window":
        """The window at some of its times; no copy of those that follow each other."""
        index = as_slice(self.positions(times))
        anomaly = None if self.anomaly is None else self.anomaly[index]
        return Window(self.times[index], self.truth[index], anomaly, self.sums.at(index))


@dataclasses.dataclass(frozen=True)
class ReadFields:
    """Fields for a window, fresh from the stores.

    Attributes:
        times: of the window, ascending.
        known: which of them are in the window before.
        truth: a field of shape (level, point) for each of the others.
        normal: the climatology's; None without one of the variable.
    """

    times: np.ndarray
    known: np.ndarray
    truth: list[np.ndarray]
    normal: list[np.ndarray] | None


def prepare_references(
    comparison: Comparison, parts: Record, progress: Callable[[str], None] = lambda text: None
) -> None:
    """Computes means of the truth that scoring needs everywhere, once, into `parts`; those on disk are kept.

    Raises:
        UserError: the truth has not the years that a baseline needs.
    """
    request, truth_times = comparison.request, comparison.truth_times
    scored = np.unique(np.concatenate([comparison.inits, (comparison.inits[:, None] + comparison.leads).ravel()]))
    kinds = [_TIME_MEAN] if comparison.pooled else []
    kinds += [WEEKLY] if WEEKLY in request.baselines else []
    kinds += [_BASELINE_MEAN] if comparison.pooled and CLIMATOLOGY in request.baselines else []
    done = parts.finished()
    for name in comparison.names if kinds else []:
        reader = _reader(comparison.truth, comparison.truth_conversion, name, 0, request.truth)
        for kind in kinds:
            if _reference(kind, name) in done:
                continue
            progress(f"{kind} of {name}")
            if kind == _TIME_MEAN:
                inside = np.isin(truth_times.astype("datetime64[Y]"), comparison.inits.astype("datetime64[Y]"))
                positions = np.flatnonzero(inside)
            else:
                positions = baseline_times(truth_times, scored, request.baseline_years, where=request.truth)
            if kind == WEEKLY:
                weeks, means = weekly_means(reader, name, truth_times, positions, where=request.truth)
            else:
                weeks = np.zeros(1, np.int64)
                means = mean_by_key(reader, name, positions, np.zeros(positions.size, np.int64))[0][None]
            parts.save(_reference(kind, name), {"keys": weeks, "means": means})


def _reader(
    arrays: Mapping, conversion: Conversion, name: str, maximum_bytes: int, where: str, *, judged: bool = False
) -> KeptFields:
    """A reader of a variable, and of what must be read with it."""
    together = conversion.together(name)
    maximum_bytes *= len(together)
    return KeptFields(
        {part: arrays[part] for part in together},
        conversion,
        maximum_bytes=maximum_bytes,
        where=where,
        judge=_judge({part: arrays[part] for part in together}, where) if judged else None,
    )


def _judge(arrays: Mapping[str, xr.DataArray], where: str) -> Judge | None:
    """What refuses implausible values among plausible ones; None where a field is implausible from its first map on.

    Such a field, of anomalies for example, is scored as it is, and told.
    """
    for name, array in arrays.items():
        try:
            result = extremes_of_one_map(array)
        except Exception:  # stores raise nearly any type for a damaged chunk, which is named when it is scored
            continue
        if result is not None and (fault := implausible(name, result)):
            _log.warning(
                "%s of %s is implausible from the first time on and is scored as it is: %s", name, where, fault
            )
            return None
    return Judge.of(next(iter(arrays.values())).to_dataset(name="field"), where)


class References:
    """Readers of the truth and the climatology; components of a wind that is regridded share one.

    Args:
        comparison: the stores.
        cache_bytes: for a variable's truth, and again for its climatology.
    """

    def __init__(self, comparison: Comparison, cache_bytes: int):
        self._comparison, self._bytes = comparison, cache_bytes
        self._truth: dict[tuple[str, ...], KeptFields] = {}
        self._climatology: dict[tuple[tuple[str, ...], int], KeptFields] = {}

    def truth(self, name: str) -> KeptFields:
        """Of a variable's truth, along its times."""
        comparison = self._comparison
        key = comparison.truth_conversion.together(name)
        if key not in self._truth:
            self._truth[key] = _reader(
                comparison.truth, comparison.truth_conversion, name, self._bytes, comparison.request.truth, judged=True
            )
        return self._truth[key]

    def climatology(self, variable: str, position: int) -> KeptFields:
        """Of a variable of the climatology at one of its hours, along its days."""
        store, conversion = self._comparison.climatology, self._comparison.climatology_conversion
        assert store is not None
        key = conversion.together(variable), position
        if key not in self._climatology:
            share, where = self._bytes // store.sizes["hour"], str(self._comparison.request.climatology)
            self._climatology[key] = _reader(store.isel(hour=position), conversion, variable, share, where)
        return self._climatology[key]


def _reference(kind: str, name: str) -> str:
    return f"reference-{kind}-{name}"


class ValidTimeFields:
    """Reads fields of one variable by valid time.

    Args:
        comparison: the stores.
        name: the variable.
        parts: where `prepare_references` put its means.
        readers: of the truth and the climatology.
    """

    def __init__(self, comparison: Comparison, name: str, parts: Record, readers: References):
        self.comparison, self.name = comparison, name
        self.levels = comparison.level_count(name)
        self.points = comparison.latitude.size * comparison.longitude.size
        self._truth = readers.truth(name)
        self._references: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        done = parts.finished()
        for kind in (_TIME_MEAN, _BASELINE_MEAN, WEEKLY):
            if _reference(kind, name) in done:
                held = parts.load(_reference(kind, name))
                self._references[kind] = held["keys"], held["means"].reshape(-1, self.levels, self.points)
        self._climatology: dict[str, dict[int, KeptFields]] = {}
        store = comparison.climatology
        if store is not None:
            days = store["dayofyear"].values.astype(np.int64)
            self._days = {int(day): position for position, day in enumerate(days)}
            self._calendar = str(store.attrs.get("calendar", DAY_OF_YEAR))
            hours = store["hour"].values.astype(np.int64)
            for variable in self._climatology_names():
                self._climatology[variable] = {
                    int(hour): readers.climatology(variable, position) for position, hour in enumerate(hours)
                }
        self._dates: np.ndarray | None = None
        if PROBABILISTIC in comparison.request.baselines:
            self._valid = np.unique((comparison.inits[:, None] + comparison.leads)[comparison.present])
            scored = np.concatenate([self._valid, comparison.inits])
            where, period = comparison.request.truth, comparison.request.baseline_years
            usable = baseline_times(comparison.truth_times, scored, period, where=where)
            self._dates = same_dates(comparison.truth_times, usable, self._valid, where=where)
        self._dry_fraction: np.ndarray | None = None
        self._window: Window | None = None
        self._asked: np.ndarray | None = None

    def _climatology_names(self) -> list[str]:
        store = self.comparison.climatology
        wanted = [self.name, f"{self.name}_seeps_threshold"]
        return [name for name in wanted if store is not None and name in store.data_vars]

    def _flat(self, fields: list[np.ndarray]) -> list[np.ndarray]:
        return [field.reshape(self.levels, self.points) for field in fields]

    def truth(self, times: np.ndarray) -> list[np.ndarray]:
        """Truth at times it has, one array of shape (level, point) each."""
        return self._flat(self._truth.fields(self.name, np.searchsorted(self.comparison.truth_times, times)))

    def _at_day_and_hour(self, variable: str, times: np.ndarray) -> list[np.ndarray]:
        since_midnight = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "h")
        days = day_numbers(times, self._calendar)
        readers = self._climatology[variable]
        result = np.empty(times.size, object)
        for hour in np.unique(since_midnight):
            of_hour = np.flatnonzero(since_midnight == hour)
            fields = readers[int(hour)].fields(variable, [self._days[day] for day in days[of_hour].tolist()])
            for position, field in zip(of_hour, fields):
                result[position] = field
        return self._flat(list(result))

    def normal(self, times: np.ndarray) -> list[np.ndarray] | None:
        """What anomalies are taken from, at valid times; None if there is nothing for this variable."""
        if not self.comparison.has_normal(self.name):
            return None
        if self.comparison.pooled:
            return [self._references[_TIME_MEAN][1][0]] * times.size
        return self._at_day_and_hour(self.name, times)

    def read(self, times: np.ndarray) -> "ReadFields":
        """Reads what `window` needs at ascending valid times: those that the call before did not read."""
        known = np.zeros(times.size, bool) if self._asked is None else np.isin(times, self._asked)
        self._asked = times
        if times.size:
            # Blocks of later lead times come before the next initial times, so the longest lead time is kept.
            oldest = times[0] - self.comparison.leads.max()
            self._truth.forget_before(int(np.searchsorted(self.comparison.truth_times, oldest)))
            self._forget_days(oldest, times[-1])
        return ReadFields(times, known, self.truth(times[~known]), self.normal(times[~known]))

    def _forget_days(self, oldest: np.datetime64, newest: np.datetime64) -> None:
        """Lets go of the climatology's days before a period that lies in one year."""
        if not self._climatology:
            return
        first, last = day_numbers(np.array([oldest, newest]), self._calendar).tolist()
        if first < last and first in self._days and newest - oldest < np.timedelta64(365, "D"):
            for reader in self._climatology.get(self.name, {}).values():
                reader.forget_before(self._days[first])

    def window(self, read: "ReadFields") -> Window:
        """Truth and anomalies at the times of `read`; those of the window before are taken from it."""
        last, known = self._window, read.known
        if known.any() and (last is None or not np.isin(read.times[known], last.times).all()):
            # What was read ahead of a piece that failed has never become a window.
            known = np.zeros(read.times.size, bool)
            read = ReadFields(read.times, known, self.truth(read.times), self.normal(read.times))
        anomalies = None
        if read.normal is not None:
            # Of two float32 fields the difference is rounded once, so float32 holds it to 6e-8 of itself.
            anomalies = [field - usual for field, usual in zip(read.truth, read.normal)]
        fresh = truth_sums(read.truth, anomalies, self.comparison.weights)
        old = None if last is None or not known.any() else last.at(read.times[known])
        result = Window(
            read.times,
            _merged(known, None if old is None else old.truth, read.truth),
            None if anomalies is None else _merged(known, None if old is None else old.anomaly, anomalies),
            TruthSums(
                *(
                    _merged(known, None if old is None else getattr(old.sums, part.name), getattr(fresh, part.name))
                    for part in dataclasses.fields(TruthSums)
                )
            ),
        )
        self._window = result
        return result

    def baseline(self, system: str, times: np.ndarray) -> np.ndarray:
        """A baseline that depends on the valid time alone: shape (time, level, point).

        Of the probabilistic climatology, use `members`.
        """
        if system == WEEKLY:
            weeks, means = self._references[WEEKLY]
            return means[week_positions(weeks, times)]
        if self.comparison.pooled:
            means = self._references[_BASELINE_MEAN][1]
            return np.broadcast_to(means, (times.size, *means.shape[1:]))
        normal = self.normal(times)
        if normal is None:
            return np.full((times.size, self.levels, self.points), np.nan)
        return np.stack(normal)

    def members(self, time: np.datetime64) -> np.ndarray:
        """The probabilistic climatology at a valid time: shape (member, level, point)."""
        assert self._dates is not None
        positions = self._dates[np.searchsorted(self._valid, time)]
        return np.stack(self._flat(self._truth.fields(self.name, positions)))

    @property
    def member_count(self) -> int:
        """Members of the probabilistic climatology; 0 where it is not asked for."""
        return 0 if self._dates is None else int(self._dates.shape[1])

    def quantiles(
        self, time: np.datetime64, wanted: Sequence[float] = BRIER_QUANTILES, *, normal: bool = True
    ) -> np.ndarray | None:
        """Climatological values at these quantiles: shape (quantile, level, point).

        From `<name>_quantile` (dimension `quantile`) where the climatology has it, else, if `normal`, of a normal distribution
        with the climatology's mean and `<name>_std`; None where it has neither.
        """
        store, when = self.comparison.climatology, np.array([time])
        if store is None or self.comparison.pooled or self.name not in store:
            return None
        day, hour = (
            self._days[int(day_numbers(when, self._calendar)[0])],
            int((time - time.astype("datetime64[D]")) // np.timedelta64(1, "h")),
        )
        convert = functools.partial(self.comparison.climatology_conversion.scalar, self.name)
        for variable in (f"{self.name}_quantile", *([f"{self.name}_std"] if normal else [])):
            if variable not in store:
                continue
            array = store[variable].isel(dayofyear=day).sel(hour=hour)
            if variable.endswith("_std"):
                # A spread has no offset: the convert of values minus that of zero.
                values = array.values
                spread = (convert(values) - convert(np.zeros_like(values))).reshape(self.levels, self.points)
                mean = self._at_day_and_hour(self.name, when)[0]
                return mean + np.array([NormalDist().inv_cdf(each) for each in wanted])[:, None, None] * spread
            array = array.transpose("quantile", ...)
            known = array["quantile"].values.astype(np.float64)
            if holds_quantiles(store, self.name, wanted):
                values = convert(array.values).reshape(known.size, self.levels, self.points)
                return between(values, known, wanted)
        return None

    def seeps_parameters(self, times: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]] | None:
        """Dry fraction, the mean over hours and days as in WeatherBench 2, and thresholds at valid times."""
        store = self.comparison.climatology
        fraction, threshold = f"{self.name}_seeps_dry_fraction", f"{self.name}_seeps_threshold"
        if store is None or fraction not in store or threshold not in self._climatology:
            return None
        if self._dry_fraction is None:
            mean = store[fraction].mean(("hour", "dayofyear"), dtype=np.float64).values
            mean = self.comparison.climatology_conversion.scalar(fraction, mean)
            self._dry_fraction = mean.reshape(self.levels, self.points)
        return self._dry_fraction, self._at_day_and_hour(threshold, times)


def _merged(known: np.ndarray, old: np.ndarray | None, fresh: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Rows that are known, from `old`, and the others, in the order of both."""
    if old is None:
        return np.asarray(fresh)
    merged = np.empty((known.size, *old.shape[1:]), np.result_type(old, *fresh[:1]))
    merged[known] = old
    for row, values in zip(np.flatnonzero(~known), fresh):
        merged[row] = values
    return merged


def between(values: np.ndarray, known: np.ndarray, wanted: Sequence[float]) -> np.ndarray:
    """Linear interpolation along the first axis from quantiles that are known to others."""
    if known.size == 1:
        return np.repeat(values, len(wanted), axis=0)
    right = np.clip(np.searchsorted(known, np.array(wanted) - 1e-9), 1, known.size - 1)
    share = (np.array(wanted) - known[right - 1]) / (known[right] - known[right - 1])
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[right - 1] * (1 - share) + values[right] * share
