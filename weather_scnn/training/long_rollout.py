"""Long rollouts of which sums are kept and no fields: what `stability` and the long runs of a training stand on.

Sums are of standardised states less a reference near their time mean, so that neither they nor their squares cancel. On the
device they are float32 and of one block of steps at most; whoever calls adds the blocks up in float64.

F are the single fields: scalars, then eastward, then northward components of the winds.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.products import EXACT
from weather_scnn.training.chance import Chance
from weather_scnn.training.channels import Channels
from weather_scnn.training.loss import Scales, filled
from weather_scnn.training.losses import product_by_degree, spectra
from weather_scnn.training.normalisation import Normalisation
from weather_scnn.training.rollout import Parts, advance

#: Of area means: the globe and its halves.
REGIONS = ("global", "north", "south")


def joined(fields: Fields) -> Any:
    """All fields along the last axis, (…, y, x, F)."""
    kind: Any = np if isinstance(fields.scalar, np.ndarray) else jnp
    return kind.concatenate([fields.scalar, fields.eastward, fields.northward], axis=-1)


def field_names(channels: Channels) -> list[tuple[str, Any]]:
    """Variable and level of each of the F fields."""
    winds = channels.winds
    return [*channels.scalars, *((u, level) for u, _, level in winds), *((v, level) for _, v, level in winds)]


def field_moments(normalisation: Normalisation) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """Mean and standard deviation of each of the F fields."""
    winds = normalisation.wind_std
    mean = np.concatenate([normalisation.scalar_mean, np.zeros(2 * winds.size)])
    return mean, np.concatenate([normalisation.scalar_std, winds, winds])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SumConstants:
    """What sums are made with.

    Attributes:
        area: weights of the rows for means over `REGIONS`, (r, y); each row sums to 1 over the points of its region.
        reference: that is taken from the states, standardised, (y, x, F).
        missing: which fields may be missing over part of the globe, (F,).
        lowest, per_unit: lower end of the histograms and bins a unit, standardised, (F,); None for no histograms.
        dry: amounts below which a cell is dry, standardised, (p,).
        transform: of power spectra; None for none.
        dry_fields: positions of the p amounts among the fields.
        bins: of the histograms.
    """

    area: Any
    reference: Any
    missing: Any
    lowest: Any = None
    per_unit: Any = None
    dry: Any = ()
    transform: HarmonicTransform | None = None
    dry_fields: tuple[int, ...] = dataclasses.field(default=(), metadata={"static": True})
    bins: int = dataclasses.field(default=0, metadata={"static": True})

    @classmethod
    def of(
        cls, channels: Channels, grid: Grid, reference: Float[np.ndarray, "y x F"], **options: Any
    ) -> "SumConstants":
        """Of the fields of a state on a grid."""
        halves = [np.ones_like(grid.latitude), grid.latitude > 0, grid.latitude < 0]
        rows = np.stack([grid.area_weights * half for half in halves])
        rows /= rows.sum(axis=1, keepdims=True) * grid.shape[1]
        missing = np.array([name in channels.masked for name, _ in field_names(channels)])
        return cls(jnp.asarray(rows, jnp.float32), jnp.asarray(reference, jnp.float32), jnp.asarray(missing), **options)


class BlockSums(NamedTuple):
    """Sums of a block of d days of k steps each, of b runs; values are standardised.

    Attributes:
        total, squares: over the steps of the days that count, of the states less the reference, (b, y, x, F).
        histogram: area of the sampled states of the days that count by bin, (b, F, bins); None without.
        means: of each step over `REGIONS`, less the reference, (d, k, b, r, F).
        low, high: extremes of each step; not finite where one value is so, (d, k, b, F).
        dry: share of the area that is dry, (d, k, b, p).
        power: by degree of one state a day, in turn at each hour, a wind's half the sum of its components',
            (d, b, l, c + d); None without.
    """

    total: Float[Array, "b y x F"]
    squares: Float[Array, "b y x F"]
    histogram: Float[Array, "b F bins"] | None
    means: Float[Array, "d k b r F"]
    low: Float[Array, "d k b F"]
    high: Float[Array, "d k b F"]
    dry: Float[Array, "d k b p"]
    power: Float[Array, "d b l channel"] | None


class _Step(NamedTuple):
    """What is told of one step, see `BlockSums`."""

    means: Array
    low: Array
    high: Array
    dry: Array


def _measured(change: Array, state: Array, constants: SumConstants) -> _Step:
    """Of a state and its difference from the reference, each (b, y, x, F)."""
    gaps = jnp.isnan(state) & constants.missing
    present = 1.0 - gaps
    share = jnp.einsum("byxf,ry->brf", present, constants.area, precision=EXACT)
    means = jnp.einsum("byxf,ry->brf", jnp.where(gaps, 0.0, change), constants.area, precision=EXACT) / share
    low = jnp.where(gaps, jnp.inf, state).min(axis=(1, 2))
    high = jnp.where(gaps, -jnp.inf, state).max(axis=(1, 2))
    wet = state[..., list(constants.dry_fields)]
    dry = jnp.einsum("byxp,y->bp", (wet < jnp.asarray(constants.dry)).astype(state.dtype), constants.area[0])
    return _Step(means, low, high, dry)


def _histogram(state: Array, constants: SumConstants) -> Float[Array, "b F bins"]:
    """Area by bin; the first and the last hold all beyond."""
    batch, rows, columns, fields = state.shape
    place = jnp.floor((state - constants.lowest) * constants.per_unit)
    known = jnp.isfinite(place)
    place = jnp.clip(jnp.where(known, place, 0), 0, constants.bins - 1).astype(jnp.int32)
    area = jnp.broadcast_to(constants.area[0][:, None, None], (rows, columns, fields))
    which = place + constants.bins * jnp.arange(fields)

    def one(which: Array, weight: Array) -> Array:
        return jnp.zeros(fields * constants.bins, state.dtype).at[which.ravel()].add(weight.ravel())

    return jax.vmap(one)(which, area * known).reshape(batch, fields, constants.bins)


def summed(
    next_state: Callable[[Any, Any], tuple[Any, Fields]],
    carry: Any,
    given: Any,
    like: Fields,
    constants: SumConstants,
    first_day: Int[Array, ""],
    counted: Bool[Array, " d"],
    per_day: int,
) -> tuple[Any, BlockSums]:
    """Sums of the states that a function makes one after the other, inside a compiled program.

    Args:
        next_state: (carry, what is given for the step) → (carry, standardised state (b, y, x, c)).
        carry: before the first step.
        given: for each step, arrays of (d · k, …).
        like: a state.
        constants: of the sums.
        first_day: number of the first day, which decides the hour of the state that is sampled.
        counted: whether each day counts in maps and histograms.
        per_day: k, steps a day.

    Returns:
        The carry after the last step, and the sums.
    """
    state = joined(like)
    zero = jnp.zeros_like(state)
    counts = None
    if constants.lowest is not None:
        counts = jnp.zeros((state.shape[0], state.shape[-1], constants.bins), state.dtype)

    def day(held: Any, about: Any) -> tuple[Any, Any]:
        number, counts_now, inputs = about
        chosen = (first_day + number) % per_day

        def step(held: Any, given: Any) -> tuple[Any, _Step]:
            (carry, total, squares, sample), (index, each) = held, given
            carry, new = next_state(carry, each)
            state = joined(new)
            change = state - constants.reference
            total = jnp.where(counts_now, total + change, total)
            squares = jnp.where(counts_now, squares + change * change, squares)
            sample = map_fields(lambda one, other: jnp.where(index == chosen, one, other), new, sample)
            return (carry, total, squares, sample), _measured(change, state, constants)

        carry, total, squares, counts = held
        (carry, total, squares, sample), told = jax.lax.scan(
            step, (carry, total, squares, like), (jnp.arange(per_day), inputs)
        )
        power = None
        if constants.transform is not None:
            known = filled(sample, map_fields(jnp.isnan, sample))
            power = product_by_degree(*[spectra(constants.transform, known)] * 2) / (4.0 * jnp.pi)
        if counts is not None:
            counts = jnp.where(counts_now, counts + _histogram(joined(sample), constants), counts)
        return (carry, total, squares, counts), (told, power)

    days = counted.shape[0]
    split = jax.tree.map(lambda array: array.reshape(days, per_day, *array.shape[1:]), given)
    (carry, total, squares, counts), (told, power) = jax.lax.scan(
        day, (carry, zero, zero, counts), (jnp.arange(days), counted, split)
    )
    return carry, BlockSums(total, squares, counts, told.means, told.low, told.high, told.dry, power)


@functools.partial(jax.jit, static_argnames=("per_day", "prescribed"))
def rollout_sums(
    parts: Parts,
    history: Fields,
    scales: Scales,
    forcings: Float[Array, "b t 7"],
    constants: SumConstants,
    first_day: Int[Array, ""],
    counted: Bool[Array, " d"],
    chance: Chance | None = None,
    values: Float[Array, "k b y x p"] | None = None,
    *,
    per_day: int,
    prescribed: tuple[int, ...] = (),
) -> tuple[Fields, Chance | None, BlockSums]:
    """Runs a forecaster over a block of days.

    Args:
        parts: the forecaster.
        history: standardised states at the input times, oldest first, (b, t, y, x, c).
        scales: constants of the channels.
        forcings: `forcings.phases` of the last input time and the steps after it.
        constants, first_day, counted, per_day: see `summed`.
        chance: the noise; None for a network without.
        values: of scalars that are not forecast but put in after every step.
        prescribed: positions of these scalars.

    Returns:
        The last history and noise, and the sums.
    """
    model = nnx.merge(*parts)
    pairs = jnp.moveaxis(jnp.stack([forcings[:, :-1], forcings[:, 1:]], axis=2), 1, 0)

    def step(carry: Any, given: Any) -> tuple[Any, Fields]:
        (past, chance), (pair, put) = carry, given
        noise = None
        if chance is not None:
            noise, fields = model.noise.step(chance.keys, chance.step, chance.fields)
            chance = Chance(chance.keys, chance.step + 1, fields)
        past, new = advance(model, past, scales, pair, training=False, noise=noise)
        if put is not None:
            new = new._replace(scalar=new.scalar.at[..., list(prescribed)].set(put))
            past = past._replace(scalar=past.scalar.at[:, -1].set(new.scalar))
        return (past, chance), new

    like = map_fields(lambda array: array[:, -1], history)
    (history, chance), sums = summed(
        step, (history, chance), (pairs, values), like, constants, first_day, counted, per_day
    )
    return history, chance, sums


@functools.partial(jax.jit, static_argnames=("per_day",))
def state_sums(states: Fields, constants: SumConstants, first_day: Int[Array, ""], *, per_day: int) -> BlockSums:
    """The same sums of states that are there, (d · k, y, x, c), as of one run; all days count."""
    one = map_fields(lambda array: array[:, None], states)
    days = states.scalar.shape[0] // per_day
    like = map_fields(lambda array: array[0], one)
    return summed(lambda _, state: ((), state), (), one, like, constants, first_day, jnp.ones(days, bool), per_day)[1]
