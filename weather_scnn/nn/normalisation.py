"""Spectral batch normalisation: moments of fields over batch and sphere, read off their coefficients.

A spin-1 field has no mean (no constant vector field is invariant under rotation), so only its magnitude is scaled, by
one factor for E and B alike.
"""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.features import Width, spectral_energy

_MEAN_FACTOR = 1.0 / math.sqrt(4.0 * math.pi)  # mean over the sphere of a field with a_00 = 1


class SpectralBatchNorm(nnx.Module):
    """Scales every channel to unit variance and removes the mean of spin-0 channels.

    Args:
        width: channels.
        momentum: share of the old running statistics kept at each update.
        epsilon: added to the variance.
        initial_scale: learned scale at initialisation; 0 makes a residual branch start as nothing.
    """

    def __init__(self, width: Width, *, momentum: float = 0.98, epsilon: float = 1e-5, initial_scale: float = 1.0):
        channels = width.scalars + width.vectors
        self.width, self.momentum, self.epsilon = width, momentum, epsilon
        self.scale = nnx.Param(jnp.full(channels, initial_scale))
        self.bias = nnx.Param(jnp.zeros(width.scalars))
        self.mean = nnx.BatchStat(jnp.zeros(width.scalars))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, spectrum: Float[Array, "b l m 2 C"], *, training: bool) -> Float[Array, "b l m 2 C"]:
        """Normalises with the batch's moments while training (and updates the running ones), else the running."""
        scalars, vectors = self.width
        if training:
            energy = spectral_energy(spectrum).mean(axis=0) / (4.0 * math.pi)
            mean = spectrum[:, 0, 0, 0, :scalars].mean(axis=0) * _MEAN_FACTOR
            of_vectors = 0.5 * (energy[scalars : scalars + vectors] + energy[scalars + vectors :])
            variance = jnp.concatenate([jnp.maximum(energy[:scalars] - jnp.square(mean), 0.0), of_vectors])
            keep = self.momentum
            self.mean[...] = keep * self.mean[...] + (1 - keep) * mean
            self.variance[...] = keep * self.variance[...] + (1 - keep) * variance
        else:
            mean, variance = self.mean[...], self.variance[...]
        factor = self.scale[...] / jnp.sqrt(variance + self.epsilon)
        of_spectra = jnp.concatenate([factor, factor[scalars:]])
        offset = (self.bias[...] - mean * factor[:scalars]) / _MEAN_FACTOR
        return (spectrum * of_spectra).at[:, 0, 0, 0, :scalars].add(offset)
