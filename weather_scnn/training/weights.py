"""Beginning a run from the weights of another one."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.models import ModelConfig
from weather_scnn.models.forecaster import last_knots
from weather_scnn.sphere import Grid
from weather_scnn.training.channels import Channels, DataConfig
from weather_scnn.training.checkpoints import Checkpoints
from weather_scnn.training.configuration import Config
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.optimiser import TrainState
from weather_scnn.training.states import expected_grid

# What the weights were trained to read and to give.
_SAME = (
    "grid", "poles", "step", "input_steps", "input_step", "solar", "clock", "coordinates", "forcing_times",
    "static_variables",
)  # fmt: skip


class Origin(NamedTuple):
    """A checkpoint that a new run begins with.

    Attributes:
        workdir, step: of the other run.
        averaged: whether the moving average of its weights is taken.
        normalisation: its moments, in which the weights see the fields.
        before: what that run began with itself.
    """

    workdir: str
    step: int
    averaged: bool
    normalisation: Normalisation
    before: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """Which of its weights, in words."""
        return "moving average" if self.averaged else "raw"

    @property
    def provenance(self) -> dict[str, Any]:
        """For the checkpoints of the new run."""
        return {"workdir": self.workdir, "step": self.step, "weights": self.kind, "started_from": self.before}

    @classmethod
    def of(cls, config: Config) -> "Origin":
        """That which `training.start_from` names, held against the new configuration.

        Raises:
            UserError: there is no such checkpoint, or it is of other fields, another grid or another step.
        """
        text = config.training.start_from
        folder, at, number = text.rpartition("@")
        workdir, wanted = (folder, int(number)) if at and number.isdecimal() else (text, None)
        with Checkpoints(workdir) as checkpoints:
            present = checkpoints.steps
            step = checkpoints.latest if wanted is None else wanted
            if step is None or step not in present:
                raise UserError(
                    f"holds no checkpoint {step}" if present else "holds no finished checkpoint",
                    where=workdir,
                    remedy=f"choose from {', '.join(map(str, present))}" if present else "train that run first",
                )
            about = checkpoints.about(step)
        different = list(_differences(about.config.data, config.data))
        if different:
            raise UserError(
                f"its weights are for other data: {'; '.join(different)}",
                where=f"training.start_from={text}",
                remedy="give the data settings of that run, or begin without training.start_from",
            )
        if about.config.model.kind == config.model.kind == "spherical":
            _check_filters(about.config.model, config.model, expected_grid(config.data), f"training.start_from={text}")
        averaged = config.training.start_with == "average"
        return cls(workdir, step, averaged, about.normalisation, about.started_from)

    def check_statistics(self, own: Normalisation, where: str) -> None:
        """Refuses moments that are not those of the weights.

        Args:
            own: from the statistics that the new run is given.
            where: they come from.
        """
        pairs = zip(jax.tree.leaves(own.to_json()), jax.tree.leaves(self.normalisation.to_json()))
        if not all(np.isclose(one, other, rtol=1e-6) for one, other in pairs):
            raise UserError(
                f"the moments are not those with which the weights of {self.workdir} were trained",
                where=where,
                remedy="leave data.statistics out: a run with training.start_from takes the moments of its weights",
            )

    def into(self, state: TrainState) -> tuple[TrainState, int]:
        """The state before the first step with these weights, and how many parameters keep their initial values.

        Raises:
            UserError: they do not fit the network.
        """
        with Checkpoints(self.workdir) as checkpoints:
            parameters, statistics = checkpoints.weights(
                (state.parameters, state.statistics), self.step, averaged=self.averaged
            )
        pairs = zip(jax.tree.leaves(parameters), jax.tree.leaves(state.parameters))
        new = sum(one.size for one, other in pairs if one is other)
        # Copies: the first step takes over the arrays that it is given, each once.
        average, average_statistics = jax.tree.map(jnp.copy, (parameters, statistics))
        state = state._replace(
            parameters=parameters, statistics=statistics, average=average, average_statistics=average_statistics
        )
        return state, new


def _check_filters(there: ModelConfig, here: ModelConfig, data: Grid, where: str) -> None:
    """Refuses filters that end at another degree, since equal values along l would mean another thing there.

    Raises:
        UserError: those of a level do.
    """
    before, now = last_knots(there, data), last_knots(here, data)
    for was, is_now in zip(before, now):
        if was != is_now:
            same = last_knots(dataclasses.replace(here, filter_degree=max(before)), data) == before
            raise UserError(
                f"its filters vary up to degree {was}, those of this network up to {is_now}: weights would mean "
                "another thing",
                where=where,
                remedy=f"set model.filter_degree={max(before)}, beyond which filters are constant"
                if same
                else "give the features the largest degrees that they have there: model.max_degree, or that of every level",
            )


def _differences(there: DataConfig, here: DataConfig) -> Iterator[str]:
    for name in _SAME:
        one, other = getattr(there, name), getattr(here, name)
        if name == "input_step":
            one, other = one or there.step, other or here.step
            if there.input_steps == here.input_steps == 1:
                continue
        if one != other:
            yield f"data.{name} was {one!r}, is {other!r}"
    one, other = Channels.from_config(there), Channels.from_config(here)
    if (one.scalars, one.winds) != (other.scalars, other.winds):
        names = one.describe(), other.describe()
        lost, new = (", ".join(name for name in a if name not in b) for a, b in (names, names[::-1]))
        parts = [f"without {lost}" if lost else "", f"with {new}" if new else ""]
        yield "the state is " + (" and ".join(part for part in parts if part) or "in another order")
