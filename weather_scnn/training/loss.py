"""What the loss weighs: area × level × variable weights on errors in units of the increments, see `losses`.

The three weights are positive and of mean 1 over the globe and over the components of the state, or of those fields that
`loss.targets` names, so that a loss of 1 is a forecast as wrong as persistence over one step. A wind is one vector: its two components share a weight, and
neither the loss nor its gradient depends on which way the axes point.
"""

import difflib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from weather_scnn.catalogue.field_names import field_label, split_levels
from weather_scnn.errors import UserError
from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import Grid
from weather_scnn.sphere.products import EXACT
from weather_scnn.training.channels import Channels
from weather_scnn.training.configuration import LossConfig
from weather_scnn.training.correctors import Moments
from weather_scnn.training.forcings import Forcings
from weather_scnn.training.losses import Loss, SquaredError, by_channel, make_loss
from weather_scnn.training.normalisation import Normalisation


class Scales(NamedTuple):
    """Constants of the state's channels on the device.

    Attributes:
        scalar_ratio, wind_ratio: standard deviation of the increments over that of the states, (c,) and (d,).
        statics: standardised static fields, (y, x, s).
        area: cell-area weights of mean 1, (y,).
        channel: loss weights of scalars then winds, of mean 1 over those in the loss where a wind counts twice, and 0
            for the others, (c + d,).
        forcings: makes their fields.
        missing: which channels may be missing (NaN) over part of the globe; None where none may, (c + d,).
        loss: how forecasts are held against the truth.
        moments: of the channels, for correctors, which work on physical values.
        error_deviations: of the coefficients of each degree of an error as large as an increment, see `error_spectrum`; None
            where the training adds none.
    """

    scalar_ratio: Float[Array, " c"]
    wind_ratio: Float[Array, " d"]
    statics: Float[Array, "y x s"]
    area: Float[Array, " y"]
    channel: Float[Array, " channel"]
    forcings: Forcings
    missing: Bool[Array, " channel"] | None = None
    loss: Loss = SquaredError()
    moments: Moments | None = None
    error_deviations: Float[Array, "l kind"] | None = None

    @property
    def ratio(self) -> Fields:
        """Ratios by kind of field."""
        return Fields(self.scalar_ratio, self.wind_ratio, self.wind_ratio)

    def gaps(self, fields: Fields) -> Fields | None:
        """Where channels that may be missing are NaN; None where none may, so that nothing is looked for."""
        if self.missing is None:
            return None
        scalars, winds = self.missing[: self.scalar_ratio.size], self.missing[self.scalar_ratio.size :]
        return map_fields(lambda array, may: jnp.isnan(array) & may, fields, Fields(scalars, winds, winds))


def filled(fields: Fields, gaps: Fields | None) -> Fields:
    """Zeros, the mean of standardised fields, where values are missing."""
    return fields if gaps is None else map_fields(lambda gap, array: jnp.where(gap, 0.0, array), gaps, fields)


def channel_weights(channels: Channels, loss: LossConfig) -> Float[np.ndarray, " channel"]:
    """Weights of scalars, then winds: pressure of the level × that of the variable, 0 for what is no target.

    They are of mean 1 over the components of the targets.

    Raises:
        UserError: a weight or a target is for a field that is not there, or a weight is not positive.
    """
    names = [name for name, _ in channels.scalars] + [name for name, _, _ in channels.winds]
    levels = [level for _, level in channels.scalars] + [level for _, _, level in channels.winds]
    asked: dict[str, float] = {}
    for entry in loss.variable_weights:
        name = next((one for one, other, _ in channels.winds if other == entry.name), entry.name)
        if name not in names:
            near = difflib.get_close_matches(entry.name, names, n=1, cutoff=0.0)[0]
            raise UserError(
                f"loss.variable_weights names {entry.name}, which is not in the state", remedy=f"did you mean {near}?"
            )
        if asked.get(name, entry.weight) != entry.weight:
            raise UserError(
                f"loss.variable_weights gives the components of one wind, {name}, two weights",
                remedy="give one of the components a weight, or both the same",
            )
        asked[name] = entry.weight
    targets = _targets(channels, loss)
    mean = np.mean(channels.levels) if channels.levels else 1.0
    weights = np.array(
        [
            asked.get(name, 1.0) * (level / mean if loss.pressure_weights and level is not None else 1.0)
            for name, level in zip(names, levels)
        ]
    )
    components = component_counts(len(channels.scalars), len(channels.winds))
    bad = ~(np.isfinite(weights) & (weights > 0))
    if bad.any():
        at_fault = channels.describe()[int(np.argmax(bad))]
        raise UserError(
            f"the loss weight of {at_fault} is {weights[bad][0]:g}; weights must be positive",
            remedy="correct loss.variable_weights and data.levels",
        )
    weights = np.where(targets, weights, 0.0)
    return weights * components[targets].sum() / (weights * components).sum()


def _targets(channels: Channels, loss: LossConfig) -> Bool[np.ndarray, " channel"]:
    """Which channels count."""
    fields = [({name}, level) for name, level in channels.scalars]
    fields += [({one, other}, level) for one, other, level in channels.winds]
    if not loss.targets:
        return np.ones(len(fields), bool)
    found = np.zeros(len(fields), bool)
    known = sorted({field_label(name, level) for names, level in fields for name in names})
    for text in loss.targets:
        name, levels = split_levels(text, "loss.targets")
        for level in levels or (None,):
            these = [name in names and (level is None or level == own) for names, own in fields]
            if not any(these):
                wanted = field_label(name, level)
                near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.0)[0]
                raise UserError(
                    f"loss.targets names {wanted}, which is not in the state", remedy=f"did you mean {near}?"
                )
            found |= these
    for entry in loss.variable_weights:
        if not any(entry.name in names for (names, _), one in zip(fields, found) if one):
            raise UserError(
                f"loss.variable_weights names {entry.name}, which is not among loss.targets",
                remedy="add it to loss.targets, or leave its weight out",
            )
    return found


def checked_area(grid: Grid) -> Float[np.ndarray, " y"]:
    """Area weights of the rows.

    Raises:
        UserError: one is not positive, or their mean is not 1; the latitude is named.
    """
    area = grid.area_weights
    bad = ~(np.isfinite(area) & (area > 0))
    if bad.any():
        raise UserError(
            f"the area weight of the row at latitude {grid.latitude[bad][0]:g} is {area[bad][0]:g}; weights must be "
            "positive",
            where=f"grid {grid.name}",
            remedy="check that latitudes are in degrees, strictly increasing and within -90 to 90",
        )
    if not np.isclose(area.mean(), 1.0, rtol=1e-6):
        raise UserError(
            f"the area weights have mean {area.mean():g}, not 1",
            where=f"grid {grid.name}",
            remedy="check the grid's latitudes",
        )
    return area


def make_scales(
    channels: Channels,
    normalisation: Normalisation,
    statics: np.ndarray,
    grid: Grid,
    *,
    loss: LossConfig | None = None,
    amplitudes: Float[np.ndarray, "l channel"] | None = None,
    errors: bool = False,
) -> Scales:
    """Constants of the rollout, with the loss weights checked; `loss` None leaves out what only training needs.

    `amplitudes` are those of the increments per degree, which `loss.whitening` asks for, and `errors` on input states.

    Raises:
        UserError: a weight is not positive; its cause is named.
    """
    weights = channel_weights(channels, loss or LossConfig())
    missing = None
    if channels.masked:
        named = [{name} for name, _ in channels.scalars] + [{one, other} for one, other, _ in channels.winds]
        missing = jnp.asarray([bool(names & set(channels.masked)) for names in named])

    def single(values: np.ndarray) -> Array:
        return jnp.asarray(values, jnp.float32)

    return Scales(
        single(normalisation.scalar_ratio),
        single(normalisation.wind_ratio),
        single(statics),
        single(checked_area(grid)),
        single(weights),
        Forcings.on(grid, channels),
        missing,
        SquaredError() if loss is None else make_loss(grid, loss, amplitudes),
        Moments.of(normalisation),
        single(error_spectrum(amplitudes, normalisation)) if errors and amplitudes is not None else None,
    )


def error_spectrum(
    amplitudes: Float[np.ndarray, "l channel"], normalisation: Normalisation
) -> Float[np.ndarray, "l kind"]:
    """Standard deviations per coefficient of errors of the standardised states, of scalars, then E, then B of winds.

    They fall with the degree as those of the increments do, but do not fall towards the largest scales, which hardly change by
    themselves within a step; so that all scales are seen off where they ought to be. At a point their variance is that of the increments.

    Args:
        amplitudes: of the increments per degree, in units of their deviation.
        normalisation: moments of the channels.
    """
    degrees = np.arange(amplitudes.shape[0])[:, None]
    each = np.square(amplitudes) / (2.0 * degrees + 1.0)
    each = np.maximum.accumulate(each[::-1])[::-1]
    scalars = normalisation.scalar_ratio.size
    each = np.concatenate([each, each[:, scalars:]], axis=1)
    each[0, scalars:] = 0.0
    # A channel that never changes has no errors.
    variance = np.sum((2.0 * degrees + 1.0) * each, axis=0) / (4.0 * np.pi)
    each /= np.where(variance > 0, variance, 1.0)
    ratio = np.concatenate([normalisation.scalar_ratio, normalisation.wind_ratio, normalisation.wind_ratio])
    return ratio * np.sqrt(each)


def step_errors(
    predicted: Fields, target: Fields, scales: Scales, *, axis: str | tuple[str, ...] | None = None
) -> Float[Array, " channel"]:
    """Mean error per channel in units of the increments, see `losses`; squared errors in those of their variance.

    Missing values of the target count neither in the error nor in the mean; they are replaced before any arithmetic,
    since a NaN that is multiplied by 0 later still makes the gradient NaN. In all members they are replaced alike, so
    that these do not differ there.

    Args:
        predicted: standardised states, (b, y, x, c), or with members (b, m, y, x, c).
        target: the truth, (b, y, x, c).
        scales: constants of the channels.
        axis: inside `shard_map`, the axes that divide batch and members; the mean is over the whole of them.
    """
    gaps, lost = scales.gaps(target), scales.gaps(predicted)
    members = predicted.scalar.ndim == 5
    if gaps is not None and lost is not None:
        # What was missing at the start stays so in the forecast, even where the target has it.
        gaps = map_fields(jnp.logical_or, gaps, map_fields(lambda gap: gap[:, 0], lost) if members else lost)
        everywhere = map_fields(lambda gap: gap[:, None], gaps) if members else gaps
        target, predicted = filled(target, gaps), filled(predicted, everywhere)
    mean = scales.loss(predicted, target, scales)
    if axis is not None:
        mean = jax.lax.pmean(mean, axis)
    if gaps is None:
        return mean
    present = by_channel(map_fields(lambda gap: 1.0 - gap, gaps))
    share = jnp.einsum("byxc,y->c", present, scales.area, precision=EXACT) / np.prod(present.shape[:3])
    if axis is not None:
        share = jax.lax.pmean(share, axis)
    return mean / jnp.maximum(share, 1e-6)


def component_counts(scalars: int, vectors: int) -> Float[np.ndarray, " channel"]:
    """1 for a scalar, 2 for a wind."""
    return np.array([1.0] * scalars + [2.0] * vectors)


def step_weights(loss: LossConfig, steps: int, backprop_steps: int = 0) -> Float[np.ndarray, " k"]:
    """Weights of mean 1 of the steps of a rollout; zero for those that `backprop_steps` keeps out of the gradient."""
    given = list(loss.step_weights or (1.0,))
    weights = np.array((given + [given[-1]] * steps)[:steps])
    if loss.last_step_only:
        weights[:-1] = 0.0
    if backprop_steps:
        weights[: max(steps - backprop_steps, 0)] = 0.0
    return weights * steps / weights.sum()


def weighted_loss(
    errors: Float[Array, "k channel"], scales: Scales, vectors: int, weights: Float[np.ndarray, " k"] | None = None
) -> Float[Array, ""]:
    """Mean over steps and components of the weighted errors.

    Args:
        errors: from `step_errors`, a row a step.
        scales: constants of the channels.
        vectors: how many of the channels are winds.
        weights: of the steps, see `step_weights`; default 1.
    """
    count = component_counts(errors.shape[-1] - vectors, vectors)
    shares = scales.channel * count
    by_step = jnp.matmul(errors, shares / shares.sum(), precision=EXACT)
    return jnp.mean(by_step if weights is None else by_step * jnp.asarray(weights, by_step.dtype))
