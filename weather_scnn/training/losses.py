"""The losses: squared errors on the grid or per degree, the adjusted squared error, and scores of ensembles.

They are four small things of one kind: (forecast, truth, constants) → error per channel, in units of the increments. Their
results are means over what this device holds, so that means over devices make those of the whole batch.
"""

import dataclasses
import functools
import typing
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import Grid, HarmonicTransform
from weather_scnn.sphere.products import EXACT
from weather_scnn.training.configuration import LossConfig

# Power below which a degree counts as empty, where variances of increments are 1: in the adjusted loss, and in norms, whose
# gradient there would be the direction of rounding errors.
_FLOOR = 1e-6
_EMPTY = 1e-12
# The length of a vector of two independent normal numbers over the absolute value of one, in the mean.
_LENGTH = 0.5 * np.pi


@runtime_checkable
class Constants(Protocol):
    """What a loss reads of `Scales`."""

    @property
    def area(self) -> Any:
        """Weights of the rows, (y,)."""

    @property
    def ratio(self) -> Fields:
        """Standard deviation of the increments over that of the states."""


@runtime_checkable
class Loss(Protocol):
    """Of standardised states, without missing values: (b, y, x, c), a forecast's with (b, m, y, x, c) where it has members."""

    def __call__(self, predicted: Fields, target: Fields, constants: Constants) -> Float[Array, " channel"]:
        """Mean error per channel; that of a wind is on the scale of one of its components."""
        ...


def _relative(predicted: Fields, target: Fields, constants: Constants) -> Fields:
    return map_fields(lambda one, other, ratio: (one - other) / ratio, predicted, target, constants.ratio)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SquaredError:
    """The squared error, a mean over the area; a wind's components are averaged."""

    def __call__(self, predicted: Fields, target: Fields, constants: Constants) -> Float[Array, " channel"]:
        """See `Loss`."""
        error = _relative(predicted, target, constants)
        squared = by_channel(map_fields(jnp.square, error))
        return jnp.einsum("byxc,y->c", squared, constants.area, precision=EXACT) / np.prod(squared.shape[:3])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpectralError:
    """The squared error as a sum over degrees, Σ_l w_l D_l / 4π with D_l the power of the error.

    Attributes:
        transform: to the largest degree that the state's grid resolves.
        degree_weights: w, of mean 1, (l, 1) or (l, c + d).
    """

    transform: HarmonicTransform
    degree_weights: Any

    def __call__(self, predicted: Fields, target: Fields, constants: Constants) -> Float[Array, " channel"]:
        """See `Loss`."""
        error = _relative(predicted, target, constants)
        power = self._power(error, map_fields(jnp.divide, predicted, constants.ratio))
        weights = jnp.broadcast_to(self.degree_weights, power.shape[1:])
        return jnp.einsum("blc,lc->c", power, weights, precision=EXACT) / (4.0 * np.pi * power.shape[0])

    def _power(self, error: Fields, predicted: Fields) -> Float[Array, "b l channel"]:
        del predicted
        wrong = spectra(self.transform, error)
        return product_by_degree(wrong, wrong)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdjustedError(SpectralError):
    """The adjusted squared error (Subich et al. 2025, Fixing the double penalty in data-driven weather forecasting through a
    modified spherical harmonic loss function).

    With A and B the powers of forecast and truth and coh their coherence, a degree has (√A − √B)² + 2 max(A, B) (1 − coh)
    in place of D: what a forecast gains in the squared error by being too smooth, it loses there. It is computed from D
    and A − B, which do not cancel: e = g + √(max/min) (D − g), g = (√A − √B)². Degree 0 has one coefficient, whose coherence is
    1 or −1: a mean of the wrong sign would be drawn to the truth's size, away from the truth. Its error is D.
    """

    def _power(self, error: Fields, predicted: Fields) -> Float[Array, "b l channel"]:
        wrong = spectra(self.transform, error)
        power = product_by_degree(wrong, wrong)
        forecast = spectra(self.transform, predicted)
        truth = jax.tree.map(jnp.subtract, forecast, wrong)
        one = product_by_degree(forecast, forecast) + _FLOOR
        other = product_by_degree(truth, truth) + _FLOOR
        difference = product_by_degree(wrong, jax.tree.map(jnp.add, forecast, truth))
        roots = jnp.square(difference / (jnp.sqrt(one) + jnp.sqrt(other)))
        ratio = jnp.sqrt(jnp.maximum(one, other) / jnp.minimum(one, other))
        adjusted = roots + ratio * jnp.maximum(power - roots, 0.0)
        return jnp.concatenate([power[:, :1], adjusted[:, 1:]], axis=1)


class _Seen(typing.NamedTuple):
    """A state as the score sees it: fields in units of the increments and, where they count, their spectra."""

    fields: Fields
    spectra: list[list[Array]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EnsembleScore:
    """The almost fair continuous ranked probability score (Lang et al. 2024, AIFS-CRPS), invariant under rotations.

    With M members x_r, the truth y and a distance d it is

        (1/M) Σ_r d(x_r, y) − (1 − ε)/(2 M (M − 1)) Σ_{r≠j} d(x_r, x_j),   ε = (1 − α)/M.

    α = 1 is the fair score, α = 0 the plain one; fair alone would not see one member anywhere if the others are right.
    The distance is the absolute difference at a point, of a wind the length of its difference (the energy score of
    Gneiting and Raftery 2007), and `spectral_weight` times that of the coefficients, degree by degree: Σ_l w_l ‖X_l‖,
    with ‖X_l‖ over the orders, m > 0 twice, and over E and B of a wind together. Errors of all members are about one target
    in one unit, so that no member can gain distance from the others by its own past.

    The others pass by each member one after the other, those of other devices along `axis` in a ring, so that no device
    ever holds the ensemble. The gradient is found on the way, and nothing is sent for it.

    Attributes:
        alpha: α, an array without axes.
        transform: to the largest degree that the state's grid resolves; None without a spectral term.
        degree_weights: w, (l, 1) or (l, c + d), such that errors spread evenly over the degrees count as much as on the grid.
        spectral_weight: of the second distance.
        components: score the components of winds by themselves, which depends on the axes; to compare with.
        axis: name of the mesh axis that divides the members, inside `shard_map`.
    """

    alpha: Any
    transform: HarmonicTransform | None
    degree_weights: Any
    spectral_weight: float = dataclasses.field(metadata={"static": True})
    components: bool = dataclasses.field(default=False, metadata={"static": True})
    axis: str | None = dataclasses.field(default=None, metadata={"static": True})

    def __call__(self, predicted: Fields, target: Fields, constants: Constants) -> Float[Array, " channel"]:
        """See `Loss`; the members of the forecast are its second axis."""
        area = constants.area
        members = self._seen(predicted, constants)
        truth = self._seen(map_fields(lambda array: array[:, None], target), constants)
        mean = self.distance(members, truth, area)
        here = predicted.scalar.shape[1]
        count = here * (1 if self.axis is None else jax.lax.axis_size(self.axis))
        between = _distances_between(self.axis, self, area, members)
        factor = (1.0 - (1.0 - self.alpha) / count) / (2.0 * (count - 1))
        return mean - factor * between

    def _seen(self, fields: Fields, constants: Constants) -> _Seen:
        relative = map_fields(jnp.divide, fields, constants.ratio)
        return _Seen(relative, [] if self.transform is None else spectra(self.transform, relative))

    def distance(self, one: _Seen, other: _Seen, area: Array) -> Float[Array, " channel"]:
        """Mean over samples and members."""
        difference = map_fields(jnp.subtract, one.fields, other.fields)
        sizes = [jnp.abs(difference.scalar)]
        if self.components:
            sizes.append(0.5 * (jnp.abs(difference.eastward) + jnp.abs(difference.northward)))
        else:
            squares = jnp.square(difference.eastward) + jnp.square(difference.northward)
            sizes.append(_root(squares) / _LENGTH)
        size = jnp.concatenate(sizes, axis=-1)
        found = jnp.einsum("bmyxc,y->c", size, area, precision=EXACT) / np.prod(size.shape[:4])
        if self.transform is not None:
            wrong = jax.tree.map(jnp.subtract, one.spectra, other.spectra)
            norms = _root(product_by_degree(wrong, wrong) / (4.0 * np.pi))
            total = jnp.einsum(
                "bmlc,lc->c", norms, jnp.broadcast_to(self.degree_weights, norms.shape[2:]), precision=EXACT
            )
            found = found + self.spectral_weight * total / (norms.shape[0] * norms.shape[1])
        return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _distances_between(axis: str | None, score: EnsembleScore, area: Array, members: _Seen) -> Float[Array, " channel"]:
    """Mean over the members here of Σ_j d(x_r, x_j) over all others.

    Args:
        axis: mesh axis that divides the members.
        score: has the distance.
        area: weights of the rows.
        members: those of this device, along the second axis.
    """
    return _forward(axis, score, area, members)[0]


def _forward(axis: str | None, score: EnsembleScore, area: Array, members: _Seen) -> tuple[Array, _Seen]:
    here = members.fields.scalar.shape[1]

    def one(carry: Any, shift: Array) -> tuple[Any, None]:
        total, slope, passing = carry
        others = jax.tree.map(lambda array: jnp.take(array, (jnp.arange(here) + shift) % here, axis=1), passing)
        found, pull = jax.vjp(lambda own: score.distance(own, others, area), members)
        # Each channel's distance depends on that channel alone, so that one pass gives the gradient of all.
        (change,) = pull(jnp.ones_like(found))
        return (total + found, jax.tree.map(jnp.add, slope, change), passing), None

    # Zeros made of the members differ from device to device, for `shard_map`, where those do.
    slope = jax.tree.map(lambda array: jnp.where(False, array, jnp.zeros_like(array)), members)
    scalar, wind = members.fields.scalar, members.fields.eastward
    first = jnp.where(False, scalar.sum(), jnp.zeros(scalar.shape[-1] + wind.shape[-1], scalar.dtype))
    carry = first, slope, members
    if here > 1:
        carry, _ = jax.lax.scan(one, carry, jnp.arange(1, here))
    if axis is not None:
        devices = jax.lax.axis_size(axis)
        ring = [(place, (place + 1) % devices) for place in range(devices)]

        def hop(carry: Any, _: None) -> tuple[Any, None]:
            total, slope, passing = carry
            passing = jax.tree.map(lambda array: jax.lax.ppermute(array, axis, ring), passing)
            return jax.lax.scan(one, (total, slope, passing), jnp.arange(here))[0], None

        carry, _ = jax.lax.scan(hop, carry, None, length=devices - 1)
    return carry[0], carry[1]


def _backward(axis: str | None, slope: _Seen, cotangent: Float[Array, " channel"]) -> tuple[None, None, _Seen]:
    # Each pair is seen from both of its members, and from each the other is a constant: twice the slope seen from here.
    del axis
    scalars = slope.fields.scalar.shape[-1]
    scalar, wind = 2.0 * cotangent[:scalars], 2.0 * cotangent[scalars:]
    fields = Fields(*(array * part for array, part in zip(slope.fields, (scalar, wind, wind))))
    kinds = [part for part in (scalar, wind) if part.size]
    found = [[array * part for array in kind] for kind, part in zip(slope.spectra, kinds)]
    return None, None, _Seen(fields, found)


_distances_between.defvjp(_forward, _backward)


def _root(squares: Array) -> Array:
    """√, with a gradient of zero at zero, where members coincide."""
    there = squares > _EMPTY
    return jnp.where(there, jnp.sqrt(jnp.where(there, squares, 1.0)), 0.0)


def spectra(transform: HarmonicTransform, fields: Fields) -> list[list[Array]]:
    """Spectra of the scalars, then the two of the winds; without those of which there are none."""
    found = []
    if fields.scalar.shape[-1]:
        found.append([transform.analysis(fields.scalar)])
    if fields.eastward.shape[-1]:
        found.append(list(transform.analysis_vector(fields.eastward, fields.northward)))
    return found


def product_by_degree(one: list[list[Array]], other: list[list[Array]]) -> Float[Array, "*b l channel"]:
    """Products per degree, summed over m, m > 0 twice; a wind's is half that of its spectra, as for components."""

    def product(left: Array, right: Array) -> Array:
        doubled = jnp.where(jnp.arange(left.shape[-3]) > 0, 2.0, 1.0)
        return jnp.einsum("...lmrc,m->...lc", left * right, doubled, precision=EXACT)

    parts = [sum(product(*pair) for pair in zip(*kinds)) / len(kinds[0]) for kinds in zip(one, other)]
    return jnp.concatenate(parts, axis=-1)


def by_channel(fields: Fields) -> Any:
    """Scalars, then the mean of the winds' components."""
    return jnp.concatenate([fields.scalar, 0.5 * (fields.eastward + fields.northward)], axis=-1)


def of_ensemble(loss: Loss, **changes: Any) -> Loss:
    """The score of an ensemble with another α, or over a mesh axis."""
    assert isinstance(loss, EnsembleScore)
    return dataclasses.replace(loss, **changes)


def make_loss(grid: Grid, config: LossConfig, amplitudes: Float[np.ndarray, "l channel"] | None = None) -> Loss:
    """The loss of a configuration.

    Args:
        grid: of the states.
        config: kind of loss and its options.
        amplitudes: of the increments per degree, for `loss.whitening`.
    """
    if config.kind == "grid":
        return SquaredError()
    degree = min(grid.maximum_degree, grid.maximum_order)
    weights = (np.arange(degree + 1) + 1.0)[:, None] ** config.degree_exponent
    if config.whitening and amplitudes is not None:
        # Floored at 2 % of their mean: of empty degrees only rounding errors would be heard.
        floored = np.maximum(amplitudes, 0.02 * amplitudes.mean(axis=0))
        # The score is of amplitudes, the others are of their squares.
        weights = weights * floored ** (-config.whitening * (1 if config.kind == "crps" else 2))
    weights = weights / weights.mean(axis=0)
    if config.kind == "crps":
        even = jnp.asarray(weights / np.sqrt(degree + 1.0), jnp.float32)
        transform = HarmonicTransform.create(grid, degree) if config.spectral_weight else None
        return EnsembleScore(
            jnp.asarray(config.alpha, jnp.float32),
            transform,
            even,
            config.spectral_weight,
            config.winds == "components",
        )
    kind = AdjustedError if config.kind == "adjusted" else SpectralError
    return kind(HarmonicTransform.create(grid, degree), jnp.asarray(weights, jnp.float32))
