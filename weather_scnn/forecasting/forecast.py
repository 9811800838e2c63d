"""Forecasts of trained runs, single or ensembles, streamed to a Zarr store in the WeatherBench 2 layout."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import rich.progress
import xarray as xr

from weather_scnn.data.channels import Channels
from weather_scnn.data.durations import parse_duration
from weather_scnn.data.initial_times import initial_times
from weather_scnn.data.marks import Kind
from weather_scnn.data.outputs import check_output, refuse_sources
from weather_scnn.data.reading import StateReader
from weather_scnn.data.writing import StoreInProgress, begin_store
from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast_store import forecast_template, to_dataset
from weather_scnn.forecasting.perturbations import (
    KINDS,
    BredPerturbations,
    IncrementPerturbations,
    lower_bounds,
    perturb,
)
from weather_scnn.forecasting.propagation import forcings_at, gap_channels, propagate, read_states
from weather_scnn.forecasting.trained_run import TrainedRun, load_runs
from weather_scnn.nn import Fields, map_fields
from weather_scnn.progress import progress_bar
from weather_scnn.training.loss import Scales, make_scales

_LEADS_PER_BLOCK = 8


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Initial times × members of one checkpoint that are forecast side by side; filled up to one size.

    Attributes:
        run: position of the checkpoint.
        inits, members: positions, each consecutive in its list.
        size: (initial times, members) of a full batch.
    """

    run: int
    inits: np.ndarray
    members: np.ndarray
    size: tuple[int, int]

    @property
    def key(self) -> str:
        """Under which the batch is recorded when it is written."""
        return f"checkpoint-{self.run}-initial-{self.inits[0]}-member-{self.members[0]}"

    @property
    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Initial time and member of every place, (b,); a short batch repeats, so that one program serves all."""
        inits, members = np.resize(self.inits, self.size[0]), np.resize(self.members, self.size[1])
        return np.repeat(inits, self.size[1]), np.tile(members, self.size[0])


def _batches(inits: int, members: int, runs: int, batch_size: int) -> Iterator[_Batch]:
    """Members are dealt to the checkpoints in turn: member k comes from checkpoint k mod `runs`."""
    most = -(-members // runs)
    wide = min(most, batch_size)
    size = (max(1, batch_size // wide), wide)
    for run in range(runs):
        own = np.arange(run, members, runs)
        for first in range(0, inits, size[0]):
            for at in range(0, own.size, wide):
                yield _Batch(run, np.arange(first, min(first + size[0], inits)), own[at : at + wide], size)


@dataclasses.dataclass(frozen=True)
class _Job:
    """All that the batches of a forecast share."""

    store: StoreInProgress
    reader: StateReader
    runs: list[TrainedRun]
    scales: Scales
    starts: np.ndarray
    rows: np.ndarray
    leads: np.ndarray
    block: int
    ensemble: bool
    perturbations: list[IncrementPerturbations | BredPerturbations] | None

    def initial(self, batch: _Batch) -> Fields:
        """Histories of every place of a batch; the first member of each checkpoint is not perturbed."""
        inits, members = batch.filled
        known, inverse = np.unique(inits, return_inverse=True)
        states = read_states(self.reader, self.rows[known])
        history = map_fields(lambda array: jnp.asarray(array[inverse.ravel()]), states)
        if self.perturbations is None:
            return history
        drawn = self.perturbations[batch.run].draw(self.starts[inits], members)
        changed = perturb(history, drawn, lower_bounds(self.reader))
        kept = jnp.asarray(members < len(self.runs))
        return map_fields(
            lambda old, new: jnp.where(kept.reshape(-1, *[1] * (old.ndim - 1)), old, new), history, changed
        )

    def run(self, batch: _Batch) -> None:
        """Rolls one batch out and writes it, a block of leads at a time.

        While a block is written the next one is computed; no more than two are on the device.
        """
        history = self.initial(batch)
        starts, step = self.starts[batch.filled[0]], self.leads[0]
        waiting: tuple[int, Fields] | None = None
        for begin in range(0, len(self.leads), self.block):
            times = starts[:, None] + step * np.arange(begin, begin + self.block + 1)
            forcing = jnp.asarray(forcings_at(self.reader, times))
            parts = self.runs[batch.run].parts
            history, states = propagate(parts, history, self.scales, forcing, leads=self.block)
            if waiting is not None:
                self.write(batch, *waiting)
            waiting = begin, states
        if waiting is not None:
            self.write(batch, *waiting)
        self.store.mark_done(batch.key)

    def write(self, batch: _Batch, begin: int, states: Fields) -> None:
        """Writes a block of leads that starts at position `begin`."""
        stop = min(begin + self.block, len(self.leads))
        inits, members = len(batch.inits), len(batch.members)

        def trim(array: np.ndarray) -> np.ndarray:
            placed = np.asarray(array)[: stop - begin].reshape(stop - begin, *batch.size, *array.shape[2:])
            return placed[:, :inits, :members].reshape(stop - begin, inits * members, *array.shape[2:])

        trimmed = map_fields(trim, states)
        starts = np.repeat(self.starts[batch.inits], members)
        _refuse_non_finite(trimmed, self.reader, self.leads[begin:stop], starts)
        piece = to_dataset(trimmed, self.reader, members=members, ensemble=self.ensemble)
        region = {
            "time": slice(batch.inits[0], batch.inits[-1] + 1),
            "prediction_timedelta": slice(begin, stop),
        }
        if self.ensemble:
            region["realization"] = slice(batch.members[0], batch.members[-1] + 1, len(self.runs))
        _write_region(self.store.path, piece, region)


def _write_region(path: str, piece: xr.Dataset, region: dict[str, slice]) -> None:
    """Writes a part of a store; members of one checkpoint lie apart, so each is a region of its own."""
    stride = region.get("realization", slice(0, 1, 1))
    if stride.step in (None, 1):
        region = {name: slice(part.start, part.stop) for name, part in region.items()}
        piece.to_zarr(path, region=region, consolidated=False)
        return
    for index, member in enumerate(range(stride.start, stride.stop, stride.step)):
        one = {**region, "realization": slice(member, member + 1)}
        piece.isel(realization=[index]).to_zarr(path, region=one, consolidated=False)


def _refuse_non_finite(states: Fields, reader: StateReader, leads: np.ndarray, starts: np.ndarray) -> None:
    """Raises UserError for the first lead with a value that is not finite; gaps may stay where they are allowed."""
    magnitude = np.abs(states.eastward) + np.abs(states.northward)
    finite = np.isfinite(np.concatenate([states.scalar, magnitude], axis=-1))
    good = np.where(gap_channels(reader), finite.any(axis=(2, 3)), finite.all(axis=(2, 3)))
    if good.all():
        return
    lead, place, channel = np.argwhere(~good)[0]
    raise UserError(
        f"the forecast of {reader.channels.describe()[channel]} from {starts[place].astype('datetime64[h]')} is not "
        f"finite at lead {leads[lead] / np.timedelta64(1, 'h'):g} h",
        remedy="train longer, with rollouts of more steps or a lower learning rate",
    )


def _settle(members: int | None, runs: int, perturbation: str | None, amplitude: float) -> tuple[int, str]:
    """How many members, and how they differ.

    Raises:
        UserError: members would be the same, or an option is out of range.
    """
    count = runs if members is None else members
    kind = perturbation or ("increments" if count > runs else "none")
    if kind not in KINDS:
        raise UserError(f"the perturbation {kind!r} is not known", remedy="choose from " + ", ".join(KINDS))
    if count < 1:
        raise UserError(f"there cannot be {count} members", remedy="give --members 1 or more")
    if count < runs:
        raise UserError(
            f"{count} members cannot come from {runs} checkpoints",
            remedy="give at least as many members as checkpoints",
        )
    if kind == "none" and count > runs:
        raise UserError(
            f"{count} members of {runs} checkpoint{'s' * (runs > 1)} would be the same without a perturbation",
            remedy="choose --perturbation increments or bred, or give as many --checkpoints as members",
        )
    if not amplitude > 0:
        raise UserError(f"the amplitude {amplitude:g} is not positive", remedy="give one such as --amplitude 0.2")
    return count, kind


def _history_rows(reader: StateReader, starts: np.ndarray, step: np.timedelta64, inputs: int, where: str) -> np.ndarray:
    """Rows of the time axis that each initial time needs, oldest first, (init, t)."""
    position = {time: index for index, time in enumerate(reader.times)}
    rows = np.array([[position.get(start - step * back, -1) for back in reversed(range(inputs))] for start in starts])
    if (rows < 0).any():
        raise UserError(
            f"the forecast from {starts[(rows < 0).any(axis=1)][0].astype('datetime64[h]')} needs "
            f"{inputs} states {step / np.timedelta64(1, 'h'):g} h apart, and one is missing",
            where=where,
            remedy="begin later or choose other initial times",
        )
    return rows


def _open_states(run: TrainedRun, path: str) -> tuple[StateReader, np.ndarray]:
    """The store of initial states, and the static fields: those of the training store where the checkpoint has them."""
    channels: Channels = run.channels
    if run.statics is not None:
        channels = dataclasses.replace(channels, statics=())
    reader = StateReader.open(path, channels, run.normalisation, run.grid)
    return reader, reader.statics() if run.statics is None else run.statics


def forecast(
    workdir: str,
    input: str,
    output: str,
    *,
    init: str,
    lead: str,
    members: int | None = None,
    perturbation: str | None = None,
    amplitude: float = 0.2,
    seed: int = 0,
    checkpoints: str | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Forecasts from every initial time, writing each as it comes.

    An ensemble has the dimension `realization`. Member 0 is the control: the newest checkpoint from the unperturbed
    state, the same as the single forecast. With several checkpoints members are dealt to them in turn, and the first
    of each is not perturbed.

    Args:
        workdir: folder of a run with a checkpoint; nothing else of the run is read.
        input: store with the initial states.
        output: Zarr store to write, dimensions time (initial) [× realization] × prediction_timedelta × [level ×]
            latitude × longitude.
        init: A:B[:STEP], inclusive.
        lead: longest lead, such as 10d; leads are multiples of the forecaster's step.
        members: size of the ensemble; by default one a checkpoint.
        perturbation: of the initial states: `increments`, `bred` or `none`; by default increments where members
            outnumber checkpoints. See `weather_scnn.forecasting.perturbations`.
        amplitude: of the perturbations, in standard deviations of the increments over one step.
        seed: of the random numbers, with the member and the initial time.
        checkpoints: `last:N`, or steps of the run and workdirs of other runs with commas between; the newest by default.
        batch_size: forecasts run side by side, initial times × members.
        overwrite: replace an existing output.
        progress: whether to show a bar.

    Raises:
        UserError: the store does not fit the run, an initial state is missing, members would be the same, or a forecast
            is not finite.
    """
    check_output(output, Kind.STORE, sources={"--input": input}, overwrite=overwrite)
    refuse_sources(output, {"--workdir": workdir}, inside_is_fine=True)
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} forecasts", remedy="give --batch-size 1 or more")
    if seed < 0:
        raise UserError(f"the seed {seed} is negative", remedy="give --seed 0 or more")
    runs = load_runs(workdir, checkpoints)
    count, kind = _settle(members, len(runs), perturbation, amplitude)
    data = runs[0].config.data
    step = parse_duration(data.step)
    longest = parse_duration(lead, "the lead", likely=("d", "h"))
    steps = int(longest // step)
    if steps < 1 or longest % step != np.timedelta64(0, "ns"):
        raise UserError(
            f"the lead {lead} is no multiple of the forecaster's step {data.step}", remedy="give another --lead"
        )
    reader, statics = _open_states(runs[0], input)
    starts = initial_times(reader.times, init)
    input_step = parse_duration(data.input_step or data.step)
    if data.input_steps > 1 and input_step != step and steps > 1:
        raise UserError(
            f"the run forecasts {data.step} at once from states {data.input_step} apart, so it cannot go on from there",
            remedy=f"give --lead {data.step}",
        )
    rows = _history_rows(reader, starts, input_step, data.input_steps, input)
    scales = make_scales(runs[0].channels, runs[0].normalisation, statics, runs[0].grid)
    perturbations: list[IncrementPerturbations | BredPerturbations] | None = None
    if kind != "none":
        random = IncrementPerturbations.estimate(reader, step, amplitude=amplitude, seed=seed)
        perturbations = [random] * len(runs)
        if kind == "bred":
            bred = [BredPerturbations(reader, run.parts, scales, step, data.input_steps, random) for run in runs]
            bred[0].times_and_rows(starts)  # refuses what is missing before anything is written
            perturbations = [*bred]
    ensemble = count > 1 or members is not None
    block, leads = min(_LEADS_PER_BLOCK, steps), step * np.arange(1, steps + 1)
    names = [run.name for run in runs]
    choices = {"members": count, "perturbation": kind, "amplitude": amplitude, "seed": seed} if ensemble else {}
    origin = np.arange(count, dtype=np.int64) % len(runs)
    disturbed = np.arange(count) >= len(runs) if kind != "none" else np.zeros(count, bool)
    template, encoding = forecast_template(
        reader, starts, leads, block, source=input, run=", ".join(names),
        about_members={"checkpoint": origin, "perturbed": disturbed.astype(np.int8)} if ensemble else None, **choices,
    )  # fmt: skip
    request = {"init": init, "lead": lead, "input": input, "checkpoints": names, "batch_size": batch_size, **choices}
    request["run"] = [run.config.to_json() for run in runs]
    store = begin_store(output, template, request=request, overwrite=overwrite, encoding=encoding)
    job = _Job(store, reader, runs, scales, starts, rows, leads, block, ensemble, perturbations)
    with progress_bar(rich.progress.MofNCompleteColumn(), "forecasts", enabled=progress) as bar:
        task = bar.add_task("forecast", total=len(starts) * count)
        for batch in _batches(len(starts), count, len(runs), batch_size):
            if batch.key not in store.done:
                job.run(batch)
            bar.update(task, advance=len(batch.inits) * len(batch.members))
    store.finish()
