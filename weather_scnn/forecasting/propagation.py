"""Steps of the forecaster from given states, and reading these states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from weather_scnn.errors import UserError
from weather_scnn.forecasting.forecast_store import to_dataset
from weather_scnn.forecasting.plausible_states import Fault, faults
from weather_scnn.nn import Fields
from weather_scnn.training.chance import Chance
from weather_scnn.training.loss import Scales
from weather_scnn.training.rollout import Parts, advance
from weather_scnn.training.states import StateArrays, StateReader


@functools.partial(jax.jit, static_argnames=("leads",))
def propagate(
    parts: Parts,
    history: Fields,
    scales: Scales,
    forcings: Float[Array, "b t 7"],
    chance: Chance | None = None,
    *,
    leads: int,
) -> tuple[Fields, Chance | None, Fields]:
    """Runs `leads` steps.

    Args:
        parts: the forecaster.
        history: standardised states at the input times, oldest first, (b, t, y, x, c).
        scales: constants of the channels.
        forcings: `forcings.phases` of the last input time and the k steps after it.
        chance: the noise; None for a network without.
        leads: k.

    Returns:
        The last history and noise, and the states (k, b, y, x, c).
    """
    model = nnx.merge(*parts)

    def one(carry: tuple[Fields, Chance | None], index: Array) -> tuple[tuple[Fields, Chance | None], Fields]:
        past, chance = carry
        pair = jax.lax.dynamic_slice_in_dim(forcings, index, 2, axis=1)
        if chance is None:
            past, new = advance(model, past, scales, pair, training=False)
            return (past, None), new
        noise, fields = model.noise.step(chance.keys, chance.step, chance.fields)
        past, new = advance(model, past, scales, pair, training=False, noise=noise)
        return (past, Chance(chance.keys, chance.step + 1, fields)), new

    (history, chance), states = jax.lax.scan(one, (history, chance), jnp.arange(leads))
    return history, chance, states


def states_as_they_are(reader: StateReader, rows: np.ndarray) -> StateArrays:
    """Standardised states at rows of the time axis, whatever their values; forecasts judge them by themselves."""
    return reader.read_at(rows, judged=True)


def read_states(reader: StateReader, rows: np.ndarray, *, allow_implausible: bool = False) -> Fields:
    """Standardised states at rows (b, t) of the time axis as (b, t, y, x, c), each row read once.

    Args:
        reader: of the store.
        rows: positions of the times.
        allow_implausible: whether values may be what the catalogue finds impossible.

    Raises:
        UserError: a value is missing where the state may have no gaps, or cannot be what its name and unit say.
    """
    known, inverse = np.unique(rows, return_inverse=True)
    states = states_as_they_are(reader, known)
    missing = _missing(reader, states)
    if missing.any():
        time, channel = np.argwhere(missing)[0]
        raise UserError(
            f"{reader.channels.describe()[channel]} has missing values in the state of {minute(reader.times[known[time]])}",
            where=reader.path,
            remedy="choose other initial times",
        )
    found = {} if allow_implausible else _faults(reader, states)
    if found:
        place, fault = min(found.items())
        at = "" if fault.level is None or " hPa" in fault.what else f" at {fault.level} hPa"
        raise UserError(
            f"{fault.name} is implausible: {fault.what}{at}, in the state of {minute(reader.times[known[place]])}",
            where=reader.path,
            remedy="correct the units attribute, or the values, or go on with --allow-implausible",
        )
    shape = rows.shape
    return Fields(*(jnp.asarray(array[inverse.ravel()].reshape(*shape, *array.shape[1:])) for array in states))


def usable_states(
    reader: StateReader, rows: np.ndarray, *, allow_implausible: bool = False
) -> tuple[Fields, Bool[np.ndarray, " b"]]:
    """As `read_states`, without the series, rows (b, t), that it would refuse; and whether each is there, (b,)."""
    known, inverse = np.unique(rows, return_inverse=True)
    states = states_as_they_are(reader, known)
    good: np.ndarray = np.logical_not(_missing(reader, states).any(axis=-1))
    if not allow_implausible:
        good[list(_faults(reader, states))] = False
    positions = inverse.reshape(rows.shape)
    whole = np.asarray(good[positions].all(axis=-1))
    return Fields(*(jnp.asarray(array[positions[whole]]) for array in states)), whole


def _missing(reader: StateReader, states: StateArrays) -> np.ndarray:
    """Where values are missing that may not be, (t, c + d)."""
    return ~states.finite_share()[0] & ~gap_channels(reader)


def _faults(reader: StateReader, states: StateArrays) -> dict[int, Fault]:
    """Faults by position of the state."""
    one = Fields(*(array[None] for array in states))  # type: ignore[arg-type]
    fields = to_dataset(one, reader, members=1, ensemble=False)
    return faults(fields, reader.channels, reader.grid.area_weights, forecast=False)


def minute(time: np.datetime64) -> str:
    """A time as ISO, to the minute."""
    return str(time.astype("datetime64[m]"))


def gap_channels(reader: StateReader) -> Bool[np.ndarray, " channel"]:
    """Which channels may be missing over part of the globe, scalars before winds."""
    channels = reader.channels
    named = [{name} for name, _ in channels.scalars] + [{one, other} for one, other, _ in channels.winds]
    return np.array([bool(names & set(channels.masked)) for names in named])
