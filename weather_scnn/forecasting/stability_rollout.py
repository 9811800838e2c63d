"""Series of long rollouts side by side: their blocks, what is added up of them, and where they end."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from weather_scnn.forecasting.initial_states import InitialStates
from weather_scnn.forecasting.plausible_states import Fault, note_faults
from weather_scnn.forecasting.stability_truth import DAY, cycled
from weather_scnn.forecasting.trained_run import TrainedRun
from weather_scnn.io.restart_file import RestartFile
from weather_scnn.io.writing import Record
from weather_scnn.nn import Fields
from weather_scnn.training.chance import Chance
from weather_scnn.training.forcings import phases
from weather_scnn.training.long_rollout import BlockSums, SumConstants, field_moments, field_names, rollout_sums
from weather_scnn.training.loss import Scales
from weather_scnn.training.states import StateReader

# Sums of one block are float32.
DAYS_PER_BLOCK = 10


@dataclasses.dataclass(frozen=True)
class Job:
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
        return min(DAYS_PER_BLOCK, self.days)

    def run(self, number: int, run: TrainedRun, scales: Scales, first: int, bar: Any) -> dict[str, Any]:
        """Rolls out the series from position `first` on that fit into a batch; from the record where that was done."""
        key = f"checkpoint-{number}-series-{first}"
        if key in self.record.done:
            return self.record.load(key)
        batch = Batch(self, key, run, scales, np.arange(first, min(first + self.batch_size, self.inits.size)))
        state = batch.roll(bar)
        self.record.save(key, state)
        batch.restart.remove()
        return state


class Batch:
    """Series of one checkpoint on their way, side by side; a short batch is filled up, so that one program serves all."""

    def __init__(self, job: Job, key: str, run: TrainedRun, scales: Scales, series: np.ndarray):
        self.job, self.run, self.scales, self.series = job, run, scales, series
        self.restart = RestartFile(job.record, key)
        filled = np.resize(series, min(job.batch_size, job.inits.size))
        self.inits, self.members = job.inits[filled], job.members[filled]
        self.starts = job.initial.starts[self.inits]

    def roll(self, bar: Any) -> dict[str, Any]:
        """All blocks; the next one is computed while the last is looked at."""
        job = self.job
        chance = Chance.begin(self.run.parts, job.seed, self.starts, self.members)
        state = self.restart.load()
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
        self.restart.offer(saved)
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
        mean, deviation = field_moments(normalisation)
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
