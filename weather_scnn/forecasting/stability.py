"""Rollouts of trained forecasters over years, of which sums are kept and no fields."""

import dataclasses
import functools
import logging
import sys
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
from weather_scnn.forecasting.propagation import minute
from weather_scnn.forecasting.stability_file import Runs, stability_dataset
from weather_scnn.forecasting.stability_rollout import Job
from weather_scnn.forecasting.stability_scores import stability_lines, stability_scores
from weather_scnn.forecasting.stability_truth import BINS, DAY, YEAR, Days, TruthSums, cycled, histogram_range, sampled
from weather_scnn.forecasting.trained_run import TrainedRun, load_runs
from weather_scnn.io.durations import parse_duration
from weather_scnn.io.initial_times import initial_times
from weather_scnn.io.marks import Kind
from weather_scnn.io.outputs import check_output, refuse_sources
from weather_scnn.io.writing import begin_record, write_netcdf
from weather_scnn.physics.precipitation import DRY_METRES
from weather_scnn.progress import progress_bar
from weather_scnn.sphere import HarmonicTransform
from weather_scnn.training.long_rollout import SumConstants
from weather_scnn.training.loss import make_scales
from weather_scnn.training.states import StateReader

_logger = logging.getLogger(__name__)
# Days after which spectra are taken, if none are asked for; that of the last day comes beside them.
_SPECTRUM_DAYS = (1, 10, 60, 365, 3650)
# In standard deviations of the increments: enough for members to part within weeks, too little to upset a state.
_AMPLITUDE = 0.1
_LONGEST_YEARS = 200.0


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
        # Of windows that SEEPS does not know, in proportion to 24 h.
        limit = DRY_METRES.get(int(hours), DRY_METRES[24] * hours / 24)
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
    days = _whole_days(years)
    if isinstance(workdir, str):
        refuse_sources(output, {"--workdir": workdir}, inside_is_fine=True)
    check_output(output, Kind.FILE, sources={"--input": input}, overwrite=overwrite)
    runs = load_runs(workdir, checkpoints) if isinstance(workdir, str) else list(workdir)
    step = _step_of(runs[0])
    reader = open_states(runs, input)
    starts = initial_times(reader.times, init, where=input)
    initial = _initial_states(runs, reader, starts, step, members, seed, allow_implausible)
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
    constants = _sum_constants(reader)
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
    job = Job(
        record, initial, inits, numbers, jax.device_put(constants, jax.local_devices()[0]), step, days, map_days, windows,
        batch_size, prescribed, seed, allow_implausible,
    )  # fmt: skip
    held = _roll_out(job, runs, progress=progress)
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


def _whole_days(years: float) -> int:
    """Of a rollout."""
    days = round(years * float(YEAR / DAY)) if 0 < years <= _LONGEST_YEARS else 0
    if not days:
        raise UserError(
            f"--years {years:g} is no length from a day to {_LONGEST_YEARS:g} years", remedy="give --years 1"
        )
    return days


def _step_of(run: TrainedRun) -> np.timedelta64:
    """The forecaster's step, if forecasts can be its next inputs and whole steps make a day."""
    data = run.config.data
    step = parse_duration(data.step)
    if data.direct:
        raise UserError(
            f"the run forecasts {data.step} at once from states {data.input_step} apart, so it cannot go on from there",
            remedy="give a run whose data.input_step is its data.step",
        )
    if DAY % step:
        raise UserError(f"the run's step of {data.step} does not divide a day", remedy="give a run of 6h, 12h or 24h")
    return step


def _initial_states(
    runs: Sequence[TrainedRun],
    reader: StateReader,
    starts: np.ndarray,
    step: np.timedelta64,
    members: int,
    seed: int,
    allow_implausible: bool,
) -> InitialStates:
    """States that rollouts start from, perturbed where members would not differ otherwise."""
    histories = whole_histories(reader, starts, step, runs[0].config.data.input_steps)
    initial = InitialStates(reader, starts, histories)
    initial.judge(allow_implausible=allow_implausible)
    if members == 1 or all(run.config.model.noise.present for run in runs):
        return initial
    random = IncrementPerturbations.estimate(
        reader, step, amplitude=_AMPLITUDE, seed=seed, allow_implausible=allow_implausible
    )
    return dataclasses.replace(initial, perturbations=[random])


def _sum_constants(reader: StateReader) -> SumConstants:
    """What sums are taken about, and the limits of what they count, from states all over the store."""
    reference, *extremes = sampled(reader)
    lowest, per_unit = histogram_range(*extremes)
    dry_fields, dry = _dry_fields(reader)
    transform = HarmonicTransform.create(reader.grid, min(reader.grid.maximum_degree, reader.grid.maximum_order))
    return SumConstants.of(
        reader.channels, reader.grid, reference, lowest=jnp.asarray(lowest, jnp.float32),
        per_unit=jnp.asarray(per_unit, jnp.float32), dry=jnp.asarray(dry), transform=transform, dry_fields=dry_fields,
        bins=BINS,
    )  # fmt: skip


def _roll_out(job: Job, runs: Sequence[TrainedRun], *, progress: bool) -> list[dict[str, Any]]:
    """Sums of all series of each forecaster, batch by batch."""
    held, series, before = [], job.inits.size, 0
    alike = dataclasses.replace(job, initial=dataclasses.replace(job.initial, perturbations=None))
    with progress_bar(rich.progress.MofNCompleteColumn(), "days", enabled=progress) as bar:
        task = bar.add_task("roll out", total=len(runs) * series * job.days)
        for number, run in enumerate(runs):
            statics = job.reader.statics() if run.statics is None else run.statics
            scales = make_scales(run.channels, run.normalisation, statics, run.grid)
            own = alike if run.config.model.noise.present else job
            parts = []
            for first in range(0, series, job.batch_size):

                def move(day: int, size: int, before: int = before) -> None:
                    bar.update(task, completed=before + day * size)

                parts.append(own.run(number, run, scales, first, move))
                before += min(job.batch_size, series - first) * job.days
                bar.update(task, completed=before)
            held.append(_joined(parts, series))
    return held


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
