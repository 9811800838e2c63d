"""How many members an ensemble has, and how they differ."""

import dataclasses
import math

import numpy as np

from weather_scnn.errors import UserError
from weather_scnn.forecasting.amplitude import AUTO
from weather_scnn.forecasting.perturbations import KINDS


def refuse_numbers(members: int | None, amplitude: float | str, seed: int, batch_size: int) -> None:
    """Refuses numbers that no forecast can have, before anything is opened.

    Raises:
        UserError: one is out of range.
    """
    if members is not None and members < 1:
        raise UserError(f"there cannot be {members} members", remedy="give --members 1 or more")
    if batch_size < 1:
        raise UserError(f"a batch cannot hold {batch_size} forecasts", remedy="give --batch-size 1 or more")
    if seed < 0:
        raise UserError(f"the seed {seed} is negative", remedy="give --seed 0 or more")
    parse_amplitude(amplitude)


def parse_amplitude(value: float | str) -> float | None:
    """An amplitude; None for `auto`.

    Raises:
        UserError: it is no positive number.
    """
    if isinstance(value, str) and value.strip().lower() == AUTO:
        return None
    try:
        number = float(value)
    except ValueError as error:
        raise UserError(
            f"the amplitude {value!r} is not a number", remedy="give one such as --amplitude 0.5, or auto"
        ) from error
    if not (number > 0 and math.isfinite(number)):
        raise UserError(f"the amplitude {number:g} is not positive", remedy="give one such as --amplitude 0.5, or auto")
    return number


@dataclasses.dataclass(frozen=True)
class Members:
    """The members of an ensemble.

    Attributes:
        count: how many.
        kind: of the perturbations.
        amplitude: of these; None where it is fitted.
        noise: whether the network's own noise makes members differ.
    """

    count: int
    kind: str
    amplitude: float | None
    noise: bool = False

    @classmethod
    def settle(
        cls,
        members: int | None,
        runs: int,
        perturbation: str | None,
        amplitude: float | str,
        *,
        direct: bool,
        noise: bool = False,
    ) -> "Members":
        """From what was asked for.

        Args:
            members: how many; None for one a checkpoint.
            runs: number of checkpoints.
            perturbation: kind; None for increments where members outnumber checkpoints and the network has no noise.
            amplitude: as asked for.
            direct: whether the forecaster cannot go on from its own states.
            noise: whether the networks have noise of their own.

        Raises:
            UserError: members would be the same, or an option does not go with the others.
        """
        count = runs if members is None else members
        kind = perturbation or ("increments" if count > runs and not noise else "none")
        if kind not in KINDS:
            raise UserError(f"the perturbation {kind!r} is not known", remedy="choose from " + ", ".join(KINDS))
        if count < runs:
            raise UserError(
                f"{count} members cannot come from {runs} checkpoints",
                remedy="give at least as many members as checkpoints",
            )
        if kind == "none" and count > runs and not noise:
            raise UserError(
                f"{count} members of {runs} checkpoint{'s' * (runs > 1)} would be the same without a perturbation",
                remedy="choose --perturbation increments or bred, or give as many --checkpoints as members",
            )
        if kind != "none" and count == runs:
            raise UserError(
                f"--perturbation {kind} would perturb nothing: the first member of each checkpoint is not perturbed",
                remedy=f"give --members {runs + 1} or more, or leave --perturbation out",
            )
        if kind == "bred" and direct:
            raise UserError(
                "bred vectors need a forecaster that goes on from its own states",
                remedy="choose --perturbation increments",
            )
        return cls(count, kind, parse_amplitude(amplitude), noise)

    @property
    def perturbed(self) -> bool:
        """Whether some are perturbed."""
        return self.kind != "none"

    def about(self, runs: int) -> dict[str, np.ndarray]:
        """Of each member the checkpoint it comes from and whether it is perturbed."""
        numbers = np.arange(self.count, dtype=np.int64)
        disturbed = (numbers >= runs) & self.perturbed
        return {"checkpoint": numbers % runs, "perturbed": disturbed.astype(np.int8)}
