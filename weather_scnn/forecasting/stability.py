"""Rollouts of trained forecasters over years, of which sums are kept and no fields."""

import dataclasses
import functools
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.progress
import xarray as xr

from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast import open_states
from weather_scnn.forecasting.initial_states import InitialStates, whole_histories
from weather_scnn.forecasting.members import refuse_numbers
from weather_scnn.forecasting.perturbations import IncrementPerturbations
from weather_scnn.forecasting.plausible_states import Fault, note_faults
from weather_scnn.forecasting.propagation import minute
from weather_scnn.forecasting.stability_file import Runs, stability_dataset
from weather_scnn.forecasting.stability_scores import stability_lines, stability_scores
from weather_scnn.forecasting.stability_truth import (
    BINS,
    DAY,
    YEAR,
    Days,
    Snapshot,
    TruthSums,
    cycled,
    histogram_range,
    packed,
    sampled,
    unpacked,
)
from weather_scnn.forecasting.trained_run import TrainedRun, load_runs
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.initial_times import initial_times
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output, refuse_sources
from weather_scnn.io.writing import Record, begin_record, write_netcdf
from weather_scnn.nn import Fields
from weather_scnn.progress import progress_bar
from weather_scnn.sphere import HarmonicTransform
from weather_scnn.training.chance import Chance
from weather_scnn.training.forcings import phases
from weather_scnn.training.long_rollout import BlockSums, SumConstants, field_names, rollout_sums
from weather_scnn.training.loss import Scales, make_scales
from weather_scnn.training.states import StateReader

_logger = logging.getLogger(__name__)
# Sums of one block are float32.
_DAYS_PER_BLOCK = 10
# Days after which spectra are taken, if none are asked for; that of the last day comes beside them.
_SPECTRUM_DAYS = (1, 10, 60, 365, 3650)
# In standard deviations of the increments: enough for members to part within weeks, too little to upset a state.
_AMPLITUDE = 0.1
# SEEPS (Rodwell et al. 2010): a cell is dry below so many metres, by hours of the total; of others in proportion to 24 h.
_DRY = {6: 1e-4, 24: 2.5e-4}
_LONGEST_YEARS = 200.0


@dataclasses.dataclass(frozen=True)
class _Job:
    """All that the batches of a long rollout share; a series is an initial time and a member.

    Attributes:
        record: of the output.
        initial: the states that rollouts start from.
        inits, members: of each series, positions and numbers, (n,).
        constants: of the sums, bound to the device.
        step: of the forecaster.
        days, map_days: of the rollout, and of those the first that count in maps and histograms.
        spectrum_days: first and last day of each window of spectra, (lead, 2).
        batch_size: series side by side.
        prescribed: positions of scalars that come from the store.
        seed: of the noise.
        allow_implausible: go on while states are finite.
    """

    record: Record
    initial: InitialStates
    inits: np.ndarray
    members: np.ndarray
    constants: SumConstants
    step: np.timedelta64
    days: int
    map_days: int
    spectrum_days: np.ndarray
    batch_size: int
    prescribed: tuple[int, ...]
    seed: int
    allow_implausible: bool

    @property
    def reader(self) -> StateReader:
        """Of the store."""
        return self.initial.reader

    @property
    def per_day(self) -> int:
        """Steps a day."""
        return int(DAY / self.step)

    @property
    def block(self) -> int:
        """Days that one compiled program runs over."""
        return min(_DAYS_PER_BLOCK, self.days)

    def run(self, number: int, run: TrainedRun, scales: Scales, first: int, bar: Any) -> dict[str, Any]:
        """Rolls out the series from position `first` on that fit into a batch; from the record where that was done."""
        key = f"checkpoint-{number}-series-{first}"
        if key in self.record.done:
            return unpacked(self.record.read(key))
        batch = _Batch(self, key, run, scales, np.arange(first, min(first + self.batch_size, self.inits.size)))
        state = batch.roll(bar)
        self.record.mark_done(key, packed(state))
        batch.snapshot.remove()
        return state


class _Batch:
    """Series of one checkpoint on their way, side by side; a short batch is filled up, so that one program serves all."""

    def __init__(self, job: _Job, key: str, run: TrainedRun, scales: Scales, series: np.ndarray):
        self.job, self.run, self.scales, self.series = job, run, scales, series
        self.snapshot = Snapshot(job.record, key)
        filled = np.resize(series, min(job.batch_size, job.inits.size))
        self.inits, self.members = job.inits[filled], job.members[filled]
        self.starts = job.initial.starts[self.inits]

    def roll(self, bar: Any) -> dict[str, Any]:
        """All blocks; the next one is computed while the last is looked at."""
        job = self.job
        chance = Chance.begin(self.run.parts, job.seed, self.starts, self.members)
        state = self.snapshot.load()
        if state is None:
            state = self._begun()
            history = job.initial.histories(0, self.inits, self.members)
        else:
            history = Fields(*(state[f"history_{name}"] for name in Fields._fields))
            chance = self._chance_of(state, chance)
        # Bound to the device as a block leaves it: else the second block is compiled anew.
        history = jax.device_put(history, jax.local_devices()[0])
        waiting: Any = None
        for day in range(int(state["day"]), job.days, job.block):
            history, chance, sums = self._block(history, chance, day)
            if waiting is not None and self._take(state, waiting, bar):
                return state
            waiting = day, history, chance, sums
        if waiting is not None:
            self._take(state, waiting, bar)
        return state

    def _block(self, history: Fields, chance: Chance | None, day: int) -> tuple[Fields, Chance | None, BlockSums]:
        job, steps = self.job, self.job.block * self.job.per_day
        times = self.starts[:, None] + job.step * (day * job.per_day + np.arange(steps + 1))
        values = None
        if job.prescribed:
            rows = cycled(job.reader.times, times[:, 1:], job.reader.path)
            scalar = job.reader.read_at(rows, judged=job.allow_implausible).scalar[..., list(job.prescribed)]
            values = jnp.asarray(np.moveaxis(scalar, 1, 0))
        counted = jnp.asarray(day + np.arange(job.block) < job.map_days)
        return rollout_sums(
            self.run.parts, history, self.scales, jnp.asarray(phases(times)), job.constants,
            jnp.asarray(day, jnp.int32), counted, chance, values, per_day=job.per_day, prescribed=job.prescribed,
        )  # fmt: skip

    def _begun(self) -> dict[str, Any]:
        job, count, constants = self.job, self.starts.size, self.job.constants
        fields, transform = constants.reference.shape[-1], constants.transform
        assert transform is not None
        channels = len(job.reader.channels.describe())
        return {
            "day": np.asarray(0),
            "total": np.zeros((count, *constants.reference.shape)),
            "squares": np.zeros((count, *constants.reference.shape)),
            "histogram": np.zeros((count, fields, constants.bins)),
            "means": np.full((count, job.days, len(constants.area), fields), np.nan),
            "dry": np.full((count, job.days, len(constants.dry_fields)), np.nan),
            "power": np.zeros((count, len(job.spectrum_days), transform.max_degree + 1, channels)),
            "steps": np.full(count, job.days * job.per_day),
            "ended_by": np.full(count, "", "U200"),
            "seconds": np.asarray(0.0),
            "timed_steps": np.asarray(0),
            "since": np.asarray(np.nan),
        }

    def _take(self, state: dict[str, Any], block: tuple[int, Fields, Chance | None, BlockSums], bar: Any) -> bool:
        """Adds a block up; whether all series have ended."""
        job, (day, history, chance, sums) = self.job, block
        found = jax.tree.map(np.asarray, sums)
        now = time.perf_counter()
        if np.isfinite(state["since"]):  # the first block is compiled
            state["seconds"] = state["seconds"] + now - state["since"]
            state["timed_steps"] = state["timed_steps"] + job.block * job.per_day * self.series.size
        state["since"] = np.asarray(now)
        self._judge(state, day, found)
        kept = min(job.block, job.days - day)
        place = slice(day, day + kept)
        state["means"][:, place] = np.moveaxis(found.means[:kept].astype(np.float64).mean(axis=1), 1, 0)
        state["dry"][:, place] = np.moveaxis(found.dry[:kept].astype(np.float64).mean(axis=1), 1, 0)
        for name in ("total", "squares", "histogram"):
            state[name] += getattr(found, name)
        numbers = day + 1 + np.arange(kept)
        for lead, (first, last) in enumerate(job.spectrum_days):
            inside = (numbers >= first) & (numbers <= last)
            if inside.any():
                state["power"][:, lead] += found.power[:kept][inside].astype(np.float64).sum(axis=0) / (
                    last - first + 1
                )
        state["day"] = np.asarray(day + job.block)
        bar(day + kept, self.series.size)
        saved = dict(state) | {f"history_{name}": np.asarray(array) for name, array in zip(Fields._fields, history)}
        saved |= {"since": np.asarray(np.nan)}
        if chance is not None:
            leaves = jax.tree.leaves((jax.random.key_data(chance.keys), chance.step, chance.fields))
            saved |= {f"chance_{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)}
        self.snapshot.offer(saved)
        return bool((state["ended_by"][: self.series.size] != "").all())

    @staticmethod
    def _chance_of(state: dict[str, Any], like: Chance | None) -> Chance | None:
        """The noise that was saved."""
        if like is None:
            return None
        tree = (jax.random.key_data(like.keys), like.step, like.fields)
        leaves, structure = jax.tree.flatten(tree)
        held = [jnp.asarray(state[f"chance_{number}"]) for number in range(len(leaves))]
        keys, step, fields = jax.tree.unflatten(structure, held)
        return Chance(jax.random.wrap_key_data(keys), step, fields)

    def _judge(self, state: dict[str, Any], day: int, sums: Any) -> None:
        """Notes which series end in a block, and by what."""
        job, normalisation = self.job, self.job.reader.normalisation
        steps = min(job.block, job.days - day) * job.per_day
        low, high = (
            np.moveaxis(array.reshape(-1, *array.shape[2:])[:steps].astype(np.float64), 1, 0)
            for array in (sums.low, sums.high)
        )
        means = np.moveaxis(sums.means.reshape(-1, *sums.means.shape[2:])[:steps, :, 0].astype(np.float64), 1, 0)
        mean, deviation = _moments(normalisation)
        area = np.asarray(job.constants.area[0], np.float64)
        middle = np.einsum("yxf,y->f", np.asarray(job.constants.reference, np.float64), area)
        found: dict[int, Fault] = {}
        for index, (name, level) in enumerate(field_names(job.reader.channels)):
            extremes = low[..., index], high[..., index]
            if job.allow_implausible:
                with np.errstate(invalid="ignore"):
                    wrong = ~np.isfinite(extremes[0] + extremes[1])
                for series in np.flatnonzero(wrong.any(axis=1)).tolist():
                    place = int(wrong[series].argmax())
                    if series not in found or place < found[series].position:
                        found[series] = Fault(place, name, level, "values that are not finite")
                continue
            lowest, highest = (each * deviation[index] + mean[index] for each in extremes)
            average = (means[..., index] + middle[index]) * deviation[index] + mean[index]
            note_faults(found, name, level, lowest, highest, average, forecast=True)
        for series, fault in found.items():
            if state["ended_by"][series] == "":
                state["steps"][series] = day * job.per_day + fault.position
                state["ended_by"][series] = f"{fault.field}: {fault.what}"


def _moments(normalisation: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the F fields."""
    winds = normalisation.wind_std
    mean = np.concatenate([normalisation.scalar_mean, np.zeros(2 * winds.size)])
    return mean, np.concatenate([normalisation.scalar_std, winds, winds])


def spectrum_windows(spectra: Sequence[str] | None, days: int) -> np.ndarray:
    """First and last day, counted from 1, of the last fifth of the way to each lead, (lead, 2).

    Args:
        spectra: leads; by default some that the rollout reaches, and its end.
        days: of the rollout.

    Raises:
        UserError: a lead is no whole number of days, or lies beyond the rollout.
    """
    if spectra is None:
        leads = sorted({day for day in _SPECTRUM_DAYS if day < days} | {days})
    else:
        asked = [parse_duration(text, "--spectra", likely=("d",)) for text in spectra]
        for text, lead in zip(spectra, asked):
            if lead % DAY or not DAY <= lead <= days * DAY:
                raise UserError(
                    f"--spectra {text} is no whole number of days up to {days}d", remedy="give leads such as 1d,10d,60d"
                )
        leads = sorted({int(lead / DAY) for lead in asked})
    return np.array([(int(0.8 * lead) + 1 if lead > 1 else 1, lead) for lead in leads])


def _dry_fields(reader: StateReader) -> tuple[tuple[int, ...], np.ndarray]:
    """Positions of amounts of precipitation, and the standardised value below which each is dry."""
    places, limits = [], []
    for index, (name, _) in enumerate(reader.channels.scalars):
        variable = lookup(name)
        if variable is None or not name.startswith("total_precipitation") or variable.window_hours is None:
            continue
        hours = variable.window_hours
        limit = _DRY.get(int(hours), _DRY[24] * hours / 24)
        places.append(index)
        limits.append((limit - reader.normalisation.scalar_mean[index]) / reader.normalisation.scalar_std[index])
    return tuple(places), np.array(limits, np.float32)


def _prescribed(names: Sequence[str], reader: StateReader) -> tuple[int, ...]:
    """Positions of scalars of the state by name."""
    scalars = [name for name, _ in reader.channels.scalars]
    for name in names:
        if name not in scalars:
            raise UserError(
                f"--prescribe names {name}, which is no scalar of the state",
                remedy=f"choose of {', '.join(dict.fromkeys(scalars))}",
            )
    return tuple(index for index, name in enumerate(scalars) if name in names)


def stability(
    workdir: str | Sequence[TrainedRun],
    input: str,
    output: str,
    *,
    init: str,
    years: float,
    members: int = 1,
    checkpoints: str | None = None,
    spectra: Sequence[str] | None = None,
    prescribe: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 8,
    allow_implausible: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Rolls forecasters out for years and writes what their climate is like, beside the truth's.

    No field is stored: means, variances, spectra and histograms are summed on the device, in blocks of ten days. A
    rollout ends where it is not finite or leaves what the catalogue calls plausible, as a forecast does; it is NaN from
    there on, and the others go on. The same command after a kill goes on where the last minute's work was saved.

    Args:
        workdir: folder of a run or an exported forecaster; or forecasters that are loaded already.
        input: store of the initial times, whose own sums over all its times are the truth's.
        output: netCDF file to write, see docs/stability.md.
        init: A:B[:STEP], inclusive.
        years: length of the rollouts, in years of 365.2425 days; rounded to days.
        members: rollouts from each initial time and checkpoint. They differ by the network's noise where it has some, else
            by random perturbations of the initial state of which the first has none.
        checkpoints: `last:N`, `best_long_run`, steps of the run and workdirs of others with commas between; each is a
            system of its own.
        spectra: leads of power spectra, whole days; each is a mean over the last fifth of the way there.
        prescribe: scalars of the state that are taken from the store at every step, such as sea_surface_temperature;
            beyond its end the store's last whole years come again.
        seed: of noise and perturbations.
        batch_size: rollouts side by side.
        allow_implausible: start from states that the catalogue finds impossible, and go on while they are finite.
        overwrite: replace an existing output.
        progress: whether to show a bar.

    Returns:
        The scores of `stability_scores`.

    Raises:
        UserError: the store does not fit the run, the step does not divide a day, or a request cannot be met.
    """
    refuse_numbers(members, _AMPLITUDE, seed, batch_size)
    days = round(years * float(YEAR / DAY)) if 0 < years <= _LONGEST_YEARS else 0
    if not days:
        raise UserError(
            f"--years {years:g} is no length from a day to {_LONGEST_YEARS:g} years", remedy="give --years 1"
        )
    if isinstance(workdir, str):
        refuse_sources(output, {"--workdir": workdir}, inside_is_fine=True)
    check_output(output, Kind.FILE, sources={"--input": input}, overwrite=overwrite)
    runs = load_runs(workdir, checkpoints) if isinstance(workdir, str) else list(workdir)
    data = runs[0].config.data
    step, input_step = parse_duration(data.step), parse_duration(data.input_step or data.step)
    if data.input_steps > 1 and input_step != step:
        raise UserError(
            f"the run forecasts {data.step} at once from states {data.input_step} apart, so it cannot go on from there",
            remedy="give a run whose data.input_step is its data.step",
        )
    if DAY % step:
        raise UserError(f"the run's step of {data.step} does not divide a day", remedy="give a run of 6h, 12h or 24h")
    reader = open_states(runs, input)
    starts = initial_times(reader.times, init, where=input)
    initial = InitialStates(reader, starts, whole_histories(reader, starts, input_step, data.input_steps))
    initial.judge(allow_implausible=allow_implausible)
    noise = [run.config.model.noise.present for run in runs]
    if members > 1 and not all(noise):
        random = IncrementPerturbations.estimate(
            reader, step, amplitude=_AMPLITUDE, seed=seed, allow_implausible=allow_implausible
        )
        initial = dataclasses.replace(initial, perturbations=[random])
    prescribed = _prescribed(prescribe, reader)
    windows = spectrum_windows(spectra, days)
    whole_years = int((days + 1) * DAY / YEAR)
    map_days = min(days, round(whole_years * float(YEAR / DAY))) if whole_years else days
    store_days = Days.of(reader.times, starts[0], step)
    if prescribed:
        last = starts[-1] + days * DAY
        cycled(reader.times, last[None], input)
        if last > reader.times[-1] and progress:
            end = minute(reader.times[-1])
            print(f"{', '.join(prescribe)}: beyond {end} the store's last whole years come again", file=sys.stderr)
    reference, *extremes = sampled(reader)
    lowest, per_unit = histogram_range(*extremes)
    dry_fields, dry = _dry_fields(reader)
    transform = HarmonicTransform.create(reader.grid, min(reader.grid.maximum_degree, reader.grid.maximum_order))
    constants = SumConstants.of(
        reader.channels, reader.grid, reference, lowest=jnp.asarray(lowest, jnp.float32),
        per_unit=jnp.asarray(per_unit, jnp.float32), dry=jnp.asarray(dry), transform=transform, dry_fields=dry_fields,
        bins=BINS,
    )  # fmt: skip
    request = {
        "init": init, "days": days, "members": members, "spectra": windows.tolist(), "prescribe": list(prescribe),
        "seed": seed, "batch_size": batch_size, "allow_implausible": allow_implausible, "input": input,
        "checkpoints": [run.name for run in runs], "run": [run.config.to_json() for run in runs],
        "times": [int(reader.times.size), str(reader.times[0]), str(reader.times[-1])],
    }  # fmt: skip
    record = begin_record(output, request=request)
    # Windows of maps by initial time, and of spectra by initial time and lead; the same ones are summed once.
    maps, which_map = _unique([store_days.window(start, map_days * DAY) for start in starts])
    seasons, which_season = _unique(
        [
            store_days.window(start + (first - 1) * DAY, (last - first + 1) * DAY)
            for start in starts
            for first, last in windows
        ]
    )
    truth = TruthSums(reader, store_days, constants, maps, seasons, allow_implausible=allow_implausible)(
        record, progress=progress
    )
    _tell_short(truth.counted[which_map], min(map_days, int(YEAR / DAY)), input)
    inits, numbers = (each.ravel() for each in np.divmod(np.arange(starts.size * members), members))
    job = _Job(
        record, initial, inits, numbers, jax.device_put(constants, jax.local_devices()[0]), step, days, map_days, windows,
        batch_size, prescribed, seed, allow_implausible,
    )  # fmt: skip
    held = []
    with progress_bar(rich.progress.MofNCompleteColumn(), "days", enabled=progress) as bar:
        task = bar.add_task("roll out", total=len(runs) * inits.size * days)
        before = 0
        for number, run in enumerate(runs):
            statics = reader.statics() if run.statics is None else run.statics
            scales = make_scales(run.channels, run.normalisation, statics, run.grid)
            one = (
                dataclasses.replace(job, initial=dataclasses.replace(initial, perturbations=None))
                if noise[number]
                else job
            )
            parts = []
            for first in range(0, inits.size, batch_size):
                count = min(batch_size, inits.size - first)
                parts.append(
                    one.run(
                        number, run, scales, first,
                        lambda day, size, before=before: bar.update(task, completed=before + day * size),
                    )
                )  # fmt: skip
                before += count * days
                bar.update(task, completed=before)
            held.append(_joined(parts, inits.size))
    result = stability_dataset(
        Runs([run.name for run in runs], held, starts[inits], numbers, days, map_days, windows[:, 1], step),
        truth, constants, reader, which_map[inits], which_season.reshape(starts.size, -1)[inits],
        about={
            "source": input, "init": init, "years": years, "members": members, "seed": seed,
            "prescribed": ", ".join(prescribe), "allow_implausible": int(allow_implausible),
        },
    )  # fmt: skip
    write_netcdf(result, output, overwrite=overwrite)
    record.clear()
    scores = stability_scores(result)
    if progress:
        for line in stability_lines(scores):
            print(line, file=sys.stderr)
    return scores


def _unique(masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Different masks, and which of them each is."""
    known: dict[bytes, int] = {}
    which = np.array([known.setdefault(mask.tobytes(), len(known)) for mask in masks])
    return np.stack([np.frombuffer(each, bool) for each in known]), which


def _joined(parts: list[dict[str, Any]], count: int) -> dict[str, Any]:
    """Series of all batches, one after the other, without those that filled the last one up."""
    names = ("total", "squares", "histogram", "means", "dry", "power", "steps", "ended_by")
    held: dict[str, Any] = {name: np.concatenate([part[name] for part in parts])[:count] for name in names}
    for name in ("seconds", "timed_steps"):
        held[name] = functools.reduce(np.add, [part[name] for part in parts])
    return held


def _tell_short(days: np.ndarray, wanted: int, where: str) -> None:
    """Tells where the store has less than the season that a rollout is held against."""
    if days.min() < wanted - 1:
        _logger.warning(
            "%s has only %d days of the %d that time means are held against: what differs may be the season",
            where, days.min(), wanted,
        )  # fmt: skip
