"""Training for one property: L1 on what is learned, AdamW on a cosine, a moving average, checkpoints to go on from."""

import csv
import dataclasses
import functools
import io
import json
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Array, Float, Int

from examples.qm9.batches import Batch, capacity, epochs, fill, packed
from examples.qm9.molecules import Molecules, Split
from examples.qm9.network import PRESETS, Network, NetworkConfig, input_spectra
from examples.qm9.targets import TARGETS, Scale
from weather_scnn.errors import UserError
from weather_scnn.io.atomic import write_whole
from weather_scnn.progress import progress_bar
from weather_scnn.sphere.spectrum import Spectrum
from weather_scnn.training.optimiser import clipped, decays, moved_average
from weather_scnn.training.preemption import StopRequests

_CONFIG, _METRICS, _CHECKPOINTS = "config.json", "metrics.csv", "checkpoints"
_COLUMNS = ("step", "epoch", "seconds", "learning_rate", "training_mae", "validation_mae")
_VALIDATION = 1_000  # molecules of a point of the learning curve
_LONGEST_WARMUP = 300
_SCALED = 500  # molecules that give the scales of the inputs


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run is; the same in a folder from its beginning to its end.

    Attributes:
        target: a name of `TARGETS`.
        preset: of the network, see `PRESETS`.
        data: an npz of molecules; empty for all of QM9.
        split: see `SPLITS`.
        molecules: training molecules; None for all of the split.
        test: test molecules; None likewise.
        steps: how many are taken; with None as many as `minutes` allow.
        minutes: of training, without the compilation of the first step; only without `steps`.
        batch: molecules of a step.
        learning_rate: highest.
        weight_decay: of matrices.
        average: share of the old moving average kept at a step.
        moments: share of the run in which norms take each batch's moments. From then on they keep the averaged ones, so
            that what is trained is what predicts: products have heavy tails, and the moments of sixteen molecules are far
            from those of all (measured for mu after 500 steps: 344 mD with those of the batch, 569 without).
        seed: of initial values and of the order of molecules.
    """

    target: str
    preset: str = "laptop"
    data: str = ""
    split: str = "cormorant"
    molecules: int | None = None
    test: int | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    average: float = 0.999
    moments: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (("--target", self.target, TARGETS), ("--preset", self.preset, PRESETS)):
            if value not in known:
                raise UserError(f"no {value!r}", where=name, remedy=f"choose {', '.join(known)}")
        if (self.steps is None) == (self.minutes is None):
            raise UserError("a run has either steps or minutes", where="--steps", remedy="give one of them")
        for name in ("molecules", "test", "steps", "minutes", "batch", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{value}", where=f"--{name.replace('_', '-')}", remedy="give a number above 0")


class State(NamedTuple):
    """All that changes while training."""

    parameters: nnx.State
    statistics: nnx.State
    optimiser: Any
    average: nnx.State
    average_statistics: nnx.State
    step: Int[Array, ""]


class Learner:
    """A network for one property, with its compiled training step and its predictions.

    Args:
        run: what to train.
        training: the molecules it learns from, which fix the scale of the property and the shape of batches.
    """

    def __init__(self, run: Run, training: Molecules):
        self.run, self.target = run, TARGETS[run.target]
        self.scale = Scale.fit(self.target, training.composition, training.target(run.target))
        self.shape = run.batch, capacity(run.batch, float(training.counts.mean()))
        config = PRESETS[run.preset]
        some = training.take(np.arange(min(len(training), _SCALED)))
        network = Network(config, self.target.kind, self._input_scales(some, config), rngs=nnx.Rngs(run.seed))
        parts: Any = nnx.split(network, nnx.Param, nnx.BatchStat, ...)
        self._graph, parameters, statistics, self._rest = parts
        # The learning rate comes with each step, as that of a run with minutes depends on the clock.
        self.optimiser = optax.chain(
            clipped(1.0), optax.scale_by_adam(), optax.add_decayed_weights(run.weight_decay, mask=decays)
        )
        # A Python number's array is weakly typed and what a step returns is not: the step would be compiled twice.
        parameters, statistics = jax.tree.map(lambda each: jnp.array(each, each.dtype), (parameters, statistics))
        average, of_statistics = jax.tree.map(jnp.copy, (parameters, statistics))
        initial = self.optimiser.init(parameters)
        self.state = State(parameters, statistics, initial, average, of_statistics, jnp.zeros((), jnp.int32))
        self.update = functools.partial(jax.jit(self._update, donate_argnums=1, static_argnames="settled"), self._rest)
        self.predict = functools.partial(jax.jit(self._predict), self._rest)

    def _input_scales(self, some: Molecules, config: NetworkConfig) -> Float[np.ndarray, " c"]:
        """Root mean squares of the inputs over spheres and atoms, of some molecules."""
        spectra = jax.jit(lambda batch: Spectrum.of(input_spectra(batch, config)).energy())
        sums = 0.0
        for chosen in packed(some.counts, np.arange(len(some)), self.shape):
            sums += np.asarray(spectra(fill(some, np.zeros(len(some)), chosen, self.shape)), np.float64).sum(axis=0)
        return np.sqrt(sums / (4 * np.pi * some.counts.sum()))

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(array.size for array in jax.tree.leaves(self.state.parameters))

    def _update(
        self, rest: Any, state: State, batch: Batch, rate: Float[Array, ""], *, settled: bool
    ) -> tuple[State, Array]:
        """The state after a step, and its loss; once settled, moments of norms are the averaged ones and stay."""

        def loss(parameters: nnx.State) -> tuple[Array, nnx.State]:
            used = state.average_statistics if settled else state.statistics
            network = nnx.merge(self._graph, parameters, jax.tree.map(lambda array: array, used), rest)
            error = jnp.abs(network(batch, training=not settled) - batch.targets)
            return (error * batch.weights).sum() / batch.weights.sum(), nnx.state(network, nnx.BatchStat)

        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(state.parameters)
        updates, optimiser = self.optimiser.update(gradient, state.optimiser, state.parameters)
        parameters = jax.tree.map(lambda old, change: old - rate * change, state.parameters, updates)
        average = moved_average(state.average, parameters, state.step, self.run.average)
        of_statistics = state.average_statistics
        if settled:
            statistics = state.statistics
        else:
            of_statistics = moved_average(of_statistics, statistics, state.step, self.run.average)
        return State(parameters, statistics, optimiser, average, of_statistics, state.step + 1), value

    def _predict(self, rest: Any, parameters: nnx.State, statistics: nnx.State, batch: Batch) -> Float[Array, " n"]:
        return nnx.merge(self._graph, parameters, statistics, rest)(batch, training=False)

    def predictions(self, molecules: Molecules) -> Float[np.ndarray, " n"]:
        """The property of molecules in its unit, by the averaged parameters."""
        learned = np.zeros(len(molecules))
        for chosen in packed(molecules.counts, np.arange(len(molecules)), self.shape):
            batch = fill(molecules, np.zeros(len(molecules)), chosen, self.shape)
            found = self.predict(self.state.average, self.state.average_statistics, batch)
            learned[chosen] = np.asarray(found)[: len(chosen)]
        return self.scale.physical(molecules.composition, learned)

    def mae(self, molecules: Molecules) -> float:
        """Mean absolute error in the property's unit."""
        return float(np.abs(self.predictions(molecules) - molecules.target(self.run.target)).mean())


class RunFolder:
    """The folder of a run: its configuration, checkpoints and metrics.

    Args:
        path: of the folder.
        run: what it must be the folder of; None to read what it is.

    Raises:
        UserError: it is that of another run, or of none.
    """

    def __init__(self, path: pathlib.Path, run: Run | None = None):
        self.path = path = path.expanduser().resolve()
        file = path / _CONFIG
        if run is None and not file.exists():
            raise UserError("no run is here", where=str(path), remedy="train one with `python -m examples.qm9 train`")
        if run is not None and not file.exists():
            if path.exists() and any(path.iterdir()):
                raise UserError("holds other files", where=str(path), remedy="choose another --workdir")
            path.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(dataclasses.asdict(run), indent=2) + "\n")
        self.run = Run(**json.loads(file.read_text()))
        if run is not None and run != self.run:
            theirs, ours = dataclasses.asdict(self.run), dataclasses.asdict(run)
            changed = [f"{name} {theirs[name]} became {ours[name]}" for name in ours if ours[name] != theirs[name]]
            raise UserError(
                f"this run is another: {', '.join(changed)}", where=str(path), remedy="choose another --workdir"
            )
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(path / _CHECKPOINTS, options=options)

    def save(self, state: State, seconds: float) -> None:
        """Writes a checkpoint in the background."""
        arguments = {"state": ocp.args.StandardSave(_named(state)), "about": ocp.args.JsonSave({"seconds": seconds})}
        self._manager.save(int(state.step), args=ocp.args.Composite(**arguments))

    def restore(self, state: State) -> tuple[State, float]:
        """The newest state and its seconds of training, or the given one and 0 where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return state, 0.0
        like = ocp.args.StandardRestore(_named(state))
        found = self._manager.restore(step, args=ocp.args.Composite(state=like, about=ocp.args.JsonRestore()))
        leaves = [found["state"][name] for name in _named(state)]
        return jax.tree.unflatten(jax.tree.structure(state), leaves), float(found["about"]["seconds"])

    def close(self) -> None:
        """Returns when every checkpoint is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()

    def metrics(self) -> list[dict[str, float]]:
        """Rows of the learning curve."""
        path = self.path / _METRICS
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """Replaces the learning curve."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / _METRICS, text.getvalue())


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


class Trained(NamedTuple):
    """The end of a run.

    Attributes:
        learner: with the last state.
        seconds: of training.
        steps_per_second: of this session, its first step left out; 0 if it took none.
    """

    learner: Learner
    seconds: float
    steps_per_second: float


def train(
    folder: RunFolder,
    split: Split,
    *,
    checkpoint_minutes: float = 2.0,
    validations: int = 12,
    progress: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Trains a run to its end from where it stands.

    A run of steps is the same to the last bit however often it is interrupted. In one of minutes the learning rate
    follows the clock, so that it ends when its time does, however busy the machine is.

    Args:
        folder: of the run.
        split: its molecules.
        checkpoint_minutes: between two checkpoints.
        validations: points of the learning curve.
        progress: show a bar.
        clock: seconds.

    Raises:
        UserError: a loss was not finite.
        Stopped: a signal asked for it; the state is saved.
    """
    run, learner = folder.run, Learner(folder.run, split.training)
    targets = learner.scale.normalised(split.training.composition, split.training.target(run.target))
    learner.state, before = folder.restore(learner.state)
    step = first = int(learner.state.step)
    rows = [row for row in folder.metrics() if row["step"] <= step]
    few = split.validation.take(np.arange(min(len(split.validation), _VALIDATION)))
    batches = epochs(split.training.counts, learner.shape, run.seed)
    for _ in range(step):
        next(batches)
    warmup = min(len(packed(split.training.counts, np.arange(len(split.training)), learner.shape)), _LONGEST_WARMUP)
    seconds, saved = before, before
    losses: list[Array] = []

    def done() -> float:
        return min(step / run.steps if run.steps else seconds / (60.0 * float(run.minutes or 1)), 1.0)

    def validate(epoch: int, rate: float) -> None:
        training = float(np.mean([float(loss) for loss in losses])) * learner.scale.spread
        if not math.isfinite(training):
            raise UserError(
                f"the loss is {training} at step {step}", where=str(folder.path), remedy="lower --learning-rate"
            )
        row = (step, epoch, round(seconds, 1), rate, training, learner.mae(few))
        rows.append(dict(zip(_COLUMNS, row, strict=True)))
        folder.write_metrics(rows)
        losses.clear()

    bar = progress_bar("{task.fields[rate]}", "{task.fields[error]}", enabled=progress)
    with bar, StopRequests() as requests:
        name = f"{run.target} ({learner.parameters:,} parameters)"
        task = bar.add_task(name, total=1.0, rate="", error="")
        while (share := done()) < 1.0:
            epoch, chosen = next(batches)
            batch = fill(split.training, targets, chosen, learner.shape)
            rate = run.learning_rate * min((step + 1) / warmup, 1.0) * 0.5 * (1.0 + math.cos(math.pi * share))
            begin = clock()
            learner.state, loss = learner.update(learner.state, batch, rate, settled=share >= run.moments)
            losses.append(loss)
            loss.block_until_ready()
            step += 1
            if step > first + 1:
                seconds += clock() - begin
            speed = (step - first - 1) / (seconds - before) if seconds > before else 0.0
            if math.floor(done() * validations) > math.floor(share * validations) or done() >= 1.0:
                validate(epoch, rate)
                bar.update(task, error=f"validation {rows[-1]['validation_mae']:.4g} {learner.target.unit}")
            bar.update(task, completed=done(), rate=f"{speed:.1f} steps/s" if speed else "compiling")
            if (stop := requests.due(step)) or seconds - saved > 60 * checkpoint_minutes or done() >= 1.0:
                folder.save(learner.state, seconds)
                saved = seconds
                if stop and done() < 1.0:
                    folder.close()
                    raise requests.stopped(step, saved=True)
    folder.close()
    return Trained(learner, seconds, (step - first - 1) / (seconds - before) if seconds > before else 0.0)
