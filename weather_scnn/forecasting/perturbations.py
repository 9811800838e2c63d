"""Perturbations of initial states: random fields with the spectrum of increments, and bred vectors.

Both are measured in standard deviations of the state's increment over one step: at amplitude 0.2 every channel is
perturbed by about a fifth of what it changes in a step, the order of the error of an analysis. Member and initial
time decide the random numbers, so that a forecast that is resumed, or split over machines, draws the same.
"""

import dataclasses
import logging
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from weather_scnn.catalogue.naming import lookup
from weather_scnn.errors import UserError
from weather_scnn.forecasting.propagation import propagate, read_states, usable_states
from weather_scnn.nn import Fields, map_fields
from weather_scnn.sphere import HarmonicTransform
from weather_scnn.sphere.products import EXACT
from weather_scnn.training.chance import Chance
from weather_scnn.training.forcings import phases
from weather_scnn.training.loss import Scales
from weather_scnn.training.rollout import Parts
from weather_scnn.training.states import StateReader

_logger = logging.getLogger(__name__)

Kind = Literal["increments", "bred", "none"]
KINDS: tuple[Kind, ...] = ("increments", "bred", "none")

_SAMPLES = 64
# Toth and Kalnay (1997): bred vectors take the shape of the growing errors within a day or two.
BREEDING = np.timedelta64(48, "h")


def _spectra(transform: HarmonicTransform, fields: Fields) -> Float[Array, "b l m 2 C"]:
    """Spectra of scalars, divergent and rotational winds; gaps count as the mean, 0."""
    scalar, eastward, northward = (jnp.nan_to_num(jnp.asarray(array)) for array in fields)
    parts = [transform.analysis(scalar)] if scalar.shape[-1] else []
    parts += list(transform.analysis_vector(eastward, northward)) if eastward.shape[-1] else []
    return jnp.concatenate(parts, axis=-1)


@jax.jit
def _fields(transform: HarmonicTransform, spectrum: Float[Array, "b l m 2 C"], like: Fields) -> Fields:
    """Fields of spectra; `like` (…, c) has the numbers of channels."""
    scalars, winds = like.scalar.shape[-1], like.eastward.shape[-1]
    empty = jnp.zeros((spectrum.shape[0], *transform.grid.shape, 0), spectrum.dtype)
    scalar = transform.synthesis(spectrum[..., :scalars]) if scalars else empty
    if not winds:
        return Fields(scalar, empty, empty)
    split = scalars + winds
    return Fields(scalar, *transform.synthesis_vector(spectrum[..., scalars:split], spectrum[..., split:]))


@dataclasses.dataclass(frozen=True)
class IncrementPerturbations:
    """Gaussian random fields, isotropic, whose covariance between channels per degree is that of one-step increments.

    The covariance keeps what isotropy allows of the balance between the fields, such as that of geopotential on
    neighbouring levels. Degree 0 is left out: global means are not perturbed.

    Attributes:
        transform: of the state's grid.
        roots: square roots of the covariances per degree, (l, C, C), channels scalar, divergent, rotational.
        like: one state, for the numbers of channels.
        amplitude: in standard deviations of the increments.
        seed: of all random numbers.
    """

    transform: HarmonicTransform
    roots: Float[np.ndarray, "l C C"]
    like: Fields
    amplitude: float
    seed: int

    @classmethod
    def estimate(
        cls, reader: StateReader, step: np.timedelta64, *, amplitude: float, seed: int, allow_implausible: bool = False
    ) -> "IncrementPerturbations":
        """Takes the covariances from up to 64 increments spread evenly over the store.

        Increments of states that are missing or not plausible are left out.

        Raises:
            UserError: no two states of the store lie a step apart, or none of them can be used.
        """
        times = reader.times
        later = np.flatnonzero(np.isin(times, times + step))
        if not later.size:
            hours = step / np.timedelta64(1, "h")
            raise UserError(
                f"no two states of the store lie {hours:g} h apart, so its increments are not known",
                remedy="give a store with more times, or forecast without --members",
            )
        later = later[np.unique(np.linspace(0, later.size - 1, min(later.size, _SAMPLES)).round().astype(int))]
        earlier = np.searchsorted(times, times[later] - step)
        transform = HarmonicTransform.create(reader.grid, vectors=bool(reader.channels.winds))
        total: np.ndarray | float = 0.0
        pairs, used, like = np.stack([earlier, later], axis=-1), 0, None
        for first in range(0, later.size, 8):
            states, good = usable_states(reader, pairs[first : first + 8], allow_implausible=allow_implausible)
            if not good.any():
                continue
            used, like = used + int(good.sum()), map_fields(lambda array: array[:1, 0], states)
            spectrum = np.asarray(_spectra(transform, map_fields(lambda array: array[:, 1] - array[:, 0], states)))
            weight = np.where(np.arange(spectrum.shape[2]) > 0, 2.0, 1.0)
            values = spectrum.astype(np.float64)
            total = total + np.einsum("nlmrc,nlmrd,m->lcd", values, values, weight, optimize=True)
        if like is None:
            raise UserError(
                "no increment of the store is whole and plausible",
                where=reader.path,
                remedy="see what weather-scnn check finds in it, or forecast without --members",
            )
        if used < later.size:
            _logger.warning("%s: %d of %d increments cannot be used", reader.path, later.size - used, later.size)
        degrees = np.arange(transform.max_degree + 1)
        count = used * (2 * np.minimum(degrees, transform.max_order) + 1)
        power, axes = np.linalg.eigh(np.asarray(total) / count[:, None, None])
        roots = axes * np.sqrt(np.maximum(power, 0.0))[:, None, :]
        roots[0] = 0.0
        return cls(transform, roots, like, amplitude, seed)

    def draw(self, starts: np.ndarray, members: np.ndarray) -> Fields:
        """Perturbations of standardised states for initial times and members, each (b,), as (b, y, x, c)."""
        return _fields(self.transform, jnp.asarray(self.spectra(starts, members)), self.like)

    def spectra(self, starts: np.ndarray, members: np.ndarray) -> Float[np.ndarray, "b l m 2 C"]:
        """Spectra of `draw`."""
        degrees, channels = self.roots.shape[:2]
        orders = self.transform.max_order + 1
        # m = 0 is real; for m > 0 real and imaginary part have half the variance each, and count twice in the power.
        spread = np.full((orders, 2), np.sqrt(0.5))
        spread[0] = 1.0, 0.0
        inside = np.arange(orders) <= np.arange(degrees)[:, None]
        hours = starts.astype("datetime64[h]").astype(np.int64)
        drawn = np.empty((len(starts), degrees, orders, 2, channels), np.float32)
        for index, (hour, member) in enumerate(zip(hours, members)):
            generator = np.random.default_rng([self.seed, int(member), int(hour) % 2**63])
            noise = generator.standard_normal((degrees, orders, 2, channels)) * spread[..., None]
            drawn[index] = np.einsum("lmrk,lck->lmrc", noise * inside[..., None, None], self.roots)
        return self.amplitude * drawn


@jax.jit
def _rescaled(old: Fields, new: Fields, scales: Scales, amplitude: Array) -> Fields:
    """Perturbations of a history, (b, t, y, x, c), moved on by one step to end in `new`, scaled to the amplitude."""
    moved = map_fields(lambda past, last: jnp.concatenate([past[:, 1:], last[:, None]], axis=1), old, new)
    size = amplitude / _size(new, scales)
    return map_fields(lambda array: array * size[:, None, None, None, None], moved)


def _size(perturbation: Fields, scales: Scales) -> Float[Array, " b"]:
    """Root of the mean over the sphere and all channels of the square, in standard deviations of the increments."""
    relative = map_fields(lambda array, ratio: jnp.nan_to_num(array) / ratio, perturbation, scales.ratio)
    joined = jnp.concatenate(list(relative), axis=-1)
    return jnp.sqrt(jnp.einsum("byxc,y->b", jnp.square(joined), scales.area, precision=EXACT) / joined[0].size)


@dataclasses.dataclass(frozen=True)
class BredPerturbations:
    """Bred vectors (Toth and Kalnay 1993): differences between two forecasts, kept small, that the flow has shaped.

    Two days before the initial time a random perturbation is put on the state. Forecasts with and without it run a
    step; their difference is scaled back and put on the next state, and so on until the initial time.

    Attributes:
        reader: the store with the states before the initial times.
        parts: the forecaster.
        scales: constants of the channels.
        step: of the forecaster.
        inputs: number of input times.
        first: what the breeding starts from.
    """

    reader: StateReader
    parts: Parts
    scales: Scales
    step: np.timedelta64
    inputs: int
    first: IncrementPerturbations

    @property
    def cycles(self) -> int:
        """Steps of the breeding."""
        return max(1, int(BREEDING // self.step))

    def times_and_rows(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Times of the states before each initial time that breeding runs over, and their rows, (init, cycle).

        Raises:
            UserError: one is missing.
        """
        known = self.reader.times
        times = starts[:, None] + self.step * np.arange(-self.cycles - self.inputs + 1, 0)
        rows = np.minimum(np.searchsorted(known, times), known.size - 1)
        absent = (known[rows] != times).any(axis=1)
        if absent.any():
            raise UserError(
                f"bred vectors need the states of the {BREEDING / np.timedelta64(1, 'h'):g} h before "
                f"{starts[absent][0].astype('datetime64[h]')}, and one is missing",
                remedy="begin later, or choose --perturbation increments",
            )
        return times, rows

    def draw(self, starts: np.ndarray, members: np.ndarray) -> Fields:
        """Perturbations of the standardised history for initial times and members, each (b,), as (b, t, y, x, c)."""
        times, rows = self.times_and_rows(starts)
        states = read_states(self.reader, rows, allow_implausible=True)  # they have been judged
        random = self.first.draw(starts, members)
        perturbation = map_fields(lambda array: jnp.repeat(array[:, None], self.inputs, axis=1), random)
        amplitude = jnp.asarray(self.first.amplitude, jnp.float32)
        for cycle in range(self.cycles):
            window = slice(cycle, cycle + self.inputs)
            control = map_fields(lambda array: jnp.asarray(array[:, window]), states)  # noqa: B023
            pair = times[:, cycle + self.inputs - 1, None] + self.step * np.arange(2)
            forcing = jnp.asarray(phases(pair))
            chance = Chance.begin(self.parts, self.first.seed, pair[:, 0], members)
            both = [
                propagate(self.parts, history, self.scales, forcing, chance, leads=1)[2]  # one noise for both
                for history in (control, map_fields(jnp.add, control, perturbation))
            ]
            grown = map_fields(lambda one, other: other[0] - one[0], *both)
            perturbation = _rescaled(perturbation, grown, self.scales, amplitude)
        return perturbation


def perturb(history: Fields, perturbation: Fields, zero: Float[np.ndarray, " c"]) -> Fields:
    """The perturbed history, (b, t, y, x, c).

    Args:
        history: standardised states.
        perturbation: of one state (b, y, x, c), put on every input time, or of the history (b, t, y, x, c).
        zero: standardised lower bound of each scalar; -inf where there is none.
    """
    if perturbation.scalar.ndim == 4:
        perturbation = map_fields(lambda array: array[:, None], perturbation)
    changed = map_fields(jnp.add, history, perturbation)
    return changed._replace(scalar=jnp.maximum(changed.scalar, jnp.minimum(history.scalar, zero)))


def lower_bounds(reader: StateReader) -> Float[np.ndarray, " c"]:
    """Zero in standardised units for scalars that cannot be negative, -inf for the others."""
    moments = reader.normalisation
    bounds = -moments.scalar_mean / moments.scalar_std
    return np.array(
        [
            bound if (known := lookup(name)) is not None and known.never_negative else -np.inf
            for bound, (name, _) in zip(bounds, reader.channels.scalars)
        ],
        np.float32,
    )
