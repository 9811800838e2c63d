"""Spectral convolution: one real matrix per degree, which mixes the channels of all spectra.

A rotation multiplies the 2l + 1 coefficients of degree l by a Wigner matrix, the same for scalar, E and B spectra of
every spin, so any matrix that mixes channels at fixed l commutes with rotations. Real matrices keep real fields real.
"""

import dataclasses
import functools

import numpy as np
from flax import nnx
from jax import numpy as jnp
from jaxtyping import Array, Float

from weather_scnn.nn.features import Width
from weather_scnn.sphere.products import EXACT, check_precision, product_precision
from weather_scnn.sphere.spectrum import Spectrum

# Share of a filter's initial variance that all its values along l have in common. Between two knots independent values
# would average out: every layer would damp those degrees by up to √2 against the knots' own, and 30 layers by 10⁴.
_COMMON = 0.5


@functools.lru_cache(maxsize=16)
def degree_interpolation(max_degree: int, parameters: int, last_knot: int | None = None) -> Float[np.ndarray, "l p"]:
    """Linear interpolation along l between equally spaced knots from 0 to the last, default max_degree; rows sum to 1.

    Beyond the last knot its value stays.
    """
    knots = np.linspace(0.0, max_degree if last_knot is None else min(last_knot, max_degree), parameters)
    degrees = np.arange(max_degree + 1)
    table = np.stack([np.interp(degrees, knots, row) for row in np.eye(parameters)], axis=1)
    table.flags.writeable = False
    return table


class SpectralConvolution(nnx.Module):
    """Convolution with a zonal filter between all pairs of channels, as a product in spectral space.

    The kernel has shape (P, in, out), or (degree, in, out) with one value a degree; `in` and `out` count spectra in
    the order of `Harmonics.analysis`.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        max_degree: largest degree of the spectra.
        parameters: free values of each filter along l, interpolated linearly; fewer make it more local. None gives
            one a degree.
        last_knot: degree beyond which the filters stay what they are there; default max_degree.
        mirror_symmetric: forbids mixing of B with scalar and E, which a mirror image would change the sign of.
            The Earth rotates, so the default allows it.
        scale: standard deviation of the outputs at initialisation, for inputs of unit variance.
        precision: of the product with spectra, see `weather_scnn.sphere.products`; filters are interpolated exactly.
        rngs: source of the initial values.
    """

    def __init__(
        self,
        inputs: Width,
        outputs: Width,
        max_degree: int,
        *,
        parameters: int | None = None,
        last_knot: int | None = None,
        mirror_symmetric: bool = False,
        scale: float = 1.0,
        precision: str = "high",
        rngs: nnx.Rngs,
    ):
        count = min(max_degree, max_degree if last_knot is None else last_knot) + 1
        if parameters is not None:
            count = min(parameters, count)
        interpolation = degree_interpolation(max_degree, count, last_knot)
        common = 0.0 if count == max_degree + 1 else _COMMON
        # A matrix at l has entries of variance σ² g_l, with g_l = ρ + (1 − ρ) Σ_p T_lp² for a common share ρ.
        gains = common + (1 - common) * np.square(interpolation).sum(axis=1)
        mask = _allowed(inputs, outputs, mirror_symmetric)
        deviation = scale * _unit_deviation(inputs, outputs, gains, mask)
        shape = inputs.spectra, outputs.spectra
        values = np.sqrt(1 - common) * rngs.params.normal((count, *shape))
        if common:
            values = values + np.sqrt(common) * rngs.params.normal(shape)
        self.kernel = nnx.Param(values * jnp.asarray(deviation * mask, values.dtype))
        self.max_degree, self.knots, self.last_knot = max_degree, count, last_knot
        self.mirror_symmetric = mirror_symmetric
        self.inputs, self.outputs, self.precision = inputs, outputs, check_precision(precision)

    def matrices(self, first: int = 0, count: int | None = None) -> Float[Array, "l C D"]:
        """The matrices of some degrees; outputs of spin s do not exist below l = s and are zero there.

        Args:
            first: lowest degree.
            count: how many; default all from there on. Beyond the largest they are zero.
        """
        kernel, table = self.kernel[...], degree_interpolation(self.max_degree, self.knots, self.last_knot)
        if self.mirror_symmetric:
            kernel = kernel * jnp.asarray(_allowed(self.inputs, self.outputs, True), kernel.dtype)
        table = table[first : None if count is None else first + count]
        if count is not None:
            table = np.pad(table, [(0, count - table.shape[0]), (0, 0)])
        # Degrees at which some outputs do not exist get knots of their own, without those: to clear them in the result
        # was several copies of all matrices, a tenth of a training step.
        special = min(max(int(self.outputs.lowest_degrees.max(initial=0)) - first, 0), table.shape[0])
        if special:
            present = (first + np.arange(special))[:, None] >= self.outputs.lowest_degrees
            own = jnp.einsum("lp,pcd->lcd", jnp.asarray(table[:special], kernel.dtype), kernel, precision=EXACT)
            kernel = jnp.concatenate([kernel, own * jnp.asarray(present[:, None], kernel.dtype)])
            table = np.pad(table, [(0, 0), (0, special)])
            table[:special] = np.eye(special, table.shape[1], table.shape[1] - special)
        # With the kernel on the left, or the gradient transposes all matrices before its product.
        flat = kernel.reshape(kernel.shape[0], -1)
        found = jnp.matmul(flat.T, jnp.asarray(table.T, kernel.dtype), precision=EXACT).T
        return found.reshape(-1, *kernel.shape[1:])

    def __call__(self, spectrum: Spectrum) -> Spectrum:
        """In the precision of the spectrum; bfloat16 products are summed in float32 by every backend, then rounded."""
        blocks, precision = [], product_precision(self.precision, spectrum.dtype)
        for begin, block in zip(spectrum.first_degrees, spectrum.blocks):
            # Those of each block by themselves: interpolating costs what a slice would, and the gradient has no sum.
            matrices = self.matrices(begin, block.shape[0]).astype(spectrum.dtype)
            if spectrum.divided:
                blocks.append(jnp.einsum("lmrbc,lcd->lmrbd", block, matrices, precision=precision))
                continue
            # All orders and samples of a degree are the rows of one product; said so, its gradient needs no copies.
            rows = block.reshape(block.shape[0], -1, block.shape[-1])
            mixed = jnp.matmul(rows, matrices, precision=precision)
            blocks.append(mixed.reshape(*block.shape[:-1], matrices.shape[-1]))
        return dataclasses.replace(spectrum, blocks=tuple(blocks))


def _unit_deviation(
    inputs: Width, outputs: Width, gains: Float[np.ndarray, " l"], mask: Float[np.ndarray, "C D"]
) -> Float[np.ndarray, " D"]:
    """σ of the entries of each column with which white fields of unit variance give fields of unit variance.

    A white field of spin s has Σ_{l≥s} (2l+1) equal coefficients, so that with n = that sum and T = Σ_l (2l+1) an output
    has variance σ² Σ_{l≥s} (2l+1) g_l Σ_c [l ≥ s_c] T/n_c, over the channels c that may feed it, and 1 is T.
    """
    multiplicity = 2.0 * np.arange(gains.size) + 1.0
    exists_in = np.arange(gains.size)[:, None] >= inputs.lowest_degrees
    exists_out = np.arange(gains.size)[:, None] >= outputs.lowest_degrees
    power = exists_in / np.maximum(multiplicity @ exists_in, 1.0)  # of unit fields, (l, C)
    variance = ((multiplicity * gains)[:, None] * exists_out * (power @ mask)).sum(axis=0)
    return 1.0 / np.sqrt(np.where(variance > 0, variance, 1.0))


def _allowed(inputs: Width, outputs: Width, mirror_symmetric: bool) -> Float[np.ndarray, "C D"]:
    """1 where a channel may feed another: with mirror symmetry B feeds B, scalar and E feed scalar and E."""
    if not mirror_symmetric:
        return np.ones((inputs.spectra, outputs.spectra))
    odd_in = np.arange(inputs.spectra) >= inputs.channels
    odd_out = np.arange(outputs.spectra) >= outputs.channels
    return (odd_in[:, None] == odd_out[None, :]).astype(float)
