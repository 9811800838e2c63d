"""Losses that are not finite or spike: judged on the device, so that no such step ever reaches the parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from weather_scnn.errors import UserError
from weather_scnn.training.channels import Channels

_DECAY = 0.9


class LossWatch(NamedTuple):
    """What a loss is held against; part of the training state, so that a resumed run judges alike.

    Attributes:
        typical: moving average of the accepted losses; 0 before the first.
        skipped: steps whose update was left out so far.
    """

    typical: Float[Array, ""]
    skipped: Int[Array, ""]

    @classmethod
    def fresh(cls) -> "LossWatch":
        """Before the first step."""
        return cls(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))

    def forget(self) -> "LossWatch":
        """At a change of stage, where longer rollouts make other losses typical; the count stays."""
        return self._replace(typical=jnp.zeros_like(self.typical))


def judge(
    watch: LossWatch, loss: Float[Array, ""], gradient_norm: Float[Array, ""], factor: float
) -> tuple[Bool[Array, ""], LossWatch]:
    """Whether a step may be taken, and the watch after it.

    Args:
        watch: what went before.
        loss, gradient_norm: of this step.
        factor: a loss above this many times the typical one is refused; 0 refuses only what is not finite.
    """
    good = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
    if factor > 0:
        good &= (watch.typical == 0) | (loss <= factor * watch.typical)
    followed = jnp.where(watch.typical == 0, loss, _DECAY * watch.typical + (1 - _DECAY) * loss)
    typical = jnp.where(good, followed, watch.typical).astype(watch.typical.dtype)
    return good, LossWatch(typical, watch.skipped + jnp.where(good, 0, 1).astype(watch.skipped.dtype))


def keep_if(good: Bool[Array, ""], new: Any, old: Any) -> Any:
    """The new tree where the step is good, else the old one."""
    return jax.tree.map(lambda one, other: jax.lax.select(good, one, other), new, old)


def divergence_error(
    step: int, loss: float, gradient_norm: float, errors: np.ndarray, channels: Channels, last_good: int | None
) -> UserError:
    """Names the step, the variable and the checkpoint to go back to.

    Args:
        step: number of the step that was refused.
        loss, gradient_norm: of that step.
        errors: error a channel, (c,).
        channels: names of the channels.
        last_good: step of the newest checkpoint, which the run goes on from.
    """
    names, bad = channels.describe(), ~np.isfinite(errors)
    if np.isfinite(loss) and not np.isfinite(gradient_norm):
        what = f"the gradient is not finite at step {step} (the loss is {loss:.4g})"
    elif not bad.any():
        worst = int(np.argmax(errors))
        what = f"the loss spiked to {loss:.4g} at step {step}, most for {names[worst]} ({errors[worst]:.4g})"
    else:
        at_fault = [name for name, one in zip(names, bad) if one]
        others = f" and {len(at_fault) - 1} others" if len(at_fault) > 1 else ""
        what = f"the loss is not finite at step {step}, for {at_fault[0]}{others}"
    back = (
        "there is no checkpoint yet"
        if last_good is None
        else f"the last good checkpoint is that of step {last_good}, from which the same command goes on"
    )
    return UserError(
        what,
        remedy=f"{back}; lower optimiser.learning_rate, or leave such steps out with --set training.on_divergence=skip",
    )
