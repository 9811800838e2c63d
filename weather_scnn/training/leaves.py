"""The training step on plain lists of arrays, for the loop between compiled steps."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from weather_scnn.nn import Fields
from weather_scnn.training.loss import Scales
from weather_scnn.training.optimiser import TrainState
from weather_scnn.training.step import Ensemble, StepReport


class LeafStep:
    """Holds the state of a run as a list of its arrays and takes steps with it.

    An `nnx.State` is taken apart and put together in Python at every call of a compiled function, a list in C++: at
    the demonstration's size that was most of what the host did between steps, on cores that a CPU run computes with.

    Args:
        step: the compiled step, see `make_train_step`.
        state: before the first step; its arrays are donated to it.
        tables, scales: constants on the devices.
    """

    def __init__(self, step: Callable[..., Any], state: TrainState, tables: Any, scales: Scales):
        self._leaves, self._structure = jax.tree.flatten(state)
        self._constants, constants_structure = jax.tree.flatten((tables, scales))
        structure = self._structure

        def on_leaves(
            leaves: list[Array], constants: list[Array], window: Fields, forcings: Array, ensemble: Ensemble | None
        ) -> tuple[list[Array], StepReport]:
            given = jax.tree.unflatten(structure, leaves)
            tables, scales = jax.tree.unflatten(constants_structure, constants)
            after, report = step(given, tables, window, forcings, scales, ensemble)
            return jax.tree.leaves(after), report

        self._compiled = jax.jit(on_leaves, donate_argnums=0)

    def __call__(self, window: Fields, forcings: Array, ensemble: Ensemble | None = None) -> StepReport:
        """One step, as `make_train_step` has it."""
        self._leaves, report = self._compiled(self._leaves, self._constants, window, forcings, ensemble)
        return report

    @property
    def state(self) -> TrainState:
        """As it is now; the next step invalidates its arrays."""
        return jax.tree.unflatten(self._structure, self._leaves)

    @state.setter
    def state(self, state: TrainState) -> None:
        self._leaves = jax.tree.leaves(state)
