"""Checkpoints by orbax: everything a run needs to go on, and everything a forecast needs."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from weather_scnn.data.normalisation import Normalisation
from weather_scnn.errors import UserError
from weather_scnn.training.configuration import Config
from weather_scnn.training.optimiser import TrainState
from weather_scnn.version import __version__

_STATE, _ABOUT = "state", "about"


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by their path: independent of how Flax and optax nest them in memory."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


class Checkpoints:
    """The checkpoints of one run, in RUN/checkpoints; each appears only when whole.

    Args:
        workdir: folder of the run.
        keep: how many are kept; None where nothing will be written.
    """

    def __init__(self, workdir: str | pathlib.Path, *, keep: int | None = None):
        self.folder = pathlib.Path(workdir).absolute() / "checkpoints"
        if keep is None and not self.folder.is_dir():
            raise UserError(
                "holds no checkpoints", where=str(workdir), remedy="train first, or give the workdir of a run"
            )
        self._manager = ocp.CheckpointManager(
            self.folder, options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=keep is not None)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, config: Config, normalisation: Normalisation) -> None:
        """Writes in the background; a later save or `wait` waits for it."""
        about = {
            "config": config.to_json(),
            "normalisation": normalisation.to_json(),
            "created_by": f"weather-scnn {__version__}",
        }
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(**{_STATE: ocp.args.StandardSave(_named(state)), _ABOUT: ocp.args.JsonSave(about)}),
        )

    def wait(self) -> None:
        """Returns when every checkpoint is on disk."""
        self._manager.wait_until_finished()

    def about(self, step: int | None = None) -> tuple[Config, Normalisation]:
        """Configuration and normalisation a checkpoint was made with.

        Raises:
            UserError: there is no checkpoint, or it cannot be read.
        """
        step = self.latest if step is None else step
        if step is None:
            raise UserError("holds no finished checkpoint", where=str(self.folder), remedy="train further")
        restored = self._manager.restore(step, args=ocp.args.Composite(**{_ABOUT: ocp.args.JsonRestore()}))
        try:
            config = Config.from_json(restored[_ABOUT]["config"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {step} was written by another version ({error})",
                where=str(self.folder),
                remedy=f"use that version, or train anew with weather-scnn {__version__}",
            ) from error
        return config, Normalisation.from_json(restored[_ABOUT]["normalisation"])

    def restore(self, template: TrainState, step: int | None = None) -> TrainState:
        """Reads a checkpoint into arrays placed as those of the template.

        Raises:
            UserError: the checkpoint holds other parameters than the template.
        """
        step = self.latest if step is None else step
        named = _named(template)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, named)
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
        _, structure = jax.tree_util.tree_flatten(template)
        return jax.tree_util.tree_unflatten(structure, [restored[key] for key in named])


def save_config(config: Config, workdir: pathlib.Path) -> None:
    """Writes the configuration in force, replacing the file at once."""
    target = workdir / "config.json"
    part = target.with_suffix(".part")
    part.write_text(json.dumps(config.to_json(), indent=2) + "\n")
    part.replace(target)


def parameter_count(tree: Any) -> int:
    """Number of values in a tree of arrays."""
    return int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(tree)))
