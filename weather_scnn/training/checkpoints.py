"""Checkpoints by orbax: everything a run needs to go on, and everything a forecast needs."""

import json
import logging
import os
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx
from jaxtyping import Float

from weather_scnn.errors import UserError
from weather_scnn.io.atomic import write_whole
from weather_scnn.sphere import Grid
from weather_scnn.training.configuration import Config
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import TrainState
from weather_scnn.training.run_folder import BEST_LONG_RUN, CONFIGURATION, require_checkpoints, run_folder
from weather_scnn.version import __version__

_STATE, _ABOUT, _STATICS = "state", "about", "statics"
_MOMENTS = ".average_statistics"  # how the names of their arrays begin
#: Of the layout below. Whoever changes what older versions can read raises it; checkpoints before 0.2.0 carry none, and are
#: read until 0.3.0.
FORMAT = 1
_logger = logging.getLogger(__name__)


class Cursor(NamedTuple):
    """Where in the data a run stands.

    Attributes:
        step: optimiser steps taken.
        rollout_steps: of the stage of the last of them.
        batch: batches of that stage taken.
        windows: fingerprint of the windows they were drawn from.
    """

    step: int
    rollout_steps: int
    batch: int
    windows: str


class About(NamedTuple):
    """What a checkpoint was made with.

    Attributes:
        config: the experiment.
        normalisation: moments of the channels.
        cursor: where in the data it stands; None in checkpoints of versions that did not save it.
        statics: standardised static fields of the training store, (y, x, s); None likewise.
        started_from: workdir, step and version of the run whose weights this one began with; None for none.
        long_run_error: of the time means of the long run from it; None without one.
    """

    config: Config
    normalisation: Normalisation
    cursor: Cursor | None
    statics: Float[np.ndarray, "y x s"] | None
    started_from: dict[str, Any] | None = None
    long_run_error: float | None = None


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by their path: independent of how Flax and optax nest them in memory."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _shape(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes)) or "one value"


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints; each appears only when whole.

    A write goes on in the background while training does. Each holds parameters, their average, optimiser state, batch
    statistics and number of steps in `state`, the static fields in `statics`, and in `about` the configuration,
    moments, grid, seed, data cursor and version.

    Args:
        workdir: folder of the run; local, or an address such as gs://bucket/run.
        keep: how many are kept; None where nothing will be written.
        best: the one of the best long run, in RUN/best_long_run, in place of the newest.
    """

    def __init__(self, workdir: str | os.PathLike, *, keep: int | None = None, best: bool = False):
        self.folder = run_folder(workdir) / (BEST_LONG_RUN if best else "checkpoints")
        if keep is None:
            require_checkpoints(workdir)
            if best and not self.folder.is_dir():
                raise UserError(
                    "holds no checkpoint of a long run",
                    where=str(workdir),
                    remedy="train with training.long_run=4x1460",
                )
        # What a kill left half-written goes; it never counted as a checkpoint.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=keep is not None, cleanup_tmp_directories=keep is not None
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """Steps of all finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        state: TrainState,
        config: Config,
        normalisation: Normalisation,
        *,
        grid: Grid,
        cursor: Cursor,
        statics: Float[np.ndarray, "y x s"],
        started_from: dict[str, Any] | None = None,
        long_run_error: float | None = None,
    ) -> None:
        """Copies the state and writes it in the background; a later save or `wait` waits for it."""
        about = {
            "format": FORMAT,
            "config": config.to_json(),
            "normalisation": normalisation.to_json(),
            "grid": {
                "name": grid.name,
                "kind": grid.kind.value,
                "latitude": grid.latitude.tolist(),
                "longitude": grid.longitude.tolist(),
            },
            "cursor": cursor._asdict(),
            # Shuffling and noise are functions of the seed and of where the run stands: nothing else is random.
            "random": {"seed": config.training.seed, "step": cursor.step},
            "statics": list(statics.shape),
            "created_by": f"weather-scnn {__version__}",
            "jax": jax.__version__,
            "started_from": started_from,
            "long_run_error": long_run_error,
        }
        self._manager.save(
            cursor.step,
            args=ocp.args.Composite(
                **{
                    _STATE: ocp.args.StandardSave(_named(state)),
                    _STATICS: ocp.args.StandardSave({_STATICS: np.asarray(statics, np.float32)}),
                    _ABOUT: ocp.args.JsonSave(about),
                }
            ),
        )

    def wait(self) -> None:
        """Returns when every checkpoint is on disk."""
        self._manager.wait_until_finished()

    def about(self, step: int | None = None) -> About:
        """What a checkpoint was made with.

        Raises:
            UserError: there is no checkpoint, or it cannot be read, perhaps because a newer version wrote it.
        """
        step = self.latest if step is None else step
        if step is None:
            raise UserError("holds no finished checkpoint", where=str(self.folder), remedy="train further")
        found = self._manager.restore(step, args=ocp.args.Composite(**{_ABOUT: ocp.args.JsonRestore()}))[_ABOUT]
        if found.get("format", FORMAT) > FORMAT:
            raise UserError(
                f"checkpoint {step} has format {found['format']}, written by {found.get('created_by', 'a newer version')}; "
                f"weather-scnn {__version__} reads up to {FORMAT}",
                where=str(self.folder),
                remedy="install that version or a newer one",
            )
        try:
            config = Config.from_json(found["config"])
            normalisation = Normalisation.from_json(found["normalisation"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {step} was written by {found.get('created_by', 'another version')} ({error})",
                where=str(self.folder),
                remedy=f"use that version, or train anew with weather-scnn {__version__}",
            ) from error
        cursor = Cursor(**found["cursor"]) if "cursor" in found else None
        statics = None
        if "statics" in found:
            like = {_STATICS: np.zeros(found["statics"], np.float32)}
            statics = self._manager.restore(
                step, args=ocp.args.Composite(**{_STATICS: ocp.args.StandardRestore(like)})
            )[_STATICS][_STATICS]
        return About(config, normalisation, cursor, statics, found.get("started_from"), found.get("long_run_error"))

    def _saved(self, step: int | None) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a checkpoint's state, by name."""
        tree = ocp.PyTreeCheckpointHandler().metadata(self.folder / str(step) / _STATE).tree
        return {name: tuple(entry.shape) for name, entry in tree.items()}

    def weights(self, template: Any, step: int, *, averaged: bool) -> tuple[nnx.State, nnx.State]:
        """Parameters and batch statistics for another run, placed as those of its template.

        Args:
            template: (parameters, statistics) of the other run as they are initialised; those that the checkpoint
                lacks stay so.
            step: of the checkpoint.
            averaged: take the moving averages.

        Raises:
            UserError: the checkpoint holds one that the template lacks, or of another shape.
        """
        saved, named = self._saved(step), _named(template)
        kinds = {"[0]": ".average" if averaged else ".parameters", "[1]": ".statistics"}
        if averaged and any(name.startswith(_MOMENTS) for name in saved):
            kinds["[1]"] = _MOMENTS

        def there(name: str) -> str:
            return kinds[name[:3]] + name[3:]

        places = {there(name): name for name in named}
        for name, shape in saved.items():
            if not name.startswith(tuple(f"{kind}[" for kind in kinds.values())):
                continue
            ours = tuple(named[places[name]].shape) if name in places else None
            if ours != shape:
                inner = (
                    name[name.index("[") :]
                    .removesuffix(".value")
                    .replace("']['", ".")
                    .replace("['", "")
                    .replace("']", "")
                )
                raise UserError(
                    f"checkpoint {step} has {inner} of {_shape(shape)}, and this network "
                    + ("has none" if ours is None else f"of {_shape(ours)}"),
                    where=str(self.folder),
                    remedy="give the model settings of that run; only parameters may be added to them",
                )
        wanted = {
            there(name): ocp.utils.to_shape_dtype_struct(leaf) for name, leaf in named.items() if there(name) in saved
        }
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            found = reader.restore(
                self.folder / str(step) / _STATE,
                args=ocp.args.PyTreeRestore(
                    wanted, restore_args=ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
                ),
            )
        _, structure = jax.tree_util.tree_flatten(template)
        leaves = [found.get(there(name), leaf) for name, leaf in named.items()]
        return jax.tree_util.tree_unflatten(structure, leaves)

    def restore(self, template: TrainState, step: int | None = None) -> TrainState:
        """Reads a checkpoint into arrays placed as those of the template, on whatever devices those are.

        Raises:
            UserError: the checkpoint holds other parameters than the template.
        """
        step = self.latest if step is None else step
        named = _named(template)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, named)
        older = not any(name.startswith(_MOMENTS) for name in self._saved(step)) and any(
            name.startswith(_MOMENTS) for name in named
        )
        if older:
            abstract = {name: like for name, like in abstract.items() if not name.startswith(_MOMENTS)}
        try:
            restored = self._manager.restore(
                step, args=ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(abstract)})
            )[_STATE]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"checkpoint {step} does not fit the network of this configuration: {str(error).splitlines()[0]}",
                where=str(self.folder),
                remedy="use the configuration the run was trained with",
            ) from error
        if older:
            _logger.warning(
                "checkpoint %d in %s holds no averaged batch statistics, as older versions saved none; those of the newest "
                "parameters stand in for them",
                step,
                self.folder,
            )
            # Copies: a step takes over the arrays that it is given, each once.
            raw = {name: value for name, value in restored.items() if name.startswith(".statistics")}
            restored |= {name.replace(".statistics", _MOMENTS, 1): value.copy() for name, value in raw.items()}
        _, structure = jax.tree_util.tree_flatten(template)
        return jax.tree_util.tree_unflatten(structure, [restored[key] for key in named])


def save_config(config: Config, workdir: epath.Path) -> None:
    """Writes the configuration in force, replacing the file at once."""
    write_whole(workdir / CONFIGURATION, json.dumps(config.to_json(), indent=2) + "\n")


def parameter_count(tree: Any) -> int:
    """Number of values in a tree of arrays."""
    return int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree)))
