"""The noise of forecasts on their way."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from weather_scnn.nn import noise_keys
from weather_scnn.training.rollout import Parts


class Chance(NamedTuple):
    """The noise of forecasts on their way, for networks that have some.

    It depends on the seed, the member, the initial time and the step alone: a forecast is the same whatever else runs
    beside it, and member k whatever the number of members.

    Attributes:
        keys: of each forecast, (b,).
        step: number of the next step.
        fields: random fields of that step, see `weather_scnn.nn.noise`.
    """

    keys: Array
    step: Int[Array, ""]
    fields: Any

    @classmethod
    def begin(cls, parts: Parts, seed: int, starts: np.ndarray, members: np.ndarray) -> "Chance | None":
        """For initial times and numbers of members, each (b,); None for a network without noise."""
        minutes = starts.astype("datetime64[m]").astype(np.int64) % 2**32
        return _begin(parts, jax.random.key(seed), jnp.asarray(minutes, jnp.uint32), jnp.asarray(members, jnp.uint32))


@jax.jit  # which builds the network once, to see its noise
def _begin(parts: Parts, key: Array, minutes: Array, members: Array) -> Chance | None:
    noise = getattr(nnx.merge(*parts), "noise", None)
    if noise is None:
        return None
    keys = jax.vmap(lambda minute, member: noise_keys(key, minute[None], member[None])[0])(minutes, members)
    return Chance(keys, jnp.zeros((), jnp.int32), noise.stationary(keys))
