"""Chance inside the network, in the two forms that commute with rotations.

A vector of normal numbers belongs to no place, so that it may scale every channel and shift those of spin 0. Random fields
are isotropic by their law: coefficients of one degree have one variance, whatever their order, and those of winds are drawn
as E and B. They live as spectra, so that no grid takes part. Turned noise gives a turned forecast, and turned noise is as
likely as the noise was.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Integer

from weather_scnn.nn.width import Width
from weather_scnn.sphere.grid import EARTH_RADIUS
from weather_scnn.sphere.spectrum import Spectrum

_MEAN = 1.0 / math.sqrt(4.0 * math.pi)  # mean over the sphere of a field with a_00 = 1


class Noise(NamedTuple):
    """What one forecast step is given of chance.

    Attributes:
        vector: normal numbers, (b, n).
        fields: spectra of random fields: scalars, then E, then B of winds, (b, l, m, 2, C); None without.
    """

    vector: Float[Array, "b n"]
    fields: Float[Array, "b l m 2 C"] | None


def noise_keys(key: Array, samples: Integer[Array, " b"], members: Integer[Array, " m"]) -> Array:
    """A key for every sample and member, (b · m,), members of a sample side by side.

    Args:
        key: of the run.
        samples: what tells samples apart, such as the initial time.
        members: numbers of the members.
    """

    def one(sample: Array, member: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, sample), member)

    return jax.vmap(lambda sample: jax.vmap(lambda member: one(sample, member))(members))(samples).reshape(-1)


def degree_variances(length: float, lowest: int, highest: int) -> Float[np.ndarray, " l"]:
    """Variances C_l of the coefficients of a random field of pointwise variance 1, of degrees 0 … highest.

    C_l ∝ exp(−½ (L/R)² l (l + 1)), and Σ_l (2l + 1) C_l / 4π = 1 over the degrees that the field holds. For a wind it is
    that of E and of B, with which each component has variance 1.

    Args:
        length: L, metres.
        lowest: of the degrees, the spin of the field.
        highest: of the degrees.
    """
    degrees = np.arange(highest + 1.0)
    shape = np.exp(-0.5 * (length / EARTH_RADIUS) ** 2 * degrees * (degrees + 1.0)) * (degrees >= lowest)
    return shape * 4.0 * np.pi / np.sum((2.0 * degrees + 1.0) * shape)


def random_spectrum(key: Array, deviations: Float[Array, "l C"] | Float[np.ndarray, "l C"]) -> Float[Array, "l m 2 C"]:
    """Coefficients of isotropic random fields, whose degrees have these standard deviations, of any order.

    m = 0 is real; for m > 0 real and imaginary part have half the variance each, and count twice in the power.
    """
    degrees, channels = deviations.shape
    drawn = jax.random.normal(key, (degrees, degrees, 2, channels))
    share = np.full((degrees, 2), math.sqrt(0.5))
    share[0] = 1.0, 0.0
    below = jnp.arange(degrees) <= jnp.arange(degrees)[:, None]
    scale = jnp.asarray(deviations, drawn.dtype)[:, None, None]
    return drawn * jnp.asarray(share, drawn.dtype)[..., None] * below[..., None, None] * scale


class NoiseSource(nnx.Module):
    """Draws the noise of a forecast, step by step, from the keys of its members alone.

    Random fields are Ornstein–Uhlenbeck processes that start from their stationary law: η ← φ η + √(1 − φ²) ξ with
    φ = exp(−Δt/τ), so that the correlation over a time t is exp(−t/τ).

    Args:
        vector: numbers of the vector.
        fields: random scalars, and as many winds, for each length.
        lengths: metres.
        times: correlation times τ, seconds.
        step: Δt, seconds.
        max_degree: largest degree, and order, of the fields.
        winds: whether there are winds.
    """

    def __init__(
        self,
        *,
        vector: int,
        fields: int,
        lengths: tuple[float, ...],
        times: tuple[float, ...],
        step: float,
        max_degree: int,
        winds: bool = True,
    ):
        self.vector, self.max_degree = vector, max_degree
        kinds = [(length, time) for length, time in zip(lengths, times) for _ in range(fields)]
        self.width = Width(len(kinds), len(kinds) if winds else 0)
        deviations = [np.sqrt(degree_variances(length, 0, max_degree)) for length, _ in kinds]
        winds_too = [np.sqrt(degree_variances(length, 1, max_degree)) for length, _ in kinds] if winds else []
        self.deviations = nnx.static(tuple(map(tuple, deviations + 2 * winds_too)))
        self.kept = nnx.static(tuple(math.exp(-step / time) for _, time in kinds) * (3 if winds else 1))

    def stationary(self, keys: Array) -> Float[Array, "b l m 2 C"] | None:
        """Random fields before the first step; None where there are none."""
        return self._innovation(keys, 0)

    def step(self, keys: Array, number: Int[Array, ""] | int, fields: Any) -> tuple[Noise, Any]:
        """Noise of a step, and the random fields of the next.

        Args:
            keys: of the members, (b,).
            number: of the step, from 0.
            fields: from `stationary`, or of the step before.
        """
        vector = jax.vmap(lambda key: jax.random.normal(_at(key, number, 0), (self.vector,)))(keys)
        noise = Noise(vector, fields)
        new = self._innovation(keys, number + 1)
        if new is None:
            return noise, None
        kept = np.asarray(self.kept)
        return noise, jnp.asarray(kept, new.dtype) * fields + jnp.asarray(np.sqrt(1.0 - kept**2), new.dtype) * new

    def _innovation(self, keys: Array, number: Int[Array, ""] | int) -> Float[Array, "b l m 2 C"] | None:
        """Independent fields of the stationary law."""
        if not self.width.scalars:
            return None
        deviations = np.array(self.deviations).T
        return jax.vmap(lambda key: random_spectrum(_at(key, number, 1), deviations))(keys)

    def spectrum(self, fields: Float[Array, "b l m 2 C"], like: Spectrum) -> Spectrum:
        """The fields as a spectrum of the degrees, orders and layout of another."""
        found = Spectrum.of(fields, like.layout).resampled(like.max_degree, like.max_order)
        blocks = [
            # Orders divided over devices are filled up to a multiple of these.
            jnp.pad(block, [(0, more - own) for own, more in zip(block.shape[:2], wanted.shape)] + [(0, 0)] * 3)
            for block, wanted in zip(found.blocks, like.blocks)
        ]
        return dataclasses.replace(found, blocks=tuple(blocks), divided=like.divided)


def _at(key: Array, number: Int[Array, ""] | int, kind: int) -> Array:
    """The key of a step for one kind of noise."""
    return jax.random.fold_in(jax.random.fold_in(key, number), kind)


class NoiseModulation(nnx.Module):
    """x ← (1 + a(z)) x + b(z) with a and b linear in a vector of noise; b at spin 0 only, a common to E and B.

    It starts as nothing.

    Args:
        width: channels of x.
        vector: numbers of z.
    """

    def __init__(self, width: Width, vector: int):
        self.width = width
        self.kernel = nnx.Param(jnp.zeros((vector, width.channels + width.scalars)))

    def __call__(self, spectrum: Spectrum, vector: Float[Array, "b n"]) -> Spectrum:
        scalars, channels = self.width.scalars, self.width.channels
        found = jnp.matmul(vector, self.kernel[...])
        factor, shift = 1.0 + found[:, :channels], found[:, channels:]
        of_spectra = jnp.concatenate([factor, factor[:, scalars:]], axis=-1)
        offsets = jnp.pad(shift / _MEAN, ((0, 0), (0, self.width.spectra - scalars)))
        return spectrum.scaled(of_spectra, offsets).astype(spectrum.dtype)
