"""Batch normalisation over batch and sphere, by spectra or on the grid.

A field of spin > 0 has no mean (no constant vector field is invariant under rotation), so only its magnitude is
scaled, by one factor for both components, or for E and B alike.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from weather_scnn.nn.area_means import area_table
from weather_scnn.nn.features import Features, Pair, Width
from weather_scnn.sphere import Grid
from weather_scnn.sphere.products import EXACT
from weather_scnn.sphere.spectrum import Spectrum

_MEAN_FACTOR = 1.0 / math.sqrt(4.0 * math.pi)  # mean over the sphere of a field with a_00 = 1


class _BatchNorm(nnx.Module):
    """Learned scale and bias, and running moments of fixed shape.

    Under `jit` with a batch divided over devices, moments are those of the whole batch, since the program is that of
    the whole array. Inside `shard_map` or `vmap`, `axis_name` does the same.

    Args:
        width: channels.
        momentum: share of the old running statistics kept at each update.
        epsilon: added to the variance.
        initial_scale: learned scale at initialisation; 0 makes a residual branch start as nothing.
        axis_name: mapped axis over which moments are averaged.
    """

    def __init__(
        self,
        width: Width,
        *,
        momentum: float = 0.98,
        epsilon: float = 1e-5,
        initial_scale: float = 1.0,
        axis_name: str | None = None,
    ):
        self.width, self.momentum, self.epsilon, self.axis_name = width, momentum, epsilon, axis_name
        self.scale = nnx.Param(jnp.full(width.channels, initial_scale))
        self.bias = nnx.Param(jnp.zeros(width.scalars))
        self.mean = nnx.BatchStat(jnp.zeros(width.scalars))
        self.variance = nnx.BatchStat(jnp.ones(width.channels))

    def _average(self, values: Float[Array, "b c"], mask: Float[Array, " b"] | None) -> Float[Array, " c"]:
        """Mean over the samples that count, of all devices."""
        if mask is None:
            weights: Array = jnp.asarray(np.ones(values.shape[0], values.dtype))
            count: Array | float = float(values.shape[0])
        else:
            weights = mask.astype(values.dtype)
            count = weights.sum()
        total = jnp.matmul(weights, values, precision=EXACT)
        if self.axis_name is not None:
            total, count = jax.lax.psum((total, count), self.axis_name)
        return total / (count if mask is None else jnp.maximum(count, 1e-12))

    def _factor_and_offset(
        self, mean: Float[Array, " c"], square: Float[Array, " c"], of_pairs: Float[Array, " p"]
    ) -> tuple[Float[Array, " C"], Float[Array, " c"]]:
        """Factor of every channel and offset of the scalars, from a batch's moments; updates the running ones.

        Args:
            mean: of the scalars.
            square: mean square of the scalars.
            of_pairs: that of one component of the channels of spin > 0.
        """
        variance = jnp.concatenate([jnp.maximum(square - jnp.square(mean), 0.0), of_pairs])
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * mean
        self.variance[...] = keep * self.variance[...] + (1 - keep) * variance
        return self._standardising(mean, variance)

    def _standardising(
        self, mean: Float[Array, " c"], variance: Float[Array, " C"]
    ) -> tuple[Float[Array, " C"], Float[Array, " c"]]:
        factor = self.scale[...] / jnp.sqrt(variance + self.epsilon)
        return factor, self.bias[...] - mean * factor[: self.width.scalars]


class SpectralBatchNorm(_BatchNorm):
    """Scales every channel to unit variance and removes the mean of spin-0 channels, read off the coefficients."""

    def __call__(self, spectrum: Spectrum, *, training: bool, mask: Float[Array, " b"] | None = None) -> Spectrum:
        """Normalises with the batch's moments while training (and updates the running ones), else the running.

        Args:
            spectrum: to normalise.
            training: whether the batch's moments are used.
            mask: weight of every sample in the moments, such as 0 for one that fills up a batch; default 1.
        """
        scalars, channels = self.width.scalars, self.width.channels
        if training:
            energy = self._average(spectrum.energy(), mask) / (4.0 * math.pi)
            mean = self._average(spectrum.blocks[0][0, 0, 0, :, :scalars].astype(energy.dtype), mask) * _MEAN_FACTOR
            square, even, odd = jax.lax.split(energy, (scalars, channels - scalars, channels - scalars))
            factor, offset = self._factor_and_offset(mean, square, 0.5 * (even + odd))
        else:
            factor, offset = self._standardising(self.mean[...], self.variance[...])
        of_spectra = jnp.concatenate([factor, factor[scalars:]])
        offsets = jnp.pad(offset / _MEAN_FACTOR, (0, self.width.spectra - scalars))
        return spectrum.scaled(of_spectra, offsets).astype(spectrum.dtype)


class SpatialBatchNorm(_BatchNorm):
    """The same from values on the grid, weighted by area: what spectral batch normalisation is compared with.

    Args:
        width: channels.
        grid: of the fields.
        momentum, epsilon, initial_scale, axis_name: see `SpectralBatchNorm`.
    """

    def __init__(self, width: Width, grid: Grid, **options):
        super().__init__(width, **options)
        self.area = area_table(grid)

    def __call__(self, features: Features, *, training: bool, mask: Float[Array, " b"] | None = None) -> Features:
        """See `SpectralBatchNorm.__call__`; takes and gives fields (b, y, x, …)."""
        if training:
            area = self.area.get_value()

            def moment(values: Array) -> Array:
                return self._average(jnp.einsum("byxc,y->bc", values.astype(jnp.float32), area, precision=EXACT), mask)

            mean = moment(features.scalar)
            square = moment(jnp.square(features.scalar.astype(jnp.float32)))
            squares = []
            for pair in (features.vector, features.tensor):
                real, imaginary = (jnp.square(part.astype(jnp.float32)) for part in pair)
                squares.append(moment(0.5 * (real + imaginary)))
            factor, offset = self._factor_and_offset(mean, square, jnp.concatenate(squares))
        else:
            factor, offset = self._standardising(self.mean[...], self.variance[...])
        c, d, _ = self.width
        dtype = features.scalar.dtype
        of_scalars, of_vectors, of_tensors = jnp.split(factor, [c, c + d])
        return Features(
            (features.scalar * of_scalars + offset).astype(dtype),
            Pair(*((part * of_vectors).astype(dtype) for part in features.vector)),
            Pair(*((part * of_tensors).astype(dtype) for part in features.tensor)),
        )


class LayerScale(nnx.Module):
    """One learned factor a channel, the end of a residual branch without normalisation (Touvron et al. 2021).

    Args:
        width: channels.
        initial_scale: factor at initialisation.
    """

    def __init__(self, width: Width, initial_scale: float):
        self.width = width
        self.scale = nnx.Param(jnp.full(width.channels, initial_scale))

    def __call__(self, spectrum: Spectrum) -> Spectrum:
        factor = jnp.concatenate([self.scale[...], self.scale[self.width.scalars :]])
        return spectrum.scaled(factor).astype(spectrum.dtype)
