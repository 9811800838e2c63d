"""Steps of the forecaster from given states, and reading these states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.data.reading import StateReader
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields
from weather_scnn.training.loss import Scales
from weather_scnn.training.rollout import Parts, advance


@functools.partial(jax.jit, static_argnames=("leads",))
def propagate(
    parts: Parts, history: Fields, scales: Scales, forcings: Float[Array, "b k+1 y x f"], *, leads: int
) -> tuple[Fields, Fields]:
    """Runs `leads` steps.

    Args:
        parts: the forecaster.
        history: standardised states at the input times, oldest first, (b, t, y, x, c).
        scales: constants of the channels.
        forcings: at the last input time and the k steps after it.
        leads: k.

    Returns:
        The last history, and the states (k, b, y, x, c).
    """
    model = nnx.merge(*parts)

    def one(past: Fields, index: Array) -> tuple[Fields, Fields]:
        pair = jax.lax.dynamic_slice_in_dim(forcings, index, 2, axis=1)
        return advance(model, past, scales, pair, training=False)

    return jax.lax.scan(one, history, jnp.arange(leads))


def forcings_at(reader: StateReader, times: np.ndarray) -> Float[np.ndarray, "b k y x f"]:
    """Forcings at times (b, k); those of members that start together are computed once."""
    known, inverse = np.unique(times.ravel(), return_inverse=True)
    values = reader.forcings(known)
    return values[inverse.ravel()].reshape(*times.shape, *values.shape[1:])


def read_states(reader: StateReader, rows: np.ndarray) -> Fields:
    """Standardised states at rows (b, t) of the time axis as (b, t, y, x, c), each row read once.

    Raises:
        UserError: a value is missing where the state may have no gaps.
    """
    known, inverse = np.unique(rows, return_inverse=True)
    states = reader.read_at(known)
    whole = states.finite_share()[0]
    whole[:, gap_channels(reader)] = True
    if not whole.all():
        time, channel = np.argwhere(~whole)[0]
        raise UserError(
            f"{reader.channels.describe()[channel]} has NaNs in the initial state at "
            f"{reader.times[known[time]].astype('datetime64[h]')}",
            remedy="choose other initial times",
        )
    shape = rows.shape
    return Fields(*(jnp.asarray(array[inverse.ravel()].reshape(*shape, *array.shape[1:])) for array in states))


def gap_channels(reader: StateReader) -> Float[np.ndarray, " c+d"]:
    """Which channels may be missing over part of the globe: bool, scalars before winds."""
    channels = reader.channels
    names = [name for name, _ in channels.scalars] + [name for name, _, _ in channels.winds]
    return np.array([name in channels.masked for name in names])
